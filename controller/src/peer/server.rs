//! `PeerService`: what the other members call.

use std::{net::SocketAddr, sync::Arc};

use axum::Router;
use futures_util::FutureExt as _;
use quantumnet_api::peer::v1::{
    ForwardKind, ForwardOutcome, ForwardRequest, ForwardResponse, MemberReport, RaftEnd, RaftMessage,
    ReportEnd,
    peer_service_server::{PeerService, PeerServiceServer},
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    metrics::{BadInput, Metrics, PeerMessage},
    peer::{Kind, Leader, Members, leader::Road, link::Link, net::caller},
    replica::Replica,
};

/// What is served to the other members. Requests are carried out where this is called.
pub fn service(
    replica: Replica,
    leader: Leader,
    members: Members,
    metrics: Arc<Metrics>,
    stop: watch::Receiver<bool>,
) -> Router {
    let runtime = Handle::current();
    let server = PeerServiceServer::new(Server { replica, leader, members, metrics, stop, runtime })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    Router::new().route_service(PATH, server)
}

/// Runs the ways to the other members in a set of tasks; consensus' messages on a thread of their own.
pub fn run(
    tasks: &mut JoinSet<()>,
    thread: &Handle,
    links: Vec<Link>,
    roads: Vec<Road>,
    members: &Members,
    replica: &Replica,
    metrics: &Arc<Metrics>,
) {
    for link in links {
        tasks.spawn(members.clone().tell(link.peer, link.address));
        tasks.spawn_on(link.run(replica.clone(), metrics.clone()), thread);
    }
    for road in roads {
        tasks.spawn(road.run());
    }
}

#[derive(Clone)]
struct Server {
    replica: Replica,
    leader: Leader,
    members: Members,
    metrics: Arc<Metrics>,
    stop: watch::Receiver<bool>,
    /// Where requests run: they are none of the business of the thread that takes consensus' messages.
    runtime: Handle,
}

impl Server {
    fn admit<T>(&self, request: &Request<T>) -> Result<u64, Status> {
        let status = self.replica.status();
        caller(request, self.replica.log_identity(), status.member, &status.voters).inspect_err(|refused| {
            self.metrics.refused(BadInput::Peer);
            let address: Option<SocketAddr> = request.remote_addr();
            tracing::warn!(?address, reason = refused.message(), "a caller on the members' port was refused");
        })
    }

    async fn stopping(&self) {
        _ = self.stop.clone().wait_for(|stop| *stop).await;
    }

    /// Begins requests in the order in which they come.
    async fn requests(self, mut inbound: Streaming<ForwardRequest>, out: Out) {
        let places = Arc::new(Semaphore::new(REQUESTS_MAX));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let request = tokio::select! {
                request = inbound.message() => request,
                () = self.stopping() => return,
            };
            let ForwardRequest { number, kind, body } = match request {
                Ok(Some(request)) => request,
                Ok(None) => return,
                Err(status) => {
                    tracing::debug!(reason = status.message(), "a member's stream of requests ended");
                    return;
                }
            };
            let mut reply = Reply { out: out.clone(), number, given: false, _place: place };
            let kind = ForwardKind::try_from(kind).ok().and_then(Kind::of);
            if kind.is_none() {
                self.metrics.refused(BadInput::Peer);
            }
            let answer = kind.and_then(|kind| self.leader.here(kind, body));
            let replica = self.replica.clone();
            tokio::spawn(async move {
                let done = match answer {
                    Some(answer) => answer.await.ok(),
                    None => None,
                };
                let (outcome, body) = match done {
                    Some(body) => (ForwardOutcome::Done, body),
                    None => (ForwardOutcome::Elsewhere, bytes::Bytes::new()),
                };
                reply.give(outcome, replica.state().revision(), body).await;
            });
        }
    }
}

type Out = mpsc::Sender<Result<ForwardResponse, Status>>;

/// The place of an answer; one that is never given is unknown.
struct Reply {
    out: Out,
    number: u64,
    given: bool,
    _place: OwnedSemaphorePermit,
}

impl Reply {
    async fn give(&mut self, outcome: ForwardOutcome, revision: u64, body: bytes::Bytes) {
        self.given = true;
        let response = ForwardResponse { number: self.number, outcome: outcome.into(), revision, body };
        // The member may have gone.
        _ = self.out.send(Ok(response)).await;
    }
}

impl Drop for Reply {
    /// A request that panicked must not be waited for.
    fn drop(&mut self) {
        if !self.given {
            let outcome = ForwardOutcome::Unknown.into();
            let response = ForwardResponse { number: self.number, outcome, ..ForwardResponse::default() };
            // There is a place for each request that is under way.
            _ = self.out.try_send(Ok(response));
        }
    }
}

#[tonic::async_trait]
impl PeerService for Server {
    async fn raft(&self, request: Request<Streaming<RaftMessage>>) -> Result<Response<RaftEnd>, Status> {
        let from = self.admit(&request)?;
        let mut inbound = request.into_inner();
        loop {
            let message = tokio::select! {
                message = inbound.message() => message?,
                () = self.stopping() => return Err(Status::unavailable("this member is shutting down")),
            };
            let Some(RaftMessage { message }) = message else { return Ok(Response::new(RaftEnd {})) };
            self.replica.receive(from, message).await;
            // What came with it shares its round.
            let mut count = 1;
            let ended = loop {
                let next = if count < ROUND_MAX { inbound.message().now_or_never() } else { None };
                let Some(Ok(Some(RaftMessage { message }))) = next else { break next };
                self.replica.receive(from, message).await;
                count += 1;
            };
            self.metrics.peer_message(from, PeerMessage::Received, count);
            self.replica.received();
            if let Some(ended) = ended {
                return ended.map(|_| Response::new(RaftEnd {}));
            }
        }
    }

    type ForwardStream = ReceiverStream<Result<ForwardResponse, Status>>;

    async fn forward(
        &self,
        request: Request<Streaming<ForwardRequest>>,
    ) -> Result<Response<Self::ForwardStream>, Status> {
        self.admit(&request)?;
        let (out, responses) = mpsc::channel(REQUESTS_MAX);
        self.runtime.spawn(self.clone().requests(request.into_inner(), out));
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    async fn report(&self, request: Request<Streaming<MemberReport>>) -> Result<Response<ReportEnd>, Status> {
        let from = self.admit(&request)?;
        let mut inbound = request.into_inner();
        let mut telling = self.members.begin(from);
        loop {
            let report = tokio::select! {
                report = inbound.message() => report?,
                () = self.stopping() => return Err(Status::unavailable("this member is shutting down")),
            };
            let Some(report) = report else { return Ok(Response::new(ReportEnd {})) };
            telling.told(report)?;
        }
    }
}

const PATH: &str = "/quantumnet.peer.v1.PeerService/{*method}";
/// Messages of one round, at most.
const ROUND_MAX: u64 = 64;
/// Room for the largest call of the API, an import, and what is around it; consensus' messages are smaller.
pub(super) const MESSAGE_BYTES_MAX: usize = 66 << 20;
const _: () = assert!(MESSAGE_BYTES_MAX > quantumnet_consensus::MESSAGE_BYTES_MAX + (1 << 10));
/// Requests of one member that are under way.
const REQUESTS_MAX: usize = 1_024;
