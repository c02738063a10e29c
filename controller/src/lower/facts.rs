//! What hypervisors say of themselves, as far as other rows depend on it: names and the MTU of the underlay.
//!
//! # Contract
//! - Reads `Chassis` and `Encap`; writes `Lookup` rows, marks ports that ask for a chassis and subnets that derive
//!   their MTU.

use std::{collections::BTreeSet, net::IpAddr};

use quantumnet_model::{
    Uuid,
    column::Text,
    intent::{Router, VirtualNetwork},
    sb::{Chassis, Encap},
};

use crate::{
    lower::{Dirty, lookup, problem},
    store::{State, Txn},
};

/// Octets that Geneve over IPv4 adds to a guest's packet: IPv4 20, UDP 8, Geneve 8, its option 8, Ethernet 14.
pub const OVERHEAD_IPV4: u32 = 58;
/// The same over IPv6, whose header has 40.
pub const OVERHEAD_IPV6: u32 = 78;
/// MTU of the underlay while no hypervisor says another.
pub const UNDERLAY_MTU: u32 = 1_500;
/// Every IPv4 host takes packets of this size (RFC 791); an underlay that leaves less is reported, not used.
pub const GUEST_MTU_MIN: u32 = 576;

/// The MTU that guests of networks without their own are given.
pub fn guest_mtu(state: &State) -> u32 {
    let least = lookup::least(state, lookup::GUEST_MTU).and_then(|key| key.parse().ok());
    least.unwrap_or(UNDERLAY_MTU - OVERHEAD_IPV4)
}

/// Length of the longest packets of a network.
pub fn mtu(state: &State, network: &VirtualNetwork) -> u32 {
    let own = u32::try_from(network.mtu).ok().filter(|mtu| *mtu != 0);
    own.unwrap_or_else(|| guest_mtu(state))
}

/// The chassis of that name, or else of that host name.
pub fn chassis_named(state: &State, name: &str) -> Option<Uuid> {
    let by_name = state.find::<Chassis>(&[("name", name.into())]);
    by_name.or_else(|| lookup::rows(state, lookup::HOSTNAME, name).first().copied())
}

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    let before = guest_mtu(txn.state());
    let mut changed: BTreeSet<Uuid> = BTreeSet::new();
    for encap in txn.touched_in::<Encap>() {
        changed.extend(txn.referrers_through::<Encap, Chassis>(encap.uuid, "encaps"));
    }
    for touched in txn.touched_in::<Chassis>() {
        changed.insert(touched.uuid);
        let names = |row: Option<&Chassis>| row.map(|row| (row.name.clone(), row.hostname.clone()));
        let (old, new) = (names(touched.before()), names(touched.after()));
        if old != new {
            for (name, hostname) in old.into_iter().chain(new) {
                for key in [name, hostname] {
                    dirty.ports.extend(lookup::rows(txn.state(), lookup::REQUESTED_CHASSIS, &key));
                }
            }
        }
    }
    for uuid in changed {
        dirty.work.rows += 1;
        one(txn, uuid);
    }
    if guest_mtu(txn.state()) != before {
        for (uuid, network) in txn.iter::<VirtualNetwork>().filter(|(_, network)| network.mtu == 0) {
            dirty.subnets.extend(network.subnets.iter().map(|subnet| subnet.uuid()));
            dirty.routers.extend(txn.referrers_through::<VirtualNetwork, Router>(uuid, "networks"));
            dirty.routers.extend(txn.referrers_through::<VirtualNetwork, Router>(uuid, "external"));
        }
    }
}

fn one(txn: &mut Txn<'_>, uuid: Uuid) {
    let Some(chassis) = txn.get::<Chassis>(uuid) else {
        lookup::set(txn, lookup::HOSTNAME, uuid, &[]);
        lookup::set(txn, lookup::GUEST_MTU, uuid, &[]);
        return problem::set::<Chassis>(txn, uuid, Vec::new());
    };
    let hostname = Some(chassis.hostname.clone()).filter(|name| !name.is_empty());
    let mut problems = Vec::new();
    let mut mtu: Option<Text> = None;
    if let Some(text) = chassis.other_config.get("underlay-mtu") {
        let over_ipv6 = chassis.encaps.iter().any(|encap| {
            let encap = txn.get::<Encap>(encap.uuid());
            encap.is_some_and(|encap| encap.ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()))
        });
        let overhead = if over_ipv6 { OVERHEAD_IPV6 } else { OVERHEAD_IPV4 };
        let guest =
            text.parse::<u32>().ok().filter(|mtu| *mtu <= 65_535).and_then(|mtu| mtu.checked_sub(overhead));
        match guest.filter(|guest| *guest >= GUEST_MTU_MIN) {
            Some(guest) => mtu = Some(format!("{guest:05}").into()),
            None => problems.push((
                "other_config",
                format!(
                    "underlay-mtu is {text:?}, expected {} to 65535; it is not used, raise the MTU of the tunnel interface",
                    GUEST_MTU_MIN + overhead
                ),
            )),
        }
    }
    lookup::set(txn, lookup::HOSTNAME, uuid, hostname.as_slice());
    lookup::set(txn, lookup::GUEST_MTU, uuid, mtu.as_slice());
    problem::set::<Chassis>(txn, uuid, problems);
}
