//! The columns that clients name: those declared, `_uuid` and `_version`.
//!
//! # Invariants
//! - `_version` changes exactly when the row's content changes, is the same on all members and after a restart: it is
//!   a digest of the row. (ovsdb-server draws a new uuid for each change and forgets it when it restarts.) A row that is
//!   changed and changed back has its former version again; who compares versions compares contents.

use ovsdb::{
    schema::{ColumnType, ROW_ID},
    value::Datum,
};
use quantumnet_model::{
    Uuid,
    row::{ColumnId, DynRow, TableDecl},
};

/// A column that a client named.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Column {
    /// `_uuid`.
    Uuid,
    /// `_version`.
    Version,
    /// One that the table declares.
    Declared(ColumnId),
}

impl Column {
    /// The column of that name.
    pub fn find(decl: &TableDecl, name: &str) -> Option<Self> {
        match name {
            "_uuid" => Some(Self::Uuid),
            "_version" => Some(Self::Version),
            _ => decl.column(name).map(Self::Declared),
        }
    }

    /// All columns of a table.
    pub fn all(decl: &TableDecl) -> impl Iterator<Item = Self> {
        [Self::Uuid, Self::Version].into_iter().chain(decl.column_ids().map(Self::Declared))
    }

    /// Its name.
    pub fn name(self, decl: &TableDecl) -> &'static str {
        match self {
            Self::Uuid => "_uuid",
            Self::Version => "_version",
            Self::Declared(column) => decl.column_decl(column).name,
        }
    }

    /// Its type.
    pub fn ty(self, decl: &TableDecl) -> &ColumnType {
        match self {
            Self::Uuid | Self::Version => &ROW_ID,
            Self::Declared(column) => &decl.column_decl(column).ty,
        }
    }

    /// Whether it may change after the insert.
    pub fn is_mutable(self, decl: &TableDecl) -> bool {
        match self {
            Self::Uuid | Self::Version => false,
            Self::Declared(column) => !decl.column_decl(column).immutable,
        }
    }

    /// What the row holds in it.
    pub fn datum(self, decl: &TableDecl, uuid: Uuid, row: &dyn DynRow) -> Datum {
        match self {
            Self::Uuid => Datum::from(uuid),
            Self::Version => Datum::from(version(decl, uuid, row)),
            Self::Declared(column) => row.datum(column),
        }
    }
}

/// The row's `_version`.
pub fn version(decl: &TableDecl, uuid: Uuid, row: &dyn DynRow) -> Uuid {
    let content: Vec<(&str, Datum)> =
        decl.column_ids().map(|column| (decl.column_decl(column).name, row.datum(column))).collect();
    let content =
        postcard::to_stdvec(&content).expect("memory is the only thing that this encoding can lack");
    Uuid::new_v5(&uuid, &content)
}
