//! Log segments: bytes as they are, then with right checksums, so that the records themselves are reached.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quantumnet_consensus::log::format::{scan, seal_for_fuzzing};

fuzz_target!(|data: &[u8]| {
    check(data);
    let mut sealed = data.to_vec();
    seal_for_fuzzing(7, &mut sealed);
    check(&sealed);
});

fn check(segment: &[u8]) {
    if let Ok(found) = scan(7, segment) {
        assert!(found.end + found.torn_bytes <= segment.len() as u64);
        // What is kept reads the same once the rest is cut off.
        let again = scan(7, &segment[..found.end as usize]).expect("the valid part of a segment");
        assert_eq!((again.records, again.end, again.torn_bytes), (found.records, found.end, 0));
    }
}
