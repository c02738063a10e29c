//! Peer messages: a member of three with a short log takes a sequence of arbitrary ones, from either peer, without panic.
//!
//! Input: { control u8 | length u8 | body }*; bit 0 of control is the sender, bits 1 and 2 the kind, bit 3 a tick before.
#![no_main]

use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use quantumnet_consensus::{
    ClusterId, Config, Effect, Event, HardState, LogEntry, MemberId, Node, Recovered, Snapshot, SnapshotMeta,
};

fuzz_target!(|data: &[u8]| {
    let voters = vec![MemberId(1), MemberId(2), MemberId(3)];
    let meta = SnapshotMeta { index: 2, term: 1, voters: voters.clone() };
    let entry = |index| LogEntry { index, term: 2, data: Bytes::from_static(b"entry") };
    let recovered = Recovered {
        hard_state: HardState { term: 2, vote: 0, commit: 3 },
        snapshot: Some(Snapshot { meta, data: Bytes::from_static(b"state") }),
        entries: (3..6).map(entry).collect(),
        boot: 1,
        torn_bytes: 0,
    };
    let config = Config { election_ticks: 3, ..Config::new(ClusterId(0), MemberId(1), voters) };
    let mut node = Node::new(config, recovered).expect("a right configuration");
    let mut rest = data;
    while let [control, length, after @ ..] = rest {
        let (body, next) = after.split_at(after.len().min(usize::from(*length)));
        rest = next;
        if control & 8 != 0 && !take(&mut node, Event::Tick) {
            return;
        }
        let from = MemberId(2 + u64::from(control & 1));
        let mut bytes = vec![1, control >> 1 & 3];
        bytes.extend([0; 16]);
        bytes.extend(from.0.to_le_bytes());
        bytes.extend(1_u64.to_le_bytes());
        bytes.extend(body);
        if !take(&mut node, Event::Message { from, bytes: bytes.into() }) {
            return;
        }
    }
});

/// Takes an event and has the disk done at once; false when the node reported a fault, which is a fine end.
fn take(node: &mut Node, event: Event) -> bool {
    let mut events = vec![event];
    while let Some(event) = events.pop() {
        let Ok(effects) = node.step(Duration::ZERO, event) else { return false };
        events.extend(effects.into_iter().filter_map(|effect| match effect {
            Effect::Persist(batch) => Some(Event::Persisted { batch: batch.id }),
            _ => None,
        }));
        events.reverse();
    }
    true
}
