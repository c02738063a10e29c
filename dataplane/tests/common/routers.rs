//! Random changes of routers: few of everything, so that rows meet, dangle and collide.

use proptest::prelude::*;
use quantumnet_dataplane::compile::{Compiler, RowUpdate};
use quantumnet_model::{
    Rows, Strong, Weak,
    host::{HostGroup, HostNeighbour, HostOldMac},
    nb::{
        Bfd, LogicalRouter, LogicalRouterPolicy, LogicalRouterPort, LogicalRouterStaticRoute,
        LogicalSwitchPort,
    },
    sb::{DatapathBinding, MacBinding, PortBinding, StaticMacBinding},
};

use super::{Kind, Model, RouterPortSpec, SWITCH_SIDE, id, options, random::edit, text};

/// One change of a router. Routers 4 and 5 have the uuids of no switch; 2 may become one.
#[derive(Clone, Debug)]
pub enum RouterStep {
    Router(u32, bool),
    DropRouter(u32, bool),
    Port(RouterPortSpec),
    DropPort(u32, u8),
    /// The switch's side is another kind of port.
    Side(u32, u8),
    /// Number, router, prefix, next hop, port to leave by, table, options.
    Route(u32, u32, usize, usize, Option<u32>, bool, u8),
    DropRoute(u32),
    /// Number, router, match, action, next hops.
    Policy(u32, u32, usize, usize, Vec<usize>),
    DropPolicy(u32),
    Neighbour(u32, u32, usize, u8),
    DropNeighbour(u32, u8),
    Bfd(Option<u8>),
    /// Everything that wants a group gets its number.
    Groups,
    RouterOptions(u32, u8),
}

const NETWORKS: &[&str] = &["10.0.0.254/24", "10.1.0.254/24", "fd00::fe/64", "10.0.0.253/16", "nonsense"];

const PREFIXES: &[&str] =
    &["0.0.0.0/0", "10.7.0.0/16", "10.7.0.1", "10.0.0.0/24", "::/0", "fd07::/64", "fe80::/64", "nonsense"];
const NEXT_HOPS: &[&str] =
    &["10.0.0.1", "10.0.0.2", "10.1.0.9", "fd00::1", "fe80::1", "discard", "", "10.99.0.1", "what"];
const MATCHES: &[&str] = &[
    "ip4.dst == 10.7.0.0/16",
    "inport == \"r1\" && udp.dst == {1, 2, 3, 4, 5} && ip4.src == {10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4}",
    "ip6",
    "1",
    "nonsense",
];
const ACTIONS: &[&str] = &["allow", "drop", "reroute", "jump"];
const TABLE: &[(&str, &str)] = &[("route_table", "t1")];

fn port() -> impl Strategy<Value = RouterPortSpec> {
    (
        0..3u32,
        prop_oneof![Just(2u32), Just(4), Just(5)],
        proptest::sample::subsequence(NETWORKS.to_vec(), 0..=3),
        proptest::option::of(0..3u32),
        proptest::option::weighted(0.3, 0..3u32),
        any::<bool>(),
        proptest::option::weighted(0.2, 1..3u32),
    )
        .prop_map(|(number, router, networks, switch, peer, disabled, chassis)| RouterPortSpec {
            number,
            router,
            networks: networks.into_iter().map(str::to_owned).collect(),
            switch,
            peer,
            disabled,
            chassis,
            options: if number == 1 {
                TABLE.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
            } else {
                Vec::new()
            },
        })
}

