//! `Problem` rows: what is kept without effect, or in conflict with another row, and why.

use quantumnet_model::{Row, Uuid, intent::Problem, row::TableId, tables};
use uuid::uuid;

use crate::store::Txn;

const NAMESPACE: Uuid = uuid!("b3c0a4f2-0c7e-4b1b-8a7d-2f5f0a1c9e10");

/// What is wrong with one row, by column.
pub(super) type Problems = Vec<(&'static str, String)>;

/// The row, or a part of it, has no effect because of what it says.
const ERROR: &str = "error";

/// The row says something that nothing acts on yet.
const WARNING: &str = "warning";

/// The row says what another says too, and both have their effect.
const CONFLICT: &str = "conflict";

/// Makes `problems` the errors of the row.
pub(super) fn set<T: Row>(txn: &mut Txn<'_>, row: Uuid, problems: Problems) {
    replace(txn, T::TABLE, row, ERROR, problems);
}

/// Makes `problems` the warnings of the row.
pub(super) fn warn(txn: &mut Txn<'_>, table: TableId, row: Uuid, problems: Problems) {
    replace(txn, table, row, WARNING, problems);
}

/// Makes `problems` what the row has in conflict with others.
pub(super) fn conflict<T: Row>(txn: &mut Txn<'_>, row: Uuid, problems: Problems) {
    replace(txn, T::TABLE, row, CONFLICT, problems);
}

fn replace(txn: &mut Txn<'_>, table: TableId, row: Uuid, severity: &str, problems: Problems) {
    let decl = tables::decl(table);
    let place_of = |column: &str| {
        Uuid::new_v5(&NAMESPACE, format!("{} {row} {column} {severity}", decl.name).as_bytes())
    };
    let known: Vec<Uuid> = txn.lookup::<Problem>(&[("row", row.into())]).collect();
    for uuid in known {
        let stale = txn.get::<Problem>(uuid).is_some_and(|problem| {
            &*problem.table == decl.name
                && &*problem.severity == severity
                && !problems.iter().any(|(column, _)| *column == &*problem.column)
        });
        if stale {
            txn.delete::<Problem>(uuid);
        }
    }
    let mut by_column: Problems = Vec::with_capacity(problems.len());
    for (column, message) in problems {
        match by_column.iter_mut().find(|(known, _)| *known == column) {
            Some((_, all)) => {
                all.push_str("; ");
                all.push_str(&message);
            }
            None => by_column.push((column, message)),
        }
    }
    for (column, message) in by_column {
        let problem = Problem {
            database: decl.database.name().into(),
            table: decl.name.into(),
            row,
            column: column.into(),
            severity: severity.into(),
            message: message.into(),
        };
        if txn.get::<Problem>(place_of(column)) != Some(&problem) {
            txn.put(place_of(column), problem);
        }
    }
}
