//! How many MACs and neighbours an agent may teach, so that no guest can load the log.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::agents::{Hub, Learned, Neighbour};

/// Learned MACs of one port.
pub const LEARNED_PER_PORT_MAX: usize = 256;
/// Learned MACs of one network.
pub const LEARNED_PER_NETWORK_MAX: usize = 16_384;
/// Reports of learned MACs per port and second, with a burst of as many.
pub const LEARNED_PER_SECOND_MAX: u32 = 64;

/// Neighbours of one router port.
pub const NEIGHBOURS_PER_PORT_MAX: usize = 4_096;
/// A MAC that is learned again within this time keeps its timestamp.
pub(crate) const LEARNED_REFRESH_MS: i64 = 30_000;

/// Reports that one agent has left, by datapath and port key.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    ports: BTreeMap<(i64, i64), Bucket>,
}

#[derive(Debug)]
struct Bucket {
    left: u32,
    since: Instant,
}

impl Limiter {
    /// Keeps those that are within the limits; the rest is dropped and will be learned again when it speaks again.
    pub(crate) fn admit(&mut self, hub: &Hub, learned: Vec<Learned>, now: Instant) -> Vec<Learned> {
        // Buckets that are full again need not be remembered.
        self.ports.retain(|_, bucket| now.saturating_duration_since(bucket.since) < SECOND);
        let mut new: BTreeMap<(i64, i64), usize> = BTreeMap::new();
        let mut new_in: BTreeMap<i64, usize> = BTreeMap::new();
        let mut admit = |one: &Learned| {
            let port = (one.datapath_key, one.port_key);
            let fresh = Bucket { left: LEARNED_PER_SECOND_MAX, since: now };
            let bucket = self.ports.entry(port).or_insert(fresh);
            let (on_port, in_network) = hub.learned(port.0, port.1);
            let added = new.entry(port).or_default();
            let added_in = new_in.entry(port.0).or_default();
            let room =
                on_port + *added < LEARNED_PER_PORT_MAX && in_network + *added_in < LEARNED_PER_NETWORK_MAX;
            // A full port's addresses are alive all the same, and may move.
            let known = !room && hub.knows(port.0, &one.mac.to_string());
            if bucket.left == 0 || !room && !known {
                return false;
            }
            bucket.left -= 1;
            *added += usize::from(!known);
            *added_in += usize::from(!known);
            true
        };
        learned.into_iter().filter(|one| admit(one)).collect()
    }

    /// The same for neighbours of router ports.
    pub(crate) fn admit_neighbours(
        &mut self,
        hub: &Hub,
        learned: Vec<Neighbour>,
        now: Instant,
    ) -> Vec<Neighbour> {
        let mut new: BTreeMap<(i64, i64), usize> = BTreeMap::new();
        let mut admit = |one: &Neighbour| {
            let port = (one.datapath_key, one.port_key);
            let fresh = Bucket { left: LEARNED_PER_SECOND_MAX, since: now };
            let bucket = self.ports.entry(port).or_insert(fresh);
            let (known, count) = hub.neighbours(port.0, port.1, one.ip);
            let added = new.entry(port).or_default();
            if bucket.left == 0 || !known && count + *added >= NEIGHBOURS_PER_PORT_MAX {
                return false;
            }
            bucket.left -= 1;
            *added += usize::from(!known);
            true
        };
        learned.into_iter().filter(|one| admit(one)).collect()
    }
}

const SECOND: Duration = Duration::from_secs(1);
