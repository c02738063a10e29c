//! What of the northbound database is acted on, and what of the southbound one is filled: one list, served to people,
//! and by which northbound rows are warned of.
//!
//! # Contract
//! - Every table and column of `OVN_Northbound` is in the list, and every key that ovn-nb(5) defines for a map; a test
//!   compares it with the declarations. So is every table of OVN's in `OVN_Southbound`, whole.
//! - A row that sets what is not acted on, or a key that nobody knows, keeps a warning until it is mended or goes. What
//!   is free for clients, and what has its default, is no reason for one.
//! - Cost follows the rows touched.

mod northbound;
mod routing;
mod southbound;

use std::{collections::BTreeMap, sync::LazyLock};

use ovsdb::value::{Atom, Datum};
use quantumnet_model::{
    ColumnId, Database,
    dhcp::OPTIONS,
    row::{DynRow, TableId},
    tables,
};

use crate::{
    lower::{Dirty, problem},
    store::Txn,
};

/// Whether something is acted on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// It does what ovn-nb(5) says.
    Works,
    /// Part of it; the note says which.
    Partly,
    /// It is accepted, checked and kept.
    NotYet,
}

/// A column, or a key of a map column, and whether it is acted on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Feature {
    /// `OVN_Northbound` or `OVN_Southbound`.
    pub database: Database,
    /// The table.
    pub table: &'static str,
    /// The column; empty for the whole of a southbound table.
    pub column: &'static str,
    /// The key; empty for the column itself.
    pub key: &'static str,
    /// Whether it is acted on.
    pub state: State,
    /// What it is part of, as `l2` or `acl`.
    pub area: &'static str,
    /// For people.
    pub note: &'static str,
}

/// A table of the list.
#[derive(Clone, Copy, Debug)]
struct Table {
    name: &'static str,
    area: &'static str,
    rows: Rows,
}

#[derive(Clone, Copy, Debug)]
enum Rows {
    /// No column is acted on.
    NotYet(&'static str),
    /// Each column has its entry.
    Columns(&'static [Entry]),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    column: &'static str,
    key: &'static str,
    /// Value that asks for nothing.
    default: &'static str,
    state: State,
    /// That of the table when empty.
    area: &'static str,
    note: &'static str,
}

const fn works(column: &'static str) -> Entry {
    Entry { column, key: "", default: "", state: State::Works, area: "", note: "" }
}

const fn partly(column: &'static str, note: &'static str) -> Entry {
    Entry { state: State::Partly, note, ..works(column) }
}

const fn not_yet(column: &'static str, area: &'static str) -> Entry {
    Entry { state: State::NotYet, area, ..works(column) }
}

impl Entry {
    const fn key(self, key: &'static str) -> Self {
        Self { key, ..self }
    }

    const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    const fn note(self, note: &'static str) -> Self {
        Self { note, ..self }
    }
}

/// The whole list, by table in the order of the schema, the northbound database first.
pub fn list() -> Vec<Feature> {
    let mut list = Vec::new();
    for table in all() {
        let feature = |column, entry: Entry| Feature {
            database: Database::Northbound,
            table: table.name,
            column,
            key: entry.key,
            state: entry.state,
            area: if entry.area.is_empty() { table.area } else { entry.area },
            note: entry.note,
        };
        match table.rows {
            Rows::NotYet(note) => {
                let columns = tables::find(Database::Northbound, table.name).into_iter();
                let columns = columns.flat_map(|table| tables::decl(table).columns.iter());
                list.extend(columns.map(|column| feature(column.name, not_yet(column.name, "").note(note))));
            }
            Rows::Columns(entries) => list.extend(entries.iter().map(|entry| feature(entry.column, *entry))),
        }
        if table.name == DHCP_OPTIONS {
            list.extend(OPTIONS.iter().map(|option| feature("options", works("options").key(option.name))));
        }
    }
    list.extend(southbound::TABLES.iter().map(|&(table, state, area, note)| Feature {
        database: Database::Southbound,
        table,
        column: "",
        key: "",
        state,
        area,
        note,
    }));
    list
}

const DHCP_OPTIONS: &str = "DHCP_Options";

fn all() -> impl Iterator<Item = &'static Table> {
    northbound::TABLES.iter()
}

/// What of a table's rows is looked at.
#[derive(Debug, Default)]
struct Checks {
    /// Why no row has an effect.
    whole: Option<String>,
    columns: Vec<Check>,
}

#[derive(Debug)]
struct Check {
    column: ColumnId,
    name: &'static str,
    /// The column itself is not acted on.
    reported: Option<String>,
    /// By key: the default and, unless it is acted on, why not; `None` where keys are free.
    keys: Option<BTreeMap<&'static str, (&'static str, Option<String>)>>,
}

static CHECKS: LazyLock<BTreeMap<TableId, Checks>> = LazyLock::new(|| {
    let mut by_table: BTreeMap<TableId, Checks> = BTreeMap::new();
    for table in all() {
        let Some(id) = tables::find(Database::Northbound, table.name) else { continue };
        let checks = by_table.entry(id).or_default();
        match table.rows {
            Rows::NotYet(note) => checks.whole = Some(format!("{note}; the row is kept ({})", table.area)),
            Rows::Columns(entries) => checks.columns = columns(table, entries, id),
        }
    }
    by_table
});

