//! `FDB` rows go with what they name.
//!
//! # Contract
//! - Reads `Port_Binding` and `Datapath_Binding`; deletes `FDB` rows. Who learns, and what is too old, is the agents'
//!   and the leader's affair.
//!
//! # Invariants
//! - An `FDB` row names a datapath and a port that are there: keys are given again, and who gets one has learned
//!   nothing.

use std::collections::BTreeSet;

use quantumnet_model::{
    Uuid,
    column::Text,
    sb::{DatapathBinding, Fdb, PortBinding},
};

use crate::{
    lower::{Dirty, lookup},
    store::Txn,
};

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    for touched in txn.touched_in::<Fdb>() {
        dirty.work.rows += 1;
        let keys = touched.after::<Fdb>().map(|row| [datapath(row.dp_key), port(row.dp_key, row.port_key)]);
        lookup::set(txn, lookup::FDB, touched.uuid, keys.as_ref().map_or(&[], |keys| keys.as_slice()));
    }
    let mut gone: BTreeSet<Uuid> = BTreeSet::new();
    for touched in txn.touched_in::<DatapathBinding>() {
        let key = |row: Option<&DatapathBinding>| row.map(|row| row.tunnel_key);
        let (old, new) = (key(touched.before()), key(touched.after()));
        if let Some(old) = old.filter(|_| old != new) {
            gone.extend(lookup::rows(txn.state(), lookup::FDB, &datapath(old)));
        }
    }
    for touched in txn.touched_in::<PortBinding>() {
        let place = |row: Option<&PortBinding>| row.map(|row| (row.datapath.uuid(), row.tunnel_key));
        let (old, new) = (place(touched.before()), place(touched.after()));
        // Where the datapath went too, all of its rows do.
        if let Some((network, key)) = old.filter(|_| old != new)
            && let Some(row) = txn.get::<DatapathBinding>(network)
        {
            gone.extend(lookup::rows(txn.state(), lookup::FDB, &port(row.tunnel_key, key)));
        }
    }
    for uuid in gone {
        dirty.work.rows += 1;
        lookup::set(txn, lookup::FDB, uuid, &[]);
        txn.delete::<Fdb>(uuid);
    }
}

fn datapath(key: i64) -> Text {
    key.to_string().into()
}

fn port(datapath: i64, key: i64) -> Text {
    format!("{datapath} {key}").into()
}
