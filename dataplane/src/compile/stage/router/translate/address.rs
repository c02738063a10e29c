//! What comes in for an outer address.
//!
//! # Contract
//! - Owner: one outer address of a gateway port or gateway router. Reads: all its rules there, the zones.
//! - RouterTrack: undo of source translation in its zone; translation of the destination, where one rule decides; else on to
//!   RouterTranslate.
//! - RouterOut: what leaves by the gateway port for an address served here comes in by it.
//!
//! # Invariants
//! - What came back in is looked up even where no rule needs that: its source may be older than the flow knows.
//! - What is to come back in passes the datapath anew: a packet that was committed in a zone on the way out is taken for one of that
//!   connection by the next lookup in the same zone, and clearing that takes a packet that the switch knows as tracked.

use ipnet::IpNet;
use ofpacket::{Action, CtState, field};
use uuid::Uuid;

use super::{
    PRIORITY_OUTER, Zones,
    inbound::forced,
    lookup, restore,
    rule::{self, Gateway, Kind, Rule},
    translate,
};
use crate::compile::{
    logical::{enter, go},
    owner::{Owner, Owners, Relation, address, pair},
    register,
    sink::Sink,
    stage::Stage,
    table::Table,
    view::View,
};

pub(in crate::compile) const STAGE: Stage = Stage {
    number: 165,
    name: "nat_address",
    owners: Owners::Facts(Relation::ExternalAddresses),
    tables: &[Table::RouterTrack, Table::RouterOut],
    relations: &[],
    emit,
};

/// The rules about an outer address of a scope, in order.
pub(super) fn rules<'a>(view: &View<'a>, scope: Uuid, external: Uuid) -> Vec<Rule<'a>> {
    let rules = view.related(Relation::AddressRules, pair(scope, external), 0);
    rules.filter_map(|uuid| Rule::of_scope(view, scope, uuid)).collect()
}

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(fact) = owner.fact() else { return };
    let rules = rules(view, fact.of, fact.value);
    let external = address(fact.value);
    let Some(first) = rules.first() else { return };
    if rules.iter().any(|rule| rule.serves_inbound(view)) {
        let matches = first.inbound(IpNet::from(external));
        let onward = comes_in(view, &rules, Zones::of(view, first.router));
        if let Onward::Unseen(zone) = onward {
            let again = matches.clone().with_bits(register::EGRESS_LOOPBACK, 1u8);
            let seen = lookup(zone).table(Table::RouterTranslate.number()).into();
            out.flow(Table::RouterTrack, PRIORITY_OUTER + 10, again, [seen]);
        }
        out.flow(Table::RouterTrack, PRIORITY_OUTER, matches, onward.into_actions());
    }
    if let Some(gateway) =
        first.gateway.as_ref().filter(|_| rules.iter().any(|rule| rule.serves_outbound(view)))
    {
        let matches = rule::destination(gateway.port.to(), IpNet::from(external));
        let tracked = matches.clone().ct_state(CtState::TRK, CtState::NONE);
        out.flow(Table::RouterOut, 110, tracked, comes_back(gateway));
        if let Some(zones) = Zones::of(view, first.router) {
            let look = lookup(zones.sources).table(Table::RouterOut.number()).into();
            out.flow(Table::RouterOut, 100, matches, [look]);
        }
    }
}

/// What becomes of a packet for an outer address.
enum Onward {
    /// Done, and on from what is decided.
    Seen(Vec<Action>),
    /// To RouterTranslate, as it is; what came back in is looked up in that zone first.
    Unseen(u16),
    /// Nothing can be done yet.
    Nothing,
}

impl Onward {
    fn into_actions(self) -> Vec<Action> {
        match self {
            Self::Seen(actions) => actions,
            Self::Unseen(_) => vec![go(Table::RouterTranslate)],
            Self::Nothing => Vec::new(),
        }
    }
}

fn comes_in(view: &View<'_>, rules: &[Rule<'_>], zones: Option<Zones>) -> Onward {
    let Some(zones) = zones else { return Onward::Nothing };
    if let [only] = rules
        && only.is_decided_by_address(view)
    {
        let translate = translate(only.inbound_zone(view, zones), only.to_inside(), Table::Route);
        return Onward::Seen(forced(view, only).into_iter().chain([translate]).collect());
    }
    if rules.iter().all(|rule| rule.kind == Kind::Source) {
        return Onward::Seen(vec![restore(zones.sources, Table::Route)]);
    }
    if rules.iter().any(|rule| rule.has_source() && !rule.is_stateless()) {
        return Onward::Seen(vec![restore(zones.sources, Table::RouterTranslate)]);
    }
    Onward::Unseen(zones.sources)
}

