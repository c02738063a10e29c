//! Records of packets that an ACL wants logged (ovn-nb(5), `ACL.log`), in the words of ovn-controller's log and as fields.
//!
//! # Contract
//! - In: the ACL, the packet and the port whose rules it met. Out: what is logged; its text names the rule, what it says, how severe
//!   that is, the direction and the packet, its fields say the same for programs.

use std::{fmt, net::IpAddr};

use etherparse::{LaxNetSlice, LaxSlicedPacket, LinkSlice, TransportSlice};
use quantumnet_model::{address::Mac, nb::Acl};

/// One record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// `ACL.name`.
    pub name: String,
    /// What the rule says: `allow`, `drop`, `reject` or `pass`.
    pub verdict: &'static str,
    /// `ACL.severity`.
    pub severity: String,
    /// `from-lport` or `to-lport`.
    pub direction: String,
    /// `Port_Binding.logical_port` of the port whose rules the packet met; empty until somebody has looked it up.
    pub port: String,
    /// The packet, in the words of ovn-controller.
    pub packet: String,
    /// What there is of its 5-tuple.
    pub flow: Flow,
}

/// Addresses, protocol and ports of a packet, as far as it has them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Flow {
    /// `tcp`, `udp`, `icmp`, `icmp6`, `arp`, `ip`, `ipv6` or `eth`.
    pub protocol: &'static str,
    /// IP source.
    pub source: Option<IpAddr>,
    /// IP destination.
    pub destination: Option<IpAddr>,
    /// Port of TCP and UDP, type of ICMP.
    pub source_port: Option<u16>,
    /// Port of TCP and UDP, code of ICMP.
    pub destination_port: Option<u16>,
}

impl Record {
    /// The record of a packet that met the ACL among the rules of that direction: replies meet it among the other ones.
    pub fn new(acl: &Acl, frame: &[u8], to: bool) -> Self {
        let verdict = match &*acl.action {
            "drop" => "drop",
            "reject" => "reject",
            "pass" => "pass",
            _ => "allow",
        };
        let (packet, flow) = describe(frame);
        Self {
            name: acl.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(UNNAMED).to_owned(),
            verdict,
            severity: acl.severity.as_deref().unwrap_or("info").to_owned(),
            direction: if to { "to-lport" } else { "from-lport" }.to_owned(),
            port: String::new(),
            packet,
            flow,
        }
    }

    /// Logs it.
    pub fn log(&self) {
        let Self { name, verdict, severity, direction, port, flow, .. } = self;
        let address = |address: Option<IpAddr>| address.map(tracing::field::display);
        tracing::info!(
            target: "acl_log",
            acl = %name,
            verdict,
            severity,
            direction,
            port,
            protocol = flow.protocol,
            src = address(flow.source),
            dst = address(flow.destination),
            src_port = flow.source_port,
            dst_port = flow.destination_port,
            "{self}"
        );
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, verdict, severity, direction, packet, .. } = self;
        write!(f, "name=\"{name}\", verdict={verdict}, severity={severity}, direction={direction}: {packet}")
    }
}

fn describe(frame: &[u8]) -> (String, Flow) {
    let mut flow = Flow { protocol: "eth", ..Flow::default() };
    let Ok(packet) = LaxSlicedPacket::from_ethernet(frame) else { return ("truncated".to_owned(), flow) };
    let mut words = Vec::new();
    if let Some(LinkSlice::Ethernet2(link)) = &packet.link {
        words.push(format!("dl_src={},dl_dst={}", Mac(link.source()), Mac(link.destination())));
        if packet.net.is_none() {
            words.push(format!("dl_type={:#06x}", link.ether_type().0));
        }
    }
    let kind = match &packet.transport {
        Some(TransportSlice::Tcp(_)) => "tcp",
        Some(TransportSlice::Udp(_)) => "udp",
        Some(TransportSlice::Icmpv4(_)) => "icmp",
        Some(TransportSlice::Icmpv6(_)) => "icmp6",
        _ => match &packet.net {
            Some(LaxNetSlice::Arp(_)) => "arp",
            Some(LaxNetSlice::Ipv4(_)) => "ip",
            Some(LaxNetSlice::Ipv6(_)) => "ipv6",
            None => "eth",
        },
    };
    match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => {
            let header = ip.header();
            flow.source = Some(header.source_addr().into());
            flow.destination = Some(header.destination_addr().into());
            words.push(format!(
                "nw_src={},nw_dst={},nw_ttl={}",
                header.source_addr(),
                header.destination_addr(),
                header.ttl()
            ));
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            let header = ip.header();
            flow.source = Some(header.source_addr().into());
            flow.destination = Some(header.destination_addr().into());
            words.push(format!(
                "ipv6_src={},ipv6_dst={},nw_ttl={}",
                header.source_addr(),
                header.destination_addr(),
                header.hop_limit()
            ));
        }
        _ => {}
    }
    let ports = match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => Some((tcp.source_port(), tcp.destination_port())),
        Some(TransportSlice::Udp(udp)) => Some((udp.source_port(), udp.destination_port())),
        Some(TransportSlice::Icmpv4(icmp)) => Some((icmp.type_u8().into(), icmp.code_u8().into())),
        Some(TransportSlice::Icmpv6(icmp)) => Some((icmp.type_u8().into(), icmp.code_u8().into())),
        _ => None,
    };
    if let Some((source, destination)) = ports {
        let [from, to] =
            if kind.starts_with("icmp") { ["icmp_type", "icmp_code"] } else { ["tp_src", "tp_dst"] };
        words.push(format!("{from}={source},{to}={destination}"));
        (flow.source_port, flow.destination_port) = (Some(source), Some(destination));
    }
    flow.protocol = kind;
    (format!("{kind},{}", words.join(",")), flow)
}

const UNNAMED: &str = "<unnamed>";

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    #[test]
    fn a_record_names_rule_and_packet() {
        let acl = Acl {
            name: Some("no-dns".into()),
            action: "drop".into(),
            severity: Some("alert".into()),
            ..Acl::default()
        };
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .udp(4_000, 53)
            .write(&mut frame, b"x")
            .unwrap();
        let record = Record::new(&acl, &frame, true);
        let flow = Flow {
            protocol: "udp",
            source: Some([10, 0, 0, 1].into()),
            destination: Some([10, 0, 0, 2].into()),
            source_port: Some(4_000),
            destination_port: Some(53),
        };
        assert_eq!(record.flow, flow);
        assert_eq!(
            record.to_string(),
            "name=\"no-dns\", verdict=drop, severity=alert, direction=to-lport: udp,dl_src=02:00:00:00:00:01,\
             dl_dst=02:00:00:00:00:02,nw_src=10.0.0.1,nw_dst=10.0.0.2,nw_ttl=64,tp_src=4000,tp_dst=53"
        );
    }
}
