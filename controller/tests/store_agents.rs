//! Agents over a real connection: registration, rows, reports, acknowledgements, and what hostile ones get.

#![allow(clippy::unwrap_used)] // a test's helpers, like a test, fail by a panic

#[path = "support/agent.rs"]
mod agent;

use std::{sync::Arc, time::Duration};

use axum::Router;
use quantumnet_api::v1::{
    self, AgentHello, AgentQueryAnswer, AgentQueryError, AgentQueryErrorKind, AgentReport, ChassisFacts,
    LearnedMac, TraceAnswer, TracePass, TraceQuery, agent_message, agent_query_answer::Answer,
};
use quantumnet_controller::{
    agents::{AgentRegistry, Agents, AskError, Hub, Queries, derive},
    lower,
    metrics::Metrics,
    peer::Leader,
    replica::{self, Options, Replica},
    serve::Listener,
    service::Admins,
};
use quantumnet_model::{
    Row, Strong, Uuid,
    column::Text,
    nb::{LogicalSwitch, LogicalSwitchPort, NbGlobal},
    sb::{Chassis, ChassisInterface, ChassisPrivate, DatapathBinding, Encap, Fdb, PortBinding},
};
use tokio::sync::watch;
use tonic::Code;

use crate::agent::{Agent, hello, interface};

struct Server {
    replica: Replica,
    registry: Arc<AgentRegistry>,
    queries: Arc<Queries>,
    address: String,
    _dir: tempfile::TempDir,
    _stop: watch::Sender<bool>,
}

impl Server {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::default());
        let hub = Hub::new(100, metrics.clone());
        let registry = Arc::new(AgentRegistry::default());
        let replica = replica::start(Options {
            data_dir: dir.path().to_owned(),
            member: 1,
            peers: None,
            history_transactions_max: 100,
            snapshot_after_bytes: 64 << 20,
            lower: Arc::new(lower::run),
            observers: vec![Box::new(hub.clone())],
            metrics: metrics.clone(),
        })
        .unwrap();
        replica.applied().wait_for(|state| state.revision() > 0).await.unwrap();
        tokio::spawn(derive(replica.clone(), hub.clone()));
        let leader = Leader::alone(replica.clone(), metrics.clone());
        let queries = Queries::new(registry.clone(), leader.clone());
        let agents = Agents::new(
            replica.clone(),
            leader,
            hub,
            registry.clone(),
            queries.clone(),
            Arc::new(Admins),
            metrics,
        );
        let router = agents.beside(Router::new());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(Listener::Tcp(listener).serve(router, stopping));
        Self { replica, registry, queries, address, _dir: dir, _stop: stop }
    }

    async fn agent(&self, hello: AgentHello) -> Agent {
        let mut agent = self.silent().await;
        agent.say(agent_message::Message::Hello(hello)).await;
        agent
    }

    async fn silent(&self) -> Agent {
        Agent::silent(self.address.clone()).await
    }

    /// Waits for a state.
    async fn until(&self, what: &str, holds: impl FnMut(&Arc<quantumnet_controller::store::State>) -> bool) {
        let mut applied = self.replica.applied();
        let reached = applied.wait_for(holds);
        assert!(tokio::time::timeout(DEADLINE, reached).await.is_ok(), "never: {what}");
    }

    async fn switch_with_port(&self, port: &'static str) -> (Uuid, Uuid) {
        let (switch, lsp) = (Uuid::new_v4(), Uuid::new_v4());
        let make = move |txn: &mut quantumnet_controller::store::Txn<'_>| {
            let row = LogicalSwitchPort {
                name: port.into(),
                addresses: [Text::from("unknown")].into_iter().collect(),
                ..LogicalSwitchPort::default()
            };
            txn.insert(lsp, row)?;
            let ports = [Strong::new(lsp)].into_iter().collect();
            txn.insert(switch, LogicalSwitch { name: "sw".into(), ports, ..LogicalSwitch::default() })
        };
        self.replica.propose("test", make).await.unwrap();
        (switch, lsp)
    }
}

