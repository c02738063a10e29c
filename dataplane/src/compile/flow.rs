//! What the compiler makes: flows by key, meters by number, and net differences of both.
//!
//! # Invariants
//! - A flow is identified by (table, priority, canonical match), as the switch identifies it.
//! - The cookie leads back: its upper 32 bits are the stage's number ([`super::stage_of`]), its lower 32 bits
//!   the first 32 bits of the row's uuid. Cookies take part in comparison: a flow that another row makes now is changed.

use std::{collections::BTreeMap, sync::Arc};

use ofpacket::{Action, FlowMod, Match};
use uuid::Uuid;

/// Identity of a flow in the switch.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FlowKey {
    /// The table's number; see [`super::table::Table`].
    pub table: u8,
    /// Higher wins.
    pub priority: u16,
    /// In canonical form.
    pub matches: Match,
}

/// What a flow does; no action at all drops.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FlowValue {
    /// See the module.
    pub cookie: u64,
    /// Applied in order.
    pub actions: Arc<[Action]>,
}

/// A flow that should be in the switch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DesiredFlow {
    /// Its identity. Shared with the compiler's table.
    pub key: Arc<FlowKey>,
    /// What it does.
    pub value: FlowValue,
}

impl DesiredFlow {
    /// The message that adds it, or replaces what has its key.
    pub fn to_add(&self) -> FlowMod {
        FlowMod::add(self.key.table, self.key.priority, self.key.matches.clone(), self.value.actions.to_vec())
            .cookie(self.value.cookie)
    }
}

impl FlowKey {
    /// The message that removes the flow.
    pub fn to_delete(&self) -> FlowMod {
        FlowMod::delete_strict(self.table, self.priority, self.matches.clone())
    }
}

/// Rate of a meter in packets a second; what exceeds it is dropped.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct MeterSpec {
    /// Packets a second.
    pub rate: u32,
    /// Packets let through at once.
    pub burst: u32,
}

/// The net difference of one batch: applied to the old table it gives the new one. Ordered by key.
///
/// The driver puts `meters_put` first, then all flows in one atomic bundle, then removes `meters_delete`:
/// meters cannot be in a bundle, and a flow that names a missing meter is refused.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FlowDelta {
    /// Flows that came or changed.
    pub put: Vec<DesiredFlow>,
    /// Flows that went.
    pub delete: Vec<Arc<FlowKey>>,
    /// Meters that came or changed.
    pub meters_put: Vec<(u32, MeterSpec)>,
    /// Meters that went.
    pub meters_delete: Vec<u32>,
}

impl FlowDelta {
    /// Adds what changed after it.
    pub fn then(&mut self, later: Self) {
        if later.is_empty() {
            return;
        }
        let mut flows: BTreeMap<Arc<FlowKey>, Option<FlowValue>> = BTreeMap::new();
        let mut meters: BTreeMap<u32, Option<MeterSpec>> = BTreeMap::new();
        for delta in [std::mem::take(self), later] {
            flows.extend(delta.put.into_iter().map(|flow| (flow.key, Some(flow.value))));
            flows.extend(delta.delete.into_iter().map(|key| (key, None)));
            meters.extend(delta.meters_put.into_iter().map(|(number, spec)| (number, Some(spec))));
            meters.extend(delta.meters_delete.into_iter().map(|number| (number, None)));
        }
        for (key, value) in flows {
            match value {
                Some(value) => self.put.push(DesiredFlow { key, value }),
                None => self.delete.push(key),
            }
        }
        for (number, spec) in meters {
            match spec {
                Some(spec) => self.meters_put.push((number, spec)),
                None => self.meters_delete.push(number),
            }
        }
    }

    /// Nothing changed.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty()
            && self.delete.is_empty()
            && self.meters_put.is_empty()
            && self.meters_delete.is_empty()
    }
}

/// The cookie of a flow that `stage` makes for the row `uuid`.
pub(crate) fn cookie(stage: u32, uuid: Uuid) -> u64 {
    u64::from(stage) << 32 | u64::from(uuid.as_fields().0)
}
