//! ACLs, groups, sets and their numbers, by random steps.

use proptest::prelude::*;
use quantumnet_model::{
    Strong, Weak,
    host::{HostMeter, HostZone},
    nb::{Acl, ChassisTemplateVar, LogicalSwitch, NbGlobal, PortGroup, Sample, SampleCollector, SamplingApp},
    sb::AddressSet,
};

use super::{Kind, Model, id, options, text, texts};

/// One change of what filters are made of.
#[derive(Clone, Debug)]
pub enum FilterStep {
    Acl {
        number: u32,
        what: usize,
        action: usize,
        to: bool,
        tier: i64,
        option: usize,
        /// Samples of what is new and of what is established.
        samples: [Option<u32>; 2],
    },
    Sample(u32, Vec<u32>),
    DropSample(u32),
    Collector(u32, i64),
    App(usize, Option<i64>),
    DropAcl(u32),
    Number(u32, Option<i64>),
    Conjunctions(Option<u32>),
    Template(Option<usize>),
    InvalidPass(bool),
    OfSwitch(u32, Vec<u32>),
    Group(u32, Vec<u32>, Vec<u32>),
    DropGroup(u32),
    Set(u32, Vec<usize>),
    DropSet(u32),
    Zone(u32, Option<i64>),
}

/// Matches of all shapes: plain, conjunctive, with references, of nobody, and wrong.
const MATCHES: &[&str] = &[
    "1",
    "ip4",
    "inport == \"p0\" && tcp.dst == {80, 443}",
    "outport == @g0 && ip4.src == $s0 && udp.dst == {53, 99}",
    "inport == @g1 && ip4.dst != $s1",
    "ip4.src == $s0 && ip4.dst == {10.0.0.1, 10.0.0.2} && tcp.dst == {1, 2}",
    "outport == {\"p1\", \"p2\"} && (icmp4 || ip6.src == $s1)",
    "is_chassis_resident(\"p0\") && arp",
    "eth.type == 0x88b5",
    "inport == \"nobody\" || ip4.src == $nobody",
    "reg0 == 1",
    "tcp.dst ==",
    "100 <= udp.dst <= 200 && ip.ttl < 3",
    "inport == @g0 && outport == @g1 && ip4",
    "outport == @g0 && ip4.src == $s0 && ip4.dst != $s1 && tcp.src == {1, 2} && tcp.dst == {3, 4}",
    "ip6.src == {$s0, fd00::77} && eth.src == $s1",
    "outport == @g1 && tcp.dst == 80",
    "outport == @g1 && tcp.dst == 443",
    "ip4.src == ^web && tcp",
];
const ACTIONS: &[&str] = &["allow", "allow-related", "allow-stateless", "drop", "reject", "pass"];
const OPTIONS: &[&[(&str, &str)]] =
    &[&[], &[("apply-after-lb", "true")], &[("persist-established", "true")], &[("log-related", "true")]];
const APPS: &[&str] = &["acl-new", "acl-est", "drop"];
const MEMBERS: &[&str] = &["10.0.0.1", "10.0.0.0/24", "10.1.0.7", "fd00::1", "fd00::/64", "nonsense"];

/// Any step.
pub fn step() -> impl Strategy<Value = FilterStep> {
    let some = |of: u32| proptest::sample::subsequence((0..of).collect::<Vec<u32>>(), 0..=of as usize);
    let sample = || proptest::option::of(0..2u32);
    let samples = [sample(), sample()];
    prop_oneof![
        6 => (0..4u32, 0..MATCHES.len(), 0..ACTIONS.len(), any::<bool>(), 0..3i64, 0..OPTIONS.len(), samples).prop_map(
            |(number, what, action, to, tier, option, samples)| {
                FilterStep::Acl { number, what, action, to, tier, option, samples }
            }
        ),
        2 => (0..2u32, some(2)).prop_map(|(sample, collectors)| FilterStep::Sample(sample, collectors)),
        1 => (0..2u32).prop_map(FilterStep::DropSample),
        2 => (0..2u32, 0..3i64).prop_map(|(collector, probability)| FilterStep::Collector(collector, probability)),
        1 => (0..APPS.len(), proptest::option::of(1..3i64)).prop_map(|(app, number)| FilterStep::App(app, number)),
        1 => (0..4u32).prop_map(FilterStep::DropAcl),
        3 => (0..4u32, proptest::option::of(0..3i64)).prop_map(|(acl, number)| FilterStep::Number(acl, number)),
        5 => proptest::option::weighted(0.9, 1..4u32).prop_map(FilterStep::Conjunctions),
        1 => proptest::option::of(0..MEMBERS.len()).prop_map(FilterStep::Template),
        1 => any::<bool>().prop_map(FilterStep::InvalidPass),
        4 => (0..3u32, some(4)).prop_map(|(switch, acls)| FilterStep::OfSwitch(switch, acls)),
        4 => (0..2u32, some(4), some(4)).prop_map(|(group, ports, acls)| FilterStep::Group(group, ports, acls)),
        1 => (0..2u32).prop_map(FilterStep::DropGroup),
        4 => (0..2u32, proptest::sample::subsequence((0..MEMBERS.len()).collect::<Vec<_>>(), 0..=MEMBERS.len()))
            .prop_map(|(set, members)| FilterStep::Set(set, members)),
        1 => (0..2u32).prop_map(FilterStep::DropSet),
        3 => (0..4u32, proptest::option::of(0..5i64)).prop_map(|(port, zone)| FilterStep::Zone(port, zone)),
    ]
}

