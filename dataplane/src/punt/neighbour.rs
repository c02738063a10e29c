//! Neighbours of router ports: who they are by ARP and neighbour discovery, and packets that wait for one to answer.
//!
//! # Contract
//! - [`sighting`]: who sent an ARP or ND packet. [`ask`]: the frame that asks for a MAC.
//! - [`Neighbours`]: in: packets without next hop's MAC, sightings, rows that came. Out: whom to ask, packets that may go on, what
//!   is to be told to the store.
//!
//! # Invariants
//! - A neighbour is asked for at most once a second, and at most ten times for one packet.
//! - A packet waits at most ten seconds. So many wait for one neighbour, by one port and in all as [`Limits`] says; more are dropped.
//! - What was learned counts here at once, and until the store tells the same or [`Limits::keep`] is over.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use ofpacket::PacketIn2;
use quantumnet_model::address::Mac;
use uuid::Uuid;

/// A neighbour: the `Port_Binding` of a router port, and an address.
pub type Key = (Uuid, IpAddr);

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Packets that wait for one neighbour.
    pub of_neighbour: usize,
    /// Packets that wait behind one port.
    pub of_port: usize,
    /// Packets that wait.
    pub in_all: usize,
    /// How long a packet waits.
    pub wait: Duration,
    /// Time between two questions.
    pub ask_again: Duration,
    /// How long what was learned counts without the store.
    pub keep: Duration,
    /// What was learned by one port and counts without the store.
    pub kept_of_port: usize,
    /// Time until the same is told again.
    pub repeat_after: Duration,
    /// What is told at once.
    pub batch_max: usize,
    /// Time between batches.
    pub batch_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            of_neighbour: 16,
            of_port: 256,
            in_all: 4_096,
            wait: Duration::from_secs(10),
            ask_again: Duration::from_secs(1),
            keep: Duration::from_secs(30),
            kept_of_port: 1_024,
            repeat_after: Duration::from_secs(1),
            batch_max: 256,
            batch_interval: Duration::from_millis(20),
        }
    }
}

