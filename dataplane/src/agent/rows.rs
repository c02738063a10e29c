//! From rows to the driver: updates checked and compiled, which ports are here, and the check against drift.
//!
//! # Invariants
//! - A change that does not fit changes nothing.
//! - What is reported once a batch is in the switch waits for the batch's tag.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use quantumnet_model::{
    Row, Rows, TableId,
    change::ChangeError,
    host::{HostInterface, HostPatch, HostTunnel},
    nb::{DhcpOptions, LogicalSwitchPort},
    sb::{Chassis, HaChassis, HaChassisGroup, PortBinding},
    tables,
};
use uuid::Uuid;

use crate::{
    agent::{
        Agent, CHECK_AGAIN, CHECK_INTERVAL, CHECK_INTERVAL_PER_FLOW, DHCP_DELAY, Effect, STORE_DELAY,
        STORE_INTERVAL, Waiting, bfd, sctp,
    },
    compile::{Compiler, FullTable, RowUpdate},
    controller::RowsUpdate,
    switch,
};

impl Agent {
    /// The batch that an update means, or why it does not fit.
    pub(super) fn updates(&self, update: &RowsUpdate) -> Result<Vec<RowUpdate>, ChangeError> {
        let current = self.compiler.rows();
        let mut rows = if update.snapshot { Rows::default() } else { current.clone() };
        let mut touched = BTreeSet::new();
        for change in &update.changes {
            let decl = tables::decl(change.table);
            if !decl.database.is_replicated() {
                let (database, table) = (decl.database.name().to_owned(), decl.name.to_owned());
                return Err(ChangeError::UnknownTable { database, table });
            }
            change.apply(&mut rows)?;
            touched.insert((change.table, change.uuid));
        }
        if update.snapshot {
            let replicated = tables::ids().filter(|table| tables::decl(*table).database.is_replicated());
            touched.extend(
                replicated.flat_map(|table| current.table(table).keys().map(move |uuid| (table, *uuid))),
            );
        }
        Ok(touched
            .into_iter()
            .map(|(table, uuid)| (table, uuid, rows.dyn_row(table, uuid).cloned()))
            .collect())
    }

    pub(super) fn rows(
        &mut self,
        now: Instant,
        update: &RowsUpdate,
        out: &mut Vec<Effect>,
    ) -> Result<(), ChangeError> {
        let batch = self.updates(update)?;
        self.rows_known = true;
        if update.snapshot {
            // Revisions of an earlier history say nothing in this one.
            self.waiting.iter_mut().for_each(|waiting| waiting.revision = None);
        }
        self.apply(now, batch, Some(update.resume.revision), out);
        let at = self.stored_at.map_or(now, |at| at + STORE_INTERVAL).max(now + STORE_DELAY);
        self.store_at.get_or_insert(at);
        Ok(())
    }

    /// Compiles a batch and hands the difference to the driver.
    pub(super) fn apply(
        &mut self,
        now: Instant,
        batch: Vec<RowUpdate>,
        revision: Option<u64>,
        out: &mut Vec<Effect>,
    ) {
        const BINDING: [TableId; 7] = [
            PortBinding::TABLE,
            Chassis::TABLE,
            HostInterface::TABLE,
            HostPatch::TABLE,
            HostTunnel::TABLE,
            HaChassisGroup::TABLE,
            HaChassis::TABLE,
        ];
        const DHCP: [TableId; 2] = [DhcpOptions::TABLE, LogicalSwitchPort::TABLE];
        let binding = batch.iter().any(|(table, ..)| BINDING.contains(table));
        if binding || batch.iter().any(|(table, ..)| DHCP.contains(table)) {
            self.dhcp_at.get_or_insert(now + DHCP_DELAY);
        }
        if batch.iter().any(|(table, ..)| *table == sctp::TABLE) {
            self.sctp_changed(now);
        }
        let sessions = batch.iter().any(|(table, ..)| bfd::TABLES.contains(table));
        let aging = Self::aging_rows(&batch);
        let neighbours = Self::neighbour_changes(&batch);
        let batch = self.with_numbers(batch);
        let delta = self.compiler.apply(batch);
        let delta = self.with_handovers(now, delta);
        let delta = self.with_conjunctions(delta);
        let delta = self.with_zones(now, delta, out);
        self.limits_changed(now);
        let delta = self.with_groups(delta);
        let young_again = self.grow_old(now, &aging);
        self.tag += 1;
        let bound = binding.then(|| self.compiler.bound_interfaces());
        let bound = bound.filter(|bound| *bound != self.bound || self.installed.is_none());
        if let Some(bound) = &bound {
            self.bound.clone_from(bound);
        }
        self.waiting.push_back(Waiting { tag: self.tag, revision, bound });
        let outputs = self.driver.handle(now, switch::Input::Delta { delta, tag: self.tag });
        self.switch_outputs(now, outputs, out);
        if binding {
            self.ports_changed(now, out);
            self.report_served(now, out);
        }
        if sessions {
            self.bfd_changed(now, out);
        }
        if binding {
            self.meter_ports(now, out);
            self.forget_neighbours(now, out);
        }
        self.neighbour_rows(now, &neighbours, out);
        if young_again {
            self.host_rows(now, out);
        }
    }

