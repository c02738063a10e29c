//! What the log carries: committed transactions as row changes.
//!
//! # Invariants
//! - The transaction at place `n` of an entry leads to revision `base_revision + 1 + n`; an entry is applied
//!   whole on exactly its base revision, or not at all.
//! - `decode(encode(entry)) == entry`; older formats stay readable.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use quantumnet_model::change::{ChangeError, RowChange};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Version of the encoding. Raise it when older programs would misread the newer form.
pub const ENTRY_FORMAT: u8 = 1;

/// Transactions that were evaluated one on the other, beginning at a revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The revision that the first transaction was evaluated on.
    pub base_revision: u64,
    /// In order.
    pub transactions: Vec<Effects>,
}

/// What one transaction did.
#[derive(Clone, Debug, PartialEq)]
pub struct Effects {
    /// The leader's clock, in milliseconds since the epoch.
    pub time_ms: i64,
    /// Who asked.
    pub principal: Arc<str>,
    /// Net changes, by table and uuid.
    pub changes: Vec<RowChange>,
}

/// Why an entry or a snapshot could not be read.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum DecodeError {
    /// Written by a newer program.
    #[error("{what} of format {got}, this program understands {expected}")]
    Format {
        /// `log entry` or `snapshot`.
        what: &'static str,
        /// What this program writes.
        expected: u8,
        /// The version found.
        got: u8,
    },
    /// The bytes end too early or go on too long.
    #[error("malformed {what}: {reason}")]
    Malformed {
        /// `log entry` or `snapshot`.
        what: &'static str,
        /// What the decoder says.
        reason: String,
    },
    /// A row change in it is not understood, or does not fit.
    #[error("{what} holds a row change that is not understood")]
    Change {
        /// `log entry` or `snapshot`.
        what: &'static str,
        /// The change's own error.
        #[source]
        source: ChangeError,
    },
}

#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    format: u8,
    base_revision: u64,
    #[serde(borrow)]
    transactions: Cow<'a, [WireEffects<'a>]>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct WireEffects<'a> {
    time_ms: i64,
    #[serde(borrow)]
    principal: Cow<'a, str>,
    #[serde(borrow)]
    changes: Vec<WireChange<'a>>,
}

/// An encoded row change; written from what was encoded, read without a copy.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct WireChange<'a>(#[serde(borrow)] Cow<'a, [u8]>);

/// A transaction as it will be in an entry.
#[derive(Debug)]
pub struct EncodedEffects {
    wire: WireEffects<'static>,
    bytes: usize,
}

impl Effects {
    /// As it will be in an entry.
    pub fn encode(&self) -> EncodedEffects {
        let changes: Vec<_> =
            self.changes.iter().map(|change| WireChange(Cow::Owned(change.encode()))).collect();
        // Lengths and the clock take a few octets more.
        let bytes =
            changes.iter().map(|change| change.0.len() + 5).sum::<usize>() + self.principal.len() + 20;
        let principal = Cow::Owned(self.principal.to_string());
        EncodedEffects { wire: WireEffects { time_ms: self.time_ms, principal, changes }, bytes }
    }
}

impl EncodedEffects {
    /// At least as many octets as it will take.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

/// An entry being put together; encodes each change once.
#[derive(Debug)]
pub struct EntryWriter {
    base_revision: u64,
    transactions: Vec<WireEffects<'static>>,
    bytes: usize,
}

impl EntryWriter {
    /// An entry of no transactions yet.
    pub const fn new(base_revision: u64) -> Self {
        Self { base_revision, transactions: Vec::new(), bytes: 0 }
    }

    /// Adds the next transaction.
    pub fn push(&mut self, effects: EncodedEffects) {
        self.bytes += effects.bytes;
        self.transactions.push(effects.wire);
    }

    /// At least as many octets as its transactions take.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many transactions it has.
    pub const fn len(&self) -> usize {
        self.transactions.len()
    }

    /// Whether it has none.
    pub const fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    /// As bytes.
    pub fn encode(&self) -> Bytes {
        let transactions = Cow::Borrowed(self.transactions.as_slice());
        let wire = Wire { format: ENTRY_FORMAT, base_revision: self.base_revision, transactions };
        postcard::to_stdvec(&wire).expect("memory is the only thing that this encoding can lack").into()
    }
}

impl Entry {
    /// As bytes.
    pub fn encode(&self) -> Bytes {
        let mut writer = EntryWriter::new(self.base_revision);
        self.transactions.iter().for_each(|effects| writer.push(effects.encode()));
        writer.encode()
    }

    /// Back from bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "log entry";
        if let Some(got) = bytes.first().copied().filter(|format| *format != ENTRY_FORMAT) {
            return Err(DecodeError::Format { what: WHAT, expected: ENTRY_FORMAT, got });
        }
        let malformed = |reason: String| DecodeError::Malformed { what: WHAT, reason };
        let (wire, rest): (Wire<'_>, _) =
            postcard::take_from_bytes(bytes).map_err(|error| malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(malformed(format!("{} octets too many", rest.len())));
        }
        let change = |change: &WireChange<'_>| {
            RowChange::decode(&change.0).map_err(|source| DecodeError::Change { what: WHAT, source })
        };
        let effects = |wire: &WireEffects<'_>| {
            Ok(Effects {
                time_ms: wire.time_ms,
                principal: wire.principal.as_ref().into(),
                changes: wire.changes.iter().map(change).collect::<Result<_, _>>()?,
            })
        };
        Ok(Self {
            base_revision: wire.base_revision,
            transactions: wire.transactions.iter().map(effects).collect::<Result<_, _>>()?,
        })
    }
}