#[derive(Debug)]
struct Waiting {
    packets: VecDeque<(Instant, PacketIn2)>,
    asked: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Learned {
    mac: Mac,
    at: Instant,
}

/// Neighbours that are asked for, and that were learned.
#[derive(Debug)]
pub struct Neighbours {
    limits: Limits,
    waiting: BTreeMap<Key, Waiting>,
    /// Learned here; the store has not told of it.
    kept: BTreeMap<Key, Learned>,
    told: BTreeMap<Key, Learned>,
    queue: BTreeMap<Key, Mac>,
    batch_at: Option<Instant>,
}

impl Neighbours {
    /// None.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            waiting: BTreeMap::new(),
            kept: BTreeMap::new(),
            told: BTreeMap::new(),
            queue: BTreeMap::new(),
            batch_at: None,
        }
    }

    /// A packet has no MAC to go to. Tells whether to ask now; `false` in the second place when the packet is dropped.
    pub fn unresolved(&mut self, now: Instant, key: Key, packet: PacketIn2) -> (bool, bool) {
        let all: usize = self.waiting.values().map(|waiting| waiting.packets.len()).sum();
        let port = (key.0, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let of_port = self.waiting.range(port..).take_while(|((port, _), _)| *port == key.0);
        let of_port: usize = of_port.map(|(_, waiting)| waiting.packets.len()).sum();
        let full = all >= self.limits.in_all || of_port >= self.limits.of_port;
        let (new, waiting) = match self.waiting.entry(key) {
            std::collections::btree_map::Entry::Vacant(_) if full => return (false, false),
            std::collections::btree_map::Entry::Vacant(entry) => {
                (true, entry.insert(Waiting { packets: VecDeque::new(), asked: now }))
            }
            std::collections::btree_map::Entry::Occupied(entry) => (false, entry.into_mut()),
        };
        let kept = !full && waiting.packets.len() < self.limits.of_neighbour;
        if kept {
            waiting.packets.push_back((now, packet));
        }
        (new, kept)
    }

    /// Somebody says who he is. Gives the packets that waited for it, to go on to `mac`.
    pub fn learned(&mut self, now: Instant, key: Key, mac: Mac) -> Vec<PacketIn2> {
        let recent = |told: &Learned| {
            told.mac == mac && now.saturating_duration_since(told.at) < self.limits.repeat_after
        };
        if !self.told.get(&key).is_some_and(recent) {
            self.told.insert(key, Learned { mac, at: now });
            self.queue.insert(key, mac);
            self.batch_at.get_or_insert(now);
        }
        let known = self.kept.contains_key(&key);
        let port = (key.0, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let of_port = self.kept.range(port..).take_while(|((port, _), _)| *port == key.0).count();
        if known || of_port < self.limits.kept_of_port {
            self.kept.insert(key, Learned { mac, at: now });
        }
        self.resolved(key)
    }

    /// It is known who somebody is, by whatever way. Gives the packets that waited for it.
    pub fn resolved(&mut self, key: Key) -> Vec<PacketIn2> {
        let waiting = self.waiting.remove(&key);
        waiting.into_iter().flat_map(|waiting| waiting.packets).map(|(_, packet)| packet).collect()
    }

    /// The store tells of a neighbour: what was learned here has served. Tells whether it had been kept.
    pub fn stored(&mut self, key: Key) -> bool {
        self.kept.remove(&key).is_some()
    }

    /// A port is gone.
    pub fn forget(&mut self, gone: impl Fn(Uuid) -> bool) -> bool {
        let before = self.kept.len();
        self.waiting.retain(|(port, _), _| !gone(*port));
        self.kept.retain(|(port, _), _| !gone(*port));
        self.told.retain(|(port, _), _| !gone(*port));
        self.queue.retain(|(port, _), _| !gone(*port));
        self.kept.len() != before
    }

    /// What was learned here and counts.
    pub fn kept(&self) -> impl Iterator<Item = (Key, Mac)> {
        self.kept.iter().map(|(key, learned)| (*key, learned.mac))
    }

    /// Neighbours that packets wait for.
    pub fn waiting(&self) -> impl Iterator<Item = Key> {
        self.waiting.keys().copied()
    }

    /// When something is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let asks = self.waiting.values().map(|waiting| waiting.asked + self.limits.ask_again);
        let kept = self.kept.values().map(|learned| learned.at + self.limits.keep);
        asks.chain(kept).chain(self.batch_at.filter(|_| !self.queue.is_empty())).min()
    }

    /// What is due: whom to ask again, and whether something that was learned does not count any more.
    pub fn due(&mut self, now: Instant) -> (Vec<Key>, bool) {
        let limits = self.limits;
        let mut asks = Vec::new();
        self.waiting.retain(|key, waiting| {
            let old =
                |(since, _): &(Instant, PacketIn2)| now.saturating_duration_since(*since) >= limits.wait;
            while waiting.packets.front().is_some_and(old) {
                waiting.packets.pop_front();
            }
            if waiting.packets.is_empty() {
                return false;
            }
            if now.saturating_duration_since(waiting.asked) >= limits.ask_again {
                waiting.asked = now;
                asks.push(*key);
            }
            true
        });
        let before = self.kept.len();
        self.kept.retain(|_, learned| now.saturating_duration_since(learned.at) < limits.keep);
        self.told.retain(|_, told| now.saturating_duration_since(told.at) < limits.repeat_after);
        (asks, self.kept.len() != before)
    }

    /// The batch for the store that is due.
    pub fn batch(&mut self, now: Instant) -> Vec<(Key, Mac)> {
        if self.queue.is_empty() || self.batch_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        let mut batch = Vec::new();
        while batch.len() < self.limits.batch_max
            && let Some(told) = self.queue.pop_first()
        {
            batch.push(told);
        }
        self.batch_at = Some(now + self.limits.batch_interval);
        batch
    }
}

