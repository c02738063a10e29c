//! What a client wants a copy of.
//!
//! # Contract
//! In: the server's schema. Out: the layout of each table, or which table or column the server lacks.

use std::collections::BTreeMap;

use crate::client::SessionError;
use crate::operation::Condition;
use crate::replica::Layout;
use crate::schema::DatabaseSchema;

/// Which part of which database to keep a copy of.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaRequest {
    /// The database.
    pub db: String,
    /// The tables.
    pub tables: BTreeMap<String, TableRequest>,
    /// Whether a table or column that the server's schema does not have is left out; refused otherwise.
    pub skip_missing: bool,
}

/// Which part of a table to keep a copy of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableRequest {
    /// These columns; all if `None`.
    pub columns: Option<Vec<String>>,
    /// The rows that match any of these; all rows if empty.
    pub conditions: Vec<Condition>,
}

impl ReplicaRequest {
    /// Nothing of this database yet; enough for transactions.
    pub fn new(db: impl Into<String>) -> Self {
        Self { db: db.into(), tables: BTreeMap::new(), skip_missing: false }
    }

    /// And these columns of this table.
    #[must_use]
    pub fn table<S: Into<String>>(mut self, table: &str, columns: impl IntoIterator<Item = S>) -> Self {
        let columns = Some(columns.into_iter().map(Into::into).collect());
        self.tables.insert(table.to_owned(), TableRequest { columns, conditions: Vec::new() });
        self
    }

    /// And all columns of this table.
    #[must_use]
    pub fn whole_table(mut self, table: &str) -> Self {
        self.tables.insert(table.to_owned(), TableRequest::default());
        self
    }

    /// Whatever the server does not have is left out.
    #[must_use]
    pub fn skip_missing(mut self) -> Self {
        self.skip_missing = true;
        self
    }

    pub(crate) fn layouts(&self, schema: &DatabaseSchema) -> Result<Vec<(String, Layout)>, SessionError> {
        let mut layouts = Vec::new();
        for (name, request) in &self.tables {
            let Some(table) = schema.tables.get(name) else {
                if self.skip_missing {
                    continue;
                }
                return Err(SessionError::NoTable { db: self.db.clone(), table: name.clone() });
            };
            let mut columns = Vec::new();
            let all = || table.columns.keys().cloned().collect();
            for column in request.columns.clone().unwrap_or_else(all) {
                match table.column_type(&column) {
                    Some(ty) => columns.push((column, ty.clone())),
                    None if self.skip_missing => {}
                    None => return Err(SessionError::NoColumn { table: name.clone(), column }),
                }
            }
            layouts.push((name.clone(), Layout::new(columns)));
        }
        Ok(layouts)
    }
}