impl FilterStep {
    /// Changes the rows.
    pub fn take(&self, model: &mut Model) {
        let acls = |numbers: &[u32]| numbers.iter().map(|acl| Strong::new(id(Kind::Acl, *acl))).collect();
        match self {
            Self::Acl { number, what, action, to, tier, option, samples } => model.put(
                id(Kind::Acl, *number),
                Acl {
                    priority: i64::from(*number / 2),
                    direction: text(if *to { "to-lport" } else { "from-lport" }),
                    r#match: text(MATCHES[*what]),
                    action: text(ACTIONS[*action]),
                    tier: *tier,
                    log: *what == 1,
                    label: i64::from(*number),
                    options: options(OPTIONS[*option]),
                    sample_new: samples[0].map(|sample| Strong::new(id(Kind::Sample, sample))),
                    sample_est: samples[1].map(|sample| Strong::new(id(Kind::Sample, sample))),
                    ..Acl::default()
                },
            ),
            Self::Sample(number, collectors) => {
                let collectors = collectors.iter().map(|other| Strong::new(id(Kind::Collector, *other)));
                let row = Sample { collectors: collectors.collect(), metadata: 100 + i64::from(*number) };
                model.put(id(Kind::Sample, *number), row);
            }
            Self::DropSample(number) => model.remove::<Sample>(id(Kind::Sample, *number)),
            Self::Collector(number, probability) => {
                let row =
                    SampleCollector { probability: *probability, set_id: 9, ..SampleCollector::default() };
                model.put(id(Kind::Collector, *number), row);
            }
            Self::App(app, Some(number)) => {
                let row = SamplingApp { r#type: text(APPS[*app]), id: *number, ..SamplingApp::default() };
                model.put(id(Kind::App, *app as u32), row);
            }
            Self::App(app, None) => model.remove::<SamplingApp>(id(Kind::App, *app as u32)),
            Self::DropAcl(number) => model.remove::<Acl>(id(Kind::Acl, *number)),
            Self::Number(acl, number) => {
                let uuid = id(Kind::Acl, *acl);
                match number.filter(|number| *number > 0) {
                    Some(number) => model.put(uuid, HostMeter { number: 7_000 + number }),
                    None => model.remove::<HostMeter>(uuid),
                }
            }
            Self::Conjunctions(first) => model.number_conjunctions(*first),
            Self::Template(Some(member)) => model.put(
                id(Kind::Own, 3),
                ChassisTemplateVar {
                    chassis: text("hv1"),
                    variables: options(&[("web", MEMBERS[*member])]),
                    ..ChassisTemplateVar::default()
                },
            ),
            Self::Template(None) => model.remove::<ChassisTemplateVar>(id(Kind::Own, 3)),
            Self::InvalidPass(passes) => model.put(
                id(Kind::Own, 9),
                NbGlobal {
                    options: options(&[("use_ct_inv_match", if *passes { "false" } else { "true" })]),
                    ..NbGlobal::default()
                },
            ),
            Self::OfSwitch(switch, numbers) => {
                let uuid = id(Kind::Switch, *switch);
                if let Some(mut row) = model.rows.get::<LogicalSwitch>(uuid).cloned() {
                    row.acls = acls(numbers);
                    model.put(uuid, row);
                }
            }
            Self::Group(group, ports, numbers) => model.put(
                id(Kind::Group, *group),
                PortGroup {
                    name: text(&format!("g{group}")),
                    ports: ports.iter().map(|port| Weak::new(id(Kind::Port, *port))).collect(),
                    acls: acls(numbers),
                    ..PortGroup::default()
                },
            ),
            Self::DropGroup(group) => model.remove::<PortGroup>(id(Kind::Group, *group)),
            Self::Set(set, members) => model.put(
                id(Kind::Set, *set),
                AddressSet {
                    name: text(&format!("s{set}")),
                    addresses: texts(members.iter().map(|member| MEMBERS[*member])),
                    ..AddressSet::default()
                },
            ),
            Self::DropSet(set) => model.remove::<AddressSet>(id(Kind::Set, *set)),
            Self::Zone(port, Some(zone)) => model.put(id(Kind::Port, *port), HostZone { zone: *zone }),
            Self::Zone(port, None) => model.remove::<HostZone>(id(Kind::Port, *port)),
        }
    }
}
