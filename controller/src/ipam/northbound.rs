//! What `Logical_Switch.other_config` and `NB_Global.options` say of dynamic addresses (ovn-nb(5)), and what a port
//! wishes.
//!
//! # Invariants
//! - The first address of a subnet is the router's, whoever has it, and is never given; nor is the broadcast address.
//! - What is not understood is told by key and has no effect; the rest has.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use imbl::OrdMap;
use ipnet::{IpNet, Ipv4Net};
use quantumnet_model::{
    address::{LspAddress, Mac},
    column::Text,
};

use super::range::{Run, key_of, without};

/// Keys of `other_config` that [`Plan::parse`] reads.
pub const KEYS: [&str; 4] = ["subnet", "exclude_ips", "ipv6_prefix", "mac_only"];

/// What a MAC has after its prefix; the lowest and the highest are not given.
pub const SUFFIXES: Run = (1, 0xff_fffe);

/// Which dynamic addresses the ports of a switch are given.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// From `subnet` and `exclude_ips`.
    pub v4: Option<SubnetPlan>,
    /// From `ipv6_prefix`: 64 bits, the rest follows from the MAC.
    pub v6: Option<Ipv6Addr>,
    /// MACs alone.
    pub mac_only: bool,
}

/// The IPv4 subnet of a switch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SubnetPlan {
    /// The subnet.
    pub net: Ipv4Net,
    /// What is given, in order.
    pub given: Vec<Run>,
}

impl SubnetPlan {
    /// Every key of the subnet.
    pub fn whole(&self) -> Run {
        (key_of(self.net.network().into()), key_of(self.net.broadcast().into()))
    }

    /// Whether a port may be given the address.
    pub fn gives(&self, ip: Ipv4Addr) -> bool {
        let key = key_of(ip.into());
        self.given.iter().any(|run| (run.0..=run.1).contains(&key))
    }
}

impl Plan {
    /// Reads a switch's settings; what is wrong with them is told by message.
    pub fn parse(config: &OrdMap<Text, Text>) -> (Self, Vec<String>) {
        let mut wrong = Vec::new();
        let v4 = config.get("subnet").and_then(|subnet| match subnet_plan(subnet) {
            Some(plan) => Some(plan),
            None => {
                wrong.push(format!("subnet is {subnet:?}, expected an IPv4 prefix such as 10.0.0.0/24"));
                None
            }
        });
        let v4 = v4.map(|plan| match config.get("exclude_ips") {
            Some(excluded) => exclude(plan, excluded, &mut wrong),
            None => plan,
        });
        let v6 = config.get("ipv6_prefix").and_then(|prefix| match ipv6_prefix(prefix) {
            Some(prefix) => Some(prefix),
            None => {
                wrong.push(format!("ipv6_prefix is {prefix:?}, expected one of 64 bits such as fd00::/64"));
                None
            }
        });
        // As in OVN, the key means nothing beside the others.
        let alone = !config.contains_key("subnet") && !config.contains_key("ipv6_prefix");
        let mac_only =
            alone && config.get("mac_only").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        (Self { v4, v6, mac_only }, wrong)
    }

    /// Whether ports are given anything.
    pub const fn is_active(&self) -> bool {
        self.v4.is_some() || self.v6.is_some() || self.mac_only
    }
}

fn subnet_plan(text: &str) -> Option<SubnetPlan> {
    let net = text.parse::<Ipv4Net>().ok().filter(|net| net.prefix_len() < 32)?.trunc();
    let (first, last) = (key_of(net.network().into()), key_of(net.broadcast().into()));
    let given = if first + 2 < last { vec![(first + 2, last - 1)] } else { Vec::new() };
    Some(SubnetPlan { net, given })
}

