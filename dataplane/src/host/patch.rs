//! Patch ports between the integration bridge and the bridges of physical networks.
//!
//! # Invariants
//! - Names and marks are ovn-controller's, so that a hypervisor that comes from OVN keeps its patches: their traffic is
//!   not interrupted.
//! - Only ports with such a mark are touched. Both ends are made and removed in one transaction.

use std::collections::BTreeSet;

use ovsdb::{
    json::{named_uuid_json, uuid_json},
    operation::Mutator,
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    compile::WantedPatch,
    host::{
        observe::PATCH_MARKS,
        plan::{Plan, map, set},
    },
};

/// The name of the end of a patch that is on `from`.
fn patch_name(from: &str, to: &str) -> String {
    format!("patch-{from}-to-{to}")
}

struct End<'a> {
    name: String,
    peer: String,
    bridge: Uuid,
    patch: &'a WantedPatch,
}

impl Plan<'_> {
    pub(super) fn patches(&mut self, integration: Uuid, wanted: &BTreeSet<WantedPatch>) {
        let mut ends: Vec<End<'_>> = Vec::new();
        for patch in wanted {
            let Some(bridge) = self.config.mappings.get(&patch.network) else {
                self.problems.push(format!(
                    "port {} is on network {:?}, which ovn-bridge-mappings has no bridge for",
                    patch.logical_port, patch.network
                ));
                continue;
            };
            let Some(row) = self.observed.bridges.get(bridge) else {
                self.problems.push(format!(
                    "port {} is on network {:?}, whose bridge {bridge} is not there",
                    patch.logical_port, patch.network
                ));
                continue;
            };
            let near = patch_name(&self.config.bridge, &patch.logical_port);
            let far = patch_name(&patch.logical_port, &self.config.bridge);
            ends.push(End { name: near.clone(), peer: far.clone(), bridge: integration, patch });
            ends.push(End { name: far, peer: near, bridge: *row, patch });
        }
        let right = |end: &End<'_>| {
            let there = self.observed.patches.get(&end.name);
            there.is_some_and(|there| {
                (there.bridge, there.peer.as_str(), there.logical_port.as_str())
                    == (end.bridge, end.peer.as_str(), end.patch.logical_port.as_str())
            })
        };
        let (kept, missing): (Vec<End<'_>>, Vec<End<'_>>) = ends.into_iter().partition(right);
        let kept: BTreeSet<String> = kept.into_iter().map(|end| end.name).collect();
        for (name, end) in self.observed.patches.iter().filter(|(name, _)| !kept.contains(*name)) {
            tracing::info!(port = name, "a patch port is not needed any more");
            self.mutate("Bridge", end.bridge, "ports", Mutator::Delete, set([uuid_json(end.port)]));
        }
        for (number, end) in missing.iter().enumerate() {
            if self.observed.names.contains(&end.name) && !self.observed.patches.contains_key(&end.name) {
                self.problems.push(format!("port {} is there and is not the agent's own", end.name));
                continue;
            }
            self.make_end(end, number);
        }
    }

    fn make_end(&mut self, end: &End<'_>, number: usize) {
        let (interface, port) = (format!("patch_interface{number}"), format!("patch_port{number}"));
        let options = map([("peer", &end.peer)]);
        self.insert(
            "Interface",
            &interface,
            json!({ "name": end.name, "type": "patch", "options": options }),
        );
        let mark = PATCH_MARKS[usize::from(end.patch.gateway)];
        let row = json!({
            "name": end.name,
            "interfaces": named_uuid_json(&interface),
            "external_ids": map([(mark, &end.patch.logical_port)]),
        });
        self.insert("Port", &port, row);
        self.mutate("Bridge", end.bridge, "ports", Mutator::Insert, set([named_uuid_json(&port)]));
    }
}
