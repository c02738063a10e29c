//! A copy of chosen tables and columns, as a monitor keeps it.
//!
//! # Contract
//! In: `<table-updates>` in both forms. Out: [`RowChange`]s with the row before and after. [`crate::client`] owns the
//! replica it changes; a clone is a snapshot that shares its rows.
//!
//! # Invariants
//! - Updates are staged first and applied after: an update that can't be read changes nothing.
//! - Every row of a table has the table's layout: all columns asked for, in the order of their names.
//! - A staged change is one: `old` differs from `new`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use thiserror::Error;
use uuid::Uuid;

use crate::json::DecodeError;
use crate::monitor::{RowUpdate, RowUpdate2, TableUpdates};
use crate::operation::JsonRow;
use crate::schema::{ColumnType, ConstraintError};
use crate::value::Datum;

/// Tables with their rows. Cloning shares them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replica {
    tables: BTreeMap<Arc<str>, Table>,
}

impl Replica {
    /// A replica of these tables without any rows.
    pub fn new(layouts: impl IntoIterator<Item = (String, Layout)>) -> Self {
        let table = |(name, layout): (String, Layout)| {
            (Arc::from(name), Table { layout: Arc::new(layout), rows: Arc::default() })
        };
        Self { tables: layouts.into_iter().map(table).collect() }
    }

    /// A table; `None` if it was not asked for or the server does not have it.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.get(name)
    }

    /// All tables by name.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &Table)> {
        self.tables.iter().map(|(name, table)| (name.as_ref(), table))
    }

    /// The rows of a table; none if there is no such table.
    pub fn rows(&self, table: &str) -> impl Iterator<Item = &Arc<Row>> {
        self.tables.get(table).into_iter().flat_map(|table| table.rows.values())
    }

    /// A row.
    pub fn row(&self, table: &str, uuid: Uuid) -> Option<&Arc<Row>> {
        self.tables.get(table)?.row(uuid)
    }

    /// The first row whose column has this value.
    pub fn find(&self, table: &str, column: &str, value: &Datum) -> Option<&Arc<Row>> {
        self.rows(table).find(|row| row.get(column) == Some(value))
    }

    /// The number of rows in all tables.
    pub fn row_count(&self) -> usize {
        self.tables.values().map(|table| table.rows.len()).sum()
    }

    /// Whether both have the same tables with the same columns.
    pub fn same_layout(&self, other: &Self) -> bool {
        self.tables.len() == other.tables.len()
            && self.tables.iter().zip(&other.tables).all(|(a, b)| a.0 == b.0 && a.1.layout == b.1.layout)
    }

    /// The same tables without their rows.
    pub fn emptied(&self) -> Self {
        let table = |(name, table): (&Arc<str>, &Table)| {
            (name.clone(), Table { layout: table.layout.clone(), rows: Arc::default() })
        };
        Self { tables: self.tables.iter().map(table).collect() }
    }

    /// What these updates would change.
    pub fn stage2(&self, updates: TableUpdates<RowUpdate2>) -> Result<Vec<RowChange>, UpdateError> {
        self.stage(updates, |table, current, uuid, update| match update {
            RowUpdate2::Initial(row) | RowUpdate2::Insert(row) => match current {
                None => table.decode(uuid, row, None, Form::Whole).map(Some),
                Some(_) => Err(Fault::RowExists),
            },
            RowUpdate2::Modify(row) => match current {
                Some(current) => table.decode(uuid, row, Some(current), Form::Difference).map(Some),
                None => Err(Fault::NoRow),
            },
            RowUpdate2::Delete => current.map(|_| None).ok_or(Fault::NoRow),
        })
    }

    /// What these updates would change.
    pub fn stage1(&self, updates: TableUpdates<RowUpdate>) -> Result<Vec<RowChange>, UpdateError> {
        self.stage(updates, |table, current, uuid, update| match update {
            RowUpdate::Insert { new } => match current {
                None => table.decode(uuid, new, None, Form::Whole).map(Some),
                Some(_) => Err(Fault::RowExists),
            },
            RowUpdate::Modify { new, .. } => match current {
                Some(current) => table.decode(uuid, new, Some(current), Form::Whole).map(Some),
                None => Err(Fault::NoRow),
            },
            RowUpdate::Delete { .. } => current.map(|_| None).ok_or(Fault::NoRow),
        })
    }

    fn stage<R>(
        &self,
        updates: TableUpdates<R>,
        decode: impl Fn(&Table, Option<&Arc<Row>>, Uuid, R) -> Result<Option<Row>, Fault>,
    ) -> Result<Vec<RowChange>, UpdateError> {
        let mut changes = Vec::new();
        for (name, rows) in updates.tables {
            let Some((table_name, table)) = self.tables.get_key_value(name.as_str()) else {
                return Err(UpdateError { table: name, row: None, fault: Fault::NoTable });
            };
            for (uuid, update) in rows {
                let old = table.rows.get(&uuid);
                let new = decode(table, old, uuid, update)
                    .map_err(|fault| UpdateError { table: name.clone(), row: Some(uuid), fault })?
                    .map(Arc::new);
                if old != new.as_ref() {
                    changes.push(RowChange { table: table_name.clone(), uuid, old: old.cloned(), new });
                }
            }
        }
        Ok(changes)
    }

    /// Makes staged changes.
    pub fn apply(&mut self, changes: &[RowChange]) {
        for change in changes {
            let Some(table) = self.tables.get_mut(&change.table) else { continue };
            let rows = Arc::make_mut(&mut table.rows);
            match &change.new {
                Some(row) => drop(rows.insert(change.uuid, row.clone())),
                None => drop(rows.remove(&change.uuid)),
            }
        }
    }

    /// What turns `self` into `new`, table by table.
    pub fn changes_to(&self, new: &Self) -> Vec<RowChange> {
        let mut changes = Vec::new();
        for (name, table) in &self.tables {
            let kept = new.tables.get(name);
            for (uuid, old) in table.rows.iter() {
                if kept.is_none_or(|kept| !kept.rows.contains_key(uuid)) {
                    let (table, uuid, old) = (name.clone(), *uuid, Some(old.clone()));
                    changes.push(RowChange { table, uuid, old, new: None });
                }
            }
        }
        for (name, table) in &new.tables {
            for (uuid, row) in table.rows.iter() {
                let old = self.row(name, *uuid);
                if old != Some(row) {
                    let (table, uuid) = (name.clone(), *uuid);
                    changes.push(RowChange { table, uuid, old: old.cloned(), new: Some(row.clone()) });
                }
            }
        }
        changes
    }
}

