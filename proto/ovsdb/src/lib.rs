//! OVSDB: the database protocol of RFC 7047 with the extensions of Open vSwitch.
//!
//! # Contract
//! - [`value`], [`schema`], [`json`], [`schema_json`]: what a column may hold, and the JSON forms of both.
//! - [`diff`]: what changed between two values, exactly as `update2` and `update3` say it.
//! - [`jsonrpc`], [`method`], [`operation`], [`monitor`], [`result`]: everything that is said on the wire, read and
//!   printed for both roles.
//! - [`client`], [`replica`]: a session, without sockets or clock, that keeps a copy of chosen tables.
//! - `net` (feature `net`): the socket and the task around that session.
//! - [`unixctl`], [`unixctl_text`]: the control sockets of the daemons, and some of what they print.
//!
//! # Invariants
//! - Without the feature `net` nothing here reads a clock or starts a task, and only [`unixctl::call`] opens a socket.
//! - A peer's bytes end in a value or in an error, never in a panic.

pub mod client;
pub mod diff;
pub mod json;
pub mod jsonrpc;
mod members;
pub mod method;
pub mod monitor;
#[cfg(feature = "net")]
pub mod net;
pub mod operation;
pub mod replica;
pub mod request;
pub mod result;
pub mod schema;
pub mod schema_json;
pub mod unixctl;
pub mod unixctl_text;
pub mod value;

pub use crate::client::{Input, Limits, Output, Session, SessionError};
pub use crate::json::{DecodeError, NoSymbols, Symbols};
pub use crate::jsonrpc::{FrameError, FrameLimits, Framer, Message, MessageError};
pub use crate::members::RequestError;
pub use crate::method::{Notification, Request, SinceReply};
pub use crate::monitor::{MonitorRequest, MonitorRequests, RowUpdate, RowUpdate2, Select, TableUpdates};
pub use crate::operation::{Condition, Function, JsonRow, Mutation, Mutator, Operation, Until};
pub use crate::replica::{Replica, Row, RowChange, Table};
pub use crate::request::{ReplicaRequest, TableRequest};
pub use crate::result::{ErrorKind, OpError, OpResult, TransactError};
pub use crate::schema::{
    BaseType, ColumnSchema, ColumnType, ConstraintError, DatabaseSchema, Max, RefType, TableSchema,
};
pub use crate::schema_json::SchemaError;
pub use crate::value::{Atom, AtomicType, Datum, NotFinite, Real};
pub use uuid::Uuid;
