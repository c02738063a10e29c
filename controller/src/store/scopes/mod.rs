//! The interest index: which rows are in which scopes, and which agents hold which scopes.
//!
//! # Contract
//! - Follows each applied transaction at a cost of what changed, from the declarations' `Scope` rules alone.
//! - An agent holds the scope of its own `Chassis`, the global one, and the datapaths that [`reach`] leads it to.
//!
//! # Invariants
//! - A row is in a scope as often as rules and carriers put it there; it is visible while that is more than never.
//! - Incremental equals rebuilt; what an agent was sent equals the projection of the state onto its scopes.

mod deliver;
mod reach;
mod rules;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use imbl::OrdSet;
use ovsdb::value::{Atom, Datum};
use quantumnet_model::{
    Row, Uuid,
    row::{ColumnId, DynRow, TableId},
    sb::Chassis,
    tables,
};

use crate::store::{ReferenceColumn, State, Touched, reference_columns};
use reach::Reach;
use rules::{Link, Rule, rules};

pub use deliver::{Delivery, deliveries};
pub use view::View;

/// The scope that every agent holds.
pub const GLOBAL: Uuid = Uuid::nil();

/// The index at one revision. Cloning is cheap.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scopes {
    view: View,
    keys: Keys,
    reach: Reach,
}

/// Rows that rules look up by value. Cloning is cheap.
#[derive(Clone, Debug, Default, PartialEq)]
struct Keys {
    /// Carried ones, by their own value: (column, value, row). However many rules a column has.
    carried: OrdSet<((TableId, ColumnId), Datum, Uuid)>,
    /// Carrying ones, by the names in their text: (rule, value, row).
    naming: OrdSet<(usize, Datum, Uuid)>,
}

/// Which memberships began (`true`) and ended with a transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScopeChanges {
    /// Table, row, scope.
    pub rows: Vec<(TableId, Uuid, Uuid, bool)>,
    /// Chassis, scope.
    pub agents: Vec<(Uuid, Uuid, bool)>,
}

/// Links between carried and carrying rows.
type Links = BTreeSet<(Uuid, Uuid)>;

/// Rows of a transaction by table.
type ByTable<'a> = BTreeMap<TableId, Vec<&'a Touched>>;

/// Scopes that a row entered or left.
type Flips = BTreeMap<(TableId, Uuid), Vec<(Uuid, bool)>>;

impl Scopes {
    /// The index of a state, from scratch.
    pub fn of(state: &State) -> Self {
        let mut touched = Vec::new();
        for table in tables::ids() {
            touched.extend(state.rows().table(table).iter().map(|(uuid, row)| Touched {
                table,
                uuid: *uuid,
                old: None,
                new: Some(row.clone()),
            }));
        }
        let mut scopes = Self::default();
        scopes.follow(&State::default(), state, &touched);
        scopes
    }

    /// Who sees what.
    pub const fn view(&self) -> &View {
        &self.view
    }

    /// Follows a transaction from `before` to `after`.
    pub fn follow(&mut self, before: &State, after: &State, touched: &[Touched]) -> ScopeChanges {
        let mut by_table = ByTable::new();
        for row in touched {
            by_table.entry(row.table).or_default().push(row);
        }
        let keys_before = self.keys.clone();
        self.follow_keys(&by_table);
        let view_before = self.view.clone();
        let mut flips = Flips::new();
        for (carried, rules) in rules() {
            let mut deltas: BTreeMap<(Uuid, Uuid), i64> = BTreeMap::new();
            for rule in rules {
                let change =
                    RuleChange { rule, before, after, by_table: &by_table, keys_before: &keys_before };
                self.follow_rule(&change, &view_before, &flips, &mut deltas);
            }
            for ((row, scope), delta) in deltas.into_iter().filter(|(_, delta)| *delta != 0) {
                if let Some(gained) = self.view.count_row(*carried, row, scope, delta) {
                    flips.entry((*carried, row)).or_default().push((scope, gained));
                }
            }
        }
        let rows = flips
            .into_iter()
            .flat_map(|((table, row), flips)| {
                flips.into_iter().map(move |(scope, on)| (table, row, scope, on))
            })
            .collect();
        ScopeChanges { rows, agents: self.follow_agents(before, after, &by_table) }
    }

