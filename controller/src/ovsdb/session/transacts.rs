//! Transactions under way.
//!
//! # Invariants
//! - Replies come in the order of requests, but for transactions that wait for a condition: they are passed.
//! - A reply is held until the session's monitors have shown its revision.

use std::time::{Duration, Instant};

use quantumnet_model::Database;
use serde_json::{Value, json};

use super::{Effect, Reason, Session, Transact, World};
use crate::ovsdb::{
    json,
    transact::{Outcome, fault::Fault},
};

/// One transaction.
#[derive(Debug)]
pub(super) struct Slot {
    ticket: u64,
    id: Value,
    database: Database,
    /// Kept if it may have to be run again.
    operations: Option<Vec<Value>>,
    octets: usize,
    arrived: Instant,
    /// The client does not want it any more; ends it when it would wait.
    canceled: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Running,
    /// A `wait` waits.
    Parked {
        revision: u64,
        until: Option<Instant>,
    },
    /// A `wait` is tried again.
    Retried,
    Answered {
        results: Vec<Value>,
        revision: u64,
    },
}

impl Session {
    pub(super) fn transact(
        &mut self,
        now: Instant,
        database: Database,
        id: Value,
        operations: Vec<Value>,
        octets: usize,
    ) {
        if self.slots.iter().any(|slot| slot.id == id) {
            return self.refuse(id, "duplicate request ID".into());
        }
        let kept = operations.iter().any(may_wait).then(|| operations.clone());
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        self.slots.push_back(Slot {
            ticket,
            id,
            database,
            operations: kept,
            octets,
            arrived: now,
            canceled: false,
            stage: Stage::Running,
        });
        self.run(
            ticket,
            Transact { database, operations, locks: self.locks.owned(), waited: Duration::ZERO },
        );
    }

    /// The client wants a transaction no more. What runs already goes on; what waits ends.
    pub(super) fn cancel(&mut self, params: &[Value]) {
        let [id] = params else { return };
        let Some(at) = self.slots.iter().position(|slot| slot.id == *id) else { return };
        match self.slots[at].stage {
            Stage::Parked { .. } => self.end_canceled(at),
            Stage::Running | Stage::Retried => self.slots[at].canceled = true,
            Stage::Answered { .. } => {}
        }
    }

    pub(super) fn answered(
        &mut self,
        now: Instant,
        world: &World<'_>,
        ticket: u64,
        outcome: Result<Outcome, String>,
    ) {
        let Some(at) = self.slots.iter().position(|slot| slot.ticket == ticket) else { return };
        let parked = self.slots.iter().filter(|slot| slot.passes()).count();
        let slot = &mut self.slots[at];
        match outcome {
            Ok(Outcome::Done { results, revision }) => slot.stage = Stage::Answered { results, revision },
            Ok(Outcome::Blocked { .. }) if slot.canceled => self.end_canceled(at),
            Ok(Outcome::Blocked { .. }) if parked >= self.limits.parked_max => {
                let fault = Fault::unknown("resources exhausted", "too many transactions wait");
                let mut results = vec![Value::Null; slot.operations.as_ref().map_or(0, Vec::len)];
                if let Some(place) = results.first_mut() {
                    *place = fault.to_json();
                }
                slot.stage = Stage::Answered { results, revision: 0 };
            }
            Ok(Outcome::Blocked { revision, timeout }) => {
                let until = timeout.and_then(|timeout| slot.arrived.checked_add(timeout));
                slot.stage = Stage::Parked { revision, until };
                // The state may have moved meanwhile.
                self.retry(now, world);
            }
            Err(why) => return self.close(Reason::Lost { why }),
        }
        self.answer(self.shown());
    }

    /// Sends the replies that may be sent once this revision was shown.
    pub(super) fn answer(&mut self, shown: u64) {
        let mut at = 0;
        while let Some(slot) = self.slots.get(at) {
            match &slot.stage {
                Stage::Answered { revision, .. } if *revision <= shown => {}
                Stage::Parked { .. } | Stage::Retried => {
                    at += 1;
                    continue;
                }
                Stage::Answered { .. } | Stage::Running => return,
            }
            if let Some(Slot { id, stage: Stage::Answered { results, .. }, .. }) = self.slots.remove(at) {
                self.reply(&id, |out| json::value(out, &results));
            }
        }
    }

    /// Tries again what waits, if there is hope or its time is over.
    pub(super) fn retry(&mut self, now: Instant, world: &World<'_>) {
        if !self.waits_for_store() {
            return;
        }
        let (head, server) = (world.store.state().revision(), world.server.revision());
        for at in 0..self.slots.len() {
            let slot = &mut self.slots[at];
            let Stage::Parked { revision, until } = slot.stage else { continue };
            let head = if slot.database == Database::Server { server } else { head };
            let over = until.is_some_and(|until| until <= now);
            if let Some(operations) = slot.operations.clone().filter(|_| over || head > revision) {
                slot.stage = Stage::Retried;
                let (ticket, database) = (slot.ticket, slot.database);
                let waited = now.saturating_duration_since(slot.arrived);
                self.run(ticket, Transact { database, operations, locks: self.locks.owned(), waited });
            }
        }
    }

    /// When the first `wait` is over.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        let until = |slot: &Slot| if let Stage::Parked { until, .. } = slot.stage { until } else { None };
        self.slots.iter().filter_map(until).min()
    }

    pub(super) fn waits_for_store(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot.stage, Stage::Parked { .. }))
    }

    /// Whether no further request is to be read now.
    pub(super) fn is_full(&self) -> bool {
        let under_way = self.slots.iter().filter(|slot| !slot.passes()).count();
        under_way >= self.limits.transactions_max
            || self.transaction_bytes() >= self.limits.transaction_bytes_max
    }

    pub(super) fn transaction_bytes(&self) -> usize {
        self.slots.iter().map(|slot| slot.octets).sum()
    }

    fn run(&mut self, ticket: u64, transact: Transact) {
        if !self.closed {
            self.effects.push(Effect::Transact { ticket, transact });
        }
    }

    fn end_canceled(&mut self, at: usize) {
        if let Some(slot) = self.slots.remove(at) {
            self.refuse(slot.id, json!("canceled"));
        }
    }
}

impl Slot {
    /// Whether later transactions are answered before it.
    const fn passes(&self) -> bool {
        matches!(self.stage, Stage::Parked { .. } | Stage::Retried)
    }
}

/// Whether an operation may have to be tried again: a `wait` that does not end at once.
fn may_wait(operation: &Value) -> bool {
    operation.get("op").is_some_and(|op| op == "wait")
        && operation.get("timeout").is_none_or(|timeout| timeout != 0)
}
