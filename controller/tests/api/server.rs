//! A server in this process, and calls as lines of HTTP.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use quantumnet_controller::{
    agents::{AgentRegistry, Agents, Hub, Queries},
    lower,
    metrics::Metrics,
    peer::{Leader, Members},
    replica::{self, Replica},
    serve::Listener,
    service::{self, Admins, Policy},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) replica: Replica,
    pub(crate) unix: PathBuf,
    _stop: watch::Sender<bool>,
    _directory: tempfile::TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(Arc::new(Admins)).await
    }

    pub(crate) async fn start_with(policy: Arc<dyn Policy>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::default());
        let hub = Hub::new(1_000, metrics.clone());
        let replica = replica::start(replica::Options {
            data_dir: directory.path().to_owned(),
            member: 1,
            peers: None,
            history_transactions_max: 1_000,
            snapshot_after_bytes: 64 << 20,
            lower: Arc::new(lower::run),
            observers: vec![Box::new(hub.clone())],
            metrics: metrics.clone(),
        })
        .unwrap();
        let mut applied = replica.applied();
        tokio::time::timeout(PATIENCE, applied.wait_for(|state| state.revision() > 0))
            .await
            .unwrap()
            .unwrap();
        let registry = Arc::new(AgentRegistry::default());
        let leader = Leader::alone(replica.clone(), metrics.clone());
        let members = Members::new("127.0.0.1:1".into(), replica.clone(), registry.clone(), hub.clone());
        let queries = Queries::new(registry.clone(), leader.clone());
        let agents = Agents::new(
            replica.clone(),
            leader.clone(),
            hub,
            registry.clone(),
            queries.clone(),
            policy.clone(),
            metrics,
        );
        let context =
            service::Context { replica: replica.clone(), leader, agents: registry, queries, policy, members };
        let routes = agents.beside(service::routes(context).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let unix = directory.path().join("api.sock");
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(Listener::unix(&unix).unwrap().serve(routes.clone(), stopping.clone()));
        tokio::spawn(Listener::Tcp(listener).serve(routes, stopping));
        Self { address, unix, replica, _stop: stop, _directory: directory }
    }

    /// One JSON call: HTTP status and body.
    pub(crate) async fn post(&self, method: &str, body: &Value) -> (u16, Value) {
        self.post_as(method, body, "").await
    }

    pub(crate) async fn post_as(&self, method: &str, body: &Value, headers: &str) -> (u16, Value) {
        let body = body.to_string();
        let request = format!(
            "POST /quantumnet.v1.{method} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let text = self.raw(request.as_bytes()).await;
        let status = text.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, serde_json::from_str(body).unwrap_or_else(|_| Value::String(text.clone())))
    }

    pub(crate) async fn raw(&self, request: &[u8]) -> String {
        self.exchange(request, false).await
    }

    /// `closing`: the client says no more, which the server takes as its leaving.
    pub(crate) async fn exchange(&self, request: &[u8], closing: bool) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The server may close before it has read all of a body that is too large.
        _ = stream.write_all(request).await;
        if closing {
            _ = stream.shutdown().await;
        }
        let mut answer = Vec::new();
        _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .expect("the server answers or closes");
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) async fn ok(&self, method: &str, body: Value) -> Value {
        let (status, answer) = self.post(method, &body).await;
        assert_eq!(status, 200, "{method} {body}: {answer}");
        answer
    }

    pub(crate) async fn refused(&self, method: &str, body: Value) -> (u16, String, String, String) {
        let (status, answer) = self.post(method, &body).await;
        let text =
            |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        assert_ne!(status, 200, "{method} {body}: {answer}");
        (status, text("/error/reason"), text("/error/field"), text("/message"))
    }

    pub(crate) async fn network(&self, name: &str, cidr: &str) -> Value {
        let spec = json!({ "subnets": [{ "cidr": cidr }] });
        self.ok(
            "VirtualNetworkService/CreateVirtualNetwork",
            json!({ "network": { "meta": { "name": name }, "spec": spec } }),
        )
        .await
    }

    pub(crate) async fn port(&self, name: &str, network: &str) -> Value {
        let spec = json!({ "network": { "name": network } });
        self.ok("PortService/CreatePort", json!({ "port": { "meta": { "name": name }, "spec": spec } })).await
    }
}
