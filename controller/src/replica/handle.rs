//! What the rest of the program holds of a member.

use std::{
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Instant,
};

use quantumnet_consensus::Metrics as ConsensusMetrics;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::{
    metrics::{Metrics, Outcome},
    replica::{ProposeError, ReadError, job::Job},
    store::{History, Refusal, ResumeToken, State, Transaction, Txn},
};

/// A member; clones are the same one.
#[derive(Clone)]
pub struct Replica {
    pub(crate) queue: mpsc::Sender<Input>,
    pub(crate) shared: Arc<Shared>,
}

/// What the member's thread is told.
pub(crate) enum Input {
    Propose(Job),
    Read(oneshot::Sender<Result<(), ReadError>>),
    SnapshotTaken(quantumnet_consensus::Snapshot),
    SnapshotFailed,
    Stop,
}

/// What the member's thread publishes.
pub(crate) struct Shared {
    /// Places for proposals that have no answer yet.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) applied: watch::Sender<Arc<State>>,
    pub(crate) history: Mutex<History>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) consensus: Mutex<ConsensusMetrics>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Where a member stands.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Status {
    /// This member.
    pub member: u64,
    /// All members.
    pub voters: Vec<u64>,
    /// Who leads, if it is known.
    pub leader: Option<u64>,
    /// Current term.
    pub term: u64,
    /// This member leads and may write.
    pub writable: bool,
    /// Why writes wait, while the disk is full.
    pub stalled: Option<String>,
    /// Why this member stopped writing for good.
    pub stopped: Option<String>,
}

/// A transaction that is in the log and applied here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Committed<R> {
    /// Its revision, or when nothing changed the one it was evaluated on.
    pub revision: u64,
    /// What the request returned.
    pub result: R,
}

impl Replica {
    /// Runs a request on the head, replicates what it changed and returns when that is applied here. Waits while too
    /// many proposals have no answer yet.
    pub async fn propose<R: Send + 'static>(
        &self,
        principal: impl Into<Arc<str>>,
        request: impl FnOnce(&mut Txn<'_>) -> Result<R, Refusal> + Send + 'static,
    ) -> Result<Committed<R>, ProposeError> {
        let started = Instant::now();
        let result = self.submit(principal.into(), request).await;
        let outcome = match &result {
            Ok(_) => Outcome::Committed,
            Err(ProposeError::Refused(_)) => Outcome::Refused,
            Err(_) => Outcome::Failed,
        };
        self.shared.metrics.transaction(outcome, started.elapsed());
        result
    }

    async fn submit<R: Send + 'static>(
        &self,
        principal: Arc<str>,
        request: impl FnOnce(&mut Txn<'_>) -> Result<R, Refusal> + Send + 'static,
    ) -> Result<Committed<R>, ProposeError> {
        let place = self.shared.places.clone().acquire_owned().await.map_err(|_| self.stopped())?;
        let (reply, answer) = oneshot::channel();
        let job = Job::new(principal, request, reply, Some(place));
        self.queue.send(Input::Propose(job)).map_err(|_| self.stopped())?;
        let answer = answer.await;
        answer.unwrap_or_else(|_| match self.status().stopped {
            Some(reason) => Err(ProposeError::Stopped { reason }),
            None => Err(ProposeError::Dropped),
        })
    }

    /// Returns a state that holds everything acknowledged anywhere before the call.
    pub async fn linearizable(&self) -> Result<Arc<State>, ReadError> {
        let unavailable = || ReadError::Unavailable { reason: self.stopped().to_string() };
        let (reply, answer) = oneshot::channel();
        self.queue.send(Input::Read(reply)).map_err(|_| unavailable())?;
        answer.await.map_err(|_| unavailable())??;
        Ok(self.state())
    }

    /// The newest applied state.
    pub fn state(&self) -> Arc<State> {
        self.shared.applied.borrow().clone()
    }

    /// Follows the applied state; intermediate ones may be skipped.
    pub fn applied(&self) -> watch::Receiver<Arc<State>> {
        self.shared.applied.subscribe()
    }

    /// A state, and what led from the token to it; `None` in place of the latter when that is not known and the
    /// whole state is to be sent. Whoever follows [`Self::applied`] and asks again each time that it moved misses
    /// nothing.
    pub fn since(&self, token: &ResumeToken) -> (Arc<State>, Option<Vec<Arc<Transaction>>>) {
        let history = self.shared.history.lock().unwrap_or_else(PoisonError::into_inner);
        // Both are published under this lock.
        let state = self.state();
        let transactions = history.since(token, &state);
        (state, transactions)
    }

    /// Where the member stands now.
    pub fn status(&self) -> Status {
        self.shared.status.borrow().clone()
    }

    /// Follows where the member stands.
    pub fn status_changes(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// Counters of consensus.
    pub fn consensus(&self) -> ConsensusMetrics {
        *self.shared.consensus.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the member's thread; what waits for an answer is told so.
    pub fn stop(&self) {
        // It may have stopped already.
        _ = self.queue.send(Input::Stop);
    }

    fn stopped(&self) -> ProposeError {
        let reason = self.status().stopped.unwrap_or_else(|| "it is shutting down".into());
        ProposeError::Stopped { reason }
    }
}
