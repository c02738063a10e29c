//! What is dropped, as one client follows it: each time what came since the last.
//!
//! # Invariants
//! - A packet is told once, whether it was counted while the client looked or while its hypervisor was out of reach.
//! - An agent that has begun anew begins anew here: what it counted before is not told as if it came now.

use std::collections::{BTreeMap, BTreeSet};

use quantumnet_api::v1::{DropCount, DropCountsAnswer, DropCountsQuery, LoggedPacket};

use super::ask_all;
use crate::agents::{AgentRegistry, Queries};

/// One client's place.
#[derive(Debug, Default)]
pub(crate) struct Drops {
    agents: BTreeMap<String, Place>,
    begun: bool,
    /// What was missing the last time.
    missing: BTreeSet<String>,
}

/// How far one agent was heard.
#[derive(Debug, Default)]
struct Place {
    process: u64,
    /// What came before it was heard is no news.
    heard: bool,
    at: u64,
    records_at: u64,
    told: BTreeMap<(u64, String, String), (u64, u64)>,
}

/// What there is to tell.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Of a hypervisor, with differences for counts.
    pub(crate) drops: Vec<(String, DropCount)>,
    pub(crate) records: Vec<(String, LoggedPacket)>,
    /// Who is missing, and why.
    pub(crate) missing: Vec<String>,
}

impl Drops {
    /// Asks all agents, or one. The first time, counts are those of all time.
    pub(crate) async fn next(&mut self, queries: &Queries, agents: &AgentRegistry, node: &str) -> Seen {
        let chassis = if node.is_empty() { agents.names() } else { vec![node.to_owned()] };
        let question = |chassis: &str| {
            let place = self.agents.get(chassis);
            DropCountsQuery {
                since: place.map_or(0, |place| place.at),
                records_since: place.map_or(0, |place| place.records_at),
            }
        };
        let mut answers = ask_all(queries, chassis, question).await;
        answers.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut seen = Seen::default();
        for (chassis, answer) in answers {
            match answer {
                Ok(answer) => self.take(&chassis, answer, &mut seen),
                Err(error) => seen.missing.push(error.to_string()),
            }
        }
        self.begun = true;
        // Who stays away is told of once.
        let missing = seen.missing.iter().cloned().collect();
        let told = std::mem::replace(&mut self.missing, missing);
        seen.missing.retain(|missing| !told.contains(missing));
        seen
    }

    fn take(&mut self, chassis: &str, answer: DropCountsAnswer, seen: &mut Seen) {
        let known = self.agents.get(chassis).map(|place| place.process);
        let place = self.agents.entry(chassis.to_owned()).or_default();
        if known.is_some_and(|known| known != answer.process) {
            *place = Place { process: answer.process, ..Place::default() };
            // It was asked for what came after a point of the agent before it. All of it is asked for the next time.
            seen.missing.push(format!("hypervisor {chassis}: its agent has begun anew"));
            return;
        }
        // What a hypervisor that comes later has counted by then did not come now.
        let told = !self.begun || std::mem::replace(&mut place.heard, true);
        place.heard = true;
        place.process = answer.process;
        (place.at, place.records_at) = (answer.at, answer.records_at);
        if answer.cut {
            seen.missing
                .push(format!("hypervisor {chassis}: it drops for more reasons than it can tell at once"));
        }
        for drop in answer.drops {
            let key = (drop.cookie, drop.table.clone(), drop.reason.clone());
            let before = place.told.insert(key, (drop.packets, drop.bytes)).unwrap_or_default();
            let packets = drop.packets.saturating_sub(before.0);
            let bytes = drop.bytes.saturating_sub(before.1);
            if told && packets > 0 {
                seen.drops.push((chassis.to_owned(), DropCount { packets, bytes, ..drop }));
            }
        }
        if place.told.len() > TOLD_MAX {
            // Its next answer is a beginning: an agent's word is bounded.
            *place = Place { process: place.process, ..Place::default() };
            seen.missing.push(format!("hypervisor {chassis}: it tells of too much; it is begun with anew"));
        }
        if told {
            seen.records.extend(answer.records.into_iter().map(|record| (chassis.to_owned(), record)));
        }
    }
}

/// What is remembered of one agent.
const TOLD_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(process: u64, at: u64, counts: &[(u64, u64)]) -> DropCountsAnswer {
        let count = |(cookie, packets): &(u64, u64)| DropCount {
            cookie: *cookie,
            packets: *packets,
            bytes: 10 * packets,
            ..DropCount::default()
        };
        DropCountsAnswer { process, at, drops: counts.iter().map(count).collect(), ..Default::default() }
    }

    /// Takes an answer, and gives what it told: cookies, packets and octets.
    fn told(drops: &mut Drops, chassis: &str, answer: DropCountsAnswer) -> Vec<(u64, u64, u64)> {
        let mut seen = Seen::default();
        drops.take(chassis, answer, &mut seen);
        drops.begun = true;
        seen.drops.iter().map(|(_, drop)| (drop.cookie, drop.packets, drop.bytes)).collect()
    }

    #[test]
    fn all_of_it_comes_first_and_then_what_is_new() {
        let mut drops = Drops::default();
        assert_eq!(told(&mut drops, "hv1", answer(1, 5, &[(7, 3), (8, 1)])), [(7, 3, 30), (8, 1, 10)]);
        assert_eq!(told(&mut drops, "hv1", answer(1, 5, &[])), []);
        assert_eq!(told(&mut drops, "hv1", answer(1, 6, &[(7, 5)])), [(7, 2, 20)]);
    }

    #[test]
    fn a_hypervisor_that_comes_later_has_a_beginning_of_its_own() {
        let mut drops = Drops::default();
        assert_eq!(told(&mut drops, "hv1", answer(1, 5, &[])), []);
        assert_eq!(told(&mut drops, "hv2", answer(1, 5, &[(7, 3)])), []);
        assert_eq!(told(&mut drops, "hv2", answer(1, 6, &[(7, 4)])), [(7, 1, 10)]);
    }

    #[test]
    fn an_agent_that_begins_anew_repeats_nothing() {
        let mut drops = Drops::default();
        assert_eq!(told(&mut drops, "hv1", answer(1, 5, &[(7, 3)])), [(7, 3, 30)]);
        assert_eq!(told(&mut drops, "hv1", answer(2, 9, &[(8, 1)])), [], "it was asked for another's");
        assert_eq!(told(&mut drops, "hv1", answer(2, 9, &[(7, 4), (8, 1)])), []);
        assert_eq!(told(&mut drops, "hv1", answer(2, 10, &[(7, 5)])), [(7, 1, 10)]);
    }
}
