//! The whole store at one revision, as a value: a clone is a snapshot.

use std::sync::Arc;

use ovsdb::value::Datum;
use quantumnet_model::{
    Row, Rows, Uuid,
    change::{ChangeError, RowChange},
    row::{ColumnId, DynRow, TableId},
    tables,
};

use crate::store::{
    Touched,
    index::{Indexes, Key, index_columns},
    references::{Reference, ReferenceColumn, References, reference_columns},
    visits,
};

/// Rows, their indexes and references at one revision. Cloning costs a few hundred counters, whatever its size.
#[derive(Clone, Debug, Default)]
pub struct State {
    rows: Rows,
    indexes: Indexes,
    references: References,
    revision: u64,
}

impl State {
    /// The row, as its type.
    pub fn get<T: Row>(&self, uuid: Uuid) -> Option<&T> {
        visits::count();
        self.rows.get(uuid)
    }

    /// All rows of a type, by uuid.
    pub fn iter<T: Row>(&self) -> impl Iterator<Item = (Uuid, &T)> {
        self.rows.iter().inspect(|_| visits::count())
    }

    /// The first row with these values; see [`Self::lookup`].
    pub fn find<T: Row>(&self, values: &[(&str, Datum)]) -> Option<Uuid> {
        self.lookup::<T>(values).next()
    }

    /// Rows with these values, which must be those of the first columns (or all) of a declared index, in any order
    /// of naming. Costs a search and the answers. Panics when there is no such index: that is a programmer's error.
    pub fn lookup<T: Row>(&self, values: &[(&str, Datum)]) -> impl Iterator<Item = Uuid> + use<'_, T> {
        let (place, prefix) = index_prefix(T::TABLE, values);
        self.indexes.starting_with(T::TABLE, place, prefix)
    }

    /// Who refers to a row, strong references first; costs the answers. A row of another table may have the same
    /// uuid, so the table is named too.
    pub fn referrers(
        &self,
        target_table: TableId,
        target: Uuid,
    ) -> impl Iterator<Item = Reference> + use<'_> {
        self.references.to(target_table, target)
    }

    /// Rows of type `R` that refer to the row `target` of type `T` through `column`, by uuid. Panics when the
    /// column is not declared to refer to `T`.
    pub fn referrers_through<T: Row, R: Row>(
        &self,
        target: Uuid,
        column: &str,
    ) -> impl Iterator<Item = Uuid> + use<'_, T, R> {
        let column = tables::decl(R::TABLE).column(column);
        let declared = reference_columns(R::TABLE)
            .iter()
            .find(|declared| Some(declared.column) == column && declared.target == T::TABLE)
            .expect("the column named refers to the table named");
        self.references.through(T::TABLE, target, R::TABLE, *declared)
    }

    /// How many transactions led here.
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// All rows.
    pub const fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The state with these rows at that revision; indexes and references are built anew.
    pub fn rebuild(rows: Rows, revision: u64) -> Self {
        let mut state = Self { revision, ..Self::default() };
        for table in tables::ids() {
            for (uuid, row) in rows.table(table) {
                state.replace(table, *uuid, Some(row.clone()), &mut |_, _, _, _| {});
            }
        }
        state
    }

    /// Applies a committed transaction's changes and returns the rows before and after; on an error the state is as
    /// before.
    pub fn apply(&mut self, revision: u64, changes: &[RowChange]) -> Result<Vec<Touched>, ChangeError> {
        let mut next = self.clone();
        let mut touched = Vec::with_capacity(changes.len());
        for change in changes {
            let (table, uuid) = (change.table, change.uuid);
            let new = change.applied_to(next.rows.dyn_row(table, uuid).map(AsRef::as_ref))?;
            let old = next.replace(table, uuid, new.clone(), &mut |_, _, _, _| {});
            touched.push(Touched { table, uuid, old, new });
        }
        next.revision = revision;
        *self = next;
        Ok(touched)
    }

    /// True when indexes and references are those that the rows alone give; for tests and debug builds.
    pub fn check(&self) -> bool {
        let rebuilt = Self::rebuild(self.rows.clone(), self.revision);
        rebuilt.indexes == self.indexes && rebuilt.references == self.references
    }

    /// Rows that refer to `target` through a column.
    pub(crate) fn referrers_by(
        &self,
        target_table: TableId,
        target: Uuid,
        table: TableId,
        declared: ReferenceColumn,
    ) -> impl Iterator<Item = Uuid> + use<'_> {
        self.references.through(target_table, target, table, declared)
    }

    /// Rows with this value in a column that is an index of its own.
    pub(crate) fn lookup_by(
        &self,
        table: TableId,
        column: ColumnId,
        value: Datum,
    ) -> impl Iterator<Item = Uuid> + use<'_> {
        let place = tables::decl(table).indexes.iter().position(|index| index == &[column]);
        let place = place.expect("the column is an index of its own");
        self.indexes.starting_with(table, place, [value].into())
    }

    /// Rows whose first columns of some index have these values; `None` when `value` knows those of no index.
    pub(crate) fn lookup_equal(
        &self,
        table: TableId,
        value: &dyn Fn(ColumnId) -> Option<Datum>,
    ) -> Option<impl Iterator<Item = Uuid> + use<'_>> {
        let known = |columns: &Vec<ColumnId>| -> Vec<Datum> {
            columns.iter().map_while(|column| value(*column)).collect()
        };
        let prefixes = index_columns(table).iter().map(known).enumerate();
        let (place, prefix) = prefixes.max_by_key(|(_, prefix)| prefix.len())?;
        (!prefix.is_empty()).then(|| self.indexes.starting_with(table, place, prefix.into()))
    }

    /// How often strong references name the row.
    pub(crate) fn strong_references(&self, table: TableId, uuid: Uuid) -> u64 {
        self.references.strong(table, uuid)
    }

    pub(crate) const fn indexes(&self) -> &Indexes {
        &self.indexes
    }

    pub(crate) const fn set_revision(&mut self, revision: u64) {
        self.revision = revision;
    }

    /// Puts or removes a row; `visit` as in [`References::replace`].
    pub(crate) fn replace(
        &mut self,
        table: TableId,
        uuid: Uuid,
        new: Option<Arc<dyn DynRow>>,
        visit: &mut dyn FnMut(TableId, Uuid, bool, bool),
    ) -> Option<Arc<dyn DynRow>> {
        visits::count();
        let old = self.rows.set(table, uuid, new.clone());
        let (before, after) = (old.as_deref(), new.as_deref());
        self.indexes.replace(table, uuid, before, after);
        self.references.replace(table, uuid, before, after, visit);
        old
    }
}

/// The index whose first columns are those named, and the values in its order.
fn index_prefix(table: TableId, values: &[(&str, Datum)]) -> (usize, Key) {
    let decl = tables::decl(table);
    let value = |column: ColumnId| {
        let name = decl.column_decl(column).name;
        values.iter().find(|(named, _)| *named == name).map(|(_, value)| value.clone())
    };
    let found = decl.indexes.iter().enumerate().find_map(|(place, index)| {
        let prefix: Option<Vec<Datum>> =
            index.get(..values.len())?.iter().map(|column| value(*column)).collect();
        Some((place, prefix?.into()))
    });
    found.unwrap_or_else(|| {
        let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
        panic!("no index of table {} begins with the columns {}", decl.name, names.join(", "))
    })
}
