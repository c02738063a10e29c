//! Gateway ports of distributed routers: `cr-<port>`, where the traffic of a port is led, and the group of chassis of
//! which one serves it.
//!
//! # Contract
//! - Reads `Logical_Router_Port`, `Gateway_Chassis`, `NAT` and the router; writes the `Port_Binding` of type
//!   `chassisredirect` and, where the port has `gateway_chassis` and no `ha_chassis_group`, the Southbound group of the
//!   port's name.
//! - Which member serves is decided by the agents and reported ([`serve`]); the store only shows it.
//!
//! # Invariants
//! - The uuids of the binding and of the group follow from that of the router port.
//! - A report counts while its chassis is registered and a member of the port's group.

use std::collections::BTreeSet;

use imbl::OrdMap;
use quantumnet_model::{
    Strong, Uuid, Weak,
    column::Text,
    intent::Lookup,
    nb::{self, GatewayChassis, LogicalRouter, LogicalRouterPort, LogicalSwitchPort},
    sb::{Chassis, HaChassis, HaChassisGroup, PortBinding},
};
use uuid::uuid;

use crate::{
    lower::{Dirty, keys, lookup, nat, problem::Problems, router, switch},
    store::{State, Txn},
};

const NAMESPACE: Uuid = uuid!("6f0f5a3c-7a55-4b0e-8c1d-90b1c2a7f6d3");

/// The binding where the traffic of a router port is led.
pub fn redirect_of(port: Uuid) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("cr {port}").as_bytes())
}

/// Its name.
pub(super) fn name_of(port: &str) -> Text {
    format!("cr-{port}").into()
}

/// The group that is made of a port's `gateway_chassis`.
fn group_of(port: Uuid) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("group {port}").as_bytes())
}

/// Whether the port asks for a gateway.
pub(super) fn is_wanted(port: &LogicalRouterPort) -> bool {
    port.ha_chassis_group.is_some() || !port.gateway_chassis.is_empty()
}

/// The router's ports that have a gateway, by name.
pub(super) fn ports(state: &State, router: Uuid) -> Vec<(Text, Uuid)> {
    let found = lookup::rows(state, lookup::GATEWAY_PORT, &router.to_string()).into_iter();
    let mut ports: Vec<(Text, Uuid)> =
        found.filter_map(|port| Some((state.get::<LogicalRouterPort>(port)?.name.clone(), port))).collect();
    ports.sort();
    ports
}

/// The groups of chassis of the router's gateways.
pub(crate) fn groups(state: &State, router: Uuid) -> Vec<Uuid> {
    let ports = ports(state, router).into_iter();
    let redirects = ports.filter_map(|(_, port)| state.get::<PortBinding>(redirect_of(port)));
    redirects.filter_map(|redirect| redirect.ha_chassis_group).map(|group| group.uuid()).collect()
}

/// Marks the router ports whose group of chassis may change.
pub(super) fn mark(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    let mut members: BTreeSet<Uuid> = BTreeSet::new();
    for touched in txn.touched_in::<GatewayChassis>() {
        let name = touched.after::<GatewayChassis>().map(|row| row.chassis_name.clone());
        lookup::set(txn, lookup::GATEWAY_CHASSIS, touched.uuid, name.as_slice());
        members.insert(touched.uuid);
    }
    for touched in txn.touched_in::<Chassis>() {
        for row in [touched.before::<Chassis>(), touched.after()].into_iter().flatten() {
            members.extend(lookup::rows(txn.state(), lookup::GATEWAY_CHASSIS, &row.name));
        }
    }
    for member in members {
        dirty
            .router_ports
            .extend(txn.referrers_through::<GatewayChassis, LogicalRouterPort>(member, "gateway_chassis"));
    }
    for touched in txn.touched_in::<nb::HaChassisGroup>() {
        // A port whose group would have this name.
        for row in [touched.before::<nb::HaChassisGroup>(), touched.after()].into_iter().flatten() {
            dirty.router_ports.extend(txn.find::<LogicalRouterPort>(&[("name", (&*row.name).into())]));
        }
    }
    for touched in txn.touched_in::<LogicalSwitchPort>() {
        // A port that has the name of one's redirection.
        for row in [touched.before::<LogicalSwitchPort>(), touched.after()].into_iter().flatten() {
            if let Some(name) = row.name.strip_prefix("cr-") {
                dirty.router_ports.extend(txn.find::<LogicalRouterPort>(&[("name", name.into())]));
            }
        }
    }
}

