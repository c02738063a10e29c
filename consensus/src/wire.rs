//! The bytes members send each other.
//!
//! ```text
//! 0        1        2              18          26         34
//! | version| kind   | cluster u128 | from u64  | to u64   | body ...
//! ```
//! Kind 1 is a Raft message, 2 a snapshot chunk, 3 the receipt of a chunk. All integers are little endian.
//!
//! # Invariants
//! * Only message types a correct peer sends are decoded; proposals and hints meant for one's own node are not among
//!   them, so a proposal can't be forwarded (rule 3 of the store: effects are proposed only by the leader itself).
//! * Entries of a message are contiguous and their terms never fall.
//! * Anything decoded is at most [`MESSAGE_BYTES_MAX`] long.

use bytes::{BufMut, Bytes, BytesMut};
use raft::eraftpb::{Entry, EntryType, Message, MessageType};

use crate::{
    codec::{Reader, put_bytes, put_count},
    error::{DecodeError, MessageError},
    event::{ClusterId, MemberId},
    snapshot::{Chunk, Receipt},
};

/// No message is longer; the transport may refuse longer ones unread.
pub const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// A decoded message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Envelope {
    Raft(Message),
    Chunk(Chunk),
    Receipt(Receipt),
}

/// Encodes one message for `to`.
pub(crate) fn encode(cluster: ClusterId, from: MemberId, to: MemberId, envelope: &Envelope) -> Bytes {
    let mut out = BytesMut::with_capacity(256);
    out.put_u8(FORMAT_VERSION);
    out.put_u8(match envelope {
        Envelope::Raft(_) => KIND_RAFT,
        Envelope::Chunk(_) => KIND_CHUNK,
        Envelope::Receipt(_) => KIND_RECEIPT,
    });
    out.put_u128_le(cluster.0);
    out.put_u64_le(from.0);
    out.put_u64_le(to.0);
    match envelope {
        Envelope::Raft(message) => put_raft(&mut out, message),
        Envelope::Chunk(chunk) => chunk.put(&mut out),
        Envelope::Receipt(receipt) => receipt.put(&mut out),
    }
    out.freeze()
}

/// Decodes a message and checks that it is from `from`, for `to`, within `cluster`.
pub(crate) fn decode(
    cluster: ClusterId,
    from: MemberId,
    to: MemberId,
    bytes: Bytes,
) -> Result<Envelope, MessageError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        let got = bytes.len() as u64;
        return Err(DecodeError::TooLarge { what: "message", max: MESSAGE_BYTES_MAX as u64, got }.into());
    }
    let mut reader = Reader::new(bytes);
    reader.version("message", FORMAT_VERSION)?;
    let kind = reader.u8("message kind")?;
    let got = ClusterId(reader.u128("cluster")?);
    if got != cluster {
        return Err(MessageError::Cluster { expected: cluster, got });
    }
    let got = MemberId(reader.u64("sender")?);
    if got != from {
        return Err(MessageError::Sender { expected: from, got });
    }
    let got = MemberId(reader.u64("recipient")?);
    if got != to {
        return Err(MessageError::Recipient { expected: to, got });
    }
    let envelope = match kind {
        KIND_RAFT => {
            let mut message = take_raft(&mut reader)?;
            message.from = from.0;
            message.to = to.0;
            Envelope::Raft(message)
        }
        KIND_CHUNK => Envelope::Chunk(Chunk::take(&mut reader)?),
        KIND_RECEIPT => Envelope::Receipt(Receipt::take(&mut reader)?),
        other => {
            let got = u64::from(other);
            return Err(DecodeError::Unexpected { what: "message kind", expected: "1 to 3", got }.into());
        }
    };
    reader.end("message")?;
    Ok(envelope)
}

/// Decodes bytes as any member of any cluster would, for fuzzing: must never panic.
///
/// # Errors
/// The bytes are not a message.
pub fn decode_any(bytes: Bytes) -> Result<(), MessageError> {
    let mut header = Reader::new(bytes.clone());
    header.u8("version")?;
    header.u8("kind")?;
    let cluster = ClusterId(header.u128("cluster")?);
    let from = MemberId(header.u64("sender")?);
    let to = MemberId(header.u64("recipient")?);
    decode(cluster, from, to, bytes).map(drop)
}

