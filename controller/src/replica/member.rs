//! A member: its consensus, what it applied, and who waits for it. `rounds` runs it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, PoisonError},
    thread,
    time::{Duration, Instant},
};

use quantumnet_consensus::{
    self as consensus, Committed, DiskLog, Driver, Event, FatalError, Leadership, MemberId, Output,
    RequestId, Snapshot, SnapshotMeta, log::vfs::Vfs,
};
use tokio::sync::oneshot;

use crate::{
    replica::{
        Lower, Observer, ProposeError, ReadError, Transport,
        announce::Announcement,
        bootstrap::bootstrap,
        error::with_causes,
        handle::{Input, Shared},
        job::{Answer, Job},
        pacer::Pacer,
        proposals::{Flight, Step},
        queue::Queue,
    },
    store::{Effects, Entry, State, Touched, Transaction},
};

/// Everything that a round works on.
pub(crate) struct Member<V: Vfs + Clone> {
    pub(crate) driver: Driver<DiskLog<V>>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) lower: Lower,
    pub(crate) observers: Vec<Box<dyn Observer>>,
    /// To the other members, if there are any.
    pub(crate) transport: Option<Arc<dyn Transport>>,
    /// Speaks for this thread while it works for long.
    pub(crate) pacer: Option<Pacer>,
    /// Between two ticks of consensus.
    pub(crate) tick: Duration,
    pub(crate) entry_bytes_max: u64,
    pub(crate) started: Instant,
    /// The applied state.
    pub(crate) applied: Arc<State>,
    /// What the applied state covers.
    pub(crate) applied_at: SnapshotMeta,
    /// What the next proposal is evaluated on: the applied state and everything in flight.
    pub(crate) head: Arc<State>,
    /// Whether an entry that was applied since its proposal followed its base revision, by index.
    pub(crate) outcomes: BTreeMap<u64, bool>,
    /// Not evaluated yet.
    pub(crate) waiting: VecDeque<Job>,
    /// Proposed entries.
    pub(crate) flights: BTreeMap<u64, Flight>,
    /// Linearizable reads.
    pub(crate) reads: BTreeMap<u64, ReadWait>,
    pub(crate) request_last: u64,
    /// The head is not what the flights lead to; it is taken from the applied state when none is left.
    pub(crate) diverged: bool,
    /// The latest time given to a transaction.
    pub(crate) clock_ms: i64,
    pub(crate) snapshot_under_way: bool,
    /// What is evaluated now is a request that was made here, alone.
    pub(crate) lone: bool,
    /// What the followers are to be told of commits.
    pub(crate) announcement: Announcement,
}

/// Who waits for a linearizable read.
pub(crate) enum ReadWait {
    Client(oneshot::Sender<Result<(), ReadError>>),
    /// Requests that changed nothing and rest on no entry in flight.
    Unchanged(Vec<Answer>),
}

/// Why the thread ends.
pub(super) enum End {
    Asked,
    Failed(String),
}

