//! Intent -> Northbound: `Virtual_Network` -> `Logical_Switch`, `Subnet` -> `DHCP_Options`, `Port` ->
//! `Logical_Switch_Port`, each with the uuid of its object; of a VLAN network also the port in `localnet`.
//!
//! # Contract
//! - A switch and a port are named by the text of their uuid: unique among Northbound rows whatever people call their
//!   objects, and an iface-id that needs no lookup. People's names are in external_ids.
//! - The Northbound rows of intent are written here and, for `up`, in `feedback`; `Address` rows only through `address`.
//!
//! # Invariants
//! - Every MAC and IP address of a `Port` has its `Address` row, and no other row names that port.

use std::{collections::BTreeSet, net::IpAddr};

use imbl::{OrdMap, OrdSet};
use quantumnet_model::{
    Row, Strong, Uuid, Weak,
    column::Text,
    intent::{Port, Subnet, VirtualNetwork},
    nb::{DhcpOptions, LogicalSwitch, LogicalSwitchPort},
    tables,
};

use crate::{
    lower::{Dirty, address, dhcp, facts, keys, localnet, owner},
    store::{Class, Refusal, Touched, Txn},
};

/// Stands in `Port.allowed_address_pairs` for the port's own MAC, which may change.
pub(crate) const OWN_MAC: &str = "*";

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) -> Result<(), Refusal> {
    let networks = txn.touched_in::<VirtualNetwork>();
    let subnets = txn.touched_in::<Subnet>();
    let ports = txn.touched_in::<Port>();
    // What goes first, so that addresses and keys it had can be given in the same transaction.
    for touched in &ports {
        addresses_gone(txn, touched);
    }
    for touched in &networks {
        subnets_gone(txn, touched)?;
    }
    // What goes first, so that its VLAN can be given in the same transaction.
    let (gone, staying): (Vec<&Touched>, Vec<&Touched>) =
        networks.iter().partition(|touched| touched.new.is_none());
    for touched in gone.into_iter().chain(staying) {
        dirty.work.rows += 1;
        network(txn, touched, dirty)?;
    }
    let mut redirected = BTreeSet::new();
    for touched in &subnets {
        dirty.subnets.insert(touched.uuid);
        if let (Some(old), Some(new)) = (touched.before::<Subnet>(), touched.after::<Subnet>())
            && old.dhcp != new.dhcp
        {
            redirected.extend(txn.referrers_through::<Subnet, VirtualNetwork>(touched.uuid, "subnets"));
        }
    }
    for uuid in std::mem::take(&mut dirty.subnets) {
        dirty.work.rows += 1;
        subnet(txn, uuid)?;
    }
    for touched in &ports {
        dirty.work.rows += 1;
        port(txn, touched)?;
    }
    for network in redirected {
        let ports: Vec<Uuid> = txn.referrers_through::<VirtualNetwork, Port>(network, "network").collect();
        for uuid in ports {
            dirty.work.rows += 1;
            let options = dhcp_of(txn, uuid);
            if txn.get::<LogicalSwitchPort>(uuid).is_some_and(|port| port.dhcpv4_options != options) {
                txn.update::<LogicalSwitchPort>(uuid, |port| port.dhcpv4_options = options);
            }
        }
    }
    Ok(())
}

/// Addresses by which a port is known in its network.
fn addresses_of(port: &Port) -> BTreeSet<&str> {
    std::iter::once(&*port.mac)
        .chain(port.addresses.iter().map(|ip| &**ip))
        .filter(|text| !text.is_empty())
        .collect()
}

fn addresses_gone(txn: &mut Txn<'_>, touched: &Touched) {
    let Some(old) = touched.before::<Port>() else { return };
    let kept = touched.after::<Port>().map(addresses_of).unwrap_or_default();
    for gone in addresses_of(old).difference(&kept) {
        address::release(txn, old.network.uuid(), touched.uuid, gone);
    }
}

