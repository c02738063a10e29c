//! Options of `DHCP_Options` for IPv4 as a client may name them beside the fields of a subnet, and what a subnet says.
//!
//! # Invariants
//! - What [`check`] accepts, an agent can encode: both do it with [`quantumnet_model::dhcp`].

use std::net::Ipv4Addr;

use imbl::OrdMap;
use quantumnet_model::{
    column::Text,
    dhcp::{self, Kind, OPTIONS, OptionDecl},
    intent::Subnet,
};
use thiserror::Error;

use crate::ipam::{Layout, mac};

/// Lease time while the subnet names none, in seconds.
pub const LEASE_TIME: i64 = 3_600;

/// Options that follow from something else, which is named.
const FIELDS: &[(&str, &str)] = &[
    ("dns_server", "dns_servers"),
    ("domain_name", "domain_name"),
    ("hostname", "hostname of the port"),
    ("lease_time", "lease_time"),
    ("mtu", "mtu of the network"),
    ("netmask", "cidr of the subnet"),
    ("ntp_server", "ntp_servers"),
    ("router", "gateway of the subnet"),
    ("server_id", "gateway of the subnet"),
    ("server_mac", "gateway of the subnet"),
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
    #[error(transparent)]
    Value(dhcp::OptionError),
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
    if let Some((_, field)) = FIELDS.iter().find(|(known, _)| *known == name) {
        return Err(OptionError::HasField { name: name.to_owned(), field });
    }
    let decl = OptionDecl::find(name).map_err(|_| OptionError::Unknown { name: name.to_owned() })?;
    let octets = decl.encode(value).map_err(OptionError::Value)?;
    // Agents send these as OVN does; nobody means them.
    if octets.is_empty() || (decl.kind == Kind::Domains && !is_domains(value.trim())) {
        return Err(OptionError::Value(decl.wrong(value)));
    }
    Ok(())
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

/// Whether they are written as host names are.
fn is_domains(value: &str) -> bool {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.');
    let is_domain = |domain: &str| (1..=253).contains(&domain.len()) && domain.chars().all(is_plain);
    dhcp::text(value).is_some_and(|list| list.split(',').all(|domain| is_domain(domain.trim())))
}

fn names() -> String {
    let free = |name: &&str| !FIELDS.iter().any(|(field, _)| field == name);
    OPTIONS.iter().map(|decl| decl.name).filter(free).collect::<Vec<_>>().join(", ")
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
            "DHCP option default_ttl: expected a number up to 255, got \"256\""
        );
        for (name, value) in [
            ("classless_static_route", "30.0.0.0/24"),
            ("log_server", "{}"),
            ("log_server", "fd00::1"),
            ("domain_search_list", "a..b"),
            ("ethernet_encap", "yes"),
            ("bootfile_name", ""),
            ("domain_search_list", "a b,c"),
            ("domain_search_list", "\"a,,b\""),
            ("wpad", &"x".repeat(256)),
        ] {
            assert!(check(name, value).is_err(), "{name}");
        }
    }
}
