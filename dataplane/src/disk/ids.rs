//! Numbers the agent gave out and must give again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{compile::punt::METERS_PER_INTERFACE, disk::Record};

/// Generations and meters of interfaces.
///
/// # Invariants
/// - No two interfaces have a meter in common, and an interface keeps its own while it is there.
/// - A new appearance of an iface-id has a generation above all earlier ones, also when this file was lost:
///   generations start from the clock.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ids {
    /// The highest generation given.
    highest: u64,
    /// Interfaces by iface-id.
    interfaces: BTreeMap<String, KnownInterface>,
}

/// One appearance of an interface.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct KnownInterface {
    /// Its row in the switch's database: a deleted and added interface has another one.
    pub row: Uuid,
    /// Its generation.
    pub generation: u64,
    /// The first of its meters.
    pub meter: u32,
}

impl Record for Ids {
    const FILE: &'static str = "ids";
    const FORMAT: u32 = 1;
}

impl Ids {
    /// The numbers of an interface; a new generation if it was not there under this row before.
    /// The second value tells whether there is something to store.
    pub fn appeared(&mut self, iface_id: &str, row: Uuid, now_ms: u64) -> (KnownInterface, bool) {
        let known = self.interfaces.get(iface_id).copied();
        if let Some(known) = known.filter(|known| known.row == row) {
            return (known, false);
        }
        self.highest = (self.highest + 1).max(now_ms);
        let meter = known.map_or_else(|| self.free_meter(), |known| known.meter);
        let known = KnownInterface { row, generation: self.highest, meter };
        self.interfaces.insert(iface_id.to_owned(), known);
        (known, true)
    }

    /// The first of an interface's meters.
    pub fn meter(&self, iface_id: &str) -> Option<u32> {
        self.interfaces.get(iface_id).map(|known| known.meter)
    }

    fn free_meter(&self) -> u32 {
        let mut taken: Vec<u32> = self.interfaces.values().map(|known| known.meter).collect();
        taken.sort_unstable();
        let gap = (FIRST_METER..)
            .step_by(METERS_PER_INTERFACE as usize)
            .zip(&taken)
            .find(|(free, taken)| free != *taken);
        gap.map_or(FIRST_METER + METERS_PER_INTERFACE * taken.len() as u32, |(free, _)| free) // far from 2^32 interfaces
    }

    /// Forgets interfaces that are gone. Tells whether there is something to store.
    pub fn retain(&mut self, mut here: impl FnMut(&str) -> bool) -> bool {
        let before = self.interfaces.len();
        self.interfaces.retain(|iface_id, _| here(iface_id));
        self.interfaces.len() != before
    }
}

const FIRST_METER: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meters_fill_gaps() {
        let mut ids = Ids::default();
        let meter = |ids: &mut Ids, name: &str| ids.appeared(name, Uuid::nil(), 0).0.meter;
        assert_eq!([meter(&mut ids, "a"), meter(&mut ids, "b"), meter(&mut ids, "c")], [1, 17, 33]);
        ids.retain(|name| name != "b");
        assert_eq!([meter(&mut ids, "d"), meter(&mut ids, "e")], [17, 49]);
    }

    #[test]
    fn a_restated_interface_keeps_its_generation() {
        let mut ids = Ids::default();
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let generation = |ids: &mut Ids, row, now_ms| {
            let (known, new) = ids.appeared("a", row, now_ms);
            (known.generation, new)
        };
        assert_eq!(generation(&mut ids, one, 100), (100, true));
        assert_eq!(generation(&mut ids, one, 200), (100, false));
        assert_eq!(generation(&mut ids, two, 50), (101, true), "clocks go back, generations do not");
        assert!(ids.retain(|_| false));
        assert_eq!(generation(&mut ids, two, 50), (102, true));
    }
}