/// In again by the port that it was about to leave by, as from the physical network.
fn comes_back(gateway: &Gateway<'_>) -> Vec<Action> {
    let swap = [
        Action::push(field::ETH_SRC),
        Action::push(field::ETH_DST),
        Action::pop(field::ETH_SRC),
        Action::pop(field::ETH_DST),
    ];
    let flags = FLAG_LOOPBACK | FLAG_EGRESS_LOOPBACK;
    [swap.to_vec(), enter(gateway.port.router_key, gateway.port.key, flags, Table::RouterAdmit)].concat()
}

/// `register::LOOPBACK` and `register::EGRESS_LOOPBACK`, in register 10.
const FLAG_LOOPBACK: u32 = 1;
const FLAG_EGRESS_LOOPBACK: u32 = 1 << 4;

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use quantumnet_model::nb::Nat;

    use super::{
        super::testing::{World, distributed, peers, rule},
        *,
    };

    #[test]
    fn one_lookup_where_one_rule_decides() {
        let world = World::of([
            rule("snat", "172.16.0.1", "10.0.0.0/24"),
            rule("dnat_and_snat", "172.16.0.50", "10.0.0.1"),
            rule("dnat", "172.16.0.60", "10.0.0.2"),
            rule("dnat_and_snat", "fd16::50", "fd00::1"),
        ]);
        world.check(&[&STAGE], expect![[r#"
            RouterTrack 1000 ip,reg14=0x2,nw_dst=172.16.0.1 => ct(table=23,zone=12,nat)
            RouterTrack 1000 ip,reg14=0x2,nw_dst=172.16.0.50 => ct(commit,table=23,zone=12,nat(dst=10.0.0.1))
            RouterTrack 1000 ip,reg14=0x2,nw_dst=172.16.0.60 => ct(commit,table=23,zone=11,nat(dst=10.0.0.2))
            RouterTrack 1000 ipv6,reg14=0x2,ipv6_dst=fd16::50 => ct(commit,table=23,zone=12,nat(dst=fd00::1))
            RouterOut 100 ip,reg15=0x2,nw_dst=172.16.0.1 => ct(table=39,zone=12)
            RouterOut 100 ip,reg15=0x2,nw_dst=172.16.0.50 => ct(table=39,zone=12)
            RouterOut 100 ip,reg15=0x2,nw_dst=172.16.0.60 => ct(table=39,zone=12)
            RouterOut 100 ipv6,reg15=0x2,ipv6_dst=fd16::50 => ct(table=39,zone=12)
            RouterOut 110 ct_state=+trk,ip,reg15=0x2,nw_dst=172.16.0.1 => push:NXM_OF_ETH_SRC[],push:NXM_OF_ETH_DST[],pop:NXM_OF_ETH_SRC[],pop:NXM_OF_ETH_DST[],ct_clear,set_field:0->xxreg0,set_field:0->xxreg1,set_field:0x1100000000->xxreg2,set_field:0x200000000->xxreg3,load:0x9->OXM_OF_METADATA[],load:0xffff->NXM_OF_IN_PORT[],resubmit(,18)
            RouterOut 110 ct_state=+trk,ip,reg15=0x2,nw_dst=172.16.0.50 => push:NXM_OF_ETH_SRC[],push:NXM_OF_ETH_DST[],pop:NXM_OF_ETH_SRC[],pop:NXM_OF_ETH_DST[],ct_clear,set_field:0->xxreg0,set_field:0->xxreg1,set_field:0x1100000000->xxreg2,set_field:0x200000000->xxreg3,load:0x9->OXM_OF_METADATA[],load:0xffff->NXM_OF_IN_PORT[],resubmit(,18)
            RouterOut 110 ct_state=+trk,ip,reg15=0x2,nw_dst=172.16.0.60 => push:NXM_OF_ETH_SRC[],push:NXM_OF_ETH_DST[],pop:NXM_OF_ETH_SRC[],pop:NXM_OF_ETH_DST[],ct_clear,set_field:0->xxreg0,set_field:0->xxreg1,set_field:0x1100000000->xxreg2,set_field:0x200000000->xxreg3,load:0x9->OXM_OF_METADATA[],load:0xffff->NXM_OF_IN_PORT[],resubmit(,18)
            RouterOut 110 ct_state=+trk,ipv6,reg15=0x2,ipv6_dst=fd16::50 => push:NXM_OF_ETH_SRC[],push:NXM_OF_ETH_DST[],pop:NXM_OF_ETH_SRC[],pop:NXM_OF_ETH_DST[],ct_clear,set_field:0->xxreg0,set_field:0->xxreg1,set_field:0x1100000000->xxreg2,set_field:0x200000000->xxreg3,load:0x9->OXM_OF_METADATA[],load:0xffff->NXM_OF_IN_PORT[],resubmit(,18)
        "#]]);
        World { pinned: true, options: &[("dnat_force_snat_ip", "172.16.0.7")], ..world.clone() }
            .check(&[&STAGE], expect![[r#"
                RouterTrack 1000 ip,nw_dst=172.16.0.1 => ct(table=23,zone=12,nat)
                RouterTrack 1000 ip,nw_dst=172.16.0.50 => ct(table=22,zone=12,nat)
                RouterTrack 1000 ip,nw_dst=172.16.0.60 => load:0x1->NXM_NX_REG10[5],ct(commit,table=23,zone=11,nat(dst=10.0.0.2))
                RouterTrack 1000 ipv6,ipv6_dst=fd16::50 => ct(commit,table=23,zone=11,nat(dst=fd00::1))
            "#]]);
        World { no_zones: true, ..world.clone() }.check(&[&STAGE], expect![[r#"
            RouterTrack 1000 ip,reg14=0x2,nw_dst=172.16.0.1 => drop
            RouterTrack 1000 ip,reg14=0x2,nw_dst=172.16.0.50 => drop
            RouterTrack 1000 ip,reg14=0x2,nw_dst=172.16.0.60 => drop
            RouterTrack 1000 ipv6,reg14=0x2,ipv6_dst=fd16::50 => drop
            RouterOut 110 ct_state=+trk,ip,reg15=0x2,nw_dst=172.16.0.1 => push:NXM_OF_ETH_SRC[],push:NXM_OF_ETH_DST[],pop:NXM_OF_ETH_SRC[],pop:NXM_OF_ETH_DST[],ct_clear,set_field:0->xxreg0,set_field:0->xxreg1,set_field:0x1100000000->xxreg2,set_field:0x200000000->xxreg3,load:0x9->OXM_OF_METADATA[],load:0xffff->NXM_OF_IN_PORT[],resubmit(,18)
            RouterOut 110 ct_state=+trk,ip,reg15=0x2,nw_dst=172.16.0.50 => push:NXM_OF_ETH_SRC[],push:NXM_OF_ETH_DST[],pop:NXM_OF_ETH_SRC[],pop:NXM_OF_ETH_DST[],ct_clear,set_field:0->xxreg0,set_field:0->xxreg1,set_field:0x1100000000->xxreg2,set_field:0x200000000->xxreg3,load:0x9->OXM_OF_METADATA[],load:0xffff->NXM_OF_IN_PORT[],resubmit(,18)
            RouterOut 110 ct_state=+trk,ip,reg15=0x2,nw_dst=172.16.0.60 => push:NXM_OF_ETH_SRC[],push:NXM_OF_ETH_DST[],pop:NXM_OF_ETH_SRC[],pop:NXM_OF_ETH_DST[],ct_clear,set_field:0->xxreg0,set_field:0->xxreg1,set_field:0x1100000000->xxreg2,set_field:0x200000000->xxreg3,load:0x9->OXM_OF_METADATA[],load:0xffff->NXM_OF_IN_PORT[],resubmit(,18)
            RouterOut 110 ct_state=+trk,ipv6,reg15=0x2,ipv6_dst=fd16::50 => push:NXM_OF_ETH_SRC[],push:NXM_OF_ETH_DST[],pop:NXM_OF_ETH_SRC[],pop:NXM_OF_ETH_DST[],ct_clear,set_field:0->xxreg0,set_field:0->xxreg1,set_field:0x1100000000->xxreg2,set_field:0x200000000->xxreg3,load:0x9->OXM_OF_METADATA[],load:0xffff->NXM_OF_IN_PORT[],resubmit(,18)
        "#]]);
        World { elsewhere: true, ..world }.check(&[&STAGE], expect![""]);
    }

    #[test]
    fn two_where_more_has_to_be_asked() {
        let shared = [rule("snat", "172.16.0.1", "10.0.0.0/24"), rule("dnat", "172.16.0.1", "10.0.0.1")];
        World::of(shared).check(&[&STAGE], expect![[r#"
            RouterTrack 1000 ip,reg14=0x2,nw_dst=172.16.0.1 => ct(table=22,zone=12,nat)
            RouterOut 100 ip,reg15=0x2,nw_dst=172.16.0.1 => ct(table=39,zone=12)
            RouterOut 110 ct_state=+trk,ip,reg15=0x2,nw_dst=172.16.0.1 => push:NXM_OF_ETH_SRC[],push:NXM_OF_ETH_DST[],pop:NXM_OF_ETH_SRC[],pop:NXM_OF_ETH_DST[],ct_clear,set_field:0->xxreg0,set_field:0->xxreg1,set_field:0x1100000000->xxreg2,set_field:0x200000000->xxreg3,load:0x9->OXM_OF_METADATA[],load:0xffff->NXM_OF_IN_PORT[],resubmit(,18)
        "#]]);
        let limited =
            Nat { allowed_ext_ips: Some(peers()), ..rule("dnat_and_snat", "172.16.0.50", "10.0.0.1") };
        World::of([limited]).check(&[&STAGE], expect![[r#"
            RouterTrack 1000 ip,reg14=0x2,nw_dst=172.16.0.50 => ct(table=22,zone=12,nat)
            RouterOut 100 ip,reg15=0x2,nw_dst=172.16.0.50 => ct(table=39,zone=12)
            RouterOut 110 ct_state=+trk,ip,reg15=0x2,nw_dst=172.16.0.50 => push:NXM_OF_ETH_SRC[],push:NXM_OF_ETH_DST[],pop:NXM_OF_ETH_SRC[],pop:NXM_OF_ETH_DST[],ct_clear,set_field:0->xxreg0,set_field:0->xxreg1,set_field:0x1100000000->xxreg2,set_field:0x200000000->xxreg3,load:0x9->OXM_OF_METADATA[],load:0xffff->NXM_OF_IN_PORT[],resubmit(,18)
        "#]]);
        let limited = Nat { allowed_ext_ips: Some(peers()), ..rule("dnat", "172.16.0.50", "10.0.0.1") };
        World::of([limited]).check(&[&STAGE], expect![[r#"
            RouterTrack 1000 ip,reg14=0x2,nw_dst=172.16.0.50 => resubmit(,22)
            RouterTrack 1010 ip,reg10=0x10/0x10,reg14=0x2,nw_dst=172.16.0.50 => ct(table=22,zone=12)
            RouterOut 100 ip,reg15=0x2,nw_dst=172.16.0.50 => ct(table=39,zone=12)
            RouterOut 110 ct_state=+trk,ip,reg15=0x2,nw_dst=172.16.0.50 => push:NXM_OF_ETH_SRC[],push:NXM_OF_ETH_DST[],pop:NXM_OF_ETH_SRC[],pop:NXM_OF_ETH_DST[],ct_clear,set_field:0->xxreg0,set_field:0->xxreg1,set_field:0x1100000000->xxreg2,set_field:0x200000000->xxreg3,load:0x9->OXM_OF_METADATA[],load:0xffff->NXM_OF_IN_PORT[],resubmit(,18)
        "#]]);
    }

    #[test]
    fn a_distributed_floating_ip_comes_in_at_its_port_and_at_the_gateway() {
        let own = World::of([distributed("172.16.0.50", "10.0.0.1")]);
        World { elsewhere: true, ..own.clone() }.check(&[&STAGE], expect![[r#"
            RouterTrack 1000 ip,reg14=0x2,nw_dst=172.16.0.50 => ct(commit,table=23,zone=12,nat(dst=10.0.0.1))
            RouterOut 100 ip,reg15=0x2,nw_dst=172.16.0.50 => ct(table=39,zone=12)
            RouterOut 110 ct_state=+trk,ip,reg15=0x2,nw_dst=172.16.0.50 => push:NXM_OF_ETH_SRC[],push:NXM_OF_ETH_DST[],pop:NXM_OF_ETH_SRC[],pop:NXM_OF_ETH_DST[],ct_clear,set_field:0->xxreg0,set_field:0->xxreg1,set_field:0x1100000000->xxreg2,set_field:0x200000000->xxreg3,load:0x9->OXM_OF_METADATA[],load:0xffff->NXM_OF_IN_PORT[],resubmit(,18)
        "#]]);
        World { guest_elsewhere: true, ..own.clone() }.check(
            &[&STAGE],
            expect![[r#"
                RouterTrack 1000 ip,reg14=0x2,nw_dst=172.16.0.50 => ct(commit,table=23,zone=12,nat(dst=10.0.0.1))
            "#]],
        );
        World { elsewhere: true, guest_elsewhere: true, ..own }.check(&[&STAGE], expect![""]);
    }
}
