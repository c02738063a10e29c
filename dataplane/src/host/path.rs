//! What the way to another tunnel endpoint carries: echo requests (RFC 792, RFC 4443) that no router may fragment.
//!
//! # Contract
//! - In: pairs of endpoints and the MTU that tunnels count on. Out: what each way carries, as far as the other end answers.
//!
//! # Invariants
//! - The headers are made here, so that the kernel neither fragments nor remembers what a router said of an earlier packet.
//! - An end that answers nothing is not called a problem: it may be told not to answer.
//! - At most [`AT_ONCE`] ways are tried at a time, each with a handful of packets.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind, Read},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use etherparse::{Icmpv4Slice, Icmpv6Slice, Ipv4HeaderSlice, PacketBuilder};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::task::JoinSet;

/// What is known of a way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Path {
    /// The other end does not answer.
    Silent,
    /// Packets of up to so many octets arrive.
    Carries(u32),
}

/// Tries all ways. A way that can't be tried, for want of a socket, is left out and logged.
pub async fn try_all(mtu: u32, pairs: Vec<(IpAddr, IpAddr)>) -> BTreeMap<IpAddr, Path> {
    let (mut found, mut tasks) = (BTreeMap::new(), JoinSet::new());
    let mut pairs = pairs.into_iter();
    loop {
        while tasks.len() < AT_ONCE
            && let Some((local, peer)) = pairs.next()
        {
            tasks.spawn_blocking(move || (peer, try_one(local, peer, mtu)));
        }
        match tasks.join_next().await {
            Some(Ok((peer, Ok(path)))) => _ = found.insert(peer, path),
            Some(Ok((peer, Err(error)))) => {
                tracing::warn!(%peer, %error, "the MTU on the way can't be tried")
            }
            Some(Err(error)) => tracing::error!(%error, "a trial of a way's MTU ended early"),
            None => return found,
        }
    }
}

fn try_one(local: IpAddr, peer: IpAddr, mtu: u32) -> io::Result<Path> {
    let mut prober = Prober::new(local, peer)?;
    if prober.arrives(mtu)? {
        return Ok(Path::Carries(mtu));
    }
    let smallest = if peer.is_ipv4() { SMALLEST_V4 } else { SMALLEST_V6 };
    if mtu <= smallest || !prober.arrives(smallest)? {
        return Ok(Path::Silent);
    }
    let (mut carries, mut fails) = (smallest, mtu);
    while fails - carries > 1 {
        let middle = carries.midpoint(fails);
        if prober.arrives(middle)? { carries = middle } else { fails = middle }
    }
    Ok(Path::Carries(carries))
}

struct Prober {
    local: IpAddr,
    peer: IpAddr,
    socket: Socket,
    id: u16,
    sequence: u16,
}

