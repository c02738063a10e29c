//! Matches of ACLs, in OVN's words (ovn-sb(5), `Logical_Flow`).

use ipnet::IpNet;
use quantumnet_model::selector::{Protocol, Service};

/// Which way the port that a rule is asked at is passed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Direction {
    Ingress,
    Egress,
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(super) enum Remote {
    Any,
    Prefix(IpNet),
    /// Members of the port group of that name.
    Group(String),
}

/// ICMPv6 types without which nobody has neighbours: MLD, ND (RFC 4861) and MLDv2 (RFC 9777).
const NEIGHBOURS: &str = "icmp6.type == {130, 131, 132, 133, 134, 135, 136, 143}";

impl Direction {
    /// As an ACL has it.
    pub(super) const fn acl(self) -> &'static str {
        match self {
            Self::Ingress => "to-lport",
            Self::Egress => "from-lport",
        }
    }

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    /// The member's end of the rule.
    fn member(self, group: &str) -> String {
        match self {
            Self::Ingress => format!("outport == @{group}"),
            Self::Egress => format!("inport == @{group}"),
        }
    }
}

/// Packets of the services between a member of the group and the remote.
pub(super) fn traffic(direction: Direction, group: &str, remote: &Remote, services: &[Service]) -> String {
    let member = direction.member(group);
    let end = match direction {
        Direction::Ingress => "src",
        Direction::Egress => "dst",
    };
    let remote = match remote {
        Remote::Any => String::new(),
        Remote::Prefix(net @ IpNet::V4(_)) => format!(" && ip4.{end} == {net}"),
        Remote::Prefix(net @ IpNet::V6(_)) => format!(" && ip6.{end} == {net}"),
        Remote::Group(name) => format!(" && (ip4.{end} == ${name}_ip4 || ip6.{end} == ${name}_ip6)"),
    };
    let services: Vec<String> = services.iter().map(service).collect();
    match &services[..] {
        // The address says that it is IP.
        [any] if any == ANY && !remote.is_empty() => member + &remote,
        [one] => format!("{member}{remote} && {one}"),
        many => format!("{member}{remote} && ({})", many.join(" || ")),
    }
}

/// All IP packets of a member.
pub(super) fn everything(direction: Direction, group: &str) -> String {
    traffic(direction, group, &Remote::Any, &[Service::all(Protocol::Any)])
}

/// What no default is meant to stop: without it a port has no neighbours and no address.
pub(super) fn basics(direction: Direction, group: &str) -> String {
    let member = direction.member(group);
    match direction {
        Direction::Ingress => format!("{member} && {NEIGHBOURS}"),
        Direction::Egress => format!(
            "{member} && ({NEIGHBOURS} || (udp.src == 68 && udp.dst == 67) || (udp.src == 546 && udp.dst == 547))"
        ),
    }
}

const ANY: &str = "ip";

fn service(service: &Service) -> String {
    let name = match service.protocol {
        Protocol::Any => ANY,
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
        Protocol::Icmp => "icmp4",
        Protocol::Icmpv6 => "icmp6",
        Protocol::Number(number) => return format!("ip.proto == {number}"),
    };
    match (service.ports, service.icmp) {
        (Some((0, u16::MAX)) | None, None) => name.to_owned(),
        (Some((first, last)), _) if first == last => format!("{name}.dst == {first}"),
        (Some((first, last)), _) => format!("{first} <= {name}.dst <= {last}"),
        (None, Some((kind, None))) => format!("{name}.type == {kind}"),
        (None, Some((kind, Some(code)))) => format!("({name}.type == {kind} && {name}.code == {code})"),
    }
}

#[cfg(test)]
mod tests {
    use quantumnet_expr::Expr;

    use super::*;

    #[test]
    fn matches_are_of_ovns_language() {
        let services = |text: &str| -> Vec<Service> {
            let traffic: quantumnet_model::selector::Traffic = format!("a -> b : {text}").parse().unwrap();
            traffic.services
        };
        let prefix = Remote::Prefix("10.0.0.0/8".parse().unwrap());
        let cases = [
            (
                traffic(Direction::Ingress, "g", &prefix, &services("22")),
                "outport == @g && ip4.src == 10.0.0.0/8 && tcp.dst == 22",
            ),
            (
                traffic(Direction::Egress, "g", &Remote::Group("h".into()), &services("any")),
                "inport == @g && (ip4.dst == $h_ip4 || ip6.dst == $h_ip6)",
            ),
            (
                traffic(
                    Direction::Ingress,
                    "g",
                    &Remote::Any,
                    &services("80,8000-8999,udp,icmp/8/0,icmpv6/128,ip/47"),
                ),
                "outport == @g && (tcp.dst == 80 || 8000 <= tcp.dst <= 8999 || udp || \
                 (icmp4.type == 8 && icmp4.code == 0) || icmp6.type == 128 || ip.proto == 47)",
            ),
            (everything(Direction::Egress, "g"), "inport == @g && ip"),
        ];
        for (text, expected) in &cases {
            assert_eq!(text, expected);
        }
        let basics = [Direction::Ingress, Direction::Egress].map(|direction| basics(direction, "g"));
        for text in cases.iter().map(|(text, _)| text).chain(&basics) {
            let expr = Expr::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            expr.normalize().unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }
}
