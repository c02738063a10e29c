//! Intent -> Northbound, continued: `Router` -> `Logical_Router` with its ports, routes and translations,
//! `Floating_IP` -> `NAT`.
//!
//! # Contract
//! - A router has a port in each of its networks, with the gateway addresses of their subnets, and one in the external
//!   network. The switch ports at the other ends are the networks'.
//! - The gateway of a router is a group of chassis of its own: those that it names, or all that are connected to the
//!   external network, in an order that differs from router to router, so that gateways spread.
//! - A floating address is a `dnat_and_snat` of the router that joins its port's network to the external one; without a
//!   port, or such a router, it has no row.
//!
//! # Invariants
//! - Uuids of what a router consists of follow from its own and that of the network.
//! - The address of a router or floating address in an external network has its `Address` row.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use imbl::{OrdMap, OrdSet};
use ipnet::IpNet;
use quantumnet_model::{
    Row, Strong, Uuid,
    column::Text,
    intent::{FloatingIp, Port, Router, Subnet, VirtualNetwork},
    nb::{
        HaChassis, HaChassisGroup, LogicalRouter, LogicalRouterPort, LogicalRouterStaticRoute, LogicalSwitch,
        LogicalSwitchPort, Nat,
    },
    sb::Chassis,
};
use uuid::uuid;

use crate::{
    ipam::mac,
    lower::{Dirty, address, facts, owner},
    store::{Class, Refusal, State, Txn},
};

const NAMESPACE: Uuid = uuid!("2b9d6a31-7f0c-4c55-8f2e-1f6f7f5b0a77");

/// The highest priority of a member of a group.
const PRIORITY_MAX: i64 = 32_767;

fn part(router: Uuid, what: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{router} {what}").as_bytes())
}

/// The router's port in a network.
pub(crate) fn port_of(router: Uuid, network: Uuid) -> Uuid {
    part(router, &format!("port {network}"))
}

/// The network's port to a router.
fn switch_port_of(router: Uuid, network: Uuid) -> Uuid {
    part(router, &format!("switch port {network}"))
}

/// The router of a network, if it has one.
pub(crate) fn router_of(state: &State, network: Uuid) -> Option<Uuid> {
    state.referrers_through::<VirtualNetwork, Router>(network, "networks").next()
}

/// The router that translates a floating address, and the address behind it.
pub(crate) fn translation(state: &State, floating: &FloatingIp) -> Option<(Uuid, Ipv4Addr)> {
    let port = state.get::<Port>(floating.port?.uuid())?;
    let router = router_of(state, port.network.uuid())?;
    let connected = state.get::<Router>(router)?.external;
    let mut ips: Vec<Ipv4Addr> = port.addresses.iter().filter_map(|ip| ip.parse().ok()).collect();
    ips.sort_unstable();
    let ip = ips.first().copied()?;
    (connected == Some(floating.network)).then_some((router, ip))
}

/// Routers and floating addresses that a change concerns.
fn mark(txn: &Txn<'_>, dirty: &mut Dirty) -> (BTreeSet<Uuid>, BTreeSet<Uuid>) {
    let mut routers = std::mem::take(&mut dirty.routers);
    routers.extend(txn.touched_in::<Router>().iter().map(|touched| touched.uuid));
    let mut floating: BTreeSet<Uuid> =
        txn.touched_in::<FloatingIp>().iter().map(|touched| touched.uuid).collect();
    let mut networks: BTreeSet<Uuid> =
        txn.touched_in::<VirtualNetwork>().iter().map(|touched| touched.uuid).collect();
    for touched in txn.touched_in::<Subnet>() {
        networks.extend(txn.referrers_through::<Subnet, VirtualNetwork>(touched.uuid, "subnets"));
    }
    for network in &networks {
        routers.extend(txn.referrers_through::<VirtualNetwork, Router>(*network, "networks"));
        routers.extend(txn.referrers_through::<VirtualNetwork, Router>(*network, "external"));
    }
    for touched in txn.touched_in::<Port>() {
        floating.extend(txn.referrers_through::<Port, FloatingIp>(touched.uuid, "port"));
    }
    for touched in txn.touched_in::<Router>() {
        // What leads through it, or might.
        for row in [touched.before::<Router>(), touched.after()].into_iter().flatten() {
            let external = row.external.iter().map(Strong::uuid);
            for network in external {
                floating.extend(txn.referrers_through::<VirtualNetwork, FloatingIp>(network, "network"));
            }
        }
    }
    let facts = |row: Option<&Chassis>| {
        row.map(|row| (row.name.clone(), row.other_config.get("ovn-bridge-mappings").cloned()))
    };
    let moved =
        txn.touched_in::<Chassis>().iter().any(|touched| facts(touched.before()) != facts(touched.after()));
    if moved {
        routers.extend(txn.iter::<Router>().filter(|(_, row)| row.external.is_some()).map(|(uuid, _)| uuid));
    }
    (routers, floating)
}

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) -> Result<(), Refusal> {
    let (routers, floating) = mark(txn, dirty);
    // What goes first, so that an address can be given in the same transaction.
    for touched in txn.touched_in::<Router>() {
        if let (Some(old), new) = (touched.before::<Router>(), touched.after::<Router>()) {
            let place = |row: &Router| (row.external, row.external_address.clone());
            if new.map(place) != Some(place(old))
                && let Some(network) = old.external
            {
                address::release(txn, network.uuid(), touched.uuid, &old.external_address);
            }
        }
    }
    for touched in txn.touched_in::<FloatingIp>() {
        if let (Some(old), None) = (touched.before::<FloatingIp>(), &touched.new) {
            address::release(txn, old.network.uuid(), touched.uuid, &old.address);
        }
    }
    for uuid in routers {
        dirty.work.rows += 1;
        match txn.get::<Router>(uuid).cloned() {
            Some(row) => router(txn, uuid, &row)?,
            None => remove(txn, uuid),
        }
    }
    for uuid in floating {
        dirty.work.rows += 1;
        if let Some(row) = txn.get::<FloatingIp>(uuid).cloned() {
            claim(txn, row.network.uuid(), uuid, &row.address)?;
        }
        translate(txn, uuid);
    }
    Ok(())
}

