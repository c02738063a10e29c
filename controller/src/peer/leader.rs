//! Requests that only the leader can carry out, on any member.
//!
//! What travels is the serialized request; its kind's [`Handler`] makes a transaction of it on the leader. The leader's
//! own requests take the same way without the network.

use std::{
    collections::BTreeMap,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use quantumnet_api::peer::v1::ForwardKind;
use thiserror::Error;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    metrics::{ForwardEnd, Metrics},
    peer::{
        lane::{Delivered, Lane, To, lanes},
        server::MESSAGE_BYTES_MAX,
    },
    replica::{Replica, Status},
};

pub(super) use crate::peer::lane::Road;

/// What is to be done.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// A call of the API.
    Api,
    /// A transaction of an OVSDB session.
    Transact,
    /// What an agent says.
    Agent,
    /// A question to an agent: for the member that has its stream, not for the leader.
    Query,
}

/// Carries out requests of one kind on the leader.
pub trait Handler: Send + Sync + 'static {
    /// Begins a request. What must keep its order, which is the queueing of the proposal ([`Replica::queue`]), happens
    /// before this returns; the future is the answer.
    fn start(&self, body: Bytes) -> Answer;
}

/// The answer to a request, to be.
pub type Answer = Pin<Box<dyn Future<Output = Result<Bytes, Elsewhere>> + Send>>;

/// Nothing was done for lack of leadership: the request is given to the leader there is then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Elsewhere;

/// Why a request has no answer.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum ForwardError {
    /// Nothing was done.
    #[error("no leader took the request within {} s; nothing was done, retry later", .waited.as_secs())]
    NoLeader {
        /// How long one was waited for.
        waited: Duration,
    },
    /// Nothing was done.
    #[error("too many requests wait for the leader; nothing was done, retry later")]
    Busy,
    /// Nothing was done.
    #[error(
        "the request has {got} octets, at most {max} can be passed to the leader; split it or ask the leader itself"
    )]
    TooLarge {
        /// The bound.
        max: usize,
        /// Its size.
        got: usize,
    },
    /// It may have been carried out.
    #[error(
        "the leader was lost before it answered; it is not known whether the request was carried out ({reason})"
    )]
    Unknown {
        /// What happened.
        reason: String,
    },
    /// Nothing was done.
    #[error("this controller has stopped: {reason}; nothing was done")]
    Stopped {
        /// Why.
        reason: String,
    },
}

/// The way to the leader; clones are the same one.
#[derive(Clone)]
pub struct Leader {
    inner: Arc<Inner>,
}

struct Inner {
    replica: Replica,
    /// For whoever leads.
    lanes: BTreeMap<u64, Lane>,
    /// For the members themselves: what waits there does not end because another one leads.
    direct: BTreeMap<u64, Lane>,
    handlers: RwLock<BTreeMap<Kind, Arc<dyn Handler>>>,
    metrics: Arc<Metrics>,
}

/// A request that was begun somewhere.
enum Attempt {
    Here(Answer),
    There(oneshot::Receiver<Delivered>),
    Nowhere,
    Failed(ForwardError),
}

impl Leader {
    /// The way to the leader among these members, and what is to be run for each of the others.
    pub fn new(
        replica: Replica,
        peers: &BTreeMap<u64, SocketAddr>,
        metrics: Arc<Metrics>,
    ) -> (Self, Vec<Road>) {
        let (direct, mut roads) = lanes(&replica, peers, To::Member);
        let (lanes, more) = lanes(&replica, peers, To::Leader);
        roads.extend(more);
        let inner = Inner { replica, lanes, direct, handlers: RwLock::default(), metrics };
        (Self { inner: Arc::new(inner) }, roads)
    }

    /// A leader that can only be this member.
    pub fn alone(replica: Replica, metrics: Arc<Metrics>) -> Self {
        Self::new(replica, &BTreeMap::new(), metrics).0
    }

    /// Says who carries out requests of a kind when this member leads.
    pub fn register(&self, kind: Kind, handler: Arc<dyn Handler>) {
        self.inner.handlers.write().unwrap_or_else(PoisonError::into_inner).insert(kind, handler);
    }