/// One table's rows by UUID.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    layout: Arc<Layout>,
    rows: Arc<BTreeMap<Uuid, Arc<Row>>>,
}

impl Table {
    /// A row.
    pub fn row(&self, uuid: Uuid) -> Option<&Arc<Row>> {
        self.rows.get(&uuid)
    }

    /// All rows in the order of their UUIDs.
    pub fn rows(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.rows.values()
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The columns.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    fn decode(&self, uuid: Uuid, json: JsonRow, base: Option<&Arc<Row>>, form: Form) -> Result<Row, Fault> {
        let mut values: Vec<Datum> = match base {
            Some(base) => base.values.to_vec(),
            None => self.layout.columns.iter().map(|(_, ty)| Datum::default_for(ty)).collect(),
        };
        for (column, json) in json {
            let Some(at) = self.layout.position(&column) else {
                // The UUID is the key already; servers may repeat it.
                if column == "_uuid" {
                    continue;
                }
                return Err(Fault::NoColumn { column });
            };
            let ty = &self.layout.columns[at].1;
            values[at] =
                read(&values[at], &json, ty, form).map_err(|source| Fault::Value { column, source })?;
        }
        Ok(Row { uuid, layout: self.layout.clone(), values: values.into() })
    }
}

fn read(base: &Datum, json: &Value, ty: &ColumnType, form: Form) -> Result<Datum, DecodeError> {
    let datum = Datum::from_json(json, ty)?;
    let datum = match form {
        Form::Whole => datum,
        Form::Difference => base.apply_diff(&datum, ty)?,
    };
    // Constraints beyond the number of elements are the server's; a schema may have grown stricter after the row.
    if ty.max.is_exceeded_by(datum.len()) {
        return Err(ConstraintError::Count { min: ty.min, max: ty.max, got: datum.len() }.into());
    }
    Ok(datum)
}

#[derive(Clone, Copy)]
enum Form {
    Whole,
    Difference,
}

/// The columns asked for of one table, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    columns: Vec<(Box<str>, ColumnType)>,
}

