//! What the compiler makes: flows by key, meters by number, and net differences of both.
//!
//! # Invariants
//! - A flow is identified by (table, priority, canonical match), as the switch identifies it.
//! - The cookie leads back: its upper 32 bits are the stage's number ([`super::stage_of`]), its lower 32 bits
//!   the first 32 bits of the row's uuid. Cookies take part in comparison: a flow that another row makes now is changed.

use std::{collections::BTreeMap, sync::Arc};

use ofpacket::{Action, FlowMod, Instruction, Match, MeterId};
use uuid::Uuid;

use super::class;

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

/// What a flow does; no action at all drops. A meter can only come first.
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
        let mut add = FlowMod::add(self.key.table, self.key.priority, self.key.matches.clone(), Vec::new())
            .cookie(self.value.cookie);
        add.flags = class::flags(&self.key, &self.value);
        let (meter, actions) = self.value.metered();
        add.instructions.extend(meter.map(Instruction::Meter));
        if !actions.is_empty() {
            add.instructions.push(Instruction::ApplyActions(actions.to_vec()));
        }
        add
    }
}

impl FlowValue {
    /// The meter that comes first, if there is one, and the other actions. Before OpenFlow 1.5 it is an instruction of its own.
    pub fn metered(&self) -> (Option<MeterId>, &[Action]) {
        match &self.actions[..] {
            [Action::Meter(meter), rest @ ..] => (Some(*meter), rest),
            actions => (None, actions),
        }
    }
}

impl FlowKey {
    /// The message that removes the flow.
    pub fn to_delete(&self) -> FlowMod {
        FlowMod::delete_strict(self.table, self.priority, self.matches.clone())
    }
}

/// What a meter counts.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum MeterUnit {
    /// Packets, a second and at once.
    Packets,
    /// Kilobits, a second and at once.
    Kilobits,
}

/// Rate of a meter; what exceeds it is dropped.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct MeterSpec {
    /// What is counted.
    pub unit: MeterUnit,
    /// How many a second.
    pub rate: u32,
    /// How many are let through at once; 0 leaves it to the switch.
    pub burst: u32,
}

impl MeterSpec {
    /// A meter of packets.
    pub const fn packets(rate: u32, burst: u32) -> Self {
        Self { unit: MeterUnit::Packets, rate, burst }
    }

    /// A meter of kilobits.
    pub const fn kilobits(rate: u32, burst: u32) -> Self {
        Self { unit: MeterUnit::Kilobits, rate, burst }
    }
}

/// A group of the switch that runs one of its buckets, chosen by a hash of the packet (`select`). All have the same share.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupSpec {
    /// What each does.
    pub buckets: Vec<Vec<Action>>,
}

/// The net difference of one batch: applied to the old table it gives the new one. Ordered by key.
///
/// The driver puts `meters_put` first, then `groups_put`, all flows and `groups_delete` in one atomic bundle, then removes
/// `meters_delete`: meters cannot be in a bundle, and a flow that names a missing meter or group is refused.
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
    /// Groups that came or changed.
    pub groups_put: Vec<(u32, GroupSpec)>,
    /// Groups that went.
    pub groups_delete: Vec<u32>,
}

impl FlowDelta {
    /// Adds what changed after it.
    pub fn then(&mut self, later: Self) {
        if later.is_empty() {
            return;
        }
        if self.is_empty() {
            *self = later;
            return;
        }
        // Both are in order, so that a large one costs no more than its length.
        let gone: Vec<Arc<FlowKey>> = later.delete;
        let put = std::mem::take(&mut self.put).into_iter();
        let kept = put.filter(|flow| gone.binary_search(&flow.key).is_err());
        self.put = merged(kept.collect(), later.put, |flow| &flow.key);
        let delete = std::mem::take(&mut self.delete).into_iter();
        let kept = delete.filter(|key| self.put.binary_search_by(|flow| flow.key.cmp(key)).is_err());
        self.delete = merged(kept.collect(), gone, |key| key);
        let mut meters: BTreeMap<u32, Option<MeterSpec>> = BTreeMap::new();
        meters.extend(
            std::mem::take(&mut self.meters_put).into_iter().map(|(number, spec)| (number, Some(spec))),
        );
        meters.extend(std::mem::take(&mut self.meters_delete).into_iter().map(|number| (number, None)));
        meters.extend(later.meters_put.into_iter().map(|(number, spec)| (number, Some(spec))));
        meters.extend(later.meters_delete.into_iter().map(|number| (number, None)));
        let mut groups: BTreeMap<u32, Option<GroupSpec>> = BTreeMap::new();
        groups.extend(
            std::mem::take(&mut self.groups_put).into_iter().map(|(number, spec)| (number, Some(spec))),
        );
        groups.extend(std::mem::take(&mut self.groups_delete).into_iter().map(|number| (number, None)));
        groups.extend(later.groups_put.into_iter().map(|(number, spec)| (number, Some(spec))));
        groups.extend(later.groups_delete.into_iter().map(|number| (number, None)));
        for (number, spec) in meters {
            match spec {
                Some(spec) => self.meters_put.push((number, spec)),
                None => self.meters_delete.push(number),
            }
        }
        for (number, spec) in groups {
            match spec {
                Some(spec) => self.groups_put.push((number, spec)),
                None => self.groups_delete.push(number),
            }
        }
    }

    /// Nothing changed.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty()
            && self.delete.is_empty()
            && self.meters_put.is_empty()
            && self.meters_delete.is_empty()
            && self.groups_put.is_empty()
            && self.groups_delete.is_empty()
    }
}

/// Two lists in order as one; of two items with one key the later list's.
fn merged<T, K: Ord>(earlier: Vec<T>, later: Vec<T>, key: impl Fn(&T) -> &K) -> Vec<T> {
    if earlier.is_empty() {
        return later;
    }
    let mut all = Vec::with_capacity(earlier.len() + later.len());
    let mut earlier = earlier.into_iter().peekable();
    for item in later {
        while let Some(before) = earlier.next_if(|before| key(before) < key(&item)) {
            all.push(before);
        }
        earlier.next_if(|same| key(same) == key(&item));
        all.push(item);
    }
    all.extend(earlier);
    all
}

/// The cookie of a flow that `stage` makes for the row `uuid`.
pub(crate) fn cookie(stage: u32, uuid: Uuid) -> u64 {
    u64::from(stage) << 32 | u64::from(uuid.as_fields().0)
}
