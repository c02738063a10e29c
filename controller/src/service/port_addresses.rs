//! Addresses that a port wishes for, and the allowed pairs, as clients may write them.

use std::net::IpAddr;

use imbl::OrdSet;
use ipnet::IpNet;
use quantumnet_api::v1::{AddressPair, PortAddress, PortSpec};
use quantumnet_model::{
    Uuid,
    address::{Mac, PortSecurity},
    column::Text,
    intent::Subnet,
};

use crate::{
    lower::{address, intent::OWN_MAC},
    service::error::invalid,
    store::{Class, Refusal, Txn},
};

/// Addresses of one port, at most.
const ADDRESSES_MAX: usize = 256;
/// Allowed pairs of one port, at most.
const PAIRS_MAX: usize = 256;

/// Addresses that a port is to have.
#[derive(Clone, Debug)]
pub(super) enum Wishes {
    /// One of each subnet.
    OneOfEach,
    /// These; none at all if the list is empty.
    These(Vec<Wish>),
}

/// One address.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    /// This one.
    Ip(IpAddr),
    /// The next free one of this subnet, or of any.
    Next(Option<IpNet>),
}

/// The MAC of a spec; `None` lets the controller choose.
pub(super) fn mac(spec: &PortSpec) -> Result<Option<Mac>, Refusal> {
    if spec.mac.is_empty() {
        return Ok(None);
    }
    let mac: Mac = spec.mac.parse().map_err(|error: quantumnet_model::address::AddressError| {
        invalid("spec.mac", "MAC_INVALID", error.to_string())
    })?;
    if mac.is_multicast() || mac == Mac::default() {
        let message = format!("{mac} cannot be a port's: it is a multicast address or zero");
        return Err(invalid("spec.mac", "MAC_INVALID", message));
    }
    Ok(Some(mac))
}

/// The addresses of a spec.
pub(super) fn wishes(spec: &PortSpec) -> Result<Wishes, Refusal> {
    let wrong = |place: usize, part: &str, message: String| {
        Err(invalid(format!("spec.addresses[{place}].{part}"), "ADDRESS_INVALID", message))
    };
    if spec.no_addresses && !spec.addresses.is_empty() {
        let message = "set `no_addresses` or give addresses, not both";
        return Err(invalid("spec.no_addresses", "ADDRESS_INVALID", message));
    }
    if spec.addresses.is_empty() && !spec.no_addresses {
        return Ok(Wishes::OneOfEach);
    }
    if spec.addresses.len() > ADDRESSES_MAX {
        let message =
            format!("a port has at most {ADDRESSES_MAX} addresses, this one {}", spec.addresses.len());
        return Err(invalid("spec.addresses", "TOO_MANY_ADDRESSES", message));
    }
    let mut wishes: Vec<Wish> = Vec::with_capacity(spec.addresses.len());
    for (place, PortAddress { ip, subnet }) in spec.addresses.iter().enumerate() {
        let net = match subnet.as_str() {
            "" => None,
            text => match text.parse::<IpNet>() {
                Ok(net) => Some(net),
                Err(_) => {
                    return wrong(place, "subnet", format!("{text:?} is no prefix such as 10.0.1.0/24"));
                }
            },
        };
        if ip.is_empty() {
            wishes.push(Wish::Next(net));
            continue;
        }
        let Ok(ip) = ip.parse::<IpAddr>() else {
            return wrong(place, "ip", format!("{ip:?} is no IP address"));
        };
        if let Some(net) = net.filter(|net| !net.contains(&ip)) {
            return wrong(place, "ip", format!("{ip} is outside the subnet {net}"));
        }
        if wishes.iter().any(|wish| matches!(wish, Wish::Ip(other) if *other == ip)) {
            return wrong(place, "ip", format!("{ip} is given twice"));
        }
        wishes.push(Wish::Ip(ip));
    }
    Ok(Wishes::These(wishes))
}

