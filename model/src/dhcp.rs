//! DHCPv4 options as `DHCP_Options.options` names them, and their encoding (RFC 2132, 3397, 3442; ovn-nb(5)).
//!
//! # Contract
//! - Controllers check with it what they are given, agents encode with it what they send: what the one accepts, the
//!   other can send.
//!
//! # Invariants
//! - [`OPTIONS`] is the whole list: a name that is not in it is an error, never passed over.
//! - An encoded option is at most 255 octets long, so it needs no splitting (RFC 3396).

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;
use thiserror::Error;

/// How a value is written and what becomes of it on the wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// One or more addresses: `10.0.0.1`, `{8.8.8.8, 7.7.7.7}`.
    Addresses,
    /// `0`, `1`, `true`, `false`.
    Boolean,
    /// A number of one octet.
    U8,
    /// A number of two octets.
    U16,
    /// A number of four octets.
    U32,
    /// Text, usually in quotes.
    Text,
    /// An address, sent as one; or text in quotes.
    Host,
    /// Pairs of prefix and next hop: `{30.0.0.0/24,10.0.0.4, 0.0.0.0/0,10.0.0.1}`.
    Routes,
    /// Domain names with commas between them.
    Domains,
}

/// An option that can be given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OptionDecl {
    /// Its name in `DHCP_Options.options`.
    pub name: &'static str,
    /// Its code.
    pub code: u8,
    /// Its form.
    pub kind: Kind,
}

const fn option(name: &'static str, code: u8, kind: Kind) -> OptionDecl {
    OptionDecl { name, code, kind }
}

/// Every option, by name.
pub const OPTIONS: &[OptionDecl] = &[
    option("T1", 58, Kind::U32),
    option("T2", 59, Kind::U32),
    option("arp_cache_timeout", 35, Kind::U32),
    option("bootfile_name", BOOTFILE, Kind::Text),
    // Sent under the code of `bootfile_name`, but for iPXE where there are both; 254 never goes out.
    option("bootfile_name_alt", 254, Kind::Text),
    option("broadcast_address", 28, Kind::Addresses),
    option("classless_static_route", 121, Kind::Routes),
    option("default_ttl", 23, Kind::U8),
    option("dns_server", 6, Kind::Addresses),
    option("domain_name", 15, Kind::Text),
    option("domain_search_list", 119, Kind::Domains),
    option("ethernet_encap", 36, Kind::Boolean),
    option("hostname", 12, Kind::Text),
    option("ip_forward_enable", 19, Kind::Boolean),
    option("lease_time", LEASE_TIME, Kind::U32),
    option("log_server", 7, Kind::Addresses),
    option("lpr_server", 9, Kind::Addresses),
    option("ms_classless_static_route", 249, Kind::Routes),
    option("mtu", 26, Kind::U16),
    option("netbios_name_server", 44, Kind::Addresses),
    option("netbios_node_type", 46, Kind::U8),
    option("netmask", NETMASK, Kind::Addresses),
    // The field `siaddr` too. As in OVN the option goes out, though no client knows it.
    option("next_server", NEXT_SERVER, Kind::Addresses),
    option("nis_server", 41, Kind::Addresses),
    option("ntp_server", 42, Kind::Addresses),
    option("path_prefix", 210, Kind::Text),
    option("policy_filter", 21, Kind::Addresses),
    option("router", 3, Kind::Addresses),
    option("router_discovery", 31, Kind::Boolean),
    option("router_solicitation", 32, Kind::Addresses),
    option("server_id", SERVER_ID, Kind::Addresses),
    option("swap_server", 16, Kind::Addresses),
    option("tcp_keepalive_interval", 38, Kind::U32),
    option("tcp_ttl", 37, Kind::U8),
    option("tftp_server", 66, Kind::Host),
    option("tftp_server_address", 150, Kind::Addresses),
    option("wpad", 252, Kind::Text),
];

/// Why a value can't be an option.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
#[non_exhaustive]
pub enum OptionError {
    /// Not in the list.
    #[error("unknown DHCP option {name:?}")]
    Unknown {
        /// The name.
        name: String,
    },
    /// Not of the option's form.
    #[error("DHCP option {name}: expected {expected}, got {got:?}")]
    Value {
        /// The option.
        name: &'static str,
        /// Its form in words.
        expected: &'static str,
        /// What was found.
        got: String,
    },
    /// An option holds 255 octets.
    #[error("DHCP option {name}: at most 255 octets fit, got {got}")]
    TooLong {
        /// The option.
        name: &'static str,
        /// Its length.
        got: usize,
    },
}

