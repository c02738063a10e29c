//! Reading the tables back and writing what differs.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use ofpacket::{FlowRequest, Message, MeterId, MultipartRequest};

use super::{Driver, METER_TRIES, Output, Phase};
use crate::{
    compile::FlowKey,
    switch::{
        batch::{Batch, FlowChange, GroupChange, MeterChange, Outgoing},
        compare::Comparison,
    },
};

impl Driver {
    pub(super) fn compare(&mut self, out: &mut Vec<Output>) {
        let flows = self.send(&Message::MultipartRequest(MultipartRequest::Flow(FlowRequest::all())), out);
        let meters = (self.setup.meters > 0)
            .then(|| self.send(&Message::MultipartRequest(MultipartRequest::MeterConfig(MeterId::ALL)), out));
        let groups = self.send(&Message::MultipartRequest(MultipartRequest::GroupDesc13), out);
        let mut comparison = Comparison::new(flows, meters, groups);
        if self.repair {
            // Nothing is written meanwhile, so that the answer judges these too; most are there already.
            self.dirty.clear();
            self.dirty_groups.clear();
        } else {
            comparison.changed(self.dirty.iter());
            comparison.groups_changed(self.dirty_groups.iter().copied());
        }
        self.comparison = Some(comparison);
    }

    pub(super) fn compared(&mut self, now: Instant) {
        let Some(comparison) = self.comparison.take() else { return };
        let difference = comparison.finish(&self.desired, &self.groups);
        self.readings.missing(difference.missing.iter());
        self.stats.checks += 1;
        let unexplained = difference.flows.iter();
        let unexplained =
            unexplained.filter(|key| !self.refused.contains_key(*key) && !self.dirty.contains(*key));
        let unexplained: Vec<Arc<FlowKey>> = unexplained.cloned().collect();
        if !std::mem::take(&mut self.repair) {
            self.stats.drift += unexplained.len() as u64;
        }
        self.dirty.extend(unexplained);
        let groups = difference.groups.iter().filter(|number| !self.refused_groups.contains(number));
        self.dirty_groups.extend(groups);
        if self.setup.meters > 0 {
            self.installed_meters = difference.meters.into_iter().collect();
            let numbers: BTreeSet<u32> =
                self.meters.keys().chain(self.installed_meters.keys()).copied().collect();
            let refused =
                |number: &u32| self.refused_meters.get(number).is_some_and(|times| *times >= METER_TRIES);
            self.dirty_meters.extend(numbers.into_iter().filter(|number| !refused(number)).filter(
                |number| {
                    self.meters.get(number) != self.installed_meters.get(number).and_then(Option::as_ref)
                        || self.meters.contains_key(number) != self.installed_meters.contains_key(number)
                },
            ));
        }
        self.phase = Phase::Running;
        self.check_at = Some(now + self.limits.check_interval);
    }

    pub(super) fn flush(&mut self, now: Instant, out: &mut Vec<Output>) {
        let mut keys: Vec<Arc<FlowKey>> = self.dirty.drain().collect();
        keys.sort_unstable();
        let change = |key: Arc<FlowKey>| {
            let value = self.desired.get(&key).cloned();
            if value.is_none() {
                self.readings.deleting(now, &key);
            }
            (key, value)
        };
        let flows: Vec<FlowChange> = keys.into_iter().map(change).collect();
        let mut meters = Vec::new();
        for number in std::mem::take(&mut self.dirty_meters) {
            let change = match (self.meters.get(&number), self.installed_meters.contains_key(&number)) {
                _ if self.setup.meters == 0 => continue,
                (Some(spec), false) => MeterChange::Add(*spec),
                (Some(spec), true) => MeterChange::Modify(*spec),
                (None, true) => MeterChange::Delete,
                (None, false) => continue,
            };
            match self.meters.get(&number) {
                Some(spec) => self.installed_meters.insert(number, Some(*spec)),
                None => self.installed_meters.remove(&number),
            };
            meters.push((number, change));
        }
        let groups: Vec<GroupChange> = std::mem::take(&mut self.dirty_groups)
            .into_iter()
            .map(|number| (number, self.groups.get(&number).cloned()))
            .collect();
        // What an earlier port of the zone had is nothing to its new one.
        for zone in std::mem::take(&mut self.forget) {
            self.send(&Message::CtFlushZone(zone), out);
            self.forgotten.insert(zone);
        }
        let mut outgoing = Outgoing::default();
        let (batch, refused) =
            Batch::send(flows, groups, &meters, self.tag, now, &mut self.xids, &mut outgoing);
        if let Some(comparison) = &mut self.comparison {
            comparison.changed(batch.keys());
            comparison.groups_changed(batch.groups());
        }
        self.batch = Some(batch);
        out.extend(outgoing.into_pieces().into_iter().map(Output::Send));
        for (change, error) in refused {
            self.stats.errors += 1;
            self.refuse(now, change, error.to_string(), out);
        }
    }
}
