//! QoS rules, meters and limits of protocols, by random steps.

use proptest::prelude::*;
use quantumnet_model::{
    Row, Strong, Weak,
    host::{HostMeter, HostRule},
    nb::{
        Acl, Copp, LogicalRouter, LogicalSwitch, LogicalSwitchPort, Meter, MeterBand, Mirror, MirrorRule, Qos,
    },
    sb::PortBinding,
};

use super::{Kind, Model, id, options, text};

/// One change of what QoS is made of.
#[derive(Clone, Debug)]
pub enum QosStep {
    Rule { number: u32, what: usize, to: bool, dscp: Option<i64>, mark: Option<i64>, rate: Option<i64> },
    DropRule(u32),
    OfSwitch(u32, Vec<u32>),
    Number(Kind, u32, Option<i64>),
    Meter { number: u32, fair: bool, packets: bool, rates: Vec<i64> },
    DropMeter(u32),
    Copp(u32, Option<u32>),
    CoppOf(u32, bool),
    Logged(u32, Option<u32>),
    Mirror { number: u32, kind: usize, sink: u32, filter: usize, rules: Vec<u32> },
    DropMirror(u32),
    MirrorRule { number: u32, what: usize, skip: bool },
    OfPort(u32, Vec<u32>),
    MirrorPort { switch: u32, sink: u32, key: i64, chassis: Option<u32> },
    DropMirrorPort(u32, u32),
    Queue(u32, Option<i64>),
}

const MATCHES: &[&str] = &[
    "1",
    "ip",
    "inport == \"p0\"",
    "outport == @g0 && ip4.src == $s0",
    "ip4.src == {10.0.0.1, 10.0.0.2} && udp.dst == {53, 99}",
    "arp",
    "eth.src == 0a:00:00:00:00:01 && ip6",
    "nonsense",
];

const PROTOCOLS: &[&str] = &[
    "dhcpv4-opts",
    "reject",
    "arp",
    "nd-na",
    "nd-ns",
    "arp-resolve",
    "nd-ns-resolve",
    "icmp4-error",
    "tcp-reset",
    "icmp6-error",
    "bfd",
];
const FILTERS: &[&str] = &["from-lport", "to-lport", "both"];
const KINDS: &[&str] = &["lport", "lport", "gre", "local"];

/// Any step.
pub fn step() -> impl Strategy<Value = QosStep> {
    let some = |of: u32| proptest::sample::subsequence((0..of).collect::<Vec<u32>>(), 0..=of as usize);
    let kind = prop_oneof![Just(Kind::Qos), Just(Kind::Meter), Just(Kind::Acl), Just(Kind::MirrorRule)];
    prop_oneof![
        6 => (0..3u32, 0..MATCHES.len(), any::<bool>(), proptest::option::of(0..70i64), proptest::option::of(0..9i64),
            proptest::option::of(1..9i64))
            .prop_map(|(number, what, to, dscp, mark, rate)| QosStep::Rule { number, what, to, dscp, mark, rate }),
        1 => (0..3u32).prop_map(QosStep::DropRule),
        4 => (0..3u32, some(3)).prop_map(|(switch, rules)| QosStep::OfSwitch(switch, rules)),
        4 => (kind, 0..4u32, proptest::option::of(0..5i64)).prop_map(|(kind, row, number)| QosStep::Number(kind, row, number)),
        3 => (0..2u32, any::<bool>(), any::<bool>(), proptest::collection::vec(1..9i64, 0..3))
            .prop_map(|(number, fair, packets, rates)| QosStep::Meter { number, fair, packets, rates }),
        1 => (0..2u32).prop_map(QosStep::DropMeter),
        2 => (0..2u32, proptest::option::of(0..2u32)).prop_map(|(copp, meter)| QosStep::Copp(copp, meter)),
        2 => (0..6u32, any::<bool>()).prop_map(|(datapath, on)| QosStep::CoppOf(datapath, on)),
        2 => (0..4u32, proptest::option::of(0..2u32)).prop_map(|(acl, meter)| QosStep::Logged(acl, meter)),
        4 => (0..2u32, 0..KINDS.len(), 0..3u32, 0..FILTERS.len(), some(3))
            .prop_map(|(number, kind, sink, filter, rules)| QosStep::Mirror { number, kind, sink, filter, rules }),
        1 => (0..2u32).prop_map(QosStep::DropMirror),
        3 => (0..3u32, 0..MATCHES.len(), any::<bool>())
            .prop_map(|(number, what, skip)| QosStep::MirrorRule { number, what, skip }),
        4 => (0..4u32, some(2)).prop_map(|(port, mirrors)| QosStep::OfPort(port, mirrors)),
        4 => (0..3u32, 0..3u32, 3..6i64, proptest::option::of(0..4u32))
            .prop_map(|(switch, sink, key, chassis)| QosStep::MirrorPort { switch, sink, key, chassis }),
        1 => (0..3u32, 0..3u32).prop_map(|(switch, sink)| QosStep::DropMirrorPort(switch, sink)),
        2 => (0..4u32, proptest::option::of(1..4i64)).prop_map(|(port, queue)| QosStep::Queue(port, queue)),
    ]
}

