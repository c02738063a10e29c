//! What a rule matches, as a tree that has two readings: a text in OVN's expression language for the compiler, and an
//! evaluation on a packet for the reference.

use std::{fmt, net::IpAddr};

use super::{
    common::interpreter::Random,
    frame::{Body, Packet},
    network::{GROUPS, SETS},
    switch::PORTS,
};

/// A match.
#[derive(Clone, Debug)]
pub enum Expr {
    All,
    Tcp,
    Udp,
    Icmp,
    /// Destination port of TCP, in a range; `false`: outside of it.
    TcpTo(u16, u16, bool),
    UdpTo(Vec<u16>),
    /// Source address.
    From(Addresses, bool),
    /// Destination address.
    To(Addresses, bool),
    /// The rule's own port: `inport` or `outport`, as the direction is.
    Ports(Vec<u32>),
    Group(usize),
    And(Vec<Self>),
    Or(Vec<Self>),
}

/// Addresses of one family, or of an address set, whose members may be of both.
#[derive(Clone, Debug)]
pub enum Addresses {
    Hosts { six: bool, hosts: Vec<u32> },
    Set { six: bool, set: usize },
}

/// What a rule is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub packet: &'a Packet,
    /// The port that the rule's direction is about.
    pub port: u32,
    pub groups: &'a [Vec<u32>; GROUPS],
    pub sets: &'a [Vec<u32>; SETS],
}

impl Expr {
    pub fn random(random: &mut Random, depth: usize) -> Self {
        let several = |random: &mut Random| {
            (0..2 + random.below(2)).map(|_| Self::random(random, depth + 1)).collect::<Vec<_>>()
        };
        match random.below(if depth < 2 { 14 } else { 10 }) {
            0 => Self::All,
            1 => Self::Tcp,
            2 => Self::Udp,
            3 => Self::Icmp,
            4 => Self::TcpTo(80, 80 + 363 * random.below(2) as u16, !random.one_in(4)),
            5 => Self::UdpTo(if random.one_in(2) { vec![53] } else { vec![53, 2000] }),
            6 => Self::From(Addresses::random(random), !random.one_in(4)),
            7 => Self::To(Addresses::random(random), !random.one_in(4)),
            8 => Self::Ports((1..=PORTS).filter(|_| random.one_in(2)).collect()),
            9 => Self::Group(random.below(GROUPS)),
            10..=12 => Self::And(several(random)),
            _ => Self::Or(several(random)),
        }
    }

    /// In OVN's language, for a rule of a direction.
    pub fn text(&self, to_lport: bool) -> String {
        let port = if to_lport { "outport" } else { "inport" };
        let joined = |parts: &[Self], with: &str| {
            let parts: Vec<String> = parts.iter().map(|part| format!("({})", part.text(to_lport))).collect();
            parts.join(with)
        };
        match self {
            Self::All => "1".into(),
            Self::Tcp => "tcp".into(),
            Self::Udp => "udp".into(),
            Self::Icmp => "icmp".into(),
            Self::TcpTo(low, high, true) => format!("{low} <= tcp.dst <= {high}"),
            // Below or above, both of TCP: the negation of a range keeps what the field needs.
            Self::TcpTo(low, high, false) => format!("tcp.dst < {low} || tcp.dst > {high}"),
            Self::UdpTo(ports) => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                format!("udp.dst == {{{}}}", ports.join(", "))
            }
            Self::From(addresses, is) => addresses.text("src", *is),
            Self::To(addresses, is) => addresses.text("dst", *is),
            Self::Ports(ports) if ports.is_empty() => format!("{port} == \"nobody\""),
            Self::Ports(ports) => {
                let ports: Vec<String> = ports.iter().map(|number| format!("\"p{number}\"")).collect();
                format!("{port} == {{{}}}", ports.join(", "))
            }
            Self::Group(group) => format!("{port} == @g{group}"),
            Self::And(parts) => joined(parts, " && "),
            Self::Or(parts) => joined(parts, " || "),
        }
    }

    pub fn holds(&self, subject: Subject<'_>) -> bool {
        let packet = subject.packet;
        match self {
            Self::All => true,
            Self::Tcp => matches!(packet.body, Body::Tcp { .. }),
            Self::Udp => matches!(packet.body, Body::Udp { .. }),
            Self::Icmp => matches!(packet.body, Body::Echo { .. }),
            Self::TcpTo(low, high, inside) => match packet.body {
                Body::Tcp { to, .. } => (*low..=*high).contains(&to) == *inside,
                _ => false,
            },
            Self::UdpTo(ports) => matches!(packet.body, Body::Udp { to, .. } if ports.contains(&to)),
            Self::From(addresses, is) => addresses.hold(packet.source, *is, subject.sets),
            Self::To(addresses, is) => addresses.hold(packet.to, *is, subject.sets),
            Self::Ports(ports) => ports.contains(&subject.port),
            Self::Group(group) => subject.groups[*group].contains(&subject.port),
            Self::And(parts) => parts.iter().all(|part| part.holds(subject)),
            Self::Or(parts) => parts.iter().any(|part| part.holds(subject)),
        }
    }
}

