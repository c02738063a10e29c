//! `ListSources`: who may reach a port, by the rules as rows say them.
//!
//! # Contract
//! - In: a port and a service. Out: for each port of its network, and of networks behind a router in common, whether a new
//!   connection from there passes the rules of both ends, and which rule decided.
//!
//! # Invariants
//! - What is not considered is said in the answer: routes, router policies, translation, port security, where ports are.

use std::{collections::BTreeSet, net::IpAddr};

use quantumnet_api::v1::{ListSourcesRequest, ListSourcesResponse, SourceVerdict};
use quantumnet_model::{
    Row, Uuid,
    nb::{Acl, LogicalRouter, LogicalRouterPort},
    sb::{DatapathBinding, PortBinding},
};

use crate::{
    explain::{
        end::{self, End, Family, Named},
        object::Object,
        packet::{self, ICMP, ICMPV6, Kind},
        rules::{At, Outcome, Rules},
    },
    store::{Class, Refusal, State},
};

/// A network whose ports may reach the destination, and the ways there: the switch's port to the router on either side.
struct Network {
    switch: Uuid,
    /// Names of the ports to the router: of the source's network, and of the destination's.
    via: Option<(String, String)>,
}

/// Lists who may reach a port.
pub(crate) fn list(
    state: &State,
    project: Uuid,
    request: &ListSourcesRequest,
) -> Result<ListSourcesResponse, Refusal> {
    let asked = Family::parse(request.family, "family")?;
    let Named::Port(end) = end::find(state, project, &request.destination, None, "destination")? else {
        let message = format!("no port has the address {}", request.destination);
        return Err(Refusal::service(Class::NotFound, "END_NOT_FOUND", message).at("destination"));
    };
    let family = end.named.map(Family::of).or(asked);
    let families: Vec<Family> = [Family::V4, Family::V6]
        .into_iter()
        .filter(|one| family.is_none_or(|family| family == *one) && end.address(*one).is_some())
        .collect();
    if families.is_empty() {
        let message = format!("{} has no such address", end.object(state));
        return Err(Refusal::service(Class::FailedPrecondition, "ADDRESS_MISSING", message).at("destination"));
    }
    let source: Option<IpAddr> = match &*request.source {
        "" => None,
        text => Some(text.parse().map_err(|_| {
            let message = format!("{text:?} is no address such as 192.0.2.1 or 2001:db8::1");
            Refusal::service(Class::InvalidArgument, "ADDRESS_INVALID", message).at("source")
        })?),
    };
    let networks = networks(state, end.datapath());
    let mut rules = Rules::new(state);
    for network in &networks {
        rules.read(network.switch);
    }
    let mut response = ListSourcesResponse {
        destination: Some(end.message(state, families.first().copied())),
        revision: state.revision(),
        ..ListSourcesResponse::default()
    };
    let (named, prefixes) = rules.named(end.datapath());
    let mut judge = Judge { state, rules: &rules, end: &end, networks: &networks };
    for family in families {
        let kinds = kinds(&request.service, family, &named, &mut response.notes)?;
        judge.ports(family, &kinds, &mut response);
        judge.outside(family, &kinds, &prefixes, source, &mut response);
    }
    response.notes.extend(
        [
            "judged by the rules alone: routes, router policies, address translation, port security, load balancers and \
             where ports are plugged in are not considered; a trace asks the switches",
            "networks are considered that share a router with the destination's; a connection is taken to be new",
        ]
        .map(str::to_owned),
    );
    if rules.unread {
        response.notes.push(
            "some rules have a match that cannot be read here, or that differs between hypervisors: they count as not matching".to_owned(),
        );
    }
    Ok(response)
}

/// The destination's network, and those behind its routers.
fn networks(state: &State, switch: Uuid) -> Vec<Network> {
    let mut found = vec![Network { switch, via: None }];
    let mut seen = BTreeSet::from([switch]);
    let peer = |port: &PortBinding| {
        let name = port.options.get("peer")?;
        state.find::<PortBinding>(&[("logical_port", name.clone().into())])
    };
    for near in state.referrers_through::<DatapathBinding, PortBinding>(switch, "datapath") {
        let Some(near) = state.get::<PortBinding>(near) else { continue };
        let Some(router_port) = peer(near).and_then(|port| state.get::<PortBinding>(port)) else { continue };
        let router = state.find::<LogicalRouterPort>(&[("name", router_port.logical_port.clone().into())]);
        let router = router.and_then(|port| {
            state.referrers_through::<LogicalRouterPort, LogicalRouter>(port, "ports").next()
        });
        let Some(router) = router.and_then(|router| state.get::<LogicalRouter>(router)) else { continue };
        for port in &router.ports {
            let Some(port) = state.get::<LogicalRouterPort>(port.uuid()) else { continue };
            let binding = state.find::<PortBinding>(&[("logical_port", port.name.clone().into())]);
            let far = binding.and_then(|binding| peer(state.get::<PortBinding>(binding)?));
            let Some(far) = far.and_then(|far| state.get::<PortBinding>(far)) else { continue };
            if found.len() < NETWORKS_MAX && seen.insert(far.datapath.uuid()) {
                let via = Some((far.logical_port.to_string(), near.logical_port.to_string()));
                found.push(Network { switch: far.datapath.uuid(), via });
            }
        }
    }
    found
}

