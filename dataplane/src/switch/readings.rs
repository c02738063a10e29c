//! What the switch's flows have counted since they were last read.
//!
//! # Contract
//! - In: which flows are desired, written and gone; answers of the switch; time. Out: what is to be asked, and differences.
//! - Asked for is what counts for something ([`Class`]), by table and stage: rules often, drops seldom unless somebody
//!   watches, and neither more often than a hundredth of a core can take.
//!
//! # Invariants
//! - A packet is told once: a flow that is replaced goes on counting, one that goes tells its last count, and one that the
//!   switch lost and has again begins at 0.
//! - Packets that came before this process are told too, as of no known time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use ofpacket::{
    FlowRemoved, FlowRequest, FlowStats, Match, MultipartReply, MultipartRequest, ReplyBody, TableStats,
};
use rustc_hash::FxHashMap;

use crate::compile::{Class, FlowKey, FlowValue, NO_FLOW};

/// Packets that have been counted since the last time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Count {
    /// Of the flow; 0 where there is none.
    pub cookie: u64,
    /// Its table.
    pub table: u8,
    /// What they count for.
    pub class: Class,
    /// How many.
    pub packets: u64,
    /// Their octets, where the switch knows them.
    pub bytes: u64,
    /// They came before this process, nobody knows when.
    pub past: bool,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Readings {
    seen: FxHashMap<Arc<FlowKey>, Seen>,
    /// Flows whose removal has been written, and when.
    leaving: FxHashMap<Arc<FlowKey>, (Instant, Seen)>,
    /// How many flows a table has.
    tables: BTreeMap<u8, u32>,
    /// Packets that matched nothing, by table.
    missed: BTreeMap<u8, u64>,
    rules: Round,
    drops: Round,
    watched: bool,
    /// When this process was first connected.
    since: Option<Instant>,
}

/// A flow as it was last read.
#[derive(Clone, Copy, Debug)]
struct Seen {
    class: Class,
    packets: u64,
    bytes: u64,
    /// What it has counted by now was for something else.
    unread: bool,
}

/// Flows that are read together, again and again.
#[derive(Debug, Default)]
struct Round {
    /// How many flows of a table and stage count.
    pages: BTreeMap<(u8, u32), usize>,
    /// None until they are read for the first time on a connection.
    due: Option<Instant>,
    began: Option<Instant>,
    asked: BTreeSet<u32>,
    /// What switch and agent had to do for it.
    cost: Duration,
}

impl Readings {
    /// A flow was desired and is, if it is.
    pub(super) fn changed(&mut self, key: &Arc<FlowKey>, old: Option<&FlowValue>, new: Option<&FlowValue>) {
        let flows = self.tables.entry(key.table).or_default();
        *flows = *flows + u32::from(new.is_some()) - u32::from(old.is_some());
        let class = |value: &FlowValue| Some((page(key, value), Class::of(key, value)?));
        let (before, after) = (old.and_then(class), new.and_then(class));
        if let Some((page, class)) = before {
            self.round(class).leave(page);
        }
        if let Some((page, class)) = after {
            *self.round(class).pages.entry(page).or_default() += 1;
        }
        match (before, after) {
            // It counts on, for nothing.
            (Some(_), None) if new.is_some() => _ = self.seen.remove(key),
            // What it counts until it is gone is told with this.
            (Some((_, class)), None) => {
                self.seen.entry(key.clone()).or_insert(Seen { class, packets: 0, bytes: 0, unread: false });
            }
            (None, Some((_, class))) if old.is_some() => {
                self.seen.insert(key.clone(), Seen { class, packets: 0, bytes: 0, unread: true });
            }
            (_, Some((_, class))) => {
                if let Some(seen) = self.seen.get_mut(key) {
                    seen.class = class;
                }
            }
            (None, None) => {}
        }
    }

    fn round(&mut self, class: Class) -> &mut Round {
        if matches!(class, Class::Rule { .. }) { &mut self.rules } else { &mut self.drops }
    }

    /// The removal of a flow is being written.
    pub(super) fn deleting(&mut self, now: Instant, key: &Arc<FlowKey>) {
        if let Some((key, seen)) = self.seen.remove_entry(key) {
            self.leaving.insert(key, (now, seen));
        }
    }

