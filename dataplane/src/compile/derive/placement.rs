//! Where enabled ports are: on this hypervisor with a way in and out, or on which other one.
//!
//! # Contract
//! - `placement`: owner one `Port_Binding`. Reads: it, its switch, its northbound row, what carries its frames, own chassis.
//!   A port is local when its binding names this chassis (localports and localnets: always) and something that carries
//!   its frames has a port number. While the binding names this chassis but nothing is plugged the port is nowhere.
//!   A port to another datapath is local while that one's port works here: the centre sends the rows of whatever can be
//!   reached from a port that is here, and nothing else.
//!   Says also which ports of any kind are resident, as [`gateway::resident`] has it.
//! - `wanted_patches`: owner one port to a physical network. A localnet is wanted where its switch has another port.
//! - `announced`: owner one local port. Guests behind a localnet are announced there, unless `disable_garp_rarp` is set.
//!
//! # Invariants
//! - A disabled port is nowhere, so that nothing is delivered to it or taken from it; so is one that must show itself first.
//! - A localport or localnet makes no switch local: tunnels and flows are only where a guest is.
//! - Chunks hold at most 256 ports, because a chunk is the upper part of a port's key.

use quantumnet_model::{Row, sb::PortBinding};
use uuid::Uuid;

use crate::compile::{
    derive::gateway,
    logical::{Kind, RouterPort, SwitchPort},
    owner::{Owner, Owners, Relation, named},
    register,
    sink::Sink,
    stage::Stage,
    view::View,
};

pub(in crate::compile) const STAGE: Stage = Stage {
    number: 4,
    name: "placement",
    owners: Owners::Rows(PortBinding::TABLE),
    tables: &[],
    relations: &[
        Relation::LocalSwitches,
        Relation::Entrances,
        Relation::LocalRouters,
        Relation::RouterPorts,
        Relation::MeteredPorts,
        Relation::Gateways,
        Relation::Networks,
        Relation::NetworkLengths,
        Relation::TablePorts,
        Relation::Resident,
        Relation::LocalPorts,
        Relation::ZonedPorts,
        Relation::WaitingPorts,
        Relation::ExternalPorts,
        Relation::PhysicalPorts,
        Relation::VirtualPorts,
        Relation::MovingPorts,
        Relation::Localnet,
        Relation::BoundInterfaces,
        Relation::RemoteChassis,
        Relation::RemoteUnknown,
        Relation::FloodPorts,
        Relation::MirrorPorts,
        Relation::MirrorTargets,
        Relation::RemoteMirrors,
        Relation::FloodChunks,
        Relation::FloodPeers,
        Relation::AnnouncedNat,
    ],
    emit,
};

pub(in crate::compile) const WANTED_PATCHES: Stage = Stage {
    number: 8,
    name: "wanted_patches",
    owners: Owners::Facts(Relation::PhysicalPorts),
    tables: &[],
    relations: &[Relation::WantedPatches],
    emit: wanted_patches,
};

pub(in crate::compile) const ANNOUNCED: Stage = Stage {
    number: 9,
    name: "announced",
    owners: Owners::Facts(Relation::LocalPorts),
    tables: &[],
    relations: &[Relation::Announced],
    emit: announced,
};

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(binding) = view.row::<PortBinding>(owner.row()) else { return };
    if gateway::resident(view, binding) {
        out.fact(Relation::Resident, owner.row(), 0, Uuid::nil());
    }
    if !binding.nat_addresses.is_empty() {
        out.fact(Relation::AnnouncedNat, Uuid::nil(), 0, owner.row());
    }
    let Some(own) = view.related_one(Relation::OwnChassis, Uuid::nil()) else { return };
    let Some(port) = SwitchPort::read(view, owner.row()) else {
        mirror_port(view, owner.row(), own, out);
        router_port(view, owner.row(), out);
        return;
    };
    let bound = port.is_here(view);
    if bound && let Some(row) = port.interface_row(view) {
        out.fact(Relation::BoundInterfaces, Uuid::nil(), 0, row);
    }
    if !port.enabled(view) {
        return;
    }
    if !matches!(port.kind, Kind::Virtual | Kind::Localport | Kind::Localnet) {
        for chassis in port.chassis(view).into_iter().filter(|chassis| *chassis != own) {
            out.fact(Relation::RemoteChassis, port.switch, 0, chassis);
            if port.is_unknown() {
                out.fact(Relation::RemoteUnknown, port.switch, 0, chassis);
            }
        }
    }
    if port.kind == Kind::Virtual {
        out.fact(Relation::VirtualPorts, port.switch, 0, port.uuid);
    } else if bound || port.is_everywhere() {
        local(view, &port, own, out);
    }
}