fn claim(txn: &mut Txn<'_>, network: Uuid, holder: Uuid, text: &str) -> Result<(), Refusal> {
    let ip: IpAddr = text.parse().map_err(|_| {
        let message = format!("{text:?} is no IP address");
        Refusal::service(Class::InvalidArgument, "ADDRESS_INVALID", message)
    })?;
    address::claim_ip(txn, network, holder, ip)
}

/// Writes what a router consists of, and removes what it no longer does.
fn router(txn: &mut Txn<'_>, uuid: Uuid, row: &Router) -> Result<(), Refusal> {
    if txn.get::<LogicalRouter>(uuid).is_none() && txn.get::<LogicalSwitch>(uuid).is_some() {
        let message = format!("id {uuid} is that of a switch already; choose another");
        return Err(Refusal::service(Class::AlreadyExists, "ID_IN_USE", message).at("meta.id"));
    }
    let ids = owner::external_ids(Router::NAME, &row.name, row.project.uuid());
    let before = txn.get::<LogicalRouter>(uuid).cloned().unwrap_or_default();
    let mut ports = OrdSet::new();
    let mut nats = OrdSet::new();
    let mut routes = OrdSet::new();
    let external = row.external.map(|network| network.uuid());
    if let Some(network) = external {
        claim(txn, network, uuid, &row.external_address)?;
    }
    let longest =
        row.networks.iter().map(Strong::uuid).chain(external).map(|network| mtu(txn.state(), network));
    let longest = longest.max().unwrap_or(0);
    for network in row.networks.iter().map(Strong::uuid) {
        let networks =
            gateways(txn.state(), network).into_iter().map(|net| Text::from(net.to_string())).collect();
        ports.insert(Strong::new(attach(txn, uuid, network, networks, None, longest, &ids)));
        for (subnet, net) in subnets_v4(txn.state(), network) {
            if row.snat_disabled || external.is_none() {
                continue;
            }
            let nat = part(uuid, &format!("snat {subnet}"));
            put(
                txn,
                nat,
                Nat {
                    r#type: "snat".into(),
                    external_ip: row.external_address.clone(),
                    logical_ip: net.to_string().into(),
                    external_ids: ids.clone(),
                    ..Nat::default()
                },
            );
            nats.insert(Strong::new(nat));
        }
    }
    if let Some(network) = external {
        let group = group(txn, uuid, row, network, &ids);
        let own: Option<IpAddr> = row.external_address.parse().ok();
        let subnet =
            own.and_then(|own| address::subnet_of(txn.state(), network, own)).map(|(_, subnet)| subnet);
        let length =
            subnet.and_then(|subnet| subnet.cidr.parse::<IpNet>().ok()).map_or(32, |net| net.prefix_len());
        let outside = subnet.and_then(|subnet| subnet.gateway.clone());
        let networks = OrdSet::unit(format!("{}/{length}", row.external_address).into());
        ports.insert(Strong::new(attach(txn, uuid, network, networks, Some(group), longest, &ids)));
        if let Some(gateway) = outside {
            let prefix = if own.is_some_and(|own| own.is_ipv6()) { "::/0" } else { "0.0.0.0/0" };
            routes.insert(Strong::new(route(txn, uuid, prefix, &gateway, &ids)));
        }
    }
    for text in &row.routes {
        if let Some((prefix, nexthop)) = text.split_once(' ') {
            routes.insert(Strong::new(route(txn, uuid, prefix, nexthop, &ids)));
        }
    }
    // Floating addresses are added to it by themselves.
    nats.extend(before.nat.iter().filter(|nat| txn.get::<FloatingIp>(nat.uuid()).is_some()).copied());
    for gone in before.ports.iter().filter(|port| !ports.contains(*port)) {
        detach(txn, gone.uuid());
    }
    if external.is_none() {
        txn.delete::<HaChassisGroup>(part(uuid, "group"));
    }
    let after = LogicalRouter {
        name: uuid.to_string().into(),
        ports,
        static_routes: routes,
        nat: nats,
        enabled: Some(!row.disabled),
        external_ids: ids,
        ..before.clone()
    };
    if after != before {
        txn.put(uuid, after);
    }
    Ok(())
}

