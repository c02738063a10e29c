//! What leaves: destinations that were translated are put back as sources, and sources are translated.
//!
//! # Contract
//! - `nat_outbound`: owner one rule. Reads: it, what else is about its addresses, the zones, who looks at its packets next.
//!   RouterUndo: replies of what was translated inwards; floating IPs both ways. RouterSource: translation of sources, unless
//!   the peer is exempted; on gateway routers also what is known of connections to inner addresses.
//! - `nat_forced`: owner one address that a gateway router forces sources to be.
//!
//! # Invariants
//! - A reply is never translated as a source: not one of a connection from outside, nor one whose own translation was undone.

use ipnet::IpNet;
use ofpacket::{Action, CtState, Match, Nat as Translation, NatRange, field};

use super::{
    PRIORITY_OUTER, Zones,
    condition::{Counts, Flows, Side},
    inbound::known,
    lookup, quoted, restore,
    rule::{self, EXEMPTION, Kind, Rule},
};
use crate::compile::{
    index::By,
    logical::{go, on_switch, router_key},
    owner::{Owner, Owners, Relation, address},
    register,
    sink::Sink,
    stage::Stage,
    table::Table,
    view::View,
};

pub(in crate::compile) const STAGE: Stage = Stage {
    number: 167,
    name: "nat_outbound",
    owners: Owners::Facts(Relation::Translations),
    tables: &[Table::RouterUndo, Table::RouterSource],
    relations: &[],
    emit,
};

pub(in crate::compile) const FORCED: Stage = Stage {
    number: 168,
    name: "nat_forced",
    owners: Owners::Facts(Relation::ForcedSources),
    tables: &[Table::RouterTrack, Table::RouterSource],
    relations: &[],
    emit: forced,
};

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(fact) = owner.fact() else { return };
    let Some(rule) = Rule::read(view, fact.of, fact.value) else { return };
    if !rule.serves_outbound(view) {
        return;
    }
    let zones = Zones::of(view, rule.router);
    let plain = rule.is_plain(view);
    if rule.has_destination() {
        undo(view, &rule, zones, plain, out);
    }
    if rule.has_source() && !plain {
        source(view, &rule, zones, out);
    }
    if rule.gateway.is_none() && rule.has_source() && !rule.is_stateless() {
        // On a gateway router any connection that comes in, whatever the rule's conditions, also from a source that was looked
        // up for another rule.
        let priority = if rule.kind == Kind::Both { 2 } else { 1 };
        let to = rule::destination(on_switch(rule.router_key), rule.logical);
        // The zone of destinations knows what it translated itself.
        let but = if rule.kind == Kind::Both { CtState::RPL | CtState::DNAT } else { CtState::RPL };
        let to = to.ct_state(CtState::NONE, but);
        out.flow(Table::RouterSource, priority, to, known(view, &rule, zones, Table::RouterOut));
    }
}

fn undo(view: &View<'_>, rule: &Rule<'_>, zones: Option<Zones>, plain: bool, out: &mut Sink) {
    let from = rule.outbound();
    let mac = own_mac(rule);
    if rule.is_stateless() {
        out.flow(Table::RouterUndo, 100, from, [mac, vec![go(Table::RouterSource)]].concat());
        return;
    }
    let Some(zones) = zones else {
        out.flow(Table::RouterUndo, 100, from, []);
        return;
    };
    if rule.gateway.is_some() {
        let (priority, then) = if plain {
            (110, leave(view, rule, rule.plain_zone(zones), rule.to_outside()))
        } else {
            (100, vec![restore(zones.destinations, Table::RouterSource)])
        };
        out.flow(Table::RouterUndo, priority, from, [mac, then].concat());
        return;
    }
    // Packets of a gateway router may have been looked up in the same zone when they came in: it is asked anew.
    let reply = from.clone().ct_state(CtState::TRK | CtState::RPL, CtState::NONE);
    let again = |action: Action| [Action::CtClear, action];
    out.flow(Table::RouterUndo, 120, reply, again(restore(zones.destinations, Table::RouterOut)));
    if plain {
        let translate = super::translate(zones.destinations, rule.to_outside(), Table::RouterOut);
        out.flow(Table::RouterUndo, 110, from, again(translate));
    } else {
        // What came in for an outer address is no connection of its own by its inner one.
        let translated = from.clone().ct_state(CtState::TRK | CtState::DNAT, CtState::RPL);
        out.flow(Table::RouterUndo, 125, translated, [go(Table::RouterSource)]);
        out.flow(Table::RouterUndo, 100, from, again(restore(zones.destinations, Table::RouterSource)));
    }
}

