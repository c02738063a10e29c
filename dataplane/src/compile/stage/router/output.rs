//! Out of a router: across to the peer of the port that a packet leaves by.
//!
//! # Contract
//! - Owner: one router port that is here; reads it, its peer, whether its router translates. In: `OUT_PORT`. Out: the packet in
//!   the peer's datapath, as one that has just come in; of routers with translation, first in RouterUndo.
//! - `Return`: what answers a packet that came in by the port goes back across it.

use ofpacket::Action;

use crate::compile::{
    logical::{RouterPort, across, go},
    owner::{Owner, Owners, Relation},
    register,
    sink::Sink,
    stage::Stage,
    table::Table,
    view::View,
};

pub(in crate::compile) const STAGE: Stage = Stage {
    number: 49,
    name: "router_output",
    owners: Owners::Facts(Relation::RouterPorts),
    tables: &[Table::Output, Table::Return],
    relations: &[],
    emit,
};

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = RouterPort::read(view, owner.row()) else { return };
    let Some(across) = port.peer.and_then(|peer| across(view, peer)) else { return };
    if view.holds(Relation::Translates, port.router) {
        out.flow(Table::Output, 100, port.to(), [go(Table::RouterUndo)]);
    } else {
        out.flow(Table::Output, 100, port.to(), across.clone());
    }
    let back = [vec![Action::load(register::OUT_PORT, port.key.into())], across].concat();
    out.flow(Table::Return, 100, port.from(), back);
}
