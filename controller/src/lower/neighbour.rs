//! Neighbours of router ports: `Static_MAC_Binding` for agents, and an end for those of ports that went.
//!
//! # Contract
//! - Reads the Northbound `Static_MAC_Binding` and the bindings of router ports; writes the Southbound one, of the same
//!   uuid. One whose port is not there, or that cannot be read, has a problem and no effect.
//! - Deletes `MAC_Binding` rows whose port is gone, has another name or another router, before its datapath goes.

use std::{collections::BTreeSet, net::IpAddr};

use quantumnet_model::{
    Strong, Uuid,
    address::Mac,
    column::Text,
    nb,
    sb::{MacBinding, PortBinding, StaticMacBinding},
};

use crate::{
    lower::{
        Dirty,
        problem::{self, Problems},
    },
    store::{State, Txn},
};

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    let mut names: BTreeSet<Text> = BTreeSet::new();
    for touched in txn.touched_in::<PortBinding>() {
        let place = |row: Option<&PortBinding>| {
            row.filter(|row| is_router_port(row)).map(|row| (row.logical_port.clone(), row.datapath))
        };
        let (before, after) = (place(touched.before()), place(touched.after()));
        if before != after {
            names.extend(before.into_iter().chain(after).map(|(name, _)| name));
        }
    }
    let touched = txn.touched_in::<nb::StaticMacBinding>();
    let mut fixed: BTreeSet<Uuid> = touched.iter().map(|touched| touched.uuid).collect();
    for name in &names {
        dirty.work.rows += 1;
        forget(txn, name);
        fixed.extend(txn.lookup::<nb::StaticMacBinding>(&[("logical_port", (&**name).into())]));
    }
    for uuid in fixed {
        dirty.work.rows += 1;
        let mut problems = Problems::new();
        let row = txn.get::<nb::StaticMacBinding>(uuid).and_then(|row| one(txn.state(), row, &mut problems));
        match row {
            Some(row) if txn.get::<StaticMacBinding>(uuid) == Some(&row) => {}
            Some(row) => txn.put(uuid, row),
            None => _ = txn.delete::<StaticMacBinding>(uuid),
        }
        problem::set::<nb::StaticMacBinding>(txn, uuid, problems);
    }
}

/// A port of a router, and not where its traffic is led.
fn is_router_port(binding: &PortBinding) -> bool {
    matches!(&*binding.r#type, "patch" | "l3gateway")
}

/// The binding of the router port of that name.
fn port_named<'s>(state: &'s State, name: &str) -> Option<&'s PortBinding> {
    let uuid = state.find::<PortBinding>(&[("logical_port", name.into())])?;
    state.get::<nb::LogicalRouterPort>(uuid)?;
    state.get::<PortBinding>(uuid)
}

/// Forgets what was learned by a port that is not where it was.
fn forget(txn: &mut Txn<'_>, name: &str) {
    let datapath = port_named(txn.state(), name).map(|binding| binding.datapath);
    let learned: Vec<Uuid> = txn.lookup::<MacBinding>(&[("logical_port", name.into())]).collect();
    for row in learned {
        if txn.get::<MacBinding>(row).is_some_and(|row| Some(row.datapath) != datapath) {
            txn.delete::<MacBinding>(row);
        }
    }
}

fn one(state: &State, row: &nb::StaticMacBinding, problems: &mut Problems) -> Option<StaticMacBinding> {
    let mut wrong =
        |column, message: String| problems.push((column, format!("{message}; the row has no effect")));
    if row.ip.parse::<IpAddr>().is_err() {
        wrong("ip", format!("ip is {:?}, expected an IP address", row.ip));
    }
    if let Err(error) = row.mac.parse::<Mac>() {
        wrong("mac", error.to_string());
    }
    let port = port_named(state, &row.logical_port);
    if port.is_none() {
        wrong("logical_port", format!("there is no router port {}", row.logical_port));
    }
    let datapath = port.map(|port| port.datapath.uuid()).filter(|_| problems.is_empty())?;
    Some(StaticMacBinding {
        logical_port: row.logical_port.clone(),
        ip: row.ip.clone(),
        mac: row.mac.clone(),
        override_dynamic_mac: row.override_dynamic_mac,
        datapath: Strong::new(datapath),
    })
}