/// Writes what a port with a gateway has besides its own binding; says whether it has one.
pub(super) fn one(
    txn: &mut Txn<'_>,
    uuid: Uuid,
    port: &LogicalRouterPort,
    own: &PortBinding,
    problems: &mut Problems,
    dirty: &mut Dirty,
) -> bool {
    let redirect = redirect_of(uuid);
    let Some(group) = group(txn, uuid, port, own, problems) else {
        remove(txn, uuid, dirty);
        return false;
    };
    let datapath = own.datapath.uuid();
    let mut present = txn.get::<PortBinding>(redirect).cloned();
    if let Some(binding) = present.take_if(|binding| binding.datapath.uuid() != datapath) {
        give_back(txn, &binding);
    }
    let pool = keys::ports_of(datapath);
    let before = present.as_ref().map(|binding| binding.tunnel_key);
    let Ok(tunnel_key) = switch::pick(txn, &pool, keys::PORT_KEYS, None, "options", before, problems) else {
        problems.push(("_uuid", "no port key is left in the router for the gateway".to_owned()));
        remove(txn, uuid, dirty);
        return false;
    };
    let redirect_type = port.options.get("redirect-type");
    let is_bridged = redirect_type.is_some_and(|kind| &**kind == "bridged");
    let is_always = !is_bridged && !nat::is_distributed_in(txn.state(), datapath);
    let options = [
        ("distributed-port", Some(port.name.clone())),
        ("redirect-type", redirect_type.cloned()),
        ("always-redirect", is_always.then(|| "true".into())),
    ];
    let binding = PortBinding {
        logical_port: name_of(&port.name),
        r#type: "chassisredirect".into(),
        options: options.into_iter().filter_map(|(key, value)| Some((Text::from(key), value?))).collect(),
        datapath: own.datapath,
        tunnel_key,
        mac: own.mac.clone(),
        external_ids: own.external_ids.clone(),
        ha_chassis_group: Some(Strong::new(group)),
        ..present.clone().unwrap_or_default()
    };
    if present.as_ref() != Some(&binding) {
        txn.put(redirect, binding);
    }
    let router = Text::from(datapath.to_string());
    if lookup::keys(txn.state(), lookup::GATEWAY_PORT, uuid) != [router.clone()] {
        lookup::set(txn, lookup::GATEWAY_PORT, uuid, &[router]);
        mark_router(txn.state(), datapath, dirty);
    }
    true
}

/// The Southbound group of a port that has a gateway.
fn group(
    txn: &mut Txn<'_>,
    uuid: Uuid,
    port: &LogicalRouterPort,
    own: &PortBinding,
    problems: &mut Problems,
) -> Option<Uuid> {
    if !is_wanted(port) {
        return None;
    }
    let column = if port.ha_chassis_group.is_some() { "ha_chassis_group" } else { "gateway_chassis" };
    let router = txn.get::<LogicalRouter>(own.datapath.uuid())?;
    if let Some(chassis) = router::chassis(router) {
        let message = format!("it has no effect: the router is on chassis {chassis} as a whole");
        problems.push((column, message));
        return None;
    }
    let name = name_of(&port.name);
    let by_name = [("name", (&*name).into())];
    if txn.find::<LogicalSwitchPort>(&by_name).is_some() || txn.find::<LogicalRouterPort>(&by_name).is_some()
    {
        problems.push((column, format!("it has no effect: another port is named {name}")));
        return None;
    }
    if let Some(group) = port.ha_chassis_group {
        if !port.gateway_chassis.is_empty() {
            problems.push(("gateway_chassis", "it has no effect beside ha_chassis_group".to_owned()));
        }
        forget_group(txn, uuid);
        return Some(group.uuid());
    }
    if txn.find::<nb::HaChassisGroup>(&[("name", (&*port.name).into())]).is_some() {
        let message = format!("it has no effect: a group of chassis is named {} already", port.name);
        problems.push((column, message));
        return None;
    }
    for member in &port.gateway_chassis {
        let Some(row) = txn.get::<GatewayChassis>(member.uuid()) else { continue };
        let row = HaChassis {
            chassis: txn.find::<Chassis>(&[("name", (&*row.chassis_name).into())]).map(Weak::new),
            priority: row.priority,
            external_ids: OrdMap::unit("chassis-name".into(), row.chassis_name.clone()),
        };
        if txn.get::<HaChassis>(member.uuid()) != Some(&row) {
            txn.put(member.uuid(), row);
        }
    }
    let group = group_of(uuid);
    let row = HaChassisGroup {
        name: port.name.clone(),
        ha_chassis: port.gateway_chassis.iter().map(|member| Strong::new(member.uuid())).collect(),
        ..txn.get::<HaChassisGroup>(group).cloned().unwrap_or_default()
    };
    if txn.get::<HaChassisGroup>(group) != Some(&row) {
        txn.put(group, row);
    }
    Some(group)
}

