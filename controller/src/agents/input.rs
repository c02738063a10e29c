//! What agents say, parsed at the border into what cannot be wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use quantumnet_api::v1;
use quantumnet_model::{Uuid, address::Mac};
use thiserror::Error;

/// Why an agent's message was refused.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum InputError {
    /// Text that is empty, too long, or not printable.
    #[error("{field} is {got:?}, expected 1 to {max} printable characters")]
    Text {
        /// The field.
        field: &'static str,
        /// The bound.
        max: usize,
        /// What was there, cut short.
        got: String,
    },
    /// More elements than a message may hold.
    #[error("{field} has {got} elements, at most {max} are accepted")]
    TooMany {
        /// The field.
        field: &'static str,
        /// The bound.
        max: usize,
        /// How many there were.
        got: usize,
    },
    /// A tunnel type that is not supported.
    #[error("encap type is {got:?}, expected geneve or vxlan")]
    EncapType {
        /// What was there, cut short.
        got: String,
    },
    /// No IP address.
    #[error("encap ip is {got:?}, expected an IPv4 or IPv6 address")]
    Address {
        /// What was there, cut short.
        got: String,
    },
    /// A chassis needs a tunnel endpoint.
    #[error("encaps is empty, expected at least one; set external_ids:ovn-encap-type and ovn-encap-ip")]
    NoEncap,
    /// No unicast MAC address.
    #[error("mac is {got:?}, expected a unicast address as 0a:00:00:00:00:01")]
    Mac {
        /// What was there, cut short.
        got: String,
    },
    /// A number outside its range.
    #[error("{field} is {got}, expected {min} to {max}")]
    Range {
        /// The field.
        field: &'static str,
        /// Lower bound.
        min: u64,
        /// Upper bound.
        max: u64,
        /// What was there.
        got: u64,
    },
}

/// What an agent says of its hypervisor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Facts {
    /// Host name.
    pub hostname: String,
    /// Tunnel endpoints by type and address, with their options; at least one.
    pub encaps: BTreeMap<(String, IpAddr), BTreeMap<String, String>>,
    /// `Chassis.other_config`.
    pub other_config: BTreeMap<String, String>,
    /// What it cannot do.
    pub problems: Vec<String>,
}

/// An interface with an iface-id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Interface {
    /// external_ids:iface-id.
    pub iface_id: String,
    /// external_ids:iface-id-ver, or empty.
    pub iface_id_ver: String,
    /// Count of appearances.
    pub generation: i64,
}

/// A source MAC seen on a port.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Learned {
    /// The address.
    pub mac: Mac,
    /// Key of the datapath.
    pub datapath_key: i64,
    /// Key of the port.
    pub port_key: i64,
}

/// A virtual port and the parent that has announced its address.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Claimed {
    /// Key of the datapath of both.
    pub datapath_key: i64,
    /// Key of the virtual port.
    pub port_key: i64,
    /// Key of the parent.
    pub parent_key: i64,
}

/// A neighbour of a router port.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Neighbour {
    /// Key of the router's datapath.
    pub datapath_key: i64,
    /// Key of its port.
    pub port_key: i64,
    /// The neighbour's address.
    pub ip: IpAddr,
    /// Its MAC.
    pub mac: Mac,
}

