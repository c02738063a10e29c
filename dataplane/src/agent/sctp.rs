//! Rules about SCTP that the switch cannot apply to connections.
//!
//! # Contract
//! - In: that rules or the switch's abilities changed. Out: a problem for people, and numbers for metrics.
//! - What such rules do instead is [`crate::compile`]'s: they judge each packet by itself, so that replies are denied unless a
//!   rule lets them pass too.

use std::time::Instant;

use quantumnet_model::{Row, Rows, TableId, nb::Acl};

use super::{Agent, RULES_DELAY};

/// Whose rows decide.
pub(super) const TABLE: TableId = Acl::TABLE;

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Sctp {
    /// When rules are looked at, after a change.
    pub(super) at: Option<Instant>,
    /// Rules that are not applied to connections.
    rules: usize,
    problem: Option<String>,
}

impl Agent {
    pub(super) fn sctp_changed(&mut self, now: Instant) {
        self.sctp.at.get_or_insert(now + RULES_DELAY);
    }

    pub(super) fn sctp_due(&mut self, now: Instant) {
        if self.sctp.at.is_none_or(|at| now < at) {
            return;
        }
        self.sctp.at = None;
        let untracked = self.abilities.is_some_and(|abilities| !abilities.sctp_ports);
        let mut rules = untracked.then(|| stateful(self.compiler.rows())).into_iter().flatten();
        let first = rules.next().map(str::to_owned);
        self.sctp.rules = usize::from(first.is_some()) + rules.count();
        let problem = first.map(|first| {
            format!(
                "the switch tracks SCTP by addresses only, so {} stateful rules judge each packet by itself and replies \
                 pass only where a rule lets them; the first: {first}",
                self.sctp.rules
            )
        });
        if let Some(problem) = problem.as_ref().filter(|_| problem != self.sctp.problem) {
            tracing::warn!(%problem, "rules");
        }
        self.sctp.problem = problem;
    }

    /// What people are told.
    pub(super) fn sctp_problem(&self) -> Option<String> {
        self.sctp.problem.clone()
    }

    /// Whether the switch tells SCTP associations apart, once that is known, and how many rules suffer if not.
    pub fn sctp(&self) -> (Option<bool>, usize) {
        (self.abilities.map(|abilities| abilities.sctp_ports), self.sctp.rules)
    }
}

/// Matches of rules that name SCTP and want replies let through.
fn stateful(rows: &Rows) -> impl Iterator<Item = &str> {
    let tracking = rows.iter::<Acl>().any(|(_, acl)| &*acl.action == RELATED);
    let of_connections = move |acl: &Acl| match &*acl.action {
        RELATED => true,
        // As good as that where any rule of the switch is.
        "allow" => tracking,
        _ => false,
    };
    let found = rows.iter::<Acl>().filter(move |(_, acl)| of_connections(acl) && names_sctp(&acl.r#match));
    found.map(|(_, acl)| &*acl.r#match)
}

fn names_sctp(text: &str) -> bool {
    let mut words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.any(|word| word == "sctp")
}

const RELATED: &str = "allow-related";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use quantumnet_model::Uuid;

    use super::*;

    fn acl(number: u128, action: &str, matches: &str, rows: &mut Rows) {
        let row = Acl { action: action.into(), r#match: matches.into(), ..Acl::default() };
        rows.set(Acl::TABLE, Uuid::from_u128(number), Some(Arc::new(row)));
    }

    #[test]
    fn rules_that_want_connections_of_sctp() {
        let mut rows = Rows::default();
        acl(1, "allow", "sctp.dst == 9", &mut rows);
        acl(2, "drop", "sctp", &mut rows);
        acl(3, "allow-stateless", "sctp.dst == 7", &mut rows);
        assert_eq!(stateful(&rows).count(), 0, "nothing is tracked");
        acl(4, "allow-related", "inport == \"sctp_1\" && tcp", &mut rows);
        assert_eq!(stateful(&rows).collect::<Vec<_>>(), ["sctp.dst == 9"]);
        acl(5, "allow-related", "ip4 && sctp && sctp.src == 5", &mut rows);
        assert_eq!(stateful(&rows).count(), 2);
    }
}