    /// What was written has not been done.
    pub(super) fn kept<'a>(&mut self, keys: impl Iterator<Item = &'a Arc<FlowKey>>) {
        for key in keys {
            if let Some((key, (_, seen))) = self.leaving.remove_entry(key) {
                self.seen.insert(key, seen);
            }
        }
    }

    /// The switch does not have these.
    pub(super) fn missing<'a>(&mut self, keys: impl Iterator<Item = &'a Arc<FlowKey>>) {
        keys.for_each(|key| _ = self.seen.remove(key));
    }

    /// There is a new connection.
    pub(super) fn connected(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// The connection is gone.
    pub(super) fn closed(&mut self) {
        self.leaving.clear();
        for round in [&mut self.rules, &mut self.drops] {
            (round.due, round.began) = (None, None);
            round.asked.clear();
        }
    }

    /// Somebody wants to see drops as they come, or nobody does any more.
    pub(super) fn watch(&mut self, now: Instant, watched: bool) {
        if watched && !self.watched {
            self.drops.due = self.drops.due.map(|due| due.min(now));
        }
        self.watched = watched;
    }

    /// When there is something to ask.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.rules.due.into_iter().chain(self.drops.due).min()
    }

    /// Asks what is to be asked now: `send` says the number of the message.
    pub(super) fn ask(&mut self, now: Instant, mut send: impl FnMut(MultipartRequest) -> u32) {
        for (round, tables) in [(&mut self.rules, false), (&mut self.drops, true)] {
            if round.began.is_some() || round.due.is_some_and(|due| now < due) {
                continue;
            }
            round.due = None;
            if round.pages.is_empty() && !tables {
                continue;
            }
            let looked_at = round.pages.keys().filter_map(|(table, _)| self.tables.get(table));
            round.cost = looked_at.map(|flows| PER_FLOW * *flows).sum();
            round.began = Some(now);
            round.asked = round.pages.keys().map(|(table, stage)| send(request(*table, *stage))).collect();
            if tables {
                round.asked.insert(send(MultipartRequest::Table));
            }
        }
        // Whoever has not spoken by now does not: it was written without being asked to, or never came to be.
        self.leaving.retain(|_, (left, _)| now < *left + LAST_WORD);
    }

    /// The switch refused to answer; true if that is what the message was about.
    pub(super) fn refused(&mut self, xid: u32) -> bool {
        self.done(xid)
    }

    /// Takes part of an answer; `None` if it is another's.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        xid: u32,
        reply: &MultipartReply,
        desired: &FxHashMap<Arc<FlowKey>, FlowValue>,
    ) -> Option<Vec<Count>> {
        let round = match (self.rules.asked.contains(&xid), self.drops.asked.contains(&xid)) {
            (true, _) => &mut self.rules,
            (_, true) => &mut self.drops,
            (false, false) => return None,
        };
        let counts = match &reply.body {
            ReplyBody::Flow(flows) => {
                round.cost += PER_FLOW_TOLD * u32::try_from(flows.len()).unwrap_or(u32::MAX);
                flows.iter().filter_map(|flow| self.flow(now, flow, desired)).collect()
            }
            ReplyBody::Table(tables) => tables.iter().filter_map(|table| self.table(table)).collect(),
            _ => Vec::new(),
        };
        if !reply.more {
            self.done(xid);
        }
        Some(counts)
    }

    fn done(&mut self, xid: u32) -> bool {
        let drops = if self.watched { WATCHED_EVERY } else { DROPS_EVERY };
        self.rules.answered(xid, RULES_EVERY) || self.drops.answered(xid, drops)
    }

    fn flow(
        &mut self,
        now: Instant,
        flow: &FlowStats,
        desired: &FxHashMap<Arc<FlowKey>, FlowValue>,
    ) -> Option<Count> {
        // The switch's flows of a page that have counted nothing are most of them.
        let key = FlowKey { table: flow.table.0, priority: flow.priority, matches: flow.matches.clone() };
        let last = self.seen.get(&key);
        if flow.packets == 0 && last.is_none() {
            return None;
        }
        let (key, value) = desired.get_key_value(&key)?;
        let class = Class::of(key, value)?;
        let age = Duration::new(flow.duration_sec.into(), 0);
        let past =
            last.is_none() && self.since.is_some_and(|since| now.saturating_duration_since(since) < age);
        let unread = last.is_some_and(|last| last.unread);
        let (packets, bytes) = since_last(last, flow.packets, flow.bytes);
        let read = Seen { class, packets: flow.packets, bytes: flow.bytes, unread: false };
        self.seen.insert(key.clone(), read);
        let count = Count { cookie: flow.cookie, table: key.table, class, packets, bytes, past };
        (packets > 0 && !unread).then_some(count)
    }

    fn table(&mut self, table: &TableStats) -> Option<Count> {
        let missed = table.lookups.saturating_sub(table.matched);
        let last = self.missed.insert(table.table.0, missed);
        // A switch that has begun anew begins at 0.
        let packets = missed - last.filter(|last| *last <= missed).unwrap_or(0);
        let class = Class::Drop(NO_FLOW);
        let count = Count { cookie: 0, table: table.table.0, class, packets, bytes: 0, past: last.is_none() };
        (packets > 0).then_some(count)
    }

    /// A flow is gone, and this is what it counted.
    pub(super) fn removed(&mut self, flow: FlowRemoved) -> Option<Count> {
        let key = FlowKey { table: flow.table.0, priority: flow.priority, matches: flow.matches };
        let (_, seen) = self.leaving.remove(&key)?;
        let (packets, bytes) = since_last(Some(&seen), flow.packets, flow.bytes);
        let class = seen.class;
        let count = Count { cookie: flow.cookie, table: key.table, class, packets, bytes, past: false };
        (packets > 0 && !seen.unread).then_some(count)
    }
}

