//! `OVN_Northbound` and `OVN_Southbound` on the wire: an OVSDB server (RFC 7047 with the extensions of Open vSwitch).
//!
//! # Contract
//! - `transact` runs a client's operations on the store, with ovsdb-server's results and error strings.
//! - Everything else here is sessions: methods, monitors, locks, the `_Server` database, listeners.
//! - Refuses to know what any table means (that is `lower`).

mod connection;
mod connections;
mod database;
mod directory;
mod forward;
mod json;
pub mod locks;
mod metrics;
mod monitor;
mod remote;
mod server;
pub mod session;
mod target;
mod tls;
mod token;
pub mod transact;

pub use metrics::Metrics;
pub use monitor::Dump;
pub use server::{Server, ServerError};
pub use target::{Target, TargetError};
pub use tls::{Tls, Versions};
