//! QoS rules of a switch (ovn-nb(5), `QoS`): what is sent gets a DSCP or a mark, and is dropped beyond a rate.
//!
//! # Contract
//! - `qos_scope`: owner one rule. Reads which switches refer to it. States it for each such switch that has a usable port here.
//! - `qos_pass`: owner one direction of a switch with rules. Out: what no rule matches goes on.
//! - `qos`: owner one rule on one switch. Reads: it, its numbers, the sets and groups that its match names. Out: of what it matches
//!   the rule's meter, DSCP and mark, and on.
//! - In: behind the first filters of what ports send, and behind the filters of what they are sent; frames to groups once for
//!   each port. As in OVN's stages `ls_in_qos` and `ls_out_qos`.
//!
//! # Invariants
//! - Traffic of switches without rules does not come here.
//! - Of the rules that match, the one of highest priority applies, whole. One that sets a DSCP is about IP only.
//! - A rule has one meter here, whatever the switches and ports.
//! - A rule with a rate that the switch has no meter for has no flows: the agent tells so. As with OVN, what it is about goes
//!   unlimited; a rate denies nothing.

use ofpacket::{Action, MeterId, field};
use ovsdb::value::Atom;
use quantumnet_expr::Expr;
use quantumnet_model::{Row, nb::Qos};
use uuid::Uuid;

use crate::compile::{
    expression::{self, Part, Place, RuleFlows, parts},
    flow::MeterSpec,
    index::By,
    logical::{self, go, on_switch},
    meter,
    owner::{Owner, Owners, Relation},
    sink::Sink,
    stage::{Stage, filter::verdict},
    table::Table,
    view::View,
};

pub(super) const SCOPE: Stage = Stage {
    number: 80,
    name: "qos_scope",
    owners: Owners::Rows(Qos::TABLE),
    tables: &[],
    relations: &[Relation::QosRules, Relation::Shaped],
    emit: scope,
};

pub(super) const PASS: Stage = Stage {
    number: 81,
    name: "qos_pass",
    owners: Owners::Facts(Relation::Shaped),
    tables: &[Table::FromTrack, Table::ShapeFrom, Table::Shape],
    relations: &[],
    emit: pass,
};

pub(super) const STAGE: Stage = Stage {
    number: 82,
    name: "qos",
    owners: Owners::Facts(Relation::QosRules),
    tables: &[Table::ShapeFrom, Table::Shape],
    relations: &[],
    emit,
};

/// What a rule is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub(in crate::compile) enum Direction {
    /// What ports send.
    From = 0,
    /// What ports are sent.
    To = 1,
}

impl Direction {
    fn of(direction: &str) -> Self {
        if direction == "to-lport" { Self::To } else { Self::From }
    }

    /// Of the part of a fact.
    pub(super) const fn of_part(part: u32) -> Self {
        if part == Self::From as u32 { Self::From } else { Self::To }
    }

    const fn table(self) -> Table {
        match self {
            Self::From => Table::ShapeFrom,
            Self::To => Table::Shape,
        }
    }

    fn onward(self, view: &View<'_>, switch: Uuid) -> Vec<Action> {
        match self {
            Self::From => verdict::beyond(view, switch),
            Self::To => vec![go(Table::AdmitOut)],
        }
    }
}

/// Whether rules of that direction apply to a switch.
pub(in crate::compile) fn shapes(view: &View<'_>, switch: Uuid, direction: Direction) -> bool {
    view.related(Relation::Shaped, switch, direction as u32).next().is_some()
}

fn scope(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let rule = owner.row();
    let Some(row) = view.row::<Qos>(rule) else { return };
    for switch in view.uuids(By::SwitchQos, &[Atom::Uuid(rule)]) {
        if view.holds(Relation::LocalSwitches, switch) {
            out.fact(Relation::QosRules, switch, 0, rule);
            out.fact(Relation::Shaped, switch, Direction::of(&row.direction) as u32, Uuid::nil());
        }
    }
}

fn pass(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(fact) = owner.fact() else { return };
    let Some(key) = logical::switch_key(view, fact.of) else { return };
    let direction = Direction::of_part(fact.part);
    out.flow(direction.table(), 0, on_switch(key), direction.onward(view, fact.of));
    if direction == Direction::From && !view.holds(Relation::Filtered, fact.of) {
        // Neighbour discovery of secured ports comes by there whether there are filters or not.
        out.flow(Table::FromTrack, 1, on_switch(key), [go(Table::ShapeFrom)]);
    }
}

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(fact) = owner.fact() else { return };
    let (switch, Some(rule)) = (fact.of, view.row::<Qos>(fact.value)) else { return };
    let Some(key) = logical::switch_key(view, switch) else { return };
    let Some(clauses) = Expr::parse(&rule.r#match).ok().and_then(|expr| expr.normalize().ok()) else {
        return;
    };
    let direction = Direction::of(&rule.direction);
    let mut actions = Vec::new();
    if let Some(spec) = rate(rule) {
        let Some(number) = meter::number(view, fact.value) else { return };
        out.meter(number, spec);
        actions.push(Action::Meter(MeterId(number)));
    }
    let dscp = rule.action.get("dscp").and_then(|dscp| u8::try_from(*dscp).ok()).filter(|dscp| *dscp < 64);
    actions.extend(dscp.map(|dscp| Action::set_field(field::IP_DSCP, dscp)));
    let mark = rule.action.get("mark").and_then(|mark| u32::try_from(*mark).ok());
    actions.extend(mark.map(|mark| Action::load(field::PKT_MARK.range(0, 32), mark.into())));
    actions.extend(direction.onward(view, switch));

    let place = Place::of_switch(switch, key);
    let clauses: Vec<Vec<Part>> = clauses.iter().map(|clause| parts(view, place, clause)).collect();
    let priority = u16::try_from(rule.priority).unwrap_or(u16::MAX).saturating_add(PRIORITY_PASS + 1);
    let flows = RuleFlows {
        table: direction.table(),
        priority,
        place,
        conjunction: expression::conjunction(view, fact.value),
        ip_only: dscp.is_some(),
    };
    flows.put(out, &clauses, &|matches| matches, &actions);
}

