//! Virtual addresses: a parent that says it has one is forwarded as usual, and told of to the agent.
//!
//! # Contract
//! - Owner: one virtual port. Reads: it, its parents (`virtual-parents`), which of them are here.
//! - In: admitted packets of a parent: ARP announcements of and answers for the virtual address (`virtual-ip`), neighbour
//!   solicitations and advertisements for it. Out: the packet to the agent, and on its way.
//!
//! # Invariants
//! - Nothing is answered for a virtual address: its parent does that.
//! - A parent that is not of the same switch says nothing.

use std::net::IpAddr;

use ofpacket::{Match, field};
use ovsdb::value::Atom;
use quantumnet_model::sb::PortBinding;

use crate::compile::{
    index::By,
    logical::{SwitchPort, go, send, to_group},
    owner::{Owner, Owners, Relation},
    punt::{Punt, PuntReason},
    register,
    sink::Sink,
    stage::{Stage, admit, nd_respond::solicited_node},
    table::Table,
    view::View,
};

pub(super) const STAGE: Stage = Stage {
    number: 40,
    name: "virtual_claim",
    owners: Owners::Facts(Relation::VirtualPorts),
    tables: &[Table::Steer],
    relations: &[],
    emit,
};

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = SwitchPort::read(view, owner.row()) else { return };
    let option = |name: &str| port.binding.options.get(name);
    let (Some(ip), Some(parents)) = (option("virtual-ip"), option("virtual-parents")) else { return };
    let Ok(ip) = ip.trim().parse::<IpAddr>() else { return };
    let punt = Punt { reason: PuntReason::VirtualClaim, row: port.uuid };
    for name in parents.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let key = [Atom::String(name.into())];
        let Some((uuid, _)) = view.find_one::<PortBinding>(By::LogicalPort, &key) else { continue };
        let Some(parent) = SwitchPort::read(view, uuid).filter(|parent| parent.switch == port.switch) else {
            continue;
        };
        let Some(interface) = parent.interface(view).filter(|_| parent.is_delivered(view)) else { continue };
        if let Some(base) = interface.meters {
            out.meter(punt.reason.meter(base), punt.reason.rate());
        }
        for says in claims(&parent.from(), ip) {
            let tell = punt.action(interface.meters);
            out.flow(Table::Steer, 120, says.clone(), [tell.clone(), go(Table::Forward)]);
            let flood = [vec![tell], send(register::GROUP_FLOOD)].concat();
            out.flow(Table::Steer, 125, to_group(says), flood);
        }
    }
}

/// What says that its sender has the address.
fn claims(from: &Match, ip: IpAddr) -> Vec<Match> {
    match ip {
        IpAddr::V4(ip) => {
            let sent = from.clone().arp().with(field::ARP_SPA, ip);
            vec![
                sent.clone().with(field::ARP_OP, 1u16).with(field::ARP_TPA, ip),
                sent.with(field::ARP_OP, 2u16),
            ]
        }
        IpAddr::V6(ip) => {
            let about = |kind| admit::discovery(from.clone(), kind).with(field::ND_TARGET, ip);
            let solicit = |to| about(admit::NS).with(field::IPV6_DST, to);
            vec![solicit(ip), solicit(solicited_node(ip)), about(admit::NA)]
        }
    }
}
