//! One ACL on one switch: what it matches gets its verdict.
//!
//! # Contract
//! - Owner: one ACL that applies to one switch. Reads: it, its numbers, the sets and groups that its match names, whether
//!   the switch has tiers and is stateful.
//! - Out: flows of the round's policy table that load the verdict; for `allow-stateless` also the way around connection
//!   tracking.
//!
//! # Invariants
//! - A match that does not parse, or that the switch can't express, has no flows: the controller has told so.
//! - The match is what it is on every hypervisor; only who is in sets, groups and where differs.

use ofpacket::{Action, Controller, Match, MeterId, field};
use quantumnet_expr::Expr;
use quantumnet_model::{host::HostAcl, nb::Acl};

use super::{
    PRIORITY_ACL, Round, Verdict,
    expression::{Part, Place, parts},
};
use crate::compile::{
    logical::{self, go, on_switch},
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
    owners: Owners::Facts(Relation::Acls),
    tables: &[Table::FromTrack, Table::FromPolicy, Table::AfterPolicy, Table::ToTrack, Table::ToPolicy],
    relations: &[],
    emit,
};

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(fact) = owner.fact() else { return };
    let (switch, Some(acl)) = (fact.of, view.row::<Acl>(fact.value)) else { return };
    let Some(key) = logical::switch_key(view, switch) else { return };
    let Some(clauses) = Expr::parse(&acl.r#match).ok().and_then(|expr| expr.normalize().ok()) else { return };
    let Some(priority) = u16::try_from(acl.priority).ok().map(|own| own.saturating_add(PRIORITY_ACL)) else {
        return;
    };
    let round = Round::of(acl);
    let numbers = view.row::<HostAcl>(fact.value);
    let conjunction = numbers.and_then(|row| u32::try_from(row.conjunction).ok());
    let meter = numbers.and_then(|row| u32::try_from(row.meter).ok()).filter(|meter| acl.log && *meter > 0);
    if let Some(meter) = meter {
        out.meter(meter, PuntReason::AclLog.rate());
    }
    let place = Place { switch, key };
    let clauses: Vec<Vec<Part>> = clauses.iter().map(|clause| parts(view, place, clause)).collect();

    let tiers = view.related(Relation::FilterTiers, switch, round.part()).next().is_some();
    let of_tier = |matches: Match| match u8::try_from(acl.tier) {
        Ok(tier) if tiers => matches.with_bits(register::TIER, tier),
        _ => matches,
    };
    let says = Flows { table: round.policy(), priority, key, conjunction };
    says.put(out, &clauses, &of_tier, &verdict(fact.value, acl, round, meter));

    let track = match round {
        Round::From | Round::After => Table::FromTrack,
        Round::To => Table::ToTrack,
    };
    if &*acl.action == "allow-stateless" && view.holds(Relation::Stateful, switch) {
        let around = Flows { table: track, priority, key, conjunction };
        let first = if round == Round::To { Round::To } else { Round::From };
        let entry = [super::track::cleared(first), vec![go(first.policy())]].concat();
        around.put(out, &clauses, &|matches| matches, &entry);
    }
}

/// What is done to a packet that the rule is about.
fn verdict(uuid: uuid::Uuid, acl: &Acl, round: Round, meter: Option<u32>) -> Vec<Action> {
    let mut actions = Vec::new();
    if acl.log {
        let punt = Punt { reason: PuntReason::AclLog, row: uuid };
        actions.push(Action::Controller2(Controller {
            userdata: Some(Box::new(punt.encode())),
            max_len: LOGGED_OCTETS,
            meter: meter.map(MeterId),
            ..Controller::default()
        }));
    }
    let verdict = Verdict::of(&acl.action);
    if verdict != Verdict::None {
        actions.push(Action::load(register::VERDICT, verdict as u64));
    }
    if verdict == Verdict::Allow {
        if acl.options.get("persist-established").is_some_and(|value| &**value == "true") {
            actions.push(Action::load(register::PERSIST, 1));
        }
        if let Ok(label @ 1..) = u64::try_from(acl.label) {
            actions.push(Action::load(register::LABEL, label));
        }
    }
    actions.push(go(round.verdict()));
    actions
}

/// Where flows of an expression go.
struct Flows {
    table: Table,
    priority: u16,
    key: u32,
    conjunction: Option<u32>,
}

impl Flows {
    fn put(
        &self,
        out: &mut Sink,
        clauses: &[Vec<Part>],
        narrow: &dyn Fn(Match) -> Match,
        actions: &[Action],
    ) {
        for (clause, parts) in (0u32..).zip(clauses) {
            let conjunction = self.conjunction.filter(|_| clause < CONJUNCTIONS);
            let mut conjunctive = false;
            for part in parts {
                match part {
                    Part::Whole(matches) => {
                        out.flow(self.table, self.priority, narrow(matches.clone()), actions);
                    }
                    Part::Term { matches, dimension, dimensions } => {
                        let Some(base) = conjunction else { continue };
                        conjunctive = true;
                        let term = Action::conjunction(base + clause, *dimension, *dimensions);
                        out.flow(self.table, self.priority, narrow(matches.clone()), [term]);
                    }
                }
            }
            if let Some(base) = conjunction.filter(|_| conjunctive) {
                let all = on_switch(self.key).with(field::CONJ_ID, base + clause);
                out.flow(self.table, self.priority, all, actions);
            }
        }
    }
}

/// Conjunction ids of one ACL; see `Host_ACL.conjunction`.
pub const CONJUNCTIONS: u32 = 256;
/// Octets of a packet that a log record is made of: all headers.
const LOGGED_OCTETS: u16 = 128;
