//! ARP and neighbour discovery that reach a router port: who sent it is learned, who asks for the port is answered.
//!
//! # Contract
//! - `router_neighbour`: owner one router port that is here; reads it, its router's options. In: ARP, NS and NA. First (without
//!   `NEIGHBOUR_KNOWN`) a sender that may be learned is told to the agent; then requests for the port's addresses go to
//!   NeighbourReply and from there back.
//! - `neighbour`, `neighbour_here`: owner one `MAC_Binding`, one `Host_Neighbour`. The sender that they name is known as it is:
//!   not told again. Its address is resolved in NextHop. `static_neighbour`: owner one `Static_MAC_Binding`.
//!
//! # Invariants
//! - As in OVN an ARP request is answered only to senders of the address's own network, and of others nothing is learned.
//! - With `always_learn_from_arp_request` false, of requests only the senders of those for the port itself are learned, or those
//!   that are known already, by another MAC.

use std::net::{IpAddr, Ipv6Addr};

use ofpacket::{Action, Match, field};
use ovsdb::value::Atom;
use quantumnet_model::{
    Row,
    address::Mac,
    host::{HostNeighbour, HostOldMac, HostSelf},
    sb::{MacBinding, StaticMacBinding},
};
use uuid::Uuid;

use crate::compile::{
    index::By,
    logical::{RouterPort, go},
    owner::{Owner, Owners, Relation},
    punt::{Protocol, PuntReason},
    register,
    sink::Sink,
    stage::{
        Stage, admit, arp_respond,
        nd_respond::solicited_node,
        router::{gateway, next_hop},
    },
    table::Table,
    view::View,
};

pub(in crate::compile) const STAGE: Stage = Stage {
    number: 54,
    name: "router_neighbour",
    owners: Owners::Facts(Relation::RouterPorts),
    tables: &[Table::RouterNeighbour],
    relations: &[],
    emit,
};

pub(in crate::compile) const COMMON: Stage = Stage {
    number: 55,
    name: "router_neighbour_common",
    owners: Owners::Switch,
    tables: &[Table::RouterNeighbour],
    relations: &[],
    emit: common,
};

pub(in crate::compile) const HERE: Stage = Stage {
    number: 56,
    name: "neighbour_here",
    owners: Owners::Rows(HostNeighbour::TABLE),
    tables: &[Table::RouterNeighbour, Table::NextHop],
    relations: &[],
    emit: here,
};

pub(in crate::compile) const LEARNED: Stage = Stage {
    number: 57,
    name: "neighbour",
    owners: Owners::Rows(MacBinding::TABLE),
    tables: &[Table::RouterNeighbour, Table::NextHop],
    relations: &[],
    emit: learned,
};

pub(in crate::compile) const STATIC: Stage = Stage {
    number: 58,
    name: "static_neighbour",
    owners: Owners::Rows(StaticMacBinding::TABLE),
    tables: &[Table::RouterNeighbour, Table::NextHop],
    relations: &[],
    emit: given,
};

/// On: the sender has been looked at.
fn looked_at() -> [Action; 2] {
    [Action::load(register::NEIGHBOUR_KNOWN, 1), go(Table::RouterNeighbour)]
}

/// On, and the agent hears of the sender.
fn told(view: &View<'_>, port: &RouterPort<'_>, protocol: Protocol, out: &mut Sink) -> Vec<Action> {
    let tell = super::punt(view, port, PuntReason::LearnNeighbour, Some(protocol), out);
    [vec![tell], looked_at().to_vec()].concat()
}

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = RouterPort::read(view, owner.row()) else { return };
    learn(view, &port, out);
    if gateway::answers(view, &port) {
        answer(view, &port, out);
    }
}

fn learn(view: &View<'_>, port: &RouterPort<'_>, out: &mut Sink) {
    let mut told = |protocol| told(view, port, protocol, out);
    let [by_arp, by_advert, by_solicit] = [Protocol::Arp, Protocol::NdNa, Protocol::NdNs].map(&mut told);
    let always = !view.holds(Relation::LearnsRarely, port.router);
    let fresh = || port.from().with_bits(register::NEIGHBOUR_KNOWN, 0u8);
    for net in port.v4() {
        let asks = fresh().arp().with(field::ARP_OP, 1u16);
        let asks = asks.with_prefix(field::ARP_SPA, net.network(), net.prefix_len());
        let request = if always { asks } else { asks.with(field::ARP_TPA, net.addr()) };
        out.flow(Table::RouterNeighbour, 60, request, by_arp.clone());
    }
    out.flow(Table::RouterNeighbour, 60, fresh().arp().with(field::ARP_OP, 2u16), by_arp);
    out.flow(Table::RouterNeighbour, 60, admit::discovery(fresh(), admit::NA), by_advert);
    if always {
        let solicit = || admit::discovery(fresh(), admit::NS);
        out.flow(Table::RouterNeighbour, 60, solicit(), by_solicit);
        // Whoever has no address yet, or does not say its own.
        out.flow(Table::RouterNeighbour, 65, solicit().with(field::IPV6_SRC, 0u128), looked_at());
        out.flow(Table::RouterNeighbour, 65, solicit().with(field::ND_SLL, [0; 6]), looked_at());
    } else {
        // Announcements to all from link-local addresses are not wanted, unless something is known of them.
        let all = admit::discovery(fresh(), admit::NA)
            .with_prefix(field::IPV6_SRC, LINK_LOCAL, 10)
            .with_prefix(field::IPV6_DST, GROUPS, 8);
        out.flow(Table::RouterNeighbour, 62, all, looked_at());
    }
}

