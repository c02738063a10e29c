//! `Port_Binding.nat_addresses` of switch ports that lead to a router with a gateway: what that gateway announces.
//!
//! # Contract
//! - Reads the switch port, the router port behind it, the router, its gateways and its translations; writes nothing but
//!   `nat_addresses` and, with it, which ports a router's changes concern. In northd's words: one entry of the
//!   translations, one for each distributed one, one of the router port's own addresses.
//! - `disable_garp_rarp`, of the switch port or of the router, leaves nothing to announce; the port's
//!   `exclude-router-ips-from-garp` leaves out the router port's own addresses.

use std::net::{IpAddr, Ipv4Addr};

use imbl::{OrdMap, OrdSet};
use ipnet::IpNet;
use quantumnet_model::{
    Uuid,
    address::{LspAddress, Mac},
    column::Text,
    nb::{LogicalRouterPort, LogicalSwitch, LogicalSwitchPort, Nat},
    sb::PortBinding,
};

use crate::{
    lower::{
        Dirty, gateway, lookup, nat,
        router::{self, Behind},
    },
    store::{State, Txn},
};

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    for router in std::mem::take(&mut dirty.announcing) {
        dirty.announced.extend(lookup::rows(txn.state(), lookup::ANNOUNCES, &router.to_string()));
    }
    for port in std::mem::take(&mut dirty.announced) {
        dirty.work.rows += 1;
        one(txn, port);
    }
}

/// Notes the switch of a port to a physical network; `None` for any other port. A gateway router announces its own
/// addresses there.
pub(super) fn localnet(txn: &mut Txn<'_>, port: Uuid, switch: Option<Uuid>, dirty: &mut Dirty) {
    let now = switch.map(|switch| Text::from(switch.to_string()));
    let before = lookup::keys(txn.state(), lookup::LOCALNET, port);
    if before == now.as_slice() {
        return;
    }
    for key in before.iter().chain(&now) {
        dirty.announced.extend(lookup::rows(txn.state(), lookup::ANNOUNCES, key));
    }
    lookup::set(txn, lookup::LOCALNET, port, now.as_slice());
}

fn one(txn: &mut Txn<'_>, uuid: Uuid) {
    let state = txn.state();
    let port = state.get::<LogicalSwitchPort>(uuid);
    let behind = port.and_then(|port| Some((port, router::behind(state, port)?)));
    let switch = state.referrers_through::<LogicalSwitchPort, LogicalSwitch>(uuid, "ports").next();
    let router = behind.as_ref().map(|(_, behind)| behind.router_uuid);
    // Found by either.
    let keys = router.zip(switch).map_or_else(Vec::new, |(router, switch)| vec![router, switch]);
    let keys: Vec<Text> = keys.into_iter().map(|key| key.to_string().into()).collect();
    let addresses = behind.map(|(port, behind)| addresses(state, uuid, port, &behind)).unwrap_or_default();
    lookup::set(txn, lookup::ANNOUNCES, uuid, &keys);
    if txn.get::<PortBinding>(uuid).is_some_and(|binding| binding.nat_addresses != addresses) {
        txn.update::<PortBinding>(uuid, |binding| binding.nat_addresses = addresses);
    }
}

fn addresses(state: &State, uuid: Uuid, port: &LogicalSwitchPort, behind: &Behind<'_>) -> OrdSet<Text> {
    let mut entries = OrdSet::new();
    if is_mute(&port.options) || is_mute(&behind.router.options) {
        return entries;
    }
    let gateways = gateway::ports(state, behind.router_uuid);
    let is_gateway = gateways.iter().any(|(_, gateway)| *gateway == behind.uuid);
    // Where this port's own gateway is, or else the router's first.
    let resident = gateways.iter().find(|(_, gateway)| *gateway == behind.uuid).or_else(|| gateways.first());
    let resident = resident.map(|(name, _)| format!(" is_chassis_resident(\"{}\")", gateway::name_of(name)));
    let resident = resident.unwrap_or_default();
    let on_chassis = router::chassis(behind.router).is_some();
    let wish = port.options.get("nat-addresses").map(|wish| wish.trim());
    match wish {
        // With several it is not known by which of them.
        Some("router") if (on_chassis || !gateways.is_empty()) && gateways.len() < 2 => {
            let resident = is_gateway.then_some(&*resident);
            translations(state, behind, !gateways.is_empty(), resident, &mut entries);
        }
        Some(list) if on_chassis || !gateways.is_empty() => {
            if let Ok(LspAddress::Known { .. }) = list.parse() {
                entries.insert(format!("{list}{resident}").into());
            }
        }
        _ => {}
    }
    let resides = is_true(&behind.port.options, "reside-on-redirect-chassis");
    let own = if gateways.is_empty() {
        on_chassis && has_localnet(state, uuid)
    } else {
        is_gateway || resides && gateways.len() == 1
    };
    let excluded = is_true(&port.options, "exclude-router-ips-from-garp");
    if own
        && !excluded
        && let Ok(mac) = behind.port.mac.parse::<Mac>()
    {
        let addresses: String = v4(behind.port).map(|ip| format!(" {ip}")).collect();
        entries.insert(format!("{mac}{addresses}{resident}").into());
    }
    entries
}

/// Whether a port, or all ports to a router, are not to be announced.
pub(super) fn is_mute(options: &OrdMap<Text, Text>) -> bool {
    is_true(options, "disable_garp_rarp")
}

fn is_true(options: &OrdMap<Text, Text>, option: &str) -> bool {
    options.get(option).is_some_and(|value| &**value == "true")
}

/// The outer addresses of the router's translations.
fn translations(
    state: &State,
    behind: &Behind<'_>,
    has_gateway: bool,
    resident: Option<&str>,
    entries: &mut OrdSet<Text>,
) {
    let Ok(mac) = behind.port.mac.parse::<Mac>() else { return };
    let mut central = String::new();
    let nats = behind.router.nat.iter().filter_map(|nat| Some((nat.uuid(), state.get::<Nat>(nat.uuid())?)));
    let mut nats: Vec<(Uuid, &Nat)> = nats.collect();
    nats.sort_by_key(|(uuid, _)| *uuid);
    for (_, nat) in nats {
        let Ok(external) = nat.external_ip.parse::<IpAddr>() else { continue };
        if has_gateway && nat::is_distributed(nat) {
            let (Some(mac), Some(port)) = (&nat.external_mac, &nat.logical_port) else { continue };
            if let Ok(mac) = mac.parse::<Mac>() {
                entries.insert(format!("{mac} {external} is_chassis_resident(\"{port}\")").into());
            }
        } else if !router_ips(behind.port).any(|ip| ip == external) {
            central.push_str(&format!(" {external}"));
        }
    }
    if !central.is_empty() {
        entries.insert(format!("{mac}{central}{}", resident.unwrap_or_default()).into());
    }
}

fn router_ips(port: &LogicalRouterPort) -> impl Iterator<Item = IpAddr> + use<'_> {
    port.networks.iter().filter_map(|network| network.parse::<IpNet>().ok()).map(|network| network.addr())
}

fn v4(port: &LogicalRouterPort) -> impl Iterator<Item = Ipv4Addr> + use<'_> {
    router_ips(port).filter_map(|ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None })
}

fn has_localnet(state: &State, port: Uuid) -> bool {
    let switch = state.referrers_through::<LogicalSwitchPort, LogicalSwitch>(port, "ports").next();
    switch.is_some_and(|switch| lookup::finds(state, lookup::LOCALNET, &switch.to_string()))
}
