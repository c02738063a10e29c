//! The rows of `_Server`: what this member says of the databases it offers (ovsdb-server(5)).
//!
//! # Contract
//! - In: where the member stands, and the store. Out: a state of `_Server` that sessions monitor like any other.
//!
//! # Invariants
//! - `leader` is true only while this member may write; a change of leader or of connection is published at once.
//! - `index` never goes back, and is never beyond what is applied here. It is the revision: clients refuse a server that
//!   knows less than one they have seen, and revisions are what members agree on.
//! - `index` alone is published at most once in [`INDEX_EVERY`], and whenever a client connects.

use std::{sync::Arc, time::Duration};

use quantumnet_model::{Database, Row, Rows, Uuid, intent::Cluster, server::ServedDatabase};
use tokio::sync::watch;

use super::database;
use crate::{
    replica::{Replica, Status},
    store::State,
};

/// What one server says of itself.
#[derive(Debug)]
pub(super) struct Directory {
    database: Database,
    /// Of the rows: of the database, and of `_Server`.
    rows: [Uuid; 2],
    state: watch::Sender<Arc<State>>,
}

impl Directory {
    /// Of a server that offers this database.
    pub(super) fn new(database: Database, replica: &Replica) -> Self {
        let directory =
            Self { database, rows: [Uuid::new_v4(), Uuid::new_v4()], state: watch::Sender::default() };
        directory.refresh(replica);
        directory
    }

    /// Follows the state of `_Server`.
    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<State>> {
        self.state.subscribe()
    }

    /// The state of `_Server`.
    pub(super) fn state(&self) -> Arc<State> {
        self.state.borrow().clone()
    }

    /// Publishes what is true now.
    pub(super) fn refresh(&self, replica: &Replica) {
        let (status, store) = (replica.status(), replica.state());
        self.state.send_if_modified(|state| {
            let served = self.served(&status, &store, state);
            if state.get::<ServedDatabase>(self.rows[0]) == Some(&served) {
                return false;
            }
            let itself = ServedDatabase {
                name: Database::Server.name().into(),
                model: "standalone".into(),
                connected: true,
                leader: true,
                schema: Some(database::schema_text(Database::Server).into()),
                ..ServedDatabase::default()
            };
            let mut rows = Rows::default();
            for (uuid, row) in self.rows.into_iter().zip([served, itself]) {
                rows.set(ServedDatabase::TABLE, uuid, Some(Arc::new(row)));
            }
            *state = Arc::new(State::rebuild(rows, state.revision() + 1));
            true
        });
    }

    /// Keeps it true.
    pub(super) async fn run(self: Arc<Self>, replica: Replica) {
        let (mut status, mut applied) = (replica.status_changes(), replica.applied());
        let mut index = tokio::time::interval(INDEX_EVERY);
        index.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let changed = tokio::select! {
                changed = status.changed() => changed,
                changed = async { index.tick().await; applied.changed().await } => changed,
            };
            if changed.is_err() {
                return;
            }
            self.refresh(&replica);
        }
    }

    fn served(&self, status: &Status, store: &State, former: &State) -> ServedDatabase {
        let cluster = store.iter::<Cluster>().next().map(|(_, cluster)| cluster.cluster_id);
        let index = i64::try_from(store.revision()).unwrap_or(i64::MAX);
        let former = former.get::<ServedDatabase>(self.rows[0]).and_then(|row| row.index);
        ServedDatabase {
            name: self.database.name().into(),
            model: "clustered".into(),
            connected: status.leader.is_some() && status.stopped.is_none(),
            leader: status.writable,
            // A member without the cluster's identity has not joined yet.
            schema: cluster.map(|_| database::schema_text(self.database).into()),
            cid: cluster,
            sid: cluster.map(|cluster| Uuid::new_v5(&cluster, &status.member.to_be_bytes())),
            index: cluster.map(|_| index.max(former.unwrap_or(0))),
        }
    }
}

const INDEX_EVERY: Duration = Duration::from_secs(1);
