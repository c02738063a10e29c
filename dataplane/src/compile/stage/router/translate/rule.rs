//! One `NAT` row on its router, as read and judged.
//!
//! # Contract
//! - Reads the row, whether its router is one chassis' or which gateway ports it has, and the gateway port that it is for.
//!
//! # Invariants
//! - A row that OVN takes for invalid is no rule: an address, MAC or port that does not parse, both sets of peers, a network
//!   where one address is wanted, or a gateway port that can't be told.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use ofpacket::{Match, Nat as Translation, NatFlags, NatRange, field};
use ovsdb::value::Atom;
use quantumnet_model::{address::Mac, nb::Nat, sb::PortBinding};
use uuid::Uuid;

use super::Zones;
use crate::compile::{
    index::By,
    logical::{RouterPort, on_switch, router_key},
    owner::{Relation, number, pair},
    register,
    view::View,
};

/// A usable rule.
#[derive(Clone)]
pub(super) struct Rule<'a> {
    pub(super) uuid: Uuid,
    pub(super) row: &'a Nat,
    pub(super) router: Uuid,
    pub(super) router_key: u32,
    pub(super) kind: Kind,
    pub(super) external: IpAddr,
    /// One address, unless the rule is of [`Kind::Source`].
    pub(super) logical: IpNet,
    /// The gateway port it is for; none on a gateway router, where it is for all.
    pub(super) gateway: Option<Gateway<'a>>,
    /// Who does it instead of the gateway.
    pub(super) distributed: Option<Distributed>,
}

/// `NAT.type`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// `snat`
    Source,
    /// `dnat`
    Destination,
    /// `dnat_and_snat`
    Both,
}

/// A distributed gateway port.
#[derive(Clone)]
pub(super) struct Gateway<'a> {
    pub(super) port: RouterPort<'a>,
    /// Binding of its `chassisredirect` port.
    pub(super) redirect: Uuid,
}

/// A floating IP that the hypervisor of its port serves (ovn-nb(5), `NAT.external_mac`, `NAT.logical_port`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Distributed {
    pub(super) mac: Mac,
    /// Binding of the port with the inner address; nil while there is none of that name.
    pub(super) port: Uuid,
}

/// On which a rule works: one gateway port, or a whole router.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Scope(pub(super) Uuid);

impl<'a> Rule<'a> {
    /// The rule that a row is on that gateway port or gateway router.
    pub(super) fn of_scope(view: &View<'a>, scope: Uuid, uuid: Uuid) -> Option<Self> {
        let router = if view.holds(Relation::GatewayRouters, scope) {
            scope
        } else {
            view.row::<PortBinding>(scope)?.datapath.uuid()
        };
        Self::read(view, router, uuid)
    }

