//! What the rest of the program holds of a member.

use std::{
    future::Future,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quantumnet_consensus::{ClusterId, Metrics as ConsensusMetrics};
use quantumnet_model::{Uuid, intent::Cluster};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot, watch},
    time::timeout,
};

use crate::{
    metrics::{Metrics, Outcome},
    replica::{ProposeError, ReadError, job::Job, queue::Queue, rounds::Helper},
    store::{History, Refusal, ResumeToken, State, Transaction, Txn},
};

/// A member; clones are the same one.
#[derive(Clone)]
pub struct Replica {
    pub(crate) queue: Arc<Queue>,
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
    HandOver,
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
    /// Runs rounds for whoever has a lone request; gone when the member is.
    pub(crate) helper: OnceLock<Weak<dyn Helper>>,
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

impl Status {
    /// Whether this member leads, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.leader == Some(self.member)
    }
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
        self.queue.wake();
        self.clone().answered(started, queued).await
    }

    /// Like [`Self::propose`], but the request is in the queue when this returns: requests are evaluated in the order of
    /// the calls. The answer is awaited later. Refused as busy while too many proposals have no answer yet.
    pub fn queue<R: Send + 'static>(
        &self,
        principal: impl Into<Arc<str>>,
        request: impl FnOnce(&mut Txn<'_>) -> Result<R, Refusal> + Send + 'static,
    ) -> impl Future<Output = Result<Committed<R>, ProposeError>> + Send + 'static {
        let answer = self.put(principal, request);
        self.queue.wake();
        answer
    }

    /// Like [`Self::queue`], for whoever has more to put: the member may not look at the request before
    /// [`Self::begin`].
    pub(crate) fn put<R: Send + 'static>(
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

    /// Has the member run what was put. A lone request may be run on the calling thread, which then waits for the disk;
    /// several are not, so that this thread and the member's work side by side.
    pub fn begin(&self, lone: bool) {
        match self.helper().filter(|_| lone) {
            Some(helper) => helper.help(),
            None => self.queue.wake(),
        }
    }

    fn helper(&self) -> Option<Arc<dyn Helper>> {
        self.shared.helper.get().and_then(Weak::upgrade)
    }

    fn submit<R: Send + 'static>(
        &self,
        principal: Arc<str>,
        request: impl FnOnce(&mut Txn<'_>) -> Result<R, Refusal> + Send + 'static,
        place: OwnedSemaphorePermit,
    ) -> Result<Reply<R>, ProposeError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::new(principal, request, reply, Some(place));
        self.queue.put(Input::Propose(job)).map_err(|_| self.stopped())?;
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

    /// Hands another member's bytes to consensus, to be followed by [`Self::received`]. Waits while too much of that waits
    /// for the member. `from` is whom the transport takes it from.
    pub async fn receive(&self, from: u64, bytes: Bytes) {
        let octets = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(RECEIVED_BYTES_MAX);
        let room = match self.shared.room.clone().try_acquire_many_owned(octets) {
            Ok(room) => room,
            Err(TryAcquireError::Closed) => return,
            Err(TryAcquireError::NoPermits) => {
                self.queue.wake();
                let Ok(room) = self.shared.room.clone().acquire_many_owned(octets).await else { return };
                room
            }
        };
        // It may have stopped: whoever sent it hears nothing more of this member.
        _ = self.queue.put(Input::Received { from, bytes, room });
    }

    /// Has the member take what was received; on the calling thread, which may wait for the disk, if there is nothing else
    /// to do.
    pub fn received(&self) {
        match self.helper() {
            Some(helper) => helper.receive(),
            None => self.queue.wake(),
        }
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

    /// Gives leadership to the member that has most of the log, if this one leads. Returns when another is known to lead, or
    /// after a while: the others would find out by themselves.
    pub async fn hand_over(&self) {
        let mut status = self.status_changes();
        let leads = |status: &Status| status.leads() && status.voters.len() > 1;
        if leads(&status.borrow()) && self.queue.send(Input::HandOver).is_ok() {
            // Its sender lives as long as this handle.
            _ = timeout(
                HAND_OVER_WITHIN,
                status.wait_for(|status| !leads(status) && status.leader.is_some()),
            )
            .await;
        }
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

/// Longer than an election.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(1);
/// Octets of other members' messages that wait for the thread, at most.
pub(crate) const RECEIVED_BYTES_MAX: u32 = 64 << 20;
