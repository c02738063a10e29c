//! Turns an ARP request or neighbour solicitation into its answer, in place.
//!
//! # Contract
//! - Owner: the hypervisor. Reads what its datapath can do. In: the request, and the MAC of the address asked for.
//!   Out: the answer, by the port that the request came from.
//! - An advertisement is made in two steps: only what matches as an advertisement may have its option written.
//!
//! # Invariants
//! - The solicitation's option becomes the advertisement's. One without option, which is unicast or looks for a
//!   duplicate, gets an answer without option (RFC 4861, section 4.4).
//! - An answer to the unspecified address goes to all nodes and is not "solicited".
//! - An answer for a router's address says that it is a router's.
//! - Where the datapath cannot write the answer (the kernel's), the solicitation goes on as if the address were not
//!   known here, and the port that owns it answers.

use std::net::Ipv6Addr;

use ofpacket::{Action, Match, field};
use quantumnet_model::host::HostSelf;

use crate::compile::{
    index::By,
    logical::{go, send, to_group},
    owner::{Owner, Owners},
    register,
    sink::Sink,
    stage::{Stage, admit},
    table::Table,
    view::View,
};

pub(super) const STAGE: Stage = Stage {
    number: 25,
    name: "neighbour_reply",
    owners: Owners::Switch,
    tables: &[Table::NeighbourReply],
    relations: &[],
    emit,
};

fn emit(view: &View<'_>, _: Owner, out: &mut Sink) {
    out.flow(
        Table::NeighbourReply,
        100,
        Match::new().arp(),
        [
            Action::copy(field::ETH_SRC, field::ETH_DST),
            Action::copy(register::ANSWER_MAC, field::ETH_SRC),
            Action::set_field(field::ARP_OP, 2u16),
            Action::copy(field::ARP_SHA, field::ARP_THA),
            Action::copy(register::ANSWER_MAC, field::ARP_SHA),
            Action::push(field::ARP_TPA),
            Action::copy(field::ARP_SPA, field::ARP_TPA),
            Action::pop(field::ARP_SPA),
            go(Table::Return),
        ],
    );

    let solicit = Match::new().ipv6().ip_proto(58).with(field::ICMPV6_TYPE, admit::NS);
    if !view.find_one::<HostSelf>(By::HostSelf, &[]).is_some_and(|(_, host)| host.nd_extensions) {
        out.flow(Table::NeighbourReply, 100, to_group(solicit.clone()), send(register::GROUP_FLOOD));
        out.flow(Table::NeighbourReply, 90, solicit, [go(Table::Forward)]);
        return;
    }
    let to_asker =
        [Action::copy(field::ETH_SRC, field::ETH_DST), Action::copy(field::IPV6_SRC, field::IPV6_DST)];
    let from_target = |flags: u32| {
        [
            Action::copy(register::ANSWER_MAC, field::ETH_SRC),
            Action::copy(field::ND_TARGET, field::IPV6_SRC),
            Action::set_field(field::ND_RESERVED, flags),
            Action::set_field(field::ICMPV6_TYPE, admit::NA),
            go(Table::NeighbourReply),
        ]
    };
    let to_all =
        [Action::set_field(field::ETH_DST, ALL_NODES_MAC), Action::set_field(field::IPV6_DST, ALL_NODES)];
    for (bit, router) in [(0u8, 0), (1, ROUTER)] {
        let solicit = solicit.clone().with_bits(register::ANSWER_ROUTER, bit);
        let answer = |to: &[Action], flags| [to, &from_target(flags | router)].concat();
        let nameless = solicit.clone().with(field::IPV6_SRC, 0u128);
        out.flow(Table::NeighbourReply, 100, solicit, answer(&to_asker, SOLICITED | OVERRIDE));
        out.flow(Table::NeighbourReply, 110, nameless, answer(&to_all, OVERRIDE));
    }

    let advert = Match::new().ipv6().ip_proto(58).with(field::ICMPV6_TYPE, admit::NA);
    out.flow(
        Table::NeighbourReply,
        100,
        advert.clone(),
        [
            Action::set_field(field::ND_OPTIONS_TYPE, 2u8),
            Action::copy(register::ANSWER_MAC, field::ND_TLL),
            go(Table::Return),
        ],
    );
    out.flow(Table::NeighbourReply, 110, advert.with(field::ND_OPTIONS_TYPE, 0u8), [go(Table::Return)]);
}

