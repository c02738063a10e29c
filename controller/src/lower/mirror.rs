//! `Mirror`: Northbound -> Southbound, and the ports by which copies reach another logical port.
//!
//! # Contract
//! - Reads the Northbound `Mirror` and the ports that refer to it; writes the Southbound one with the same uuid, and which of
//!   them a binding has.
//! - For mirrors to a logical port writes, as northd does, one more `Port_Binding` of type `mirror` on the mirrored port's
//!   switch, named `mp-<switch>-<target>`, which is where the target is.
//!
//! # Invariants
//! - A switch has one such port for each target, however many of its ports are mirrored there.

use imbl::OrdSet;
use quantumnet_model::{
    Strong, Uuid, Weak,
    column::Text,
    nb::{self, LogicalSwitch, LogicalSwitchPort},
    sb::{DatapathBinding, Mirror, PortBinding},
};
use std::{collections::BTreeSet, net::IpAddr};
use uuid::uuid;

use crate::{
    lower::{Dirty, keys, lookup, problem},
    store::{Class, Refusal, Txn},
};

const NAMESPACE: Uuid = uuid!("c7d40b1a-2f5e-4f0b-8b53-91d6f3a7e2c4");

/// `Mirror.type` of those to a logical port.
const TO_PORT: &str = "lport";

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    let mut mirrors: BTreeSet<Uuid> = BTreeSet::new();
    for touched in txn.touched_in::<nb::Mirror>() {
        mirrors.insert(touched.uuid);
        let sink = touched.after::<nb::Mirror>().filter(|row| &*row.r#type == TO_PORT);
        let sink = sink.map(|row| row.sink.clone());
        lookup::set(txn, lookup::MIRROR_SINK, touched.uuid, sink.as_slice());
    }
    // Whether there is a port of that name.
    for touched in txn.touched_in::<LogicalSwitchPort>() {
        let name = |row: Option<&LogicalSwitchPort>| row.map(|row| row.name.clone());
        let (before, after) = (name(touched.before()), name(touched.after()));
        if before != after {
            for name in before.into_iter().chain(after) {
                mirrors.extend(lookup::rows(txn.state(), lookup::MIRROR_SINK, &name));
            }
        }
    }
    // The ports' names have it.
    for touched in txn.touched_in::<LogicalSwitch>() {
        let name = |row: Option<&LogicalSwitch>| row.map(|row| row.name.clone());
        if name(touched.before()) != name(touched.after()) {
            let switch = touched.uuid.to_string();
            dirty.ports.extend(lookup::rows(txn.state(), lookup::MIRRORED_ON, &switch));
        }
    }
    for uuid in mirrors {
        dirty.work.rows += 1;
        one(txn, uuid);
        dirty.ports.extend(txn.referrers_through::<nb::Mirror, LogicalSwitchPort>(uuid, "mirror_rules"));
    }
}

fn one(txn: &mut Txn<'_>, uuid: Uuid) {
    let Some(row) = txn.get::<nb::Mirror>(uuid) else {
        txn.delete::<Mirror>(uuid);
        problem::set::<nb::Mirror>(txn, uuid, Vec::new());
        return;
    };
    let mut problems = Vec::new();
    match &*row.r#type {
        "gre" | "erspan" if row.sink.parse::<IpAddr>().is_err() => {
            problems.push(("sink", format!("{:?} is no IP address; nothing is copied", row.sink)));
        }
        TO_PORT if txn.find::<LogicalSwitchPort>(&[("name", (&*row.sink).into())]).is_none() => {
            problems.push(("sink", format!("no port is called {:?}; nothing is copied", row.sink)));
        }
        _ => {}
    }
    if !row.mirror_rules.is_empty() && &*row.r#type != TO_PORT {
        problems.push(("mirror_rules", "rules are for mirrors to logical ports only".to_owned()));
    }
    let next = Mirror {
        name: row.name.clone(),
        filter: row.filter.clone(),
        sink: row.sink.clone(),
        r#type: row.r#type.clone(),
        index: row.index,
        external_ids: row.external_ids.clone(),
    };
    if txn.get::<Mirror>(uuid) != Some(&next) {
        txn.put(uuid, next);
    }
    problem::set::<nb::Mirror>(txn, uuid, problems);
}

/// The Southbound mirrors of a port.
pub(super) fn of_port(txn: &Txn<'_>, port: &LogicalSwitchPort) -> OrdSet<Weak<Mirror>> {
    let there = port.mirror_rules.iter().filter(|mirror| txn.get::<Mirror>(mirror.uuid()).is_some());
    there.map(|mirror| Weak::new(mirror.uuid())).collect()
}

