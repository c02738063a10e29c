//! ACLs in a real Open vSwitch: for random rules over groups, sets and switches the verdict is that of the rules as they read,
//! rule by rule, and what changes in them costs what it should.

mod common;

use std::collections::BTreeSet;

use common::{Kind, Model, flow_text, id, mac, options, ovs::Ovs, plain, text, texts};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use quantumnet_dataplane::compile::{Compiler, FlowKey, MeterSpec, compile_full, table::Table};
use quantumnet_expr::{Constant, Expr, Field, Packet};
use quantumnet_model::{
    Strong, Weak,
    host::HostMeter,
    nb::{Acl, ChassisTemplateVar, LogicalSwitch, Meter, MeterBand, NbGlobal, PortGroup, Qos},
    sb::AddressSet,
};

/// Port, its switch, and whether it is here.
const PORTS: &[(u32, u32, bool)] =
    &[(1, 7, true), (2, 7, true), (3, 7, true), (4, 8, true), (5, 8, true), (6, 7, false)];
const GROUPS: &[&[u32]] = &[&[1, 2, 3, 4, 6], &[1], &[4, 5], &[2, 5, 6]];
const SETS: &[&[&str]] =
    &[&["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.1.0.7"], &["10.0.0.0/30", "10.0.0.9", "fd00::1"], &[]];
const SOURCES: &[[u8; 4]] = &[[10, 0, 0, 1], [10, 0, 0, 9], [10, 1, 0, 7]];
/// Protocol and destination port.
const KINDS: &[(u8, u16)] = &[(6, 80), (6, 443), (6, 22), (17, 53), (1, 0)];

/// Of each direction; `OWN` and `OTHER` stand for its ports.
const MATCHES: &[&str] = &[
    "OWN == @g0 && ip4.src == $s0 && tcp.dst == 80",
    "OWN == @g0 && ip4.src == $s0 && tcp.dst == 443",
    "OWN == @g0 && ip4.src == $s0",
    "OWN == @g0 && ip4.src == $s1 && tcp.dst == {22, 80}",
    "OWN == @g0 && tcp.dst == 80",
    "OWN == @g0 && tcp.dst == {22, 443}",
    "OWN == @g0 && ip4",
    "OWN == @g0 && udp && ip4.src == $s2",
    "OWN == @g1 && ip4.src != $s0",
    "OWN == @g1 && ip4.src == $s1",
    "OWN == @g2 && ip4.src == {10.0.0.1, 10.0.0.9} && tcp.dst == {80, 443}",
    "OWN == @g2 && ip4.src == {10.0.0.1, 10.0.0.9} && ip4.dst == {10.0.0.4, 10.0.0.5} && tcp.dst == {80, 22}",
    "OWN == @g3",
    "OWN == @g3 && (icmp4 || udp.dst == 53)",
    "ip4.src == $s0 && tcp",
    "tcp.dst == 80 && ip4.src == 10.1.0.7",
    "ip4.src == $s1 && ip4.src == $s0",
    "OWN == @g0 && OWN == {\"p1\", \"p3\", \"p4\"} && ip4.src == $s0",
    "OWN == @g0 && ip4.src == {10.0.0.1, 10.1.0.7} && ip4.src == $s0",
    "OWN == @g0 && ip4.src == 10.0.0.1 && ip4.src == $s0 && tcp.dst == {22, 80}",
    "OWN == \"p1\" || OWN == \"p5\"",
    "1",
];
const FAR: &[&str] = &[
    "OTHER == @g3 && OWN == @g0 && ip4",
    "OTHER == @g0 && tcp.dst == 80",
    "OTHER == {\"p6\", \"p4\"} && ip4.src == $s0",
];
const ACTIONS: &[&str] = &["allow", "drop", "pass"];

#[derive(Clone, Debug)]
struct Rule {
    what: usize,
    to: bool,
    priority: i64,
    tier: i64,
    action: usize,
    /// Groups it is of, or switches 7 and 8.
    of: BTreeSet<u32>,
}

impl Rule {
    fn text(&self) -> String {
        let all: Vec<&str> = MATCHES.iter().chain(FAR).copied().collect();
        // What a sender's rules say of where a packet goes is known after them only.
        let what = if self.to { self.what % all.len() } else { self.what % MATCHES.len() };
        let [own, other] = if self.to { ["outport", "inport"] } else { ["inport", "outport"] };
        all[what].replace("OWN", own).replace("OTHER", other)
    }

