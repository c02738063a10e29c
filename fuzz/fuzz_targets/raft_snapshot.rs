//! Snapshot files: bytes as they are, then with right magic, version and checksum.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use quantumnet_consensus::log::format::decode_snapshot;

fuzz_target!(|data: &[u8]| {
    let _ = decode_snapshot(Bytes::copy_from_slice(data));
    let mut sealed = [b"QNSNAPSH".as_slice(), &1_u32.to_le_bytes(), data].concat();
    sealed.extend(crc32c::crc32c(&sealed).to_le_bytes());
    let _ = decode_snapshot(sealed.into());
});
