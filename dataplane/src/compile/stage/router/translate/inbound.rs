//! What comes in where its outer address alone does not decide: new connections of rules with conditions, and of rules that
//! share an address; connections to inner addresses.
//!
//! # Contract
//! - Owner: one rule. Reads: it, what else is about its addresses, the zones.
//! - RouterTranslate: the destination is translated, unless the peer is exempted.
//! - RouterTrack: what comes in by a gateway port for the inner address itself is made known to the zone that its replies will
//!   be looked up in.

use ipnet::IpNet;
use ofpacket::{Action, field};

use super::{
    Zones,
    condition::{Counts, Flows, Side},
    lookup, quoted,
    rule::{EXEMPTION, Kind, Rule},
    translate,
};
use crate::compile::{
    logical::go,
    owner::{Owner, Owners, Relation, address},
    register,
    sink::Sink,
    stage::Stage,
    table::Table,
    view::View,
};

pub(in crate::compile) const STAGE: Stage = Stage {
    number: 166,
    name: "nat_inbound",
    owners: Owners::Facts(Relation::Translations),
    tables: &[Table::RouterTrack, Table::RouterTranslate],
    relations: &[],
    emit,
};

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(fact) = owner.fact() else { return };
    let Some(rule) = Rule::read(view, fact.of, fact.value) else { return };
    let zones = Zones::of(view, rule.router);
    if rule.has_destination() && rule.serves_inbound(view) && !rule.is_decided_by_address(view) {
        translations(view, &rule, zones, out);
    }
    if rule.gateway.is_some() && rule.has_source() && !rule.is_stateless() && rule.serves_outbound(view) {
        let priority = if rule.kind == Kind::Both { 2 } else { 1 };
        let flows = Flows {
            view,
            rule: &rule,
            table: Table::RouterTrack,
            priority: priority + 2 * u16::from(rule.logical.prefix_len()),
            side: Side::In(rule.logical),
        };
        flows.put(Counts::All, &|matches| matches, &known(view, &rule, zones, Table::Route), out);
    }
}

/// The rule's destination in RouterTranslate.
fn translations(view: &View<'_>, rule: &Rule<'_>, zones: Option<Zones>, out: &mut Sink) {
    let priority = match rule.own_priority() {
        Some(priority) => priority,
        None => PRIORITY_DESTINATION,
    };
    let side = Side::In(IpNet::from(rule.external));
    let flows = |priority: u16| Flows { view, rule, table: Table::RouterTranslate, priority, side };
    let actions = if rule.is_stateless() {
        vec![to_inside(rule), go(Table::Route)]
    } else {
        match zones {
            Some(zones) => {
                let translate = translate(zones.destinations, rule.to_inside(), Table::Route);
                forced(view, rule).into_iter().chain([translate]).collect()
            }
            None => Vec::new(),
        }
    };
    flows(priority).put(Counts::All, &|matches| matches, &actions, out);
    if rule.translates_quoted() {
        let actions = [quoted(view, rule, out), actions].concat();
        flows(priority + 1).put(Counts::Errors, &|matches| matches, &actions, out);
    }
    flows(priority + EXEMPTION).put(Counts::Exempted, &|matches| matches, &[go(Table::Route)], out);
}

/// What a gateway router's rule has to say of the packet's source too (ovn-nb(5), `dnat_force_snat_ip`).
pub(super) fn forced(view: &View<'_>, rule: &Rule<'_>) -> Option<Action> {
    let mut forced = view.related(Relation::ForcedSources, rule.router, 0).map(address);
    let some = forced.any(|ip| ip.is_ipv4() == rule.external.is_ipv4());
    some.then(|| Action::load(register::FORCE_SNAT, 1))
}

/// Makes a connection known that is not translated, so that its replies are not.
pub(super) fn known(view: &View<'_>, rule: &Rule<'_>, zones: Option<Zones>, next: Table) -> Vec<Action> {
    match zones {
        Some(zones) => {
            let sources = rule.kind == Kind::Source;
            let zone = if sources { zones.sources } else { rule.inbound_zone(view, zones) };
            vec![lookup(zone).commit().into(), go(next)]
        }
        None => Vec::new(),
    }
}

fn to_inside(rule: &Rule<'_>) -> Action {
    match rule.logical {
        IpNet::V4(net) => Action::set_field(field::IPV4_DST, u32::from(net.addr())),
        IpNet::V6(net) => Action::set_field(field::IPV6_DST, u128::from(net.addr())),
    }
}

