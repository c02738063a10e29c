//! A transaction under way: reads and writes on a clone of the head.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ovsdb::value::Datum;
use quantumnet_model::{
    Row, Rows, Uuid,
    change::RowChange,
    row::{ColumnId, DynRow, TableId},
    tables,
};

use crate::store::{Context, Reference, Refusal, State};

/// A transaction under way. What it reads includes what it wrote.
#[derive(Debug)]
pub struct Txn<'a> {
    context: &'a Context,
    head: &'a State,
    pub(crate) state: State,
    /// The row at the head of every row written, in a stable order.
    originals: BTreeMap<(TableId, Uuid), Option<Arc<dyn DynRow>>>,
    pub(crate) pending: Pending,
}

/// What `integrity` has not looked at yet.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Rows written.
    pub(crate) written: BTreeSet<(TableId, Uuid)>,
    /// Rows that went, and targets of new references: those who refer to them may dangle.
    pub(crate) suspects: BTreeSet<(TableId, Uuid)>,
    /// Rows of non-root tables that lost a strong reference or were inserted.
    pub(crate) orphans: BTreeSet<(TableId, Uuid)>,
}

/// A row that a transaction changed, net of everything it did.
#[derive(Clone, Debug)]
pub struct Touched {
    /// Its table.
    pub table: TableId,
    /// Its uuid.
    pub uuid: Uuid,
    /// The row at the head.
    pub old: Option<Arc<dyn DynRow>>,
    /// The row now.
    pub new: Option<Arc<dyn DynRow>>,
}

impl Touched {
    /// The row at the head, as its type; `None` too when the row is of another table.
    pub fn before<T: Row>(&self) -> Option<&T> {
        self.old.as_ref().and_then(|row| row.as_any().downcast_ref())
    }

    /// The row now, as its type; `None` too when the row is of another table.
    pub fn after<T: Row>(&self) -> Option<&T> {
        self.new.as_ref().and_then(|row| row.as_any().downcast_ref())
    }

    /// Every row that a column of references gained or lost.
    pub fn each_moved(&self, column: &str, visit: &mut dyn FnMut(Uuid)) {
        let column = tables::decl(self.table).column(column).unwrap_or(ColumnId(0));
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => old.reference_changes(new.as_ref(), column, &mut |row, _| visit(row)),
            (Some(row), None) | (None, Some(row)) => row.each_reference(column, visit),
            (None, None) => {}
        }
    }

    pub(super) fn change(&self) -> Option<RowChange> {
        RowChange::between(self.table, self.uuid, self.old.as_deref(), self.new.as_deref())
    }
}

impl<'a> Txn<'a> {
    pub(crate) fn begin(head: &'a State, context: &'a Context) -> Self {
        Self { context, head, state: head.clone(), originals: BTreeMap::new(), pending: Pending::default() }
    }

    /// The state as the transaction sees it, with all of [`State`]'s reads; its revision is the head's.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// See [`State::get`].
    pub fn get<T: Row>(&self, uuid: Uuid) -> Option<&T> {
        self.state.get(uuid)
    }

    /// See [`State::iter`].
    pub fn iter<T: Row>(&self) -> impl Iterator<Item = (Uuid, &T)> {
        self.state.iter()
    }

    /// See [`State::find`].
    pub fn find<T: Row>(&self, values: &[(&str, Datum)]) -> Option<Uuid> {
        self.state.find::<T>(values)
    }

    /// See [`State::lookup`].
    pub fn lookup<T: Row>(&self, values: &[(&str, Datum)]) -> impl Iterator<Item = Uuid> + use<'_, 'a, T> {
        self.state.lookup::<T>(values)
    }

    /// See [`State::referrers`].
    pub fn referrers(
        &self,
        target_table: TableId,
        target: Uuid,
    ) -> impl Iterator<Item = Reference> + use<'_, 'a> {
        self.state.referrers(target_table, target)
    }

    /// See [`State::referrers_through`].
    pub fn referrers_through<T: Row, R: Row>(
        &self,
        target: Uuid,
        column: &str,
    ) -> impl Iterator<Item = Uuid> + use<'_, 'a, T, R> {
        self.state.referrers_through::<T, R>(target, column)
    }

    /// All rows.
    pub const fn rows(&self) -> &Rows {
        self.state.rows()
    }

    /// The leader's clock at the beginning of the transaction, in milliseconds since the epoch.
    pub const fn now_ms(&self) -> i64 {
        self.context.now_ms
    }

    /// Who asks.
    pub fn principal(&self) -> &str {
        &self.context.principal
    }

    /// The revision that this transaction will have if it changes anything.
    pub const fn next_revision(&self) -> u64 {
        self.head.revision() + 1
    }

    /// Inserts a row; refused when one with that uuid is there.
    pub fn insert<T: Row>(&mut self, uuid: Uuid, row: T) -> Result<(), Refusal> {
        self.insert_dyn(uuid, Arc::new(row))
    }

    /// Inserts a row or replaces the one that is there.
    pub fn put<T: Row>(&mut self, uuid: Uuid, row: T) {
        self.write(T::TABLE, uuid, Some(Arc::new(row)));
    }

