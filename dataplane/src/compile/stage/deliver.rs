//! To a port of this hypervisor: past port security, if it has any, and out.
//!
//! # Contract
//! - Owner: one local port; reads it and its interface. In: the port's key. Out: the frame, by its interface and with its
//!   VLAN; during a live migration a copy also goes to the other hypervisors that have the port.
//! - A port to another datapath: across, into that one.
//! - `return`: what answers a port's own request goes back by the port it came from, with its VLAN; as in OVN past what is
//!   asked of all that the port gets, where its switch has filters, mirrors or QoS.
//!
//! # Invariants
//! - A frame for the port that sent it is dropped, since OVS does not output to the ingress port. Where several ports
//!   share an interface (nested ones and their parent) it is the ports that are compared. Nothing else is asked of it: no rule
//!   sees it, no mirror copies it.
//! - Nothing goes back to the datapath that it came from.
//! - What came from a localport does not reach the physical network.

use ofpacket::{Action, Match, Port, field};

use crate::compile::{
    logical::{self, Kind, SwitchPort, go},
    owner::{Owner, Owners, Relation},
    register,
    sink::Sink,
    stage::{Stage, tunnel_out},
    table::Table,
    view::View,
};

pub(super) const OUTPUT: Stage = Stage {
    number: 34,
    name: "output",
    owners: Owners::Facts(Relation::LocalPorts),
    tables: &[Table::Output, Table::ToTrack, Table::MirrorTo, Table::Shape],
    relations: &[],
    emit: output,
};

pub(super) const DELIVER: Stage = Stage {
    number: 35,
    name: "deliver",
    owners: Owners::Facts(Relation::LocalPorts),
    tables: &[Table::Deliver],
    relations: &[],
    emit: deliver,
};

pub(super) const RETURN: Stage = Stage {
    number: 36,
    name: "return",
    owners: Owners::Facts(Relation::LocalPorts),
    tables: &[Table::Return],
    relations: &[],
    emit: back,
};

pub(super) const RETURN_COMMON: Stage = Stage {
    number: 38,
    name: "return_common",
    owners: Owners::Switch,
    tables: &[Table::Return],
    relations: &[],
    emit: back_common,
};

fn output(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = SwitchPort::read(view, owner.row()) else { return };
    let here = go(logical::toward(view, &port));
    if port.kind.leads_on() {
        let Some(across) = port.crossing(view) else { return };
        let detour = logical::detour(view, port.switch).is_some();
        out.flow(Table::Output, 115, port.to().with(register::IN_PORT, port.key), []);
        out.flow(Table::Output, 100, port.to(), if detour { vec![here] } else { across });
        return;
    }
    if let Some(first) = logical::detour(view, port.switch) {
        let own = port.to().with(register::IN_PORT, port.key);
        out.flow(first, PRIORITY_OWN, own, [go(Table::Deliver)]);
    }
    if port.kind == Kind::Localnet {
        out.flow(Table::Output, 110, port.to().with_bits(register::FROM_LOCALPORT, 1u8), []);
    }
    let copies = tunnel_out::copies(view, &port);
    if copies.is_empty() {
        out.flow(Table::Output, 100, port.to(), [here]);
        return;
    }
    // Not to itself elsewhere either.
    out.flow(Table::Output, 115, port.to().with(register::IN_PORT, port.key), []);
    let of_here = |bit: u8| port.to().with_bits(register::FROM_TUNNEL, bit);
    out.flow(Table::Output, 100, of_here(1), [here.clone()]);
    out.flow(Table::Output, 100, of_here(0), [vec![here], copies].concat());
}

/// Above all that is asked of what goes to a port.
const PRIORITY_OWN: u16 = 65_534;

fn deliver(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = SwitchPort::read(view, owner.row()) else { return };
    if let Some(across) = port.crossing(view) {
        out.flow(Table::Deliver, 110, port.to().with(register::IN_PORT, port.key), []);
        out.flow(Table::Deliver, 100, port.to(), across);
        return;
    }
    let Some(interface) = port.interface(view) else { return };
    let mut actions = logical::output(&interface, Port(interface.ofport.into()));
    if interface.shared {
        out.flow(Table::Deliver, 110, port.to().with(register::IN_PORT, port.key), []);
        // The switch would not send a sibling's frame back by the interface it came from.
        let forget = [Action::push(field::NXM_IN_PORT), logical::forget_interface()];
        actions = [&forget[..], &actions, &[Action::pop(field::NXM_IN_PORT)]].concat();
    }
    out.flow(Table::Deliver, 100, port.to(), actions);
}

fn back(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = SwitchPort::read(view, owner.row()) else { return };
    if let Some(across) = port.crossing(view) {
        out.flow(Table::Return, 100, port.from(), across);
        return;
    }
    let Some(interface) = port.interface(view) else { return };
    if let Some(next) = logical::detour(view, port.switch) {
        let actions = [
            Action::load(register::OUT_PORT, port.key.into()),
            // Else it would be a frame that a port sends itself.
            Action::load(register::IN_PORT, 0),
            logical::forget_interface(),
            go(next),
        ];
        out.flow(Table::Return, 100, port.from(), actions);
        return;
    }
    if interface.tag.is_none() {
        return;
    }
    out.flow(Table::Return, 100, port.from(), logical::output(&interface, Port::IN_PORT));
}

fn back_common(_: &View<'_>, _: Owner, out: &mut Sink) {
    out.flow(Table::Return, 0, Match::new(), [Action::output(Port::IN_PORT)]);
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::compile::testing::{Port, check};

    #[test]
    fn with_and_without_security() {
        check(
            &OUTPUT,
            &[
                Port { number: 1, addresses: &["0a:00:00:00:00:01 10.0.0.1 fd00::1"], ..Port::default() },
                Port { number: 2, security: &["0a:00:00:00:00:02"], ..Port::default() },
            ],
            expect![[r#"
            Output 100 reg15=0x1,metadata=0x7 => resubmit(,45)
            Output 100 reg15=0x2,metadata=0x7 => resubmit(,44)
        "#]],
        );
    }

    #[test]
    fn out_of_the_interface() {
        check(
            &DELIVER,
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
            Deliver 100 reg15=0x1,metadata=0x7 => output:1
        "#]],
        );
    }
}
