//! Neighbours of router ports: asked for, learned, told to the store, asked again when they grow old.
//!
//! # Invariants
//! - What was learned here is a row `Host_Neighbour` at once, until the store's row says the same.
//! - A packet that waits goes on when its neighbour becomes known, whoever has learned it.

use std::{sync::Arc, time::Instant};

use ovsdb::value::Atom;
use quantumnet_api::v1::LearnedNeighbour;
use quantumnet_model::{
    Row,
    address::Mac,
    host::{HostNeighbour, HostRouterPort},
    sb::{DatapathBinding, MacBinding, PortBinding},
};
use uuid::Uuid;

use crate::{
    agent::{Agent, Effect, HostRows},
    compile::{By, RowUpdate},
    controller,
    punt::{self, neighbour::Key},
    switch,
};

impl Agent {
    /// A packet has no MAC to go to.
    pub(super) fn unresolved(
        &mut self,
        now: Instant,
        key: Key,
        packet: &ofpacket::PacketIn2,
        out: &mut Vec<Effect>,
    ) {
        // Learned between the switch's question and this.
        if let Some(mac) = self.neighbour(key) {
            self.resume(now, packet.clone(), mac, out);
            return;
        }
        let (ask, kept) = self.neighbours.unresolved(now, key, packet.clone());
        self.counts.neighbour_packets_dropped += u64::from(!kept);
        if ask {
            self.ask(now, key, None, out);
        }
    }

    /// A neighbour in use has not shown itself for long.
    pub(super) fn silent(&mut self, now: Instant, key: Key, out: &mut Vec<Effect>) {
        let to = self.neighbour(key);
        self.ask(now, key, to, out);
    }

    fn ask(&mut self, now: Instant, key: Key, to: Option<Mac>, out: &mut Vec<Effect>) {
        if let Some(question) = punt::question(self.compiler.rows(), key, to) {
            self.counts.neighbours_asked += 1;
            self.switch(now, switch::Input::Packet(question), out);
        }
    }

    /// A router port has heard of a neighbour.
    pub(super) fn neighbour_seen(&mut self, now: Instant, key: Key, mac: Mac, out: &mut Vec<Effect>) {
        let known = self.neighbour(key) == Some(mac);
        for packet in self.neighbours.learned(now, key, mac) {
            self.resume(now, packet, mac, out);
        }
        if !known {
            self.host_rows(now, out);
        }
    }

    /// Rows of a batch that has been applied: neighbours that others have learned.
    pub(super) fn neighbour_rows(&mut self, now: Instant, rows: &[Uuid], out: &mut Vec<Effect>) {
        let mut changed = false;
        for row in rows {
            let Some((key, mac)) = self.bound(*row) else { continue };
            changed |= self.neighbours.stored(key);
            for packet in self.neighbours.resolved(key) {
                self.resume(now, packet, mac, out);
            }
        }
        if changed {
            self.host_rows(now, out);
        }
    }

    /// Gives router ports that came their meters.
    pub(super) fn meter_ports(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let mut given = false;
        for (port, name) in self.compiler.metered_ports() {
            given |= self.ids.appeared(&port_id(&name), port, self.now_ms).1;
        }
        if given {
            out.push(Effect::StoreIds(self.ids.clone()));
            self.host_rows(now, out);
        }
    }

    /// Whether what meters are remembered by is a port that the store has, or may have.
    pub(super) fn is_metered_port(&self, name: &str) -> bool {
        let Some(port) = name.strip_prefix(PORT) else { return false };
        let known = || self.compiler.find_uuid::<PortBinding>(By::LogicalPort, &[Atom::String(port.into())]);
        !self.rows_known || known().is_some()
    }

    /// Ports may have gone.
    pub(super) fn forget_neighbours(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let rows = self.compiler.rows();
        if self.neighbours.forget(|port| rows.get::<PortBinding>(port).is_none()) {
            self.host_rows(now, out);
        }
    }

