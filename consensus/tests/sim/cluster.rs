//! A whole cluster in one thread: a seeded scheduler owns clock, links, disks and crashes; clients keep an oracle.
//!
//! The model state machine is a list of writes, each a unique number, behind a [`Sequencer`], as the store has it: the
//! leader evaluates on its head, which runs ahead of what is applied.

#[path = "invariants.rs"]
mod invariants;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quantumnet_consensus::{
    Admit, Answer, Batch, BatchId, ClusterId, Config, DiskLog, DiskOptions, Effect, Event, FatalError,
    LogEntry, LogStore, MemberId, Node, Refusal, RequestId, Sequenced, Sequencer, Snapshot, SnapshotMeta,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use self::invariants::holds;
use crate::disk::{Faults, SimDisk};

const CLUSTER: ClusterId = ClusterId(42);
const DIR: &str = "/data";

/// What may go wrong in a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) members: u64,
    pub(crate) steps: u64,
    pub(crate) loss: f64,
    pub(crate) duplicates: f64,
    pub(crate) delay_max: u64,
    pub(crate) crash: f64,
    pub(crate) partition: f64,
    pub(crate) full_disk: f64,
    pub(crate) transfer: f64,
    pub(crate) sync_lies: bool,
    pub(crate) snapshot_after_bytes: u64,
}

impl Plan {
    pub(crate) const fn calm(members: u64) -> Self {
        Self {
            members,
            steps: 600,
            loss: 0.0,
            duplicates: 0.0,
            delay_max: 3,
            crash: 0.0,
            partition: 0.0,
            full_disk: 0.0,
            transfer: 0.0,
            sync_lies: false,
            snapshot_after_bytes: 2_500,
        }
    }

    pub(crate) const fn hostile(members: u64) -> Self {
        Self {
            loss: 0.05,
            duplicates: 0.05,
            delay_max: 8,
            crash: 0.003,
            partition: 0.01,
            full_disk: 0.003,
            transfer: 0.004,
            steps: 2_500,
            ..Self::calm(members)
        }
    }
}

/// The replicated state of the model.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    pub(crate) sequencer: Sequencer,
    pub(crate) writes: Vec<u64>,
    pub(crate) applied: (u64, u64),
}

impl State {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u64_le(self.sequencer.revision);
        for write in &self.writes {
            out.put_u64_le(*write);
        }
        out.freeze()
    }

    fn decode(snapshot: &Snapshot) -> Self {
        let mut data = snapshot.data.clone();
        let sequencer = Sequencer::at(data.get_u64_le());
        let writes = std::iter::from_fn(|| (!data.is_empty()).then(|| data.get_u64_le())).collect();
        Self { sequencer, writes, applied: (snapshot.meta.index, snapshot.meta.term) }
    }
}

/// A member that runs.
pub(crate) struct Alive {
    pub(crate) node: Node,
    log: DiskLog<SimDisk>,
    pub(crate) state: State,
    /// Leader's speculative head: revision after everything proposed. `None` while it may not propose.
    head: Option<(u64, u64)>,
    /// Batches handed out, not yet on disk: the disk is slower than the clock.
    disk_queue: VecDeque<Batch>,
    disk_busy_until: u64,
    /// Writes proposed here, by request.
    writes: BTreeMap<RequestId, u64>,
    reads: BTreeMap<RequestId, Floor>,
    /// Appended to the log, not yet synced.
    unsynced: Option<BatchId>,
}

/// What a read must at least see: whatever was acknowledged, or read by anybody, before it began.
#[derive(Clone, Copy)]
struct Floor {
    acknowledged: usize,
    writes_seen: usize,
}

/// A member, running or not.
pub(crate) struct Member {
    pub(crate) id: MemberId,
    pub(crate) disk: SimDisk,
    pub(crate) alive: Option<Alive>,
    down_until: u64,
    full_until: u64,
}

/// What clients know. A write without an answer is unknown: it may be applied at any time, or never.
#[derive(Default)]
pub(crate) struct Oracle {
    /// In the order of their answers.
    pub(crate) acknowledged: Vec<u64>,
    /// Most writes any read has returned.
    writes_seen: usize,
    pub(crate) refused: BTreeSet<u64>,
    pub(crate) answers: u64,
    pub(crate) reads: u64,
    pub(crate) stale: u64,
    pub(crate) unknown: u64,
    pub(crate) not_leader: u64,
}

