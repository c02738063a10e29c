//! `Problem` rows: what is kept without effect, and why.

use quantumnet_model::{Row, Uuid, intent::Problem};
use uuid::uuid;

use crate::store::Txn;

const NAMESPACE: Uuid = uuid!("b3c0a4f2-0c7e-4b1b-8a7d-2f5f0a1c9e10");

/// What is wrong with one row, by column.
pub(super) type Problems = Vec<(&'static str, String)>;

/// Makes `problems` the problems of the row.
pub(super) fn set<T: Row>(txn: &mut Txn<'_>, row: Uuid, problems: Problems) {
    let place_of = |column: &str| Uuid::new_v5(&NAMESPACE, format!("{} {row} {column}", T::NAME).as_bytes());
    let known: Vec<Uuid> = txn.lookup::<Problem>(&[("row", row.into())]).collect();
    for uuid in known {
        let stale = txn.get::<Problem>(uuid).is_some_and(|problem| {
            &*problem.table == T::NAME && !problems.iter().any(|(column, _)| *column == &*problem.column)
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
            database: T::DATABASE.name().into(),
            table: T::NAME.into(),
            row,
            column: column.into(),
            message: message.into(),
        };
        if txn.get::<Problem>(place_of(column)) != Some(&problem) {
            txn.put(place_of(column), problem);
        }
    }
}