/// Any step.
pub fn step() -> impl Strategy<Value = RouterStep> {
    let router = || prop_oneof![Just(2u32), Just(4), Just(5)];
    prop_oneof![
        3 => (router(), any::<bool>()).prop_map(|(router, enabled)| RouterStep::Router(router, enabled)),
        1 => (router(), any::<bool>()).prop_map(|(router, both)| RouterStep::DropRouter(router, both)),
        8 => port().prop_map(RouterStep::Port),
        1 => (0..3u32, 0..4u8).prop_map(|(port, which)| RouterStep::DropPort(port, which)),
        1 => (0..3u32, 0..3u8).prop_map(|(port, kind)| RouterStep::Side(port, kind)),
        8 => (
            0..4u32,
            router(),
            0..PREFIXES.len(),
            0..NEXT_HOPS.len(),
            proptest::option::weighted(0.2, 0..3u32),
            any::<bool>(),
            0..7u8,
        )
            .prop_map(|(number, router, prefix, hop, port, table, option)| {
                RouterStep::Route(number, router, prefix % PREFIXES.len(), hop, port, table, option)
            }),
        1 => (0..4u32).prop_map(RouterStep::DropRoute),
        4 => (
            0..3u32,
            router(),
            0..MATCHES.len(),
            0..ACTIONS.len(),
            proptest::collection::vec(0..NEXT_HOPS.len(), 0..3),
        )
            .prop_map(|(number, router, text, action, hops)| {
                RouterStep::Policy(number, router, text, action, hops)
            }),
        1 => (0..3u32).prop_map(RouterStep::DropPolicy),
        3 => (0..3u32, 0..3u32, 0..5usize, 0..4u8)
            .prop_map(|(number, port, ip, kind)| RouterStep::Neighbour(number, port, ip, kind)),
        1 => (0..3u32, 0..3u8).prop_map(|(number, kind)| RouterStep::DropNeighbour(number, kind)),
        1 => proptest::option::of(0..3u8).prop_map(RouterStep::Bfd),
        2 => Just(RouterStep::Groups),
        1 => (router(), 0..4u8).prop_map(|(router, which)| RouterStep::RouterOptions(router, which)),
    ]
}

