//! What each agent is to be told of a transaction, or of many at once.
//!
//! # Invariants
//! - An agent that held exactly its projection of `before` holds exactly that of `after` once it was told.
//! - Costs what changed times the agents concerned.

use std::collections::{BTreeMap, BTreeSet};

use quantumnet_model::{Uuid, row::TableId};

use super::{ScopeChanges, View};

/// What an agent is told of a row.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Delivery {
    /// It sees the row from now on: the whole row.
    Insert(TableId, Uuid),
    /// It saw it and still does: the change.
    Change(TableId, Uuid),
    /// It sees it no more.
    Delete(TableId, Uuid),
}

/// What the agents in `connected` are told. `touched` are the rows that differ between the two states.
pub fn deliveries(
    before: &View,
    after: &View,
    touched: &BTreeSet<(TableId, Uuid)>,
    changes: &ScopeChanges,
    connected: &BTreeSet<Uuid>,
) -> BTreeMap<Uuid, Vec<Delivery>> {
    let mut concerned: BTreeMap<Uuid, BTreeSet<(TableId, Uuid)>> = BTreeMap::new();
    let mut concern =
        |chassis: Uuid, row: (TableId, Uuid)| _ = concerned.entry(chassis).or_default().insert(row);
    for (table, row) in touched {
        for view in [before, after] {
            if view.scopes_of(*table, *row).nth(connected.len()).is_some() {
                // In more scopes than there are agents: ask the agents.
                let sees = connected.iter().filter(|chassis| view.sees(**chassis, *table, *row));
                sees.for_each(|chassis| concern(*chassis, (*table, *row)));
            } else {
                for scope in view.scopes_of(*table, *row) {
                    each_connected(view, scope, connected, &mut |chassis| concern(chassis, (*table, *row)));
                }
            }
        }
    }
    for (table, row, scope, gained) in &changes.rows {
        let view = if *gained { after } else { before };
        each_connected(view, *scope, connected, &mut |chassis| concern(chassis, (*table, *row)));
    }
    for (chassis, scope, gained) in changes.agents.iter().filter(|(chassis, ..)| connected.contains(chassis))
    {
        let view = if *gained { after } else { before };
        view.rows_in(*scope).for_each(|row| concern(*chassis, row));
    }
    let tell = |(chassis, rows): (Uuid, BTreeSet<(TableId, Uuid)>)| {
        let told = rows.into_iter().filter_map(|(table, row)| {
            match (before.sees(chassis, table, row), after.sees(chassis, table, row)) {
                (false, true) => Some(Delivery::Insert(table, row)),
                (true, true) => touched.contains(&(table, row)).then_some(Delivery::Change(table, row)),
                (true, false) => Some(Delivery::Delete(table, row)),
                (false, false) => None,
            }
        });
        (chassis, told.collect::<Vec<_>>())
    };
    concerned.into_iter().map(tell).filter(|(_, told)| !told.is_empty()).collect()
}

fn each_connected(view: &View, scope: Uuid, connected: &BTreeSet<Uuid>, visit: &mut dyn FnMut(Uuid)) {
    if scope == super::GLOBAL {
        connected.iter().copied().for_each(visit);
    } else {
        view.holders_of(scope).filter(|chassis| connected.contains(chassis)).for_each(visit);
    }
}
