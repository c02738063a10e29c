//! MACs learned behind ports, held back to what the store can take.
//!
//! # Contract
//! - In: one punted frame's source at a time. Out: batches for `AgentReport.macs_learned`.
//!
//! # Invariants
//! - At most one batch per [`Limits::batch_interval`], of at most [`Limits::batch_max`] addresses.
//! - A port's and a network's new addresses are bounded by a token bucket each: one guest that makes addresses up
//!   loads neither the store nor its neighbours' share.
//! - An address seen again at its place within [`Limits::repeat_after`] is not reported again.
//! - Memory is bounded by [`Limits::known_max`].

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use quantumnet_model::address::Mac;

/// Where a MAC was seen.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// Key of the datapath.
    pub datapath: u32,
    /// Key of the port.
    pub port: u32,
}

/// How much is let through.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// New addresses a port may have at once.
    pub port_burst: u32,
    /// New addresses a port may have per second after that.
    pub port_rate: u32,
    /// New addresses a network may have at once.
    pub network_burst: u32,
    /// New addresses a network may have per second after that.
    pub network_rate: u32,
    /// Time between batches.
    pub batch_interval: Duration,
    /// Addresses in a batch.
    pub batch_max: usize,
    /// Time until an address is reported again.
    pub repeat_after: Duration,
    /// Addresses remembered.
    pub known_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            port_burst: 64,
            port_rate: 4,
            network_burst: 512,
            network_rate: 32,
            batch_interval: Duration::from_millis(100),
            batch_max: 256,
            repeat_after: Duration::from_secs(5),
            known_max: 16_384,
        }
    }
}

/// What became of a sighting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It is in the next batch.
    Queued,
    /// It was reported a moment ago.
    Repeated,
    /// The port or the network has had its share.
    Limited,
    /// A group address is nobody's.
    Invalid,
}

/// The learner.
#[derive(Debug)]
pub struct Learner {
    limits: Limits,
    known: HashMap<(u32, Mac), (Place, Instant)>,
    buckets: HashMap<Bucketed, Bucket>,
    queue: BTreeMap<(u32, Mac), Place>,
    next_batch: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Bucketed {
    Port(Place),
    Network(u32),
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant, burst: u32, rate: u32) -> bool {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * f64::from(rate);
        self.tokens = (self.tokens + gained).min(f64::from(burst));
        self.at = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

impl Learner {
    /// Nothing learned yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            known: HashMap::new(),
            buckets: HashMap::new(),
            queue: BTreeMap::new(),
            next_batch: None,
        }
    }

    /// Takes a sighting.
    pub fn seen(&mut self, now: Instant, mac: Mac, place: Place) -> Outcome {
        if mac.is_multicast() || mac == Mac::default() {
            return Outcome::Invalid;
        }
        let key = (place.datapath, mac);
        let repeated = |(at, when): &(Place, Instant)| {
            *at == place && now.saturating_duration_since(*when) < self.limits.repeat_after
        };
        if self.known.get(&key).is_some_and(repeated) {
            return Outcome::Repeated;
        }
        let limits = self.limits;
        let mut take = |key, burst: u32, rate| {
            let full = Bucket { tokens: f64::from(burst), at: now };
            self.buckets.entry(key).or_insert(full).take(now, burst, rate)
        };
        if !take(Bucketed::Port(place), limits.port_burst, limits.port_rate)
            || !take(Bucketed::Network(place.datapath), limits.network_burst, limits.network_rate)
        {
            return Outcome::Limited;
        }
        if self.known.len() >= limits.known_max {
            self.known.retain(|_, (_, when)| now.saturating_duration_since(*when) < limits.repeat_after);
            if self.known.len() >= limits.known_max {
                self.known.clear();
            }
        }
        self.known.insert(key, (place, now));
        self.queue.insert(key, place);
        self.next_batch.get_or_insert(now);
        Outcome::Queued
    }

    /// When the next batch may go, if there is one.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_batch.filter(|_| !self.queue.is_empty())
    }

    /// The batch that is due.
    pub fn batch(&mut self, now: Instant) -> Vec<(Mac, Place)> {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return Vec::new();
        }
        let mut batch = Vec::new();
        while let Some(((_, mac), place)) = self.queue.pop_first() {
            batch.push((mac, place));
            if batch.len() == self.limits.batch_max {
                break;
            }
        }
        self.next_batch = Some(now + self.limits.batch_interval);
        self.forget_full_buckets(now);
        batch
    }

    /// A bucket that is full again is as good as none.
    fn forget_full_buckets(&mut self, now: Instant) {
        let limits = self.limits;
        self.buckets.retain(|key, bucket| {
            let (burst, rate) = match key {
                Bucketed::Port(_) => (limits.port_burst, limits.port_rate),
                Bucketed::Network(_) => (limits.network_burst, limits.network_rate),
            };
            let gained = now.saturating_duration_since(bucket.at).as_secs_f64() * f64::from(rate);
            bucket.tokens + gained < f64::from(burst)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(number: u32) -> Mac {
        let [a, b, c, d] = number.to_be_bytes();
        Mac([2, 0, a, b, c, d])
    }

    #[test]
    fn a_flood_is_held_back_and_the_neighbour_is_not() {
        let mut learner = Learner::new(Limits::default());
        let start = Instant::now();
        let (mut batches, mut reported) = (0, 0);
        for number in 0..100_000_u32 {
            let now = start + Duration::from_micros(u64::from(number) * 10);
            learner.seen(now, mac(number), Place { datapath: 1, port: 1 });
            let batch = learner.batch(now);
            batches += usize::from(!batch.is_empty());
            reported += batch.len();
        }
        assert!(batches <= 11, "{batches}");
        assert!(reported <= 70, "{reported}");
        let other = Place { datapath: 1, port: 2 };
        assert_eq!(learner.seen(start + Duration::from_secs(1), mac(7_000_000), other), Outcome::Queued);
    }

    #[test]
    fn a_move_is_reported_and_a_repetition_is_not() {
        let mut learner = Learner::new(Limits::default());
        let now = Instant::now();
        let (here, there) = (Place { datapath: 1, port: 1 }, Place { datapath: 1, port: 2 });
        assert_eq!(learner.seen(now, mac(1), here), Outcome::Queued);
        assert_eq!(learner.seen(now, mac(1), here), Outcome::Repeated);
        assert_eq!(learner.seen(now, mac(1), there), Outcome::Queued);
        assert_eq!(learner.batch(now), [(mac(1), there)]);
        assert_eq!(learner.seen(now, Mac::BROADCAST, here), Outcome::Invalid);
        assert_eq!(learner.batch(now + Duration::from_secs(1)), []);
    }
}
