//! The route of a packet: the longest prefix gives next hop and port.
//!
//! # Contract
//! - `connected`: owner one router port that is here; reads it. Out: what is for one of its networks has its own destination as next
//!   hop, and leaves by it.
//! - `static_route`: owner one static route in its set. Reads: the set, its group's number. Out, of the first of the set: what is
//!   for the prefix, or from it, to the next hop; of several that are equal to one of them by a group of the switch, which
//!   chooses by a hash of addresses and ports. Where they name fields to choose by, the fields that all of them name are
//!   hashed instead, which OpenFlow 1.3 has no words for in a group, and a second look at this table finds the chosen one.
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

use std::collections::BTreeSet;

use ipnet::IpNet;
use ofpacket::{Action, HashFields, Match, Multipath, MultipathAlgorithm, field};
use ovsdb::value::Atom;
use quantumnet_model::{host::HostGroup, selection::Selection};
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
            let buckets: Vec<Vec<Action>> = ways.iter().map(|way| toward(view, first.net, way)).collect();
            if let Some(fields) = hashed(&routes) {
                return choose(view, first, fields, &buckets, out);
            }
            [vec![Action::DecNwTtl], shared(view, fact.of, buckets, out)].concat()
        }
    };
    for matches in narrowed(view, first) {
        let matches = toward_prefix(matches, first);
        out.flow(Table::Route, priority(first.net, first.class), matches, actions.clone());
    }
}

