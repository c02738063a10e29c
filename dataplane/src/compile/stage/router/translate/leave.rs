//! Where packets go in a router with translation that no rule is about.
//!
//! # Contract
//! - `nat_pass`: owner one router that translates here. From each of its tables on to the next.
//! - `nat_leave`: owner one port of a router here. RouterOut: what leaves by it goes across to its peer.

use crate::compile::{
    logical::{RouterPort, across, go, on_switch, router_key},
    owner::{Owner, Owners, Relation},
    sink::Sink,
    stage::Stage,
    table::Table,
    view::View,
};

pub(in crate::compile) const PASS: Stage = Stage {
    number: 169,
    name: "nat_pass",
    owners: Owners::Facts(Relation::Translates),
    tables: &[Table::RouterTrack, Table::RouterTranslate, Table::RouterUndo, Table::RouterSource],
    relations: &[],
    emit: pass,
};

pub(in crate::compile) const LEAVE: Stage = Stage {
    number: 170,
    name: "nat_leave",
    owners: Owners::Facts(Relation::RouterPorts),
    tables: &[Table::RouterOut],
    relations: &[],
    emit: leave,
};

fn pass(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(key) = owner.fact().and_then(|fact| router_key(view, fact.of)) else { return };
    for (table, next) in [
        (Table::RouterTrack, Table::Route),
        (Table::RouterTranslate, Table::Route),
        (Table::RouterUndo, Table::RouterSource),
        (Table::RouterSource, Table::RouterOut),
    ] {
        out.flow(table, 0, on_switch(key), [go(next)]);
    }
}

fn leave(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = RouterPort::read(view, owner.row()) else { return };
    if !view.holds(Relation::Translates, port.router) {
        return;
    }
    if let Some(across) = port.peer.and_then(|peer| across(view, peer)) {
        out.flow(Table::RouterOut, 0, port.to(), across);
    }
}
