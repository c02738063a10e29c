//! Row changes and their encoding: what the log, the disk and the agents' streams carry.
//!
//! The encoding is postcard (its wire format 1.0) behind a format version. Tables and columns go by
//! name, so that programs of different versions understand each other: an unknown table or column is
//! an error that names it, a missing column keeps its default.
//!
//! # Invariants
//! - `decode(encode(change)) == change`.
//! - `between(old, new)` applied to `old` gives `new`; it is `None` exactly when they are equal.

use std::sync::Arc;

use ovsdb::value::Datum;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::{
    row::{ColumnId, Database, DynRow, TableId},
    rows::Rows,
    tables,
};

/// Version of the encoding. Raise it when older programs would misread the newer form.
pub const FORMAT: u8 = 1;

/// One row that came, changed or went.
#[derive(Clone, Debug, PartialEq)]
pub struct RowChange {
    /// Its table.
    pub table: TableId,
    /// Its uuid.
    pub uuid: Uuid,
    /// What happened.
    pub kind: ChangeKind,
}

/// What happened to a row.
#[derive(Clone, Debug, PartialEq)]
pub enum ChangeKind {
    /// It came, with these columns; the others have their defaults.
    Insert(Vec<(ColumnId, Datum)>),
    /// These columns changed by these differences (`Column::diff`).
    Modify(Vec<(ColumnId, Datum)>),
    /// It went.
    Delete,
}

/// Why a change was not understood or does not fit the rows.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
#[non_exhaustive]
pub enum ChangeError {
    /// Written by a newer program.
    #[error("row change of format {got}, this program understands {FORMAT}")]
    Format {
        /// The version found.
        got: u8,
    },
    /// The bytes are no row change.
    #[error("malformed row change: {reason}")]
    Malformed {
        /// What the decoder says.
        reason: String,
    },
    /// Written by a program that knows more tables.
    #[error("unknown table {table} of database {database}")]
    UnknownTable {
        /// Database name.
        database: String,
        /// Table name.
        table: String,
    },
    /// Written by a program that knows more columns.
    #[error("unknown column {column} of table {table}")]
    UnknownColumn {
        /// Table name.
        table: &'static str,
        /// Column name.
        column: String,
    },
    /// The datum is not of the column's type.
    #[error("column {column} of table {table} cannot hold {datum:?}")]
    WrongType {
        /// Table name.
        table: &'static str,
        /// Column name.
        column: &'static str,
        /// What was to be put there.
        datum: Datum,
    },
    /// An insert of a row that is there, or a change of one that is not.
    #[error("row {uuid} of table {table} is {}", if *.present { "there already" } else { "not there" })]
    Presence {
        /// Table name.
        table: &'static str,
        /// The row.
        uuid: Uuid,
        /// Whether it is there.
        present: bool,
    },
}

/// The wire form. Borrows its names from the bytes.
#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    format: u8,
    database: u8,
    table: &'a str,
    uuid: [u8; 16],
    kind: u8,
    #[serde(borrow)]
    columns: Vec<(&'a str, Datum)>,
}

const DATABASES: [Database; 5] =
    [Database::QuantumNet, Database::Northbound, Database::Southbound, Database::Host, Database::Server];

impl RowChange {
    /// What turns `old` into `new`; `None` when there is nothing to do.
    pub fn between(
        table: TableId,
        uuid: Uuid,
        old: Option<&dyn DynRow>,
        new: Option<&dyn DynRow>,
    ) -> Option<Self> {
        let decl = tables::decl(table);
        let kind = match (old, new) {
            (None, None) => return None,
            (Some(_), None) => ChangeKind::Delete,
            (None, Some(new)) => {
                let empty = (decl.new_row)();
                let changed = |column| empty.diff(new, column).map(|_| (column, new.datum(column)));
                ChangeKind::Insert(decl.column_ids().filter_map(changed).collect())
            }
            (Some(old), Some(new)) => {
                let changed = |column| old.diff(new, column).map(|diff| (column, diff));
                let columns: Vec<_> = decl.column_ids().filter_map(changed).collect();
                if columns.is_empty() {
                    return None;
                }
                ChangeKind::Modify(columns)
            }
        };
        Some(Self { table, uuid, kind })
    }

    /// The change without the columns that agents are not sent; `None` when nothing is left of it.
    pub fn for_agents(&self) -> Option<Self> {
        let decl = tables::decl(self.table);
        let keep = |columns: &Vec<(ColumnId, Datum)>| -> Vec<(ColumnId, Datum)> {
            columns.iter().filter(|(column, _)| !decl.column_decl(*column).central).cloned().collect()
        };
        let kind = match &self.kind {
            ChangeKind::Insert(columns) => ChangeKind::Insert(keep(columns)),
            ChangeKind::Modify(columns) => {
                let kept = keep(columns);
                if kept.is_empty() {
                    return None;
                }
                ChangeKind::Modify(kept)
            }
            ChangeKind::Delete => ChangeKind::Delete,
        };
        Some(Self { table: self.table, uuid: self.uuid, kind })
    }