/// Takes `10.0.0.4 10.0.0.20..10.0.0.50` out of what is given.
fn exclude(plan: SubnetPlan, text: &str, wrong: &mut Vec<String>) -> SubnetPlan {
    let mut holes = Vec::new();
    for word in text.split_whitespace() {
        let (first, last) = word.split_once("..").unwrap_or((word, word));
        let run = first.parse::<Ipv4Addr>().ok().zip(last.parse::<Ipv4Addr>().ok());
        match run.map(|(first, last)| (key_of(first.into()), key_of(last.into()))) {
            Some((first, last)) if first <= last && last >= plan.whole().0 && first <= plan.whole().1 => {
                holes.push((first, last));
            }
            Some(_) => wrong.push(format!("exclude_ips: {word:?} is outside the subnet {}", plan.net)),
            None => wrong
                .push(format!("exclude_ips: {word:?} is no address nor a range such as 10.0.0.4..10.0.0.9")),
        }
    }
    SubnetPlan { given: without(plan.given, holes), ..plan }
}

fn ipv6_prefix(text: &str) -> Option<Ipv6Addr> {
    let address = match text.split_once('/') {
        Some((address, "64")) => address,
        Some(_) => return None,
        None => text,
    };
    let address = address.parse::<Ipv6Addr>().ok()?;
    Some(Ipv6Addr::from(u128::from(address) >> 64 << 64))
}

/// The IPv6 address of a MAC in a prefix (RFC 4291, appendix A).
pub fn eui64(prefix: Ipv6Addr, mac: Mac) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(prefix) | u128::from(mac.link_local()) << 64 >> 64)
}

/// The first three octets of dynamic MACs.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct MacPrefix(pub [u8; 3]);

impl MacPrefix {
    /// Reads `NB_Global.options:mac_prefix`. A group's MAC cannot be a port's, and all zeros ask for another.
    pub fn parse(text: &str) -> Option<Self> {
        let Mac([a, b, c, ..]) = format!("{text}:00:00:00").parse().ok()?;
        (a & 1 == 0 && [a, b, c] != [0; 3]).then_some(Self([a, b, c]))
    }

    /// What the MAC has after the prefix, if it begins with it.
    pub fn suffix(self, mac: Mac) -> Option<u128> {
        let [a, b, c, d, e, f] = mac.0;
        ([a, b, c] == self.0).then_some(u128::from(u32::from_be_bytes([0, d, e, f])))
    }

    /// The MAC with that suffix, of which the lowest 24 bits count.
    pub fn mac(self, suffix: u128) -> Mac {
        let [a, b, c] = self.0;
        let [.., d, e, f] = suffix.to_be_bytes();
        Mac([a, b, c, d, e, f])
    }

    /// Suffixes to try for a port, in order: they begin at that of its IPv4 address.
    pub fn candidates(ip: Option<Ipv4Addr>) -> [Run; 2] {
        let base = ip.map_or(0, |ip| key_of(ip.into())) & 0xff_ffff;
        let first = base % SUFFIXES.1 + 1;
        [(first, SUFFIXES.1), (SUFFIXES.0, first.max(2) - 1)]
    }
}

impl fmt::Display for MacPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}")
    }
}

/// What a port says of its dynamic address; what it does not say is chosen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Wish {
    /// The MAC.
    pub mac: Option<Mac>,
    /// The IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

impl Wish {
    /// The first `dynamic` among a port's addresses, if it has one.
    pub fn parse<'a>(addresses: impl IntoIterator<Item = &'a Text>, wrong: &mut Vec<String>) -> Option<Self> {
        let mut found = None;
        for text in addresses {
            let Ok(LspAddress::Dynamic { mac, ips }) = text.parse() else { continue };
            if found.is_some() {
                wrong.push(format!("{text:?} has no effect: a port has one dynamic address"));
                continue;
            }
            let wish = match ips.as_slice() {
                [] => Self { mac, ..Self::default() },
                [IpAddr::V4(v4)] => Self { mac, v4: Some(*v4), v6: None },
                [IpAddr::V6(v6)] => Self { mac, v4: None, v6: Some(*v6) },
                [IpAddr::V4(v4), IpAddr::V6(v6)] => Self { mac, v4: Some(*v4), v6: Some(*v6) },
                _ => {
                    wrong.push(format!(
                        "{text:?}: expected at most one IPv4 and then one IPv6 address; others are chosen"
                    ));
                    Self { mac, ..Self::default() }
                }
            };
            found = Some(wish);
        }
        found
    }
}

/// Addresses that a port was given: `Logical_Switch_Port.dynamic_addresses`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Given {
    /// The MAC.
    pub mac: Mac,
    /// The IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

