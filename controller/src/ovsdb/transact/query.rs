//! Finding the rows that a condition means.
//!
//! # Contract
//! - `_uuid ==` costs one search; `==` on the first columns of an index (or on a `name` column, see `store::index`)
//!   costs a search and the answers; anything else walks the table, in the order of uuids.

use std::sync::Arc;

use quantumnet_model::{Uuid, row::DynRow};

use super::{column::Column, condition::Condition};
use crate::store::State;

/// Rows of the state that the condition means.
pub(crate) fn rows<'a>(
    state: &'a State,
    condition: &'a Condition,
) -> Box<dyn Iterator<Item = (Uuid, &'a Arc<dyn DynRow>)> + 'a> {
    let table = condition.table();
    let row = move |uuid: Uuid| Some((uuid, state.rows().dyn_row(table, uuid)?));
    let matching = move |(uuid, row): &(Uuid, &Arc<dyn DynRow>)| condition.all(*uuid, row.as_ref());
    if let Some(uuid) = condition.equal_to(Column::Uuid) {
        return Box::new(uuid.as_uuid().and_then(row).into_iter().filter(matching));
    }
    let equal = |column| condition.equal_to(Column::Declared(column)).cloned();
    if let Some(found) = state.lookup_equal(table, &equal) {
        return Box::new(found.filter_map(row).filter(matching));
    }
    Box::new(state.rows().table(table).iter().map(|(uuid, row)| (*uuid, row)).filter(matching))
}
