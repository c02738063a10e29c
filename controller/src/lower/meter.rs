//! `Meter`, `Meter_Band` and `Copp`: Northbound -> Southbound, for those who read it.
//!
//! # Contract
//! - Reads the Northbound rows and ACLs that log; writes the Southbound `Meter` and `Meter_Band`, each with the same uuid, and
//!   as northd does one more `Meter` for each ACL that logs by a fair one, named `<meter>__<uuid of the ACL>`.
//! - Tells of names that no meter has. What is limited by them is then limited by the agents' own bounds.

use std::collections::BTreeSet;

use imbl::OrdSet;
use quantumnet_model::{
    Strong, Uuid,
    column::Text,
    nb::{self, Acl, Copp},
    sb::{Meter, MeterBand},
};
use uuid::uuid;

use crate::{
    lower::{Dirty, acl, lookup, problem},
    store::{State, Txn},
};

const NAMESPACE: Uuid = uuid!("5b1f0c9e-8a37-4c55-9d0e-6f2b7c1e4a90");

/// What ovn-nb(5), `Copp`, lets be limited.
const PROTOCOLS: [&str; 18] = [
    "arp",
    "arp-resolve",
    "bfd",
    "dhcpv4-opts",
    "dhcpv4-relay",
    "dhcpv6-opts",
    "dns",
    "event-elb",
    "icmp4-error",
    "icmp6-error",
    "igmp",
    "nd-na",
    "nd-ns",
    "nd-ns-resolve",
    "nd-ra-opts",
    "reject",
    "svc-monitor",
    "tcp-reset",
];

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    let (mut meters, mut acls, mut copps) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for touched in txn.touched_in::<nb::MeterBand>() {
        meters.extend(txn.referrers_through::<nb::MeterBand, nb::Meter>(touched.uuid, "bands"));
    }
    for touched in txn.touched_in::<nb::Meter>() {
        meters.insert(touched.uuid);
        // Whoever names it may have found it missing, or does now.
        for row in [touched.before::<nb::Meter>(), touched.after()].into_iter().flatten() {
            acls.extend(lookup::rows(txn.state(), lookup::METERED_ACL, &row.name));
            copps.extend(lookup::rows(txn.state(), lookup::METERED_COPP, &row.name));
        }
    }
    for touched in txn.touched_in::<Acl>() {
        let name = |row: Option<&Acl>| row.filter(|row| row.log).and_then(|row| row.meter.clone());
        let (before, after) = (name(touched.before()), name(touched.after()));
        if before != after {
            lookup::set(txn, lookup::METERED_ACL, touched.uuid, after.as_slice());
            acls.insert(touched.uuid);
        }
    }
    for touched in txn.touched_in::<Copp>() {
        let names: BTreeSet<Text> =
            touched.after::<Copp>().map(|row| row.meters.values().cloned().collect()).unwrap_or_default();
        lookup::set(txn, lookup::METERED_COPP, touched.uuid, &names.into_iter().collect::<Vec<_>>());
        copps.insert(touched.uuid);
    }
    for uuid in meters {
        dirty.work.rows += 1;
        if let Some(name) = txn.get::<nb::Meter>(uuid).map(|row| row.name.clone()) {
            acls.extend(lookup::rows(txn.state(), lookup::METERED_ACL, &name));
        }
        meter(txn, uuid);
    }
    for uuid in acls {
        dirty.work.rows += 1;
        of_acl(txn, uuid);
    }
    for uuid in copps {
        dirty.work.rows += 1;
        copp(txn, uuid);
    }
}

fn meter(txn: &mut Txn<'_>, uuid: Uuid) {
    let Some(row) = txn.get::<nb::Meter>(uuid).cloned() else {
        // Its bands go with it, for nothing else refers to them.
        txn.delete::<Meter>(uuid);
        problem::set::<nb::Meter>(txn, uuid, Vec::new());
        return;
    };
    let mut problems = Vec::new();
    if row.bands.len() > 1 {
        let message = "all bands drop, so that only the one of the lowest rate has an effect";
        problems.push(("bands", message.to_owned()));
    }
    put(txn, uuid, row.name.clone(), &row, |band| band);
    problem::set::<nb::Meter>(txn, uuid, problems);
}

/// The meter that an ACL's records have for themselves, if theirs is a fair one.
fn of_acl(txn: &mut Txn<'_>, acl: Uuid) {
    let own = Uuid::new_v5(&NAMESPACE, acl.as_bytes());
    let name = txn.get::<Acl>(acl).filter(|row| row.log).and_then(|row| row.meter.clone());
    let found = name.as_ref().and_then(|name| named(txn.state(), name));
    let fair = found.and_then(|meter| txn.get::<nb::Meter>(meter)).filter(|row| row.fair == Some(true));
    match fair.cloned() {
        Some(row) => {
            let name = format!("{}__{acl}", row.name).into();
            let of_band = |band: Uuid| Uuid::new_v5(&own, band.as_bytes());
            put(txn, own, name, &row, of_band);
        }
        None => _ = txn.delete::<Meter>(own),
    }
    acl::tell(txn, acl);
}

/// Writes a Southbound meter with the bands of a Northbound one.
fn put(txn: &mut Txn<'_>, uuid: Uuid, name: Text, row: &nb::Meter, of_band: impl Fn(Uuid) -> Uuid) {
    let mut bands = OrdSet::new();
    for band in &row.bands {
        let Some(found) = txn.get::<nb::MeterBand>(band.uuid()) else { continue };
        let next = MeterBand { action: found.action.clone(), rate: found.rate, burst_size: found.burst_size };
        let place = of_band(band.uuid());
        if txn.get::<MeterBand>(place) != Some(&next) {
            txn.put(place, next);
        }
        bands.insert(Strong::new(place));
    }
    let next = Meter { name, unit: row.unit.clone(), bands };
    if txn.get::<Meter>(uuid) != Some(&next) {
        txn.put(uuid, next);
    }
}

fn copp(txn: &mut Txn<'_>, uuid: Uuid) {
    let mut problems = Vec::new();
    if let Some(row) = txn.get::<Copp>(uuid) {
        for (protocol, meter) in &row.meters {
            if !PROTOCOLS.contains(&&**protocol) {
                problems.push(("meters", format!("{protocol}: no protocol of that name can be limited")));
            } else if named(txn.state(), meter).is_none() {
                problems.push(("meters", format!("{protocol}: no meter is called {meter:?}")));
            }
        }
    }
    problem::set::<Copp>(txn, uuid, problems);
}

/// The meter of that name.
pub(super) fn named(state: &State, name: &str) -> Option<Uuid> {
    state.find::<nb::Meter>(&[("name", name.into())])
}
