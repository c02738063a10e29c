//! Consensus' messages to the other members: a queue and a stream for each.
//!
//! # Invariants
//! - A queue is bounded in messages and octets. What does not fit, and what was queued while there was no connection,
//!   is dropped: consensus sends what still matters again.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use quantumnet_api::peer::v1::{RaftMessage, peer_service_client::PeerServiceClient};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::{
    metrics::{Metrics, PeerMessage},
    peer::net::{Ends, connect},
    replica::{Replica, Transport, with_causes},
};

/// The replica's end of the queues.
pub struct Outbox {
    queues: BTreeMap<u64, Sender>,
    metrics: Arc<Metrics>,
}

struct Sender {
    queue: mpsc::Sender<Bytes>,
    /// Octets in the queue.
    queued: Arc<AtomicUsize>,
}

/// The other end of one queue: whoever takes its messages to a member.
#[derive(Debug)]
pub struct Link {
    pub(super) peer: u64,
    pub(super) address: SocketAddr,
    queue: mpsc::Receiver<Bytes>,
    queued: Arc<AtomicUsize>,
}

/// Queues to all members but this one.
pub fn outbox(member: u64, peers: &BTreeMap<u64, SocketAddr>, metrics: Arc<Metrics>) -> (Outbox, Vec<Link>) {
    let mut queues = BTreeMap::new();
    let mut links = Vec::new();
    for (peer, address) in peers.iter().filter(|(peer, _)| **peer != member) {
        let (queue, taken) = mpsc::channel(QUEUE_MAX);
        let queued = Arc::new(AtomicUsize::new(0));
        queues.insert(*peer, Sender { queue, queued: queued.clone() });
        links.push(Link { peer: *peer, address: *address, queue: taken, queued });
    }
    (Outbox { queues, metrics }, links)
}

impl Transport for Outbox {
    fn send(&self, to: u64, bytes: Bytes) -> bool {
        let octets = bytes.len();
        let taken = self.queues.get(&to).is_some_and(|sender| {
            // Counted before it is queued, so that the link never takes off what is not there yet.
            let queued = sender.queued.fetch_add(octets, Ordering::Relaxed);
            let fits = queued == 0 || queued + octets <= QUEUE_BYTES_MAX;
            let taken = fits && sender.queue.try_send(bytes).is_ok();
            if !taken {
                sender.queued.fetch_sub(octets, Ordering::Relaxed);
            }
            taken
        });
        if !taken {
            self.metrics.peer_message(to, PeerMessage::Dropped, 1);
        }
        taken
    }
}

impl Link {
    /// Takes messages to the member until the replica is gone.
    pub(super) async fn run(mut self, replica: Replica, metrics: Arc<Metrics>) {
        let ends = Ends { cluster: replica.log_identity(), from: replica.status().member, to: self.peer };
        let mut wait = RETRY_MIN;
        loop {
            // Nobody is told of what is too old to matter.
            let mut dropped = 0;
            while let Ok(bytes) = self.queue.try_recv() {
                self.taken(&bytes);
                dropped += 1;
            }
            metrics.peer_message(self.peer, PeerMessage::Dropped, dropped);
            if self.queue.is_closed() {
                return;
            }
            match self.stream(ends, &metrics, &mut wait).await {
                Ok(()) => return,
                Err(status) => {
                    tracing::info!(
                        peer = self.peer, address = %self.address, code = ?status.code(), reason = status.message(),
                        "no way to a member; trying again"
                    );
                }
            }
            replica.unreachable(self.peer);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// One stream, until it breaks or the replica is gone.
    async fn stream(&mut self, ends: Ends, metrics: &Metrics, wait: &mut Duration) -> Result<(), Status> {
        let channel =
            connect(self.address).await.map_err(|error| Status::unavailable(with_causes(&error)))?;
        let mut client = PeerServiceClient::new(channel);
        let (out, messages) = mpsc::channel(OUT_MAX);
        let call = client.raft(ends.request(ReceiverStream::new(messages)));
        tokio::pin!(call);
        loop {
            let bytes = tokio::select! {
                ended = &mut call => return Err(broken(ended)),
                bytes = self.queue.recv() => bytes,
            };
            let Some(message) = bytes else { return Ok(()) };
            self.taken(&message);
            tokio::select! {
                ended = &mut call => return Err(broken(ended)),
                sent = out.send(RaftMessage { message }) => {
                    // The call's end says why.
                    if sent.is_err() {
                        return Err(broken((&mut call).await));
                    }
                }
            }
            metrics.peer_message(self.peer, PeerMessage::Sent, 1);
            *wait = RETRY_MIN;
        }
    }

    fn taken(&self, bytes: &Bytes) {
        self.queued.fetch_sub(bytes.len(), Ordering::Relaxed);
    }
}

/// The member has no reason to end the stream while there may be more.
fn broken<T>(ended: Result<T, Status>) -> Status {
    ended.err().unwrap_or_else(|| Status::unavailable("the member ended the stream"))
}

/// Messages for one member that wait.
const QUEUE_MAX: usize = 1_024;
/// Their octets; a single larger message still goes, alone.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Messages between the queue and the connection.
const OUT_MAX: usize = 16;
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_millis(500);
