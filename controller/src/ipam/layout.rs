//! What a subnet may give to ports: pools, reserved ranges, gateway, and the addresses that are never given.
//!
//! # Invariants
//! - An IPv4 prefix of at most 30 bits never gives its first and last address; an IPv6 prefix of at most
//!   126 bits never its first, which is the subnet-router anycast address (RFC 4291 section 2.6.1).
//! - The gateway is never given. The address that answers DHCP where there is no gateway, the first
//!   usable one, is not given either, but a port may ask for it.

use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;

use super::range::{Range, Run, ip_of, key_of, merged, without};

/// Ranges of one kind that a subnet may have.
pub const RANGES_MAX: usize = 256;

/// A subnet, understood.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layout {
    /// The prefix.
    pub net: IpNet,
    /// The router's address.
    pub gateway: Option<IpAddr>,
    /// Allocate from these; none means from everything.
    pub pools: Vec<Range>,
    /// Never allocate these.
    pub reserved: Vec<Range>,
    /// DHCP is answered.
    pub dhcp: bool,
}

/// Why a subnet, or an address in it, is refused.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
#[non_exhaustive]
pub enum LayoutError {
    /// A prefix was expected.
    #[error("{got:?} is no prefix such as 10.0.1.0/24 or fd00:1::/64")]
    Prefix {
        /// What was found.
        got: String,
    },
    /// The prefix has host bits.
    #[error("{got} has bits set beyond its prefix length; did you mean {meant}?")]
    HostBits {
        /// What was found.
        got: IpNet,
        /// The prefix it is in.
        meant: IpNet,
    },
    /// The whole address space, or addresses that hosts cannot have.
    #[error("{net} cannot be a subnet: it holds addresses that are {why}")]
    Unusable {
        /// The prefix.
        net: IpNet,
        /// What they are.
        why: &'static str,
    },
    /// An address was expected.
    #[error("{got:?} is no IP address")]
    Address {
        /// What was found.
        got: String,
    },
    /// The address is not of the subnet.
    #[error("{ip} is outside the subnet {net}")]
    Outside {
        /// The address.
        ip: IpAddr,
        /// The subnet.
        net: IpNet,
    },
    /// The address is the network's or the broadcast address, or the gateway's.
    #[error("{ip} is the {what} of {net} and cannot be a port's")]
    Taken {
        /// The address.
        ip: IpAddr,
        /// What it is.
        what: &'static str,
        /// The subnet.
        net: IpNet,
    },
    /// The ends are the wrong way round.
    #[error("a range goes from its lower to its higher end, got {first} to {last}")]
    Order {
        /// First end.
        first: IpAddr,
        /// Last end.
        last: IpAddr,
    },
}

impl Layout {
    /// Understands the prefix of a subnet.
    pub fn prefix(cidr: &str) -> Result<IpNet, LayoutError> {
        let net: IpNet = cidr.parse().map_err(|_| LayoutError::Prefix { got: cidr.to_owned() })?;
        if net.trunc() != net {
            return Err(LayoutError::HostBits { got: net, meant: net.trunc() });
        }
        let unusable = |why| Err(LayoutError::Unusable { net, why });
        match net {
            _ if net.prefix_len() == 0 => unusable("every host's"),
            IpNet::V4(v4) if v4.network().is_multicast() || v4.network().octets()[0] >= 240 => {
                unusable("multicast or reserved")
            }
            IpNet::V4(v4) if v4.network().is_loopback() => unusable("loopback"),
            IpNet::V6(v6) if v6.network().is_multicast() => unusable("multicast"),
            IpNet::V6(v6) if v6.network().is_unicast_link_local() => unusable("link-local"),
            _ => Ok(net),
        }
    }

    /// Understands an address of the subnet `net`.
    pub fn address(net: IpNet, text: &str) -> Result<IpAddr, LayoutError> {
        let ip: IpAddr = text.parse().map_err(|_| LayoutError::Address { got: text.to_owned() })?;
        if net.contains(&ip) { Ok(ip) } else { Err(LayoutError::Outside { ip, net }) }
    }

    /// Understands a range of the subnet `net`.
    pub fn range(net: IpNet, first: &str, last: &str) -> Result<Range, LayoutError> {
        let (first, last) = (Self::address(net, first)?, Self::address(net, last)?);
        Range::new(first, last).ok_or(LayoutError::Order { first, last })
    }

    /// The address, if it may be a router's.
    pub fn gateway(net: IpNet, text: &str) -> Result<IpAddr, LayoutError> {
        let ip = Self::address(net, text)?;
        match special(net).find(|(special, _)| *special == ip) {
            Some((_, what)) => Err(LayoutError::Taken { ip, what, net }),
            None => Ok(ip),
        }
    }

    /// Every key of the prefix.
    pub fn whole(&self) -> Run {
        (key_of(self.net.network()), key_of(self.net.broadcast()))
    }

    /// Runs of keys that a port without a wish may be given, in order.
    pub fn given_freely(&self) -> Vec<Run> {
        let pools = if self.pools.is_empty() {
            vec![self.whole()]
        } else {
            merged(self.pools.iter().map(Range::run).collect())
        };
        let one = |ip| (key_of(ip), key_of(ip));
        let holes = special(self.net).map(|(ip, _)| one(ip));
        let holes = holes.chain(self.gateway.map(one)).chain(self.dhcp_server().map(one));
        without(pools, holes.chain(self.reserved.iter().map(Range::run)).collect())
    }

