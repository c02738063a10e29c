//! Southbound facts that Northbound rows show: `Logical_Switch_Port.up`, `Logical_Router_Port.status`, `NB_Global.sb_cfg` and `hv_cfg`.
//!
//! # Invariants
//! - `sb_cfg` is `nb_cfg`: Southbound rows are computed in the transaction that asks for them.
//! - `hv_cfg` is the least `nb_cfg` of all `Chassis_Private` rows, those of absent hypervisors included, and
//!   `nb_cfg` while there are none. Where `nb_cfg` falls, all of them begin at 0 again.

use imbl::OrdMap;
use quantumnet_model::{
    Uuid,
    column::Text,
    nb::{LogicalRouterPort, LogicalSwitchPort, NbGlobal},
    sb::{Chassis, ChassisPrivate, PortBinding, SbGlobal},
};

use crate::{
    lower::{Dirty, lookup},
    store::{Touched, Txn},
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
            ("patch" | "l3gateway", _) => true,
            (_, Some(_)) => binding.up.unwrap_or(true),
            (_, None) => false,
        };
        if txn.get::<LogicalSwitchPort>(touched.uuid).is_some_and(|port| port.up != Some(up)) {
            txn.update::<LogicalSwitchPort>(touched.uuid, |port| port.up = Some(up));
        }
        if let Some(name) =
            binding.options.get("distributed-port").filter(|_| &*binding.r#type == "chassisredirect")
        {
            gateway(txn, name, binding.chassis.map(|chassis| chassis.uuid()));
        }
    }
}

/// A router port shows where its gateway is.
fn gateway(txn: &mut Txn<'_>, port: &str, chassis: Option<Uuid>) {
    let Some(port) = txn.find::<LogicalRouterPort>(&[("name", port.into())]) else { return };
    let name = chassis.and_then(|chassis| txn.get::<Chassis>(chassis)).map(|chassis| chassis.name.clone());
    let status: OrdMap<Text, Text> =
        name.map(|name| (Text::from("hosting-chassis"), name)).into_iter().collect();
    if txn.get::<LogicalRouterPort>(port).is_some_and(|row| row.status != status) {
        txn.update::<LogicalRouterPort>(port, |row| row.status = status);
    }
}

fn configuration(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    let global = txn.touched_in::<NbGlobal>();
    begin_anew(txn, &global, dirty);
    let chassis = txn.touched_in::<ChassisPrivate>();
    let mut reached_at = None;
    for touched in &chassis {
        dirty.work.rows += 1;
        let row = touched.after::<ChassisPrivate>();
        let key = row.map(|row| Text::from(format!("{:016x}", row.nb_cfg.max(0))));
        lookup::set(txn, lookup::NB_CFG, touched.uuid, key.as_slice());
        reached_at = reached_at.max(row.map(|row| row.nb_cfg_timestamp));
    }
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
    let hv_cfg = least.map_or(next.nb_cfg, |least| least.min(next.nb_cfg));
    if next.hv_cfg != hv_cfg {
        next.hv_cfg = hv_cfg;
        next.hv_cfg_timestamp = reached_at.filter(|at| *at != 0).unwrap_or(now_ms);
    }
    southbound(txn, &next);
    if next != row {
        txn.put(uuid, next);
    }
}

/// A client that lowers `nb_cfg`, or begins with a new row, waits for hypervisors that reached another number in the
/// former count.
fn begin_anew(txn: &mut Txn<'_>, global: &[Touched], dirty: &mut Dirty) {
    let before = global.iter().find_map(|touched| touched.before::<NbGlobal>()).map(|row| row.nb_cfg);
    let now = global.iter().find_map(|touched| touched.after::<NbGlobal>()).map(|row| row.nb_cfg);
    if now >= before {
        return;
    }
    let ahead: Vec<Uuid> =
        txn.iter::<ChassisPrivate>().filter(|(_, row)| row.nb_cfg != 0).map(|(uuid, _)| uuid).collect();
    for uuid in ahead {
        dirty.work.rows += 1;
        txn.update::<ChassisPrivate>(uuid, |row| row.nb_cfg = 0);
    }
}

/// `SB_Global` says what `NB_Global` says.
fn southbound(txn: &mut Txn<'_>, global: &NbGlobal) {
    let Some((uuid, row)) = txn.iter::<SbGlobal>().next().map(|(uuid, row)| (uuid, row.clone())) else {
        return;
    };
    let next = SbGlobal {
        nb_cfg: global.nb_cfg,
        nb_cfg_timestamp: global.sb_cfg_timestamp,
        options: global.options.clone(),
        ipsec: global.ipsec,
        ..row.clone()
    };
    if next != row {
        txn.put(uuid, next);
    }
}