fn chassis_of(server: &Server, name: &str) -> Option<Uuid> {
    server.replica.state().find::<Chassis>(&[("name", name.into())])
}

fn claims(server: &Server) -> Vec<i64> {
    server.replica.state().iter::<ChassisInterface>().map(|(_, row)| row.claim).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_comes_up_when_its_flows_are_in_the_switch() {
    let server = Server::start().await;
    let (switch, port) = server.switch_with_port("vm1").await;
    let mut agent = server.agent(hello("hv1", "host1", "10.0.0.1", Vec::new())).await;
    agent.until("a snapshot", |agent| agent.snapshots == 1 && agent.revision > 0).await;
    assert_eq!(agent.rows.len(PortBinding::TABLE), 0, "nothing here concerns it yet");
    assert_eq!(agent.rows.len(Chassis::TABLE), 1);

    let report =
        AgentReport { sequence: 7, interfaces_added: vec![interface("vm1", 1)], ..AgentReport::default() };
    agent.say(agent_message::Message::Report(report)).await;
    agent.until("its port", |agent| agent.rows.get::<PortBinding>(port).is_some()).await;
    agent.until("the report is stored", |agent| agent.stored == 7).await;
    assert!(
        agent.rows.get::<LogicalSwitch>(switch).is_some()
            && agent.rows.get::<DatapathBinding>(switch).is_some()
    );
    let bound_at = agent.revision;
    let up = |state: &quantumnet_controller::store::State| {
        let port_up = state.get::<LogicalSwitchPort>(port).is_some_and(|row| row.up == Some(true));
        port_up && state.get::<PortBinding>(port).is_some_and(|row| row.up == Some(true))
    };
    assert!(!up(&server.replica.state()));

    // An older acknowledgement says nothing about the binding.
    agent.applied(1).await;
    let early = server.replica.propose("test", |_| Ok(())).await.unwrap().revision;
    assert!(early >= bound_at && !up(&server.replica.state()));
    agent.applied(agent.revision).await;
    server.until("the port is up", |state| up(state)).await;

    // Without an acknowledgement, and without the agent, it stays up.
    agent
        .until("it sees that", |agent| {
            agent.rows.get::<PortBinding>(port).is_some_and(|row| row.up == Some(true))
        })
        .await;
    drop(agent);
    let mut changes = server.registry.changes();
    while server.registry.status("hv1").unwrap().connected {
        tokio::time::timeout(DEADLINE, changes.changed()).await.expect("the stream's end is seen").unwrap();
    }
    assert!(up(&server.replica.state()));

    // The interface goes: so does the binding.
    let mut agent = server.agent(hello("hv1", "host1", "10.0.0.1", Vec::new())).await;
    server.until("the port is down", |state| !up(state)).await;
    agent.until("it is connected", |agent| agent.revision > 0).await;
    assert_eq!(server.replica.state().get::<PortBinding>(port).unwrap().chassis, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_lead_to_hv_cfg() {
    let server = Server::start().await;
    let mut agent = server.agent(hello("hv1", "host1", "10.0.0.1", Vec::new())).await;
    agent.until("a snapshot", |agent| agent.revision > 0).await;
    let ask = |txn: &mut quantumnet_controller::store::Txn<'_>| {
        let row = txn.iter::<NbGlobal>().next().map_or_else(Uuid::new_v4, |(uuid, _)| uuid);
        txn.put(row, NbGlobal { nb_cfg: 5, ..NbGlobal::default() });
        Ok(())
    };
    let asked = server.replica.propose("test", ask).await.unwrap().revision;
    agent.until("the revision, though nothing concerns it", |agent| agent.revision >= asked).await;
    agent.applied(asked - 1).await;
    agent.applied(asked).await;
    let reached = |state: &Arc<quantumnet_controller::store::State>| {
        state.iter::<ChassisPrivate>().any(|(_, row)| row.nb_cfg == 5 && row.nb_cfg_timestamp > 0)
            && state.iter::<NbGlobal>().any(|(_, row)| row.hv_cfg == 5)
    };
    server.until("hv_cfg follows", reached).await;
    // A smaller one, or one of the future, changes nothing.
    agent.applied(1).await;
    agent.applied(u64::MAX).await;
    server.replica.propose("test", |_| Ok(())).await.unwrap();
    assert!(reached(&server.replica.state()));
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_resume_where_they_were() {
    let server = Server::start().await;
    let (_, port) = server.switch_with_port("vm1").await;
    let greeting = hello("hv1", "host1", "10.0.0.1", vec![interface("vm1", 1)]);
    let mut agent = server.agent(greeting.clone()).await;
    agent.until("its port", |agent| agent.rows.get::<PortBinding>(port).is_some()).await;
    let (rows, token) = (agent.rows.clone(), agent.token.clone().unwrap());
    let held = agent.revision;
    drop(agent);
    let claimed = claims(&server);
    let enable = move |txn: &mut quantumnet_controller::store::Txn<'_>| {
        Ok(txn.update::<LogicalSwitchPort>(port, |row| row.enabled = Some(true)))
    };
    server.replica.propose("test", enable).await.unwrap();
    let resume = Some(v1::ResumeToken { revision: held, ..token });
    let mut agent = server.agent(AgentHello { resume, ..greeting }).await;
    agent.rows = rows;
    agent
        .until("the change", |agent| {
            agent.rows.get::<LogicalSwitchPort>(port).is_some_and(|row| row.enabled == Some(true))
        })
        .await;
    assert_eq!(agent.snapshots, 0);
    assert_eq!(claims(&server), claimed, "an interface that is restated keeps its claim");
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_grow_with_each_appearance() {
    let server = Server::start().await;
    let mut first = server.agent(hello("hv1", "host1", "10.0.0.1", vec![interface("vm1", 1)])).await;
    first.until("connected", |agent| agent.revision > 0).await;
    let mut second = server.agent(hello("hv2", "host2", "10.0.0.2", vec![interface("vm1", 1)])).await;
    second.until("connected", |agent| agent.revision > 0).await;
    let again =
        AgentReport { sequence: 1, interfaces_added: vec![interface("vm1", 2)], ..AgentReport::default() };
    first.say(agent_message::Message::Report(again)).await;
    first.until("stored", |agent| agent.stored == 1).await;
    let mut claimed = claims(&server);
    claimed.sort_unstable();
    assert_eq!(claimed, [2, 3]);
    let gone = AgentReport { sequence: 2, interfaces_removed: vec!["vm1".into()], ..AgentReport::default() };
    first.say(agent_message::Message::Report(gone)).await;
    first.until("stored", |agent| agent.stored == 2).await;
    assert_eq!(claims(&server), [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_taken_over_from_a_stale_chassis_only() {
    let server = Server::start().await;
    let mut old = server.agent(hello("old", "host1", "10.0.0.1", vec![interface("vm1", 1)])).await;
    old.until("connected", |agent| agent.revision > 0).await;
    // While it is connected, nobody takes its endpoint, not even from the same host.
    let mut thief = server.agent(hello("new", "host1", "10.0.0.1", Vec::new())).await;
    let status = thief.end().await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("held by chassis old"), "{status}");
    assert_eq!(chassis_of(&server, "new"), None, "a refusal left a trace");
    drop(old);
    let mut changes = server.registry.changes();
    while server.registry.status("old").unwrap().connected {
        tokio::time::timeout(DEADLINE, changes.changed()).await.expect("the stream's end is seen").unwrap();
    }
    let mut stranger = server.agent(hello("other", "host2", "10.0.0.1", Vec::new())).await;
    assert!(stranger.end().await.message().contains("delete that node"));
    let mut new = server.agent(hello("new", "host1", "10.0.0.1", Vec::new())).await;
    new.until("connected", |agent| agent.revision > 0).await;
    assert_eq!(chassis_of(&server, "old"), None);
    let state = server.replica.state();
    assert_eq!((state.rows().len(Encap::TABLE), state.rows().len(ChassisPrivate::TABLE)), (1, 1));
    assert!(state.check());

    // A second stream of one chassis ends the first.
    let mut twin = server.agent(hello("new", "host1", "10.0.0.1", Vec::new())).await;
    twin.until("connected", |agent| agent.revision > 0).await;
    assert_eq!(new.end().await.code(), Code::Aborted);
    assert!(server.registry.status("new").unwrap().connected);
}

#[tokio::test(flavor = "multi_thread")]
async fn learned_macs_are_checked_and_limited() {
    let server = Server::start().await;
    let (switch, port) = server.switch_with_port("vm1").await;
    let mut agent = server.agent(hello("hv1", "host1", "10.0.0.1", vec![interface("vm1", 1)])).await;
    agent.until("its port", |agent| agent.rows.get::<PortBinding>(port).is_some()).await;
    let datapath_key = u32::try_from(agent.rows.get::<DatapathBinding>(switch).unwrap().tunnel_key).unwrap();
    let port_key = u32::try_from(agent.rows.get::<PortBinding>(port).unwrap().tunnel_key).unwrap();
    let macs = |keys: (u32, u32), count: u32| {
        let mac = |n: u32| format!("0a:00:00:00:{:02x}:{:02x}", n >> 8, n & 0xff);
        (0..count).map(|n| LearnedMac { mac: mac(n), datapath_key: keys.0, port_key: keys.1 }).collect()
    };
    let report = |sequence, macs_learned| {
        agent_message::Message::Report(AgentReport { sequence, macs_learned, ..AgentReport::default() })
    };
    agent.say(report(1, macs((datapath_key, port_key), 1_000))).await;
    agent.until("stored", |agent| agent.stored == 1).await;
    let learned = server.replica.state().rows().len(Fdb::TABLE);
    assert_eq!(learned, 64, "as many as a port may teach at once");
    agent.until("it sees them", |agent| agent.rows.len(Fdb::TABLE) == learned).await;
    let revision = server.replica.state().revision();
    // Ports and networks that are not there, or not here.
    agent.say(report(2, macs((datapath_key + 1, port_key), 5))).await;
    agent.say(report(3, macs((datapath_key, port_key + 1), 5))).await;
    agent.until("stored", |agent| agent.stored == 3).await;
    assert_eq!(server.replica.state().revision(), revision, "nothing changed");
    let group = LearnedMac { mac: "01:00:5e:00:00:01".into(), datapath_key, port_key };
    agent.say(report(4, vec![group])).await;
    let status = agent.end().await;
    assert!(status.code() == Code::InvalidArgument && status.message().contains("unicast"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_agents_get_reasons() {
    let server = Server::start().await;
    let good = || hello("hv1", "host1", "10.0.0.1", Vec::new());
    let facts = |change: fn(&mut ChassisFacts)| {
        let mut bad = good();
        change(bad.facts.as_mut().unwrap());
        bad
    };
    let cases = [
        (AgentHello { format: 99, ..good() }, Code::FailedPrecondition, "format 99"),
        (AgentHello { chassis: String::new(), ..good() }, Code::InvalidArgument, "chassis"),
        (AgentHello { chassis: "a\nb".into(), ..good() }, Code::InvalidArgument, "chassis"),
        (AgentHello { facts: None, ..good() }, Code::InvalidArgument, "encaps is empty"),
        (facts(|facts| facts.encaps[0].ip = "10.0.0".into()), Code::InvalidArgument, "IPv4 or IPv6"),
        (facts(|facts| facts.encaps[0].r#type = "gre".into()), Code::InvalidArgument, "geneve or vxlan"),
        (facts(|facts| facts.hostname = "h".repeat(10_000)), Code::InvalidArgument, "hostname"),
        (AgentHello { interfaces: vec![interface("", 1)], ..good() }, Code::InvalidArgument, "iface_id"),
        (
            AgentHello { interfaces: vec![interface("a", u64::MAX)], ..good() },
            Code::InvalidArgument,
            "generation",
        ),
        (facts(|facts| facts.hostname = "h".repeat(10 << 20)), Code::OutOfRange, "4194304"),
    ];
    for (bad, code, text) in cases {
        let mut agent = server.agent(bad).await;
        let status = agent.end().await;
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(text), "{status}");
    }
    let mut agent = server.silent().await;
    agent.applied(1).await;
    assert_eq!(agent.end().await.code(), Code::InvalidArgument);
    let mut agent = server.agent(good()).await;
    agent.until("connected", |agent| agent.revision > 0).await;
    agent.say(agent_message::Message::Hello(good())).await;
    assert_eq!(agent.end().await.code(), Code::InvalidArgument);
    assert_eq!(server.replica.state().rows().len(Chassis::TABLE), 1);
}

const DEADLINE: Duration = Duration::from_secs(60);

/// An agent that reads nothing fills its window; others are told at once, and it is brought up to date later.
#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_agent_holds_up_only_itself() {
    const CHANGES: i64 = 600;
    let server = Server::start().await;
    let (switch, _) = server.switch_with_port("vm1").await;
    let second = move |txn: &mut quantumnet_controller::store::Txn<'_>| {
        let port = Uuid::new_v4();
        txn.insert(port, LogicalSwitchPort { name: "vm2".into(), ..LogicalSwitchPort::default() })?;
        txn.update::<LogicalSwitch>(switch, |row| _ = row.ports.insert(Strong::new(port)));
        Ok(())
    };
    server.replica.propose("test", second).await.unwrap();
    let mut stalled = server.agent(hello("hv1", "hv1", "10.0.0.1", vec![interface("vm1", 1)])).await;
    stalled.until("its switch", |agent| agent.rows.get::<LogicalSwitch>(switch).is_some()).await;
    let mut quick = server.agent(hello("hv2", "hv2", "10.0.0.2", vec![interface("vm2", 1)])).await;
    quick.until("its switch", |agent| agent.rows.get::<LogicalSwitch>(switch).is_some()).await;
    for number in 0..CHANGES {
        let change = move |txn: &mut quantumnet_controller::store::Txn<'_>| {
            let value = Text::from(format!("{number:0>8000}"));
            txn.update::<LogicalSwitch>(switch, |row| {
                row.other_config = [(Text::from("x"), value)].into_iter().collect()
            });
            Ok(())
        };
        let revision = server.replica.propose("test", change).await.unwrap().revision;
        quick.until("the change", |agent| agent.revision >= revision).await;
    }
    let last = server.replica.state().revision();
    stalled.until("all of it", |agent| agent.revision >= last).await;
    let row = |agent: &Agent| agent.rows.get::<LogicalSwitch>(switch).cloned();
    assert!(row(&stalled).is_some() && row(&stalled) == row(&quick));
}

fn answer(id: u64, answer: Answer) -> agent_message::Message {
    agent_message::Message::Answer(AgentQueryAnswer { id, answer: Some(answer) })
}

#[tokio::test]
async fn questions_end_with_an_answer_a_deadline_or_the_stream() {
    let server = Server::start().await;
    let ask = |within| {
        let queries = server.queries.clone();
        tokio::spawn(async move { queries.ask("hv1", TraceQuery::default(), within).await })
    };
    let chassis = || "hv1".to_owned();
    assert_eq!(ask(DEADLINE).await.unwrap(), Err(AskError::NotConnected { chassis: chassis() }));
    let mut agent = server.agent(hello("hv1", "host1", "10.0.0.1", Vec::new())).await;
    agent.until("a snapshot", |agent| agent.revision > 0).await;

    let (first, second) = (ask(DEADLINE), ask(DEADLINE));
    agent.until("both are asked", |agent| agent.asked.len() == 2).await;
    let ids: Vec<u64> = agent.asked.drain(..).map(|query| query.id).collect();
    // What nobody asked, and the second before the first.
    agent.say(answer(999, Answer::Trace(TraceAnswer::default()))).await;
    agent.say(answer(ids[1], Answer::Trace(TraceAnswer { cut: "x".into(), ..TraceAnswer::default() }))).await;
    agent.say(answer(ids[0], Answer::Trace(TraceAnswer::default()))).await;
    let mut cut = [first.await.unwrap().unwrap().cut, second.await.unwrap().unwrap().cut];
    cut.sort();
    assert_eq!(cut, ["", "x"]);

    // Answers that are none, and one that is too large: the stream goes on.
    let large = TracePass { packet: "x".repeat(3 << 20), ..TracePass::default() };
    let large = Answer::Trace(TraceAnswer { passes: vec![large], ..TraceAnswer::default() });
    let kind = AgentQueryErrorKind::QueryRefused.into();
    let refusal = Answer::Error(AgentQueryError { kind, message: "no such port".into() });
    let unknown = AgentQueryErrorKind::UnknownQuery.into();
    let old = Answer::Error(AgentQueryError { kind: unknown, message: String::new() });
    let refused =
        |kind, message: &str| AskError::Refused { chassis: chassis(), kind, message: message.into() };
    let too_large = refused(AgentQueryErrorKind::AnswerTooLarge, "its answer has more than 2097152 octets");
    for (said, expected) in [
        (None, AskError::Strange { chassis: chassis() }),
        (Some(refusal), refused(AgentQueryErrorKind::QueryRefused, "no such port")),
        (Some(old), AskError::OldAgent { chassis: chassis() }),
        (Some(large), too_large),
    ] {
        let asked = ask(DEADLINE);
        agent.until("it is asked", |agent| !agent.asked.is_empty()).await;
        let id = agent.asked.remove(0).id;
        agent.say(agent_message::Message::Answer(AgentQueryAnswer { id, answer: said })).await;
        assert_eq!(asked.await.unwrap(), Err(expected));
    }

    // Silence: nothing is left of a question whose time is over, or whose asker has gone.
    let within = Duration::from_millis(10);
    for _ in 0..40 {
        assert_eq!(ask(within).await.unwrap(), Err(AskError::Deadline { chassis: chassis(), within }));
    }
    let waiting: Vec<_> = (0..16).map(|_| ask(DEADLINE)).collect();
    agent.until("all are asked", |agent| agent.asked.len() == 56).await;
    assert_eq!(ask(DEADLINE).await.unwrap(), Err(AskError::Busy { chassis: chassis() }));
    let mut waiting = waiting.into_iter();
    waiting.by_ref().take(8).for_each(|asked| asked.abort());
    // What is aborted is gone once it is dropped.
    let again = async {
        while ask(within).await.unwrap() != Err(AskError::Deadline { chassis: chassis(), within }) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, again).await.expect("there is room again");
    drop(agent);
    for asked in waiting {
        assert_eq!(asked.await.unwrap(), Err(AskError::NotConnected { chassis: chassis() }));
    }

    let old = AgentHello { queries: false, ..hello("hv1", "host1", "10.0.0.1", Vec::new()) };
    let mut agent = server.agent(old).await;
    agent.until("a snapshot", |agent| agent.revision > 0).await;
    assert_eq!(ask(DEADLINE).await.unwrap(), Err(AskError::OldAgent { chassis: chassis() }));
    assert!(agent.asked.is_empty());
}
