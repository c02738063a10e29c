//! Ends of a packet's way, as users name them: ports, VMs, addresses.
//!
//! # Contract
//! - In: a text and the project it is said in. Out: the binding of a port with the address meant, or an address that no port has.
//! - Also says which MAC a guest would send to: the other port's, or that of the router it would ask.

use std::net::IpAddr;

use ipnet::IpNet;
use quantumnet_api::v1::TraceEnd;
use quantumnet_model::{
    Row, Uuid,
    address::{LspAddress, Mac},
    intent::{Port, Subnet, VirtualNetwork},
    nb::{LogicalRouterPort, LogicalSwitchPort},
    sb::{Chassis, DatapathBinding, PortBinding},
};

use crate::{
    explain::object::Object,
    store::{Class, Refusal, State},
};

/// A port as an end.
#[derive(Clone, Debug)]
pub(crate) struct End {
    /// Its `Port_Binding`.
    pub(crate) port: Uuid,
    pub(crate) binding: PortBinding,
    /// What it has, each address with its MAC.
    pub(crate) addresses: Vec<(Mac, IpAddr)>,
    /// The address that was named, if one was.
    pub(crate) named: Option<IpAddr>,
}

/// What a text names.
#[derive(Clone, Debug)]
pub(crate) enum Named {
    Port(Box<End>),
    Address(IpAddr),
}

impl End {
    /// Of a binding.
    pub(crate) fn of(state: &State, port: Uuid) -> Option<Self> {
        let binding = state.get::<PortBinding>(port)?.clone();
        let mut addresses = Vec::new();
        for entry in &binding.mac {
            if let Ok(LspAddress::Known { mac, ips }) = entry.parse() {
                addresses.extend(ips.into_iter().map(|ip| (mac, ip)));
            }
        }
        Some(Self { port, binding, addresses, named: None })
    }

    /// The datapath that it is on.
    pub(crate) fn datapath(&self) -> Uuid {
        self.binding.datapath.uuid()
    }

    /// The hypervisor that holds it.
    pub(crate) fn chassis(&self, state: &State) -> Option<String> {
        // A nested port is where its parent is.
        let parent = self.binding.parent_port.as_ref().filter(|_| self.binding.chassis.is_none());
        let parent =
            parent.and_then(|name| state.find::<PortBinding>(&[("logical_port", name.clone().into())]));
        let binding = parent.and_then(|parent| state.get::<PortBinding>(parent)).unwrap_or(&self.binding);
        Some(state.get::<Chassis>(binding.chassis?.uuid())?.name.to_string())
    }

    /// Its address of a family.
    pub(crate) fn address(&self, family: Family) -> Option<(Mac, IpAddr)> {
        let named = self.named.filter(|ip| family.has(*ip));
        let mut fitting = self.addresses.iter().filter(|(_, ip)| family.has(*ip));
        match named {
            Some(named) => fitting.find(|(_, ip)| *ip == named).copied(),
            None => fitting.next().copied(),
        }
    }

    /// As users know it.
    pub(crate) fn object(&self, state: &State) -> Object {
        Object::of(state, PortBinding::TABLE, self.port)
    }

    /// The network that it is in.
    pub(crate) fn network(&self, state: &State) -> Object {
        Object::of(state, DatapathBinding::TABLE, self.datapath())
    }

