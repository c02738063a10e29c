//! Static routes and policies that are usable here, by what they share.
//!
//! # Contract
//! - `static_routes`: owner one `Logical_Router_Static_Route`. Reads: its router, the ports of that, the session that guards it.
//!   States it in its set: routes of one prefix, table and class share the traffic.
//! - `policies`: owner one `Logical_Router_Policy`. States that its router has policies, and which chain it leads to.
//!
//! # Invariants
//! - A route whose next hop no port of its router reaches, and that names no port, is not usable; nor is one whose session is down.
//! - A link-local next hop without a port to leave by is reached by the port of least uuid.

use std::net::IpAddr;

use ipnet::IpNet;
use ovsdb::value::Atom;
use quantumnet_model::{
    Row,
    column::Weak,
    nb::{Bfd, LogicalRouterPolicy, LogicalRouterStaticRoute},
};
use uuid::Uuid;

use crate::compile::{
    index::By,
    logical::{self, RouterPort},
    owner::{Owner, Owners, Relation, named},
    sink::Sink,
    stage::{Stage, router::route::Class},
    view::View,
};

pub(in crate::compile) const STATIC: Stage = Stage {
    number: 63,
    name: "static_routes",
    owners: Owners::Rows(LogicalRouterStaticRoute::TABLE),
    tables: &[],
    relations: &[Relation::Routes],
    emit: routes,
};

pub(in crate::compile) const POLICIES: Stage = Stage {
    number: 64,
    name: "policies",
    owners: Owners::Rows(LogicalRouterPolicy::TABLE),
    tables: &[],
    relations: &[Relation::Policies, Relation::PolicyChains],
    emit: policies,
};

/// A usable static route.
#[derive(Clone)]
pub(in crate::compile) struct StaticRoute<'a> {
    pub(in crate::compile) uuid: Uuid,
    pub(in crate::compile) row: &'a LogicalRouterStaticRoute,
    pub(in crate::compile) router: Uuid,
    pub(in crate::compile) router_key: u32,
    pub(in crate::compile) net: IpNet,
    pub(in crate::compile) class: Class,
    /// `None`: it discards.
    pub(in crate::compile) way: Option<Way<'a>>,
}

/// Where a route leads.
#[derive(Clone)]
pub(in crate::compile) struct Way<'a> {
    pub(in crate::compile) port: RouterPort<'a>,
    /// `None`: the destination itself.
    pub(in crate::compile) next_hop: Option<IpAddr>,
}

impl<'a> StaticRoute<'a> {
    /// The route, as one of that router.
    pub(in crate::compile) fn read(view: &View<'a>, router: Uuid, uuid: Uuid) -> Option<Self> {
        let router_key = logical::router_key(view, router)?;
        let row: &LogicalRouterStaticRoute = view.row(uuid)?;
        let net: IpNet =
            row.ip_prefix.parse().ok().or_else(|| Some(row.ip_prefix.parse::<IpAddr>().ok()?.into()))?;
        if is_down(view, row.bfd) {
            return None;
        }
        let way = if &*row.nexthop == "discard" { None } else { Some(way(view, router, row)?) };
        Some(Self { uuid, row, router, router_key, net: net.trunc(), class: class(row), way })
    }

    /// What it shares with those that are as good.
    pub(in crate::compile) fn set(&self) -> Uuid {
        let Self { net, class, .. } = self;
        named(self.router, &format!("{net} {} {}", *class as u16, self.table().unwrap_or("")))
    }

    /// The route table that it is in, if not the main one.
    pub(in crate::compile) fn table(&self) -> Option<&'a str> {
        Some(&*self.row.route_table).filter(|table| !matches!(*table, "" | "<main>"))
    }
}

fn class(row: &LogicalRouterStaticRoute) -> Class {
    let connected = row.options.get("origin").is_some_and(|origin| &**origin == "connected");
    if row.policy.as_deref() == Some("src-ip") {
        Class::Source
    } else if row.external_ids.contains_key("ic-learned-route") && connected {
        if row.route_table.is_empty() { Class::Connected } else { Class::LearnedInTable }
    } else if row.options.get("override-connected").is_some_and(|value| &**value == "true") {
        Class::Override
    } else {
        Class::Static
    }
}

fn way<'a>(view: &View<'a>, router: Uuid, row: &LogicalRouterStaticRoute) -> Option<Way<'a>> {
    let next_hop: Option<IpAddr> = match &*row.nexthop {
        "" => None,
        text => Some(text.parse().ok()?),
    };
    let port = match (&row.output_port, next_hop) {
        (Some(name), _) => {
            let port = *view.uuids(By::LogicalPort, &[Atom::String(name.clone())]).first()?;
            RouterPort::read(view, port).filter(|port| port.router == router)?
        }
        (None, Some(ip)) => port_toward(view, router, ip)?,
        (None, None) => return None,
    };
    Some(Way { port, next_hop })
}

/// The port of a router that has a network with that address: the narrowest.
pub(in crate::compile) fn port_toward<'a>(
    view: &View<'a>,
    router: Uuid,
    ip: IpAddr,
) -> Option<RouterPort<'a>> {
    let family = if ip.is_ipv4() { 4 } else { 6 };
    let lengths = view.related(Relation::NetworkLengths, router, family);
    let mut lengths: Vec<u8> = lengths.filter_map(|length| u8::try_from(length.as_u128()).ok()).collect();
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    let port = lengths.into_iter().find_map(|length| {
        let net = IpNet::new(ip, length).ok()?.trunc();
        view.related_one(Relation::Networks, named(router, &net.to_string()))
    })?;
    RouterPort::read(view, port)
}

/// Whether the session that guards something says that its peer is gone.
pub(in crate::compile) fn is_down(view: &View<'_>, session: Option<Weak<Bfd>>) -> bool {
    let row = session.and_then(|session| view.row::<Bfd>(session.uuid()));
    row.is_some_and(|row| matches!(row.status.as_deref(), Some("down" | "admin_down")))
}

fn routes(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let route = owner.row();
    for router in view.uuids(By::RouterRoutes, &[Atom::Uuid(route)]) {
        if !view.holds(Relation::LocalRouters, router) {
            continue;
        }
        if let Some(route) = StaticRoute::read(view, router, route) {
            out.fact(Relation::Routes, route.set(), 0, route.uuid);
        }
    }
}

fn policies(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(row) = view.row::<LogicalRouterPolicy>(owner.row()) else { return };
    for router in view.uuids(By::RouterPolicies, &[Atom::Uuid(owner.row())]) {
        if view.holds(Relation::LocalRouters, router) {
            out.fact(Relation::Policies, router, 0, Uuid::nil());
            for chain in row.chain.iter().chain(&row.jump_chain).filter(|chain| !chain.is_empty()) {
                out.fact(Relation::PolicyChains, router, 0, named(router, chain));
            }
        }
    }
}
