//! The database as a whole: settings, progress, how its server is reached, and who may write what.

use imbl::{OrdMap, OrdSet};

use crate::{
    column::{Strong, Text, Weak},
    table,
};

table! {
    /// The one row of what holds everywhere.
    pub struct SbGlobal = Southbound "SB_Global" [root max 1] {
        /// `NB_Global.nb_cfg` whose consequences are in this database.
        nb_cfg: i64,
        /// When it got there, in milliseconds since the epoch.
        nb_cfg_timestamp: i64,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
        /// Where the server listens.
        connections: OrdSet<Strong<Connection>>,
        /// Keys and certificates for these connections.
        ssl: Option<Strong<Ssl>>,
        /// Those of `NB_Global` that hypervisors read.
        options: OrdMap<Text, Text>,
        /// Whether tunnels are encrypted.
        ipsec: bool,
    }
}

table! {
    /// A way for OVSDB clients to reach the server.
    pub struct Connection = Southbound "Connection" {
        /// As in `OVN_Northbound`.
        target: Text,
        /// Longest wait between two attempts to call, in milliseconds.
        max_backoff: Option<i64> => |c| c.with(|t| t.range(1000, i64::MAX)),
        /// Idle milliseconds after which the peer is probed.
        inactivity_probe: Option<i64>,
        /// Settings of the socket.
        other_config: OrdMap<Text, Text>,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
        /// Nothing can be written by this way.
        read_only: bool,
        /// Name of a `RBAC_Role`.
        role: Text,
        /// Whether a session is up at the moment.
        is_connected: bool => |c| c.ephemeral(),
        /// State as of the moment.
        status: OrdMap<Text, Text> => |c| c.ephemeral(),
    }
    indexes [["target"]]
}

table! {
    /// Identity and trust of the server's TLS sessions; files are the server's own.
    pub struct Ssl = Southbound "SSL" [leaf max 1] {
        /// PEM file of the server's private key.
        private_key: Text,
        /// PEM file of the certificate for that key.
        certificate: Text,
        /// PEM file of the authorities whose clients are accepted.
        ca_cert: Text,
        /// Whether the first peer's authority is trusted.
        bootstrap_ca_cert: bool,
        /// Versions.
        ssl_protocols: Text,
        /// Ciphers of TLS 1.2.
        ssl_ciphers: Text,
        /// Ciphersuites of TLS 1.3.
        ssl_ciphersuites: Text,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
}

table! {
    /// What holders of a role may do, by table. Always empty: agents do not write this database.
    pub struct RbacRole = Southbound "RBAC_Role" [root] {
        /// The role.
        name: Text,
        /// From table to what is allowed there.
        permissions: OrdMap<Text, Weak<RbacPermission>>,
    }
}

table! {
    /// What is allowed in a table.
    pub struct RbacPermission = Southbound "RBAC_Permission" [root] {
        /// The table.
        table: Text,
        /// Columns that must hold the client's name.
        authorization: OrdSet<Text>,
        /// Rows may be made and deleted.
        insert_delete: bool,
        /// Columns that may be written.
        update: OrdSet<Text>,
    }
}
