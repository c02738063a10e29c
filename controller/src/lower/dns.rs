//! `DNS`: Northbound -> Southbound, with the same uuid, while a switch refers to it.
//!
//! # Contract
//! - Reads the Northbound row and the switches that refer to it; writes the Southbound one, for those who read it: names
//!   as they are given, values in lower case, as northd does.

use std::collections::BTreeSet;

use imbl::OrdMap;
use quantumnet_model::{
    Strong, Uuid, Weak,
    column::Text,
    nb::{self, LogicalSwitch},
    sb::{DatapathBinding, Dns},
};

use crate::{lower::Dirty, store::Txn};

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    let mut changed: BTreeSet<Uuid> =
        txn.touched_in::<nb::Dns>().iter().map(|touched| touched.uuid).collect();
    for touched in txn.touched_in::<LogicalSwitch>() {
        let records = |row: Option<&LogicalSwitch>| row.map(|row| row.dns_records.clone());
        let (old, new) = (records(touched.before()), records(touched.after()));
        if old != new {
            changed.extend([old, new].into_iter().flatten().flatten().map(|row: Weak<nb::Dns>| row.uuid()));
        }
    }
    for uuid in changed {
        dirty.work.rows += 1;
        one(txn, uuid);
    }
}

/// Option: whether nobody else is to be asked for the names of the records.
const OWNED: &str = "ovn-owned";

fn one(txn: &mut Txn<'_>, uuid: Uuid) {
    let switches = txn.referrers_through::<nb::Dns, LogicalSwitch>(uuid, "dns_records");
    let datapaths: imbl::OrdSet<Strong<DatapathBinding>> =
        switches.filter(|switch| txn.get::<DatapathBinding>(*switch).is_some()).map(Strong::new).collect();
    let Some(row) = txn.get::<nb::Dns>(uuid).filter(|_| !datapaths.is_empty()) else {
        txn.delete::<Dns>(uuid);
        return;
    };
    let external_ids = OrdMap::unit("dns_id".into(), uuid.to_string().into());
    let mut options = row.options.clone();
    let owned = options.get(OWNED).is_some_and(|owned| owned.eq_ignore_ascii_case("true"));
    options.insert(OWNED.into(), owned.to_string().into());
    let next = Dns {
        records: row
            .records
            .iter()
            .map(|(name, value)| (name.clone(), Text::from(value.to_lowercase())))
            .collect(),
        datapaths,
        options,
        external_ids,
    };
    if txn.get::<Dns>(uuid) != Some(&next) {
        txn.put(uuid, next);
    }
}