    fn follow_rule(
        &self,
        change: &RuleChange<'_>,
        view_before: &View,
        flips: &Flips,
        deltas: &mut BTreeMap<(Uuid, Uuid), i64>,
    ) {
        let rule = change.rule;
        let mut add = |row, scope, delta| *deltas.entry((row, scope)).or_default() += delta;
        let Some(carrier) = rule.link.carrier() else {
            for row in change.touched(rule.carried) {
                let scope = if rule.link == Link::Global { GLOBAL } else { row.uuid };
                add(row.uuid, scope, i64::from(row.new.is_some()) - i64::from(row.old.is_some()));
            }
            return;
        };
        let (removed, added) = match rule.link {
            Link::Key { column, .. } | Link::Named { column, .. } => self.key_links(change, carrier, column),
            _ => change.reference_links(carrier),
        };
        for (row, by) in &removed {
            view_before.scopes_of(carrier, *by).for_each(|scope| add(*row, scope, -1));
        }
        for (row, by) in &added {
            self.view.scopes_of(carrier, *by).for_each(|scope| add(*row, scope, 1));
        }
        // Links that were there before and still are, of carriers whose own scopes changed.
        for ((_, by), scopes) in flips.range((carrier, Uuid::nil())..=(carrier, Uuid::max())) {
            self.links(change.after, rule, carrier, *by, &mut |row| {
                if !added.contains(&(row, *by)) {
                    scopes.iter().for_each(|(scope, gained)| add(row, *scope, if *gained { 1 } else { -1 }));
                }
            });
        }
    }

    /// Every row that the carrier carries now.
    fn links(&self, after: &State, rule: &Rule, carrier: TableId, by: Uuid, visit: &mut dyn FnMut(Uuid)) {
        match rule.link {
            Link::Of { column, .. } => {
                let declared = referring(rule.carried, column);
                after.referrers_by(carrier, by, rule.carried, declared).for_each(visit);
            }
            Link::Referrers { column, .. } => {
                if let Some(row) = after.rows().dyn_row(carrier, by) {
                    row.each_reference(column, visit);
                }
            }
            Link::Key { column, .. } | Link::Named { column, .. } => {
                let row = after.rows().dyn_row(carrier, by);
                let values = row.map(|row| values(rule.link, row.as_ref())).unwrap_or_default();
                values
                    .iter()
                    .flat_map(|value| keyed(&self.keys.carried, (rule.carried, column), value))
                    .for_each(visit);
            }
            Link::Global | Link::Own => {}
        }
    }

    /// Links by value that went and came.
    fn key_links(&self, change: &RuleChange<'_>, carrier: TableId, column: ColumnId) -> (Links, Links) {
        let Rule { place, carried, link, .. } = *change.rule;
        let links = |state: &State, keys: &Keys, new: bool| {
            let row_of = |row: &Touched| if new { row.new.clone() } else { row.old.clone() };
            let mut links = Links::new();
            for row in change.touched(change.rule.carried) {
                let Some(value) = row_of(row).map(|row| row.datum(column)) else { continue };
                match link {
                    Link::Key { key, .. } => {
                        links.extend(state.lookup_by(carrier, key, value).map(|by| (row.uuid, by)));
                    }
                    _ => links.extend(keyed(&keys.naming, place, &value).map(|by| (row.uuid, by))),
                }
            }
            for by in change.touched(carrier) {
                for value in row_of(by).map(|row| values(link, row.as_ref())).unwrap_or_default() {
                    links.extend(keyed(&keys.carried, (carried, column), &value).map(|row| (row, by.uuid)));
                }
            }
            links
        };
        let old = links(change.before, change.keys_before, false);
        let new = links(change.after, &self.keys, true);
        (&old - &new, &new - &old)
    }

    fn follow_keys(&mut self, by_table: &ByTable<'_>) {
        for rule in rules().iter().flat_map(|(_, rules)| rules) {
            if let Some(column) = rule.link.looked_up_by().filter(|_| rule.first_by_column) {
                let place = (rule.carried, column);
                for row in by_table.get(&rule.carried).into_iter().flatten() {
                    if let Some(old) = &row.old {
                        self.keys.carried.remove(&(place, old.datum(column), row.uuid));
                    }
                    if let Some(new) = &row.new {
                        self.keys.carried.insert((place, new.datum(column), row.uuid));
                    }
                }
            }
            let Link::Named { carrier, .. } = rule.link else { continue };
            for row in by_table.get(&carrier).into_iter().flatten() {
                for value in row.old.iter().flat_map(|old| values(rule.link, old.as_ref())) {
                    self.keys.naming.remove(&(rule.place, value, row.uuid));
                }
                for value in row.new.iter().flat_map(|new| values(rule.link, new.as_ref())) {
                    self.keys.naming.insert((rule.place, value, row.uuid));
                }
            }
        }
    }