/// Who sent an ARP packet, a neighbour solicitation or an advertisement (RFC 826; RFC 4861, section 7).
pub fn sighting(frame: &[u8]) -> Option<(IpAddr, Mac)> {
    let mac = |bytes: &[u8]| {
        let mac = Mac(*bytes.first_chunk()?);
        (!mac.is_multicast() && mac != Mac::default()).then_some(mac)
    };
    match frame.get(12..14)? {
        [0x08, 0x06] => {
            let arp = frame.get(14..42)?;
            if arp[..6] != [0, 1, 8, 0, 6, 4] {
                return None;
            }
            let ip = Ipv4Addr::from(*arp.get(14..18)?.first_chunk::<4>()?);
            let usable = !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast();
            usable.then_some(ip.into()).zip(mac(&arp[8..14]))
        }
        [0x86, 0xdd] => {
            let icmp = frame.get(54..)?;
            if frame[20] != 58 || frame[21] != 255 {
                return None;
            }
            let (ip, option) = match icmp.first()? {
                135 => (frame.get(22..38)?, 1),
                136 => (icmp.get(8..24)?, 2),
                _ => return None,
            };
            let ip = Ipv6Addr::from(*ip.first_chunk::<16>()?);
            let named = link_layer_address(icmp.get(24..)?, option).and_then(mac);
            let mac = if option == 2 { named.or_else(|| mac(&frame[6..12])) } else { named };
            (!ip.is_unspecified() && !ip.is_multicast()).then_some(ip.into()).zip(mac)
        }
        _ => None,
    }
}

/// The option of that type, of those of a neighbour discovery message.
fn link_layer_address(mut options: &[u8], kind: u8) -> Option<&[u8]> {
    loop {
        let [found, length, ..] = options else { return None };
        let length = usize::from(*length) * 8;
        if length == 0 {
            return None;
        }
        if *found == kind {
            return options.get(2..8);
        }
        options = options.get(length..)?;
    }
}

/// Asks `to`, or all, who has `target`; from a router port's MAC and its address in that network.
pub fn ask(own: Mac, from: IpAddr, target: IpAddr, to: Option<Mac>) -> Option<Vec<u8>> {
    match (from, target) {
        (IpAddr::V4(from), IpAddr::V4(target)) => {
            let mut frame = Vec::with_capacity(42);
            frame.extend_from_slice(&to.unwrap_or(Mac::BROADCAST).0);
            frame.extend_from_slice(&own.0);
            frame.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
            frame.extend_from_slice(&own.0);
            frame.extend_from_slice(&from.octets());
            frame.extend_from_slice(&[0; 6]);
            frame.extend_from_slice(&target.octets());
            Some(frame)
        }
        (IpAddr::V6(from), IpAddr::V6(target)) => {
            let [.., a, b, c] = target.octets();
            let group =
                Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
            let (mac, ip) = match to {
                Some(mac) => (mac, target),
                None => (Mac([0x33, 0x33, 0xff, a, b, c]), group),
            };
            let mut body = vec![0; 4];
            body.extend_from_slice(&target.octets());
            body.extend_from_slice(&[1, 1]);
            body.extend_from_slice(&own.0);
            Some(discovery((own, from), (mac, ip), 135, &body))
        }
        _ => None,
    }
}

/// The router port `own` answers a solicitation for its address `target` (RFC 4861, section 7.2.4).
pub fn advertise(own: Mac, target: Ipv6Addr, solicitation: &[u8]) -> Option<Vec<u8>> {
    let asker = Ipv6Addr::from(*solicitation.get(22..38)?.first_chunk::<16>()?);
    let (to, flags) = if asker.is_unspecified() {
        ((Mac([0x33, 0x33, 0, 0, 0, 1]), ALL_NODES), ROUTER | OVERRIDE)
    } else {
        ((Mac(*solicitation.get(6..12)?.first_chunk()?), asker), ROUTER | SOLICITED | OVERRIDE)
    };
    let mut body = vec![flags, 0, 0, 0];
    body.extend_from_slice(&target.octets());
    body.extend_from_slice(&[2, 1]);
    body.extend_from_slice(&own.0);
    Some(discovery((own, target), to, 136, &body))
}