const ROUTER: u32 = 0x8000_0000;
const SOLICITED: u32 = 0x4000_0000;
const OVERRIDE: u32 = 0x2000_0000;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::compile::testing::check;

    /// Before the agent knows its switch, and on the kernel's datapath, nothing is written that may be refused.
    #[test]
    fn solicitations_go_on_where_answers_cannot_be_written() {
        let delta = crate::compile::Compiler::new().apply([]);
        let flows = delta.put.iter().filter(|flow| flow.key.table == Table::NeighbourReply.number());
        let priorities: Vec<u16> = flows.map(|flow| flow.key.priority).collect();
        assert_eq!(priorities, [90, 100, 100], "solicitations on and to the group, and the answer to ARP");
    }

    #[test]
    fn requests_become_answers() {
        check(
            &STAGE,
            &[],
            expect![[r#"
                NeighbourReply 100 arp => move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],move:OXM_OF_PKT_REG1[0..47]->NXM_OF_ETH_SRC[],set_field:2->arp_op,move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],move:OXM_OF_PKT_REG1[0..47]->NXM_NX_ARP_SHA[],push:NXM_OF_ARP_TPA[],move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[],pop:NXM_OF_ARP_SPA[],resubmit(,36)
                NeighbourReply 100 icmp6,reg2=0/0x10000,icmp_type=135 => move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],move:NXM_NX_IPV6_SRC[]->NXM_NX_IPV6_DST[],move:OXM_OF_PKT_REG1[0..47]->NXM_OF_ETH_SRC[],move:NXM_NX_ND_TARGET[]->NXM_NX_IPV6_SRC[],set_field:1610612736->nd_reserved,set_field:136->icmpv6_type,resubmit(,14)
                NeighbourReply 100 icmp6,reg2=0x10000/0x10000,icmp_type=135 => move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],move:NXM_NX_IPV6_SRC[]->NXM_NX_IPV6_DST[],move:OXM_OF_PKT_REG1[0..47]->NXM_OF_ETH_SRC[],move:NXM_NX_ND_TARGET[]->NXM_NX_IPV6_SRC[],set_field:3758096384->nd_reserved,set_field:136->icmpv6_type,resubmit(,14)
                NeighbourReply 100 icmp6,icmp_type=136 => set_field:2->nd_options_type,move:OXM_OF_PKT_REG1[0..47]->NXM_NX_ND_TLL[],resubmit(,36)
                NeighbourReply 110 icmp6,icmp_type=136,nd_options_type=0 => resubmit(,36)
                NeighbourReply 110 icmp6,reg2=0/0x10000,ipv6_src=::,icmp_type=135 => set_field:33:33:00:00:00:01->eth_dst,set_field:ff02::1->ipv6_dst,move:OXM_OF_PKT_REG1[0..47]->NXM_OF_ETH_SRC[],move:NXM_NX_ND_TARGET[]->NXM_NX_IPV6_SRC[],set_field:536870912->nd_reserved,set_field:136->icmpv6_type,resubmit(,14)
                NeighbourReply 110 icmp6,reg2=0x10000/0x10000,ipv6_src=::,icmp_type=135 => set_field:33:33:00:00:00:01->eth_dst,set_field:ff02::1->ipv6_dst,move:OXM_OF_PKT_REG1[0..47]->NXM_OF_ETH_SRC[],move:NXM_NX_ND_TARGET[]->NXM_NX_IPV6_SRC[],set_field:2684354560->nd_reserved,set_field:136->icmpv6_type,resubmit(,14)
            "#]],
        );
    }
}