    /// Refuses an address that no port may have, even by asking for it.
    pub fn allows(&self, ip: IpAddr) -> Result<(), LayoutError> {
        let net = self.net;
        if !net.contains(&ip) {
            return Err(LayoutError::Outside { ip, net });
        }
        if self.gateway == Some(ip) {
            return Err(LayoutError::Taken { ip, what: "gateway", net });
        }
        match special(net).find(|(special, _)| *special == ip) {
            Some((_, what)) => Err(LayoutError::Taken { ip, what, net }),
            None => Ok(()),
        }
    }

    /// Who answers DHCP: the gateway, or the first usable address of an IPv4 subnet without one.
    pub fn dhcp_server(&self) -> Option<IpAddr> {
        if !self.dhcp || !self.net.network().is_ipv4() {
            return None;
        }
        self.gateway.or_else(|| {
            let (first, last) = self.whole();
            let first = if self.net.prefix_len() <= 30 { first + 1 } else { first };
            ip_of(first.min(last), self.net.network())
        })
    }
}

/// Addresses of a prefix that belong to nobody, and what they are.
fn special(net: IpNet) -> impl Iterator<Item = (IpAddr, &'static str)> {
    let first = match net {
        IpNet::V4(net) => net.prefix_len() <= 30,
        IpNet::V6(net) => net.prefix_len() <= 126,
    };
    let last = first && net.network().is_ipv4();
    let what = if net.network().is_ipv4() { "network address" } else { "subnet-router anycast address" };
    let first = first.then(|| (net.network(), what));
    first.into_iter().chain(last.then(|| (net.broadcast(), "broadcast address")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(cidr: &str, gateway: Option<&str>, dhcp: bool) -> Layout {
        let net = Layout::prefix(cidr).unwrap();
        let gateway = gateway.map(|gateway| Layout::gateway(net, gateway).unwrap());
        Layout { net, gateway, pools: vec![], reserved: vec![], dhcp }
    }

    fn runs(layout: &Layout) -> Vec<String> {
        let ip = |key| ip_of(key, layout.net.network()).unwrap();
        layout.given_freely().iter().map(|(first, last)| format!("{}-{}", ip(*first), ip(*last))).collect()
    }

    #[test]
    fn what_a_port_may_be_given() {
        assert_eq!(runs(&layout("10.0.0.0/24", Some("10.0.0.1"), true)), ["10.0.0.2-10.0.0.254"]);
        assert_eq!(runs(&layout("10.0.0.0/24", None, false)), ["10.0.0.1-10.0.0.254"]);
        assert_eq!(runs(&layout("10.0.0.0/24", None, true)), ["10.0.0.2-10.0.0.254"]);
        assert_eq!(runs(&layout("10.0.0.0/31", None, false)), ["10.0.0.0-10.0.0.1"]);
        assert_eq!(runs(&layout("10.0.0.7/32", None, false)), ["10.0.0.7-10.0.0.7"]);
        assert_eq!(runs(&layout("10.0.0.7/32", None, true)), Vec::<String>::new());
        assert_eq!(
            runs(&layout("8000::/1", None, true)),
            Vec::<String>::new()
                .into_iter()
                .chain(["8000::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".to_owned()])
                .collect::<Vec<_>>()
        );
        let mut pooled = layout("10.0.0.0/24", Some("10.0.0.1"), true);
        pooled.pools = vec![Layout::range(pooled.net, "10.0.0.0", "10.0.0.19").unwrap()];
        pooled.reserved = vec![Layout::range(pooled.net, "10.0.0.10", "10.0.0.12").unwrap()];
        assert_eq!(runs(&pooled), ["10.0.0.2-10.0.0.9", "10.0.0.13-10.0.0.19"]);
    }

    #[test]
    fn what_a_subnet_and_an_address_may_not_be() {
        for wrong in [
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.1/24",
            "0.0.0.0/0",
            "::/0",
            "224.0.0.0/8",
            "fe80::/64",
            "127.0.0.0/8",
            "",
        ] {
            assert!(Layout::prefix(wrong).is_err(), "{wrong}");
        }
        let subnet = layout("10.0.0.0/24", Some("10.0.0.1"), true);
        let refused = |ip: &str| subnet.allows(ip.parse().unwrap()).unwrap_err().to_string();
        assert_eq!(
            refused("10.0.0.0"),
            "10.0.0.0 is the network address of 10.0.0.0/24 and cannot be a port's"
        );
        assert_eq!(
            refused("10.0.0.255"),
            "10.0.0.255 is the broadcast address of 10.0.0.0/24 and cannot be a port's"
        );
        assert_eq!(refused("10.0.0.1"), "10.0.0.1 is the gateway of 10.0.0.0/24 and cannot be a port's");
        assert_eq!(refused("10.0.1.1"), "10.0.1.1 is outside the subnet 10.0.0.0/24");
        assert_eq!(refused("fd00::1"), "fd00::1 is outside the subnet 10.0.0.0/24");
        assert!(Layout::gateway(subnet.net, "10.0.0.255").is_err());
        assert!(Layout::range(subnet.net, "10.0.0.9", "10.0.0.3").is_err());
    }
}
