//! Physical to logical: which switch and port a packet came from, by port number or tunnel header.
//!
//! # Contract
//! - `classify_port`: owner one local port; reads it, what carries its frames, whether its switch lets VLAN tags pass.
//!   Out: keys of switch and port. The port's own VLAN tag is taken off. Another tag matches only where tags may pass,
//!   or on a physical network as a mere priority (VLAN 0), which is taken off. The MAC of another hypervisor that stands for
//!   a router's there becomes the router's again.
//! - `classify_waiting`: owner one port that must show itself first. Only what does so, from its own MAC and to a group, is taken:
//!   it is told to the agent and flooded.
//! - `classify_tunnel`: owner one tunnel port; reads it and the option slot. In: VNI = switch, option = ports as in
//!   OVN (bits 30..16 ingress, 15..0 egress port or group). Out: keys, and that it came from a tunnel.
//!
//! # Invariants
//! - What came from a tunnel goes to the egress side and never into a tunnel again; what came from a localport does not
//!   leave the hypervisor.
//! - No flow, no entry: a port that is disabled, not bound here or without switch has none.

use ofpacket::{Action, Field, Match, Port, field};
use quantumnet_model::{
    Row, address,
    host::{HostSelf, HostTunnel},
};

use crate::compile::{
    index::By,
    logical::{self, Activation, Kind, SwitchPort, go, send, to_group},
    owner::{Owner, Owners, Relation},
    punt::{Punt, PuntReason},
    register,
    sink::Sink,
    stage::{Stage, admit, chassis_mac},
    table::Table,
    view::View,
};

pub(super) const PORT: Stage = Stage {
    number: 16,
    name: "classify_port",
    owners: Owners::Facts(Relation::LocalPorts),
    tables: &[Table::Classify],
    relations: &[],
    emit: port,
};

pub(super) const WAITING: Stage = Stage {
    number: 37,
    name: "classify_waiting",
    owners: Owners::Facts(Relation::WaitingPorts),
    tables: &[Table::Classify],
    relations: &[],
    emit: waiting,
};

pub(super) const TUNNEL: Stage = Stage {
    number: 17,
    name: "classify_tunnel",
    owners: Owners::Rows(HostTunnel::TABLE),
    tables: &[Table::Classify],
    relations: &[],
    emit: tunnel,
};

fn port(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = SwitchPort::read(view, owner.row()) else { return };
    let Some(interface) = port.interface(view) else { return };
    let from = Match::new().in_port(Port(interface.ofport.into()));
    let keys = [keys(&port), vec![go(Table::Admit)]].concat();
    let stripped = [vec![Action::PopVlan], keys.clone()].concat();
    if let Some((macs, router)) = chassis_mac::worn(view, &port) {
        let on = match interface.tag {
            Some(tag) => from.clone().vlan(tag),
            None => from.clone().untagged(),
        };
        let restore = [
            vec![Action::set_field(field::ETH_SRC, router.0)],
            if interface.tag.is_some() { stripped.clone() } else { keys.clone() },
        ]
        .concat();
        for mac in macs {
            out.flow(Table::Classify, 180, on.clone().with(field::ETH_SRC, mac.0), restore.clone());
        }
    }
    match interface.tag {
        Some(tag) => out.flow(Table::Classify, 150, from.vlan(tag), stripped),
        None if view.holds(Relation::VlanPassthru, port.switch) => out.flow(Table::Classify, 100, from, keys),
        None => {
            if port.kind.is_physical() {
                out.flow(Table::Classify, 100, from.clone().vlan(0), stripped);
            }
            out.flow(Table::Classify, 100, from.untagged(), keys);
        }
    }
}

