//! A server: one database and `_Server`, on the sockets that the command line and the database itself name.
//!
//! # Invariants
//! - A row that listens on all addresses of a port takes over from a command line that names one address of it; when
//!   the row goes, the command line's socket is back.
//! - Rows are written by the leader alone, together, and only what is new.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use quantumnet_model::{Database, Uuid};
use thiserror::Error;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
};

use super::{
    connection::{Options, Service},
    connections::{Connections, Shown},
    directory::Directory,
    forward::OnLeader,
    locks::Locks,
    metrics::Metrics,
    remote::{Remote, SESSIONS_MAX, Status},
    target::Target,
    tls::Tls,
};
use crate::{
    peer::{Kind, Leader},
    replica::Replica,
    store::Txn,
    threads::Threads,
};

/// A server that serves.
#[derive(Debug)]
pub struct Server {
    ports: Vec<u16>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Why a server could not start.
#[derive(Debug, Error)]
#[error("cannot listen on {target}")]
pub struct ServerError {
    /// Where.
    pub target: Target,
    /// Why not.
    #[source]
    pub source: io::Error,
}

impl Server {
    /// Serves a database. Fails when a target of the command line can't be served.
    pub async fn start(
        replica: &Replica,
        leader: &Leader,
        database: Database,
        targets: &[Target],
        tls: Option<&Tls>,
        threads: &Arc<Threads>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ServerError> {
        leader.register(Kind::Transact, Arc::new(OnLeader { replica: replica.clone() }));
        let service = Arc::new(Service {
            replica: replica.clone(),
            leader: leader.clone(),
            database,
            directory: Arc::new(Directory::new(database, replica)),
            locks: Locks::default(),
            server_id: Uuid::new_v4(),
            metrics,
            threads: threads.clone(),
            held: AtomicUsize::new(0),
            places: Arc::new(Semaphore::new(SESSIONS_MAX)),
        });
        let (mut served, mut ports) = (BTreeMap::new(), Vec::new());
        for target in targets {
            let remote = Remote::bind(service.clone(), target, tls.cloned()).await;
            let remote = remote.map_err(|source| ServerError { target: target.clone(), source })?;
            ports.extend(remote.status().bound_port);
            served.insert(target.clone(), remote);
        }
        let (stop, stopping) = watch::channel(false);
        let run = Run {
            service,
            command_line: targets.iter().cloned().collect(),
            command_line_tls: tls.cloned(),
            connections: Connections::default(),
            tls: tls.cloned(),
            served,
        };
        Ok(Self { ports, stop, task: tokio::spawn(run.run(stopping)) })
    }

    /// Where it listens for TCP, in the order of the command line.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Ends all sessions.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "an OVSDB server failed");
        }
    }
}

struct Run {
    service: Arc<Service>,
    command_line: BTreeSet<Target>,
    command_line_tls: Option<Tls>,
    connections: Connections,
    tls: Option<Tls>,
    served: BTreeMap<Target, Remote>,
}

impl Run {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let directory = tokio::spawn(self.service.directory.clone().run(self.service.replica.clone()));
        let mut applied = self.service.replica.applied();
        // Not each transaction wakes this task for a table that hardly ever changes.
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut show = tokio::time::interval(SHOW_EVERY);
        show.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let connections = Connections::read(&applied.borrow_and_update(), self.service.database);
            if connections != self.connections {
                self.configure(connections).await;
            }
            let changed = tokio::select! {
                changed = async { look.tick().await; applied.changed().await } => changed.is_ok(),
                _ = show.tick() => {
                    self.show().await;
                    true
                }
                () = async { _ = stop.wait_for(|stop| *stop).await } => false,
            };
            if !changed {
                break;
            }
        }
        directory.abort();
        for remote in std::mem::take(&mut self.served).into_values() {
            remote.stop().await;
        }
    }

    /// Serves what the database says, and what the command line says.
    async fn configure(&mut self, connections: Connections) {
        for unheeded in &connections.unheeded {
            tracing::warn!(database = self.service.database.name(), "not acted on: {unheeded}");
        }
        let tls = self.command_line_tls.clone().or_else(|| match &connections.tls {
            Some(Ok(tls)) => Some(tls.clone()),
            Some(Err(error)) => {
                tracing::warn!(database = self.service.database.name(), error, "table SSL is of no use");
                None
            }
            None => None,
        });
        let wanted = wanted(&self.command_line, &connections);
        let renewed = tls != self.tls;
        let stale = |target: &Target| !wanted.contains_key(target) || (renewed && target.is_tls());
        let gone: Vec<Target> = self.served.keys().filter(|target| stale(target)).cloned().collect();
        for target in gone {
            if let Some(remote) = self.served.remove(&target) {
                // The socket is free for another only then.
                remote.stop().await;
            }
        }
        for (target, options) in wanted {
            if let Some(remote) = self.served.get(&target) {
                remote.set_options(options);
            } else {
                let remote = Remote::open(self.service.clone(), target.clone(), options, tls.clone());
                self.served.insert(target, remote);
            }
        }
        (self.connections, self.tls) = (connections, tls);
    }

    /// Writes what became of the rows.
    async fn show(&self) {
        let Service { replica, database, .. } = &*self.service;
        if !replica.status().writable {
            return;
        }
        let state = replica.state();
        let shown = self.connections.rows.iter().filter_map(|(uuid, target)| {
            let status = target.as_ref().map(|(target, _)| self.status(target)).unwrap_or_default();
            Shown::of(&state, *database, *uuid, target, &status)
        });
        let shown: Vec<Shown> = shown.collect();
        if shown.is_empty() {
            return;
        }
        let write = move |txn: &mut Txn<'_>| shown.iter().try_for_each(|shown| shown.write(txn));
        if let Err(error) = replica.propose("quantumnet-controller", write).await {
            tracing::warn!(%error, "the state of connections is not written; it is tried again");
        }
    }

    fn status(&self, target: &Target) -> Status {
        let served = self.served.get(target);
        let served = served
            .or_else(|| self.served.iter().find(|(other, _)| other.covers(target)).map(|(_, remote)| remote));
        served.map(|remote| remote.status()).unwrap_or_default()
    }
}

/// Targets to serve. One that another covers is served by that.
fn wanted(command_line: &BTreeSet<Target>, connections: &Connections) -> BTreeMap<Target, Options> {
    let mut wanted: BTreeMap<Target, Options> =
        command_line.iter().map(|target| (target.clone(), Options::of(target))).collect();
    wanted.extend(connections.rows.values().flatten().cloned());
    let all: Vec<Target> = wanted.keys().cloned().collect();
    wanted.retain(|target, _| !all.iter().any(|other| other != target && other.covers(target)));
    wanted
}

const LOOK_EVERY: Duration = Duration::from_millis(50);
const SHOW_EVERY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_of_a_port_cover_one_of_them() {
        let target = |text: &str| text.parse::<Target>().unwrap();
        let command_line = BTreeSet::from([target("ptcp:6641:127.0.0.1"), target("punix:/x")]);
        let mut connections = Connections::default();
        let mut row = |id: u128, text: &str| {
            let target = text.parse::<Target>();
            connections.rows.insert(
                Uuid::from_u128(id),
                target.map(|target| {
                    let options = Options::of(&target);
                    (target, options)
                }),
            );
        };
        row(1, "ptcp:6641");
        row(2, "pssl:6643");
        row(3, "what");
        let keys: Vec<String> = wanted(&command_line, &connections).keys().map(ToString::to_string).collect();
        assert_eq!(keys, ["punix:/x", "ptcp:6641:0.0.0.0", "pssl:6643:0.0.0.0"]);
    }
}
