//! The `quantumnet.v1` API: gRPC, and the same methods as JSON over HTTP, on one port.
//!
//! # Contract
//! - In: requests; out: transactions for the [`Replica`], messages made from applied states.
//! - Every call passes [`authorize`](Policy::authorize) before anything else is looked at.
//! - A call that writes is carried out by the leader, whichever member it came to; what only reads is served here.
//! - A request is validated with the path of the wrong field; what depends on other objects is checked inside the
//!   transaction, so that two requests can't both be right.
//! - Refuses to know how rows are lowered: status is read from the Southbound rows of the same state.
//!
//! # Invariants
//! - Answers and watch events are made from applied states only.
//! - A call repeated with its request id changes nothing a second time.

mod authorize;
mod cluster;
mod counters;
mod database;
mod error;
mod explain;
mod floating_ip;
mod forward;
mod import;
mod json;
mod list;
mod meta;
mod network;
mod node;
mod object;
mod own_router;
mod port;
mod port_addresses;
mod port_security;
mod project;
mod repeat;
mod router;
mod security_group;
mod security_policy;
mod security_rules;
mod subnets;
mod watch;

use std::sync::Arc;

use quantumnet_api::v1::{
    cluster_service_server::ClusterServiceServer, counter_service_server::CounterServiceServer,
    database_service_server::DatabaseServiceServer, explain_service_server::ExplainServiceServer,
    floating_ip_service_server::FloatingIpServiceServer, node_service_server::NodeServiceServer,
    port_service_server::PortServiceServer, project_service_server::ProjectServiceServer,
    router_service_server::RouterServiceServer, security_group_service_server::SecurityGroupServiceServer,
    security_policy_service_server::SecurityPolicyServiceServer,
    virtual_network_service_server::VirtualNetworkServiceServer,
};
use tokio::sync::Semaphore;

pub(crate) use authorize::admit;
pub use authorize::{Admins, Kind, Peer, Policy, Principal, Verb};
pub use error::RpcStatus;
pub(crate) use error::code;

use crate::{
    agents::{AgentRegistry, Queries},
    peer::{Leader, Members},
    replica::Replica,
    store::{Refusal, State, Txn},
};
use authorize::Call;

/// Octets of an import, at most: one transaction.
const IMPORT_OCTETS_MAX: usize = 64 << 20;

/// Clients that follow what hypervisors do, at most.
const FOLLOWERS_MAX: usize = 16;

/// What the services work on.
pub struct Context {
    /// The store.
    pub replica: Replica,
    /// Where calls that write go.
    pub leader: Leader,
    /// The agents.
    pub agents: Arc<AgentRegistry>,
    /// The way to them with questions.
    pub queries: Arc<Queries>,
    /// Who may do what.
    pub policy: Arc<dyn Policy>,
    /// The members, for `GetClusterStatus`.
    pub members: Members,
}

/// A service of the API; all share one context.
#[derive(Clone)]
pub(crate) struct Api(Arc<Context>, Arc<Semaphore>);

/// Everything that is served on the API port: gRPC with reflection and health, and JSON over HTTP. To be served by a
/// [`Listener`](crate::serve::Listener), which says who the peer is. Reflection and health pass no door: they tell
/// what the program can do and whether it can, and nothing that is in the store.
pub fn routes(context: Context) -> Result<axum::Router, Box<dyn std::error::Error + Send + Sync>> {
    let leader = context.leader.clone();
    let api = Api(Arc::new(context), Arc::new(Semaphore::new(FOLLOWERS_MAX)));
    let (health, health_service) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(quantumnet_api::DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    tokio::spawn(follow_health(api.0.replica.clone(), health));
    let mut routes = tonic::service::Routes::builder();
    routes
        .add_service(health_service)
        .add_service(reflection)
        .add_service(ProjectServiceServer::new(api.clone()))
        .add_service(VirtualNetworkServiceServer::new(api.clone()))
        .add_service(PortServiceServer::new(api.clone()))
        .add_service(RouterServiceServer::new(api.clone()))
        .add_service(FloatingIpServiceServer::new(api.clone()))
        .add_service(SecurityGroupServiceServer::new(api.clone()))
        .add_service(SecurityPolicyServiceServer::new(api.clone()))
        .add_service(NodeServiceServer::new(api.clone()))
        .add_service(ClusterServiceServer::new(api.clone()))
        .add_service(CounterServiceServer::new(api.clone()))
        .add_service(ExplainServiceServer::new(api.clone()))
        .add_service(DatabaseServiceServer::new(api).max_decoding_message_size(IMPORT_OCTETS_MAX));
    json::over(forward::over(routes.routes().prepare().into_axum_router(), leader))
}

/// Healthy while some member leads, as far as this one knows.
async fn follow_health(replica: Replica, health: tonic_health::server::HealthReporter) {
    let mut status = replica.status_changes();
    loop {
        let serving = {
            let status = status.borrow_and_update();
            status.leader.is_some() && status.stopped.is_none()
        };
        let serving = if serving {
            tonic_health::ServingStatus::Serving
        } else {
            tonic_health::ServingStatus::NotServing
        };
        health.set_service_status("", serving).await;
        if status.changed().await.is_err() {
            return;
        }
    }
}

impl Api {
    fn context(&self) -> &Context {
        &self.0
    }

    /// Room for clients that follow what hypervisors do, which costs each of them.
    fn followers(&self) -> &Arc<Semaphore> {
        &self.1
    }

    /// A state that holds everything acknowledged before.
    async fn read(&self) -> Result<Arc<State>, tonic::Status> {
        self.0.replica.linearizable().await.map_err(error::unreadable)
    }

    /// Runs a transaction for a call.
    async fn write<R: Send + 'static>(
        &self,
        call: &Call,
        request: impl FnOnce(&mut Txn<'_>) -> Result<R, Refusal> + Send + 'static,
    ) -> Result<(u64, R), tonic::Status> {
        let done = self.0.replica.propose(call.principal.name.clone(), request).await;
        done.map(|done| (done.revision, done.result)).map_err(error::status)
    }
}

/// How an update names its object: by the id of its meta, or by its name.
fn reference_of(meta: &quantumnet_api::v1::ObjectMeta) -> quantumnet_api::v1::ObjectRef {
    quantumnet_api::v1::ObjectRef {
        id: meta.id.clone(),
        name: meta.name.clone(),
        project: meta.project.clone(),
    }
}
