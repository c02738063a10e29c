//! To ports of other hypervisors: which tunnel, and what its header says.
//!
//! # Contract
//! - `remote`: owner one logical port that is bound elsewhere, of a switch that has a port here. Reads: it, the tunnel to
//!   its chassis or to the endpoint that its binding names. Out: the tunnel's port.
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
    logical::{self, Vif, go},
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
    let Some(port) = Vif::read(view, owner.row()) else { return };
    let Some(chassis) = port.binding.chassis.map(|chassis| chassis.uuid()) else { return };
    let Some(own) = view.related_one(Relation::OwnChassis, Uuid::nil()) else { return };
    if chassis == own || !view.holds(Relation::LocalSwitches, port.switch) {
        return;
    }
    let Some(ofport) = tunnel(view, &port, chassis).and_then(|tunnel| logical::ofport(tunnel.ofport)) else {
        return;
    };
    out.flow(
        Table::Output,
        100,
        port.to().with_bits(register::FROM_TUNNEL, 0u8),
        [Action::load(register::TUNNEL, ofport.into()), go(Table::TunnelOut)],
    );
}

/// The tunnel to the endpoint that the binding names, else the preferred one.
fn tunnel<'a>(view: &View<'a>, port: &Vif<'a>, chassis: Uuid) -> Option<&'a HostTunnel> {
    if let Some(encap) = port.binding.encap {
        let named = view.find::<HostTunnel>(By::TunnelEncap, &[Atom::Uuid(encap.uuid())]);
        let usable =
            |tunnel: &&HostTunnel| tunnel.chassis == chassis && logical::ofport(tunnel.ofport).is_some();
        let found = named.into_iter().map(|(_, tunnel)| tunnel).find(usable);
        if found.is_some() {
            return found;
        }
    }
    view.row(view.related_one(Relation::TunnelTo, chassis)?)
}

fn header(view: &View<'_>, _: Owner, out: &mut Sink) {
    let Some(mut actions) = header_actions(view) else { return };
    actions.push(Action::OutputReg(OutputReg { source: register::TUNNEL, max_len: 0 }));
    out.flow(Table::TunnelOut, 0, Match::new(), actions);
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
            ],
            expect![[r#"
            Output 100 reg10=0/0x10000,reg15=0x3,metadata=0x7 => load:0x3ea->NXM_NX_REG9[0..15],resubmit(,33)
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
        "#]],
        );
    }
}
