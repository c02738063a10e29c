//! ARP responder: answers broadcast "who has" for addresses that the switch knows.
//!
//! # Contract
//! - Owner: one logical port, wherever it is, of a switch that has a port here; a guest's, of a switch that packets come onto
//!   here from elsewhere than a router. Reads: it and its switch.
//! - In: broadcast ARP requests. Out: the MAC for NeighbourReply; without match the request is flooded.
//!
//! # Invariants
//! - Nothing is answered for a port that is disabled, external or virtual, that has unknown addresses too or
//!   `disable_arp_nd_rsp`, or whose switch lets VLAN tags pass; for one that is down only if `ignore_lsp_down` is not false.
//! - A request from the physical network is answered by one hypervisor at most: the one that holds the port.
//! - A port that asks for its own address (to find a duplicate) gets no answer; the request goes on.
//! - Unicast requests are not answered: they test whether the neighbour itself is there.

use std::net::IpAddr;

use ipnet::IpNet;
use ofpacket::{Action, field};
use quantumnet_model::{
    Row,
    address::{self, LspAddress},
    sb::PortBinding,
};
use uuid::Uuid;

use crate::compile::{
    logical::{self, Kind, RouterPort, SwitchPort, go, on_switch, send},
    owner::{Owner, Owners, Relation},
    register,
    sink::Sink,
    stage::{Stage, router::gateway},
    table::Table,
    view::View,
};

pub(super) const STAGE: Stage = Stage {
    number: 23,
    name: "arp_respond",
    owners: Owners::Rows(PortBinding::TABLE),
    tables: &[Table::Neighbour],
    relations: &[],
    emit,
};

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    if let Some(proxy) = Proxy::read(view, owner) {
        for net in &proxy.nets {
            if let IpNet::V4(net) = net {
                let request = on_switch(proxy.switch_key).arp().with(field::ARP_OP, 1u16);
                let request = request.with_prefix(field::ARP_TPA, net.network(), net.prefix_len());
                out.flow(Table::Neighbour, 30, request, proxy.answer());
            }
        }
    }
    steer(view, owner, out);
    let Some(port) = answered(view, owner) else { return };
    let (here, asked) = (sends_here(view, &port), asked(view, &port));
    for (mac, ips) in port.addresses() {
        for ip in address::v4(&ips) {
            let request =
                |matches: ofpacket::Match| matches.arp().with(field::ARP_OP, 1u16).with(field::ARP_TPA, ip);
            out.flow(
                Table::Neighbour,
                50,
                request(asked.clone()),
                [Action::load(register::ANSWER_MAC, bits(mac)), go(Table::NeighbourReply)],
            );
            if here {
                out.flow(Table::Neighbour, 100, request(port.from()), send(register::GROUP_FLOOD));
            }
        }
    }
}

/// Requests for a router's own addresses that are not answered here go to that router, and to ports with unknown addresses.
fn steer(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(side) = SwitchPort::read(view, owner.row()).filter(|side| side.kind == Kind::Router) else {
        return;
    };
    if !view.holds(Relation::LocalSwitches, side.switch) || !side.enabled(view) {
        return;
    }
    let Some(port) = side.other_side(view).and_then(|port| RouterPort::read(view, port)) else { return };
    for net in port.v4() {
        let request = on_switch(side.switch_key).arp().with(field::ARP_OP, 1u16);
        let request = request.with(field::ARP_TPA, net.addr());
        out.flow(Table::Neighbour, STEERED, request.clone(), to_router(side.key));
        // What a router says of itself is for no router.
        let own = [vec![Action::load(register::FROM_ROUTER, 1)], send(register::GROUP_FLOOD)].concat();
        out.flow(Table::Neighbour, STEERED + 5, request.with(field::ARP_SPA, net.addr()), own);
    }
}

/// To a router's port, and whoever's addresses are unknown.
pub(super) fn to_router(key: u16) -> Vec<Action> {
    [vec![Action::Clone(send(key))], send(register::GROUP_UNKNOWN)].concat()
}

/// Priority of what is not answered but sent to the router that it is for: below answers.
pub(super) const STEERED: u16 = 40;

/// A port that answers for addresses which nobody has (ovn-nb(5), `arp_proxy`).
pub(super) struct Proxy {
    pub(super) switch_key: u32,
    mac: address::Mac,
    pub(super) nets: Vec<IpNet>,
}

impl Proxy {
    /// `[MAC] ADDRESS[/LENGTH]...`; without a MAC, the port's own. One entry that does not parse voids all.
    pub(super) fn read(view: &View<'_>, owner: Owner) -> Option<Self> {
        let binding: &PortBinding = view.row(owner.row())?;
        let option = binding.options.get("arp_proxy")?;
        let switch = binding.datapath.uuid();
        let switch_key = logical::switch_key(view, switch)?;
        if !view.holds(Relation::LocalSwitches, switch) || view.holds(Relation::VlanPassthru, switch) {
            return None;
        }
        let mut words = option.split_whitespace().peekable();
        let named: Option<address::Mac> = words.peek().and_then(|word| word.parse().ok());
        let mac = match named {
            Some(mac) => {
                words.next();
                mac
            }
            None => binding.mac.iter().find_map(|text| match text.parse() {
                Ok(LspAddress::Known { mac, .. }) => Some(mac),
                _ => None,
            })?,
        };
        let net = |word: &str| word.parse().ok().or_else(|| Some(IpNet::from(word.parse::<IpAddr>().ok()?)));
        let nets: Option<Vec<IpNet>> = words.map(net).collect();
        Some(Self { switch_key, mac, nets: nets? })
    }

