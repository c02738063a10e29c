//! `NB_Global` and `SB_Global`: the one row of each is always there, with what OVN's centre writes into it.
//!
//! # Contract
//! - `NB_Global` that a client deletes begins anew: `nb_cfg` is 0 again, and no hypervisor has reached any.
//! - `NB_Global.options:mac_prefix` is chosen once where a client names none, from the cluster's id.
//! - `SB_Global` shows what `NB_Global` says; clients may keep `external_ids` in it.

use quantumnet_model::{
    Row, Uuid,
    intent::Cluster,
    nb::{LogicalRouterPort, LogicalSwitchPort, NbGlobal},
    sb::SbGlobal,
};
use uuid::uuid;

use crate::{
    ipam::northbound::MacPrefix,
    lower::{Dirty, dynamic, keys, problem},
    store::{State, Txn},
};

const NAMESPACE: Uuid = uuid!("5a0f3b1d-95b6-4a52-8f0e-3c6d8e0b7a15");
const MAC_PREFIX: &str = "mac_prefix";

/// What dynamic MACs begin with.
pub(super) fn mac_prefix(state: &State) -> MacPrefix {
    let row = state.iter::<NbGlobal>().next();
    row.and_then(|(_, row)| asked(row)).unwrap_or_else(|| chosen(state))
}

fn asked(row: &NbGlobal) -> Option<MacPrefix> {
    row.options.get(MAC_PREFIX).and_then(|text| MacPrefix::parse(text))
}

/// Of the cluster's own, so that it outlives the row.
fn chosen(state: &State) -> MacPrefix {
    let cluster = state.iter::<Cluster>().next().map(|(_, row)| row.cluster_id).unwrap_or_default();
    let [a, b, c, ..] = *Uuid::new_v5(&NAMESPACE, cluster.as_bytes()).as_bytes();
    // Locally administered, and no group's.
    MacPrefix([a & 0xfc | 0x02, b, c])
}

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    ensure::<NbGlobal>(txn);
    ensure::<SbGlobal>(txn);
    let touched = txn.touched_in::<NbGlobal>();
    if touched.is_empty() {
        return;
    }
    dirty.work.rows += 1;
    let before = touched.iter().find_map(|touched| touched.before::<NbGlobal>());
    let before = before.map(|row| asked(row).unwrap_or_else(|| chosen(txn.state())));
    let present = txn.iter::<NbGlobal>().next().map(|(uuid, row)| (uuid, row.clone()));
    if let Some((uuid, row)) = present {
        let (text, known) = (row.options.get(MAC_PREFIX).cloned(), asked(&row));
        let mut problems = Vec::new();
        match (text, known) {
            (Some(text), None) => problems.push((
                "options",
                format!(
                    "mac_prefix is {text:?}, expected three octets such as 0a:bc:de; {} is used",
                    chosen(txn.state())
                ),
            )),
            (None, _) => {
                let prefix = chosen(txn.state()).to_string();
                txn.update::<NbGlobal>(uuid, |row| _ = row.options.insert(MAC_PREFIX.into(), prefix.into()));
            }
            _ => {}
        }
        problem::set::<NbGlobal>(txn, uuid, problems);
    }
    for gone in touched.iter().filter(|touched| touched.new.is_none()) {
        problem::set::<NbGlobal>(txn, gone.uuid, Vec::new());
    }
    let now = mac_prefix(txn.state());
    if before.is_some_and(|before| before != now) {
        replace_prefix(txn, before, now, dirty);
    }
}

/// Makes the one row of a table that has lost it, or never had it: another than the one that went.
fn ensure<T: Row>(txn: &mut Txn<'_>) {
    if txn.iter::<T>().next().is_none() {
        let seed = format!("{} {}", T::NAME, txn.next_revision());
        txn.put(Uuid::new_v5(&NAMESPACE, seed.as_bytes()), T::default());
    }
}

/// Every port names its MACs again.
fn replace_prefix(txn: &mut Txn<'_>, before: Option<MacPrefix>, now: MacPrefix, dirty: &mut Dirty) {
    if let Some(before) = before {
        keys::forget(txn, &keys::macs_of(before));
    }
    dirty.ports.extend(txn.iter::<LogicalSwitchPort>().map(|(uuid, _)| uuid));
    let routers: Vec<Uuid> = txn.iter::<LogicalRouterPort>().map(|(uuid, _)| uuid).collect();
    for uuid in routers {
        dirty.work.rows += 1;
        dynamic::router_port(txn, uuid, now);
    }
}
