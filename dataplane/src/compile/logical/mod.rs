//! What several stages read of a logical port, with one meaning.
//!
//! # Invariants
//! - Keys out of range, unknown port types and rows that refer to nothing are no ports: they have no flows.
//! - An address that does not parse is skipped; a `port_security` entry that does not parse allows nothing, and the
//!   port stays secured by the others (OVN takes such a port for an open one).

mod router;

use std::net::IpAddr;

use ofpacket::{Action, Match, Port, VLAN_PRESENT, field};
use ovsdb::value::Atom;
use quantumnet_model::{
    address::{LspAddress, Mac, PortSecurity},
    host::{HostActivated, HostInterface, HostPatch, HostRouterPort},
    nb::LogicalSwitchPort,
    sb::{Chassis, DatapathBinding, PortBinding},
};
use uuid::Uuid;

pub(crate) use router::{
    RouterPort, across, enter, forget_interface, gateway_mtu, is_at_its_chassis, peer, router_addresses,
    router_key,
};

use super::{
    derive::gateway,
    index::By,
    owner::Relation,
    register,
    stage::{
        mirror,
        qos::{self, Direction},
    },
    table::Table,
    view::View,
};

/// A port of a logical switch that agents make flows for, wherever it is.
#[derive(Clone, Copy)]
pub(crate) struct SwitchPort<'a> {
    pub(crate) uuid: Uuid,
    pub(crate) binding: &'a PortBinding,
    pub(crate) kind: Kind,
    pub(crate) key: u16,
    pub(crate) switch: Uuid,
    pub(crate) switch_key: u32,
}

/// What is behind a port (ovn-nb(5), Logical_Switch_Port.type).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A guest's interface.
    Vif,
    /// A VLAN of another port's interface.
    Nested,
    /// An interface of the same name on each hypervisor.
    Localport,
    /// A physical network, on each hypervisor that has it.
    Localnet,
    /// A physical network, on one hypervisor.
    L2Gateway,
    /// A host on the physical network that one hypervisor answers for.
    External,
    /// An address that moves between other ports.
    Virtual,
    /// A router.
    Router,
    /// Another switch.
    Patch,
}

/// A local port's way out of the switch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Interface {
    pub(crate) ofport: u16,
    pub(crate) meters: Option<u32>,
    /// VLAN that the port's frames have outside.
    pub(crate) tag: Option<u16>,
    /// Other ports use it too, so that frames may have to leave by where they came from.
    pub(crate) shared: bool,
}

impl<'a> SwitchPort<'a> {
    /// The port of that binding, if it is of a kind that belongs to a switch.
    pub(crate) fn read(view: &View<'a>, uuid: Uuid) -> Option<Self> {
        let binding: &PortBinding = view.row(uuid)?;
        let kind = kind(view, uuid, binding)?;
        let switch = binding.datapath.uuid();
        Some(Self {
            uuid,
            binding,
            kind,
            key: port_key(binding.tunnel_key)?,
            switch,
            switch_key: switch_key(view, switch)?,
        })
    }

    /// Neither disabled nor without its northbound row.
    pub(crate) fn enabled(&self, view: &View<'_>) -> bool {
        view.row::<LogicalSwitchPort>(self.uuid).is_some_and(|port| port.enabled != Some(false))
    }

    /// What carries the port's frames here, if anything does.
    pub(crate) fn interface(&self, view: &View<'_>) -> Option<Interface> {
        let own = Atom::String(self.binding.logical_port.clone());
        let (number, meter, tag, shared) = match self.kind {
            Kind::Vif | Kind::Localport => {
                let (_, row) = view.find_one::<HostInterface>(By::InterfaceId, std::slice::from_ref(&own))?;
                (row.ofport, row.meter, None, view.any(By::ParentPort, &[own]))
            }
            Kind::Nested => {
                let parent = Atom::String(self.binding.parent_port.clone()?);
                let (_, row) = view.find_one::<HostInterface>(By::InterfaceId, &[parent])?;
                (row.ofport, row.meter, Some(vlan(self.binding.tag)?), true)
            }
            Kind::Localnet | Kind::L2Gateway => {
                let (_, row) = view.find_one::<HostPatch>(By::PatchPort, &[own])?;
                (row.ofport, row.meter, vlan(self.binding.tag), false)
            }
            Kind::External | Kind::Virtual | Kind::Router | Kind::Patch => return None,
        };
        let meters = u32::try_from(meter).ok().filter(|base| (1..METERS_MAX).contains(base));
        Some(Interface { ofport: ofport(number)?, meters, tag, shared })
    }

