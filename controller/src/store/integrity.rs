//! The checks of a transaction's end, in ovsdb-server's order (`ovsdb_txn_precommit`): strong references, garbage
//! collection, maxRows, weak references, column constraints, unique indexes.
//!
//! # Contract
//! - Looks only at what was written since it last ran; its cost follows that.
//! - Garbage collection deletes unreferenced rows of non-root tables, and those that only they referred to; weak
//!   references to rows that are not there are dropped.

use std::collections::BTreeSet;

use ovsdb::{
    schema::{ColumnType, Max},
    value::{Atom, Datum},
};
use quantumnet_model::{
    Uuid,
    row::{ColumnDecl, ColumnId, DynRow, TableId},
    tables,
};

use crate::store::{Reference, Refusal, Txn, index::key_of};

impl Txn<'_> {
    /// Makes the state consistent, or says why it can't be.
    pub(crate) fn enforce(&mut self) -> Result<(), Refusal> {
        let suspects = std::mem::take(&mut self.pending.suspects);
        self.strong_references(&suspects)?;
        self.collect_garbage();
        self.max_rows()?;
        self.weak_references(suspects);
        for (table, uuid) in std::mem::take(&mut self.pending.written) {
            self.columns(table, uuid)?;
            self.unique(table, uuid)?;
        }
        Ok(())
    }

    fn strong_references(&self, suspects: &BTreeSet<(TableId, Uuid)>) -> Result<(), Refusal> {
        for (target_table, target) in suspects {
            if self.rows().dyn_row(*target_table, *target).is_some() {
                continue;
            }
            if let Some(reference) =
                self.referrers(*target_table, *target).next().filter(|found| found.strong)
            {
                return Err(Refusal::ReferentialIntegrity {
                    table: reference.table,
                    row: reference.row,
                    column: tables::decl(reference.table).column_decl(reference.column).name,
                    target_table: *target_table,
                    target: *target,
                });
            }
        }
        Ok(())
    }

    fn collect_garbage(&mut self) {
        while let Some((table, uuid)) = self.pending.orphans.pop_first() {
            let root = tables::decl(table).root;
            let kept = root || self.referrers(table, uuid).next().is_some_and(|reference| reference.strong);
            if !kept {
                // Adds what only this row referred to, and remembers that it went.
                self.delete_dyn(table, uuid);
            }
        }
    }

    fn max_rows(&self) -> Result<(), Refusal> {
        let tables: BTreeSet<TableId> = self.pending.written.iter().map(|(table, _)| *table).collect();
        for table in tables {
            let got = self.rows().len(table);
            if let Some(max) = tables::decl(table).max_rows.filter(|max| got > *max) {
                return Err(Refusal::MaxRows { table, max, got });
            }
        }
        Ok(())
    }

    fn weak_references(&mut self, mut suspects: BTreeSet<(TableId, Uuid)>) {
        suspects.append(&mut self.pending.suspects);
        for (target_table, target) in suspects {
            if self.rows().dyn_row(target_table, target).is_some() {
                continue;
            }
            let dangling: Vec<Reference> =
                self.referrers(target_table, target).filter(|reference| !reference.strong).collect();
            for reference in dangling {
                self.prune(reference, target);
            }
        }
        // Pruning removes references only; it makes no new suspects and, there being no column with both kinds, no
        // orphans.
    }

    fn prune(&mut self, reference: Reference, target: Uuid) {
        let Reference { table, row: uuid, column, .. } = reference;
        let Some(row) = self.rows().dyn_row(table, uuid) else { return };
        // The difference, not the new value: a set of 50,000 must not be built anew for each port that goes.
        let column_type = &tables::decl(table).column_decl(column).ty;
        let gone = match (&column_type.value, column_type.is_composite()) {
            (Some(_), _) => {
                let refers = |atom: &Atom| atom.as_uuid() == Some(target);
                let Datum::Map(mut pairs) = row.datum(column) else { return };
                pairs.retain(|(key, value)| refers(key) || refers(value));
                Datum::Map(pairs)
            }
            (None, true) => Datum::scalar(target),
            (None, false) => Datum::EMPTY_SET,
        };
        let mut row = row.clone_row();
        // A scalar can't be emptied: it stays as it is and is refused with the other columns.
        if row.apply_diff(column, &gone) {
            self.write(table, uuid, Some(row.into()));
        }
    }

    fn columns(&self, table: TableId, uuid: Uuid) -> Result<(), Refusal> {
        let Some(new) = self.rows().dyn_row(table, uuid) else { return Ok(()) };
        let old = self.original(table, uuid);
        let decl = tables::decl(table);
        for column in decl.column_ids() {
            let declared = decl.column_decl(column);
            let violation = |reason: String| Refusal::ConstraintViolation {
                table,
                row: uuid,
                column: declared.name,
                reason,
            };
            let changed = match old {
                Some(old) => old.diff(new.as_ref(), column),
                None => Some(new.datum(column)),
            };
            let Some(changed) = changed else { continue };
            if declared.immutable && old.is_some() {
                return Err(violation("the column cannot change after the row's insert".into()));
            }
            elements(&changed, &declared.ty).map_err(&violation)?;
            self.count(new.as_ref(), column, declared).map_err(&violation)?;
            self.dangling_scalar(new.as_ref(), table, column).map_err(&violation)?;
        }
        Ok(())
    }

    /// Checks the number of elements where the declaration bounds it further than the Rust type does.
    fn count(&self, row: &dyn DynRow, column: ColumnId, declared: &ColumnDecl) -> Result<(), String> {
        let (min, max) = (declared.ty.min, declared.ty.max);
        if !declared.ty.is_composite() || (min == 0 && max == Max::Unlimited) {
            return Ok(());
        }
        let got = row.datum(column).len();
        if got < min || max.is_exceeded_by(got) {
            let error = ovsdb::schema::ConstraintError::Count { min, max, got };
            return Err(error.to_string());
        }
        Ok(())
    }

    /// A weak reference in a column of exactly one value can't be dropped.
    fn dangling_scalar(&self, row: &dyn DynRow, table: TableId, column: ColumnId) -> Result<(), String> {
        let declared =
            crate::store::reference_columns(table).iter().find(|declared| declared.column == column);
        let Some(declared) = declared.filter(|declared| !declared.strong) else { return Ok(()) };
        if tables::decl(table).column_decl(column).ty.min == 0 {
            return Ok(());
        }
        let mut dangling = None;
        row.each_reference(column, &mut |target| {
            if self.rows().dyn_row(declared.target, target).is_none() {
                dangling = Some(target);
            }
        });
        match dangling {
            Some(target) => Err(format!("row {target} does not exist and the column cannot be empty")),
            None => Ok(()),
        }
    }

    fn unique(&self, table: TableId, uuid: Uuid) -> Result<(), Refusal> {
        let Some(row) = self.rows().dyn_row(table, uuid) else { return Ok(()) };
        for (place, columns) in tables::decl(table).indexes.iter().enumerate() {
            let key = key_of(row.as_ref(), columns);
            let holder =
                self.state.indexes().starting_with(table, place, key.clone()).find(|found| *found != uuid);
            if let Some(holder) = holder {
                let values: Vec<String> = key.iter().map(ToString::to_string).collect();
                return Err(Refusal::DuplicateIndex {
                    table,
                    columns: columns
                        .iter()
                        .map(|column| tables::decl(table).column_decl(*column).name)
                        .collect(),
                    values: values.join(", "),
                    row: uuid,
                    holder,
                });
            }
        }
        Ok(())
    }
}

/// Checks what a difference adds; what it takes away was valid before.
fn elements(changed: &Datum, ty: &ColumnType) -> Result<(), String> {
    let checked = match (changed, &ty.value) {
        (Datum::Map(pairs), Some(value)) => {
            pairs.iter().try_for_each(|(k, v)| ty.key.check(k).and_then(|()| value.check(v)))
        }
        (changed, _) => changed.atoms().iter().try_for_each(|atom| ty.key.check(atom)),
    };
    checked.map_err(|error| error.to_string())
}