impl OptionDecl {
    /// The option of that name.
    pub fn find(name: &str) -> Result<&'static Self, OptionError> {
        let unknown = || OptionError::Unknown { name: name.to_owned() };
        OPTIONS.iter().find(|decl| decl.name == name).ok_or_else(unknown)
    }

    /// The value's octets, without code and length.
    pub fn encode(&self, value: &str) -> Result<Vec<u8>, OptionError> {
        let value = value.trim();
        let octets = match self.kind {
            Kind::Addresses => addresses(value).map(|list| list.iter().flat_map(|ip| ip.octets()).collect()),
            Kind::Boolean => boolean(value).map(|on| vec![u8::from(on)]),
            Kind::U8 => value.parse().ok().map(|number: u8| vec![number]),
            Kind::U16 => value.parse().ok().map(|number: u16| number.to_be_bytes().to_vec()),
            Kind::U32 => value.parse().ok().map(|number: u32| number.to_be_bytes().to_vec()),
            Kind::Text => text(value).map(String::into_bytes),
            Kind::Host => match value.parse::<Ipv4Addr>() {
                Ok(address) => Some(address.octets().to_vec()),
                Err(_) => text(value).map(String::into_bytes),
            },
            Kind::Routes => routes(value),
            Kind::Domains => text(value).and_then(|list| domains(&list)),
        };
        let octets = octets.ok_or_else(|| self.wrong(value))?;
        if octets.len() > 255 {
            return Err(OptionError::TooLong { name: self.name, got: octets.len() });
        }
        Ok(octets)
    }

    /// That the value is none of this option.
    pub fn wrong(&self, value: &str) -> OptionError {
        OptionError::Value { name: self.name, expected: self.kind.expected(), got: value.to_owned() }
    }
}

impl Kind {
    const fn expected(self) -> &'static str {
        match self {
            Self::Addresses => "IPv4 addresses such as {10.0.0.1, 10.0.0.2}",
            Self::Boolean => "0 or 1",
            Self::U8 => "a number up to 255",
            Self::U16 => "a number up to 65535",
            Self::U32 => "a number up to 4294967295",
            Self::Text => "text of 1 to 255 octets, in quotes or not",
            Self::Host => "an IPv4 address, or text in quotes",
            Self::Routes => "pairs of prefix and next hop such as {30.0.0.0/24,10.0.0.4, 0.0.0.0/0,10.0.0.1}",
            Self::Domains => "domain names with commas between them",
        }
    }
}

/// Elements of `{a, b}`, or of the bare list.
fn elements(value: &str) -> impl Iterator<Item = &str> {
    let inner = value.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(value);
    inner.split([',', ' ']).map(str::trim).filter(|element| !element.is_empty())
}

fn addresses(value: &str) -> Option<Vec<Ipv4Addr>> {
    let list: Vec<Ipv4Addr> = elements(value).map(|element| element.parse().ok()).collect::<Option<_>>()?;
    (!list.is_empty()).then_some(list)
}

