//! One member behind a [`Driver`]: what a program sees of restarts, group commit, full disks and snapshots.

#[path = "sim/disk.rs"]
#[allow(dead_code, reason = "shared with the cluster simulation")]
mod disk;

use std::time::Duration;

use bytes::Bytes;
use disk::{Faults, SimDisk};
use quantumnet_consensus::{
    Answer, ClusterId, Config, DiskLog, DiskOptions, Driver, Event, FatalError, LogError, MemberId, Output,
    Refusal, RequestId, Snapshot, SnapshotMeta,
};
use rand::{SeedableRng, rngs::StdRng};

const CLUSTER: ClusterId = ClusterId(1);
const ME: MemberId = MemberId(1);

/// A driver, and what it put out.
struct Program {
    driver: Driver<DiskLog<SimDisk>>,
    applied: Vec<Bytes>,
    answers: Vec<(u64, Answer)>,
    position: (u64, u64),
    snapshots_wanted: u64,
    stalls: u64,
    ticks: u64,
}

impl Program {
    fn start(disk: &SimDisk) -> Self {
        let options = DiskOptions { segment_bytes: 10_000, extend_bytes: 4_096 };
        let (log, recovered) =
            DiskLog::open_on(disk.clone(), "/data", CLUSTER, ME, options).expect("a sound disk");
        let applied = recovered.snapshot.iter().map(|snapshot| snapshot.data.clone()).collect();
        let config = Config { snapshot_after_bytes: 20_000, ..Config::new(CLUSTER, ME, vec![ME]) };
        let driver = Driver::new(config, log, recovered).expect("a right configuration");
        Self {
            driver,
            applied,
            answers: Vec::new(),
            position: (0, 0),
            snapshots_wanted: 0,
            stalls: 0,
            ticks: 0,
        }
    }

    fn handle(&mut self, events: Vec<Event>) -> Result<(), FatalError> {
        self.ticks += 1;
        for output in self.driver.handle_all(Duration::from_millis(self.ticks * 100), events)? {
            match output {
                Output::Apply { entries } => {
                    self.position = entries.last().map_or(self.position, |entry| (entry.index, entry.term));
                    self.applied
                        .extend(entries.into_iter().map(|entry| entry.data).filter(|data| !data.is_empty()));
                }
                Output::Answer { request, answer } => self.answers.push((request.0, answer)),
                Output::TakeSnapshot => self.snapshots_wanted += 1,
                Output::Stalled { error } => {
                    assert!(matches!(error, LogError::DiskFull { .. }), "{error:?}");
                    self.stalls += 1;
                }
                Output::Send { .. } | Output::InstallSnapshot(_) | Output::LeaderChanged(_) => {}
            }
        }
        Ok(())
    }

    fn elect(&mut self) {
        while !self.driver.may_propose() {
            assert!(self.ticks < 100, "no leader of one");
            self.handle(vec![Event::Tick]).expect("a sound disk");
        }
    }

    fn proposal(&self, number: u64) -> Event {
        let (request, term) = (RequestId(number), self.driver.leadership().term);
        Event::Propose { request, term, data: Bytes::from(vec![number as u8; 100]) }
    }

    fn committed(&self) -> usize {
        self.answers.iter().filter(|(_, answer)| matches!(answer, Answer::Committed { .. })).count()
    }
}

#[test]
fn proposals_that_wait_together_share_one_sync() {
    let disk = SimDisk::new();
    let mut program = Program::start(&disk);
    program.elect();
    let syncs = disk.syncs();
    let proposals = (0..30).map(|number| program.proposal(number)).collect();
    program.handle(proposals).expect("a sound disk");
    assert_eq!((program.committed(), disk.syncs()), (30, syncs + 1));
    program.handle(vec![Event::Read { request: RequestId(99) }]).expect("a sound disk");
    assert!(
        matches!(program.answers.last(), Some((99, Answer::ReadReady { index })) if *index == program.position.0)
    );
}