fn source(view: &View<'_>, rule: &Rule<'_>, zones: Option<Zones>, out: &mut Sink) {
    // The longest prefix wins; a rule with a match has a priority of its own, above all prefixes.
    let by_prefix = u16::from(rule.logical.prefix_len()) + 1 + if rule.gateway.is_some() { 128 } else { 0 };
    let priority = PRIORITY_SOURCE + rule.own_priority().unwrap_or(by_prefix);
    let flows = |priority: u16| Flows { view, rule, table: Table::RouterSource, priority, side: Side::Out };
    let mac = own_mac(rule);
    if rule.is_stateless() {
        let actions = [mac, vec![from_outside(rule), go(Table::RouterOut)]].concat();
        flows(priority).put(Counts::All, &|matches| matches, &actions, out);
        if rule.translates_quoted() {
            let actions = [quoted(view, rule, out), actions].concat();
            flows(priority + 1).put(Counts::Errors, &|matches| matches, &actions, out);
        }
    } else {
        let actions = match zones {
            Some(zones) => [mac, leave(view, rule, zones.sources, rule.to_outside())].concat(),
            None => Vec::new(),
        };
        flows(priority).put(Counts::All, &no_reply, &actions, out);
    }
    flows(priority + EXEMPTION).put(Counts::Exempted, &|matches| matches, &[go(Table::RouterOut)], out);
}

fn no_reply(matches: Match) -> Match {
    matches.ct_state(CtState::NONE, CtState::RPL)
}

/// Translated and out; looked up anew only for who looks at the source then.
fn leave(view: &View<'_>, rule: &Rule<'_>, zone: u16, translation: Translation) -> Vec<Action> {
    let commit = lookup(zone).commit().nat(translation);
    if is_looked_at(view, rule) {
        vec![commit.table(Table::RouterOut.number()).into()]
    } else {
        vec![commit.into(), go(Table::RouterOut)]
    }
}

/// Whether something beyond the router looks at the source of its packets before the datapath has seen them again.
fn is_looked_at(view: &View<'_>, rule: &Rule<'_>) -> bool {
    let Some(port) = rule.gateway.as_ref().and_then(|gateway| gateway.port.switch_port(view)) else {
        return true;
    };
    let leads_on = |kind: &str| {
        let key = [ovsdb::value::Atom::Uuid(port.switch), ovsdb::value::Atom::String(kind.into())];
        view.uuids(By::DatapathType, &key).len()
    };
    view.holds(Relation::Filtered, port.switch)
        || view.holds(Relation::LooksAtSources, port.switch)
        || leads_on("patch") + leads_on("l3gateway") > 1
}

/// Of a distributed floating IP, what the physical network knows it by.
fn own_mac(rule: &Rule<'_>) -> Vec<Action> {
    let own = rule.distributed.iter();
    own.map(|distributed| Action::set_field(field::ETH_SRC, distributed.mac.0)).collect()
}

fn from_outside(rule: &Rule<'_>) -> Action {
    match IpNet::from(rule.external) {
        IpNet::V4(net) => Action::set_field(field::IPV4_SRC, u32::from(net.addr())),
        IpNet::V6(net) => Action::set_field(field::IPV6_SRC, u128::from(net.addr())),
    }
}

fn forced(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(fact) = owner.fact() else { return };
    let (router, forced) = (fact.of, address(fact.value));
    if !view.holds(Relation::Translates, router) {
        return;
    }
    let Some(key) = router_key(view, router) else { return };
    let on = on_switch(key);
    let to = rule::destination(on.clone(), forced.into());
    let flagged = if forced.is_ipv4() { on.ipv4() } else { on.ipv6() }.with_bits(register::FORCE_SNAT, 1u8);
    let (back, out_by) = match Zones::of(view, router) {
        Some(zones) => {
            let translation = Translation::source(NatRange::one(forced));
            let translate = super::translate(zones.sources, translation, Table::RouterOut);
            (vec![restore(zones.sources, Table::RouterTranslate)], vec![translate])
        }
        None => (Vec::new(), Vec::new()),
    };
    out.flow(Table::RouterTrack, PRIORITY_OUTER + 20, to, back);
    out.flow(Table::RouterSource, PRIORITY_SOURCE + 100, no_reply(flagged), out_by);
}