impl Facts {
    /// Parses what the agent sent.
    pub fn parse(facts: v1::ChassisFacts) -> Result<Self, InputError> {
        few("encaps", facts.encaps.len(), ENCAPS_MAX)?;
        let mut encaps = BTreeMap::new();
        for encap in facts.encaps {
            if !matches!(encap.r#type.as_str(), "geneve" | "vxlan") {
                return Err(InputError::EncapType { got: short(&encap.r#type) });
            }
            let ip = encap.ip.parse().map_err(|_| InputError::Address { got: short(&encap.ip) })?;
            encaps.insert((encap.r#type, ip), pairs("encap options", encap.options)?);
        }
        if encaps.is_empty() {
            return Err(InputError::NoEncap);
        }
        few("problems", facts.problems.len(), PROBLEMS_MAX)?;
        Ok(Self {
            hostname: text("hostname", facts.hostname, HOSTNAME_MAX)?,
            encaps,
            other_config: pairs("other_config", facts.other_config)?,
            problems: facts
                .problems
                .iter()
                .map(|problem| problem.chars().take(VALUE_MAX).collect())
                .collect(),
        })
    }
}

impl Interface {
    /// Parses a list of interfaces; the last of several with one iface-id counts.
    pub fn parse_all(interfaces: Vec<v1::LocalInterface>) -> Result<BTreeMap<String, Self>, InputError> {
        few("interfaces", interfaces.len(), INTERFACES_MAX)?;
        let parse = |interface: v1::LocalInterface| {
            let got = interface.generation;
            let range = InputError::Range { field: "generation", min: 0, max: i64::MAX as u64, got };
            if !interface.iface_id_ver.is_empty() {
                text("iface_id_ver", interface.iface_id_ver.clone(), NAME_MAX)?;
            }
            let parsed = Self {
                iface_id: text("iface_id", interface.iface_id, NAME_MAX)?,
                iface_id_ver: interface.iface_id_ver,
                generation: i64::try_from(got).map_err(|_| range)?,
            };
            Ok((parsed.iface_id.clone(), parsed))
        };
        interfaces.into_iter().map(parse).collect()
    }

    /// Parses names of interfaces that went.
    pub fn parse_removed(names: Vec<String>) -> Result<Vec<String>, InputError> {
        few("interfaces_removed", names.len(), INTERFACES_MAX)?;
        names.into_iter().map(|name| text("iface_id", name, NAME_MAX)).collect()
    }
}

impl Learned {
    /// Parses learned MACs.
    pub fn parse_all(learned: &[v1::LearnedMac]) -> Result<Vec<Self>, InputError> {
        few("macs_learned", learned.len(), LEARNED_MAX)?;
        learned.iter().map(Self::parse).collect()
    }

    /// As it was sent.
    pub(crate) fn message(&self) -> v1::LearnedMac {
        v1::LearnedMac {
            mac: self.mac.to_string(),
            datapath_key: sent(self.datapath_key),
            port_key: sent(self.port_key),
        }
    }

    fn parse(learned: &v1::LearnedMac) -> Result<Self, InputError> {
        Ok(Self {
            mac: unicast(&learned.mac)?,
            datapath_key: key("datapath_key", learned.datapath_key, 0xff_ffff)?,
            port_key: key("port_key", learned.port_key, 0x7fff)?,
        })
    }
}

impl Claimed {
    /// Parses claims of virtual ports.
    pub fn parse_all(claims: &[v1::VirtualClaim]) -> Result<Vec<Self>, InputError> {
        few("virtual_claims", claims.len(), CLAIMS_MAX)?;
        let parse = |claim: &v1::VirtualClaim| {
            Ok(Self {
                datapath_key: key("datapath_key", claim.datapath_key, 0xff_ffff)?,
                port_key: key("port_key", claim.port_key, 0x7fff)?,
                parent_key: key("parent_key", claim.parent_key, 0x7fff)?,
            })
        };
        claims.iter().map(parse).collect()
    }
}

impl Neighbour {
    /// Parses neighbours of router ports.
    pub fn parse_all(learned: &[v1::LearnedNeighbour]) -> Result<Vec<Self>, InputError> {
        few("neighbours_learned", learned.len(), LEARNED_MAX)?;
        let parse = |one: &v1::LearnedNeighbour| {
            Ok(Self {
                datapath_key: key("datapath_key", one.datapath_key, 0xff_ffff)?,
                port_key: key("port_key", one.port_key, 0x7fff)?,
                ip: one.ip.parse().map_err(|_| InputError::Address { got: short(&one.ip) })?,
                mac: unicast(&one.mac)?,
            })
        };
        learned.iter().map(parse).collect()
    }

    /// As it was sent.
    pub(crate) fn message(&self) -> v1::LearnedNeighbour {
        v1::LearnedNeighbour {
            datapath_key: sent(self.datapath_key),
            port_key: sent(self.port_key),
            ip: self.ip.to_string(),
            mac: self.mac.to_string(),
        }
    }
}

/// Parses names of ports that a chassis serves.
pub(crate) fn serves(ports: v1::ServedPorts) -> Result<BTreeSet<String>, InputError> {
    few("serves", ports.ports.len(), INTERFACES_MAX)?;
    ports.ports.into_iter().map(|name| text("serves", name, NAME_MAX)).collect()
}

/// Parses states of sessions, by the uuid of their row.
pub(crate) fn bfd(states: Vec<v1::BfdState>) -> Result<BTreeMap<Uuid, String>, InputError> {
    few("bfd", states.len(), CLAIMS_MAX)?;
    let parse = |state: v1::BfdState| {
        let bad = |field, got: &str| InputError::Text { field, max: NAME_MAX, got: short(got) };
        let session = state.session.parse().map_err(|_| bad("session", &state.session))?;
        match state.status.as_str() {
            "admin_down" | "down" | "init" | "up" => Ok((session, state.status)),
            other => Err(bad("status", other)),
        }
    };
    states.into_iter().map(parse).collect()
}

/// Parses names of ports that were activated.
pub(crate) fn activated(names: Vec<String>) -> Result<Vec<String>, InputError> {
    few("activated", names.len(), INTERFACES_MAX)?;
    names.into_iter().map(|name| text("activated", name, NAME_MAX)).collect()
}

/// Parses a chassis name.
pub(crate) fn chassis_name(name: String) -> Result<String, InputError> {
    text("chassis", name, NAME_MAX)
}

fn unicast(text: &str) -> Result<Mac, InputError> {
    let mac = text.parse().ok().filter(|mac: &Mac| !mac.is_multicast() && mac.0 != [0; 6]);
    mac.ok_or_else(|| InputError::Mac { got: short(text) })
}

/// A key that [`key`] accepted.
fn sent(key: i64) -> u32 {
    u32::try_from(key).expect("a key was parsed from an u32")
}

fn key(field: &'static str, got: u32, max: u32) -> Result<i64, InputError> {
    if got == 0 || got > max {
        return Err(InputError::Range { field, min: 1, max: u64::from(max), got: u64::from(got) });
    }
    Ok(i64::from(got))
}

fn text(field: &'static str, text: String, max: usize) -> Result<String, InputError> {
    if text.is_empty() || text.chars().count() > max || text.chars().any(char::is_control) {
        return Err(InputError::Text { field, max, got: short(&text) });
    }
    Ok(text)
}

fn pairs(
    field: &'static str,
    pairs: impl IntoIterator<Item = (String, String), IntoIter: ExactSizeIterator>,
) -> Result<BTreeMap<String, String>, InputError> {
    let pairs = pairs.into_iter();
    few(field, pairs.len(), PAIRS_MAX)?;
    let check = |(name, value): (String, String)| {
        if value.chars().count() > VALUE_MAX || value.chars().any(char::is_control) {
            return Err(InputError::Text { field, max: VALUE_MAX, got: short(&value) });
        }
        Ok((text(field, name, NAME_MAX)?, value))
    };
    pairs.map(check).collect()
}

fn few(field: &'static str, got: usize, max: usize) -> Result<(), InputError> {
    if got > max { Err(InputError::TooMany { field, max, got }) } else { Ok(()) }
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

const NAME_MAX: usize = 255;
const HOSTNAME_MAX: usize = 255;
const VALUE_MAX: usize = 4_096;
const PAIRS_MAX: usize = 256;
const ENCAPS_MAX: usize = 64;
const PROBLEMS_MAX: usize = 64;
const INTERFACES_MAX: usize = 16_384;
const LEARNED_MAX: usize = 4_096;
const CLAIMS_MAX: usize = 4_096;