    /// The row after the change, given the one before.
    pub fn applied_to(&self, old: Option<&dyn DynRow>) -> Result<Option<Arc<dyn DynRow>>, ChangeError> {
        let decl = tables::decl(self.table);
        let presence = |present| ChangeError::Presence { table: decl.name, uuid: self.uuid, present };
        let wrong = |column: &ColumnId, datum: &Datum| ChangeError::WrongType {
            table: decl.name,
            column: decl.column_decl(*column).name,
            datum: datum.clone(),
        };
        match (&self.kind, old) {
            (ChangeKind::Insert(_), Some(_)) => Err(presence(true)),
            (ChangeKind::Modify(_) | ChangeKind::Delete, None) => Err(presence(false)),
            (ChangeKind::Delete, Some(_)) => Ok(None),
            (ChangeKind::Insert(columns), None) => {
                let mut row = (decl.new_row)();
                for (column, datum) in columns {
                    if !row.set_datum(*column, datum) {
                        return Err(wrong(column, datum));
                    }
                }
                Ok(Some(row.into()))
            }
            (ChangeKind::Modify(columns), Some(old)) => {
                let mut row = old.clone_row();
                for (column, diff) in columns {
                    if !row.apply_diff(*column, diff) {
                        return Err(wrong(column, diff));
                    }
                }
                Ok(Some(row.into()))
            }
        }
    }

    /// Applies the change to `rows`; returns the row before and after.
    #[allow(clippy::type_complexity)] // two rows, either of which may be absent
    pub fn apply(
        &self,
        rows: &mut Rows,
    ) -> Result<(Option<Arc<dyn DynRow>>, Option<Arc<dyn DynRow>>), ChangeError> {
        let new = self.applied_to(rows.dyn_row(self.table, self.uuid).map(AsRef::as_ref))?;
        let old = rows.set(self.table, self.uuid, new.clone());
        Ok((old, new))
    }

    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let decl = tables::decl(self.table);
        let (kind, columns): (u8, &[(ColumnId, Datum)]) = match &self.kind {
            ChangeKind::Insert(columns) => (0, columns),
            ChangeKind::Modify(columns) => (1, columns),
            ChangeKind::Delete => (2, &[]),
        };
        let wire = Wire {
            format: FORMAT,
            database: DATABASES
                .iter()
                .position(|database| *database == decl.database)
                .map_or(0, |at| at as u8),
            table: decl.name,
            uuid: *self.uuid.as_bytes(),
            kind,
            columns: columns
                .iter()
                .map(|(column, datum)| (decl.column_decl(*column).name, datum.clone()))
                .collect(),
        };
        postcard::to_stdvec(&wire).expect("memory is the only thing that this encoding can lack")
    }

    /// Back from bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, ChangeError> {
        if let Some(format) = bytes.first().filter(|format| **format != FORMAT) {
            return Err(ChangeError::Format { got: *format });
        }
        let malformed = |reason: String| ChangeError::Malformed { reason };
        let (wire, rest): (Wire<'_>, _) =
            postcard::take_from_bytes(bytes).map_err(|error| malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(malformed(format!("{} octets too many", rest.len())));
        }
        let database = *DATABASES
            .get(usize::from(wire.database))
            .ok_or_else(|| malformed(format!("database {}", wire.database)))?;
        let table = tables::find(database, wire.table).ok_or_else(|| ChangeError::UnknownTable {
            database: database.name().to_owned(),
            table: wire.table.to_owned(),
        })?;
        let decl = tables::decl(table);
        let mut columns = Vec::with_capacity(wire.columns.len());
        for (name, datum) in wire.columns {
            let column = decl
                .column(name)
                .ok_or_else(|| ChangeError::UnknownColumn { table: decl.name, column: name.to_owned() })?;
            if !datum.is_normal() {
                return Err(malformed(format!("column {name} is not in normal order")));
            }
            columns.push((column, datum));
        }
        let kind = match wire.kind {
            0 => ChangeKind::Insert(columns),
            1 => ChangeKind::Modify(columns),
            2 if columns.is_empty() => ChangeKind::Delete,
            other => return Err(malformed(format!("kind {other}"))),
        };
        Ok(Self { table, uuid: Uuid::from_bytes(wire.uuid), kind })
    }
}
