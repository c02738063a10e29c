//! The database as a whole: settings, progress, and how its server is reached.

use imbl::{OrdMap, OrdSet};

use crate::{
    column::{Strong, Text},
    row::Scope,
    table,
};

table! {
    /// The one row of settings that hold everywhere, and of the progress that clients wait for.
    pub struct NbGlobal = Northbound "NB_Global" [root max 1] {
        /// Name of this availability zone among those that interconnect; empty without interconnection.
        name: Text,
        /// Counter that a client increments together with a change it wants to wait for.
        nb_cfg: i64 => |c| c.central(),
        /// When the centre took up the present `nb_cfg`, in milliseconds since the epoch.
        nb_cfg_timestamp: i64 => |c| c.central(),
        /// The last `nb_cfg` whose consequences are in the southbound database.
        sb_cfg: i64 => |c| c.central(),
        /// When `sb_cfg` got its value, in milliseconds since the epoch.
        sb_cfg_timestamp: i64 => |c| c.central(),
        /// The lowest `nb_cfg` that chassis report as in their switches; `nb_cfg` without any chassis.
        /// It falls when a chassis that lags behind joins.
        hv_cfg: i64 => |c| c.central(),
        /// When the slowest chassis reached `hv_cfg`, in milliseconds since the epoch.
        hv_cfg_timestamp: i64 => |c| c.central(),
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
        /// Where the server listens for OVSDB clients, and which it calls.
        connections: OrdSet<Strong<Connection>> => |c| c.central(),
        /// Keys and certificates for these connections; none means no TLS from the database.
        ssl: Option<Strong<Ssl>> => |c| c.central(),
        /// Settings for all switches and routers, as `mac_prefix`, `default_acl_drop`, `svc_monitor_mac`,
        /// `fdb_removal_limit`; keys and defaults are in ovn-nb(5), NB_Global.
        options: OrdMap<Text, Text>,
        /// Whether tunnels between chassis are encrypted; details are `options:ipsec_*`.
        ipsec: bool,
    }
    scopes [Scope::Global]
}

table! {
    /// A way for OVSDB clients to reach the server, or the reverse; in effect while `NB_Global` names it.
    pub struct Connection = Northbound "Connection" {
        /// To listen: `pssl:[port][:host]` or `ptcp:[port][:host]`. To call: `ssl:host[:port]` or
        /// `tcp:host[:port]`. The port defaults to 6640.
        target: Text,
        /// Longest wait between two attempts to call, in milliseconds; the server's choice when empty.
        max_backoff: Option<i64> => |c| c.with(|t| t.range(1000, i64::MAX)),
        /// Idle milliseconds after which the peer is probed, and given up after as many again.
        /// 0 never probes; the server's choice when empty.
        inactivity_probe: Option<i64>,
        /// Settings of the socket; ovn-nb(5) defines no key.
        other_config: OrdMap<Text, Text>,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
        /// Whether a session is up at the moment; written by the server.
        is_connected: bool => |c| c.ephemeral(),
        /// `state`, `last_error`, `n_connections`, `bound_port`, locks and times in seconds, as of
        /// the moment (ovn-nb(5), Connection Status); written by the server.
        status: OrdMap<Text, Text> => |c| c.ephemeral(),
    }
    indexes [["target"]]
}

table! {
    /// Identity and trust of the server's TLS sessions; files are the server's own.
    pub struct Ssl = Northbound "SSL" [leaf max 1] {
        /// PEM file of the server's private key.
        private_key: Text,
        /// PEM file of the certificate for that key.
        certificate: Text,
        /// PEM file of the authorities whose clients are accepted.
        ca_cert: Text,
        /// Whether the first peer's authority is trusted and written to `ca_cert`. Open to a peer in the
        /// middle, once.
        bootstrap_ca_cert: bool,
        /// Versions, as a list (`TLSv1.2,TLSv1.3`), a range (`TLSv1.2-TLSv1.3`) or a lower bound
        /// (`TLSv1.2+`). TLS 1.2 and later when empty.
        ssl_protocols: Text,
        /// Ciphers of TLS 1.2 in OpenSSL's notation; `DEFAULT:@SECLEVEL=2` when empty.
        ssl_ciphers: Text,
        /// Ciphersuites of TLS 1.3 and later in OpenSSL's notation; the library's choice when empty.
        ssl_ciphersuites: Text,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
}
