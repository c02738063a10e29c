//! `Address_Set`: Northbound -> Southbound, with the same uuid, and the names of the sets that port groups make.
//!
//! # Contract
//! - Reads `Address_Set` and the names of port groups; writes the Southbound set of a client's.
//! - A set that has the name of a port group's own is not shown, and has a `Problem`: where northd would try in vain for
//!   ever, the group's wins.

use std::collections::BTreeSet;

use quantumnet_model::{
    Uuid,
    column::Text,
    nb::{self, PortGroup},
    sb::AddressSet,
};

use crate::{
    lower::{Dirty, problem},
    store::Txn,
};

/// What follows the name of a port group in those of its address sets, IPv4 and IPv6.
pub(super) const SUFFIXES: [&str; 2] = ["_ip4", "_ip6"];

/// Lowers what was touched, and sets of these names: the group that has one came, or went.
pub(super) fn lower(txn: &mut Txn<'_>, names: &BTreeSet<Text>, dirty: &mut Dirty) {
    let mut sets: BTreeSet<Uuid> =
        txn.touched_in::<nb::AddressSet>().iter().map(|touched| touched.uuid).collect();
    sets.extend(names.iter().filter_map(|name| txn.find::<nb::AddressSet>(&[("name", (&**name).into())])));
    for uuid in sets {
        dirty.work.rows += 1;
        one(txn, uuid);
    }
}

fn one(txn: &mut Txn<'_>, uuid: Uuid) {
    let Some(set) = txn.get::<nb::AddressSet>(uuid).cloned() else {
        txn.delete::<AddressSet>(uuid);
        return problem::set::<nb::AddressSet>(txn, uuid, Vec::new());
    };
    if let Some(group) = group_of(txn, &set.name) {
        txn.delete::<AddressSet>(uuid);
        let message =
            format!("{} is the set of port group {group}'s addresses; the row has no effect", set.name);
        return problem::set::<nb::AddressSet>(txn, uuid, vec![("name", message)]);
    }
    let row = AddressSet { name: set.name, addresses: set.addresses, options: set.options };
    if txn.get::<AddressSet>(uuid) != Some(&row) {
        txn.put(uuid, row);
    }
    problem::set::<nb::AddressSet>(txn, uuid, Vec::new());
}

/// The port group that makes a set of that name.
fn group_of<'n>(txn: &Txn<'_>, name: &'n str) -> Option<&'n str> {
    let mut groups = SUFFIXES.iter().filter_map(|suffix| name.strip_suffix(suffix));
    groups.find(|group| txn.find::<PortGroup>(&[("name", (*group).into())]).is_some())
}
