//! Which rules a router here has, what they are about, and what the router needs for them.
//!
//! # Contract
//! - `nat_gateway`: owner one `Port_Binding`. States the gateway port that a `chassisredirect` port belongs to.
//! - `nat_router`: owner one `Logical_Router`. States whether it is one chassis' and what it forces sources to be.
//! - `nat_scope`: owner one `NAT`. States it for each router here that refers to it and for which it is usable.
//! - `nat_needs`: owner one such pair. States the outer address, and where the rule works here that the router translates.
//! - `nat_looks`: owner one `Logical_Switch`. States whether rules there look at the addresses of what comes from a router.

use std::net::IpAddr;

use ovsdb::value::Atom;
use quantumnet_model::{
    Row,
    nb::{LogicalRouter, LogicalSwitch, Nat},
    sb::PortBinding,
};
use uuid::Uuid;

use super::rule::Rule;
use crate::compile::{
    index::By,
    owner::{Owner, Owners, Relation, number, pair},
    sink::Sink,
    stage::Stage,
    view::View,
};

pub(in crate::compile) const GATEWAY: Stage = Stage {
    number: 160,
    name: "nat_gateway",
    owners: Owners::Rows(PortBinding::TABLE),
    tables: &[],
    relations: &[Relation::GatewayPorts],
    emit: gateway,
};

pub(in crate::compile) const ROUTER: Stage = Stage {
    number: 161,
    name: "nat_router",
    owners: Owners::Rows(LogicalRouter::TABLE),
    tables: &[],
    relations: &[Relation::GatewayRouters, Relation::ForcedSources],
    emit: router,
};

pub(in crate::compile) const SCOPE: Stage = Stage {
    number: 162,
    name: "nat_scope",
    owners: Owners::Rows(Nat::TABLE),
    tables: &[],
    relations: &[Relation::Translations],
    emit: scope,
};

pub(in crate::compile) const NEEDS: Stage = Stage {
    number: 163,
    name: "nat_needs",
    owners: Owners::Facts(Relation::Translations),
    tables: &[],
    relations: &[
        Relation::ExternalAddresses,
        Relation::AddressRules,
        Relation::OverlappingSources,
        Relation::Translates,
        Relation::ZonedRouters,
    ],
    emit: needs,
};

pub(in crate::compile) const LOOKS: Stage = Stage {
    number: 164,
    name: "nat_looks",
    owners: Owners::Rows(LogicalSwitch::TABLE),
    tables: &[],
    relations: &[Relation::LooksAtSources],
    emit: looks,
};

fn gateway(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(redirect) = view.row::<PortBinding>(owner.row()) else { return };
    if &*redirect.r#type != "chassisredirect" {
        return;
    }
    let Some(name) = redirect.options.get("distributed-port") else { return };
    for port in view.uuids(By::LogicalPort, &[Atom::String(name.clone())]) {
        out.fact(Relation::GatewayPorts, redirect.datapath.uuid(), 0, port);
    }
}

fn router(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let router = owner.row();
    let Some(row) = view.row::<LogicalRouter>(router) else { return };
    if row.options.get("chassis").is_none_or(|chassis| chassis.is_empty()) {
        return;
    }
    out.fact(Relation::GatewayRouters, router, 0, Uuid::nil());
    for address in forced(row, "dnat_force_snat_ip") {
        out.fact(Relation::ForcedSources, router, 0, number(address));
    }
}

/// At most one address of each family; one that does not parse makes all of them void.
fn forced(row: &LogicalRouter, option: &str) -> Vec<IpAddr> {
    let Some(text) = row.options.get(option) else { return Vec::new() };
    let parsed: Result<Vec<IpAddr>, _> = text.split_whitespace().map(str::parse).collect();
    let addresses = parsed.unwrap_or_default();
    let first = |v6: bool| addresses.iter().copied().find(move |ip| ip.is_ipv6() == v6);
    [false, true].into_iter().filter_map(first).collect()
}

fn scope(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let nat = owner.row();
    for router in view.uuids(By::RouterNat, &[Atom::Uuid(nat)]) {
        if view.holds(Relation::LocalRouters, router) && Rule::read(view, router, nat).is_some() {
            out.fact(Relation::Translations, router, 0, nat);
        }
    }
}

fn needs(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(fact) = owner.fact() else { return };
    let Some(rule) = Rule::read(view, fact.of, fact.value) else { return };
    let (scope, external) = (rule.scope().0, number(rule.external));
    out.fact(Relation::ExternalAddresses, scope, 0, external);
    out.fact(Relation::AddressRules, pair(scope, external), 0, rule.uuid);
    if rule.has_destination() {
        out.fact(Relation::AddressRules, pair(scope, number(rule.logical.addr())), 1, rule.uuid);
    }
    if rule.has_source() && (rule.may_overrule() || rule.takes_any_port()) {
        out.fact(Relation::OverlappingSources, scope, 0, rule.uuid);
    }
    if rule.serves_inbound(view) {
        out.fact(Relation::Translates, rule.router, 0, Uuid::nil());
        out.fact(Relation::ZonedRouters, Uuid::nil(), 0, rule.router);
    }
}

fn looks(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(switch) = view.row::<LogicalSwitch>(owner.row()) else { return };
    let looks = !switch.qos_rules.is_empty()
        || !switch.load_balancer.is_empty()
        || !switch.load_balancer_group.is_empty();
    if looks {
        out.fact(Relation::LooksAtSources, owner.row(), 0, Uuid::nil());
    }
}