/// Gives the port its addresses. Those that it has and that a wish may mean stay.
pub(super) fn grant(
    txn: &mut Txn<'_>,
    network: Uuid,
    port: Uuid,
    wishes: &Wishes,
    present: &OrdSet<Text>,
) -> Result<OrdSet<Text>, Refusal> {
    let subnets: Vec<(Uuid, IpNet)> = address::subnets(txn.state(), network)
        .into_iter()
        .filter_map(|(uuid, subnet): (Uuid, &Subnet)| Some((uuid, subnet.cidr.parse().ok()?)))
        .collect();
    let each: Vec<Wish>;
    let wishes = match wishes {
        Wishes::OneOfEach => {
            each = subnets.iter().map(|(_, net)| Wish::Next(Some(*net))).collect();
            &each
        }
        Wishes::These(wishes) => wishes,
    };
    let mut granted: OrdSet<Text> = OrdSet::new();
    let mut kept: Vec<IpAddr> = present.iter().filter_map(|text| text.parse().ok()).collect();
    kept.sort_unstable();
    for (place, wish) in wishes.iter().enumerate() {
        if let Wish::Ip(ip) = wish {
            address::claim_ip(txn, network, port, *ip)
                .map_err(|refusal| refusal.at(format!("spec.addresses[{place}].ip")))?;
            kept.retain(|kept| kept != ip);
            granted.insert(ip.to_string().into());
        }
    }
    for (place, wish) in wishes.iter().enumerate() {
        let Wish::Next(net) = wish else { continue };
        let field = format!("spec.addresses[{place}].subnet");
        let meant: Vec<(Uuid, IpNet)> =
            subnets.iter().filter(|(_, known)| net.is_none_or(|net| net == *known)).copied().collect();
        if meant.is_empty() {
            let message = match net {
                Some(net) => format!("{net} is no subnet of the network"),
                None => "the network has no subnet to take an address from".to_owned(),
            };
            return Err(invalid(field, "SUBNET_NOT_FOUND", message));
        }
        let stays = kept.iter().position(|ip| meant.iter().any(|(_, net)| net.contains(ip)));
        if let Some(stays) = stays {
            granted.insert(kept.remove(stays).to_string().into());
            continue;
        }
        let ip = next(txn, network, port, &meant).map_err(|refusal| refusal.at(field))?;
        granted.insert(ip.to_string().into());
    }
    Ok(granted)
}

/// The next free address of the first subnet that has one.
fn next(txn: &mut Txn<'_>, network: Uuid, port: Uuid, subnets: &[(Uuid, IpNet)]) -> Result<IpAddr, Refusal> {
    let mut refused = None;
    for (subnet, _) in subnets {
        match address::claim_next(txn, network, *subnet, port) {
            Ok(ip) => return Ok(ip),
            Err(refusal) if refusal.class() == Class::ResourceExhausted => refused = Some(refusal),
            Err(refusal) => return Err(refusal),
        }
    }
    Err(refused.expect("there is at least one subnet, and it was exhausted"))
}

/// Allowed pairs as they are stored; see [`OWN_MAC`].
pub(super) fn pairs(pairs: &[AddressPair]) -> Result<OrdSet<Text>, Refusal> {
    if pairs.len() > PAIRS_MAX {
        let message = format!("a port has at most {PAIRS_MAX} allowed pairs, this one {}", pairs.len());
        return Err(invalid("spec.allowed_address_pairs", "TOO_MANY_PAIRS", message));
    }
    let one = |(place, pair): (usize, &AddressPair)| {
        let wrong = |message: String| {
            invalid(format!("spec.allowed_address_pairs[{place}]"), "PAIR_INVALID", message)
        };
        if pair.mac.is_empty() && pair.ip.is_empty() {
            return Err(wrong("give a MAC, an address or both".into()));
        }
        let mac = if pair.mac.is_empty() { Mac::default().to_string() } else { pair.mac.clone() };
        let parsed: PortSecurity = format!("{mac} {}", pair.ip)
            .parse()
            .map_err(|error: quantumnet_model::address::AddressError| wrong(error.to_string()))?;
        if parsed.ips.len() > 1 {
            return Err(wrong(format!("{:?} is more than one address", pair.ip)));
        }
        let mac = if pair.mac.is_empty() { OWN_MAC.to_owned() } else { parsed.mac.to_string() };
        Ok(Text::from(format!("{mac} {}", pair.ip).trim_end()))
    };
    pairs.iter().enumerate().map(one).collect()
}

/// A stored pair as clients are sent it.
pub(super) fn pair(text: &str) -> AddressPair {
    let (mac, ip) = text.split_once(' ').unwrap_or((text, ""));
    AddressPair { mac: if mac == OWN_MAC { String::new() } else { mac.to_owned() }, ip: ip.to_owned() }
}
