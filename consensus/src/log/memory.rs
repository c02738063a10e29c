//! The log as a value: the model the disk log is compared with, and enough for tests of other crates.

use std::collections::BTreeMap;

use crate::{
    error::LogError,
    event::{Batch, HardState, LogEntry, Recovered, Snapshot},
    log::LogStore,
};

/// A log in memory. [`MemoryLog::crash`] keeps what was synced.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    synced: Contents,
    appended: Contents,
    boot: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Contents {
    hard_state: HardState,
    snapshot: Option<Snapshot>,
    entries: BTreeMap<u64, LogEntry>,
    /// Last index: also meaningful when there are no entries.
    last: u64,
}

impl MemoryLog {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Loses what was not synced.
    pub fn crash(&mut self) {
        self.appended = self.synced.clone();
    }

    /// What opening the log would find; counts as a start.
    pub fn recover(&mut self) -> Recovered {
        self.boot += 1;
        let contents = &mut self.appended;
        contents.settle();
        self.synced = contents.clone();
        Recovered {
            hard_state: contents.hard_state,
            snapshot: contents.snapshot.clone(),
            entries: contents.entries.values().cloned().collect(),
            boot: self.boot,
            torn_bytes: 0,
        }
    }
}

impl Contents {
    /// Drops what the snapshot covers, and everything if the log does not pass through the snapshot's position.
    fn settle(&mut self) {
        let Some(meta) = self.snapshot.as_ref().map(|snapshot| &snapshot.meta) else { return };
        let passes = self.entries.get(&meta.index).is_some_and(|entry| entry.term == meta.term)
            || self.entries.first_key_value().is_some_and(|(first, _)| *first == meta.index + 1);
        if passes {
            self.entries = self.entries.split_off(&(meta.index + 1));
        } else {
            self.entries.clear();
        }
        self.last = self.entries.last_key_value().map_or(meta.index, |(last, _)| *last);
    }

    fn save(&mut self, snapshot: &Snapshot) {
        if self.snapshot.as_ref().is_none_or(|held| held.meta.index < snapshot.meta.index) {
            self.snapshot = Some(snapshot.clone());
        }
    }
}

impl LogStore for MemoryLog {
    fn append(&mut self, batch: &Batch) -> Result<(), LogError> {
        if let Some(snapshot) = &batch.snapshot {
            self.synced.save(snapshot);
            self.appended.save(snapshot);
            self.appended.entries.clear();
            self.appended.last = snapshot.meta.index;
        }
        if let Some(first) = batch.entries.first() {
            let next = self.appended.last + 1;
            if first.index > next {
                return Err(LogError::Discontinuous { first: 1, next, got: first.index });
            }
            self.appended.entries.split_off(&first.index);
        }
        for entry in &batch.entries {
            self.appended.last = entry.index;
            self.appended.entries.insert(entry.index, entry.clone());
        }
        self.appended.hard_state = batch.hard_state;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LogError> {
        self.synced = self.appended.clone();
        Ok(())
    }

    fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), LogError> {
        self.synced.save(snapshot);
        self.appended.save(snapshot);
        Ok(())
    }

    fn compact(&mut self, _through: u64) -> Result<(), LogError> {
        Ok(())
    }
}
