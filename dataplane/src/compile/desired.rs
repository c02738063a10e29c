//! The desired flow table: who wants which flow, and what follows from that.
//!
//! # Invariants
//! - A flow is in the table exactly while some unit wants it; its value is the merge of all wishes in unit order.
//! - Equal action lists are one list in memory.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use ofpacket::Action;
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::{
    flow::{DesiredFlow, FlowDelta, FlowKey, FlowValue, GroupSpec, MeterSpec},
    sink,
};

/// Place of a flow in the table.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct FlowId(u32);

/// A unit by its rank among all units; see `engine`.
pub(crate) type UnitId = u32;

#[derive(Debug)]
struct Slot {
    key: Arc<FlowKey>,
    wishes: SmallVec<[(UnitId, FlowValue); 1]>,
}

/// Flows and meters with their wishes.
#[derive(Debug, Default)]
pub(crate) struct Desired {
    ids: FxHashMap<Arc<FlowKey>, FlowId>,
    slots: Vec<Option<Slot>>,
    free: Vec<FlowId>,
    lists: FxHashSet<Arc<[Action]>>,
    meters: BTreeMap<u32, BTreeMap<UnitId, MeterSpec>>,
    groups: BTreeMap<u32, Vec<(UnitId, GroupSpec)>>,
}

/// Values before a batch, of what the batch touched.
#[derive(Debug, Default)]
pub(crate) struct Before {
    flows: FxHashMap<Arc<FlowKey>, Option<FlowValue>>,
    meters: BTreeMap<u32, Option<MeterSpec>>,
    groups: BTreeMap<u32, Option<GroupSpec>>,
}

/// Tells the order of two units, as stage and owner.
pub(crate) type UnitOrder<'a> = &'a dyn Fn(UnitId, UnitId) -> std::cmp::Ordering;

impl Desired {
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// All flows, in no order.
    pub(crate) fn iter<'a>(&'a self, order: UnitOrder<'a>) -> impl Iterator<Item = DesiredFlow> + 'a {
        self.slots
            .iter()
            .flatten()
            .filter_map(move |slot| Some(DesiredFlow { key: slot.key.clone(), value: slot.merged(order)? }))
    }

    pub(crate) fn meters(&self) -> impl Iterator<Item = (u32, MeterSpec)> {
        self.meters.iter().filter_map(|(number, wishes)| Some((*number, merged_meter(wishes)?)))
    }

    pub(crate) fn groups<'a>(&'a self, order: UnitOrder<'a>) -> impl Iterator<Item = (u32, GroupSpec)> + 'a {
        self.groups.iter().filter_map(move |(number, wishes)| Some((*number, merged_group(wishes, order)?)))
    }

    /// Notes that `unit` wants a flow, in place of what it wanted with that key.
    pub(crate) fn want(
        &mut self,
        unit: UnitId,
        key: FlowKey,
        mut value: FlowValue,
        before: &mut Before,
        order: UnitOrder<'_>,
    ) -> FlowId {
        value.actions = self.shared(value.actions);
        let id = match self.ids.get(&key) {
            Some(id) => *id,
            None => self.add(key),
        };
        let slot = self.slots[id.0 as usize].as_mut().expect("ids name slots in use");
        match slot.wishes.iter_mut().find(|(other, _)| *other == unit) {
            Some((_, old)) if *old == value => {}
            found => {
                let found = found.is_some();
                before.flows.entry(slot.key.clone()).or_insert_with(|| slot.merged(order));
                if found {
                    slot.wishes.retain(|(other, _)| *other != unit);
                }
                slot.wishes.push((unit, value));
            }
        }
        id
    }

    /// Notes that `unit` does not want the flow any more.
    pub(crate) fn unwant(&mut self, unit: UnitId, id: FlowId, before: &mut Before, order: UnitOrder<'_>) {
        let place = &mut self.slots[id.0 as usize];
        let slot = place.as_mut().expect("a unit keeps ids of flows it wants");
        before.flows.entry(slot.key.clone()).or_insert_with(|| slot.merged(order));
        slot.wishes.retain(|(other, _)| *other != unit);
        if slot.wishes.is_empty() {
            self.ids.remove(&slot.key);
            *place = None;
            self.free.push(id);
        }
    }