const PRIORITY_DESTINATION: u16 = 100;

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use quantumnet_model::nb::Nat;

    use super::{
        super::testing::{World, map, peers, rule},
        *,
    };

    #[test]
    fn connections_to_inner_addresses_are_known_to_the_zone_of_their_replies() {
        let world = World::of([
            rule("snat", "172.16.0.1", "10.0.0.0/24"),
            rule("dnat_and_snat", "172.16.0.50", "10.0.0.1"),
            rule("dnat", "172.16.0.60", "10.0.0.2"),
        ]);
        world.check(
            &[&STAGE],
            expect![[r#"
                RouterTrack 49 ip,reg14=0x2,nw_dst=10.0.0.0/24 => ct(commit,zone=12),resubmit(,23)
                RouterTrack 66 ip,reg14=0x2,nw_dst=10.0.0.1 => ct(commit,zone=12),resubmit(,23)
            "#]],
        );
        World { pinned: true, ..world }.check(
            &[&STAGE],
            expect![[r#"
            RouterTranslate 100 ip,nw_dst=172.16.0.50 => ct(commit,table=23,zone=11,nat(dst=10.0.0.1))
        "#]],
        );
    }

    #[test]
    fn conditions_are_asked_where_an_address_does_not_decide() {
        let limited = |limits: Nat| World::of([limits]);
        let floating = || rule("dnat_and_snat", "172.16.0.50", "10.0.0.1");
        limited(Nat { exempted_ext_ips: Some(peers()), ..floating() }).check(&[&STAGE], expect![[r#"
            RouterTrack 66 ip,reg14=0x2,nw_dst=10.0.0.1 => ct(commit,zone=11),resubmit(,23)
            RouterTranslate 100 ip,reg14=0x2,nw_dst=172.16.0.50 => ct(commit,table=23,zone=11,nat(dst=10.0.0.1))
            RouterTranslate 102 ip,reg14=0x2,nw_src=198.51.100.7,nw_dst=172.16.0.50 => resubmit(,23)
        "#]]);
        let several = "tcp.dst == {80, 443} && ip4.src == {192.0.2.1, 192.0.2.2}";
        limited(Nat { allowed_ext_ips: Some(peers()), r#match: "tcp".into(), priority: 7, ..floating() })
            .check(&[&STAGE], expect![[r#"
                RouterTrack 66 tcp,reg14=0x2,nw_src=198.51.100.7,nw_dst=10.0.0.1 => ct(commit,zone=11),resubmit(,23)
                RouterTranslate 307 tcp,reg14=0x2,nw_src=198.51.100.7,nw_dst=172.16.0.50 => ct(commit,table=23,zone=11,nat(dst=10.0.0.1))
            "#]]);
        limited(Nat { r#match: several.into(), ..rule("dnat", "172.16.0.50", "10.0.0.1") })
            .check(&[&STAGE], expect![[r#"
                RouterTranslate 300 tcp,reg14=0x2,nw_src=192.0.2.1,nw_dst=172.16.0.50,tp_dst=80 => ct(commit,table=23,zone=11,nat(dst=10.0.0.1))
                RouterTranslate 300 tcp,reg14=0x2,nw_src=192.0.2.1,nw_dst=172.16.0.50,tp_dst=443 => ct(commit,table=23,zone=11,nat(dst=10.0.0.1))
                RouterTranslate 300 tcp,reg14=0x2,nw_src=192.0.2.2,nw_dst=172.16.0.50,tp_dst=80 => ct(commit,table=23,zone=11,nat(dst=10.0.0.1))
                RouterTranslate 300 tcp,reg14=0x2,nw_src=192.0.2.2,nw_dst=172.16.0.50,tp_dst=443 => ct(commit,table=23,zone=11,nat(dst=10.0.0.1))
            "#]]);
        limited(Nat { r#match: "inport == \"lr-sw\"".into(), ..rule("dnat", "172.16.0.50", "10.0.0.1") })
            .check(&[&STAGE], expect![""]);
        let shared = [rule("snat", "172.16.0.1", "10.0.0.0/24"), rule("dnat", "172.16.0.1", "10.0.0.1")];
        World::of(shared).check(&[&STAGE], expect![[r#"
            RouterTrack 49 ip,reg14=0x2,nw_dst=10.0.0.0/24 => ct(commit,zone=12),resubmit(,23)
            RouterTranslate 100 ip,reg14=0x2,nw_dst=172.16.0.1 => ct(commit,table=23,zone=11,nat(dst=10.0.0.1))
        "#]]);
        let stateless = Nat { options: map(&[("stateless", "true")]), ..floating() };
        limited(stateless).check(
            &[&STAGE],
            expect![[r#"
                RouterTranslate 100 ip,reg14=0x2,nw_dst=172.16.0.50 => set_field:10.0.0.1->ip_dst,resubmit(,23)
                RouterTranslate 101 icmp,reg14=0x2,nw_dst=172.16.0.50,icmp_type=3 => controller(userdata=01.0c.00.00.00.00.00.64.00.00.00.00.00.00.00.00.00.00.00.01,pause),set_field:10.0.0.1->ip_dst,resubmit(,23)
                RouterTranslate 101 icmp,reg14=0x2,nw_dst=172.16.0.50,icmp_type=11 => controller(userdata=01.0c.00.00.00.00.00.64.00.00.00.00.00.00.00.00.00.00.00.01,pause),set_field:10.0.0.1->ip_dst,resubmit(,23)
                RouterTranslate 101 icmp,reg14=0x2,nw_dst=172.16.0.50,icmp_type=12 => controller(userdata=01.0c.00.00.00.00.00.64.00.00.00.00.00.00.00.00.00.00.00.01,pause),set_field:10.0.0.1->ip_dst,resubmit(,23)
            "#]],
        );
    }
}