    /// The first of the meters that it has without an interface.
    pub(crate) fn given_meters(&self, view: &View<'_>) -> Option<u32> {
        let row = view.row::<HostRouterPort>(self.uuid)?;
        u32::try_from(row.meter).ok().filter(|base| (1..METERS_MAX).contains(base))
    }

    /// The row of the interface that carries a guest's frames here.
    pub(crate) fn interface_row(&self, view: &View<'_>) -> Option<Uuid> {
        let name = match self.kind {
            Kind::Vif | Kind::Localport => self.binding.logical_port.clone(),
            _ => return None,
        };
        view.find_one::<HostInterface>(By::InterfaceId, &[Atom::String(name)]).map(|(uuid, _)| uuid)
    }

    /// Chassis that have the port, the one that holds it first.
    pub(crate) fn chassis(&self, view: &View<'_>) -> Vec<Uuid> {
        if let Some(name) = router::gateway_chassis(self.binding) {
            return view.uuids(By::ChassisName, &[Atom::String(name.into())]);
        }
        let holder = self.binding.chassis.iter().map(|chassis| chassis.uuid());
        holder.chain(self.binding.additional_chassis.iter().map(|chassis| chassis.uuid())).collect()
    }

    /// Whether this hypervisor has it, as far as its binding says; of an external port, whether it serves it.
    pub(crate) fn is_here(&self, view: &View<'_>) -> bool {
        if self.kind == Kind::External {
            return gateway::resident(view, self.binding);
        }
        let own = view.related_one(Relation::OwnChassis, Uuid::nil());
        own.is_some_and(|own| self.chassis(view).contains(&own))
    }

    /// Whether what is for it is delivered here: `Relation::LocalPorts`, for who needs to know of one port only.
    pub(crate) fn is_delivered(&self, view: &View<'_>) -> bool {
        (self.is_everywhere() || self.is_here(view))
            && self.enabled(view)
            && (self.interface(view).is_some() || self.leads_somewhere(view))
            && self.awaits(view).is_none()
    }

    /// The port of another datapath that it leads to, if that is here.
    pub(crate) fn other_side(&self, view: &View<'_>) -> Option<Uuid> {
        if !self.kind.leads_on() || !is_at_its_chassis(view, self.binding) {
            return None;
        }
        peer(view, self.binding)
    }

    /// Whether it leads to a port that works here.
    pub(crate) fn leads_somewhere(&self, view: &View<'_>) -> bool {
        self.other_side(view).is_some_and(|peer| router::takes(view, peer))
    }

    /// What takes its packets into the datapath that it leads to.
    pub(crate) fn crossing(&self, view: &View<'_>) -> Option<Vec<Action>> {
        across(view, self.other_side(view)?)
    }

    /// Whether each hypervisor has its own, so that the binding names none.
    pub(crate) fn is_everywhere(&self) -> bool {
        match self.kind {
            Kind::Localport | Kind::Localnet => true,
            Kind::Router | Kind::Patch => &*self.binding.r#type == "patch",
            _ => false,
        }
    }

    /// What it waits for before its frames may pass here, while it is here beside the chassis that holds it
    /// (ovn-nb(5), `activation-strategy`).
    pub(crate) fn awaits(&self, view: &View<'_>) -> Option<Vec<Activation>> {
        let (holder, binding): (Uuid, &PortBinding) = match self.kind {
            Kind::Vif => (self.uuid, self.binding),
            // A nested port waits with its parent.
            Kind::Nested => {
                let parent = Atom::String(self.binding.parent_port.clone()?);
                view.find_one(By::LogicalPort, &[parent])?
            }
            _ => return None,
        };
        let own = view.related_one(Relation::OwnChassis, Uuid::nil())?;
        let beside = binding.additional_chassis.iter().any(|chassis| chassis.uuid() == own);
        if !beside || binding.chassis.is_some_and(|chassis| chassis.uuid() == own) {
            return None;
        }
        let strategies = Activation::parse(binding.options.get("activation-strategy")?);
        if strategies.is_empty() {
            return None;
        }
        let name = &view.row::<Chassis>(own)?.name;
        let done = binding.options.get("additional-chassis-activated").map_or("", |names| &**names);
        let activated = done.split(',').any(|chassis| chassis.trim() == &**name)
            || view.row::<HostActivated>(holder).is_some();
        (!activated).then_some(strategies)
    }

