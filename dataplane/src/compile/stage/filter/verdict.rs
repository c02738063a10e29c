//! What becomes of a packet, given what a rule says and the state of its connection.
//!
//! # Contract
//! - Owner: one filtered switch. Reads: what it needs, the default (`NB_Global.options:default_acl_drop`). In: `VERDICT`, `TIER`,
//!   the state. Out: on to the next table, with the connection committed where it begins; or dropped, with the
//!   connection marked as forbidden.
//!
//! # Invariants
//! - Replies and what is related to an allowed connection pass before rules are asked, unless the connection was forbidden.
//! - What no rule decides passes, and its connection is committed, unless the default is to drop.
//! - A connection is committed when the last round of its side has passed it.

use ofpacket::{Action, Conntrack, CtState, Match, field};
use quantumnet_model::nb::NbGlobal;
use uuid::Uuid;

use super::{PRIORITY_STATE, Round, Verdict};
use crate::compile::{
    index::By,
    logical::{self, go, on_switch},
    owner::{Owner, Owners, Relation},
    register,
    sink::Sink,
    stage::Stage,
    table::Table,
    view::View,
};

pub(in crate::compile) const STAGE: Stage = Stage {
    number: 47,
    name: "filter_verdict",
    owners: Owners::Facts(Relation::Filtered),
    tables: &[
        Table::FromPolicy,
        Table::FromVerdict,
        Table::AfterPolicy,
        Table::AfterVerdict,
        Table::ToPolicy,
        Table::ToVerdict,
    ],
    relations: &[],
    emit,
};

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(switch) = owner.fact().map(|fact| fact.of) else { return };
    let Some(key) = logical::switch_key(view, switch) else { return };
    let stateful = view.holds(Relation::Stateful, switch);
    let after = view.holds(Relation::FilteredAfter, switch);
    for round in Round::ALL {
        if round == Round::After && !after {
            continue;
        }
        let to_verdict = go(round.verdict());
        out.flow(round.policy(), 0, on_switch(key), [to_verdict]);
        if stateful {
            states(round, key, out);
        }
        tiers(view, switch, round, key, out);
        let onward = match round {
            Round::From if after => vec![
                Action::load(register::VERDICT, 0),
                Action::load(register::TIER, 0),
                go(Table::AfterPolicy),
            ],
            Round::From | Round::After => vec![go(Table::Steer)],
            Round::To => vec![go(Table::AdmitOut)],
        };
        let passes = Passes { round, key, stateful, deferred: round == Round::From && after, onward };
        passes.flows(dropped_by_default(view), out);
    }
}

/// What the state decides before any rule.
fn states(round: Round, key: u32, out: &mut Sink) {
    let mut says = |matches: Match, verdict: Verdict| {
        let actions = [Action::load(register::VERDICT, verdict as u64), go(round.verdict())];
        out.flow(round.policy(), PRIORITY_STATE, matches, actions);
    };
    let on = || on_switch(key);
    let blocked = |matches: Match, bit: u8| matches.with_bits(register::MARK_BLOCKED, bit);
    let (new, est, rel, rpl, inv, trk) =
        (CtState::NEW, CtState::EST, CtState::REL, CtState::RPL, CtState::INV, CtState::TRK);
    says(on().ct_state(trk | inv, CtState::NONE), Verdict::Drop);
    says(blocked(on().ct_state(trk | est | rpl, CtState::NONE), 1), Verdict::Drop);
    says(blocked(on().ct_state(trk | est | rpl, rel | new | inv), 0), Verdict::Settled);
    says(blocked(on().ct_state(trk | rel, est | new | inv), 0), Verdict::Settled);
    let persistent = on().ct_state(trk | est, rpl).with_bits(register::MARK_ALLOW_ESTABLISHED, 1u8);
    says(persistent, Verdict::Settled);
    for kind in super::track::UNTRACKED_ICMPV6 {
        let matches = on().ipv6().ip_proto(super::track::ICMPV6).with(field::ICMPV6_TYPE, kind);
        says(matches, Verdict::Settled);
    }
}

/// Asks the next tier where one has said nothing.
fn tiers(view: &View<'_>, switch: Uuid, round: Round, key: u32, out: &mut Sink) {
    let last = view.related(Relation::FilterTiers, switch, round.part()).map(|tier| tier.as_u128()).max();
    let last = last.and_then(|tier| u8::try_from(tier).ok()).unwrap_or(0);
    for tier in 0..last {
        let undecided = on_switch(key).with_bits(register::VERDICT, 0u8).with_bits(register::TIER, tier);
        let next = [Action::load(register::TIER, u64::from(tier) + 1), go(round.policy())];
        out.flow(round.verdict(), 500, undecided, next);
    }
}