#[test]
fn everything_acknowledged_survives_a_crash() {
    for seed in 0..20 {
        let disk = SimDisk::new();
        let mut program = Program::start(&disk);
        program.elect();
        for number in 0..10 {
            program.handle(vec![program.proposal(number)]).expect("a sound disk");
        }
        assert_eq!(program.committed(), 10);
        let before = program.applied.clone();
        drop(program);
        disk.crash(&mut StdRng::seed_from_u64(seed));
        let mut program = Program::start(&disk);
        program.elect();
        assert_eq!(program.applied, before);
    }
}

#[test]
fn a_full_disk_stalls_and_then_goes_on_without_loss() {
    let disk = SimDisk::new();
    let mut program = Program::start(&disk);
    program.elect();
    let capacity = Some(disk.bytes_used() + 5_000);
    disk.set_faults(Faults { capacity, ..Faults::default() });
    for number in 0..200 {
        program.handle(vec![program.proposal(number), Event::Tick]).expect("a full disk is not fatal");
    }
    let committed = program.committed();
    assert!(committed < 200 && program.driver.is_stalled());
    assert_eq!(program.stalls, 1, "said once");
    disk.set_faults(Faults::default());
    program.handle(vec![Event::Tick]).expect("a sound disk");
    assert_eq!((program.committed(), program.driver.is_stalled()), (200, false));
    let before = program.applied.clone();
    drop(program);
    disk.crash(&mut StdRng::seed_from_u64(1));
    let mut program = Program::start(&disk);
    program.elect();
    assert_eq!(program.applied, before);
}

#[test]
fn a_failed_sync_is_fatal_and_acknowledges_nothing() {
    let disk = SimDisk::new();
    let mut program = Program::start(&disk);
    program.elect();
    disk.set_faults(Faults { sync_fails: true, ..Faults::default() });
    let outcome = program.handle(vec![program.proposal(1)]);
    assert!(matches!(outcome, Err(FatalError::Log(LogError::Stopped { .. }))), "{outcome:?}");
    assert_eq!(program.committed(), 0);
    disk.set_faults(Faults::default());
    let outcome = program.handle(vec![Event::Tick]);
    assert!(matches!(outcome, Err(FatalError::Log(LogError::Stopped { .. }))), "{outcome:?}");
}

#[test]
fn a_snapshot_is_asked_for_and_shortens_the_log() {
    let disk = SimDisk::new();
    let mut program = Program::start(&disk);
    program.elect();
    for number in 0..200 {
        program.handle(vec![program.proposal(number)]).expect("a sound disk");
    }
    assert_eq!(program.snapshots_wanted, 1);
    let used = disk.bytes_used();
    let meta = SnapshotMeta { index: program.position.0, term: program.position.1, voters: Vec::new() };
    let snapshot = Snapshot { meta, data: Bytes::from_static(b"all of it") };
    program.driver.snapshot_writer().write(&snapshot).expect("a sound disk");
    program.handle(vec![Event::SnapshotTaken(snapshot)]).expect("a sound disk");
    assert!(disk.bytes_used() < used);
    program.handle(vec![program.proposal(7)]).expect("a sound disk");
    drop(program);
    let mut program = Program::start(&disk);
    program.elect();
    assert_eq!(program.applied, [Bytes::from_static(b"all of it"), Bytes::from(vec![7; 100])]);
}

#[test]
fn a_proposal_is_refused_with_its_reason() {
    let mut program = Program::start(&SimDisk::new());
    let data = Bytes::from_static(b"x");
    let propose = |term, data| Event::Propose { request: RequestId(1), term, data };
    program.handle(vec![propose(0, data.clone())]).expect("a sound disk");
    program.elect();
    let term = program.driver.leadership().term;
    program.handle(vec![propose(term + 1, data)]).expect("a sound disk");
    program.handle(vec![propose(term, Bytes::new())]).expect("a sound disk");
    program.handle(vec![propose(term, Bytes::from(vec![0; (8 << 20) + 1]))]).expect("a sound disk");
    let refused = |refusal| (1, Answer::Refused(refusal));
    let max = 8 << 20;
    assert_eq!(
        program.answers,
        [
            refused(Refusal::NotLeader { leader: None }),
            refused(Refusal::StaleTerm { expected: term, got: term + 1 }),
            refused(Refusal::Empty),
            refused(Refusal::TooLarge { max, got: max + 1 }),
        ]
    );
}
