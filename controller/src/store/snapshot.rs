//! The whole state as bytes and back.
//!
//! # Contract
//! - Rows go as row changes, by name: programs of different versions read each other's as far as they know the
//!   tables and columns. Consensus adds the checksum.
//! - Encoding needs only a [`State`], which is a snapshot already: do it on a thread of its own.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quantumnet_model::{Rows, change::RowChange, tables};

use crate::store::{DecodeError, State};

/// Version of the encoding.
pub const SNAPSHOT_FORMAT: u8 = 1;

const WHAT: &str = "snapshot";

impl State {
    /// As bytes: format, revision, number of rows, then each row's insert behind its length (little endian).
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(SNAPSHOT_FORMAT);
        out.put_u64_le(self.revision());
        let rows: usize = tables::ids().map(|table| self.rows().len(table)).sum();
        out.put_u64_le(rows as u64);
        for table in tables::ids() {
            for (uuid, row) in self.rows().table(table) {
                let insert = RowChange::between(table, *uuid, None, Some(row.as_ref()));
                let bytes = insert.expect("a row differs from none").encode();
                out.put_u32_le(
                    u32::try_from(bytes.len()).expect("a log entry, and so a row, is far smaller"),
                );
                out.put_slice(&bytes);
            }
        }
        out.freeze()
    }

    /// Back from bytes.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, DecodeError> {
        let malformed = |reason: &str| DecodeError::Malformed { what: WHAT, reason: reason.into() };
        let change = |source| DecodeError::Change { what: WHAT, source };
        let got = bytes.try_get_u8().map_err(|_| malformed("it is empty"))?;
        if got != SNAPSHOT_FORMAT {
            return Err(DecodeError::Format { what: WHAT, expected: SNAPSHOT_FORMAT, got });
        }
        let revision = bytes.try_get_u64_le().map_err(|_| malformed("the revision is cut off"))?;
        let count = bytes.try_get_u64_le().map_err(|_| malformed("the number of rows is cut off"))?;
        let mut rows = Rows::default();
        for _ in 0..count {
            let length = bytes.try_get_u32_le().map_err(|_| malformed("rows are missing"))?;
            let length = usize::try_from(length).map_err(|_| malformed("a row is too long"))?;
            let (row, rest) = bytes.split_at_checked(length).ok_or_else(|| malformed("a row is cut off"))?;
            bytes = rest;
            RowChange::decode(row).map_err(change)?.apply(&mut rows).map_err(change)?;
        }
        if !bytes.is_empty() {
            return Err(malformed("octets follow the last row"));
        }
        Ok(Self::rebuild(rows, revision))
    }
}
