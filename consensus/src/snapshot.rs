//! Snapshots on their way from one member to another: chunks with offsets and checksums, resumable.
//!
//! # Contract
//! Raft decides that a peer needs a snapshot; [`Sender`] moves it: a window of chunks, a receipt naming the next offset
//! wanted, repetition after silence. [`Receiver`] keeps what arrived, so a lost connection costs at most the window, and a
//! new leader with the same snapshot continues where the old one stopped. A restart of the receiver starts over.
//!
//! # Invariants
//! * A snapshot reaches Raft only when every byte has been received and the checksum over all of it is right.
//! * The sender holds at most one transfer per peer, the receiver at most one in all.
//! * Memory of a receiver grows with bytes received, never with a length somebody claimed.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    codec::{Reader, put_bytes, put_count},
    error::DecodeError,
    event::{MemberId, Snapshot, SnapshotMeta},
    wire::{MESSAGE_BYTES_MAX, position},
};

/// Names a snapshot: what it covers and what it consists of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SnapshotName {
    pub(crate) meta: SnapshotMeta,
    pub(crate) bytes_total: u64,
    pub(crate) crc: u32,
}

impl SnapshotName {
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        Self {
            meta: snapshot.meta.clone(),
            bytes_total: snapshot.data.len() as u64,
            crc: crc32c::crc32c(&snapshot.data),
        }
    }

    fn put(&self, out: &mut BytesMut) {
        put_meta(out, &self.meta);
        out.put_u64_le(self.bytes_total);
        out.put_u32_le(self.crc);
    }

    fn take(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            meta: take_meta(reader)?,
            bytes_total: reader.u64("snapshot size")?,
            crc: reader.u32("snapshot checksum")?,
        })
    }
}

/// A piece of a snapshot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Chunk {
    /// Term of the leader that sends.
    pub(crate) term: u64,
    pub(crate) name: SnapshotName,
    pub(crate) offset: u64,
    pub(crate) data: Bytes,
}

impl Chunk {
    pub(crate) fn put(&self, out: &mut BytesMut) {
        out.put_u64_le(self.term);
        self.name.put(out);
        out.put_u64_le(self.offset);
        out.put_u32_le(crc32c::crc32c(&self.data));
        put_bytes(out, &self.data);
    }

    pub(crate) fn take(reader: &mut Reader) -> Result<Self, DecodeError> {
        let term = position(reader, "term")?;
        let name = SnapshotName::take(reader)?;
        let offset = position(reader, "chunk offset")?;
        let got = reader.u32("chunk checksum")?;
        let data = reader.bytes("chunk", MESSAGE_BYTES_MAX)?;
        let expected = crc32c::crc32c(&data);
        if got != expected {
            return Err(DecodeError::Checksum { what: "chunk", expected, got });
        }
        let end = offset + data.len() as u64;
        if end > name.bytes_total {
            return Err(DecodeError::TooLarge { what: "chunk end", max: name.bytes_total, got: end });
        }
        Ok(Self { term, name, offset, data })
    }
}

/// What the receiver has of a snapshot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Receipt {
    pub(crate) name: SnapshotName,
    /// The next byte wanted; `bytes_total` when nothing is.
    pub(crate) offset_next: u64,
    /// Nothing more is wanted: installed, or known already.
    pub(crate) done: bool,
}

impl Receipt {
    pub(crate) fn put(&self, out: &mut BytesMut) {
        self.name.put(out);
        out.put_u64_le(self.offset_next);
        out.put_u8(u8::from(self.done));
    }

    pub(crate) fn take(reader: &mut Reader) -> Result<Self, DecodeError> {
        let name = SnapshotName::take(reader)?;
        Ok(Self { name, offset_next: position(reader, "next offset")?, done: reader.bool("done")? })
    }
}

/// The leader's side: at most one transfer per peer.
#[derive(Debug, Default)]
pub(crate) struct Sender {
    transfers: BTreeMap<MemberId, Transfer>,
    pub(crate) chunks_repeated: u64,
}

impl Sender {
    /// Begins a transfer, or keeps the one under way if it is of the same snapshot.
    pub(crate) fn begin(&mut self, to: MemberId, snapshot: &Snapshot, name: &SnapshotName) {
        if self.transfers.get(&to).is_some_and(|transfer| transfer.name == *name) {
            return;
        }
        self.transfers.insert(
            to,
            Transfer {
                name: name.clone(),
                data: snapshot.data.clone(),
                acknowledged: 0,
                sent: 0,
                probed: false,
                ticks_silent: 0,
                ticks_since_send: 0,
            },
        );
    }

    /// The chunks that may be sent now.
    pub(crate) fn poll(&mut self, to: MemberId, term: u64, limits: Limits) -> Vec<Chunk> {
        self.transfers.get_mut(&to).map_or_else(Vec::new, |transfer| transfer.poll(term, limits))
    }

