//! `Logical_Router_Port` -> `Port_Binding` (ovn-semantics, section 25).
//!
//! # Contract
//! - Reads `Logical_Router_Port`, the router that refers to it and what is at its other end; writes every column of
//!   `Port_Binding` but those of the binding.
//! - A port has no binding, and a problem, while its MAC cannot be read or a switch port has its name.

use std::collections::BTreeSet;

use imbl::{OrdMap, OrdSet};
use ipnet::IpNet;
use quantumnet_model::{
    Strong, Uuid,
    address::Mac,
    column::Text,
    nb::{LogicalRouter, LogicalRouterPort, LogicalSwitch, LogicalSwitchPort},
    sb::{DatapathBinding, PortBinding},
};

use crate::{
    lower::{
        Dirty, gateway, keys, lookup, matches, nat, neighbour,
        problem::{self, Problems},
        router, switch,
    },
    store::{State, Txn},
};

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    mark(txn, dirty);
    gateway::mark(txn, dirty);
    nat::mark(txn, dirty);
    let mut staying = Vec::new();
    dirty.claiming_ports.extend(dirty.router_ports.iter().copied());
    for uuid in std::mem::take(&mut dirty.router_ports) {
        dirty.work.rows += 1;
        match router::of(txn.state(), uuid).filter(|router| txn.get::<DatapathBinding>(*router).is_some()) {
            Some(router) => staying.push((uuid, router)),
            None => {
                remove(txn, uuid, dirty);
                problem::set::<LogicalRouterPort>(txn, uuid, Vec::new());
            }
        }
    }
    for (uuid, router) in staying {
        let mut problems = Problems::new();
        if one(txn, uuid, router, &mut problems, dirty).is_none() {
            remove(txn, uuid, dirty);
        }
        problem::set::<LogicalRouterPort>(txn, uuid, problems);
    }
    neighbour::lower(txn, dirty);
    router::sweep(txn);
}

/// Marks the ports that were touched and those at whose other end something was.
fn mark(txn: &Txn<'_>, dirty: &mut Dirty) {
    let mut names: BTreeSet<Text> = BTreeSet::new();
    for touched in txn.touched_in::<LogicalRouterPort>() {
        dirty.router_ports.insert(touched.uuid);
        for row in [touched.before::<LogicalRouterPort>(), touched.after()].into_iter().flatten() {
            names.extend(row.peer.clone());
        }
    }
    for touched in txn.touched_in::<LogicalSwitchPort>() {
        for row in [touched.before::<LogicalSwitchPort>(), touched.after()].into_iter().flatten() {
            names.extend(row.options.get("router-port").cloned());
            // A router port of this name has to do without it.
            names.insert(row.name.clone());
        }
    }
    let named = |name: &Text| txn.find::<LogicalRouterPort>(&[("name", (&**name).into())]);
    dirty.router_ports.extend(names.iter().filter_map(named));
}

fn remove(txn: &mut Txn<'_>, uuid: Uuid, dirty: &mut Dirty) {
    gateway::remove(txn, uuid, dirty);
    if let Some(binding) = txn.get::<PortBinding>(uuid).cloned() {
        give_back(txn, &binding);
        txn.delete::<PortBinding>(uuid);
    }
}

fn give_back(txn: &mut Txn<'_>, binding: &PortBinding) {
    if let Ok(key) = u128::try_from(binding.tunnel_key) {
        keys::release(txn, &keys::ports_of(binding.datapath.uuid()), key);
    }
}

/// Says which options of a gateway are not understood; what counts in their place is what counts without them.
fn gateway_options(port: &LogicalRouterPort, problems: &mut Problems) {
    let option = |name: &str| port.options.get(name).map(|text| &**text);
    if let Some(Err(reason)) = option("gateway_mtu_bypass").map(matches::check) {
        problems.push(("options", format!("gateway_mtu_bypass: {reason}; it is not used")));
    }
    if let Some(mtu) = option("gateway_mtu").filter(|mtu| mtu.trim().parse::<u16>().is_err()) {
        problems.push(("options", format!("gateway_mtu is {mtu:?}, expected 0 to 65535; it is not used")));
    }
    if let Some(kind) = option("redirect-type").filter(|kind| !matches!(*kind, "overlay" | "bridged")) {
        let message = format!("redirect-type is {kind:?}, expected overlay or bridged; overlay is used");
        problems.push(("options", message));
    }
}