impl Addresses {
    fn random(random: &mut Random) -> Self {
        let six = random.one_in(3);
        if random.one_in(2) {
            return Self::Set { six, set: random.below(SETS) };
        }
        let mut hosts: Vec<u32> = (1..=PORTS).filter(|_| random.one_in(2)).collect();
        if hosts.is_empty() {
            hosts.push(1);
        }
        Self::Hosts { six, hosts }
    }

    fn text(&self, side: &str, is: bool) -> String {
        let operator = if is { "==" } else { "!=" };
        match self {
            Self::Hosts { six, hosts } => {
                let hosts: Vec<String> = hosts.iter().map(|host| address(*host, *six).to_string()).collect();
                format!("{}.{side} {operator} {{{}}}", family(*six), hosts.join(", "))
            }
            Self::Set { six, set } => format!("{}.{side} {operator} $s{set}", family(*six)),
        }
    }

    /// The field is there in packets of its family only, whichever way it is compared.
    fn hold(&self, found: IpAddr, is: bool, sets: &[Vec<u32>; SETS]) -> bool {
        let (six, hosts) = match self {
            Self::Hosts { six, hosts } => (*six, hosts),
            Self::Set { six, set } => (*six, &sets[*set]),
        };
        found.is_ipv6() == six && hosts.iter().any(|host| address(*host, six) == found) == is
    }
}

fn family(six: bool) -> &'static str {
    if six { "ip6" } else { "ip4" }
}

/// The address of the port of that number.
pub fn address(port: u32, six: bool) -> IpAddr {
    let text = if six { format!("fd00::{port:x}") } else { format!("10.0.0.{port}") };
    text.parse().expect("numbers of ports are small")
}

/// What a rule says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    Allow,
    AllowRelated,
    AllowStateless,
    Drop,
    Reject,
    Pass,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::AllowRelated => "allow-related",
            Self::AllowStateless => "allow-stateless",
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Pass => "pass",
        })
    }
}

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    pub priority: i64,
    pub tier: i64,
    pub to_lport: bool,
    pub action: Action,
    pub persist: bool,
    pub expr: Expr,
}

impl Rule {
    /// A rule; its priority is its number, so that no two are alike.
    pub fn random(random: &mut Random, number: i64) -> Self {
        use Action::{Allow, AllowRelated, AllowStateless, Drop, Pass, Reject};
        let action =
            *random.pick(&[AllowRelated, AllowRelated, AllowRelated, Allow, Drop, Drop, Reject, Pass]);
        let action = if random.one_in(10) { AllowStateless } else { action };
        Self {
            priority: number,
            tier: if random.one_in(3) { 1 } else { 0 },
            to_lport: random.one_in(2),
            action,
            persist: action == AllowRelated && random.one_in(6),
            expr: Expr::random(random, 0),
        }
    }
}
