//! Packets in the words of `ofproto/trace`: read, changed, written.
//!
//! # Contract
//! - [`Flow`] is any packet that the switch prints; [`packet`] and [`text`] are IP packets as controllers have them.

use std::{fmt, net::IpAddr};

use ovsdb::unixctl_text::split;
use quantumnet_api::v1::TracePacket;
use quantumnet_model::address::Mac;

/// Names of protocols and `field=value`, in order. Ports are `tp_src` and `tp_dst` whatever the protocol, as the switch prints them;
/// it reads them as TCP's, so that those of others are written by their own names.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Flow(Vec<(String, Option<String>)>);

impl Flow {
    /// Of what the switch printed.
    pub fn parse(text: &str) -> Self {
        let part = |part: &str| match part.split_once('=') {
            Some((name, value)) if PORTS.iter().any(|(_, names)| names.contains(&name)) => {
                let name = if name.ends_with("_src") { "tp_src" } else { "tp_dst" };
                (name.to_owned(), Some(value.to_owned()))
            }
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (part.to_owned(), None),
        };
        Self(split(text).into_iter().map(part).collect())
    }

    /// A field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(field, _)| field == name)?.1.as_deref()
    }

    /// A field that is a number, in whatever base; 0 if it is not there.
    pub fn number(&self, name: &str) -> u64 {
        let text = self.field(name).unwrap_or_default();
        let number = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16));
        number.unwrap_or_default()
    }

    /// Writes a field.
    pub fn set(&mut self, name: &str, value: impl fmt::Display) {
        let value = Some(value.to_string());
        match self.0.iter_mut().find(|(field, _)| field == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Whether a protocol is named.
    pub fn is(&self, protocol: &str) -> bool {
        self.0.iter().any(|(name, value)| value.is_none() && name == protocol)
    }

    /// As the switch reads it again: it prints some things that it does not take.
    pub fn readable(&self) -> Self {
        let icmpv6 = self.is("icmp6");
        let kept = self.0.iter().filter(|(name, _)| {
            let printed_only = matches!(name.as_str(), "recirc_id" | "eth" | "dp_hash" | "skb_priority");
            !printed_only
                && !["ct_nw_", "ct_ipv6_", "ct_tp_"].iter().any(|prefix| name.starts_with(prefix))
                // Of a tunnel only the key is looked at behind the first table.
                && (!name.starts_with("tun_") || name == "tun_id")
        });
        let read = kept.map(|(name, value)| match (name.as_str(), value.as_deref()) {
            ("icmp_type", value) if icmpv6 => ("icmpv6_type".to_owned(), value.map(str::to_owned)),
            ("icmp_code", value) if icmpv6 => ("icmpv6_code".to_owned(), value.map(str::to_owned)),
            ("in_port", Some("ANY")) => (name.clone(), Some("0".to_owned())),
            _ => (name.clone(), value.clone()),
        });
        Self(read.collect())
    }

    /// Names of the fields of source and destination.
    pub fn ends(&self) -> [&'static str; 2] {
        if self.field("ipv6_src").is_some() { ["ipv6_src", "ipv6_dst"] } else { ["nw_src", "nw_dst"] }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = PORTS.iter().find(|(protocols, _)| protocols.iter().any(|protocol| self.is(protocol)));
        for (at, (name, value)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let name = match (name.as_str(), ports) {
                ("tp_src", Some((_, [own, _]))) | ("tp_dst", Some((_, [_, own]))) => own,
                (name, _) => name,
            };
            match value {
                Some(value) => write!(f, "{comma}{name}={value}")?,
                None => write!(f, "{comma}{name}")?,
            }
        }
        Ok(())
    }
}

/// The IP packet of a flow; `None` if it is no IP.
pub fn packet(flow: &Flow) -> Option<TracePacket> {
    let [src, dst] = flow.ends();
    let (ip_src, ip_dst) = (flow.field(src)?.to_owned(), flow.field(dst)?.to_owned());
    let named = PROTOCOLS.iter().find(|(_, names)| names.iter().any(|name| flow.is(name)));
    let protocol = named.map_or_else(|| flow.number("nw_proto"), |(number, _)| (*number).into());
    let (first, second) = match protocol {
        1 => ("icmp_type", "icmp_code"),
        58 if flow.field("icmpv6_type").is_some() => ("icmpv6_type", "icmpv6_code"),
        58 => ("icmp_type", "icmp_code"),
        _ => ("tp_src", "tp_dst"),
    };
    let number = |name: &str| u32::try_from(flow.number(name)).unwrap_or_default();
    let text = |name: &str| flow.field(name).unwrap_or_default().to_owned();
    Some(TracePacket {
        eth_src: text("dl_src"),
        eth_dst: text("dl_dst"),
        ip_src,
        ip_dst,
        protocol: u32::try_from(protocol).unwrap_or_default(),
        src: number(first),
        dst: number(second),
        ttl: number("nw_ttl"),
        syn: flow.field("tcp_flags") == Some("syn"),
        vlan: number("dl_vlan"),
    })
}

/// A packet as a flow for the switch to read.
pub fn text(packet: &TracePacket) -> Result<String, String> {
    let ip = |text: &str| text.parse::<IpAddr>().map_err(|_| format!("{text:?} is no IP address"));
    let mac = |text: &str| text.parse::<Mac>().map_err(|_| format!("{text:?} is no MAC"));
    let (src, dst) = (ip(&packet.ip_src)?, ip(&packet.ip_dst)?);
    if src.is_ipv4() != dst.is_ipv4() {
        return Err(format!("{src} and {dst} are of different families"));
    }
    let (ether_src, ether_dst) = (mac(&packet.eth_src)?, mac(&packet.eth_dst)?);
    let Ok(protocol @ 1..) = u8::try_from(packet.protocol) else {
        return Err(format!("{} is no protocol", packet.protocol));
    };
    let named = PROTOCOLS.iter().find(|(number, _)| *number == protocol);
    let place = usize::from(src.is_ipv6());
    let [from, to] = if src.is_ipv6() { ["ipv6_src", "ipv6_dst"] } else { ["nw_src", "nw_dst"] };
    let mut text = match (named, place) {
        (Some((_, names)), _) => names[place].to_owned(),
        (None, 0) => format!("ip,nw_proto={protocol}"),
        (None, _) => format!("ipv6,nw_proto={protocol}"),
    };
    let ttl = packet.ttl.clamp(1, 255);
    text += &format!(",dl_src={ether_src},dl_dst={ether_dst},{from}={src},{to}={dst},nw_ttl={ttl}");
    let number = |number: u32, max: u32| {
        if number <= max { Ok(number) } else { Err(format!("{number} is above {max}")) }
    };
    text += &match protocol {
        1 => format!(",icmp_type={},icmp_code={}", number(packet.src, 255)?, number(packet.dst, 255)?),
        58 => format!(",icmpv6_type={},icmpv6_code={}", number(packet.src, 255)?, number(packet.dst, 255)?),
        6 | 17 | 132 => {
            format!(",tp_src={},tp_dst={}", number(packet.src, 65_535)?, number(packet.dst, 65_535)?)
        }
        _ => String::new(),
    };
    let mut text = Flow::parse(&text).to_string();
    if protocol == 6 {
        text += if packet.syn { ",tcp_flags=syn" } else { ",tcp_flags=syn|ack" };
    }
    if packet.vlan > 0 {
        text += &format!(",dl_vlan={},dl_vlan_pcp=0", number(packet.vlan, 4_095)?);
    }
    Ok(text)
}

/// Names of ports of the protocols that are not TCP.
const PORTS: &[([&str; 2], [&str; 2])] =
    &[(["udp", "udp6"], ["udp_src", "udp_dst"]), (["sctp", "sctp6"], ["sctp_src", "sctp_dst"])];
/// Protocols that the switch has names for, over IPv4 and IPv6.
const PROTOCOLS: &[(u8, [&str; 2])] = &[
    (1, ["icmp", "icmp"]),
    (6, ["tcp", "tcp6"]),
    (17, ["udp", "udp6"]),
    (58, ["icmp6", "icmp6"]),
    (132, ["sctp", "sctp6"]),
];
