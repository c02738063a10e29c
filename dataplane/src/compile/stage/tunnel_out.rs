//! To ports of other hypervisors: which tunnels, and what their header says; or the physical network between them.
//!
//! # Contract
//! - `remote`: owner one logical port that is not delivered here, of a switch that has a port here. Reads: it, the tunnels
//!   to its chassis or to the endpoints that its binding names, the switch's localnet here. Out: the tunnels' ports; behind
//!   a localnet, that port, but for traffic to and from a port that several hypervisors have. A guest whose MAC alone leads
//!   to it needs none: [`direct`] is where Forward sends what is for it.
//! - `header`: owner the hypervisor; reads the option slot. VNI = switch key; option = ingress port << 16 | egress port.
//!
//! # Invariants
//! - Only what did not come from a tunnel goes into one.

use ofpacket::{Action, Match, OutputReg, field};
use ovsdb::value::Atom;
use quantumnet_model::{Row, host::HostTunnel, sb::PortBinding};
use uuid::Uuid;

use crate::compile::{
    index::By,
    logical::{self, Kind, SwitchPort, go},
    owner::{Owner, Owners, Relation},
    register,
    sink::Sink,
    stage::{Stage, classify},
    table::Table,
    view::View,
};

pub(super) const REMOTE: Stage = Stage {
    number: 31,
    name: "remote",
    owners: Owners::Rows(PortBinding::TABLE),
    tables: &[Table::Output],
    relations: &[],
    emit: remote,
};

pub(super) const HEADER: Stage = Stage {
    number: 32,
    name: "tunnel_header",
    owners: Owners::Switch,
    tables: &[Table::TunnelOut],
    relations: &[],
    emit: header,
};

fn remote(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = SwitchPort::read(view, owner.row()) else { return };
    if !is_remote(view, &port) || direct(view, &port).is_some() {
        return;
    }
    let copies = copies(view, &port);
    let physical =
        logical::localnet(view, port.switch).filter(|_| port.binding.additional_chassis.is_empty());
    let Some(localnet) = physical else {
        if !copies.is_empty() {
            out.flow(Table::Output, 100, port.to().with_bits(register::FROM_TUNNEL, 0u8), copies);
        }
        return;
    };
    let onto = [Action::load(register::OUT_PORT, localnet.key.into()), go(logical::toward(view, &localnet))];
    out.flow(Table::Output, 100, port.to().with_bits(register::FROM_LOCALPORT, 0u8), onto);
    if copies.is_empty() {
        return;
    }
    // The physical network must not learn that a guest that is moving is in two places.
    for moving in view.related(Relation::MovingPorts, port.switch, 0) {
        if let Some(moving) = SwitchPort::read(view, moving) {
            let matches = port.to().with(register::IN_PORT, moving.key);
            let matches = matches.with_bits(register::FROM_TUNNEL, 0u8);
            out.flow(Table::Output, 110, matches, copies.clone());
        }
    }
}

fn is_remote(view: &View<'_>, port: &SwitchPort<'_>) -> bool {
    !port.is_everywhere()
        && view.holds(Relation::LocalSwitches, port.switch)
        && view.related_one(Relation::OwnChassis, Uuid::nil()).is_some()
        && !port.is_delivered(view)
}

/// What sends to a guest of one other hypervisor that nothing but its MAC leads to: most ports of most switches. Going by
/// Output would take a flow more for each.
pub(super) fn direct(view: &View<'_>, port: &SwitchPort<'_>) -> Option<Vec<Action>> {
    let plain = matches!(port.kind, Kind::Vif | Kind::Nested)
        && !port.is_unknown()
        && port.binding.additional_chassis.is_empty()
        && is_remote(view, port)
        && logical::localnet(view, port.switch).is_none();
    let copies = if plain { copies(view, port) } else { return None };
    if copies.is_empty() {
        return None;
    }
    Some([vec![Action::load(register::OUT_PORT, port.key.into())], copies].concat())
}

