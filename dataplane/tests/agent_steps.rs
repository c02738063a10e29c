//! The agent as a value: what happened goes in, what is to be done comes out; no switch, no root.
#![allow(clippy::unwrap_used)] // a test fails by panicking, its helpers too

mod controller;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ovsdb::{
    monitor::TableUpdates,
    replica::{Layout, Replica},
    schema::{BaseType, ColumnType},
};
use quantumnet_api::{
    AGENT_FORMAT,
    v1::{
        AgentQuery, AgentQueryErrorKind, ControllerHello, ControllerMessage, TraceQuery, agent_message,
        agent_query::Query, agent_query_answer::Answer, controller_message,
    },
};
use quantumnet_dataplane::{
    agent::{Agent, Effect, Event, Start},
    disk::{Resume, Snapshot},
    metrics::Metrics,
};
use quantumnet_model::{Rows, nb::DhcpOptions};
use serde_json::{Value, json};
use uuid::Uuid;

const NOW_MS: u64 = 1_000;

/// A switch database with these rows.
fn replica(rows: Value) -> Arc<Replica> {
    let text = || ColumnType::scalar(BaseType::STRING);
    let texts = || ColumnType::set(BaseType::STRING);
    let map = || ColumnType::map(BaseType::STRING, BaseType::STRING);
    let uuids = || ColumnType::set(BaseType::UUID);
    let layout = |columns: Vec<(&str, ColumnType)>| {
        Layout::new(columns.into_iter().map(|(name, kind)| (name.to_owned(), kind)))
    };
    let system = vec![
        ("external_ids", map()),
        ("bridges", uuids()),
        ("iface_types", texts()),
        ("ovs_version", texts()),
    ];
    let bridge = vec![
        ("name", text()),
        ("ports", uuids()),
        ("fail_mode", texts()),
        ("datapath_type", text()),
        ("other_config", map()),
        ("protocols", texts()),
    ];
    let port = vec![("name", text()), ("interfaces", uuids()), ("external_ids", map())];
    let interface = vec![
        ("name", text()),
        ("type", text()),
        ("ofport", ColumnType::set(BaseType::INTEGER)),
        ("external_ids", map()),
        ("options", map()),
        ("error", texts()),
    ];
    let tables = [("Open_vSwitch", system), ("Bridge", bridge), ("Port", port), ("Interface", interface)];
    let tables = tables.into_iter().map(|(name, columns)| (name.to_owned(), layout(columns)));
    let mut replica = Replica::new(tables);
    let changes = replica.stage2(TableUpdates::from_json(rows).unwrap()).unwrap();
    replica.apply(&changes);
    Arc::new(replica)
}

fn id(number: u128) -> String {
    Uuid::from_u128(number).to_string()
}

/// A host that is set up, with br-int.
fn host() -> Arc<Replica> {
    let settings = [
        ("system-id", "hv1"),
        ("ovn-encap-type", "geneve"),
        ("ovn-encap-ip", "10.0.0.1"),
        ("quantumnet-remote", "http://10.0.0.9:7100"),
    ];
    let settings: Vec<[&str; 2]> = settings.iter().map(|(key, value)| [*key, *value]).collect();
    replica(json!({
        "Open_vSwitch": { id(1): { "insert": {
            "external_ids": ["map", settings],
            "bridges": ["set", [["uuid", id(2)]]],
        }}},
        "Port": { id(3): { "insert": { "name": "vif1", "interfaces": ["uuid", id(4)] }}},
        "Interface": { id(4): { "insert": {
            "name": "vif1", "ofport": 1, "external_ids": ["map", [["iface-id", "p1"]]],
        }}},
        "Bridge": { id(2): { "insert": {
            "name": "br-int", "fail_mode": "secure", "ports": ["uuid", id(3)], "other_config": ["map", [["disable-in-band", "true"]]],
        }}},
    }))
}

fn snapshot() -> Snapshot {
    snapshot_of(&Rows::default())
}

fn snapshot_of(rows: &Rows) -> Snapshot {
    let resume = Resume { cluster_id: "c".into(), history_id: "h".into(), revision: 7 };
    Snapshot::new("hv1", resume, rows)
}

fn opened(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::OpenSwitch { bridge } if bridge == "br-int"))
}

