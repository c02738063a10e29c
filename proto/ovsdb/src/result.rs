//! What `transact` answers: a result for each operation, and errors (RFC 7047, sections 3.1 `<error>` and 4.1.3).
//!
//! # Invariants
//! - A list of `n` operations has `n` results, or `n + 1` when the commit failed.
//! - `OpResult::from_json(result.to_json()) == Ok(result)`.

use std::fmt;

use serde_json::{Map, Value, json};
use thiserror::Error;
use uuid::Uuid;

use crate::json::{uuid_from_json, uuid_json};
use crate::members::{RequestError, array, object, string};
use crate::operation::JsonRow;

/// What one operation answered.
#[derive(Clone, Debug, PartialEq)]
pub enum OpResult {
    /// Done; nothing to tell.
    Done,
    /// So many rows matched.
    Count(u64),
    /// A row was made.
    Inserted(Uuid),
    /// Rows were read.
    Rows(Vec<JsonRow>),
    /// The operation failed, and the transaction with it.
    Failed(OpError),
    /// An earlier one failed.
    NotRun,
}

impl OpResult {
    /// Reads a result.
    pub fn from_json(json: Value) -> Result<Self, RequestError> {
        if json.is_null() {
            return Ok(Self::NotRun);
        }
        let mut members = object("result", json)?;
        if members.contains_key("error") {
            return OpError::from_members(members).map(Self::Failed);
        }
        if let Some(count) = members.remove("count") {
            let number =
                count.as_u64().ok_or_else(|| RequestError::form("count", "a number of rows", &count))?;
            return Ok(Self::Count(number));
        }
        if let Some(uuid) = members.remove("uuid") {
            let uuid = uuid_from_json(&uuid);
            return uuid.map(Self::Inserted).map_err(|source| RequestError::Value { what: "uuid", source });
        }
        if let Some(rows) = members.remove("rows") {
            let rows =
                array("rows", rows)?.into_iter().map(|row| object("row", row)).collect::<Result<_, _>>()?;
            return Ok(Self::Rows(rows));
        }
        Ok(Self::Done)
    }

    /// The JSON form.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Done => json!({}),
            Self::Count(count) => json!({ "count": count }),
            Self::Inserted(uuid) => json!({ "uuid": uuid_json(*uuid) }),
            Self::Rows(rows) => json!({ "rows": rows }),
            Self::Failed(error) => error.to_json(),
            Self::NotRun => Value::Null,
        }
    }

    /// Reads the `result` of a transact reply to `count` operations: all of them succeeded, or the error.
    pub fn list_from_json(json: Value, count: usize) -> Result<Vec<Self>, TransactError> {
        let results: Result<Vec<Self>, _> =
            array("transact reply", json).and_then(|list| list.into_iter().map(Self::from_json).collect());
        let results = results?;
        let failed = results.iter().position(|result| matches!(result, Self::Failed(_)));
        if let Some(at) = failed {
            let Some(Self::Failed(error)) = results.into_iter().nth(at) else {
                unreachable!("position found it");
            };
            return Err(if at < count {
                TransactError::Operation { index: at, error }
            } else {
                TransactError::Commit { error }
            });
        }
        if results.len() != count || results.contains(&Self::NotRun) {
            return Err(RequestError::Form {
                what: "transact reply",
                expected: "a result for each operation",
                got: format!("{} results for {count} operations", results.len()),
            }
            .into());
        }
        Ok(results)
    }
}

/// An `<error>` (RFC 7047, section 3.1).
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{kind}{}", details.as_ref().map(|details| format!(": {details}")).unwrap_or_default())]
pub struct OpError {
    /// Which error.
    pub kind: ErrorKind,
    /// For people.
    pub details: Option<String>,
}

impl OpError {
    /// An error with details.
    pub fn new(kind: ErrorKind, details: impl Into<String>) -> Self {
        Self { kind, details: Some(details.into()) }
    }

    /// Reads an error: an object with `error`, or a bare string as JSON-RPC errors are.
    pub fn from_json(json: Value) -> Result<Self, RequestError> {
        match json {
            Value::String(text) => Ok(Self { kind: ErrorKind::from_text(&text), details: None }),
            other => Self::from_members(object("error", other)?),
        }
    }

    /// The JSON form.
    pub fn to_json(&self) -> Value {
        let mut json = Map::new();
        json.insert("error".into(), self.kind.text().into());
        if let Some(details) = &self.details {
            json.insert("details".into(), details.clone().into());
        }
        json.into()
    }

    fn from_members(mut members: JsonRow) -> Result<Self, RequestError> {
        let error = members.remove("error").unwrap_or_default();
        let details = members.remove("details").map(|json| string("details", json)).transpose()?;
        Ok(Self { kind: ErrorKind::from_text(&string("error", error)?), details })
    }
}

