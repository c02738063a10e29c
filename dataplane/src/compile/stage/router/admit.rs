//! Into a router: frames for the MAC of the port that they come by, and ARP and neighbour discovery for groups.
//!
//! # Contract
//! - `router_admit`: owner one router port that is here; reads it. In: a frame that has crossed. Out: to RouterInput, with the
//!   word that the port has a route table of its own; ARP and ND for groups to RouterNeighbour.
//! - `router_admit_common`: what no port changes.
//!
//! # Invariants
//! - A frame with a VLAN tag, or from a group, is dropped; so is what is for a group and neither ARP nor ND.

use ofpacket::{Action, Match, field};
use quantumnet_model::address::Mac;

use crate::compile::{
    logical::{GROUP_BIT, RouterPort, go, to_group},
    owner::{Owner, Owners, Relation},
    register,
    sink::Sink,
    stage::{Stage, admit, router::gateway},
    table::Table,
    view::View,
};

pub(in crate::compile) const STAGE: Stage = Stage {
    number: 50,
    name: "router_admit",
    owners: Owners::Facts(Relation::RouterPorts),
    tables: &[Table::RouterAdmit],
    relations: &[],
    emit,
};

pub(in crate::compile) const COMMON: Stage = Stage {
    number: 51,
    name: "router_admit_common",
    owners: Owners::Switch,
    tables: &[Table::RouterAdmit],
    relations: &[],
    emit: common,
};

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = RouterPort::read(view, owner.row()) else { return };
    let looked_at: Vec<Action> = super::large::look(view, &port).into_iter().collect();
    let entry = [looked_at, entry(&port)].concat();
    // A gateway port takes frames for its MAC where its gateway is.
    let own = gateway::speaks(view, &port).then_some(port.mac);
    for mac in own.into_iter().chain(proxy_mac(view, &port)) {
        out.flow(Table::RouterAdmit, 50, port.from().with(field::ETH_DST, mac.0), entry.clone());
    }
    let group = || to_group(port.from());
    out.flow(Table::RouterAdmit, 50, group().arp(), [go(Table::RouterNeighbour)]);
    for kind in [admit::NS, admit::NA] {
        out.flow(Table::RouterAdmit, 50, admit::discovery(group(), kind), [go(Table::RouterNeighbour)]);
    }
}

/// What becomes of a frame that the port takes.
pub(super) fn entry(port: &RouterPort<'_>) -> Vec<Action> {
    let own_table = port.route_table().is_some().then(|| Action::load(register::ROUTE_TABLE, 1));
    own_table.into_iter().chain([go(Table::RouterInput)]).collect()
}

/// The MAC that the port's switch answers with for addresses that nobody has (`arp_proxy`).
fn proxy_mac(view: &View<'_>, port: &RouterPort<'_>) -> Option<Mac> {
    let side = port.switch_port(view)?;
    side.binding.options.get("arp_proxy")?.split_whitespace().next()?.parse().ok()
}

fn common(_: &View<'_>, _: Owner, out: &mut Sink) {
    out.flow(Table::RouterAdmit, 100, Match::new().tagged(), []);
    out.flow(Table::RouterAdmit, 100, Match::new().with_masked(field::ETH_SRC, GROUP_BIT, GROUP_BIT), []);
}
