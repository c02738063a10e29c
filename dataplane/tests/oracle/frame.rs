//! Packets of the oracle, and the frames that they are.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use etherparse::PacketBuilder;

/// Hops that packets may take.
pub const HOPS: u8 = 64;

/// A packet between two ports, as one of them sends it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Packet {
    /// The port that sends it.
    pub port: u32,
    pub source_mac: [u8; 6],
    pub to_mac: [u8; 6],
    pub source: IpAddr,
    pub to: IpAddr,
    pub body: Body,
}

/// What is in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Body {
    Tcp { from: u16, to: u16, flags: Flags, sequence: u32, acknowledged: u32 },
    Udp { from: u16, to: u16 },
    Echo { id: u16, reply: bool },
}

/// Flags of TCP that the exchanges use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flags {
    Syn,
    SynAck,
    Ack,
}

impl Packet {
    pub fn frame(&self) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2(self.source_mac, self.to_mac);
        let mut frame = Vec::new();
        let ip = match (self.source, self.to) {
            (IpAddr::V4(source), IpAddr::V4(to)) => ethernet.ipv4(source.octets(), to.octets(), HOPS),
            (IpAddr::V6(source), IpAddr::V6(to)) => ethernet.ipv6(source.octets(), to.octets(), HOPS),
            _ => unreachable!("both addresses of a packet are of one family"),
        };
        let written = match self.body {
            Body::Tcp { from, to, flags, sequence, acknowledged } => {
                let tcp = ip.tcp(from, to, sequence, 1000);
                let tcp = match flags {
                    Flags::Syn => tcp.syn(),
                    Flags::SynAck => tcp.syn().ack(acknowledged),
                    Flags::Ack => tcp.ack(acknowledged),
                };
                tcp.write(&mut frame, &[])
            }
            Body::Udp { from, to } => ip.udp(from, to).write(&mut frame, b"oracle"),
            Body::Echo { id, reply } => match (self.source.is_ipv4(), reply) {
                (true, false) => ip.icmpv4_echo_request(id, 1).write(&mut frame, b"oracle"),
                (true, true) => ip.icmpv4_echo_reply(id, 1).write(&mut frame, b"oracle"),
                (false, false) => ip.icmpv6_echo_request(id, 1).write(&mut frame, b"oracle"),
                (false, true) => ip.icmpv6_echo_reply(id, 1).write(&mut frame, b"oracle"),
            },
        };
        written.expect("it fits into memory");
        frame
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{} {} > {} : {:?}", self.port, self.source, self.to, self.body)
    }
}

/// Addresses and hops left of a frame's IP header, wherever it came out.
pub fn header(frame: &[u8]) -> Option<(IpAddr, IpAddr, u8)> {
    let octets = |at: usize, length: usize| frame.get(at..at + length);
    match octets(12, 2)? {
        [8, 0] => {
            let ip = |at| Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(octets(at, 4)?).ok()?)));
            Some((ip(26)?, ip(30)?, *frame.get(22)?))
        }
        [0x86, 0xdd] => {
            let ip = |at| Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(octets(at, 16)?).ok()?)));
            Some((ip(22)?, ip(38)?, *frame.get(21)?))
        }
        _ => None,
    }
}