impl Layout {
    /// These columns.
    pub fn new(columns: impl IntoIterator<Item = (String, ColumnType)>) -> Self {
        let columns: BTreeMap<_, _> = columns.into_iter().collect();
        Self { columns: columns.into_iter().map(|(name, ty)| (name.into(), ty)).collect() }
    }

    /// The columns' names and types.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &ColumnType)> {
        self.columns.iter().map(|(name, ty)| (name.as_ref(), ty))
    }

    /// A column's type.
    pub fn column_type(&self, column: &str) -> Option<&ColumnType> {
        self.position(column).map(|at| &self.columns[at].1)
    }

    fn position(&self, column: &str) -> Option<usize> {
        self.columns.binary_search_by(|(name, _)| name.as_ref().cmp(column)).ok()
    }
}

/// One row: its UUID and the columns asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    uuid: Uuid,
    layout: Arc<Layout>,
    values: Box<[Datum]>,
}

impl Row {
    /// The row's UUID.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// A column; `None` if it was not asked for or the server does not have it.
    pub fn get(&self, column: &str) -> Option<&Datum> {
        self.layout.position(column).map(|at| &self.values[at])
    }

    /// All columns.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &Datum)> {
        self.layout.columns.iter().zip(&self.values).map(|((name, _), value)| (name.as_ref(), value))
    }

    /// The string of a scalar or an optional that is there.
    pub fn string(&self, column: &str) -> Option<&str> {
        self.get(column)?.as_str()
    }

    /// The integer of a scalar or an optional that is there.
    pub fn integer(&self, column: &str) -> Option<i64> {
        self.get(column)?.as_integer()
    }

    /// The real of a scalar or an optional that is there.
    pub fn real(&self, column: &str) -> Option<f64> {
        self.get(column)?.as_real()
    }

    /// The boolean of a scalar or an optional that is there.
    pub fn boolean(&self, column: &str) -> Option<bool> {
        self.get(column)?.as_bool()
    }

    /// The UUID of a scalar or an optional that is there.
    pub fn reference(&self, column: &str) -> Option<Uuid> {
        self.get(column)?.as_uuid()
    }

    /// The UUIDs of a set.
    pub fn references(&self, column: &str) -> impl Iterator<Item = Uuid> + '_ {
        self.get(column).into_iter().flat_map(Datum::uuids)
    }

    /// The strings of a set.
    pub fn strings(&self, column: &str) -> impl Iterator<Item = &str> + '_ {
        self.get(column).into_iter().flat_map(Datum::strings)
    }

    /// What a map of strings holds for a key.
    pub fn map_string(&self, column: &str, key: &str) -> Option<&str> {
        self.get(column)?.get_str(key)
    }
}

/// A row that came, changed or went.
#[derive(Clone, Debug, PartialEq)]
pub struct RowChange {
    /// The table.
    pub table: Arc<str>,
    /// The row.
    pub uuid: Uuid,
    /// As it was; `None` if it came.
    pub old: Option<Arc<Row>>,
    /// As it is; `None` if it went.
    pub new: Option<Arc<Row>>,
}

impl RowChange {
    /// Whether this column changed, came or went.
    pub fn touches(&self, column: &str) -> bool {
        let value = |row: &Option<Arc<Row>>| row.as_ref().and_then(|row| row.get(column).cloned());
        value(&self.old) != value(&self.new)
    }

