//! What OVSDB clients may write.
//!
//! # Contract
//! - `OVN_Northbound`: everything. `OVN_Southbound`: the `external_ids` that Neutron keeps there, nothing else; all other
//!   Southbound rows follow from Northbound rows and the agents' reports.

use ovsdb::result::ErrorKind;
use quantumnet_model::{
    Database,
    row::{ColumnId, TableDecl},
};

use super::fault::Fault;

/// Southbound tables whose `external_ids` clients may write.
const EXTERNAL_IDS: [&str; 3] = ["Chassis", "Chassis_Private", "SB_Global"];

/// The databases that clients may name.
pub(crate) fn database(name: &str) -> Option<Database> {
    [Database::Northbound, Database::Southbound, Database::Server]
        .into_iter()
        .find(|database| database.name() == name)
}

/// Refuses to insert or delete rows of a table.
pub(crate) fn may_write_rows(decl: &TableDecl, operation: &str) -> Result<(), Fault> {
    if decl.database == Database::Northbound {
        return Ok(());
    }
    let details = format!(
        "{operation} operation not allowed on table {} of database {}: its rows follow from other rows",
        decl.name,
        decl.database.name()
    );
    Err(Fault::new(ErrorKind::NotAllowed, details))
}

/// Refuses to change columns.
pub(crate) fn may_write_columns(
    decl: &TableDecl,
    operation: &str,
    mut columns: impl Iterator<Item = ColumnId>,
) -> Result<(), Fault> {
    let open = |column: &ColumnId| {
        EXTERNAL_IDS.contains(&decl.name) && decl.column_decl(*column).name == "external_ids"
    };
    if decl.database == Database::Northbound {
        return Ok(());
    }
    let Some(closed) = columns.find(|column| !open(column)) else { return Ok(()) };
    let details = format!(
        "{operation} operation not allowed on column {} in table {} of database {}: clients may write external_ids of {} only",
        decl.column_decl(closed).name,
        decl.name,
        decl.database.name(),
        EXTERNAL_IDS.join(", ")
    );
    Err(Fault::new(ErrorKind::NotAllowed, details))
}
