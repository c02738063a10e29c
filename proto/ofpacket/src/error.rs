//! Why bytes were refused, and why a value could not become bytes.

use thiserror::Error;

/// Why a peer's bytes are not a message of this crate.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end inside a structure.
    #[error("{what}: {need} more bytes expected, got {got}")]
    Truncated {
        /// Structure being read.
        what: &'static str,
        /// Bytes the next item takes.
        need: usize,
        /// Bytes that are left.
        got: usize,
    },
    /// A length on the wire contradicts the structure that carries it.
    #[error("{what}: length of at least {at_least} and at most {at_most} expected, got {got}")]
    Length {
        /// Structure being read.
        what: &'static str,
        /// Least length this structure can have.
        at_least: usize,
        /// Greatest length that fits at this place.
        at_most: usize,
        /// Length on the wire.
        got: usize,
    },
    /// A value on the wire has no meaning at this place.
    #[error("{what}: {expected} expected, got {got:#x}")]
    Value {
        /// Structure being read.
        what: &'static str,
        /// What would have been right, in words.
        expected: &'static str,
        /// Value on the wire.
        got: u64,
    },
    /// Actions are nested deeper than any real flow has them.
    #[error("{what}: nested deeper than {limit} levels")]
    Nesting {
        /// Structure being read.
        what: &'static str,
        /// Levels that are accepted.
        limit: usize,
    },
}

/// Why a value has no encoding. Such a value is the caller's mistake, or simply too large.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum EncodeError {
    /// OpenFlow lengths are 16 bits wide; a group with too many buckets ends here.
    #[error("{what}: at most {limit} bytes fit, got {got}")]
    TooLong {
        /// Structure being written.
        what: &'static str,
        /// Greatest length the format can state.
        limit: usize,
        /// Length it would have.
        got: usize,
    },
    /// The format has no room for this value at this place.
    #[error("{what}: {expected} expected")]
    NotExpressible {
        /// Structure being written.
        what: &'static str,
        /// What would have been right, in words.
        expected: &'static str,
    },
}