fn columns(table: &Table, entries: &'static [Entry], id: TableId) -> Vec<Check> {
    let decl = tables::decl(id);
    let mut checks: Vec<Check> = Vec::new();
    for entry in entries {
        let Some(column) = decl.column(entry.column) else { continue };
        let is_map = decl.column_decl(column).ty.value.is_some();
        let area = if entry.area.is_empty() { table.area } else { entry.area };
        let reported =
            (entry.state == State::NotYet).then(|| format!("nothing acts on it yet ({area}); it is kept"));
        if entry.key.is_empty() {
            let is_free = matches!(entry.column, "external_ids" | "status") || reported.is_some();
            let keys = (is_map && !is_free).then(BTreeMap::new);
            checks.push(Check { column, name: entry.column, reported, keys });
        } else if let Some(keys) =
            checks.iter_mut().find(|check| check.column == column).and_then(|check| check.keys.as_mut())
        {
            keys.insert(entry.key, (entry.default, reported));
        }
    }
    if table.name == DHCP_OPTIONS {
        let options = checks.iter_mut().filter(|check| check.name == "options");
        for keys in options.filter_map(|check| check.keys.as_mut()) {
            keys.extend(OPTIONS.iter().map(|option| (option.name, ("", None))));
        }
    }
    checks.retain(|check| check.reported.is_some() || check.keys.is_some());
    checks
}

/// Warns of what touched rows say in vain.
pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    for touched in txn.touched() {
        let Some(checks) = CHECKS.get(&touched.table) else { continue };
        if checks.whole.is_none() && checks.columns.is_empty() {
            continue;
        }
        dirty.work.rows += 1;
        let problems = touched.new.as_deref().map(|row| warnings(checks, row)).unwrap_or_default();
        problem::warn(txn, touched.table, touched.uuid, problems);
    }
}

fn warnings(checks: &Checks, row: &dyn DynRow) -> problem::Problems {
    if let Some(whole) = &checks.whole {
        return vec![("_uuid", whole.clone())];
    }
    let mut found = Vec::new();
    for check in &checks.columns {
        let datum = row.datum(check.column);
        if let Some(reason) = &check.reported {
            if !is_default(&datum) {
                found.push((check.name, format!("{}: {reason}", check.name)));
            }
            continue;
        }
        let (Some(keys), Datum::Map(pairs)) = (&check.keys, &datum) else { continue };
        for (key, value) in pairs {
            let (Atom::String(key), Atom::String(value)) = (key, value) else { continue };
            let reason = match keys.get(&**key) {
                Some((_, None)) => continue,
                Some((default, Some(_))) if !default.is_empty() && value.eq_ignore_ascii_case(default) => {
                    continue;
                }
                Some((_, Some(reason))) => reason.as_str(),
                None => "the key is not known; nothing acts on it",
            };
            found.push((check.name, format!("{}:{key}: {reason}", check.name)));
        }
    }
    found
}

/// Empty, false, 0 or an empty string.
fn is_default(datum: &Datum) -> bool {
    let is_zero = |atom: &Atom| match atom {
        Atom::String(text) => text.is_empty(),
        Atom::Boolean(value) => !*value,
        Atom::Integer(value) => *value == 0,
        _ => false,
    };
    match datum {
        Datum::Map(pairs) => pairs.is_empty(),
        Datum::Set(atoms) => atoms.iter().all(is_zero),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_column_of_the_northbound_database_is_listed_once() {
        let mut list = list();
        list.retain(|feature| feature.database == Database::Northbound);
        let listed: BTreeSet<(&str, &str)> = list
            .iter()
            .filter(|feature| feature.key.is_empty())
            .map(|feature| (feature.table, feature.column))
            .collect();
        let declared: BTreeSet<(&str, &str)> = tables::all()
            .iter()
            .filter(|table| table.database == Database::Northbound)
            .flat_map(|table| table.columns.iter().map(|column| (table.name, column.name)))
            .collect();
        assert_eq!(declared.difference(&listed).collect::<Vec<_>>(), [] as [&(&str, &str); 0], "not listed");
        assert_eq!(
            listed.difference(&declared).collect::<Vec<_>>(),
            [] as [&(&str, &str); 0],
            "not declared"
        );
        let unique: BTreeSet<_> =
            list.iter().map(|feature| (feature.table, feature.column, feature.key)).collect();
        assert_eq!(unique.len(), list.len());
    }

    #[test]
    fn every_southbound_table_of_ovn_is_listed_once_and_says_why_it_is_empty() {
        let declared: Vec<&str> = tables::all()
            .iter()
            .filter(|table| table.database == Database::Southbound && table.name != "Chassis_Interface")
            .map(|table| table.name)
            .collect();
        let southbound = || list().into_iter().filter(|feature| feature.database == Database::Southbound);
        let mut listed: Vec<&str> = southbound().map(|feature| feature.table).collect();
        for feature in southbound() {
            assert!(!feature.area.is_empty(), "{feature:?}");
            assert!(feature.state == State::Works || !feature.note.is_empty(), "{feature:?}");
        }
        let mut sorted = declared.clone();
        sorted.sort_unstable();
        listed.sort_unstable();
        assert_eq!(listed, sorted);
    }

    #[test]
    fn keys_are_those_of_maps_and_every_key_has_a_check() {
        for feature in list().into_iter().filter(|feature| feature.database == Database::Northbound) {
            let table = tables::find(Database::Northbound, feature.table).unwrap();
            let column = tables::decl(table).column(feature.column).unwrap();
            assert!(!feature.area.is_empty());
            assert!(feature.state != State::Partly || !feature.note.is_empty(), "{feature:?} says not which");
            if feature.key.is_empty() {
                continue;
            }
            assert!(tables::decl(table).column_decl(column).ty.value.is_some(), "{feature:?}");
            let check = CHECKS[&table].columns.iter().find(|check| check.column == column);
            let keys = check.and_then(|check| check.keys.as_ref());
            assert!(keys.is_some_and(|keys| keys.contains_key(feature.key)), "{feature:?}");
        }
    }
}