/// Short name of a message type, for errors and logs.
pub(crate) fn type_name(message_type: MessageType) -> &'static str {
    TYPES.iter().find(|(_, known, _)| *known == message_type).map_or("a local message", |(_, _, name)| name)
}

fn put_raft(out: &mut BytesMut, message: &Message) {
    let code = TYPES
        .iter()
        .find(|(_, known, _)| *known == message.get_msg_type())
        .map(|(code, _, _)| *code)
        .expect("the node sends only the types listed, snapshots go as chunks");
    out.put_u8(code);
    for field in [
        message.term,
        message.log_term,
        message.index,
        message.commit,
        message.commit_term,
        message.reject_hint,
    ] {
        out.put_u64_le(field);
    }
    out.put_u8(u8::from(message.reject));
    put_bytes(out, &message.context);
    put_count(out, message.entries.len());
    for entry in message.entries.iter() {
        out.put_u64_le(entry.term);
        out.put_u64_le(entry.index);
        put_bytes(out, &entry.data);
    }
}

fn take_raft(reader: &mut Reader) -> Result<Message, DecodeError> {
    let code = reader.u8("message type")?;
    let Some((_, message_type, _)) = TYPES.iter().find(|(known, _, _)| *known == code) else {
        let got = u64::from(code);
        return Err(DecodeError::Unexpected { what: "message type", expected: "a type peers send", got });
    };
    let mut message = Message::default();
    message.set_msg_type(*message_type);
    message.term = position(reader, "term")?;
    // raft-rs takes term 0 for a message of one's own; only a forwarded read carries none.
    if (message.term == 0) != (*message_type == MessageType::MsgReadIndex) {
        let got = message.term;
        return Err(DecodeError::Unexpected {
            what: "term",
            expected: "0 for a read index, else not 0",
            got,
        });
    }
    message.log_term = position(reader, "log term")?;
    message.index = position(reader, "index")?;
    message.commit = position(reader, "commit")?;
    message.commit_term = position(reader, "commit term")?;
    message.reject_hint = position(reader, "reject hint")?;
    message.reject = reader.bool("reject")?;
    message.context = reader.bytes("context", CONTEXT_BYTES_MAX)?;
    let count = reader.count("entries", ENTRY_BYTES_MIN)?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let mut entry = Entry::default();
        entry.set_entry_type(EntryType::EntryNormal);
        entry.term = position(reader, "entry term")?;
        entry.index = position(reader, "entry index")?;
        entry.data = reader.bytes("entry data", MESSAGE_BYTES_MAX)?;
        entries.push(entry);
    }
    check_entries(&message, &entries)?;
    message.set_entries(entries.into());
    Ok(message)
}

/// What raft-rs takes for granted about the entries of each type; it panics where this is not so.
fn check_entries(message: &Message, entries: &[Entry]) -> Result<(), DecodeError> {
    let unexpected = |what, expected, got| Err(DecodeError::Unexpected { what, expected, got });
    match message.get_msg_type() {
        MessageType::MsgAppend => {
            // raft-rs takes term 0 for "beyond the end", and would find that to match.
            if (message.index == 0) != (message.log_term == 0) {
                return unexpected("log term", "0 exactly at index 0", message.log_term);
            }
            let mut term = message.log_term;
            for (entry, index) in entries.iter().zip(message.index + 1..) {
                if entry.index != index {
                    return unexpected("entry index", "the index after the one before", entry.index);
                }
                if entry.term < term || entry.term > message.term || entry.term == 0 {
                    return unexpected(
                        "entry term",
                        "a term from the one before to the message's",
                        entry.term,
                    );
                }
                term = entry.term;
            }
            Ok(())
        }
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp if entries.len() != 1 => {
            unexpected("entries of a read", "exactly one", entries.len() as u64)
        }
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => Ok(()),
        _ if !entries.is_empty() => {
            unexpected("entries of a message without entries", "none", entries.len() as u64)
        }
        _ => Ok(()),
    }
}

/// Terms and indexes stay far from overflow, so that arithmetic on them can't wrap.
pub(crate) fn position(reader: &mut Reader, what: &'static str) -> Result<u64, DecodeError> {
    let got = reader.u64(what)?;
    if got > POSITION_MAX { Err(DecodeError::TooLarge { what, max: POSITION_MAX, got }) } else { Ok(got) }
}

