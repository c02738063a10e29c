//! Which columns refer to which tables, and who refers to a row.
//!
//! # Invariants
//! - The index holds each (target, referring row, column) once, with the number of times that the column
//!   names the target (a map may name it under several keys).
//! - A column refers to at most one table; a test holds every declaration to it.

use std::sync::LazyLock;

use imbl::OrdMap;
use ovsdb::schema::RefType;
use quantumnet_model::{
    Uuid,
    row::{ColumnId, DynRow, TableId},
    tables,
};

use crate::store::visits;

/// A column that refers to rows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReferenceColumn {
    /// The column.
    pub column: ColumnId,
    /// The table it refers to.
    pub target: TableId,
    /// Whether it keeps those rows alive.
    pub strong: bool,
}

/// One row referring to another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reference {
    /// Table of the referring row.
    pub table: TableId,
    /// The referring row.
    pub row: Uuid,
    /// The referring column.
    pub column: ColumnId,
    /// Whether it keeps the target alive.
    pub strong: bool,
}

/// The referring columns of a table.
pub fn reference_columns(table: TableId) -> &'static [ReferenceColumn] {
    static COLUMNS: LazyLock<Vec<Vec<ReferenceColumn>>> =
        LazyLock::new(|| tables::ids().map(|table| declared(table).collect()).collect());
    &COLUMNS[usize::from(table.0)]
}

fn declared(table: TableId) -> impl Iterator<Item = ReferenceColumn> {
    let decl = tables::decl(table);
    decl.column_ids().flat_map(move |column| {
        decl.column_decl(column).ty.bases().filter_map(move |base| {
            let target = tables::find(decl.database, base.ref_table.as_deref()?)?;
            Some(ReferenceColumn { column, target, strong: base.ref_type == RefType::Strong })
        })
    })
}

/// Place of a reference: by target, strong ones first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Place {
    target_table: TableId,
    target: Uuid,
    weak: bool,
    table: TableId,
    column: ColumnId,
    row: Uuid,
}

/// Who refers to a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct References {
    counts: OrdMap<Place, u32>,
}

impl References {
    /// Follows a row from `old` to `new`; `visit` is told (target table, target, strong, gained) of each reference
    /// that went or came, at a cost that follows their number when both rows share their sets.
    pub(crate) fn replace(
        &mut self,
        table: TableId,
        row: Uuid,
        old: Option<&dyn DynRow>,
        new: Option<&dyn DynRow>,
        visit: &mut dyn FnMut(TableId, Uuid, bool, bool),
    ) {
        for declared in reference_columns(table) {
            let mut change = |target: Uuid, gained: bool| {
                let place = Place {
                    target_table: declared.target,
                    target,
                    weak: !declared.strong,
                    table,
                    column: declared.column,
                    row,
                };
                self.count(place, gained);
                visit(declared.target, target, declared.strong, gained);
            };
            match (old, new) {
                (Some(old), Some(new)) => old.reference_changes(new, declared.column, &mut change),
                (Some(old), None) => old.each_reference(declared.column, &mut |target| change(target, false)),
                (None, Some(new)) => new.each_reference(declared.column, &mut |target| change(target, true)),
                (None, None) => {}
            }
        }
    }

    fn count(&mut self, place: Place, gained: bool) {
        let before = self.counts.get(&place).copied().unwrap_or(0);
        let now = if gained { before + 1 } else { before.saturating_sub(1) };
        if now == 0 {
            self.counts.remove(&place);
        } else {
            self.counts.insert(place, now);
        }
    }

    /// How often the row is referred to by strong references.
    pub(crate) fn strong(&self, target_table: TableId, target: Uuid) -> u64 {
        let column = ColumnId(0);
        let first = Place { target_table, target, weak: false, table: TableId(0), column, row: Uuid::nil() };
        let strong = self.counts.range(first..).take_while(|(place, _)| {
            place.target_table == target_table && place.target == target && !place.weak
        });
        strong.map(|(_, count)| u64::from(*count)).sum()
    }

    /// Who refers to the row, strong references first.
    pub(crate) fn to(
        &self,
        target_table: TableId,
        target: Uuid,
    ) -> impl Iterator<Item = Reference> + use<'_> {
        let first = Place {
            target_table,
            target,
            weak: false,
            table: TableId(0),
            column: ColumnId(0),
            row: Uuid::nil(),
        };
        self.counts
            .range(first..)
            .map(|(place, _)| place)
            .take_while(move |place| place.target_table == target_table && place.target == target)
            .map(reference)
            .inspect(|_| visits::count())
    }

    /// Who refers to the row through one column.
    pub(crate) fn through(
        &self,
        target_table: TableId,
        target: Uuid,
        table: TableId,
        declared: ReferenceColumn,
    ) -> impl Iterator<Item = Uuid> + use<'_> {
        let (weak, column) = (!declared.strong, declared.column);
        let first = Place { target_table, target, weak, table, column, row: Uuid::nil() };
        self.counts
            .range(first..)
            .map(|(place, _)| place)
            .take_while(move |place| Place { row: Uuid::nil(), ..**place } == first)
            .map(|place| place.row)
            .inspect(|_| visits::count())
    }
}

fn reference(place: &Place) -> Reference {
    Reference { table: place.table, row: place.row, column: place.column, strong: !place.weak }
}
