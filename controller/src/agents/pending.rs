//! What derived columns wait for (lowering sets `up` to false when a binding moves), and counts of what was learned:
//! followed from applied transactions.

use std::collections::{BTreeMap, BTreeSet};

use imbl::OrdSet;
use quantumnet_model::{
    Row, Uuid, Weak,
    column::Text,
    nb::NbGlobal,
    row::TableId,
    sb::{Chassis, ChassisPrivate, Fdb, MacBinding, PortBinding},
};

use crate::store::{State, Touched};

/// What waits for acknowledgements, and counts of what was learned.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Bindings that are not up, by chassis, with the revision at which they were bound to it.
    bound: BTreeMap<Uuid, BTreeMap<Uuid, u64>>,
    /// `NB_Global.nb_cfg` by the revision that set it.
    nb_cfg: BTreeMap<u64, i64>,
    /// Acknowledged revision by chassis, since this member started.
    acknowledged: BTreeMap<Uuid, u64>,
    /// Chassis whose derived columns may be due.
    due: BTreeSet<Uuid>,
    /// Learned MACs by datapath and port key.
    learned: BTreeMap<(i64, i64), usize>,
    /// The same by datapath key.
    learned_in: BTreeMap<i64, usize>,
    /// Learned neighbours by router port.
    neighbours: BTreeMap<Text, usize>,
}

/// Derived columns that are due.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Due {
    /// Bindings that are up on this chassis.
    pub(crate) up: Vec<(Uuid, Uuid)>,
    /// `nb_cfg` that is in the chassis' switch.
    pub(crate) nb_cfg: Vec<(Uuid, i64)>,
    /// `ref_chassis` of these groups.
    pub(crate) referring: Vec<(Uuid, OrdSet<Weak<Chassis>>)>,
}

impl Pending {
    /// What follows from a state, and from what was acknowledged before it.
    pub(crate) fn of(state: &State, before: Self) -> Self {
        let mut pending = Self { acknowledged: before.acknowledged, ..Self::default() };
        pending.due_again();
        let touched = |table: TableId| {
            let rows = state.rows().table(table).iter();
            rows.map(move |(uuid, row)| Touched { table, uuid: *uuid, old: None, new: Some(row.clone()) })
        };
        let rows: Vec<Touched> = [PortBinding::TABLE, NbGlobal::TABLE, Fdb::TABLE, MacBinding::TABLE]
            .into_iter()
            .flat_map(touched)
            .collect();
        pending.follow(state.revision(), &rows);
        pending
    }

    pub(crate) fn acknowledge(&mut self, chassis: Uuid, revision: u64) {
        let acknowledged = self.acknowledged.entry(chassis).or_default();
        *acknowledged = revision.max(*acknowledged);
        self.due.insert(chassis);
    }

    /// Whether something may be due.
    pub(crate) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Everything is to be looked at again.
    pub(crate) fn due_again(&mut self) {
        self.due.extend(self.acknowledged.keys().copied());
    }

    /// Takes what is due; what is written leaves with the transaction that writes it.
    pub(crate) fn take_due(&mut self, state: &State) -> Due {
        let mut due = Due::default();
        for chassis in std::mem::take(&mut self.due) {
            let Some(acknowledged) = self.acknowledged.get(&chassis).copied() else { continue };
            let bound = self.bound.get(&chassis).into_iter().flatten();
            due.up
                .extend(bound.filter(|(_, at)| **at <= acknowledged).map(|(binding, _)| (*binding, chassis)));
            let Some((_, nb_cfg)) = self.nb_cfg.range(..=acknowledged).next_back() else { continue };
            let private = state.referrers_through::<Chassis, ChassisPrivate>(chassis, "chassis");
            let behind =
                |row: &Uuid| state.get::<ChassisPrivate>(*row).is_some_and(|row| row.nb_cfg < *nb_cfg);
            due.nb_cfg.extend(private.filter(behind).map(|row| (row, *nb_cfg)));
        }
        due
    }

    /// MACs learned on the port, and in its network.
    pub(crate) fn learned(&self, datapath_key: i64, port_key: i64) -> (usize, usize) {
        let port = self.learned.get(&(datapath_key, port_key)).copied().unwrap_or(0);
        (port, self.learned_in.get(&datapath_key).copied().unwrap_or(0))
    }

    /// Neighbours learned by the router port of that name.
    pub(crate) fn neighbours(&self, port: &str) -> usize {
        self.neighbours.get(port).copied().unwrap_or(0)
    }

    pub(crate) fn follow(&mut self, revision: u64, touched: &[Touched]) {
        for row in touched {
            if row.table == PortBinding::TABLE {
                self.binding(revision, row);
            } else if row.table == NbGlobal::TABLE {
                if let Some(global) = row.after::<NbGlobal>() {
                    self.nb_cfg.insert(revision, global.nb_cfg);
                    // Agents of other members may have it before this one.
                    let ahead = self.acknowledged.iter().filter(|(_, at)| **at >= revision);
                    self.due.extend(ahead.map(|(chassis, _)| *chassis));
                    if self.nb_cfg.len() > NB_CFG_MAX {
                        self.nb_cfg.pop_first();
                    }
                }
            } else if row.table == MacBinding::TABLE {
                if let Some(old) = row.before::<MacBinding>() {
                    forget(&mut self.neighbours, old.logical_port.clone());
                }
                if let Some(new) = row.after::<MacBinding>() {
                    *self.neighbours.entry(new.logical_port.clone()).or_default() += 1;
                }
            } else if row.table == Fdb::TABLE {
                if let Some(old) = row.before::<Fdb>() {
                    forget(&mut self.learned, (old.dp_key, old.port_key));
                    forget(&mut self.learned_in, old.dp_key);
                }
                if let Some(new) = row.after::<Fdb>() {
                    *self.learned.entry((new.dp_key, new.port_key)).or_default() += 1;
                    *self.learned_in.entry(new.dp_key).or_default() += 1;
                }
            }
        }
    }

    fn binding(&mut self, revision: u64, row: &Touched) {
        let chassis = |binding: &PortBinding| binding.chassis.map(|chassis| chassis.uuid());
        let (old, new) = (row.before::<PortBinding>().and_then(chassis), row.after::<PortBinding>());
        let bound = new.and_then(chassis);
        let up = new.is_some_and(|binding| binding.up == Some(true));
        if let Some(old) = old.filter(|old| bound != Some(*old) || up)
            && let Some(bindings) = self.bound.get_mut(&old)
        {
            bindings.remove(&row.uuid);
            if bindings.is_empty() {
                self.bound.remove(&old);
            }
        }
        if let Some(bound) = bound.filter(|_| !up) {
            // A binding that merely changed keeps the revision at which it was bound.
            self.bound.entry(bound).or_default().entry(row.uuid).or_insert(revision);
            self.due.insert(bound);
        }
    }
}

fn forget<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) {
    let Some(count) = counts.get_mut(&key) else { return };
    *count = count.saturating_sub(1);
    if *count == 0 {
        counts.remove(&key);
    }
}

/// Changes of `NB_Global.nb_cfg` remembered.
const NB_CFG_MAX: usize = 1_024;
