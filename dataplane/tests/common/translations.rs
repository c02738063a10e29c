//! Random changes of address translations, on the routers of `routers`.

use proptest::prelude::*;
use quantumnet_model::{
    Strong, Weak,
    host::{HostRouterZones, HostZone},
    nb::{AddressSet, LogicalRouter, LogicalSwitch, Nat, NbGlobal},
    sb::{HaChassis, HaChassisGroup, PortBinding},
};

use super::{Kind, Model, id, options, random::edit, text, texts};

/// One change of a translation, or of what it depends on.
#[derive(Clone, Debug)]
pub enum NatStep {
    Nat {
        number: u32,
        kind: usize,
        external: usize,
        logical: usize,
        extra: usize,
    },
    DropNat(u32),
    OfRouter(u32, Vec<u32>),
    Options(u32, usize),
    /// The gateway of a router port: of which router, served by this hypervisor or not.
    Gateway(u32, u32, bool),
    DropGateway(u32),
    Zones(u32, Option<i64>),
    Peers(Vec<usize>),
    DropPeers,
    Looks(u32, bool),
    CommonZone(bool),
}

const KINDS: &[&str] = &["snat", "dnat", "dnat_and_snat", "dnat_and_snat", "nonsense"];
const EXTERNAL: &[&str] = &["172.16.0.1", "172.16.0.2", "10.0.0.254", "fd16::1", "nonsense"];
const LOGICAL: &[&str] =
    &["10.0.0.1", "10.0.0.0/24", "10.0.0.0/255.255.0.0", "fd00::1", "fd00::/64", "10.0.0.1/24"];
const OPTIONS: &[&[(&str, &str)]] = &[
    &[],
    &[("chassis", "hv1")],
    &[("chassis", "hv1"), ("dnat_force_snat_ip", "172.16.0.2 fd16::1")],
    &[("chassis", "hv2")],
    &[("dnat_force_snat_ip", "nonsense")],
];
const PEERS: &[&str] = &["198.51.100.7", "198.51.100.0/24", "2001:db8::/32", "nonsense"];

/// Any step.
pub fn step() -> impl Strategy<Value = NatStep> {
    let router = || prop_oneof![Just(2u32), Just(4), Just(5)];
    let some = |of: u32| proptest::sample::subsequence((0..of).collect::<Vec<u32>>(), 0..=of as usize);
    prop_oneof![
        8 => (0..4u32, 0..KINDS.len(), 0..EXTERNAL.len(), 0..LOGICAL.len(), 0..14usize).prop_map(
            |(number, kind, external, logical, extra)| NatStep::Nat { number, kind, external, logical, extra }
        ),
        1 => (0..4u32).prop_map(NatStep::DropNat),
        5 => (router(), some(4)).prop_map(|(router, rules)| NatStep::OfRouter(router, rules)),
        2 => (router(), 0..OPTIONS.len()).prop_map(|(router, options)| NatStep::Options(router, options)),
        4 => (0..3u32, router(), any::<bool>()).prop_map(|(port, router, here)| NatStep::Gateway(port, router, here)),
        1 => (0..3u32).prop_map(NatStep::DropGateway),
        3 => (router(), proptest::option::weighted(0.8, -1..3i64)).prop_map(|(router, zone)| NatStep::Zones(router, zone)),
        1 => proptest::sample::subsequence((0..PEERS.len()).collect::<Vec<_>>(), 0..=PEERS.len()).prop_map(NatStep::Peers),
        1 => Just(NatStep::DropPeers),
        1 => (0..3u32, any::<bool>()).prop_map(|(switch, looks)| NatStep::Looks(switch, looks)),
        1 => any::<bool>().prop_map(NatStep::CommonZone),
    ]
}