/// Into a tunnel to each other hypervisor that has the port.
pub(super) fn copies(view: &View<'_>, port: &SwitchPort<'_>) -> Vec<Action> {
    let Some(own) = view.related_one(Relation::OwnChassis, Uuid::nil()) else { return Vec::new() };
    let mut ofports: Vec<u16> = port
        .chassis(view)
        .into_iter()
        .filter(|chassis| *chassis != own)
        .filter_map(|chassis| logical::ofport(tunnel(view, port, chassis)?.ofport))
        .collect();
    ofports.sort_unstable();
    ofports.dedup();
    let send = |ofport: u16| [Action::load(register::TUNNEL, ofport.into()), go(Table::TunnelOut)];
    ofports.into_iter().flat_map(send).collect()
}

/// The tunnel to the endpoint that the binding names, else the preferred one.
fn tunnel<'a>(view: &View<'a>, port: &SwitchPort<'a>, chassis: Uuid) -> Option<&'a HostTunnel> {
    let usable = |tunnel: &&HostTunnel| tunnel.chassis == chassis && logical::ofport(tunnel.ofport).is_some();
    for encap in port.binding.encap.iter().chain(port.binding.additional_encap.iter()) {
        let named = view.find::<HostTunnel>(By::TunnelEncap, &[Atom::Uuid(encap.uuid())]);
        if let Some(found) = named.into_iter().map(|(_, tunnel)| tunnel).find(usable) {
            return Some(found);
        }
    }
    view.row(view.related_one(Relation::TunnelTo, chassis)?)
}

fn header(view: &View<'_>, _: Owner, out: &mut Sink) {
    let Some(mut actions) = header_actions(view) else { return };
    actions.push(Action::OutputReg(OutputReg { source: register::TUNNEL, max_len: 0 }));
    out.flow(Table::TunnelOut, 0, Match::new(), actions);
    out.flow(Table::TunnelOut, 10, Match::new().with_bits(register::FROM_TUNNEL, 1u8), []);
}

/// Writes the keys into the tunnel header; `None` while the switch has no slot for the option.
pub(super) fn header_actions(view: &View<'_>) -> Option<Vec<Action>> {
    let option = classify::option(view)?;
    Some(vec![
        Action::copy(register::SWITCH, field::TUNNEL_ID.range(0, 24)),
        Action::copy(register::OUT_PORT_KEY, option.range(0, 16)),
        Action::copy(register::IN_PORT_KEY, option.range(16, 15)),
    ])
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::compile::testing::{Port, check};

    #[test]
    fn ports_elsewhere() {
        check(
            &REMOTE,
            &[
                Port { number: 1, addresses: &["0a:00:00:00:00:01 10.0.0.1 fd00::1"], ..Port::default() },
                Port {
                    number: 3,
                    elsewhere: true,
                    addresses: &["0a:00:00:00:00:03 10.0.0.3"],
                    ..Port::default()
                },
                Port { number: 4, elsewhere: true, addresses: &["unknown"], ..Port::default() },
            ],
            expect![[r#"
                Output 100 reg10=0/0x10000,reg15=0x4,metadata=0x7 => load:0x3ea->NXM_NX_REG9[0..15],resubmit(,33)
            "#]],
        );
    }

    #[test]
    fn the_header() {
        check(
            &HEADER,
            &[],
            expect![[r#"
                TunnelOut 0  => move:OXM_OF_METADATA[0..23]->NXM_NX_TUN_ID[0..23],move:NXM_NX_REG15[0..15]->NXM_NX_TUN_METADATA0[0..15],move:NXM_NX_REG14[0..14]->NXM_NX_TUN_METADATA0[16..30],output:NXM_NX_REG9[0..15]
                TunnelOut 10 reg10=0x10000/0x10000 => drop
            "#]],
        );
    }
}
