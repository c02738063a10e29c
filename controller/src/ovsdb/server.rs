//! A server: one database and `_Server`, on the sockets that the command line and the database itself name.

use std::{
    io,
    sync::{Arc, atomic::AtomicUsize},
};

use quantumnet_model::{Database, Uuid};
use thiserror::Error;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
};

use super::{
    connection::Service,
    directory::Directory,
    forward::OnLeader,
    locks::Locks,
    metrics::Metrics,
    remote::{Remote, SESSIONS_MAX},
    target::Target,
    tls::Tls,
};
use crate::{
    peer::{Kind, Leader},
    replica::Replica,
};

/// A server that serves. It ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    remotes: Vec<Remote>,
    tasks: JoinSet<()>,
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
    /// Serves a database.
    pub async fn start(
        replica: &Replica,
        leader: &Leader,
        database: Database,
        targets: &[Target],
        tls: Option<&Tls>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ServerError> {
        leader.register(Kind::Transact, Arc::new(OnLeader { replica: replica.clone() }));
        let directory = Arc::new(Directory::new(database, replica));
        let service = Arc::new(Service {
            replica: replica.clone(),
            leader: leader.clone(),
            database,
            directory: directory.clone(),
            locks: Locks::default(),
            server_id: Uuid::new_v4(),
            metrics,
            held: AtomicUsize::new(0),
            places: Arc::new(Semaphore::new(SESSIONS_MAX)),
        });
        let mut remotes = Vec::new();
        for target in targets {
            let remote = Remote::bind(service.clone(), target, tls.cloned()).await;
            remotes.push(remote.map_err(|source| ServerError { target: target.clone(), source })?);
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(directory.run(replica.clone()));
        Ok(Self { remotes, tasks })
    }

    /// Where it listens for TCP, in the order of the command line.
    pub fn ports(&self) -> Vec<u16> {
        self.remotes.iter().filter_map(|remote| remote.status().borrow().bound_port).collect()
    }

    /// Ends all sessions.
    pub async fn stop(mut self) {
        for remote in self.remotes {
            remote.stop().await;
        }
        self.tasks.shutdown().await;
    }
}