    /// For clients.
    pub(crate) fn message(&self, state: &State, family: Option<Family>) -> TraceEnd {
        let address = family.and_then(|family| self.address(family));
        TraceEnd {
            port: Some(self.object(state).message()),
            network: Some(self.network(state).message()),
            address: address.map(|(_, ip)| ip.to_string()).unwrap_or_default(),
            mac: address.map(|(mac, _)| mac.to_string()).unwrap_or_default(),
            chassis: self.chassis(state).unwrap_or_default(),
        }
    }
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub(crate) fn has(self, ip: IpAddr) -> bool {
        self == Self::of(ip)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// As requests have it; 0 for none in particular.
    pub(crate) fn parse(number: u32, field: &str) -> Result<Option<Self>, Refusal> {
        match number {
            0 => Ok(None),
            4 => Ok(Some(Self::V4)),
            6 => Ok(Some(Self::V6)),
            other => {
                let message = format!("{other} is no family of addresses, 4 and 6 are");
                Err(Refusal::service(Class::InvalidArgument, "FAMILY_INVALID", message).at(field))
            }
        }
    }
}

/// What a text names in a project. An address that several ports have is that of the one on the datapath given.
pub(crate) fn find(
    state: &State,
    project: Uuid,
    text: &str,
    beside: Option<Uuid>,
    field: &str,
) -> Result<Named, Refusal> {
    let text = text.trim();
    if text.is_empty() {
        let message = "name a port, its VM, or an address";
        return Err(Refusal::service(Class::InvalidArgument, "END_EMPTY", message).at(field));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        let ip = ip.to_canonical();
        let holders = holders(state, project, ip);
        let near: Vec<&End> =
            holders.iter().filter(|end| beside.is_none_or(|beside| end.datapath() == beside)).collect();
        let chosen = match (&near[..], &holders[..]) {
            ([one], _) => (*one).clone(),
            ([], [one]) => one.clone(),
            ([], []) => return Ok(Named::Address(ip)),
            _ => {
                let names: Vec<String> =
                    holders.iter().take(NAMES_MAX).map(|end| end.object(state).to_string()).collect();
                let message = format!("{ip} is the address of {}; name the port", names.join(", of "));
                return Err(Refusal::service(Class::InvalidArgument, "END_AMBIGUOUS", message).at(field));
            }
        };
        return Ok(Named::Port(Box::new(End { named: Some(ip), ..chosen })));
    }
    let of = |uuid| {
        let end = End::of(state, uuid).filter(|end| belongs(state, project, end))?;
        Some(Named::Port(Box::new(end)))
    };
    let by_id = text.parse::<Uuid>().ok().and_then(of);
    let by_name = || of(state.find::<Port>(&[("project", project.into()), ("name", text.into())])?);
    let by_logical = || of(state.find::<PortBinding>(&[("logical_port", text.into())])?);
    if let Some(found) = by_id.or_else(by_name).or_else(by_logical) {
        return Ok(found);
    }
    let ports = state.iter::<Port>().filter(|(_, port)| port.project.uuid() == project && &*port.vm == text);
    let ports: Vec<Uuid> = ports.map(|(uuid, _)| uuid).collect();
    match &ports[..] {
        [one] => of(*one).ok_or_else(|| missing(text, field)),
        [] => Err(missing(text, field)),
        several => {
            let names: Vec<String> = several
                .iter()
                .take(NAMES_MAX)
                .map(|port| Object::of(state, PortBinding::TABLE, *port).name)
                .collect();
            let message = format!("VM {text} has the ports {}; name one of them", names.join(", "));
            Err(Refusal::service(Class::InvalidArgument, "END_AMBIGUOUS", message).at(field))
        }
    }
}

fn missing(text: &str, field: &str) -> Refusal {
    let message = format!("there is no port and no VM {text:?} in this project, and it is no IP address");
    Refusal::service(Class::NotFound, "END_NOT_FOUND", message).at(field)
}

/// Whether a project may ask about a port: its own, those of networks that are its own or everybody's, and what no project
/// has.
fn belongs(state: &State, project: Uuid, end: &End) -> bool {
    if let Some(port) = state.get::<Port>(end.port) {
        return port.project.uuid() == project;
    }
    let network = state.get::<VirtualNetwork>(end.datapath());
    network.is_none_or(|network| network.project.uuid() == project || network.external)
}

/// Ports that have an address, as far as the project may ask about them.
fn holders(state: &State, project: Uuid, ip: IpAddr) -> Vec<End> {
    let text = ip.to_string();
    let may_have = |binding: &PortBinding| binding.mac.iter().any(|entry| entry.contains(&text));
    state
        .iter::<PortBinding>()
        .filter(|(uuid, binding)| may_have(binding) && state.get::<LogicalSwitchPort>(*uuid).is_some())
        .filter_map(|(uuid, _)| End::of(state, uuid))
        .filter(|end| end.addresses.iter().any(|(_, own)| *own == ip) && belongs(state, project, end))
        .collect()
}

/// Why a guest would not know where to send to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Unreachable {
    pub(crate) reason: String,
    pub(crate) advice: String,
}

