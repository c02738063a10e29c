//! Row changes, log entries and snapshots of the store: whatever decodes must encode to something that decodes alike.
//!
//! Input: kind u8 | bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quantumnet_controller::store::{Entry, State};
use quantumnet_model::change::{FORMAT, RowChange};

fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 3 {
        0 => {
            // Most inputs would fail on the version, which says little.
            let mut bytes = bytes.to_vec();
            if let Some(first) = bytes.first_mut() {
                *first = FORMAT;
            }
            if let Ok(change) = RowChange::decode(&bytes) {
                assert_eq!(RowChange::decode(&change.encode()).as_ref(), Ok(&change));
            }
        }
        1 => drop(Entry::decode(bytes)),
        _ => drop(State::decode(bytes)),
    }
});
