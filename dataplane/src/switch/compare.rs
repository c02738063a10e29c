//! What the switch says it has, compared with what it should have, part by part as the answer comes.
//!
//! # Invariants
//! - A flow that is as desired is not touched: its counters and its age stay.
//! - What changed while the answer was under way is not judged by it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ofpacket::{
    FlowStats, GroupDesc13, GroupType, Instruction, MeterBand, MeterConfig, MeterFlags, MultipartReply,
    ReplyBody,
};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::compile::{FlowKey, FlowValue, GroupSpec, MeterSpec, MeterUnit};

/// A comparison under way.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) flows_xid: u32,
    pub(super) meters_xid: u32,
    pub(super) groups_xid: u32,
    flows_done: bool,
    meters_done: bool,
    groups_done: bool,
    seen: FxHashSet<Arc<FlowKey>>,
    foreign: Vec<Arc<FlowKey>>,
    wrong: Vec<Arc<FlowKey>>,
    changed: FxHashSet<Arc<FlowKey>>,
    meters: Vec<(u32, Option<MeterSpec>)>,
    /// `None` for one of another form than ours.
    groups: BTreeMap<u32, Option<GroupSpec>>,
    groups_changed: BTreeSet<u32>,
}

/// What differs.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// Flows that are missing, wrong or not ours.
    pub(super) flows: Vec<Arc<FlowKey>>,
    /// Of those, the missing ones.
    pub(super) missing: Vec<Arc<FlowKey>>,
    /// Meters that the switch has; `None` for one of another form than ours.
    pub(super) meters: Vec<(u32, Option<MeterSpec>)>,
    /// Groups that are missing, wrong or not ours.
    pub(super) groups: Vec<u32>,
}

impl Comparison {
    pub(super) fn new(flows_xid: u32, meters_xid: Option<u32>, groups_xid: u32) -> Self {
        Self {
            flows_xid,
            groups_xid,
            meters_xid: meters_xid.unwrap_or_default(),
            meters_done: meters_xid.is_none(),
            ..Self::default()
        }
    }

    /// Leaves these keys out.
    pub(super) fn changed<'a>(&mut self, keys: impl Iterator<Item = &'a Arc<FlowKey>>) {
        self.changed.extend(keys.cloned());
    }

    /// Leaves these groups out.
    pub(super) fn groups_changed(&mut self, numbers: impl Iterator<Item = u32>) {
        self.groups_changed.extend(numbers);
    }

    /// Takes part of the answer; true once it is whole.
    pub(super) fn receive(
        &mut self,
        xid: u32,
        reply: MultipartReply,
        desired: &FxHashMap<Arc<FlowKey>, FlowValue>,
    ) -> bool {
        match reply.body {
            ReplyBody::Flow(flows) if xid == self.flows_xid => {
                for flow in flows {
                    self.flow(flow, desired);
                }
                self.flows_done |= !reply.more;
            }
            ReplyBody::MeterConfig(meters) if xid == self.meters_xid => {
                self.meters.extend(meters.iter().map(|meter| (meter.meter.0, spec(meter))));
                self.meters_done |= !reply.more;
            }
            ReplyBody::GroupDesc13(groups) if xid == self.groups_xid => {
                self.groups.extend(groups.into_iter().map(|group| (group.group.0, group_spec(group))));
                self.groups_done |= !reply.more;
            }
            _ => {}
        }
        self.flows_done && self.meters_done && self.groups_done
    }

    fn flow(&mut self, flow: FlowStats, desired: &FxHashMap<Arc<FlowKey>, FlowValue>) {
        let key = FlowKey { table: flow.table.0, priority: flow.priority, matches: flow.matches };
        let Some((key, value)) = desired.get_key_value(&key) else {
            self.foreign.push(Arc::new(key));
            return;
        };
        let same = flow.cookie == value.cookie
            && flow.idle_timeout == 0
            && flow.hard_timeout == 0
            && match flow.instructions.as_slice() {
                [] => value.actions.is_empty(),
                [Instruction::ApplyActions(actions)] => value.metered() == (None, &actions[..]),
                [Instruction::Meter(meter), Instruction::ApplyActions(actions)] => {
                    value.metered() == (Some(*meter), &actions[..])
                }
                _ => false,
            };
        if same {
            self.seen.insert(key.clone());
        } else {
            tracing::debug!(?key, desired = ?value, found = ?flow.instructions, cookie = flow.cookie, "flow differs");
            self.wrong.push(key.clone());
        }
    }

    /// The result.
    pub(super) fn finish(
        self,
        desired: &FxHashMap<Arc<FlowKey>, FlowValue>,
        groups: &BTreeMap<u32, GroupSpec>,
    ) -> Difference {
        let wrong: FxHashSet<&Arc<FlowKey>> = self.wrong.iter().collect();
        let missing = desired.keys().filter(|key| !self.seen.contains(*key) && !wrong.contains(*key));
        let missing: Vec<_> = missing.filter(|key| !self.changed.contains(*key)).cloned().collect();
        let foreign = self.foreign.iter().filter(|key| !desired.contains_key(*key)).cloned();
        let others = foreign.chain(self.wrong.iter().cloned()).filter(|key| !self.changed.contains(key));
        let flows = missing.iter().cloned().chain(others).collect();
        let wrong = groups
            .iter()
            .filter(|(number, spec)| self.groups.get(*number).and_then(Option::as_ref) != Some(*spec));
        let foreign = self.groups.keys().filter(|number| !groups.contains_key(*number));
        let groups = wrong.map(|(number, _)| number).chain(foreign).copied();
        let groups = groups.filter(|number| !self.groups_changed.contains(number)).collect();
        Difference { flows, missing, meters: self.meters, groups }
    }
}

fn group_spec(group: GroupDesc13) -> Option<GroupSpec> {
    let plain = group.kind == GroupType::SELECT && group.buckets.iter().all(|bucket| bucket.weight == 1);
    let buckets = group.buckets.into_iter().map(|bucket| bucket.actions).collect();
    plain.then_some(GroupSpec { buckets })
}

fn spec(meter: &MeterConfig) -> Option<MeterSpec> {
    let counts = |flag: MeterFlags| meter.flags.0 & flag.0 != 0;
    let unit = match (counts(MeterFlags::PKTPS), counts(MeterFlags::KBPS)) {
        (true, false) => MeterUnit::Packets,
        (false, true) => MeterUnit::Kilobits,
        _ => return None,
    };
    match meter.bands.as_slice() {
        [MeterBand::Drop { rate, burst }] => {
            // A switch that was left to choose may tell what it chose.
            let burst = if counts(MeterFlags::BURST) { *burst } else { 0 };
            Some(MeterSpec { unit, rate: *rate, burst })
        }
        _ => None,
    }
}
