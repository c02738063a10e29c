//! What becomes of a packet, given what a rule says and the state of its connection.
//!
//! # Contract
//! - `filter_verdict`: owner the hypervisor, while it has any filter. Reads: the defaults (`NB_Global.options:default_acl_drop`,
//!   `use_ct_inv_match`). In: `VERDICT`, the state. Out: on to the next table, with the connection committed where it begins;
//!   or dropped, with the connection marked as forbidden.
//! - `filter_tiers`: owner one filtered switch. What only switches with tiers, with rules behind load balancing, or with QoS or
//!   mirrors need.
//!
//! # Invariants
//! - Switches without connection tracking are told apart by `STATELESS`, which their ports have set: the flows here are
//!   the same few, however many switches there are.
//! - Replies and what is related to an allowed connection pass before rules are asked, unless the connection was forbidden.
//! - What no rule decides passes, and its connection is committed, unless the default is to drop.
//! - A connection is committed when the last round of its side has passed it, and again where a rule wants it written anew.

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
    stage::{
        Stage,
        qos::{self, Direction},
    },
    table::Table,
    view::View,
};

pub(in crate::compile) const STAGE: Stage = Stage {
    number: 47,
    name: "filter_verdict",
    owners: Owners::Facts(Relation::AnyFiltered),
    tables: TABLES,
    relations: &[],
    emit,
};

pub(in crate::compile) const TIERS: Stage = Stage {
    number: 107,
    name: "filter_tiers",
    owners: Owners::Facts(Relation::Filtered),
    tables: TABLES,
    relations: &[],
    emit: of_switch,
};

const TABLES: &[Table] = &[
    Table::FromPolicy,
    Table::FromVerdict,
    Table::AfterPolicy,
    Table::AfterVerdict,
    Table::ToPolicy,
    Table::ToVerdict,
];

fn emit(view: &View<'_>, _: Owner, out: &mut Sink) {
    for round in Round::ALL {
        out.flow(round.policy(), 0, Match::new(), [go(round.verdict())]);
        states(view, round, out);
        let onward = match round {
            Round::From | Round::After => vec![go(Table::Steer)],
            Round::To => vec![go(Table::AdmitOut)],
        };
        let passes = Passes { round, on: Match::new(), raised: 0, deferred: false, onward };
        passes.flows(dropped_by_default(view), out);
        passes.refusals(out);
    }
}

fn of_switch(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(switch) = owner.fact().map(|fact| fact.of) else { return };
    let Some(key) = logical::switch_key(view, switch) else { return };
    for round in Round::ALL {
        tiers(view, switch, round, key, out);
    }
    let mut own_way = |round, deferred, onward| {
        let passes = Passes { round, on: on_switch(key), raised: RAISED, deferred, onward };
        passes.flows(dropped_by_default(view), out);
    };
    let deferred = view.holds(Relation::FilteredAfter, switch);
    if qos::shapes(view, switch, Direction::From) {
        own_way(Round::From, deferred, vec![go(Table::ShapeFrom)]);
    } else if deferred {
        own_way(Round::From, true, beyond(view, switch));
    }
    if let Some(next) = logical::filtered(view, switch) {
        own_way(Round::To, false, vec![go(next)]);
    }
}

/// On behind the first rules of what ports send, and behind QoS.
pub(in crate::compile) fn beyond(view: &View<'_>, switch: Uuid) -> Vec<Action> {
    if view.holds(Relation::FilteredAfter, switch) {
        vec![Action::load(register::VERDICT, 0), Action::load(register::TIER, 0), go(Table::AfterPolicy)]
    } else {
        vec![go(Table::Steer)]
    }
}

/// What the state decides before any rule, on switches that track.
fn states(view: &View<'_>, round: Round, out: &mut Sink) {
    let mut says = |matches: Match, verdict: Verdict| {
        let actions = [super::says(verdict), go(round.verdict())];
        out.flow(round.policy(), PRIORITY_STATE, matches, actions);
    };
    let on = || Match::new().with_bits(register::STATELESS, 0u8);
    if invalid_matters(view) {
        says(on().ct_state(CtState::TRK | CtState::INV, CtState::NONE), Verdict::Drop);
    }
    let forbidden = on().ct_state(CtState::TRK | CtState::EST | CtState::RPL, CtState::NONE);
    says(forbidden.with_bits(register::MARK_BLOCKED, 1u8), Verdict::Drop);
    answers(view).into_iter().for_each(|answer| says(answer, Verdict::Settled));
    says(persistent(), Verdict::Settled);
    for kind in super::track::UNTRACKED_ICMPV6 {
        let matches = on().ipv6().ip_proto(super::track::ICMPV6).with(field::ICMPV6_TYPE, kind);
        says(matches, Verdict::Settled);
    }
}