/// Removes what a port without a gateway does not have.
pub(super) fn remove(txn: &mut Txn<'_>, uuid: Uuid, dirty: &mut Dirty) {
    if let Some(binding) = txn.get::<PortBinding>(redirect_of(uuid)).cloned() {
        give_back(txn, &binding);
        txn.delete::<PortBinding>(redirect_of(uuid));
    }
    forget_group(txn, uuid);
    let router =
        lookup::keys(txn.state(), lookup::GATEWAY_PORT, uuid).first().and_then(|key| key.parse().ok());
    if let Some(router) = router {
        lookup::set(txn, lookup::GATEWAY_PORT, uuid, &[]);
        mark_router(txn.state(), router, dirty);
    }
}

/// The members go with the group, for nothing else refers to them.
fn forget_group(txn: &mut Txn<'_>, uuid: Uuid) {
    txn.delete::<HaChassisGroup>(group_of(uuid));
}

fn give_back(txn: &mut Txn<'_>, binding: &PortBinding) {
    if let Ok(key) = u128::try_from(binding.tunnel_key) {
        keys::release(txn, &keys::ports_of(binding.datapath.uuid()), key);
    }
}

/// A router that gains or loses a gateway: what is announced for it, and which translations work, may change.
fn mark_router(state: &State, router: Uuid, dirty: &mut Dirty) {
    dirty.announcing.insert(router);
    let nats = state.get::<LogicalRouter>(router).into_iter().flat_map(|router| router.nat.iter());
    dirty.nats.extend(nats.map(Strong::uuid));
}

/// Makes these the ports, by name, that an agent says its chassis serves: gateways and external ports. To be called in
/// a request; lowering does the rest.
pub fn serve(txn: &mut Txn<'_>, chassis: Uuid, ports: &BTreeSet<String>) {
    let key = Text::from(chassis.to_string());
    let mut now: BTreeSet<Uuid> = BTreeSet::new();
    for name in ports {
        let found = txn.find::<PortBinding>(&[("logical_port", name.as_str().into())]);
        let may = |row: &PortBinding| {
            matches!(&*row.r#type, "chassisredirect" | "external") && is_member(txn.state(), row, chassis)
        };
        now.extend(found.filter(|port| txn.get::<PortBinding>(*port).is_some_and(may)));
    }
    for port in lookup::rows(txn.state(), lookup::SERVED, &key) {
        if !now.contains(&port) {
            lookup::set(txn, lookup::SERVED, port, &[]);
        }
    }
    for port in now {
        lookup::set(txn, lookup::SERVED, port, std::slice::from_ref(&key));
    }
}

/// The chassis that said last that it serves the port, while it is a member of the port's group.
pub(super) fn serving(state: &State, uuid: Uuid, port: &PortBinding) -> Option<Uuid> {
    let chassis: Uuid = lookup::keys(state, lookup::SERVED, uuid).first()?.parse().ok()?;
    is_member(state, port, chassis).then_some(chassis)
}

fn is_member(state: &State, port: &PortBinding, chassis: Uuid) -> bool {
    let group = port.ha_chassis_group.and_then(|group| state.get::<HaChassisGroup>(group.uuid()));
    let members = group.into_iter().flat_map(|group| group.ha_chassis.iter());
    let mut members = members.filter_map(|member| state.get::<HaChassis>(member.uuid())?.chassis);
    members.any(|member| member.uuid() == chassis)
}

/// Marks the bindings that reports concern. To be called before lowering writes `Lookup` rows of its own: a request has few.
pub(super) fn mark_reported(txn: &Txn<'_>, dirty: &mut Dirty) {
    for touched in txn.touched_in::<Lookup>() {
        for row in [touched.before::<Lookup>(), touched.after()].into_iter().flatten() {
            if &*row.kind == lookup::SERVED {
                dirty.bindings.insert(row.row);
            }
        }
    }
}

/// Marks the bindings that changes of groups concern.
pub(super) fn mark_served(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    let mut groups: BTreeSet<Uuid> =
        txn.touched_in::<HaChassisGroup>().iter().map(|touched| touched.uuid).collect();
    for touched in txn.touched_in::<HaChassis>() {
        groups.extend(txn.referrers_through::<HaChassis, HaChassisGroup>(touched.uuid, "ha_chassis"));
    }
    for group in groups {
        dirty
            .bindings
            .extend(txn.referrers_through::<HaChassisGroup, PortBinding>(group, "ha_chassis_group"));
    }
    for touched in txn.touched_in::<Chassis>().iter().filter(|touched| touched.new.is_none()) {
        for port in lookup::rows(txn.state(), lookup::SERVED, &touched.uuid.to_string()) {
            lookup::set(txn, lookup::SERVED, port, &[]);
            dirty.bindings.insert(port);
        }
    }
}
