//! One member as a value: events in, effects out. Knows bytes; knows no network, no disk and no clock.
//!
//! # Contract
//! * In: [`Event`]; out: [`Effect`], to be carried out in order. `now` is any monotonic time; it only feeds metrics.
//! * Raft's rule which messages must wait for the disk is kept here: what depends on a batch is returned as `Send` only
//!   after its `Persisted`. A leader's appends leave at once, so followers write while the leader writes.
//! * Proposals are taken only from this member's own program while it leads, has applied its term's first entry, and
//!   names that very term. Nothing is ever forwarded to, or accepted from, another member.
//! * After an `Err` the node takes no more events.
//!
//! # Invariants
//! * Applied indexes are contiguous; `snapshot <= applied <= committed <= last`; only entries on this disk are applied.
//! * Every answer follows the `Apply` or `InstallSnapshot` that justifies it.
//! * Between two events nothing waits inside raft-rs: each call drains it.

#[cfg(test)]
mod tests;
mod transfer;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use raft::{
    RawNode, StateRole,
    eraftpb::{Entry, Message, MessageType},
};

use crate::{
    config::Config,
    error::{ConfigError, Fault, MessageError, Refusal},
    event::{
        Answer, Batch, BatchId, Effect, Event, HardState, Leadership, LogEntry, MemberId, Recovered,
        RequestId, Snapshot,
    },
    log::cache::{Cache, ENTRY_OVERHEAD_BYTES, from_raft},
    metrics::Metrics,
    reads::Reads,
    snapshot::{Receiver, Sender, SnapshotName},
    wire::{self, Envelope},
};

/// One member of the cluster.
pub struct Node {
    pub(crate) config: Config,
    pub(crate) raw: RawNode<Cache>,
    voters: Vec<MemberId>,
    now: Duration,
    batch_last: BatchId,
    pub(crate) unpersisted: VecDeque<Unpersisted>,
    proposals: BTreeMap<u64, Vec<Proposal>>,
    reads: Reads,
    sender: Sender,
    receiver: Receiver,
    /// Name of the snapshot held, so that its checksum is computed once.
    snapshot_name: Option<SnapshotName>,
    leadership: Leadership,
    pub(crate) applied: u64,
    log_bytes_unsnapshotted: u64,
    snapshot_hint_at_bytes: u64,
    halted: Option<Fault>,
    metrics: Metrics,
}

/// What waits for a batch to be on disk, or for the batches before it.
pub(crate) struct Unpersisted {
    batch: Option<BatchId>,
    ready_number: u64,
    messages: Vec<Message>,
    install: Option<Snapshot>,
    /// Replaces entries of an earlier batch: those must not count as persisted before this one is.
    overwrites: bool,
    on_disk: bool,
}

struct Proposal {
    request: RequestId,
    term: u64,
    proposed_at: Duration,
}

impl Node {
    /// A member that continues from what its log holds.
    ///
    /// # Errors
    /// The configuration contradicts itself, or what was recovered.
    pub fn new(config: Config, recovered: Recovered) -> Result<Self, ConfigError> {
        config.check()?;
        let voters = config.voters_sorted();
        let boot = recovered.boot;
        let cache = Cache::new(recovered, voters.clone());
        let applied = cache.snapshot_held().map_or(0, |snapshot| snapshot.meta.index);
        let snapshot_name = cache.snapshot_held().map(SnapshotName::of);
        let raw = RawNode::with_default_logger(&config.raft(applied), cache)
            .map_err(|error| ConfigError::Raft { reason: error.to_string() })?;
        let mut node = Self {
            voters,
            now: Duration::ZERO,
            batch_last: BatchId(0),
            unpersisted: VecDeque::new(),
            proposals: BTreeMap::new(),
            reads: Reads::new(config.member, boot),
            sender: Sender::default(),
            receiver: Receiver::default(),
            snapshot_name,
            leadership: Leadership { term: raw.raft.term, ..Leadership::default() },
            applied,
            log_bytes_unsnapshotted: 0,
            snapshot_hint_at_bytes: config.snapshot_after_bytes,
            halted: None,
            metrics: Metrics::default(),
            config,
            raw,
        };
        node.spread_election();
        Ok(node)
    }