impl Prober {
    fn new(local: IpAddr, peer: IpAddr) -> io::Result<Self> {
        let (domain, protocol) = match peer {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        match peer {
            IpAddr::V4(_) => socket.set_header_included_v4(true)?,
            IpAddr::V6(_) => socket.set_header_included_v6(true)?,
        }
        socket.bind(&SocketAddr::new(local, 0).into())?;
        // Only what this socket's peer sends comes here.
        socket.connect(&SocketAddr::new(peer, 0).into())?;
        let id = u16::try_from(std::process::id() & 0xffff).unwrap_or_default();
        Ok(Self { local, peer, socket, id, sequence: 0 })
    }

    /// Whether an echo request of so many octets is answered.
    fn arrives(&mut self, octets: u32) -> io::Result<bool> {
        for _ in 0..TRIES {
            self.sequence = self.sequence.wrapping_add(1);
            let Some(packet) = request(self.local, self.peer, octets, (self.id, self.sequence)) else {
                return Ok(false);
            };
            match self.socket.send(&packet) {
                Ok(_) => {}
                // Larger than what the interface sends.
                Err(error) if error.raw_os_error() == Some(EMSGSIZE) => return Ok(false),
                Err(error) if is_unreachable(&error) => continue,
                Err(error) => return Err(error),
            }
            match self.answered() {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) if is_unreachable(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Waits for the answer.
    fn answered(&self) -> io::Result<bool> {
        let (mut bytes, until) = ([0; ANSWER_BYTES], Instant::now() + PATIENCE);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.socket.set_read_timeout(Some(left))?;
            let count = match (&self.socket).read(&mut bytes) {
                Ok(count) => count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(false);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if is_answer(self.peer.is_ipv4(), &bytes[..count], (self.id, self.sequence)) {
                return Ok(true);
            }
        }
    }
}

/// An echo request with its IP header; none of a size that is too small for one.
fn request(local: IpAddr, peer: IpAddr, octets: u32, (id, sequence): (u16, u16)) -> Option<Vec<u8>> {
    let mut packet = Vec::new();
    let octets = usize::try_from(octets).ok()?;
    match (local, peer) {
        (IpAddr::V4(local), IpAddr::V4(peer)) => {
            let builder =
                PacketBuilder::ipv4(local.octets(), peer.octets(), HOPS).icmpv4_echo_request(id, sequence);
            let payload = vec![0; octets.checked_sub(builder.size(0))?];
            builder.write(&mut packet, &payload).ok()?;
            // Must not be fragmented; the kernel writes the checksum.
            *packet.get_mut(6)? |= DONT_FRAGMENT;
        }
        (IpAddr::V6(local), IpAddr::V6(peer)) => {
            let builder =
                PacketBuilder::ipv6(local.octets(), peer.octets(), HOPS).icmpv6_echo_request(id, sequence);
            let payload = vec![0; octets.checked_sub(builder.size(0))?];
            builder.write(&mut packet, &payload).ok()?;
        }
        _ => return None,
    }
    Some(packet)
}

/// Whether a packet answers that request. Those of IPv4 come with their header.
fn is_answer(v4: bool, bytes: &[u8], (id, sequence): (u16, u16)) -> bool {
    use etherparse::{Icmpv4Type, Icmpv6Type};
    let header = if v4 {
        let Ok(ip) = Ipv4HeaderSlice::from_slice(bytes) else { return false };
        let icmp = bytes.get(ip.slice().len()..).and_then(|icmp| Icmpv4Slice::from_slice(icmp).ok());
        match icmp.map(|icmp| icmp.icmp_type()) {
            Some(Icmpv4Type::EchoReply(header)) => header,
            _ => return false,
        }
    } else {
        match Icmpv6Slice::from_slice(bytes).map(|icmp| icmp.icmp_type()) {
            Ok(Icmpv6Type::EchoReply(header)) => header,
            _ => return false,
        }
    };
    (header.id, header.seq) == (id, sequence)
}

fn is_unreachable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NetworkUnreachable
            | ErrorKind::HostUnreachable
            | ErrorKind::ConnectionRefused
            | ErrorKind::PermissionDenied
    )
}

/// Ways that are tried at a time.
pub const AT_ONCE: usize = 8;
const TRIES: usize = 2;
const PATIENCE: Duration = Duration::from_millis(700);
/// What every link carries (RFC 791: 68, but in earnest 576; RFC 8200).
const SMALLEST_V4: u32 = 576;
const SMALLEST_V6: u32 = 1_280;
const HOPS: u8 = 64;
const DONT_FRAGMENT: u8 = 0x40;
/// The header is enough.
const ANSWER_BYTES: usize = 128;
const EMSGSIZE: i32 = 90;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_large_as_asked_and_not_fragmented() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let packet = request(ip("10.0.0.1"), ip("10.0.0.2"), 1500, (7, 8)).unwrap();
        assert_eq!((packet.len(), packet[6], packet[20]), (1500, 0x40, 8));
        let packet = request(ip("fd00::1"), ip("fd00::2"), 1500, (7, 8)).unwrap();
        assert_eq!((packet.len(), packet[40]), (1500, 128));
        assert_eq!(request(ip("10.0.0.1"), ip("10.0.0.2"), 20, (7, 8)), None);
    }

    #[test]
    fn answers_are_known_by_their_numbers() {
        let answer = |id, sequence| {
            let mut packet = Vec::new();
            let builder =
                PacketBuilder::ipv4([10, 0, 0, 2], [10, 0, 0, 1], 64).icmpv4_echo_reply(id, sequence);
            builder.write(&mut packet, &[]).unwrap();
            packet
        };
        assert!(is_answer(true, &answer(7, 8), (7, 8)));
        assert!(!is_answer(true, &answer(7, 9), (7, 8)));
        assert!(!is_answer(true, &answer(7, 8)[..22], (7, 8)));
        let question = request([10, 0, 0, 2].into(), [10, 0, 0, 1].into(), 100, (7, 8)).unwrap();
        assert!(!is_answer(true, &question, (7, 8)), "a question");
    }

    #[test]
    fn the_loopback_carries_what_it_says() {
        let here: IpAddr = [127, 0, 0, 1].into();
        assert_eq!(try_one(here, here, 1_500).unwrap(), Path::Carries(1_500));
    }
}
