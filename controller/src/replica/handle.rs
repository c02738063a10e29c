//! What the rest of the program holds of a member.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Instant,
};

use bytes::Bytes;
use quantumnet_consensus::{ClusterId, Metrics as ConsensusMetrics};
use quantumnet_model::{Uuid, intent::Cluster};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot, watch};

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

/// Where the answer to a request comes from.
type Reply<R> = oneshot::Receiver<Result<Committed<R>, ProposeError>>;

/// What the member's thread is told.
pub(crate) enum Input {
    Propose(Job),
    Read(oneshot::Sender<Result<(), ReadError>>),
    /// Another member's bytes, and their room in this queue.
    Received {
        from: u64,
        bytes: Bytes,
        room: OwnedSemaphorePermit,
    },
    /// Something for that member was dropped.
    Unreachable(u64),
    SnapshotTaken(quantumnet_consensus::Snapshot),
    SnapshotFailed,
    Stop,
}

/// What the member's thread publishes.
pub(crate) struct Shared {
    /// Identity of the log, which members show each other.
    pub(crate) log: ClusterId,
    /// Places for proposals that have no answer yet.
    pub(crate) places: Arc<Semaphore>,
    /// Octets of other members' messages that wait for the thread.
    pub(crate) room: Arc<Semaphore>,
    pub(crate) applied: watch::Sender<Arc<State>>,
    pub(crate) history: Mutex<History>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) consensus: Mutex<ConsensusMetrics>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Shared {
    /// The thread applied the log up to there. Wakes nobody: [`Replica::applied`] does.
    pub(crate) fn at_index(&self, index: u64) {
        self.status.send_if_modified(|status| {
            status.applied_index = index;
            false
        });
    }

    /// Reads the cluster's identity from a state that may be the first to have it.
    pub(crate) fn identify(&self, state: &State) {
        let known = state.iter::<Cluster>().next().map(|(_, cluster)| cluster.cluster_id);
        self.status.send_if_modified(|status| std::mem::replace(&mut status.cluster, known) != known);
    }
}

/// Where a member stands.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Status {
    /// This member.
    pub member: u64,
    /// The cluster, once its first leader has given it an identity.
    pub cluster: Option<Uuid>,
    /// All members.
    pub voters: Vec<u64>,
    /// Who leads, if it is known.
    pub leader: Option<u64>,
    /// Current term.
    pub term: u64,
    /// This member leads and may write.
    pub writable: bool,
    /// Last entry of the log that is applied here. It moves without waking who follows the status.
    pub applied_index: u64,
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
        let place = self.shared.places.clone().acquire_owned().await;
        let queued =
            place.map_err(|_| self.stopped()).and_then(|place| self.submit(principal.into(), request, place));
        self.clone().answered(started, queued).await
    }

    /// Like [`Self::propose`], but the request is in the queue when this returns: requests are evaluated in the order of
    /// the calls. The answer is awaited later. Refused as busy while too many proposals have no answer yet.
    pub fn queue<R: Send + 'static>(
        &self,
        principal: impl Into<Arc<str>>,
        request: impl FnOnce(&mut Txn<'_>) -> Result<R, Refusal> + Send + 'static,
    ) -> impl Future<Output = Result<Committed<R>, ProposeError>> + Send + 'static {
        let started = Instant::now();
        let place = self.shared.places.clone().try_acquire_owned().map_err(|error| match error {
            TryAcquireError::NoPermits => ProposeError::Busy,
            TryAcquireError::Closed => self.stopped(),
        });
        let queued = place.and_then(|place| self.submit(principal.into(), request, place));
        self.clone().answered(started, queued)
    }

    fn submit<R: Send + 'static>(
        &self,
        principal: Arc<str>,
        request: impl FnOnce(&mut Txn<'_>) -> Result<R, Refusal> + Send + 'static,
        place: OwnedSemaphorePermit,
    ) -> Result<Reply<R>, ProposeError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::new(principal, request, reply, Some(place));
        self.queue.send(Input::Propose(job)).map_err(|_| self.stopped())?;
        Ok(answer)
    }

    async fn answered<R>(
        self,
        started: Instant,
        queued: Result<Reply<R>, ProposeError>,
    ) -> Result<Committed<R>, ProposeError> {
        let result = match queued {
            Ok(answer) => answer.await.unwrap_or_else(|_| match self.status().stopped {
                Some(reason) => Err(ProposeError::Stopped { reason }),
                None => Err(ProposeError::Dropped),
            }),
            Err(error) => Err(error),
        };
        let outcome = match &result {
            Ok(_) => Outcome::Committed,
            Err(ProposeError::Refused(_)) => Outcome::Refused,
            Err(_) => Outcome::Failed,
        };
        self.shared.metrics.transaction(outcome, started.elapsed());
        result
    }

    /// Hands another member's bytes to consensus. Waits while too much of that waits for the thread. `from` is whom the
    /// transport takes it from.
    pub async fn receive(&self, from: u64, bytes: Bytes) {
        let octets = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(RECEIVED_BYTES_MAX);
        let Ok(room) = self.shared.room.clone().acquire_many_owned(octets).await else { return };
        // It may have stopped: whoever sent it hears nothing more of this member.
        _ = self.queue.send(Input::Received { from, bytes, room });
    }

    /// Something for that member did not reach it; speeds up consensus' flow control.
    pub fn unreachable(&self, peer: u64) {
        _ = self.queue.send(Input::Unreachable(peer));
    }

    /// Waits until this member has applied the revision.
    pub async fn reached(&self, revision: u64) {
        let mut applied = self.applied();
        // Its sender lives as long as this handle.
        _ = applied.wait_for(|state| state.revision() >= revision).await;
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

    /// Identity of the log: equal on all members from their first start on, unlike that of the store.
    pub fn log_identity(&self) -> ClusterId {
        self.shared.log
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

    /// The request was not queued, or waits for a member that ends.
    fn stopped(&self) -> ProposeError {
        let reason = self.status().stopped.unwrap_or_else(|| "it is shutting down".into());
        ProposeError::Stopped { reason }
    }
}

/// Octets of other members' messages that wait for the thread, at most.
pub(crate) const RECEIVED_BYTES_MAX: u32 = 64 << 20;
