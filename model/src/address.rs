//! MAC addresses and the address strings of logical switch ports (ovn-nb(5), Logical_Switch_Port).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::IpNet;
use thiserror::Error;

/// A 48-bit MAC address.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// The group bit is set.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// The IPv6 link-local address made from it (RFC 4291, appendix A).
    pub const fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
    }
}

const fn pair(high: u8, low: u8) -> u16 {
    u16::from_be_bytes([high, low])
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Why a string is no address.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
#[non_exhaustive]
pub enum AddressError {
    /// Six hexadecimal octets with colons were expected.
    #[error("{got:?} is no MAC address such as 0a:00:00:00:00:01")]
    Mac {
        /// What was found.
        got: String,
    },
    /// An IPv4 or IPv6 address, or a prefix where one is allowed, was expected.
    #[error("{got:?} is no IP address")]
    Ip {
        /// What was found.
        got: String,
    },
    /// Nothing was given.
    #[error("the address is empty")]
    Empty,
}

impl FromStr for Mac {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError::Mac { got: text.to_owned() };
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|part| matches!(part.len(), 1 | 2)).ok_or_else(wrong)?;
            // `from_str_radix` takes a sign; the length check alone would let `+1` pass.
            if !part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        Ok(Self(octets))
    }
}

/// One entry of `Logical_Switch_Port.addresses`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LspAddress {
    /// `MAC [IP…]`.
    Known {
        /// The MAC.
        mac: Mac,
        /// The addresses, of either family.
        ips: Vec<IpAddr>,
    },
    /// `unknown`: gets what nobody owns, and MACs behind it are learned.
    Unknown,
    /// `dynamic`, `dynamic IP`, `MAC dynamic`: to be completed by address management.
    Dynamic {
        /// The MAC, when it is given.
        mac: Option<Mac>,
        /// The addresses, when they are given.
        ips: Vec<IpAddr>,
    },
    /// `router`: those of the peer port.
    Router,
}

impl FromStr for LspAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let ips = |words: &[&str]| words.iter().map(|word| parse_ip(word)).collect::<Result<Vec<_>, _>>();
        match words.as_slice() {
            [] => Err(AddressError::Empty),
            ["unknown"] => Ok(Self::Unknown),
            ["router"] => Ok(Self::Router),
            ["dynamic", rest @ ..] => Ok(Self::Dynamic { mac: None, ips: ips(rest)? }),
            [mac, "dynamic"] => Ok(Self::Dynamic { mac: Some(mac.parse()?), ips: Vec::new() }),
            [mac, rest @ ..] => Ok(Self::Known { mac: mac.parse()?, ips: ips(rest)? }),
        }
    }
}

/// One entry of `Logical_Switch_Port.port_security`: a MAC and the addresses or prefixes it may use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PortSecurity {
    /// The MAC.
    pub mac: Mac,
    /// Addresses; a prefix with host bits is an address with its subnet's broadcast.
    pub ips: Vec<IpNet>,
}

impl FromStr for PortSecurity {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let mut words = text.split_whitespace();
        let mac = words.next().ok_or(AddressError::Empty)?.parse()?;
        let net = |word: &str| {
            word.parse::<IpNet>()
                .or_else(|_| parse_ip(word).map(IpNet::from))
                .map_err(|_| AddressError::Ip { got: word.to_owned() })
        };
        Ok(Self { mac, ips: words.map(net).collect::<Result<_, _>>()? })
    }
}

fn parse_ip(word: &str) -> Result<IpAddr, AddressError> {
    word.parse().map_err(|_| AddressError::Ip { got: word.to_owned() })
}

/// The IPv4 addresses of a mixed list.
pub fn v4(ips: &[IpAddr]) -> impl Iterator<Item = Ipv4Addr> + '_ {
    ips.iter().filter_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None })
}

/// The IPv6 addresses of a mixed list.
pub fn v6(ips: &[IpAddr]) -> impl Iterator<Item = Ipv6Addr> + '_ {
    ips.iter().filter_map(|ip| if let IpAddr::V6(ip) = ip { Some(*ip) } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs() {
        assert_eq!(
            "0a:0:0:00:00:1".parse::<Mac>().map(|mac| mac.to_string()),
            Ok("0a:00:00:00:00:01".into())
        );
        for wrong in ["", "0a:00:00:00:00", "0a:00:00:00:00:01:02", "+a:00:00:00:00:01", "0a:00:00:00:00:001"]
        {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
        let mac: Mac = "0a:00:00:00:00:01".parse().unwrap();
        assert_eq!(mac.link_local().to_string(), "fe80::800:ff:fe00:1");
    }

    #[test]
    fn port_addresses() {
        let known = |text: &str| text.parse::<LspAddress>();
        assert_eq!(known(" unknown "), Ok(LspAddress::Unknown));
        assert_eq!(known("dynamic"), Ok(LspAddress::Dynamic { mac: None, ips: vec![] }));
        assert!(matches!(known("0a:00:00:00:00:01 dynamic"), Ok(LspAddress::Dynamic { mac: Some(_), .. })));
        assert!(
            matches!(known("0a:00:00:00:00:01 10.0.0.1 fd00::1"), Ok(LspAddress::Known { ips, .. }) if ips.len() == 2)
        );
        assert_eq!(known(""), Err(AddressError::Empty));
        assert!(known("0a:00:00:00:00:01 10.0.0").is_err());
    }
}