/// Everything.
pub(crate) struct Cluster {
    pub(crate) plan: Plan,
    pub(crate) members: Vec<Member>,
    pub(crate) oracle: Oracle,
    pub(crate) rng: StdRng,
    pub(crate) now: u64,
    seed: u64,
    links: BTreeMap<u64, Vec<(MemberId, MemberId, Bytes)>>,
    /// Members that reach each other have the same number.
    pub(crate) sides: Vec<u32>,
    partition_until: u64,
    request_next: u64,
    write_next: u64,
    /// First application of each index, over all members: state machine safety compares with it.
    committed: BTreeMap<u64, LogEntry>,
    /// Leaders by term.
    leaders: BTreeMap<u64, MemberId>,
    pub(crate) terms_with_leader: u64,
    pub(crate) snapshots_installed: u64,
    pub(crate) restarts: u64,
    /// What was violated, by the property's name.
    pub(crate) violations: Vec<(&'static str, String)>,
}

impl Cluster {
    pub(crate) fn new(plan: Plan, seed: u64) -> Self {
        let members = (1..=plan.members).map(|id| Member {
            id: MemberId(id),
            disk: SimDisk::new(),
            alive: None,
            down_until: 0,
            full_until: 0,
        });
        let mut cluster = Self {
            plan,
            members: members.collect(),
            oracle: Oracle::default(),
            rng: StdRng::seed_from_u64(seed),
            now: 0,
            seed,
            links: BTreeMap::new(),
            sides: vec![0; plan.members as usize],
            partition_until: 0,
            request_next: 0,
            write_next: 0,
            committed: BTreeMap::new(),
            leaders: BTreeMap::new(),
            terms_with_leader: 0,
            snapshots_installed: 0,
            restarts: 0,
            violations: Vec::new(),
        };
        for at in 0..cluster.members.len() {
            cluster.start(at);
        }
        cluster
    }

    /// Runs the plan, then removes all faults and demands that the cluster heals.
    pub(crate) fn run(&mut self) {
        for _ in 0..self.plan.steps {
            self.faults();
            self.clients();
            self.step();
            if !self.violations.is_empty() {
                return;
            }
        }
        self.heal();
    }

    /// Last phase: no faults, everybody up; all members must agree and take writes.
    pub(crate) fn heal(&mut self) {
        let calm = Plan { sync_lies: self.plan.sync_lies, ..Plan::calm(self.plan.members) };
        self.plan = Plan { snapshot_after_bytes: self.plan.snapshot_after_bytes, ..calm };
        self.sides.fill(0);
        for at in 0..self.members.len() {
            self.members[at].disk.set_faults(Faults { sync_lies: self.plan.sync_lies, ..Faults::default() });
            if self.members[at].alive.is_none() {
                self.start(at);
            }
        }
        let before = self.oracle.acknowledged.len();
        for step in 0..2_500 {
            if step < 1_500 {
                self.clients();
            }
            self.step();
            if !self.violations.is_empty() {
                return;
            }
        }
        if self.oracle.acknowledged.len() < before + 20 {
            self.violated(
                "liveness",
                format!("{} acknowledged, then healed, then {}", before, self.oracle.acknowledged.len()),
            );
        }
        let applied =
            self.members.iter().map(|member| member.alive.as_ref().map(|alive| alive.state.clone()));
        let states = applied.collect::<Vec<_>>();
        if states.iter().any(|state| *state != states[0]) {
            let revisions = states.iter().flatten().map(|state| state.applied).collect::<Vec<_>>();
            self.violated("convergence", format!("members applied {revisions:?}"));
        }
        let last = states.into_iter().flatten().next().unwrap_or_default();
        self.check_clients(&last);
    }

    fn faults(&mut self) {
        let plan = self.plan;
        for at in 0..self.members.len() {
            if self.members[at].alive.is_some() && self.rng.random_bool(plan.crash) {
                self.crash(at);
            } else if self.members[at].alive.is_none() && self.now >= self.members[at].down_until {
                self.start(at);
            }
            let member = &mut self.members[at];
            if self.rng.random_bool(plan.full_disk) {
                member.full_until = self.now + self.rng.random_range(20..200);
                let capacity = Some(member.disk.bytes_used());
                member.disk.set_faults(Faults { capacity, sync_lies: plan.sync_lies, ..Faults::default() });
            } else if member.full_until != 0 && self.now >= member.full_until {
                member.full_until = 0;
                member.disk.set_faults(Faults { sync_lies: plan.sync_lies, ..Faults::default() });
            }
        }
        if self.now >= self.partition_until {
            self.sides.fill(0);
            if self.rng.random_bool(plan.partition) {
                for side in &mut self.sides {
                    *side = self.rng.random_range(0..2);
                }
                self.partition_until = self.now + self.rng.random_range(30..300);
            }
        }
        if self.rng.random_bool(plan.transfer) {
            let to = MemberId(self.rng.random_range(1..=plan.members));
            if let Some(leader) = self.leader() {
                self.deliver(leader, Event::TransferLeader { to });
            }
        }
    }

