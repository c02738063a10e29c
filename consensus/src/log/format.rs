//! Layout of log segments, snapshot files and the identity file; every integer little endian.
//!
//! ```text
//! segment   | "QNLOGSEG" | version u32 | reserved u32 | sequence u64 | crc u32 | reserved u32 | record ... | zeros
//! record    | length u32 | crc u32 | synced u64 | kind u8 | payload, `length` bytes | zeros to a multiple of 8
//!   kind 1  | term u64 | vote u64 | commit u64 | count u32 | { term u64 | index u64 | length u32 | data } ...
//!   kind 2  | index u64 | term u64          the log restarts after a snapshot that ends here
//! snapshot  | "QNSNAPSH" | version u32 | index u64 | term u64 | count u32 | voter u64 ... | size u64 | data | crc u32
//! identity  | "QNIDENTY" | version u32 | cluster u128 | member u64 | boot u64 | crc u32
//! ```
//!
//! A record's checksum (crc32c) also covers the segment's sequence number and the record's offset, so bytes of another
//! place or an older file are never taken for a record. `synced` is the offset up to which this segment had been synced when
//! the record was written. It tells a torn write from damage: after a crash, bytes from `synced` of the last valid
//! record on may be anything, since nobody was told that they are on disk; bytes before it may not.
//!
//! # Invariants
//! * Scanning never panics and never allocates by a length that is not there.
//! * A damaged record before any valid record's `synced` offset is an error, never skipped and never cut off.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    codec::{Reader, put_bytes, put_count},
    error::DecodeError,
    event::{ClusterId, HardState, LogEntry, MemberId, Snapshot},
    snapshot::{put_meta, take_meta},
    wire::position,
};

/// Bytes of a segment's header.
pub(crate) const SEGMENT_HEADER_BYTES: u64 = 32;
/// Payload of one record; larger batches are split.
pub(crate) const RECORD_BYTES_MAX: usize = 128 << 20;

/// What a record says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Record {
    /// The hard state, and entries of which the first may overwrite.
    Batch {
        /// Replaces the one before.
        hard_state: HardState,
        /// Contiguous.
        entries: Vec<LogEntry>,
    },
    /// A snapshot was installed: the log is empty and continues after this position.
    Restart {
        /// Last index of the snapshot.
        index: u64,
        /// Its term.
        term: u64,
    },
}

/// What scanning one segment found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scan {
    /// The valid records, in order.
    pub records: Vec<Record>,
    /// Where the next record goes: the end of the last valid one.
    pub end: u64,
    /// Bytes after `end` up to the last that is not zero: an unfinished write.
    pub torn_bytes: u64,
}

/// Why a segment can't be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("segment is damaged at offset {offset}")]
pub struct Damage {
    /// Where the damaged record starts.
    pub offset: u64,
    /// What is wrong there.
    #[source]
    pub cause: DecodeError,
}

pub(crate) fn segment_header(sequence: u64) -> BytesMut {
    let mut out = BytesMut::with_capacity(32);
    out.put_slice(SEGMENT_MAGIC);
    out.put_u32_le(FORMAT_VERSION);
    out.put_u32_le(0);
    out.put_u64_le(sequence);
    let crc = crc32c::crc32c(&out);
    out.put_u32_le(crc);
    out.put_u32_le(0);
    out
}

