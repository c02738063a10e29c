//! What a leader proposes: requests evaluated on the head, and the entries that are in flight.
//!
//! # Invariants
//! - The head is what the applied state and the flights lead to, unless it is marked as diverged; then nothing is evaluated
//!   until no flight is left.
//! - A state that was evaluated is taken over only for the very entry it was evaluated for, on the very state.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use quantumnet_consensus::{Committed, Event, Leadership, RequestId, log::vfs::Vfs};

use crate::{
    replica::{
        ProposeError,
        job::{Answer, Next},
        member::{Member, ReadWait},
    },
    store::{Context, Effects, EntryWriter, State, Touched},
};

/// A proposed entry and whoever waits for it.
pub(crate) struct Flight {
    pub(super) term: u64,
    pub(super) proposed_at: Instant,
    pub(super) answers: Vec<Answer>,
    /// The followers may hear of its commit with the next entry.
    pub(super) may_wait: bool,
    /// What is in the log.
    data: Bytes,
    /// What it leads to, one state for each of its transactions; taken when it is applied.
    steps: Vec<Step>,
}

/// One transaction with its outcome.
pub(super) struct Step {
    pub(super) time_ms: i64,
    pub(super) principal: Arc<str>,
    pub(super) state: Arc<State>,
    pub(super) touched: Vec<Touched>,
}

impl<V: Vfs + Clone + Send + 'static> Member<V>
where
    V::File: Send,
    V::Lock: Send,
{
    /// Evaluates what waits, unless the head is not known at present.
    pub(super) fn evaluate(&mut self, events: &mut Vec<Event>) {
        if self.waiting.is_empty() {
            return;
        }
        let Leadership { leader, term, may_propose } = self.driver.leadership();
        if !may_propose {
            let leads = leader.is_some_and(|leader| leader.0 == self.shared.status.borrow().member);
            let error = if leads {
                ProposeError::Retry
            } else {
                ProposeError::NotLeader { leader: leader.map(|leader| leader.0) }
            };
            self.waiting.drain(..).for_each(|job| job.fail(error.clone()));
            return;
        }
        if let Some(reason) = self.shared.status.borrow().stalled.clone() {
            self.waiting
                .drain(..)
                .for_each(|job| job.fail(ProposeError::DiskFull { reason: reason.clone() }));
            return;
        }
        if self.diverged {
            if self.flights.values().any(|flight| flight.term == term) {
                return;
            }
            self.head = self.applied.clone();
            self.diverged = false;
        }
        let mut entry = EntryWriter::new(self.head.revision());
        let (mut answers, mut steps) = (Vec::new(), Vec::new());
        while let Some(job) = self.waiting.pop_front() {
            let context = Context { now_ms: self.clock(), principal: job.principal.clone() };
            // The head is only read: a request that panics has harmed nothing but its own answer.
            let evaluated =
                catch_unwind(AssertUnwindSafe(|| job.evaluate(&self.head, &context, self.lower.as_ref())));
            let Ok(outcome) = evaluated else {
                tracing::error!(
                    principal = &*context.principal,
                    "a request panicked and was dropped: this is a bug"
                );
                continue;
            };
            let Some(Next { state, changes, touched }) = outcome.next else {
                answers.push(outcome.answer);
                continue;
            };
            let principal = context.principal.clone();
            let effects = Effects { time_ms: context.now_ms, principal: context.principal, changes }.encode();
            let (got, max) = (effects.bytes() as u64, self.entry_bytes_max - ENTRY_OVERHEAD_BYTES);
            if got > max {
                outcome.answer.failed(ProposeError::TooLarge { max, got });
                continue;
            }
            if entry.bytes() as u64 + got > max || entry.len() >= ENTRY_TRANSACTIONS_MAX {
                let full = std::mem::replace(&mut entry, EntryWriter::new(self.head.revision()));
                let answers = std::mem::take(&mut answers);
                self.propose(term, &full, answers, std::mem::take(&mut steps), events);
            }
            entry.push(effects);
            let state = Arc::new(state);
            answers.push(outcome.answer);
            steps.push(Step { time_ms: context.now_ms, principal, state: state.clone(), touched });
            self.head = state;
        }
        self.propose(term, &entry, answers, steps, events);
    }

    fn propose(
        &mut self,
        term: u64,
        entry: &EntryWriter,
        answers: Vec<Answer>,
        steps: Vec<Step>,
        events: &mut Vec<Event>,
    ) {
        if entry.is_empty() && answers.is_empty() {
            return;
        }
        if entry.is_empty() {
            if let Some(mut last) = self.flights.last_entry() {
                last.get_mut().answers.extend(answers);
                return;
            }
            let request = self.request();
            self.reads.insert(request, ReadWait::Unchanged(answers));
            events.push(Event::Read { request: RequestId(request) });
            return;
        }
        let request = self.request();
        let data = entry.encode();
        let proposed_at = Instant::now();
        // Without followers there is nobody to tell.
        let may_wait = self.transport.is_some() && self.announcement.proposed(self.lone, proposed_at);
        let flight = Flight { term, proposed_at, answers, may_wait, data: data.clone(), steps };
        self.flights.insert(request, flight);
        events.push(Event::Propose { request: RequestId(request), term, data });
    }

    /// Answers who waits for entries of a leadership that was lost: it may take any time until the next leader's log
    /// says what became of them.
    pub(super) fn give_up(&mut self, now: Instant) {
        let Leadership { term, may_propose, .. } = self.driver.leadership();
        let reason = "leadership was lost before a majority had it";
        for flight in self.flights.values_mut() {
            let lost = !may_propose || flight.term != term;
            if lost && now.saturating_duration_since(flight.proposed_at) >= UNKNOWN_AFTER {
                let answers = flight.answers.drain(..);
                answers.for_each(|answer| answer.failed(ProposeError::Unknown { reason: reason.into() }));
            }
        }
    }

    /// Whether what is to be applied next may take long.
    pub(super) fn expects_much(&self) -> bool {
        !self.waiting.is_empty() || self.flights.values().any(|flight| flight.data.len() > SHORT_BYTES_MAX)
    }

    /// The leader's clock, which never goes back.
    fn clock(&mut self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.clock_ms = self.clock_ms.max(i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        self.clock_ms
    }

    /// What this leader's own evaluation of the entry gave, if nothing has come in between: applying its effects would give
    /// the same once more.
    pub(super) fn foreseen(&mut self, committed: &Committed) -> Option<Vec<Step>> {
        // The head that the flights were evaluated on led from the applied state through them alone.
        if self.diverged {
            return None;
        }
        let revision = self.applied.revision();
        let next = self.flights.values_mut().find(|flight| !flight.steps.is_empty())?;
        let follows = next.steps.first().is_some_and(|step| step.state.revision() == revision + 1);
        let same = next.term == committed.term && next.data == committed.data;
        (follows && same).then(|| std::mem::take(&mut next.steps))
    }
}

/// After so long whoever waits for an entry of a lost leadership is told that its end is not known.
const UNKNOWN_AFTER: Duration = Duration::from_secs(5);
/// An entry that is applied in no time.
const SHORT_BYTES_MAX: usize = 64 << 10;
/// Transactions of one entry.
const ENTRY_TRANSACTIONS_MAX: usize = 1_024;
/// What an entry takes besides its transactions, at most.
const ENTRY_OVERHEAD_BYTES: u64 = 64;
