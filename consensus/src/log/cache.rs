//! The log as Raft reads it: entries after the last compaction, in memory. Disk is only written, until the next start.
//!
//! # Invariants
//! * Entries are contiguous from `before.0 + 1`; `before` is the position just before the first.
//! * `snapshot.index` is at least `before.0`: whatever is not here any more is in the snapshot.

use std::collections::VecDeque;

use raft::{
    Error, GetEntriesContext, RaftState, Storage, StorageError,
    eraftpb::{ConfState, Entry, Snapshot as RaftSnapshot},
};

use crate::event::{HardState, LogEntry, MemberId, Recovered, Snapshot};

/// Entries in memory and the newest snapshot.
#[derive(Debug)]
pub(crate) struct Cache {
    hard_state: HardState,
    voters: Vec<MemberId>,
    before: (u64, u64),
    entries: VecDeque<Entry>,
    bytes: u64,
    snapshot: Option<Snapshot>,
}

impl Cache {
    pub(crate) fn new(recovered: Recovered, voters: Vec<MemberId>) -> Self {
        let before = recovered.snapshot.as_ref().map_or((0, 0), |s| (s.meta.index, s.meta.term));
        let mut hard_state = recovered.hard_state;
        hard_state.commit = hard_state.commit.max(before.0);
        let mut cache = Self {
            hard_state,
            voters,
            before,
            entries: VecDeque::new(),
            bytes: 0,
            snapshot: recovered.snapshot,
        };
        for entry in recovered.entries {
            cache.push(to_raft(&entry));
        }
        cache
    }

    pub(crate) fn last(&self) -> u64 {
        self.before.0 + self.entries.len() as u64
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    pub(crate) fn entries_held(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) const fn bytes_held(&self) -> u64 {
        self.bytes
    }

    pub(crate) const fn snapshot_held(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// The term at `index`, if it is still known.
    pub(crate) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.before.0 {
            return Some(self.before.1);
        }
        let at = index.checked_sub(self.before.0 + 1)?;
        self.entries.get(usize::try_from(at).ok()?).map(|entry| entry.term)
    }

    /// Replaces everything from the first of `entries` on.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(
            first.index > self.before.0 && first.index <= self.last() + 1,
            "raft appends within or right after the log: {} to {}..={}",
            first.index,
            self.before.0,
            self.last()
        );
        while self.last() >= first.index {
            let gone = self.entries.pop_back().expect("last() is above the compacted part");
            self.bytes -= entry_bytes(&gone);
        }
        for entry in entries {
            self.push(entry.clone());
        }
    }

    /// Replaces the whole log by a snapshot received from the leader.
    pub(crate) fn install(&mut self, snapshot: Snapshot) {
        self.before = (snapshot.meta.index, snapshot.meta.term);
        self.entries.clear();
        self.bytes = 0;
        self.snapshot = Some(snapshot);
    }

    /// Remembers a snapshot of the applied state and forgets entries up to `through`.
    pub(crate) fn compact(&mut self, snapshot: Snapshot, through: u64) {
        assert!(through <= snapshot.meta.index, "only what a snapshot covers may be forgotten");
        self.snapshot = Some(snapshot);
        while self.before.0 < through {
            let Some(gone) = self.entries.pop_front() else { return };
            self.bytes -= entry_bytes(&gone);
            self.before = (gone.index, gone.term);
        }
    }

    fn push(&mut self, entry: Entry) {
        assert_eq!(entry.index, self.last() + 1, "entries are contiguous");
        self.bytes += entry_bytes(&entry);
        self.entries.push_back(entry);
    }
}

impl Storage for Cache {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let HardState { term, vote, commit } = self.hard_state;
        let hard_state = raft::eraftpb::HardState { term, vote, commit, ..Default::default() };
        Ok(RaftState::new(hard_state, conf_state(&self.voters)))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.before.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let max = max_size.into().unwrap_or(u64::MAX);
        let mut bytes = 0;
        let mut out = Vec::new();
        let start = (low - self.before.0 - 1) as usize;
        for entry in self.entries.range(start..start + (high - low) as usize) {
            bytes += entry_bytes(entry);
            if bytes > max && !out.is_empty() {
                break;
            }
            out.push(entry.clone());
        }
        Ok(out)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.before.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        self.term_at(index).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.before.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// Only the description: the node sends the data itself, in chunks.
    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<RaftSnapshot> {
        match &self.snapshot {
            Some(held) if held.meta.index >= request_index => {
                let description = Snapshot { meta: held.meta.clone(), data: bytes::Bytes::new() };
                Ok(snapshot_to_raft(&description))
            }
            _ => Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable)),
        }
    }
}

pub(crate) fn to_raft(entry: &LogEntry) -> Entry {
    Entry { index: entry.index, term: entry.term, data: entry.data.clone(), ..Entry::default() }
}

pub(crate) fn from_raft(entry: &Entry) -> LogEntry {
    LogEntry { index: entry.index, term: entry.term, data: entry.data.clone() }
}

pub(crate) fn snapshot_to_raft(snapshot: &Snapshot) -> RaftSnapshot {
    let mut out = RaftSnapshot { data: snapshot.data.clone(), ..RaftSnapshot::default() };
    let meta = out.mut_metadata();
    meta.index = snapshot.meta.index;
    meta.term = snapshot.meta.term;
    meta.set_conf_state(conf_state(&snapshot.meta.voters));
    out
}

fn conf_state(voters: &[MemberId]) -> ConfState {
    ConfState::from((voters.iter().map(|id| id.0).collect::<Vec<_>>(), Vec::new()))
}

fn entry_bytes(entry: &Entry) -> u64 {
    entry.data.len() as u64 + ENTRY_OVERHEAD_BYTES
}

/// What an entry costs beside its data, on the wire and on disk alike (rounded up).
pub(crate) const ENTRY_OVERHEAD_BYTES: u64 = 32;