/// How often the agent asks to be woken up within this time.
fn wakes(agent: &mut Agent, mut now: Instant, time: Duration) -> usize {
    let end = now + time;
    let mut count = 0;
    while let Some(at) = agent.poll_timeout().filter(|at| *at <= end) {
        now = now.max(at);
        agent.handle(now, NOW_MS, Event::Timeout);
        count += 1;
        assert!(count < 1_000, "the agent spins");
    }
    count
}

#[test]
fn an_agent_with_rows_and_no_switch_does_not_spin() {
    let now = Instant::now();
    let mut agent = Agent::new(now, Start { snapshot: Some(snapshot()), ..Start::default() });
    assert!(opened(&agent.handle(now, NOW_MS, Event::Replica(host()))));
    let woken = wakes(&mut agent, now, Duration::from_secs(600));
    assert!(woken < 100, "{woken}");
}

#[test]
fn wrong_dhcp_configuration_is_told_to_the_controllers() {
    let mut rows = Rows::default();
    controller::network(&mut rows, 1);
    controller::port(&mut rows, 1, 1, false);
    let (uuid, right) = rows.iter::<DhcpOptions>().next().map(|(uuid, row)| (uuid, row.clone())).unwrap();
    let options = right.options.update("rooter".into(), "10.0.0.1".into()).update("mtu".into(), "big".into());
    let wrong = DhcpOptions { options, ..right };
    controller::put(&mut rows, uuid, wrong);

    let now = Instant::now();
    let mut agent = Agent::new(now, Start { snapshot: Some(snapshot_of(&rows)), ..Start::default() });
    agent.handle(now, NOW_MS, Event::Replica(host()));
    wakes(&mut agent, now, Duration::from_secs(5));
    let expected = [
        format!(
            "DHCP_Options {uuid}: DHCP option mtu: expected a number up to 65535, got \"big\"; its ports get no DHCP \
             answers"
        ),
        format!("DHCP_Options {uuid}: unknown DHCP option \"rooter\"; its ports get no DHCP answers"),
    ];
    assert_eq!(agent.problems(), expected);
    let effects = agent.handle(now, NOW_MS, Event::StreamConnected);
    let [Effect::StreamSend(message)] = effects.as_slice() else { panic!("{effects:?}") };
    let Some(agent_message::Message::Hello(hello)) = &message.message else { panic!("{message:?}") };
    assert_eq!(hello.facts.as_ref().unwrap().problems, expected);
}

#[test]
fn questions_that_cannot_be_answered_are_answered_with_why() {
    let now = Instant::now();
    let mut agent = Agent::new(now, Start { snapshot: Some(snapshot()), ..Start::default() });
    agent.handle(now, NOW_MS, Event::Replica(host()));
    agent.handle(now, NOW_MS, Event::StreamConnected);
    let mut say = |message| {
        let message = Box::new(ControllerMessage { message: Some(message) });
        agent.handle(now, NOW_MS, Event::StreamReceived(message))
    };
    let hello = ControllerHello { format: AGENT_FORMAT, ..ControllerHello::default() };
    say(controller_message::Message::Hello(hello));
    for (id, query, kind, text) in [
        (5, None, AgentQueryErrorKind::UnknownQuery, "does not know"),
        (
            6,
            Some(Query::Trace(TraceQuery::default())),
            AgentQueryErrorKind::QueryRefused,
            "not in its switch yet",
        ),
    ] {
        let effects = say(controller_message::Message::Query(AgentQuery { id, query }));
        let answer = effects.iter().find_map(|effect| match effect {
            Effect::StreamSend(message) => match &message.message {
                Some(agent_message::Message::Answer(answer)) => Some(answer),
                _ => None,
            },
            _ => None,
        });
        let answer = answer.unwrap_or_else(|| panic!("{effects:?}"));
        let Some(Answer::Error(error)) = &answer.answer else { panic!("{answer:?}") };
        assert_eq!((answer.id, error.kind()), (id, kind));
        assert!(error.message.contains(text), "{error:?}");
    }
}

#[test]
fn every_metric_is_documented() {
    let now = Instant::now();
    let agent = Agent::new(now, Start::default());
    let page = Metrics::new().page(now, &agent);
    let header = include_str!("../src/metrics.rs");
    let types =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE quantumnet_agent_")?.split_once(' '));
    let mut count = 0;
    for (name, kind) in types {
        let suffix = if kind == "counter" { "_total" } else { "" };
        assert!(header.contains(&format!("`{name}{suffix}`")), "{name} is not in the header");
        count += 1;
    }
    assert!(count > 20, "{page}");
}