/// Requests of what passes whatever rules say now.
pub(super) fn persistent() -> Match {
    let requests = CtState::TRK | CtState::EST;
    let on = Match::new().with_bits(register::STATELESS, 0u8).ct_state(requests, CtState::RPL);
    on.with_bits(register::MARK_ALLOW_ESTABLISHED, 1u8)
}

/// Replies to what passed before, and what is related to it, unless it was forbidden meanwhile.
pub(super) fn answers(view: &View<'_>) -> [Match; 2] {
    let inv = if invalid_matters(view) { CtState::INV } else { CtState::NONE };
    let allowed = Match::new().with_bits(register::STATELESS, 0u8).with_bits(register::MARK_BLOCKED, 0u8);
    let reply = CtState::TRK | CtState::EST | CtState::RPL;
    let related = CtState::TRK | CtState::REL;
    [
        allowed.clone().ct_state(reply, CtState::REL | CtState::NEW | inv),
        allowed.ct_state(related, CtState::EST | CtState::NEW | inv),
    ]
}

/// Whether packets that fit no connection are dropped (ovn-nb(5), `NB_Global.options:use_ct_inv_match`).
fn invalid_matters(view: &View<'_>) -> bool {
    !global_says(view, "use_ct_inv_match", "false")
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

fn global_says(view: &View<'_>, option: &str, value: &str) -> bool {
    let global = view.find_one::<NbGlobal>(By::NbGlobal, &[]);
    global.is_some_and(|(_, row)| row.options.get(option).is_some_and(|found| &**found == value))
}

/// Whether what no rule decides is dropped, on switches that have any rule.
pub(super) fn dropped_by_default(view: &View<'_>) -> bool {
    global_says(view, "default_acl_drop", "true")
}

/// The verdict table of one round.
struct Passes {
    round: Round,
    /// Whose packets; all others' flows are below by `raised`.
    on: Match,
    raised: u16,
    /// A later round of this side commits.
    deferred: bool,
    onward: Vec<Action>,
}

impl Passes {
    fn decided(&self, verdict: Verdict) -> Match {
        self.on.clone().with_bits(register::VERDICT, verdict as u8)
    }

    fn flows(&self, dropped_by_default: bool, out: &mut Sink) {
        let table = self.round.verdict();
        let kept = self.kept();
        let mut pass = |priority: u16, matches: Match| {
            out.flow(table, priority + self.raised, matches.clone(), self.onward.clone());
            for state in begins(matches.clone()) {
                out.flow(table, priority + 10 + self.raised, state, kept.clone());
            }
            if self.round == Round::After || priority == ALLOWED {
                for waiting in families(matches.with_bits(register::COMMIT, 1u8)) {
                    out.flow(table, priority + 20 + self.raised, waiting, kept.clone());
                }
            }
        };
        pass(ALLOWED, self.decided(Verdict::Allow));
        if dropped_by_default {
            out.flow(table, 100 + self.raised, self.decided(Verdict::None), []);
        } else {
            // Above that only where a later tier is to be asked.
            pass(100, self.decided(Verdict::None));
        }
        out.flow(table, 200 + self.raised, self.decided(Verdict::Settled), self.onward.clone());
    }

    fn refusals(&self, out: &mut Sink) {
        let table = self.round.verdict();
        out.flow(table, 200, self.decided(Verdict::Drop), []);
        for request in established(self.decided(Verdict::Drop)) {
            out.flow(table, 210, request, [forbid()]);
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
            Action::copy(register::KEPT, register::MARK_KEPT),
            Action::copy(register::LABEL, register::CT_LABEL),
        ];
        [vec![Action::Ct(commit)], self.onward.clone()].concat()
    }
}

/// What goes to a port that has no zone: the sender's state decides, and nothing is kept.
pub(super) fn uncommitted(view: &View<'_>, switch: Uuid, to_port: &Match, out: &mut Sink) {
    let mut says = |verdict: Verdict, actions: Vec<Action>| {
        let matches = to_port.clone().with_bits(register::VERDICT, verdict as u8);
        // Below what asks the next tier.
        out.flow(Round::To.verdict(), 300, matches, actions);
    };
    let passes = vec![go(logical::filtered(view, switch).unwrap_or(Table::AdmitOut))];
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

/// Priority of what a rule lets pass.
const ALLOWED: u16 = 200;
/// How far flows of one switch are above those of all.
const RAISED: u16 = 30;

fn forbid() -> Action {
    let mut forbid = Conntrack::zone_from(register::PORT_ZONE).commit();
    forbid.actions = vec![Action::load(register::MARK_BLOCKED, 1)];
    Action::Ct(forbid)
}