/// A frame with a neighbour discovery message.
fn discovery(from: (Mac, Ipv6Addr), to: (Mac, Ipv6Addr), kind: u8, body: &[u8]) -> Vec<u8> {
    let mut icmp = vec![kind, 0, 0, 0];
    icmp.extend_from_slice(body);
    let length = icmp.len() as u8; // 32 octets
    let pseudo =
        [&from.1.octets()[..], &to.1.octets(), &[0, 0, 0, length, 0, 0, 0, 58], icmp.as_slice()].concat();
    let sum = pseudo.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    icmp[2..4].copy_from_slice(&(!(folded as u16)).to_be_bytes()); // folded to 16 bits
    let mut frame = Vec::with_capacity(54 + icmp.len());
    frame.extend_from_slice(&to.0.0);
    frame.extend_from_slice(&from.0.0);
    frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, length, 58, 255]);
    frame.extend_from_slice(&from.1.octets());
    frame.extend_from_slice(&to.1.octets());
    frame.extend_from_slice(&icmp);
    frame
}

const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn who_asks_is_seen() {
        let arp = ask(MAC, ip("10.0.0.1"), ip("10.0.0.2"), None).unwrap();
        assert_eq!((arp.len(), &arp[..6]), (42, &[0xff; 6][..]));
        assert_eq!(sighting(&arp), Some((ip("10.0.0.1"), MAC)));
        let solicit = ask(MAC, ip("fd00::1"), ip("fd00::2:3"), None).unwrap();
        assert_eq!(solicit[..6], [0x33, 0x33, 0xff, 2, 0, 3]);
        assert_eq!(sighting(&solicit), Some((ip("fd00::1"), MAC)));
        let advert = advertise(OTHER, "fd00::2:3".parse().unwrap(), &solicit).unwrap();
        assert_eq!(sighting(&advert), Some((ip("fd00::2:3"), OTHER)));
        assert_eq!((&advert[..6], advert[58]), (&MAC.0[..], 0xe0));
        assert_eq!(ask(MAC, ip("fd00::1"), ip("10.0.0.1"), None), None);
    }

    #[test]
    fn what_is_cut_or_odd_is_nobody() {
        let arp = ask(MAC, ip("10.0.0.1"), ip("10.0.0.2"), None).unwrap();
        let solicit = ask(MAC, ip("fd00::1"), ip("fd00::2"), None).unwrap();
        for frame in [&arp, &solicit] {
            for length in 0..frame.len() {
                assert_eq!(sighting(&frame[..length]), None, "{length} octets");
            }
        }
        let mut group = arp.clone();
        group[22] = 1;
        assert_eq!(sighting(&group), None, "a group's MAC is nobody's");
    }

    #[test]
    fn packets_wait_within_bounds_and_go_on_once() {
        let mut neighbours = Neighbours::new(Limits { of_neighbour: 2, of_port: 3, ..Limits::default() });
        let now = Instant::now();
        let key = |low| (Uuid::from_u128(1), IpAddr::V4(Ipv4Addr::new(10, 0, 0, low)));
        let packet = PacketIn2::default;
        assert_eq!(neighbours.unresolved(now, key(1), packet()), (true, true));
        assert_eq!(neighbours.unresolved(now, key(1), packet()), (false, true));
        assert_eq!(neighbours.unresolved(now, key(1), packet()), (false, false));
        assert_eq!(neighbours.unresolved(now, key(2), packet()), (true, true));
        assert_eq!(neighbours.unresolved(now, key(3), packet()), (false, false), "the port has its share");
        let other = (Uuid::from_u128(2), ip("10.0.0.1"));
        assert_eq!(neighbours.unresolved(now, other, packet()), (true, true));
        let later = now + Duration::from_secs(1);
        assert_eq!(neighbours.poll_timeout(), Some(later));
        assert_eq!(neighbours.due(later), (vec![key(1), key(2), other], false));
        assert_eq!(neighbours.learned(later, key(1), MAC).len(), 2);
        assert!(neighbours.learned(later, key(1), MAC).is_empty());
        assert_eq!(neighbours.batch(later), [(key(1), MAC)]);
        assert_eq!(neighbours.kept().collect::<Vec<_>>(), [(key(1), MAC)]);
        assert!(neighbours.stored(key(1)) && !neighbours.stored(key(1)));
        let late = now + Duration::from_secs(10);
        assert_eq!(neighbours.due(late), (vec![], false));
        assert_eq!(neighbours.waiting().count(), 0);
    }
}
