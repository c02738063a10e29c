//! Groups of a switch: all enabled ports, and those with unknown addresses.
//!
//! # Contract
//! - `unknown`: owner one switch; unicast to nobody's MAC goes to the second group, if it has members.
//! - `group`: owner one switch; reads its chunks here and the chassis that have ports of it. A packet of this hypervisor
//!   goes to the chunks and once into a tunnel to each such chassis, or to the physical network if the switch has one
//!   here; one from a tunnel to the chunks only.
//! - What a hypervisor's own ports send also crosses to routers and other switches, in a copy for each; what a router sends
//!   to no other router, as OVN keeps routers' own ARP from them.
//! - `chunk`: owner one chunk of at most 256 local ports; reads them and their interfaces. Sends to each.
//!
//! # Invariants
//! - One resubmit a chunk, none a port: the switch stops at 4,096. Only ports that share an interface, those of the
//!   second group with port security, and those of switches with filters or QoS need one each.
//! - A localport gets nothing from a tunnel, since it has its own on the other side; what it sends stays on this hypervisor.
//! - A port never gets its own frame back: OVS does not output to the ingress port.
//! - What goes to a port with port security and is not for a group passes AdmitOut first.
//! - What QoS writes into one port's copy is in no other's.

use ofpacket::{Action, Match, Port};
use quantumnet_model::{Row, host::HostTunnel, sb::DatapathBinding};
use uuid::Uuid;

use crate::compile::{
    derive::placement::chunk_part,
    logical::{self, Kind, SwitchPort, go, on_switch, send},
    owner::{Owner, Owners, Relation},
    register,
    sink::Sink,
    stage::{Stage, chassis_mac, tunnel_out},
    table::Table,
    view::View,
};

pub(super) const UNKNOWN: Stage = Stage {
    number: 28,
    name: "forward_unknown",
    owners: Owners::Rows(DatapathBinding::TABLE),
    tables: &[Table::Forward],
    relations: &[],
    emit: unknown,
};

pub(super) const GROUP: Stage = Stage {
    number: 29,
    name: "group",
    owners: Owners::Rows(DatapathBinding::TABLE),
    tables: &[Table::Output, Table::Flood],
    relations: &[],
    emit: group,
};

pub(super) const CHUNK: Stage = Stage {
    number: 30,
    name: "chunk",
    owners: Owners::Facts(Relation::FloodChunks),
    tables: &[Table::FloodPorts],
    relations: &[],
    emit: chunk,
};

/// The groups, with the relation that says which other chassis have members.
const GROUPS: [(u16, Relation); 2] =
    [(register::GROUP_FLOOD, Relation::RemoteChassis), (register::GROUP_UNKNOWN, Relation::RemoteUnknown)];

fn unknown(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let switch = owner.row();
    let Some(key) = logical::switch_key(view, switch) else { return };
    if !view.holds(Relation::LocalSwitches, switch) {
        return;
    }
    let here = view.related(Relation::FloodChunks, switch, register::GROUP_UNKNOWN.into()).next();
    if here.is_some() || view.holds(Relation::RemoteUnknown, switch) {
        out.flow(Table::Forward, 10, on_switch(key), send(register::GROUP_UNKNOWN));
    }
}

fn group(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let switch = owner.row();
    let Some(key) = logical::switch_key(view, switch) else { return };
    if !view.holds(Relation::LocalSwitches, switch) {
        return;
    }
    for (group, elsewhere) in GROUPS {
        let to_group = on_switch(key).with(register::OUT_PORT, group);
        let chunks: Vec<Action> = view
            .related(Relation::FloodChunks, switch, group.into())
            .flat_map(|chunk| [Action::load(register::CHUNK, number(chunk).into()), go(Table::FloodPorts)])
            .collect();
        let here: Vec<Action> = (!chunks.is_empty()).then(|| go(Table::Flood)).into_iter().collect();
        if !chunks.is_empty() {
            out.flow(Table::Flood, 100, to_group.clone(), chunks);
            out.flow(
                Table::Output,
                100,
                to_group.clone().with_bits(register::FROM_TUNNEL, 1u8),
                here.clone(),
            );
        }
        let (routers, switches) = peers(view, switch, group);
        // What goes to the physical network reaches the other hypervisors there.
        let physical = view.holds(Relation::Localnet, switch);
        let tunnels = if physical { Vec::new() } else { tunnels(view, elsewhere, switch) };
        let to_group = to_group.with_bits(register::FROM_TUNNEL, 0u8);
        let mut flow = |matches: Match, actions: Vec<Action>| {
            if !actions.is_empty() {
                out.flow(Table::Output, 100, matches, actions);
            }
        };
        if routers.is_empty() {
            flow(to_group, [here, switches, tunnels].concat());
        } else {
            let from_router = |bit: u8| to_group.clone().with_bits(register::FROM_ROUTER, bit);
            flow(from_router(1), [&here[..], &switches, &tunnels].concat());
            flow(from_router(0), [here, routers, switches, tunnels].concat());
        }
    }
}

