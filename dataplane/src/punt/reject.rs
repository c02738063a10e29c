//! What the sender of a packet that does not arrive is told: a reset for TCP (RFC 9293, section 3.10.7.1), ABORT for SCTP (RFC 9260,
//! section 8.4), else that the destination is unreachable (RFC 792, RFC 4443); or what a router has met with it.
//!
//! # Contract
//! - [`answer`]: in: a frame. Out: the frame that answers it, from its destination to its source; `None` if none may.
//! - [`router_error`]: the same from a router's port.
//!
//! # Invariants
//! - A reset, an ABORT, an ICMP error, what went to a group and what has a further VLAN tag get no answer.
//! - A quoted packet is cut so that the answer fits every link: frames of 576 octets for IPv4, 1,280 for IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    IpNumber, LaxNetSlice, LaxSlicedPacket, LinkSlice, PacketBuilder, PacketBuilderStep, TransportSlice,
    ip_number,
};

/// Why a packet does not arrive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// A rule rejects it.
    Rule,
    /// It is for a router, where no protocol but echo is served.
    Router,
}

/// What a router has met with a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// Its time to live is over.
    Expired,
    /// It is larger than this MTU, and may not be fragmented.
    TooLarge(u16),
}

/// The answer, if there is one.
pub fn answer(frame: &[u8], refusal: Refusal) -> Option<Vec<u8>> {
    let packet = LaxSlicedPacket::from_ethernet(frame).ok()?;
    let Some(LinkSlice::Ethernet2(link)) = &packet.link else { return None };
    if !packet.link_exts.is_empty() {
        return None;
    }
    let (from, to) = (link.destination(), link.source());
    if from[0] & 1 == 1 || to[0] & 1 == 1 {
        return None;
    }
    let ends = Ends::of(packet.net.as_ref()?)?;
    let quoted = quote(frame.get(ETHERNET_HEADER..)?, packet.net.as_ref()?)?;
    let link = || PacketBuilder::ethernet2(from, to);
    let mut out = Vec::new();
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            if tcp.rst() {
                return None;
            }
            let (source, destination) = (tcp.destination_port(), tcp.source_port());
            let reply =
                |sequence| ends.back(link(), TTL_RESET).map(|ip| ip.tcp(source, destination, sequence, 0));
            let reply = if tcp.ack() {
                reply(tcp.acknowledgment_number())?.rst()
            } else {
                let length = tcp.payload().len() as u32 + u32::from(tcp.syn()) + u32::from(tcp.fin()); // a frame's
                reply(0)?.rst().ack(tcp.sequence_number().wrapping_add(length))
            };
            reply.write_to_vec(&mut out, &[]).ok()?;
        }
        Some(TransportSlice::Icmpv4(icmp)) if is_error_v4(icmp.type_u8()) => return None,
        Some(TransportSlice::Icmpv6(icmp)) if icmp.type_u8() < FIRST_INFORMATIONAL_V6 => return None,
        _ if ends.protocol == ip_number::SCTP => {
            let abort = abort(ends.payload)?;
            let ip = ends.back(link(), TTL_RESET)?;
            ip.write_to_vec(&mut out, ip_number::SCTP, &abort).ok()?;
        }
        transport => {
            // A first fragment is not taken apart further.
            let udp = matches!(transport, Some(TransportSlice::Udp(_))) || ends.protocol == ip_number::UDP;
            let ip = ends.back(link(), TTL_ERROR)?;
            match ends.addresses {
                Addresses::V4(..) => {
                    let other = match refusal {
                        Refusal::Rule => HOST_UNREACHABLE_V4,
                        Refusal::Router => PROTOCOL_UNREACHABLE_V4,
                    };
                    let code = if udp { PORT_UNREACHABLE_V4 } else { other };
                    ip.icmpv4_raw(UNREACHABLE_V4, code, [0; 4]).write_to_vec(&mut out, quoted).ok()?;
                }
                Addresses::V6(..) => {
                    let other = match refusal {
                        Refusal::Rule => PROHIBITED_V6,
                        Refusal::Router => ADDRESS_UNREACHABLE_V6,
                    };
                    let code = if udp { PORT_UNREACHABLE_V6 } else { other };
                    ip.icmpv6_raw(UNREACHABLE_V6, code, [0; 4]).write_to_vec(&mut out, quoted).ok()?;
                }
            }
        }
    }
    Some(out)
}