    /// Takes one event.
    ///
    /// # Errors
    /// The node can't go on; see [`Fault`].
    pub fn step(&mut self, now: Duration, event: Event) -> Result<Vec<Effect>, Fault> {
        self.step_many(now, [event])
    }

    /// Takes several events at once: their proposals share one batch and their reads one round.
    ///
    /// # Errors
    /// The node can't go on; see [`Fault`].
    pub fn step_many(
        &mut self,
        now: Duration,
        events: impl IntoIterator<Item = Event>,
    ) -> Result<Vec<Effect>, Fault> {
        if let Some(fault) = &self.halted {
            return Err(Fault::Halted { reason: fault.to_string() });
        }
        self.now = now;
        let mut out = Vec::new();
        for event in events {
            if let Err(fault) = self.take(event, &mut out) {
                self.halted = Some(fault.clone());
                return Err(fault);
            }
        }
        self.drain(&mut out);
        if cfg!(debug_assertions) {
            self.check();
        }
        Ok(out)
    }

    /// Who leads, and whether this member may propose. True to the effects returned so far.
    #[must_use]
    pub const fn leadership(&self) -> Leadership {
        self.leadership
    }

    /// Heartbeats that keep this leader's followers content, to be sent by whoever can while [`Self::step`] is not called;
    /// none unless it leads. They say nothing of what is committed and hold for the present term.
    #[must_use]
    pub fn heartbeats(&self) -> Vec<(MemberId, Bytes)> {
        if self.raw.raft.state != StateRole::Leader {
            return Vec::new();
        }
        let member = self.config.member;
        let heartbeat = |to: MemberId| {
            let mut message =
                Message { from: member.0, to: to.0, term: self.raw.raft.term, ..Message::default() };
            message.set_msg_type(MessageType::MsgHeartbeat);
            (to, wire::encode(self.config.cluster, member, to, &Envelope::Raft(message)))
        };
        self.voters.iter().copied().filter(|voter| *voter != member).map(heartbeat).collect()
    }

    /// Whether a proposal would be accepted now (rule 2 of the store: a new leader first applies its own term's entry).
    #[must_use]
    pub const fn may_propose(&self) -> bool {
        self.leadership.may_propose
    }

    /// The last index handed out to be applied, or of the snapshot recovered.
    #[must_use]
    pub const fn applied_index(&self) -> u64 {
        self.applied
    }