/// The packets that are judged: the one that was asked about, or one for each service that a rule names, a ping, and one
/// that no rule names.
fn kinds(
    service: &str,
    family: Family,
    named: &BTreeSet<(u8, u16)>,
    notes: &mut Vec<String>,
) -> Result<Vec<(Kind, String)>, Refusal> {
    let one = |kind: Kind| (kind, kind.name());
    if !service.is_empty() {
        return Kind::parse(service, family, 0, "service").map(|kind| vec![one(kind)]);
    }
    let mut kinds: Vec<(Kind, String)> = named
        .iter()
        .take(SERVICES_MAX)
        .map(|(protocol, dst)| one(Kind { protocol: *protocol, src: packet::EPHEMERAL, dst: *dst }))
        .collect();
    let (echo, protocol) = if family == Family::V4 { (8, ICMP) } else { (128, ICMPV6) };
    kinds.push(one(Kind { protocol, src: echo, dst: 0 }));
    for (protocol, name) in [(6, "tcp, any other port"), (17, "udp, any other port")] {
        let free = (1..u16::MAX).rev().find(|port| !named.contains(&(protocol, *port))).unwrap_or(u16::MAX);
        kinds.push((Kind { protocol, src: packet::EPHEMERAL, dst: free }, name.to_owned()));
    }
    if named.len() > SERVICES_MAX {
        let note = format!(
            "{} services are named by rules; {SERVICES_MAX} of them are listed: name one",
            named.len()
        );
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    Ok(kinds)
}

struct Judge<'a> {
    state: &'a State,
    rules: &'a Rules<'a>,
    end: &'a End,
    networks: &'a [Network],
}