/// Removes a router; its ports, routes and translations go with it.
fn remove(txn: &mut Txn<'_>, uuid: Uuid) {
    let ports = txn.get::<LogicalRouter>(uuid).map(|row| row.ports.clone()).unwrap_or_default();
    for port in &ports {
        detach(txn, port.uuid());
    }
    txn.delete::<LogicalRouter>(uuid);
    txn.delete::<HaChassisGroup>(part(uuid, "group"));
}

/// The router's port in a network, and the network's port to it. Where packets of another of the router's networks may be
/// too long for it, their senders are told.
fn attach(
    txn: &mut Txn<'_>,
    router: Uuid,
    network: Uuid,
    networks: OrdSet<Text>,
    group: Option<Uuid>,
    longest: u32,
    ids: &OrdMap<Text, Text>,
) -> Uuid {
    let (port, switch_port) = (port_of(router, network), switch_port_of(router, network));
    let name: Text = port.to_string().into();
    let before = txn.get::<LogicalRouterPort>(port).cloned().unwrap_or_default();
    let mtu = mtu(txn.state(), network);
    let mut options = before.options.without("gateway_mtu");
    if mtu < longest {
        options.insert("gateway_mtu".into(), mtu.to_string().into());
    }
    put(
        txn,
        port,
        LogicalRouterPort {
            options,
            name: name.clone(),
            mac: mac::candidate(port, 0).to_string().into(),
            networks,
            ha_chassis_group: group.map(Strong::new),
            external_ids: ids.clone(),
            ..before
        },
    );
    let mut options = OrdMap::unit("router-port".into(), name);
    if group.is_some() {
        options.insert("nat-addresses".into(), "router".into());
    }
    let before = txn.get::<LogicalSwitchPort>(switch_port).cloned().unwrap_or_default();
    put(
        txn,
        switch_port,
        LogicalSwitchPort {
            name: switch_port.to_string().into(),
            r#type: "router".into(),
            addresses: OrdSet::unit("router".into()),
            options,
            external_ids: ids.clone(),
            ..before
        },
    );
    let is_unlisted = |switch: &LogicalSwitch| !switch.ports.contains(&Strong::new(switch_port));
    if txn.get::<LogicalSwitch>(network).is_some_and(is_unlisted) {
        txn.update::<LogicalSwitch>(network, |switch| _ = switch.ports.insert(Strong::new(switch_port)));
    }
    port
}

/// Removes a router port, which would otherwise refer to a group that goes, and the switch port that leads to it.
fn detach(txn: &mut Txn<'_>, port: Uuid) {
    txn.delete::<LogicalRouterPort>(port);
    let name = port.to_string();
    for uuid in super::lookup::rows(txn.state(), super::lookup::ROUTER_PORT, &name) {
        let switch = txn.referrers_through::<LogicalSwitchPort, LogicalSwitch>(uuid, "ports").next();
        if let Some(switch) = switch {
            txn.update::<LogicalSwitch>(switch, |switch| _ = switch.ports.remove(&Strong::new(uuid)));
        }
    }
}

fn route(txn: &mut Txn<'_>, router: Uuid, prefix: &str, nexthop: &str, ids: &OrdMap<Text, Text>) -> Uuid {
    let uuid = part(router, &format!("route {prefix} {nexthop}"));
    put(
        txn,
        uuid,
        LogicalRouterStaticRoute {
            ip_prefix: prefix.into(),
            nexthop: nexthop.into(),
            external_ids: ids.clone(),
            ..LogicalRouterStaticRoute::default()
        },
    );
    uuid
}