    /// Counters and gauges.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let raft = &self.raw.raft;
        Metrics {
            term: raft.term,
            is_leader: u64::from(raft.state == StateRole::Leader),
            commit_index: raft.raft_log.committed,
            applied_index: self.applied,
            last_index: raft.raft_log.last_index(),
            log_entries: self.raw.store().entries_held(),
            log_bytes: self.raw.store().bytes_held(),
            snapshot_chunks_repeated: self.sender.chunks_repeated,
            ..self.metrics
        }
    }

    /// For a leader: how far each voter's log is known to match, in order of the voters.
    #[must_use]
    pub fn progress(&self) -> Vec<(MemberId, u64)> {
        let prs = self.raw.raft.prs();
        self.voters.iter().map(|id| (*id, prs.get(id.0).map_or(0, |progress| progress.matched))).collect()
    }

    /// The entries held in memory, for tests and diagnosis.
    #[must_use]
    pub fn entries(&self) -> Vec<LogEntry> {
        self.raw.store().iter().map(from_raft).collect()
    }

    fn take(&mut self, event: Event, out: &mut Vec<Effect>) -> Result<(), Fault> {
        match event {
            Event::Tick => self.tick(out),
            Event::Message { from, bytes } => return self.message(from, bytes, out),
            Event::Propose { request, term, data } => self.propose(request, term, data, out),
            Event::Read { request } => self.reads.arrive(request),
            Event::Persisted { batch } => self.persisted(batch, out),
            Event::SnapshotTaken(snapshot) => self.snapshot_taken(snapshot, out),
            Event::TransferLeader { to } => {
                if self.raw.raft.state == StateRole::Leader && self.voters.contains(&to) {
                    self.raw.transfer_leader(to.0);
                }
            }
            Event::AnnounceCommit => {
                if self.raw.raft.state == StateRole::Leader {
                    self.raw.raft.bcast_append();
                }
            }
            Event::Unreachable { peer } => {
                if self.raw.raft.state == StateRole::Leader {
                    self.raw.report_unreachable(peer.0);
                }
            }
        }
        self.spread_election();
        Ok(())
    }

    fn tick(&mut self, out: &mut Vec<Effect>) {
        let is_alone = self.voters == [self.config.member];
        // The only voter has nobody to wait for; should raft-rs refuse, it is elected when its time is over.
        if !is_alone || self.raw.raft.state != StateRole::Follower || self.raw.campaign().is_err() {
            self.raw.tick();
        }
        let (repeat, expired) = self.reads.tick(self.config.read_timeout_ticks);
        for token in repeat {
            self.raw.read_index(token);
        }
        for request in expired {
            self.metrics.reads_timed_out += 1;
            let refusal = Refusal::ReadTimeout { ticks: self.config.read_timeout_ticks };
            out.push(Effect::Answer { request, answer: Answer::Refused(refusal) });
        }
        for peer in self.sender.tick(self.config.transfer_limits()) {
            self.metrics.snapshots_failed += 1;
            self.raw.report_snapshot(peer.0, raft::SnapshotStatus::Failure);
        }
        for peer in self.sender.peers() {
            self.send_chunks(peer, out);
        }
    }

    fn message(&mut self, from: MemberId, bytes: Bytes, out: &mut Vec<Effect>) -> Result<(), Fault> {
        let decoded = if self.voters.contains(&from) {
            wire::decode(self.config.cluster, from, self.config.member, bytes)
        } else {
            Err(MessageError::NotMember { got: from })
        };
        let taken = match decoded {
            Ok(Envelope::Raft(message)) => {
                self.lost_entries(&message)?;
                self.raft_message(message)
            }
            Ok(Envelope::Chunk(chunk)) => self.chunk(from, chunk, out),
            Ok(Envelope::Receipt(receipt)) => {
                self.receipt(from, &receipt, out);
                Ok(())
            }
            Err(error) => Err(error),
        };
        match taken {
            Ok(()) => self.metrics.messages_received += 1,
            Err(error) => {
                self.metrics.messages_refused += 1;
                tracing::warn!(%from, error = &error as &dyn std::error::Error, "peer message refused");
            }
        }
        self.spread_election();
        Ok(())
    }

    /// A leader's heartbeat commits at most what this member acknowledged; more than its log means the disk lost it.
    fn lost_entries(&self, message: &Message) -> Result<(), Fault> {
        let raft = &self.raw.raft;
        let last = raft.raft_log.last_index();
        let heartbeat = message.get_msg_type() == MessageType::MsgHeartbeat && message.term >= raft.term;
        if heartbeat && message.commit > last {
            return Err(Fault::LostEntries { last, acknowledged: message.commit });
        }
        Ok(())
    }

    fn raft_message(&mut self, message: Message) -> Result<(), MessageError> {
        let last = self.raw.raft.raft_log.last_index();
        let message_type = message.get_msg_type();
        let named = message.index;
        if message_type == MessageType::MsgAppendResponse && named > last {
            return Err(MessageError::Position { what: wire::type_name(message_type), last, got: named });
        }
        if let Err(error) = self.raw.step(message) {
            tracing::debug!(%error, "raft ignored a peer message");
        }
        Ok(())
    }

    fn propose(&mut self, request: RequestId, term: u64, data: Bytes, out: &mut Vec<Effect>) {
        match self.try_propose(term, data) {
            Ok(index) => {
                self.metrics.proposals_accepted += 1;
                let proposal = Proposal { request, term, proposed_at: self.now };
                self.proposals.entry(index).or_default().push(proposal);
            }
            Err(refusal) => {
                self.metrics.proposals_refused += 1;
                out.push(Effect::Answer { request, answer: Answer::Refused(refusal) });
            }
        }
    }

    fn try_propose(&mut self, term: u64, data: Bytes) -> Result<u64, Refusal> {
        let raft = &self.raw.raft;
        let expected = raft.term;
        if raft.state != StateRole::Leader {
            return Err(Refusal::NotLeader { leader: member(raft.leader_id) });
        }
        if !self.leadership.may_propose {
            return Err(Refusal::NotReady { term: expected });
        }
        if term != expected {
            return Err(Refusal::StaleTerm { expected, got: term });
        }
        if data.is_empty() {
            return Err(Refusal::Empty);
        }
        if data.len() as u64 > self.config.entry_bytes_max {
            return Err(Refusal::TooLarge { max: self.config.entry_bytes_max, got: data.len() as u64 });
        }
        if raft.lead_transferee.is_some() {
            return Err(Refusal::Transferring);
        }
        let entry = Entry { data, ..Entry::default() };
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = raft.id;
        message.set_entries(vec![entry].into());
        self.raw.raft.step(message).map_err(|_| Refusal::Busy)?;
        Ok(self.raw.raft.raft_log.last_index())
    }

    fn persisted(&mut self, batch: BatchId, out: &mut Vec<Effect>) {
        for waiting in self.unpersisted.iter_mut() {
            if waiting.batch.is_some_and(|id| id <= batch) {
                waiting.on_disk = true;
            }
        }
        // An entry that a later batch overwrites may come back a third time with its first term (a returning
        // leader); it would then count as persisted while the disk is about to hold the second. So all wait.
        let held_until = self.unpersisted.iter().rposition(|waiting| waiting.overwrites && !waiting.on_disk);
        if held_until.is_some() {
            return;
        }
        while self.unpersisted.front().is_some_and(|waiting| waiting.on_disk || waiting.batch.is_none()) {
            let done = self.unpersisted.pop_front().expect("front was just seen");
            self.release(done, out);
        }
    }

    fn release(&mut self, done: Unpersisted, out: &mut Vec<Effect>) {
        self.raw.on_persist_ready(done.ready_number);
        if let Some(snapshot) = done.install {
            self.install(snapshot, out);
        }
        for message in done.messages {
            self.send(message, out);
        }
    }

    /// Moves everything raft-rs has ready into effects.
    fn drain(&mut self, out: &mut Vec<Effect>) {
        if let Some(token) = self.reads.start_round() {
            self.raw.read_index(token);
        }
        while self.raw.has_ready() {
            let mut ready = self.raw.ready();
            let messages = ready.take_messages();
            let messages_persisted = ready.take_persisted_messages();
            let committed = ready.take_committed_entries();
            for state in ready.take_read_states() {
                self.reads.confirm(&state.request_ctx, state.index);
            }
            let install = self.accept_snapshot(ready.snapshot());
            let overwrites =
                ready.entries().first().is_some_and(|first| first.index <= self.raw.store().last());
            if let Some(snapshot) = &install {
                self.raw.mut_store().install(snapshot.clone());
            }
            self.raw.mut_store().append(ready.entries());
            let batch = ready.must_sync().then(|| self.batch(&ready, install.clone()));
            let waiting = Unpersisted {
                batch: batch.as_ref().map(|batch| batch.id),
                ready_number: ready.number(),
                messages: messages_persisted,
                install,
                overwrites,
                on_disk: false,
            };
            self.raw.advance_append_async(ready);
            for message in messages {
                self.send(message, out);
            }
            if let Some(batch) = batch {
                out.push(Effect::Persist(batch));
                self.unpersisted.push_back(waiting);
            } else if self.unpersisted.is_empty() {
                self.release(waiting, out);
            } else {
                self.unpersisted.push_back(waiting);
            }
            self.apply(&committed, out);
        }
        self.announce(out);
        let ready = self.reads.ready(self.applied);
        for (index, request) in ready {
            self.metrics.reads_answered += 1;
            out.push(Effect::Answer { request, answer: Answer::ReadReady { index } });
        }
        // A change of leader repeats the reads, which makes raft-rs ready once more.
        if self.raw.has_ready() {
            self.drain(out);
        }
    }

    fn batch(&mut self, ready: &raft::Ready, snapshot: Option<Snapshot>) -> Batch {
        self.batch_last.0 += 1;
        let state = self.raw.raft.hard_state();
        self.metrics.batches += 1;
        self.metrics.batch_entries += ready.entries().len() as u64;
        Batch {
            id: self.batch_last,
            hard_state: HardState { term: state.term, vote: state.vote, commit: state.commit },
            snapshot,
            entries: ready.entries().iter().map(from_raft).collect(),
        }
    }

    fn apply(&mut self, committed: &[Entry], out: &mut Vec<Effect>) {
        let Some(last) = committed.last() else { return };
        assert_eq!(committed[0].index, self.applied + 1, "applied entries are contiguous");
        let entries = committed.iter().map(from_raft).collect::<Vec<_>>();
        self.applied = last.index;
        self.raw.advance_apply_to(self.applied);
        let bytes = entries.iter().map(|entry| entry.data.len() as u64).sum::<u64>();
        self.metrics.entries_applied += entries.len() as u64;
        self.metrics.entry_bytes_applied += bytes;
        self.log_bytes_unsnapshotted += bytes + ENTRY_OVERHEAD_BYTES * entries.len() as u64;
        out.push(Effect::Apply { entries });
        for entry in committed {
            for proposal in self.proposals.remove(&entry.index).unwrap_or_default() {
                let answer = self.outcome(&proposal, entry);
                out.push(Effect::Answer { request: proposal.request, answer });
            }
        }
        if self.log_bytes_unsnapshotted >= self.snapshot_hint_at_bytes {
            self.snapshot_hint_at_bytes += self.config.snapshot_after_bytes;
            out.push(Effect::TakeSnapshot);
        }
    }

    /// The committed entry decides: the same term at the same index is the same entry, any other is certain loss.
    fn outcome(&mut self, proposal: &Proposal, entry: &Entry) -> Answer {
        if proposal.term != entry.term {
            self.metrics.proposals_lost += 1;
            return Answer::Refused(Refusal::Superseded { index: entry.index });
        }
        let latency_us = self.now.saturating_sub(proposal.proposed_at).as_micros();
        self.metrics.commit_latency_us_total += u64::try_from(latency_us).unwrap_or(u64::MAX);
        self.metrics.commits += 1;
        Answer::Committed { index: entry.index, term: entry.term }
    }

    fn announce(&mut self, out: &mut Vec<Effect>) {
        let raft = &self.raw.raft;
        let leads = raft.state == StateRole::Leader;
        let now = Leadership {
            leader: member(raft.leader_id),
            term: raft.term,
            may_propose: leads && raft.apply_to_current_term(),
        };
        if now == self.leadership {
            return;
        }
        if now.leader != self.leadership.leader {
            self.metrics.leader_changes += 1;
        }
        if !leads {
            self.sender.clear();
        }
        let asked_again = now.leader.is_some()
            && (now.leader, now.term) != (self.leadership.leader, self.leadership.term)
            || now.may_propose;
        self.leadership = now;
        out.push(Effect::LeaderChanged(now));
        if asked_again {
            for token in self.reads.tokens() {
                self.raw.read_index(token);
            }
        }
    }

    fn send(&mut self, message: Message, out: &mut Vec<Effect>) {
        let to = MemberId(message.to);
        if message.get_msg_type() != MessageType::MsgSnapshot {
            self.send_envelope(to, &Envelope::Raft(message), out);
            return;
        }
        self.begin_transfer(to, out);
    }

    fn send_envelope(&mut self, to: MemberId, envelope: &Envelope, out: &mut Vec<Effect>) {
        let bytes = wire::encode(self.config.cluster, self.config.member, to, envelope);
        self.metrics.messages_sent += 1;
        self.metrics.message_bytes_sent += bytes.len() as u64;
        out.push(Effect::Send { to, bytes });
    }

    /// Replaces raft-rs's random election timeout by one computed from seed, member, term and role: runs can be repeated.
    fn spread_election(&mut self) {
        let raft = &self.raw.raft;
        let role = raft.state as u64;
        let mut mixed = self.config.seed ^ (self.config.member.0 << 48) ^ (raft.term << 3) ^ role;
        for multiplier in [0xbf58_476d_1ce4_e5b9_u64, 0x94d0_49bb_1331_11eb] {
            mixed = (mixed ^ (mixed >> 30)).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(multiplier);
        }
        let ticks = u64::from(self.config.election_ticks);
        let spread = usize::try_from((mixed >> 32) % ticks).expect("below election_ticks, a u32");
        self.raw.raft.set_randomized_election_timeout(self.config.candidate_ticks() as usize + spread);
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("member", &self.config.member)
            .field("leadership", &self.leadership)
            .field("applied", &self.applied)
            .field("committed", &self.raw.raft.raft_log.committed)
            .field("last", &self.raw.raft.raft_log.last_index())
            .finish_non_exhaustive()
    }
}

const fn member(id: u64) -> Option<MemberId> {
    if id == raft::INVALID_ID { None } else { Some(MemberId(id)) }
}