fn waiting(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = SwitchPort::read(view, owner.row()).filter(|port| port.kind == Kind::Vif) else {
        return;
    };
    let (Some(interface), Some(strategies)) = (port.interface(view), port.awaits(view)) else { return };
    let punt = Punt { reason: PuntReason::Activated, row: port.uuid };
    if let Some(base) = interface.meters {
        out.meter(punt.reason.meter(base), punt.reason.rate());
    }
    let tell = vec![punt.action(interface.meters)];
    let actions = [keys(&port), tell, send(register::GROUP_FLOOD)].concat();
    let from = || to_group(Match::new().in_port(Port(interface.ofport.into())).untagged());
    let mut take = |matches: Match| out.flow(Table::Classify, 110, matches, actions.clone());
    let (addresses, rarp) = (port.addresses(), strategies.contains(&Activation::Rarp));
    if rarp && addresses.is_empty() {
        take(from().eth_type(ETH_TYPE_RARP));
    }
    for (mac, ips) in addresses {
        let from = || from().with(field::ETH_SRC, mac.0);
        if rarp {
            take(from().eth_type(ETH_TYPE_RARP));
        }
        if strategies.contains(&Activation::Garp) {
            for ip in address::v4(&ips) {
                let announce = from().arp().with(field::ARP_SHA, mac.0).with(field::ARP_SPA, ip);
                take(announce.with(field::ARP_TPA, ip));
            }
        }
        let v6: Vec<_> = address::v6(&ips).collect();
        if strategies.contains(&Activation::Advert) && !v6.is_empty() {
            for ip in v6.into_iter().chain([mac.link_local()]) {
                let advert = admit::discovery(from(), admit::NA).with(field::IPV6_SRC, ip);
                take(advert.with(field::ND_TARGET, ip).with(field::ND_TLL, mac.0));
            }
        }
    }
}

/// What the tables behind are told of a port.
fn keys(port: &SwitchPort<'_>) -> Vec<Action> {
    let mut actions = vec![
        Action::load(field::METADATA, port.switch_key.into()),
        Action::load(register::IN_PORT, port.key.into()),
    ];
    match port.kind {
        Kind::Localport => actions
            .extend([Action::load(register::FROM_TUNNEL, 1), Action::load(register::FROM_LOCALPORT, 1)]),
        Kind::Localnet => actions.push(Action::load(register::FROM_LOCALNET, 1)),
        _ => {}
    }
    actions
}

fn tunnel(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(tunnel) = view.row::<HostTunnel>(owner.row()) else { return };
    let Some(ofport) = logical::ofport(tunnel.ofport) else { return };
    let Some(option) = option(view) else { return };
    out.flow(
        Table::Classify,
        100,
        Match::new().in_port(Port(ofport.into())),
        [
            Action::copy(field::TUNNEL_ID.range(0, 24), register::SWITCH),
            Action::copy(option.range(16, 15), register::IN_PORT_KEY),
            Action::copy(option.range(0, 16), register::OUT_PORT_KEY),
            Action::load(register::FROM_TUNNEL, 1),
            go(Table::Output),
        ],
    );
}

/// The metadata field that the switch keeps our Geneve option in.
pub(super) fn option(view: &View<'_>) -> Option<Field> {
    let (_, host) = view.find_one::<HostSelf>(By::HostSelf, &[])?;
    let slot = u8::try_from(host.tunnel_option).ok().filter(|slot| *slot < 64)?;
    Some(Field::tun_metadata(slot, 4))
}

const ETH_TYPE_RARP: u16 = 0x8035;

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::compile::testing::{Port, check, check_with, vlan_passthru};

    #[test]
    fn ports_that_are_here_and_enabled() {
        check(
            &PORT,
            &[
                Port { number: 1, addresses: &["0a:00:00:00:00:01 10.0.0.1 fd00::1"], ..Port::default() },
                Port {
                    number: 2,
                    disabled: true,
                    addresses: &["0a:00:00:00:00:02 10.0.0.2"],
                    ..Port::default()
                },
                Port {
                    number: 3,
                    elsewhere: true,
                    addresses: &["0a:00:00:00:00:03 10.0.0.3"],
                    ..Port::default()
                },
            ],
            expect![[r#"
            Classify 100 in_port=1,vlan_tci=0x0000/0x1fff => load:0x7->OXM_OF_METADATA[],load:0x1->NXM_NX_REG14[],resubmit(,1)
        "#]],
        );
    }

    #[test]
    fn tags_pass_where_the_switch_says_so() {
        check_with(
            &PORT,
            &[Port { number: 1, addresses: &["0a:00:00:00:00:01 10.0.0.1 fd00::1"], ..Port::default() }],
            vec![vlan_passthru()],
            expect![[r#"
            Classify 100 in_port=1 => load:0x7->OXM_OF_METADATA[],load:0x1->NXM_NX_REG14[],resubmit(,1)
        "#]],
        );
    }

    #[test]
    fn tunnels() {
        check(
            &TUNNEL,
            &[],
            expect![[r#"
            Classify 100 in_port=1002 => move:NXM_NX_TUN_ID[0..23]->OXM_OF_METADATA[0..23],move:NXM_NX_TUN_METADATA0[16..30]->NXM_NX_REG14[0..14],move:NXM_NX_TUN_METADATA0[0..15]->NXM_NX_REG15[0..15],load:0x1->NXM_NX_REG10[16],resubmit(,32)
        "#]],
        );
    }
}
