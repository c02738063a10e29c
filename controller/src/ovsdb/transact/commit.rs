//! A refusal of the store, in the words that ovsdb-server has for it.
//!
//! # Contract
//! - `error` follows ovsdb-server: `referential integrity violation`, `constraint violation`. What ovsdb-server does not
//!   know has the nearest that clients treat as final: a row owned by intent is a `permission error` as with RBAC, an
//!   exhausted pool `resources exhausted`.

use ovsdb::result::ErrorKind;
use quantumnet_model::{
    Uuid,
    row::{ColumnId, TableDecl, TableId},
    tables,
};

use super::{fault::Fault, words};
use crate::{
    lower::owner,
    store::{Class, Refusal, Txn},
};

/// Why the transaction as a whole was refused; `txn` is as it was then.
pub(crate) fn fault(txn: &Txn<'_>, refusal: &Refusal) -> Fault {
    match refusal {
        Refusal::ReferentialIntegrity { table, row, column, target_table, target } => {
            let referred = tables::decl(*target_table).name;
            let details = if txn.original(*target_table, *target).is_some() {
                let count = txn.state().strong_references(*target_table, *target);
                format!("cannot delete {referred} row {target} because of {count} remaining reference(s)")
            } else {
                format!(
                    "Table {} column {column} row {row} references nonexistent row {target} in table {referred}.",
                    tables::decl(*table).name
                )
            };
            Fault::new(ErrorKind::ReferentialIntegrityViolation, details)
        }
        Refusal::DuplicateIndex { table, columns, row, holder, .. } => {
            Fault::constraint(duplicate(txn, *table, columns, (*holder, *row)))
        }
        other => late(other),
    }
}

/// Why lowering, or the checks behind it, refused the transaction.
pub(crate) fn late(refusal: &Refusal) -> Fault {
    match refusal {
        Refusal::MaxRows { table, max, got } => Fault::constraint(format!(
            "transaction causes \"{}\" table to contain {got} rows, greater than the schema-defined limit of {max} row(s)",
            tables::decl(*table).name
        )),
        other => Fault::new(kind(other), other.to_string()),
    }
}

fn kind(refusal: &Refusal) -> ErrorKind {
    match refusal {
        Refusal::ReferentialIntegrity { .. } => ErrorKind::ReferentialIntegrityViolation,
        Refusal::DuplicateUuid { .. } => ErrorKind::DuplicateUuid,
        Refusal::Service(refusal) if refusal.reason == owner::OWNED_BY_INTENT => ErrorKind::PermissionError,
        Refusal::Service(_) => match refusal.class() {
            Class::ResourceExhausted => ErrorKind::ResourcesExhausted,
            Class::PermissionDenied => ErrorKind::PermissionError,
            _ => ErrorKind::ConstraintViolation,
        },
        _ => ErrorKind::ConstraintViolation,
    }
}

fn duplicate(txn: &Txn<'_>, table: TableId, columns: &[&'static str], rows: (Uuid, Uuid)) -> String {
    let decl = tables::decl(table);
    let ids: Vec<ColumnId> = columns.iter().filter_map(|column| decl.column(column)).collect();
    let values: Vec<String> = txn.rows().dyn_row(table, rows.0).map_or_else(Vec::new, |row| {
        ids.iter().map(|column| words::datum(&row.datum(*column), &decl.column_decl(*column).ty)).collect()
    });
    let names: Vec<String> = columns.iter().map(|column| format!("\"{column}\"")).collect();
    format!(
        "Transaction causes multiple rows in \"{}\" table to have identical values ({}) for index on column{} {}.  \
         First row, with UUID {}, {}  Second row, with UUID {}, {}",
        decl.name,
        words::list(&values),
        if names.len() > 1 { "s" } else { "" },
        words::list(&names),
        rows.0,
        history(txn, decl, table, &ids, rows.0),
        rows.1,
        history(txn, decl, table, &ids, rows.1)
    )
}

/// Where a row of a duplicate came from.
fn history(txn: &Txn<'_>, decl: &TableDecl, table: TableId, index: &[ColumnId], row: Uuid) -> String {
    let (Some(now), written) = (txn.rows().dyn_row(table, row), txn.is_written(table, row)) else {
        return "was deleted.".to_owned();
    };
    let Some(before) = txn.original(table, row) else {
        return if written {
            "was inserted by this transaction.".to_owned()
        } else {
            "existed in the database before this transaction and was not modified by the transaction."
                .to_owned()
        };
    };
    if before.same(now.as_ref()) {
        return "existed in the database before this transaction and was not modified by the transaction."
            .to_owned();
    }
    if index.iter().all(|column| before.datum(*column) == now.datum(*column)) {
        return "existed in the database before this transaction, which modified some of the row's columns but not \
                any columns in this index."
            .to_owned();
    }
    let values: Vec<String> = index
        .iter()
        .map(|column| words::datum(&before.datum(*column), &decl.column_decl(*column).ty))
        .collect();
    format!("had the following index values before the transaction: {}.", words::list(&values))
}