    fn applies_to(&self, switch: u32) -> bool {
        self.of.iter().any(|of| {
            let members = GROUPS.get(*of as usize).copied().unwrap_or_default();
            *of == switch || members.iter().any(|member| switch_of(*member) == switch)
        })
    }
}

fn rule() -> impl Strategy<Value = Rule> {
    let of = proptest::sample::subsequence(vec![0, 1, 2, 3, 7, 8], 1..=2);
    (0..1000usize, any::<bool>(), 0..4i64, 0..2i64, 0..ACTIONS.len(), of).prop_map(
        |(what, to, priority, tier, action, of)| Rule {
            what,
            to,
            priority: priority * 100,
            tier,
            action,
            of: of.into_iter().collect(),
        },
    )
}

fn switch_of(port: u32) -> u32 {
    PORTS.iter().find(|(number, ..)| *number == port).map_or(0, |(_, switch, _)| *switch)
}

fn network() -> Model {
    let mut model = Model::hypervisor(2);
    [7, 8].into_iter().for_each(|switch| model.switch(switch));
    for (number, switch, here) in PORTS {
        model.port(&plain(*number, *switch, if *here { 1 } else { 2 }));
    }
    for (number, members) in (0..).zip(SETS) {
        let row = AddressSet {
            name: text(&format!("s{number}")),
            addresses: texts(*members),
            ..AddressSet::default()
        };
        model.put(id(Kind::Set, number), row);
    }
    model
}

fn with_rules(rules: &[Rule]) -> Model {
    let mut model = network();
    let acls = |of: u32| {
        (0..)
            .zip(rules)
            .filter(move |(_, rule)| rule.of.contains(&of))
            .map(|(number, _)| Strong::new(id(Kind::Acl, number)))
            .collect()
    };
    for (number, members) in (0..).zip(GROUPS) {
        let row = PortGroup {
            name: text(&format!("g{number}")),
            ports: members.iter().map(|port| Weak::new(id(Kind::Port, *port))).collect(),
            acls: acls(number),
            ..PortGroup::default()
        };
        model.put(id(Kind::Group, number), row);
    }
    for switch in [7, 8] {
        model.put(id(Kind::Switch, switch), LogicalSwitch { acls: acls(switch), ..LogicalSwitch::default() });
    }
    for (number, rule) in (0..).zip(rules) {
        let row = Acl {
            priority: rule.priority,
            direction: text(if rule.to { "to-lport" } else { "from-lport" }),
            r#match: text(&rule.text()),
            action: text(ACTIONS[rule.action]),
            tier: rule.tier,
            ..Acl::default()
        };
        model.put(id(Kind::Acl, number), row);
    }
    model.number_conjunctions(Some(1));
    model
}

/// A packet as an expression sees it.
struct Seen {
    from: String,
    to: String,
    source: u32,
    destination: u32,
    kind: (u8, u16),
    sets: Vec<Vec<Constant>>,
}

impl Packet for Seen {
    fn field(&self, field: Field) -> Option<u128> {
        let (protocol, port) = self.kind;
        Some(match field {
            Field::EthType => 0x800,
            Field::IpProto => protocol.into(),
            Field::IpFrag | Field::VlanTci => 0,
            Field::Ip4Src => self.source.into(),
            Field::Ip4Dst => self.destination.into(),
            Field::TcpDst if protocol == 6 => port.into(),
            Field::UdpDst if protocol == 17 => port.into(),
            Field::Icmp4Type if protocol == 1 => 8,
            _ => return None,
        })
    }

    fn port(&self, field: Field) -> Option<&str> {
        Some(if field == Field::Inport { &self.from } else { &self.to })
    }

    fn address_set(&self, name: &str) -> &[Constant] {
        name.strip_prefix('s')
            .and_then(|number| self.sets.get(number.parse::<usize>().ok()?))
            .map_or(&[], Vec::as_slice)
    }

