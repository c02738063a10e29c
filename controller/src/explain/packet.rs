//! Packets as users ask about them: `tcp/443`, `icmp`, `udp/53`.

use quantumnet_model::selector::{Endpoint, Protocol, Service, Traffic};

use crate::{
    explain::end::Family,
    store::{Class, Refusal},
};

/// A packet's protocol and what is behind it: ports, or type and code of ICMP.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Kind {
    pub(crate) protocol: u8,
    pub(crate) src: u16,
    pub(crate) dst: u16,
}

impl Kind {
    /// What a text means for a family of addresses.
    pub(crate) fn parse(text: &str, family: Family, source_port: u16, field: &str) -> Result<Self, Refusal> {
        let wrong =
            |message: String| Refusal::service(Class::InvalidArgument, "SERVICE_INVALID", message).at(field);
        let service = service(text).map_err(wrong)?;
        let number = number(service.protocol, family)
            .ok_or_else(|| wrong(format!("{text:?} names no protocol; give one, as tcp/443 or icmp")))?;
        let typed = service.protocol == Protocol::Icmp && service.icmp.is_some();
        if number == ICMPV6 && (family == Family::V4 || typed) || number == ICMP && family == Family::V6 {
            return Err(wrong(format!("{text:?} is not sent over {}", family.name())));
        }
        if matches!(number, ICMP | ICMPV6) {
            let (kind, code) = service.icmp.unwrap_or(if number == ICMP { (8, None) } else { (128, None) });
            return Ok(Self { protocol: number, src: kind.into(), dst: code.unwrap_or(0).into() });
        }
        if !service.protocol.has_ports() {
            return Ok(Self { protocol: number, src: 0, dst: 0 });
        }
        match service.ports {
            Some((first, last)) if first == last => {
                let src = if source_port == 0 { EPHEMERAL } else { source_port };
                Ok(Self { protocol: number, src, dst: first })
            }
            _ => Err(wrong(format!("{text:?} is no single port; a packet has one, as tcp/443"))),
        }
    }

    /// As users write it.
    pub(crate) fn name(self) -> String {
        match self.protocol {
            ICMP | ICMPV6 => {
                let name = if self.protocol == ICMP { "icmp" } else { "icmpv6" };
                format!("{name}/{}/{}", self.src, self.dst)
            }
            6 => format!("tcp/{}", self.dst),
            17 => format!("udp/{}", self.dst),
            132 => format!("sctp/{}", self.dst),
            other => format!("ip/{other}"),
        }
    }

    /// What of a rule of intent would be about it: protocol and port.
    pub(crate) fn rule(self) -> String {
        match self.protocol {
            6 | 17 | 132 => {
                let name = if self.protocol == 6 {
                    "tcp"
                } else if self.protocol == 17 {
                    "udp"
                } else {
                    "sctp"
                };
                format!("protocol: {name}, ports: [{}]", self.dst)
            }
            ICMP => format!("protocol: icmp, icmp_type: {}", self.src),
            ICMPV6 => format!("protocol: icmpv6, icmp_type: {}", self.src),
            other => format!("protocol: \"{other}\""),
        }
    }

    pub(crate) const fn has_ports(self) -> bool {
        matches!(self.protocol, 6 | 17 | 132)
    }
}

/// The one service that a text names; `icmp` may mean ICMPv6.
pub(crate) fn service(text: &str) -> Result<Service, String> {
    let traffic: Traffic = format!("* -> * : {text}").parse().map_err(|_| {
        format!(
            "{text:?} is no service; those are tcp/443, udp/53, sctp/2905, icmp, icmp/8/0, icmpv6 and ip/47"
        )
    })?;
    match (&traffic.source, &traffic.destination, &traffic.services[..]) {
        (Endpoint::Any, Endpoint::Any, [service]) => Ok(*service),
        _ => Err(format!("{text:?} names several services; ask about one at a time")),
    }
}

/// Number of a protocol; `icmp` is that of the family.
pub(crate) fn number(protocol: Protocol, family: Family) -> Option<u8> {
    Some(match protocol {
        Protocol::Any => return None,
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
        Protocol::Icmp if family == Family::V6 => ICMPV6,
        Protocol::Icmp => ICMP,
        Protocol::Icmpv6 => ICMPV6,
        Protocol::Number(number) => number,
    })
}

pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMPV6: u8 = 58;
/// Source port of a connection that is not there yet: the last of those that systems take (RFC 6335), which few reach.
pub(crate) const EPHEMERAL: u16 = 65_535;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_packets() {
        let of = |text: &str, family| Kind::parse(text, family, 0, "service").map(|kind| (kind, kind.name()));
        for (text, family, expected) in [
            ("tcp/443", Family::V4, "tcp/443"),
            ("443", Family::V6, "tcp/443"),
            ("udp/53", Family::V4, "udp/53"),
            ("icmp", Family::V4, "icmp/8/0"),
            ("icmp", Family::V6, "icmpv6/128/0"),
            ("icmpv6/135", Family::V6, "icmpv6/135/0"),
            ("ip/47", Family::V4, "ip/47"),
        ] {
            assert_eq!(of(text, family).unwrap().1, expected);
        }
        assert_eq!(Kind::parse("tcp/1", Family::V4, 7, "x").unwrap().src, 7);
        for (text, family, expected) in [
            ("tcp", Family::V4, "single port"),
            ("tcp/1-2", Family::V4, "single port"),
            ("tcp/1,udp/2", Family::V4, "several"),
            ("any", Family::V4, "names no protocol"),
            ("icmpv6", Family::V4, "not sent over IPv4"),
            ("icmp/8", Family::V6, "not sent over IPv6"),
            ("icmp/8 -> x", Family::V4, "no service"),
            ("", Family::V4, "no service"),
        ] {
            let refused = of(text, family).unwrap_err().to_string();
            assert!(refused.contains(expected), "{text}: {refused}");
        }
    }
}
