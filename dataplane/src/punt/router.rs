//! Packets that routers hand to the agent.
//!
//! # Contract
//! - In: a packet-in about a router's port, and the rows. Out: the answer to its sender, or what became known of a neighbour.
//!
//! # Invariants
//! - A router speaks from the address of the port by which a packet came: the one of the sender's network, else its first.

use std::net::{IpAddr, Ipv6Addr};

use ofpacket::{Action, PacketIn2, PacketOut};
use quantumnet_model::{
    Rows,
    address::Mac,
    nb::{LogicalRouter, LogicalRouterPort, Nat},
    sb::{DatapathBinding, PortBinding},
};

use super::{
    Verdict, came_from, neighbour,
    reject::{self, Refusal, Trouble},
};
use uuid::Uuid;

use crate::{
    compile::{
        logical,
        punt::{Punt, PuntReason},
        register,
        table::Table,
    },
    punt::neighbour::Key,
};

pub(super) fn verdict(
    rows: &Rows,
    punt: Punt,
    binding: &PortBinding,
    (datapath, port): (u32, u32),
    packet: &PacketIn2,
) -> Verdict {
    let frame = packet.data.as_deref().unwrap_or_default();
    let Some((mac, networks)) = logical::router_addresses(binding) else {
        return Verdict::Nothing("no_port");
    };
    let own = |sender: IpAddr| {
        let link_local = IpAddr::V6(mac.link_local());
        let family = || networks.iter().filter(|net| net.addr().is_ipv4() == sender.is_ipv4());
        let near = family().find(|net| net.contains(&sender)).or_else(|| family().next());
        near.map(|net| net.addr()).or_else(|| sender.is_ipv6().then_some(link_local))
    };
    let answered = |answer: Option<Vec<u8>>, injected: &dyn Fn(Vec<u8>) -> PacketOut| match answer {
        Some(answer) => Verdict::Answer(injected(answer)),
        None => Verdict::Nothing("not_answered"),
    };
    let back = |frame| across(datapath, port, frame);
    // The sender is an outer address of the router: the answer, too, comes back before it leaves.
    let looped = |frame| into(datapath, port, frame);
    match punt.reason {
        PuntReason::LearnNeighbour => match neighbour::sighting(frame) {
            Some((ip, mac)) => Verdict::Neighbour((punt.row, ip), mac),
            None => Verdict::Nothing("not_answered"),
        },
        PuntReason::ResolveNeighbour => match next_hop(packet) {
            Some(ip) => Verdict::Waits((punt.row, ip)),
            None => Verdict::Nothing("no_next_hop"),
        },
        PuntReason::RefreshNeighbour => match next_hop(packet) {
            Some(ip) => Verdict::Silent((punt.row, ip)),
            None => Verdict::Nothing("no_next_hop"),
        },
        PuntReason::TimeExceeded => {
            let back: &dyn Fn(Vec<u8>) -> PacketOut = if came_back(packet) { &looped } else { &back };
            answered(reject::router_error(frame, mac.0, Trouble::Expired, own), back)
        }
        PuntReason::TooLarge => {
            let mtu = rows.get::<LogicalRouterPort>(punt.row).and_then(logical::gateway_mtu);
            let by = came_from(packet).unwrap_or(port);
            let incoming = port_of(rows, binding.datapath.uuid(), by).and_then(logical::router_addresses);
            let (Some(mtu), Some((mac, networks))) = (mtu, incoming) else {
                return Verdict::Nothing("no_port");
            };
            let first = |sender: IpAddr| {
                let mut given = networks.iter().map(|net| net.addr());
                let given = given.find(|ip| ip.is_ipv4() == sender.is_ipv4());
                given.or_else(|| sender.is_ipv6().then(|| mac.link_local().into()))
            };
            let routed = |frame| into(datapath, by, frame);
            answered(reject::router_error(frame, mac.0, Trouble::TooLarge(mtu), first), &routed)
        }
        PuntReason::RouterUnreachable => {
            let by = came_from(packet).unwrap_or(port);
            let routed = |frame| {
                let actions = vec![
                    Action::load(register::SWITCH, datapath.into()),
                    Action::load(register::IN_PORT, by.into()),
                    Action::resubmit(Table::Route.number()),
                ];
                PacketOut::new(actions, frame)
            };
            answered(reject::answer(frame, Refusal::Router), &routed)
        }
        PuntReason::RouterSolicited => {
            let target = frame.get(62..78).and_then(|target| target.first_chunk::<16>());
            let answer = target.and_then(|target| {
                let target = Ipv6Addr::from(*target);
                let own = floating_mac(rows, binding, target).unwrap_or(mac);
                neighbour::advertise(own, target, frame)
            });
            answered(answer, &back)
        }
        _ => Verdict::Nothing("no_port"),
    }
}