impl Round {
    fn leave(&mut self, page: (u8, u32)) {
        if let Some(count) = self.pages.get_mut(&page) {
            *count -= 1;
            if *count == 0 {
                self.pages.remove(&page);
            }
        }
    }

    fn answered(&mut self, xid: u32, every: Duration) -> bool {
        let asked = self.asked.remove(&xid);
        if self.asked.is_empty()
            && let Some(began) = self.began.take_if(|_| asked)
        {
            self.due = Some(began + every.max(self.cost * IDLE));
        }
        asked
    }
}

/// What was counted since a flow was last read. One that has counted less than then is another.
fn since_last(last: Option<&Seen>, packets: u64, bytes: u64) -> (u64, u64) {
    match last {
        Some(last) if last.packets <= packets => (packets - last.packets, bytes.saturating_sub(last.bytes)),
        _ => (packets, bytes),
    }
}

fn page(key: &FlowKey, value: &FlowValue) -> (u8, u32) {
    let [.., a, b, c, d] = (value.cookie >> 32).to_be_bytes();
    (key.table, u32::from_be_bytes([a, b, c, d]))
}

/// All flows of a stage in a table.
fn request(table: u8, stage: u32) -> MultipartRequest {
    let cookie = u64::from(stage) << 32;
    let stage = u64::from(u32::MAX) << 32;
    MultipartRequest::Flow(FlowRequest {
        cookie,
        cookie_mask: stage,
        ..FlowRequest::new(table, Match::new())
    })
}

