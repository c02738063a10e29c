//! The rows of the last complete revision, with the token by which the stream goes on after them.

use quantumnet_model::{
    change::{ChangeError, RowChange},
    rows::Rows,
    tables,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::disk::Record;

/// Names the point in the store's history that rows are of.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Resume {
    /// The cluster.
    pub cluster_id: String,
    /// A restore begins a new one.
    pub history_id: String,
    /// The revision.
    pub revision: u64,
}

/// Rows as they stand in the file.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Snapshot {
    /// Whose rows these are: a state folder that was copied to another machine is of no use there.
    pub chassis: String,
    /// The point in history.
    pub resume: Resume,
    /// Encoded insertions.
    rows: Vec<Vec<u8>>,
}

/// Why a snapshot has no rows for this program.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("row {at} of the snapshot: {source}")]
pub struct SnapshotError {
    /// Which row.
    pub at: usize,
    /// Why.
    #[source]
    pub source: ChangeError,
}

impl Record for Snapshot {
    const FILE: &'static str = "rows";
    const FORMAT: u32 = 1;
}

impl Snapshot {
    /// Takes the replicated rows; facts of the host are seen anew at each start.
    pub fn new(chassis: &str, resume: Resume, rows: &Rows) -> Self {
        let replicated = tables::ids().filter(|table| tables::decl(*table).database.is_replicated());
        let encode = |table| {
            rows.table(table).iter().filter_map(move |(uuid, row)| {
                RowChange::between(table, *uuid, None, Some(row.as_ref())).map(|change| change.encode())
            })
        };
        Self { chassis: chassis.to_owned(), resume, rows: replicated.flat_map(encode).collect() }
    }

    /// The rows.
    pub fn rows(&self) -> Result<Vec<RowChange>, SnapshotError> {
        let decode = |(at, bytes): (usize, &Vec<u8>)| {
            RowChange::decode(bytes).map_err(|source| SnapshotError { at, source })
        };
        self.rows.iter().enumerate().map(decode).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quantumnet_model::{row::Row, sb::Chassis};
    use std::sync::Arc;
    use uuid::Uuid;

    #[test]
    fn rows_come_back() {
        let mut rows = Rows::default();
        let row = Chassis { name: "hv1".into(), ..Chassis::default() };
        rows.set(Chassis::TABLE, Uuid::from_u128(1), Some(Arc::new(row.clone())));
        let resume = Resume { cluster_id: "c".into(), history_id: "h".into(), revision: 7 };
        let snapshot = Snapshot::new("hv1", resume, &rows);
        let mut again = Rows::default();
        for change in snapshot.rows().unwrap() {
            change.apply(&mut again).unwrap();
        }
        assert_eq!(again.get::<Chassis>(Uuid::from_u128(1)), Some(&row));
    }
}
