//! The agent's view of its host: settings, bridge, interfaces, and what of them becomes rows and facts.
//!
//! # Invariants
//! - Whatever is wrong on this host is in [`Agent::problems`], and the controllers are told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use quantumnet_api::v1::LocalInterface;
use quantumnet_model::{
    Row,
    host::{
        HostActivated, HostConjunction, HostHandover, HostInterface, HostOldMac, HostPatch, HostSelf,
        HostTunnel,
    },
    row::Database,
    sb::{Fdb, MacBinding, PortBinding},
    tables,
};
use uuid::Uuid;

use crate::{
    agent::{Agent, Effect, HostRows, zones},
    compile::RowUpdate,
    controller::{self, RowsUpdate, Session},
    error::AgentError,
    host::{Bridge, Config, Observed},
};

impl Agent {
    pub(super) fn look(&mut self, now: Instant, now_ms: u64, out: &mut Vec<Effect>) {
        let Some(replica) = self.replica.clone() else { return };
        let Some(system) = replica.rows("Open_vSwitch").next() else { return };
        let Some(external_ids) = system.get("external_ids") else { return };
        let config = match Config::read(external_ids, &self.start.hostname) {
            Ok(config) => config,
            Err(error) => {
                tracing::error!(%error, "waiting for it to be set");
                return;
            }
        };
        if let Some(old) = self.config.as_ref().filter(|old| old.chassis != config.chassis) {
            let (from, to) = (old.chassis.clone(), config.chassis);
            out.push(Effect::End(AgentError::OtherChassis { from, to }));
            return;
        }
        if self.config.as_ref() != Some(&config) {
            for problem in &config.problems {
                tracing::warn!(%problem, "setting of the host");
            }
            if let Some(ip) = config.encap_ips.first() {
                out.push(Effect::ReadMtu(*ip));
            }
        }
        if self.session.is_none() {
            self.begin(&config, now, now_ms, out);
        }
        let observed = Observed::new(&replica, &config);
        for problem in observed.problems.iter().filter(|problem| !self.observed.problems.contains(problem)) {
            tracing::warn!(%problem, "switch database");
        }
        let remotes = if self.start.remotes.is_empty() { &config.remotes } else { &self.start.remotes };
        if self.stream_open.as_ref() != Some(remotes) {
            let remotes = remotes.clone();
            // A stream to the controllers of before ends unheard.
            self.stream(now, controller::Input::Disconnected, out);
            self.stream_open = Some(remotes.clone());
            out.push(Effect::OpenStream { remotes });
        }
        if matches!(observed.bridge, Bridge::Ready { .. })
            && self.bridge_open.as_ref() != Some(&config.bridge)
        {
            self.bridge_open = Some(config.bridge.clone());
            out.push(Effect::OpenSwitch { bridge: config.bridge.clone() });
        }
        self.config = Some(config);
        self.observed = observed;
        self.tunnels_changed(now);
        self.interfaces(now, now_ms, out);
        self.facts(now, out);
        self.host_rows(now, out);
    }

    /// The first look: now the chassis' name is known, and whether what is on disk is its own.
    pub(super) fn begin(&mut self, config: &Config, now: Instant, now_ms: u64, out: &mut Vec<Effect>) {
        let mut resume = None;
        if let Some(snapshot) = self.start.snapshot.take() {
            let rows = snapshot.rows();
            match rows {
                Ok(changes) if snapshot.chassis == config.chassis => {
                    let update = RowsUpdate { snapshot: true, changes, resume: snapshot.resume.clone() };
                    match self.updates(&update) {
                        Ok(batch) => {
                            resume = Some(snapshot.resume);
                            self.from_disk = true;
                            self.apply(now, batch, None, out);
                        }
                        Err(error) => self.disk_warning(format!("rows on disk: {error}")),
                    }
                }
                Ok(_) => self.disk_warning(format!("rows on disk are those of chassis {}", snapshot.chassis)),
                Err(error) => self.disk_warning(error.to_string()),
            }
        }
        self.session = Some(Session::new(&config.chassis, resume, now_ms));
    }

    pub(super) fn disk_warning(&mut self, problem: String) {
        tracing::warn!(%problem, "ignored");
        self.start.problems.push(problem);
    }

    pub(super) fn interfaces(&mut self, now: Instant, now_ms: u64, out: &mut Vec<Effect>) {
        let mut store = false;
        let mut interfaces = BTreeMap::new();
        for (iface_id, plugged) in self.observed.interfaces.iter().filter(|(_, plugged)| plugged.ofport > 0) {
            let (known, new) = self.ids.appeared(iface_id, plugged.row, now_ms);
            store |= new;
            let interface = LocalInterface {
                iface_id: iface_id.clone(),
                iface_id_ver: plugged.iface_id_ver.clone(),
                generation: known.generation,
            };
            interfaces.insert(iface_id.clone(), interface);
        }
        for end in self.observed.near_patches() {
            store |= self.ids.appeared(&patch_id(&end.logical_port), end.interface, now_ms).1;
        }
        // Ports lose their numbers while ovs-vswitchd restarts; only those whose row is gone are gone.
        if matches!(self.observed.bridge, Bridge::Ready { .. }) {
            let observed = &self.observed;
            let patches: BTreeSet<String> =
                observed.patches.values().map(|end| patch_id(&end.logical_port)).collect();
            let mut ids = std::mem::take(&mut self.ids);
            store |= ids.retain(|name| {
                observed.interfaces.contains_key(name) || patches.contains(name) || self.is_metered_port(name)
            });
            self.ids = ids;
        }
        if store {
            out.push(Effect::StoreIds(self.ids.clone()));
        }
        self.stream(now, controller::Input::Interfaces(interfaces), out);
    }

