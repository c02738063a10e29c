//! Connections that the switch tracks, counted now and then while anything here needs them.
//!
//! # Invariants
//! - One count at a time.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    agent::{Agent, Effect},
    switch::Tracked,
};

/// What is known of them.
#[derive(Debug)]
pub(super) struct Connections {
    at: Instant,
    counting: bool,
    found: Option<Tracked>,
    /// Why there is no count.
    problem: Option<String>,
}

impl Connections {
    pub(super) fn new(now: Instant) -> Self {
        Self { at: now, counting: false, found: None, problem: None }
    }
}

impl Agent {
    /// When connections are to be counted.
    pub(super) fn next_connections(&self) -> Option<Instant> {
        let wanted = !self.connections.counting && self.abilities.is_some() && !self.zones_here.is_empty();
        wanted.then_some(self.connections.at)
    }

    /// Has them counted, if it is time to.
    pub(super) fn count_connections(&mut self, now: Instant, out: &mut Vec<Effect>) {
        if self.next_connections().is_none_or(|at| now < at) {
            return;
        }
        self.connections.at = now + INTERVAL;
        if let Some(datapath) = self.datapath() {
            self.connections.counting = true;
            out.push(Effect::CountConnections { datapath });
        }
    }

    /// They were counted.
    pub(super) fn connections_counted(&mut self, counted: Result<Tracked, String>) {
        self.connections.counting = false;
        let problem = counted.as_ref().err().cloned();
        if let Some(problem) = problem.as_ref().filter(|_| self.connections.problem != problem) {
            tracing::info!(%problem, "tracked connections are not counted");
        }
        self.connections.problem = problem;
        self.connections.found = counted.ok();
    }

    /// The last count.
    pub fn connections(&self) -> Option<&Tracked> {
        self.connections.found.as_ref()
    }

    /// Of that, zones with most connections, by the name of who has them.
    pub fn zone_connections(&self) -> Vec<(u16, String, u64)> {
        let names: BTreeMap<u16, &str> = self.zones.iter().map(|(name, zone)| (zone, name)).collect();
        let counts = self.connections.found.iter().flat_map(|found| &found.zones).flatten();
        let named = counts.filter_map(|(zone, count)| Some((*zone, (*names.get(zone)?).to_owned(), *count)));
        let mut named: Vec<_> = named.collect();
        named.sort_by_key(|(zone, _, count)| (std::cmp::Reverse(*count), *zone));
        named.truncate(ZONES_MAX);
        named
    }
}

const INTERVAL: Duration = Duration::from_secs(30);
/// Zones that are told of, each with a name.
const ZONES_MAX: usize = 256;
