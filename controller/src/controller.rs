//! One controller: the replica, the agents' hub, the services and their sockets put together.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{
    Router, extract::State as Shared, http::StatusCode, http::header, response::IntoResponse, routing::get,
};
use quantumnet_model::{Database, intent::Cluster};
use tokio::{sync::watch, task::JoinSet, time::timeout};

use crate::{
    agents::{AgentRegistry, Agents, Hub, Queries, aging, derive},
    config::Config,
    lower::{self, binding},
    metrics::Metrics,
    ovsdb,
    peer::{self, Leader, Members},
    replica::{self, Peers, Replica},
    serve::Listener,
    service::{self, Admins},
    threads::Threads,
};

/// A controller that serves.
pub struct Controller {
    replica: Replica,
    leader: Leader,
    queries: Arc<Queries>,
    stop: watch::Sender<bool>,
    servers: JoinSet<()>,
    background: JoinSet<()>,
    ovsdb: Vec<ovsdb::Server>,
    /// Serves the other members.
    _peers: Threads,
    unix: Option<PathBuf>,
}

impl Controller {
    /// Opens the data directory, starts the member and serves on the configured sockets.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::default());
        let hub = Hub::new(HISTORY_TRANSACTIONS_MAX, metrics.clone());
        let registry = Arc::new(AgentRegistry::default());
        let (addresses, peer_listen) = config.members()?.unzip();
        let alone = addresses.is_none();
        let addresses: BTreeMap<_, _> = addresses.unwrap_or_default();
        let (outbox, links) = peer::outbox(config.member_id, &addresses, metrics.clone());
        let peers = (!alone).then(|| Peers { addresses: addresses.clone(), transport: Arc::new(outbox) });
        let replica = replica::start(replica::Options {
            data_dir: config.data_dir.clone(),
            member: config.member_id,
            peers,
            history_transactions_max: HISTORY_TRANSACTIONS_MAX,
            snapshot_after_bytes: config.snapshot_after,
            lower: Arc::new(lower::run),
            observers: vec![Box::new(hub.clone())],
            metrics: metrics.clone(),
        })?;
        let (leader, roads) = Leader::new(replica.clone(), &addresses, metrics.clone());
        let address = config.listen.first().map(ToString::to_string).unwrap_or_default();
        let members = Members::new(address, replica.clone(), registry.clone(), hub.clone());
        let queries = Queries::new(registry.clone(), leader.clone());
        let policy = Arc::new(Admins);
        let context = service::Context {
            replica: replica.clone(),
            leader: leader.clone(),
            agents: registry.clone(),
            queries: queries.clone(),
            policy: policy.clone(),
            members: members.clone(),
        };
        let routes = service::routes(context)
            .map_err(|error| anyhow::anyhow!(error))
            .context("cannot build the API")?;
        let agents = Agents::new(
            replica.clone(),
            leader.clone(),
            hub.clone(),
            registry.clone(),
            queries.clone(),
            policy,
            metrics.clone(),
        );
        let routes = agents.beside(routes);

        let (stop, stopping) = watch::channel(false);
        let mut servers = JoinSet::new();
        for address in &config.listen {
            let listener = Listener::tcp(*address).await;
            let listener = listener.with_context(|| format!("cannot listen on {address} (--listen)"))?;
            servers.spawn(listener.serve(routes.clone(), stopping.clone()));
        }
        if let Some(path) = &config.listen_unix {
            let listener = Listener::unix(path);
            let listener =
                listener.with_context(|| format!("cannot listen on {} (--listen-unix)", path.display()))?;
            servers.spawn(listener.serve(routes, stopping.clone()));
        }
        let peers_thread = Threads::start("peers", 1).context("cannot start the thread of the members")?;
        if let Some(address) = peer_listen {
            let listener = peers_thread.next().spawn(peer::listen(address)).await?;
            let listener = listener.with_context(|| format!("cannot listen on {address} (--peer-listen)"))?;
            let service = peer::service(
                replica.clone(),
                leader.clone(),
                members.clone(),
                metrics.clone(),
                stopping.clone(),
            );
            servers.spawn_on(listener.serve(service, stopping.clone()), peers_thread.next());
        }
        let listener = Listener::tcp(config.metrics).await;
        let listener =
            listener.with_context(|| format!("cannot listen on {} (--metrics)", config.metrics))?;
        if alone && timeout(LEADS_WITHIN, leads(&replica)).await.is_err() {
            tracing::warn!("this member does not lead yet; clients that insist on a leader are turned away");
        }
        let sessions =
            Threads::for_processors("ovsdb").context("cannot start the threads of OVSDB sessions")?;
        let (sessions, mut databases) = (Arc::new(sessions), Vec::new());
        for (database, targets) in [(Database::Northbound, &config.nb), (Database::Southbound, &config.sb)] {
            let tls = config.tls();
            let server = ovsdb::Server::start(
                &replica,
                &leader,
                database,
                targets,
                tls.as_ref(),
                &sessions,
                metrics.ovsdb(),
            )
            .await;
            databases.push(server.with_context(|| format!("cannot serve {}", database.name()))?);
        }
        let exposed = Exposed { replica: replica.clone(), registry, metrics: metrics.clone() };
        let router = Router::new().route("/metrics", get(expose)).with_state(exposed);
        servers.spawn(listener.serve(router, stopping));