    fn follow_agents(
        &mut self,
        before: &State,
        after: &State,
        by_table: &ByTable<'_>,
    ) -> Vec<(Uuid, Uuid, bool)> {
        let mut changed = self.reach.follow(&mut self.view, before, after, by_table);
        // An agent holds its own scope while its chassis is registered.
        for row in by_table.get(&Chassis::TABLE).into_iter().flatten() {
            if row.new.is_some() != row.old.is_some() {
                for scope in [row.uuid, GLOBAL] {
                    self.view.set_agent(row.uuid, scope, row.new.is_some());
                    changed.push((row.uuid, scope, row.new.is_some()));
                }
            }
        }
        changed
    }
}

/// A rule and what a transaction did.
struct RuleChange<'a> {
    rule: &'a Rule,
    before: &'a State,
    after: &'a State,
    by_table: &'a ByTable<'a>,
    keys_before: &'a Keys,
}

impl RuleChange<'_> {
    fn touched(&self, table: TableId) -> impl Iterator<Item = &Touched> {
        self.by_table.get(&table).into_iter().flatten().copied()
    }

    /// Links by reference that went and came.
    fn reference_links(&self, carrier: TableId) -> (Links, Links) {
        let (mut removed, mut added) = (Links::new(), Links::new());
        let (referring, column, carried_refers) = match self.rule.link {
            Link::Referrers { column, .. } => (carrier, column, false),
            Link::Of { column, .. } => (self.rule.carried, column, true),
            Link::Global | Link::Own | Link::Key { .. } | Link::Named { .. } => return (removed, added),
        };
        for row in self.touched(referring) {
            reference_changes(row, column, &mut |target, gained| {
                let link = if carried_refers { (row.uuid, target) } else { (target, row.uuid) };
                if gained {
                    added.insert(link)
                } else {
                    removed.insert(link)
                };
            });
        }
        (removed, added)
    }
}

fn reference_changes(row: &Touched, column: ColumnId, visit: &mut dyn FnMut(Uuid, bool)) {
    match (&row.old, &row.new) {
        (Some(old), Some(new)) => DynRow::reference_changes(old.as_ref(), new.as_ref(), column, visit),
        (Some(old), None) => old.each_reference(column, &mut |target| visit(target, false)),
        (None, Some(new)) => new.each_reference(column, &mut |target| visit(target, true)),
        (None, None) => {}
    }
}

/// Values of a carrying row that carried rows are looked up by.
fn values(link: Link, row: &dyn DynRow) -> Vec<Datum> {
    match link {
        Link::Key { key, .. } => vec![row.datum(key)],
        Link::Named { by, sigil, .. } => {
            let text = |datum| match datum {
                Datum::Set(atoms) => atoms,
                Datum::Map(pairs) => pairs.into_iter().map(|(_, value)| value).collect(),
            };
            let texts = text(row.datum(by)).into_iter().filter_map(|atom| match atom {
                Atom::String(text) => Some(text),
                _ => None,
            });
            let names: BTreeSet<String> = texts.flat_map(|text| names(&text, sigil)).collect();
            names.into_iter().map(|name| Datum::Set(vec![Atom::String(name.as_str().into())])).collect()
        }
        Link::Global | Link::Own | Link::Of { .. } | Link::Referrers { .. } => Vec::new(),
    }
}

/// What stands behind each sigil of a text, or the text itself. A sigil within a quoted string counts too: that only
/// sends an agent a row that it has no use for.
fn names(text: &str, sigil: Option<char>) -> Vec<String> {
    let Some(sigil) = sigil else { return vec![text.to_owned()] };
    let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let behind = text.split(sigil).skip(1);
    let name = |rest: &str| rest.chars().take_while(|c| in_name(*c)).collect::<String>();
    behind.map(name).filter(|name| !name.is_empty()).collect()
}

fn keyed<'a, P: Copy + Ord>(
    keys: &'a OrdSet<(P, Datum, Uuid)>,
    place: P,
    value: &Datum,
) -> impl Iterator<Item = Uuid> + use<'a, P> {
    keys.range((place, value.clone(), Uuid::nil())..=(place, value.clone(), Uuid::max()))
        .map(|(_, _, row)| *row)
}

fn referring(table: TableId, column: ColumnId) -> ReferenceColumn {
    let mut declared = reference_columns(table).iter();
    *declared.find(|declared| declared.column == column).expect("the rules were made from reference columns")
}
