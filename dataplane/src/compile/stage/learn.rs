//! MAC learning on ports with unknown addresses and without port security.
//!
//! # Contract
//! - `learn_port`: owner one local port; a frame from a MAC that is not known behind it is reported to the agent,
//!   which writes an `FDB` row, and goes on.
//! - `fdb`: owner one `FDB` row; reads the switch and port of its keys. Frames from the MAC on its port pass, frames
//!   to it go to the port.
//!
//! # Invariants
//! - A MAC is known behind one port at a time: seen behind another it is reported again, and so it moves.
//! - One known behind a guest's port is not learned from the physical network, where other hypervisors' frames come by.
//! - One that has grown old is reported once more when it is seen, and so stays; see [`HostOldMac`].
//! - A learned MAC never takes the place of an address that the switch knows (priority in Forward).
//! - A row whose port does not learn any more has no flows.

use ofpacket::field;
use ovsdb::value::Atom;
use quantumnet_model::{
    Row,
    address::Mac,
    host::HostOldMac,
    sb::{DatapathBinding, Fdb, PortBinding},
};

use crate::compile::{
    index::By,
    logical::{SwitchPort, admitted, go, on_switch, send},
    owner::{Owner, Owners, Relation},
    punt::{Punt, PuntReason},
    sink::Sink,
    stage::Stage,
    table::Table,
    view::View,
};

pub(super) const PORT: Stage = Stage {
    number: 20,
    name: "learn_port",
    owners: Owners::Facts(Relation::LocalPorts),
    tables: &[Table::LearnMac],
    relations: &[],
    emit: port,
};

pub(super) const FDB: Stage = Stage {
    number: 21,
    name: "fdb",
    owners: Owners::Rows(Fdb::TABLE),
    tables: &[Table::LearnMac, Table::Forward],
    relations: &[],
    emit: fdb,
};

fn port(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = SwitchPort::read(view, owner.row()).filter(SwitchPort::learns) else { return };
    let interface = port.interface(view);
    if interface.is_none() && !port.kind.leads_on() {
        return;
    }
    let meters = interface.map_or_else(|| port.given_meters(view), |interface| interface.meters);
    let punt = Punt { reason: PuntReason::LearnMac, row: port.uuid };
    if let Some(base) = meters {
        out.meter(punt.reason.meter(base), punt.reason.rate());
    }
    out.flow(Table::LearnMac, 50, port.from(), [punt.action(meters), go(admitted(view, port.switch))]);
}

fn fdb(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(row) = view.row::<Fdb>(owner.row()) else { return };
    let Some(mac) = row.mac.parse::<Mac>().ok().filter(|mac| !mac.is_multicast()) else { return };
    let Some((switch, _)) = view.find_one::<DatapathBinding>(By::SwitchKey, &[Atom::Integer(row.dp_key)])
    else {
        return;
    };
    if !view.holds(Relation::LocalSwitches, switch) {
        return;
    }
    let key = [Atom::Uuid(switch), Atom::Integer(row.port_key)];
    let Some((uuid, _)) = view.find_one::<PortBinding>(By::PortKey, &key) else { return };
    let Some(port) = SwitchPort::read(view, uuid).filter(|port| port.learns() && port.enabled(view)) else {
        return;
    };
    if view.row::<HostOldMac>(owner.row()).is_none() {
        out.flow(
            Table::LearnMac,
            100,
            port.from().with(field::ETH_SRC, mac.0),
            [go(admitted(view, port.switch))],
        );
    }
    if !port.kind.is_physical() {
        for physical in view.related(Relation::Localnet, switch, 0) {
            if let Some(localnet) = SwitchPort::read(view, physical).filter(SwitchPort::learns) {
                let seen = localnet.from().with(field::ETH_SRC, mac.0);
                out.flow(Table::LearnMac, 100, seen, [go(admitted(view, switch))]);
            }
        }
    }
    out.flow(Table::Forward, 20, on_switch(port.switch_key).with(field::ETH_DST, mac.0), send(port.key));
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::compile::testing::{Port, check, check_with, learned};

    #[test]
    fn ports_with_unknown_addresses_and_no_security() {
        check(
            &PORT,
            &[
                Port { number: 1, addresses: &["0a:00:00:00:00:01 10.0.0.1 fd00::1"], ..Port::default() },
                Port { number: 4, addresses: &["unknown"], ..Port::default() },
                Port {
                    number: 5,
                    addresses: &["unknown"],
                    security: &["0a:00:00:00:00:05"],
                    ..Port::default()
                },
            ],
            expect![[r#"
                LearnMac 50 reg14=0x4,metadata=0x7 => controller(userdata=01.00.00.00.00.00.00.04.00.00.00.00.00.00.00.00.d7.b8.c8.c7,meter_id=16),resubmit(,12)
            "#]],
        );
    }

    #[test]
    fn a_learned_mac() {
        check_with(
            &FDB,
            &[Port { number: 4, addresses: &["unknown"], ..Port::default() }],
            vec![learned(4, "0a:44:00:00:00:01")],
            expect![[r#"
                LearnMac 100 reg14=0x4,metadata=0x7,dl_src=0a:44:00:00:00:01 => resubmit(,12)
                Forward 20 metadata=0x7,dl_dst=0a:44:00:00:00:01 => load:0x4->NXM_NX_REG15[],resubmit(,32)
            "#]],
        );
    }

    #[test]
    fn not_behind_a_port_that_does_not_learn() {
        check_with(
            &FDB,
            &[Port { number: 1, addresses: &["0a:00:00:00:00:01 10.0.0.1 fd00::1"], ..Port::default() }],
            vec![learned(1, "0a:44:00:00:00:01")],
            expect![[""]],
        );
    }
}
