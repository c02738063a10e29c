//! DHCPv4 server for the ports of this hypervisor (RFC 2131; `DHCP_Options` of ovn-nb(5)).
//!
//! # Contract
//! - Reads the port's row and the `DHCP_Options` it names; keeps nothing: the lease is the row.
//! - In: a frame from the port, punted. Out: the answer as a frame for the same port, or none.
//!
//! # Invariants
//! - The answer is a function of rows and frame. No frame makes it panic.
//! - An address is offered only if it is the port's own and within the options' `cidr`.
//! - With any option that can't be encoded nothing is answered, as in OVN: half a configuration misleads a guest.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use ipnet::IpNet;
use quantumnet_model::{
    address::{AddressError, LspAddress, Mac, v4},
    dhcp::{BOOTFILE, LEASE_TIME, NETMASK, NEXT_SERVER, OptionDecl, OptionError, SERVER_ID, T1, T2},
    nb::{DhcpOptions, LogicalSwitchPort},
};
use thiserror::Error;

/// What a port is given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Offer {
    /// The address.
    pub address: Ipv4Addr,
    server_ip: Ipv4Addr,
    server_mac: Mac,
    next_server: Option<Ipv4Addr>,
    bootfile: Option<Vec<u8>>,
    bootfile_alternative: Option<Vec<u8>>,
    /// The other options, in the order they are sent.
    options: Vec<(u8, Vec<u8>)>,
}

/// Why a port is given nothing.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
#[non_exhaustive]
pub enum OfferError {
    /// `cidr` is none of IPv4.
    #[error("cidr {cidr:?} is no IPv4 prefix")]
    Cidr {
        /// What was found.
        cidr: String,
    },
    /// Nothing can be answered without these.
    #[error("DHCP option {name} is missing")]
    Missing {
        /// The option.
        name: &'static str,
    },
    /// A value of a wrong form.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// `server_mac` is none.
    #[error("server_mac: {0}")]
    ServerMac(#[from] AddressError),
    /// The port has no address in `cidr`.
    #[error("the port has no address in {cidr}")]
    NoAddress {
        /// The prefix.
        cidr: String,
    },
}

/// Why a frame gets no answer.
#[derive(Clone, Copy, Debug, Error, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Unanswered {
    /// No Ethernet, IPv4 and UDP in it.
    #[error("no UDP packet")]
    NotUdp,
    /// Shorter than the fixed part, or with another magic number.
    #[error("no DHCP message")]
    NotDhcp,
    /// Not from a client.
    #[error("no request")]
    NotRequest,
    /// An option runs over the end.
    #[error("truncated options")]
    Options,
    /// No message type, or one that no client sends.
    #[error("no message type of a client")]
    MessageType,
    /// DECLINE and RELEASE have no answer.
    #[error("needs no answer")]
    NoAnswer,
}

impl Unanswered {
    /// For a metric's label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotUdp => "not_udp",
            Self::NotDhcp => "not_dhcp",
            Self::NotRequest => "not_request",
            Self::Options => "bad_options",
            Self::MessageType => "bad_message_type",
            Self::NoAnswer => "no_answer",
        }
    }
}

