//! Keys and addresses that are given out: pools kept in the store.
//!
//! # Invariants
//! - A pool without a row has given nothing yet.
//! - The uuid of a pool's row follows from its name.

use quantumnet_model::{Uuid, intent::Pool};
use uuid::uuid;

use crate::{
    ipam::{PoolError, northbound::MacPrefix, pool, range::Run},
    store::{State, Txn},
};

/// Keys of datapaths: VNIs, of 24 bits.
pub const DATAPATH_KEYS: Run = (1, 0xff_ffff);
/// Keys of ports within a datapath: the egress port of OVN's Geneve option has 16 bits, of which the upper half is
/// for multicast groups.
pub const PORT_KEYS: Run = (1, 0x7fff);
/// VLAN tags of the ports nested in one parent.
pub const TAGS: Run = (1, 4_095);

/// Queues of shaped ports: OVN's range.
pub const QUEUES: Run = (1, 0xf000);

/// Name of the pool of datapath keys.
pub const DATAPATHS: &str = "datapath";

const NAMESPACE: Uuid = uuid!("77b1e0a6-52d9-4d6f-9a51-1c3a0a7f7d02");

/// Name of the pool of a datapath's port keys.
pub fn ports_of(datapath: Uuid) -> String {
    format!("port {datapath}")
}

/// Name of the pool of the addresses of a subnet, or of a switch that has one of its own.
pub fn addresses_of(subnet: Uuid) -> String {
    format!("address {subnet}")
}

/// Name of the pool of the MACs that begin with a prefix, by what comes after it.
pub fn macs_of(prefix: MacPrefix) -> String {
    format!("mac {prefix}")
}

/// Name of the pool of the VLAN tags under a parent port.
pub fn tags_of(parent: &str) -> String {
    format!("tag {parent}")
}

/// The pool, if it has given anything yet.
pub fn find<'a>(state: &'a State, name: &str) -> Option<&'a Pool> {
    state.get(place_of(name))
}

/// Takes the lowest free key within `allowed`.
pub fn take_first(txn: &mut Txn<'_>, name: &str, whole: Run, allowed: &[Run]) -> Result<u128, PoolError> {
    let now_ms = txn.now_ms();
    change(txn, name, whole, |pool| pool::take_first(pool, allowed, now_ms))
}

/// Takes this key.
pub fn take(txn: &mut Txn<'_>, name: &str, whole: Run, key: u128) -> Result<(), PoolError> {
    change(txn, name, whole, |pool| pool::take(pool, key))
}

/// Gives a key back.
pub fn release(txn: &mut Txn<'_>, name: &str, key: u128) {
    let now_ms = txn.now_ms();
    txn.update::<Pool>(place_of(name), |pool| pool::release(pool, key, now_ms));
}

/// Gives a key back that nobody has to unlearn: the next who asks may have it.
pub fn give_back(txn: &mut Txn<'_>, name: &str, key: u128) {
    txn.update::<Pool>(place_of(name), |pool| pool::give_back(pool, key));
}

/// Forgets a pool whose keys mean nothing any more.
pub fn forget(txn: &mut Txn<'_>, name: &str) {
    txn.delete::<Pool>(place_of(name));
}

fn change<R>(
    txn: &mut Txn<'_>,
    name: &str,
    whole: Run,
    change: impl FnOnce(&mut Pool) -> Result<R, PoolError>,
) -> Result<R, PoolError> {
    let mut pool = txn.get::<Pool>(place_of(name)).cloned().unwrap_or_else(|| pool::new(name, whole));
    let result = change(&mut pool)?;
    txn.put(place_of(name), pool);
    Ok(result)
}

fn place_of(name: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}