impl QosStep {
    /// Changes the rows.
    pub fn take(&self, model: &mut Model) {
        match self {
            Self::Rule { number, what, to, dscp, mark, rate } => {
                let action = [("dscp", *dscp), ("mark", *mark)].into_iter();
                let bandwidth = [("rate", *rate), ("burst", rate.filter(|rate| rate % 2 == 0))].into_iter();
                model.put(
                    id(Kind::Qos, *number),
                    Qos {
                        priority: i64::from(*number / 2),
                        direction: text(if *to { "to-lport" } else { "from-lport" }),
                        r#match: text(MATCHES[*what]),
                        action: action.filter_map(|(key, value)| Some((text(key), value?))).collect(),
                        bandwidth: bandwidth.filter_map(|(key, value)| Some((text(key), value?))).collect(),
                        ..Qos::default()
                    },
                );
            }
            Self::DropRule(number) => model.remove::<Qos>(id(Kind::Qos, *number)),
            Self::OfSwitch(switch, rules) => edit::<LogicalSwitch>(model, Kind::Switch, *switch, |row| {
                row.qos_rules = rules.iter().map(|rule| Strong::new(id(Kind::Qos, *rule))).collect();
            }),
            Self::Number(kind, row, number) => {
                let uuid = id(*kind, *row);
                match number {
                    Some(number) => model.put(uuid, HostRule { conjunction: (number + 9) * 256 + 1 }),
                    None => model.remove::<HostRule>(uuid),
                }
                match number.filter(|number| *number > 0) {
                    Some(number) => model.put(uuid, HostMeter { number: 8_000 + *kind as i64 * 10 + number }),
                    None => model.remove::<HostMeter>(uuid),
                }
            }
            Self::Meter { number, fair, packets, rates } => {
                let band = |place: usize| id(Kind::Meter, 100 + number * 10 + place as u32);
                for (place, rate) in rates.iter().enumerate() {
                    let row = MeterBand {
                        action: text("drop"),
                        rate: *rate,
                        burst_size: rate % 3,
                        ..MeterBand::default()
                    };
                    model.put(band(place), row);
                }
                model.put(
                    id(Kind::Meter, *number),
                    Meter {
                        name: text(&format!("m{number}")),
                        unit: text(if *packets { "pktps" } else { "kbps" }),
                        bands: (0..rates.len()).map(|place| Strong::new(band(place))).collect(),
                        fair: Some(*fair),
                        ..Meter::default()
                    },
                );
            }
            Self::DropMeter(number) => model.remove::<Meter>(id(Kind::Meter, *number)),
            Self::Copp(copp, meter) => {
                // Of some protocols the one, of some the other, of some none.
                let name = |place: u32| {
                    let meter = meter.map(|meter| meter + place).filter(|meter| meter % 3 < 2);
                    text(&meter.map_or_else(|| "none".to_owned(), |meter| format!("m{}", meter % 3)))
                };
                let meters = (0..).zip(PROTOCOLS).map(|(place, protocol)| (text(protocol), name(place)));
                let meters = meters.collect();
                model.put(
                    id(Kind::Copp, *copp),
                    Copp { name: text(&format!("c{copp}")), meters, ..Copp::default() },
                );
            }
            Self::CoppOf(datapath, on) => {
                let copp = on.then(|| Weak::new(id(Kind::Copp, datapath % 2)));
                edit::<LogicalSwitch>(model, Kind::Switch, *datapath, |row| row.copp = copp);
                edit::<LogicalRouter>(model, Kind::Switch, *datapath, |row| row.copp = copp);
            }
            Self::Mirror { number, kind, sink, filter, rules } => model.put(
                id(Kind::Mirror, *number),
                Mirror {
                    name: text(&format!("mirror{number}")),
                    r#type: text(KINDS[*kind]),
                    sink: text(&if KINDS[*kind] == "gre" {
                        "192.0.2.9".to_owned()
                    } else {
                        format!("p{sink}")
                    }),
                    filter: text(FILTERS[*filter]),
                    mirror_rules: rules.iter().map(|rule| Strong::new(id(Kind::MirrorRule, *rule))).collect(),
                    ..Mirror::default()
                },
            ),
            Self::DropMirror(number) => model.remove::<Mirror>(id(Kind::Mirror, *number)),
            Self::MirrorRule { number, what, skip } => model.put(
                id(Kind::MirrorRule, *number),
                MirrorRule {
                    priority: i64::from(*number / 2),
                    r#match: text(MATCHES[*what]),
                    action: text(if *skip { "skip" } else { "mirror" }),
                },
            ),
            Self::OfPort(port, mirrors) => edit::<LogicalSwitchPort>(model, Kind::Port, *port, |row| {
                row.mirror_rules =
                    mirrors.iter().map(|mirror| Weak::new(id(Kind::Mirror, *mirror))).collect();
            }),
            Self::MirrorPort { switch, sink, key, chassis } => model.put(
                id(Kind::MirrorPort, switch * 10 + sink),
                PortBinding {
                    logical_port: text(&format!("mp-sw{switch}-p{sink}")),
                    r#type: text("mirror"),
                    datapath: id(Kind::Switch, *switch).into(),
                    tunnel_key: *key,
                    mirror_port: Some(text(&format!("p{sink}"))),
                    chassis: chassis.map(|chassis| Weak::new(id(Kind::Chassis, chassis))),
                    ..PortBinding::default()
                },
            ),
            Self::DropMirrorPort(switch, sink) => {
                model.remove::<PortBinding>(id(Kind::MirrorPort, switch * 10 + sink));
            }
            Self::Queue(port, queue) => edit::<PortBinding>(model, Kind::Port, *port, |row| {
                row.options = match queue {
                    Some(queue) => options(&[
                        ("qdisc_queue_id", &queue.to_string()),
                        ("qos_physical_network", "physnet1"),
                        ("network_name", "physnet1"),
                        ("qos_max_rate", "1000"),
                    ]),
                    None => options(&[("network_name", "physnet1")]),
                };
            }),
            Self::Logged(acl, meter) => edit::<Acl>(model, Kind::Acl, *acl, |row| {
                row.log = true;
                row.meter = meter.map(|meter| text(&format!("m{meter}")));
            }),
        }
    }
}

fn edit<T: Row>(model: &mut Model, kind: Kind, number: u32, change: impl FnOnce(&mut T)) {
    let uuid = id(kind, number);
    if let Some(mut row) = model.rows.get::<T>(uuid).cloned() {
        change(&mut row);
        model.put(uuid, row);
    }
}