/// Writes the binding of a port; `None` when it is to have none.
fn one(
    txn: &mut Txn<'_>,
    uuid: Uuid,
    datapath: Uuid,
    problems: &mut Problems,
    dirty: &mut Dirty,
) -> Option<()> {
    let port = txn.get::<LogicalRouterPort>(uuid)?.clone();
    let router = txn.get::<LogicalRouter>(datapath)?.clone();
    if txn.referrers_through::<LogicalRouterPort, LogicalRouter>(uuid, "ports").nth(1).is_some() {
        problems.push(("_uuid", "more than one router lists the port; only one of them has it".to_owned()));
    }
    if let Err(error) = port.mac.parse::<Mac>() {
        problems.push(("mac", format!("{error}; the port has no effect")));
        return None;
    }
    for network in port.networks.iter().filter(|network| network.parse::<IpNet>().is_err()) {
        let message =
            format!("{network:?} has no effect: expected an address and prefix length such as 10.0.0.1/24");
        problems.push(("networks", message));
    }
    gateway_options(&port, problems);
    if txn.find::<LogicalSwitchPort>(&[("name", (&*port.name).into())]).is_some() {
        problems.push(("name", format!("a switch port is named {} too; the port has no effect", port.name)));
        return None;
    }
    if txn.get::<LogicalSwitchPort>(uuid).is_some() {
        problems.push(("_uuid", "a switch port has the same uuid; the port has no effect".to_owned()));
        return None;
    }
    let mut present = txn.get::<PortBinding>(uuid).cloned();
    if let Some(binding) = present.take_if(|binding| binding.datapath.uuid() != datapath) {
        give_back(txn, &binding);
    }
    let pool = keys::ports_of(datapath);
    let wish = port.options.get("requested-tnl-key");
    let before = present.as_ref().map(|binding| binding.tunnel_key);
    let tunnel_key = match switch::pick(txn, &pool, keys::PORT_KEYS, wish, "options", before, problems) {
        Ok(key) => key,
        Err(error) => {
            let message = format!("no port key is left out of {} in the router: {error}", keys::PORT_KEYS.1);
            problems.push(("_uuid", message));
            return None;
        }
    };
    let chassis = router::chassis(&router);
    let mut options = OrdMap::new();
    let peer = peer(txn.state(), &port);
    let is_joined = peer.is_some();
    match peer {
        Some(peer) => _ = options.insert("peer".into(), peer),
        None => {
            if let Some(peer) = &port.peer {
                problems.push(("peer", format!("no router port {peer} has this one as its peer")));
            }
        }
    }
    if let Some(chassis) = chassis {
        options.insert("l3gateway-chassis".into(), chassis.clone());
    }
    let mut binding = PortBinding {
        logical_port: port.name.clone(),
        r#type: if chassis.is_some() { "l3gateway" } else { "patch" }.into(),
        options,
        datapath: Strong::new(datapath),
        tunnel_key,
        mac: OrdSet::unit(mac(&port)),
        external_ids: port.external_ids.clone(),
        ..present.clone().unwrap_or_default()
    };
    if gateway::one(txn, uuid, &port, &binding, problems, dirty) && is_joined {
        binding.options.insert("chassis-redirect-port".into(), gateway::name_of(&port.name));
    }
    if present.as_ref() != Some(&binding) {
        txn.put(uuid, binding);
    }
    Some(())
}

/// The port's MAC and networks.
fn mac(port: &LogicalRouterPort) -> Text {
    let mut text = port.mac.to_string();
    for network in &port.networks {
        text.push(' ');
        text.push_str(network);
    }
    text.into()
}

/// What a switch port with addresses `router` has: the router port's MAC and addresses.
pub(super) fn addresses(port: &LogicalRouterPort) -> Option<Text> {
    let mac: Mac = port.mac.parse().ok()?;
    let networks = port.networks.iter().filter_map(|network| network.parse::<IpNet>().ok());
    let addresses = networks.map(|network| format!(" {}", network.addr())).collect::<String>();
    Some(format!("{mac}{addresses}").into())
}

/// Name of the port at the other end: the first switch port that leads here, or a router port where each names the
/// other.
fn peer(state: &State, port: &LogicalRouterPort) -> Option<Text> {
    leading_to(state, &port.name).or_else(|| {
        let name = port.peer.as_ref()?;
        let other = state.find::<LogicalRouterPort>(&[("name", (&**name).into())])?;
        router::of(state, other)?;
        let other = state.get::<LogicalRouterPort>(other)?;
        (other.peer.as_ref() == Some(&port.name)).then(|| name.clone())
    })
}

/// The first by name of the switch ports that lead to the router port.
pub(super) fn leading_to(state: &State, router_port: &str) -> Option<Text> {
    let ports = lookup::rows(state, lookup::ROUTER_PORT, router_port).into_iter();
    let in_switch = |port: &Uuid| {
        state.referrers_through::<LogicalSwitchPort, LogicalSwitch>(*port, "ports").next().is_some()
    };
    let named = ports.filter(in_switch).filter_map(|port| state.get::<LogicalSwitchPort>(port));
    named.map(|port| port.name.clone()).min()
}