/// The fields that equal routes are to be chosen by, if those that all of them name are not what a group looks at.
fn hashed(routes: &[StaticRoute<'_>]) -> Option<HashFields> {
    let fields =
        |route: &StaticRoute<'_>| -> BTreeSet<_> { route.row.selection_fields.iter().cloned().collect() };
    let (first, others) = routes.split_first()?;
    let all = others.iter().fold(fields(first), |all, route| &all & &fields(route));
    match Selection::of(all.iter().map(|field| &**field), matches!(first.net, IpNet::V4(_)))? {
        Selection::Connection => None,
        Selection::EthSrc => Some(HashFields::ETH_SRC),
        Selection::Source => Some(HashFields::NW_SRC),
        Selection::Destination => Some(HashFields::NW_DST),
        Selection::Addresses => Some(HashFields::SYMMETRIC_L3),
    }
}

/// One of several ways by a hash of those fields.
fn choose(
    view: &View<'_>,
    route: &StaticRoute<'_>,
    fields: HashFields,
    ways: &[Vec<Action>],
    out: &mut Sink,
) {
    let Some(max_link) = ways.len().checked_sub(1).and_then(|last| u16::try_from(last).ok()) else { return };
    let hash = Multipath {
        fields,
        basis: 0,
        algorithm: MultipathAlgorithm::HRW,
        max_link,
        argument: 0,
        target: register::CHOSEN_PLACE,
    };
    let ask = [
        Action::load(register::CHOSEN_WAY, register::WAY_IS_CHOSEN.into()),
        Action::Multipath(hash),
        go(Table::Route),
    ];
    let priority = priority(route.net, route.class);
    for matches in narrowed(view, route) {
        let of = |chosen: u16| toward_prefix(matches.clone(), route).with_bits(register::CHOSEN_WAY, chosen);
        out.flow(Table::Route, priority, of(0), ask.clone());
        for (place, way) in (0..=max_link).zip(ways) {
            let chosen = Action::load(register::CHOSEN_WAY, 0);
            let actions = [vec![chosen, Action::DecNwTtl], way.clone()].concat();
            out.flow(Table::Route, priority, of(register::WAY_IS_CHOSEN | place), actions);
        }
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

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use quantumnet_model::{column::Text, nb::LogicalRouterStaticRoute};

    use super::*;
    use crate::compile::stage::router::translate::testing::World;

    fn route(prefix: &str, nexthop: &str, fields: &[&str]) -> LogicalRouterStaticRoute {
        LogicalRouterStaticRoute {
            ip_prefix: prefix.into(),
            nexthop: nexthop.into(),
            selection_fields: fields.iter().map(|field| Text::from(*field)).collect(),
            ..LogicalRouterStaticRoute::default()
        }
    }

    fn check(routes: Vec<LogicalRouterStaticRoute>, expect: expect_test::Expect) {
        World { pinned: true, routes, ..World::default() }.check(&[&STATIC], expect);
    }

    #[test]
    fn equal_routes_are_chosen_by_the_fields_that_all_name() {
        check(
            vec![
                route("0.0.0.0/0", "172.16.0.100", &["ip_src", "ip_dst", "ipv6_dst"]),
                route("0.0.0.0/0", "172.16.0.101", &["ip_src", "eth_src"]),
                route("2001:db8::/32", "fd16::100", &["ipv6_src", "ipv6_dst"]),
                route("2001:db8::/32", "fd16::101", &["ipv6_src", "ipv6_dst"]),
            ],
            expect![[r#"
                Route 1552 ip,reg8=0/0xffff0000,reg11=0/0xffff => load:0x8000->NXM_NX_REG11[0..15],multipath(nw_src,0,hrw,2,0,NXM_NX_REG11[0..14]),resubmit(,23)
                Route 1552 ip,reg8=0/0xffff0000,reg11=0x8000/0xffff => load:0->NXM_NX_REG11[0..15],dec_ttl,set_field:0xac100064->xxreg1,set_field:0a:ff:00:00:00:02->eth_src,load:0x2->NXM_NX_REG15[],resubmit(,25)
                Route 1552 ip,reg8=0/0xffff0000,reg11=0x8001/0xffff => load:0->NXM_NX_REG11[0..15],dec_ttl,set_field:0xac100065->xxreg1,set_field:0a:ff:00:00:00:02->eth_src,load:0x2->NXM_NX_REG15[],resubmit(,25)
                Route 1936 ipv6,reg8=0/0xffff0000,reg11=0/0xffff,ipv6_dst=2001:db8::/32 => load:0x8000->NXM_NX_REG11[0..15],multipath(symmetric_l3,0,hrw,2,0,NXM_NX_REG11[0..14]),resubmit(,23)
                Route 1936 ipv6,reg8=0/0xffff0000,reg11=0x8000/0xffff,ipv6_dst=2001:db8::/32 => load:0->NXM_NX_REG11[0..15],dec_ttl,set_field:0xfd160000000000000000000000000100->xxreg1,set_field:0a:ff:00:00:00:02->eth_src,load:0x2->NXM_NX_REG15[],resubmit(,25)
                Route 1936 ipv6,reg8=0/0xffff0000,reg11=0x8001/0xffff,ipv6_dst=2001:db8::/32 => load:0->NXM_NX_REG11[0..15],dec_ttl,set_field:0xfd160000000000000000000000000101->xxreg1,set_field:0a:ff:00:00:00:02->eth_src,load:0x2->NXM_NX_REG15[],resubmit(,25)
            "#]],
        );
    }

    #[test]
    fn fields_without_a_hash_leave_the_choice_to_the_group() {
        let routes = |fields: &[&str]| {
            ["172.16.0.100", "172.16.0.101"].map(|hop| route("0.0.0.0/0", hop, fields)).to_vec()
        };
        // Which has no number yet: the first takes all.
        let first = || {
            expect![[r#"
                Route 1552 ip,reg8=0/0xffff0000 => dec_ttl,set_field:0xac100064->xxreg1,set_field:0a:ff:00:00:00:02->eth_src,load:0x2->NXM_NX_REG15[],resubmit(,25)
            "#]]
        };
        check(routes(&["eth_dst"]), first());
        // A route alone is not chosen.
        check(routes(&["ip_src"])[..1].to_vec(), first());
    }
}
