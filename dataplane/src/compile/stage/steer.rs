//! Sends what is rare off the main path, and says where the passing side tables return to.
//!
//! # Contract
//! - Owner: the hypervisor. Reads nothing. In: admitted packets.
//! - ARP requests by broadcast and neighbour solicitations are offered to Neighbour, DHCP requests to Dhcp, other
//!   frames to groups are flooded; the rest is forwarded.
//!
//! # Invariants
//! - Nothing here looks at L4 ports, so that no flow of the datapath is made per connection.

use ofpacket::{Match, field};

use crate::compile::{
    logical::{go, send, to_group},
    owner::{Owner, Owners},
    register,
    sink::Sink,
    stage::{Stage, admit},
    table::Table,
    view::View,
};

pub(super) const STAGE: Stage = Stage {
    number: 22,
    name: "steer",
    owners: Owners::Switch,
    tables: &[Table::Steer, Table::Neighbour, Table::Dhcp],
    relations: &[],
    emit,
};

fn emit(_: &View<'_>, _: Owner, out: &mut Sink) {
    let request = Match::new().arp().with(field::ETH_DST, [0xff; 6]).with(field::ARP_OP, 1u16);
    out.flow(Table::Steer, 110, request, [go(Table::Neighbour)]);
    out.flow(Table::Steer, 110, admit::discovery(Match::new(), admit::NS), [go(Table::Neighbour)]);
    let broadcast = Match::new().ipv4().ip_proto(admit::UDP).with(field::IPV4_DST, u32::MAX);
    out.flow(Table::Steer, 105, broadcast, [go(Table::Dhcp)]);
    out.flow(Table::Steer, 100, to_group(Match::new()), send(register::GROUP_FLOOD));
    out.flow(Table::Steer, 0, Match::new(), [go(Table::Forward)]);
    for side in [Table::Neighbour, Table::Dhcp] {
        out.flow(side, 10, to_group(Match::new()), send(register::GROUP_FLOOD));
        out.flow(side, 0, Match::new(), [go(Table::Forward)]);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::compile::testing::check;

    #[test]
    fn what_leaves_the_main_path() {
        check(
            &STAGE,
            &[],
            expect![[r#"
                Steer 0  => resubmit(,17)
                Steer 100 dl_dst=01:00:00:00:00:00/01:00:00:00:00:00 => load:0x8000->NXM_NX_REG15[],resubmit(,32)
                Steer 105 udp,nw_dst=255.255.255.255 => resubmit(,15)
                Steer 110 arp,dl_dst=ff:ff:ff:ff:ff:ff,arp_op=1 => resubmit(,13)
                Steer 110 icmp6,nw_ttl=255,icmp_type=135,icmp_code=0 => resubmit(,13)
                Neighbour 0  => resubmit(,17)
                Neighbour 10 dl_dst=01:00:00:00:00:00/01:00:00:00:00:00 => load:0x8000->NXM_NX_REG15[],resubmit(,32)
                Dhcp 0  => resubmit(,17)
                Dhcp 10 dl_dst=01:00:00:00:00:00/01:00:00:00:00:00 => load:0x8000->NXM_NX_REG15[],resubmit(,32)
            "#]],
        );
    }
}
