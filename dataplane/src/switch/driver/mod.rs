//! The driver: keeps the switch's tables at what is desired, through errors, restarts and foreign hands.
//!
//! # Contract
//! - In: the connection's bytes, net changes with a tag each, the word that the desired table is complete, time.
//! - Out: bytes; which tag is in the switch; packets; what was refused.
//! - A connection begins with the handshake. Only once the desired table is complete is the switch's content read
//!   back, and then only the difference is written, in one bundle.
//!
//! # Invariants
//! - Nothing is ever deleted wholesale: a flow is deleted by its own key, because it was read back or desired before.
//! - A key is either known to be in the switch as desired, or dirty, or in the batch under way, or refused.
//! - At most one batch is under way; what changes meanwhile goes together into the next.
//! - A switch that says nothing is asked, and one that does not answer in time is left: a process that hangs keeps its
//!   sockets open.
//! - A meter that the switch refuses twice is left out for a while, so that it does not keep the flows back.
//! - `Applied(tag)` comes after the barrier that follows everything up to that tag, and tags never go back.

mod event;
mod handshake;
mod sync;
mod track;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use ofpacket::{Framer, Hello, Message, ReplyBody, Version};
use rustc_hash::{FxHashMap, FxHashSet};

pub use event::{Abilities, Failure, Input, Limits, Output, Stats, SwitchError};

use crate::{
    compile::{FlowDelta, FlowKey, FlowValue, GroupSpec, MeterSpec},
    switch::{
        batch::{Batch, Blamed, FlowChange, Xids},
        compare::Comparison,
        readings::Readings,
    },
};
use handshake::Setup;

/// The driver.
#[derive(Debug)]
pub struct Driver {
    limits: Limits,
    framer: Framer,
    xids: Xids,
    phase: Phase,
    setup: Setup,
    complete: bool,
    desired: FxHashMap<Arc<FlowKey>, FlowValue>,
    meters: BTreeMap<u32, MeterSpec>,
    dirty: FxHashSet<Arc<FlowKey>>,
    dirty_meters: BTreeSet<u32>,
    installed_meters: BTreeMap<u32, Option<MeterSpec>>,
    groups: BTreeMap<u32, GroupSpec>,
    dirty_groups: BTreeSet<u32>,
    refused_groups: BTreeSet<u32>,
    /// Zones to be emptied before the next batch, and those that the batch under way has emptied.
    forget: BTreeSet<u16>,
    forgotten: BTreeSet<u16>,
    batch: Option<Batch>,
    comparison: Option<Comparison>,
    readings: Readings,
    refused: FxHashMap<Arc<FlowKey>, Option<FlowValue>>,
    /// How often each was refused.
    refused_meters: BTreeMap<u32, u32>,
    refused_until: Option<Instant>,
    /// When the switch last said something; none without a connection.
    heard_at: Option<Instant>,
    /// Until when it has to, having been asked.
    probe_until: Option<Instant>,
    retry_at: Option<Instant>,
    retry_pause: Duration,
    /// The next comparison is for repair: what it finds is no drift.
    repair: bool,
    check_at: Option<Instant>,
    tag: u64,
    applied: Option<u64>,
    /// The switch has had the whole table since it connected.
    filled: bool,
    stats: Stats,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Closed,
    Hello,
    Setup,
    /// Waits for the desired table.
    Waiting,
    /// Reads back; nothing is written yet.
    Reading,
    Running,
}