impl<V: Vfs + Clone + Send + 'static> Member<V>
where
    V::File: Send,
    V::Lock: Send,
{
    /// Handles events and what follows from them.
    pub(super) fn settle(&mut self, mut events: Vec<Event>) -> Result<(), End> {
        loop {
            self.handle(std::mem::take(&mut events))?;
            // Proposals that an earlier output held up, or that a new leader begins with.
            self.evaluate(&mut events);
            if events.is_empty() && self.announcement.take(Instant::now()) {
                events.push(Event::AnnounceCommit);
            }
            if events.is_empty() {
                return Ok(());
            }
        }
    }

    /// Ends: what waits is told so.
    pub(super) fn finish(&mut self, end: End) {
        let reason = match end {
            End::Asked => "it is shutting down".to_owned(),
            End::Failed(reason) => {
                tracing::error!(reason, "the replica stopped writing; reads go on");
                reason
            }
        };
        self.shared.status.send_modify(|status| {
            status.writable = false;
            status.leader = None;
            status.stopped = Some(reason.clone());
        });
        self.shared.places.close();
        self.queue.close();
        self.fail_everything(&ProposeError::Stopped { reason });
    }

    pub(super) fn take(&mut self, input: Input, events: &mut Vec<Event>) {
        match input {
            Input::Propose(job) => self.waiting.push_back(job),
            Input::Read(reply) => {
                let request = self.request();
                self.reads.insert(request, ReadWait::Client(reply));
                events.push(Event::Read { request: RequestId(request) });
            }
            Input::Received { from, bytes, room } => {
                drop(room);
                events.push(Event::Message { from: MemberId(from), bytes });
            }
            Input::Unreachable(peer) => events.push(Event::Unreachable { peer: MemberId(peer) }),
            Input::SnapshotTaken(snapshot) => {
                self.snapshot_under_way = false;
                events.push(Event::SnapshotTaken(snapshot));
            }
            Input::SnapshotFailed => self.snapshot_under_way = false,
            Input::HandOver => {
                let me = self.shared.status.borrow().member;
                let others = self.driver.node().progress().into_iter().filter(|(member, _)| member.0 != me);
                if let Some((to, _)) = others.max_by_key(|(_, matched)| *matched) {
                    events.push(Event::TransferLeader { to });
                }
            }
            Input::Stop => {}
        }
    }

    /// Tells the pacer that the member works, or that it waits.
    pub(super) fn working(&self, works: bool) {
        match &self.pacer {
            Some(pacer) if works => pacer.begin(),
            Some(pacer) => pacer.end(),
            None => {}
        }
    }

    pub(super) fn request(&mut self) -> u64 {
        self.request_last += 1;
        self.request_last
    }

    pub(super) fn handle(&mut self, events: Vec<Event>) -> Result<(), End> {
        let failed = |error: FatalError| End::Failed(with_causes(&error));
        let batches = self.driver.metrics().batches;
        // What goes to the other members leaves before this disk is waited for.
        let outputs = self.driver.take(self.started.elapsed(), events).map_err(failed)?;
        let mut held = self.sent(outputs)?;
        // Others wait for what a follower acknowledges, and nobody so much for what it applies.
        if self.driver.may_propose() {
            self.outputs(std::mem::take(&mut held))?;
        }
        let begun = Instant::now();
        self.working(false);
        let outputs = self.driver.flush(self.started.elapsed()).map_err(failed)?;
        self.working(true);
        if self.driver.metrics().batches > batches {
            self.shared.metrics.log_write(begun.elapsed());
        }
        held.extend(self.sent(outputs)?);
        self.outputs(held)?;
        if !self.driver.is_stalled() && self.shared.status.borrow().stalled.is_some() {
            tracing::info!("the disk takes writes again");
            self.shared.status.send_modify(|status| status.stalled = None);
        }
        Ok(())
    }

    fn outputs(&mut self, outputs: Vec<Output>) -> Result<(), End> {
        *self.shared.consensus.lock().unwrap_or_else(PoisonError::into_inner) = self.driver.metrics();
        outputs.into_iter().try_for_each(|output| self.output(output))
    }

    /// Sends what there is to be sent; returns the rest, in order. Nothing that is sent relies on it.
    fn sent(&mut self, outputs: Vec<Output>) -> Result<Vec<Output>, End> {
        let (send, rest): (Vec<_>, Vec<_>) =
            outputs.into_iter().partition(|output| matches!(output, Output::Send { .. }));
        send.into_iter().try_for_each(|output| self.output(output))?;
        Ok(rest)
    }

    pub(super) fn output(&mut self, output: Output) -> Result<(), End> {
        match output {
            Output::Apply { entries } => entries.iter().try_for_each(|entry| self.apply(entry))?,
            Output::InstallSnapshot(snapshot) => self.install(&snapshot)?,
            Output::Answer { request, answer } => self.answer(request.0, answer),
            Output::LeaderChanged(leadership) => self.leader_changed(leadership),
            Output::TakeSnapshot => self.take_snapshot(),
            Output::Stalled { error } => self.stalled(&with_causes(&error)),
            Output::Send { to, bytes } => {
                let sent = self.transport.as_ref().is_some_and(|transport| transport.send(to.0, bytes));
                if !sent {
                    // It is closed only when this member ends.
                    _ = self.queue.send(Input::Unreachable(to.0));
                }
            }
        }
        Ok(())
    }

    fn apply(&mut self, committed: &Committed) -> Result<(), End> {
        (self.applied_at.index, self.applied_at.term) = (committed.index, committed.term);
        self.shared.at_index(committed.index);
        if self.transport.is_some() && self.shared.status.borrow().leads() {
            let first = self.flights.values().find(|flight| flight.term == committed.term);
            self.announcement.committed(first.is_some_and(|flight| flight.may_wait), Instant::now());
        }
        if committed.data.is_empty() {
            return Ok(());
        }
        if let Some(steps) = self.foreseen(committed) {
            self.outcomes.insert(committed.index, true);
            let rows: usize = steps.iter().map(|step| step.touched.len()).sum();
            let row_bytes = committed.data.len() / rows.max(1) + ROW_KEPT_BYTES;
            for Step { time_ms, principal, state, touched } in steps {
                self.advance(state, touched, time_ms, principal, row_bytes);
            }
            self.shared.identify(&self.applied);
            return Ok(());
        }
        let failed = |error: &dyn std::error::Error| {
            End::Failed(format!("log entry {} cannot be applied: {}", committed.index, with_causes(error)))
        };
        let entry = Entry::decode(&committed.data).map_err(|error| failed(&error))?;
        let follows = entry.base_revision == self.applied.revision();
        if self.flights.values().any(|flight| flight.term == committed.term) {
            self.outcomes.insert(committed.index, follows);
        }
        if !follows {
            tracing::debug!(
                index = committed.index,
                expected = self.applied.revision(),
                got = entry.base_revision,
                "an entry evaluated on another revision changes nothing"
            );
            return Ok(());
        }
        // Shares of the entry, and of each row what its former self and its place in the trees take.
        let rows: usize = entry.transactions.iter().map(|effects| effects.changes.len()).sum();
        let row_bytes = committed.data.len() / rows.max(1) + ROW_KEPT_BYTES;
        for effects in entry.transactions {
            let mut state = self.applied.as_ref().clone();
            let revision = state.revision() + 1;
            let touched = state.apply(revision, &effects.changes).map_err(|error| failed(&error))?;
            let Effects { time_ms, principal, .. } = effects;
            self.advance(Arc::new(state), touched, time_ms, principal, row_bytes);
        }
        self.shared.identify(&self.applied);
        Ok(())
    }

    /// One transaction is applied.
    fn advance(
        &mut self,
        state: Arc<State>,
        touched: Vec<Touched>,
        time_ms: i64,
        principal: Arc<str>,
        row_bytes: usize,
    ) {
        // A new leader's clock may be behind its predecessor's.
        self.clock_ms = self.clock_ms.max(time_ms);
        let bytes = row_bytes * touched.len();
        self.shared.metrics.rows_changed(touched.len());
        let transaction =
            Arc::new(Transaction { revision: state.revision(), time_ms, principal, bytes, touched });
        self.applied = state.clone();
        {
            let mut history = self.shared.history.lock().unwrap_or_else(PoisonError::into_inner);
            history.push(transaction.clone());
            self.shared.applied.send_replace(state.clone());
        }
        self.observers.iter_mut().for_each(|observer| observer.applied(&state, &transaction));
    }

    fn install(&mut self, snapshot: &Snapshot) -> Result<(), End> {
        let state = State::decode(&snapshot.data)
            .map_err(|error| End::Failed(format!("snapshot cannot be installed: {}", with_causes(&error))))?;
        self.applied = Arc::new(state);
        self.applied_at = snapshot.meta.clone();
        self.diverged = true;
        {
            let mut history = self.shared.history.lock().unwrap_or_else(PoisonError::into_inner);
            history.clear();
            self.shared.applied.send_replace(self.applied.clone());
        }
        self.shared.at_index(self.applied_at.index);
        self.shared.identify(&self.applied);
        let state = self.applied.clone();
        self.observers.iter_mut().for_each(|observer| observer.replaced(&state));
        Ok(())
    }

    fn answer(&mut self, request: u64, answer: consensus::Answer) {
        if let Some(flight) = self.flights.remove(&request) {
            let ended = match answer {
                consensus::Answer::Committed { index, .. } => {
                    if self.outcomes.remove(&index) == Some(true) {
                        Ok(())
                    } else {
                        Err(ProposeError::Retry)
                    }
                }
                consensus::Answer::Refused(refusal) => Err(refused(refusal)),
                consensus::Answer::ReadReady { .. } => Ok(()),
            };
            match ended {
                Ok(()) => flight.answers.into_iter().for_each(Answer::applied),
                Err(error) => {
                    // Whatever was evaluated on it can't apply either.
                    self.diverged = true;
                    flight.answers.into_iter().for_each(|answer| answer.failed(error.clone()));
                }
            }
            if self.flights.is_empty() {
                self.outcomes.clear();
            }
        } else if let Some(wait) = self.reads.remove(&request) {
            let ended = match answer {
                consensus::Answer::Refused(refusal) => Err(refusal),
                _ => Ok(()),
            };
            match (wait, ended) {
                (ReadWait::Client(reply), ended) => {
                    let ended =
                        ended.map_err(|refusal| ReadError::Unavailable { reason: refusal.to_string() });
                    // A client that went away needs no answer.
                    _ = reply.send(ended);
                }
                (ReadWait::Unchanged(answers), Ok(())) => answers.into_iter().for_each(Answer::applied),
                (ReadWait::Unchanged(answers), Err(refusal)) => {
                    let error = refused(refusal);
                    answers.into_iter().for_each(|answer| answer.failed(error.clone()));
                }
            }
        }
    }

    fn leader_changed(&mut self, leadership: Leadership) {
        self.diverged = true;
        if let Some(pacer) = &self.pacer {
            pacer.heartbeats(self.driver.heartbeats().into_iter().map(|(to, bytes)| (to.0, bytes)).collect());
        }
        self.shared.status.send_modify(|status| {
            status.leader = leadership.leader.map(|leader| leader.0);
            status.term = leadership.term;
            status.writable = leadership.may_propose;
        });
        if leadership.may_propose {
            let (reply, _) = oneshot::channel();
            let job = Job::new("quantumnet-controller".into(), bootstrap, reply, None);
            self.waiting.push_front(job);
        }
    }

    fn stalled(&mut self, error: &str) {
        tracing::error!(error, "the disk takes no writes; reads go on, and writes once there is space");
        self.shared.status.send_modify(|status| status.stalled = Some(error.to_owned()));
        let reason = format!("{error}; it is kept in memory and applied once there is space");
        for flight in self.flights.values_mut() {
            for answer in flight.answers.drain(..) {
                answer.failed(ProposeError::Unknown { reason: reason.clone() });
            }
        }
    }

    /// Encodes and writes the applied state on a thread of its own.
    fn take_snapshot(&mut self) {
        if std::mem::replace(&mut self.snapshot_under_way, true) {
            return;
        }
        let voters = self.shared.status.borrow().voters.iter().copied().map(MemberId).collect();
        let meta = SnapshotMeta { voters, ..self.applied_at.clone() };
        let (state, queue, writer) =
            (self.applied.clone(), self.queue.clone(), self.driver.snapshot_writer());
        let write = move || {
            let snapshot = Snapshot { meta, data: state.encode() };
            let done = match writer.write(&snapshot) {
                Ok(()) => Input::SnapshotTaken(snapshot),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "snapshot not written; the log grows on"
                    );
                    Input::SnapshotFailed
                }
            };
            // The member may have stopped.
            _ = queue.send(done);
        };
        // Moved there so that a state needs no `Sync` file system.
        if let Err(error) = thread::Builder::new().name("snapshot".into()).spawn(write) {
            self.snapshot_under_way = false;
            tracing::warn!(%error, "no thread for a snapshot; the log grows on");
        }
    }

    fn fail_everything(&mut self, error: &ProposeError) {
        self.waiting.drain(..).for_each(|job| job.fail(error.clone()));
        let unknown = ProposeError::Unknown { reason: error.to_string() };
        for (_, flight) in std::mem::take(&mut self.flights) {
            flight.answers.into_iter().for_each(|answer| answer.failed(unknown.clone()));
        }
        for (_, wait) in std::mem::take(&mut self.reads) {
            match wait {
                ReadWait::Client(reply) => {
                    _ = reply.send(Err(ReadError::Unavailable { reason: error.to_string() }))
                }
                ReadWait::Unchanged(answers) => {
                    answers.into_iter().for_each(|answer| answer.failed(error.clone()));
                }
            }
        }
    }
}

fn refused(refusal: consensus::Refusal) -> ProposeError {
    match refusal {
        consensus::Refusal::NotLeader { leader } => {
            ProposeError::NotLeader { leader: leader.map(|leader| leader.0) }
        }
        consensus::Refusal::Busy => ProposeError::Busy,
        consensus::Refusal::TooLarge { max, got } => ProposeError::TooLarge { max, got },
        consensus::Refusal::Unknown { .. } => ProposeError::Unknown { reason: refusal.to_string() },
        _ => ProposeError::Retry,
    }
}

/// What a changed row keeps in memory besides what changed, about.
const ROW_KEPT_BYTES: usize = 512;
