//! Ports of logical routers, and the way from a datapath into that of a port's peer.
//!
//! # Invariants
//! - A router without its northbound row, or one that is disabled, has no ports; so it is with a port itself.
//! - A gateway router's ports are on the chassis that their bindings name and nowhere else.
//! - Nothing survives crossing: connection state, flags and registers are those of a packet that has just come in.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use ofpacket::{Action, Field, Match, Port, field};
use ovsdb::value::Atom;
use quantumnet_model::{
    address::Mac,
    host::HostSelf,
    nb::LogicalRouterPort,
    sb::{DatapathBinding, PortBinding},
};
use uuid::Uuid;

use super::{Kind, SwitchPort, admitted, go, on_switch, port_key};
use crate::compile::{index::By, owner::Relation, register, table::Table, view::View};

/// An enabled port of an enabled router that is on this hypervisor.
#[derive(Clone)]
pub(crate) struct RouterPort<'a> {
    pub(crate) uuid: Uuid,
    pub(crate) binding: &'a PortBinding,
    pub(crate) row: &'a LogicalRouterPort,
    pub(crate) key: u16,
    pub(crate) router: Uuid,
    pub(crate) router_key: u32,
    pub(crate) mac: Mac,
    /// Its addresses with their networks, without the link-local one that its MAC gives it.
    pub(crate) networks: Vec<IpNet>,
    /// Binding of the switch's or the other router's port that it leads to, if that is here.
    pub(crate) peer: Option<Uuid>,
}

impl<'a> RouterPort<'a> {
    /// The port of that binding, if it is a router's own (not a gateway's `chassisredirect`) and works here.
    pub(crate) fn read(view: &View<'a>, uuid: Uuid) -> Option<Self> {
        let binding: &PortBinding = view.row(uuid)?;
        if !matches!(&*binding.r#type, "patch" | "l3gateway") || !is_at_its_chassis(view, binding) {
            return None;
        }
        let router = binding.datapath.uuid();
        let router_key = router_key(view, router)?;
        let row: &LogicalRouterPort =
            view.row(uuid).filter(|row: &&LogicalRouterPort| row.enabled != Some(false))?;
        let (mac, networks) = router_addresses(binding)?;
        Some(Self {
            uuid,
            binding,
            row,
            key: port_key(binding.tunnel_key)?,
            router,
            router_key,
            mac,
            networks,
            peer: peer(view, binding),
        })
    }

    /// IPv4 addresses with their networks.
    pub(crate) fn v4(&self) -> impl Iterator<Item = Ipv4Net> {
        self.networks.iter().filter_map(|net| if let IpNet::V4(net) = net { Some(*net) } else { None })
    }

    /// IPv6 addresses with their networks, the link-local one last.
    pub(crate) fn v6(&self) -> impl Iterator<Item = Ipv6Net> {
        let given =
            self.networks.iter().filter_map(|net| if let IpNet::V6(net) = net { Some(*net) } else { None });
        given.chain([self.link_local()])
    }

    /// All addresses with their networks, the link-local one last.
    pub(crate) fn all(&self) -> impl Iterator<Item = IpNet> {
        self.networks.iter().copied().chain([self.link_local().into()])
    }

    /// The link-local address of its MAC, with the prefix of all such.
    pub(crate) fn link_local(&self) -> Ipv6Net {
        Ipv6Net::new_assert(self.mac.link_local(), LINK_LOCAL_LENGTH)
    }

    /// Length of the longest packets that may pass it (`gateway_mtu`).
    pub(crate) fn gateway_mtu(&self) -> Option<u16> {
        gateway_mtu(self.row)
    }

    /// One chassis at a time is its way out.
    pub(crate) fn has_gateway(&self) -> bool {
        !self.row.gateway_chassis.is_empty() || self.row.ha_chassis_group.is_some()
    }

    /// The route table that packets which come by it are routed by, if it is not the main one.
    pub(crate) fn route_table(&self) -> Option<&'a str> {
        self.row.options.get("route_table").map(|name| &**name).filter(|name| !matches!(*name, "" | "<main>"))
    }

    /// Packets that came in by it.
    pub(crate) fn from(&self) -> Match {
        on_switch(self.router_key).with(register::IN_PORT, self.key)
    }

    /// Packets that leave by it.
    pub(crate) fn to(&self) -> Match {
        on_switch(self.router_key).with(register::OUT_PORT, self.key)
    }

    /// The switch that it is on, by the switch's own port; `None` for a link between routers.
    pub(crate) fn switch_port(&self, view: &View<'a>) -> Option<SwitchPort<'a>> {
        SwitchPort::read(view, self.peer?).filter(|port| port.kind == Kind::Router)
    }
}

