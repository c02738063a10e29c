//! Samples of what ACLs match: which packets, under which domain and point; and that a rule says of each packet what it says
//! unsampled.

mod common;

use std::collections::BTreeMap;

use common::{Kind, Model, id, mac, options, ovs::Ovs, plain, text, texts};
use ofpacket::{Action, CtState, Field, field};
use quantumnet_dataplane::compile::{FlowKey, FlowValue, compile_full, table::Table};
use quantumnet_model::{
    Strong,
    host::HostZone,
    nb::{Acl, LogicalSwitch, Sample, SampleCollector, SamplingApp},
    sb::AddressSet,
};

const NEW: u32 = 0;
const ESTABLISHED: u32 = 1;

/// Switch 7 with ports 1 to 3 here, switch 8 with port 4, collectors of the sets 3 and 4, and the samples 501 and 502.
fn network() -> Model {
    let mut model = Model::hypervisor(1);
    [7, 8].into_iter().for_each(|switch| model.switch(switch));
    for (port, switch) in [(1, 7), (2, 7), (3, 7), (4, 8)] {
        model.port(&plain(port, switch, 1));
    }
    for (number, set_id, probability) in [(0, 3, 65_535), (1, 4, 655), (2, 5, 0)] {
        let row = SampleCollector { set_id, probability, ..SampleCollector::default() };
        model.put(id(Kind::Collector, number), row);
    }
    sampled(&mut model, NEW, &[0]);
    sampled(&mut model, ESTABLISHED, &[0]);
    for (number, kind, of) in [(0, "acl-new", 42), (1, "acl-est", 43)] {
        let row = SamplingApp { r#type: text(kind), id: of, ..SamplingApp::default() };
        model.put(id(Kind::App, number), row);
    }
    model
}

fn sampled(model: &mut Model, sample: u32, collectors: &[u32]) {
    let collectors = collectors.iter().map(|number| Strong::new(id(Kind::Collector, *number))).collect();
    model.put(id(Kind::Sample, sample), Sample { collectors, metadata: 501 + i64::from(sample) });
}

/// With one rule on both switches.
fn with_rule(acl: Acl) -> Model {
    let mut model = network();
    rules(&mut model, vec![acl]);
    model
}

fn rules(model: &mut Model, rules: Vec<Acl>) {
    let numbers = 0u32..;
    let acls: imbl::OrdSet<_> =
        numbers.clone().zip(&rules).map(|(number, _)| Strong::new(id(Kind::Acl, number))).collect();
    numbers.zip(rules).for_each(|(number, rule)| model.put(id(Kind::Acl, number), rule));
    for switch in [7, 8] {
        model.put(id(Kind::Switch, switch), LogicalSwitch { acls: acls.clone(), ..LogicalSwitch::default() });
    }
    model.number_conjunctions(Some(1));
}

fn rule(direction: &str, what: &str, action: &str, new: bool, established: bool) -> Acl {
    let sample = |wanted: bool, number| wanted.then(|| Strong::new(id(Kind::Sample, number)));
    Acl {
        priority: 1_000,
        direction: text(direction),
        r#match: text(what),
        action: text(action),
        sample_new: sample(new, NEW),
        sample_est: sample(established, ESTABLISHED),
        ..Acl::default()
    }
}

/// A packet, as fields and values; what is not named is 0.
type Packet<'a> = &'a [(Field, u128)];

/// The actions of the flows of a table and priority that a packet matches.
fn met(model: &Model, table: Table, priority: u16, packet: Packet<'_>) -> Vec<Vec<Action>> {
    met_of(&compile_full(&model.rows).flows, table, priority, packet)
}

fn met_of(
    flows: &BTreeMap<FlowKey, FlowValue>,
    table: Table,
    priority: u16,
    packet: Packet<'_>,
) -> Vec<Vec<Action>> {
    let value =
        |wanted: Field| packet.iter().find(|(field, _)| *field == wanted).map_or(0, |(_, value)| *value);
    flows
        .iter()
        .filter(|(key, _)| key.table == table.number() && key.priority == priority)
        .filter(|(key, _)| {
            key.matches.iter().all(|entry| {
                let (wanted, mask) = key.matches.get(entry.field).expect("16 octets at most");
                value(entry.field) & mask == wanted
            })
        })
        .map(|(_, value)| value.actions.to_vec())
        // What leads to a conjunction says nothing by itself.
        .filter(|actions| !actions.iter().any(|action| matches!(action, Action::Conjunction(_))))
        .collect()
}

/// Set, domain and point of each sample.
fn samples(actions: &[Action]) -> Vec<(u32, u32, u32)> {
    let sample = |action: &Action| match action {
        Action::Sample(sample) => Some((sample.collector_set, sample.domain, sample.point)),
        _ => None,
    };
    actions.iter().filter_map(sample).collect()
}

fn loads(actions: &[Action], register: u8, offset: u16) -> Option<u64> {
    actions.iter().find_map(|action| match action {
        Action::RegLoad(load)
            if load.target.field == Field::reg(register) && load.target.offset == offset =>
        {
            Some(load.value)
        }
        _ => None,
    })
}

const UNTRACKED: CtState = CtState::NONE;

fn state(of: CtState) -> u128 {
    u128::from((CtState::TRK | of).0)
}

/// A TCP packet on a switch, in one state; of port 1 or for it.
fn tcp(switch: u128, state: u128, sampled: bool) -> Vec<(Field, u128)> {
    vec![
        (field::METADATA, switch),
        (field::ETH_TYPE, 0x800),
        (field::IP_PROTO, 6),
        (field::CT_STATE, state),
        (Field::reg(10), u128::from(sampled) << 7),
        (Field::reg(14), 1),
        (Field::reg(15), 1),
    ]
}

/// What the one flow that a packet meets samples.
fn sampled_of(model: &Model, table: Table, packet: Packet<'_>) -> Vec<(u32, u32, u32)> {
    let met = met(model, table, 2_000, packet);
    assert_eq!(met.len(), 1, "{packet:?} meets {met:?}");
    samples(&met[0])
}

const NEW_ON_7: (u32, u32, u32) = (3, 42 << 24 | 7, 501);
const EST_ON_7: (u32, u32, u32) = (3, 43 << 24 | 7, 502);

#[test]
fn requests_are_sampled_by_the_state_of_their_connection() {
    let (new, est, related) = (state(CtState::NEW), state(CtState::EST), state(CtState::REL));
    let untracked = u128::from(UNTRACKED.0);
    for (direction, own, table) in
        [("from-lport", "inport", Table::FromPolicy), ("to-lport", "outport", Table::ToPolicy)]
    {
        let what = format!("{own} == \"p1\" && tcp");
        let model = with_rule(rule(direction, &what, "allow-related", true, true));
        let of = |state, sampled| sampled_of(&model, table, &tcp(7, state, sampled));
        assert_eq!(of(new, false), [NEW_ON_7]);
        assert_eq!(of(new, true), [NEW_ON_7], "what is new is for each rule");
        assert_eq!(of(est, false), [EST_ON_7]);
        assert_eq!(of(est, true), [], "once on a hypervisor");
        // What goes to a router's port is tracked by nobody there.
        let unknown: &[_] = if direction == "to-lport" { &[NEW_ON_7] } else { &[] };
        assert_eq!(of(untracked, false), unknown);
        assert_eq!(of(related, false), unknown);

        // All say the same of the packet, and the connection's label and mark.
        for state in [untracked, new, est, related] {
            let found = met(&model, table, 2_000, &tcp(7, state, false)).remove(0);
            assert_eq!(
                (loads(&found, 0, 0), loads(&found, 0, 7), loads(&found, 12, 0)),
                (Some(1), Some(1), Some(502))
            );
            assert_eq!(
                loads(&found, 0, 5),
                (state == est).then_some(1),
                "requests write the connection anew"
            );
        }
    }
}

#[test]
fn every_packet_meets_one_flow_of_a_sampled_rule() {
    for direction in ["from-lport", "to-lport"] {
        let (own, table) = match direction {
            "to-lport" => ("outport", Table::ToPolicy),
            _ => ("inport", Table::FromPolicy),
        };
        for (new, established) in [(true, false), (false, true), (true, true)] {
            for action in ["allow-related", "allow", "allow-stateless", "drop", "reject", "pass"] {
                let sampled = rule(direction, &format!("{own} == \"p1\" && tcp"), action, new, established);
                let mut model = network();
                // Another makes the switches track.
                rules(&mut model, vec![sampled, rule(direction, "udp", "allow-related", false, false)]);
                let flows = compile_full(&model.rows).flows;
                // New and established exclude each other.
                for bits in (0..0x40u128).filter(|bits| bits & 0x3 != 0x3 && (bits & 0x20 != 0 || *bits == 0))
                {
                    for flag in [false, true] {
                        let found = met_of(&flows, table, 2_000, &tcp(7, bits, flag));
                        assert_eq!(found.len(), 1, "{action} {bits:#x} {flag}: {found:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn rules_without_connections_sample_all_they_match() {
    let other = rule("from-lport", "udp", "allow-related", false, false);
    let sampled = |action: &str| rule("from-lport", "inport == \"p1\" && tcp", action, true, true);
    let of = |model: &Model, state| sampled_of(model, Table::FromPolicy, &tcp(7, state, false));
    let (untracked, new, est) = (u128::from(UNTRACKED.0), state(CtState::NEW), state(CtState::EST));

    let mut model = network();
    rules(&mut model, vec![sampled("allow-stateless"), other.clone()]);
    assert_eq!(of(&model, untracked), [NEW_ON_7]);
    assert_eq!(of(&model, est), [NEW_ON_7]);

    rules(&mut model, vec![sampled("allow")]);
    assert_eq!(of(&model, untracked), [NEW_ON_7], "the switch tracks nothing");

    rules(&mut model, vec![sampled("pass"), other.clone()]);
    assert_eq!((of(&model, new), of(&model, est)), (vec![NEW_ON_7], vec![]));

    rules(&mut model, vec![sampled("drop"), other]);
    assert_eq!((of(&model, new), of(&model, est)), (vec![NEW_ON_7], vec![EST_ON_7]));
    let cut = met(&model, Table::FromPolicy, 2_000, &tcp(7, est, false)).remove(0);
    assert_eq!(
        (loads(&cut, 0, 0), loads(&cut, 0, 5), loads(&cut, 12, 0)),
        (Some(2), None, None),
        "nothing is kept"
    );
}

#[test]
fn a_rule_that_asks_for_a_state_is_sampled_in_that_only() {
    let what = "inport == \"p1\" && ct.est && tcp";
    let model = with_rule(rule("from-lport", what, "allow-related", true, true));
    let of = |state| met(&model, Table::FromPolicy, 2_000, &tcp(7, state, false));
    assert_eq!(of(state(CtState::NEW)), [[]; 0] as [[Action; 0]; 0]);
    assert_eq!(samples(&of(state(CtState::EST))[0]), [EST_ON_7]);
}

#[test]
fn conjunctions_are_sampled_on_each_switch_under_its_key() {
    let mut model = network();
    let addresses = texts(["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    model.put(id(Kind::Set, 0), AddressSet { name: text("s"), addresses, ..AddressSet::default() });
    rules(
        &mut model,
        vec![rule("from-lport", "ip4.src == $s && tcp.dst == {80, 443}", "allow-related", true, false)],
    );
    for switch in [7, 8] {
        for port in [80, 443] {
            let mut packet = tcp(switch, state(CtState::NEW), false);
            packet.extend([(field::TCP_DST, port), (field::CONJ_ID, 1)]);
            let key = u32::try_from(switch).unwrap();
            assert_eq!(sampled_of(&model, Table::FromPolicy, &packet), [(3, 42 << 24 | key, 501)]);
        }
    }
    let mut unsampled = model.clone();
    rules(
        &mut unsampled,
        vec![rule("from-lport", "ip4.src == $s && tcp.dst == {80, 443}", "allow-related", false, false)],
    );
    let count = |model: &Model| {
        let table = Table::FromPolicy.number();
        let flows = compile_full(&model.rows).flows;
        flows.keys().filter(|key| key.table == table && key.matches.get(field::CONJ_ID).is_some()).count()
    };
    // New, established and the others, on two switches; what leads there is shared as before.
    assert_eq!((count(&model), count(&unsampled)), (2 * 2 * 3, 2));
}

#[test]
fn a_label_replaces_the_point_and_each_collector_gets_samples() {
    let mut model = network();
    sampled(&mut model, NEW, &[1, 2, 0]);
    let labelled =
        Acl { label: 9, ..rule("to-lport", "outport == \"p1\" && tcp", "allow-related", true, true) };
    rules(&mut model, vec![labelled]);
    let of = |model: &Model, state| sampled_of(model, Table::ToPolicy, &tcp(7, state, false));
    // Set 5 wants none of them.
    assert_eq!(of(&model, state(CtState::NEW)), [(3, 42 << 24 | 7, 9), (4, 42 << 24 | 7, 9)]);
    assert_eq!(of(&model, state(CtState::EST)), [(3, 43 << 24 | 7, 9)]);
    let found = met(&model, Table::ToPolicy, 2_000, &tcp(7, state(CtState::NEW), false)).remove(0);
    assert_eq!(loads(&found, 12, 0), Some(9));

    model.remove::<SamplingApp>(id(Kind::App, 0));
    assert_eq!(of(&model, state(CtState::NEW)), [(3, 7, 9), (4, 7, 9)], "without a number of its own");
    sampled(&mut model, NEW, &[]);
    assert_eq!(of(&model, state(CtState::NEW)), []);
}

#[test]
fn replies_are_sampled_under_what_their_connection_keeps() {
    let (reply, related) = (state(CtState::EST | CtState::RPL), state(CtState::REL));
    let of = |model: &Model, table, state, sampled, mark: u128, point: u128| {
        let mut packet = tcp(7, state, sampled);
        packet.extend([(field::CT_MARK, mark), (field::CT_LABEL, point << 96)]);
        let found = met(model, table, 65_534, &packet);
        assert!(found.len() <= 1, "{found:?}");
        found.first().map(|actions| {
            assert_eq!(loads(actions, 0, 0), Some(4), "no rule is asked");
            samples(actions)
        })
    };
    let sampled = |action: &str| rule("to-lport", "outport == \"p1\" && tcp", action, false, true);
    let model = with_rule(sampled("allow-related"));
    let (back, own, kept) = (Table::FromPolicy, Table::ToPolicy, 0x80);
    assert_eq!(of(&model, back, reply, false, kept, 502), Some(vec![EST_ON_7]));
    assert_eq!(of(&model, back, related, false, kept, 502), Some(vec![EST_ON_7]));
    assert_eq!(of(&model, own, related, false, kept, 502), Some(vec![EST_ON_7]));
    assert_eq!(of(&model, own, reply, false, kept, 502), None, "replies go the other way");
    assert_eq!(of(&model, back, reply, true, kept, 502), None, "once on a hypervisor");
    assert_eq!(of(&model, back, reply, false, kept, 501), None, "of another rule");
    assert_eq!(of(&model, back, reply, false, 0, 502), None, "a label, no point");
    assert_eq!(of(&model, back, reply, false, kept | 1, 502), None, "forbidden since");
    let requests = state(CtState::EST);
    assert_eq!(of(&model, own, requests, false, kept | 0x40, 502), None, "the rule is asked");

    let persistent = options(&[("persist-established", "true")]);
    let model = with_rule(Acl { options: persistent, ..sampled("allow-related") });
    assert_eq!(of(&model, own, requests, false, kept | 0x40, 502), Some(vec![EST_ON_7]));

    // Told of as well, where the rule wants that.
    let related = options(&[("log-related", "true")]);
    let model = with_rule(Acl { log: true, label: 5, options: related, ..sampled("allow-related") });
    let mut packet = tcp(7, reply, false);
    packet.extend([(field::CT_MARK, kept), (field::CT_LABEL, 5 << 96)]);
    let found = met(&model, back, 65_534, &packet);
    assert!(
        matches!(found[0][0], Action::Controller2(_)) && samples(&found[0]) == [(3, 43 << 24 | 7, 5)],
        "{found:?}"
    );

    let mut model = network();
    rules(&mut model, vec![sampled("drop"), rule("to-lport", "udp", "allow-related", false, false)]);
    assert_eq!(of(&model, back, reply, false, kept, 502), None);
}

#[test]
fn the_switch_samples_and_goes_on() {
    let Some(ovs) = Ovs::start(4, 1) else { return };
    let both = |direction: &str| rule(direction, "ip4", "allow-related", true, true);
    let mut model = network();
    for port in 1..=4 {
        model.put(id(Kind::Port, port), HostZone { zone: i64::from(port) });
    }
    let persistent = options(&[("persist-established", "true")]);
    rules(&mut model, vec![both("from-lport"), Acl { options: persistent, ..both("to-lport") }]);
    ovs.load(&model.compiled());
    let udp = |extra: &str| {
        ovs.trace(&format!(
            "in_port=1,dl_src={},dl_dst={},udp,nw_src=10.0.0.1,nw_dst=10.0.0.2,nw_ttl=64,udp_dst=9{extra}",
            mac(1),
            mac(2)
        ))
    };
    let sample = |app: u32, point: u32| {
        let domain = app << 24 | 7;
        format!("sample(probability=65535,collector_set_id=3,obs_domain_id={domain},obs_point_id={point})")
    };
    let begins = udp("");
    assert!(begins.text.contains("output:p2"), "{}", begins.text);
    assert_eq!(
        begins.text.matches(&sample(42, 501)).count(),
        2,
        "of the sender and the receiver: {}",
        begins.text
    );
    assert!(!begins.text.contains(&sample(43, 502)), "{}", begins.text);
}
