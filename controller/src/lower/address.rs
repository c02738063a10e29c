//! Which port has which address in a network.
//!
//! # Invariants
//! - There is one `Address` row per network and address in use, and an IP address with a row is taken from the
//!   pool of its subnet: both change together, here only.

use std::net::IpAddr;

use ipnet::IpNet;
use quantumnet_model::{
    Uuid,
    address::Mac,
    intent::{Address, FloatingIp, Pool, Port, Router, Subnet, VirtualNetwork},
};
use uuid::uuid;

use crate::{
    ipam::{Layout, PoolError, Range, key_of, mac, pool, range::ip_of},
    lower::keys,
    store::{Class, Refusal, State, Txn},
};

const NAMESPACE: Uuid = uuid!("c9b2d3f4-7a16-4a58-8d5c-0b7c55ad2f31");

/// Objects that an error names; of more only the count is told.
pub const NAMED_MAX: usize = 5;

/// The subnets of a network in their order.
pub fn subnets(state: &State, network: Uuid) -> Vec<(Uuid, &Subnet)> {
    let Some(network) = state.get::<VirtualNetwork>(network) else { return Vec::new() };
    let mut subnets: Vec<(Uuid, &Subnet)> = network
        .subnets
        .iter()
        .filter_map(|subnet| Some((subnet.uuid(), state.get::<Subnet>(subnet.uuid())?)))
        .collect();
    subnets.sort_by_key(|(uuid, subnet)| (subnet.position, *uuid));
    subnets
}

/// A stored subnet, understood; `None` when the row was written by somebody who does not validate.
pub fn layout(subnet: &Subnet) -> Option<Layout> {
    Some(Layout {
        net: Layout::prefix(&subnet.cidr).ok()?,
        gateway: match &subnet.gateway {
            Some(gateway) => Some(gateway.parse().ok()?),
            None => None,
        },
        pools: subnet.pools.iter().map(|range| Range::parse(range)).collect::<Option<_>>()?,
        reserved: subnet.reserved.iter().map(|range| Range::parse(range)).collect::<Option<_>>()?,
        dhcp: subnet.dhcp,
    })
}

/// The subnet of the network that holds the address.
pub fn subnet_of(state: &State, network: Uuid, ip: IpAddr) -> Option<(Uuid, &Subnet)> {
    let holds = |subnet: &Subnet| subnet.cidr.parse::<IpNet>().is_ok_and(|net| net.contains(&ip));
    subnets(state, network).into_iter().find(|(_, subnet)| holds(subnet))
}

/// Who has the address.
pub fn holder(state: &State, network: Uuid, address: &str) -> Option<Uuid> {
    state.get::<Address>(place_of(network, address)).map(|row| row.port)
}

/// Gives `ip` to the port.
pub fn claim_ip(txn: &mut Txn<'_>, network: Uuid, port: Uuid, ip: IpAddr) -> Result<(), Refusal> {
    if already_held(txn, network, port, &ip.to_string(), "ADDRESS_IN_USE")? {
        return Ok(());
    }
    let Some((subnet, row)) = subnet_of(txn.state(), network, ip) else {
        let nets: Vec<&str> = subnets(txn.state(), network).iter().map(|(_, subnet)| &*subnet.cidr).collect();
        let message = if nets.is_empty() {
            format!("address {ip} is in no subnet of the network, which has none")
        } else {
            format!("address {ip} is in no subnet of the network; it has {}", nets.join(", "))
        };
        return Err(Refusal::service(Class::InvalidArgument, "ADDRESS_OUTSIDE_SUBNET", message));
    };
    let layout = layout(row).ok_or_else(|| unreadable(row))?;
    layout.allows(ip).map_err(|error| {
        Refusal::service(Class::InvalidArgument, "ADDRESS_NOT_ALLOWED", error.to_string())
    })?;
    keys::take(txn, &keys::addresses_of(subnet), layout.whole(), key_of(ip)).map_err(|_| {
        Refusal::service(Class::AlreadyExists, "ADDRESS_IN_USE", format!("address {ip} is in use"))
    })?;
    record(txn, network, port, &ip.to_string());
    Ok(())
}

/// Gives the next free address of a subnet to the port.
pub fn claim_next(txn: &mut Txn<'_>, network: Uuid, subnet: Uuid, port: Uuid) -> Result<IpAddr, Refusal> {
    let Some(row) = txn.get::<Subnet>(subnet) else {
        return Err(Refusal::service(
            Class::NotFound,
            "SUBNET_NOT_FOUND",
            format!("there is no subnet {subnet}"),
        ));
    };
    let cidr = row.cidr.clone();
    let layout = layout(row).ok_or_else(|| unreadable(row))?;
    let allowed = layout.given_freely();
    let name = keys::addresses_of(subnet);
    let key = keys::take_first(txn, &name, layout.whole(), &allowed).map_err(|error| {
        let message =
            format!("no address is left in {cidr}: {error}; add a subnet, widen its pools or delete ports");
        let class = match error {
            PoolError::Exhausted { .. } | PoolError::Taken => Class::ResourceExhausted,
        };
        Refusal::service(class, "SUBNET_EXHAUSTED", message)
    })?;
    let ip = ip_of(key, layout.net.network()).expect("a pool holds keys of its own family");
    record(txn, network, port, &ip.to_string());
    Ok(ip)
}

