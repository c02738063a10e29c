//! Addresses that two rows have: routers' ports on one switch, ports of one router, and translations.
//!
//! # Contract
//! - Reads `Logical_Router_Port`, `NAT`, their routers and the switches that the ports are on; writes `Lookup` rows, and
//!   problems of severity `conflict`, each of which names the other row.
//! - Told: on one switch an address or MAC that two router ports have, or a port and a translation of destinations of
//!   another router, or two such translations; on one router two ports with networks of which one is in the other.
//! - Refuses to judge: no row loses its effect. That of two rows with one address the wrong one answers is for people to
//!   mend. A translation may have an address of its own router, and what only replaces sources may share its address.
//!
//! # Invariants
//! - A change costs what the rows that it touches claim; the networks of a port that change cost the router's ports.
//! - Of many networks that overlap each names its nearest neighbour in the order of networks, so that as many messages as
//!   networks come.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use quantumnet_model::{
    Strong, Uuid,
    address::Mac,
    column::Text,
    nb::{LogicalRouter, LogicalRouterPort, LogicalSwitch, LogicalSwitchPort, Nat},
};

use crate::{
    lower::{
        Dirty, gateway, lookup, nat,
        problem::{self, Problems},
        router, router_port,
    },
    store::{State, Txn},
};

/// A network of a router's port, the port, and the address that it has there.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Network {
    net: IpNet,
    port: Uuid,
    own: IpNet,
}

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    let mut ports = std::mem::take(&mut dirty.claiming_ports);
    let mut nats = std::mem::take(&mut dirty.claiming_nats);
    ports.extend(moved(txn));
    let mut shared: BTreeSet<Text> = BTreeSet::new();
    for port in &ports {
        let now = claims_of_port(txn.state(), *port);
        if claim(txn, lookup::PORT_CLAIM, *port, now, &mut shared) {
            nats.extend(nats_by(txn.state(), *port));
        }
    }
    for nat in &nats {
        let now = claims_of_nat(txn.state(), *nat);
        claim(txn, lookup::NAT_CLAIM, *nat, now, &mut shared);
    }
    for key in &shared {
        ports.extend(lookup::rows(txn.state(), lookup::PORT_CLAIM, key));
        nats.extend(lookup::rows(txn.state(), lookup::NAT_CLAIM, key));
    }
    overlaps(txn, &mut ports);
    for port in ports {
        dirty.work.rows += 1;
        let problems = of_port(txn.state(), port);
        problem::conflict::<LogicalRouterPort>(txn, port, problems);
    }
    for nat in nats {
        dirty.work.rows += 1;
        let problems = of_nat(txn.state(), nat);
        problem::conflict::<Nat>(txn, nat, problems);
    }
}

/// Router ports whose switch port came into a switch or left one.
fn moved(txn: &Txn<'_>) -> Vec<Uuid> {
    let mut sides = Vec::new();
    for touched in txn.touched_in::<LogicalSwitch>() {
        touched.each_moved("ports", &mut |port| sides.push(port));
    }
    let behind = |side: Uuid| {
        let name = txn.get::<LogicalSwitchPort>(side)?.options.get("router-port")?;
        txn.find::<LogicalRouterPort>(&[("name", (&**name).into())])
    };
    sides.into_iter().filter_map(behind).collect()
}

/// Makes `now` what the row claims, and says whether that is new. `shared` gains what it claims and claimed.
fn claim(txn: &mut Txn<'_>, kind: &str, row: Uuid, now: Vec<Text>, shared: &mut BTreeSet<Text>) -> bool {
    let before = lookup::keys(txn.state(), kind, row);
    let is_new = before != now;
    if is_new {
        lookup::set(txn, kind, row, &now);
    }
    shared.extend(before);
    shared.extend(now);
    is_new
}

/// Addresses and MAC of a router's port, on its switch.
fn claims_of_port(state: &State, port: Uuid) -> Vec<Text> {
    let row = state.get::<LogicalRouterPort>(port).filter(|_| router::of(state, port).is_some());
    let Some((row, switch)) = row.and_then(|row| Some((row, switch_of(state, row)?))) else {
        return Vec::new();
    };
    let addresses = addresses(row).map(|own| format!("{switch} {}", own.addr()).into());
    let mac = row.mac.parse::<Mac>().ok().map(|mac| format!("{switch} {mac}").into());
    let claims: BTreeSet<Text> = addresses.chain(mac).collect();
    claims.into_iter().collect()
}