impl Given {
    /// Back from its text.
    pub fn parse(text: &str) -> Option<Self> {
        let Ok(LspAddress::Known { mac, ips }) = text.parse() else { return None };
        let v4 = ips.iter().find_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None });
        let v6 = ips.iter().find_map(|ip| if let IpAddr::V6(ip) = ip { Some(*ip) } else { None });
        Some(Self { mac, v4, v6 })
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.mac)?;
        self.v4.iter().try_for_each(|ip| write!(f, " {ip}"))?;
        self.v6.iter().try_for_each(|ip| write!(f, " {ip}"))
    }
}

/// The IPv4 addresses of a router port's `networks`.
pub fn router_addresses<'a>(networks: impl IntoIterator<Item = &'a Text>) -> impl Iterator<Item = Ipv4Addr> {
    networks.into_iter().filter_map(|network| match network.parse::<IpNet>() {
        Ok(IpNet::V4(net)) => Some(net.addr()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(pairs: &[(&str, &str)]) -> (Plan, Vec<String>) {
        Plan::parse(&pairs.iter().map(|(key, value)| (Text::from(*key), Text::from(*value))).collect())
    }

    fn given(pairs: &[(&str, &str)]) -> Vec<String> {
        let ip = |key: u128| Ipv4Addr::from(u32::try_from(key).unwrap());
        let plan = plan(pairs).0.v4.unwrap();
        plan.given.iter().map(|(first, last)| format!("{}-{}", ip(*first), ip(*last))).collect()
    }

    #[test]
    fn a_subnet_keeps_its_router_and_broadcast_and_what_is_excluded() {
        assert_eq!(given(&[("subnet", "10.7.0.0/24")]), ["10.7.0.2-10.7.0.254"]);
        assert_eq!(given(&[("subnet", "10.7.0.9/30")]), ["10.7.0.10-10.7.0.10"]);
        assert_eq!(given(&[("subnet", "10.7.0.0/31")]), Vec::<String>::new());
        assert_eq!(
            given(&[("subnet", "10.7.0.0/24"), ("exclude_ips", "10.7.0.2..10.7.0.9 10.7.0.11")]),
            ["10.7.0.10-10.7.0.10", "10.7.0.12-10.7.0.254"]
        );
    }

    #[test]
    fn what_is_not_understood_is_told() {
        for (key, value) in [("subnet", "10.0.0.0"), ("subnet", "x"), ("ipv6_prefix", "fd00::/48")] {
            let (plan, wrong) = plan(&[(key, value)]);
            assert!(!plan.is_active() && wrong.len() == 1 && wrong[0].starts_with(key), "{wrong:?}");
        }
        let (_, wrong) = plan(&[("subnet", "10.0.0.0/24"), ("exclude_ips", "10.0.1.1 y 10.0.0.9..10.0.0.3")]);
        assert_eq!(wrong.len(), 3);
        assert!(!plan(&[("mac_only", "true"), ("subnet", "x")]).0.is_active());
        assert!(plan(&[("mac_only", "true")]).0.is_active());
    }

    #[test]
    fn macs_follow_addresses() {
        let prefix = MacPrefix::parse("0a:bc:de").unwrap();
        let ip = Ipv4Addr::new(10, 7, 0, 10);
        let [(first, _), (_, before)] = MacPrefix::candidates(Some(ip));
        assert_eq!(prefix.mac(first).to_string(), "0a:bc:de:07:00:0b");
        assert_eq!(before, first - 1);
        assert_eq!(prefix.suffix(prefix.mac(first)), Some(first));
        assert_eq!(MacPrefix::candidates(None), [(1, 0xff_fffe), (1, 1)]);
        for wrong in ["", "0a", "01:00:00", "00:00:00", "0a:bc:de:00"] {
            assert_eq!(MacPrefix::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_ipv6_address_follows_from_the_mac() {
        let prefix = plan(&[("ipv6_prefix", "fd07::")]).0.v6.unwrap();
        assert_eq!(eui64(prefix, Mac([0x0a, 0, 0, 0, 0x11, 0x11])).to_string(), "fd07::800:ff:fe00:1111");
    }
}