/// Appends one record that will lie at `offset` of segment `sequence`.
pub(crate) fn put_record(out: &mut BytesMut, sequence: u64, offset: u64, synced: u64, record: &Record) {
    let start = out.len();
    out.put_u32_le(0);
    out.put_u32_le(0);
    out.put_u64_le(synced);
    match record {
        Record::Batch { hard_state, entries } => {
            out.put_u8(KIND_BATCH);
            out.put_u64_le(hard_state.term);
            out.put_u64_le(hard_state.vote);
            out.put_u64_le(hard_state.commit);
            put_count(out, entries.len());
            for entry in entries {
                out.put_u64_le(entry.term);
                out.put_u64_le(entry.index);
                put_bytes(out, &entry.data);
            }
        }
        Record::Restart { index, term } => {
            out.put_u8(KIND_RESTART);
            out.put_u64_le(*index);
            out.put_u64_le(*term);
        }
    }
    let length = out.len() - start - RECORD_HEADER_BYTES;
    let length = u32::try_from(length).expect("batches are split at RECORD_BYTES_MAX");
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    let crc = record_crc(sequence, offset, length, &out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    let padding = padding(out.len() - start);
    out.put_bytes(0, padding);
}

/// Reads a segment up to its end, or to the torn write of a crash.
///
/// # Errors
/// Synced bytes are damaged.
pub fn scan(sequence: u64, segment: &[u8]) -> Result<Scan, Damage> {
    let header_bytes = SEGMENT_HEADER_BYTES as usize;
    let header_fault = check_header(sequence, segment).err();
    let mut scan =
        Scan { end: if header_fault.is_some() { 0 } else { SEGMENT_HEADER_BYTES }, ..Scan::default() };
    let mut fault = header_fault;
    if fault.is_none() {
        let mut offset = header_bytes;
        while offset < segment.len() {
            match record_at(sequence, segment, offset) {
                Ok((record, _, next)) => {
                    scan.records.push(record);
                    offset = next;
                    scan.end = next as u64;
                }
                Err(cause) => {
                    fault = Some(cause);
                    break;
                }
            }
        }
    }
    let used = segment.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
    scan.torn_bytes = used.saturating_sub(scan.end);
    if let Some(cause) = fault
        && scan.torn_bytes > 0
    {
        let from = (scan.end as usize).max(header_bytes).next_multiple_of(8);
        let witness = (from..usize::try_from(used).unwrap_or(0)).step_by(8).find_map(|offset| {
            let (_, synced, _) = record_at(sequence, segment, offset).ok()?;
            (synced > scan.end).then_some(())
        });
        if witness.is_some() || is_foreign_header(sequence, segment) {
            return Err(Damage { offset: scan.end, cause });
        }
    }
    Ok(scan)
}

/// Makes the checksums of arbitrary bytes right, so that fuzzing reaches what lies behind them.
#[doc(hidden)]
pub fn seal_for_fuzzing(sequence: u64, segment: &mut [u8]) {
    let mut offset = SEGMENT_HEADER_BYTES as usize;
    if segment.len() < offset {
        return;
    }
    segment[..offset].copy_from_slice(&segment_header(sequence));
    while segment.len() >= offset + RECORD_HEADER_BYTES {
        let record = &mut segment[offset..];
        let length = u32::from(record[0]) + 256 * u32::from(record[1] & 3);
        let end = RECORD_HEADER_BYTES + length as usize;
        record[..4].copy_from_slice(&length.to_le_bytes());
        if length == 0 || record.len() < end {
            return;
        }
        let crc = record_crc(sequence, offset as u64, length, &record[8..end]);
        record[4..8].copy_from_slice(&crc.to_le_bytes());
        offset += end + padding(end);
    }
}

fn check_header(sequence: u64, segment: &[u8]) -> Result<(), DecodeError> {
    let expected = segment_header(sequence);
    if segment.len() < expected.len() {
        let (needed, left) = (expected.len(), segment.len());
        return Err(DecodeError::Truncated { what: "segment header", needed, left });
    }
    let mut reader = Reader::new(Bytes::copy_from_slice(&segment[8..expected.len()]));
    let version = reader.u32("segment version")?;
    if segment[..8] == *SEGMENT_MAGIC && version != FORMAT_VERSION {
        let got = u64::from(version);
        return Err(DecodeError::Unexpected { what: "segment version", expected: "1", got });
    }
    if segment[..expected.len()] == expected[..] {
        Ok(())
    } else {
        let (expected, got) = (crc32c::crc32c(&expected), crc32c::crc32c(&segment[..expected.len()]));
        Err(DecodeError::Checksum { what: "segment header", expected, got })
    }
}

/// A header that is whole but not the expected one: a misplaced file or a later format, never a torn write.
fn is_foreign_header(sequence: u64, segment: &[u8]) -> bool {
    let whole = |header: &[u8]| crc32c::crc32c(&header[..24]).to_le_bytes() == header[24..28];
    segment
        .get(..SEGMENT_HEADER_BYTES as usize)
        .is_some_and(|header| header != &segment_header(sequence)[..] && whole(header))
}

/// The record at `offset`, its synced offset, and where the next one starts.
fn record_at(sequence: u64, segment: &[u8], offset: usize) -> Result<(Record, u64, usize), DecodeError> {
    let bytes = &segment[offset..];
    let truncated = |needed| DecodeError::Truncated { what: "record", needed, left: bytes.len() };
    if bytes.len() < RECORD_HEADER_BYTES {
        return Err(truncated(RECORD_HEADER_BYTES));
    }
    let field = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let (length, got) = (field(0), field(4));
    if length == 0 {
        return Err(DecodeError::Unexpected { what: "record length", expected: "not 0", got: 0 });
    }
    let end = RECORD_HEADER_BYTES + length as usize;
    if bytes.len() < end {
        return Err(truncated(end));
    }
    let expected = record_crc(sequence, offset as u64, length, &bytes[8..end]);
    if got != expected {
        return Err(DecodeError::Checksum { what: "record", expected, got });
    }
    let mut reader = Reader::new(Bytes::copy_from_slice(&bytes[8..end]));
    let synced = reader.u64("synced offset")?;
    let record = take_record(&mut reader)?;
    let next = (offset + end + padding(end)).min(segment.len());
    Ok((record, synced, next))
}

fn take_record(reader: &mut Reader) -> Result<Record, DecodeError> {
    let record = match reader.u8("record kind")? {
        KIND_BATCH => {
            let hard_state = HardState {
                term: position(reader, "term")?,
                vote: reader.u64("vote")?,
                commit: position(reader, "commit")?,
            };
            let count = reader.count("entries", 20)?;
            let mut entries: Vec<LogEntry> = Vec::with_capacity(count);
            for _ in 0..count {
                let term = position(reader, "entry term")?;
                let index = position(reader, "entry index")?;
                let data = reader.bytes("entry data", RECORD_BYTES_MAX)?;
                let expected = entries.last().map_or_else(|| index.max(1), |before| before.index + 1);
                if index != expected {
                    let expected = "the index after the one before";
                    return Err(DecodeError::Unexpected { what: "entry index", expected, got: index });
                }
                // Copied: one small entry must not keep a whole segment in memory.
                entries.push(LogEntry { index, term, data: Bytes::copy_from_slice(&data) });
            }
            Record::Batch { hard_state, entries }
        }
        KIND_RESTART => Record::Restart {
            index: position(reader, "restart index")?,
            term: position(reader, "restart term")?,
        },
        other => {
            let got = u64::from(other);
            return Err(DecodeError::Unexpected { what: "record kind", expected: "1 or 2", got });
        }
    };
    reader.end("record")?;
    Ok(record)
}

/// Everything of a snapshot file but its data and checksum.
pub(crate) fn snapshot_header(snapshot: &Snapshot) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_slice(SNAPSHOT_MAGIC);
    out.put_u32_le(FORMAT_VERSION);
    put_meta(&mut out, &snapshot.meta);
    out.put_u64_le(snapshot.data.len() as u64);
    out
}