/// What a router tells a packet's sender, from one of the port's addresses that `from` chooses by the sender's.
pub fn router_error(
    frame: &[u8],
    own: [u8; 6],
    trouble: Trouble,
    from: impl FnOnce(IpAddr) -> Option<IpAddr>,
) -> Option<Vec<u8>> {
    let packet = LaxSlicedPacket::from_ethernet(frame).ok()?;
    let Some(LinkSlice::Ethernet2(link)) = &packet.link else { return None };
    if !packet.link_exts.is_empty() || link.source()[0] & 1 == 1 {
        return None;
    }
    match &packet.transport {
        Some(TransportSlice::Icmpv4(icmp)) if is_error_v4(icmp.type_u8()) => return None,
        Some(TransportSlice::Icmpv6(icmp)) if icmp.type_u8() < FIRST_INFORMATIONAL_V6 => return None,
        _ => {}
    }
    let quoted = quote(frame.get(ETHERNET_HEADER..)?, packet.net.as_ref()?)?;
    let link = PacketBuilder::ethernet2(own, link.source());
    let mut out = Vec::new();
    match (Ends::of(packet.net.as_ref()?)?.addresses, trouble) {
        (Addresses::V4(source, _), _) => {
            let IpAddr::V4(from) = from(source.into())? else { return None };
            let (kind, code, rest) = match trouble {
                Trouble::Expired => (EXCEEDED_V4, 0, [0; 4]),
                Trouble::TooLarge(mtu) => {
                    let [high, low] = mtu.to_be_bytes();
                    (UNREACHABLE_V4, FRAGMENTATION_NEEDED_V4, [0, 0, high, low])
                }
            };
            let ip = link.ipv4(from.octets(), source.octets(), TTL_ROUTER);
            ip.icmpv4_raw(kind, code, rest).write_to_vec(&mut out, quoted).ok()?;
        }
        (Addresses::V6(source, _), _) => {
            let IpAddr::V6(from) = from(source.into())? else { return None };
            let (kind, rest) = match trouble {
                Trouble::Expired => (EXCEEDED_V6, [0; 4]),
                Trouble::TooLarge(mtu) => {
                    let [high, low] = mtu.to_be_bytes();
                    (TOO_BIG_V6, [0, 0, high, low])
                }
            };
            let ip = link.ipv6(from.octets(), source.octets(), TTL_ROUTER);
            ip.icmpv6_raw(kind, 0, rest).write_to_vec(&mut out, quoted).ok()?;
        }
    }
    Some(out)
}

#[derive(Clone, Copy)]
enum Addresses {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

/// Who sent what to whom.
struct Ends<'a> {
    addresses: Addresses,
    protocol: IpNumber,
    payload: &'a [u8],
}

impl<'a> Ends<'a> {
    fn of(net: &LaxNetSlice<'a>) -> Option<Self> {
        match net {
            LaxNetSlice::Ipv4(ip) => {
                let (from, to) = (ip.header().source_addr(), ip.header().destination_addr());
                let group = to.is_multicast() || to.is_broadcast() || from.is_unspecified();
                let payload = ip.payload();
                (!group).then_some(Self {
                    addresses: Addresses::V4(from, to),
                    protocol: payload.ip_number,
                    payload: payload.payload,
                })
            }
            LaxNetSlice::Ipv6(ip) => {
                let (from, to) = (ip.header().source_addr(), ip.header().destination_addr());
                let group = to.is_multicast() || from.is_unspecified();
                let payload = ip.payload();
                (!group).then_some(Self {
                    addresses: Addresses::V6(from, to),
                    protocol: payload.ip_number,
                    payload: payload.payload,
                })
            }
            LaxNetSlice::Arp(_) => None,
        }
    }

    /// The way back.
    fn back(
        &self,
        link: PacketBuilderStep<etherparse::Ethernet2Header>,
        ttl: u8,
    ) -> Option<PacketBuilderStep<etherparse::IpHeaders>> {
        Some(match self.addresses {
            Addresses::V4(from, to) => link.ipv4(to.octets(), from.octets(), ttl),
            Addresses::V6(from, to) => link.ipv6(to.octets(), from.octets(), ttl),
        })
    }
}