/// Outer address, and MAC where it has one of its own, of a translation of destinations, on the switches that it is
/// reached by.
fn claims_of_nat(state: &State, nat: Uuid) -> Vec<Text> {
    let row = state.get::<Nat>(nat).filter(|row| &*row.r#type != "snat");
    let Some((row, router)) = row.zip(nat::router_of(state, nat)) else { return Vec::new() };
    let Ok(external) = row.external_ip.parse::<std::net::IpAddr>() else { return Vec::new() };
    let reached = |port: &&LogicalRouterPort| addresses(port).any(|own| own.contains(&external));
    let entrances = entrances(state, router, row);
    let switches = entrances.into_iter().filter(reached).filter_map(|port| switch_of(state, port));
    let mac = row.external_mac.as_ref().filter(|_| nat::is_distributed(row)).and_then(|mac| mac.parse().ok());
    let mut claims: BTreeSet<Text> = BTreeSet::new();
    for switch in switches {
        claims.insert(format!("{switch} {external}").into());
        claims.extend(mac.map(|mac: Mac| Text::from(format!("{switch} {mac}"))));
    }
    claims.into_iter().collect()
}

/// The ports that packets for the translation's outer address come by.
fn entrances<'s>(state: &'s State, router: Uuid, nat: &Nat) -> Vec<&'s LogicalRouterPort> {
    if let Some(port) = nat.gateway_port {
        return state.get(port.uuid()).into_iter().collect();
    }
    let Some(row) = state.get::<LogicalRouter>(router) else { return Vec::new() };
    if router::chassis(row).is_some() {
        return row.ports.iter().filter_map(|port| state.get(port.uuid())).collect();
    }
    gateway::ports(state, router).into_iter().filter_map(|(_, port)| state.get(port)).collect()
}

/// Translations whose claims follow from a port.
fn nats_by(state: &State, port: Uuid) -> Vec<Uuid> {
    let router = router::of(state, port).and_then(|router| state.get::<LogicalRouter>(router));
    let is_entrance = |router: &&LogicalRouter| {
        router::chassis(router).is_some()
            || state.get::<LogicalRouterPort>(port).is_some_and(gateway::is_wanted)
    };
    let router = router.filter(is_entrance);
    router.into_iter().flat_map(|router| router.nat.iter().map(Strong::uuid)).collect()
}

/// The switch that a router's port is on.
fn switch_of(state: &State, port: &LogicalRouterPort) -> Option<Uuid> {
    let side = router_port::leading_to(state, &port.name)?;
    let side = state.find::<LogicalSwitchPort>(&[("name", (&*side).into())])?;
    state.referrers_through::<LogicalSwitchPort, LogicalSwitch>(side, "ports").next()
}

fn addresses(port: &LogicalRouterPort) -> impl Iterator<Item = IpNet> + use<'_> {
    port.networks.iter().filter_map(|network| network.parse().ok())
}

/// Notes which ports of the routers that changed have networks that overlap; `ports` gains those of which it is new.
fn overlaps(txn: &mut Txn<'_>, ports: &mut BTreeSet<Uuid>) {
    let mut routers: BTreeSet<Uuid> = BTreeSet::new();
    for touched in txn.touched_in::<LogicalRouterPort>() {
        let networks = |row: Option<&LogicalRouterPort>| row.map(|row| row.networks.clone());
        if networks(touched.before()) != networks(touched.after()) {
            routers.extend(router::of(txn.state(), touched.uuid));
        }
    }
    for touched in txn.touched_in::<LogicalRouter>() {
        touched.each_moved("ports", &mut |port| {
            ports.insert(port);
            routers.insert(touched.uuid);
        });
    }
    // Those who name a port that may have other networks now, or another name, or that left.
    let naming = ports.iter().flat_map(|port| lookup::rows(txn.state(), lookup::OVERLAP, &port.to_string()));
    let naming: Vec<Uuid> = naming.collect();
    ports.extend(naming);
    let left = ports.iter().copied().filter(|port| router::of(txn.state(), *port).is_none());
    for port in left.collect::<Vec<Uuid>>() {
        lookup::set(txn, lookup::OVERLAP, port, &[]);
    }
    for router in routers {
        for (port, others) in overlapping(txn.state(), router) {
            if others.is_empty() && !ports.contains(&port) {
                continue;
            }
            let now: Vec<Text> = others.iter().map(|other| other.to_string().into()).collect();
            lookup::set(txn, lookup::OVERLAP, port, &now);
            ports.insert(port);
        }
    }
}

