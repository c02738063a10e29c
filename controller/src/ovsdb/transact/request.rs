//! A transaction and its outcome as values that travel: from a session, or from a follower to the leader.
//!
//! # Invariants
//! - `decode(encode(x)) == x`; bytes of a peer end in a value or an error and are bounded.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// Most octets of a request or an outcome on its way between members. A larger transaction does not fit an entry of the
/// log anyway.
pub const REQUEST_BYTES_MAX: usize = 64 << 20;

/// A client's transaction.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Request {
    /// The database: `OVN_Northbound` or `OVN_Southbound`.
    pub database: String,
    /// The operations, as the client sent them.
    pub operations: Vec<Value>,
    /// Locks that the session owns.
    pub locks: BTreeSet<String>,
    /// The session may not write.
    pub read_only: bool,
    /// How long the client has waited already: zero at first, more when a `wait` is tried again.
    pub waited: Duration,
}

/// What became of a transaction.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum Outcome {
    /// It ended, in success or failure.
    Done {
        /// The `result` of the reply.
        results: Vec<Value>,
        /// A member that has applied this revision shows what the transaction did, or saw.
        revision: u64,
    },
    /// The condition of a `wait` does not hold yet. Nothing was written; run it again when the state has moved beyond
    /// the revision, or when the timeout is over, and say how long it has waited.
    Blocked {
        /// What it was tried on.
        revision: u64,
        /// From the request's arrival; `None` waits for ever.
        timeout: Option<Duration>,
    },
}

/// Bytes that are no request or outcome.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Too long.
    #[error("a transaction of {got} octets, at most {REQUEST_BYTES_MAX} are taken")]
    TooLong {
        /// Their number.
        got: usize,
    },
    /// Not understood.
    #[error("a transaction that is not understood")]
    Malformed(#[source] serde_json::Error),
}

impl Request {
    /// As bytes.
    pub fn encode(&self) -> Result<Vec<u8>, RequestError> {
        encode(self)
    }

    /// Back from bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, RequestError> {
        decode(bytes)
    }
}

impl Outcome {
    /// As bytes.
    pub fn encode(&self) -> Result<Vec<u8>, RequestError> {
        encode(self)
    }

    /// Back from bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, RequestError> {
        decode(bytes)
    }
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, RequestError> {
    let bytes = serde_json::to_vec(value).map_err(RequestError::Malformed)?;
    if bytes.len() > REQUEST_BYTES_MAX { Err(RequestError::TooLong { got: bytes.len() }) } else { Ok(bytes) }
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, RequestError> {
    if bytes.len() > REQUEST_BYTES_MAX {
        return Err(RequestError::TooLong { got: bytes.len() });
    }
    serde_json::from_slice(bytes).map_err(RequestError::Malformed)
}
