//! Numbers of conjunctive matches.
//!
//! # Invariants
//! - An id follows from the uuid by which the compiler asks for it, so that a restart finds the switch's flows as they are; only
//!   where two would share it does the later one get the next.
//! - Of the lists that flows of very many conjunctions are split into none is longer than [`LONGEST`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quantumnet_model::{Row, host::HostConjunction};
use rustc_hash::FxHashSet;
use uuid::Uuid;

use crate::{
    agent::Agent,
    compile::{FlowDelta, LONGEST, RowUpdate},
};

/// Ids and lists by uuid.
#[derive(Debug, Default)]
pub(super) struct Conjunctions {
    given: BTreeMap<Uuid, HostConjunction>,
    taken: FxHashSet<i64>,
    /// How many are in each list.
    lists: Vec<usize>,
}

impl Conjunctions {
    /// Gives those their numbers, takes back all others, and says what changed.
    fn settle(&mut self, wanted: &BTreeSet<Uuid>) -> Vec<RowUpdate> {
        let gone: Vec<Uuid> = self.given.keys().filter(|uuid| !wanted.contains(uuid)).copied().collect();
        let mut rows: Vec<RowUpdate> = Vec::new();
        for uuid in gone {
            if let Some(row) = self.given.remove(&uuid) {
                self.taken.remove(&row.id);
                if let Some(count) = usize::try_from(row.list).ok().and_then(|list| self.lists.get_mut(list))
                {
                    *count -= 1;
                }
            }
            rows.push((HostConjunction::TABLE, uuid, None));
        }
        for uuid in wanted {
            if !self.given.contains_key(uuid) {
                let row = self.give(*uuid);
                self.given.insert(*uuid, row.clone());
                rows.push((HostConjunction::TABLE, *uuid, Some(Arc::new(row))));
            }
        }
        rows
    }

    fn give(&mut self, uuid: Uuid) -> HostConjunction {
        // Of random uuids any bits will do.
        let mut id = i64::from(uuid.as_fields().0.max(1));
        while !self.taken.insert(id) {
            id = if id == i64::from(u32::MAX) { 1 } else { id + 1 };
        }
        let list = self.lists.iter().position(|count| *count < LONGEST).unwrap_or(self.lists.len());
        if list == self.lists.len() {
            self.lists.push(0);
        }
        self.lists[list] += 1;
        HostConjunction { id, list: i64::try_from(list).unwrap_or(i64::MAX) }
    }

    /// All of them.
    pub(super) fn rows(&self) -> impl Iterator<Item = (Uuid, HostConjunction)> {
        self.given.iter().map(|(uuid, row)| (*uuid, row.clone()))
    }
}

impl Agent {
    /// Gives conjunctions that came their numbers, and adds to `delta` what follows.
    pub(super) fn with_conjunctions(&mut self, mut delta: FlowDelta) -> FlowDelta {
        if !self.compiler.conjunctions_changed() {
            return delta;
        }
        let wanted = self.compiler.conjunctions().collect();
        let rows = self.conjunctions.settle(&wanted);
        if !rows.is_empty() {
            delta.then(self.compiler.apply(rows));
        }
        delta
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_from_the_uuid_and_lists_are_bounded() {
        let uuid = |high: u128, low: u128| Uuid::from_u128(high << 96 | low);
        let mut conjunctions = Conjunctions::default();
        let of =
            |conjunctions: &Conjunctions, uuid| conjunctions.given.get(&uuid).map(|row| (row.id, row.list));
        let mut wanted: BTreeSet<Uuid> = [uuid(7, 1), uuid(7, 2), uuid(0, 3)].into_iter().collect();
        assert_eq!(conjunctions.settle(&wanted).len(), 3);
        assert!(conjunctions.settle(&wanted).is_empty());
        assert_eq!(of(&conjunctions, uuid(7, 1)), Some((7, 0)));
        assert_eq!(of(&conjunctions, uuid(7, 2)), Some((8, 0)));
        assert_eq!(of(&conjunctions, uuid(0, 3)), Some((1, 0)), "there is no id 0");
        wanted.remove(&uuid(7, 1));
        assert_eq!(conjunctions.settle(&wanted).len(), 1);
        wanted.insert(uuid(7, 9));
        conjunctions.settle(&wanted);
        assert_eq!(of(&conjunctions, uuid(7, 9)), Some((7, 0)));
        wanted.extend((0..2_000).map(|number| uuid(1 << 31 | number, 0)));
        conjunctions.settle(&wanted);
        let longest = (0..2).map(|list| conjunctions.rows().filter(|(_, row)| row.list == list).count());
        assert_eq!(longest.collect::<Vec<_>>(), [LONGEST, 2_003 - LONGEST]);
    }
}
