//! `_Server`: what an OVSDB server says of itself, schema 1.2.0 (ovsdb-server(5)).
//!
//! # Invariants
//! - Never replicated: each member keeps its own rows and says in them what is true of itself.

use uuid::Uuid;

use crate::{column::Text, table};

/// Version of the schema.
pub const VERSION: &str = "1.2.0";

table! {
    /// A database that a server offers.
    pub struct ServedDatabase = Server "Database" [root] {
        /// Its name, as `OVN_Northbound`.
        name: Text,
        /// Who keeps it.
        model: Text => |c| c.with(|t| t.one_of(&["standalone", "clustered", "relay"])),
        /// Whether this server hears of the cluster's commits.
        connected: bool,
        /// Whether this server leads the cluster.
        leader: bool,
        /// The schema as JSON text; empty while this server has not joined the cluster.
        schema: Option<Text>,
        /// The cluster.
        cid: Option<Uuid>,
        /// This server in it.
        sid: Option<Uuid>,
        /// How far the database has come here; never goes back. The revision, which is the same on all members.
        index: Option<i64>,
    }
}