const RULES_EVERY: Duration = Duration::from_secs(1);
const DROPS_EVERY: Duration = Duration::from_secs(10);
const WATCHED_EVERY: Duration = Duration::from_secs(1);
/// The share of its time that a core has for something else.
const IDLE: u32 = 100;
/// What it takes the switch to look at one flow of a table, measured with 100,000.
const PER_FLOW: Duration = Duration::from_nanos(160);
/// What it takes switch and agent to tell and read one that is asked for.
const PER_FLOW_TOLD: Duration = Duration::from_nanos(2_000);
/// By then a flow that was removed has told what it counted.
const LAST_WORD: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use ofpacket::{FlowModFlags, FlowRemovedReason};

    use super::*;
    use crate::compile::{stage::filter, table::Table};

    fn key(priority: u16) -> Arc<FlowKey> {
        let matches = Match::new().ipv4();
        Arc::new(FlowKey { table: Table::ToPolicy.number(), priority, matches })
    }

    fn rule(row: u64) -> FlowValue {
        FlowValue { cookie: u64::from(filter::rule_stage()) << 32 | row, actions: Arc::new([]) }
    }

    fn stats(key: &FlowKey, value: &FlowValue, packets: u64, age: u32) -> FlowStats {
        FlowStats {
            table: key.table.into(),
            duration_sec: age,
            duration_nsec: 0,
            priority: key.priority,
            idle_timeout: 0,
            hard_timeout: 0,
            flags: FlowModFlags::NONE,
            cookie: value.cookie,
            packets,
            bytes: 100 * packets,
            matches: key.matches.clone(),
            instructions: Vec::new(),
        }
    }

    fn removed(key: &FlowKey, value: &FlowValue, packets: u64) -> FlowRemoved {
        FlowRemoved {
            cookie: value.cookie,
            priority: key.priority,
            reason: FlowRemovedReason::DELETE,
            table: key.table.into(),
            duration_sec: 0,
            duration_nsec: 0,
            idle_timeout: 0,
            hard_timeout: 0,
            packets,
            bytes: 100 * packets,
            matches: key.matches.clone(),
        }
    }

    /// Readings, a switch's answers to them, and time.
    struct World {
        readings: Readings,
        desired: FxHashMap<Arc<FlowKey>, FlowValue>,
        now: Instant,
        xid: u32,
    }

    impl World {
        fn new() -> Self {
            let now = Instant::now();
            let mut readings = Readings::default();
            readings.connected(now);
            Self { readings, desired: FxHashMap::default(), now, xid: 0 }
        }

        fn put(&mut self, key: &Arc<FlowKey>, value: &FlowValue) {
            let old = self.desired.insert(key.clone(), value.clone());
            self.readings.changed(key, old.as_ref(), Some(value));
        }

        fn delete(&mut self, key: &Arc<FlowKey>) {
            let old = self.desired.remove(key);
            self.readings.changed(key, old.as_ref(), None);
        }

        /// Reads rules: asks when it is time, and has these flows as the answer.
        fn read(&mut self, flows: Vec<FlowStats>) -> Vec<Count> {
            self.now = self.readings.poll_timeout().map_or(self.now, |due| due.max(self.now));
            let mut asked = Vec::new();
            self.readings.ask(self.now, |request| {
                self.xid += 1;
                asked.push((self.xid, request));
                self.xid
            });
            let mut counts = Vec::new();
            for (xid, request) in asked {
                let body = match request {
                    MultipartRequest::Flow(_) => ReplyBody::Flow(flows.clone()),
                    _ => ReplyBody::Table(Vec::new()),
                };
                let reply = MultipartReply { more: false, body };
                counts.extend(self.readings.receive(self.now, xid, &reply, &self.desired).unwrap());
            }
            counts
        }
    }

    fn packets(counts: &[Count]) -> Vec<(u64, u64)> {
        counts.iter().map(|count| (count.cookie & 0xffff_ffff, count.packets)).collect()
    }

    #[test]
    fn what_came_since_the_last_time_is_told_once() {
        let (mut world, key, value) = (World::new(), key(1), rule(7));
        assert_eq!(world.readings.poll_timeout(), None);
        world.put(&key, &value);
        assert_eq!(packets(&world.read(vec![stats(&key, &value, 0, 0)])), []);
        assert_eq!(packets(&world.read(vec![stats(&key, &value, 5, 1)])), [(7, 5)]);
        assert_eq!(packets(&world.read(vec![stats(&key, &value, 5, 2)])), []);
        assert_eq!(packets(&world.read(vec![stats(&key, &value, 6, 3)])), [(7, 1)]);
        let counts = world.read(vec![stats(&key, &value, 8, 4)]);
        assert_eq!((counts[0].bytes, counts[0].past), (200, false));
    }

    #[test]
    fn a_flow_that_another_rule_has_now_goes_on() {
        let (mut world, key) = (World::new(), key(1));
        world.put(&key, &rule(7));
        assert_eq!(packets(&world.read(vec![stats(&key, &rule(7), 5, 1)])), [(7, 5)]);
        world.put(&key, &rule(8));
        // Its age is new, its count is not.
        assert_eq!(packets(&world.read(vec![stats(&key, &rule(8), 6, 0)])), [(8, 1)]);
    }

    #[test]
    fn a_flow_that_goes_tells_what_it_had() {
        let (mut world, key, value) = (World::new(), key(1), rule(7));
        world.put(&key, &value);
        assert_eq!(packets(&world.read(vec![stats(&key, &value, 5, 1)])), [(7, 5)]);
        world.delete(&key);
        world.readings.deleting(world.now, &key);
        assert_eq!(world.readings.removed(removed(&key, &value, 9)).map(|count| count.packets), Some(4));
        assert_eq!(world.readings.removed(removed(&key, &value, 9)), None, "once");
        world.put(&key, &value);
        assert_eq!(packets(&world.read(vec![stats(&key, &value, 7, 0)])), [(7, 7)], "it begins at 0");
    }

    #[test]
    fn a_flow_that_came_and_went_between_readings_is_counted() {
        let (mut world, key, value) = (World::new(), key(1), rule(7));
        world.put(&key, &value);
        world.delete(&key);
        world.readings.deleting(world.now, &key);
        // Back, and counting, before the old one has spoken.
        world.put(&key, &value);
        assert_eq!(packets(&world.read(vec![stats(&key, &value, 3, 0)])), [(7, 3)]);
        assert_eq!(world.readings.removed(removed(&key, &value, 4)).map(|count| count.packets), Some(4));
        assert_eq!(packets(&world.read(vec![stats(&key, &value, 4, 0)])), [(7, 1)]);
    }

    #[test]
    fn a_removal_that_fails_loses_nothing() {
        let (mut world, key, value) = (World::new(), key(1), rule(7));
        world.put(&key, &value);
        assert_eq!(packets(&world.read(vec![stats(&key, &value, 5, 1)])), [(7, 5)]);
        world.delete(&key);
        world.readings.deleting(world.now, &key);
        world.readings.kept(std::iter::once(&key));
        world.put(&key, &value);
        assert_eq!(packets(&world.read(vec![stats(&key, &value, 6, 2)])), [(7, 1)]);
    }

    #[test]
    fn a_switch_that_has_begun_anew_begins_at_0() {
        let (mut world, key, value) = (World::new(), key(1), rule(7));
        world.put(&key, &value);
        assert_eq!(packets(&world.read(vec![stats(&key, &value, 5, 1)])), [(7, 5)]);
        world.readings.closed();
        world.readings.connected(world.now);
        world.readings.missing(std::iter::once(&key));
        assert_eq!(packets(&world.read(vec![stats(&key, &value, 6, 0)])), [(7, 6)], "more than before");
        assert_eq!(packets(&world.read(vec![stats(&key, &value, 2, 0)])), [(7, 2)], "less than before");
    }

    #[test]
    fn what_passed_is_no_drop_when_the_flow_becomes_one() {
        let (mut world, key) = (World::new(), key(1));
        let pass = FlowValue { cookie: u64::MAX << 32, ..rule(7) };
        world.put(&key, &pass);
        world.put(&key, &rule(7));
        assert_eq!(packets(&world.read(vec![stats(&key, &rule(7), 100, 1)])), []);
        assert_eq!(packets(&world.read(vec![stats(&key, &rule(7), 101, 1)])), [(7, 1)]);
    }

    #[test]
    fn packets_before_this_process_are_of_no_known_time() {
        let (mut world, key, value) = (World::new(), key(1), rule(7));
        world.put(&key, &value);
        let counts = world.read(vec![stats(&key, &value, 5, 3_600)]);
        assert_eq!((counts[0].packets, counts[0].past), (5, true));
        let counts = world.read(vec![stats(&key, &value, 6, 3_601)]);
        assert_eq!((counts[0].packets, counts[0].past), (1, false));
    }

    #[test]
    fn many_flows_are_read_seldom_and_no_rules_not_at_all() {
        let mut world = World::new();
        let keys: Vec<_> = (0..20_000).map(key).collect();
        keys.iter().for_each(|key| world.put(key, &rule(7)));
        world.read(keys.iter().map(|key| stats(key, &rule(7), 1, 1)).collect());
        let cost = Duration::from_nanos(20_000 * (2_000 + 160));
        assert_eq!(world.readings.rules.due, Some(world.now + 100 * cost));
        keys.iter().for_each(|key| world.delete(key));
        world.read(Vec::new());
        assert_eq!(world.readings.rules.due, None);
    }

    #[test]
    fn who_watches_drops_sees_them_soon() {
        let mut world = World::new();
        world.read(Vec::new());
        assert_eq!(world.readings.poll_timeout(), Some(world.now + DROPS_EVERY));
        world.readings.watch(world.now, true);
        assert_eq!(world.readings.poll_timeout(), Some(world.now));
        world.read(Vec::new());
        assert_eq!(world.readings.poll_timeout(), Some(world.now + WATCHED_EVERY));
    }

    #[test]
    fn misses_of_tables_are_drops() {
        let mut readings = Readings::default();
        let mut read = |lookups, matched| {
            readings
                .table(&TableStats { table: 17.into(), active: 1, lookups, matched })
                .map(|count| count.packets)
        };
        assert_eq!([read(10, 7), read(12, 9), read(13, 9), read(2, 1)], [Some(3), None, Some(1), Some(1)]);
    }
}
