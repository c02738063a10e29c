//! The subnets of a network as clients may write them.

use std::net::IpAddr;

use imbl::{OrdMap, OrdSet};
use ipnet::IpNet;
use quantumnet_api::v1::{AddressRange, DhcpConfig, Subnet as Message, SubnetStatus};
use quantumnet_model::{
    Strong, Uuid,
    column::Text,
    intent::{Subnet, VirtualNetwork},
};

use crate::{
    ipam::{Layout, LayoutError, Range, layout::RANGES_MAX},
    lower::{address, dhcp},
    service::error::invalid,
    store::{Class, Refusal, State, Txn},
};

/// Subnets of one network, at most.
const SUBNETS_MAX: usize = 64;
/// DNS or NTP servers of one subnet, at most.
const SERVERS_MAX: usize = 16;
/// Further DHCP options of one subnet, at most.
const OPTIONS_MAX: usize = 64;

/// Checks subnets as far as it can be without the state.
pub(super) fn parse(subnets: &[Message]) -> Result<Vec<(IpNet, Subnet)>, Refusal> {
    if subnets.len() > SUBNETS_MAX {
        let message = format!("a network has at most {SUBNETS_MAX} subnets, this one {}", subnets.len());
        return Err(invalid("spec.subnets", "TOO_MANY_SUBNETS", message));
    }
    let mut parsed: Vec<(IpNet, Subnet)> = Vec::with_capacity(subnets.len());
    for (place, subnet) in subnets.iter().enumerate() {
        let field = format!("spec.subnets[{place}]");
        let (net, mut row) = one(subnet, &field)?;
        row.position = i64::try_from(place).unwrap_or(i64::MAX);
        if let Some((other, _)) = parsed.iter().find(|(other, _)| other.contains(&net) || net.contains(other))
        {
            let message = format!(
                "{net} overlaps {other} of the same network; make one of them smaller or leave it out"
            );
            return Err(invalid(format!("{field}.cidr"), "SUBNETS_OVERLAP", message));
        }
        parsed.push((net, row));
    }
    Ok(parsed)
}

fn one(subnet: &Message, field: &str) -> Result<(IpNet, Subnet), Refusal> {
    let wrong = |part: String| {
        let field = format!("{field}.{part}");
        move |error: LayoutError| invalid(field, "SUBNET_INVALID", error.to_string())
    };
    let net = Layout::prefix(&subnet.cidr).map_err(wrong("cidr".into()))?;
    let gateway = match subnet.gateway.as_str() {
        "" => None,
        text => Some(Layout::gateway(net, text).map_err(wrong("gateway".into()))?),
    };
    let ranges = |ranges: &[AddressRange], name: &str| -> Result<OrdSet<Text>, Refusal> {
        if ranges.len() > RANGES_MAX {
            let message = format!("at most {RANGES_MAX} ranges are allowed, got {}", ranges.len());
            return Err(invalid(format!("{field}.{name}"), "TOO_MANY_RANGES", message));
        }
        let range = |(place, range): (usize, &AddressRange)| {
            let range =
                Layout::range(net, &range.first, &range.last).map_err(wrong(format!("{name}[{place}]")))?;
            Ok(Text::from(Range::to_string(&range)))
        };
        ranges.iter().enumerate().map(range).collect()
    };
    let none = DhcpConfig::default();
    let dhcp = subnet.dhcp.as_ref().unwrap_or(&none);
    let row = Subnet {
        cidr: net.to_string().into(),
        position: 0,
        gateway: gateway.map(|gateway| gateway.to_string().into()),
        pools: ranges(&subnet.pools, "pools")?,
        reserved: ranges(&subnet.reserved, "reserved")?,
        dhcp: !dhcp.disabled,
        lease_time: i64::from(dhcp.lease_time),
        dns_servers: servers(&dhcp.dns_servers, net, &format!("{field}.dhcp.dns_servers"))?,
        domain_name: domain(&dhcp.domain_name, &format!("{field}.dhcp.domain_name"))?,
        ntp_servers: servers(&dhcp.ntp_servers, net, &format!("{field}.dhcp.ntp_servers"))?,
        dhcp_options: options(dhcp, net, &format!("{field}.dhcp.options"))?,
    };
    Ok((net, row))
}

/// Servers by address, of the subnet's own family, for that is the DHCP that tells of them.
fn servers(servers: &[String], net: IpNet, field: &str) -> Result<Text, Refusal> {
    if servers.len() > SERVERS_MAX {
        let message = format!("at most {SERVERS_MAX} servers are allowed, got {}", servers.len());
        return Err(invalid(field, "TOO_MANY_SERVERS", message));
    }
    for (place, server) in servers.iter().enumerate() {
        let right = server.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4() == net.network().is_ipv4());
        if !right {
            let family = if net.network().is_ipv4() { "IPv4" } else { "IPv6" };
            let message = format!("{server:?} is no {family} address");
            return Err(invalid(format!("{field}[{place}]"), "SERVER_INVALID", message));
        }
    }
    Ok(servers.join(",").into())
}

fn domain(name: &str, field: &str) -> Result<Text, Refusal> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if name.is_empty() || (name.len() <= 253 && name.split('.').all(label)) {
        return Ok(name.into());
    }
    Err(invalid(field, "DOMAIN_INVALID", format!("{name:?} is no domain name such as example.org")))
}

