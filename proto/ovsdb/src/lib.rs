//! OVSDB: the database protocol of RFC 7047 with the extensions of Open vSwitch.
//!
//! # Contract
//! - [`value`], [`schema`]: what a column may hold, and the JSON forms of both.
//! - [`diff`]: what changed between two values, exactly as `update2` and `update3` say it.
//!
//! # Invariants
//! - Without the feature `net` nothing here opens a socket, reads a clock or starts a task.
//! - A peer's bytes end in a value or in an error, never in a panic.

pub mod diff;
pub mod json;
pub mod jsonrpc;
mod members;
pub mod method;
pub mod monitor;
pub mod operation;
pub mod result;
pub mod schema;
pub mod schema_json;
pub mod value;

pub use crate::json::{DecodeError, NoSymbols, Symbols};
pub use crate::jsonrpc::{FrameError, FrameLimits, Framer, Message, MessageError};
pub use crate::members::RequestError;
pub use crate::method::{Notification, Request, SinceReply};
pub use crate::monitor::{MonitorRequest, MonitorRequests, RowUpdate, RowUpdate2, Select, TableUpdates};
pub use crate::operation::{Condition, Function, JsonRow, Mutation, Mutator, Operation, Until};
pub use crate::result::{ErrorKind, OpError, OpResult, TransactError};
pub use crate::schema::{
    BaseType, ColumnSchema, ColumnType, ConstraintError, DatabaseSchema, Max, RefType, TableSchema,
};
pub use crate::schema_json::SchemaError;
pub use crate::value::{Atom, AtomicType, Datum, NotFinite, Real};
pub use uuid::Uuid;
