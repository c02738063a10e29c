//! What rules and drops have counted on this hypervisor, since the switch has had their flows.
//!
//! # Contract
//! - In: counts of the switch as they are read. Out: totals of ACLs, drops by reason and table, and what changed since somebody
//!   last asked.
//!
//! # Invariants
//! - A rule's total goes on when its flows are replaced, and ends with its row: what flows of no row have counted is dropped.
//! - ACLs whose uuids begin alike share a cookie, and their packets are counted for each of them: a rule that is in use is
//!   never shown as one that is not.

use std::{collections::BTreeMap, ops::Bound};

use quantumnet_model::{Rows, nb::Acl};
use rustc_hash::FxHashSet;
use uuid::Uuid;

use crate::{
    compile::{Class, is_held, rule_cookie, stage_of, table::Table},
    switch::Count,
};

/// Packets, and when the last of them was seen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Total {
    /// How many.
    pub packets: u64,
    /// Their octets, as far as the switch knows them.
    pub bytes: u64,
    /// Milliseconds since the epoch; 0 while no packet has come since this process began.
    pub last_ms: u64,
}

impl Total {
    fn add(&mut self, packets: u64, bytes: u64, last_ms: u64) {
        self.packets += packets;
        self.bytes += bytes;
        self.last_ms = self.last_ms.max(last_ms);
    }
}

/// Where packets were counted.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Line {
    /// Of the flow; 0 where no flow matched.
    pub cookie: u64,
    /// Number of the table.
    pub table: u8,
    /// What for.
    pub class: Class,
}

/// All that was counted.
#[derive(Debug, Default)]
pub struct Tally {
    lines: BTreeMap<Line, (Total, u64)>,
    /// Drops by reason and table, whatever lines are forgotten.
    drops: BTreeMap<(&'static str, u8), u64>,
    /// Questions for neighbours that the switch answered.
    answered: u64,
    /// Counts up with every change.
    sequence: u64,
    /// How many lines there may be until those of no row are dropped.
    room: usize,
}

impl Tally {
    /// Takes what was counted.
    pub fn add(&mut self, now_ms: u64, counts: &[Count], rows: &Rows) {
        self.sequence += 1;
        for count in counts {
            let Count { cookie, table, class, packets, bytes, past } = *count;
            if class == Class::Answered {
                self.answered += packets;
                continue;
            }
            let (total, changed) = self.lines.entry(Line { cookie, table, class }).or_default();
            total.add(packets, bytes, if past { 0 } else { now_ms });
            *changed = self.sequence;
            if let Some(reason) = class.reason() {
                *self.drops.entry((reason, table)).or_default() += packets;
            }
        }
        if self.lines.len() > self.room {
            let rules: FxHashSet<u64> = rows.iter::<Acl>().map(|(uuid, _)| rule_cookie(uuid)).collect();
            let held = |line: &Line| {
                if line.is_rule() { rules.contains(&line.cookie) } else { is_held(rows, line.cookie) }
            };
            self.lines.retain(|line, _| held(line));
            self.room = 2 * self.lines.len() + LINES_MIN;
        }
    }

    /// The total of an ACL.
    pub fn rule(&self, acl: Uuid) -> Total {
        let mut all = Total::default();
        for (line, (total, _)) in self.of_cookie(rule_cookie(acl)) {
            if line.is_rule() {
                all.add(total.packets, total.bytes, total.last_ms);
            }
        }
        all
    }

    fn of_cookie(&self, cookie: u64) -> impl Iterator<Item = (&Line, &(Total, u64))> {
        let from = Line { cookie, table: 0, class: Class::Rule { stops: false } };
        self.lines
            .range((Bound::Included(from), Bound::Unbounded))
            .take_while(move |(line, _)| line.cookie == cookie)
    }

    /// Drops that were counted after a point, all of them after 0, and the point until which these are.
    pub fn drops_since(&self, sequence: u64) -> (Vec<(Line, Total)>, u64) {
        let changed = self
            .lines
            .iter()
            .filter(|(line, (_, changed))| *changed > sequence && line.class.reason().is_some());
        (changed.map(|(line, (total, _))| (*line, *total)).collect(), self.sequence)
    }