/// Reads a snapshot file.
///
/// # Errors
/// It is not one, or damaged.
pub fn decode_snapshot(file: Bytes) -> Result<Snapshot, DecodeError> {
    let file = checked("snapshot file", SNAPSHOT_MAGIC, file)?;
    let mut reader = Reader::new(file);
    let meta = take_meta(&mut reader)?;
    let size = reader.u64("snapshot size")?;
    let data = reader.rest();
    if data.len() as u64 != size {
        let left = data.len();
        return Err(DecodeError::Truncated { what: "snapshot data", needed: size as usize, left });
    }
    Ok(Snapshot { meta, data })
}

/// Whose directory it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Identity {
    pub(crate) cluster: ClusterId,
    pub(crate) member: MemberId,
    pub(crate) boot: u64,
}

pub(crate) fn encode_identity(identity: &Identity) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(IDENTITY_MAGIC);
    out.put_u32_le(FORMAT_VERSION);
    out.put_u128_le(identity.cluster.0);
    out.put_u64_le(identity.member.0);
    out.put_u64_le(identity.boot);
    let crc = crc32c::crc32c(&out);
    out.put_u32_le(crc);
    out.freeze()
}

pub(crate) fn decode_identity(file: Bytes) -> Result<Identity, DecodeError> {
    let mut reader = Reader::new(checked("identity file", IDENTITY_MAGIC, file)?);
    let cluster = ClusterId(reader.u128("cluster")?);
    let member = MemberId(reader.u64("member")?);
    let boot = reader.u64("boot")?;
    reader.end("identity file")?;
    Ok(Identity { cluster, member, boot })
}