fn subnets_gone(txn: &mut Txn<'_>, touched: &Touched) -> Result<(), Refusal> {
    let Some(old) = touched.before::<VirtualNetwork>() else { return Ok(()) };
    let kept = touched.after::<VirtualNetwork>().map(|new| &new.subnets);
    let gone: Vec<Uuid> = old
        .subnets
        .iter()
        .filter(|subnet| kept.is_none_or(|kept| !kept.contains(*subnet)))
        .map(|subnet| subnet.uuid())
        .collect();
    for uuid in gone {
        let row = txn
            .touched_in::<Subnet>()
            .iter()
            .find(|subnet| subnet.uuid == uuid)
            .and_then(|subnet| subnet.before::<Subnet>().cloned());
        if let Some(net) = row.and_then(|row| row.cidr.parse().ok()) {
            let (named, count) = address::users(txn.state(), touched.uuid, net);
            if count > 0 {
                let message = format!("subnet {net} is used by {count} ports; move or delete them first");
                return Err(
                    Refusal::service(Class::FailedPrecondition, "SUBNET_IN_USE", message).blocked_by(named)
                );
            }
        }
        txn.delete::<DhcpOptions>(uuid);
        keys::forget(txn, &keys::addresses_of(uuid));
    }
    Ok(())
}

/// An object whose uuid a row of somebody else has already.
fn refuse_foreign<T: Row>(txn: &Txn<'_>, touched: &Touched) -> Result<(), Refusal> {
    if touched.old.is_none() && txn.get::<T>(touched.uuid).is_some() {
        let message = format!(
            "id {} is that of a row of {} already; choose another",
            touched.uuid,
            tables::decl(T::TABLE).name
        );
        return Err(Refusal::service(Class::AlreadyExists, "ID_IN_USE", message).at("meta.id"));
    }
    Ok(())
}

fn network(txn: &mut Txn<'_>, touched: &Touched, dirty: &mut Dirty) -> Result<(), Refusal> {
    let uuid = touched.uuid;
    let Some(network) = touched.after::<VirtualNetwork>() else {
        txn.delete::<LogicalSwitch>(uuid);
        return localnet::lower(txn, uuid);
    };
    refuse_foreign::<LogicalSwitch>(txn, touched)?;
    if touched.before::<VirtualNetwork>().is_some_and(|old| old.mtu != network.mtu) {
        dirty.subnets.extend(network.subnets.iter().map(|subnet| subnet.uuid()));
    }
    let before = txn.get::<LogicalSwitch>(uuid).cloned().unwrap_or_default();
    let switch = LogicalSwitch {
        name: uuid.to_string().into(),
        external_ids: owner::external_ids(VirtualNetwork::NAME, &network.name, network.project.uuid()),
        ..before.clone()
    };
    if switch != before {
        txn.put(uuid, switch);
    }
    localnet::lower(txn, uuid)
}

fn subnet(txn: &mut Txn<'_>, uuid: Uuid) -> Result<(), Refusal> {
    let network = txn.referrers_through::<Subnet, VirtualNetwork>(uuid, "subnets").next();
    let network = network.and_then(|network| txn.get::<VirtualNetwork>(network));
    let (Some(subnet), Some(network)) = (txn.get::<Subnet>(uuid), network) else {
        txn.delete::<DhcpOptions>(uuid);
        return Ok(());
    };
    let Some(layout) = address::layout(subnet) else {
        let message = format!("subnet {:?} or one of its ranges cannot be read", subnet.cidr);
        return Err(Refusal::service(Class::InvalidArgument, "SUBNET_INVALID", message).at("spec.subnets"));
    };
    // IPv6 addresses are told by router advertisements and DHCPv6, which are not made yet.
    if !subnet.dhcp || !layout.net.network().is_ipv4() {
        txn.delete::<DhcpOptions>(uuid);
        return Ok(());
    }
    let mtu = facts::mtu(txn.state(), network);
    let row = DhcpOptions {
        cidr: subnet.cidr.clone(),
        options: dhcp::options(subnet, uuid, &layout, mtu),
        external_ids: owner::external_ids(Subnet::NAME, &network.name, network.project.uuid()),
    };
    if txn.get::<DhcpOptions>(uuid) != Some(&row) {
        txn.put(uuid, row);
    }
    Ok(())
}