/// The packet as far as it is quoted.
fn quote<'a>(packet: &'a [u8], net: &LaxNetSlice<'_>) -> Option<&'a [u8]> {
    let (length, most) = match net {
        LaxNetSlice::Ipv4(ip) => (usize::from(ip.header().total_len()), QUOTED_V4),
        LaxNetSlice::Ipv6(ip) => (IPV6_HEADER + usize::from(ip.header().payload_length()), QUOTED_V6),
        LaxNetSlice::Arp(_) => return None,
    };
    packet.get(..length.min(packet.len()).min(most))
}

fn is_error_v4(kind: u8) -> bool {
    // Unreachable, source quench, redirect, time exceeded, parameter problem (RFC 1122, section 3.2.2).
    matches!(kind, 3 | 4 | 5 | 11 | 12)
}

/// An ABORT in answer to an SCTP packet.
fn abort(packet: &[u8]) -> Option<Vec<u8>> {
    let header: &[u8; 16] = packet.first_chunk()?;
    let chunk = header[12];
    if chunk == SCTP_ABORT {
        return None;
    }
    let tag: [u8; 4] = header[4..8].try_into().ok()?;
    // An INIT carries no tag of ours, but the one its sender wants.
    let (tag, reflected) = match (chunk, tag) {
        (SCTP_INIT, [0, 0, 0, 0]) => (packet.get(16..20)?.try_into().ok()?, 0),
        _ => (tag, 1),
    };
    let mut abort = Vec::with_capacity(16);
    abort.extend_from_slice(&header[2..4]);
    abort.extend_from_slice(&header[0..2]);
    abort.extend_from_slice(&tag);
    abort.extend_from_slice(&[0; 4]);
    abort.extend_from_slice(&[SCTP_ABORT, reflected, 0, 4]);
    let checksum = crc32c::crc32c(&abort).to_le_bytes();
    abort[8..12].copy_from_slice(&checksum);
    Some(abort)
}