impl Judge<'_> {
    fn ports(&mut self, family: Family, kinds: &[(Kind, String)], response: &mut ListSourcesResponse) {
        for network in self.networks {
            let ports = self
                .state
                .referrers_through::<DatapathBinding, PortBinding>(network.switch, "datapath")
                .filter(|port| *port != self.end.port)
                .filter_map(|port| End::of(self.state, port))
                .filter(|port| matches!(&*port.binding.r#type, "" | "virtual" | "external" | "localport"));
            for source in ports {
                let Some((_, ip)) = source.address(family) else { continue };
                for (kind, name) in kinds {
                    if response.sources.len() >= SOURCES_MAX {
                        let note =
                            format!("more than {SOURCES_MAX} verdicts: the rest is left out; name a service");
                        if !response.notes.contains(&note) {
                            response.notes.push(note);
                        }
                        return;
                    }
                    let verdict = self.verdict(network, Some(&source), ip, *kind);
                    response.sources.push(SourceVerdict { service: name.clone(), ..verdict });
                }
            }
        }
    }

    /// What comes from addresses that no port has, over a router or from a physical network.
    fn outside(
        &mut self,
        family: Family,
        kinds: &[(Kind, String)],
        prefixes: &BTreeSet<IpAddr>,
        source: Option<IpAddr>,
        response: &mut ListSourcesResponse,
    ) {
        let ports =
            self.state.referrers_through::<DatapathBinding, PortBinding>(self.end.datapath(), "datapath");
        let entry = ports
            .filter_map(|port| self.state.get::<PortBinding>(port))
            .find(|port| matches!(&*port.r#type, "patch" | "l3gateway" | "localnet"));
        let Some(entry) = entry else { return };
        let own: BTreeSet<IpAddr> = self
            .networks
            .iter()
            .flat_map(|network| {
                self.state.referrers_through::<DatapathBinding, PortBinding>(network.switch, "datapath")
            })
            .filter_map(|port| End::of(self.state, port))
            .flat_map(|port| port.addresses.into_iter().map(|(_, ip)| ip))
            .collect();
        let other = match family {
            Family::V4 => IpAddr::from([198, 51, 100, 254]),
            Family::V6 => IpAddr::from([0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0xfffe]),
        };
        let is_outside = |ip: &IpAddr| family.has(*ip) && !own.contains(ip);
        let source = source.filter(is_outside).map(|ip| (ip, ip.to_string()));
        let named = prefixes.iter().filter(|ip| is_outside(ip));
        let named = named.take(PREFIXES_MAX).map(|ip| (*ip, format!("{ip} and what rules say the same of")));
        let all = source.into_iter().chain(named).chain([(other, "any other address".to_owned())]);
        let via = Network {
            switch: self.end.datapath(),
            via: Some((String::new(), entry.logical_port.to_string())),
        };
        for (ip, text) in all {
            for (kind, name) in kinds {
                let verdict = self.verdict(&via, None, ip, *kind);
                response.outside.push(SourceVerdict {
                    service: name.clone(),
                    address: text.clone(),
                    ..verdict
                });
            }
        }
    }

    fn verdict(&self, network: &Network, source: Option<&End>, ip: IpAddr, kind: Kind) -> SourceVerdict {
        let (state, end) = (self.state, self.end);
        let destination = end.address(Family::of(ip)).map_or(ip, |(_, ip)| ip);
        let to = &*end.binding.logical_port;
        let chassis = |end: &End| end.binding.chassis.map(|chassis| chassis.uuid());
        let at = |inport: &str, outport: &str, leaving: bool, receives: bool| -> Outcome {
            let whose = if receives || source.is_none() { Some(end) } else { source };
            let packet = At {
                rules: self.rules,
                inport,
                outport,
                src: ip,
                dst: destination,
                kind,
                chassis: whose.and_then(chassis),
                leaving,
            };
            let switch = if receives { end.datapath() } else { network.switch };
            if leaving { self.rules.received(switch, &packet) } else { self.rules.sent(switch, &packet) }
        };
        let from = source.map_or("", |source| &*source.binding.logical_port);
        // Each switch that it crosses asks about what comes in and what goes out.
        let (mut egress, mut ingress) = (Vec::new(), Vec::new());
        match &network.via {
            None => egress.push(at(from, to, false, false)),
            Some((near, far)) => {
                if source.is_some() {
                    egress.push(at(from, near, false, false));
                    egress.push(at(from, near, true, false));
                }
                ingress.push(at(far, to, false, true));
            }
        }
        let entered = network.via.as_ref().map_or(from, |(_, far)| far);
        ingress.push(at(entered, to, true, true));
        let decided = |outcomes: &[Outcome]| {
            let stops = outcomes.iter().find(|outcome| !outcome.passes);
            let last = outcomes.iter().rev().find(|outcome| outcome.acl.is_some());
            stops.or(last).copied()
        };
        let (sent, received) = (decided(&egress), decided(&ingress));
        let object = |outcome: Option<Outcome>| {
            outcome.and_then(|outcome| outcome.acl).map(|acl| Object::of(state, Acl::TABLE, acl))
        };
        let (egress, ingress) = (object(sent), object(received));
        let stops = |outcome: Option<Outcome>| outcome.is_some_and(|outcome| !outcome.passes);
        let words = |object: &Option<Object>| {
            object
                .as_ref()
                .map_or_else(|| "the default (options:default_acl_drop)".to_owned(), ToString::to_string)
        };
        let reason = if stops(sent) {
            format!("what the source sends is stopped by {}", words(&egress))
        } else if stops(received) {
            format!("what the destination receives is stopped by {}", words(&ingress))
        } else {
            match &ingress {
                Some(rule) => format!("allowed by {rule}"),
                None => "no rule of the destination decides, which lets pass".to_owned(),
            }
        };
        SourceVerdict {
            port: source.map(|source| source.object(state).message()),
            network: source.map(|source| source.network(state).message()),
            address: ip.to_string(),
            service: String::new(),
            allowed: !stops(sent) && !stops(received),
            egress: egress.map(|object| object.message()),
            ingress: ingress.map(|object| object.message()),
            reason,
        }
    }
}

/// Networks that are considered.
const NETWORKS_MAX: usize = 64;
/// Services that are listed when none is asked about.
const SERVICES_MAX: usize = 16;
/// Verdicts in one answer.
const SOURCES_MAX: usize = 4_096;
/// Addresses outside that rules name and an answer lists.
const PREFIXES_MAX: usize = 32;
