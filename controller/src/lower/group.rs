//! `HA_Chassis_Group` and its members: Northbound -> Southbound, each with the same uuid.
//!
//! # Contract
//! - Reads the Northbound group, its `HA_Chassis` and `Chassis`; writes the Southbound ones; marks ports that refer to
//!   a group that changed.
//! - `external_ids` are what northd writes: a member's is its chassis' name, a group has none. Unlike northd's, a group
//!   is there also while no port refers to it.
//!
//! # Invariants
//! - A member of a Southbound group has its `chassis` exactly while one of that name is registered.

use std::collections::BTreeSet;

use imbl::OrdMap;
use quantumnet_model::{
    Strong, Uuid, Weak,
    nb::{self, LogicalSwitchPort},
    sb::{Chassis, HaChassis, HaChassisGroup},
};

use crate::{
    lower::{Dirty, lookup},
    store::{State, Txn},
};

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    let mut groups: BTreeSet<Uuid> =
        txn.touched_in::<nb::HaChassisGroup>().iter().map(|touched| touched.uuid).collect();
    let mut members: BTreeSet<Uuid> = BTreeSet::new();
    for touched in txn.touched_in::<nb::HaChassis>() {
        let name = touched.after::<nb::HaChassis>().map(|row| row.chassis_name.clone());
        lookup::set(txn, lookup::HA_CHASSIS, touched.uuid, name.as_slice());
        members.insert(touched.uuid);
    }
    for touched in txn.touched_in::<Chassis>() {
        for row in [touched.before::<Chassis>(), touched.after()].into_iter().flatten() {
            members.extend(lookup::rows(txn.state(), lookup::HA_CHASSIS, &row.name));
        }
    }
    for member in members {
        groups.extend(txn.referrers_through::<nb::HaChassis, nb::HaChassisGroup>(member, "ha_chassis"));
    }
    for uuid in groups {
        dirty.work.rows += 1;
        one(txn, uuid);
        dirty
            .ports
            .extend(txn.referrers_through::<nb::HaChassisGroup, LogicalSwitchPort>(uuid, "ha_chassis_group"));
    }
}

fn one(txn: &mut Txn<'_>, uuid: Uuid) {
    let Some(group) = txn.get::<nb::HaChassisGroup>(uuid).cloned() else {
        // Its members go with it, for nothing else refers to them.
        txn.delete::<HaChassisGroup>(uuid);
        return;
    };
    for member in &group.ha_chassis {
        let Some(row) = txn.get::<nb::HaChassis>(member.uuid()) else { continue };
        let row = HaChassis {
            chassis: txn.find::<Chassis>(&[("name", (&*row.chassis_name).into())]).map(Weak::new),
            priority: row.priority,
            external_ids: OrdMap::unit("chassis-name".into(), row.chassis_name.clone()),
        };
        if txn.get::<HaChassis>(member.uuid()) != Some(&row) {
            txn.put(member.uuid(), row);
        }
    }
    let row = HaChassisGroup {
        name: group.name.clone(),
        ha_chassis: group.ha_chassis.iter().map(|member| Strong::new(member.uuid())).collect(),
        ..txn.get::<HaChassisGroup>(uuid).cloned().unwrap_or_default()
    };
    if txn.get::<HaChassisGroup>(uuid) != Some(&row) {
        txn.put(uuid, row);
    }
}

/// The registered member of the highest priority; of several the first by name.
pub(super) fn active(state: &State, group: Uuid) -> Option<Uuid> {
    let group = state.get::<HaChassisGroup>(group)?;
    let members = group.ha_chassis.iter().filter_map(|member| state.get::<HaChassis>(member.uuid()));
    let registered = members.filter_map(|member| {
        let chassis = member.chassis?.uuid();
        Some((member.priority, std::cmp::Reverse(state.get::<Chassis>(chassis)?.name.clone()), chassis))
    });
    registered.max().map(|(.., chassis)| chassis)
}