    /// Ports that are bound to this chassis, with the interfaces that carry them.
    pub(super) fn ports_here(&self) -> Vec<(Uuid, Uuid)> {
        let rows = self.compiler.rows();
        let name = self.config.as_ref().map(|config| config.chassis.as_str());
        let own = rows.iter::<Chassis>().find(|(_, chassis)| Some(&*chassis.name) == name);
        let Some((own, _)) = own else { return Vec::new() };
        let here: BTreeMap<&str, Uuid> =
            rows.iter::<HostInterface>().map(|(uuid, row)| (&*row.iface_id, uuid)).collect();
        let is_here = |binding: &PortBinding| {
            binding.chassis.as_ref().is_some_and(|chassis| chassis.uuid() == own)
                || binding.additional_chassis.iter().any(|chassis| chassis.uuid() == own)
        };
        let bound = rows.iter::<PortBinding>().filter(|(_, binding)| is_here(binding));
        let interface = |binding: &PortBinding| here.get(&*binding.logical_port).copied();
        bound.filter_map(|(port, binding)| Some((port, interface(binding)?))).collect()
    }

    /// Compares the incremental table with one compiled from scratch, of the rows of `tag`.
    pub(super) fn compare(&mut self, now: Instant, full: &FullTable, tag: u64, out: &mut Vec<Effect>) {
        if tag != self.tag {
            // Rows changed meanwhile: no verdict.
            self.check_at = now + CHECK_AGAIN;
            return;
        }
        // The larger the table, the rarer: a check costs as much as a start.
        let per_flow = CHECK_INTERVAL_PER_FLOW * u32::try_from(full.flows.len()).unwrap_or(u32::MAX);
        self.check_at = now + CHECK_INTERVAL.max(per_flow);
        let table = self.compiler.table();
        let differs = full.flows.iter().filter(|(key, value)| table.get(*key) != Some(value)).count();
        let extra: Vec<_> =
            table.keys().filter(|key| !full.flows.contains_key(key.as_ref())).cloned().collect();
        let numbered = self.compiler.meters() == full.meters && self.compiler.groups() == full.groups;
        if differs == 0 && extra.is_empty() && numbered {
            return;
        }
        self.counts.full_recompute += 1;
        self.counts.recompute_drift += (differs + extra.len()) as u64;
        tracing::error!(differs, ?extra, "the incremental table drifted from its rows: compiling anew");
        let rows = self.compiler.rows().clone();
        let batch = tables::ids().flat_map(|table| {
            rows.table(table)
                .iter()
                .map(move |(uuid, row)| (table, *uuid, Some(row.clone())))
                .collect::<Vec<_>>()
        });
        let mut compiler = Compiler::new();
        let mut delta = compiler.apply(batch);
        delta.delete = extra;
        let meters = compiler.meters();
        let gone = self.compiler.meters().into_keys().filter(|number| !meters.contains_key(number));
        delta.meters_delete = gone.collect();
        let groups = compiler.groups();
        let gone = self.compiler.groups().into_keys().filter(|number| !groups.contains_key(number));
        delta.groups_delete = gone.collect();
        self.compiler = compiler;
        self.tag += 1;
        self.waiting.push_back(Waiting { tag: self.tag, revision: None, bound: None });
        let outputs = self.driver.handle(now, switch::Input::Delta { delta, tag: self.tag });
        self.switch_outputs(now, outputs, out);
    }
}
