//! Numbers that filters need: a connection tracking zone for each port here, conjunction ids for each ACL.
//!
//! # Invariants
//! - A zone is emptied before the first flow that names it is in the switch. A port keeps its zone, also over restarts, as
//!   long as the store knows it: connections outlive what happens to its interface.
//! - Conjunction ids follow from the ACL's uuid, so that a restart finds the switch's flows as they are; only where two ACLs
//!   would share them does the later one get others.

use std::{collections::BTreeMap, sync::Arc};

use ovsdb::value::Atom;
use quantumnet_model::{
    Row,
    host::{HostAcl, HostZone},
    nb::Acl,
    sb::PortBinding,
};
use rustc_hash::FxHashMap;
use uuid::Uuid;

use crate::{
    agent::{Agent, Effect},
    compile::{By, CONJUNCTIONS, FlowDelta, RowUpdate},
    switch,
};

/// Conjunction ids by ACL.
#[derive(Debug, Default)]
pub(super) struct Conjunctions {
    bases: FxHashMap<u32, Uuid>,
    acls: BTreeMap<Uuid, u32>,
}

impl Conjunctions {
    /// The first id of an ACL, new or known.
    fn of(&mut self, acl: Uuid) -> u32 {
        if let Some(base) = self.acls.get(&acl) {
            return *base;
        }
        // Of random uuids any bits will do. Ids start at 1, and each ACL has its block.
        let mut block = acl.as_fields().0 % BLOCKS;
        while self.bases.contains_key(&block) {
            block = (block + 1) % BLOCKS;
        }
        self.bases.insert(block, acl);
        let base = block * CONJUNCTIONS + 1;
        self.acls.insert(acl, base);
        base
    }

    fn forget(&mut self, acl: Uuid) {
        if let Some(base) = self.acls.remove(&acl) {
            self.bases.remove(&(base / CONJUNCTIONS));
        }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (Uuid, HostAcl)> {
        self.acls.iter().map(|(acl, base)| (*acl, HostAcl { conjunction: i64::from(*base) }))
    }
}

impl Agent {
    /// The batch, with the numbers of the ACLs in it.
    pub(super) fn with_conjunctions(&mut self, mut batch: Vec<RowUpdate>) -> Vec<RowUpdate> {
        let acls: Vec<(Uuid, bool)> = batch
            .iter()
            .filter(|(table, ..)| *table == Acl::TABLE)
            .map(|(_, acl, row)| (*acl, row.is_some()))
            .collect();
        for (acl, present) in acls {
            let numbers = if present {
                let row = HostAcl { conjunction: self.conjunctions.of(acl).into() };
                Some(Arc::new(row) as _)
            } else {
                self.conjunctions.forget(acl);
                None
            };
            batch.push((HostAcl::TABLE, acl, numbers));
        }
        batch
    }

    /// Gives ports that came a zone each, and adds to `delta` what follows.
    pub(super) fn with_zones(
        &mut self,
        now: std::time::Instant,
        mut delta: FlowDelta,
        out: &mut Vec<Effect>,
    ) -> FlowDelta {
        let names: Vec<(Uuid, Arc<str>)> = self.compiler.zoned_ports();
        let here: BTreeMap<Uuid, u16> =
            names.iter().filter_map(|(port, name)| Some((*port, self.zones.of(name)?))).collect();
        let lacking: Vec<(Uuid, Arc<str>)> =
            names.into_iter().filter(|(port, _)| !here.contains_key(port)).collect();
        let mut zones = here;
        if !lacking.is_empty() {
            let compiler = &self.compiler;
            if self.rows_known {
                let known = |name: &str| {
                    compiler.find_uuid::<PortBinding>(By::LogicalPort, &[Atom::String(name.into())]).is_some()
                };
                self.zones.retain(known);
            }
            for (port, name) in lacking {
                let Some(zone) = self.zones.give(&name) else {
                    tracing::error!(
                        port = &*name,
                        "no connection tracking zone is left; its IP traffic is dropped"
                    );
                    continue;
                };
                let outputs = self.driver.handle(now, switch::Input::Forget { zone });
                self.switch_outputs(now, outputs, out);
                zones.insert(port, zone);
            }
            out.push(Effect::StoreZones(self.zones.clone()));
        }
        if zones != self.zones_here {
            let gone = self.zones_here.keys().filter(|port| !zones.contains_key(port));
            let mut rows: Vec<RowUpdate> = gone.map(|port| (HostZone::TABLE, *port, None)).collect();
            rows.extend(
                zone_rows(&zones).map(|(port, row)| (HostZone::TABLE, port, Some(Arc::new(row) as _))),
            );
            self.zones_here = zones;
            delta.then(self.compiler.apply(rows));
        }
        delta
    }
}

/// Rows of ports with zones.
pub(super) fn zone_rows(zones: &BTreeMap<Uuid, u16>) -> impl Iterator<Item = (Uuid, HostZone)> {
    zones.iter().map(|(port, zone)| (*port, HostZone { zone: i64::from(*zone) }))
}

const BLOCKS: u32 = (u32::MAX - 1) / CONJUNCTIONS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_from_the_uuid_and_are_not_shared() {
        let mut numbers = Conjunctions::default();
        let acl = |low: u128| Uuid::from_u128(7 << 96 | low);
        assert_eq!([numbers.of(acl(1)), numbers.of(acl(2))], [7 * 256 + 1, 8 * 256 + 1]);
        assert_eq!(numbers.of(acl(1)), 7 * 256 + 1);
        numbers.forget(acl(1));
        assert_eq!(numbers.of(acl(3)), 7 * 256 + 1);
    }
}
