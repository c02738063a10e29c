//! The log on disk against its model in memory, with crashes, full disks and damage; then on a real file system.

#[path = "sim/disk.rs"]
#[allow(dead_code, reason = "shared with the cluster simulation")]
mod disk;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use disk::{Faults, SimDisk};
use proptest::prelude::*;
use quantumnet_consensus::{
    Batch, BatchId, ClusterId, DiskLog, DiskOptions, HardState, LogEntry, LogError, LogStore, MemberId,
    MemoryLog, Recovered, Snapshot, SnapshotMeta, log::vfs::Vfs,
};
use rand::{SeedableRng, rngs::StdRng};

const DIR: &str = "/data";
const CLUSTER: ClusterId = ClusterId(7);
const MEMBER: MemberId = MemberId(1);
const OPTIONS: DiskOptions = DiskOptions { segment_bytes: 2_000, extend_bytes: 4_096 };

fn open(disk: &SimDisk) -> Result<(DiskLog<SimDisk>, Recovered), LogError> {
    DiskLog::open_on(disk.clone(), DIR, CLUSTER, MEMBER, OPTIONS)
}

/// What one step of a history does.
#[derive(Clone, Debug)]
enum Step {
    /// Append `count` entries of `bytes`, replacing the last `replace`.
    Append {
        replace: u64,
        count: u64,
        bytes: usize,
        term_up: bool,
    },
    Sync,
    /// Snapshot of the applied state, `back` entries before the end, then compaction.
    Snapshot {
        back: u64,
    },
    /// A snapshot of the leader, `ahead` of the end.
    Install {
        ahead: u64,
        count: u64,
    },
    /// The disk gets full, then has space again.
    Full {
        free: u64,
    },
    /// Power goes after some operations, in the middle of whatever follows.
    Crash {
        operations: u64,
        seed: u64,
    },
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0_u64..4, 0_u64..5, 1_usize..700, any::<bool>())
            .prop_map(|(replace, count, bytes, term_up)| Step::Append { replace, count, bytes, term_up }),
        4 => Just(Step::Sync),
        1 => (0_u64..6).prop_map(|back| Step::Snapshot { back }),
        1 => (1_u64..6, 0_u64..3).prop_map(|(ahead, count)| Step::Install { ahead, count }),
        1 => (0_u64..5_000).prop_map(|free| Step::Full { free }),
        2 => (0_u64..12, any::<u64>()).prop_map(|(operations, seed)| Step::Crash { operations, seed }),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..60)
}

/// Disk, model, and the states a crash may leave.
struct Pair {
    disk: SimDisk,
    log: DiskLog<SimDisk>,
    model: MemoryLog,
    /// Models since the last sync, newest last: a crash leaves any of them.
    possible: Vec<MemoryLog>,
    snapshot_index: u64,
    last: u64,
    terms: Vec<u64>,
    term: u64,
    batch: u64,
}

impl Pair {
    fn new() -> Self {
        let disk = SimDisk::new();
        let (log, recovered) = open(&disk).expect("an empty disk");
        let mut model = MemoryLog::new();
        assert_eq!(recovered, model.recover());
        Self {
            disk,
            log,
            possible: vec![model.clone()],
            model,
            snapshot_index: 0,
            last: 0,
            terms: vec![0],
            term: 1,
            batch: 0,
        }
    }

    fn batch(&mut self, first: u64, count: u64, bytes: usize, snapshot: Option<Snapshot>) -> Batch {
        self.batch += 1;
        self.terms.resize(first as usize, 0);
        let entries = (first..first + count)
            .map(|index| {
                self.terms.push(self.term);
                let data = Bytes::from(vec![(index + self.term) as u8; bytes]);
                LogEntry { index, term: self.term, data }
            })
            .collect();
        let keeps_tail = count == 0 && snapshot.is_none();
        self.last = if keeps_tail { self.last } else { first + count - 1 };
        let commit = self.snapshot_index;
        let hard_state = HardState { term: self.term, vote: self.batch % 3, commit };
        Batch { id: BatchId(self.batch), hard_state, snapshot, entries }
    }

    fn snapshot(&self, index: u64, term: u64) -> Snapshot {
        let data = Bytes::from(vec![index as u8; 300]);
        Snapshot { meta: SnapshotMeta { index, term, voters: vec![MEMBER] }, data }
    }