    /// What is due.
    pub(super) fn neighbours_due(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let (asks, changed) = self.neighbours.due(now);
        for key in asks {
            self.ask(now, key, None, out);
        }
        if changed {
            self.host_rows(now, out);
        }
        let learned = self.neighbours.batch(now);
        if !learned.is_empty() {
            self.counts.neighbours_learned += learned.len() as u64;
            let told = learned.into_iter().filter_map(|(key, mac)| self.told(key, mac));
            let told = told.collect();
            self.stream(now, controller::Input::Neighbours(told), out);
        }
    }

    /// What the store is told of a neighbour.
    fn told(&self, (port, ip): Key, mac: Mac) -> Option<LearnedNeighbour> {
        let rows = self.compiler.rows();
        let binding = rows.get::<PortBinding>(port)?;
        let datapath = rows.get::<DatapathBinding>(binding.datapath.uuid())?;
        Some(LearnedNeighbour {
            datapath_key: u32::try_from(datapath.tunnel_key).ok()?,
            port_key: u32::try_from(binding.tunnel_key).ok()?,
            ip: ip.to_string(),
            mac: mac.to_string(),
        })
    }

    /// A `MAC_Binding` row as the neighbour that it is about.
    fn bound(&self, row: Uuid) -> Option<(Key, Mac)> {
        let row = self.compiler.rows().get::<MacBinding>(row)?;
        let name = [Atom::String(row.logical_port.clone())];
        let port = self.compiler.find_uuid::<PortBinding>(By::LogicalPort, &name)?;
        Some(((port, row.ip.parse().ok()?), row.mac.parse().ok()?))
    }

    /// The MAC of a neighbour, as far as this hypervisor knows.
    fn neighbour(&self, key: Key) -> Option<Mac> {
        let rows = self.compiler.rows();
        let here = rows.get::<HostNeighbour>(neighbour_row(key)).map(|row| row.mac.clone());
        let stored = || {
            let name = rows.get::<PortBinding>(key.0)?.logical_port.clone();
            let key = [Atom::String(name), Atom::String(key.1.to_string().into())];
            Some(self.compiler.find::<MacBinding>(By::MacBinding, &key)?.mac.clone())
        };
        here.or_else(stored)?.parse().ok()
    }

    fn resume(&mut self, now: Instant, packet: ofpacket::PacketIn2, mac: Mac, out: &mut Vec<Effect>) {
        if let Some(packet) = punt::resumed(packet, mac) {
            self.switch(now, switch::Input::Resume(Box::new(packet)), out);
        }
    }

    /// Rows of what was learned here, and of ports that have numbers.
    pub(super) fn router_rows(&self, meters: bool, rows: &mut HostRows) {
        for (key, mac) in self.neighbours.kept() {
            let row =
                HostNeighbour { port: key.0, ip: key.1.to_string().into(), mac: mac.to_string().into() };
            rows.insert((HostNeighbour::TABLE, neighbour_row(key)), Arc::new(row));
        }
        for (port, name) in self.compiler.metered_ports() {
            let meter = self.ids.meter(&port_id(&name)).filter(|_| meters);
            let row = HostRouterPort { meter: meter.unwrap_or_default().into() };
            rows.insert((HostRouterPort::TABLE, port), Arc::new(row));
        }
    }

    /// Rows that changed, for [`Self::neighbour_rows`].
    pub(super) fn neighbour_changes(batch: &[RowUpdate]) -> Vec<Uuid> {
        let bindings = batch.iter().filter(|(table, _, row)| *table == MacBinding::TABLE && row.is_some());
        bindings.map(|(_, uuid, _)| *uuid).collect()
    }
}

/// The row of what was learned of a neighbour.
fn neighbour_row((port, ip): Key) -> Uuid {
    Uuid::new_v5(&port, ip.to_string().as_bytes())
}

/// What a router port's meters are remembered by: no iface-id has a control character.
pub(super) fn port_id(logical_port: &str) -> String {
    format!("{PORT}{logical_port}")
}

const PORT: &str = "\u{1}port ";
