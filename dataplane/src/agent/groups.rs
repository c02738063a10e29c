//! Numbers of the switch's groups.
//!
//! # Invariants
//! - A number follows from the uuid of what the group is for, so that a restart finds the switch's groups as they are; only where
//!   two would share it does the later one get another.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quantumnet_model::{Row, host::HostGroup};
use rustc_hash::FxHashMap;
use uuid::Uuid;

use crate::{
    agent::{Agent, HostRows},
    compile::{FlowDelta, RowUpdate},
};

/// Numbers by what has them.
#[derive(Debug, Default)]
pub(super) struct GroupNumbers {
    given: BTreeMap<Uuid, u32>,
    taken: FxHashMap<u32, Uuid>,
}

impl GroupNumbers {
    /// Gives and takes, so that just these have numbers. Tells the rows that follow.
    fn set(&mut self, wanted: &BTreeSet<Uuid>) -> Vec<RowUpdate> {
        let mut rows: Vec<RowUpdate> = Vec::new();
        let gone: Vec<Uuid> = self.given.keys().filter(|uuid| !wanted.contains(uuid)).copied().collect();
        for uuid in gone {
            if let Some(number) = self.given.remove(&uuid) {
                self.taken.remove(&number);
                rows.push((HostGroup::TABLE, uuid, None));
            }
        }
        for uuid in wanted.iter().filter(|uuid| !self.given.contains_key(uuid)).copied().collect::<Vec<_>>() {
            let mut number = 1 + uuid.as_fields().0 % NUMBERS;
            while self.taken.contains_key(&number) {
                number = 1 + number % NUMBERS;
            }
            self.taken.insert(number, uuid);
            self.given.insert(uuid, number);
            rows.push((HostGroup::TABLE, uuid, Some(Arc::new(HostGroup { group: number.into() }))));
        }
        rows
    }
}

impl Agent {
    /// Gives groups that are wanted now their numbers, and adds to `delta` what follows.
    pub(super) fn with_groups(&mut self, mut delta: FlowDelta) -> FlowDelta {
        let rows = self.group_numbers.set(&self.compiler.wanted_groups());
        if !rows.is_empty() {
            delta.then(self.compiler.apply(rows));
        }
        delta
    }

    /// Rows of groups that have numbers.
    pub(super) fn group_rows(&self, rows: &mut HostRows) {
        for (uuid, number) in &self.group_numbers.given {
            rows.insert((HostGroup::TABLE, *uuid), Arc::new(HostGroup { group: (*number).into() }));
        }
    }
}

/// Above are numbers that OpenFlow reserves.
const NUMBERS: u32 = 0xffff_ff00;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_from_the_uuid_and_are_not_shared() {
        let mut numbers = GroupNumbers::default();
        let of = |low: u128| Uuid::from_u128(7 << 96 | low);
        assert_eq!(numbers.set(&BTreeSet::from([of(1), of(2)])).len(), 2);
        assert_eq!((numbers.given[&of(1)], numbers.given[&of(2)]), (8, 9));
        assert_eq!(numbers.set(&BTreeSet::from([of(2), of(3)])).len(), 2);
        assert_eq!((numbers.given[&of(2)], numbers.given[&of(3)]), (9, 8));
        assert!(numbers.set(&BTreeSet::from([of(2), of(3)])).is_empty());
    }
}