    pub(super) fn facts(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let Some(config) = &self.config else { return };
        let mut found = self.observed.facts.clone();
        found.extend(self.mtu.map(|mtu| ("underlay-mtu".to_owned(), mtu.to_string())));
        self.told_problems = self.problems();
        let facts = config.facts(&found, &self.told_problems);
        self.stream(now, controller::Input::Facts(facts), out);
    }

    /// What is wrong, apart from settings.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.observed.problems.clone();
        problems.extend(self.plan_problems.iter().cloned());
        problems.extend(self.start.problems.iter().cloned());
        problems.extend(self.disk_problem.clone());
        problems.extend(self.switch_problem.clone());
        let refused = self.driver.refused();
        if refused > 0 {
            problems.push(format!("the switch refuses {refused} flows or meters; see the agent's log"));
        }
        let unmetered = self.numbers.without_meter();
        if unmetered > 0 && self.abilities.is_some() {
            problems.push(format!("the switch has too few meters: {unmetered} rows that need one have none"));
        }
        problems.extend(self.dhcp_problems.iter().cloned());
        problems.extend(self.sctp_problem());
        problems.extend(self.limits_problem());
        problems.extend(self.gateways.problems.iter().cloned());
        problems.extend(self.path_problems());
        problems
    }

    /// Rows of the database `Host`.
    pub(super) fn host_rows(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let mut rows = HostRows::new();
        if let (Some(config), Some(abilities)) = (&self.config, self.abilities) {
            let row = HostSelf {
                chassis: config.chassis.as_str().into(),
                tunnel_option: abilities.tunnel_option.into(),
                nd_extensions: abilities.nd_extensions,
                sctp_ports: abilities.sctp_ports,
            };
            rows.insert((HostSelf::TABLE, Uuid::nil()), Arc::new(row));
        }
        let meters = self.abilities.is_some_and(|abilities| abilities.meters > 0);
        for (iface_id, plugged) in self.observed.interfaces.iter().filter(|(_, plugged)| plugged.ofport > 0) {
            let meter = self.ids.meter(iface_id).filter(|_| meters);
            let row = HostInterface {
                name: plugged.name.as_str().into(),
                iface_id: iface_id.as_str().into(),
                ofport: plugged.ofport,
                meter: meter.unwrap_or_default().into(),
            };
            rows.insert((HostInterface::TABLE, plugged.row), Arc::new(row));
        }
        for (encap, tunnel) in self.observed.tunnels.iter().filter(|(_, tunnel)| tunnel.ofport > 0) {
            let row = HostTunnel {
                chassis: tunnel.chassis,
                encap: *encap,
                ofport: tunnel.ofport,
                heard: tunnel.session.is_up(),
                alive: self.counts_as_alive(&tunnel.session),
            };
            rows.insert((HostTunnel::TABLE, tunnel.interface), Arc::new(row));
        }
        for end in self.observed.near_patches() {
            let meter = self.ids.meter(&patch_id(&end.logical_port)).filter(|_| meters);
            let row = HostPatch {
                logical_port: end.logical_port.as_str().into(),
                ofport: end.ofport,
                meter: meter.unwrap_or_default().into(),
            };
            rows.insert((HostPatch::TABLE, end.interface), Arc::new(row));
        }
        for port in &self.activated {
            if let Some(binding) = self.compiler.rows().get::<PortBinding>(*port) {
                let row = HostActivated { logical_port: binding.logical_port.clone() };
                rows.insert((HostActivated::TABLE, *port), Arc::new(row));
            }
        }
        for old in &self.old_macs {
            let held = self.compiler.rows();
            let mac = held.get::<Fdb>(*old).map(|fdb| &fdb.mac);
            if let Some(mac) = mac.or_else(|| Some(&held.get::<MacBinding>(*old)?.mac)) {
                let row = HostOldMac { mac: mac.clone() };
                rows.insert((HostOldMac::TABLE, *old), Arc::new(row));
            }
        }
        self.router_rows(meters, &mut rows);
        self.group_rows(&mut rows);
        rows.extend(zones::rows(&self.zones_here));
        for (uuid, row) in self.conjunctions.rows() {
            rows.insert((HostConjunction::TABLE, uuid), Arc::new(row));
        }
        rows.extend(self.numbers.rows().into_iter().map(|(table, uuid, row)| ((table, uuid), row)));
        for (group, row) in self.handover_rows() {
            rows.insert((HostHandover::TABLE, group), Arc::new(row));
        }
        let mut batch: Vec<RowUpdate> = Vec::new();
        for table in tables::ids().filter(|table| tables::decl(*table).database == Database::Host) {
            let gone =
                self.compiler.rows().table(table).keys().filter(|uuid| !rows.contains_key(&(table, **uuid)));
            batch.extend(gone.map(|uuid| (table, *uuid, None)));
        }
        for ((table, uuid), row) in rows {
            let old = self.compiler.rows().dyn_row(table, uuid);
            if old.is_none_or(|old| !old.same(row.as_ref())) {
                batch.push((table, uuid, Some(row)));
            }
        }
        if !batch.is_empty() {
            self.apply(now, batch, None, out);
        }
    }
}

/// What a patch port's meters are remembered by: no iface-id has a control character.
fn patch_id(logical_port: &str) -> String {
    format!("\u{1}patch {logical_port}")
}
