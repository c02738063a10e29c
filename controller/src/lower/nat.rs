//! `NAT`: what of it can't be used is told, and what others have to know of it is kept.
//!
//! # Contract
//! - Reads `NAT`, its router and the router's gateways; writes problems and `Lookup` rows. A row with a problem has no
//!   effect until it is mended.
//! - [`check`] is the one rule of what can be used; agents apply the same to the rows they hold.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use quantumnet_model::{
    ColumnId, Row, Uuid,
    address::Mac,
    column::Text,
    nb::{LogicalRouter, LogicalRouterPort, Nat},
    tables,
};

use crate::{
    lower::{Dirty, gateway, lookup, matches, problem, router},
    store::{State, Txn},
};

/// Whether the router has a translation that each chassis does for its own ports.
pub(super) fn is_distributed_in(state: &State, router: Uuid) -> bool {
    lookup::finds(state, lookup::DISTRIBUTED_NAT, &router.to_string())
}

/// Whether a chassis does it for its own ports.
pub(super) fn is_distributed(nat: &Nat) -> bool {
    &*nat.r#type == "dnat_and_snat" && nat.external_mac.is_some() && nat.logical_port.is_some()
}

/// The router that lists the translation.
pub(super) fn router_of(state: &State, nat: Uuid) -> Option<Uuid> {
    state.referrers_through::<Nat, LogicalRouter>(nat, "nat").next()
}

/// Marks what follows from translations that changed, or changed their router.
pub(super) fn mark(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    let column = tables::decl(LogicalRouter::TABLE).column("nat").unwrap_or(ColumnId(0));
    let mut routers: BTreeSet<Uuid> = BTreeSet::new();
    for touched in txn.touched_in::<LogicalRouter>() {
        let before = dirty.nats.len();
        let mut moved = Vec::new();
        match (&touched.old, &touched.new) {
            (Some(old), Some(new)) => {
                old.reference_changes(new.as_ref(), column, &mut |nat, _| moved.push(nat))
            }
            (Some(row), None) | (None, Some(row)) => row.each_reference(column, &mut |nat| moved.push(nat)),
            (None, None) => {}
        }
        dirty.nats.extend(moved);
        if dirty.nats.len() != before {
            routers.insert(touched.uuid);
        }
        let chassis = |row: Option<&LogicalRouter>| row.and_then(router::chassis).cloned();
        if chassis(touched.before()) != chassis(touched.after()) {
            let nats = touched.after::<LogicalRouter>().into_iter().flat_map(|router| router.nat.iter());
            dirty.nats.extend(nats.map(|nat| nat.uuid()));
        }
    }
    dirty.nats.extend(txn.touched_in::<Nat>().iter().map(|touched| touched.uuid));
    for nat in dirty.nats.clone() {
        let router = router_of(txn.state(), nat);
        routers.extend(router);
        let is_distributed = txn.get::<Nat>(nat).is_some_and(is_distributed);
        let key = router.filter(|_| is_distributed).map(|router| Text::from(router.to_string()));
        lookup::set(txn, lookup::DISTRIBUTED_NAT, nat, key.as_slice());
    }
    for router in routers {
        dirty.announcing.insert(router);
        // Whether all their traffic is redirected follows from it.
        dirty.router_ports.extend(gateway::ports(txn.state(), router).into_iter().map(|(_, port)| port));
    }
    // Of several gateways the one whose network has the outer address is meant.
    for touched in txn.touched_in::<LogicalRouterPort>() {
        let networks = |row: Option<&LogicalRouterPort>| {
            row.filter(|row| gateway::is_wanted(row)).map(|row| row.networks.clone())
        };
        if networks(touched.before()) != networks(touched.after())
            && let Some(router) = router::of(txn.state(), touched.uuid)
        {
            let nats = txn.get::<LogicalRouter>(router).into_iter().flat_map(|router| router.nat.iter());
            dirty.nats.extend(nats.map(|nat| nat.uuid()));
        }
    }
}