fn options(dhcp: &DhcpConfig, net: IpNet, field: &str) -> Result<OrdMap<Text, Text>, Refusal> {
    if !dhcp.options.is_empty() && !net.network().is_ipv4() {
        let message = "options of DHCPv6 are not served yet; leave them out";
        return Err(invalid(field, "OPTION_INVALID", message));
    }
    if dhcp.options.len() > OPTIONS_MAX {
        let message = format!("at most {OPTIONS_MAX} options are allowed, got {}", dhcp.options.len());
        return Err(invalid(field, "TOO_MANY_OPTIONS", message));
    }
    for (name, value) in &dhcp.options {
        dhcp::check(name, value)
            .map_err(|error| invalid(format!("{field}[{name:?}]"), "OPTION_INVALID", error.to_string()))?;
    }
    Ok(dhcp
        .options
        .iter()
        .map(|(name, value)| (Text::from(name.as_str()), Text::from(value.as_str())))
        .collect())
}

/// Writes the subnets of a network. One of the same prefix as before stays the same subnet.
pub(super) fn write(
    txn: &mut Txn<'_>,
    network: Uuid,
    before: &OrdSet<Strong<Subnet>>,
    parsed: Vec<(IpNet, Subnet)>,
) -> Result<OrdSet<Strong<Subnet>>, Refusal> {
    let known: Vec<(Uuid, Text)> = before
        .iter()
        .filter_map(|subnet| Some((subnet.uuid(), txn.get::<Subnet>(subnet.uuid())?.cidr.clone())))
        .collect();
    for (_, cidr) in &known {
        let gone = !parsed.iter().any(|(_, row)| row.cidr == *cidr);
        if let Some(net) = cidr.parse().ok().filter(|_| gone) {
            refuse_used(txn.state(), network, net)?;
        }
    }
    let mut subnets = OrdSet::new();
    for (place, (_, row)) in parsed.into_iter().enumerate() {
        if let Some(gateway) = &row.gateway
            && let Some(holder) = address::holder(txn.state(), network, gateway)
        {
            let holder = address::port_name(txn.state(), holder);
            let message =
                format!("{gateway} is the address of {holder}; choose another gateway or change that port");
            let refusal = Refusal::service(Class::FailedPrecondition, "ADDRESS_IN_USE", message);
            return Err(refusal.at(format!("spec.subnets[{place}].gateway")).blocked_by([holder]));
        }
        let uuid =
            known.iter().find(|(_, cidr)| *cidr == row.cidr).map_or_else(Uuid::new_v4, |(uuid, _)| *uuid);
        if txn.get::<Subnet>(uuid) != Some(&row) {
            txn.put(uuid, row);
        }
        subnets.insert(Strong::new(uuid));
    }
    Ok(subnets)
}

fn refuse_used(state: &State, network: Uuid, net: IpNet) -> Result<(), Refusal> {
    let (named, count) = address::users(state, network, net);
    if count == 0 {
        return Ok(());
    }
    let message = format!("subnet {net} is used by {count} ports; move or delete them first");
    Err(Refusal::service(Class::FailedPrecondition, "SUBNET_IN_USE", message)
        .at("spec.subnets")
        .blocked_by(named))
}

/// Subnets as clients are sent them.
pub(super) fn messages(state: &State, network: Uuid) -> Vec<Message> {
    let ranges = |ranges: &OrdSet<Text>| {
        let ranges = ranges.iter().filter_map(|text| Range::parse(text));
        ranges
            .map(|range| AddressRange { first: range.first.to_string(), last: range.last.to_string() })
            .collect()
    };
    let list = |text: &Text| text.split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect();
    let message = |subnet: &Subnet| Message {
        cidr: subnet.cidr.to_string(),
        gateway: subnet.gateway.as_ref().map(ToString::to_string).unwrap_or_default(),
        pools: ranges(&subnet.pools),
        reserved: ranges(&subnet.reserved),
        dhcp: Some(DhcpConfig {
            disabled: !subnet.dhcp,
            lease_time: u32::try_from(subnet.lease_time).unwrap_or(0),
            dns_servers: list(&subnet.dns_servers),
            domain_name: subnet.domain_name.to_string(),
            ntp_servers: list(&subnet.ntp_servers),
            options: subnet
                .dhcp_options
                .iter()
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
        }),
    };
    address::subnets(state, network).into_iter().map(|(_, subnet)| message(subnet)).collect()
}

/// What is left of each subnet.
pub(super) fn status(state: &State, network: Uuid) -> Vec<SubnetStatus> {
    let one = |(uuid, subnet): (Uuid, &Subnet)| {
        let (used, free) = address::usage(state, uuid, subnet);
        SubnetStatus { cidr: subnet.cidr.to_string(), used, free }
    };
    address::subnets(state, network).into_iter().map(one).collect()
}

/// The smallest MTU that a network may give: IPv6 asks for 1280 (RFC 8200), IPv4 for 576 (RFC 791).
pub(super) fn mtu_min(network: &VirtualNetwork, state: &State) -> i64 {
    let six = |subnet: &Strong<Subnet>| {
        let cidr = state.get::<Subnet>(subnet.uuid()).and_then(|row| row.cidr.parse::<IpNet>().ok());
        cidr.is_some_and(|net| net.network().is_ipv6())
    };
    if network.subnets.iter().any(six) { 1_280 } else { 576 }
}