fn local(view: &View<'_>, port: &SwitchPort<'_>, own: Uuid, out: &mut Sink) {
    if port.kind == Kind::External {
        out.fact(Relation::LocalSwitches, port.switch, 0, Uuid::nil());
        out.fact(Relation::ExternalPorts, port.switch, 0, port.uuid);
    }
    if port.kind.is_physical() {
        out.fact(Relation::PhysicalPorts, port.switch, 0, port.uuid);
        out.fact(Relation::Entrances, port.switch, 0, Uuid::nil());
    }
    if port.kind.leads_on() {
        if port.leads_somewhere(view) {
            out.fact(Relation::LocalSwitches, port.switch, 0, Uuid::nil());
            out.fact(Relation::LocalPorts, port.switch, 0, port.uuid);
            if port.kind == Kind::Patch {
                out.fact(Relation::Entrances, port.switch, 0, Uuid::nil());
                out.fact(Relation::MeteredPorts, Uuid::nil(), 0, port.uuid);
            }
            let unknown = port.is_unknown().then_some(register::GROUP_UNKNOWN);
            for group in [register::GROUP_FLOOD].into_iter().chain(unknown) {
                out.fact(Relation::FloodPeers, port.switch, group.into(), port.uuid);
            }
        }
        return;
    }
    if port.interface(view).is_none() {
        return;
    }
    out.fact(Relation::Entrances, port.switch, 0, Uuid::nil());
    if !port.is_everywhere() {
        out.fact(Relation::LocalSwitches, port.switch, 0, Uuid::nil());
    }
    if port.awaits(view).is_some() {
        out.fact(Relation::WaitingPorts, port.switch, 0, port.uuid);
        return;
    }
    if port.kind == Kind::Localnet {
        out.fact(Relation::Localnet, port.switch, 0, port.uuid);
    }
    if port.chassis(view).iter().any(|chassis| *chassis != own) {
        out.fact(Relation::MovingPorts, port.switch, 0, port.uuid);
    }
    out.fact(Relation::LocalPorts, port.switch, 0, port.uuid);
    if port.kind != Kind::Localnet {
        out.fact(Relation::ZonedPorts, Uuid::nil(), 0, port.uuid);
    }
    let chunk = port.key >> 8;
    let unknown = port.is_unknown().then_some(register::GROUP_UNKNOWN);
    for group in [register::GROUP_FLOOD].into_iter().chain(unknown) {
        out.fact(Relation::FloodPorts, port.switch, chunk_part(group, chunk), port.uuid);
        out.fact(Relation::FloodChunks, port.switch, group.into(), Uuid::from_u128(chunk.into()));
    }
}

fn mirror_port(view: &View<'_>, uuid: Uuid, own: Uuid, out: &mut Sink) {
    let Some(binding) = view.row::<PortBinding>(uuid).filter(|binding| &*binding.r#type == "mirror") else {
        return;
    };
    let switch = binding.datapath.uuid();
    out.fact(Relation::MirrorPorts, switch, 0, uuid);
    match binding.chassis.map(|chassis| chassis.uuid()) {
        Some(chassis) if chassis == own => out.fact(Relation::MirrorTargets, switch, 0, uuid),
        Some(chassis) => out.fact(Relation::RemoteMirrors, switch, 0, chassis),
        None => {}
    }
}

fn router_port(view: &View<'_>, uuid: Uuid, out: &mut Sink) {
    let Some(port) = RouterPort::read(view, uuid) else { return };
    out.fact(Relation::LocalRouters, port.router, 0, Uuid::nil());
    out.fact(Relation::RouterPorts, port.router, 0, port.uuid);
    out.fact(Relation::MeteredPorts, Uuid::nil(), 0, port.uuid);
    let is_gateway = &*port.binding.r#type == "l3gateway";
    if is_gateway || port.has_gateway() {
        out.fact(Relation::Gateways, port.router, 0, Uuid::nil());
    }
    for net in port.all() {
        let family = if net.addr().is_ipv4() { 4 } else { 6 };
        out.fact(Relation::Networks, named(port.router, &net.trunc().to_string()), 0, port.uuid);
        let length = Uuid::from_u128(net.prefix_len().into());
        out.fact(Relation::NetworkLengths, port.router, family, length);
    }
    if let Some(table) = port.route_table() {
        out.fact(Relation::TablePorts, named(port.router, table), 0, port.uuid);
    }
}

fn wanted_patches(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = SwitchPort::read(view, owner.row()) else { return };
    if port.kind == Kind::L2Gateway || view.holds(Relation::LocalSwitches, port.switch) {
        out.fact(Relation::WantedPatches, Uuid::nil(), 0, port.uuid);
    }
}

fn announced(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = SwitchPort::read(view, owner.row()) else { return };
    let own = view.related_one(Relation::OwnChassis, Uuid::nil());
    let holds = own.is_some() && port.binding.chassis.map(|chassis| chassis.uuid()) == own;
    let guest = matches!(port.kind, Kind::Vif | Kind::Nested);
    if guest
        && holds
        && view.holds(Relation::Localnet, port.switch)
        && !port.says("disable_garp_rarp", "true")
    {
        out.fact(Relation::Announced, Uuid::nil(), 0, port.uuid);
    }
}

/// A group's chunk as a part of the switch.
pub(in crate::compile) fn chunk_part(group: u16, chunk: u16) -> u32 {
    u32::from(group) << 16 | u32::from(chunk)
}