impl Driver {
    /// A driver without a connection.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            framer: Framer::new(),
            xids: Xids::default(),
            phase: Phase::Closed,
            setup: Setup::default(),
            complete: false,
            desired: FxHashMap::default(),
            meters: BTreeMap::new(),
            dirty: FxHashSet::default(),
            dirty_meters: BTreeSet::new(),
            installed_meters: BTreeMap::new(),
            groups: BTreeMap::new(),
            dirty_groups: BTreeSet::new(),
            refused_groups: BTreeSet::new(),
            forget: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            batch: None,
            comparison: None,
            readings: Readings::default(),
            refused: FxHashMap::default(),
            refused_meters: BTreeMap::new(),
            refused_until: None,
            heard_at: None,
            probe_until: None,
            retry_at: None,
            retry_pause: limits.retry_min,
            repair: false,
            check_at: None,
            tag: 0,
            applied: None,
            filled: false,
            stats: Stats::default(),
        }
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Whether the handshake is done.
    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Waiting | Phase::Reading | Phase::Running)
    }

    /// Whether the switch has had the whole table since it connected.
    pub fn is_filled(&self) -> bool {
        self.filled
    }

    /// How many flows should be in the switch.
    pub fn desired_flows(&self) -> usize {
        self.desired.len()
    }

    /// Desired flows by table.
    pub fn desired_by_table(&self) -> BTreeMap<u8, usize> {
        let mut tables = BTreeMap::new();
        for key in self.desired.keys() {
            *tables.entry(key.table).or_insert(0) += 1;
        }
        tables
    }

    /// Flows that are not in the switch as they should be: not yet, or because it refused them.
    pub fn outstanding(&self) -> usize {
        self.dirty.len() + self.refused.len() + self.batch.as_ref().map_or(0, Batch::len)
    }

    /// Flows, groups and meters that the switch refused.
    pub fn refused(&self) -> usize {
        self.refused.len()
            + self.refused_groups.len()
            + self.refused_meters.values().filter(|times| **times >= METER_TRIES).count()
    }

    /// When to say [`Input::Timeout`], if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let probe = [self.probe_at(), self.setup.sctp.until()].into_iter().flatten().min();
        if self.phase != Phase::Running {
            return probe;
        }
        let idle = self.comparison.is_none() && self.batch.is_none() && self.retry_at.is_none();
        let check = self.check_at.filter(|_| idle);
        let reading = self.readings.poll_timeout();
        [self.retry_at, check, self.refused_until, probe, reading].into_iter().flatten().min()
    }

    fn probe_at(&self) -> Option<Instant> {
        self.probe_until.or_else(|| self.heard_at.map(|at| at + self.limits.probe_after))
    }

    /// Takes what happened, tells what to do.
    pub fn handle(&mut self, now: Instant, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Connected => self.connected(now, &mut out),
            Input::Received(bytes) => {
                if self.phase != Phase::Closed {
                    (self.heard_at, self.probe_until) = (Some(now), None);
                }
                if self.phase != Phase::Closed
                    && let Err(error) = self.receive(now, &bytes, &mut out)
                {
                    self.closed();
                    out.push(Output::Close(error));
                }
            }
            Input::Disconnected => self.closed(),
            Input::Delta { delta, tag } => self.delta(delta, tag),
            Input::Complete => self.complete = true,
            Input::Forget { zone } => _ = self.forget.insert(zone),
            Input::Packet(packet) => {
                if self.is_up() {
                    self.send(&Message::PacketOut(packet), &mut out);
                }
            }
            Input::Resume(packet) => {
                if self.is_up() {
                    self.send(&Message::Resume(*packet), &mut out);
                }
            }
            Input::Watch(watched) => self.readings.watch(now, watched),
            Input::Revalidate => {
                if self.is_up() {
                    self.revalidate(&mut out);
                }
            }
            Input::Timeout => {
                self.probe(now, &mut out);
                if self.setup.sctp.until().is_some_and(|at| at <= now) {
                    self.up(&mut out);
                }
                self.timeout(now);
            }
        }
        self.proceed(now, &mut out);
        out
    }

    fn delta(&mut self, delta: FlowDelta, tag: u64) {
        debug_assert!(tag >= self.tag, "tags grow");
        self.tag = tag;
        for flow in delta.put {
            self.refused.remove(&flow.key);
            self.dirty.insert(flow.key.clone());
            let old = self.desired.insert(flow.key.clone(), flow.value);
            self.readings.changed(&flow.key, old.as_ref(), self.desired.get(&flow.key));
        }
        for key in delta.delete {
            self.refused.remove(&key);
            let old = self.desired.remove(&key);
            self.readings.changed(&key, old.as_ref(), None);
            self.dirty.insert(key);
        }
        for (number, spec) in delta.meters_put {
            self.refused_meters.remove(&number);
            self.meters.insert(number, spec);
            self.dirty_meters.insert(number);
        }
        for number in delta.meters_delete {
            self.refused_meters.remove(&number);
            self.meters.remove(&number);
            self.dirty_meters.insert(number);
        }
        for (number, spec) in delta.groups_put {
            self.refused_groups.remove(&number);
            self.groups.insert(number, spec);
            self.dirty_groups.insert(number);
        }
        for number in delta.groups_delete {
            self.refused_groups.remove(&number);
            self.groups.remove(&number);
            self.dirty_groups.insert(number);
        }
    }

    /// Asks a silent switch, and leaves one that does not answer.
    fn probe(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.probe_at().is_none_or(|at| now < at) {
            return;
        }
        // Nothing but a hello may come before theirs, so that one is not asked.
        if self.probe_until.is_none() && self.phase != Phase::Hello {
            // While it commits a bundle it answers nothing; a large one takes its time.
            let flows = u32::try_from(self.batch.as_ref().map_or(0, Batch::len)).unwrap_or(u32::MAX);
            self.probe_until = Some(now + self.limits.probe_deadline + COMMIT_PER_FLOW * flows);
            self.send(&Message::EchoRequest(Box::default()), out);
            return;
        }
        let after = self.heard_at.map(|at| now.saturating_duration_since(at)).unwrap_or_default();
        self.closed();
        out.push(Output::Close(SwitchError::Silent { after }));
    }

    fn connected(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.closed();
        self.readings.connected(now);
        self.heard_at = Some(now);
        self.framer = Framer::new();
        self.phase = Phase::Hello;
        self.send(&Message::Hello(Hello::new(&[Version::V1_3])), out);
    }

    fn closed(&mut self) {
        if let Some(batch) = self.batch.take() {
            self.dirty.extend(batch.keys().cloned());
            self.dirty_groups.extend(batch.groups());
        }
        self.refused_groups.clear();
        self.forget.append(&mut self.forgotten);
        self.phase = Phase::Closed;
        self.filled = false;
        (self.heard_at, self.probe_until) = (None, None);
        self.setup = Setup::default();
        self.comparison = None;
        self.readings.closed();
        self.refused_meters.clear();
        self.installed_meters.clear();
        (self.retry_at, self.check_at) = (None, None);
        self.retry_pause = self.limits.retry_min;
    }

    fn receive(&mut self, now: Instant, bytes: &[u8], out: &mut Vec<Output>) -> Result<(), SwitchError> {
        self.framer.push(bytes);
        loop {
            let Some((header, message)) = self.framer.next_message()?.map(Message::decode).transpose()?
            else {
                return Ok(());
            };
            self.message(now, header.xid, message, out)?;
        }
    }

    fn message(
        &mut self,
        now: Instant,
        xid: u32,
        message: Message,
        out: &mut Vec<Output>,
    ) -> Result<(), SwitchError> {
        match message {
            Message::Hello(hello) => {
                if self.phase != Phase::Hello {
                    return Ok(());
                }
                if hello.supports(Version::V1_3) == Some(false) {
                    return Err(SwitchError::Version);
                }
                self.begin_setup(out);
            }
            Message::EchoRequest(data) => {
                let reply = Message::EchoReply(data).encode_as(Version::V1_3, xid);
                out.extend(reply.into_iter().map(Output::Send));
            }
            Message::TlvTableReply(reply) if xid == self.setup.tlv_xid => self.tunnel_option(&reply, out)?,
            Message::BarrierReply if xid == self.setup.barrier_xid => self.set_up(now, out),
            Message::BarrierReply => self.batch_done(now, xid, out),
            Message::MultipartReply(reply) => match reply.body {
                ReplyBody::MeterFeatures(features) if xid == self.setup.meters_xid => {
                    self.setup.meters = features.max_meters;
                }
                _ => {
                    if let Some(counts) = self.readings.receive(now, xid, &reply, &self.desired) {
                        out.extend((!counts.is_empty()).then_some(Output::Counted(counts)));
                    } else if let Some(comparison) = &mut self.comparison
                        && comparison.receive(xid, reply, &self.desired)
                    {
                        self.compared(now);
                    }
                }
            },
            Message::BundleControl(control) => {
                if let Some(batch) = &mut self.batch {
                    batch.control(control.kind);
                }
            }
            Message::FlowRemoved(flow) => {
                out.extend(self.readings.removed(flow).map(|count| Output::Counted(vec![count])));
            }
            Message::PacketIn2(packet) if self.sctp_answered(&packet, out) => {}
            Message::PacketIn2(packet) => out.push(Output::Packet(Box::new(packet))),
            Message::Error(error) => return self.error(now, xid, &error, out),
            _ => {}
        }
        Ok(())
    }

    fn error(
        &mut self,
        now: Instant,
        xid: u32,
        error: &ofpacket::ErrorMessage,
        out: &mut Vec<Output>,
    ) -> Result<(), SwitchError> {
        let refused = |what| SwitchError::Refused { what, error: error.to_string() };
        if self.phase == Phase::Hello {
            return Err(SwitchError::Version);
        }
        if self.phase == Phase::Setup {
            return match xid {
                // A datapath without meters is no reason to have no network.
                _ if xid == self.setup.meters_xid => Ok(()),
                _ if xid == self.setup.nd_xid => {
                    self.setup.nd_refused = true;
                    Ok(())
                }
                _ if self.setup.sctp.refused(xid) => Ok(()),
                _ if xid == self.setup.tlv_mod_xid => Err(refused("the tunnel option")),
                _ => Err(refused("a setting")),
            };
        }
        if let Some(comparison) = &self.comparison
            && (xid == comparison.flows_xid || xid == comparison.meters_xid || xid == comparison.groups_xid)
        {
            return Err(refused("reading the tables"));
        }
        if self.readings.refused(xid) {
            tracing::warn!(%error, "the switch does not tell what its flows have counted");
            return Ok(());
        }
        let Some(blamed) = self.batch.as_mut().and_then(|batch| batch.error(xid, error)) else {
            // About a packet-out: the port went between question and answer.
            tracing::debug!(%error, "the switch refused a message");
            return Ok(());
        };
        self.stats.errors += 1;
        match blamed {
            Blamed::Flow(change) => self.refuse(now, change, error.to_string(), out),
            Blamed::Meter(number) => {
                // It exists already, or not any more: which, the next comparison shows. Or it can't be had.
                *self.refused_meters.entry(number).or_default() += 1;
                self.refused_until.get_or_insert(now + self.limits.refused_retry);
                let error = format!("meter {number}: {error}");
                out.push(Output::Failed(Failure { flow: None, error }));
            }
            Blamed::Group(number) => {
                self.refused_groups.insert(number);
                self.refused_until.get_or_insert(now + self.limits.refused_retry);
                let error = format!("group {number}: {error}");
                out.push(Output::Failed(Failure { flow: None, error }));
            }
            Blamed::Bundle => {
                let error = format!("bundle: {error}");
                out.push(Output::Failed(Failure { flow: None, error }));
            }
        }
        Ok(())
    }

    fn refuse(&mut self, now: Instant, (key, value): FlowChange, error: String, out: &mut Vec<Output>) {
        out.push(Output::Failed(Failure { flow: Some(key.clone()), error }));
        // Unless it has changed since.
        if self.desired.get(&key) == value.as_ref() {
            self.dirty.remove(&key);
            self.refused.insert(key, value);
            self.refused_until.get_or_insert(now + self.limits.refused_retry);
        }
    }

    fn batch_done(&mut self, now: Instant, xid: u32, out: &mut Vec<Output>) {
        let Some(success) = self.batch.as_ref().and_then(|batch| batch.barrier(xid)) else { return };
        let Some(batch) = self.batch.take() else { return };
        self.forgotten.clear();
        if success {
            self.stats.bundles += u64::from(batch.len() > 0);
            self.stats.flow_mods += batch.len() as u64;
            self.stats.last_batch = Some(now.saturating_duration_since(batch.sent_at));
            self.stats.batches += 1;
            self.filled = true;
            self.retry_pause = self.limits.retry_min;
            self.report(batch.tag, out);
            return;
        }
        // All of it was rolled back. Do it again but for what was refused, after a look at what is there.
        self.readings.kept(batch.keys());
        let again = batch.keys().filter(|key| !self.refused.contains_key(*key)).cloned();
        self.dirty.extend(again);
        let again = batch.groups().filter(|number| !self.refused_groups.contains(number));
        self.dirty_groups.extend(again);
        self.repair = true;
        self.retry_at = Some(now + self.retry_pause);
        self.retry_pause = (self.retry_pause * 2).min(self.limits.retry_max);
    }

    fn report(&mut self, tag: u64, out: &mut Vec<Output>) {
        if self.applied < Some(tag) {
            self.applied = Some(tag);
            out.push(Output::Applied(tag));
        }
    }

    fn timeout(&mut self, now: Instant) {
        if self.phase != Phase::Running {
            return;
        }
        if self.refused_until.is_some_and(|at| at <= now) {
            self.refused_until = None;
            let refused = std::mem::take(&mut self.refused);
            self.dirty.extend(refused.into_keys());
            self.dirty_meters.extend(std::mem::take(&mut self.refused_meters).into_keys());
            self.dirty_groups.append(&mut self.refused_groups);
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.check_at = Some(now);
        }
    }

    /// Starts what can be started.
    fn proceed(&mut self, now: Instant, out: &mut Vec<Output>) {
        match self.phase {
            Phase::Waiting if self.complete => {
                self.phase = Phase::Reading;
                self.repair = true;
                self.compare(out);
            }
            Phase::Running if self.batch.is_none() && self.retry_at.is_none() => {
                if self.comparison.is_none() && self.check_at.is_some_and(|at| at <= now) {
                    self.check_at = None;
                    self.compare(out);
                }
                // After a failure the look comes first.
                if self.repair && self.comparison.is_some() {
                    return;
                }
                if self.dirty.is_empty() && self.dirty_meters.is_empty() && self.dirty_groups.is_empty() {
                    self.filled = true;
                    self.report(self.tag, out);
                } else {
                    self.flush(now, out);
                }
            }
            _ => {}
        }
        if self.phase == Phase::Running {
            self.read(now, out);
        }
    }

    /// Asks what flows have counted, when it is time to.
    fn read(&mut self, now: Instant, out: &mut Vec<Output>) {
        let mut readings = std::mem::take(&mut self.readings);
        readings.ask(now, |request| self.send(&Message::MultipartRequest(request), out));
        self.readings = readings;
    }

    fn send(&mut self, message: &Message, out: &mut Vec<Output>) -> u32 {
        let xid = self.xids.next();
        match message.encode_as(Version::V1_3, xid) {
            Ok(bytes) => out.push(Output::Send(bytes)),
            Err(error) => tracing::warn!(%error, "a message has no encoding"),
        }
        xid
    }
}

/// Ten times what a flow of a bundle costs ovs-vswitchd, and more.
const COMMIT_PER_FLOW: Duration = Duration::from_millis(1);
/// The second time the switch has been looked at in between.
const METER_TRIES: u32 = 2;