impl NatStep {
    /// Changes the rows.
    pub fn take(&self, model: &mut Model) {
        match self {
            Self::Nat { number, kind, external, logical, extra } => {
                let mut row = Nat {
                    r#type: text(KINDS[*kind]),
                    external_ip: text(EXTERNAL[*external]),
                    logical_ip: text(LOGICAL[*logical]),
                    ..Nat::default()
                };
                let peers = || Some(Strong::<AddressSet>::new(id(Kind::Set, 7)));
                match extra {
                    0 => row.r#match = text("tcp.dst == {80, 443}"),
                    1 => {
                        row.r#match =
                            text("ip4.dst == {1.2.3.4, 5.6.7.8} && udp.dst == {1, 2} && inport == \"r0\"")
                    }
                    2 => row.allowed_ext_ips = peers(),
                    3 => row.exempted_ext_ips = peers(),
                    4 => (row.allowed_ext_ips, row.exempted_ext_ips) = (peers(), peers()),
                    5 => row.options = options(&[("stateless", "true")]),
                    10 => row.options = options(&[("stateless", "true"), ("stateless_icmp_helper", "false")]),
                    11 => row.options = options(&[("add_route", "true")]),
                    6 => row.external_port_range = text("1000-2000"),
                    7 => row.gateway_port = Some(Weak::new(id(Kind::RouterPort, 1))),
                    8 | 9 => {
                        row.external_mac = Some(text("0a:f1:00:00:00:01"));
                        row.logical_port = Some(text("p0"));
                    }
                    _ => {}
                }
                row.priority = i64::from(*number);
                model.put(id(Kind::Nat, *number), row);
            }
            Self::DropNat(number) => model.remove::<Nat>(id(Kind::Nat, *number)),
            Self::OfRouter(router, rules) => edit::<LogicalRouter>(model, id(Kind::Switch, *router), |row| {
                row.nat = rules.iter().map(|rule| Strong::new(id(Kind::Nat, *rule))).collect();
            }),
            Self::Options(router, chosen) => edit::<LogicalRouter>(model, id(Kind::Switch, *router), |row| {
                row.options = options(OPTIONS[*chosen]);
            }),
            Self::Gateway(port, router, here) => {
                let (group, member) =
                    (id(Kind::HaGroup, u32::from(*here)), id(Kind::HaChassis, u32::from(*here)));
                let chassis = id(Kind::Chassis, if *here { 1 } else { 2 });
                model.put(member, HaChassis { chassis: Some(chassis.into()), ..HaChassis::default() });
                model.put(
                    group,
                    HaChassisGroup {
                        ha_chassis: std::iter::once(Strong::new(member)).collect(),
                        ..HaChassisGroup::default()
                    },
                );
                let redirect = PortBinding {
                    logical_port: text(&format!("cr-r{port}")),
                    r#type: text("chassisredirect"),
                    datapath: id(Kind::Switch, *router).into(),
                    tunnel_key: i64::from(port + 100),
                    options: options(&[("distributed-port", &format!("r{port}"))]),
                    ha_chassis_group: Some(Strong::new(group)),
                    ..PortBinding::default()
                };
                model.put(id(Kind::Redirect, *port), redirect);
            }
            Self::DropGateway(port) => model.remove::<PortBinding>(id(Kind::Redirect, *port)),
            Self::Zones(router, Some(zone)) => {
                model.put(id(Kind::Switch, *router), HostRouterZones { dnat: *zone, snat: zone + 10 });
                model.put(id(Kind::Switch, *router), HostZone { zone: zone + 20 });
            }
            Self::Zones(router, None) => {
                model.remove::<HostRouterZones>(id(Kind::Switch, *router));
                model.remove::<HostZone>(id(Kind::Switch, *router));
            }
            Self::Peers(members) => model.put(
                id(Kind::Set, 7),
                AddressSet {
                    name: text("peers"),
                    addresses: texts(members.iter().map(|member| PEERS[*member])),
                    ..AddressSet::default()
                },
            ),
            Self::DropPeers => model.remove::<AddressSet>(id(Kind::Set, 7)),
            Self::Looks(switch, looks) => edit::<LogicalSwitch>(model, id(Kind::Switch, *switch), |row| {
                row.load_balancer = looks.then(|| Weak::new(id(Kind::Nat, 99))).into_iter().collect();
            }),
            Self::CommonZone(common) => {
                let value = if *common { "true" } else { "false" };
                let row = NbGlobal { options: options(&[("use_common_zone", value)]), ..NbGlobal::default() };
                model.put(id(Kind::Own, 9), row);
            }
        }
    }
}