/// Every port of a router, with those that it has to name.
fn overlapping(state: &State, router: Uuid) -> BTreeMap<Uuid, BTreeSet<Uuid>> {
    let ports = state.get::<LogicalRouter>(router).into_iter().flat_map(|router| router.ports.iter());
    let mut found: BTreeMap<Uuid, BTreeSet<Uuid>> = BTreeMap::new();
    let mut networks = Vec::new();
    for port in ports.map(Strong::uuid) {
        found.entry(port).or_default();
        networks.extend(state.get::<LogicalRouterPort>(port).into_iter().flat_map(|row| on_links(port, row)));
    }
    for (wide, narrow, is_first) in pairs(networks) {
        found.entry(narrow.port).or_default().insert(wide.port);
        if is_first {
            found.entry(wide.port).or_default().insert(narrow.port);
        }
    }
    found
}

/// The port's networks, but those that every link has.
fn on_links(port: Uuid, row: &LogicalRouterPort) -> impl Iterator<Item = Network> + use<'_> {
    let is_on_every_link = |own: &IpNet| matches!(own, IpNet::V6(net) if net.addr().is_unicast_link_local());
    let networks = addresses(row).filter(move |own| !is_on_every_link(own));
    networks.map(move |own| Network { net: own.trunc(), port, own })
}

/// Each network behind the nearest that holds it and is another port's, and whether it is the first that this one holds.
fn pairs(mut networks: Vec<Network>) -> Vec<(Network, Network, bool)> {
    networks.sort_unstable();
    let mut around: Vec<(Network, bool)> = Vec::new();
    let mut found = Vec::new();
    for network in networks {
        while around.last().is_some_and(|(wide, _)| !wide.net.contains(&network.net)) {
            around.pop();
        }
        let wide = around.iter_mut().rev().find(|(wide, _)| wide.port != network.port);
        if let Some((wide, is_first)) = wide {
            found.push((*wide, network, std::mem::take(is_first)));
        }
        around.push((network, true));
    }
    found
}

/// What is told of a router's port.
fn of_port(state: &State, uuid: Uuid) -> Problems {
    let Some(row) = state.get::<LogicalRouterPort>(uuid) else { return Problems::new() };
    let router = router::of(state, uuid);
    let mut problems = Problems::new();
    for key in lookup::keys(state, lookup::PORT_CLAIM, uuid) {
        let Some((_, claimed)) = key.split_once(' ') else { continue };
        let is_mac = claimed.parse::<Mac>().is_ok();
        for other in others(state, lookup::PORT_CLAIM, &key, uuid) {
            let Some(port) = state.get::<LogicalRouterPort>(other) else { continue };
            if is_mac {
                problems.push(("mac", format!("router port {} on the switch has {claimed} too", port.name)));
            } else if router::of(state, other) != router {
                let message = format!("router port {} on the switch has {claimed} too", port.name);
                problems.push(("networks", message));
            }
        }
        for nat in others(state, lookup::NAT_CLAIM, &key, uuid) {
            if is_mac {
                problems.push(("mac", format!("{claimed} is the external_mac of NAT {nat} too")));
            } else if nat::router_of(state, nat) != router {
                let message = format!("{claimed} is the external_ip of NAT {nat} of another router too");
                problems.push(("networks", message));
            }
        }
    }
    let others =
        lookup::keys(state, lookup::OVERLAP, uuid).into_iter().filter_map(|other| other.parse().ok());
    for other in others {
        let Some(port) = state.get::<LogicalRouterPort>(other) else { continue };
        let pairs = on_links(uuid, row).flat_map(|own| on_links(other, port).map(move |its| (own, its)));
        problems
            .extend(pairs.filter_map(|(own, its)| Some(("networks", overlap(own, its, &port.name)?))).next());
    }
    problems
}

/// What is told of a port's network beside that of another port.
fn overlap(own: Network, its: Network, name: &str) -> Option<String> {
    if own.own.addr() == its.own.addr() {
        return Some(format!("port {name} of the router has the address {} too", own.own.addr()));
    }
    if own.net == its.net {
        return Some(format!("port {name} of the router has the network {} too", own.net));
    }
    let (wide, narrow) = if own.net.contains(&its.net) { (own, its) } else { (its, own) };
    let message = format!("network {} of port {name} and {} overlap", its.net, own.net);
    wide.net.contains(&narrow.net).then_some(message)
}

