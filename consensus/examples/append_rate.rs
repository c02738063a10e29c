//! Entries per second of the log on a real disk: `cargo run --release --example append_rate -- DIR`.

use std::time::Instant;

use bytes::Bytes;
use quantumnet_consensus::{
    Batch, BatchId, ClusterId, DiskLog, DiskOptions, HardState, LogEntry, LogError, LogStore, MemberId,
};

fn main() -> Result<(), LogError> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "append_rate.data".to_owned());
    for batch_entries in [1_u64, 16, 256] {
        let path = format!("{dir}/{batch_entries}");
        let (mut log, _) = DiskLog::open(&path, ClusterId(1), MemberId(1), DiskOptions::default())?;
        let data = Bytes::from(vec![7_u8; 256]);
        let (batches, first) = (4_000_u64, log.last_index() + 1);
        let started = Instant::now();
        for number in 0..batches {
            let start = first + number * batch_entries;
            let entries = (start..start + batch_entries)
                .map(|index| LogEntry { index, term: 1, data: data.clone() })
                .collect();
            let hard_state = HardState { term: 1, vote: 1, commit: start - 1 };
            log.append(&Batch { id: BatchId(number + 1), hard_state, snapshot: None, entries })?;
            log.sync()?;
        }
        let seconds = started.elapsed().as_secs_f64();
        println!("batch {batch_entries}: {:.0} entries/s", (batches * batch_entries) as f64 / seconds);
    }
    Ok(())
}
