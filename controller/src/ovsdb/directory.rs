//! The rows of `_Server`: what this member says of the databases it offers (ovsdb-server(5)).
//!
//! # Contract
//! - In: where the member stands, and the store. Out: a state of `_Server` that sessions monitor like any other.
//!
//! # Invariants
//! - `leader` is true only while this member may write; a change of leader is published at once.
//! - `connected` outlives a leader for [`ELECTION`]: clients leave a server that is not connected, try the others, of which one
//!   may be dead, and wait longer before each further try. While another leader is elected they are better off where they are.
//! - `index` never goes back, and is never beyond what is applied here. It is the revision: clients refuse a server that
//!   knows less than one they have seen, and revisions are what members agree on.
//! - `index` alone is published at most once in [`INDEX_EVERY`], and whenever a client connects.

use std::{future::pending, sync::Arc, time::Duration};

use quantumnet_model::{Database, Row, Rows, Uuid, intent::Cluster, server::ServedDatabase};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::database;
use crate::{
    replica::{Replica, Status},
    store::State,
};

/// What becomes of a member that knows no leader.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Leaderless {
    Electing,
    GivenUp,
}

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
        self.publish(replica, Leaderless::Electing);
    }

    fn publish(&self, replica: &Replica, leaderless: Leaderless) {
        let (status, store) = (replica.status(), replica.state());
        self.state.send_if_modified(|state| {
            let served = self.served(&status, &store, state, leaderless);
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
        let mut elected_by: Option<Instant> = None;
        loop {
            elected_by = match replica.status().leader {
                Some(_) => None,
                None => elected_by.or_else(|| Some(Instant::now() + ELECTION)),
            };
            let given_up = async {
                match elected_by {
                    Some(at) if self.is_connected() => sleep_until(at).await,
                    _ => pending().await,
                }
            };
            let changed = tokio::select! {
                changed = status.changed() => changed,
                changed = async { index.tick().await; applied.changed().await } => changed,
                () = given_up => {
                    self.publish(&replica, Leaderless::GivenUp);
                    continue;
                }
            };
            if changed.is_err() {
                return;
            }
            self.refresh(&replica);
        }
    }

    fn is_connected(&self) -> bool {
        self.state().get::<ServedDatabase>(self.rows[0]).is_some_and(|row| row.connected)
    }

    fn served(
        &self,
        status: &Status,
        store: &State,
        former: &State,
        leaderless: Leaderless,
    ) -> ServedDatabase {
        let cluster = store.iter::<Cluster>().next().map(|(_, cluster)| cluster.cluster_id);
        let index = i64::try_from(store.revision()).unwrap_or(i64::MAX);
        let former = former.get::<ServedDatabase>(self.rows[0]);
        let stays = leaderless == Leaderless::Electing && former.is_some_and(|row| row.connected);
        let former = former.and_then(|row| row.index);
        ServedDatabase {
            name: self.database.name().into(),
            model: "clustered".into(),
            connected: (status.leader.is_some() || stays) && status.stopped.is_none(),
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
/// Elections that several lose at first are over by then; a member that is cut off from the others does not see one.
const ELECTION: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_connected_while_another_leader_is_elected() {
        let directory = Directory {
            database: Database::Northbound,
            rows: [Uuid::new_v4(), Uuid::new_v4()],
            state: watch::Sender::default(),
        };
        let led = Status { leader: Some(1), ..Status::default() };
        let stopped = Status { stopped: Some("the disk is gone".to_owned()), ..Status::default() };
        let mut former = State::default();
        for (status, leaderless, connected) in [
            (&Status::default(), Leaderless::Electing, false),
            (&led, Leaderless::Electing, true),
            (&Status::default(), Leaderless::Electing, true),
            (&Status::default(), Leaderless::GivenUp, false),
            (&Status::default(), Leaderless::Electing, false),
            (&led, Leaderless::Electing, true),
            (&stopped, Leaderless::Electing, false),
        ] {
            let served = directory.served(status, &State::default(), &former, leaderless);
            assert_eq!(served.connected, connected, "{status:?} {leaderless:?}");
            let mut rows = Rows::default();
            rows.set(ServedDatabase::TABLE, directory.rows[0], Some(Arc::new(served)));
            former = State::rebuild(rows, former.revision() + 1);
        }
    }
}
