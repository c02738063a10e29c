//! What OVSDB clients may write.
//!
//! # Contract
//! - `OVN_Northbound`: everything. `OVN_Southbound`: what [`OPEN`] lists, which is what OVN's clients keep or clean up there;
//!   all other Southbound rows follow from Northbound rows and the agents' reports, and a write is refused with the
//!   table and the column.
//! - A `Chassis` or `Chassis_Private` that a client deletes while its agent is connected comes back, as with OVN: the agent
//!   registers again. One whose agent is gone stays away, with its interfaces.

use ovsdb::result::ErrorKind;
use quantumnet_model::{
    Database, Row, Uuid,
    row::{ColumnId, TableDecl, TableId},
    sb::Chassis,
};

use super::fault::Fault;
use crate::{agents::unplug, store::Txn};

/// What clients may write of a Southbound table.
struct Open {
    table: &'static str,
    columns: &'static [&'static str],
    rows: Rows,
}

/// Which rows they may make and delete.
#[derive(Eq, PartialEq)]
enum Rows {
    None,
    Delete,
    All,
}

/// Neutron keeps its agents' state in `external_ids`, and like kube-ovn and `ovn-sbctl chassis-del` removes chassis that
/// are gone (of an `Encap` nothing is left but with its chassis: the reference keeps it). Learned rows are deleted to
/// have them forgotten. How the server is reached is set in its own database, as in `OVN_Northbound`.
const OPEN: [Open; 8] = [
    Open { table: "Chassis", columns: &["external_ids"], rows: Rows::Delete },
    Open { table: "Chassis_Private", columns: &["external_ids"], rows: Rows::Delete },
    Open { table: "Encap", columns: &[], rows: Rows::Delete },
    Open { table: "FDB", columns: &[], rows: Rows::Delete },
    Open { table: "MAC_Binding", columns: &[], rows: Rows::Delete },
    Open { table: "SB_Global", columns: &["external_ids", "connections", "ssl"], rows: Rows::None },
    Open {
        table: "Connection",
        columns: &[
            "target",
            "max_backoff",
            "inactivity_probe",
            "other_config",
            "external_ids",
            "read_only",
            "role",
        ],
        rows: Rows::All,
    },
    Open {
        table: "SSL",
        columns: &[
            "private_key",
            "certificate",
            "ca_cert",
            "bootstrap_ca_cert",
            "ssl_protocols",
            "ssl_ciphers",
            "ssl_ciphersuites",
            "external_ids",
        ],
        rows: Rows::All,
    },
];

fn open(decl: &TableDecl) -> Option<&'static Open> {
    OPEN.iter().find(|open| open.table == decl.name)
}

/// The databases that clients may name.
pub(crate) fn database(name: &str) -> Option<Database> {
    [Database::Northbound, Database::Southbound, Database::Server]
        .into_iter()
        .find(|database| database.name() == name)
}

/// Refuses to insert rows into a table.
pub(crate) fn may_insert(decl: &TableDecl) -> Result<(), Fault> {
    may_write_rows(decl, "insert", open(decl).is_some_and(|open| open.rows == Rows::All))
}

/// Refuses to delete rows of a table.
pub(crate) fn may_delete(decl: &TableDecl) -> Result<(), Fault> {
    may_write_rows(decl, "delete", open(decl).is_some_and(|open| open.rows != Rows::None))
}

fn may_write_rows(decl: &TableDecl, operation: &str, may: bool) -> Result<(), Fault> {
    if decl.database == Database::Northbound || decl.database == Database::Southbound && may {
        return Ok(());
    }
    let details = format!(
        "{operation} operation not allowed on table {} of database {}: its rows follow from other rows",
        decl.name,
        decl.database.name()
    );
    Err(Fault::new(ErrorKind::NotAllowed, details))
}

/// Deletes what is in no database of OVN and would keep the row.
pub(crate) fn before_delete(txn: &mut Txn<'_>, table: TableId, uuid: Uuid) {
    if table == Chassis::TABLE {
        unplug(txn, uuid);
    }
}

/// Refuses to change columns.
pub(crate) fn may_write_columns(
    decl: &TableDecl,
    operation: &str,
    mut columns: impl Iterator<Item = ColumnId>,
) -> Result<(), Fault> {
    if decl.database == Database::Northbound {
        return Ok(());
    }
    let columns_open = open(decl).filter(|_| decl.database == Database::Southbound);
    let columns_open = columns_open.map_or(&[] as &[&str], |open| open.columns);
    let is_open = |column: &ColumnId| columns_open.contains(&decl.column_decl(*column).name);
    let Some(closed) = columns.find(|column| !is_open(column)) else { return Ok(()) };
    let which = match columns_open {
        [] => "its rows follow from other rows".to_owned(),
        columns => format!("clients may write {} only", columns.join(", ")),
    };
    let details = format!(
        "{operation} operation not allowed on column {} in table {} of database {}: {which}",
        decl.column_decl(closed).name,
        decl.name,
        decl.database.name(),
    );
    Err(Fault::new(ErrorKind::NotAllowed, details))
}
