//! Where the other members stand, and the agents that they serve, as they say themselves.
//!
//! # Contract
//! - Each member tells every other one: at once when something of its agents changes, in batches, and otherwise now and
//!   then. Nothing of it is logged; who was away is told everything again.
//!
//! # Invariants
//! - Acknowledgements reach whoever leads, and whoever will: a new leader has those of all agents already.
//! - Agents of a member that vanished count as connected for [`GONE_AFTER`], in which they find another.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use quantumnet_api::peer::v1::{AgentState, MemberReport, peer_service_client::PeerServiceClient};
use quantumnet_model::Uuid;
use tokio::{runtime::Handle, sync::mpsc, time::sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::{
    agents::{AgentRegistry, AgentStatus, Hub, Registered},
    peer::{
        net::{Ends, connect},
        server::MESSAGE_BYTES_MAX,
    },
    replica::{Replica, with_causes},
};

/// What this member knows of the others; clones are the same.
#[derive(Clone)]
pub struct Members {
    inner: Arc<Inner>,
}

struct Inner {
    /// Of this member's API.
    address: String,
    replica: Replica,
    registry: Arc<AgentRegistry>,
    hub: Arc<Hub>,
    others: Mutex<BTreeMap<u64, Told>>,
}

#[derive(Debug, Default)]
struct Told {
    standing: Standing,
    /// Counts its streams; only the latest counts.
    stream: u64,
}

/// Where a member stands.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// It is this member, or this one hears of it.
    pub connected: bool,
    /// Of its API; empty while it was never heard of.
    pub address: String,
    /// Its program's version.
    pub version: String,
    /// Last entry of the log that it has applied.
    pub applied_index: u64,
    /// Revision of its applied state.
    pub revision: u64,
}

impl Members {
    /// Knows nobody yet. `address` is that of this member's API.
    pub fn new(address: String, replica: Replica, registry: Arc<AgentRegistry>, hub: Arc<Hub>) -> Self {
        Self { inner: Arc::new(Inner { address, replica, registry, hub, others: Mutex::default() }) }
    }

    /// All members by number.
    pub fn all(&self) -> BTreeMap<u64, Standing> {
        let status = self.inner.replica.status();
        let others = self.lock();
        let standing =
            |member: &u64| others.get(member).map(|told| told.standing.clone()).unwrap_or_default();
        let mut all: BTreeMap<u64, Standing> =
            status.voters.iter().map(|member| (*member, standing(member))).collect();
        drop(others);
        all.insert(status.member, self.own());
        all
    }

    fn own(&self) -> Standing {
        Standing {
            connected: true,
            address: self.inner.address.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            applied_index: self.inner.replica.status().applied_index,
            revision: self.inner.replica.state().revision(),
        }
    }

    /// A member begins to tell.
    pub(super) fn begin(&self, member: u64) -> Telling {
        let mut others = self.lock();
        let told = others.entry(member).or_default();
        told.stream += 1;
        Telling { members: self.clone(), member, stream: told.stream, first: true }
    }