fn answer(view: &View<'_>, port: &RouterPort<'_>, out: &mut Sink) {
    let known = || port.from().with_bits(register::NEIGHBOUR_KNOWN, 1u8);
    let mac = Action::load(register::ANSWER_MAC, arp_respond::bits(port.mac));
    for net in port.v4() {
        let request = known().arp().with(field::ARP_OP, 1u16).with(field::ARP_TPA, net.addr());
        let near = request.with_prefix(field::ARP_SPA, net.network(), net.prefix_len());
        out.flow(Table::RouterNeighbour, 90, near, [mac.clone(), go(Table::NeighbourReply)]);
    }
    let able = view.find_one::<HostSelf>(By::HostSelf, &[]).is_some_and(|(_, host)| host.nd_extensions);
    let by_agent =
        (!able).then(|| super::punt(view, port, PuntReason::RouterSolicited, Some(Protocol::NdNa), out));
    for net in port.v6() {
        for to in [net.addr(), solicited_node(net.addr())] {
            let solicit = admit::discovery(known(), admit::NS).with(field::ND_TARGET, net.addr());
            let actions = match &by_agent {
                Some(tell) => vec![tell.clone()],
                None => {
                    let by_router = Action::load(register::ANSWER_ROUTER, 1);
                    vec![mac.clone(), by_router, go(Table::NeighbourReply)]
                }
            };
            out.flow(Table::RouterNeighbour, 90, solicit.with(field::IPV6_DST, to), actions);
        }
    }
}

fn common(_: &View<'_>, _: Owner, out: &mut Sink) {
    let fresh = Match::new().with_bits(register::NEIGHBOUR_KNOWN, 0u8);
    out.flow(Table::RouterNeighbour, 50, fresh, looked_at());
}

fn here(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(row) = view.row::<HostNeighbour>(owner.row()) else { return };
    let Some(known) = Known::read(view, row.port, &row.ip, &row.mac) else { return };
    known.flows(view, next_hop::LEARNED, true, out);
}

fn learned(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(row) = view.row::<MacBinding>(owner.row()) else { return };
    let Some(port) = port_named(view, &row.logical_port) else { return };
    let Some(known) = Known::read(view, port, &row.ip, &row.mac) else { return };
    let old = view.row::<HostOldMac>(owner.row()).is_some();
    known.flows(view, next_hop::LEARNED, !old, out);
}

fn given(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(row) = view.row::<StaticMacBinding>(owner.row()) else { return };
    let Some(port) = port_named(view, &row.logical_port) else { return };
    let Some(known) = Known::read(view, port, &row.ip, &row.mac) else { return };
    let priority = if row.override_dynamic_mac { next_hop::GIVEN } else { next_hop::GIVEN_FOR_NOW };
    known.flows(view, priority, true, out);
}

fn port_named(view: &View<'_>, name: &quantumnet_model::column::Text) -> Option<Uuid> {
    view.uuids(By::LogicalPort, &[Atom::String(name.clone())]).first().copied()
}

/// A neighbour of a router port.
struct Known<'a> {
    port: RouterPort<'a>,
    ip: IpAddr,
    mac: Mac,
}

impl<'a> Known<'a> {
    fn read(view: &View<'a>, port: Uuid, ip: &str, mac: &str) -> Option<Self> {
        let port = RouterPort::read(view, port)?;
        let mac = mac.parse().ok().filter(|mac: &Mac| !mac.is_multicast())?;
        Some(Self { port, ip: ip.parse().ok()?, mac })
    }

    /// `settled`: it is not to show itself again.
    fn flows(&self, view: &View<'_>, priority: u16, settled: bool, out: &mut Sink) {
        let refresh =
            (!settled).then(|| super::punt(view, &self.port, PuntReason::RefreshNeighbour, None, out));
        next_hop::resolve(&self.port, self.ip, self.mac, priority, refresh, out);
        if !settled {
            return;
        }
        let fresh = || self.port.from().with_bits(register::NEIGHBOUR_KNOWN, 0u8);
        if view.holds(Relation::LearnsRarely, self.port.router) {
            // By another MAC than before.
            let (moved, protocol) = match self.ip {
                IpAddr::V4(ip) => (fresh().arp().with(field::ARP_SPA, ip), Protocol::Arp),
                IpAddr::V6(ip) => {
                    (admit::discovery(fresh(), admit::NS).with(field::IPV6_SRC, ip), Protocol::NdNs)
                }
            };
            let told = told(view, &self.port, protocol, out);
            out.flow(Table::RouterNeighbour, 66, moved, told);
        }
        match self.ip {
            IpAddr::V4(ip) => {
                let sent = fresh().arp().with(field::ARP_SPA, ip).with(field::ARP_SHA, self.mac.0);
                out.flow(Table::RouterNeighbour, 70, sent, looked_at());
            }
            IpAddr::V6(ip) => {
                let solicit = admit::discovery(fresh(), admit::NS).with(field::IPV6_SRC, ip);
                out.flow(Table::RouterNeighbour, 70, solicit.with(field::ND_SLL, self.mac.0), looked_at());
                let advert = admit::discovery(fresh(), admit::NA).with(field::ND_TARGET, ip);
                out.flow(Table::RouterNeighbour, 70, advert.with(field::ND_TLL, self.mac.0), looked_at());
            }
        }
    }
}

const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
const GROUPS: Ipv6Addr = Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0);