        let mut background = JoinSet::new();
        peer::run(&mut background, peers_thread.next(), links, roads, &members, &replica, &metrics);
        background.spawn(derive(replica.clone(), hub));
        background.spawn(settle_claims(replica.clone()));
        background.spawn(aging::age(replica.clone()));
        Ok(Self {
            replica,
            leader,
            queries,
            stop,
            servers,
            background,
            ovsdb: databases,
            _peers: peers_thread,
            unix: config.listen_unix.clone(),
        })
    }

    /// The member.
    pub const fn replica(&self) -> &Replica {
        &self.replica
    }

    /// The way to whoever leads.
    pub const fn leader(&self) -> &Leader {
        &self.leader
    }

    /// The way to agents with questions.
    pub fn queries(&self) -> &Queries {
        &self.queries
    }

    /// Where clients of the databases are served over TCP: Northbound's ports, then Southbound's.
    pub fn ovsdb_ports(&self) -> Vec<u16> {
        self.ovsdb.iter().flat_map(ovsdb::Server::ports).copied().collect()
    }

    /// Lets another member lead before this one stops, so that nobody waits for an election.
    pub async fn hand_over(&self) {
        self.replica.hand_over().await;
    }

    /// Stops serving, then the member.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        for server in std::mem::take(&mut self.ovsdb) {
            server.stop().await;
        }
        while self.servers.join_next().await.is_some() {}
        self.background.shutdown().await;
        self.replica.stop();
        let mut status = self.replica.status_changes();
        // Its thread may have ended before.
        _ = timeout(STOP_WITHIN, status.wait_for(|status| status.stopped.is_some())).await;
        if let Some(path) = &self.unix {
            _ = std::fs::remove_file(path);
        }
    }
}

/// Waits until the only member leads and has an identity, as its clients find both at once.
async fn leads(replica: &Replica) {
    // A member that has ended says so to its clients.
    _ = replica.status_changes().wait_for(|status| status.writable || status.stopped.is_some()).await;
    _ = replica.applied().wait_for(|state| state.iter::<Cluster>().next().is_some()).await;
}

/// Runs the transactions that give ports to claims whose wait is over. Sleeps until one is due.
async fn settle_claims(replica: Replica) {
    let (mut applied, mut status) = (replica.applied(), replica.status_changes());
    // Waiting claims are few, transactions many: not each one wakes this task.
    let mut look = tokio::time::interval(SETTLE_LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let due = binding::due(&applied.borrow_and_update());
        let Some(due) = due.filter(|_| status.borrow_and_update().writable) else {
            // A member that begins to lead may find claims whose time has come, and nothing else to apply.
            let changed = tokio::select! {
                changed = async { look.tick().await; applied.changed().await } => changed,
                changed = status.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
            continue;
        };
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let wait = u64::try_from(due).map_or(Duration::ZERO, Duration::from_millis).saturating_sub(now);
        tokio::select! {
            () = tokio::time::sleep(wait) => {
                if let Err(error) = replica.propose("quantumnet-controller", binding::relower_damped).await {
                    tracing::warn!(%error, "waiting claims not settled; they will be");
                    tokio::time::sleep(SETTLE_RETRY).await;
                }
            }
            changed = async { look.tick().await; applied.changed().await } => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

#[derive(Clone)]
struct Exposed {
    replica: Replica,
    registry: Arc<AgentRegistry>,
    metrics: Arc<Metrics>,
}

async fn expose(Shared(exposed): Shared<Exposed>) -> impl IntoResponse {
    let revision = exposed.replica.state().revision();
    let agents = exposed.registry.all();
    let connected = agents.values().filter(|agent| agent.connected && agent.registered.member == 0);
    let behind = connected.clone().map(|agent| revision.saturating_sub(agent.applied_revision)).max();
    exposed.metrics.agents(connected.count(), behind.unwrap_or(0));
    match exposed.metrics.text(&exposed.replica) {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, OPENMETRICS)], text),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], error.to_string())
        }
    }
}

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Transactions kept for watchers and agents that resume.
const HISTORY_TRANSACTIONS_MAX: usize = 4_096;
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// The only member leads after a tick and two writes to its disk.
const LEADS_WITHIN: Duration = Duration::from_secs(5);
const SETTLE_LOOK: Duration = Duration::from_millis(20);
const SETTLE_RETRY: Duration = Duration::from_secs(1);