    fn clients(&mut self) {
        if self.rng.random_bool(0.4) {
            let at = self.rng.random_range(0..self.members.len());
            let at = if self.rng.random_bool(0.8) { self.leader().unwrap_or(at) } else { at };
            self.write(at);
        }
        if self.rng.random_bool(0.2) {
            let at = self.rng.random_range(0..self.members.len());
            self.read(at);
        }
    }

    /// One unit of time: disks finish, messages arrive, clocks tick.
    pub(crate) fn step(&mut self) {
        self.now += 1;
        for at in 0..self.members.len() {
            self.disk(at);
        }
        for (from, to, bytes) in self.links.remove(&self.now).unwrap_or_default() {
            let (source, target) = (from.0 as usize - 1, to.0 as usize - 1);
            if self.sides[source] == self.sides[target] {
                self.deliver(target, Event::Message { from, bytes });
            }
        }
        for at in 0..self.members.len() {
            // Clocks are not in step.
            if (self.now + at as u64).is_multiple_of(TICK) {
                self.deliver(at, Event::Tick);
                if !self.announces_commits() && (self.now + at as u64).is_multiple_of(3 * TICK) {
                    self.deliver(at, Event::AnnounceCommit);
                }
            }
        }
        self.check_logs();
    }

    /// Half of the runs leave it to the program when followers hear of commits.
    fn announces_commits(&self) -> bool {
        self.seed.is_multiple_of(2)
    }

    pub(crate) fn leader(&self) -> Option<usize> {
        let leads = |member: &Member| member.alive.as_ref().is_some_and(|alive| alive.node.may_propose());
        let term = |member: &Member| member.alive.as_ref().map_or(0, |alive| alive.node.leadership().term);
        (0..self.members.len())
            .filter(|at| leads(&self.members[*at]))
            .max_by_key(|at| term(&self.members[*at]))
    }

    /// Runs until some member may propose.
    pub(crate) fn elect(&mut self) -> usize {
        for _ in 0..3_000 {
            if let Some(leader) = self.leader() {
                return leader;
            }
            self.step();
        }
        panic!("no leader within 3000 steps, seed {}", self.seed);
    }

    /// The client writes through member `at`; returns the write's number.
    pub(crate) fn write(&mut self, at: usize) -> Option<u64> {
        let alive = self.members[at].alive.as_mut()?;
        self.write_next += 1;
        self.request_next += 1;
        let (write, request) = (self.write_next, RequestId(self.request_next));
        let leadership = alive.node.leadership();
        let base_revision = match &mut alive.head {
            Some((term, head)) if *term == leadership.term => {
                *head += 1;
                *head - 1
            }
            _ => alive.state.sequencer.revision,
        };
        alive.writes.insert(request, write);
        self.propose(at, request, leadership.term, base_revision, write);
        Some(write)
    }

    /// Proposes a write evaluated on a revision of the test's choice.
    pub(crate) fn propose_tracked(&mut self, at: usize, term: u64, base_revision: u64, write: u64) {
        self.request_next += 1;
        let request = RequestId(self.request_next);
        if let Some(alive) = self.members[at].alive.as_mut() {
            alive.writes.insert(request, write);
        }
        self.propose(at, request, term, base_revision, write);
    }

    /// Forgets what members did, not what clients were told: only the clients' view is judged from here on.
    pub(crate) fn forget_history(&mut self) {
        self.committed.clear();
        self.leaders.clear();
    }

    fn propose(&mut self, at: usize, request: RequestId, term: u64, base_revision: u64, write: u64) {
        let payload = Bytes::from([write.to_le_bytes().as_slice(), &[7; 40]].concat());
        let data = Sequenced { base_revision, payload }.encode();
        self.deliver(at, Event::Propose { request, term, data });
    }

