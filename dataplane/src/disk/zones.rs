//! Connection tracking zones of ports and routers: given once, given again after a restart.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::disk::Record;

/// Zones by the name of their logical port, or by what a router's zone is called.
///
/// # Invariants
/// - No two have a zone in common unless both asked for it, and each keeps its own while it is known.
/// - Whoever is given a zone has to forget what is in it first: it may have been another port's.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Zones {
    ports: BTreeMap<String, u16>,
}

impl Record for Zones {
    const FILE: &'static str = "zones";
    const FORMAT: u32 = 1;
}

impl Zones {
    /// The zone of a port.
    pub fn of(&self, port: &str) -> Option<u16> {
        self.ports.get(port).copied()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u16)> {
        self.ports.iter().map(|(name, zone)| (name.as_str(), *zone))
    }

    /// Gives a port a zone that no other has; `None` when all are taken.
    pub fn give(&mut self, port: &str) -> Option<u16> {
        let taken: std::collections::BTreeSet<u16> = self.ports.values().copied().collect();
        let zone = (FIRST..=u16::MAX).find(|zone| !taken.contains(zone))?;
        self.ports.insert(port.to_owned(), zone);
        Some(zone)
    }

    /// Gives a zone to who asks for it. Others that have it lose it, unless they are entitled to it too.
    pub fn take(&mut self, name: &str, zone: u16, mut entitled: impl FnMut(&str) -> bool) {
        self.ports.retain(|other, has| *has != zone || entitled(other));
        self.ports.insert(name.to_owned(), zone);
    }

    /// Forgets ports that are gone.
    pub fn retain(&mut self, mut here: impl FnMut(&str) -> bool) {
        self.ports.retain(|port, _| here(port));
    }
}

/// Zone 0 is everybody's.
const FIRST: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_a_zone_gets_it() {
        let mut zones = Zones::default();
        zones.give("a");
        zones.give("b");
        zones.take("r", 1, |_| false);
        assert_eq!([zones.of("a"), zones.of("r"), zones.give("a")], [None, Some(1), Some(3)]);
        zones.take("s", 1, |other| other == "r");
        assert_eq!([zones.of("r"), zones.of("s")], [Some(1), Some(1)]);
        zones.take("r", 9, |_| false);
        assert_eq!([zones.of("r"), zones.of("s")], [Some(9), Some(1)]);
    }

    #[test]
    fn a_zone_is_one_ports() {
        let mut zones = Zones::default();
        assert_eq!([zones.give("a"), zones.give("b"), zones.give("c")], [Some(1), Some(2), Some(3)]);
        zones.retain(|port| port != "b");
        assert_eq!((zones.of("a"), zones.of("b"), zones.give("d")), (Some(1), None, Some(2)));
    }
}