/// Checks magic, version and the checksum at the end; returns what lies between.
fn checked(what: &'static str, magic: &[u8; 8], file: Bytes) -> Result<Bytes, DecodeError> {
    let left = file.len();
    if left < 16 {
        return Err(DecodeError::Truncated { what, needed: 16, left });
    }
    if file[..8] != *magic {
        let got = u64::from(file[0]);
        return Err(DecodeError::Unexpected { what, expected: "its magic number", got });
    }
    let version = u32::from_le_bytes([file[8], file[9], file[10], file[11]]);
    if version != FORMAT_VERSION {
        return Err(DecodeError::Unexpected { what, expected: "format version 1", got: u64::from(version) });
    }
    let tail = &file[left - 4..];
    let got = u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]);
    let expected = crc32c::crc32c(&file[..left - 4]);
    if got != expected {
        return Err(DecodeError::Checksum { what, expected, got });
    }
    Ok(file.slice(12..left - 4))
}

fn record_crc(sequence: u64, offset: u64, length: u32, rest: &[u8]) -> u32 {
    let mut crc = crc32c::crc32c(&sequence.to_le_bytes());
    crc = crc32c::crc32c_append(crc, &offset.to_le_bytes());
    crc = crc32c::crc32c_append(crc, &length.to_le_bytes());
    crc32c::crc32c_append(crc, rest)
}

const fn padding(length: usize) -> usize {
    length.next_multiple_of(8) - length
}

const FORMAT_VERSION: u32 = 1;
const SEGMENT_MAGIC: &[u8; 8] = b"QNLOGSEG";
const SNAPSHOT_MAGIC: &[u8; 8] = b"QNSNAPSH";
const IDENTITY_MAGIC: &[u8; 8] = b"QNIDENTY";
const RECORD_HEADER_BYTES: usize = 17;
const KIND_BATCH: u8 = 1;
const KIND_RESTART: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(index: u64) -> Record {
        let data = Bytes::from(vec![index as u8; 40]);
        Record::Batch {
            hard_state: HardState { term: 1, vote: 2, commit: 0 },
            entries: vec![LogEntry { index, term: 1, data }],
        }
    }

    /// A segment of three records; `synced[i]` is what record i says had been synced, as a number of records before it.
    fn segment(synced: [usize; 3]) -> (Vec<u8>, Vec<u64>) {
        let mut out = segment_header(9);
        let mut ends = vec![out.len() as u64];
        for (number, synced) in synced.into_iter().enumerate() {
            let offset = out.len() as u64;
            put_record(&mut out, 9, offset, ends[synced], &batch(number as u64 + 1));
            ends.push(out.len() as u64);
        }
        out.put_bytes(0, 200);
        (out.to_vec(), ends)
    }

    #[test]
    fn reads_back_what_was_written() {
        let (bytes, ends) = segment([0, 1, 2]);
        let found = scan(9, &bytes).expect("an intact segment");
        assert_eq!(found, Scan { records: (1..4).map(batch).collect(), end: ends[3], torn_bytes: 0 });
        assert_eq!(scan(8, &bytes).map_err(|damage| damage.offset), Err(0), "bytes of another segment");
    }

    #[test]
    fn a_torn_tail_is_cut_off() {
        let (mut bytes, ends) = segment([0, 1, 2]);
        bytes[ends[2] as usize + 20] ^= 1;
        let found = scan(9, &bytes).expect("only the tail is damaged");
        assert_eq!((found.records.len(), found.end), (2, ends[2]));
        assert!(found.torn_bytes > 0);
    }

    #[test]
    fn damage_before_a_synced_offset_is_an_error() {
        let (mut bytes, ends) = segment([0, 1, 2]);
        bytes[ends[1] as usize + 20] ^= 1;
        assert_eq!(scan(9, &bytes).map_err(|damage| damage.offset), Err(ends[1]));
    }

    #[test]
    fn a_later_unsynced_record_does_not_make_a_torn_one_damage() {
        let (mut bytes, ends) = segment([0, 1, 1]);
        bytes[ends[1] as usize + 20] ^= 1;
        let found = scan(9, &bytes).expect("both had not been synced");
        assert_eq!((found.records.len(), found.end), (1, ends[1]));
    }

    #[test]
    fn identity_format_is_stable() {
        let identity = Identity { cluster: ClusterId(1), member: MemberId(2), boot: 3 };
        let bytes = encode_identity(&identity);
        assert_eq!(&bytes[..13], b"QNIDENTY\x01\0\0\0\x01");
        assert_eq!(decode_identity(bytes), Ok(identity));
    }
}
