//! What a rule of a policy is about: `source -> destination : services`.
//!
//! Ends are selectors, prefixes, or `*` for anything. Services are separated by commas: `5432` and `8000-8999` are
//! ports of TCP, then `tcp`, `udp/53`, `sctp/2905`, `icmp`, `icmp/8`, `icmpv6/128/0`, `ip/47`, and `any`, which also
//! is meant where the colon and what follows is left out.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

use super::{Selector, SyntaxError, parse};

/// Services of one rule, at most.
const SERVICES_MAX: usize = 64;

/// One end.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Endpoint {
    /// Whatever there is.
    Any,
    /// Addresses.
    Prefix(IpNet),
    /// Objects by their labels.
    Select(Selector),
}

/// A protocol above IP.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Protocol {
    /// All of them.
    Any,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// ICMP of IPv4.
    Icmp,
    /// ICMPv6.
    Icmpv6,
    /// Another, by IANA's number.
    Number(u8),
}

/// Packets of a protocol.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Service {
    /// Its protocol.
    pub protocol: Protocol,
    /// Destination ports from first to last, of TCP, UDP and SCTP; none means all.
    pub ports: Option<(u16, u16)>,
    /// Type and, if given, code, of ICMP and ICMPv6; none means all.
    pub icmp: Option<(u8, Option<u8>)>,
}

/// Packets from somewhere to somewhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Traffic {
    /// Where they come from.
    pub source: Endpoint,
    /// Where they go.
    pub destination: Endpoint,
    /// What they are; never empty.
    pub services: Vec<Service>,
}

impl Protocol {
    /// By name or number; `None` if it is neither.
    pub fn named(text: &str) -> Option<Self> {
        Some(match text {
            "" | "any" => Self::Any,
            "tcp" => Self::Tcp,
            "udp" => Self::Udp,
            "sctp" => Self::Sctp,
            "icmp" | "icmp4" => Self::Icmp,
            "icmpv6" | "icmp6" => Self::Icmpv6,
            number => match number.parse().ok()? {
                1 => Self::Icmp,
                6 => Self::Tcp,
                17 => Self::Udp,
                58 => Self::Icmpv6,
                132 => Self::Sctp,
                number => Self::Number(number),
            },
        })
    }

    /// Whether packets have ports.
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp | Self::Sctp)
    }
}

impl Service {
    /// All packets of a protocol.
    pub const fn all(protocol: Protocol) -> Self {
        Self { protocol, ports: None, icmp: None }
    }

    /// A port, or ports from first to last: `22`, `8000-8999`.
    pub fn ports(text: &str) -> Option<(u16, u16)> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let port = |text: &str| text.parse::<u16>().ok().filter(|_| digits(text));
        let (first, last) = (port(first.trim())?, port(last.trim())?);
        (first <= last).then_some((first, last))
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        const SERVICE: &str = "a service such as 5432, tcp/80-89, udp/53, icmp/8, ip/47 or any";
        const PORTS: &str = "a port or first-last from 0 to 65535";
        if let Some(ports) = Self::ports(text) {
            return Ok(Self { ports: Some(ports), ..Self::all(Protocol::Tcp) });
        }
        let (name, rest) =
            text.split_once('/').map_or((text, None), |(name, rest)| (name.trim(), Some(rest)));
        if name == "ip" {
            let number = rest.ok_or(SERVICE)?.trim();
            return number
                .parse::<u8>()
                .ok()
                .and_then(|_| Protocol::named(number))
                .map(Self::all)
                .ok_or("a number of a protocol from 0 to 255");
        }
        let by_name =
            |name: &str| Protocol::named(name).filter(|_| !name.is_empty() && name.parse::<u8>().is_err());
        let protocol = by_name(name).ok_or(SERVICE)?;
        let Some(rest) = rest else { return Ok(Self::all(protocol)) };
        match protocol {
            Protocol::Tcp | Protocol::Udp | Protocol::Sctp => {
                let ports = Self::ports(rest).ok_or(PORTS)?;
                Ok(Self { ports: Some(ports), ..Self::all(protocol) })
            }
            Protocol::Icmp | Protocol::Icmpv6 => {
                let (kind, code) =
                    rest.split_once('/').map_or((rest, None), |(kind, code)| (kind, Some(code)));
                let number =
                    |text: &str| text.trim().parse::<u8>().map_err(|_| "a type, or type/code, from 0 to 255");
                let code = code.map(number).transpose()?;
                Ok(Self { icmp: Some((number(kind)?, code)), ..Self::all(protocol) })
            }
            Protocol::Any | Protocol::Number(_) => Err("nothing after \"any\""),
        }
    }
}