/// What is told of a translation.
fn of_nat(state: &State, uuid: Uuid) -> Problems {
    let Some((row, router)) = state.get::<Nat>(uuid).zip(nat::router_of(state, uuid)) else {
        return Problems::new();
    };
    let mut problems = Problems::new();
    for key in lookup::keys(state, lookup::NAT_CLAIM, uuid) {
        let Some((_, claimed)) = key.split_once(' ') else { continue };
        let is_mac = claimed.parse::<Mac>().is_ok();
        for port in others(state, lookup::PORT_CLAIM, &key, uuid) {
            let Some(name) = state.get::<LogicalRouterPort>(port).map(|row| &row.name) else { continue };
            if is_mac {
                problems.push(("external_mac", format!("router port {name} has {claimed} too")));
            } else if router::of(state, port) != Some(router) {
                problems.push(("external_ip", format!("router port {name} has {claimed} too")));
            }
        }
        for other in others(state, lookup::NAT_CLAIM, &key, uuid) {
            let Some(its) = state.get::<Nat>(other) else { continue };
            if is_mac {
                if its.logical_port != row.logical_port {
                    let message = format!("NAT {other} has {claimed} too, for another logical_port");
                    problems.push(("external_mac", message));
                }
            } else if nat::router_of(state, other) != Some(router) {
                problems.push(("external_ip", format!("NAT {other} of another router has {claimed} too")));
            } else if condition(row) == condition(its) {
                let message = format!("NAT {other} translates {claimed} too, under the same conditions");
                problems.push(("external_ip", message));
            }
        }
    }
    problems
}

/// What decides between translations of one outer address.
fn condition(nat: &Nat) -> impl PartialEq + use<'_> {
    let peers = (nat.allowed_ext_ips, nat.exempted_ext_ips);
    (&nat.r#match, nat.priority, nat.gateway_port, peers)
}

/// The first few others that claim the same.
fn others(state: &State, kind: &str, key: &str, own: Uuid) -> impl Iterator<Item = Uuid> + use<> {
    lookup::rows(state, kind, key).into_iter().filter(move |row| *row != own).take(TOLD)
}

/// How many others a message names.
const TOLD: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn network(port: u128, own: &str) -> Network {
        let own: IpNet = own.parse().unwrap();
        Network { net: own.trunc(), port: Uuid::from_u128(port), own }
    }

    fn found(networks: &[Network]) -> Vec<String> {
        let found = pairs(networks.to_vec()).into_iter();
        let first = |is_first| if is_first { "" } else { " later" };
        found
            .map(|(wide, narrow, is_first)| format!("{} {}{}", wide.own, narrow.own, first(is_first)))
            .collect()
    }

    #[test]
    fn networks_name_the_nearest_around_them() {
        let networks = [
            network(1, "10.0.0.1/8"),
            network(2, "10.1.0.1/16"),
            network(3, "10.1.2.1/24"),
            network(3, "10.1.2.2/25"),
            network(4, "10.2.0.1/16"),
            network(5, "11.0.0.1/8"),
            network(6, "fd00::1/64"),
            network(7, "fd00::2/64"),
            network(7, "fd01::2/64"),
        ];
        assert_eq!(
            found(&networks),
            [
                "10.0.0.1/8 10.1.0.1/16",
                "10.1.0.1/16 10.1.2.1/24",
                "10.1.0.1/16 10.1.2.2/25 later",
                "10.0.0.1/8 10.2.0.1/16 later",
                "fd00::1/64 fd00::2/64"
            ]
        );
        assert_eq!(found(&[network(1, "10.0.0.1/24"), network(1, "10.0.0.2/24")]), [] as [&str; 0]);
    }

    #[test]
    fn a_thousand_ports_in_one_network_name_one_each() {
        let networks: Vec<Network> = (0..1_000).map(|port| network(port, "10.0.0.1/8")).collect();
        assert_eq!(pairs(networks).len(), 999);
    }

    #[test]
    fn what_two_networks_have_in_common_is_said() {
        let said = |own: &str, its: &str| overlap(network(1, own), network(2, its), "rp").unwrap_or_default();
        assert_eq!(said("10.0.0.1/24", "10.0.0.1/8"), "port rp of the router has the address 10.0.0.1 too");
        assert_eq!(
            said("10.0.0.1/24", "10.0.0.2/24"),
            "port rp of the router has the network 10.0.0.0/24 too"
        );
        let both = "network 10.0.0.0/8 of port rp and 10.1.0.0/24 overlap";
        assert_eq!(said("10.1.0.1/24", "10.0.0.1/8"), both);
        assert_eq!(said("10.1.0.1/24", "10.2.0.1/24"), "");
    }
}
