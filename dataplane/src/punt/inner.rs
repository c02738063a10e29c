//! ICMP errors that pass a translation without memory (ovn-nb(5), `NAT.options:stateless_icmp_helper`): the packet that they quote is
//! translated too, or its sender would not know it for its own (RFC 5508, section 4).
//!
//! # Contract
//! - In: an error as it came to the translation, and the rule. Out: the same with the rule's address in the quoted packet
//!   replaced: the source, where the error comes in for the outer address, else the destination.
//!
//! # Invariants
//! - Only addresses and the checksums over them change. The quoted packet's own transport checksum stays: nobody checks it.
//! - What is no such error, or quotes another packet, is left as it is.

use std::net::IpAddr;

use quantumnet_model::nb::Nat;

/// The error for the other side; `None` if it stays as it is.
pub(super) fn translated(rule: &Nat, frame: &[u8]) -> Option<Vec<u8>> {
    let (outer, inner): (IpAddr, IpAddr) = (rule.external_ip.parse().ok()?, rule.logical_ip.parse().ok()?);
    let layout = Layout::of(frame)?;
    let (at, from, to) = if address(frame, ETHERNET + layout.destination, outer)? == outer {
        (layout.quoted + layout.source, outer, inner)
    } else {
        (layout.quoted + layout.destination, inner, outer)
    };
    if address(frame, at, from)? != from {
        return None;
    }
    let mut frame = frame.to_vec();
    put(&mut frame, at, to);
    if layout.is_v4 {
        let header = layout.quoted..layout.quoted + 4 * usize::from(frame[layout.quoted] & 0x0f);
        checksum(&mut frame, header, 10, 0)?;
    }
    let pseudo = if layout.is_v4 { 0 } else { pseudo_v6(&frame, layout.end - layout.icmp) };
    checksum(&mut frame, layout.icmp..layout.end, 2, pseudo)?;
    Some(frame)
}

/// Where things are in a frame.
struct Layout {
    is_v4: bool,
    /// Of addresses in an IP header.
    source: usize,
    destination: usize,
    icmp: usize,
    quoted: usize,
    end: usize,
}

impl Layout {
    fn of(frame: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
        let (is_v4, icmp, end) = match word(12)? {
            0x0800 => {
                let header = 4 * usize::from(frame.get(ETHERNET)? & 0x0f);
                (true, ETHERNET + header, ETHERNET + usize::from(word(ETHERNET + 2)?))
            }
            0x86dd => {
                let icmp = ETHERNET + IPV6_HEADER;
                (false, icmp, icmp + usize::from(word(ETHERNET + 4)?))
            }
            _ => return None,
        };
        let (source, destination) = if is_v4 { (12, 16) } else { (8, 24) };
        let quoted = icmp + ICMP_HEADER;
        let least = if is_v4 { IPV4_HEADER } else { IPV6_HEADER };
        let is_whole = quoted + least <= end && end <= frame.len();
        is_whole.then_some(Self { is_v4, source, destination, icmp, quoted, end })
    }
}

/// The address at a place, of the family of `like`.
fn address(frame: &[u8], at: usize, like: IpAddr) -> Option<IpAddr> {
    match like {
        IpAddr::V4(_) => frame.get(at..)?.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
        IpAddr::V6(_) => frame.get(at..)?.first_chunk::<16>().map(|octets| IpAddr::from(*octets)),
    }
}

fn put(frame: &mut [u8], at: usize, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => frame[at..at + 4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => frame[at..at + 16].copy_from_slice(&ip.octets()),
    }
}

