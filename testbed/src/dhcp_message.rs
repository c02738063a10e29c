//! DHCPv4 messages made by hand (RFC 2131): for what clients on the shelf never send, and for what they must not get.
//!
//! # Contract
//! - [`Vm::dhcp_raw`] sends one [`DhcpRequest`] as a broadcast (or unicast, with a server) and returns the answers.
//!
//! # Invariants
//! - A malformed answer is skipped, never a panic: the bytes come from the code under test.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use crate::{Result, Vm};

/// DHCP message types (option 53).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the RFC's")]
pub enum DhcpKind {
    Discover = 1,
    Offer = 2,
    Request = 3,
    Decline = 4,
    Ack = 5,
    Nak = 6,
    Release = 7,
    Inform = 8,
}

impl DhcpKind {
    fn from_code(code: u8) -> Option<Self> {
        use DhcpKind::{Ack, Decline, Discover, Inform, Nak, Offer, Release, Request};
        let all = [Discover, Offer, Request, Decline, Ack, Nak, Release, Inform];
        all.into_iter().find(|kind| *kind as u8 == code)
    }
}

/// A message from a client.
#[derive(Clone, Debug)]
pub struct DhcpRequest {
    /// Option 53.
    pub kind: DhcpKind,
    /// Transaction id.
    pub xid: u32,
    /// `ciaddr`: the address the client has, for renew, inform and release.
    pub client_address: Option<Ipv4Addr>,
    /// Option 50.
    pub requested_address: Option<Ipv4Addr>,
    /// Option 54.
    pub server: Option<Ipv4Addr>,
    /// Where the packet goes: broadcast when not given (the Ethernet destination is then broadcast too).
    pub to: Option<(Ipv4Addr, [u8; 6])>,
    /// The broadcast flag.
    pub broadcast: bool,
    /// Option 55.
    pub parameters: Vec<u8>,
    /// Any further options, code and payload.
    pub options: Vec<(u8, Vec<u8>)>,
    /// Client hardware address; the VM's own when not given.
    pub hardware_address: Option<[u8; 6]>,
}

impl DhcpRequest {
    /// A broadcast message of a kind, without any option but the kind and the usual parameter list.
    pub fn new(kind: DhcpKind, xid: u32) -> Self {
        Self {
            kind,
            xid,
            client_address: None,
            requested_address: None,
            server: None,
            to: None,
            broadcast: false,
            parameters: vec![1, 3, 6, 15, 26, 51, 54, 121],
            options: Vec::new(),
            hardware_address: None,
        }
    }

    /// The whole Ethernet frame, sent from `mac`.
    pub fn frame(&self, mac: [u8; 6]) -> Vec<u8> {
        let zero = Ipv4Addr::UNSPECIFIED;
        let mut bootp = vec![1, 1, 6, 0];
        bootp.extend(self.xid.to_be_bytes());
        bootp.extend([0, 0, if self.broadcast { 0x80 } else { 0 }, 0]);
        bootp.extend(self.client_address.unwrap_or(zero).octets());
        bootp.extend([0; 12]);
        bootp.extend(self.hardware_address.unwrap_or(mac));
        bootp.extend([0; 10 + 64 + 128]);
        bootp.extend(COOKIE);
        let mut option = |code: u8, payload: &[u8]| {
            let length = u8::try_from(payload.len()).unwrap_or(u8::MAX);
            bootp.extend([code, length]);
            bootp.extend(&payload[..usize::from(length)]);
        };
        option(53, &[self.kind as u8]);
        if let Some(address) = self.requested_address {
            option(50, &address.octets());
        }
        if let Some(server) = self.server {
            option(54, &server.octets());
        }
        if !self.parameters.is_empty() {
            option(55, &self.parameters);
        }
        for (code, payload) in &self.options {
            option(*code, payload);
        }
        bootp.push(255);
        bootp.resize(bootp.len().max(300), 0);
        let (to, to_mac) = self.to.unwrap_or((Ipv4Addr::BROADCAST, [0xff; 6]));
        udp_frame(mac, to_mac, self.client_address.unwrap_or(zero), to, &bootp)
    }
}

/// A message from a server.
#[derive(Clone, Debug, PartialEq)]
pub struct DhcpReply {
    /// Option 53.
    pub kind: DhcpKind,
    /// Transaction id.
    pub xid: u32,
    /// `yiaddr`: the address given.
    pub your_address: Ipv4Addr,
    /// Source address of the IP packet.
    pub from: Ipv4Addr,
    /// Source MAC of the frame.
    pub from_mac: [u8; 6],
    /// Destination address of the IP packet.
    pub to: Ipv4Addr,
    /// Options by code; pieces of one code are joined (RFC 3396).
    pub options: BTreeMap<u8, Vec<u8>>,
}