/// Copies into the datapaths that the switch's ports lead to: routers, and other switches. Not back to the port that a
/// packet came from.
fn peers(view: &View<'_>, switch: Uuid, group: u16) -> (Vec<Action>, Vec<Action>) {
    let next = logical::detour(view, switch).unwrap_or(Table::Deliver);
    let ports = view.related(Relation::FloodPeers, switch, group.into());
    let mut ports: Vec<SwitchPort<'_>> = ports.filter_map(|port| SwitchPort::read(view, port)).collect();
    ports.sort_by_key(|port| port.key);
    let copies = |ports: Vec<SwitchPort<'_>>| {
        let copy = |port: SwitchPort<'_>| {
            Action::Clone(vec![Action::load(register::OUT_PORT, port.key.into()), go(next)])
        };
        ports.into_iter().map(copy).collect()
    };
    let (routers, switches) = ports.into_iter().partition(|port| port.kind == Kind::Router);
    (copies(routers), copies(switches))
}

fn tunnels(view: &View<'_>, elsewhere: Relation, switch: Uuid) -> Vec<Action> {
    let ofport = |chassis| {
        let tunnel = view.row::<HostTunnel>(view.related_one(Relation::TunnelTo, chassis)?)?;
        logical::ofport(tunnel.ofport)
    };
    let mut ports: Vec<u16> = view.related(elsewhere, switch, 0).filter_map(ofport).collect();
    ports.sort_unstable();
    let Some(header) = tunnel_out::header_actions(view).filter(|_| !ports.is_empty()) else {
        return Vec::new();
    };
    header.into_iter().chain(ports.into_iter().map(|port| Action::output(Port(port.into())))).collect()
}

fn chunk(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(fact) = owner.fact() else { return };
    let Some(key) = logical::switch_key(view, fact.of) else { return };
    let (group, chunk) = (fact.part as u16, number(fact.value)); // `placement` made the part from 16 bits
    let detour = logical::detour(view, fact.of);
    let shaped = logical::shaped(view, fact.of).is_some();
    let mut ports: Vec<(u16, Kind, Vec<Action>)> = Vec::new();
    for uuid in view.related(Relation::FloodPorts, fact.of, chunk_part(group, chunk)) {
        let Some(port) = SwitchPort::read(view, uuid) else { continue };
        let Some(interface) = port.interface(view) else { continue };
        let secured = group == register::GROUP_UNKNOWN && port.security().is_some();
        let through = interface.shared || chassis_mac::replaces(view, &port);
        let actions = if detour.is_some() || secured || through {
            let secured_or_not = if secured { Table::AdmitOut } else { Table::Deliver };
            let way =
                vec![Action::load(register::OUT_PORT, port.key.into()), go(detour.unwrap_or(secured_or_not))];
            if shaped {
                vec![Action::Clone(way)]
            } else {
                [way, vec![Action::load(register::OUT_PORT, group.into())]].concat()
            }
        } else {
            logical::output(&interface, Port(interface.ofport.into()))
        };
        ports.push((port.key, port.kind, actions));
    }
    ports.sort_by_key(|(key, ..)| *key);
    let matches = on_switch(key).with(register::OUT_PORT, group).with_bits(register::CHUNK, chunk);
    let mut flow = |matches: Match, but: &[Kind]| {
        let to = ports.iter().filter(|(_, kind, _)| !but.contains(kind));
        let actions: Vec<Action> = to.flat_map(|(.., actions)| actions.iter().cloned()).collect();
        out.flow(Table::FloodPorts, 100, matches, actions);
    };
    if !ports.iter().any(|(_, kind, _)| matches!(kind, Kind::Localport | Kind::Localnet)) {
        flow(matches, &[]);
        return;
    }
    let from = |tunnel: u8, localport: u8| {
        let matches = matches.clone().with_bits(register::FROM_TUNNEL, tunnel);
        matches.with_bits(register::FROM_LOCALPORT, localport)
    };
    flow(from(0, 0), &[]);
    flow(from(1, 0), &[Kind::Localport]);
    flow(from(1, 1), &[Kind::Localport, Kind::Localnet]);
}

