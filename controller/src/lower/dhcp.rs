//! Options of `DHCP_Options` for IPv4: their names and forms as OVN has them (`lib/ovn-l7.h`), and what a subnet says.
//!
//! # Invariants
//! - What [`check`] accepts, an agent can encode.

use std::net::Ipv4Addr;

use imbl::OrdMap;
use ipnet::Ipv4Net;
use quantumnet_model::{column::Text, intent::Subnet};
use thiserror::Error;

use crate::ipam::{Layout, mac};

/// Lease time while the subnet names none, in seconds.
pub const LEASE_TIME: i64 = 3_600;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Addresses,
    Boolean,
    Number(u32),
    Text,
    Host,
    Routes,
    Domains,
    /// Has a field of its own, which is named.
    Field(&'static str),
}

/// By name.
const OPTIONS: &[(&str, Kind)] = &[
    ("T1", Kind::Number(u32::MAX)),
    ("T2", Kind::Number(u32::MAX)),
    ("arp_cache_timeout", Kind::Number(u32::MAX)),
    ("bootfile_name", Kind::Text),
    ("bootfile_name_alt", Kind::Text),
    ("broadcast_address", Kind::Addresses),
    ("classless_static_route", Kind::Routes),
    ("default_ttl", Kind::Number(255)),
    ("dns_server", Kind::Field("dns_servers")),
    ("domain_name", Kind::Field("domain_name")),
    ("domain_search_list", Kind::Domains),
    ("ethernet_encap", Kind::Boolean),
    ("hostname", Kind::Field("hostname of the port")),
    ("ip_forward_enable", Kind::Boolean),
    ("lease_time", Kind::Field("lease_time")),
    ("log_server", Kind::Addresses),
    ("lpr_server", Kind::Addresses),
    ("ms_classless_static_route", Kind::Routes),
    ("mtu", Kind::Field("mtu of the network")),
    ("netbios_name_server", Kind::Addresses),
    ("netbios_node_type", Kind::Number(255)),
    ("netmask", Kind::Field("cidr of the subnet")),
    ("next_server", Kind::Addresses),
    ("nis_server", Kind::Addresses),
    ("ntp_server", Kind::Field("ntp_servers")),
    ("path_prefix", Kind::Text),
    ("policy_filter", Kind::Addresses),
    ("router", Kind::Field("gateway of the subnet")),
    ("router_discovery", Kind::Boolean),
    ("router_solicitation", Kind::Addresses),
    ("server_id", Kind::Field("gateway of the subnet")),
    ("server_mac", Kind::Field("gateway of the subnet")),
    ("swap_server", Kind::Addresses),
    ("tcp_keepalive_interval", Kind::Number(u32::MAX)),
    ("tcp_ttl", Kind::Number(255)),
    ("tftp_server", Kind::Host),
    ("tftp_server_address", Kind::Addresses),
    ("wpad", Kind::Text),
];

/// Why an option is refused.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
#[non_exhaustive]
pub enum OptionError {
    /// Not a name that OVN knows.
    #[error("unknown DHCP option {name:?}; known are {}", names())]
    Unknown {
        /// The name.
        name: String,
    },
    /// Not of the option's form.
    #[error("DHCP option {name} is {got:?}, expected {expected}")]
    Value {
        /// The option.
        name: String,
        /// What it may be.
        expected: String,
        /// What was found.
        got: String,
    },
    /// Follows from a field.
    #[error("DHCP option {name} follows from the {field}; set that instead")]
    HasField {
        /// The option.
        name: String,
        /// The field.
        field: &'static str,
    },
}

/// Accepts an option that a client names beside the fields of a subnet.
pub fn check(name: &str, value: &str) -> Result<(), OptionError> {
    let found = OPTIONS.iter().find(|(known, _)| *known == name);
    let (_, kind) = found.ok_or_else(|| OptionError::Unknown { name: name.to_owned() })?;
    let wrong =
        |expected: String| Err(OptionError::Value { name: name.to_owned(), expected, got: value.to_owned() });
    let value = value.trim();
    match kind {
        Kind::Field(field) => Err(OptionError::HasField { name: name.to_owned(), field }),
        Kind::Addresses if !is_addresses(value) => {
            wrong("IPv4 addresses such as {10.0.0.1, 10.0.0.2}".into())
        }
        Kind::Boolean if !matches!(value, "0" | "1" | "true" | "false") => wrong("0 or 1".into()),
        Kind::Number(max) if !value.parse::<u32>().is_ok_and(|number| number <= *max) => {
            wrong(format!("a number up to {max}"))
        }
        Kind::Text if !is_text(value, 255) => wrong("text of 1 to 255 octets, in quotes or not".into()),
        Kind::Host if value.parse::<Ipv4Addr>().is_err() && !is_text(value, 255) => {
            wrong("an IPv4 address or a name".into())
        }
        Kind::Routes if !is_routes(value) => {
            wrong("pairs of prefix and next hop such as {30.0.0.0/24,10.0.0.4, 0.0.0.0/0,10.0.0.1}".into())
        }
        Kind::Domains if !is_domains(value) => wrong("domain names with commas between them".into()),
        _ => Ok(()),
    }
}