/// Whether what no rule decides is dropped, on switches that have any rule.
fn dropped_by_default(view: &View<'_>) -> bool {
    let global = view.find_one::<NbGlobal>(By::NbGlobal, &[]);
    global.is_some_and(|(_, row)| row.options.get("default_acl_drop").is_some_and(|value| &**value == "true"))
}

/// The verdict table of one round.
struct Passes {
    round: Round,
    key: u32,
    stateful: bool,
    /// A later round of this side commits.
    deferred: bool,
    onward: Vec<Action>,
}

impl Passes {
    fn flows(&self, dropped_by_default: bool, out: &mut Sink) {
        let table = self.round.verdict();
        let decided = |verdict: Verdict| on_switch(self.key).with_bits(register::VERDICT, verdict as u8);
        let kept = self.kept();
        let mut pass = |priority: u16, matches: Match| {
            out.flow(table, priority, matches.clone(), self.onward.clone());
            if !self.stateful {
                return;
            }
            for state in begins(matches.clone()) {
                out.flow(table, priority + 10, state, kept.clone());
            }
            if self.round == Round::After {
                for waiting in families(matches.with_bits(register::COMMIT, 1u8)) {
                    out.flow(table, priority + 20, waiting, kept.clone());
                }
            }
        };
        pass(200, decided(Verdict::Allow));
        if dropped_by_default {
            out.flow(table, 100, decided(Verdict::None), []);
        } else {
            // Above that only where a later tier is to be asked.
            pass(100, decided(Verdict::None));
        }
        out.flow(table, 200, decided(Verdict::Settled), self.onward.clone());
        out.flow(table, 200, decided(Verdict::Drop), []);
        if self.stateful {
            for request in established(decided(Verdict::Drop)) {
                out.flow(table, 210, request, [forbid()]);
            }
        }
    }

    /// On, with the connection kept.
    fn kept(&self) -> Vec<Action> {
        if self.deferred {
            return [vec![Action::load(register::COMMIT, 1)], self.onward.clone()].concat();
        }
        let mut commit = Conntrack::zone_from(register::PORT_ZONE).commit();
        commit.actions = vec![
            Action::load(register::MARK_BLOCKED, 0),
            Action::copy(register::PERSIST, register::MARK_ALLOW_ESTABLISHED),
            Action::copy(register::LABEL, register::CT_LABEL),
        ];
        [vec![Action::Ct(commit)], self.onward.clone()].concat()
    }
}

/// What goes to a port that has no zone: the sender's state decides, and nothing is kept.
pub(super) fn uncommitted(view: &View<'_>, to_port: &Match, out: &mut Sink) {
    let mut says = |verdict: Verdict, actions: Vec<Action>| {
        let matches = to_port.clone().with_bits(register::VERDICT, verdict as u8);
        // Below what asks the next tier.
        out.flow(Round::To.verdict(), 300, matches, actions);
    };
    let passes = vec![go(Table::AdmitOut)];
    says(Verdict::None, if dropped_by_default(view) { Vec::new() } else { passes.clone() });
    says(Verdict::Allow, passes);
    says(Verdict::Drop, Vec::new());
}

/// What a rule rejects: told, and its connection forbidden.
pub(super) fn rejected(
    view: &View<'_>,
    switch: Uuid,
    round: Round,
    of_port: &Match,
    tell: &Action,
    out: &mut Sink,
) {
    let matches = of_port.clone().with_bits(register::VERDICT, Verdict::Reject as u8);
    out.flow(round.verdict(), 200, matches.clone(), [tell.clone()]);
    if view.holds(Relation::Stateful, switch) {
        for request in established(matches) {
            out.flow(round.verdict(), 210, request, [forbid(), tell.clone()]);
        }
    }
}

/// Packets with which a connection begins, or begins again after it was forbidden.
fn begins(matches: Match) -> [Match; 4] {
    let [v4, v6] = families(matches);
    let new = |matches: Match| matches.ct_state(CtState::TRK | CtState::NEW, CtState::EST);
    let again = |matches: Match| {
        let matches = matches.ct_state(CtState::TRK | CtState::EST, CtState::NEW | CtState::RPL);
        matches.with_bits(register::MARK_BLOCKED, 1u8)
    };
    [new(v4.clone()), again(v4), new(v6.clone()), again(v6)]
}

/// Requests of a connection that is not forbidden yet.
fn established(matches: Match) -> [Match; 2] {
    let matches = matches.ct_state(CtState::TRK | CtState::EST, CtState::NONE);
    families(matches.with_bits(register::MARK_BLOCKED, 0u8))
}

/// Open vSwitch takes `ct` with a match on either of the two only.
fn families(matches: Match) -> [Match; 2] {
    [matches.clone().ipv4(), matches.ipv6()]
}

fn forbid() -> Action {
    let mut forbid = Conntrack::zone_from(register::PORT_ZONE).commit();
    forbid.actions = vec![Action::load(register::MARK_BLOCKED, 1)];
    Action::Ct(forbid)
}