/// `options:gateway_mtu` of a router's port.
pub(crate) fn gateway_mtu(port: &LogicalRouterPort) -> Option<u16> {
    port.options.get("gateway_mtu")?.trim().parse().ok().filter(|mtu| *mtu > 0)
}

/// The key of a router that is enabled.
pub(crate) fn router_key(view: &View<'_>, router: Uuid) -> Option<u32> {
    let row: &DatapathBinding = view.row(router)?;
    let is_router =
        row.r#type.as_deref() == Some("logical-router") && view.holds(Relation::EnabledRouters, router);
    u32::try_from(row.tunnel_key).ok().filter(|key| is_router && (1..1 << 24).contains(key))
}

/// Binding of the port that this one leads to, if this hypervisor has it.
pub(crate) fn peer(view: &View<'_>, binding: &PortBinding) -> Option<Uuid> {
    let name = Atom::String(binding.options.get("peer")?.clone());
    view.uuids(By::LogicalPort, &[name]).first().copied()
}

/// Whether the binding's port can be used on this hypervisor: a gateway router's on its own only.
pub(crate) fn is_at_its_chassis(view: &View<'_>, binding: &PortBinding) -> bool {
    let Some(chassis) = gateway_chassis(binding) else { return &*binding.r#type != "l3gateway" };
    view.find_one::<HostSelf>(By::HostSelf, &[]).is_some_and(|(_, own)| *own.chassis == *chassis)
}

/// Name of the chassis that a gateway router's port is bound to.
pub(super) fn gateway_chassis(binding: &PortBinding) -> Option<&str> {
    let named = binding.options.get("l3gateway-chassis").map(|name| &**name);
    named.filter(|_| &*binding.r#type == "l3gateway")
}

/// Whether a port of a pair takes what crosses to it here.
pub(super) fn takes(view: &View<'_>, peer: Uuid) -> bool {
    RouterPort::read(view, peer).is_some() || switch_side(view, peer).is_some()
}

fn switch_side<'a>(view: &View<'a>, peer: Uuid) -> Option<SwitchPort<'a>> {
    let port = SwitchPort::read(view, peer).filter(|port| port.kind.leads_on() && port.enabled(view))?;
    is_at_its_chassis(view, port.binding).then_some(port)
}

/// What takes a packet out of its datapath and in by the port `peer`; `None` if that port takes nothing here.
pub(crate) fn across(view: &View<'_>, peer: Uuid) -> Option<Vec<Action>> {
    if let Some(port) = RouterPort::read(view, peer) {
        return Some(enter(port.router_key, port.key, 0, Table::RouterAdmit));
    }
    let port = switch_side(view, peer)?;
    let flags = if port.kind == Kind::Router { FLAG_FROM_ROUTER } else { 0 };
    let next = if port.learns() { Table::LearnMac } else { admitted(view, port.switch) };
    Some(enter(port.switch_key, port.key, flags, next))
}

/// What takes a packet in by a port, as one that has just come; `flags` as in register 10.
pub(crate) fn enter(datapath: u32, port: u16, flags: u32, next: Table) -> Vec<Action> {
    vec![
        Action::CtClear,
        Action::set_field(Field::xxreg(0), 0u128),
        Action::set_field(Field::xxreg(1), 0u128),
        Action::set_field(Field::xxreg(2), u128::from(flags) << 32),
        Action::set_field(Field::xxreg(3), u128::from(port) << 32),
        Action::load(field::METADATA, datapath.into()),
        forget_interface(),
        go(next),
    ]
}

/// From here on a packet may leave by the interface that it came in by. No port is what Open vSwitch calls it: of a port of
/// any other number it would have to know, where it looks a connection up, by which bridge the packet goes on, and what the
/// agent sends came by none.
pub(crate) fn forget_interface() -> Action {
    Action::load(field::NXM_IN_PORT, (Port::NONE.0 & 0xffff).into())
}

/// `MAC address/length...`, of the only entry.
pub(crate) fn router_addresses(binding: &PortBinding) -> Option<(Mac, Vec<IpNet>)> {
    let mut words = binding.mac.iter().next()?.split_whitespace();
    let mac: Mac = words.next()?.parse().ok().filter(|mac: &Mac| !mac.is_multicast())?;
    Some((mac, words.filter_map(|word| word.parse().ok()).collect()))
}

const LINK_LOCAL_LENGTH: u8 = 64;
/// `register::FROM_ROUTER`, in register 10.
const FLAG_FROM_ROUTER: u32 = 1 << 19;
