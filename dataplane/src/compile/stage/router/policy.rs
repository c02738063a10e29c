//! Policies: rules that may overrule the route of a packet.
//!
//! # Contract
//! - `policy`: owner one `Logical_Router_Policy`. Reads: its router, the names of its match, the sessions that guard its next
//!   hops, its numbers. In: a routed packet. Out: on to NextHop, with another next hop or as it is; dropped; or asked again in
//!   another chain.
//! - `policy_default`: owner one router with policies: what none matches keeps its route.
//!
//! # Invariants
//! - A match that does not parse, or that the switch can't express, has no flows: the controller has told so.
//! - A policy whose next hops are all down, or reached by no port, is as if it were not there.
//! - Chains are numbered by the order of their names' uuids, from 1: what changes them changes the flows of all.

use std::net::IpAddr;

use ofpacket::{Action, Match, field};
use ovsdb::value::Atom;
use quantumnet_model::{
    Row,
    nb::{Bfd, LogicalRouterPolicy},
};
use uuid::Uuid;

use crate::compile::{
    derive::routes::{is_down, port_toward},
    index::By,
    logical::{self, RouterPort, go, on_switch},
    owner::{Owner, Owners, Relation, named},
    register,
    sink::Sink,
    stage::{
        Stage,
        router::{
            expression::{self, Rule},
            route::shared,
        },
    },
    table::Table,
    view::View,
};

pub(in crate::compile) const STAGE: Stage = Stage {
    number: 66,
    name: "policy",
    owners: Owners::Rows(LogicalRouterPolicy::TABLE),
    tables: &[Table::RoutePolicy],
    relations: &[Relation::WantedGroups, Relation::Numbered],
    emit,
};

pub(in crate::compile) const DEFAULT: Stage = Stage {
    number: 67,
    name: "policy_default",
    owners: Owners::Facts(Relation::Policies),
    tables: &[Table::RoutePolicy],
    relations: &[],
    emit: default,
};

fn default(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(key) = owner.fact().and_then(|fact| logical::router_key(view, fact.of)) else { return };
    out.flow(Table::RoutePolicy, 0, on_switch(key), [go(Table::NextHop)]);
}

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let uuid = owner.row();
    let Some(row) = view.row::<LogicalRouterPolicy>(uuid) else { return };
    let Some(clauses) = expression::clauses(&row.r#match) else { return };
    let Some(priority) = u16::try_from(row.priority).ok().map(|priority| priority.saturating_add(1)) else {
        return;
    };
    for router in view.uuids(By::RouterPolicies, &[Atom::Uuid(uuid)]) {
        if !view.holds(Relation::LocalRouters, router) {
            continue;
        }
        let Some(key) = logical::router_key(view, router) else { continue };
        let Some(actions) = actions(view, router, uuid, row, out) else { continue };
        let chains = view.holds(Relation::PolicyChains, router);
        let chain = chain(view, router, row.chain.as_deref());
        let of_chain = |matches: Match| match chain {
            Some(chain) if chains => matches.with_bits(register::POLICY_CHAIN, chain),
            _ => matches,
        };
        let rule = Rule { router, key, of: uuid, table: Table::RoutePolicy, priority };
        rule.put(view, out, &clauses, &of_chain, &actions);
    }
}

/// Number of a chain; that without a name is 0.
fn chain(view: &View<'_>, router: Uuid, name: Option<&str>) -> Option<u16> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Some(0) };
    let name = named(router, name);
    let place = view.related(Relation::PolicyChains, router, 0).position(|chain| chain == name)?;
    u16::try_from(place + 1).ok()
}

/// What is done to a packet that the policy is about; `None` if the policy is as good as none.
fn actions(
    view: &View<'_>,
    router: Uuid,
    uuid: Uuid,
    row: &LogicalRouterPolicy,
    out: &mut Sink,
) -> Option<Vec<Action>> {
    let mark = row.options.get("pkt_mark").and_then(|mark| mark.trim().parse::<u32>().ok());
    let mark = mark.filter(|mark| *mark > 0).map(|mark| Action::load(field::PKT_MARK, mark.into()));
    let marked = |actions: Vec<Action>| mark.clone().into_iter().chain(actions).collect::<Vec<_>>();
    match &*row.action {
        "allow" => Some(marked(vec![go(Table::NextHop)])),
        "jump" => {
            let chain = chain(view, router, row.jump_chain.as_deref())?;
            let again = [Action::load(register::POLICY_CHAIN, chain.into()), go(Table::RoutePolicy)];
            Some(marked(again.to_vec()))
        }
        "reroute" => {
            let ways = ways(view, router, row);
            let buckets: Vec<Vec<Action>> = ways.iter().map(|(port, ip)| reroute(port, *ip)).collect();
            match buckets.as_slice() {
                [] => None,
                [only] => Some(marked(only.clone())),
                _ => Some(marked(shared(view, named(router, &uuid.to_string()), buckets, out))),
            }
        }
        // What is not known does not pass.
        _ => Some(Vec::new()),
    }
}

/// Next hops that can be used, with the ports that lead to them: none of several where they are of both families, or where the
/// port is said.
fn ways<'a>(view: &View<'a>, router: Uuid, row: &LogicalRouterPolicy) -> Vec<(RouterPort<'a>, IpAddr)> {
    let texts = row.nexthops.iter();
    let texts = texts.chain(row.nexthop.iter().filter(|_| row.nexthops.is_empty()));
    let ips: Vec<IpAddr> = texts.filter_map(|text| text.parse().ok()).collect();
    let output = row.output_port;
    if output.is_some() && ips.len() > 1 {
        return Vec::new();
    }
    let guarded = |ip: IpAddr, port: &RouterPort<'_>| {
        row.bfd_sessions.iter().any(|session| {
            let guards = view.row::<Bfd>(session.uuid()).is_some_and(|bfd| {
                bfd.dst_ip.parse() == Ok(ip) && bfd.logical_port == port.binding.logical_port
            });
            guards && is_down(view, Some(*session))
        })
    };
    let way = |ip: IpAddr| {
        let port = match output {
            Some(port) => RouterPort::read(view, port.uuid()).filter(|port| port.router == router)?,
            None => port_toward(view, router, ip)?,
        };
        (!guarded(ip, &port)).then_some((port, ip))
    };
    let ways: Vec<_> = ips.into_iter().filter_map(way).collect();
    let first = ways.first().map(|(_, ip)| ip.is_ipv4());
    if ways.iter().any(|(_, ip)| Some(ip.is_ipv4()) != first) { Vec::new() } else { ways }
}

fn reroute(port: &RouterPort<'_>, ip: IpAddr) -> Vec<Action> {
    vec![
        Action::set_field(register::NEXT_HOP, register::next_hop(ip)),
        Action::set_field(field::ETH_SRC, port.mac.0),
        Action::load(register::OUT_PORT, port.key.into()),
        go(Table::NextHop),
    ]
}
