//! To a port of this hypervisor: past port security, if it has any, and out.
//!
//! # Contract
//! - Owner: one local port; reads it and its interface. In: the port's key. Out: the frame, by its interface.
//!
//! # Invariants
//! - A frame for the port that sent it is dropped, since OVS does not output to the ingress port.

use ofpacket::{Action, Port};

use crate::compile::{
    logical::{Vif, go},
    owner::{Owner, Owners, Relation},
    sink::Sink,
    stage::Stage,
    table::Table,
    view::View,
};

pub(super) const OUTPUT: Stage = Stage {
    number: 34,
    name: "output",
    owners: Owners::Facts(Relation::LocalPorts),
    tables: &[Table::Output],
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

fn output(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = Vif::read(view, owner.row()) else { return };
    let next = if port.security().is_some() { Table::AdmitOut } else { Table::Deliver };
    out.flow(Table::Output, 100, port.to(), [go(next)]);
}

fn deliver(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = Vif::read(view, owner.row()) else { return };
    let Some(interface) = port.interface(view) else { return };
    out.flow(Table::Deliver, 100, port.to(), [Action::output(Port(interface.ofport.into()))]);
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