impl Offer {
    /// What the port is given by these options; `addresses` are those of its binding, dynamic ones filled in.
    pub fn new<'a>(
        port: &LogicalSwitchPort,
        addresses: impl IntoIterator<Item = &'a str>,
        given: &DhcpOptions,
    ) -> Result<Self, OfferError> {
        let Ok(IpNet::V4(net)) = given.cidr.parse::<IpNet>() else {
            return Err(OfferError::Cidr { cidr: given.cidr.to_string() });
        };
        let ips = addresses.into_iter().filter_map(|entry| match entry.parse() {
            Ok(LspAddress::Known { ips, .. }) => Some(ips),
            _ => None,
        });
        let first = |ips: Vec<IpAddr>| v4(&ips).find(|ip| net.contains(ip));
        let no_address = || OfferError::NoAddress { cidr: given.cidr.to_string() };
        let address = ips.map(first).find_map(|ip| ip).ok_or_else(no_address)?;

        let need = |name: &'static str| given.options.get(name).ok_or(OfferError::Missing { name });
        let server_mac = need("server_mac")?.parse()?;
        let server_ip = first_address(&OptionDecl::find("server_id")?.encode(need("server_id")?)?);
        need("lease_time")?;

        let mut this = Self {
            address,
            server_ip,
            server_mac,
            next_server: None,
            bootfile: None,
            bootfile_alternative: None,
            options: Vec::new(),
        };
        let netmask = net.netmask().to_string();
        let mut values: std::collections::BTreeMap<&str, &str> = [("netmask", netmask.as_str())].into();
        values.extend(given.options.iter().map(|(name, value)| (name.as_ref(), value.as_ref())));
        values.extend(port.options.get("hostname").map(|name| ("hostname", name.as_ref())));
        values.remove("server_mac");
        for (name, value) in values {
            let decl = OptionDecl::find(name)?;
            let octets = decl.encode(value)?;
            match name {
                "next_server" => this.next_server = Some(first_address(&octets)),
                "bootfile_name" => this.bootfile = Some(octets),
                "bootfile_name_alt" => this.bootfile_alternative = Some(octets),
                _ => this.options.push((decl.code, octets)),
            }
        }
        Ok(this)
    }

    /// The answer to a frame from the port.
    pub fn answer(&self, frame: &[u8]) -> Result<Vec<u8>, Unanswered> {
        let request = Request::parse(frame)?;
        let kind = match request.kind {
            DISCOVER => OFFER,
            // Selecting and rebooting clients say the address in an option, renewing and rebinding ones in ciaddr.
            REQUEST if request.address.unwrap_or(request.ciaddr) == self.address => ACK,
            REQUEST => NAK,
            INFORM => ACK,
            DECLINE | RELEASE => return Err(Unanswered::NoAnswer),
            _ => return Err(Unanswered::MessageType),
        };
        let inform = request.kind == INFORM;
        let mut reply = request.header.to_vec();
        reply[0] = BOOTREPLY;
        let (yiaddr, siaddr) = match kind {
            NAK => (Ipv4Addr::UNSPECIFIED, Some(Ipv4Addr::UNSPECIFIED)),
            _ if inform => (Ipv4Addr::UNSPECIFIED, None),
            _ => (self.address, self.next_server),
        };
        reply[YIADDR..YIADDR + 4].copy_from_slice(&yiaddr.octets());
        if let Some(siaddr) = siaddr {
            reply[SIADDR..SIADDR + 4].copy_from_slice(&siaddr.octets());
        }
        reply.extend_from_slice(&MAGIC);
        reply.extend_from_slice(&[MESSAGE_TYPE, 1, kind]);
        if kind != NAK {
            // Of both, the first is for clients that are iPXE already.
            let (first, second) = (self.bootfile.as_ref(), self.bootfile_alternative.as_ref());
            let name = if request.ipxe { first.or(second) } else { second.or(first) };
            if let Some(name) = name {
                push_option(&mut reply, BOOTFILE, name);
            }
            if let Some(next) = self.next_server {
                push_option(&mut reply, NEXT_SERVER, &next.octets());
            }
            let of_a_lease = |code: u8| matches!(code, NETMASK | LEASE_TIME | T1 | T2);
            for (code, value) in self.options.iter().filter(|(code, _)| !(inform && of_a_lease(*code))) {
                push_option(&mut reply, *code, value);
            }
        }
        reply.extend_from_slice(&[0, 0, 0, 0, END, 0, 0, 0, 0]);

        let to = if request.broadcast { Ipv4Addr::BROADCAST } else { self.address };
        let builder = PacketBuilder::ethernet2(self.server_mac.0, request.from)
            .ipv4(self.server_ip.octets(), to.octets(), TTL)
            .udp(SERVER_PORT, CLIENT_PORT);
        let mut frame = Vec::with_capacity(builder.size(reply.len()));
        builder.write(&mut frame, &reply).map_err(|_| Unanswered::Options)?;
        Ok(frame)
    }
}

