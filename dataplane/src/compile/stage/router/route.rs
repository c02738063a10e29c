//! The route of a packet: the longest prefix gives next hop and port.
//!
//! # Contract
//! - `connected`: owner one router port that is here; reads it. Out: what is for one of its networks has its own destination as next
//!   hop, and leaves by it.
//! - `static_route`: owner one static route in its set. Reads: the set, its group's number. Out, of the first of the set: what is
//!   for the prefix, or from it, to the next hop; of several that are equal to one of them by a group of the switch, which
//!   chooses by a hash of addresses and ports.
//! - In: a packet that RouterInput has passed. Out: TTL less one, `NEXT_HOP`, `OUT_PORT`, the port's MAC as source; to RoutePolicy
//!   where the router has policies, else to NextHop.
//!
//! # Invariants
//! - Priorities are OVN's: the prefix first; of equal ones a static route that overrides, a network, a static route, a route by
//!   source.
//! - Until a group has its number the first of equal routes takes all.
//! - A route that discards makes all its equals discard.
//! - Static routes of the main table are not for packets that come by a port with a table of its own; networks are.
//! - A link-local network is that of the port by which a packet came.

use ipnet::IpNet;
use ofpacket::{Action, Match, field};

use ovsdb::value::Atom;
use quantumnet_model::host::HostGroup;
use uuid::Uuid;

use crate::compile::{
    derive::routes::{StaticRoute, Way},
    flow::GroupSpec,
    index::By,
    logical::{RouterPort, go, on_switch},
    owner::{Owner, Owners, Relation, named},
    register,
    sink::Sink,
    stage::Stage,
    table::Table,
    view::View,
};

pub(in crate::compile) const CONNECTED: Stage = Stage {
    number: 62,
    name: "connected",
    owners: Owners::Facts(Relation::RouterPorts),
    tables: &[Table::Route],
    relations: &[],
    emit: connected,
};

pub(in crate::compile) const STATIC: Stage = Stage {
    number: 65,
    name: "static_route",
    owners: Owners::Facts(Relation::Routes),
    tables: &[Table::Route],
    relations: &[Relation::WantedGroups],
    emit: static_route,
};

/// What decides between routes of one prefix, from the last to the first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u16)]
pub(in crate::compile) enum Class {
    /// By source.
    Source = 0,
    /// A static route.
    Static = 4,
    /// A network of a port, or of one in another availability zone.
    Connected = 6,
    /// A network of another availability zone, in a route table.
    LearnedInTable = 8,
    /// A static route with `override-connected`.
    Override = 10,
}

fn connected(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = RouterPort::read(view, owner.row()) else { return };
    for net in port.all() {
        let matches = destination(scope(&port, net), net);
        let actions = [vec![Action::DecNwTtl], itself(net), by(view, &port)].concat();
        out.flow(Table::Route, priority(net, Class::Connected), matches, actions);
    }
}

fn static_route(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(fact) = owner.fact() else { return };
    let set: Vec<Uuid> = view.related(Relation::Routes, fact.of, 0).collect();
    if set.first() != Some(&fact.value) {
        return;
    }
    let routes: Vec<StaticRoute<'_>> = set.iter().filter_map(|route| member(view, fact.of, *route)).collect();
    let Some(first) = routes.first() else { return };
    let ways: Option<Vec<&Way<'_>>> = routes.iter().map(|route| route.way.as_ref()).collect();
    let actions = match ways.as_deref() {
        None => Vec::new(),
        Some([only]) => [vec![Action::DecNwTtl], toward(view, first.net, only)].concat(),
        Some(ways) => {
            let buckets = ways.iter().map(|way| toward(view, first.net, way)).collect();
            [vec![Action::DecNwTtl], shared(view, fact.of, buckets, out)].concat()
        }
    };
    for matches in narrowed(view, first) {
        let matches = toward_prefix(matches, first);
        out.flow(Table::Route, priority(first.net, first.class), matches, actions.clone());
    }
}

/// A route of a set, of the router that has it so.
pub(super) fn member<'a>(view: &View<'a>, set: Uuid, route: Uuid) -> Option<StaticRoute<'a>> {
    let routers = view.uuids(By::RouterRoutes, &[Atom::Uuid(route)]);
    let mut routes = routers.into_iter().filter_map(|router| StaticRoute::read(view, router, route));
    routes.find(|route| route.set() == set)
}