    fn is_in_port_group(&self, group: &str, port: &str) -> bool {
        let number =
            |text: &str, prefix| text.strip_prefix(prefix).and_then(|rest: &str| rest.parse::<u32>().ok());
        let members =
            number(group, 'g').and_then(|group| GROUPS.get(group as usize)).copied().unwrap_or_default();
        number(port, 'p').is_some_and(|port| members.contains(&port))
    }

    fn is_resident(&self, _: &str) -> bool {
        false
    }
}

/// What the rules of one direction say; `None` where rules of one priority disagree, as then either may win.
fn passes(rules: &[Rule], to: bool, switch: u32, packet: &Seen) -> Option<bool> {
    for tier in 0..2 {
        let says = |rule: &&Rule| {
            rule.to == to
                && rule.tier == tier
                && rule.applies_to(switch)
                && Expr::parse(&rule.text()).expect("the test's own matches parse").eval(packet)
        };
        let matching: Vec<&Rule> = rules.iter().filter(says).collect();
        let Some(highest) = matching.iter().map(|rule| rule.priority).max() else { continue };
        let actions: BTreeSet<&str> = matching
            .iter()
            .filter(|rule| rule.priority == highest)
            .map(|rule| ACTIONS[rule.action])
            .collect();
        match actions.into_iter().collect::<Vec<_>>().as_slice() {
            ["allow"] => return Some(true),
            ["drop"] => return Some(false),
            ["pass"] => {}
            _ => return None,
        }
    }
    Some(true)
}

fn check(ovs: &Ovs, rules: &[Rule]) -> Result<(), TestCaseError> {
    let mut model = with_rules(rules);
    let compiler = model.compiled();
    ovs.load(&compiler);
    let sets: Vec<Vec<Constant>> =
        SETS.iter().map(|set| set.iter().filter_map(|member| member.parse().ok()).collect()).collect();
    for (from, to) in [(1, 2), (3, 1), (4, 5), (6, 1), (6, 2), (5, 4)] {
        let here = PORTS.iter().any(|(number, _, here)| *number == from && *here);
        let switch = switch_of(from);
        for source in SOURCES {
            for (protocol, port) in KINDS {
                let packet = Seen {
                    from: format!("p{from}"),
                    to: format!("p{to}"),
                    source: u32::from_be_bytes(*source),
                    destination: 0x0a00_0000 + to,
                    kind: (*protocol, *port),
                    sets: sets.clone(),
                };
                let sent = if here { passes(rules, false, switch, &packet) } else { Some(true) };
                let (Some(sent), Some(got)) = (sent, passes(rules, true, switch, &packet)) else { continue };
                let way = if here {
                    format!("in_port={from}")
                } else {
                    format!("in_port=1002,tun_id={switch},tun_metadata0={:#x}", from << 16 | to)
                };
                let ports = match protocol {
                    6 => format!("tcp,tcp_dst={port}"),
                    17 => format!("udp,udp_dst={port}"),
                    _ => "icmp,icmp_type=8".to_owned(),
                };
                let [a, b, c, d] = source;
                let trace = ovs.trace(&format!(
                    "{way},dl_src={},dl_dst={},{ports},nw_src={a}.{b}.{c}.{d},nw_dst=10.0.0.{to},nw_ttl=64",
                    mac(from),
                    mac(to)
                ));
                let out = format!("p{to}");
                prop_assert_eq!(
                    trace.ports().contains(&out.as_str()),
                    sent && got,
                    "{:#?}\n{}",
                    rules.iter().map(|rule| (rule.text(), rule)).collect::<Vec<_>>(),
                    trace.text
                );
            }
        }
    }
    Ok(())
}

#[test]
fn verdicts_are_those_of_the_rules() {
    let Some(ovs) = Ovs::start(6, 2) else { return };
    let mut runner = TestRunner::new(Config { cases: 24, max_shrink_iters: 60, ..Config::default() });
    runner
        .run(&vec(rule(), 1..14), |rules| check(&ovs, &rules))
        .unwrap_or_else(|failure| panic!("{failure}"));
}