    /// Replaces the meters that `unit` wants.
    pub(crate) fn want_meters(
        &mut self,
        unit: UnitId,
        old: &[u32],
        new: &[(u32, MeterSpec)],
        before: &mut Before,
    ) {
        for number in old.iter().copied().chain(new.iter().map(|(number, _)| *number)) {
            let now = self.meters.get(&number).and_then(merged_meter);
            before.meters.entry(number).or_insert(now);
        }
        for number in old {
            if let Entry::Occupied(mut wishes) = self.meters.entry(*number) {
                wishes.get_mut().remove(&unit);
                if wishes.get().is_empty() {
                    wishes.remove();
                }
            }
        }
        for (number, spec) in new {
            self.meters.entry(*number).or_default().insert(unit, *spec);
        }
    }

    /// Replaces the groups that `unit` wants.
    pub(crate) fn want_groups(
        &mut self,
        unit: UnitId,
        old: &[u32],
        new: Vec<(u32, GroupSpec)>,
        before: &mut Before,
        order: UnitOrder<'_>,
    ) {
        for number in old.iter().copied().chain(new.iter().map(|(number, _)| *number)) {
            let now = self.groups.get(&number).and_then(|wishes| merged_group(wishes, order));
            before.groups.entry(number).or_insert(now);
        }
        for number in old {
            if let Entry::Occupied(mut wishes) = self.groups.entry(*number) {
                wishes.get_mut().retain(|(other, _)| *other != unit);
                if wishes.get().is_empty() {
                    wishes.remove();
                }
            }
        }
        for (number, spec) in new {
            self.groups.entry(number).or_default().push((unit, spec));
        }
    }

    /// What the batch changed, ordered by key.
    pub(crate) fn delta(&mut self, before: Before, order: UnitOrder<'_>) -> FlowDelta {
        let mut delta = FlowDelta::default();
        let mut touched: Vec<_> = before.flows.into_iter().collect();
        touched.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        for (key, old) in touched {
            let now = self
                .ids
                .get(&key)
                .and_then(|id| self.slots[id.0 as usize].as_ref())
                .and_then(|slot| slot.merged(order));
            match now {
                None if old.is_some() => delta.delete.push(key),
                Some(value) if old.as_ref() != Some(&value) => delta.put.push(DesiredFlow { key, value }),
                _ => {}
            }
        }
        for (number, old) in before.meters {
            match self.meters.get(&number).and_then(merged_meter) {
                None if old.is_some() => delta.meters_delete.push(number),
                Some(spec) if old != Some(spec) => delta.meters_put.push((number, spec)),
                _ => {}
            }
        }
        for (number, old) in before.groups {
            match self.groups.get(&number).and_then(|wishes| merged_group(wishes, order)) {
                None if old.is_some() => delta.groups_delete.push(number),
                Some(spec) if old.as_ref() != Some(&spec) => delta.groups_put.push((number, spec)),
                _ => {}
            }
        }
        if self.lists.len() > 2 * self.ids.len() + 1024 {
            self.lists.retain(|list| Arc::strong_count(list) > 1);
        }
        delta
    }

    fn add(&mut self, key: FlowKey) -> FlowId {
        // A clone has no spare room, unlike a match that was just built.
        let key = Arc::new(FlowKey { matches: key.matches.clone(), ..key });
        let slot = Some(Slot { key: key.clone(), wishes: SmallVec::new() });
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id.0 as usize] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                FlowId(u32::try_from(self.slots.len() - 1).expect("a switch holds fewer than 2^32 flows"))
            }
        };
        self.ids.insert(key, id);
        id
    }

    fn shared(&mut self, list: Arc<[Action]>) -> Arc<[Action]> {
        match self.lists.get(&list) {
            Some(known) => known.clone(),
            None => {
                self.lists.insert(list.clone());
                list
            }
        }
    }
}

impl Slot {
    fn merged(&self, order: UnitOrder<'_>) -> Option<FlowValue> {
        if let [(_, only)] = self.wishes.as_slice() {
            return Some(only.clone());
        }
        let mut wishes: SmallVec<[&(UnitId, FlowValue); 4]> = self.wishes.iter().collect();
        wishes.sort_by(|(a, _), (b, _)| order(*a, *b));
        sink::merge(wishes.into_iter().map(|(_, value)| value))
    }
}

/// The wish of the first unit: numbers are given so that there is one only.
fn merged_group(wishes: &[(UnitId, GroupSpec)], order: UnitOrder<'_>) -> Option<GroupSpec> {
    wishes.iter().min_by(|(a, _), (b, _)| order(*a, *b)).map(|(_, spec)| spec.clone())
}

/// The most generous of the wishes, which are the same in practice.
pub(crate) fn merged_meter(wishes: &BTreeMap<UnitId, MeterSpec>) -> Option<MeterSpec> {
    wishes.values().copied().max()
}