/// The chassis of which one is the router's gateway.
fn group(txn: &mut Txn<'_>, router: Uuid, row: &Router, network: Uuid, ids: &OrdMap<Text, Text>) -> Uuid {
    let named: Vec<Text> = row.gateways.split(',').filter(|name| !name.is_empty()).map(Text::from).collect();
    let chassis = if named.is_empty() { connected(txn.state(), router, network) } else { named };
    let group = part(router, "group");
    let mut members = OrdSet::new();
    for (priority, name) in (0..=PRIORITY_MAX).rev().zip(chassis) {
        let uuid = part(router, &format!("member {name}"));
        put(txn, uuid, HaChassis { chassis_name: name, priority, ..HaChassis::default() });
        members.insert(Strong::new(uuid));
    }
    put(
        txn,
        group,
        HaChassisGroup { name: group.to_string().into(), ha_chassis: members, external_ids: ids.clone() },
    );
    group
}

/// Chassis that are connected to the physical network of an external network, or any if it has none, in an order of
/// the router's own.
fn connected(state: &State, router: Uuid, network: Uuid) -> Vec<Text> {
    let physical =
        state.get::<VirtualNetwork>(network).map(|row| row.physical_network.clone()).unwrap_or_default();
    let is_connected = |row: &Chassis| {
        let mappings = row.other_config.get("ovn-bridge-mappings").map_or("", |mappings| &**mappings);
        let mut names =
            mappings.split(',').filter_map(|pair| pair.split_once(':')).map(|(name, _)| name.trim());
        physical.is_empty() || names.any(|name| name == &*physical)
    };
    let found = state.iter::<Chassis>().filter(|(_, row)| is_connected(row)).map(|(_, row)| row.name.clone());
    let mut found: Vec<(Uuid, Text)> =
        found.map(|name| (part(router, &format!("rank {name}")), name)).collect();
    found.sort();
    found.into_iter().map(|(_, name)| name).collect()
}

/// The translation of a floating address, in the router that it leads through.
fn translate(txn: &mut Txn<'_>, uuid: Uuid) {
    let row = txn.get::<FloatingIp>(uuid).cloned();
    let found = row.as_ref().and_then(|row| translation(txn.state(), row).map(|found| (row.clone(), found)));
    let before = txn.referrers_through::<Nat, LogicalRouter>(uuid, "nat").next();
    let now = found.as_ref().map(|(_, (router, _))| *router);
    if let Some(before) = before.filter(|before| Some(*before) != now) {
        txn.update::<LogicalRouter>(before, |router| _ = router.nat.remove(&Strong::new(uuid)));
    }
    let Some((row, (router, inner))) = found else { return };
    let port = row.port.filter(|_| txn.get::<Router>(router).is_some_and(|router| router.distributed));
    put(
        txn,
        uuid,
        Nat {
            r#type: "dnat_and_snat".into(),
            external_ip: row.address.clone(),
            logical_ip: inner.to_string().into(),
            external_mac: port.map(|_| mac::candidate(uuid, 0).to_string().into()),
            logical_port: port.map(|port| port.uuid().to_string().into()),
            external_ids: owner::external_ids(FloatingIp::NAME, &row.name, row.project.uuid()),
            ..Nat::default()
        },
    );
    if before != Some(router) {
        txn.update::<LogicalRouter>(router, |row| _ = row.nat.insert(Strong::new(uuid)));
    }
}

fn put<T: Row>(txn: &mut Txn<'_>, uuid: Uuid, row: T) {
    if txn.get::<T>(uuid) != Some(&row) {
        txn.put(uuid, row);
    }
}

/// Length of the longest packets of a network.
fn mtu(state: &State, network: Uuid) -> u32 {
    state.get::<VirtualNetwork>(network).map_or_else(|| facts::guest_mtu(state), |row| facts::mtu(state, row))
}

/// Gateway addresses of a network's subnets, with their prefix lengths.
fn gateways(state: &State, network: Uuid) -> Vec<IpNet> {
    let subnets = address::subnets(state, network).into_iter();
    let gateways = subnets.filter_map(|(_, subnet)| {
        let net = subnet.cidr.parse::<IpNet>().ok()?;
        let gateway = subnet.gateway.as_ref()?.parse::<IpAddr>().ok()?;
        IpNet::new(gateway, net.prefix_len()).ok()
    });
    gateways.collect()
}

/// Whether a router can be the gateway of any subnet of the network.
pub(crate) fn is_routable(state: &State, network: Uuid) -> bool {
    !gateways(state, network).is_empty()
}

fn subnets_v4(state: &State, network: Uuid) -> Vec<(Uuid, IpNet)> {
    let subnets = address::subnets(state, network).into_iter();
    let nets = subnets.filter_map(|(uuid, subnet)| Some((uuid, subnet.cidr.parse::<IpNet>().ok()?)));
    nets.filter(|(_, net)| net.addr().is_ipv4()).collect()
}