/// A group of twenty ports here and `rules` rules over ten sets of 450 addresses that no prefix joins.
fn large(rules: u32) -> Model {
    let mut model = Model::hypervisor(1);
    model.switch(1);
    (1..=20).for_each(|port| model.port(&plain(port, 1, 1)));
    for set in 0..10 {
        let member = |number: u32| format!("10.{}.{}.{}", set, number >> 7, (number & 127) * 2);
        let addresses = texts((0..450).map(member));
        let row = AddressSet { name: text(&format!("s{set}")), addresses, ..AddressSet::default() };
        model.put(id(Kind::Set, set), row);
    }
    (0..rules).for_each(|number| model.put(id(Kind::Acl, number), large_rule(number)));
    large_group(&mut model, rules);
    model.number_conjunctions(Some(1));
    model
}

fn large_rule(number: u32) -> Acl {
    Acl {
        priority: 1_000,
        direction: text("to-lport"),
        r#match: text(&format!(
            "outport == @g && ip4.src == $s{} && tcp.dst == {}",
            number % 10,
            1_000 + number / 10
        )),
        action: text("allow-related"),
        ..Acl::default()
    }
}

fn large_group(model: &mut Model, rules: u32) {
    let row = PortGroup {
        name: text("g"),
        ports: (1..=20).map(|port| Weak::new(id(Kind::Port, port))).collect(),
        acls: (0..rules).map(|number| Strong::new(id(Kind::Acl, number))).collect(),
        ..PortGroup::default()
    };
    model.put(id(Kind::Group, 0), row);
}

fn cost(model: &mut Model, compiler: &mut Compiler) -> (u64, u64) {
    let before = compiler.counters();
    model.apply(compiler);
    let after = compiler.counters();
    (after.units_run - before.units_run, after.flows_changed - before.flows_changed)
}

/// What one more rule and one more address cost.
fn costs(rules: u32) -> [(u64, u64); 2] {
    let mut model = large(rules);
    let mut compiler = model.compiled();
    model.put(id(Kind::Acl, rules), large_rule(rules));
    large_group(&mut model, rules + 1);
    let rule = cost(&mut model, &mut compiler);
    let mut set = model.rows.get::<AddressSet>(id(Kind::Set, 3)).cloned().expect("it is there");
    set.addresses.insert(text("10.99.0.1"));
    model.put(id(Kind::Set, 3), set);
    let address = cost(&mut model, &mut compiler);
    assert!(compiler.recompute_check().is_empty());
    [rule, address]
}

#[test]
fn a_rule_or_an_address_costs_the_same_among_many() {
    let (few, many) = (costs(100), costs(1_000));
    assert_eq!(few, many);
    let [rule, address] = many;
    assert!(rule.0 <= 8 && rule.1 <= 3, "{rule:?}");
    assert!(address.0 <= 3 && address.1 <= 1, "{address:?}");
}

#[test]
fn flows_are_shared_by_rules_and_switches() {
    let mut model = large(1_000);
    let policy = |model: &Model| {
        let table = Table::ToPolicy.number();
        compile_full(&model.rows)
            .flows
            .keys()
            .filter(|key| key.table == table && key.priority == 2_000)
            .count()
    };
    // Twenty places, ten sets of 450, a hundred ports, a verdict a rule.
    assert_eq!(policy(&model), 20 + 4_500 + 100 + 1_000);
    model.switch(2);
    for port in 1..=10 {
        model.port(&plain(port, 2, 1));
    }
    assert_eq!(policy(&model), 20 + 4_500 + 100 + 1_000, "two switches have no more");
}

/// Flows of some tables and priorities, as text.
fn flows(model: &Model, table: Table, priority: u16) -> Vec<String> {
    let all = compile_full(&model.rows).flows;
    let of = |key: &&FlowKey| key.table == table.number() && key.priority == priority;
    all.iter().filter(|(key, _)| of(key)).map(|(key, value)| flow_text(key, value)).collect()
}

fn one_rule(acl: Acl) -> Model {
    rules(&[acl])
}

fn rules(acls: &[Acl]) -> Model {
    let mut model = network();
    let acls = (0..).zip(acls).map(|(number, acl)| {
        model.put(id(Kind::Acl, number), acl.clone());
        Strong::new(id(Kind::Acl, number))
    });
    let acls = acls.collect();
    model.put(id(Kind::Switch, 7), LogicalSwitch { acls, ..LogicalSwitch::default() });
    model.number_conjunctions(Some(1));
    model
}

