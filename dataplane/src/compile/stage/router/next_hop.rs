//! The next hop's MAC: of ports that the attached switch knows, of other routers, and of neighbours that were learned or given.
//!
//! # Contract
//! - `next_hop_port`: owner one port of a switch with a router here, wherever it is. Reads: it, the switch's routers. Out: for each
//!   address in a network of such a router's port, the MAC. Of routers' own ports only those of gateway routers elsewhere, of
//!   which nothing but this side is known here.
//! - `next_hop_router`: owner one router port that is here; reads it, its peer, the other routers of its switch. Out: their MACs; the
//!   router's own addresses lead nowhere; who is not known is asked for by the agent, which keeps the packet meanwhile.
//! - In: `NEXT_HOP`, `OUT_PORT`. Out: on to what the port that the packet leaves by wants, in the end Output.
//!
//! # Invariants
//! - What the network is configured with wins over what was learned.
//! - A virtual port's address is always asked for: it is where its parent at present answers.

use std::net::IpAddr;

use ofpacket::{Action, Match, field};
use quantumnet_model::{Row, address::Mac, sb::PortBinding};

use crate::compile::{
    logical::{Kind, RouterPort, SwitchPort, go, is_at_its_chassis},
    owner::{Owner, Owners, Relation},
    punt::{Protocol, PuntReason},
    register,
    sink::Sink,
    stage::Stage,
    table::Table,
    view::View,
};

pub(in crate::compile) const PORT: Stage = Stage {
    number: 59,
    name: "next_hop_port",
    owners: Owners::Rows(PortBinding::TABLE),
    tables: &[Table::NextHop],
    relations: &[],
    emit: port,
};

pub(in crate::compile) const ROUTER: Stage = Stage {
    number: 60,
    name: "next_hop_router",
    owners: Owners::Facts(Relation::RouterPorts),
    tables: &[Table::NextHop, Table::NextHopMissing],
    relations: &[],
    emit: router,
};

pub(in crate::compile) const COMMON: Stage = Stage {
    number: 61,
    name: "next_hop_common",
    owners: Owners::Switch,
    tables: &[Table::NextHop],
    relations: &[],
    emit: common,
};

/// Priority of what the network is configured with.
pub(super) const KNOWN: u16 = 100;
/// Of a static binding that wins over learned ones.
pub(super) const GIVEN: u16 = 60;
/// Of learned ones.
pub(super) const LEARNED: u16 = 50;
/// Of a static binding that serves until one is learned.
pub(super) const GIVEN_FOR_NOW: u16 = 40;
/// Of what is for the router itself and was not translated.
const OWN: u16 = 30;

fn port(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = SwitchPort::read(view, owner.row()) else { return };
    let elsewhere = port.kind == Kind::Router && !is_at_its_chassis(view, port.binding);
    if port.kind == Kind::Virtual
        || port.kind == Kind::Router && !elsewhere
        || !view.holds(Relation::LocalSwitches, port.switch)
    {
        return;
    }
    let asks = |router: &RouterPort<'_>| elsewhere && view.holds(Relation::AsksRouters, router.router);
    let routers: Vec<RouterPort<'_>> = routers(view, &port).filter(|router| !asks(router)).collect();
    if routers.is_empty() || !port.enabled(view) {
        return;
    }
    for (mac, ips) in port.addresses() {
        for ip in ips {
            for router in routers.iter().filter(|router| router.networks.iter().any(|net| net.contains(&ip)))
            {
                resolve(router, ip, mac, KNOWN, None, out);
            }
        }
    }
}

/// Ports of routers on the port's switch.
pub(super) fn routers<'a>(view: &View<'a>, port: &SwitchPort<'_>) -> impl Iterator<Item = RouterPort<'a>> {
    let group = register::GROUP_FLOOD.into();
    let ports: Vec<_> = view.related(Relation::FloodPeers, port.switch, group).collect();
    let ports = ports.into_iter().filter_map(|side| SwitchPort::read(view, side));
    let ports = ports.filter(|side| side.kind == Kind::Router).collect::<Vec<_>>();
    ports
        .into_iter()
        .filter_map(|side| RouterPort::read(view, side.other_side(view)?))
        .collect::<Vec<_>>()
        .into_iter()
}

fn router(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = RouterPort::read(view, owner.row()) else { return };
    for net in port.all() {
        out.flow(Table::NextHop, OWN, toward(&port, net.addr()), []);
    }
    for other in neighbours(view, &port) {
        for net in other.all() {
            resolve(&port, net.addr(), other.mac, KNOWN, None, out);
        }
    }
    let mut ask = |protocol| super::punt_and_wait(view, &port, PuntReason::ResolveNeighbour, protocol, out);
    let [by_arp, by_nd] = [Protocol::ArpResolve, Protocol::NdNsResolve].map(&mut ask);
    let onward = |ask: Vec<Action>| [ask, vec![go(super::onward(&port))]].concat();
    if by_arp == by_nd {
        out.flow(Table::NextHopMissing, 100, port.to(), onward(by_arp));
    } else {
        out.flow(Table::NextHopMissing, 100, port.to().ipv4(), onward(by_arp));
        out.flow(Table::NextHopMissing, 100, port.to().ipv6(), onward(by_nd));
    }
}

/// Ports of other routers that the port reaches at once.
fn neighbours<'a>(view: &View<'a>, port: &RouterPort<'a>) -> Vec<RouterPort<'a>> {
    let Some(peer) = port.peer else { return Vec::new() };
    if let Some(peer) = RouterPort::read(view, peer) {
        return vec![peer];
    }
    let Some(side) = port.switch_port(view) else { return Vec::new() };
    if view.holds(Relation::AsksRouters, port.router) {
        return Vec::new();
    }
    routers(view, &side).filter(|other| other.uuid != port.uuid).collect()
}

fn common(_: &View<'_>, _: Owner, out: &mut Sink) {
    out.flow(Table::NextHop, 0, Match::new(), [go(Table::NextHopMissing)]);
}

/// Packets that leave by the port for that next hop.
fn toward(port: &RouterPort<'_>, ip: IpAddr) -> Match {
    port.to().with(register::NEXT_HOP, register::next_hop(ip))
}

/// One next hop's MAC. `refresh` also goes to the agent, which asks whether it is still there.
pub(super) fn resolve(
    port: &RouterPort<'_>,
    ip: IpAddr,
    mac: Mac,
    priority: u16,
    refresh: Option<Action>,
    out: &mut Sink,
) {
    let resolved = [Action::set_field(field::ETH_DST, mac.0), go(super::onward(port))];
    let actions: Vec<Action> = refresh.into_iter().chain(resolved).collect();
    out.flow(Table::NextHop, priority, toward(port, ip), actions);
}
