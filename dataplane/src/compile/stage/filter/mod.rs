//! ACLs (ovn-nb(5), `ACL`; ovn-architecture(7)): what passes, in three rounds of a tracking, a policy and a verdict table.
//!
//! # Contract
//! - [`scope`]: where an ACL applies, and what the switches need for it.
//! - [`track`]: the sender's or receiver's zone is looked up before rules are asked, where the switch is stateful.
//! - [`rule`]: one ACL: of what it matches it says what is to become, in `VERDICT`. It is compiled once, however many switches
//!   it applies to; [`shape`] says what it may share with others, [`conjunction`] and [`set`] are what is shared.
//! - [`sample`]: what of an ACL's packets collectors are told.
//! - [`verdict`]: what does become of it, given the connection's state: pass, commit, forbid, reject, ask the next tier.
//!
//! # Invariants
//! - A rule says the same of every packet it matches, whatever its connection; the state is asked before all rules (replies,
//!   invalid packets) and after them (new, established, forbidden). So a rule needs its match once.
//! - Connections are tracked per port, as in OVN: what passed the sender's rules and not the receiver's is known to one
//!   of them only.
//! - Requests of established connections are asked about again, each of them; a rule that goes cuts what it allowed.
//! - Nothing passes a table of a stateful switch while the port has no zone yet.

pub(in crate::compile::stage) mod conjunction;
pub(in crate::compile) mod expression;
pub(super) mod rule;
mod sample;
pub(super) mod scope;
pub(super) mod set;
pub(super) mod shape;
pub(super) mod track;
pub(super) mod verdict;

pub use conjunction::LONGEST;

use ofpacket::{Action, CtState, Match, field};
use quantumnet_expr::Field;
use quantumnet_model::nb::Acl;

use crate::compile::{register, table::Table};

/// When rules are asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Round {
    /// Of what a port sends.
    From,
    /// Of what a port sends, with a backend's address (`apply-after-lb`).
    After,
    /// Of what a port is sent.
    To,
}

impl Round {
    pub(super) const ALL: [Self; 3] = [Self::From, Self::After, Self::To];

    /// The round of an ACL.
    pub(super) fn of(acl: &Acl) -> Self {
        let after = acl.options.get("apply-after-lb").is_some_and(|value| &**value == "true");
        match (&*acl.direction, after) {
            ("to-lport", _) => Self::To,
            (_, true) => Self::After,
            (_, false) => Self::From,
        }
    }

    /// As the part of a fact.
    pub(super) const fn part(self) -> u32 {
        self as u32
    }

    /// The port whose rules they are.
    pub(super) const fn own(self) -> Field {
        match self {
            Self::From | Self::After => Field::Inport,
            Self::To => Field::Outport,
        }
    }

    pub(super) const fn policy(self) -> Table {
        match self {
            Self::From => Table::FromPolicy,
            Self::After => Table::AfterPolicy,
            Self::To => Table::ToPolicy,
        }
    }

    pub(super) const fn verdict(self) -> Table {
        match self {
            Self::From => Table::FromVerdict,
            Self::After => Table::AfterVerdict,
            Self::To => Table::ToVerdict,
        }
    }
}

/// What rules say, in [`register::VERDICT`](crate::compile::register::VERDICT).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum Verdict {
    /// Nothing: the next tier is asked, after the last the default counts.
    None = 0,
    /// Passes.
    Allow = 1,
    /// Does not pass.
    Drop = 2,
    /// Does not pass, and the sender is told.
    Reject = 3,
    /// Passes as part of what was allowed before; nothing is committed.
    Settled = 4,
}

impl Verdict {
    /// Of an ACL's `action`.
    pub(super) fn of(action: &str) -> Self {
        match action {
            "allow" | "allow-related" | "allow-stateless" => Self::Allow,
            "reject" => Self::Reject,
            "pass" => Self::None,
            // What is not known does not pass.
            _ => Self::Drop,
        }
    }
}

/// What a flow of a policy table says, by its actions as the switch prints them; `None` in other tables.
pub fn said(table: Table, printed: &[String]) -> Option<&'static str> {
    if !is_policy(table) {
        return None;
    }
    let verdicts = [
        (Verdict::Allow, "allow"),
        (Verdict::Drop, "drop"),
        (Verdict::Reject, "reject"),
        (Verdict::Settled, "settled"),
    ];
    let found = verdicts.into_iter().find(|(verdict, _)| printed.contains(&says(*verdict).to_string()));
    Some(found.map_or("nothing", |(_, word)| word))
}

/// Whether rules are asked in a table.
pub(crate) fn is_policy(table: Table) -> bool {
    Round::ALL.iter().any(|round| round.policy() == table)
}

/// The number of the stage that makes the flows of rules.
pub(crate) const fn rule_stage() -> u32 {
    rule::STAGE.number
}

/// Whether what a flow of a policy table does leads to a packet's end.
pub(crate) fn stops(actions: &[Action]) -> bool {
    [Verdict::Drop, Verdict::Reject].iter().any(|stop| actions.contains(&says(*stop)))
}

/// Whether a rule's flow decides, rather than being a part of a conjunction or about replies.
pub(crate) fn is_verdict(priority: u16, actions: &[Action]) -> bool {
    priority < PRIORITY_STATE && !actions.iter().any(|action| matches!(action, Action::Conjunction(_)))
}

/// Why the state of a connection stops a packet, by the flow that sees to it.
pub(crate) fn state_reason(matches: &Match) -> &'static str {
    let invalid = u128::from(CtState::INV.0);
    match matches.get(field::CT_STATE) {
        Some((value, _)) if value & invalid != 0 => "ct_invalid",
        _ => "ct_forbidden",
    }
}

/// Whether a flow ends what a rule, or a connection's state, has stopped before.
pub(crate) fn was_stopped(table: Table, matches: &Match) -> bool {
    let verdict = register::VERDICT;
    let wanted = ((1u128 << verdict.bits) - 1) << verdict.offset;
    Round::ALL.iter().any(|round| round.verdict() == table)
        && matches.get(verdict.field).is_some_and(|(value, mask)| value & mask & wanted != 0)
}

/// Whether the connections that an ACL lets pass outlive it.
fn persists(acl: &Acl) -> bool {
    acl.options.get("persist-established").is_some_and(|value| &**value == "true")
}

/// The action by which a rule says its verdict.
pub(super) fn says(verdict: Verdict) -> Action {
    Action::load(register::VERDICT, verdict as u64)
}

/// Above every priority of an ACL that counts: the state of the connection.
const PRIORITY_STATE: u16 = 65_532;
/// Added to an ACL's own.
const PRIORITY_ACL: u16 = 1_000;