    /// Questions for neighbours that the switch answered.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// Drops by reason and table.
    pub fn drops(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let name = |table: u8| Table::from_number(table).map_or("other", |table| table.decl().name);
        self.drops.iter().map(move |((reason, table), packets)| (*reason, name(*table), *packets))
    }
}

impl Line {
    pub(super) fn is_rule(&self) -> bool {
        matches!(self.class, Class::Rule { .. })
    }

    /// First 32 bits of the uuid of the row that the flow was made for.
    pub(super) fn origin(&self) -> u32 {
        stage_of(self.cookie).1
    }
}

const LINES_MIN: usize = 1_024;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use quantumnet_model::Row;

    use super::*;
    use crate::compile::NO_FLOW;

    fn acl(number: u128) -> Uuid {
        Uuid::from_u128(number << 96 | 1)
    }

    fn rows(acls: &[u128]) -> Rows {
        let mut rows = Rows::default();
        for number in acls {
            rows.set(Acl::TABLE, acl(*number), Some(Arc::new(Acl::default())));
        }
        rows
    }

    fn rule(number: u128, stops: bool, packets: u64) -> Count {
        let class = Class::Rule { stops };
        Count {
            cookie: rule_cookie(acl(number)),
            table: 41,
            class,
            packets,
            bytes: 10 * packets,
            past: false,
        }
    }

    #[test]
    fn flows_of_a_rule_count_together() {
        let (mut tally, rows) = (Tally::default(), rows(&[1, 2]));
        let other = Count { table: 5, ..rule(1, false, 2) };
        tally.add(1_000, &[rule(1, false, 3), other, rule(2, true, 1)], &rows);
        tally.add(2_000, &[rule(2, true, 1)], &rows);
        assert_eq!(tally.rule(acl(1)), Total { packets: 5, bytes: 50, last_ms: 1_000 });
        assert_eq!(tally.rule(acl(2)), Total { packets: 2, bytes: 20, last_ms: 2_000 });
        assert_eq!(tally.rule(acl(3)), Total::default());
        assert_eq!(tally.drops().collect::<Vec<_>>(), [("acl", "ToPolicy", 2)]);
    }

    #[test]
    fn what_came_before_this_process_has_no_time() {
        let (mut tally, rows) = (Tally::default(), rows(&[1]));
        tally.add(1_000, &[Count { past: true, ..rule(1, false, 3) }], &rows);
        assert_eq!(tally.rule(acl(1)), Total { packets: 3, bytes: 30, last_ms: 0 });
    }

    #[test]
    fn who_asks_again_gets_what_changed() {
        let (mut tally, rows) = (Tally::default(), rows(&[1, 2]));
        let missed =
            Count { cookie: 0, table: 17, class: Class::Drop(NO_FLOW), packets: 4, bytes: 0, past: false };
        tally.add(1_000, &[rule(1, false, 3), rule(2, true, 1), missed], &rows);
        let packets =
            |lines: &[(Line, Total)]| lines.iter().map(|(_, total)| total.packets).collect::<Vec<_>>();
        let (lines, at) = tally.drops_since(0);
        assert_eq!(packets(&lines), [4, 1], "not what passes");
        assert!(tally.drops_since(at).0.is_empty());
        tally.add(2_000, &[rule(2, true, 1)], &rows);
        assert_eq!(packets(&tally.drops_since(at).0), [2]);
    }

    #[test]
    fn rules_that_are_gone_are_forgotten_and_drops_are_not() {
        let mut tally = Tally::default();
        let all: Vec<Count> = (0..2_000).map(|number| rule(number, true, 1)).collect();
        tally.add(1_000, &all, &rows(&[7]));
        assert_eq!((tally.lines.len(), tally.rule(acl(7)).packets), (1, 1));
        assert_eq!(tally.drops().collect::<Vec<_>>(), [("acl", "ToPolicy", 2_000)]);
    }
}