fn boolean(value: &str) -> Option<bool> {
    match value {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

/// The value of [`Kind::Text`]: text in quotes is a string of JSON, as in OVN's expression language.
pub fn text(value: &str) -> Option<String> {
    if value.starts_with('"') { serde_json::from_str(value).ok() } else { Some(value.to_owned()) }
}

/// RFC 3442: width, significant octets of the destination, router.
fn routes(value: &str) -> Option<Vec<u8>> {
    let elements: Vec<&str> = elements(value).collect();
    if elements.is_empty() || !elements.len().is_multiple_of(2) {
        return None;
    }
    let mut octets = Vec::new();
    for pair in elements.chunks(2) {
        let prefix: Ipv4Net = match pair[0].parse() {
            Ok(prefix) => prefix,
            Err(_) => Ipv4Net::from(pair[0].parse::<Ipv4Addr>().ok()?),
        };
        let router: Ipv4Addr = pair[1].parse().ok()?;
        let significant = usize::from(prefix.prefix_len()).div_ceil(8);
        octets.push(prefix.prefix_len());
        octets.extend_from_slice(&prefix.network().octets()[..significant]);
        octets.extend_from_slice(&router.octets());
    }
    Some(octets)
}

/// RFC 1035, section 3.1: labels with their length, then zero; what ends as a name before it points there (4.1.4, RFC 3397).
fn domains(list: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    let mut places: BTreeMap<&str, u16> = BTreeMap::new();
    for domain in list.split(',').map(str::trim).filter(|domain| !domain.is_empty()) {
        let mut rest = domain.trim_end_matches('.');
        loop {
            if let Some(place) = places.get(rest) {
                octets.extend_from_slice(&(POINTER | place).to_be_bytes());
                break;
            }
            places.insert(rest, u16::try_from(octets.len()).ok().filter(|place| *place < POINTER)?);
            let (label, beyond) =
                rest.split_once('.').map_or((rest, None), |(label, more)| (label, Some(more)));
            let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
            octets.push(length);
            octets.extend_from_slice(label.as_bytes());
            let Some(beyond) = beyond else {
                octets.push(0);
                break;
            };
            rest = beyond;
        }
    }
    (!octets.is_empty()).then_some(octets)
}

/// The two bits that tell a place from a label's length.
const POINTER: u16 = 0xc000;

/// Subnet mask.
pub const NETMASK: u8 = 1;
/// Address lease time.
pub const LEASE_TIME: u8 = 51;
/// Server identifier.
pub const SERVER_ID: u8 = 54;
/// Next server, as OVN has it.
pub const NEXT_SERVER: u8 = 253;
/// Bootfile name.
pub const BOOTFILE: u8 = 67;
/// Renewal time.
pub const T1: u8 = 58;
/// Rebinding time.
pub const T2: u8 = 59;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, value: &str, expected: Result<&[u8], &str>) {
        let got =
            OptionDecl::find(name).and_then(|decl| decl.encode(value)).map_err(|error| error.to_string());
        assert_eq!(got.as_deref().map_err(String::as_str), expected, "{name}={value}");
    }

    #[test]
    fn values_become_octets() {
        check("router", "10.0.0.1", Ok(&[10, 0, 0, 1]));
        check("dns_server", "{8.8.8.8, 7.7.7.7}", Ok(&[8, 8, 8, 8, 7, 7, 7, 7]));
        check("dns_server", "{8.8.8.8,7.7.7.7}", Ok(&[8, 8, 8, 8, 7, 7, 7, 7]));
        check("ip_forward_enable", "1", Ok(&[1]));
        check("default_ttl", "64", Ok(&[64]));
        check("mtu", "1400", Ok(&[5, 120]));
        check("lease_time", "3600", Ok(&[0, 0, 14, 16]));
        check("domain_name", r#""ovn.org""#, Ok(b"ovn.org"));
        check("domain_name", "ovn.org", Ok(b"ovn.org"));
        check("tftp_server", "10.0.0.9", Ok(&[10, 0, 0, 9]));
        check("tftp_server", r#""10.0.0.9""#, Ok(b"10.0.0.9"));
        check(
            "classless_static_route",
            "{30.0.0.0/24,10.0.0.4,0.0.0.0/0,10.0.0.1}",
            Ok(&[24, 30, 0, 0, 10, 0, 0, 4, 0, 10, 0, 0, 1]),
        );
        check("domain_search_list", r#""a.b,c""#, Ok(&[1, b'a', 1, b'b', 0, 1, b'c', 0]));
        check(
            "domain_search_list",
            r#""a.ovn,b.ovn,ovn,c.b.ovn,a.ovn""#,
            Ok(b"\x01a\x03ovn\x00\x01b\xc0\x02\xc0\x02\x01c\xc0\x07\xc0\x00"),
        );
    }

    #[test]
    fn wrong_values_are_named() {
        check("rooter", "10.0.0.1", Err(r#"unknown DHCP option "rooter""#));
        check(
            "router",
            "",
            Err(r#"DHCP option router: expected IPv4 addresses such as {10.0.0.1, 10.0.0.2}, got """#),
        );
        check("mtu", "65536", Err(r#"DHCP option mtu: expected a number up to 65535, got "65536""#));
        check(
            "classless_static_route",
            "1.0.0.0/8",
            Err(
                r#"DHCP option classless_static_route: expected pairs of prefix and next hop such as {30.0.0.0/24,10.0.0.4, 0.0.0.0/0,10.0.0.1}, got "1.0.0.0/8""#,
            ),
        );
        check(
            "domain_search_list",
            "a..b",
            Err(
                r#"DHCP option domain_search_list: expected domain names with commas between them, got "a..b""#,
            ),
        );
        check("wpad", &"x".repeat(256), Err("DHCP option wpad: at most 255 octets fit, got 256"));
    }

    #[test]
    fn the_list_is_sorted_and_each_code_is_there_once() {
        assert!(OPTIONS.windows(2).all(|pair| pair[0].name < pair[1].name));
        let codes: std::collections::BTreeSet<u8> = OPTIONS.iter().map(|decl| decl.code).collect();
        assert_eq!(codes.len(), OPTIONS.len());
    }
}
