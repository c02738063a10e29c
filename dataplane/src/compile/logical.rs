//! What several stages read of a logical port, with one meaning.
//!
//! # Invariants
//! - Keys out of range, unknown port types and rows that refer to nothing are no ports: they have no flows.
//! - An address that does not parse is skipped; a `port_security` entry that does not parse allows nothing, and the
//!   port stays secured by the others (OVN takes such a port for an open one).

use std::net::IpAddr;

use ofpacket::{Action, Match, field};
use ovsdb::value::Atom;
use quantumnet_model::{
    address::{LspAddress, Mac, PortSecurity},
    host::HostInterface,
    nb::LogicalSwitchPort,
    sb::{DatapathBinding, PortBinding},
};
use uuid::Uuid;

use super::{index::By, register, table::Table, view::View};

/// A port of a logical switch with an interface behind it, wherever it is.
#[derive(Clone, Copy)]
pub(crate) struct Vif<'a> {
    pub(crate) uuid: Uuid,
    pub(crate) binding: &'a PortBinding,
    pub(crate) key: u16,
    pub(crate) switch: Uuid,
    pub(crate) switch_key: u32,
}

/// A local port's interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Interface {
    pub(crate) ofport: u16,
    pub(crate) meters: Option<u32>,
}

impl<'a> Vif<'a> {
    /// The port of that binding, if it is of a kind that has an interface.
    pub(crate) fn read(view: &View<'a>, uuid: Uuid) -> Option<Self> {
        let binding: &PortBinding = view.row(uuid)?;
        if !binding.r#type.is_empty() {
            return None;
        }
        let switch = binding.datapath.uuid();
        Some(Self {
            uuid,
            binding,
            key: port_key(binding.tunnel_key)?,
            switch,
            switch_key: switch_key(view, switch)?,
        })
    }

    /// Neither disabled nor without its northbound row.
    pub(crate) fn enabled(&self, view: &View<'_>) -> bool {
        view.row::<LogicalSwitchPort>(self.uuid).is_some_and(|port| port.enabled != Some(false))
    }

    /// The interface that carries the port's name here.
    pub(crate) fn interface(&self, view: &View<'_>) -> Option<Interface> {
        let name = Atom::String(self.binding.logical_port.clone());
        let (_, row) = view.find_one::<HostInterface>(By::InterfaceId, &[name])?;
        let meters = u32::try_from(row.meter).ok().filter(|base| (1..METERS_MAX).contains(base));
        Some(Interface { ofport: ofport(row.ofport)?, meters })
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
        if self.binding.port_security.is_empty() {
            return None;
        }
        Some(self.binding.port_security.iter().filter_map(|text| text.parse().ok()).collect())
    }

    /// MACs behind it are learned.
    pub(crate) fn learns(&self) -> bool {
        self.is_unknown() && self.binding.port_security.is_empty()
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

/// Frames to groups, broadcast among them.
pub(crate) fn to_group(matches: Match) -> Match {
    matches.with_masked(field::ETH_DST, GROUP_BIT, GROUP_BIT)
}

/// The bit that makes a MAC that of a group.
pub(crate) const GROUP_BIT: [u8; 6] = [1, 0, 0, 0, 0, 0];
const METERS_MAX: u32 = 0xffff_0000 - super::punt::METERS_PER_INTERFACE;
