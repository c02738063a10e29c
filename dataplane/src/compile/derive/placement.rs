//! Where enabled ports are: on this hypervisor and plugged, or on which other one.
//!
//! # Contract
//! - Owner: one `Port_Binding`. Reads: it, its switch, its northbound row, the interface of its name, own chassis.
//! - A port is local when its binding names this chassis and an interface of its name has a port number. While the
//!   binding names this chassis but nothing is plugged the port is nowhere.
//!
//! # Invariants
//! - A disabled port is nowhere, so that nothing is delivered to it or taken from it.
//! - Chunks hold at most 256 ports, because a chunk is the upper part of a port's key.

use quantumnet_model::{Row, sb::PortBinding};
use uuid::Uuid;

use crate::compile::{
    logical::Vif,
    owner::{Owner, Owners, Relation},
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
        Relation::LocalPorts,
        Relation::RemoteChassis,
        Relation::RemoteUnknown,
        Relation::FloodPorts,
        Relation::FloodChunks,
    ],
    emit,
};

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = Vif::read(view, owner.row()) else { return };
    let Some(chassis) = port.binding.chassis.map(|chassis| chassis.uuid()) else { return };
    let Some(own) = view.related_one(Relation::OwnChassis, Uuid::nil()) else { return };
    if !port.enabled(view) {
        return;
    }
    if chassis != own {
        out.fact(Relation::RemoteChassis, port.switch, 0, chassis);
        if port.is_unknown() {
            out.fact(Relation::RemoteUnknown, port.switch, 0, chassis);
        }
        return;
    }
    if port.interface(view).is_none() {
        return;
    }
    out.fact(Relation::LocalSwitches, port.switch, 0, Uuid::nil());
    out.fact(Relation::LocalPorts, port.switch, 0, port.uuid);
    let chunk = port.key >> 8;
    let unknown = port.is_unknown().then_some(register::GROUP_UNKNOWN);
    for group in [register::GROUP_FLOOD].into_iter().chain(unknown) {
        out.fact(Relation::FloodPorts, port.switch, chunk_part(group, chunk), port.uuid);
        out.fact(Relation::FloodChunks, port.switch, group.into(), Uuid::from_u128(chunk.into()));
    }
}

/// A group's chunk as a part of the switch.
pub(in crate::compile) fn chunk_part(group: u16, chunk: u16) -> u32 {
    u32::from(group) << 16 | u32::from(chunk)
}
