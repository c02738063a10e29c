//! One ordered stream of requests to one member.
//!
//! # Invariants
//! - Requests leave in the order in which they were given; answers are matched by number.
//! - A request that was handed to the connection is not given back: if the connection breaks, its end is unknown.

use std::{collections::BTreeMap, future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use quantumnet_api::peer::v1::{
    ForwardOutcome, ForwardRequest, ForwardResponse, peer_service_client::PeerServiceClient,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::Instant,
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Status, Streaming};

use crate::{
    peer::{
        Kind,
        net::{Ends, connect},
        server::MESSAGE_BYTES_MAX,
    },
    replica::{Replica, with_causes},
};

/// Where requests for one member are given.
pub(super) struct Lane {
    queue: mpsc::Sender<Pending>,
    /// KiB of requests without an answer.
    room: Arc<Semaphore>,
}

/// The other end: whoever takes the requests to the member.
pub struct Road {
    to: To,
    address: SocketAddr,
    ends: Ends,
    queue: mpsc::Receiver<Pending>,
    replica: Replica,
}

/// Whom requests are meant for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum To {
    /// The member as long as it leads.
    Leader,
    /// The member.
    Member,
}

/// How a request ended.
#[derive(Debug)]
pub(super) enum Delivered {
    Done { revision: u64, body: Bytes },
    Elsewhere,
    Unknown(String),
}

struct Pending {
    kind: Kind,
    body: Bytes,
    reply: oneshot::Sender<Delivered>,
    _room: OwnedSemaphorePermit,
}

/// Lanes to all members but this one.
pub(super) fn lanes(
    replica: &Replica,
    peers: &BTreeMap<u64, SocketAddr>,
    meant: To,
) -> (BTreeMap<u64, Lane>, Vec<Road>) {
    let (cluster, from) = (replica.log_identity(), replica.status().member);
    let mut lanes = BTreeMap::new();
    let mut roads = Vec::new();
    for (to, address) in peers.iter().filter(|(peer, _)| **peer != from) {
        let (queue, taken) = mpsc::channel(REQUESTS_MAX);
        lanes.insert(*to, Lane { queue, room: Arc::new(Semaphore::new(KIB_MAX)) });
        let ends = Ends { cluster, from, to: *to };
        roads.push(Road { to: meant, address: *address, ends, queue: taken, replica: replica.clone() });
    }
    (lanes, roads)
}

impl Lane {
    /// Queues a request; `None` while too many wait.
    pub(super) fn send(&self, kind: Kind, body: Bytes) -> Option<oneshot::Receiver<Delivered>> {
        let kib = u32::try_from(body.len() / 1_024 + 1).ok()?;
        let room = self.room.clone().try_acquire_many_owned(kib).ok()?;
        let (reply, delivered) = oneshot::channel();
        self.queue.try_send(Pending { kind, body, reply, _room: room }).ok()?;
        Some(delivered)
    }
}

impl Road {
    /// Takes requests to the member until nobody makes any more.
    pub(super) async fn run(mut self) {
        while let Some(first) = self.queue.recv().await {
            match self.open().await {
                Ok((out, replies)) => self.serve(first, out, replies).await,
                Err(status) => {
                    tracing::debug!(
                        peer = self.ends.to,
                        reason = status.message(),
                        "no way to a member; requests for it look for another if it was to lead"
                    );
                    let mut next = Some(first);
                    while let Some(pending) = next {
                        // Whoever asked may have gone.
                        _ = pending.reply.send(Delivered::Elsewhere);
                        next = self.queue.try_recv().ok();
                    }
                }
            }
        }
    }

    async fn open(&self) -> Result<(mpsc::Sender<ForwardRequest>, Streaming<ForwardResponse>), Status> {
        let channel =
            connect(self.address).await.map_err(|error| Status::unavailable(with_causes(&error)))?;
        let mut client = PeerServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let (out, requests) = mpsc::channel(OUT_MAX);
        let call = client.forward(self.ends.request(ReceiverStream::new(requests))).await?;
        Ok((out, call.into_inner()))
    }

    /// One stream, until it breaks.
    async fn serve(
        &mut self,
        first: Pending,
        out: mpsc::Sender<ForwardRequest>,
        mut replies: Streaming<ForwardResponse>,
    ) {
        let mut status = self.replica.status_changes();
        let mut waiting: BTreeMap<u64, (oneshot::Sender<Delivered>, OwnedSemaphorePermit)> = BTreeMap::new();
        let mut next = Some(first);
        let mut number = 0;
        // Set while another member leads and answers of this one are missing.
        let mut deadline: Option<Instant> = None;
        let reason = loop {
            tokio::select! {
                // Answers first: what is known must not become unknown.
                biased;
                reply = replies.next() => match reply {
                    Some(Ok(reply)) => {
                        if let Some((waits, _)) = waiting.remove(&reply.number) {
                            _ = waits.send(delivered(reply));
                        }
                    }
                    Some(Err(status)) => break status.message().to_owned(),
                    None => break "the leader ended the stream".to_owned(),
                },
                room = out.reserve(), if next.is_some() => {
                    let Ok(room) = room else { break "the connection was closed".to_owned() };
                    if let Some(Pending { kind, body, reply, _room }) = next.take() {
                        number += 1;
                        room.send(ForwardRequest { number, kind: kind.number().into(), body });
                        waiting.insert(number, (reply, _room));
                    }
                }
                pending = self.queue.recv(), if next.is_none() => match pending {
                    Some(pending) => next = Some(pending),
                    None => return,
                },
                changed = status.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let leads = status.borrow_and_update().leader == Some(self.ends.to);
                    deadline = (!leads && self.to == To::Leader).then(|| deadline.unwrap_or_else(|| Instant::now() + LINGER));
                }
                () = until(deadline), if !waiting.is_empty() => break "another member leads now".to_owned(),
            }
        };
        for (reply, _) in waiting.into_values() {
            _ = reply.send(Delivered::Unknown(reason.clone()));
        }
        if let Some(pending) = next {
            _ = pending.reply.send(Delivered::Elsewhere);
        }
    }
}

fn delivered(reply: ForwardResponse) -> Delivered {
    match reply.outcome() {
        ForwardOutcome::Done => Delivered::Done { revision: reply.revision, body: reply.body },
        ForwardOutcome::Elsewhere => Delivered::Elsewhere,
        ForwardOutcome::Unknown | ForwardOutcome::Unspecified => {
            Delivered::Unknown("the leader failed at it; its log says more".to_owned())
        }
    }
}

fn until(deadline: Option<Instant>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    match deadline {
        Some(deadline) => Box::pin(tokio::time::sleep_until(deadline)),
        None => Box::pin(std::future::pending()),
    }
}

/// Requests for one member that wait for the connection.
const REQUESTS_MAX: usize = 4_096;
/// KiB of requests to one member without an answer.
const KIB_MAX: usize = 128 << 10;
/// Requests between the queue and the connection.
const OUT_MAX: usize = 64;
/// How long a former leader may still answer.
const LINGER: Duration = Duration::from_secs(1);
