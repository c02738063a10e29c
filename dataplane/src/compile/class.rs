//! What the packets of a flow count for: a rule's hits, drops and why, or answers.
//!
//! # Contract
//! - In: a flow. Out: its class, or nothing for flows whose packets nobody asks about.
//!
//! # Invariants
//! - A packet that a rule stops counts where the rule says so, in the policy table, and not again where it ends.
//! - The reasons are the few words of [`reason`]: they do not grow with what is in the store.

use ofpacket::FlowModFlags;
use uuid::Uuid;

use super::{
    flow::{self, FlowKey, FlowValue},
    logical::go,
    stage::{Stage, filter, stage_of},
    table::Table,
};

/// What the packets of a flow count for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Class {
    /// An ACL, and whether that stops them.
    Rule {
        /// It drops or rejects.
        stops: bool,
    },
    /// They are dropped, for this reason.
    Drop(&'static str),
    /// Questions for a neighbour that the switch answers.
    Answered,
}

/// Tables where flows count that let pass.
const TELLING: &[Table] = &[Table::FromPolicy, Table::AfterPolicy, Table::ToPolicy, Table::NeighbourReply];

/// Why packets are dropped that no flow of a table matches.
pub const NO_FLOW: &str = "no_flow";
/// Why packets are dropped that a rule stops.
pub const ACL: &str = "acl";

impl Class {
    /// The class of a flow.
    pub fn of(key: &FlowKey, value: &FlowValue) -> Option<Self> {
        // Most flows pass and are in no table where that says something.
        let passes = !value.actions.is_empty();
        if passes && !TELLING.iter().any(|table| table.number() == key.table) {
            return None;
        }
        let (stage, _) = stage_of(value.cookie);
        let (stage, table) = (stage?, Table::from_number(key.table)?);
        if filter::is_policy(table) {
            let stops = filter::stops(&value.actions);
            if is_rule(stage) {
                return filter::is_verdict(key.priority, &value.actions).then_some(Self::Rule { stops });
            }
            return stops.then(|| Self::Drop(filter::state_reason(&key.matches)));
        }
        if table == Table::NeighbourReply && value.actions.contains(&go(Table::Return)) {
            return Some(Self::Answered);
        }
        if passes || filter::was_stopped(table, &key.matches) {
            return None;
        }
        Some(Self::Drop(reason(stage)))
    }

    /// Why its packets are dropped; `None` if they pass.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Rule { stops } => stops.then_some(ACL),
            Self::Drop(reason) => Some(reason),
            Self::Answered => None,
        }
    }
}

/// The cookie of an ACL's flows.
pub fn rule_cookie(acl: Uuid) -> u64 {
    flow::cookie(filter::rule_stage(), acl)
}

/// Whether the flows of a stage in a policy table are those of rules.
fn is_rule(stage: &Stage) -> bool {
    stage.number == filter::rule_stage()
}

/// The flags of a flow that counts: what it has counted is told when it goes.
pub(crate) fn flags(key: &FlowKey, value: &FlowValue) -> FlowModFlags {
    Class::of(key, value).map_or(FlowModFlags::NONE, |_| FlowModFlags::SEND_FLOW_REM)
}

/// The word for drops of a stage; the stage's own name where there is no better one.
fn reason(stage: &Stage) -> &'static str {
    match stage.name {
        "admit" | "admit_common" | "admit_out" => "port_security",
        "filter_verdict" | "filter_tiers" => "default_acl_drop",
        "filter_track" => "no_zone",
        "output" | "deliver" => "back_to_sender",
        "router_input" | "router_input_common" => "router_input",
        "router_admit" | "router_admit_common" => "router_admit",
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use ofpacket::{Action, CtState, Match};

    use super::*;
    use crate::compile::register;

    fn class(stage: u32, table: Table, matches: Match, actions: Vec<Action>) -> Option<Class> {
        let key = FlowKey { table: table.number(), priority: 100, matches };
        Class::of(&key, &FlowValue { cookie: u64::from(stage) << 32 | 7, actions: actions.into() })
    }

    fn verdict(number: u64) -> Vec<Action> {
        vec![Action::load(register::VERDICT, number), go(Table::ToVerdict)]
    }

    #[test]
    fn rules_count_where_they_say_so_and_nowhere_else() {
        let rule = filter::rule_stage();
        let of = |number| class(rule, Table::ToPolicy, Match::new(), verdict(number));
        assert_eq!(of(1), Some(Class::Rule { stops: false }));
        assert_eq!([of(2), of(3)], [Some(Class::Rule { stops: true }); 2]);
        let pass = class(rule, Table::ToPolicy, Match::new(), vec![go(Table::ToVerdict)]);
        assert_eq!(pass, Some(Class::Rule { stops: false }), "staged, or pass");
        let part = class(rule, Table::ToPolicy, Match::new(), vec![Action::conjunction(1, 0, 2)]);
        assert_eq!(part, None, "a part of a conjunction matches no packet by itself");
        assert_eq!(class(rule, Table::ToTrack, Match::new(), vec![go(Table::ToPolicy)]), None);
        let end = Match::new().with_bits(register::VERDICT, 2u8);
        assert_eq!(class(47, Table::ToVerdict, end, vec![]), None, "counted before");
    }

    #[test]
    fn drops_say_why() {
        let reason =
            |stage, table, matches, actions| class(stage, table, matches, actions).and_then(Class::reason);
        let state = |state| Match::new().ct_state(state, CtState::NONE);
        let says = |set, number| reason(47, Table::ToPolicy, state(set), verdict(number));
        assert_eq!(says(CtState::TRK | CtState::INV, 2), Some("ct_invalid"));
        assert_eq!(says(CtState::TRK | CtState::EST | CtState::RPL, 2), Some("ct_forbidden"));
        assert_eq!(says(CtState::TRK | CtState::EST | CtState::RPL, 4), None, "a reply");
        let undecided = Match::new().with_bits(register::VERDICT, 0u8);
        assert_eq!(reason(47, Table::ToVerdict, undecided, vec![]), Some("default_acl_drop"));
        let [admit, admit_out] = ["admit", "admit_out"]
            .map(|name| super::super::stage::STAGES.iter().find(|stage| stage.name == name).unwrap().number);
        assert_eq!(reason(admit, Table::Admit, Match::new(), vec![]), Some("port_security"));
        assert_eq!(reason(admit_out, Table::AdmitOut, Match::new(), vec![]), Some("port_security"));
        assert_eq!(reason(admit, Table::Admit, Match::new(), vec![go(Table::Steer)]), None);
        assert_eq!(reason(u32::MAX, Table::Admit, Match::new(), vec![]), None, "nobody's");
    }

    #[test]
    fn answers_are_counted_where_they_leave() {
        let of = |actions| class(25, Table::NeighbourReply, Match::new(), actions);
        assert_eq!(of(vec![go(Table::Return)]), Some(Class::Answered));
        assert_eq!(of(vec![go(Table::Forward)]), None, "to whom has the address");
    }
}
