//! Who sees what: rows by scope, scopes by row, and the scopes that agents hold.

use imbl::{OrdMap, OrdSet};
use quantumnet_model::{Uuid, row::TableId};

use super::ScopeChanges;

/// Memberships at one revision. Cloning is cheap.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// How often each row is in each scope.
    rows: OrdMap<(TableId, Uuid), OrdMap<Uuid, i64>>,
    /// The same, by scope.
    members: OrdSet<(Uuid, TableId, Uuid)>,
    /// Scopes of each chassis.
    agents: OrdSet<(Uuid, Uuid)>,
    /// The same, by scope.
    holders: OrdSet<(Uuid, Uuid)>,
}

impl View {
    /// Scopes that the row is in.
    pub fn scopes_of(&self, table: TableId, row: Uuid) -> impl Iterator<Item = Uuid> + use<'_> {
        self.rows.get(&(table, row)).into_iter().flat_map(|scopes| scopes.keys().copied())
    }

    /// Rows in the scope.
    pub fn rows_in(&self, scope: Uuid) -> impl Iterator<Item = (TableId, Uuid)> + use<'_> {
        let members = self.members.range((scope, TableId(0), Uuid::nil())..);
        members.take_while(move |(of, _, _)| *of == scope).map(|(_, table, row)| (*table, *row))
    }

    /// Scopes that the chassis' agent holds.
    pub fn held_by(&self, chassis: Uuid) -> impl Iterator<Item = Uuid> + use<'_> {
        self.agents.range((chassis, Uuid::nil())..=(chassis, Uuid::max())).map(|(_, scope)| *scope)
    }

    /// Chassis whose agents hold the scope.
    pub fn holders_of(&self, scope: Uuid) -> impl Iterator<Item = Uuid> + use<'_> {
        self.holders.range((scope, Uuid::nil())..=(scope, Uuid::max())).map(|(_, chassis)| *chassis)
    }

    /// Whether the chassis' agent holds the scope.
    pub fn holds(&self, chassis: Uuid, scope: Uuid) -> bool {
        self.agents.contains(&(chassis, scope))
    }

    /// Whether the chassis' agent holds the row.
    pub fn sees(&self, chassis: Uuid, table: TableId, row: Uuid) -> bool {
        let Some(scopes) = self.rows.get(&(table, row)) else { return false };
        if scopes.len() <= SCOPES_FEW {
            scopes.keys().any(|scope| self.holds(chassis, *scope))
        } else {
            self.held_by(chassis).any(|scope| scopes.contains_key(&scope))
        }
    }

    /// Every row that the chassis' agent holds.
    pub fn projection(&self, chassis: Uuid) -> std::collections::BTreeSet<(TableId, Uuid)> {
        self.held_by(chassis).flat_map(|scope| self.rows_in(scope)).collect()
    }

    /// Takes changes back, to look at an earlier revision. Counts are lost: only ask such a view, don't follow with it.
    pub fn revert(&mut self, changes: &ScopeChanges) {
        for (table, row, scope, gained) in &changes.rows {
            self.set_row(*table, *row, *scope, if *gained { 0 } else { 1 });
        }
        for (chassis, scope, gained) in &changes.agents {
            self.set_agent(*chassis, *scope, !*gained);
        }
    }

    /// Counts a membership; tells when it began (`true`) or ended.
    pub(super) fn count_row(&mut self, table: TableId, row: Uuid, scope: Uuid, delta: i64) -> Option<bool> {
        let before = self.rows.get(&(table, row)).and_then(|scopes| scopes.get(&scope)).copied().unwrap_or(0);
        let now = before + delta;
        debug_assert!(now >= 0, "row {row} left scope {scope} more often than it entered");
        self.set_row(table, row, scope, now);
        flip(before, now)
    }

    fn set_row(&mut self, table: TableId, row: Uuid, scope: Uuid, count: i64) {
        let mut scopes = self.rows.get(&(table, row)).cloned().unwrap_or_default();
        if count > 0 {
            if scopes.insert(scope, count).is_none() {
                self.members.insert((scope, table, row));
            }
        } else if scopes.remove(&scope).is_some() {
            self.members.remove(&(scope, table, row));
        }
        if scopes.is_empty() {
            self.rows.remove(&(table, row));
        } else {
            self.rows.insert((table, row), scopes);
        }
    }

    /// Makes the chassis' agent hold the scope, or not.
    pub(super) fn set_agent(&mut self, chassis: Uuid, scope: Uuid, holds: bool) {
        if holds {
            self.agents.insert((chassis, scope));
            self.holders.insert((scope, chassis));
        } else {
            self.agents.remove(&(chassis, scope));
            self.holders.remove(&(scope, chassis));
        }
    }
}

const fn flip(before: i64, now: i64) -> Option<bool> {
    match (before > 0, now > 0) {
        (false, true) => Some(true),
        (true, false) => Some(false),
        _ => None,
    }
}

/// Up to so many scopes of a row are tried one by one.
const SCOPES_FEW: usize = 16;