fn stateful(what: &str) -> Acl {
    Acl {
        priority: 1_000,
        direction: text("to-lport"),
        r#match: text(what),
        action: text("allow-related"),
        ..Acl::default()
    }
}

#[test]
fn template_variables_are_this_chassis() {
    let mut model = one_rule(stateful("ip4.src == ^web"));
    assert!(flows(&model, Table::ToPolicy, 2_000).is_empty(), "it has no value yet");
    for (number, chassis, value) in [(3, "hv1", "{10.0.0.1, 10.0.0.2}"), (4, "hv2", "10.9.9.9")] {
        let variables = options(&[("web", value)]);
        let row = ChassisTemplateVar { chassis: text(chassis), variables, ..ChassisTemplateVar::default() };
        model.put(id(Kind::Own, number), row);
    }
    let flows = flows(&model, Table::ToPolicy, 2_000);
    assert_eq!(flows.len(), 2, "{flows:#?}");
    assert!(flows[0].contains("nw_src=10.0.0.1") && flows[1].contains("nw_src=10.0.0.2"), "{flows:#?}");
}

#[test]
fn replies_are_logged_by_label_in_the_other_direction() {
    let logged = Acl { log: true, label: 5, ..stateful("tcp") };
    assert!(flows(&one_rule(logged.clone()), Table::FromPolicy, 65_533).is_empty(), "nobody asked for it");
    let related = options(&[("log-related", "true")]);
    let both = flows(&one_rule(Acl { options: related.clone(), ..logged }), Table::FromPolicy, 65_533);
    assert_eq!(both.len(), 2, "{both:#?}");
    for flow in &both {
        assert!(
            flow.contains("ct_label=0x5000000000000000000000000/0xffffffff000000000000000000000000"),
            "{flow}"
        );
        assert!(flow.contains("controller(") && flow.contains("metadata=0x7"), "{flow}");
    }
    let unlabelled = one_rule(Acl { options: related, log: true, ..stateful("tcp") });
    assert!(flows(&unlabelled, Table::FromPolicy, 65_533).is_empty(), "replies could not be told apart");
}