const ETHERNET_HEADER: usize = 14;
const IPV6_HEADER: usize = 40;
const TTL_RESET: u8 = 63;
const TTL_ERROR: u8 = 255;
const UNREACHABLE_V4: u8 = 3;
const HOST_UNREACHABLE_V4: u8 = 1;
const PROTOCOL_UNREACHABLE_V4: u8 = 2;
const PORT_UNREACHABLE_V4: u8 = 3;
const FRAGMENTATION_NEEDED_V4: u8 = 4;
const EXCEEDED_V4: u8 = 11;
const TOO_BIG_V6: u8 = 2;
const EXCEEDED_V6: u8 = 3;
const ADDRESS_UNREACHABLE_V6: u8 = 3;
/// As OVN's routers.
const TTL_ROUTER: u8 = 254;
const UNREACHABLE_V6: u8 = 1;
const PROHIBITED_V6: u8 = 1;
const PORT_UNREACHABLE_V6: u8 = 4;
const FIRST_INFORMATIONAL_V6: u8 = 128;
/// 576 octets less the headers of Ethernet, which OVN counts too, IPv4 and ICMP.
const QUOTED_V4: usize = 576 - 14 - 20 - 8;
/// 1,280 octets less the headers of Ethernet, IPv6 and ICMPv6.
const QUOTED_V6: usize = 1_280 - 14 - 40 - 8;
const SCTP_INIT: u8 = 1;
const SCTP_ABORT: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(frame: &[u8]) -> Option<Vec<u8>> {
        super::answer(frame, Refusal::Rule)
    }

    const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const B: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn frame(build: impl FnOnce(PacketBuilderStep<etherparse::IpHeaders>, &mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        build(PacketBuilder::ethernet2(A, B).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64), &mut out);
        out
    }

    #[test]
    fn a_connection_attempt_is_reset() {
        let syn = frame(|ip, out| ip.tcp(1_000, 80, 7, 512).syn().write_to_vec(out, &[]).unwrap());
        let reply = answer(&syn).unwrap();
        let reply = LaxSlicedPacket::from_ethernet(&reply).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = &reply.transport else { panic!("{reply:?}") };
        assert_eq!((tcp.source_port(), tcp.destination_port()), (80, 1_000));
        assert_eq!((tcp.sequence_number(), tcp.acknowledgment_number()), (0, 8));
        assert!(tcp.rst() && tcp.ack() && !tcp.syn());
        let Some(LaxNetSlice::Ipv4(ip)) = &reply.net else { panic!("{reply:?}") };
        assert_eq!(ip.header().source(), [10, 0, 0, 2]);
        let checksum = tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination()).unwrap();
        assert_eq!(checksum, tcp.checksum());
    }

    #[test]
    fn data_is_reset_where_the_receiver_stands() {
        let data = frame(|ip, out| ip.tcp(1_000, 80, 7, 512).ack(99).write_to_vec(out, b"xyz").unwrap());
        let reply = answer(&data).unwrap();
        let reply = LaxSlicedPacket::from_ethernet(&reply).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = &reply.transport else { panic!("{reply:?}") };
        assert_eq!((tcp.sequence_number(), tcp.ack()), (99, false));
    }

    #[test]
    fn resets_errors_and_groups_get_no_answer() {
        let rst = frame(|ip, out| ip.tcp(1, 2, 3, 4).rst().write_to_vec(out, &[]).unwrap());
        assert_eq!(answer(&rst), None);
        let error = frame(|ip, out| ip.icmpv4_raw(3, 1, [0; 4]).write_to_vec(out, &[0; 28]).unwrap());
        assert_eq!(answer(&error), None);
        let mut group = frame(|ip, out| ip.udp(1, 2).write_to_vec(out, b"x").unwrap());
        group[0] |= 1;
        assert_eq!(answer(&group), None);
        assert_eq!(answer(&[0; 13]), None);
    }

    #[test]
    fn a_datagram_is_unreachable_and_quoted_in_bounds() {
        let udp = frame(|ip, out| ip.udp(1, 2).write_to_vec(out, &[7; 1_400]).unwrap());
        let reply = answer(&udp).unwrap();
        assert_eq!(reply.len(), 576, "with the header of Ethernet, as in OVN");
        assert_eq!((reply[34], reply[35]), (3, 3));
        assert_eq!(reply[42..62], udp[14..34]);
    }

    #[test]
    fn an_association_is_aborted() {
        let mut init = vec![0, 9, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, SCTP_INIT, 0, 0, 20];
        init.extend_from_slice(&[1, 2, 3, 4, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0]);
        let init = frame(|ip, out| ip.write_to_vec(out, ip_number::SCTP, &init).unwrap());
        let reply = answer(&init).unwrap();
        assert_eq!(reply[34..42], [0, 10, 0, 9, 1, 2, 3, 4]);
        assert_eq!(reply[46..50], [SCTP_ABORT, 0, 0, 4]);
        assert_eq!(answer(&reply), None);
    }

    #[test]
    fn a_router_tells_who_it_is() {
        let udp = frame(|ip, out| ip.udp(1, 2).write_to_vec(out, &[7; 1_400]).unwrap());
        let from = |_: IpAddr| Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 254)));
        let reply = router_error(&udp, B, Trouble::Expired, from).unwrap();
        assert_eq!((&reply[..6], &reply[6..12]), (&A[..], &B[..]));
        assert_eq!((reply[22], &reply[26..34]), (254, &[10, 0, 0, 254, 10, 0, 0, 1][..]));
        assert_eq!((reply[34], reply[35]), (11, 0));
        let reply = router_error(&udp, B, Trouble::TooLarge(1_400), from).unwrap();
        assert_eq!((reply[34], reply[35], &reply[38..42]), (3, 4, &[0, 0, 5, 0x78][..]));
        assert_eq!(router_error(&reply, B, Trouble::Expired, from), None, "no error about an error");
        let protocol = frame(|ip, out| ip.write_to_vec(out, IpNumber(99), b"x").unwrap());
        let reply = super::answer(&protocol, Refusal::Router).unwrap();
        assert_eq!((reply[34], reply[35]), (3, 2));
        // The first fragment of a datagram.
        let mut first = udp;
        first[20] |= 0x20;
        let reply = super::answer(&first, Refusal::Router).unwrap();
        assert_eq!((reply[34], reply[35]), (3, 3));
    }
}
