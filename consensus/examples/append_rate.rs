//! Entries per second of the log on a real disk, beside the bare cost of write and sync there:
//! `cargo run --release --example append_rate -- DIR`.

use std::{
    fs::OpenOptions,
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quantumnet_consensus::{
    Batch, BatchId, ClusterId, DiskLog, DiskOptions, HardState, LogEntry, LogStore, MemberId,
};

const ENTRY_BYTES: usize = 256;
const SPAN: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "append_rate.data".to_owned());
    for batch_entries in [1_u64, 16, 256] {
        let log = log_rate(&format!("{dir}/{batch_entries}"), batch_entries)?;
        let bare = bare_rate(&format!("{dir}/bare"), batch_entries)?;
        println!("batch {batch_entries}: log {log:.0} entries/s, bare write and sync {bare:.0} entries/s");
    }
    Ok(())
}

fn log_rate(dir: &str, batch_entries: u64) -> Result<f64, Box<dyn std::error::Error>> {
    let (mut log, _) = DiskLog::open(dir, ClusterId(1), MemberId(1), DiskOptions::default())?;
    let data = Bytes::from(vec![7_u8; ENTRY_BYTES]);
    let (mut number, first, started) = (0, log.last_index() + 1, Instant::now());
    while started.elapsed() < SPAN {
        let start = first + number * batch_entries;
        let entries =
            (start..start + batch_entries).map(|index| LogEntry { index, term: 1, data: data.clone() });
        let hard_state = HardState { term: 1, vote: 1, commit: start - 1 };
        number += 1;
        log.append(&Batch { id: BatchId(number), hard_state, snapshot: None, entries: entries.collect() })?;
        log.sync()?;
    }
    Ok((number * batch_entries) as f64 / started.elapsed().as_secs_f64())
}

fn bare_rate(path: &str, batch_entries: u64) -> std::io::Result<f64> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    let bytes = vec![7_u8; ENTRY_BYTES * batch_entries as usize];
    let space = 64 << 20;
    file.write_all_at(&vec![0; space], 0)?;
    file.sync_all()?;
    let (mut number, started) = (0_u64, Instant::now());
    while started.elapsed() < SPAN {
        let offset = number * bytes.len() as u64 % (space - bytes.len()) as u64;
        file.write_all_at(&bytes, offset)?;
        file.sync_data()?;
        number += 1;
    }
    Ok((number * batch_entries) as f64 / started.elapsed().as_secs_f64())
}
