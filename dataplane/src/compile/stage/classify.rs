//! Physical to logical: which switch and port a packet came from, by port number or tunnel header.
//!
//! # Contract
//! - `classify_vif`: owner one local port; reads it, its interface, whether its switch lets VLAN tags pass. Out: keys of
//!   switch and port. A frame with a VLAN tag matches only where tags may pass.
//! - `classify_tunnel`: owner one tunnel port; reads it and the option slot. In: VNI = switch, option = ports as in
//!   OVN (bits 30..16 ingress, 15..0 egress port or group). Out: keys, and that it came from a tunnel.
//!
//! # Invariants
//! - What came from a tunnel goes to the egress side and never into a tunnel again.
//! - No flow, no entry: a port that is disabled, not bound here or without switch has none.

use ofpacket::{Action, Field, Match, Port, field};
use quantumnet_model::{
    Row,
    host::{HostSelf, HostTunnel},
};

use crate::compile::{
    index::By,
    logical::{self, Vif, go},
    owner::{Owner, Owners, Relation},
    register,
    sink::Sink,
    stage::Stage,
    table::Table,
    view::View,
};

pub(super) const VIF: Stage = Stage {
    number: 16,
    name: "classify_vif",
    owners: Owners::Facts(Relation::LocalPorts),
    tables: &[Table::Classify],
    relations: &[],
    emit: vif,
};

pub(super) const TUNNEL: Stage = Stage {
    number: 17,
    name: "classify_tunnel",
    owners: Owners::Rows(HostTunnel::TABLE),
    tables: &[Table::Classify],
    relations: &[],
    emit: tunnel,
};

fn vif(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = Vif::read(view, owner.row()) else { return };
    let Some(interface) = port.interface(view) else { return };
    let mut matches = Match::new().in_port(Port(interface.ofport.into()));
    if !view.holds(Relation::VlanPassthru, port.switch) {
        matches = matches.untagged();
    }
    out.flow(
        Table::Classify,
        100,
        matches,
        [
            Action::load(field::METADATA, port.switch_key.into()),
            Action::load(register::IN_PORT, port.key.into()),
            go(Table::Admit),
        ],
    );
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

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::compile::testing::{Port, check, check_with, vlan_passthru};

    #[test]
    fn ports_that_are_here_and_enabled() {
        check(
            &VIF,
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
            &VIF,
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