    /// Takes a receipt; true if the transfer is done.
    pub(crate) fn acknowledge(&mut self, from: MemberId, receipt: &Receipt) -> bool {
        let Some(transfer) = self.transfers.get_mut(&from) else { return false };
        if transfer.name != receipt.name {
            return false;
        }
        if receipt.done {
            self.transfers.remove(&from);
            return true;
        }
        let offset = receipt.offset_next.min(transfer.name.bytes_total);
        if offset != transfer.acknowledged {
            transfer.ticks_silent = 0;
        }
        // Lower than before: the receiver restarted, or the receipt is late; either way these bytes are wanted.
        if offset < transfer.acknowledged {
            transfer.sent = offset;
            self.chunks_repeated += 1;
        }
        transfer.acknowledged = offset;
        transfer.sent = transfer.sent.max(offset);
        transfer.probed = true;
        false
    }

    /// A tick has passed. Returns the peers whose transfer is given up.
    pub(crate) fn tick(&mut self, limits: Limits) -> Vec<MemberId> {
        let mut given_up = Vec::new();
        self.transfers.retain(|to, transfer| {
            transfer.ticks_silent += 1;
            transfer.ticks_since_send += 1;
            if transfer.ticks_silent >= limits.ticks_give_up {
                given_up.push(*to);
                return false;
            }
            if transfer.ticks_since_send >= limits.ticks_repeat {
                transfer.ticks_since_send = 0;
                transfer.sent = transfer.acknowledged;
                transfer.probed = transfer.acknowledged > 0;
                self.chunks_repeated += 1;
            }
            true
        });
        given_up
    }

    pub(crate) fn peers(&self) -> Vec<MemberId> {
        self.transfers.keys().copied().collect()
    }

    pub(crate) fn clear(&mut self) {
        self.transfers.clear();
    }
}

#[derive(Debug)]
struct Transfer {
    name: SnapshotName,
    data: Bytes,
    acknowledged: u64,
    sent: u64,
    /// The receiver has said how much it holds already; until then one chunk asks.
    probed: bool,
    ticks_silent: u32,
    ticks_since_send: u32,
}

impl Transfer {
    fn poll(&mut self, term: u64, limits: Limits) -> Vec<Chunk> {
        let total = self.name.bytes_total;
        let window = if self.probed { limits.window_chunks } else { 1 } * limits.chunk_bytes;
        let mut chunks = Vec::new();
        let mut empty_due = total == 0 && self.ticks_since_send == 0 && !self.probed;
        while empty_due || (self.sent < total && self.sent < self.acknowledged + window) {
            let end = (self.sent + limits.chunk_bytes).min(total);
            let range = usize::try_from(self.sent).expect("offsets lie within data held in memory")
                ..usize::try_from(end).expect("offsets lie within data held in memory");
            let (offset, data) = (self.sent, self.data.slice(range));
            chunks.push(Chunk { term, name: self.name.clone(), offset, data });
            self.sent = end;
            self.ticks_since_send = 0;
            empty_due = false;
        }
        if total == 0 {
            self.probed = true;
        }
        chunks
    }
}

/// The follower's side: at most one snapshot being received.
#[derive(Debug, Default)]
pub(crate) struct Receiver {
    partial: Option<(SnapshotName, BytesMut)>,
}

/// What a chunk led to.
#[derive(Debug)]
pub(crate) enum Received {
    /// More is wanted.
    More(Receipt),
    /// All of it is here and right.
    Complete(Snapshot),
}

impl Receiver {
    pub(crate) fn accept(&mut self, chunk: &Chunk, bytes_max: u64) -> Result<Received, DecodeError> {
        let name = &chunk.name;
        if name.bytes_total > bytes_max {
            return Err(DecodeError::TooLarge { what: "snapshot", max: bytes_max, got: name.bytes_total });
        }
        if self.partial.as_ref().is_none_or(|(held, _)| held != name) {
            self.partial = Some((name.clone(), BytesMut::new()));
        }
        let (_, data) = self.partial.as_mut().expect("set just above");
        if chunk.offset == data.len() as u64 {
            data.put_slice(&chunk.data);
        }
        let offset_next = data.len() as u64;
        if offset_next < name.bytes_total {
            return Ok(Received::More(Receipt { name: name.clone(), offset_next, done: false }));
        }
        let expected = crc32c::crc32c(data);
        let data = std::mem::take(data).freeze();
        self.partial = None;
        if expected != name.crc {
            return Err(DecodeError::Checksum { what: "snapshot", expected, got: name.crc });
        }
        Ok(Received::Complete(Snapshot { meta: name.meta.clone(), data }))
    }

    /// Forgets a snapshot that is no longer of use.
    pub(crate) fn forget_through(&mut self, index: u64) {
        if self.partial.as_ref().is_some_and(|(name, _)| name.meta.index <= index) {
            self.partial = None;
        }
    }
}