/// Writes the Internet checksum (RFC 1071) of a range into it.
fn checksum(frame: &mut [u8], range: std::ops::Range<usize>, at: usize, more: u32) -> Option<()> {
    let part = frame.get_mut(range)?;
    part.get_mut(at..at + 2)?.fill(0);
    let sum = !fold(more + sum(part));
    part.get_mut(at..at + 2)?.copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// Of addresses, length and protocol (RFC 8200, section 8.1).
fn pseudo_v6(frame: &[u8], length: usize) -> u32 {
    let addresses = frame.get(ETHERNET + 8..ETHERNET + IPV6_HEADER).unwrap_or_default();
    sum(addresses) + length as u32 + ICMPV6 // a frame's length
}

fn sum(octets: &[u8]) -> u32 {
    let words = octets.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    words.map(u32::from).sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16 // folded above
}

const ETHERNET: usize = 14;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const ICMP_HEADER: usize = 8;
const ICMPV6: u32 = 58;

#[cfg(test)]
mod tests {
    use etherparse::{Icmpv4Type, PacketBuilder, PacketHeaders, TransportHeader};

    use super::*;

    fn rule(external: &str, logical: &str) -> Nat {
        Nat { external_ip: external.into(), logical_ip: logical.into(), ..Nat::default() }
    }

    /// An error from one to another about a UDP packet, all by their addresses.
    fn error(from: [u8; 4], to: [u8; 4], quoted: ([u8; 4], [u8; 4])) -> Vec<u8> {
        let mut about = Vec::new();
        PacketBuilder::ipv4(quoted.0, quoted.1, 9).udp(1000, 53).write(&mut about, b"question").unwrap();
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(from, to, 64)
            .icmpv4(Icmpv4Type::DestinationUnreachable(etherparse::icmpv4::DestUnreachableHeader::Port))
            .write(&mut frame, &about)
            .unwrap();
        frame
    }

    fn quoted(frame: &[u8]) -> (IpAddr, IpAddr) {
        let outer = PacketHeaders::from_ethernet_slice(frame).unwrap();
        let Some(TransportHeader::Icmpv4(icmp)) = &outer.transport else { panic!("{outer:?}") };
        assert_eq!(icmp.checksum, icmp.icmp_type.calc_checksum(outer.payload.slice()));
        let inner = etherparse::Ipv4HeaderSlice::from_slice(outer.payload.slice()).unwrap();
        assert_eq!(inner.header_checksum(), inner.to_header().calc_header_checksum());
        (inner.source_addr().into(), inner.destination_addr().into())
    }

    #[test]
    fn what_comes_in_is_about_what_the_inner_address_sent() {
        let (inside, outside, peer) = ([10, 0, 0, 1], [172, 16, 0, 50], [198, 51, 100, 7]);
        let rule = rule("172.16.0.50", "10.0.0.1");
        let frame = translated(&rule, &error(peer, outside, (outside, peer))).unwrap();
        assert_eq!(quoted(&frame), (inside.into(), peer.into()));
        let frame = translated(&rule, &error(inside, peer, (peer, inside))).unwrap();
        assert_eq!(quoted(&frame), (peer.into(), outside.into()));
        assert_eq!(translated(&rule, &error(peer, outside, (peer, inside))), None, "about another's packet");
        assert_eq!(translated(&rule, &error(peer, outside, (outside, peer))[..50]), None, "cut off");
    }

    #[test]
    fn ipv6_has_its_checksum_over_addresses() {
        let [inside, outside, peer] = ["fd00::1", "fd16::50", "2001:db8::7"]
            .map(|ip| ip.parse::<std::net::Ipv6Addr>().unwrap().octets());
        let mut about = Vec::new();
        PacketBuilder::ipv6(outside, peer, 9).udp(1000, 53).write(&mut about, b"question").unwrap();
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv6(peer, outside, 64)
            .icmpv6_raw(1, 4, [0; 4])
            .write(&mut frame, &about)
            .unwrap();
        let frame = translated(&rule("fd16::50", "fd00::1"), &frame).unwrap();
        let outer = PacketHeaders::from_ethernet_slice(&frame).unwrap();
        let Some(TransportHeader::Icmpv6(icmp)) = &outer.transport else { panic!("{outer:?}") };
        let expected = icmp.icmp_type.calc_checksum(peer, outside, outer.payload.slice()).unwrap();
        assert_eq!(icmp.checksum, expected);
        let inner = etherparse::Ipv6HeaderSlice::from_slice(outer.payload.slice()).unwrap();
        assert_eq!((inner.source(), inner.destination()), (inside, peer));
    }
}