    pub(super) fn answer(&self) -> [Action; 2] {
        [Action::load(register::ANSWER_MAC, bits(self.mac)), go(Table::NeighbourReply)]
    }
}

/// The port, if it is answered for.
pub(super) fn answered<'a>(view: &View<'a>, owner: Owner) -> Option<SwitchPort<'a>> {
    let port = SwitchPort::read(view, owner.row())?;
    let is_guest = matches!(port.kind, Kind::Vif | Kind::Nested);
    let silent = matches!(port.kind, Kind::External | Kind::Virtual)
        || port.is_unknown()
        || port.kind == Kind::Router && !gateway::takes(view, &port)
        || is_guest && (port.says("disable_arp_nd_rsp", "true") || !asked_by_others(view, &port));
    let known = !silent
        && view.holds(Relation::LocalSwitches, port.switch)
        && !view.holds(Relation::VlanPassthru, port.switch)
        && port.enabled(view);
    let up = matches!(port.kind, Kind::Localport | Kind::Router)
        || port.binding.up == Some(true)
        || !view.holds(Relation::RequireUp, Uuid::nil());
    (known && up).then_some(port)
}

/// Whether somebody else than a router may ask for a guest here. A router knows the guests' MACs and asks for none; on a
/// hypervisor that has no port of the switch this is most of what it would hold of it.
fn asked_by_others(view: &View<'_>, port: &SwitchPort<'_>) -> bool {
    view.holds(Relation::Entrances, port.switch)
}

/// Whether its requests come from this hypervisor.
pub(super) fn sends_here(view: &View<'_>, port: &SwitchPort<'_>) -> bool {
    port.is_everywhere() || port.is_here(view)
}

/// Whose requests for the port's addresses are answered: anybody's, but those from the physical network only by the
/// hypervisor that holds the port.
pub(super) fn asked(view: &View<'_>, port: &SwitchPort<'_>) -> ofpacket::Match {
    let anybody = on_switch(port.switch_key);
    if !view.holds(Relation::Localnet, port.switch) {
        return anybody;
    }
    let own = view.related_one(Relation::OwnChassis, Uuid::nil());
    let holds = own.is_some() && port.binding.chassis.map(|chassis| chassis.uuid()) == own;
    if holds { anybody } else { anybody.with_bits(register::FROM_LOCALNET, 0u8) }
}

/// A MAC as the number that a register holds.
pub(super) fn bits(mac: address::Mac) -> u64 {
    mac.0.iter().fold(0, |bits, octet| bits << 8 | u64::from(*octet))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::compile::testing::{Port, check, check_with, vlan_passthru};

    #[test]
    fn ports_here_and_elsewhere() {
        check(
            &STAGE,
            &[
                Port { number: 1, addresses: &["0a:00:00:00:00:01 10.0.0.1 fd00::1"], ..Port::default() },
                Port {
                    number: 3,
                    elsewhere: true,
                    addresses: &["0a:00:00:00:00:03 10.0.0.3"],
                    ..Port::default()
                },
            ],
            expect![[r#"
                Neighbour 50 arp,metadata=0x7,arp_tpa=10.0.0.1,arp_op=1 => load:0xa0000000001->OXM_OF_PKT_REG1[0..47],resubmit(,14)
                Neighbour 50 arp,metadata=0x7,arp_tpa=10.0.0.3,arp_op=1 => load:0xa0000000003->OXM_OF_PKT_REG1[0..47],resubmit(,14)
                Neighbour 100 arp,reg14=0x1,metadata=0x7,arp_tpa=10.0.0.1,arp_op=1 => load:0x8000->NXM_NX_REG15[],resubmit(,32)
            "#]],
        );
    }

    #[test]
    fn not_for_disabled_or_unknown() {
        check(
            &STAGE,
            &[
                Port {
                    number: 2,
                    disabled: true,
                    addresses: &["0a:00:00:00:00:02 10.0.0.2"],
                    ..Port::default()
                },
                Port { number: 4, addresses: &["unknown", "0a:00:00:00:00:04 10.0.0.4"], ..Port::default() },
            ],
            expect![[""]],
        );
    }

    #[test]
    fn not_where_tags_pass() {
        check_with(
            &STAGE,
            &[Port { number: 1, addresses: &["0a:00:00:00:00:01 10.0.0.1 fd00::1"], ..Port::default() }],
            vec![vlan_passthru()],
            expect![[""]],
        );
    }

    #[test]
    fn not_without_a_port_here() {
        check(
            &STAGE,
            &[Port {
                number: 3,
                elsewhere: true,
                addresses: &["0a:00:00:00:00:03 10.0.0.3"],
                ..Port::default()
            }],
            expect![[""]],
        );
    }
}
