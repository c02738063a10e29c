//! Destination MAC to port, for addresses that the switch knows.
//!
//! # Contract
//! - Owner: one logical port, wherever it is, of a switch that has a port here. Reads: it and its switch.
//! - In: unicast. Out: the port's key; of a guest elsewhere also the tunnel that leads to it.
//!
//! # Invariants
//! - The MAC of an external port leads nowhere by itself, nor that of a port with `force_fdb_lookup`: it is learned.
//! - The MAC of a disabled port leads nowhere: what is for it is not sent to the ports with unknown addresses.
//! - A port that is bound nowhere is found, and ends in Output.

use ofpacket::{Action, field};
use quantumnet_model::{Row, sb::PortBinding};

use crate::compile::{
    logical::{self, Kind, SwitchPort, go, on_switch, send},
    owner::{Owner, Owners, Relation},
    register,
    sink::Sink,
    stage::{Stage, router::gateway, tunnel_out},
    table::Table,
    view::View,
};

pub(super) const STAGE: Stage = Stage {
    number: 27,
    name: "forward",
    owners: Owners::Rows(PortBinding::TABLE),
    tables: &[Table::Forward],
    relations: &[],
    emit,
};

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = SwitchPort::read(view, owner.row()) else { return };
    if !view.holds(Relation::LocalSwitches, port.switch) {
        return;
    }
    if port.kind == Kind::External {
        external(view, &port, out);
        return;
    }
    if port.kind == Kind::Vif && port.is_unknown() && port.says("force_fdb_lookup", "true") {
        return;
    }
    if port.kind == Kind::Router && !gateway::takes(view, &port) {
        return;
    }
    let enabled = port.enabled(view);
    let direct = tunnel_out::direct(view, &port);
    for (mac, _) in port.addresses() {
        let actions = match &direct {
            _ if !enabled => Vec::new(),
            Some(direct) => direct.clone(),
            None => send(port.key),
        };
        out.flow(Table::Forward, 50, on_switch(port.switch_key).with(field::ETH_DST, mac.0), actions);
    }
}

/// Hosts on the physical network are found there, like others that have no port; those that this hypervisor answers for
/// also by localports, which reach nothing else there.
fn external(view: &View<'_>, port: &SwitchPort<'_>, out: &mut Sink) {
    let Some(localnet) = logical::localnet(view, port.switch) else { return };
    if !port.is_here(view) || !port.enabled(view) {
        return;
    }
    for (mac, _) in port.addresses() {
        let matches = on_switch(port.switch_key).with(field::ETH_DST, mac.0);
        out.flow(
            Table::Forward,
            55,
            matches.with_bits(register::FROM_LOCALPORT, 1u8),
            [Action::load(register::OUT_PORT, localnet.key.into()), go(logical::toward(view, &localnet))],
        );
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::compile::testing::{Port, check};

    #[test]
    fn known_macs() {
        check(
            &STAGE,
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
                Forward 50 metadata=0x7,dl_dst=0a:00:00:00:00:01 => load:0x1->NXM_NX_REG15[],resubmit(,32)
                Forward 50 metadata=0x7,dl_dst=0a:00:00:00:00:02 => drop
                Forward 50 metadata=0x7,dl_dst=0a:00:00:00:00:03 => load:0x3->NXM_NX_REG15[],load:0x3ea->NXM_NX_REG9[0..15],resubmit(,33)
            "#]],
        );
    }
}
