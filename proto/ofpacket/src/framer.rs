//! Splits a byte stream into messages (OpenFlow 1.3.5, section 7.1).
//!
//! # Invariants
//! - Never buffers more than one message beyond what was pushed: a length is 16 bits wide.
//! - After an error the stream is beyond repair: every later call repeats it.

use crate::error::DecodeError;
use crate::header::Header;

/// Collects what a socket delivers and hands out whole messages.
#[derive(Clone, Debug, Default)]
pub struct Framer {
    buffer: Vec<u8>,
    start: usize,
}

impl Framer {
    /// Longest message the format can state.
    pub const MESSAGE_MAX: usize = u16::MAX as usize;

    /// A framer at the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends what arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, or `None` when more bytes are needed.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, DecodeError> {
        let pending = &self.buffer[self.start..];
        if pending.len() < Header::LEN {
            return Ok(None);
        }
        let length = usize::from(Header::peek(pending)?.length);
        if pending.len() < length {
            return Ok(None);
        }
        let from = self.start;
        self.start += length;
        Ok(Some(&self.buffer[from..from + length]))
    }

    /// Bytes that wait for the rest of their message.
    pub fn buffered(&self) -> usize {
        self.buffer.len() - self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_at_lengths_whatever_the_pieces() {
        let stream = [4, 2, 0, 8, 0, 0, 0, 1, 4, 3, 0, 10, 0, 0, 0, 2, 7, 7, 4, 0];
        for piece in 1..=stream.len() {
            let mut framer = Framer::new();
            let mut messages = Vec::new();
            for bytes in stream.chunks(piece) {
                framer.push(bytes);
                while let Some(message) = framer.next_message().unwrap() {
                    messages.push(message.to_vec());
                }
            }
            assert_eq!(messages, [stream[..8].to_vec(), stream[8..18].to_vec()], "pieces of {piece}");
            assert_eq!(framer.buffered(), 2);
        }
    }

    #[test]
    fn refuses_a_length_below_the_header() {
        let mut framer = Framer::new();
        framer.push(&[4, 2, 0, 7, 0, 0, 0, 1]);
        assert!(framer.next_message().is_err());
        assert!(framer.next_message().is_err());
    }
}