    /// MACs with their addresses.
    pub(crate) fn addresses(&self) -> Vec<(Mac, Vec<IpAddr>)> {
        let known = |text: &std::sync::Arc<str>| match text.parse() {
            Ok(LspAddress::Known { mac, ips }) => Some((mac, ips)),
            _ => None,
        };
        self.binding.mac.iter().filter_map(known).collect()
    }

    /// Gets what nobody owns.
    pub(crate) fn is_unknown(&self) -> bool {
        self.binding.mac.iter().any(|text| text.parse() == Ok(LspAddress::Unknown))
    }

    /// Entries of port security; `None` when it is off.
    pub(crate) fn security(&self) -> Option<Vec<PortSecurity>> {
        // As in OVN, where no chassis holds such a port.
        if self.binding.port_security.is_empty() || self.kind.leads_on() {
            return None;
        }
        Some(self.binding.port_security.iter().filter_map(|text| text.parse().ok()).collect())
    }

    /// MACs behind it are learned (ovn-nb(5), `localnet_learn_fdb`, `lsp_learn_fdb`).
    pub(crate) fn learns(&self) -> bool {
        let may = match self.kind {
            Kind::Vif | Kind::Nested => !self.says("lsp_learn_fdb", "false"),
            Kind::Localnet => self.says("localnet_learn_fdb", "true"),
            Kind::Patch => true,
            _ => false,
        };
        may && self.is_unknown() && self.binding.port_security.is_empty()
    }

    /// Whether an option has a value.
    pub(crate) fn says(&self, option: &str, value: &str) -> bool {
        self.binding.options.get(option).is_some_and(|found| &**found == value)
    }

    /// Packets that came from it.
    pub(crate) fn from(&self) -> Match {
        on_switch(self.switch_key).with(register::IN_PORT, self.key)
    }

    /// Packets that go to it.
    pub(crate) fn to(&self) -> Match {
        on_switch(self.switch_key).with(register::OUT_PORT, self.key)
    }
}

impl Kind {
    /// Frames come from outside of all hypervisors.
    pub(crate) fn is_physical(self) -> bool {
        matches!(self, Self::Localnet | Self::L2Gateway)
    }

    /// Frames go to another datapath, not to an interface.
    pub(crate) fn leads_on(self) -> bool {
        matches!(self, Self::Router | Self::Patch)
    }
}

/// What opens a port that waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Activation {
    /// A reverse ARP packet, as hypervisors send for a guest that moved in.
    Rarp,
    /// An ARP announcement of one of its addresses.
    Garp,
    /// An unsolicited neighbour advertisement for one of its addresses.
    Advert,
}

impl Activation {
    fn parse(strategies: &str) -> Vec<Self> {
        let one = |name: &str| match name.trim() {
            "rarp" => Some(Self::Rarp),
            "garp" => Some(Self::Garp),
            "na" => Some(Self::Advert),
            _ => None,
        };
        strategies.split(',').filter_map(one).collect()
    }
}

/// The kind of a binding's port; `None` if no switch has such a port, or a nested one has no VLAN.
fn kind(view: &View<'_>, uuid: Uuid, binding: &PortBinding) -> Option<Kind> {
    let nested = binding.parent_port.as_ref().is_some_and(|parent| !parent.is_empty());
    Some(match &*binding.r#type {
        "" if nested => vlan(binding.tag).map(|_| Kind::Nested)?,
        "" => Kind::Vif,
        "localport" => Kind::Localport,
        "localnet" => Kind::Localnet,
        "l2gateway" => Kind::L2Gateway,
        "external" => Kind::External,
        "virtual" => Kind::Virtual,
        "patch" | "l3gateway" => {
            let row = view.row::<LogicalSwitchPort>(uuid)?;
            if &*row.r#type == "switch" { Kind::Patch } else { Kind::Router }
        }
        _ => return None,
    })
}

/// A VLAN that a frame can be on.
fn vlan(tag: Option<i64>) -> Option<u16> {
    u16::try_from(tag?).ok().filter(|tag| (1..0x1000).contains(tag))
}