    /// Makes a request of whoever leads. It has its place in the order of requests when this returns; one that must be
    /// made again, of another leader, has a new place. The answer comes once this member has applied what it rests on.
    pub fn start(
        &self,
        kind: Kind,
        body: Bytes,
    ) -> impl Future<Output = Result<Bytes, ForwardError>> + Send + 'static + use<> {
        let first = self.attempt(kind, &body);
        let leader = self.clone();
        async move {
            let (answer, end) = leader.follow(kind, body, first).await;
            leader.inner.metrics.forwarded(kind, end);
            answer
        }
    }

    /// Makes a request of a certain member, which need not lead: once, and without an answer if that member can't be
    /// reached or does not know such requests.
    pub async fn ask(&self, member: u64, kind: Kind, body: Bytes) -> Option<Bytes> {
        let delivered = self.inner.direct.get(&member)?.send(kind, body)?.await;
        let answer = if let Ok(Delivered::Done { body, .. }) = delivered { Some(body) } else { None };
        let end = if answer.is_some() { ForwardEnd::There } else { ForwardEnd::Failed };
        self.inner.metrics.forwarded(kind, end);
        answer
    }

    /// Begins a request that another member sent, if it is for this one.
    pub(super) fn here(&self, kind: Kind, body: Bytes) -> Option<Answer> {
        if kind != Kind::Query && !self.inner.replica.status().writable {
            return None;
        }
        let handlers = self.inner.handlers.read().unwrap_or_else(PoisonError::into_inner);
        // A member that still starts has none.
        handlers.get(&kind).map(|handler| handler.start(body))
    }

    fn attempt(&self, kind: Kind, body: &Bytes) -> Attempt {
        if let Some(answer) = self.here(kind, body.clone()) {
            return Attempt::Here(answer);
        }
        let Status { leader, stopped, .. } = self.inner.replica.status();
        if let Some(reason) = stopped {
            return Attempt::Failed(ForwardError::Stopped { reason });
        }
        match leader.and_then(|leader| self.inner.lanes.get(&leader)) {
            Some(_) if body.len() > BODY_BYTES_MAX => {
                Attempt::Failed(ForwardError::TooLarge { max: BODY_BYTES_MAX, got: body.len() })
            }
            Some(lane) => match lane.send(kind, body.clone()) {
                Some(reply) => Attempt::There(reply),
                None => Attempt::Failed(ForwardError::Busy),
            },
            None => Attempt::Nowhere,
        }
    }

    async fn follow(
        &self,
        kind: Kind,
        body: Bytes,
        mut attempt: Attempt,
    ) -> (Result<Bytes, ForwardError>, ForwardEnd) {
        let begun = Instant::now();
        let mut status = self.inner.replica.status_changes();
        loop {
            match attempt {
                Attempt::Here(answer) => {
                    if let Ok(body) = answer.await {
                        return (Ok(body), ForwardEnd::Here);
                    }
                }
                Attempt::There(reply) => {
                    let lost = "its connection was closed".to_owned();
                    match reply.await.unwrap_or(Delivered::Unknown(lost)) {
                        Delivered::Done { revision, body } => {
                            // What is done stays done, even if this member cannot follow for the moment.
                            if timeout(FOLLOW_WITHIN, self.inner.replica.reached(revision)).await.is_err() {
                                tracing::warn!(
                                    revision,
                                    "an answer is given before its revision is applied here"
                                );
                            }
                            return (Ok(body), ForwardEnd::There);
                        }
                        Delivered::Elsewhere => {}
                        Delivered::Unknown(reason) => {
                            return (Err(ForwardError::Unknown { reason }), ForwardEnd::Unknown);
                        }
                    }
                }
                Attempt::Nowhere => {}
                Attempt::Failed(error) => return (Err(error), ForwardEnd::Failed),
            }
            // A leader that is only just known may not be ready, or not be reached yet.
            sleep(AGAIN_AFTER).await;
            let known = status.wait_for(|status| status.leader.is_some() || status.stopped.is_some());
            if timeout_at(begun + LEADER_WITHIN, known).await.is_err() || begun.elapsed() > LEADER_WITHIN {
                return (Err(ForwardError::NoLeader { waited: LEADER_WITHIN }), ForwardEnd::Failed);
            }
            attempt = self.attempt(kind, &body);
        }
    }
}

impl Kind {
    pub(super) const fn number(self) -> ForwardKind {
        match self {
            Self::Api => ForwardKind::Api,
            Self::Transact => ForwardKind::Transact,
            Self::Agent => ForwardKind::Agent,
            Self::Query => ForwardKind::Query,
        }
    }

    pub(super) const fn of(number: ForwardKind) -> Option<Self> {
        match number {
            ForwardKind::Unspecified => None,
            ForwardKind::Api => Some(Self::Api),
            ForwardKind::Transact => Some(Self::Transact),
            ForwardKind::Agent => Some(Self::Agent),
            ForwardKind::Query => Some(Self::Query),
        }
    }
}

/// How long a leader is waited for: several elections.
const LEADER_WITHIN: Duration = Duration::from_secs(10);
/// Octets of a request that travels: what a message holds, but for what is around it.
const BODY_BYTES_MAX: usize = MESSAGE_BYTES_MAX - (1 << 10);
const AGAIN_AFTER: Duration = Duration::from_millis(20);
/// How long an answer waits for this member to apply what it rests on.
const FOLLOW_WITHIN: Duration = Duration::from_secs(10);
