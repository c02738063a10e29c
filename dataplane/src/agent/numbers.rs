//! Numbers of rules and meters: conjunction ids for QoS and mirror rules, a meter for each row that needs one of its own.
//!
//! # Invariants
//! - A number follows from the row's uuid, so that a restart finds the switch's flows and meters as they are; only where two
//!   rows would share one does the later get the next that is free.
//! - Meters of rows are in the upper half of what the switch has, those of interfaces (`disk::Ids`) grow from the first.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quantumnet_model::{
    DynRow, Row, TableId,
    host::{HostMeter, HostRule},
    nb::{Acl, Meter, MirrorRule, Qos},
};
use rustc_hash::FxHashMap;
use uuid::Uuid;

use crate::{
    agent::Agent,
    compile::{CONJUNCTIONS, RowUpdate},
};

/// Places that are given to rows, each for one row.
#[derive(Debug, Default)]
struct Places {
    /// How many there are.
    count: u32,
    taken: FxHashMap<u32, Uuid>,
    rows: BTreeMap<Uuid, u32>,
}

impl Places {
    fn new(count: u32) -> Self {
        Self { count, ..Self::default() }
    }

    /// The place of a row, new or known; `None` when none is left.
    fn give(&mut self, row: Uuid) -> Option<u32> {
        if let Some(place) = self.rows.get(&row) {
            return Some(*place);
        }
        if self.rows.len() >= usize::try_from(self.count).unwrap_or(usize::MAX) {
            return None;
        }
        // Of random uuids any bits will do.
        let mut place = row.as_fields().0 % self.count;
        while self.taken.contains_key(&place) {
            place = (place + 1) % self.count;
        }
        self.taken.insert(place, row);
        self.rows.insert(row, place);
        Some(place)
    }

    fn take_back(&mut self, row: Uuid) {
        if let Some(place) = self.rows.remove(&row) {
            self.taken.remove(&place);
        }
    }
}

/// The numbers given.
#[derive(Debug)]
pub(super) struct Numbers {
    /// Blocks of conjunction ids.
    rules: Places,
    /// How many meters the switch has, and who has which of its upper half.
    meters: u32,
    metered: Places,
    /// Rows that need a meter, whether the switch has one for them or not.
    wanting: BTreeSet<Uuid>,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { rules: Places::new(BLOCKS), meters: 0, metered: Places::default(), wanting: BTreeSet::new() }
    }
}

impl Numbers {
    /// A row that came or changed, and what it needs.
    fn note(&mut self, row: Uuid, needs: Needs) {
        if needs.conjunctions {
            self.rules.give(row);
        } else {
            self.rules.take_back(row);
        }
        if needs.meter {
            self.wanting.insert(row);
            self.metered.give(row);
        } else {
            self.wanting.remove(&row);
            self.metered.take_back(row);
        }
    }

    /// The switch has so many meters. Another number of them means other numbers for all.
    pub(super) fn set_meters(&mut self, meters: u32) {
        if self.meters == meters {
            return;
        }
        self.meters = meters;
        self.metered = Places::new(meters / 2);
        for row in &self.wanting {
            self.metered.give(*row);
        }
    }

    /// Rows whose meters the switch does not have.
    pub(super) fn without_meter(&self) -> usize {
        self.wanting.len() - self.metered.rows.len()
    }

    fn rule(&self, row: Uuid) -> Option<HostRule> {
        // Ids start at 1.
        let block = self.rules.rows.get(&row)?;
        Some(HostRule { conjunction: i64::from(block * CONJUNCTIONS + 1) })
    }

    fn meter(&self, row: Uuid) -> Option<HostMeter> {
        let place = self.metered.rows.get(&row)?;
        Some(HostMeter { number: i64::from(self.meters - place) })
    }

    /// All of them, as rows of the host.
    pub(super) fn rows(&self) -> Vec<(TableId, Uuid, Arc<dyn DynRow>)> {
        let rules =
            self.rules.rows.keys().filter_map(|row| {
                Some((HostRule::TABLE, *row, Arc::new(self.rule(*row)?) as Arc<dyn DynRow>))
            });
        let meters =
            self.metered.rows.keys().filter_map(|row| {
                Some((HostMeter::TABLE, *row, Arc::new(self.meter(*row)?) as Arc<dyn DynRow>))
            });
        rules.chain(meters).collect()
    }
}