macro_rules! error_kinds {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// The error strings that clients compare (RFC 7047, sections 3.1, 4.1 and 5.2, and OVS).
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $($(#[$doc])* $variant,)*
            /// Another one.
            Other(String),
        }

        impl ErrorKind {
            /// The string on the wire.
            pub fn text(&self) -> &str {
                match self { $(Self::$variant => $text,)* Self::Other(text) => text }
            }

            /// The error of that string.
            pub fn from_text(text: &str) -> Self {
                match text { $($text => Self::$variant,)* _ => Self::Other(text.to_owned()) }
            }
        }
    };
}

error_kinds! {
    /// An `abort` operation.
    Aborted = "aborted",
    /// Canceled by the client.
    Canceled = "canceled",
    /// A raft cluster could not commit.
    ClusterError = "cluster error",
    /// A value that the schema refuses.
    ConstraintViolation = "constraint violation",
    /// A division by zero.
    DomainError = "domain error",
    /// A UUID that a client chose is taken.
    DuplicateUuid = "duplicate uuid",
    /// One name for two rows.
    DuplicateUuidName = "duplicate uuid-name",
    /// The disk failed.
    IoError = "I/O error",
    /// This session may not write.
    NotAllowed = "not allowed",
    /// This server does not lead.
    NotLeader = "not leader",
    /// The session does not own the lock.
    NotOwner = "not owner",
    /// Role-based access control.
    PermissionError = "permission error",
    /// A result that does not fit.
    RangeError = "range error",
    /// A strong reference to no row.
    ReferentialIntegrityViolation = "referential integrity violation",
    /// The server ran out of something.
    ResourcesExhausted = "resources exhausted",
    /// A request that could not be read.
    SyntaxError = "syntax error",
    /// A `wait` that did not come true.
    TimedOut = "timed out",
    /// A column that the schema does not have.
    UnknownColumn = "unknown column",
    /// A database that the server does not have.
    UnknownDatabase = "unknown database",
    /// A method that the server does not have.
    UnknownMethod = "unknown method",
    /// A monitor that the session does not have.
    UnknownMonitor = "unknown monitor",
    /// A table that the schema does not have.
    UnknownTable = "unknown table",
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Why a transaction has no results.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum TransactError {
    /// An operation failed; nothing was changed.
    #[error("operation {index}: {error}")]
    Operation {
        /// Which, counted from 0.
        index: usize,
        /// Why.
        error: OpError,
    },
    /// All operations succeeded and the commit failed; nothing was changed.
    #[error("commit: {error}")]
    Commit {
        /// Why.
        error: OpError,
    },
    /// The request as such was refused; nothing was changed.
    #[error("transact refused: {error}")]
    Refused {
        /// Why.
        error: OpError,
    },
    /// There was no connection; nothing was sent.
    #[error("not connected")]
    NotConnected,
    /// The connection was lost before the reply: the transaction may have been applied or not.
    #[error("connection lost before the reply; the outcome is unknown")]
    Lost,
    /// Too many transactions wait for replies; nothing was sent.
    #[error("{in_flight_max} transactions are in flight already")]
    TooMany {
        /// The limit.
        in_flight_max: usize,
    },
    /// The reply is not one; the transaction may have been applied or not.
    #[error(transparent)]
    Reply(#[from] RequestError),
}

impl TransactError {
    /// The server's error, if the server told one.
    pub fn op_error(&self) -> Option<&OpError> {
        match self {
            Self::Operation { error, .. } | Self::Commit { error } | Self::Refused { error } => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_and_written_back() {
        for json in [
            json!({}),
            json!({"count": 3}),
            json!({"uuid": ["uuid", "36bef046-7da7-43a5-905a-c17899216fcb"]}),
            json!({"rows": [{"a": 1}]}),
            json!({"error": "timed out", "details": "\"wait\" timed out"}),
            json!({"error": "something new"}),
            Value::Null,
        ] {
            assert_eq!(OpResult::from_json(json.clone()).unwrap().to_json(), json);
        }
    }

    #[test]
    fn a_failed_operation_and_a_failed_commit_are_told_apart() {
        let failed = json!({"error": "constraint violation", "details": "why"});
        let error = OpResult::list_from_json(json!([{}, failed, null]), 3).unwrap_err();
        assert_eq!(error.to_string(), "operation 1: constraint violation: why");
        let error = OpResult::list_from_json(json!([{}, {}, failed]), 2).unwrap_err();
        assert_eq!(error.to_string(), "commit: constraint violation: why");
        let error = OpResult::list_from_json(json!([{}]), 2).unwrap_err();
        assert!(matches!(error, TransactError::Reply(_)));
    }
}
