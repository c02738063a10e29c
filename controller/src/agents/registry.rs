//! Which agents there are, and how far they are.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use imbl::OrdSet;
use quantumnet_model::Uuid;
use tokio::sync::watch;

/// Every agent that connected to this member since it started.
#[derive(Debug)]
pub struct AgentRegistry {
    agents: Mutex<BTreeMap<String, AgentStatus>>,
    changes: watch::Sender<u64>,
    /// Names of those connected.
    connected: watch::Sender<OrdSet<String>>,
}

/// An agent as this member knows it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AgentStatus {
    /// Its `Chassis` row.
    pub chassis: Uuid,
    /// Its stream is open here.
    pub connected: bool,
    /// The revision that is in its switch.
    pub applied_revision: u64,
    /// When it was last heard of, in milliseconds since the epoch.
    pub last_seen_ms: i64,
    /// Its program's version.
    pub version: String,
    /// What it cannot do, and what is wrong with its registration.
    pub problems: Vec<String>,
    /// The stream that counts, if there were several.
    stream: u64,
}

impl Default for AgentRegistry {
    fn default() -> Self {
        Self {
            agents: Mutex::default(),
            changes: watch::Sender::new(0),
            connected: watch::Sender::new(OrdSet::new()),
        }
    }
}

impl AgentRegistry {
    /// The agent of the chassis of that name.
    pub fn status(&self, chassis: &str) -> Option<AgentStatus> {
        self.lock().get(chassis).cloned()
    }

    /// All agents by chassis name.
    pub fn all(&self) -> BTreeMap<String, AgentStatus> {
        self.lock().clone()
    }

    /// Names of the chassis whose agents are connected.
    pub fn connected(&self) -> OrdSet<String> {
        self.connected.borrow().clone()
    }

    /// Follows [`Self::connected`].
    pub fn connections(&self) -> watch::Receiver<OrdSet<String>> {
        self.connected.subscribe()
    }

    /// Connected agents whose switches lack the revision, by chassis name.
    pub fn behind(&self, revision: u64) -> Vec<String> {
        let lags = |status: &AgentStatus| status.connected && status.applied_revision < revision;
        self.lock().iter().filter(|(_, status)| lags(status)).map(|(name, _)| name.clone()).collect()
    }

    /// Wakes whenever an agent connects, goes, or acknowledges.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Forgets an agent that is not connected.
    pub fn forget(&self, chassis: &str) {
        let mut agents = self.lock();
        if agents.get(chassis).is_some_and(|status| !status.connected) {
            agents.remove(chassis);
        }
        drop(agents);
        self.changed();
    }

    /// An agent connected; returns the number of its stream, which makes earlier ones of that chassis obsolete.
    pub(crate) fn connect(&self, name: &str, chassis: Uuid, version: String, problems: Vec<String>) -> u64 {
        let mut agents = self.lock();
        let status = agents.entry(name.to_owned()).or_default();
        let stream = status.stream + 1;
        // What was in the switch may not be any more: the agent says anew.
        let last_seen_ms = status.last_seen_ms;
        *status = AgentStatus {
            chassis,
            connected: true,
            last_seen_ms,
            version,
            problems,
            stream,
            applied_revision: 0,
        };
        // Under the lock, so that names come and go in the order of the streams.
        self.connected.send_if_modified(|connected| connected.insert(name.to_owned()).is_none());
        drop(agents);
        self.changed();
        stream
    }

    /// A stream ended; an agent that has a newer one stays connected.
    pub(crate) fn disconnect(&self, name: &str, stream: u64) {
        let mut agents = self.lock();
        if let Some(status) = agents.get_mut(name).filter(|status| status.stream == stream) {
            status.connected = false;
            self.connected.send_if_modified(|connected| connected.remove(name).is_some());
        }
        drop(agents);
        self.changed();
    }

    /// Whether the stream is the agent's latest.
    pub(crate) fn is_current(&self, name: &str, stream: u64) -> bool {
        self.lock().get(name).is_some_and(|status| status.stream == stream)
    }

    /// Changes what is known of an agent.
    pub(crate) fn update(&self, chassis: &str, change: impl FnOnce(&mut AgentStatus)) {
        // One that was forgotten meanwhile stays so.
        if let Some(status) = self.lock().get_mut(chassis) {
            change(status);
        }
        self.changed();
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, AgentStatus>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