/// Numbers that a row needs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Needs {
    conjunctions: bool,
    meter: bool,
}

impl Needs {
    /// Of a row; `None` for tables that need none.
    fn of(table: TableId, row: Option<&dyn DynRow>) -> Option<Self> {
        match table {
            Acl::TABLE => {
                let acl = row.and_then(|row| row.as_any().downcast_ref::<Acl>());
                Some(Self { conjunctions: false, meter: acl.is_some_and(|acl| acl.log) })
            }
            Qos::TABLE => {
                let rule = row.and_then(|row| row.as_any().downcast_ref::<Qos>());
                let needs =
                    |rule: &Qos| Self { conjunctions: true, meter: rule.bandwidth.contains_key("rate") };
                Some(rule.map_or_else(Self::default, needs))
            }
            MirrorRule::TABLE => Some(Self { conjunctions: row.is_some(), meter: false }),
            Meter::TABLE => Some(Self { conjunctions: false, meter: row.is_some() }),
            _ => None,
        }
    }
}

impl Agent {
    /// The batch, with the numbers that its rows need.
    pub(super) fn with_numbers(&mut self, mut batch: Vec<RowUpdate>) -> Vec<RowUpdate> {
        let mut numbered = Vec::new();
        for (table, uuid, row) in &batch {
            if let Some(needs) = Needs::of(*table, row.as_deref()) {
                self.numbers.note(*uuid, needs);
                numbered.push(*uuid);
            }
        }
        for uuid in numbered {
            batch.push((HostRule::TABLE, uuid, self.numbers.rule(uuid).map(|row| Arc::new(row) as _)));
            batch.push((HostMeter::TABLE, uuid, self.numbers.meter(uuid).map(|row| Arc::new(row) as _)));
        }
        batch
    }
}

const BLOCKS: u32 = (u32::MAX - 1) / CONJUNCTIONS;

#[cfg(test)]
mod tests {
    use super::*;

    fn row(low: u128) -> Uuid {
        Uuid::from_u128(7 << 96 | low)
    }

    #[test]
    fn numbers_follow_from_the_uuid_and_are_not_shared() {
        let mut numbers = Numbers::default();
        let both = Needs { conjunctions: true, meter: true };
        numbers.note(row(1), both);
        numbers.note(row(2), both);
        let rule = |numbers: &Numbers, low| numbers.rule(row(low)).unwrap().conjunction;
        assert_eq!([rule(&numbers, 1), rule(&numbers, 2)], [7 * 256 + 1, 8 * 256 + 1]);
        numbers.note(row(1), Needs::default());
        numbers.note(row(3), both);
        assert_eq!(rule(&numbers, 3), 7 * 256 + 1);
    }

    #[test]
    fn meters_are_given_once_it_is_known_how_many_there_are() {
        let mut numbers = Numbers::default();
        let metered = Needs { conjunctions: false, meter: true };
        numbers.note(row(1), metered);
        numbers.note(row(2), metered);
        let meter = |numbers: &Numbers, low| numbers.meter(row(low)).map(|meter| meter.number);
        assert_eq!([meter(&numbers, 1), meter(&numbers, 2)], [None, None]);
        assert_eq!(numbers.without_meter(), 2);
        numbers.set_meters(100);
        assert_eq!([meter(&numbers, 1), meter(&numbers, 2)], [Some(93), Some(92)]);
        numbers.set_meters(100);
        numbers.note(row(1), metered);
        numbers.note(row(3), metered);
        assert_eq!([meter(&numbers, 1), meter(&numbers, 3)], [Some(93), Some(91)]);
        numbers.set_meters(3);
        assert_eq!([meter(&numbers, 1), meter(&numbers, 2)], [Some(3), None], "half of three is one");
        assert_eq!(numbers.without_meter(), 2);
        numbers.note(row(1), Needs::default());
        assert_eq!(meter(&numbers, 1), None);
    }
}