/// The MAC that a guest behind a port would send to.
pub(crate) fn next_mac(
    state: &State,
    source: &End,
    own: IpAddr,
    to: IpAddr,
    destination: Option<&End>,
) -> Result<Mac, Unreachable> {
    let network = source.network(state);
    if let Some(end) = destination.filter(|end| end.datapath() == source.datapath()) {
        let mac = end.addresses.iter().find(|(_, ip)| *ip == to).map(|(mac, _)| *mac);
        return mac.ok_or_else(|| Unreachable {
            reason: format!("{} does not have the address {to}", end.object(state)),
            advice: "give the port the address, or name one that it has".to_owned(),
        });
    }
    let subnets: Vec<(IpNet, Option<IpAddr>)> = subnets(state, source.datapath());
    let routers: Vec<End> = state
        .referrers_through::<DatapathBinding, PortBinding>(source.datapath(), "datapath")
        .filter_map(|port| End::of(state, port))
        .filter(|end| matches!(&*end.binding.r#type, "patch" | "l3gateway"))
        .collect();
    let on_link = |net: &IpNet| net.contains(&own) && net.contains(&to);
    let networks = routers.iter().flat_map(|router| router_networks(state, router));
    if subnets.iter().map(|(net, _)| *net).chain(networks).any(|net| on_link(&net)) {
        return Err(Unreachable {
            reason: format!(
                "nobody on {network} has the address {to}, so nobody answers when it is asked for"
            ),
            advice: format!("give a port of {} the address, or name another", network.name),
        });
    }
    let has = |router: &&End, ip: IpAddr| router.addresses.iter().any(|(_, own)| *own == ip);
    let gateway = subnets.iter().find(|(net, _)| net.contains(&own)).and_then(|(_, gateway)| *gateway);
    let chosen =
        gateway.and_then(|gateway| routers.iter().find(|router| has(router, gateway))).or_else(|| {
            routers.iter().find(|router| router_networks(state, router).iter().any(|net| net.contains(&own)))
        });
    let Some(router) = chosen else {
        return Err(Unreachable {
            reason: format!("{network} has no router for {own}, and {to} is not on it"),
            advice: format!("connect network {} and that of {to} to one router", network.name),
        });
    };
    let (mac, _) =
        router.addresses.iter().find(|(_, ip)| Family::of(*ip) == Family::of(own)).ok_or_else(|| {
            Unreachable {
                reason: format!("the router of {network} has no {} address there", Family::of(own).name()),
                advice: "give the network a subnet of that family with a gateway".to_owned(),
            }
        })?;
    Ok(*mac)
}

/// Subnets of a network, with their gateways.
fn subnets(state: &State, network: Uuid) -> Vec<(IpNet, Option<IpAddr>)> {
    let rows = state.get::<VirtualNetwork>(network).into_iter().flat_map(|network| network.subnets.iter());
    rows.filter_map(|subnet| state.get::<Subnet>(subnet.uuid()))
        .filter_map(|row| Some((row.cidr.parse().ok()?, row.gateway.as_ref().and_then(|ip| ip.parse().ok()))))
        .collect()
}

/// Networks of the router port behind a switch's port.
fn router_networks(state: &State, port: &End) -> Vec<IpNet> {
    let name = port.binding.options.get("peer").cloned();
    let name =
        name.or_else(|| state.get::<LogicalSwitchPort>(port.port)?.options.get("router-port").cloned());
    let row = name.and_then(|name| state.find::<LogicalRouterPort>(&[("name", name.into())]));
    let row = row.and_then(|row| state.get::<LogicalRouterPort>(row));
    row.into_iter().flat_map(|row| row.networks.iter()).filter_map(|net| net.parse().ok()).collect()
}

/// Names in a refusal.
const NAMES_MAX: usize = 8;
