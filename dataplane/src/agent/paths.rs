//! The MTU on the ways to other hypervisors: tried now and then, and told where it is too small for what tunnels send.
//!
//! # Invariants
//! - One round of trials at a time; a new tunnel's way is tried soon, the others' every minute.
//! - A way that was not tried, or whose other end does not answer, is no problem.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use quantumnet_model::sb::Chassis;

use crate::{
    agent::{Agent, Effect},
    host::path::Path,
};

/// What is known of ways.
#[derive(Debug, Default)]
pub(super) struct Paths {
    /// Which were tried last, or are being tried.
    tried: BTreeSet<(IpAddr, IpAddr)>,
    trying: bool,
    at: Option<Instant>,
    found: BTreeMap<IpAddr, Path>,
}

impl Agent {
    /// When ways are to be tried.
    pub(super) fn next_paths(&self) -> Option<Instant> {
        self.paths.at.filter(|_| !self.paths.trying)
    }

    /// Tunnels may have changed.
    pub(super) fn tunnels_changed(&mut self, now: Instant) {
        if self.mtu.is_some() && !self.paths.trying && self.ways() != self.paths.tried {
            let soon = now + PATHS_DELAY;
            self.paths.at = Some(self.paths.at.map_or(soon, |at| at.min(soon)));
        }
    }

    /// Tries ways, if it is time to.
    pub(super) fn try_paths(&mut self, now: Instant, out: &mut Vec<Effect>) {
        if self.next_paths().is_none_or(|at| now < at) {
            return;
        }
        let Some(mtu) = self.mtu else { return };
        self.paths.tried = self.ways();
        self.paths.trying = true;
        out.push(Effect::TryPaths { mtu, pairs: self.paths.tried.iter().copied().collect() });
    }

    /// What was found.
    pub(super) fn paths_found(&mut self, now: Instant, found: BTreeMap<IpAddr, Path>) {
        self.paths.trying = false;
        self.paths.at = Some(now + PATHS_INTERVAL);
        self.paths.found = found;
        for problem in self.path_problems() {
            tracing::warn!(%problem, "MTU");
        }
    }

    /// Ends of tunnels.
    fn ways(&self) -> BTreeSet<(IpAddr, IpAddr)> {
        let address = |tunnel: &crate::host::TunnelPort, key| tunnel.options.get(key)?.parse().ok();
        let tunnels = self.observed.tunnels.values();
        tunnels
            .filter_map(|tunnel| Some((address(tunnel, "local_ip")?, address(tunnel, "remote_ip")?)))
            .collect()
    }

    /// Ways that carry less than tunnels send.
    pub(super) fn path_problems(&self) -> Vec<String> {
        let Some(mtu) = self.mtu else { return Vec::new() };
        let less = self.path_mtus().into_iter().filter(|(_, carries)| *carries < mtu);
        let tell = |(chassis, carries)| {
            format!(
                "the network on the way to {chassis} carries packets of up to {carries} octets, this host's interface \
                 sends {mtu}: larger packets of guests are lost"
            )
        };
        less.map(tell).collect()
    }

    /// What the ways to other chassis carry, as far as it is known; of several the least.
    pub fn path_mtus(&self) -> BTreeMap<String, u32> {
        let mut mtus = BTreeMap::new();
        for tunnel in self.observed.tunnels.values() {
            let peer = tunnel.options.get("remote_ip").and_then(|ip| ip.parse().ok());
            let Some(Path::Carries(carries)) = peer.and_then(|peer: IpAddr| self.paths.found.get(&peer))
            else {
                continue;
            };
            let Some(chassis) = self.compiler.rows().get::<Chassis>(tunnel.chassis) else { continue };
            let mtu = mtus.entry(chassis.name.to_string()).or_insert(*carries);
            *mtu = (*mtu).min(*carries);
        }
        mtus
    }
}

/// Tunnels come in numbers.
const PATHS_DELAY: Duration = Duration::from_secs(2);
const PATHS_INTERVAL: Duration = Duration::from_secs(60);