    fn end(&self, member: u64, stream: u64) {
        let latest = self.lock().get(&member).is_some_and(|told| told.stream == stream);
        if latest {
            self.inner.registry.lost(member, &BTreeSet::new());
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Told>> {
        self.inner.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a member until the replica is gone.
    pub(super) async fn tell(self, peer: u64, address: SocketAddr) {
        let (cluster, from) = (self.inner.replica.log_identity(), self.inner.replica.status().member);
        let ends = Ends { cluster, from, to: peer };
        loop {
            let ended = self.stream(ends, address).await;
            tracing::debug!(
                peer,
                reason = ended.message(),
                "a member is not told where this one stands; trying again"
            );
            sleep(RETRY_AFTER).await;
        }
    }

    async fn stream(&self, ends: Ends, address: SocketAddr) -> Status {
        let channel = match connect(address).await {
            Ok(channel) => channel,
            Err(error) => return Status::unavailable(with_causes(&error)),
        };
        let mut client = PeerServiceClient::new(channel).max_encoding_message_size(MESSAGE_BYTES_MAX);
        let (out, reports) = mpsc::channel(1);
        let call = client.report(ends.request(ReceiverStream::new(reports)));
        tokio::pin!(call);
        let mut changes = self.inner.registry.changes();
        let mut mark = 0;
        loop {
            changes.mark_unchanged();
            let (agents, next) = self.inner.registry.own_since(mark);
            mark = next;
            let Standing { address, version, applied_index, revision, .. } = self.own();
            let agents = agents.into_iter().map(|(name, status)| state(name, status)).collect();
            let report = MemberReport { address, version, applied_index, revision, agents };
            let tell = async {
                _ = out.send(report).await;
                // What changes meanwhile goes together.
                sleep(BATCH_EVERY).await;
                tokio::select! {
                    _ = changes.changed() => {}
                    () = sleep(TELL_EVERY) => {}
                }
            };
            tokio::select! {
                ended = &mut call => {
                    return ended.err().unwrap_or_else(|| Status::unavailable("the member ended the stream"));
                }
                () = tell => {}
            }
        }
    }
}

/// A stream in which a member tells where it stands.
pub(super) struct Telling {
    members: Members,
    member: u64,
    stream: u64,
    first: bool,
}

impl Telling {
    pub(super) fn told(&mut self, report: MemberReport) -> Result<(), Status> {
        let MemberReport { address, version, applied_index, revision, agents } = report;
        {
            let mut others = self.members.lock();
            let told = others.entry(self.member).or_default();
            if told.stream != self.stream {
                return Err(Status::aborted("a later stream of this member has taken this one's place"));
            }
            told.standing = Standing { connected: true, address, version, applied_index, revision };
        }
        let Inner { registry, hub, .. } = &*self.members.inner;
        if std::mem::take(&mut self.first) {
            // What it does not name any more was lost with a former life of it.
            registry.lost(self.member, &agents.iter().map(|agent| agent.name.as_str()).collect());
        }
        for agent in agents {
            let (name, status) = self.status(agent)?;
            let (chassis, applied) = (status.chassis, status.applied_revision);
            let (counts, obsolete) = registry.elsewhere(&name, status);
            if let Some(chassis) = obsolete {
                hub.evict(chassis);
            }
            if counts && applied > 0 {
                hub.acknowledge_elsewhere(chassis, applied);
            }
        }
        Ok(())
    }

    fn status(&self, agent: AgentState) -> Result<(String, AgentStatus), Status> {
        let chassis = Uuid::from_slice(&agent.chassis)
            .map_err(|_| Status::invalid_argument("an agent's chassis is no uuid"))?;
        let registered = Registered {
            revision: agent.registered_revision,
            at_ms: agent.registered_at_ms,
            member: self.member,
        };
        let status = AgentStatus {
            chassis,
            connected: agent.connected,
            applied_revision: agent.applied_revision,
            last_seen_ms: agent.last_seen_ms,
            version: agent.version,
            problems: agent.problems,
            registered,
            ..AgentStatus::default()
        };
        Ok((agent.name, status))
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        let mut others = self.members.lock();
        if let Some(told) = others.get_mut(&self.member).filter(|told| told.stream == self.stream) {
            told.standing.connected = false;
        }
        drop(others);
        let (members, member, stream) = (self.members.clone(), self.member, self.stream);
        // There is none any more when the process ends.
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            sleep(GONE_AFTER).await;
            members.end(member, stream);
        });
    }
}

fn state(name: String, status: AgentStatus) -> AgentState {
    AgentState {
        name,
        chassis: Bytes::copy_from_slice(status.chassis.as_bytes()),
        connected: status.connected,
        registered_revision: status.registered.revision,
        registered_at_ms: status.registered.at_ms,
        applied_revision: status.applied_revision,
        last_seen_ms: status.last_seen_ms,
        version: status.version,
        problems: status.problems,
    }
}

/// How long agents of a member that vanished count as connected.
const GONE_AFTER: Duration = Duration::from_secs(5);
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// Between two messages, at least and at most.
const BATCH_EVERY: Duration = Duration::from_millis(5);
const TELL_EVERY: Duration = Duration::from_millis(500);