/// Tells what can't be used, once the gateways are known.
pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    dirty.claiming_nats.extend(dirty.nats.iter().copied());
    for uuid in std::mem::take(&mut dirty.nats) {
        dirty.work.rows += 1;
        let found = txn.get::<Nat>(uuid).zip(router_of(txn.state(), uuid));
        let problems = found.and_then(|(nat, router)| check(txn.state(), router, nat).err());
        problem::set::<Nat>(txn, uuid, problems.into_iter().collect());
    }
}

/// Why a translation has no effect (ovn-semantics, section 8): the column and the reason.
fn check(state: &State, router: Uuid, nat: &Nat) -> Result<(), (&'static str, String)> {
    let wrong =
        |column: &'static str, reason: String| Err((column, format!("{reason}; the rule has no effect")));
    let Ok(external) = nat.external_ip.parse::<IpAddr>() else {
        return wrong("external_ip", format!("external_ip is {:?}, expected an IP address", nat.external_ip));
    };
    let inner =
        nat.logical_ip.parse::<IpAddr>().map(IpNet::from).or_else(|_| nat.logical_ip.parse::<IpNet>());
    let Ok(inner) = inner else {
        return wrong("logical_ip", format!("logical_ip is {:?}, expected an IP address", nat.logical_ip));
    };
    if inner.addr().is_ipv4() != external.is_ipv4() {
        let message = format!("logical_ip {inner} and external_ip {external} are of different families");
        return wrong("logical_ip", message);
    }
    if &*nat.r#type != "snat" && inner.prefix_len() != inner.max_prefix_len() {
        return wrong("logical_ip", format!("{inner} is a network, which only snat may have"));
    }
    if nat.allowed_ext_ips.is_some() && nat.exempted_ext_ips.is_some() {
        return wrong("allowed_ext_ips", "allowed_ext_ips and exempted_ext_ips are both set".to_owned());
    }
    if let Some(mac) = nat.external_mac.as_ref().filter(|mac| mac.parse::<Mac>().is_err()) {
        return wrong("external_mac", format!("external_mac is {mac:?}, expected a MAC address"));
    }
    if &*nat.r#type == "dnat_and_snat" && nat.external_mac.is_some() != nat.logical_port.is_some() {
        let column = if nat.external_mac.is_some() { "logical_port" } else { "external_mac" };
        let message = "external_mac and logical_port go together; without one the other has no effect";
        return Err((column, message.to_owned()));
    }
    if !nat.external_port_range.is_empty() && !is_port_range(&nat.external_port_range) {
        let range = &nat.external_port_range;
        return wrong("external_port_range", format!("{range:?} is no range of ports such as 1024-65535"));
    }
    if !nat.r#match.is_empty()
        && let Err(reason) = matches::check(&nat.r#match)
    {
        return wrong("match", reason);
    }
    if state.get::<LogicalRouter>(router).is_some_and(|row| router::chassis(row).is_some()) {
        return Ok(());
    }
    let gateways = gateway::ports(state, router);
    if let Some(port) = nat.gateway_port {
        if gateways.iter().all(|(_, gateway)| *gateway != port.uuid()) {
            return wrong("gateway_port", "the port is no gateway port of the router".to_owned());
        }
        return Ok(());
    }
    let has_address = |port: &Uuid| {
        let networks =
            state.get::<LogicalRouterPort>(*port).into_iter().flat_map(|port| port.networks.iter());
        networks
            .filter_map(|network| network.parse::<IpNet>().ok())
            .any(|network| network.contains(&external))
    };
    match gateways.as_slice() {
        [] => wrong("_uuid", "the router has no gateway: neither options:chassis nor a port with gateway_chassis or ha_chassis_group".to_owned()),
        [_] => Ok(()),
        several if several.iter().any(|(_, port)| has_address(port)) => Ok(()),
        _ => wrong("gateway_port", format!("the router has several gateway ports and none has the network of {external}; name one")),
    }
}

/// `1024-65535`, or a single port.
fn is_port_range(text: &str) -> bool {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    port(first).zip(port(last)).is_some_and(|(first, last)| first <= last)
}
