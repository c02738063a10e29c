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
    agents::{AgentRegistry, Hub, session},
    metrics::Metrics,
    replica::Replica,
};

/// Serves agents; clones are the same service.
#[derive(Clone)]
pub struct Agents {
    pub(crate) replica: Replica,
    pub(crate) hub: Arc<Hub>,
    pub(crate) registry: Arc<AgentRegistry>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Agents {
    /// A service over a replica whose observers include `hub`.
    pub const fn new(
        replica: Replica,
        hub: Arc<Hub>,
        registry: Arc<AgentRegistry>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { replica, hub, registry, metrics }
    }

    /// To be added to a router.
    pub fn into_server(self) -> AgentServiceServer<Self> {
        AgentServiceServer::new(self).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl AgentService for Agents {
    type SyncStream = ReceiverStream<Result<ControllerMessage, Status>>;

    async fn sync(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let (out, messages) = mpsc::channel(OUT_MAX);
        // Answered at once: an agent may wait for that before it says hello.
        tokio::spawn(session::run(self.clone(), request.into_inner(), out));
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

/// A larger message of an agent is refused.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Messages between a session and the connection.
const OUT_MAX: usize = 32;