#[test]
fn a_fair_meter_is_each_rules_own() {
    let mut model = network();
    let rules = [(0, "tcp"), (1, "udp")];
    for (number, what) in rules {
        model.put(id(Kind::Acl, number), Acl { log: true, meter: Some(text("m")), ..stateful(what) });
        model.put(id(Kind::Acl, number), HostMeter { number: 9_001 + i64::from(number) });
    }
    let acls = rules.iter().map(|(number, _)| Strong::new(id(Kind::Acl, *number))).collect();
    model.put(id(Kind::Switch, 7), LogicalSwitch { acls, ..LogicalSwitch::default() });
    let band = MeterBand { action: text("drop"), rate: 10, ..MeterBand::default() };
    model.put(id(Kind::Meter, 1), band);
    model.put(id(Kind::Meter, 0), HostMeter { number: 9_000 });
    let meters_of = |model: &mut Model, fair: bool| {
        let bands = std::iter::once(Strong::new(id(Kind::Meter, 1))).collect();
        let row = Meter { name: text("m"), unit: text("pktps"), bands, fair: Some(fair), ..Meter::default() };
        model.put(id(Kind::Meter, 0), row);
        let used = |flow: &String| {
            let (_, rest) = flow.split_once("meter_id=").expect("each of them logs");
            rest.split([',', ')']).next().and_then(|number| number.parse().ok()).expect("a number")
        };
        let flows = flows(model, Table::ToPolicy, 2_000);
        let used: BTreeSet<u32> = flows.iter().map(used).collect();
        let meters = compile_full(&model.rows).meters;
        let made: BTreeSet<u32> = meters
            .iter()
            .filter(|(_, spec)| **spec == MeterSpec::packets(10, 0))
            .map(|(number, _)| *number)
            .collect();
        assert_eq!(used, made, "{flows:#?} {meters:?}");
        used.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(meters_of(&mut model, false), [9_000], "all share it");
    assert_eq!(meters_of(&mut model, true), [9_001, 9_002], "with the same rate");
}

#[test]
fn what_fits_no_connection_may_pass() {
    let mut model = one_rule(stateful("tcp"));
    let invalid = |model: &Model| {
        flows(model, Table::ToPolicy, 65_532).iter().filter(|flow| flow.contains("inv")).count()
    };
    assert_eq!(invalid(&model), 3);
    let row = NbGlobal { options: options(&[("use_ct_inv_match", "false")]), ..NbGlobal::default() };
    model.put(id(Kind::Own, 9), row);
    assert_eq!(invalid(&model), 0);
}

#[test]
fn a_switch_more_costs_no_flows_of_states_and_verdicts() {
    let count = |switches: u32| {
        let mut model = Model::hypervisor(1);
        model.put(id(Kind::Acl, 0), stateful("tcp"));
        for switch in 1..=switches {
            model.switch(switch);
            model.port(&plain(switch, switch, 1));
            let acls = std::iter::once(Strong::new(id(Kind::Acl, 0))).collect();
            model.put(id(Kind::Switch, switch), LogicalSwitch { acls, ..LogicalSwitch::default() });
        }
        model.number_conjunctions(Some(1));
        let filters = [
            Table::FromTrack,
            Table::FromPolicy,
            Table::FromVerdict,
            Table::ToTrack,
            Table::ToPolicy,
            Table::ToVerdict,
        ];
        let tables = filters.map(Table::number);
        compile_full(&model.rows).flows.keys().filter(|key| tables.contains(&key.table)).count()
    };
    // Its port's three flows in each direction, what it sends untracked and to itself, and its place in the conjunction.
    assert_eq!(count(20) - count(10), 10 * (2 * 3 + 9 + 1 + 1));
}

#[test]
fn answers_of_the_switch_are_filtered_as_what_a_port_gets() {
    let Some(ovs) = Ovs::start(6, 2) else { return };
    let asks = |acl: Acl| {
        ovs.load(&one_rule(acl).compiled());
        let trace = ovs.trace(&format!(
            "in_port=1,dl_src={m},dl_dst=ff:ff:ff:ff:ff:ff,arp,arp_op=1,arp_sha={m},arp_spa=10.0.0.1,arp_tpa=10.0.0.2",
            m = mac(1),
        ));
        let to: Vec<String> = trace.ports().into_iter().map(str::to_owned).collect();
        (to, trace.final_field("arp_op"))
    };
    let answered = (vec!["p1".to_owned()], Some("2".to_owned()));
    for action in ["allow", "allow-related"] {
        let rule = |what: &str| Acl { action: text(action), ..stateful(what) };
        assert_eq!(asks(rule("tcp")), answered);
    }
    let dropped = Acl { action: text("drop"), ..stateful("outport == \"p1\"") };
    assert_eq!(asks(dropped).0, [""; 0]);
    let other = Acl { action: text("drop"), ..stateful("outport == \"p2\"") };
    assert_eq!(asks(other), answered);
}

#[test]
fn the_default_to_drop_holds_behind_load_balancing_too() {
    let Some(ovs) = Ovs::start(6, 2) else { return };
    let allows = |direction: &str, behind: &str| Acl {
        direction: text(direction),
        r#match: text("ip4"),
        action: text("allow"),
        options: options(&[("apply-after-lb", behind)]),
        ..Acl::default()
    };
    let mut model = rules(&[allows("from-lport", "false"), allows("to-lport", "false")]);
    let drop = NbGlobal { options: options(&[("default_acl_drop", "true")]), ..NbGlobal::default() };
    model.put(id(Kind::Own, 9), drop);
    let goes = |model: &mut Model| {
        ovs.load(&model.compiled());
        let trace = ovs.trace(&datagram(1, &mac(2)));
        trace.ports().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(goes(&mut model), [""; 0], "no rule allows it there");
    let behind = [("from-lport", "false"), ("from-lport", "true"), ("to-lport", "false")];
    let mut allowed = rules(&behind.map(|(direction, behind)| allows(direction, behind)));
    allowed.put(
        id(Kind::Own, 9),
        NbGlobal { options: options(&[("default_acl_drop", "true")]), ..NbGlobal::default() },
    );
    assert_eq!(goes(&mut allowed), ["p2"]);
    model.put(id(Kind::Own, 9), NbGlobal::default());
    assert_eq!(goes(&mut model), ["p2"]);
}

#[test]
fn a_senders_own_copy_meets_no_rule() {
    let Some(ovs) = Ovs::start(6, 2) else { return };
    let reject = Acl { action: text("reject"), ..stateful("outport == \"p1\"") };
    ovs.load(&one_rule(reject).compiled());
    for to in ["ff:ff:ff:ff:ff:ff", &mac(1)] {
        let trace = ovs.trace(&datagram(1, to));
        assert_eq!(trace.punts, 0, "{}", trace.text);
        assert!(!trace.ports().contains(&"p1"), "{}", trace.text);
    }
    let from_another = ovs.trace(&datagram(2, &mac(1)));
    assert_ne!(from_another.punts, 0, "{}", from_another.text);
}

#[test]
fn what_qos_writes_for_one_port_reaches_no_other() {
    let Some(ovs) = Ovs::start(6, 2) else { return };
    let mut model = network();
    let rule = Qos {
        priority: 1,
        direction: text("to-lport"),
        r#match: text("outport == {\"p1\", \"p2\"}"),
        action: [(text("dscp"), 10)].into_iter().collect(),
        ..Qos::default()
    };
    model.put(id(Kind::Qos, 0), rule);
    let qos_rules = std::iter::once(Strong::new(id(Kind::Qos, 0))).collect();
    model.put(id(Kind::Switch, 7), LogicalSwitch { qos_rules, ..LogicalSwitch::default() });
    ovs.load(&model.compiled());
    let trace = ovs.trace(&datagram(1, "ff:ff:ff:ff:ff:ff"));
    let actions = trace.text.lines().find_map(|line| line.strip_prefix("Datapath actions: ")).unwrap();
    let (marked, plain) = (actions.find(",p2").unwrap_or(0), actions.find("p3").unwrap());
    assert!(actions[..marked].contains("tos=0x28"), "{actions}");
    let between = if marked < plain { &actions[marked..plain] } else { &actions[..plain] };
    assert!(marked > plain || between.contains("tos=0/"), "{actions}");
}

/// A datagram to a MAC.
fn datagram(from: u32, to: &str) -> String {
    format!(
        "in_port={from},dl_src={},dl_dst={to},udp,nw_src=10.0.0.1,nw_dst=10.0.0.2,nw_ttl=64,udp_dst=9",
        mac(from)
    )
}

#[test]
fn the_default_is_that_of_switches_with_rules() {
    let Some(ovs) = Ovs::start(6, 2) else { return };
    let mut model = one_rule(stateful("tcp"));
    let drop = NbGlobal { options: options(&[("default_acl_drop", "true")]), ..NbGlobal::default() };
    model.put(id(Kind::Own, 9), drop);
    let mut secured = plain(4, 8, 1);
    secured.security = secured.addresses.clone();
    model.port(&secured);
    ovs.load(&model.compiled());
    let report = |port: u32| {
        ovs.trace(&format!(
            "in_port={port},dl_src={},dl_dst=33:33:00:00:00:16,icmp6,ipv6_src=fe80::800:ff:fe00:{port},ipv6_dst=ff02::16,\
             icmpv6_type=143,icmpv6_code=0,nw_ttl=1",
            mac(port)
        ))
    };
    let without = report(4);
    assert_eq!(without.ports(), ["p5"], "{}", without.text);
    let udp = ovs.trace(&format!(
        "in_port=1,dl_src={},dl_dst={},udp,nw_src=10.0.0.1,nw_dst=10.0.0.2,nw_ttl=64,udp_dst=9",
        mac(1),
        mac(2)
    ));
    assert_eq!(udp.ports(), [""; 0], "{}", udp.text);
}

/// Open vSwitch wants a flow for each dimension of a conjunction: one that is in two of them does not count twice.
#[test]
fn dimensions_of_one_field_have_flows_of_their_own() {
    let Some(ovs) = Ovs::start(6, 2) else { return };
    for (what, text) in
        MATCHES.iter().enumerate().filter(|(_, text)| text.contains(" $s0") && text.contains("@g0"))
    {
        for to in [false, true] {
            let rule = Rule { what, to, priority: 1_000, tier: 0, action: 1, of: [0, 7].into() };
            check(&ovs, &[rule]).unwrap_or_else(|failure| panic!("{text}: {failure}"));
        }
    }
}
