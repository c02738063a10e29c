//! `AgentService` of quantumnet.v1: the gRPC side.

use std::sync::Arc;

use quantumnet_api::v1::{
    AgentMessage, ControllerMessage,
    agent_service_server::{AgentService, AgentServiceServer},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    agents::{AgentCalls, AgentRegistry, Hub, Queries, session},
    metrics::Metrics,
    peer::{Kind, Leader},
    replica::Replica,
    service::{self, Policy, Verb, admit},
};

/// Serves agents; clones are the same service.
#[derive(Clone)]
pub struct Agents {
    pub(crate) leader: Leader,
    pub(crate) hub: Arc<Hub>,
    pub(crate) registry: Arc<AgentRegistry>,
    pub(crate) queries: Arc<Queries>,
    policy: Arc<dyn Policy>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Agents {
    /// A service over a replica whose observers include `hub`, and the way to whoever leads.
    pub fn new(
        replica: Replica,
        leader: Leader,
        hub: Arc<Hub>,
        registry: Arc<AgentRegistry>,
        queries: Arc<Queries>,
        policy: Arc<dyn Policy>,
        metrics: Arc<Metrics>,
    ) -> Self {
        leader.register(Kind::Agent, Arc::new(AgentCalls::new(replica, registry.clone())));
        Self { leader, hub, registry, queries, policy, metrics }
    }

    /// Serves agents beside what the router serves.
    pub fn beside(self, router: axum::Router) -> axum::Router {
        let server = AgentServiceServer::new(self).max_decoding_message_size(MESSAGE_BYTES_MAX);
        router.route_service(PATH, server)
    }
}

#[tonic::async_trait]
impl AgentService for Agents {
    type SyncStream = ReceiverStream<Result<ControllerMessage, Status>>;

    async fn sync(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        admit(self.policy.as_ref(), &request, Verb::Update, service::Kind::Agent, "")?;
        let (out, messages) = mpsc::channel(OUT_MAX);
        // Answered at once: an agent may wait for that before it says hello.
        tokio::spawn(session::run(self.clone(), request.into_inner(), out));
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

const PATH: &str = "/quantumnet.v1.AgentService/{*method}";
/// A larger message of an agent is refused.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Messages between a session and the connection.
const OUT_MAX: usize = 32;