/// Sizes and patience of a transfer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) chunk_bytes: u64,
    pub(crate) window_chunks: u64,
    pub(crate) ticks_repeat: u32,
    pub(crate) ticks_give_up: u32,
}

pub(crate) fn put_meta(out: &mut BytesMut, meta: &SnapshotMeta) {
    out.put_u64_le(meta.index);
    out.put_u64_le(meta.term);
    put_count(out, meta.voters.len());
    for voter in &meta.voters {
        out.put_u64_le(voter.0);
    }
}

pub(crate) fn take_meta(reader: &mut Reader) -> Result<SnapshotMeta, DecodeError> {
    let index = position(reader, "snapshot index")?;
    let term = position(reader, "snapshot term")?;
    let count = reader.count("voters", 8)?;
    let voters = (0..count).map(|_| reader.u64("voter").map(MemberId)).collect::<Result<_, _>>()?;
    Ok(SnapshotMeta { index, term, voters })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { chunk_bytes: 10, window_chunks: 3, ticks_repeat: 2, ticks_give_up: 6 };
    const PEER: MemberId = MemberId(2);

    fn snapshot(bytes: usize) -> Snapshot {
        let data = (0..bytes).map(|byte| byte as u8).collect::<Vec<_>>().into();
        Snapshot { meta: SnapshotMeta { index: 5, term: 2, voters: vec![MemberId(1), PEER] }, data }
    }

    /// Runs a transfer in which `lost` says which chunk, by its number, does not arrive; returns chunks sent.
    fn transfer(bytes: usize, lost: impl Fn(usize) -> bool, restart_at: Option<usize>) -> usize {
        let snapshot = snapshot(bytes);
        let name = SnapshotName::of(&snapshot);
        let (mut sender, mut receiver, mut sent) = (Sender::default(), Receiver::default(), 0);
        sender.begin(PEER, &snapshot, &name);
        for _ in 0..100 {
            for chunk in sender.poll(PEER, 1, LIMITS) {
                sent += 1;
                if Some(sent) == restart_at {
                    receiver = Receiver::default();
                }
                if lost(sent) {
                    continue;
                }
                match receiver.accept(&chunk, 1_000_000).expect("an intact chunk") {
                    Received::More(receipt) => assert!(!sender.acknowledge(PEER, &receipt)),
                    Received::Complete(got) => {
                        assert_eq!(got, snapshot);
                        let receipt = Receipt { name, offset_next: bytes as u64, done: true };
                        assert!(sender.acknowledge(PEER, &receipt));
                        return sent;
                    }
                }
            }
            assert!(sender.tick(LIMITS).is_empty(), "given up");
        }
        panic!("never finished");
    }

    #[test]
    fn arrives_once_without_loss() {
        assert_eq!(transfer(95, |_| false, None), 10);
        assert_eq!(transfer(0, |_| false, None), 1);
    }

    #[test]
    fn resumes_after_loss_and_receiver_restart() {
        assert!(transfer(95, |number| number % 5 == 0, None) <= 40);
        transfer(95, |number| number == 1, None);
        transfer(0, |number| number == 1, None);
        transfer(200, |_| false, Some(7));
    }

    #[test]
    fn a_second_sender_continues_where_the_first_stopped() {
        let snapshot = snapshot(100);
        let name = SnapshotName::of(&snapshot);
        let mut receiver = Receiver::default();
        let chunk = |offset: usize| Chunk {
            term: 3,
            name: name.clone(),
            offset: offset as u64,
            data: snapshot.data.slice(offset..offset + 10),
        };
        for offset in [0, 10, 20] {
            receiver.accept(&chunk(offset), 1_000).expect("an intact chunk");
        }
        let Ok(Received::More(receipt)) = receiver.accept(&chunk(0), 1_000) else { panic!("more is wanted") };
        assert_eq!(receipt.offset_next, 30);
        let mut second = Sender::default();
        second.begin(PEER, &snapshot, &name);
        assert_eq!(second.poll(PEER, 4, LIMITS).len(), 1, "asks before it floods");
        second.acknowledge(PEER, &receipt);
        assert_eq!(second.poll(PEER, 4, LIMITS)[0].offset, 30);
    }

    #[test]
    fn a_silent_peer_is_given_up() {
        let snapshot = snapshot(100);
        let mut sender = Sender::default();
        sender.begin(PEER, &snapshot, &SnapshotName::of(&snapshot));
        let given_up = (0..6).flat_map(|_| sender.tick(LIMITS)).collect::<Vec<_>>();
        assert_eq!(given_up, [PEER]);
    }

    #[test]
    fn a_wrong_whole_is_refused() {
        let mut name = SnapshotName::of(&snapshot(10));
        name.crc ^= 1;
        let chunk = Chunk { term: 1, name, offset: 0, data: snapshot(10).data };
        let refused = Receiver::default().accept(&chunk, 1_000);
        assert!(matches!(refused, Err(DecodeError::Checksum { what: "snapshot", .. })));
    }
}
