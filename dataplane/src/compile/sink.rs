//! Where a unit puts what it makes, and how several units that want one flow are reconciled.
//!
//! # Invariants
//! - The merge does not depend on the order in which units ran: drop wins, then the wish of the least
//!   (stage, owner), then conjunctions, whose lists are united. It is associative, so wishes of one unit are
//!   merged first.

use std::sync::Arc;

use ofpacket::{Action, ETH_TYPE_IPV4, ETH_TYPE_IPV6, Match, field};
use uuid::Uuid;

use super::{
    flow::{self, FlowKey, FlowValue, GroupSpec, MeterSpec},
    owner::{Fact, Owner, Relation},
    stage::Stage,
    table::Table,
};

/// What one unit made. Keys are unique and in order.
#[derive(Debug, Default)]
pub(crate) struct Made {
    pub(crate) flows: Vec<(FlowKey, FlowValue)>,
    pub(crate) facts: Vec<Fact>,
    pub(crate) meters: Vec<(u32, MeterSpec)>,
    pub(crate) groups: Vec<(u32, GroupSpec)>,
}

/// Collects what a stage makes for one owner.
#[derive(Debug)]
pub struct Sink {
    stage: &'static Stage,
    row: Uuid,
    made: Made,
}

impl Sink {
    pub(crate) fn new(stage: &'static Stage, owner: Owner) -> Self {
        Self { stage, row: owner.row(), made: Made::default() }
    }

    /// Wants a flow. No action drops.
    pub fn flow(&mut self, table: Table, priority: u16, matches: Match, actions: impl Into<Vec<Action>>) {
        debug_assert!(
            self.stage.tables.contains(&table),
            "stage {} does not declare {table:?}",
            self.stage.name
        );
        debug_assert_eq!(matches.missing_prerequisite(), None, "a switch would refuse {matches:?}");
        let cookie = flow::cookie(self.stage.number, self.row);
        let actions: Vec<Action> = actions.into();
        debug_assert!(
            is_ip(&matches) || !actions.iter().any(|action| matches!(action, Action::Ct(_))),
            "a switch would refuse ct in {matches:?}"
        );
        debug_assert!(
            !actions.iter().skip(1).any(|action| matches!(action, Action::Meter(_))),
            "a meter comes first: {actions:?}"
        );
        let key = FlowKey { table: table.number(), priority, matches };
        self.made.flows.push((key, FlowValue { cookie, actions: actions.into() }));
    }

    /// States a fact.
    pub fn fact(&mut self, relation: Relation, of: Uuid, part: u32, value: Uuid) {
        debug_assert!(
            self.stage.relations.contains(&relation),
            "stage {} does not declare {relation:?}",
            self.stage.name
        );
        self.made.facts.push(Fact { relation, of, part, value });
    }

    /// Wants a meter.
    pub fn meter(&mut self, number: u32, spec: MeterSpec) {
        self.made.meters.push((number, spec));
    }

    /// Wants a group.
    pub fn group(&mut self, number: u32, spec: GroupSpec) {
        self.made.groups.push((number, spec));
    }

    pub(crate) fn into_made(self) -> Made {
        let mut made = self.made;
        made.facts.sort_unstable();
        made.facts.dedup();
        made.meters.sort_unstable();
        made.meters.dedup_by_key(|(number, _)| *number);
        made.groups.sort_by_key(|(number, _)| *number);
        made.groups.dedup_by_key(|(number, _)| *number);
        made.flows.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut flows: Vec<(FlowKey, FlowValue)> = Vec::with_capacity(made.flows.len());
        for (key, value) in made.flows {
            match flows.last_mut() {
                Some((last, before)) if *last == key => {
                    *before = merge([&*before, &value]).expect("two are not none")
                }
                _ => flows.push((key, value)),
            }
        }
        Made { flows, ..made }
    }
}

fn is_ip(matches: &Match) -> bool {
    let eth_type = matches.get(field::ETH_TYPE).map(|(value, _)| value);
    [ETH_TYPE_IPV4, ETH_TYPE_IPV6].iter().any(|ip| eth_type == Some(u128::from(*ip)))
}

/// The value that a flow gets, from wishes in the order of (stage, owner).
pub(crate) fn merge<'a>(wishes: impl IntoIterator<Item = &'a FlowValue>) -> Option<FlowValue> {
    let mut best: Option<&FlowValue> = None;
    let mut conjunctions: Vec<&FlowValue> = Vec::new();
    for wish in wishes {
        match Rank::of(wish) {
            Rank::Conjunction => conjunctions.push(wish),
            rank if best.is_none_or(|best| rank < Rank::of(best)) => best = Some(wish),
            _ => {}
        }
    }
    if best.is_some() {
        return best.cloned();
    }
    let (first, rest) = conjunctions.split_first()?;
    if rest.is_empty() {
        return Some((*first).clone());
    }
    let mut clauses: Vec<(u32, u8, &Action)> = conjunctions
        .iter()
        .flat_map(|wish| wish.actions.iter())
        .filter_map(|action| {
            if let Action::Conjunction(clause) = action {
                Some((clause.id, clause.clause, action))
            } else {
                None
            }
        })
        .collect();
    clauses.sort_by_key(|(id, clause, _)| (*id, *clause));
    clauses.dedup_by_key(|(id, clause, _)| (*id, *clause));
    let actions: Arc<[Action]> = clauses.into_iter().map(|(_, _, action)| action.clone()).collect();
    Some(FlowValue { cookie: first.cookie, actions })
}

/// Which wish wins.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Rank {
    Drop,
    Act,
    Conjunction,
}

impl Rank {
    fn of(wish: &FlowValue) -> Self {
        match wish.actions.first() {
            None => Self::Drop,
            Some(Action::Conjunction(_)) => Self::Conjunction,
            Some(_) => Self::Act,
        }
    }
}

#[cfg(test)]
mod tests {
    use ofpacket::Port;

    use super::*;

    fn wish(cookie: u64, actions: Vec<Action>) -> FlowValue {
        FlowValue { cookie, actions: actions.into() }
    }

    #[test]
    fn drop_wins_then_the_first_then_conjunctions() {
        let out = wish(1, vec![Action::output(Port(1))]);
        let other = wish(2, vec![Action::output(Port(2))]);
        let drop = wish(3, vec![]);
        let (a, b) =
            (wish(4, vec![Action::conjunction(1, 0, 2)]), wish(5, vec![Action::conjunction(2, 1, 2)]));
        assert_eq!(merge([&out, &drop, &a]), Some(drop.clone()));
        assert_eq!(merge([&out, &other]), Some(out.clone()));
        assert_eq!(merge([&a, &other]), Some(other));
        let both = merge([&a, &b]).unwrap();
        assert_eq!(both.actions.len(), 2);
        assert_eq!(merge([&both, &b]), Some(both));
        assert_eq!(merge([]), None);
    }
}
