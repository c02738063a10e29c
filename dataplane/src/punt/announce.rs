//! Announcements: the physical network is told where a guest's MAC or a gateway's address is, so that its switches and hosts
//! learn the way anew.
//!
//! # Contract
//! - In: the ports that are to be announced, each time they may have changed. Out: frames that are due.
//!
//! # Invariants
//! - As ovn-controller does: 1, 2, 4, 8 and 16 seconds after a port appeared, then no more; with a longest gap set
//!   (`garp-max-timeout-sec`) it goes on, with gaps that grow up to it.
//! - A gateway's addresses are announced at once besides: until then what is for them goes to where they were.
//! - An IPv4 address (of a guest the first of its first MAC) is announced by ARP (RFC 5227, section 1.2); an IPv6 address of a
//!   gateway by a neighbour advertisement (RFC 4861, section 7.2.6); a MAC without one by reverse ARP (RFC 903), which says
//!   where it is and nothing else.
//! - A port that stays the same is not announced anew.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use etherparse::PacketBuilder;
use ofpacket::{Action, PacketOut, Port};
use quantumnet_model::address::Mac;

use crate::compile::{logical, register};

/// What is announced.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Announcement {
    /// Key of the datapath.
    pub datapath: u32,
    /// Key of the port.
    pub port: u32,
    /// The MAC.
    pub mac: Mac,
    /// The address, if it has one.
    pub ip: Option<IpAddr>,
    /// The OpenFlow port that the guest is behind; it does not get its own announcement.
    pub ofport: Option<u16>,
    /// It is a gateway's.
    pub gateway: bool,
}

/// When what is announced.
#[derive(Debug, Default)]
pub struct Announcer {
    longest: Option<Duration>,
    entries: BTreeMap<Announcement, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// `None` once enough was said.
    at: Option<Instant>,
    /// From this one to the next.
    gap: Duration,
    /// It is the one at once, before all others.
    extra: bool,
}

impl Entry {
    fn new(now: Instant, at_once: bool) -> Self {
        let at = if at_once { now } else { now + FIRST };
        Self { at: Some(at), gap: FIRST, extra: at_once }
    }
}

impl Announcer {
    /// These are to be announced now. `longest` is the longest gap, if announcements go on for ever.
    pub fn set(
        &mut self,
        now: Instant,
        wanted: impl IntoIterator<Item = Announcement>,
        longest: Option<Duration>,
    ) {
        let anew = self.longest != longest;
        self.longest = longest;
        let entry = |announcement: Announcement| {
            let known = self.entries.get(&announcement).copied().filter(|_| !anew);
            (announcement, known.unwrap_or_else(|| Entry::new(now, announcement.gateway)))
        };
        self.entries = wanted.into_iter().map(entry).collect();
    }

    /// When the next one is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.entries.values().filter_map(|entry| entry.at).min()
    }

    /// Those that are due.
    pub fn due(&mut self, now: Instant) -> Vec<PacketOut> {
        let mut due = Vec::new();
        for (announcement, entry) in &mut self.entries {
            if entry.at.is_none_or(|at| now < at) {
                continue;
            }
            due.push(announcement.packet(announcement.frame()));
            if std::mem::take(&mut entry.extra) {
                entry.at = Some(now + FIRST);
                continue;
            }
            let goes_on = entry.gap < LAST || self.longest.is_some();
            entry.at = goes_on.then(|| now + entry.gap);
            entry.gap = (entry.gap * 2).min(self.longest.unwrap_or(LAST));
        }
        due
    }
}

impl Announcement {
    /// A frame from the MAC to itself: the bridge of the physical network on this hypervisor learns that the MAC is on this side,
    /// and sends it nowhere.
    pub fn to_itself(&self) -> PacketOut {
        let mac = self.mac.0;
        let body = [0; MIN_PAYLOAD];
        self.packet([&mac[..], &mac, &ETH_TYPE_EXPERIMENTAL.to_be_bytes(), &body].concat())
    }

    fn packet(&self, frame: Vec<u8>) -> PacketOut {
        let mut actions = vec![
            Action::load(register::SWITCH, self.datapath.into()),
            Action::load(register::IN_PORT, self.port.into()),
        ];
        actions.extend(logical::send(register::GROUP_FLOOD));
        let packet = PacketOut::new(actions, frame);
        match self.ofport {
            Some(ofport) => PacketOut { in_port: Port(ofport.into()), ..packet },
            None => packet,
        }
    }

    fn frame(&self) -> Vec<u8> {
        let mac = self.mac.0;
        let (eth_type, operation, target_mac, ip) = match self.ip {
            Some(IpAddr::V6(ip)) => return advert(self.mac, ip),
            Some(IpAddr::V4(ip)) => (ETH_TYPE_ARP, ARP_REQUEST, [0; 6], ip.octets()),
            None => (ETH_TYPE_RARP, RARP_REQUEST, mac, [0; 4]),
        };
        [
            &[0xff; 6][..],
            &mac,
            &eth_type.to_be_bytes(),
            // Ethernet and IPv4, with addresses of 6 and 4 octets.
            &[0, 1, 8, 0, 6, 4],
            &operation.to_be_bytes(),
            &mac,
            &ip,
            &target_mac,
            &ip,
        ]
        .concat()
    }
}