/// The parts of a client's message that matter.
struct Request<'a> {
    from: [u8; 6],
    header: &'a [u8],
    kind: u8,
    ciaddr: Ipv4Addr,
    address: Option<Ipv4Addr>,
    broadcast: bool,
    ipxe: bool,
}

impl<'a> Request<'a> {
    fn parse(frame: &'a [u8]) -> Result<Self, Unanswered> {
        let packet = SlicedPacket::from_ethernet(frame).map_err(|_| Unanswered::NotUdp)?;
        let from =
            packet.link.as_ref().and_then(|link| link.to_header()).and_then(|header| header.ethernet2());
        let (Some(ethernet), Some(NetSlice::Ipv4(_)), Some(TransportSlice::Udp(udp))) =
            (from, &packet.net, &packet.transport)
        else {
            return Err(Unanswered::NotUdp);
        };
        let message = udp.payload();
        let Some((header, rest)) = message.split_at_checked(HEADER_LEN) else {
            return Err(Unanswered::NotDhcp);
        };
        let options = rest.strip_prefix(&MAGIC).ok_or(Unanswered::NotDhcp)?;
        if header[0] != BOOTREQUEST {
            return Err(Unanswered::NotRequest);
        }
        let mut this = Self {
            from: ethernet.source,
            header,
            kind: 0,
            ciaddr: first_address(&header[CIADDR..]),
            address: None,
            broadcast: header[FLAGS] & 0x80 != 0,
            ipxe: false,
        };
        let mut options = options;
        while let Some((code, rest)) = options.split_first() {
            match *code {
                0 => {
                    options = rest;
                    continue;
                }
                END => break,
                _ => {}
            }
            let (length, rest) = rest.split_first().ok_or(Unanswered::Options)?;
            let (value, rest) = rest.split_at_checked((*length).into()).ok_or(Unanswered::Options)?;
            match (*code, value) {
                (MESSAGE_TYPE, [kind]) => this.kind = *kind,
                (REQUESTED_ADDRESS, [_, _, _, _]) => this.address = Some(first_address(value)),
                (ETHERBOOT, _) => this.ipxe = true,
                _ => {}
            }
            options = rest;
        }
        if this.kind == 0 {
            return Err(Unanswered::MessageType);
        }
        Ok(this)
    }
}

/// The first four octets as an address. Callers have at least four.
fn first_address(octets: &[u8]) -> Ipv4Addr {
    octets.first_chunk::<4>().map_or(Ipv4Addr::UNSPECIFIED, |octets| Ipv4Addr::from(*octets))
}

fn push_option(reply: &mut Vec<u8>, code: u8, value: &[u8]) {
    // `OptionDecl::encode` refuses longer ones.
    let Ok(length) = u8::try_from(value.len()) else { return };
    reply.extend_from_slice(&[code, length]);
    reply.extend_from_slice(value);
}

const HEADER_LEN: usize = 236;
const FLAGS: usize = 10;
const CIADDR: usize = 12;
const YIADDR: usize = 16;
const SIADDR: usize = 20;
const MAGIC: [u8; 4] = [99, 130, 83, 99];
const BOOTREQUEST: u8 = 1;
const BOOTREPLY: u8 = 2;
const REQUESTED_ADDRESS: u8 = 50;
const MESSAGE_TYPE: u8 = 53;
const ETHERBOOT: u8 = 175;
const END: u8 = 255;
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const DECLINE: u8 = 4;
const ACK: u8 = 5;
const NAK: u8 = 6;
const RELEASE: u8 = 7;
const INFORM: u8 = 8;
const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
const TTL: u8 = 64;
const _: () = assert!(SERVER_ID == 54, "the server's address is an option of its own");