/// The port of that key.
fn port_of(rows: &Rows, datapath: Uuid, key: u32) -> Option<&PortBinding> {
    let found =
        |binding: &&PortBinding| binding.datapath.uuid() == datapath && binding.tunnel_key == i64::from(key);
    rows.iter::<PortBinding>().map(|(_, binding)| binding).find(found)
}

/// The MAC that a floating IP of the port's router has of its own.
fn floating_mac(rows: &Rows, binding: &PortBinding, ip: Ipv6Addr) -> Option<Mac> {
    let router: &LogicalRouter = rows.get(binding.datapath.uuid())?;
    let mut rules = router.nat.iter().filter_map(|rule| rows.get::<Nat>(rule.uuid()));
    let rule =
        rules.find(|rule| rule.external_ip.parse() == Ok(IpAddr::V6(ip)) && rule.logical_port.is_some())?;
    rule.external_mac.as_ref()?.parse().ok()
}

/// Whether the packet was about to leave the router, for an outer address of it.
fn came_back(packet: &PacketIn2) -> bool {
    let flag = register::EGRESS_LOOPBACK;
    let flags = packet.metadata.as_ref().and_then(|metadata| metadata.get(flag.field));
    flags.is_some_and(|(flags, _)| flags >> flag.offset & 1 == 1)
}

/// The next hop that a packet has no MAC for.
fn next_hop(packet: &PacketIn2) -> Option<IpAddr> {
    let metadata = packet.metadata.as_ref()?;
    let part = |number: u8| {
        let (value, _) = metadata.get(ofpacket::Field::reg(number)).unwrap_or((0, 0));
        value
    };
    let bits = metadata.get(register::NEXT_HOP).map(|(value, _)| value);
    let bits = bits.unwrap_or_else(|| part(4) << 96 | part(5) << 64 | part(6) << 32 | part(7));
    let ip = match u32::try_from(bits) {
        Ok(v4) => IpAddr::V4(v4.into()),
        Err(_) => IpAddr::V6(bits.into()),
    };
    let host = !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::V4(std::net::Ipv4Addr::BROADCAST);
    host.then_some(ip)
}

/// A frame out of a router's port, as if it had answered what came by it.
fn across(datapath: u32, port: u32, frame: Vec<u8>) -> PacketOut {
    let actions = vec![
        Action::load(register::SWITCH, datapath.into()),
        Action::load(register::IN_PORT, port.into()),
        Action::resubmit(Table::Return.number()),
    ];
    PacketOut::new(actions, frame)
}

/// A frame into a router by one of its ports, from one of its own addresses.
fn into(datapath: u32, port: u32, frame: Vec<u8>) -> PacketOut {
    let actions = vec![
        Action::load(register::SWITCH, datapath.into()),
        Action::load(register::IN_PORT, port.into()),
        Action::load(register::EGRESS_LOOPBACK, 1),
        Action::resubmit(Table::RouterInput.number()),
    ];
    PacketOut::new(actions, frame)
}