/// Gives `mac` to the port.
pub fn claim_mac(txn: &mut Txn<'_>, network: Uuid, port: Uuid, mac: Mac) -> Result<(), Refusal> {
    if !already_held(txn, network, port, &mac.to_string(), "MAC_IN_USE")? {
        record(txn, network, port, &mac.to_string());
    }
    Ok(())
}

/// Gives the port a MAC that is unique in the network.
pub fn claim_next_mac(txn: &mut Txn<'_>, network: Uuid, port: Uuid) -> Result<Mac, Refusal> {
    for attempt in 0..mac::CANDIDATES_MAX {
        let mac = mac::candidate(port, attempt);
        if holder(txn.state(), network, &mac.to_string()).is_none() {
            record(txn, network, port, &mac.to_string());
            return Ok(mac);
        }
    }
    let message = "no free MAC address was found; give the port one in `spec.mac`";
    Err(Refusal::service(Class::ResourceExhausted, "MACS_EXHAUSTED", message))
}

/// Takes an address back from the port; it rests if it is an IP address.
pub fn release(txn: &mut Txn<'_>, network: Uuid, port: Uuid, address: &str) {
    if holder(txn.state(), network, address) != Some(port) {
        return;
    }
    txn.delete::<Address>(place_of(network, address));
    let Ok(ip) = address.parse::<IpAddr>() else { return };
    if let Some((subnet, _)) = subnet_of(txn.state(), network, ip) {
        keys::release(txn, &keys::addresses_of(subnet), key_of(ip));
    }
}

/// How many addresses of a subnet are in use, and how many its pools can still give.
pub fn usage(state: &State, subnet: Uuid, row: &Subnet) -> (u64, u64) {
    let Some(layout) = layout(row) else { return (0, 0) };
    let allowed = layout.given_freely();
    let fresh;
    let pool: &Pool = match keys::find(state, &keys::addresses_of(subnet)) {
        Some(pool) => pool,
        None => {
            fresh = pool::new("", layout.whole());
            &fresh
        }
    };
    (pool::count_taken(pool, layout.whole()), pool::count_free(pool, &allowed))
}

/// Ports with an address in the prefix: the first few as people name them, and how many there are.
pub fn users(state: &State, network: Uuid, net: IpNet) -> (Vec<String>, usize) {
    let mut named = Vec::new();
    let mut count = 0;
    for uuid in state.lookup::<Address>(&[("network", network.into())]) {
        let Some(row) = state.get::<Address>(uuid) else { continue };
        if row.address.parse::<IpAddr>().is_ok_and(|ip| net.contains(&ip)) {
            count += 1;
            if named.len() < NAMED_MAX {
                named.push(port_name(state, row.port));
            }
        }
    }
    (named, count)
}

/// `Port web-1 (uuid)`, or the router or floating address of that uuid.
pub fn port_name(state: &State, port: Uuid) -> String {
    if let Some(router) = state.get::<Router>(port) {
        return format!("Router {} ({port})", router.name);
    }
    if let Some(floating) = state.get::<FloatingIp>(port) {
        return format!("FloatingIp {} ({port})", floating.name);
    }
    let name = state.get::<Port>(port).map_or("?", |port| &port.name);
    format!("Port {name} ({port})")
}

fn already_held(
    txn: &Txn<'_>,
    network: Uuid,
    port: Uuid,
    address: &str,
    reason: &'static str,
) -> Result<bool, Refusal> {
    match holder(txn.state(), network, address) {
        None => Ok(false),
        Some(holder) if holder == port => Ok(true),
        Some(holder) => {
            let name = port_name(txn.state(), holder);
            let message =
                format!("address {address} is already used by {name}; choose another or change that port");
            Err(Refusal::service(Class::AlreadyExists, reason, message).blocked_by([name]))
        }
    }
}

fn record(txn: &mut Txn<'_>, network: Uuid, port: Uuid, address: &str) {
    txn.put(place_of(network, address), Address { network, address: address.into(), port });
}

fn unreadable(subnet: &Subnet) -> Refusal {
    let message = format!("subnet {} of the network cannot be read; write it anew", subnet.cidr);
    Refusal::service(Class::FailedPrecondition, "SUBNET_INVALID", message)
}

fn place_of(network: Uuid, address: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{network} {address}").as_bytes())
}