/// Packets that the route may be about: those that come by ports of its table.
pub(super) fn narrowed(view: &View<'_>, route: &StaticRoute<'_>) -> Vec<Match> {
    let link_local = matches!(route.net, IpNet::V6(net) if net.addr().is_unicast_link_local());
    if let (true, Some(way)) = (link_local, &route.way) {
        return vec![way.port.from()];
    }
    match route.table() {
        None => vec![on_switch(route.router_key).with_bits(register::ROUTE_TABLE, 0u16)],
        Some(table) => {
            let ports = view.related(Relation::TablePorts, named(route.router, table), 0);
            ports.filter_map(|port| RouterPort::read(view, port)).map(|port| port.from()).collect()
        }
    }
}

/// Packets that have what the route's prefix is about, on the way out.
pub(super) fn toward_prefix(matches: Match, route: &StaticRoute<'_>) -> Match {
    match route.class {
        Class::Source => source(matches, route.net),
        _ => destination(matches, route.net),
    }
}

/// The same of packets that come in from behind the route.
pub(super) fn behind(matches: Match, route: &StaticRoute<'_>) -> Match {
    match route.class {
        Class::Source => destination(matches, route.net),
        _ => source(matches, route.net),
    }
}

/// To a next hop, or to the destination itself.
fn toward(view: &View<'_>, net: IpNet, way: &Way<'_>) -> Vec<Action> {
    let next_hop = match way.next_hop {
        Some(ip) => vec![Action::set_field(register::NEXT_HOP, register::next_hop(ip))],
        None => itself(net),
    };
    [next_hop, by(view, &way.port)].concat()
}

/// One of several ways, by a group of the switch.
pub(super) fn shared(view: &View<'_>, set: Uuid, buckets: Vec<Vec<Action>>, out: &mut Sink) -> Vec<Action> {
    out.fact(Relation::WantedGroups, Uuid::nil(), 0, set);
    let number = view.row::<HostGroup>(set).and_then(|row| u32::try_from(row.group).ok());
    match number {
        Some(number) => {
            out.group(number, GroupSpec { buckets });
            vec![Action::group(number)]
        }
        None => buckets.into_iter().next().unwrap_or_default(),
    }
}

/// Packets that a route of `net` by `port` may be about: a link-local network is only that of its port.
pub(super) fn scope(port: &RouterPort<'_>, net: IpNet) -> Match {
    match net {
        IpNet::V6(net) if net.addr().is_unicast_link_local() => port.from(),
        _ => on_switch(port.router_key),
    }
}

/// Packets for a network.
pub(super) fn destination(matches: Match, net: IpNet) -> Match {
    match net {
        IpNet::V4(net) => matches.ipv4().with_prefix(field::IPV4_DST, net.network(), net.prefix_len()),
        IpNet::V6(net) => matches.ipv6().with_prefix(field::IPV6_DST, net.network(), net.prefix_len()),
    }
}

/// Packets from a network.
fn source(matches: Match, net: IpNet) -> Match {
    match net {
        IpNet::V4(net) => matches.ipv4().with_prefix(field::IPV4_SRC, net.network(), net.prefix_len()),
        IpNet::V6(net) => matches.ipv6().with_prefix(field::IPV6_SRC, net.network(), net.prefix_len()),
    }
}

/// Priority of a route.
pub(super) fn priority(net: IpNet, class: Class) -> u16 {
    BASE + u16::from(net.prefix_len()) * PER_BIT + class as u16
}

/// The destination is the next hop.
pub(super) fn itself(net: IpNet) -> Vec<Action> {
    vec![match net {
        IpNet::V4(_) => Action::copy(field::IPV4_DST, register::NEXT_HOP_V4),
        IpNet::V6(_) => Action::copy(field::IPV6_DST, register::NEXT_HOP),
    }]
}

/// Leaves by the port, if no policy decides otherwise.
pub(super) fn by(view: &View<'_>, port: &RouterPort<'_>) -> Vec<Action> {
    vec![
        Action::set_field(field::ETH_SRC, port.mac.0),
        Action::load(register::OUT_PORT, port.key.into()),
        go(if view.holds(Relation::Policies, port.router) { Table::RoutePolicy } else { Table::NextHop }),
    ]
}

const BASE: u16 = 1548;
const PER_BIT: u16 = 12;
