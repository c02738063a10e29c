//! Rows of all tables as persistent maps: a clone is a snapshot.
//!
//! # Invariants
//! - Every row sits in the table of its type.
//! - Knows no references, indexes or constraints: whoever changes rows answers for those.

use std::sync::Arc;

use imbl::OrdMap;
use uuid::Uuid;

use crate::{
    row::{DynRow, Row, TableId},
    tables,
};

/// Rows by table and uuid.
#[derive(Clone, Debug)]
pub struct Rows {
    tables: Vec<OrdMap<Uuid, Arc<dyn DynRow>>>,
}

impl Default for Rows {
    fn default() -> Self {
        Self { tables: tables::all().iter().map(|_| OrdMap::new()).collect() }
    }
}

impl Rows {
    /// The row, as its type.
    pub fn get<T: Row>(&self, uuid: Uuid) -> Option<&T> {
        self.dyn_row(T::TABLE, uuid).map(typed)
    }

    /// The row, shared.
    pub fn dyn_row(&self, table: TableId, uuid: Uuid) -> Option<&Arc<dyn DynRow>> {
        self.table(table).get(&uuid)
    }

    /// All rows of a type, by uuid.
    pub fn iter<T: Row>(&self) -> impl Iterator<Item = (Uuid, &T)> {
        self.table(T::TABLE).iter().map(|(uuid, row)| (*uuid, typed(row)))
    }

    /// All rows of a table, by uuid.
    pub fn table(&self, table: TableId) -> &OrdMap<Uuid, Arc<dyn DynRow>> {
        &self.tables[usize::from(table.0)]
    }

    /// Puts or removes a row and returns the one that was there.
    pub fn set(
        &mut self,
        table: TableId,
        uuid: Uuid,
        row: Option<Arc<dyn DynRow>>,
    ) -> Option<Arc<dyn DynRow>> {
        let rows = &mut self.tables[usize::from(table.0)];
        match row {
            Some(row) => {
                assert_eq!(row.table(), table, "a row goes into the table of its type");
                rows.insert(uuid, row)
            }
            None => rows.remove(&uuid),
        }
    }

    /// How many rows a table has.
    pub fn len(&self, table: TableId) -> usize {
        self.table(table).len()
    }

    /// True when no table has a row.
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(OrdMap::is_empty)
    }
}

/// A row as the type that its table says.
pub fn typed<T: Row>(row: &Arc<dyn DynRow>) -> &T {
    row.as_any().downcast_ref().expect("a row is kept in the table of its type")
}