/// OVN's priorities of source translation begin here; below is what is not translated.
const PRIORITY_SOURCE: u16 = 10;

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use quantumnet_model::nb::Nat;

    use super::{
        super::testing::{World, distributed, gateway_port, map, peers, rule},
        *,
    };

    #[test]
    fn sources_at_the_gateway() {
        let world =
            World::of([rule("snat", "172.16.0.1", "10.0.0.0/24"), rule("snat", "fd16::1", "fd00::/64")]);
        world.check(&[&STAGE], expect![[r#"
            RouterSource 163 ct_state=-rpl,ip,reg15=0x2,nw_src=10.0.0.0/24 => ct(commit,zone=12,nat(src=172.16.0.1)),resubmit(,39)
            RouterSource 203 ct_state=-rpl,ipv6,reg15=0x2,ipv6_src=fd00::/64 => ct(commit,zone=12,nat(src=fd16::1)),resubmit(,39)
        "#]]);
        let world = World::of([rule("snat", "172.16.0.1", "10.0.0.0/24")]);
        World { looked_at: true, ..world.clone() }.check(&[&STAGE], expect![[r#"
            RouterSource 163 ct_state=-rpl,ip,reg15=0x2,nw_src=10.0.0.0/24 => ct(commit,table=39,zone=12,nat(src=172.16.0.1))
        "#]]);
        World { no_zones: true, ..world.clone() }.check(
            &[&STAGE],
            expect![[r#"
            RouterSource 163 ct_state=-rpl,ip,reg15=0x2,nw_src=10.0.0.0/24 => drop
        "#]],
        );
        World { elsewhere: true, ..world.clone() }.check(&[&STAGE], expect![]);
        World { pinned: true, ..world }.check(&[&STAGE], expect![[r#"
            RouterSource 1 ct_state=-rpl,ip,nw_dst=10.0.0.0/24 => ct(commit,zone=12),resubmit(,39)
            RouterSource 35 ct_state=-rpl,ip,nw_src=10.0.0.0/24 => ct(commit,table=39,zone=12,nat(src=172.16.0.1))
        "#]]);
    }

    #[test]
    fn floating_ips() {
        let central = World::of([rule("dnat_and_snat", "172.16.0.50", "10.0.0.1")]);
        central.check(&[&STAGE], expect![[r#"
            RouterUndo 110 ip,reg15=0x2,nw_src=10.0.0.1 => ct(commit,zone=12,nat(src=172.16.0.50)),resubmit(,39)
        "#]]);
        World { pinned: true, ..central.clone() }.check(
            &[&STAGE],
            expect![[r#"
                RouterUndo 110 ip,nw_src=10.0.0.1 => ct_clear,ct(commit,table=39,zone=11,nat(src=172.16.0.50))
                RouterUndo 120 ct_state=+rpl+trk,ip,nw_src=10.0.0.1 => ct_clear,ct(table=39,zone=11,nat)
                RouterSource 2 ct_state=-rpl-dnat,ip,nw_dst=10.0.0.1 => ct(commit,zone=11),resubmit(,39)
            "#]],
        );
        World { no_zones: true, ..central }.check(
            &[&STAGE],
            expect![[r#"
            RouterUndo 100 ip,reg15=0x2,nw_src=10.0.0.1 => drop
        "#]],
        );
        let own = World::of([distributed("172.16.0.50", "10.0.0.1")]);
        World { elsewhere: true, ..own.clone() }.check(&[&STAGE], expect![[r#"
            RouterUndo 110 ip,reg15=0x2,nw_src=10.0.0.1 => set_field:0a:f1:00:00:00:01->eth_src,ct(commit,zone=12,nat(src=172.16.0.50)),resubmit(,39)
        "#]]);
        World { guest_elsewhere: true, ..own.clone() }.check(&[&STAGE], expect![]);
        let stateless = Nat { options: map(&[("stateless", "true")]), ..own.rules[0].clone() };
        World::of([stateless]).check(&[&STAGE], expect![[r#"
            RouterUndo 100 ip,reg15=0x2,nw_src=10.0.0.1 => set_field:0a:f1:00:00:00:01->eth_src,resubmit(,38)
            RouterSource 171 ip,reg15=0x2,nw_src=10.0.0.1 => set_field:0a:f1:00:00:00:01->eth_src,set_field:172.16.0.50->ip_src,resubmit(,39)
            RouterSource 172 icmp,reg15=0x2,nw_src=10.0.0.1,icmp_type=3 => controller(userdata=01.0c.00.00.00.00.00.64.00.00.00.00.00.00.00.00.00.00.00.01,pause),set_field:0a:f1:00:00:00:01->eth_src,set_field:172.16.0.50->ip_src,resubmit(,39)
            RouterSource 172 icmp,reg15=0x2,nw_src=10.0.0.1,icmp_type=11 => controller(userdata=01.0c.00.00.00.00.00.64.00.00.00.00.00.00.00.00.00.00.00.01,pause),set_field:0a:f1:00:00:00:01->eth_src,set_field:172.16.0.50->ip_src,resubmit(,39)
            RouterSource 172 icmp,reg15=0x2,nw_src=10.0.0.1,icmp_type=12 => controller(userdata=01.0c.00.00.00.00.00.64.00.00.00.00.00.00.00.00.00.00.00.01,pause),set_field:0a:f1:00:00:00:01->eth_src,set_field:172.16.0.50->ip_src,resubmit(,39)
        "#]]);
    }

    #[test]
    fn a_floating_ip_that_others_touch_is_two_rules() {
        let floating = || rule("dnat_and_snat", "172.16.0.50", "10.0.0.1");
        let shares = rule("snat", "172.16.0.50", "10.0.0.0/24");
        World::of([floating(), shares]).check(&[&STAGE], expect![[r#"
            RouterUndo 100 ip,reg15=0x2,nw_src=10.0.0.1 => ct(table=38,zone=11,nat)
            RouterSource 163 ct_state=-rpl,ip,reg15=0x2,nw_src=10.0.0.0/24 => ct(commit,zone=12,nat(src=172.16.0.50)),resubmit(,39)
            RouterSource 171 ct_state=-rpl,ip,reg15=0x2,nw_src=10.0.0.1 => ct(commit,zone=12,nat(src=172.16.0.50)),resubmit(,39)
        "#]]);
        let overrules =
            Nat { r#match: "tcp.dst == 80".into(), priority: 7, ..rule("snat", "172.16.0.9", "10.0.0.0/24") };
        World::of([floating(), overrules]).check(&[&STAGE], expect![[r#"
            RouterUndo 100 ip,reg15=0x2,nw_src=10.0.0.1 => ct(table=38,zone=11,nat)
            RouterSource 171 ct_state=-rpl,ip,reg15=0x2,nw_src=10.0.0.1 => ct(commit,zone=12,nat(src=172.16.0.50)),resubmit(,39)
            RouterSource 317 ct_state=-rpl,tcp,reg15=0x2,nw_src=10.0.0.0/24,tp_dst=80 => ct(commit,zone=12,nat(src=172.16.0.9)),resubmit(,39)
        "#]]);
        let limited = Nat { exempted_ext_ips: Some(peers()), ..floating() };
        World::of([limited]).check(&[&STAGE], expect![[r#"
            RouterUndo 100 ip,reg15=0x2,nw_src=10.0.0.1 => ct(table=38,zone=11,nat)
            RouterSource 171 ct_state=-rpl,ip,reg15=0x2,nw_src=10.0.0.1 => ct(commit,zone=12,nat(src=172.16.0.50)),resubmit(,39)
            RouterSource 173 ip,reg15=0x2,nw_src=10.0.0.1,nw_dst=198.51.100.7 => resubmit(,39)
        "#]]);
        let limited = Nat { allowed_ext_ips: Some(peers()), r#match: "udp".into(), ..floating() };
        World::of([limited]).check(&[&STAGE], expect![[r#"
            RouterUndo 100 ip,reg15=0x2,nw_src=10.0.0.1 => ct(table=38,zone=11,nat)
            RouterSource 310 ct_state=-rpl,udp,reg15=0x2,nw_src=10.0.0.1,nw_dst=198.51.100.7 => ct(commit,zone=12,nat(src=172.16.0.50)),resubmit(,39)
        "#]]);
    }

    #[test]
    fn destinations_alone() {
        let world = World::of([
            rule("dnat", "172.16.0.60", "10.0.0.1"),
            Nat { external_port_range: "1000-2000".into(), ..rule("snat", "172.16.0.1", "10.0.0.0/24") },
        ]);
        world.check(&[&STAGE], expect![[r#"
            RouterUndo 100 ip,reg15=0x2,nw_src=10.0.0.1 => ct(table=38,zone=11,nat)
            RouterSource 163 ct_state=-rpl,ip,reg15=0x2,nw_src=10.0.0.0/24 => ct(commit,zone=12,nat(src=172.16.0.1:1000-2000,random)),resubmit(,39)
        "#]]);
        World { pinned: true, options: &[("dnat_force_snat_ip", "172.16.0.7")], ..world.clone() }
            .check(&[&STAGE, &FORCED], expect![[r#"
                RouterTrack 1020 ip,nw_dst=172.16.0.7 => ct(table=22,zone=12,nat)
                RouterUndo 100 ip,nw_src=10.0.0.1 => ct_clear,ct(table=38,zone=11,nat)
                RouterUndo 120 ct_state=+rpl+trk,ip,nw_src=10.0.0.1 => ct_clear,ct(table=39,zone=11,nat)
                RouterUndo 125 ct_state=-rpl+trk+dnat,ip,nw_src=10.0.0.1 => resubmit(,38)
                RouterSource 1 ct_state=-rpl,ip,nw_dst=10.0.0.0/24 => ct(commit,zone=12),resubmit(,39)
                RouterSource 35 ct_state=-rpl,ip,nw_src=10.0.0.0/24 => ct(commit,table=39,zone=12,nat(src=172.16.0.1:1000-2000,random))
                RouterSource 110 ct_state=-rpl,ip,reg10=0x20/0x20 => ct(commit,table=39,zone=12,nat(src=172.16.0.7))
            "#]]);
        World { common_zone: true, ..world }.check(&[&STAGE], expect![[r#"
            RouterUndo 100 ip,reg15=0x2,nw_src=10.0.0.1 => ct(table=38,zone=11,nat)
            RouterSource 163 ct_state=-rpl,ip,reg15=0x2,nw_src=10.0.0.0/24 => ct(commit,zone=11,nat(src=172.16.0.1:1000-2000,random)),resubmit(,39)
        "#]]);
    }

    #[test]
    fn the_gateway_port_of_a_rule() {
        let second = |rules: Vec<Nat>| World { second: true, ..World::of(rules) };
        // By the network of the outer address, or as said.
        second(vec![
            rule("snat", "172.16.0.9", "10.0.0.0/24"),
            rule("snat", "192.0.2.9", "10.0.1.0/24"),
            Nat { gateway_port: Some(gateway_port(4)), ..rule("snat", "172.16.0.9", "10.0.2.0/24") },
        ])
        .check(&[&STAGE], expect![[r#"
            RouterSource 163 ct_state=-rpl,ip,reg15=0x2,nw_src=10.0.0.0/24 => ct(commit,zone=12,nat(src=172.16.0.9)),resubmit(,39)
            RouterSource 163 ct_state=-rpl,ip,reg15=0x4,nw_src=10.0.1.0/24 => ct(commit,table=39,zone=12,nat(src=192.0.2.9))
            RouterSource 163 ct_state=-rpl,ip,reg15=0x4,nw_src=10.0.2.0/24 => ct(commit,table=39,zone=12,nat(src=172.16.0.9))
        "#]]);
        // None has it, or what is said is no gateway port.
        second(vec![
            rule("snat", "198.51.100.9", "10.0.0.0/24"),
            Nat { gateway_port: Some(gateway_port(1)), ..rule("snat", "172.16.0.9", "10.0.2.0/24") },
        ])
        .check(&[&STAGE], expect![""]);
    }

    #[test]
    fn what_is_no_rule() {
        let both = Nat {
            allowed_ext_ips: Some(peers()),
            exempted_ext_ips: Some(peers()),
            ..rule("snat", "172.16.0.1", "10.0.0.1")
        };
        World::of([
            both,
            rule("snat", "172.16.0.1", "10.0.0.1/24"),
            rule("snat", "172.16.0.1", "fd00::/64"),
            rule("snat", "nonsense", "10.0.0.0/24"),
            rule("dnat", "172.16.0.1", "10.0.0.0/24"),
            rule("other", "172.16.0.1", "10.0.0.1"),
            Nat { external_mac: Some("nonsense".into()), ..distributed("172.16.0.1", "10.0.0.1") },
            Nat { external_port_range: "5-4".into(), ..rule("snat", "172.16.0.1", "10.0.0.0/24") },
        ])
        .check(&[&STAGE], expect![""]);
    }
}