impl FromStr for Traffic {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        if text.len() > 2 * parse::SELECTOR_MAX {
            let found = format!("{} octets", text.len());
            return Err(SyntaxError {
                column: 1,
                expected: format!("at most {} octets", 2 * parse::SELECTOR_MAX),
                found,
            });
        }
        let bare = outside_quotes(text);
        let Some(arrow) = bare.find("->") else {
            let column = text.chars().count() + 1;
            return Err(SyntaxError {
                column,
                expected: "\"->\" and a destination".into(),
                found: "the end".into(),
            });
        };
        let part =
            |from: usize, to: usize| Part { text: &text[from..to], column: text[..from].chars().count() + 1 };
        let source = endpoint(part(0, arrow))?;
        let rest = arrow + 2;
        let colon = colon(&bare[rest..], &text[rest..]).map(|colon| rest + colon);
        let destination = endpoint(part(rest, colon.unwrap_or(text.len())))?;
        let services = match colon {
            Some(colon) => services(part(colon + 1, text.len()))?,
            None => vec![Service::all(Protocol::Any)],
        };
        Ok(Self { source, destination, services })
    }
}

/// A piece of a text.
#[derive(Clone, Copy)]
struct Part<'t> {
    text: &'t str,
    column: usize,
}

impl<'t> Part<'t> {
    /// Without the blanks around it.
    fn trimmed(self) -> Self {
        let left = self.text.trim_start();
        let column = self.column + self.text.chars().count() - left.chars().count();
        Self { text: left.trim_end(), column }
    }
}

/// The text with what is in quotes overwritten, octet by octet.
fn outside_quotes(text: &str) -> String {
    let (mut quoted, mut escaped) = (false, false);
    let byte = |byte: u8| {
        let hidden = quoted;
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        if hidden || !byte.is_ascii() { b'x' } else { byte }
    };
    text.bytes().map(byte).map(char::from).collect()
}

/// Where services begin: a colon beside a blank; else, where the whole is no address of IPv6, the last colon.
fn colon(bare: &str, text: &str) -> Option<usize> {
    let bytes = bare.as_bytes();
    let blank = |at: usize| bytes.get(at).is_none_or(u8::is_ascii_whitespace);
    let beside = |at: &usize| bytes[*at] == b':' && (blank(at + 1) || (*at > 0 && blank(at - 1)));
    let apart = (0..bytes.len()).rev().find(beside);
    apart.or_else(|| bare.rfind(':').filter(|_| prefix(text.trim()).is_none()))
}

fn prefix(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn endpoint(part: Part<'_>) -> Result<Endpoint, SyntaxError> {
    let Part { text, column } = part.trimmed();
    let wrong = |expected: String, found: String| Err(SyntaxError { column, expected, found });
    if text == "*" {
        return Ok(Endpoint::Any);
    }
    if let Some(net) = prefix(text) {
        if net.trunc() != net {
            return wrong(format!("the prefix {}", net.trunc()), format!("{text:?} with host bits set"));
        }
        return Ok(Endpoint::Prefix(net));
    }
    // What looks like an address is not taken for a label that nobody has.
    if text.contains(['.', ':'])
        && text.split('/').all(|part| part.bytes().all(|b| b.is_ascii_digit() || b".:".contains(&b)))
    {
        return wrong("an address or prefix such as 10.0.0.0/8".into(), format!("{text:?}"));
    }
    parse::selector(text, column).map(Endpoint::Select)
}

fn services(part: Part<'_>) -> Result<Vec<Service>, SyntaxError> {
    let mut services = Vec::new();
    let mut column = part.column;
    for one in part.text.split(',') {
        let Part { text, column: at } = Part { text: one, column }.trimmed();
        let service = Service::parse(text).map_err(|expected| SyntaxError {
            column: at,
            expected: expected.to_owned(),
            found: if text.is_empty() { "nothing".to_owned() } else { format!("{text:?}") },
        })?;
        if !services.contains(&service) {
            services.push(service);
        }
        column += one.chars().count() + 1;
    }
    if services.len() > SERVICES_MAX {
        let (expected, found) = (format!("at most {SERVICES_MAX} services"), services.len().to_string());
        return Err(SyntaxError { column: part.column, expected, found });
    }
    Ok(services)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Prefix(net) => write!(f, "{net}"),
            Self::Select(selector) => write!(f, "{selector}"),
        }
    }
}
