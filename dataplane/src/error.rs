//! Why the agent can't go on.

use thiserror::Error;

use crate::disk::DiskError;

/// Why the agent ends.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AgentError {
    /// Command line.
    #[error(transparent)]
    Target(#[from] ovsdb::net::TargetError),
    /// The bridge's socket is found beside a socket, or not at all.
    #[error("--ovsdb is not a unix socket: say where ovs-vswitchd has its sockets with --run-dir")]
    NoRunDir,
    /// The state folder can't be made.
    #[error("state folder: {0}")]
    State(#[from] DiskError),
    /// Nothing may be measured in secret.
    #[error("metrics on {address}: {source}")]
    Metrics {
        /// Where.
        address: std::net::SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Signals can't be waited for.
    #[error("signals: {0}")]
    Signals(#[source] std::io::Error),
    /// This process is of another chassis.
    #[error("external_ids:system-id changed from {from} to {to}: starting anew")]
    OtherChassis {
        /// The name at the start.
        from: String,
        /// The name now.
        to: String,
    },
}