    /// Changes a row; false when there is none.
    pub fn update<T: Row>(&mut self, uuid: Uuid, change: impl FnOnce(&mut T)) -> bool {
        let Some(row) = self.get::<T>(uuid) else { return false };
        let mut row = row.clone();
        change(&mut row);
        self.write(T::TABLE, uuid, Some(Arc::new(row)));
        true
    }

    /// Deletes a row; false when there is none.
    pub fn delete<T: Row>(&mut self, uuid: Uuid) -> bool {
        self.delete_dyn(T::TABLE, uuid)
    }

    /// Inserts a row of any table; refused when one with that uuid is there.
    pub fn insert_dyn(&mut self, uuid: Uuid, row: Arc<dyn DynRow>) -> Result<(), Refusal> {
        let table = row.table();
        if self.rows().dyn_row(table, uuid).is_some() {
            return Err(Refusal::DuplicateUuid { table, row: uuid });
        }
        self.write(table, uuid, Some(row));
        Ok(())
    }

    /// Inserts a row of any table or replaces the one that is there.
    pub fn put_dyn(&mut self, uuid: Uuid, row: Arc<dyn DynRow>) {
        self.write(row.table(), uuid, Some(row));
    }

    /// Sets columns of a row of any table; false when there is none, refused when a datum is not of its column's
    /// Rust type. Enumerations and ranges are checked with everything else at the end.
    pub fn set_dyn(
        &mut self,
        table: TableId,
        uuid: Uuid,
        columns: &[(ColumnId, Datum)],
    ) -> Result<bool, Refusal> {
        let Some(row) = self.rows().dyn_row(table, uuid) else { return Ok(false) };
        let mut row = row.clone_row();
        for (column, datum) in columns {
            if !row.set_datum(*column, datum) {
                let decl = tables::decl(table).column_decl(*column);
                let reason = match datum.check(&decl.ty) {
                    Err(error) => error.to_string(),
                    Ok(()) => format!("{datum} is not of the column's type"),
                };
                return Err(Refusal::ConstraintViolation { table, row: uuid, column: decl.name, reason });
            }
        }
        self.write(table, uuid, Some(row.into()));
        Ok(true)
    }

    /// Deletes a row of any table; false when there is none.
    pub fn delete_dyn(&mut self, table: TableId, uuid: Uuid) -> bool {
        let present = self.rows().dyn_row(table, uuid).is_some();
        if present {
            self.write(table, uuid, None);
        }
        present
    }

    /// Every row that differs from the head, by table and uuid.
    pub fn touched(&self) -> Vec<Touched> {
        self.touched_range((TableId(0), Uuid::nil())..)
    }

    /// Every row of type `T` that differs from the head, by uuid.
    pub fn touched_in<T: Row>(&self) -> Vec<Touched> {
        self.touched_range((T::TABLE, Uuid::nil())..=(T::TABLE, Uuid::max()))
    }

    fn touched_range(&self, range: impl std::ops::RangeBounds<(TableId, Uuid)>) -> Vec<Touched> {
        let touched = self.originals.range(range).map(|((table, uuid), old)| Touched {
            table: *table,
            uuid: *uuid,
            old: old.clone(),
            new: self.rows().dyn_row(*table, *uuid).cloned(),
        });
        touched.filter(|touched| differ(touched.old.as_deref(), touched.new.as_deref())).collect()
    }

    /// The row at the head, of a row that was written.
    pub(crate) fn original(&self, table: TableId, uuid: Uuid) -> Option<&Arc<dyn DynRow>> {
        self.originals.get(&(table, uuid)).and_then(Option::as_ref)
    }

    /// Whether the row was written, to whatever end.
    pub(crate) fn is_written(&self, table: TableId, uuid: Uuid) -> bool {
        self.originals.contains_key(&(table, uuid))
    }

    /// Takes back everything that was written.
    pub(crate) fn reset(&mut self) {
        *self = Self::begin(self.head, self.context);
    }

    /// The net changes and the state after them.
    pub(crate) fn finish(self) -> (State, Vec<Touched>) {
        let touched = self.touched();
        (self.state, touched)
    }

    pub(crate) fn write(&mut self, table: TableId, uuid: Uuid, new: Option<Arc<dyn DynRow>>) {
        let pending = &mut self.pending;
        let (present, mut visit) = (new.is_some(), |target_table, target, strong, gained| {
            match (gained, strong) {
                (true, _) => pending.suspects.insert((target_table, target)),
                (false, true) => pending.orphans.insert((target_table, target)),
                (false, false) => false,
            };
        });
        let old = self.state.replace(table, uuid, new, &mut visit);
        match (old.is_some(), present) {
            (true, false) => _ = self.pending.suspects.insert((table, uuid)),
            (false, true) => _ = self.pending.orphans.insert((table, uuid)),
            _ => {}
        }
        self.pending.written.insert((table, uuid));
        self.originals.entry((table, uuid)).or_insert(old);
    }
}

fn differ(old: Option<&dyn DynRow>, new: Option<&dyn DynRow>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => !old.same(new),
        (old, new) => old.is_some() != new.is_some(),
    }
}