/// Notes where a port of that switch is mirrored to.
pub(super) fn attach(
    txn: &mut Txn<'_>,
    uuid: Uuid,
    port: &LogicalSwitchPort,
    switch: Uuid,
    dirty: &mut Dirty,
) {
    let mirrors = port.mirror_rules.iter().filter_map(|mirror| txn.get::<nb::Mirror>(mirror.uuid()));
    let to_ports = mirrors.filter(|mirror| &*mirror.r#type == TO_PORT);
    let pairs: BTreeSet<Text> =
        to_ports.map(|mirror| Text::from(format!("{switch} {}", mirror.sink))).collect();
    let on = (!pairs.is_empty()).then(|| Text::from(switch.to_string()));
    note(txn, uuid, on, pairs.into_iter().collect(), dirty);
}

/// The port has no switch any more.
pub(super) fn detach(txn: &mut Txn<'_>, uuid: Uuid, dirty: &mut Dirty) {
    note(txn, uuid, None, Vec::new(), dirty);
}

fn note(txn: &mut Txn<'_>, port: Uuid, on: Option<Text>, pairs: Vec<Text>, dirty: &mut Dirty) {
    dirty.mirrored.extend(lookup::keys(txn.state(), lookup::MIRRORED, port));
    dirty.mirrored.extend(pairs.iter().cloned());
    lookup::set(txn, lookup::MIRRORED, port, &pairs);
    lookup::set(txn, lookup::MIRRORED_ON, port, on.as_slice());
}

/// Makes and removes the ports of mirrors, once all other ports have their keys.
pub(super) fn ports(txn: &mut Txn<'_>, dirty: &mut Dirty) -> Result<(), Refusal> {
    for pair in std::mem::take(&mut dirty.mirrored) {
        dirty.work.rows += 1;
        let uuid = Uuid::new_v5(&NAMESPACE, pair.as_bytes());
        let needed = lookup::finds(txn.state(), lookup::MIRRORED, &pair);
        let parts = pair.split_once(' ').and_then(|(switch, sink)| Some((switch.parse().ok()?, sink)));
        let Some((switch, sink)) = parts.filter(|_| needed) else {
            remove(txn, uuid);
            continue;
        };
        port(txn, uuid, switch, sink, dirty)?;
    }
    Ok(())
}

fn port(txn: &mut Txn<'_>, uuid: Uuid, switch: Uuid, sink: &str, dirty: &mut Dirty) -> Result<(), Refusal> {
    let Some(name) = txn.get::<LogicalSwitch>(switch).map(|row| row.name.clone()) else {
        remove(txn, uuid);
        return Ok(());
    };
    let name: Text = format!("mp-{name}-{sink}").into();
    let there = txn.get::<DatapathBinding>(switch).is_some();
    let target = txn.find::<LogicalSwitchPort>(&[("name", sink.into())]);
    let taken = txn.find::<PortBinding>(&[("logical_port", (&*name).into())]);
    if taken.is_some_and(|other| other != uuid) {
        tracing::error!(%name, "a port has the name that one of a mirror should have; nothing is copied");
    }
    if !there || target.is_none() || taken.is_some_and(|other| other != uuid) {
        remove(txn, uuid);
        return Ok(());
    }
    let present = txn.get::<PortBinding>(uuid).cloned();
    let tunnel_key = match &present {
        Some(present) => present.tunnel_key,
        None => {
            let pool = keys::ports_of(switch);
            let key = keys::take_first(txn, &pool, keys::PORT_KEYS, &[keys::PORT_KEYS]);
            let key = key.map_err(|error| {
                let message = format!("no port key is left for the port {name} of a mirror: {error}");
                Refusal::service(Class::ResourceExhausted, "PORT_KEYS_EXHAUSTED", message)
            })?;
            i64::try_from(key).expect("port keys have 15 bits")
        }
    };
    let next = PortBinding {
        logical_port: name,
        r#type: "mirror".into(),
        datapath: Strong::new(switch),
        tunnel_key,
        mirror_port: Some(sink.into()),
        ..present.clone().unwrap_or_default()
    };
    if present.as_ref() != Some(&next) {
        txn.put(uuid, next);
    }
    lookup::set(txn, lookup::MIRROR_TARGET, uuid, &[sink.into()]);
    dirty.bindings.insert(uuid);
    Ok(())
}

fn remove(txn: &mut Txn<'_>, uuid: Uuid) {
    if let Some(binding) = txn.get::<PortBinding>(uuid).cloned() {
        if let Ok(key) = u128::try_from(binding.tunnel_key) {
            keys::release(txn, &keys::ports_of(binding.datapath.uuid()), key);
        }
        txn.delete::<PortBinding>(uuid);
    }
    lookup::set(txn, lookup::MIRROR_TARGET, uuid, &[]);
}