/// The limit that a rule sets.
pub(in crate::compile) fn rate(rule: &Qos) -> Option<MeterSpec> {
    let number = |key: &str| rule.bandwidth.get(key).map(|value| u32::try_from(*value).unwrap_or(u32::MAX));
    number("rate").map(|rate| MeterSpec::kilobits(rate, number("burst").unwrap_or(0)))
}

/// Below all rules, of which the least has priority 0.
const PRIORITY_PASS: u16 = 0;

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use quantumnet_model::{
        Strong,
        column::Text,
        host::{HostMeter, HostRule},
        nb::LogicalSwitch,
    };

    use super::*;
    use crate::compile::{
        RowUpdate,
        testing::{Port, check_with, row, switch},
    };

    fn rule(
        direction: &str,
        matches: &str,
        action: &[(&str, i64)],
        bandwidth: &[(&str, i64)],
    ) -> Vec<RowUpdate> {
        let pairs =
            |pairs: &[(&str, i64)]| pairs.iter().map(|(key, value)| (Text::from(*key), *value)).collect();
        let rule = row(
            1,
            Qos {
                priority: 100,
                direction: direction.into(),
                r#match: matches.into(),
                action: pairs(action),
                bandwidth: pairs(bandwidth),
                ..Qos::default()
            },
        );
        let uuid = rule.1;
        let of_switch = LogicalSwitch {
            qos_rules: std::iter::once(Strong::new(uuid)).collect(),
            ..LogicalSwitch::default()
        };
        vec![
            rule,
            (LogicalSwitch::TABLE, switch(), Some(std::sync::Arc::new(of_switch))),
            (HostRule::TABLE, uuid, Some(std::sync::Arc::new(HostRule { conjunction: 257 }))),
        ]
    }

    fn with_meter(mut rows: Vec<RowUpdate>, number: i64) -> Vec<RowUpdate> {
        let uuid = rows[0].1;
        rows.push((HostMeter::TABLE, uuid, Some(std::sync::Arc::new(HostMeter { number }))));
        rows
    }

    fn one() -> [Port; 1] {
        [Port { number: 1, addresses: &["0a:00:00:00:00:01 10.0.0.1"], ..Port::default() }]
    }

    #[test]
    fn a_dscp_is_for_both_families() {
        let rows = rule("from-lport", "inport == \"p1\"", &[("dscp", 30), ("mark", 7)], &[]);
        check_with(
            &STAGE,
            &one(),
            rows,
            expect![[r#"
            ShapeFrom 101 ip,reg14=0x1,metadata=0x7 => set_field:30->ip_dscp,load:0x7->NXM_NX_PKT_MARK[],resubmit(,12)
            ShapeFrom 101 ipv6,reg14=0x1,metadata=0x7 => set_field:30->ip_dscp,load:0x7->NXM_NX_PKT_MARK[],resubmit(,12)
        "#]],
        );
        let rows = rule("to-lport", "outport == \"p1\" && arp", &[("dscp", 30)], &[]);
        check_with(&STAGE, &one(), rows, expect![[""]]);
    }

    #[test]
    fn a_rate_is_a_meter() {
        let rows = rule("to-lport", "1", &[], &[("rate", 1_000), ("burst", 100)]);
        check_with(
            &STAGE,
            &one(),
            with_meter(rows, 900),
            expect![[r#"
            Shape 101 metadata=0x7 => meter:900,resubmit(,44)
        "#]],
        );
        let rows = rule("to-lport", "1", &[("mark", 1)], &[("rate", 1_000)]);
        check_with(&STAGE, &one(), rows, expect![[""]]);
    }

    #[test]
    fn a_conjunctive_match_that_sets_a_dscp() {
        let rows = rule(
            "from-lport",
            "ip4.src == {10.0.0.1, 10.0.0.2} && tcp.dst == {80, 443}",
            &[("dscp", 1)],
            &[],
        );
        check_with(
            &STAGE,
            &one(),
            rows,
            expect![[r#"
            ShapeFrom 101 conj_id=257,ip,metadata=0x7 => set_field:1->ip_dscp,resubmit(,12)
            ShapeFrom 101 conj_id=257,ipv6,metadata=0x7 => set_field:1->ip_dscp,resubmit(,12)
            ShapeFrom 101 tcp,metadata=0x7,tp_dst=80 => conjunction(257,2/2)
            ShapeFrom 101 tcp,metadata=0x7,tp_dst=443 => conjunction(257,2/2)
            ShapeFrom 101 tcp,metadata=0x7,nw_src=10.0.0.1 => conjunction(257,1/2)
            ShapeFrom 101 tcp,metadata=0x7,nw_src=10.0.0.2 => conjunction(257,1/2)
        "#]],
        );
    }

    #[test]
    fn what_no_rule_matches_goes_on() {
        check_with(
            &PASS,
            &one(),
            rule("from-lport", "1", &[], &[]),
            expect![[r#"
            FromTrack 1 metadata=0x7 => resubmit(,46)
            ShapeFrom 0 metadata=0x7 => resubmit(,12)
        "#]],
        );
        check_with(
            &PASS,
            &one(),
            rule("to-lport", "1", &[], &[]),
            expect![[r#"
            Shape 0 metadata=0x7 => resubmit(,44)
        "#]],
        );
    }
}
