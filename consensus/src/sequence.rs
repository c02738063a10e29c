//! Proposals that say which revision they were evaluated on, and the rule that makes a late one harmless.
//!
//! The leader evaluates a transaction against its head and replicates the effects. Effects are right only on the
//! very revision they were computed from; Raft alone does not promise that, since a proposal of a lost leadership may be
//! committed by the next leader after other entries. So every entry names its base, and every replica decides
//! alike, from the log alone, whether it applies.
//!
//! # Invariants
//! * An admitted entry has `base_revision == revision` before and moves it by exactly one.
//! * An entry is admitted at most once, whatever is replayed: the second copy names a base that has passed.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{codec::Reader, error::DecodeError};

/// An entry's payload together with the revision it was evaluated on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sequenced {
    /// The applied revision the effects were computed from.
    pub base_revision: u64,
    /// The effects; opaque here.
    pub payload: Bytes,
}

impl Sequenced {
    /// Bytes for [`crate::Event::Propose`]: format version, base revision (little endian), payload.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER_BYTES + self.payload.len());
        out.put_u8(FORMAT_VERSION);
        out.put_u64_le(self.base_revision);
        out.put_slice(&self.payload);
        out.freeze()
    }

    /// The inverse of [`Self::encode`]; the payload shares the memory of `data`.
    ///
    /// # Errors
    /// The bytes are too short or of a format this program does not know.
    pub fn decode(data: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(data);
        reader.version("sequenced entry", FORMAT_VERSION)?;
        let base_revision = reader.u64("base revision")?;
        Ok(Self { base_revision, payload: reader.rest() })
    }
}

/// Decides on every replica alike which entries apply. Part of the replicated state: keep its revision in snapshots.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sequencer {
    /// The revision of the applied state.
    pub revision: u64,
}

impl Sequencer {
    /// Continues from the revision of a snapshot.
    #[must_use]
    pub const fn at(revision: u64) -> Self {
        Self { revision }
    }

    /// Decides on an entry and, if it is admitted, moves to its revision.
    pub fn admit(&mut self, entry: &Sequenced) -> Admit {
        if entry.base_revision != self.revision {
            return Admit::Stale { expected: self.revision, got: entry.base_revision };
        }
        self.revision += 1;
        Admit::Apply { revision: self.revision }
    }
}

/// What to do with a committed entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admit {
    /// Apply it; the state is then at `revision`.
    Apply {
        /// The new revision.
        revision: u64,
    },
    /// A no-op on every replica; its client is told to retry.
    Stale {
        /// The revision of the state.
        expected: u64,
        /// The revision the entry was evaluated on.
        got: u64,
    },
}

const FORMAT_VERSION: u8 = 1;
const HEADER_BYTES: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_is_stable() {
        let entry = Sequenced { base_revision: 0x0102, payload: Bytes::from_static(b"xy") };
        assert_eq!(&entry.encode()[..], b"\x01\x02\x01\0\0\0\0\0\0xy");
        assert_eq!(Sequenced::decode(entry.encode()), Ok(entry));
    }

    #[test]
    fn refuses_short_and_foreign_bytes() {
        assert!(matches!(
            Sequenced::decode(Bytes::from_static(b"\x01\x02")),
            Err(DecodeError::Truncated { what: "base revision", .. })
        ));
        assert!(matches!(
            Sequenced::decode(Bytes::from_static(b"\x07\0\0\0\0\0\0\0\0")),
            Err(DecodeError::Unexpected { got: 7, .. })
        ));
    }

    #[test]
    fn a_repeated_entry_is_admitted_once() {
        let mut sequencer = Sequencer::at(4);
        let entry = Sequenced { base_revision: 4, payload: Bytes::new() };
        assert_eq!(sequencer.admit(&entry), Admit::Apply { revision: 5 });
        assert_eq!(sequencer.admit(&entry), Admit::Stale { expected: 5, got: 4 });
        let ahead = Sequenced { base_revision: 6, payload: Bytes::new() };
        assert_eq!(sequencer.admit(&ahead), Admit::Stale { expected: 5, got: 6 });
    }
}
