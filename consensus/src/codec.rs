//! Bounded reading of our own byte formats (peer messages, log records, snapshot files): little endian, no recursion.
//!
//! Own fields rather than protobuf: protobuf 2.28, which raft-rs links, has an unbounded recursion in its parser
//! (RUSTSEC-2024-0437), so peer bytes never reach it; and entry payloads are sliced, not copied.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::DecodeError;

/// Takes fields off the front of some bytes; never panics, never reads past the end.
#[derive(Debug)]
pub(crate) struct Reader {
    bytes: Bytes,
}

impl Reader {
    pub(crate) const fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    fn need(&self, what: &'static str, needed: usize) -> Result<(), DecodeError> {
        let left = self.bytes.len();
        if left < needed { Err(DecodeError::Truncated { what, needed, left }) } else { Ok(()) }
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        self.need(what, 1)?;
        Ok(self.bytes.get_u8())
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        self.need(what, 4)?;
        Ok(self.bytes.get_u32_le())
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.need(what, 8)?;
        Ok(self.bytes.get_u64_le())
    }

    pub(crate) fn u128(&mut self, what: &'static str) -> Result<u128, DecodeError> {
        self.need(what, 16)?;
        Ok(self.bytes.get_u128_le())
    }

    pub(crate) fn bool(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::Unexpected { what, expected: "0 or 1", got: u64::from(other) }),
        }
    }

    /// A length-prefixed slice that shares memory with the input.
    pub(crate) fn bytes(&mut self, what: &'static str, max: usize) -> Result<Bytes, DecodeError> {
        let length = self.u32(what)? as usize;
        if length > max {
            return Err(DecodeError::TooLarge { what, max: max as u64, got: length as u64 });
        }
        self.need(what, length)?;
        Ok(self.bytes.split_to(length))
    }

    /// A count of items of at least `item_bytes` each: bounded by what is left, so it can't exhaust memory.
    pub(crate) fn count(&mut self, what: &'static str, item_bytes: usize) -> Result<usize, DecodeError> {
        let count = self.u32(what)? as usize;
        let max = self.bytes.len() / item_bytes;
        if count > max {
            return Err(DecodeError::TooLarge { what, max: max as u64, got: count as u64 });
        }
        Ok(count)
    }

    pub(crate) fn version(&mut self, what: &'static str, expected: u8) -> Result<(), DecodeError> {
        let got = self.u8(what)?;
        if got == expected {
            Ok(())
        } else {
            Err(DecodeError::Unexpected { what, expected: "format version 1", got: u64::from(got) })
        }
    }

    pub(crate) fn rest(self) -> Bytes {
        self.bytes
    }

    pub(crate) fn end(&self, what: &'static str) -> Result<(), DecodeError> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing { what, left: self.bytes.len() })
        }
    }
}

/// Appends a length and the bytes. The callers bound their payloads far below 4 GiB.
pub(crate) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32_le(u32::try_from(bytes.len()).expect("payloads are bounded below 4 GiB by the callers"));
    out.put_slice(bytes);
}

/// Appends a count of items.
pub(crate) fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u32_le(u32::try_from(count).expect("counts are bounded by message and batch sizes"));
}
