//! One ACL: what it matches gets its verdict, on all switches at once.
//!
//! # Contract
//! - Owner: one ACL. Reads: it, the number of its meter, who refers to it, how many places it has here, how it is sampled.
//! - Out: flows of the round's policy table that load the verdict; for `allow-stateless` also the way around connection
//!   tracking. What a clause shares with others is left to [`super::conjunction`], which is told of it.
//!
//! # Invariants
//! - A match that does not parse, or that the switch can't express, has no flows: the controller has told so.
//! - In few places a clause has a flow for each. Else it is the last dimension of a conjunction, and what the conjunction leads
//!   to: a conjunction is complete exactly where one of its rules says what follows, so that of two which a packet fulfils
//!   either leads to a verdict.
//! - A sampled rule has its last flows for each of its switches and each state of a connection ([`super::sample`]).

use std::{borrow::Cow, collections::BTreeMap};

use ofpacket::{Action, Controller, Match, MeterId, field};
use ovsdb::value::Atom;
use quantumnet_expr::Expr;
use quantumnet_model::{
    Row,
    host::HostSelf,
    nb::{Acl, ChassisTemplateVar},
};
use uuid::Uuid;

use super::{
    PRIORITY_STATE, Round, Verdict,
    conjunction::Number,
    sample::{Case, Sampling, both},
    scope::{Scope, Size},
    shape::{Line, Shape},
};
use crate::compile::{
    index::By,
    logical::{go, on_switch},
    meter,
    owner::{Owner, Owners, Relation},
    punt::{Punt, PuntReason},
    register,
    sink::Sink,
    stage::Stage,
    table::Table,
    view::View,
};

pub(in crate::compile) const STAGE: Stage = Stage {
    number: 44,
    name: "acl",
    owners: Owners::Rows(Acl::TABLE),
    tables: &[Table::FromTrack, Table::FromPolicy, Table::AfterPolicy, Table::ToTrack, Table::ToPolicy],
    relations: &[Relation::Conjunctions, Relation::Numbered, Relation::Joined],
    emit,
};

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let uuid = owner.row();
    let Some(acl) = view.row::<Acl>(uuid) else { return };
    let scope = Scope::of(view, uuid);
    let Some(policy) = Line::policy(acl).filter(|_| scope.is_here(view)) else { return };
    let Some(shapes) = shapes(view, acl) else { return };
    let meter = if acl.log { log_meter(view, uuid, acl, out) } else { None };
    let sampling = Sampling::of(view, acl);
    let record = acl.log.then(|| record(uuid, meter));
    let related = record.as_ref().zip(related_label(acl));
    if let Some((record, label)) = related {
        answers(view, &scope, policy.round, label, record, out);
    }
    if let Some(sampling) = &sampling {
        sampling.answers(view, acl, &scope, policy.round, related.map(|(record, _)| record), out);
    }
    let kept_point = sampling.as_ref().and_then(Sampling::kept_point);
    let says = Says {
        actions: verdict(acl, policy.round, record.as_ref(), kept_point),
        cases: sampling.map(|sampling| {
            let verdict = Verdict::of(&acl.action);
            let cases = |(switch, tracks)| (switch, sampling.cases(policy.round, switch, tracks, verdict));
            scope.tracked(view).into_iter().map(cases).collect()
        }),
    };
    let rule = Rule { uuid, scope: &scope };
    shapes.iter().for_each(|shape| rule.put(view, out, policy, shape, &says));
    if let Some(around) = Line::around(acl).filter(|_| view.holds(Relation::AnyStateful, Uuid::nil())) {
        let first = if policy.round == Round::To { Round::To } else { Round::From };
        let mut entry = super::track::entry(first, true);
        if first == Round::To {
            // The sender's connection is not this rule's: it would be forbidden with what another rule denies here.
            entry.insert(0, Action::CtClear);
        }
        let entry = Says { actions: entry, cases: None };
        shapes.iter().for_each(|shape| rule.put(view, out, around, shape, &entry));
    }
}

/// What is done to the packets of a rule.
struct Says {
    actions: Vec<Action>,
    /// By key of the switch, where something is sampled.
    cases: Option<BTreeMap<u32, Vec<Case>>>,
}

impl Says {
    /// Wants flows for what is in a place of a switch.
    fn at(&self, out: &mut Sink, line: Line, switch: u32, matches: &Match) {
        match &self.cases {
            None => out.flow(line.table, line.priority, matches.clone(), self.actions.as_slice()),
            Some(cases) => {
                let cases = cases.get(&switch).into_iter().flatten();
                cases.for_each(|case| self.of_case(out, line, matches, case));
            }
        }
    }

    /// Wants flows for what is on any switch of the rule, which is known of the packet already.
    fn everywhere(&self, out: &mut Sink, line: Line, matches: &Match) {
        match &self.cases {
            None => out.flow(line.table, line.priority, matches.clone(), self.actions.as_slice()),
            Some(cases) => {
                for (switch, cases) in cases {
                    let there = matches.clone().metadata((*switch).into());
                    cases.iter().for_each(|case| self.of_case(out, line, &there, case));
                }
            }
        }
    }

    fn of_case(&self, out: &mut Sink, line: Line, matches: &Match, case: &Case) {
        // The rule may ask for the state itself.
        if let Some(matches) = both(matches, &case.when) {
            out.flow(line.table, line.priority, matches, [&case.before[..], &self.actions].concat());
        }
    }
}