/// The options of an IPv4 subnet's `DHCP_Options` row.
pub fn options(
    subnet: &Subnet,
    uuid: quantumnet_model::Uuid,
    layout: &Layout,
    mtu: u32,
) -> OrdMap<Text, Text> {
    let mut options = subnet.dhcp_options.clone();
    let mut set = |name: &str, value: String| _ = options.insert(name.into(), value.into());
    if let Some(server) = layout.dhcp_server() {
        set("server_id", server.to_string());
    }
    // Of the subnet's own making, so that it never changes under the guests.
    set("server_mac", mac::candidate(uuid, 0).to_string());
    let lease = if subnet.lease_time == 0 { LEASE_TIME } else { subnet.lease_time };
    set("lease_time", lease.to_string());
    set("mtu", mtu.to_string());
    if let Some(gateway) = layout.gateway {
        set("router", gateway.to_string());
    }
    if let Some(servers) = ipv4_list(&subnet.dns_servers) {
        set("dns_server", servers);
    }
    if let Some(servers) = ipv4_list(&subnet.ntp_servers) {
        set("ntp_server", servers);
    }
    if !subnet.domain_name.is_empty() {
        set("domain_name", format!("\"{}\"", subnet.domain_name));
    }
    options
}

/// One address as it is, several in braces.
fn ipv4_list(servers: &str) -> Option<String> {
    let servers: Vec<&str> =
        servers.split(',').map(str::trim).filter(|server| server.parse::<Ipv4Addr>().is_ok()).collect();
    match servers.as_slice() {
        [] => None,
        [one] => Some((*one).to_owned()),
        several => Some(format!("{{{}}}", several.join(", "))),
    }
}

fn elements(value: &str) -> Vec<&str> {
    let inner = value.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(value);
    inner.split([',', ' ']).map(str::trim).filter(|element| !element.is_empty()).collect()
}

fn is_addresses(value: &str) -> bool {
    let elements = elements(value);
    !elements.is_empty()
        && elements.len() <= 63
        && elements.iter().all(|element| element.parse::<Ipv4Addr>().is_ok())
}

fn is_routes(value: &str) -> bool {
    let elements = elements(value);
    let is_prefix = |text: &str| text.parse::<Ipv4Net>().is_ok() || text.parse::<Ipv4Addr>().is_ok();
    // At most nine octets each, of 255.
    !elements.is_empty()
        && elements.len().is_multiple_of(2)
        && elements.len() <= 56
        && elements.chunks(2).all(|pair| is_prefix(pair[0]) && pair[1].parse::<Ipv4Addr>().is_ok())
}

/// Text in quotes is a string of JSON, as in OVN's expression language.
fn text(value: &str) -> Option<String> {
    if value.starts_with('"') { serde_json::from_str(value).ok() } else { Some(value.to_owned()) }
}

fn is_text(value: &str, octets_max: usize) -> bool {
    text(value).is_some_and(|text| !text.is_empty() && text.len() <= octets_max)
}

fn is_domains(value: &str) -> bool {
    let is_domain = |domain: &str| {
        domain.len() <= 253
            && domain.trim_end_matches('.').split('.').all(|label| {
                !label.is_empty()
                    && label.len() <= 63
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            })
    };
    text(value)
        .is_some_and(|list| list.len() <= 240 && list.split(',').all(|domain| is_domain(domain.trim())))
}

fn names() -> String {
    let free = OPTIONS.iter().filter(|(_, kind)| !matches!(kind, Kind::Field(_)));
    free.map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_ovns_names_and_forms() {
        for (name, value) in [
            ("tftp_server", "10.0.0.9"),
            ("tftp_server", "\"boot.example.org\""),
            ("classless_static_route", "{30.0.0.0/24,10.0.0.4, 0.0.0.0/0,10.0.0.1}"),
            ("wpad", "\"http://wpad/\""),
            ("default_ttl", "64"),
            ("domain_search_list", "\"a.example,b.example\""),
            ("log_server", "{10.0.0.1, 10.0.0.2}"),
            ("router_discovery", "1"),
        ] {
            assert_eq!(check(name, value), Ok(()), "{name}");
        }
        let refused = |name: &str, value: &str| check(name, value).unwrap_err().to_string();
        assert!(refused("bootfile", "x").starts_with("unknown DHCP option \"bootfile\"; known are T1,"));
        assert_eq!(
            refused("router", "10.0.0.1"),
            "DHCP option router follows from the gateway of the subnet; set that instead"
        );
        assert_eq!(
            refused("default_ttl", "256"),
            "DHCP option default_ttl is \"256\", expected a number up to 255"
        );
        for (name, value) in [
            ("classless_static_route", "30.0.0.0/24"),
            ("log_server", "{}"),
            ("log_server", "fd00::1"),
            ("domain_search_list", "a..b"),
            ("ethernet_encap", "yes"),
            ("bootfile_name", ""),
        ] {
            assert!(check(name, value).is_err(), "{name}");
        }
    }
}