/// A chunk as the fact's value holds it.
fn number(chunk: Uuid) -> u16 {
    chunk.as_u128() as u16 // `placement` made it from 16 bits
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::compile::testing::{Port, check};

    #[test]
    fn chunks_and_tunnels() {
        check(
            &GROUP,
            &[
                Port { number: 1, addresses: &["0a:00:00:00:00:01 10.0.0.1 fd00::1"], ..Port::default() },
                Port {
                    number: 3,
                    elsewhere: true,
                    addresses: &["0a:00:00:00:00:03 10.0.0.3"],
                    ..Port::default()
                },
                Port { number: 300, ..Port::default() },
            ],
            expect![[r#"
            Output 100 reg10=0/0x10000,reg15=0x8000,metadata=0x7 => resubmit(,34),move:OXM_OF_METADATA[0..23]->NXM_NX_TUN_ID[0..23],move:NXM_NX_REG15[0..15]->NXM_NX_TUN_METADATA0[0..15],move:NXM_NX_REG14[0..14]->NXM_NX_TUN_METADATA0[16..30],output:1002
            Output 100 reg10=0x10000/0x10000,reg15=0x8000,metadata=0x7 => resubmit(,34)
            Flood 100 reg15=0x8000,metadata=0x7 => load:0->NXM_NX_REG8[0..15],resubmit(,35),load:0x1->NXM_NX_REG8[0..15],resubmit(,35)
        "#]],
        );
    }

    #[test]
    fn ports_of_chunks() {
        check(
            &CHUNK,
            &[
                Port { number: 1, addresses: &["0a:00:00:00:00:01 10.0.0.1 fd00::1"], ..Port::default() },
                Port { number: 5, ..Port::default() },
                Port { number: 300, ..Port::default() },
                Port {
                    number: 2,
                    disabled: true,
                    addresses: &["0a:00:00:00:00:02 10.0.0.2"],
                    ..Port::default()
                },
            ],
            expect![[r#"
            FloodPorts 100 reg8=0/0xffff,reg15=0x8000,metadata=0x7 => output:1,output:5
            FloodPorts 100 reg8=0x1/0xffff,reg15=0x8000,metadata=0x7 => output:300
        "#]],
        );
    }

    #[test]
    fn unknown_addresses() {
        check(
            &UNKNOWN,
            &[
                Port { number: 1, addresses: &["0a:00:00:00:00:01 10.0.0.1 fd00::1"], ..Port::default() },
                Port { number: 4, addresses: &["unknown"], ..Port::default() },
            ],
            expect![[r#"
            Forward 10 metadata=0x7 => load:0x8001->NXM_NX_REG15[],resubmit(,32)
        "#]],
        );
    }

    #[test]
    fn a_secured_port_with_unknown_addresses() {
        check(
            &CHUNK,
            &[Port {
                number: 5,
                addresses: &["unknown"],
                security: &["0a:00:00:00:00:05"],
                ..Port::default()
            }],
            expect![[r#"
            FloodPorts 100 reg8=0/0xffff,reg15=0x8000,metadata=0x7 => output:5
            FloodPorts 100 reg8=0/0xffff,reg15=0x8001,metadata=0x7 => load:0x5->NXM_NX_REG15[],resubmit(,44),load:0x8001->NXM_NX_REG15[]
        "#]],
        );
    }
}