    /// The rule that a row is on that router.
    pub(super) fn read(view: &View<'a>, router: Uuid, uuid: Uuid) -> Option<Self> {
        let row: &Nat = view.row(uuid)?;
        let kind = match &*row.r#type {
            "snat" => Kind::Source,
            "dnat" => Kind::Destination,
            "dnat_and_snat" => Kind::Both,
            _ => return None,
        };
        let external: IpAddr = row.external_ip.parse().ok()?;
        let logical = network(&row.logical_ip)?;
        let one = logical.prefix_len() == logical.max_prefix_len();
        if external.is_ipv4() != logical.addr().is_ipv4() || (kind != Kind::Source && !one) {
            return None;
        }
        if row.allowed_ext_ips.is_some() && row.exempted_ext_ips.is_some() {
            return None;
        }
        let mac: Option<Mac> = row.external_mac.as_ref().map(|mac| mac.parse()).transpose().ok()?;
        ports(row)?;
        let gateway = if view.holds(Relation::GatewayRouters, router) {
            None
        } else {
            Some(gateway(view, router, row, external)?)
        };
        let distributed =
            gateway.as_ref().filter(|gateway| kind == Kind::Both && !gateway.faces_gateway(view));
        let distributed = distributed.and_then(|_| {
            let named = Atom::String(row.logical_port.clone()?);
            let port = view.uuids(By::LogicalPort, &[named]).first().copied();
            Some(Distributed { mac: mac?, port: port.unwrap_or_default() })
        });
        let router_key = router_key(view, router)?;
        Some(Self { uuid, row, router, router_key, kind, external, logical, gateway, distributed })
    }

    /// It changes sources.
    pub(super) fn has_source(&self) -> bool {
        self.kind != Kind::Destination
    }

    /// It changes destinations.
    pub(super) fn has_destination(&self) -> bool {
        self.kind != Kind::Source
    }

    /// Without memory of connections (ovn-nb(5), `NAT.options:stateless`).
    pub(super) fn is_stateless(&self) -> bool {
        self.kind == Kind::Both && self.row.options.get("stateless").is_some_and(|value| &**value == "true")
    }

    /// Routers beside this one are to know the way to its outer address.
    pub(super) fn adds_route(&self) -> bool {
        self.row.options.get("add_route").is_some_and(|value| &**value == "true")
    }

    /// Without memory, and packets that ICMP errors quote are translated too.
    pub(super) fn translates_quoted(&self) -> bool {
        let refused = self.row.options.get("stateless_icmp_helper").is_some_and(|value| &**value == "false");
        self.is_stateless() && !refused
    }

    /// Holds for some packets only.
    pub(super) fn is_conditional(&self) -> bool {
        !self.row.r#match.is_empty()
            || self.row.allowed_ext_ips.is_some()
            || self.row.exempted_ext_ips.is_some()
    }

    /// The priority that a rule with a match has of its own.
    pub(super) fn own_priority(&self) -> Option<u16> {
        let own = u16::try_from(self.row.priority).ok().and_then(|own| own.checked_add(PRIORITY_MATCH));
        own.filter(|_| !self.row.r#match.is_empty())
    }

    /// What comes in for its outer address is its own, whoever sends it.
    pub(super) fn is_decided_by_address(&self, view: &View<'_>) -> bool {
        match self.kind {
            Kind::Source => false,
            Kind::Destination => !self.is_conditional() && self.is_unshared(view),
            Kind::Both => self.is_plain(view),
        }
    }

    /// Nothing else is about its outer address.
    fn is_unshared(&self, view: &View<'_>) -> bool {
        let external = number(self.external);
        view.related(Relation::AddressRules, pair(self.scope().0, external), 0).eq([self.uuid])
            && !view.related(Relation::ForcedSources, self.router, 0).any(|forced| forced == external)
    }

    /// It may come before the rule of a single inner address: its priority is its own, or it exempts peers, which OVN does
    /// with a priority that is two above the rule's.
    pub(super) fn may_overrule(&self) -> bool {
        let nearly_single = self.logical.prefix_len() + EXEMPTION as u8 >= self.logical.max_prefix_len();
        !self.row.r#match.is_empty() || (self.row.exempted_ext_ips.is_some() && nearly_single)
    }

    /// It is for sources of a gateway router, whatever port they leave by: what comes in for a floating IP may be its, too.
    pub(super) fn takes_any_port(&self) -> bool {
        self.gateway.is_none() && self.kind == Kind::Source
    }

    pub(super) fn scope(&self) -> Scope {
        Scope(self.gateway.as_ref().map_or(self.router, |gateway| gateway.port.uuid))
    }

    /// What it is about may come in from outside here.
    pub(super) fn serves_inbound(&self, view: &View<'_>) -> bool {
        self.serves_outbound(view)
            || self.gateway.as_ref().is_some_and(|gateway| view.holds(Relation::Resident, gateway.redirect))
    }

    /// What it is about leaves from here.
    pub(super) fn serves_outbound(&self, view: &View<'_>) -> bool {
        match (&self.gateway, &self.distributed) {
            (None, _) => true,
            (_, Some(distributed)) => view.holds(Relation::Resident, distributed.port),
            (Some(gateway), None) => view.holds(Relation::Resident, gateway.redirect),
        }
    }

    /// A floating IP that nothing else touches: both directions are one lookup, in [`Self::plain_zone`]. Otherwise it is
    /// two rules, one for each direction and in the zone of each, as in OVN.
    pub(super) fn is_plain(&self, view: &View<'_>) -> bool {
        self.kind == Kind::Both
            && !self.is_stateless()
            && !self.is_conditional()
            && self.is_unshared(view)
            && self.is_alone_inside(view)
            && !view.related(Relation::OverlappingSources, self.scope().0, 0).any(|other| {
                let other: Option<&Nat> = view.row(other);
                other.and_then(|row| network(&row.logical_ip)).is_none_or(|net| net.contains(&self.logical))
            })
    }

    /// No other rule leads to its inner address.
    fn is_alone_inside(&self, view: &View<'_>) -> bool {
        let inside = pair(self.scope().0, number(self.logical.addr()));
        view.related(Relation::AddressRules, inside, 1).eq([self.uuid])
    }

    /// The zone that a plain floating IP lives in. Behind a gateway port it is that of sources: connections that were translated
    /// before it came are there, and go on as they are. What comes in to a gateway router may have its source translated on the
    /// same way, in that zone; so there it is the other.
    pub(super) fn plain_zone(&self, zones: Zones) -> u16 {
        if self.gateway.is_some() { zones.sources } else { zones.destinations }
    }

    /// The zone that what comes in for its outer address is looked up in.
    pub(super) fn inbound_zone(&self, view: &View<'_>, zones: Zones) -> u16 {
        if self.is_plain(view) { self.plain_zone(zones) } else { zones.destinations }
    }

    /// Packets that come in where the rule holds, to that destination.
    pub(super) fn inbound(&self, to: IpNet) -> Match {
        let router = on_switch(self.router_key);
        let matches = match &self.gateway {
            Some(gateway) => router.with(register::IN_PORT, gateway.port.key),
            None => router,
        };
        destination(matches, to)
    }

    /// Packets that leave where the rule holds, from inside.
    pub(super) fn outbound(&self) -> Match {
        let router = on_switch(self.router_key);
        let matches = match &self.gateway {
            Some(gateway) => router.with(register::OUT_PORT, gateway.port.key),
            None => router,
        };
        source(matches, self.logical)
    }

    /// To the inner address.
    pub(super) fn to_inside(&self) -> Translation {
        self.with_ports(Translation::destination(NatRange::one(self.logical.addr())))
    }

    /// From the outer address.
    pub(super) fn to_outside(&self) -> Translation {
        self.with_ports(Translation::source(NatRange::one(self.external)))
    }

    fn with_ports(&self, translation: Translation) -> Translation {
        match ports(self.row) {
            Some(Some((lowest, None))) => translation.ports(lowest, None),
            Some(Some((lowest, highest))) => translation.ports(lowest, highest).with(NatFlags::RANDOM),
            _ => translation,
        }
    }
}

