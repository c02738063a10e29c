//! How many connections a zone may have (ovn-nb(5), `ct-zone-limit`): a port's zone as the port says, else as its switch does; the
//! zones of a router as the router does.
//!
//! # Contract
//! - In: rows and zones; whether the switch took the limits. Out: [`Effect::LimitZones`], after which exactly the zones that are
//!   to have limits have them, whatever was there before.
//!
//! # Invariants
//! - Limits are told again when they change, to every new connection of the bridge, since its process may be another, and some
//!   time after they were refused. One telling at a time.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use quantumnet_model::{
    Rows,
    column::Text,
    sb::{DatapathBinding, PortBinding},
};
use uuid::Uuid;

use crate::agent::{Agent, Effect, zones::Holder};

/// What is known of them.
#[derive(Debug, Default)]
pub(super) struct Limits {
    wanted: BTreeMap<u16, u32>,
    /// When the switch is to be told.
    at: Option<Instant>,
    telling: bool,
    /// Why the switch did not take them.
    problem: Option<String>,
}

impl Agent {
    /// Rows or zones changed.
    pub(super) fn limits_changed(&mut self, now: Instant) {
        let wanted = wanted(self.compiler.rows(), &self.zones_here);
        if wanted != self.limits.wanted {
            self.limits.wanted = wanted;
            self.limits.at = Some(now);
        }
    }

    /// There is a new connection to the bridge.
    pub(super) fn limits_forgotten(&mut self, now: Instant) {
        if self.zones.iter().next().is_some() {
            self.limits.at = Some(now);
        }
    }

    /// When the switch is to be told.
    pub(super) fn next_limits(&self) -> Option<Instant> {
        self.limits.at.filter(|_| !self.limits.telling && self.abilities.is_some())
    }

    /// Tells the switch, if it is time to.
    pub(super) fn limit_zones(&mut self, now: Instant, out: &mut Vec<Effect>) {
        if self.next_limits().is_none_or(|at| now < at) {
            return;
        }
        let Some(datapath) = self.datapath() else {
            self.limits.at = Some(now + RETRY);
            return;
        };
        self.limits.at = None;
        self.limits.telling = true;
        let limits = self.limits.wanted.clone();
        let zones = self.zones.iter().map(|(_, zone)| zone);
        let free = zones.filter(|zone| !limits.contains_key(zone)).collect();
        out.push(Effect::LimitZones { datapath, limits, free });
    }

    /// The switch was told.
    pub(super) fn zones_limited(&mut self, now: Instant, result: Result<(), String>) {
        self.limits.telling = false;
        // A datapath that knows no limits has none.
        let problem = result.err().filter(|_| !self.limits.wanted.is_empty());
        if problem.is_some() {
            self.limits.at.get_or_insert(now + RETRY);
        }
        if let Some(problem) = problem.as_ref().filter(|_| self.limits.problem != problem) {
            tracing::warn!(%problem, "zones have no limits");
        }
        self.limits.problem = problem;
    }

    /// Why zones are without their limits.
    pub(super) fn limits_problem(&self) -> Option<String> {
        let problem = self.limits.problem.as_ref()?;
        Some(format!("ct-zone-limit: the switch did not take the limits: {problem}"))
    }
}

/// Limits by zone; of several holders of a zone the least counts.
fn wanted(rows: &Rows, zones: &BTreeMap<Holder, u16>) -> BTreeMap<u16, u32> {
    let mut wanted: BTreeMap<u16, u32> = BTreeMap::new();
    for (holder, zone) in zones {
        if let Some(limit) = limit(rows, *holder).filter(|limit| *limit > 0) {
            wanted.entry(*zone).and_modify(|least| *least = limit.min(*least)).or_insert(limit);
        }
    }
    wanted
}

fn limit(rows: &Rows, holder: Holder) -> Option<u32> {
    let number = |text: &Text| text.trim().parse::<u32>().ok();
    let of_datapath = |uuid: Uuid| {
        let row: &DatapathBinding = rows.get(uuid)?;
        row.external_ids.get(KEY).and_then(number)
    };
    match holder {
        Holder::Port(port) => {
            let binding: &PortBinding = rows.get(port)?;
            let own = binding.options.get(KEY).and_then(number);
            own.or_else(|| of_datapath(binding.datapath.uuid()))
        }
        Holder::Destinations(router) | Holder::Sources(router) | Holder::Ways(router) => of_datapath(router),
    }
}

const KEY: &str = "ct-zone-limit";
const RETRY: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use quantumnet_model::{Row, Strong};

    use super::*;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    #[test]
    fn a_port_s_limit_is_its_own_or_its_switch_s() {
        let mut rows = Rows::default();
        let limit = |limit: &str| {
            Some(limit)
                .filter(|limit| !limit.is_empty())
                .map(|limit| (Text::from(KEY), Text::from(limit)))
                .into_iter()
        };
        let mut put = |number: u128, row: Arc<dyn quantumnet_model::DynRow>, table| {
            rows.set(table, id(number), Some(row));
        };
        for (number, of_switch) in [(1, "100"), (2, ""), (3, "7")] {
            let external_ids = limit(of_switch).collect();
            put(
                number,
                Arc::new(DatapathBinding { external_ids, ..DatapathBinding::default() }),
                DatapathBinding::TABLE,
            );
        }
        for (number, switch, own) in [(11, 1, ""), (12, 1, "5"), (13, 1, "0"), (14, 2, "x"), (15, 2, "")] {
            let row = PortBinding {
                datapath: Strong::new(id(switch)),
                options: limit(own).collect(),
                ..PortBinding::default()
            };
            put(number, Arc::new(row), PortBinding::TABLE);
        }
        let ports = (11..=15).map(|port| (Holder::Port(id(port)), u16::try_from(port).unwrap()));
        let router = [Holder::Destinations(id(3)), Holder::Sources(id(3)), Holder::Ways(id(3))];
        let zones = ports.chain(router.into_iter().zip([30, 31, 11])).collect();
        assert_eq!(wanted(&rows, &zones), [(11, 7), (12, 5), (30, 7), (31, 7)].into());
    }
}
