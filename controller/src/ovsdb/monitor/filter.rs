//! Which rows a monitor tells of: the rows that match any clause of its `where` (ovsdb-server(7), section 4.1.12).

use ovsdb::NoSymbols;
use quantumnet_model::{
    Uuid,
    row::{DynRow, TableId},
};
use serde_json::Value;

use crate::ovsdb::transact::{condition::Condition, fault::Fault};

/// A monitor's condition on the rows of one table: that of any of its requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    conditions: Vec<Condition>,
}

impl Filter {
    /// And the rows that this `where` means. None means every row.
    pub(super) fn add(&mut self, table: TableId, json: Option<&[Value]>) -> Result<(), Fault> {
        self.conditions.push(Condition::parse(table, json.unwrap_or_default(), &mut NoSymbols)?);
        Ok(())
    }

    /// Whether a row matches.
    pub(super) fn matches(&self, uuid: Uuid, row: &dyn DynRow) -> bool {
        self.conditions.iter().any(|condition| condition.any(uuid, row))
    }
}