impl DhcpReply {
    /// The addresses in an option such as 3 (routers) or 6 (DNS servers).
    pub fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        let bytes = self.options.get(&code).map(Vec::as_slice).unwrap_or_default();
        bytes.chunks_exact(4).map(|b| Ipv4Addr::new(b[0], b[1], b[2], b[3])).collect()
    }

    /// Reads a frame; `None` when it is not a DHCP answer, or a broken one.
    pub fn from_frame(frame: &[u8]) -> Option<Self> {
        let from_mac = frame.get(6..12)?.try_into().ok()?;
        let packet = frame.get(14..)?;
        let header = usize::from(packet.first()? & 0x0f) * 4;
        let bootp = packet.get(header + 8..)?;
        if *bootp.first()? != 2 || bootp.get(236..240)? != COOKIE {
            return None;
        }
        let mut options: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
        let mut rest = bootp.get(240..)?;
        while let [code, tail @ ..] = rest {
            match code {
                0 => rest = tail,
                255 => break,
                code => {
                    let (length, tail) = tail.split_first()?;
                    let (payload, tail) = tail.split_at_checked(usize::from(*length))?;
                    options.entry(*code).or_default().extend(payload);
                    rest = tail;
                }
            }
        }
        Some(Self {
            kind: DhcpKind::from_code(*options.get(&53)?.first()?)?,
            xid: u32::from_be_bytes(bootp.get(4..8)?.try_into().ok()?),
            your_address: address(bootp.get(16..20)?)?,
            from: address(packet.get(12..16)?)?,
            from_mac,
            to: address(packet.get(16..20)?)?,
            options,
        })
    }
}

impl Vm {
    /// Sends a hand-made message and returns at the first answer to its transaction, or empty after `listen`.
    pub fn dhcp_raw(&self, request: &DhcpRequest, listen: Duration) -> Result<Option<DhcpReply>> {
        let frame = request.frame(self.mac_bytes()?);
        let answers = self.exchange_dhcp(&[frame], listen, 1, Some(request.xid))?;
        Ok(answers.first().and_then(|frame| DhcpReply::from_frame(frame)))
    }
}

fn udp_frame(mac: [u8; 6], to_mac: [u8; 6], from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let length = |extra: usize| u16::try_from(payload.len() + extra).unwrap_or(u16::MAX).to_be_bytes();
    let mut ip = vec![0x45, 0];
    ip.extend(length(28));
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    ip.extend(from.octets());
    ip.extend(to.octets());
    let sum = checksum(&ip).to_be_bytes();
    ip[10..12].copy_from_slice(&sum);
    let mut frame = [to_mac, mac].concat();
    frame.extend([0x08, 0x00]);
    frame.extend(ip);
    frame.extend(CLIENT_PORT.to_be_bytes());
    frame.extend(SERVER_PORT.to_be_bytes());
    frame.extend(length(8));
    // A UDP checksum of zero means "none" over IPv4.
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

fn checksum(header: &[u8]) -> u16 {
    let sum: u32 = header.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(u16::MAX)
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}

const COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Vec<u8> {
        let mut frame = DhcpRequest::new(DhcpKind::Offer, 7).frame([2, 0, 0, 0, 0, 1]);
        frame[42] = 2;
        frame
    }

    #[test]
    fn an_answer_is_read_back() {
        let reply = DhcpReply::from_frame(&answer()).unwrap();
        assert_eq!((reply.kind, reply.xid, reply.from_mac), (DhcpKind::Offer, 7, [2, 0, 0, 0, 0, 1]));
        assert_eq!(reply.options[&55], [1, 3, 6, 15, 26, 51, 54, 121]);
    }

    #[test]
    fn cut_answers_are_no_panic() {
        let frame = answer();
        for length in 0..frame.len() {
            drop(DhcpReply::from_frame(&frame[..length]));
        }
        assert_eq!(DhcpReply::from_frame(&frame[..290]), None);
    }

    #[test]
    fn requests_are_not_answers() {
        assert_eq!(DhcpReply::from_frame(&DhcpRequest::new(DhcpKind::Discover, 1).frame([0; 6])), None);
    }
}