    fn append(&mut self, batch: &Batch) -> Result<(), LogError> {
        if let Some(snapshot) = &batch.snapshot {
            // The snapshot may be on disk although the rest is not.
            let mut only = self.model.clone();
            only.crash();
            only.save_snapshot(snapshot)?;
            self.possible.push(only);
        }
        let mut after = self.model.clone();
        after.append(batch)?;
        self.possible.push({
            let mut durable = after.clone();
            durable.sync()?;
            durable
        });
        self.log.append(batch)?;
        self.model = after;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LogError> {
        self.log.sync()?;
        self.model.sync()?;
        self.possible = vec![self.model.clone()];
        Ok(())
    }

    fn take(&mut self, step: &Step) -> Result<(), LogError> {
        match *step {
            Step::Append { replace, count, bytes, term_up } => {
                let first = (self.last + 1).saturating_sub(replace).max(self.snapshot_index + 1);
                self.term += u64::from(term_up || first <= self.last);
                let first = if count == 0 { self.last + 1 } else { first };
                let batch = self.batch(first, count, bytes, None);
                self.append(&batch)
            }
            Step::Sync => self.sync(),
            Step::Snapshot { back } => {
                self.sync()?; // only applied, hence synced, entries go into a snapshot
                let index = self.last.saturating_sub(back);
                if index <= self.snapshot_index {
                    return Ok(());
                }
                let snapshot = self.snapshot(index, self.terms[index as usize]);
                let mut after = self.model.clone();
                after.save_snapshot(&snapshot)?;
                self.possible.push(after.clone());
                self.log.save_snapshot(&snapshot)?;
                self.model = after;
                self.possible = vec![self.model.clone()];
                self.snapshot_index = index;
                self.log.compact(index)
            }
            Step::Install { ahead, count } => {
                self.sync()?;
                let index = self.last + ahead;
                self.term += 1;
                self.terms.resize(index as usize, 0);
                self.terms.push(self.term);
                let snapshot = self.snapshot(index, self.term);
                self.snapshot_index = index;
                let batch = self.batch(index + 1, count, 50, Some(snapshot));
                self.append(&batch)?;
                self.sync()?;
                self.log.compact(index)
            }
            Step::Full { free } => {
                let capacity = Some(self.disk.bytes_used() + free);
                self.disk.set_faults(Faults { capacity, ..Faults::default() });
                let first = self.last + 1;
                let batch = self.batch(first, 3, 900, None);
                self.append(&batch)?;
                for _ in 0..2 {
                    match self.sync() {
                        Ok(()) => {}
                        Err(error) => assert!(error.is_retryable(), "{error}"),
                    }
                }
                self.disk.set_faults(Faults::default());
                self.sync()
            }
            Step::Crash { operations, .. } => {
                let faults = Faults { operations_left: Some(operations), ..Faults::default() };
                self.disk.set_faults(faults);
                let first = self.last + 1;
                let batch = self.batch(first, 2, 400, None);
                self.append(&batch)?;
                self.sync()?;
                self.take(&Step::Snapshot { back: 1 })
            }
            Step::Reopen => Ok(()),
        }
    }

    /// Opens again and compares with every state the crash may have left.
    fn reopen(self, seed: Option<u64>) -> Self {
        let Self { disk, log, possible, term, batch, .. } = self;
        drop(log);
        if let Some(seed) = seed {
            disk.crash(&mut StdRng::seed_from_u64(seed));
        }
        let (log, found) =
            open(&disk).unwrap_or_else(|error| panic!("not readable after a crash: {error:?}"));
        let model = possible.into_iter().rev().find_map(|mut model| {
            model.crash();
            let expected = model.recover();
            let same = expected.hard_state == found.hard_state
                && expected.snapshot == found.snapshot
                && expected.entries == found.entries;
            same.then_some(model)
        });
        let Some(model) = model else { panic!("found {found:?}, which no point of the history explains") };
        let snapshot_index = found.snapshot.as_ref().map_or(0, |snapshot| snapshot.meta.index);
        let last = found.entries.last().map_or(snapshot_index, |entry| entry.index);
        let mut terms = vec![0; last as usize + 1];
        if let Some(snapshot) = &found.snapshot {
            terms[snapshot_index as usize] = snapshot.meta.term;
        }
        for entry in &found.entries {
            terms[entry.index as usize] = entry.term;
        }
        Self {
            disk,
            log,
            possible: vec![model.clone()],
            model,
            snapshot_index,
            last,
            terms,
            term: term + 1,
            batch,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equals_the_model_over_any_history(steps in steps()) {
        let mut pair = Pair::new();
        for step in steps {
            let outcome = pair.take(&step);
            match (&step, outcome) {
                (Step::Crash { seed, .. }, _) => pair = pair.reopen(Some(*seed)),
                (Step::Reopen, Ok(())) => {
                    pair.sync().expect("a healthy disk");
                    pair = pair.reopen(None);
                }
                (_, Ok(())) => {}
                (_, Err(error)) => panic!("{step:?} failed on a healthy disk: {error:?}"),
            }
        }
        pair.sync().expect("a healthy disk");
        pair.reopen(None);
    }

    #[test]
    fn a_cut_tail_leaves_a_prefix(count in 1_u64..30, cut in 0_usize..3_000) {
        let disk = filled(count);
        disk.damage(&segment(1), |bytes| bytes.truncate(bytes.len().saturating_sub(cut).max(90)));
        let (_, found) = open(&disk).expect("a torn tail is no damage");
        check_prefix(&found, 0, count);
    }

    #[test]
    fn a_flipped_bit_is_an_error_or_costs_at_most_the_last_sync(count in 2_u64..30, at in 0_usize..4_000, bit in 0_u8..8) {
        let disk = filled(count);
        disk.damage(&segment(1), |bytes| {
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
        });
        match open(&disk) {
            Ok((_, found)) => check_prefix(&found, count - 1, count),
            Err(error) => assert!(matches!(error, LogError::Corrupt { .. }), "{error:?}"),
        }
    }
}

/// A log of `count` entries, each synced alone, in one segment.
fn filled(count: u64) -> SimDisk {
    let disk = SimDisk::new();
    let mut pair = Pair { disk: disk.clone(), ..Pair::new() };
    let options = DiskOptions { segment_bytes: 1 << 20, extend_bytes: 4_096 };
    pair.log = DiskLog::open_on(disk.clone(), DIR, CLUSTER, MEMBER, options).expect("an empty disk").0;
    for index in 1..=count {
        let batch = pair.batch(index, 1, 60, None);
        pair.append(&batch).expect("a healthy disk");
        pair.sync().expect("a healthy disk");
    }
    disk
}

fn segment(sequence: u64) -> PathBuf {
    Path::new(DIR).join(format!("{sequence:016x}.log"))
}

fn check_prefix(found: &Recovered, at_least: u64, at_most: u64) {
    let last = found.entries.len() as u64;
    assert!((at_least..=at_most).contains(&last), "{last} entries, expected {at_least} to {at_most}");
    assert!(
        found.entries.iter().zip(1..).all(|(entry, index)| entry.index == index && entry.data.len() == 60)
    );
}

#[test]
fn a_failed_sync_stops_the_log_and_a_restart_recovers() {
    let mut pair = Pair::new();
    let batch = pair.batch(1, 2, 50, None);
    pair.append(&batch).expect("a healthy disk");
    pair.sync().expect("a healthy disk");
    pair.disk.set_faults(Faults { sync_fails: true, ..Faults::default() });
    let batch = pair.batch(3, 1, 50, None);
    pair.append(&batch).expect("only collects");
    assert!(matches!(pair.log.sync(), Err(LogError::Stopped { .. })));
    pair.disk.set_faults(Faults::default());
    assert!(matches!(pair.log.sync(), Err(LogError::Stopped { .. })), "a later sync must not pretend");
    assert!(matches!(pair.log.append(&batch), Err(LogError::Stopped { .. })));
    pair.reopen(Some(3));
}

#[test]
fn one_sync_covers_all_batches_appended() {
    let mut pair = Pair::new();
    let first = pair.batch(1, 1, 50, None);
    pair.append(&first).expect("collects");
    pair.sync().expect("a healthy disk");
    let syncs = pair.disk.syncs();
    for index in 2..10 {
        let batch = pair.batch(index, 1, 50, None);
        pair.append(&batch).expect("collects");
    }
    pair.sync().expect("a healthy disk");
    assert_eq!(pair.disk.syncs(), syncs + 1);
}

#[test]
fn compaction_frees_whole_segments() {
    let mut pair = Pair::new();
    for index in 1..60 {
        let batch = pair.batch(index, 1, 200, None);
        pair.append(&batch).expect("collects");
        pair.sync().expect("a healthy disk");
    }
    let (before, used) = (pair.log.segments(), pair.disk.bytes_used());
    pair.take(&Step::Snapshot { back: 0 }).expect("a healthy disk");
    assert!(before > 4 && pair.log.segments() <= 2, "{before} segments, then {}", pair.log.segments());
    assert!(pair.disk.bytes_used() < used / 2);
    pair.reopen(None);
}

#[test]
fn a_gap_is_refused_and_changes_nothing() {
    let mut pair = Pair::new();
    let data = Bytes::from_static(b"x");
    let entries = vec![LogEntry { index: 3, term: 1, data }];
    let batch = Batch { id: BatchId(1), hard_state: HardState::default(), snapshot: None, entries };
    assert!(matches!(pair.log.append(&batch), Err(LogError::Discontinuous { next: 1, got: 3, .. })));
    pair.reopen(None);
}

#[test]
fn a_missing_or_damaged_snapshot_is_an_error_not_an_empty_state() {
    for damaged in [true, false] {
        let mut pair = Pair::new();
        for index in 1..60 {
            let batch = pair.batch(index, 1, 200, None);
            pair.append(&batch).expect("collects");
            pair.sync().expect("a healthy disk");
        }
        pair.take(&Step::Snapshot { back: 5 }).expect("a healthy disk");
        let disk = pair.disk.clone();
        drop(pair);
        let names = disk.list(Path::new(DIR)).expect("names");
        let snapshot = names.iter().find(|name| name.ends_with(".snap")).expect("one was taken");
        let path = Path::new(DIR).join(snapshot);
        if damaged {
            disk.damage(&path, |bytes| bytes[40] ^= 1);
            assert!(matches!(open(&disk), Err(LogError::Format { .. })));
        } else {
            disk.remove(&path).expect("it is there");
            assert!(matches!(open(&disk), Err(LogError::Gap { .. })));
        }
    }
}

#[test]
fn on_a_real_file_system() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("raft");
    let options = DiskOptions::default();
    let (mut log, recovered) = DiskLog::open(&path, CLUSTER, MEMBER, options).expect("a fresh directory");
    assert_eq!(recovered, Recovered { boot: 1, ..Recovered::default() });
    let second = DiskLog::open(&path, CLUSTER, MEMBER, options);
    assert!(matches!(second, Err(LogError::Locked { .. })), "one process at a time");
    let entry = |index| LogEntry { index, term: 1, data: Bytes::from(vec![index as u8; 100]) };
    let hard_state = HardState { term: 1, vote: 1, commit: 2 };
    let batch = Batch { id: BatchId(1), hard_state, snapshot: None, entries: (1..=5).map(entry).collect() };
    log.append(&batch).expect("collects");
    log.sync().expect("a healthy disk");
    let meta = SnapshotMeta { index: 2, term: 1, voters: vec![MEMBER] };
    let snapshot = Snapshot { meta, data: Bytes::from_static(b"state") };
    log.snapshot_writer().write(&snapshot).expect("a healthy disk");
    log.compact(2).expect("a healthy disk");
    drop(log);
    let (log, recovered) = DiskLog::open(&path, CLUSTER, MEMBER, options).expect("our directory");
    assert_eq!(recovered.entries, (3..=5).map(entry).collect::<Vec<_>>());
    assert_eq!((recovered.hard_state, recovered.boot), (hard_state, 2));
    assert_eq!(recovered.snapshot, Some(snapshot));
    drop(log);
    let other = DiskLog::open(&path, CLUSTER, MemberId(2), options);
    assert!(matches!(other, Err(LogError::Identity { what: "member", .. })));
    let other = DiskLog::open(&path, ClusterId(8), MEMBER, options);
    assert!(matches!(other, Err(LogError::Identity { what: "cluster", .. })));
}

#[test]
fn a_directory_that_can_not_be_made_is_a_typed_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    std::fs::write(&file, b"in the way").expect("a healthy disk");
    let opened = DiskLog::open(file.join("raft"), CLUSTER, MEMBER, DiskOptions::default());
    assert!(matches!(opened, Err(LogError::Io { doing: "creating", .. })), "{opened:?}");
}
