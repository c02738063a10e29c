//! Unique indexes as persistent ordered sets.
//!
//! # Invariants
//! - One entry per row and declared index, whatever the rows hold: within a transaction several rows may share
//!   a key; `integrity` refuses that at its end.

use std::sync::Arc;

use imbl::OrdSet;
use ovsdb::value::Datum;
use quantumnet_model::{
    Uuid,
    row::{ColumnId, DynRow, TableId},
    tables,
};

use crate::store::visits;

/// Values of an index's columns, in its order.
pub(crate) type Key = Arc<[Datum]>;

/// All declared indexes of all tables.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Indexes {
    /// By table, then by place of the index in its declaration.
    tables: Vec<Vec<OrdSet<(Key, Uuid)>>>,
}

impl Default for Indexes {
    fn default() -> Self {
        Self { tables: tables::all().iter().map(|decl| vec![OrdSet::new(); decl.indexes.len()]).collect() }
    }
}

impl Indexes {
    /// Follows a row from `old` to `new`.
    pub(crate) fn replace(
        &mut self,
        table: TableId,
        uuid: Uuid,
        old: Option<&dyn DynRow>,
        new: Option<&dyn DynRow>,
    ) {
        let decl = tables::decl(table);
        for (columns, index) in decl.indexes.iter().zip(&mut self.tables[usize::from(table.0)]) {
            let (old, new) = (old.map(|row| key_of(row, columns)), new.map(|row| key_of(row, columns)));
            if old == new {
                continue;
            }
            if let Some(key) = old {
                index.remove(&(key, uuid));
            }
            if let Some(key) = new {
                index.insert((key, uuid));
            }
        }
    }

    /// Rows whose key in the index at `place` begins with `prefix`, in order.
    pub(crate) fn starting_with(
        &self,
        table: TableId,
        place: usize,
        prefix: Key,
    ) -> impl Iterator<Item = Uuid> + use<'_> {
        let index = &self.tables[usize::from(table.0)][place];
        index
            .range((prefix.clone(), Uuid::nil())..)
            .take_while(move |(key, _)| key.starts_with(&prefix))
            .map(|(_, uuid)| *uuid)
            .inspect(|_| visits::count())
    }
}

/// The row's key in the index over `columns`.
pub(crate) fn key_of(row: &dyn DynRow, columns: &[ColumnId]) -> Key {
    columns.iter().map(|column| row.datum(*column)).collect()
}