/// The frame that asks for a neighbour, out of its router's port: all of the network, or the neighbour itself. By IPv6 it comes
/// from the port's link-local address, as OVN's does.
pub fn question(rows: &Rows, key: Key, to: Option<Mac>) -> Option<PacketOut> {
    let (uuid, target) = key;
    let binding = rows.get::<PortBinding>(uuid)?;
    let row = rows.get::<LogicalRouterPort>(uuid)?;
    let datapath = rows.get::<DatapathBinding>(binding.datapath.uuid())?;
    let (mac, networks) = logical::router_addresses(binding)?;
    let from = if target.is_ipv6() {
        mac.link_local().into()
    } else {
        let family = || networks.iter().filter(|net| net.addr().is_ipv4());
        family().find(|net| net.contains(&target)).or_else(|| family().next())?.addr()
    };
    let frame = neighbour::ask(mac, from, target, to)?;
    let (datapath, port) =
        (u32::try_from(datapath.tunnel_key).ok()?, u32::try_from(binding.tunnel_key).ok()?);
    if row.gateway_chassis.is_empty() && row.ha_chassis_group.is_none() {
        return Some(across(datapath, port, frame));
    }
    // Out where the port's gateway is.
    let actions = vec![
        Action::load(register::SWITCH, datapath.into()),
        Action::load(register::OUT_PORT, port.into()),
        Action::resubmit(Table::RouterGateway.number()),
    ];
    Some(PacketOut::new(actions, frame))
}

/// A packet that waited, to its next hop's MAC. The switch goes on with it where it stood.
pub fn resumed(mut packet: PacketIn2, mac: Mac) -> Option<PacketIn2> {
    let data = packet.data.as_mut()?;
    data.get_mut(..6)?.copy_from_slice(&mac.0);
    Some(packet.into_resume())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use etherparse::PacketBuilder;
    use ofpacket::Match;
    use quantumnet_model::Row;

    use super::*;

    const DATAPATH: Uuid = Uuid::from_u128(1);
    const PORT: Uuid = Uuid::from_u128(2);

    fn binding() -> PortBinding {
        PortBinding {
            datapath: DATAPATH.into(),
            tunnel_key: 5,
            mac: std::iter::once(Arc::from("0a:ff:00:00:00:02 172.16.0.1/24 fd16::1/64")).collect(),
            ..PortBinding::default()
        }
    }

    fn rows() -> Rows {
        let mut rows = Rows::default();
        let datapath = DatapathBinding { tunnel_key: 9, ..DatapathBinding::default() };
        rows.set(DatapathBinding::TABLE, DATAPATH, Some(Arc::new(datapath)));
        rows.set(LogicalRouterPort::TABLE, PORT, Some(Arc::new(LogicalRouterPort::default())));
        rows.set(PortBinding::TABLE, PORT, Some(Arc::new(binding())));
        rows
    }

    #[test]
    fn who_is_told_that_a_packet_expired_after_it_came_back_is_looked_for_within_the_router() {
        let mut frame = Vec::new();
        let packet = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([172, 16, 0, 50], [172, 16, 0, 51], 1);
        packet.udp(1_000, 2_000).write(&mut frame, b"x").unwrap();
        let punt = Punt { reason: PuntReason::TimeExceeded, row: PORT };
        let answer = |flags: u8| {
            let metadata = Match::new().with_bits(register::EGRESS_LOOPBACK, flags);
            let packet = PacketIn2 {
                data: Some(frame.clone().into()),
                metadata: Some(metadata),
                ..PacketIn2::default()
            };
            match verdict(&rows(), punt, &binding(), (9, 5), &packet) {
                Verdict::Answer(answer) => answer,
                other => panic!("{other:?}"),
            }
        };
        let (plain, looped) = (answer(0), answer(1));
        assert_eq!(plain.actions.last(), Some(&Action::resubmit(Table::Return.number())));
        assert_eq!(looped.actions.last(), Some(&Action::resubmit(Table::RouterInput.number())));
        // The router's address is the source, which only a packet that came back may have.
        assert!(looped.actions.contains(&Action::load(register::EGRESS_LOOPBACK, 1)));
        assert_eq!(plain.data, looped.data);
    }

    #[test]
    fn neighbours_are_asked_for_by_the_address_that_they_answer_to() {
        let ask = |target: &str| {
            let question = question(&rows(), (PORT, target.parse().unwrap()), None).unwrap();
            question.data.to_vec()
        };
        assert_eq!(ask("172.16.0.9")[28..32], [172, 16, 0, 1]);
        let link_local: Ipv6Addr = "fe80::8ff:ff:fe00:2".parse().unwrap();
        assert_eq!(ask("fd16::9")[22..38], link_local.octets());
    }
}