    pub(crate) fn read(&mut self, at: usize) {
        let Some(alive) = self.members[at].alive.as_mut() else { return };
        self.request_next += 1;
        let request = RequestId(self.request_next);
        let acknowledged = self.oracle.acknowledged.len();
        alive.reads.insert(request, Floor { acknowledged, writes_seen: self.oracle.writes_seen });
        self.deliver(at, Event::Read { request });
    }

    pub(crate) fn crash(&mut self, at: usize) {
        let member = &mut self.members[at];
        member.alive = None;
        member.disk.crash(&mut self.rng);
        member.down_until = self.now + self.rng.random_range(1..150);
    }

    pub(crate) fn start(&mut self, at: usize) {
        let faults = Faults { sync_lies: self.plan.sync_lies, ..Faults::default() };
        let announces_commits = self.announces_commits();
        let member = &mut self.members[at];
        member.disk.set_faults(faults);
        member.full_until = 0;
        let options = DiskOptions { segment_bytes: 6_000, extend_bytes: 4_096 };
        let opened = DiskLog::open_on(member.disk.clone(), DIR, CLUSTER, member.id, options);
        let (log, recovered) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.violated("recovery", format!("member {at}: {error:?}")),
        };
        let voters = (1..=self.plan.members).map(MemberId).collect();
        let config = Config {
            seed: self.seed,
            snapshot_after_bytes: self.plan.snapshot_after_bytes,
            retain_entries: 10,
            snapshot_chunk_bytes: 300,
            append_bytes_max: 1_000,
            apply_bytes_max: 2_000,
            inflight_messages_max: 8,
            announces_commits,
            ..Config::new(CLUSTER, member.id, voters)
        };
        let state = recovered.snapshot.as_ref().map_or_else(State::default, State::decode);
        let node = Node::new(config, recovered).expect("a right configuration");
        self.restarts += 1;
        member.alive = Some(Alive {
            node,
            log,
            state,
            head: None,
            disk_queue: VecDeque::new(),
            disk_busy_until: 0,
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
            unsynced: None,
        });
    }

    /// The disk finishes what it was given some time ago: all of it with one sync.
    fn disk(&mut self, at: usize) {
        let now = self.now;
        let Some(alive) = self.members[at].alive.as_mut() else { return };
        if (alive.disk_queue.is_empty() && alive.unsynced.is_none()) || now < alive.disk_busy_until {
            return;
        }
        let written = loop {
            let Some(batch) = alive.disk_queue.front() else { break alive.log.sync() };
            if let Err(error) = alive.log.append(batch) {
                break Err(error);
            }
            alive.unsynced = Some(batch.id);
            alive.disk_queue.pop_front();
        };
        match written {
            Ok(()) => {
                let batch = alive.unsynced.take().expect("something was appended");
                self.deliver(at, Event::Persisted { batch });
            }
            Err(error) if error.is_retryable() => {
                // Some programs try again at once, some are restarted.
                if self.rng.random_bool(0.1) {
                    self.crash(at);
                }
            }
            Err(error) => self.violated("disk", format!("member {at}: {error:?}")),
        }
    }

    pub(crate) fn deliver(&mut self, at: usize, event: Event) {
        let now = Duration::from_millis(self.now * 10);
        let Some(alive) = self.members[at].alive.as_mut() else { return };
        match alive.node.step(now, event) {
            Ok(effects) => self.carry_out(at, effects),
            Err(fault) => {
                let fatal = FatalError::from(fault);
                self.violated("no member loses what it acknowledged", format!("member {at}: {fatal:?}"));
            }
        }
    }