const FORMAT_VERSION: u8 = 1;
const KIND_RAFT: u8 = 1;
const KIND_CHUNK: u8 = 2;
const KIND_RECEIPT: u8 = 3;
const CONTEXT_BYTES_MAX: usize = 64;
const ENTRY_BYTES_MIN: usize = 20;
const POSITION_MAX: u64 = 1 << 60;

/// Number on the wire, type, name.
const TYPES: &[(u8, MessageType, &str)] = &[
    (1, MessageType::MsgAppend, "append"),
    (2, MessageType::MsgAppendResponse, "append response"),
    (3, MessageType::MsgRequestVote, "vote request"),
    (4, MessageType::MsgRequestVoteResponse, "vote response"),
    (5, MessageType::MsgHeartbeat, "heartbeat"),
    (6, MessageType::MsgHeartbeatResponse, "heartbeat response"),
    (7, MessageType::MsgTimeoutNow, "timeout now"),
    (8, MessageType::MsgReadIndex, "read index"),
    (9, MessageType::MsgReadIndexResp, "read index response"),
    (10, MessageType::MsgRequestPreVote, "pre-vote request"),
    (11, MessageType::MsgRequestPreVoteResponse, "pre-vote response"),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLUSTER: ClusterId = ClusterId(7);

    fn append() -> Message {
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgAppend);
        (message.from, message.to, message.term, message.index, message.log_term) = (1, 2, 5, 9, 4);
        let mut entry = Entry::default();
        (entry.term, entry.index, entry.data) = (5, 10, Bytes::from_static(b"data"));
        message.set_entries(vec![entry].into());
        message
    }

    #[test]
    fn raft_message_round_trip() {
        let message = append();
        let bytes = encode(CLUSTER, MemberId(1), MemberId(2), &Envelope::Raft(message.clone()));
        assert_eq!(decode(CLUSTER, MemberId(1), MemberId(2), bytes), Ok(Envelope::Raft(message)));
    }

    #[test]
    fn format_is_stable() {
        let bytes = encode(CLUSTER, MemberId(1), MemberId(2), &Envelope::Raft(append()));
        let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let header = "0101 07000000000000000000000000000000 0100000000000000 0200000000000000";
        let numbers = "01 0500000000000000 0400000000000000 0900000000000000 0000000000000000 0000000000000000 \
            0000000000000000 00 00000000";
        let entries = "01000000 0500000000000000 0a00000000000000 04000000 64617461";
        assert_eq!(hex, [header, numbers, entries].concat().replace(' ', ""));
    }

    #[test]
    fn foreign_messages_are_refused() {
        let bytes = encode(CLUSTER, MemberId(1), MemberId(2), &Envelope::Raft(append()));
        let check = |cluster, from, to| decode(cluster, MemberId(from), MemberId(to), bytes.clone());
        assert!(matches!(check(ClusterId(8), 1, 2), Err(MessageError::Cluster { .. })));
        assert!(matches!(check(CLUSTER, 3, 2), Err(MessageError::Sender { .. })));
        assert!(matches!(check(CLUSTER, 1, 3), Err(MessageError::Recipient { .. })));
    }

    #[test]
    fn gaps_and_falling_terms_are_refused() {
        for (index, term) in [(11, 5), (9, 5), (10, 3), (10, 6), (10, 0)] {
            let mut message = append();
            message.mut_entries()[0].index = index;
            message.mut_entries()[0].term = term;
            let bytes = encode(CLUSTER, MemberId(1), MemberId(2), &Envelope::Raft(message));
            assert!(decode(CLUSTER, MemberId(1), MemberId(2), bytes).is_err(), "{index} {term}");
        }
    }

    proptest! {
        #[test]
        fn damaged_messages_never_panic(at in 0_usize..200, bit in 0_u8..8, cut in 0_usize..200) {
            let bytes = encode(CLUSTER, MemberId(1), MemberId(2), &Envelope::Raft(append()));
            let mut bytes = bytes.to_vec();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            bytes.truncate(bytes.len() - cut % bytes.len());
            let _ = decode_any(bytes.into());
        }

        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_any(bytes.into());
        }
    }
}