/// The clauses of an ACL that may be true here; `None` if its match is none, or has a variable without a value here.
pub(super) fn shapes(view: &View<'_>, acl: &Acl) -> Option<Vec<Shape>> {
    let mut expr = Expr::parse(&acl.r#match).ok()?;
    if acl.r#match.contains('^') {
        let own = view.find_one::<HostSelf>(By::HostSelf, &[])?.1;
        let variables =
            view.find_one::<ChassisTemplateVar>(By::TemplateChassis, &[Atom::String(own.chassis.clone())]);
        let value = |name: &str| Some(Cow::Borrowed(&**variables?.1.variables.get(name)?));
        expr = expr.expand_templates(value).ok()?;
    }
    let clauses = expr.normalize().ok()?;
    Some(clauses.iter().filter_map(|clause| Shape::of(view, clause)).collect())
}

/// An ACL and where it applies.
struct Rule<'a> {
    uuid: Uuid,
    scope: &'a Scope,
}

impl Rule<'_> {
    fn put(&self, view: &View<'_>, out: &mut Sink, line: Line, shape: &Shape, says: &Says) {
        let ports = shape.ports.first();
        let size = self.scope.size(view, line.round, ports);
        if size == Size::None || shape.rest().is_empty() {
            return;
        }
        if size == Size::Few || shape.dimensions() < 2 {
            let places = self.scope.places_of(view, line, ports);
            if let Some(listed) = shape.listed(places.len()) {
                for place in places {
                    let base = line.of_tier(place.matches());
                    for matches in &listed {
                        says.at(out, line, place.switch(), &joined(&base, matches));
                    }
                }
                return;
            }
        }
        let signature = line.signature(self.scope, shape);
        for referrer in self.scope.referrers().take(1) {
            out.fact(Relation::Conjunctions, referrer, 0, signature);
        }
        out.fact(Relation::Numbered, Uuid::nil(), 0, signature);
        out.fact(Relation::Joined, signature, 0, self.uuid);
        let Some(number) = Number::of(view, signature) else { return };
        let complete = |matches: Match| matches.with(field::CONJ_ID, number.id);
        if !shape.rest {
            says.everywhere(out, line, &complete(Match::new()));
            return;
        }
        let Some(last) = shape.positions().pop() else { return };
        for matches in shape.rest() {
            number.term(out, line, matches.clone(), last);
            says.everywhere(out, line, &complete(matches));
        }
    }
}

/// All conditions of two matches that have no field in common.
fn joined(place: &Match, matches: &Match) -> Match {
    matches.iter().fold(place.clone(), |both, entry| both.with_bytes(entry.field, entry.value, entry.mask))
}

/// Wants the meter of an ACL's records: the one that it names, else its own with the agent's rate.
fn log_meter(view: &View<'_>, uuid: Uuid, acl: &Acl, out: &mut Sink) -> Option<u32> {
    if let Some(number) = acl.meter.as_ref().and_then(|name| meter::named(view, name, uuid, out)) {
        return Some(number);
    }
    let own = meter::number(view, uuid)?;
    out.meter(own, PuntReason::AclLog.rate());
    Some(own)
}

/// What is done to a packet that the rule is about. A connection that is let pass keeps the point of its samples, or the label.
fn verdict(acl: &Acl, round: Round, record: Option<&Action>, kept_point: Option<u32>) -> Vec<Action> {
    let mut actions: Vec<Action> = record.into_iter().cloned().collect();
    let verdict = Verdict::of(&acl.action);
    if verdict != Verdict::None {
        actions.push(super::says(verdict));
    }
    if verdict == Verdict::Allow {
        if super::persists(acl) {
            actions.push(Action::load(register::PERSIST, 1));
        }
        if kept_point.is_some() {
            actions.push(Action::load(register::SAMPLED, 1));
        }
        let label = kept_point.map(u64::from).or_else(|| u64::try_from(acl.label).ok());
        if let Some(label @ 1..) = label {
            actions.push(Action::load(register::LABEL, label));
            if round == Round::After && kept_point.is_none() {
                // It may replace the point of a rule before.
                actions.push(Action::load(register::SAMPLED, 0));
            }
        }
    }
    actions.push(go(round.verdict()));
    actions
}

fn record(uuid: Uuid, meter: Option<u32>) -> Action {
    let punt = Punt { reason: PuntReason::AclLog, row: uuid };
    Action::Controller2(Controller {
        userdata: Some(Box::new(punt.encode())),
        max_len: LOGGED_OCTETS,
        meter: meter.map(MeterId),
        ..Controller::default()
    })
}

/// The label by which replies to what the ACL let pass are known, if they are to be logged too (ovn-nb(5), `log-related`).
fn related_label(acl: &Acl) -> Option<u32> {
    let wanted = acl.options.get("log-related").is_some_and(|value| &**value == "true");
    u32::try_from(acl.label).ok().filter(|label| wanted && acl.log && *label > 0)
}

/// Records of replies and of what is related, in the other direction.
fn answers(view: &View<'_>, scope: &Scope, round: Round, label: u32, record: &Action, out: &mut Sink) {
    let back = if round == Round::To { Round::From } else { Round::To };
    for switch in scope.tracking(view) {
        for state in super::verdict::answers(view) {
            let matches = on_switch(switch).with_bits(register::CT_LABEL, label);
            let matches =
                state.iter().fold(matches, |all, entry| all.with_bytes(entry.field, entry.value, entry.mask));
            let says = [record.clone(), super::says(Verdict::Settled), go(back.verdict())];
            out.flow(back.policy(), PRIORITY_STATE + 1, matches, says);
        }
    }
}

/// Octets of a packet that a log record is made of: all headers.
const LOGGED_OCTETS: u16 = 128;
