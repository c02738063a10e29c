//! Packets of BFD peers (RFC 5881): to the agent, which runs the sessions of gateways that are here (ovn-nb(5), `BFD`).
//!
//! # Contract
//! - Owner: one `BFD` row; reads it, its router port, whether that one's gateway is here. In: control packets from the peer to an
//!   address of the port. Out: to the agent, with the port's binding. Only the router's `Copp` limits
//!   them: what a peer sends is what keeps a session.

use std::net::IpAddr;

use ofpacket::{Match, field};
use ovsdb::value::Atom;
use quantumnet_model::{Row, nb::Bfd};

use super::gateway::Gateway;
use crate::{
    compile::{
        index::By,
        logical::RouterPort,
        owner::{Owner, Owners},
        punt::{Protocol, Punt, PuntReason},
        sink::Sink,
        stage::Stage,
        table::Table,
        view::View,
    },
    punt::bfd::PORT,
};

pub(in crate::compile) const STAGE: Stage = Stage {
    number: 145,
    name: "router_bfd",
    owners: Owners::Rows(Bfd::TABLE),
    tables: &[Table::RouterInput],
    relations: &[],
    emit,
};

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(row) = view.row::<Bfd>(owner.row()) else { return };
    let named = view.uuids(By::LogicalPort, &[Atom::String(row.logical_port.clone())]);
    let Some(port) = named.first().and_then(|port| RouterPort::read(view, *port)) else { return };
    let here = match Gateway::of(view, &port) {
        Some(gateway) => gateway.is_resident(view),
        None => &*port.binding.r#type == "l3gateway",
    };
    let Ok(peer) = row.dst_ip.parse::<IpAddr>() else { return };
    if !here {
        return;
    }
    let punt = Punt { reason: PuntReason::Bfd, row: port.uuid };
    let tell = punt.metered(view, port.router, Protocol::Bfd, None, out);
    let own = port.networks.iter().map(|net| net.addr()).filter(|own| own.is_ipv4() == peer.is_ipv4());
    for own in own {
        let matches = between(port.from(), peer, own).ip_proto(UDP).with(field::UDP_DST, PORT);
        out.flow(Table::RouterInput, 110, matches, [tell.clone()]);
    }
}

fn between(matches: Match, source: IpAddr, destination: IpAddr) -> Match {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            matches.ipv4().with(field::IPV4_SRC, source).with(field::IPV4_DST, destination)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            matches.ipv6().with(field::IPV6_SRC, source).with(field::IPV6_DST, destination)
        }
        _ => unreachable!("the caller has compared the families"),
    }
}

const UDP: u8 = 17;