    fn carry_out(&mut self, at: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, bytes } => self.send(at, to, &bytes),
                Effect::Apply { entries } => self.apply(at, &entries),
                Effect::Answer { request, answer } => self.answer(at, request, &answer),
                other => self.carry_out_local(at, other),
            }
        }
    }

    fn carry_out_local(&mut self, at: usize, effect: Effect) {
        let (now, slow) = (self.now, self.rng.random_range(0..4));
        let Some(alive) = self.members[at].alive.as_mut() else { return };
        match effect {
            Effect::Persist(batch) => {
                if alive.disk_queue.is_empty() {
                    alive.disk_busy_until = now + slow;
                }
                alive.disk_queue.push_back(batch);
            }
            Effect::InstallSnapshot(snapshot) => {
                alive.state = State::decode(&snapshot);
                alive.head = None;
                self.snapshots_installed += 1;
            }
            Effect::LeaderChanged(leadership) => {
                alive.head =
                    leadership.may_propose.then_some((leadership.term, alive.state.sequencer.revision));
                if leadership.may_propose {
                    self.elected(leadership.term, self.members[at].id);
                }
            }
            Effect::TakeSnapshot => {
                let (index, term) = alive.state.applied;
                let meta = SnapshotMeta { index, term, voters: Vec::new() };
                let snapshot = Snapshot { meta, data: alive.state.encode() };
                // A full disk only costs the snapshot.
                if alive.log.snapshot_writer().write(&snapshot).is_ok() {
                    self.deliver(at, Event::SnapshotTaken(snapshot));
                }
            }
            Effect::Compact { through } => {
                if let Err(error) = alive.log.compact(through) {
                    self.violated("disk", format!("member {at}: {error:?}"));
                }
            }
            Effect::Send { .. } | Effect::Apply { .. } | Effect::Answer { .. } => {}
        }
    }

    fn send(&mut self, at: usize, to: MemberId, bytes: &Bytes) {
        let from = self.members[at].id;
        let copies = if self.rng.random_bool(self.plan.duplicates) { 2 } else { 1 };
        for _ in 0..copies {
            if self.rng.random_bool(self.plan.loss) {
                continue;
            }
            let arrives = self.now + self.rng.random_range(1..=self.plan.delay_max);
            self.links.entry(arrives).or_default().push((from, to, bytes.clone()));
        }
    }

    /// State machine safety: the same entry at the same index everywhere; then the model applies it.
    fn apply(&mut self, at: usize, entries: &[LogEntry]) {
        for entry in entries {
            let first = self.committed.entry(entry.index).or_insert_with(|| entry.clone());
            if first != entry {
                let text = format!("index {}: {first:?} and, at member {at}, {entry:?}", entry.index);
                self.violated("state machine safety", text);
            }
            let Some(alive) = self.members[at].alive.as_mut() else { return };
            let expected = alive.state.applied.0 + 1;
            alive.state.applied = (entry.index, entry.term);
            if entry.index != expected {
                let text = format!("member {at} applies {} after {}", entry.index, expected - 1);
                return self.violated("applied in order", text);
            }
            if entry.data.is_empty() {
                continue;
            }
            let sequenced = Sequenced::decode(entry.data.clone()).expect("what the model proposed");
            match alive.state.sequencer.admit(&sequenced) {
                Admit::Apply { .. } => alive.state.writes.push(sequenced.payload.clone().get_u64_le()),
                Admit::Stale { .. } => self.oracle.stale += 1,
            }
        }
    }

    fn answer(&mut self, at: usize, request: RequestId, answer: &Answer) {
        self.oracle.answers += 1;
        let Some(alive) = self.members[at].alive.as_mut() else { return };
        if let Some(write) = alive.writes.remove(&request) {
            if let Answer::Committed { index, term } = answer
                && !self.committed.get(index).is_some_and(|entry| entry.term == *term && holds(entry, write))
            {
                return self.violated("answers are true", format!("write {write} is not at index {index}"));
            }
            match answer {
                // Committed but stale is a no-op; its client is told to retry, which is a refusal.
                Answer::Committed { .. } if alive.state.writes.contains(&write) => {
                    self.oracle.acknowledged.push(write);
                }
                Answer::Refused(Refusal::Unknown { .. }) => self.oracle.unknown += 1,
                Answer::Refused(refusal) => {
                    self.oracle.not_leader += u64::from(matches!(refusal, Refusal::NotLeader { .. }));
                    // The head was moved for a proposal that never came to be: move it back.
                    if let Some((_, head)) = &mut alive.head
                        && !matches!(refusal, Refusal::Superseded { .. })
                    {
                        *head -= 1;
                    }
                    self.oracle.refused.insert(write);
                }
                Answer::Committed { .. } | Answer::ReadReady { .. } => {
                    self.oracle.refused.insert(write);
                }
            }
        } else if let Some(floor) = alive.reads.remove(&request)
            && matches!(answer, Answer::ReadReady { .. })
        {
            self.oracle.reads += 1;
            let writes = alive.state.writes.clone();
            self.check_read(floor, &writes);
        }
    }

    pub(crate) fn violated(&mut self, property: &'static str, what: String) {
        self.violations.push((property, format!("at step {}: {what}", self.now)));
    }
}

/// Steps per tick of a member's clock.
pub(crate) const TICK: u64 = 2;