/// The key of a switch.
pub(crate) fn switch_key(view: &View<'_>, switch: Uuid) -> Option<u32> {
    let row: &DatapathBinding = view.row(switch)?;
    let is_switch = row.r#type.as_deref().is_none_or(|kind| kind == "logical-switch");
    u32::try_from(row.tunnel_key).ok().filter(|key| is_switch && (1..1 << 24).contains(key))
}

/// The key of a port, unless it is out of range or in that of groups.
pub(crate) fn port_key(key: i64) -> Option<u16> {
    u16::try_from(key).ok().filter(|key| (1..register::GROUP_FLOOD).contains(key))
}

/// A port number that the switch has given.
pub(crate) fn ofport(number: i64) -> Option<u16> {
    u16::try_from(number).ok().filter(|number| (1..0xff00).contains(number))
}

/// Packets of a switch.
pub(crate) fn on_switch(key: u32) -> Match {
    Match::new().metadata(key.into())
}

/// Goes on in a table.
pub(crate) fn go(table: Table) -> Action {
    Action::resubmit(table.number())
}

/// Sends to a port or group of the switch.
pub(crate) fn send(to: u16) -> Vec<Action> {
    vec![Action::load(register::OUT_PORT, to.into()), go(Table::Output)]
}

/// Where what a port may send goes: to the switch's mirrors, filters and QoS, if it has any.
pub(crate) fn admitted(view: &View<'_>, switch: Uuid) -> Table {
    if mirror::mirrors(view, switch, Direction::From) { Table::MirrorFrom } else { unmirrored(view, switch) }
}

/// The same, behind the mirrors.
pub(crate) fn unmirrored(view: &View<'_>, switch: Uuid) -> Table {
    if view.holds(Relation::Filtered, switch) {
        Table::FromTrack
    } else if qos::shapes(view, switch, Direction::From) {
        Table::ShapeFrom
    } else {
        Table::Steer
    }
}

/// Where what is for a local port goes.
pub(crate) fn toward(view: &View<'_>, port: &SwitchPort<'_>) -> Table {
    match detour(view, port.switch) {
        Some(table) => table,
        None if port.security().is_some() => Table::AdmitOut,
        None => Table::Deliver,
    }
}

/// The first table of what all that is for a port of the switch passes, if there is any.
pub(crate) fn detour(view: &View<'_>, switch: Uuid) -> Option<Table> {
    if view.holds(Relation::Filtered, switch) { Some(Table::ToTrack) } else { filtered(view, switch) }
}

/// The same, behind the filters.
pub(crate) fn filtered(view: &View<'_>, switch: Uuid) -> Option<Table> {
    if mirror::mirrors(view, switch, Direction::To) { Some(Table::MirrorTo) } else { shaped(view, switch) }
}

/// The same, behind the mirrors.
pub(crate) fn shaped(view: &View<'_>, switch: Uuid) -> Option<Table> {
    qos::shapes(view, switch, Direction::To).then_some(Table::Shape)
}

/// The port to the physical network that this hypervisor has for a switch. Of several it is always the same one.
pub(crate) fn localnet<'a>(view: &View<'a>, switch: Uuid) -> Option<SwitchPort<'a>> {
    SwitchPort::read(view, view.related_one(Relation::Localnet, switch)?)
}

/// Out of a port, with its VLAN; afterwards the frame is as before.
pub(crate) fn output(interface: &Interface, to: Port) -> Vec<Action> {
    match interface.tag {
        Some(tag) => vec![
            Action::PushVlan(ETH_TYPE_VLAN),
            Action::set_field(field::VLAN_VID, VLAN_PRESENT | tag),
            Action::output(to),
            Action::PopVlan,
        ],
        None => vec![Action::output(to)],
    }
}

/// Frames to groups, broadcast among them.
pub(crate) fn to_group(matches: Match) -> Match {
    matches.with_masked(field::ETH_DST, GROUP_BIT, GROUP_BIT)
}

/// The bit that makes a MAC that of a group.
pub(crate) const GROUP_BIT: [u8; 6] = [1, 0, 0, 0, 0, 0];
const ETH_TYPE_VLAN: u16 = 0x8100;
const METERS_MAX: u32 = 0xffff_0000 - super::punt::METERS_PER_INTERFACE;
