//! ND responder: answers neighbour solicitations for addresses that the switch knows.
//!
//! # Contract
//! - Owner, reads, out: as the ARP responder. In: solicitations (RFC 4861, section 4.3) to the target itself or to its
//!   solicited-node group.
//!
//! # Invariants
//! - Those of the ARP responder, except that unicast solicitations are answered too, as OVN does.

use std::net::Ipv6Addr;

use ipnet::IpNet;
use ofpacket::{Action, field};
use quantumnet_model::{Row, address, sb::PortBinding};

use crate::compile::{
    logical::{Kind, RouterPort, SwitchPort, go, on_switch, send, to_group},
    owner::{Owner, Owners, Relation},
    register,
    sink::Sink,
    stage::{Stage, admit, arp_respond},
    table::Table,
    view::View,
};

pub(super) const STAGE: Stage = Stage {
    number: 24,
    name: "nd_respond",
    owners: Owners::Rows(PortBinding::TABLE),
    tables: &[Table::Neighbour],
    relations: &[],
    emit,
};

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    if let Some(proxy) = arp_respond::Proxy::read(view, owner) {
        let is_router = SwitchPort::read(view, owner.row()).is_some_and(|port| port.kind == Kind::Router);
        let says = is_router.then(|| Action::load(register::ANSWER_ROUTER, 1));
        for net in &proxy.nets {
            if let IpNet::V6(net) = net {
                let solicit = admit::discovery(on_switch(proxy.switch_key), admit::NS);
                let solicit = solicit.with_prefix(field::ND_TARGET, net.network(), net.prefix_len());
                let answer: Vec<Action> = says.iter().cloned().chain(proxy.answer()).collect();
                out.flow(Table::Neighbour, 30, solicit, answer);
            }
        }
    }
    steer(view, owner, out);
    let Some(port) = arp_respond::answered(view, owner) else { return };
    let (here, asked) = (arp_respond::sends_here(view, &port), arp_respond::asked(view, &port));
    for (mac, ips) in port.addresses() {
        for ip in address::v6(&ips) {
            let solicit = |matches| admit::discovery(matches, admit::NS).with(field::ND_TARGET, ip);
            for to in [ip, solicited_node(ip)] {
                let is_router = (port.kind == Kind::Router).then(|| Action::load(register::ANSWER_ROUTER, 1));
                let answer =
                    [Action::load(register::ANSWER_MAC, arp_respond::bits(mac)), go(Table::NeighbourReply)];
                let answer: Vec<Action> = is_router.into_iter().chain(answer).collect();
                out.flow(Table::Neighbour, 50, solicit(asked.clone()).with(field::IPV6_DST, to), answer);
            }
            if here {
                out.flow(Table::Neighbour, 100, to_group(solicit(port.from())), send(register::GROUP_FLOOD));
                out.flow(Table::Neighbour, 90, solicit(port.from()), [go(Table::Forward)]);
            }
        }
    }
}

/// As the ARP responder's.
fn steer(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(side) = SwitchPort::read(view, owner.row()).filter(|side| side.kind == Kind::Router) else {
        return;
    };
    if !view.holds(Relation::LocalSwitches, side.switch) || !side.enabled(view) {
        return;
    }
    let Some(port) = side.other_side(view).and_then(|port| RouterPort::read(view, port)) else { return };
    for net in port.v6() {
        let solicit = admit::discovery(on_switch(side.switch_key), admit::NS);
        let solicit = to_group(solicit.with(field::ND_TARGET, net.addr()));
        out.flow(Table::Neighbour, arp_respond::STEERED, solicit, arp_respond::to_router(side.key));
    }
}

/// The group that solicitations for an address go to (RFC 4291, section 2.7.1).
pub(super) fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = ip.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (high & 0xff), low)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::compile::testing::{Port, check};

    #[test]
    fn answers_the_target_and_its_group() {
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
                Neighbour 50 icmp6,metadata=0x7,ipv6_dst=fd00::1,nw_ttl=255,icmp_type=135,icmp_code=0,nd_target=fd00::1 => load:0xa0000000001->OXM_OF_PKT_REG1[0..47],resubmit(,14)
                Neighbour 50 icmp6,metadata=0x7,ipv6_dst=ff02::1:ff00:1,nw_ttl=255,icmp_type=135,icmp_code=0,nd_target=fd00::1 => load:0xa0000000001->OXM_OF_PKT_REG1[0..47],resubmit(,14)
                Neighbour 90 icmp6,reg14=0x1,metadata=0x7,nw_ttl=255,icmp_type=135,icmp_code=0,nd_target=fd00::1 => resubmit(,17)
                Neighbour 100 icmp6,reg14=0x1,metadata=0x7,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00,nw_ttl=255,icmp_type=135,icmp_code=0,nd_target=fd00::1 => load:0x8000->NXM_NX_REG15[],resubmit(,32)
            "#]],
        );
    }
}