fn port(txn: &mut Txn<'_>, touched: &Touched) -> Result<(), Refusal> {
    let uuid = touched.uuid;
    let Some(port) = touched.after::<Port>() else {
        if let Some(old) = touched.before::<Port>() {
            let listed = |switch: &LogicalSwitch| switch.ports.contains(&Strong::new(uuid));
            if txn.get::<LogicalSwitch>(old.network.uuid()).is_some_and(listed) {
                txn.update::<LogicalSwitch>(old.network.uuid(), |switch| {
                    _ = switch.ports.remove(&Strong::new(uuid))
                });
            }
        }
        txn.delete::<LogicalSwitchPort>(uuid);
        return Ok(());
    };
    refuse_foreign::<LogicalSwitchPort>(txn, touched)?;
    let network = port.network.uuid();
    let mac = port.mac.parse().map_err(|error: quantumnet_model::address::AddressError| {
        Refusal::service(Class::InvalidArgument, "MAC_INVALID", error.to_string()).at("spec.mac")
    })?;
    address::claim_mac(txn, network, uuid, mac)?;
    for text in &port.addresses {
        let ip: IpAddr = text.parse().map_err(|_| {
            let message = format!("{text:?} is no IP address");
            Refusal::service(Class::InvalidArgument, "ADDRESS_INVALID", message).at("spec.addresses")
        })?;
        address::claim_ip(txn, network, uuid, ip)?;
    }
    let before = txn.get::<LogicalSwitchPort>(uuid).cloned().unwrap_or_default();
    let row = LogicalSwitchPort { dhcpv4_options: dhcp_of(txn, uuid), ..northbound(uuid, port, &before) };
    if row != before {
        txn.put(uuid, row);
    }
    let unlisted = |switch: &LogicalSwitch| !switch.ports.contains(&Strong::new(uuid));
    if txn.get::<LogicalSwitch>(network).is_some_and(unlisted) {
        txn.update::<LogicalSwitch>(network, |switch| _ = switch.ports.insert(Strong::new(uuid)));
    }
    Ok(())
}

/// The port's addresses in the order of their families and numbers.
fn ordered(port: &Port) -> Vec<IpAddr> {
    let mut ips: Vec<IpAddr> = port.addresses.iter().filter_map(|text| text.parse().ok()).collect();
    ips.sort_unstable();
    ips
}

/// `DHCP_Options` of the subnet that holds the port's first IPv4 address.
fn dhcp_of(txn: &Txn<'_>, port: Uuid) -> Option<Weak<DhcpOptions>> {
    let port = txn.get::<Port>(port)?;
    let first = ordered(port).into_iter().find(IpAddr::is_ipv4)?;
    let (subnet, _) = address::subnet_of(txn.state(), port.network.uuid(), first)?;
    txn.get::<DhcpOptions>(subnet).map(|_| Weak::new(subnet))
}

fn northbound(uuid: Uuid, port: &Port, before: &LogicalSwitchPort) -> LogicalSwitchPort {
    let mut own = port.mac.to_string();
    for ip in ordered(port) {
        own.push(' ');
        own.push_str(&ip.to_string());
    }
    let own = Text::from(own);
    let mut addresses = OrdSet::unit(own.clone());
    if port.receive_unknown {
        addresses.insert("unknown".into());
    }
    let mut port_security = OrdSet::new();
    if !port.port_security_disabled {
        let mut own = own.to_string();
        for pair in &port.allowed_address_pairs {
            match pair.strip_prefix(OWN_MAC) {
                Some(ip) => own.push_str(ip),
                None => _ = port_security.insert(pair.clone()),
            }
        }
        port_security.insert(own.into());
    }
    let hostname = if port.hostname.is_empty() { port.name.clone() } else { port.hostname.clone() };
    let mut options = OrdMap::unit("hostname".into(), hostname);
    if !port.host.is_empty() {
        options.insert("requested-chassis".into(), port.host.clone());
    }
    LogicalSwitchPort {
        name: uuid.to_string().into(),
        addresses,
        port_security,
        enabled: Some(!port.disabled),
        options,
        external_ids: owner::external_ids(Port::NAME, &port.name, port.project.uuid()),
        ..before.clone()
    }
}
