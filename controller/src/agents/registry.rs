//! Which agents there are, on any member, and how far they are.
//!
//! # Invariants
//! - Of several streams of one agent the one registered last counts, on whichever member it is; members that heard
//!   of the same streams agree on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use imbl::OrdSet;
use quantumnet_model::Uuid;
use tokio::sync::watch;

/// Every agent that connected to a member since this one started.
#[derive(Debug)]
pub struct AgentRegistry {
    agents: Mutex<Agents>,
    changes: watch::Sender<u64>,
    /// Names of those connected.
    connected: watch::Sender<OrdSet<String>>,
}

#[derive(Debug, Default)]
struct Agents {
    by_name: BTreeMap<String, AgentStatus>,
    /// Grows with each change of an agent of this member.
    changed_last: u64,
}

/// Which of several streams of an agent counts: the greatest.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Registered {
    /// Revision of the registration.
    pub revision: u64,
    /// When it was, in milliseconds since the epoch; tells registrations that changed nothing apart.
    pub at_ms: i64,
    /// The member that has the stream; 0 for the one that keeps this registry.
    pub member: u64,
}

/// An agent as the members know it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AgentStatus {
    /// Its `Chassis` row.
    pub chassis: Uuid,
    /// Its stream is open, on this member or another.
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
    pub registered: Registered,
    /// The same as a number of this member.
    pub(crate) stream: u64,
    /// When it changed, for whoever tells the other members; 0 for an agent of another.
    pub(crate) changed: u64,
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
        self.lock().by_name.get(chassis).cloned()
    }

    /// Names of the chassis whose agents are known, connected or not.
    pub fn names(&self) -> Vec<String> {
        self.lock().by_name.keys().cloned().collect()
    }

    /// All agents by chassis name.
    pub fn all(&self) -> BTreeMap<String, AgentStatus> {
        self.lock().by_name.clone()
    }

    /// Agents of this member that changed after the mark, and the mark for the next call.
    pub fn own_since(&self, mark: u64) -> (Vec<(String, AgentStatus)>, u64) {
        let agents = self.lock();
        let changed = agents.by_name.iter().filter(|(_, status)| status.changed > mark);
        let changed = changed.map(|(name, status)| (name.clone(), status.clone())).collect();
        (changed, agents.changed_last)
    }

    /// Another member says how an agent that it serves, or served last, stands. Returns whether that counts, and the
    /// chassis whose stream on this member no longer does.
    pub fn elsewhere(&self, name: &str, told: AgentStatus) -> (bool, Option<Uuid>) {
        let mut agents = self.lock();
        let status = agents.by_name.entry(name.to_owned()).or_default();
        let member = told.registered.member;
        if status.registered.member != member && status.registered >= told.registered {
            return (false, None);
        }
        let obsolete = (status.registered.member == 0 && status.connected).then_some(status.chassis);
        let stream = status.stream + u64::from(obsolete.is_some());
        let connected = told.connected;
        *status = AgentStatus { stream, changed: 0, ..told };
        self.present(name, connected);
        drop(agents);
        self.changed();
        (true, obsolete)
    }

    /// A member is gone, or has begun anew, and with it its agents' streams but for those named.
    pub fn lost(&self, member: u64, but: &BTreeSet<&str>) {
        let mut agents = self.lock();
        for (name, status) in &mut agents.by_name {
            if status.registered.member == member && status.connected && !but.contains(name.as_str()) {
                status.connected = false;
                self.present(name, false);
            }
        }
        drop(agents);
        self.changed();
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
        self.lock().by_name.iter().filter(|(_, status)| lags(status)).map(|(name, _)| name.clone()).collect()
    }

    /// Wakes whenever an agent connects, goes, or acknowledges.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Forgets an agent that is not connected.
    pub fn forget(&self, chassis: &str) {
        let mut agents = self.lock();
        if agents.by_name.get(chassis).is_some_and(|status| !status.connected) {
            agents.by_name.remove(chassis);
        }
        drop(agents);
        self.changed();
    }

    /// An agent connected to this member, registered at that revision; returns the number of its stream, which makes
    /// earlier ones of that chassis obsolete.
    pub(crate) fn connect(
        &self,
        name: &str,
        chassis: Uuid,
        revision: u64,
        version: String,
        problems: Vec<String>,
    ) -> u64 {
        let mut agents = self.lock();
        agents.changed_last += 1;
        let changed = agents.changed_last;
        let status = agents.by_name.entry(name.to_owned()).or_default();
        let stream = status.stream + 1;
        // Later than any other that is known, whatever the other member's clock said.
        let at_ms = now_ms().max(status.registered.at_ms + 1);
        let registered = Registered { revision: revision.max(status.registered.revision), at_ms, member: 0 };
        // What was in the switch may not be any more: the agent says anew.
        let last_seen_ms = status.last_seen_ms;
        *status = AgentStatus {
            chassis,
            connected: true,
            last_seen_ms,
            version,
            problems,
            registered,
            stream,
            changed,
            applied_revision: 0,
        };
        self.present(name, true);
        drop(agents);
        self.changed();
        stream
    }

    /// A stream ended; an agent that has a newer one stays connected.
    pub(crate) fn disconnect(&self, name: &str, stream: u64) {
        let mut agents = self.lock();
        agents.changed_last += 1;
        let changed = agents.changed_last;
        if let Some(status) = agents.by_name.get_mut(name).filter(|status| status.stream == stream) {
            status.connected = false;
            status.changed = changed;
            self.present(name, false);
        }
        drop(agents);
        self.changed();
    }

    /// Whether the stream is the agent's latest.
    pub(crate) fn is_current(&self, name: &str, stream: u64) -> bool {
        self.lock().by_name.get(name).is_some_and(|status| status.stream == stream)
    }

    /// Changes what is known of an agent by its stream on this member, unless another has taken that one's place.
    pub(crate) fn update(&self, chassis: &str, stream: u64, change: impl FnOnce(&mut AgentStatus)) {
        {
            let mut agents = self.lock();
            agents.changed_last += 1;
            let changed = agents.changed_last;
            // One that was forgotten meanwhile stays so.
            let status = agents.by_name.get_mut(chassis).filter(|status| status.stream == stream);
            if let Some(status) = status {
                change(status);
                status.changed = changed;
            }
        }
        self.changed();
    }

    /// Under the lock, so that names come and go in the order of the streams.
    fn present(&self, name: &str, connected: bool) {
        self.connected.send_if_modified(|names| {
            if connected { names.insert(name.to_owned()).is_none() } else { names.remove(name).is_some() }
        });
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Agents> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(member: u64, revision: u64, at_ms: i64, connected: bool) -> AgentStatus {
        let registered = Registered { revision, at_ms, member };
        AgentStatus { connected, registered, ..AgentStatus::default() }
    }

    #[test]
    fn the_stream_that_was_registered_last_counts_wherever_it_is() {
        let (registry, chassis) = (AgentRegistry::default(), Uuid::new_v4());
        assert_eq!(registry.elsewhere("hv1", told(2, 5, 100, true)), (true, None));
        assert!(registry.connected().contains("hv1"));
        // An older stream of another member, however late it is told.
        assert_eq!(registry.elsewhere("hv1", told(3, 5, 99, false)), (false, None));
        assert!(registry.connected().contains("hv1"));
        // It moves here, with a clock that is behind, and a registration that changed nothing.
        let stream = registry.connect("hv1", chassis, 5, String::new(), Vec::new());
        assert_eq!(registry.elsewhere("hv1", told(2, 5, 100, false)), (false, None));
        assert!(registry.connected().contains("hv1") && registry.is_current("hv1", stream));
        assert_eq!(registry.own_since(0).0.len(), 1);
        // And away again: the stream here ends without a word on the agent's presence.
        assert_eq!(registry.elsewhere("hv1", told(3, 6, 50, true)), (true, Some(chassis)));
        assert!(!registry.is_current("hv1", stream));
        registry.update("hv1", stream, |status| status.applied_revision = 9);
        registry.disconnect("hv1", stream);
        let status = registry.status("hv1").unwrap();
        assert!(status.connected && status.applied_revision == 0 && registry.own_since(0).0.is_empty());
        registry.lost(2, &BTreeSet::new());
        assert!(registry.connected().contains("hv1"));
        registry.lost(3, &BTreeSet::from(["hv1"]));
        assert!(registry.connected().contains("hv1"));
        registry.lost(3, &BTreeSet::new());
        assert!(!registry.connected().contains("hv1"));
    }
}
