//! MACs of hypervisors on physical networks (ovn-controller(8), `ovn-chassis-mac-mappings`): what routers on a hypervisor send to such
//! a network has the hypervisor's MAC there, since the router's would be seen at as many places as there are hypervisors.
//!
//! # Contract
//! - `chassis_mac`: owner one localnet port that this hypervisor has; reads it, the routers on its switch, this chassis. Deliver:
//!   a router's MAC is replaced on the way out.
//! - [`worn`]: for Classify, which puts the router's MAC back on the way in.
//!
//! # Invariants
//! - The MAC of a gateway port is not replaced where the gateway is: it is at one place at a time, and announced there. Elsewhere
//!   it is, if packets go to the gateway by the physical network, which would else see it at their place.
//! - Where several routers are on one switch the MAC that comes back is that of the first, as nothing in the frame says which.

use ofpacket::Port;
use ofpacket::{Action, field};
use quantumnet_model::{address::Mac, sb::Chassis};
use uuid::Uuid;

use crate::compile::{
    index::By,
    logical::{self, Kind, RouterPort, SwitchPort, peer},
    owner::{Owner, Owners, Relation},
    sink::Sink,
    stage::{Stage, router::gateway::Gateway},
    table::Table,
    view::View,
};

pub(super) const STAGE: Stage = Stage {
    number: 144,
    name: "chassis_mac",
    owners: Owners::Facts(Relation::Localnet),
    tables: &[Table::Deliver],
    relations: &[],
    emit,
};

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = SwitchPort::read(view, owner.row()) else { return };
    let Some(interface) = port.interface(view) else { return };
    let Some(own) = own(view, &port) else { return };
    for router in senders(view, port.switch) {
        let from = port.to().with(field::ETH_SRC, router.0);
        let mut actions = vec![Action::set_field(field::ETH_SRC, own.0)];
        actions.extend(logical::output(&interface, Port(interface.ofport.into())));
        // As before, for whoever else gets it.
        actions.push(Action::set_field(field::ETH_SRC, router.0));
        out.flow(Table::Deliver, 105, from, actions);
    }
}

/// Whether what goes out of a port must pass Deliver, for routers' MACs to be replaced.
pub(super) fn replaces(view: &View<'_>, port: &SwitchPort<'_>) -> bool {
    own(view, port).is_some() && !senders(view, port.switch).is_empty()
}

/// The MAC of this hypervisor on the port's network.
fn own(view: &View<'_>, port: &SwitchPort<'_>) -> Option<Mac> {
    if port.kind != Kind::Localnet {
        return None;
    }
    let own = view.related_one(Relation::OwnChassis, Uuid::nil())?;
    on_network(view.row::<Chassis>(own)?, port)
}

/// MACs that frames from the physical network wear instead of a router's, and which router's that is.
pub(super) fn worn(view: &View<'_>, port: &SwitchPort<'_>) -> Option<(Vec<Mac>, Mac)> {
    if port.kind != Kind::Localnet {
        return None;
    }
    let router = routers(view, port.switch).into_iter().next()?;
    let own = view.related_one(Relation::OwnChassis, Uuid::nil());
    let others = view.find::<Chassis>(By::AnyChassis, &[]).into_iter();
    let others = others.filter(|(chassis, _)| Some(*chassis) != own);
    let macs: Vec<Mac> = others.filter_map(|(_, chassis)| on_network(chassis, port)).collect();
    (!macs.is_empty()).then_some((macs, router))
}

/// MACs of the router ports on a switch that are no gateways, in the order of the ports' uuids.
fn routers(view: &View<'_>, switch: Uuid) -> Vec<Mac> {
    let ports = ports(view, switch).into_iter();
    ports.filter(|port| Gateway::of(view, port).is_none()).map(|port| port.mac).collect()
}

/// MACs of those that send to the physical network here.
fn senders(view: &View<'_>, switch: Uuid) -> Vec<Mac> {
    let here = |port: &RouterPort<'_>| {
        Gateway::of(view, port).is_none_or(|gateway| gateway.is_bridged() && !gateway.is_resident(view))
    };
    ports(view, switch).into_iter().filter(here).map(|port| port.mac).collect()
}

/// Router ports on a switch.
fn ports<'a>(view: &View<'a>, switch: Uuid) -> Vec<RouterPort<'a>> {
    let ports: Vec<Uuid> = view.related(Relation::LocalPorts, switch, 0).collect();
    let sides = ports.into_iter().filter_map(|port| SwitchPort::read(view, port));
    let sides = sides.filter(|side| side.kind == Kind::Router);
    sides.filter_map(|side| RouterPort::read(view, peer(view, side.binding)?)).collect()
}

/// The MAC of a chassis on the physical network of a port: `NETWORK:MAC,...`.
fn on_network(chassis: &Chassis, port: &SwitchPort<'_>) -> Option<Mac> {
    let network = port.binding.options.get("network_name")?;
    let mappings = chassis.other_config.get("ovn-chassis-mac-mappings")?;
    let of = |pair: &str| {
        let (name, mac) = pair.trim().split_once(':')?;
        if name == &**network { mac.parse().ok() } else { None }
    };
    mappings.split(',').find_map(of)
}