impl RouterStep {
    /// Changes the rows.
    pub fn take(&self, model: &mut Model) {
        match self {
            Self::Router(router, enabled) => {
                model.router(*router);
                edit::<LogicalRouter>(model, id(Kind::Switch, *router), |row| {
                    row.enabled = (!enabled).then_some(false);
                });
            }
            Self::DropRouter(router, both) => {
                model.remove::<LogicalRouter>(id(Kind::Switch, *router));
                if *both {
                    model.remove::<DatapathBinding>(id(Kind::Switch, *router));
                }
            }
            Self::Port(spec) => model.router_port(spec),
            Self::DropPort(port, which) => {
                let (router, switch) = (id(Kind::RouterPort, *port), id(Kind::Port, port + SWITCH_SIDE));
                match which {
                    0 => model.remove::<LogicalRouterPort>(router),
                    1 => model.remove::<PortBinding>(router),
                    2 => model.remove::<LogicalSwitchPort>(switch),
                    _ => model.remove::<PortBinding>(switch),
                }
            }
            Self::Route(number, router, prefix, hop, port, table, option) => {
                let options = match option {
                    1 => options(&[("override-connected", "true")]),
                    2 => options(&[("origin", "connected")]),
                    4 => options(&[("ecmp_symmetric_reply", "true")]),
                    _ => options(&[]),
                };
                model.put(
                    id(Kind::Route, *number),
                    LogicalRouterStaticRoute {
                        route_table: text(if *table { "t1" } else { "" }),
                        ip_prefix: text(PREFIXES[*prefix]),
                        policy: (*option == 3).then(|| text("src-ip")),
                        nexthop: text(NEXT_HOPS[*hop]),
                        output_port: port.map(|port| text(&format!("r{port}"))),
                        selection_fields: match option {
                            5 => super::texts(["ip_src", "ipv6_src"]),
                            6 => super::texts(["ip_src", "ip_dst"]),
                            _ => super::texts([""; 0]),
                        },
                        bfd: (*number == 1).then(|| Weak::new(id(Kind::Bfd, 0))),
                        options,
                        ..LogicalRouterStaticRoute::default()
                    },
                );
                edit::<LogicalRouter>(model, id(Kind::Switch, *router), |row| {
                    row.static_routes.insert(Strong::new(id(Kind::Route, *number)));
                });
            }
            Self::DropRoute(number) => {
                model.remove::<LogicalRouterStaticRoute>(id(Kind::Route, *number));
            }
            Self::Policy(number, router, matches, action, hops) => {
                model.put(
                    id(Kind::Policy, *number),
                    LogicalRouterPolicy {
                        priority: 100 + i64::from(*number),
                        chain: (*number == 2).then(|| text("c1")),
                        r#match: text(MATCHES[*matches]),
                        action: text(ACTIONS[*action]),
                        jump_chain: (*number == 0).then(|| text("c1")),
                        nexthops: super::texts(hops.iter().map(|hop| NEXT_HOPS[*hop])),
                        bfd_sessions: (*number == 1)
                            .then(|| Weak::new(id(Kind::Bfd, 0)))
                            .into_iter()
                            .collect(),
                        options: if *number == 1 { options(&[("pkt_mark", "7")]) } else { options(&[]) },
                        ..LogicalRouterPolicy::default()
                    },
                );
                edit::<LogicalRouter>(model, id(Kind::Switch, *router), |row| {
                    row.policies.insert(Strong::new(id(Kind::Policy, *number)));
                });
            }
            Self::DropPolicy(number) => {
                model.remove::<LogicalRouterPolicy>(id(Kind::Policy, *number));
            }
            Self::Neighbour(number, port, ip, kind) => {
                let (uuid, name) = (id(Kind::Neighbour, *number), text(&format!("r{port}")));
                let (ip, mac) = (text(NEXT_HOPS[*ip]), text(&super::mac(7 + number % 2)));
                let datapath = id(Kind::Switch, 4).into();
                match kind {
                    0 => model.put(uuid, HostNeighbour { port: id(Kind::RouterPort, *port), ip, mac }),
                    1 => model.put(
                        uuid,
                        StaticMacBinding {
                            logical_port: name,
                            ip,
                            mac,
                            override_dynamic_mac: number % 2 == 0,
                            datapath,
                        },
                    ),
                    _ => model.put(uuid, MacBinding { logical_port: name, ip, mac, timestamp: 0, datapath }),
                }
                if *kind == 3 {
                    model.put(uuid, HostOldMac { mac: text("") });
                }
            }
            Self::DropNeighbour(number, kind) => {
                let uuid = id(Kind::Neighbour, *number);
                match kind {
                    0 => model.remove::<HostNeighbour>(uuid),
                    1 => model.remove::<StaticMacBinding>(uuid),
                    _ => model.remove::<MacBinding>(uuid),
                }
            }
            Self::Bfd(status) => {
                let status = status.map(|status| text(["down", "up", "admin_down"][usize::from(status)]));
                let row =
                    Bfd { logical_port: text("r0"), dst_ip: text(NEXT_HOPS[0]), status, ..Bfd::default() };
                model.put(id(Kind::Bfd, 0), row);
            }
            Self::Groups => {
                // What needs one is named by the compiler.
                let mut compiler = Compiler::new();
                compiler.apply(all_rows(&model.rows));
                for wanted in compiler.wanted_groups() {
                    model.put(wanted, HostGroup { group: 1 + i64::from(wanted.as_fields().1) });
                }
            }
            Self::RouterOptions(router, which) => {
                edit::<LogicalRouter>(model, id(Kind::Switch, *router), |row| {
                    row.options = match which {
                        0 => options(&[]),
                        1 => options(&[("always_learn_from_arp_request", "false")]),
                        _ => options(&[("dynamic_neigh_routers", "true")]),
                    };
                    if *which == 3 {
                        row.static_routes.clear();
                    }
                });
            }
            Self::Side(port, kind) => {
                let uuid = id(Kind::Port, port + SWITCH_SIDE);
                edit::<LogicalSwitchPort>(model, uuid, |row| {
                    row.r#type = text(if *kind == 0 { "router" } else { "switch" });
                    row.enabled = (*kind == 2).then_some(false);
                });
            }
        }
    }
}

fn all_rows(rows: &Rows) -> Vec<RowUpdate> {
    let of = |table| rows.table(table).iter().map(move |(uuid, row)| (table, *uuid, Some(row.clone())));
    quantumnet_model::tables::ids().flat_map(of).collect()
}