    /// Makes of changes that followed one another at most one for each row.
    pub fn merge(earlier: Vec<Self>, later: Vec<Self>) -> Vec<Self> {
        let mut merged: BTreeMap<(Arc<str>, Uuid), Self> = BTreeMap::new();
        for change in earlier.into_iter().chain(later) {
            match merged.entry((change.table.clone(), change.uuid)) {
                std::collections::btree_map::Entry::Vacant(entry) => drop(entry.insert(change)),
                std::collections::btree_map::Entry::Occupied(mut entry) => entry.get_mut().new = change.new,
            }
        }
        merged.into_values().filter(|change| change.old != change.new).collect()
    }
}

/// An update that does not fit the replica: the peer and we do not agree on what was before.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("update of table {table}{}: {fault}", row.map(|row| format!(" row {row}")).unwrap_or_default())]
pub struct UpdateError {
    /// The table.
    pub table: String,
    /// The row.
    pub row: Option<Uuid>,
    /// Why.
    pub fault: Fault,
}

/// Why an update does not fit.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// A table that was not asked for.
    #[error("the table was not asked for")]
    NoTable,
    /// A column that was not asked for.
    #[error("column {column:?} was not asked for")]
    NoColumn {
        /// The column.
        column: String,
    },
    /// A change of a row that is not there.
    #[error("there is no such row")]
    NoRow,
    /// A new row that is there already.
    #[error("the row is there already")]
    RowExists,
    /// A value of another type.
    #[error("column {column:?}: {source}")]
    Value {
        /// The column.
        column: String,
        /// Why.
        source: DecodeError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::BaseType;
    use serde_json::json;

    fn replica() -> Replica {
        let layout = Layout::new([
            ("name".to_owned(), ColumnType::scalar(BaseType::STRING)),
            ("ids".to_owned(), ColumnType::set(BaseType::INTEGER)),
        ]);
        Replica::new([("T".to_owned(), layout)])
    }

    fn updates(row: Value) -> TableUpdates<RowUpdate2> {
        TableUpdates::from_json(json!({"T": {Uuid::nil().to_string(): row}})).unwrap()
    }

    #[test]
    fn rows_come_change_and_go() {
        let mut replica = replica();
        let inserted = replica.stage2(updates(json!({"insert": {"name": "a"}}))).unwrap();
        replica.apply(&inserted);
        let row = replica.row("T", Uuid::nil()).unwrap();
        assert_eq!((row.string("name"), row.get("ids")), (Some("a"), Some(&Datum::EMPTY_SET)));

        let snapshot = replica.clone();
        let changed = replica.stage2(updates(json!({"modify": {"ids": ["set", [1, 2]]}}))).unwrap();
        assert!(changed[0].touches("ids") && !changed[0].touches("name"));
        replica.apply(&changed);
        assert_eq!(replica.row("T", Uuid::nil()).unwrap().get("ids"), Some(&Datum::set([1, 2])));
        assert_eq!(snapshot.changes_to(&replica), changed);
        assert_eq!(snapshot.row("T", Uuid::nil()).unwrap().get("ids"), Some(&Datum::EMPTY_SET));

        let gone = replica.stage2(updates(json!({"delete": null}))).unwrap();
        replica.apply(&gone);
        assert_eq!(replica.row_count(), 0);
        assert_eq!(RowChange::merge(inserted, gone), []);
    }

    #[test]
    fn an_update_that_does_not_fit_is_refused() {
        let replica = replica();
        for (row, why) in [
            (json!({"modify": {}}), "there is no such row"),
            (json!({"insert": {"x": 1}}), "column \"x\" was not asked for"),
            (json!({"insert": {"name": 1}}), "column \"name\": expected a string, got 1"),
            (
                json!({"insert": {"name": ["set", ["a", "b"]]}}),
                "column \"name\": expected 1 to 1 elements, got 2",
            ),
        ] {
            assert_eq!(replica.stage2(updates(row)).unwrap_err().fault.to_string(), why);
        }
    }
}