/// A router's advertisement to all nodes that others' entries are to be overwritten.
fn advert(mac: Mac, ip: Ipv6Addr) -> Vec<u8> {
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
    const ROUTER_OVERRIDE: [u8; 4] = [0xa0, 0, 0, 0];
    const TARGET_MAC: [u8; 2] = [2, 1];
    let payload = [&ip.octets()[..], &TARGET_MAC, &mac.0].concat();
    let message = PacketBuilder::ethernet2(mac.0, ALL_NODES_MAC)
        .ipv6(ip.octets(), ALL_NODES.octets(), 255)
        .icmpv6_raw(NEIGHBOUR_ADVERTISEMENT, 0, ROUTER_OVERRIDE);
    let mut frame = Vec::with_capacity(message.size(payload.len()));
    message.write(&mut frame, &payload).expect("it fits a packet, and vectors take all");
    frame
}

const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(16);
const ETH_TYPE_ARP: u16 = 0x0806;
const ETH_TYPE_RARP: u16 = 0x8035;
/// For experiments on a local network (IEEE 802, section 9.2.4): nobody reads it.
const ETH_TYPE_EXPERIMENTAL: u16 = 0x88b5;
/// Octets without the header and the check sum.
const MIN_PAYLOAD: usize = 46;
const ARP_REQUEST: u16 = 1;
const RARP_REQUEST: u16 = 3;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn guest(port: u32, ip: Option<Ipv4Addr>) -> Announcement {
        let (mac, ip) = (Mac([0x0a, 0, 0, 0, 0, 1]), ip.map(IpAddr::V4));
        Announcement { datapath: 7, port, mac, ip, ofport: Some(4), gateway: false }
    }

    fn gateway(ip: &str) -> Announcement {
        let ip = Some(ip.parse().unwrap());
        Announcement { ip, ofport: None, gateway: true, ..guest(1, None) }
    }

    /// Seconds after the start at which something is sent, up to a minute.
    fn times(announcer: &mut Announcer, start: Instant) -> Vec<u64> {
        let mut times = Vec::new();
        while let Some(at) = announcer.poll_timeout().filter(|at| *at <= start + Duration::from_secs(60)) {
            times.extend(announcer.due(at).iter().map(|_| (at - start).as_secs()));
        }
        times
    }

    #[test]
    fn five_times_with_growing_gaps() {
        let (mut announcer, start) = (Announcer::default(), Instant::now());
        announcer.set(start, [guest(1, None)], None);
        assert_eq!(times(&mut announcer, start), [1, 2, 4, 8, 16]);
        announcer.set(start, [guest(1, None), guest(2, None)], None);
        assert_eq!(times(&mut announcer, start), [1, 2, 4, 8, 16], "only the new one");
        announcer.set(start, [], None);
        assert_eq!(announcer.poll_timeout(), None);
    }

    #[test]
    fn on_and_on_with_a_longest_gap() {
        let (mut announcer, start) = (Announcer::default(), Instant::now());
        announcer.set(start, [guest(1, None)], Some(Duration::from_secs(20)));
        assert_eq!(times(&mut announcer, start), [1, 2, 4, 8, 16, 32, 52]);
    }

    #[test]
    fn gateways_at_once_and_then_as_others() {
        let (mut announcer, start) = (Announcer::default(), Instant::now());
        announcer.set(start, [gateway("10.0.0.1")], None);
        assert_eq!(times(&mut announcer, start), [0, 1, 2, 4, 8, 16]);
        announcer.set(start, [], None);
        announcer.set(start, [gateway("10.0.0.1")], None);
        assert_eq!(times(&mut announcer, start), [0, 1, 2, 4, 8, 16], "it came back");
    }

    #[test]
    fn advertisements_for_addresses_of_gateways() {
        let frame = gateway("fd00::1").frame();
        let packet = etherparse::SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(etherparse::TransportSlice::Icmpv6(icmp)) = packet.transport else { panic!("{packet:?}") };
        let Some(etherparse::NetSlice::Ipv6(ip)) = packet.net else { panic!("no IPv6") };
        assert_eq!(frame[..12], [0x33, 0x33, 0, 0, 0, 1, 0x0a, 0, 0, 0, 0, 1]);
        assert_eq!((ip.header().hop_limit(), ip.header().source_addr()), (255, "fd00::1".parse().unwrap()));
        assert!(icmp.is_checksum_valid(ip.header().source(), ip.header().destination()));
        assert_eq!(icmp.slice()[..2], [136, 0]);
        assert_eq!(icmp.slice()[4..8], [0xa0, 0, 0, 0]);
        assert_eq!(icmp.slice()[24..], [2, 1, 0x0a, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn a_frame_to_itself_goes_where_announcements_go() {
        let (gateway, mac) = (gateway("10.0.0.1"), [0x0a, 0, 0, 0, 0, 1]);
        let packet = gateway.to_itself();
        assert_eq!((&packet.data[..6], &packet.data[6..12], packet.data.len()), (&mac[..], &mac[..], 60));
        assert_eq!(packet.actions, gateway.packet(Vec::new()).actions);
    }

    #[test]
    fn arp_with_an_address_and_reverse_arp_without() {
        let arp = guest(1, Some(Ipv4Addr::new(10, 0, 0, 1))).frame();
        assert_eq!(arp[12..22], [0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(arp[28..32], arp[38..42]);
        let reverse = guest(1, None).frame();
        assert_eq!(reverse[12..22], [0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]);
        assert_eq!((&reverse[22..28], &reverse[32..38]), (&reverse[6..12], &reverse[6..12]));
    }
}
