//! Southbound facts that Northbound rows show: `Logical_Switch_Port.up`, `NB_Global.sb_cfg` and `hv_cfg`.
//!
//! # Invariants
//! - `sb_cfg` is `nb_cfg`: Southbound rows are computed in the transaction that asks for them.
//! - `hv_cfg` is the least `nb_cfg` of all `Chassis_Private` rows, those of absent hypervisors included, and
//!   `nb_cfg` while there are none.

use quantumnet_model::{
    column::Text,
    nb::{LogicalSwitchPort, NbGlobal},
    sb::{ChassisPrivate, PortBinding},
};

use crate::{
    lower::{Dirty, lookup},
    store::Txn,
};

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    ports(txn, dirty);
    configuration(txn, dirty);
}

fn ports(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    for touched in txn.touched_in::<PortBinding>() {
        let Some(binding) = touched.after::<PortBinding>() else { continue };
        dirty.work.rows += 1;
        let up = match (&*binding.r#type, binding.chassis) {
            ("patch", _) => true,
            (_, Some(_)) => binding.up.unwrap_or(true),
            (_, None) => false,
        };
        if txn.get::<LogicalSwitchPort>(touched.uuid).is_some_and(|port| port.up != Some(up)) {
            txn.update::<LogicalSwitchPort>(touched.uuid, |port| port.up = Some(up));
        }
    }
}

fn configuration(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    let chassis = txn.touched_in::<ChassisPrivate>();
    let mut reached_at = None;
    for touched in &chassis {
        dirty.work.rows += 1;
        let row = touched.after::<ChassisPrivate>();
        let key = row.map(|row| Text::from(format!("{:016x}", row.nb_cfg.max(0))));
        lookup::set(txn, lookup::NB_CFG, touched.uuid, key.as_slice());
        reached_at = reached_at.max(row.map(|row| row.nb_cfg_timestamp));
    }
    let global = txn.touched_in::<NbGlobal>();
    if chassis.is_empty() && global.is_empty() {
        return;
    }
    let asked_anew = global.iter().any(|touched| {
        let cfg = |row: Option<&NbGlobal>| row.map_or(0, |row| row.nb_cfg);
        cfg(touched.before()) != cfg(touched.after())
    });
    let least = lookup::least(txn.state(), lookup::NB_CFG).and_then(|key| i64::from_str_radix(&key, 16).ok());
    let now_ms = txn.now_ms();
    let Some((uuid, row)) = txn.iter::<NbGlobal>().next().map(|(uuid, row)| (uuid, row.clone())) else {
        return;
    };
    let mut next = row.clone();
    if asked_anew {
        next.nb_cfg_timestamp = now_ms;
        next.sb_cfg_timestamp = now_ms;
    }
    next.sb_cfg = next.nb_cfg;
    let hv_cfg = least.unwrap_or(next.nb_cfg);
    if next.hv_cfg != hv_cfg {
        next.hv_cfg = hv_cfg;
        next.hv_cfg_timestamp = reached_at.filter(|at| *at != 0).unwrap_or(now_ms);
    }
    if next != row {
        txn.put(uuid, next);
    }
}
