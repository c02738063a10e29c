//! The files of a data directory as format version 1 lays them out: written so today, and read for ever.
//! After an intended change: a new version, a new directory beside `data/v1`, and `UPDATE=1 cargo test --test golden`.

#[path = "sim/disk.rs"]
#[allow(dead_code, reason = "shared with the cluster simulation")]
mod disk;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use disk::SimDisk;
use quantumnet_consensus::{
    Batch, BatchId, ClusterId, DiskLog, DiskOptions, HardState, LogEntry, LogStore, MemberId, Recovered,
    Snapshot, SnapshotMeta,
    log::vfs::{Vfs, VfsFile},
};

const DIR: &str = "/data";
const CLUSTER: ClusterId = ClusterId(0x0123_4567_89ab_cdef);
const MEMBER: MemberId = MemberId(2);
const HARD_STATE: HardState = HardState { term: 3, vote: 2, commit: 4 };

fn open(disk: &SimDisk) -> (DiskLog<SimDisk>, Recovered) {
    DiskLog::open_on(disk.clone(), DIR, CLUSTER, MEMBER, DiskOptions::default()).expect("a sound directory")
}

fn snapshot() -> Snapshot {
    let meta = SnapshotMeta { index: 4, term: 3, voters: vec![MemberId(1), MEMBER] };
    Snapshot { meta, data: Bytes::from_static(b"state") }
}

fn entry(index: u64) -> LogEntry {
    LogEntry { index, term: 3, data: Bytes::from(format!("entry {index}")) }
}

/// A directory with a received snapshot, two entries after it, and a clean end.
fn write() -> SimDisk {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    let entries = vec![entry(5), entry(6)];
    let batch = Batch { id: BatchId(1), hard_state: HARD_STATE, snapshot: Some(snapshot()), entries };
    log.append(&batch).expect("a sound disk");
    log.sync().expect("a sound disk");
    disk
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/v1").join(format!("{name}.hex"))
}

/// Sixteen bytes a line, without the zeroed space at the end.
fn to_hex(bytes: &[u8]) -> String {
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let line =
        |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ") + "\n";
    bytes[..used].chunks(16).map(line).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect()
}

#[test]
fn files_are_written_as_in_version_1() {
    let disk = write();
    let names = disk.list(Path::new(DIR)).expect("names");
    let mut names = names.iter().filter(|name| *name != "lock").collect::<Vec<_>>();
    names.sort();
    assert_eq!(names, FILES.iter().collect::<Vec<_>>());
    for name in FILES {
        let written = to_hex(&disk.read(&Path::new(DIR).join(name)).expect("it is listed"));
        if std::env::var("UPDATE").is_ok() {
            std::fs::write(golden(name), &written).expect("a writable work tree");
        }
        assert_eq!(written, std::fs::read_to_string(golden(name)).expect("a golden file"), "{name}");
    }
}

#[test]
fn files_of_version_1_are_read() {
    let disk = SimDisk::new();
    for name in FILES {
        let bytes = from_hex(&std::fs::read_to_string(golden(name)).expect("a golden file"));
        let mut file = disk.open(&Path::new(DIR).join(name), true).expect("a sound disk");
        file.write_all_at(&bytes, 0).expect("a sound disk");
    }
    let (_, found) = open(&disk);
    let expected = Recovered {
        hard_state: HARD_STATE,
        snapshot: Some(snapshot()),
        entries: vec![entry(5), entry(6)],
        boot: 2,
        torn_bytes: 0,
    };
    assert_eq!(found, expected);
}

const FILES: [&str; 3] = ["0000000000000001.log", "0000000000000004-0000000000000003.snap", "identity"];