impl Gateway<'_> {
    /// On the other side is a gateway port too: routing is that one's, nothing can be distributed.
    pub(super) fn faces_gateway(&self, view: &View<'_>) -> bool {
        self.port.peer.is_some_and(|peer| redirect_of(view, peer).is_some())
    }
}

/// The gateway port that a row is for.
fn gateway<'a>(view: &View<'a>, router: Uuid, row: &Nat, external: IpAddr) -> Option<Gateway<'a>> {
    let gateways: Vec<Uuid> = view.related(Relation::GatewayPorts, router, 0).collect();
    let read = |port: Uuid| {
        Some(Gateway { port: RouterPort::read(view, port)?, redirect: redirect_of(view, port)? })
    };
    if let Some(wanted) = &row.gateway_port {
        return gateways.contains(&wanted.uuid()).then(|| read(wanted.uuid())).flatten();
    }
    match gateways.as_slice() {
        [only] => read(*only),
        several => several
            .iter()
            .filter_map(|port| read(*port))
            .find(|gateway| gateway.port.all().any(|net| net.contains(&external))),
    }
}

/// The `chassisredirect` port of a router port, if it is a gateway port.
pub(super) fn redirect_of(view: &View<'_>, port: Uuid) -> Option<Uuid> {
    let binding: &PortBinding = view.row(port)?;
    let name = format!("cr-{}", binding.logical_port);
    let (redirect, row) = view.find_one::<PortBinding>(By::LogicalPort, &[Atom::String(name.into())])?;
    (&*row.r#type == "chassisredirect" && row.datapath == binding.datapath).then_some(redirect)
}

/// The port range of a row: `None` if it makes no sense, `Some(None)` if there is none.
#[expect(clippy::option_option, reason = "absent and wrong are two things")]
fn ports(row: &Nat) -> Option<Option<(u16, Option<u16>)>> {
    let text = row.external_port_range.trim();
    if text.is_empty() {
        return Some(None);
    }
    let (lowest, highest) = match text.split_once('-') {
        Some((lowest, highest)) => (lowest.trim().parse().ok()?, Some(highest.trim().parse().ok()?)),
        None => (text.parse().ok()?, None),
    };
    let fits = lowest > 0 && highest.is_none_or(|highest: u16| lowest <= highest);
    fits.then_some(Some((lowest, highest)))
}

/// An address, or a network by its length or mask. One with bits beyond its length is none, as in OVN's matches.
fn network(text: &str) -> Option<IpNet> {
    let net = match text.split_once('/') {
        None => IpNet::from(text.parse::<IpAddr>().ok()?),
        Some((address, mask)) => match (address.parse::<Ipv4Addr>(), mask.parse::<Ipv4Addr>()) {
            (Ok(address), Ok(mask)) => Ipv4Net::with_netmask(address, mask).ok()?.into(),
            _ => text.parse().ok()?,
        },
    };
    (net.network() == net.addr()).then_some(net)
}

/// Above the priority of every rule without a match.
const PRIORITY_MATCH: u16 = 300;
/// What exempts peers has a priority so much above the rule's.
pub(super) const EXEMPTION: u16 = 2;

/// To an address or network.
pub(super) fn destination(matches: Match, to: IpNet) -> Match {
    match to {
        IpNet::V4(net) => {
            matches.ipv4().with_prefix(field::IPV4_DST, u32::from(net.addr()), net.prefix_len())
        }
        IpNet::V6(net) => {
            matches.ipv6().with_prefix(field::IPV6_DST, u128::from(net.addr()), net.prefix_len())
        }
    }
}

/// From an address or network.
pub(super) fn source(matches: Match, from: IpNet) -> Match {
    match from {
        IpNet::V4(net) => {
            matches.ipv4().with_prefix(field::IPV4_SRC, u32::from(net.addr()), net.prefix_len())
        }
        IpNet::V6(net) => {
            matches.ipv6().with_prefix(field::IPV6_SRC, u128::from(net.addr()), net.prefix_len())
        }
    }
}
