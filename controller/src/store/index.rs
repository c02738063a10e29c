//! Indexes as persistent ordered sets: those declared, which are unique, and one on `name` where a table declares
//! none, for clients that look rows up by it (`Logical_Switch`, `Logical_Router` and `Load_Balancer` have no unique
//! name, and ovn-nbctl and ovn-kubernetes guard each of their inserts by a `wait` on it).
//!
//! # Invariants
//! - The unique ones come first, in the order of declaration.
//! - One entry per row and declared index, whatever the rows hold: within a transaction several rows may share
//!   a key; `integrity` refuses that at its end.

use std::sync::{Arc, LazyLock};

use imbl::OrdSet;
use ovsdb::value::{AtomicType, Datum};
use quantumnet_model::{
    Uuid,
    row::{ColumnId, DynRow, TableDecl, TableId},
    tables,
};

use crate::store::visits;

/// Values of an index's columns, in its order.
pub(crate) type Key = Arc<[Datum]>;

/// All declared indexes of all tables.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Indexes {
    /// By table, then by place in `index_columns`.
    tables: Vec<Vec<OrdSet<(Key, Uuid)>>>,
}

impl Default for Indexes {
    fn default() -> Self {
        Self { tables: tables::ids().map(|table| vec![OrdSet::new(); index_columns(table).len()]).collect() }
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
        for (columns, index) in index_columns(table).iter().zip(&mut self.tables[usize::from(table.0)]) {
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

/// The columns of all indexes of a table.
pub(crate) fn index_columns(table: TableId) -> &'static [Vec<ColumnId>] {
    static COLUMNS: LazyLock<Vec<Vec<Vec<ColumnId>>>> =
        LazyLock::new(|| tables::all().iter().map(with_name).collect());
    &COLUMNS[usize::from(table.0)]
}

fn with_name(decl: &TableDecl) -> Vec<Vec<ColumnId>> {
    let name = decl.column("name").filter(|name| {
        let ty = &decl.column_decl(*name).ty;
        ty.is_scalar()
            && ty.key.atomic == AtomicType::String
            && !decl.indexes.iter().any(|index| index.first() == Some(name))
    });
    decl.indexes.iter().cloned().chain(name.map(|name| vec![name])).collect()
}

/// The row's key in the index over `columns`.
pub(crate) fn key_of(row: &dyn DynRow, columns: &[ColumnId]) -> Key {
    columns.iter().map(|column| row.datum(*column)).collect()
}
