//! Packets that are larger than a port's `gateway_mtu` (RFC 1191, RFC 8201): their senders are told.
//!
//! # Contract
//! - Owner: one router port that is here; reads it, its switch's way to the physical network. In: what leaves by it. Out: on, or to
//!   the agent if larger; so too in RouterInput for what came by it.
//!
//! # Invariants
//! - What `gateway_mtu_bypass` matches is not looked at.
//! - The length of a packet is looked at only where a port says so: it splits flows of the datapath.

use ofpacket::{Action, CheckPacketLarger, Match, field};

use crate::compile::{
    logical::{self, RouterPort, go},
    owner::{Owner, Owners, Relation, named},
    punt::PuntReason,
    register,
    sink::Sink,
    stage::{
        Stage,
        router::expression::{self, Rule},
    },
    table::Table,
    view::View,
};

pub(in crate::compile) const STAGE: Stage = Stage {
    number: 68,
    name: "router_large",
    owners: Owners::Facts(Relation::RouterPorts),
    tables: &[Table::RouterAdmit, Table::RouterInput, Table::RouterLarge],
    relations: &[Relation::Numbered],
    emit,
};

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = RouterPort::read(view, owner.row()) else { return };
    let Some(look) = look(view, &port) else { return };
    let larger = |matches: Match| {
        let matches = matches.with_bits(register::PKT_LARGER, 1u8);
        matches.with_bits(register::EGRESS_LOOPBACK, 0u8)
    };
    let beyond = go(super::beyond(&port));
    let checked = |bit: u8| port.to().with_bits(register::SIZE_CHECKED, bit);
    out.flow(
        Table::RouterLarge,
        50,
        checked(0),
        [look, Action::load(register::SIZE_CHECKED, 1), go(Table::RouterLarge)],
    );
    out.flow(Table::RouterLarge, 50, checked(1), [beyond.clone()]);
    for (ip, v4) in [(Match::ipv4 as fn(Match) -> Match, true), (Match::ipv6, false)] {
        let tell = super::punt(view, &port, PuntReason::TooLarge, Some(super::input::error(v4)), out);
        out.flow(Table::RouterLarge, 60, ip(larger(checked(1))), [tell.clone()]);
        out.flow(Table::RouterInput, 150, ip(larger(port.from())), [tell]);
    }
    let Some(clauses) = port.row.options.get("gateway_mtu_bypass").and_then(|text| expression::clauses(text))
    else {
        return;
    };
    let rule = |table, of: &str| Rule {
        router: port.router,
        key: port.router_key,
        of: named(port.uuid, of),
        table,
        priority: 55,
    };
    let leaving =
        |matches: Match| matches.with(register::OUT_PORT, port.key).with_bits(register::SIZE_CHECKED, 0u8);
    rule(Table::RouterLarge, "out").put(view, out, &clauses, &leaving, &[beyond]);
    let coming = |matches: Match| matches.with(register::IN_PORT, port.key).with(field::ETH_DST, port.mac.0);
    rule(Table::RouterAdmit, "in").put(view, out, &clauses, &coming, &super::admit::entry(&port));
}

/// Looks at the length of a packet that passes the port; `None` where none is too long.
pub(super) fn look(view: &View<'_>, port: &RouterPort<'_>) -> Option<Action> {
    let mtu = port.gateway_mtu()?;
    let tagged = port.peer.and_then(|peer| {
        let side = logical::SwitchPort::read(view, peer)?;
        logical::localnet(view, side.switch)?.binding.tag
    });
    let header = if tagged.is_some() { ETHERNET_AND_VLAN } else { ETHERNET };
    Some(Action::CheckPacketLarger(CheckPacketLarger {
        length: mtu.saturating_add(header),
        target: register::PKT_LARGER,
    }))
}

const ETHERNET: u16 = 14;
const ETHERNET_AND_VLAN: u16 = 18;
