//! Neighbours of router ports that agents learned: `MAC_Binding` rows.
//!
//! # Contract
//! - A row is shared by all chassis: whoever learned it, everybody uses it. Learned again with another MAC, it changes.
//! - Grows old by the router's options:mac_binding_age_threshold ([`Thresholds`]); agents say of neighbours in use that
//!   they are alive well before they are due.
//!
//! # Invariants
//! - One row for a router port and address, of a port that is there.

use std::collections::BTreeMap;

use quantumnet_model::{
    Strong, Uuid,
    nb::{LogicalRouter, LogicalRouterPort},
    sb::{DatapathBinding, MacBinding, PortBinding},
    threshold::Thresholds,
};

use crate::{
    agents::{Neighbour, limits::LEARNED_REFRESH_MS},
    store::{State, Txn},
};

/// The name of the router port with these keys, with its datapath. What is led to a port's gateway is its own.
pub(crate) fn port(state: &State, datapath_key: i64, port_key: i64) -> Option<(&PortBinding, Uuid)> {
    let datapath = state.find::<DatapathBinding>(&[("tunnel_key", datapath_key.into())])?;
    let by_key = [("datapath", datapath.into()), ("tunnel_key", port_key.into())];
    let mut uuid = state.find::<PortBinding>(&by_key)?;
    let mut binding = state.get::<PortBinding>(uuid)?;
    if let Some(name) = binding.options.get("distributed-port") {
        uuid = state.find::<PortBinding>(&[("logical_port", (&**name).into())])?;
        binding = state.get::<PortBinding>(uuid)?;
    }
    state.get::<LogicalRouterPort>(uuid)?;
    Some((binding, datapath))
}

/// Learns a neighbour.
pub(crate) fn learn(txn: &mut Txn<'_>, learned: &Neighbour) {
    // The port may have gone since the report.
    let Some((binding, datapath)) = port(txn.state(), learned.datapath_key, learned.port_key) else { return };
    let (name, ip) = (binding.logical_port.clone(), learned.ip.to_string());
    let now_ms = txn.now_ms();
    let row = MacBinding {
        logical_port: name.clone(),
        ip: ip.as_str().into(),
        mac: learned.mac.to_string().into(),
        timestamp: now_ms,
        datapath: Strong::new(datapath),
    };
    let known = txn.find::<MacBinding>(&[("logical_port", (&*name).into()), ("ip", ip.as_str().into())]);
    let Some(known) = known else { return txn.put(Uuid::new_v4(), row) };
    let lives =
        txn.get::<LogicalRouter>(datapath).and_then(|router| Thresholds::of(router).lives(learned.ip));
    let refresh = lives.map_or(LEARNED_REFRESH_MS, |lives| LEARNED_REFRESH_MS.min(lives / 4));
    let is_fresh = txn.get::<MacBinding>(known).is_some_and(|known| {
        known.mac == row.mac
            && known.datapath == row.datapath
            && now_ms.saturating_sub(known.timestamp) < refresh
    });
    if !is_fresh {
        txn.put(known, row);
    }
}

/// Neighbours that nobody has seen for too long.
pub(crate) fn due(state: &State, now_ms: i64, limit: usize) -> Vec<Uuid> {
    let routers = state.iter::<LogicalRouter>();
    let thresholds: BTreeMap<Uuid, Thresholds> = routers
        .map(|(uuid, router)| (uuid, Thresholds::of(router)))
        .filter(|(_, thresholds)| thresholds.least().is_some())
        .collect();
    if thresholds.is_empty() {
        return Vec::new();
    }
    let is_old = |row: &MacBinding| {
        let ip = row.ip.parse().ok();
        let lives = thresholds.get(&row.datapath.uuid()).zip(ip).and_then(|(found, ip)| found.lives(ip));
        lives.is_some_and(|lives| now_ms.saturating_sub(row.timestamp) >= lives)
    };
    state.iter::<MacBinding>().filter(|(_, row)| is_old(row)).map(|(uuid, _)| uuid).take(limit).collect()
}
