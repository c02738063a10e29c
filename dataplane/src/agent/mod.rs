//! The agent as one value: what happened goes in, what is to be done comes out.
//!
//! # Contract
//! - Owns compiler, driver, controller session and the numbers; [`crate::run`] owns sockets, clock, disk and signals.
//!
//! # Invariants
//! - The switch is made equal to the desired table only once bridge, interfaces and rows are known: rows from a
//!   controller, or from disk while no controller answers.
//! - A revision is reported as applied after the barrier behind its flows, also when it had none.
//! - A change that does not fit changes nothing: the rows before it stay in effect.

mod aging;
mod bfd;
mod conjunctions;
mod counting;
mod event;
mod gateway;
mod groups;
mod host;
mod limits;
mod mirrors;
mod neighbours;
mod numbers;
mod paths;
mod ports;
mod queries;
mod records;
mod rows;
mod sctp;
pub mod tally;
mod tracked;
mod zones;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use ovsdb::replica::Replica;
use quantumnet_api::v1::LearnedMac;
use quantumnet_model::{DynRow, TableId, column::Text};
use uuid::Uuid;

pub use event::{Counts, Effect, Event, Start};

use crate::{
    compile::Compiler,
    controller::{self, Session, StreamError},
    disk::{Ids, Zones},
    host::{Config, Observed, Wanted, plan},
    punt::{
        self, LearnLimits, Learner, Punts, Verdict,
        announce::Announcer,
        neighbour::{Limits as NeighbourLimits, Neighbours},
    },
    switch::{self, Abilities, Driver},
};

/// Rows of this hypervisor.
type HostRows = BTreeMap<(TableId, Uuid), Arc<dyn DynRow>>;

/// The agent.
#[derive(Debug)]
pub struct Agent {
    start: Start,
    started: Instant,
    config: Option<Config>,
    replica: Option<Arc<Replica>>,
    observed: Observed,
    transacting: bool,
    /// Since when tunnels that are there have not been needed.
    unneeded: BTreeMap<Uuid, Instant>,
    transact_after: Option<Instant>,
    mirrors: mirrors::Mirrors,
    abilities: Option<Abilities>,
    bridge_open: Option<String>,
    stream_open: Option<Vec<String>>,
    session: Option<Session>,
    compiler: Compiler,
    driver: Driver,
    rows_known: bool,
    from_disk: bool,
    complete: bool,
    tag: u64,
    /// What is reported once a tag is in the switch.
    waiting: VecDeque<Waiting>,
    bound: BTreeSet<Uuid>,
    installed: Option<BTreeSet<Uuid>>,
    ids: Ids,
    zones: Zones,
    /// Zones of the ports and routers that are here.
    zones_here: BTreeMap<zones::Holder, u16>,
    conjunctions: conjunctions::Conjunctions,
    gateways: gateway::Gateways,
    group_numbers: groups::GroupNumbers,
    numbers: numbers::Numbers,
    punts: Punts,
    learner: Learner,
    neighbours: Neighbours,
    announcer: Announcer,
    bfd: punt::bfd::Sessions,
    /// Ports that waited and have shown themselves, until the store says so too.
    activated: BTreeSet<Uuid>,
    /// `FDB` and `MAC_Binding` rows that have half their life behind them.
    old_macs: BTreeSet<Uuid>,
    /// `mac_binding_age_threshold` of routers.
    thresholds: BTreeMap<Uuid, Text>,
    /// When others will have, both ways.
    old_macs_at: BTreeMap<Uuid, Instant>,
    old_macs_due: BTreeSet<(Instant, Uuid)>,
    /// The wall clock, as last heard.
    now_ms: u64,
    mtu: Option<u32>,
    paths: paths::Paths,
    mtu_at: Option<Instant>,
    check_at: Instant,
    store_at: Option<Instant>,
    stored_at: Option<Instant>,
    applied: Option<u64>,
    plan_problems: Vec<String>,
    disk_problem: Option<String>,
    tally: tally::Tally,
    records: records::Records,
    connections: tracked::Connections,
    limits: limits::Limits,
    /// Until when somebody watches drops.
    watched_until: Option<Instant>,
    /// Why the connection to the bridge was last given up, until there is one again.
    switch_problem: Option<String>,
    dhcp_problems: Vec<String>,
    /// When the DHCP configuration is looked at, after a change.
    dhcp_at: Option<Instant>,
    sctp: sctp::Sctp,
    /// What the controllers were told.
    told_problems: Vec<String>,
    /// Questions that are being answered.
    questions: usize,
    counts: Counts,
}

#[derive(Debug)]
struct Waiting {
    tag: u64,
    revision: Option<u64>,
    bound: Option<BTreeSet<Uuid>>,
}

impl Agent {
    /// An agent that knows what is on disk and nothing else.
    pub fn new(now: Instant, start: Start) -> Self {
        Self {
            started: now,
            ids: start.ids.clone(),
            zones: start.zones.clone(),
            zones_here: BTreeMap::new(),
            conjunctions: conjunctions::Conjunctions::default(),
            gateways: gateway::Gateways::default(),
            group_numbers: groups::GroupNumbers::default(),
            numbers: numbers::Numbers::default(),
            start,
            config: None,
            replica: None,
            observed: Observed::default(),
            transacting: false,
            unneeded: BTreeMap::new(),
            transact_after: None,
            mirrors: mirrors::Mirrors::default(),
            abilities: None,
            bridge_open: None,
            stream_open: None,
            session: None,
            compiler: Compiler::new(),
            driver: Driver::new(switch::Limits::default()),
            rows_known: false,
            from_disk: false,
            complete: false,
            tag: 0,
            waiting: VecDeque::new(),
            bound: BTreeSet::new(),
            installed: None,
            punts: Punts::default(),
            learner: Learner::new(LearnLimits::default()),
            neighbours: Neighbours::new(NeighbourLimits::default()),
            announcer: Announcer::default(),
            bfd: punt::bfd::Sessions::default(),
            activated: BTreeSet::new(),
            old_macs: BTreeSet::new(),
            thresholds: BTreeMap::new(),
            old_macs_at: BTreeMap::new(),
            old_macs_due: BTreeSet::new(),
            now_ms: 0,
            mtu: None,
            paths: paths::Paths::default(),
            mtu_at: None,
            check_at: now + CHECK_INTERVAL,
            store_at: None,
            stored_at: None,
            applied: None,
            plan_problems: Vec::new(),
            disk_problem: None,
            tally: tally::Tally::default(),
            records: records::Records::default(),
            connections: tracked::Connections::new(now),
            limits: limits::Limits::default(),
            watched_until: None,
            switch_problem: None,
            dhcp_problems: Vec::new(),
            dhcp_at: None,
            sctp: sctp::Sctp::default(),
            told_problems: Vec::new(),
            questions: 0,
            counts: Counts::default(),
        }
    }

    /// When to say [`Event::Timeout`], if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let grace = (self.from_disk && !self.rows_known).then(|| self.started + DISK_GRACE);
        let can_transact = !self.transacting && self.transact_after.is_none();
        let times = [
            self.driver.poll_timeout(),
            self.learner.poll_timeout(),
            self.neighbours.poll_timeout(),
            self.announcer.poll_timeout().filter(|_| self.abilities.is_some()),
            self.bfd.poll_timeout(),
            self.transact_after,
            self.next_old(),
            self.next_gateway(),
            self.mtu_at,
            self.next_paths(),
            self.store_at,
            self.dhcp_at,
            self.watched_until,
            self.next_connections(),
            self.next_limits(),
            self.sctp.at,
            grace,
            self.unneeded.values().map(|since| *since + TUNNEL_HOLD).filter(|_| can_transact).min(),
            Some(self.check_at),
        ];
        times.into_iter().flatten().min()
    }

    /// Takes what happened, tells what to do. `now_ms` is the wall clock, for what people read.
    pub fn handle(&mut self, now: Instant, now_ms: u64, event: Event) -> Vec<Effect> {
        let mut out = Vec::new();
        self.now_ms = now_ms;
        match event {
            Event::Replica(replica) => {
                self.replica = Some(replica);
                self.look(now, now_ms, &mut out);
            }
            Event::ReplicaLost => self.transacting = false,
            Event::Transacted(result) => {
                self.transacting = false;
                self.mirrors.transacted(result.is_ok(), self.observed.configured);
                if let Err(error) = result {
                    tracing::warn!(%error, "the switch database refused a transaction");
                    self.transact_after = Some(now + TRANSACT_PAUSE);
                }
            }
            Event::Switch(input) => self.switch(now, input, &mut out),
            Event::StreamConnected => self.stream(now, controller::Input::Connected, &mut out),
            Event::StreamReceived(message) => {
                self.stream(now, controller::Input::Received(message), &mut out);
            }
            Event::StreamDisconnected => {
                self.stream(now, controller::Input::Disconnected, &mut out);
                // No controller: what is on disk has to do.
                self.rows_known |= self.from_disk;
            }
            Event::Mtu(mtu) => {
                self.mtu = mtu;
                self.mtu_at = Some(now + MTU_INTERVAL);
                self.tunnels_changed(now);
                self.facts(now, &mut out);
            }
            Event::Paths(found) => self.paths_found(now, found),
            Event::Tracked(counted) => self.connections_counted(counted),
            Event::Limited(result) => self.zones_limited(now, result),
            Event::Recomputed { full, tag } => self.compare(now, &full, tag, &mut out),
            Event::Answered { stream, answer } => self.answered(now, stream, answer, &mut out),
            Event::Stored(result) => {
                let problem = result.err().map(|error| format!("state folder: {error}"));
                if let Some(problem) = problem.as_ref().filter(|_| self.disk_problem != problem) {
                    tracing::error!(%problem, "the state could not be stored; the agent goes on without");
                }
                self.disk_problem = problem;
            }
            Event::Timeout => self.timeout(now, &mut out),
            Event::Terminate => {
                if self.store_at.is_some() || self.stored_at.is_none() {
                    self.store(now, &mut out);
                }
            }
        }
        self.settle(now, now_ms, &mut out);
        out
    }

    // ---- the switch ------------------------------------------------------------------------------------------------

    fn switch(&mut self, now: Instant, input: switch::Input, out: &mut Vec<Effect>) {
        let outputs = self.driver.handle(now, input);
        self.switch_outputs(now, outputs, out);
    }

    fn switch_outputs(&mut self, now: Instant, outputs: Vec<switch::Output>, out: &mut Vec<Effect>) {
        for output in outputs {
            match output {
                switch::Output::Send(bytes) => out.push(Effect::SwitchSend(bytes)),
                switch::Output::Up(abilities) => {
                    tracing::info!(?abilities, "connected to the bridge");
                    self.abilities = Some(abilities);
                    self.numbers.set_meters(abilities.meters);
                    self.switch_problem = None;
                    self.sctp_changed(now);
                    self.limits_forgotten(now);
                    self.host_rows(now, out);
                }
                switch::Output::Applied(tag) => self.applied(tag, out),
                switch::Output::Counted(counts) => {
                    self.tally.add(self.now_ms, &counts, self.compiler.rows());
                }
                switch::Output::Packet(packet) => self.packet(now, &packet, out),
                switch::Output::Failed(failure) => {
                    self.counts.refused += 1;
                    tracing::error!(flow = ?failure.flow, error = %failure.error, "the switch refused a change");
                }
                switch::Output::Close(error) => {
                    tracing::error!(%error, "the connection to the bridge is given up");
                    self.switch_problem = Some(format!("the connection to the bridge was given up: {error}"));
                    out.push(Effect::SwitchClose);
                }
            }
        }
    }

    fn applied(&mut self, tag: u64, out: &mut Vec<Effect>) {
        let mut revision = None;
        while let Some(waiting) = self.waiting.pop_front_if(|waiting| waiting.tag <= tag) {
            revision = waiting.revision.or(revision);
            if waiting.bound.is_some() {
                self.installed = waiting.bound;
            }
        }
        if let Some(revision) = revision {
            self.applied = Some(revision);
            let outputs =
                self.session.as_mut().map(|session| session.handle(controller::Input::Applied(revision)));
            // The session answers an applied revision with messages only.
            for output in outputs.into_iter().flatten() {
                if let controller::Output::Send(message) = output {
                    out.push(Effect::StreamSend(message));
                }
            }
        }
    }

    fn packet(&mut self, now: Instant, packet: &ofpacket::PacketIn2, out: &mut Vec<Effect>) {
        match self.punts.handle(now, self.compiler.rows(), packet) {
            Verdict::Answer(answer) | Verdict::Onward(answer, _) => {
                let outputs = self.driver.handle(now, switch::Input::Packet(answer));
                self.switch_outputs(now, outputs, out);
            }
            Verdict::Seen(mac, place) => {
                self.learner.seen(now, mac, place);
            }
            Verdict::Activated(port) => self.activate(now, port, out),
            Verdict::Claimed(claim) => self.claim(now, claim, out),
            Verdict::Bfd(port, frame) => self.bfd_packet(now, port, &frame, out),
            Verdict::Neighbour(key, mac) => self.neighbour_seen(now, key, mac, out),
            Verdict::Waits(key) => self.unresolved(now, key, packet, out),
            Verdict::Silent(key) => self.silent(now, key, out),
            Verdict::Logged(record, place) => self.logged(record, place),
            Verdict::Resumed(packet) => self.switch(now, switch::Input::Resume(packet), out),
            Verdict::Nothing(_) => {}
        }
    }

    // ---- the controller --------------------------------------------------------------------------------------------

    pub(super) fn stream(&mut self, now: Instant, input: controller::Input, out: &mut Vec<Effect>) {
        let Some(session) = &mut self.session else { return };
        let mut outputs: VecDeque<controller::Output> = session.handle(input).into();
        while let Some(output) = outputs.pop_front() {
            match output {
                controller::Output::Send(message) => out.push(Effect::StreamSend(message)),
                controller::Output::Rows(update) => {
                    if let Err(source) = self.rows(now, &update, out)
                        && let Some(session) = &mut self.session
                    {
                        let revision = update.resume.revision;
                        outputs.extend(session.refuse_rows(StreamError::Rows { revision, source }));
                    }
                }
                controller::Output::Asked(stream, query) => {
                    self.asked(now, stream, query, out);
                }
                controller::Output::Close(error) => {
                    self.counts.stream_errors += 1;
                    tracing::error!(%error, "the stream is given up");
                    out.push(Effect::StreamClose);
                }
            }
        }
    }

    // ---- time --------------------------------------------------------------------------------------------------------

    fn timeout(&mut self, now: Instant, out: &mut Vec<Effect>) {
        if self.driver.poll_timeout().is_some_and(|at| at <= now) {
            self.switch(now, switch::Input::Timeout, out);
        }
        let learned = self.learner.batch(now);
        if !learned.is_empty() {
            self.counts.macs_learned += learned.len() as u64;
            let macs = learned.into_iter().map(|(mac, place)| LearnedMac {
                mac: mac.to_string(),
                datapath_key: place.datapath,
                port_key: place.port,
            });
            self.stream(now, controller::Input::Learned(macs.collect()), out);
        }
        self.neighbours_due(now, out);
        if self.abilities.is_some() {
            for packet in self.announcer.due(now) {
                self.switch(now, switch::Input::Packet(packet), out);
            }
        }
        if self.bfd.poll_timeout().is_some_and(|at| at <= now) {
            self.bfd_due(now, out);
            self.bfd_states(now, out);
        }
        self.ask_old(now, out);
        self.gateway_timeout(now, out);
        if self.mtu_at.is_some_and(|at| at <= now) {
            self.mtu_at = None;
            let ip = self.config.as_ref().and_then(|config| config.encap_ips.first());
            out.extend(ip.map(|ip| Effect::ReadMtu(*ip)));
        }
        self.try_paths(now, out);
        self.count_connections(now, out);
        self.limit_zones(now, out);
        if self.watched_until.is_some_and(|until| until <= now) {
            self.watched_until = None;
            self.switch(now, switch::Input::Watch(false), out);
        }
        if self.store_at.is_some_and(|at| at <= now) {
            self.store(now, out);
        }
        if self.dhcp_at.is_some_and(|at| at <= now) {
            self.dhcp_at = None;
            let ports = self.ports_here().into_iter().map(|(port, _)| port);
            let problems = punt::dhcp_check::problems(self.compiler.rows(), ports);
            for problem in problems.iter().filter(|problem| !self.dhcp_problems.contains(problem)) {
                tracing::warn!(%problem, "DHCP");
            }
            self.dhcp_problems = problems;
        }
        self.sctp_due(now);
        if self.from_disk && now >= self.started + DISK_GRACE {
            self.rows_known = true;
        }
        if self.check_at <= now {
            // Until the verdict, or far off if it never comes.
            self.check_at = now + CHECK_INTERVAL * 10;
            if self.complete {
                out.push(Effect::Recompute { rows: self.compiler.rows().clone(), tag: self.tag });
            }
        }
        if self.transact_after.is_some_and(|at| at <= now) {
            self.transact_after = None;
        }
    }

    fn store(&mut self, now: Instant, out: &mut Vec<Effect>) {
        self.store_at = None;
        let Some(session) = &self.session else { return };
        let Some(resume) = session.resume().filter(|_| self.rows_known) else { return };
        self.stored_at = Some(now);
        out.push(Effect::StoreRows {
            chassis: session.chassis().to_owned(),
            resume: resume.clone(),
            rows: self.compiler.rows().clone(),
        });
    }

    /// Starts what has become possible.
    fn settle(&mut self, now: Instant, now_ms: u64, out: &mut Vec<Effect>) {
        if !self.complete && self.rows_known && self.abilities.is_some() {
            self.complete = true;
            self.tag += 1;
            // Flows that need no rows come with the first batch, be it empty.
            let delta = self.compiler.apply(Vec::new());
            let bound = self.compiler.bound_interfaces();
            self.bound.clone_from(&bound);
            self.waiting.push_back(Waiting { tag: self.tag, revision: None, bound: Some(bound) });
            let mut outputs = self.driver.handle(now, switch::Input::Delta { delta, tag: self.tag });
            outputs.extend(self.driver.handle(now, switch::Input::Complete));
            self.switch_outputs(now, outputs, out);
        }
        self.judge_forwarding(now, out);
        if self.mirrors.are_made(self.observed.configured) {
            self.switch(now, switch::Input::Revalidate, out);
        }
        self.transact(now, now_ms, out);
        if self.told_problems != self.problems() {
            self.facts(now, out);
        }
    }

    fn transact(&mut self, now: Instant, now_ms: u64, out: &mut Vec<Effect>) {
        if self.transacting || self.transact_after.is_some() {
            return;
        }
        let watch = self.watch();
        let (Some(replica), Some(config)) = (&self.replica, &self.config) else { return };
        // Before everything is known, no tunnel seems to be needed.
        let tunnels = self.complete.then(|| self.compiler.wanted_tunnels());
        let needed: BTreeSet<Uuid> = tunnels.iter().flatten().map(|tunnel| tunnel.encap).collect();
        self.unneeded.retain(|encap, _| !needed.contains(encap) && self.observed.tunnels.contains_key(encap));
        for encap in self.observed.tunnels.keys().filter(|encap| tunnels.is_some() && !needed.contains(encap))
        {
            self.unneeded.entry(*encap).or_insert(now);
        }
        let young = self.unneeded.iter().filter(|(_, since)| now < **since + TUNNEL_HOLD);
        let wanted = Wanted {
            tunnels,
            watch,
            patches: self.complete.then(|| self.compiler.wanted_patches()),
            mirrors: self.complete.then(|| self.compiler.wanted_mirrors()),
            queues: self.complete.then(|| self.compiler.wanted_queues()),
            kept: young.map(|(encap, _)| *encap).collect(),
            installed: self.installed.clone(),
            now_ms,
        };
        let (operations, problems) = plan(replica, config, &self.observed, &wanted);
        if !operations.is_empty() {
            self.transacting = true;
            self.mirrors.sent(&operations);
            out.push(Effect::Transact(operations));
        }
        if problems != self.plan_problems {
            for problem in &problems {
                tracing::warn!(%problem, "host");
            }
            self.plan_problems = problems;
        }
    }

    // ---- for metrics -------------------------------------------------------------------------------------------------

    /// Counters.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The driver.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// The compiler.
    pub fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    /// Packets by reason and outcome.
    pub fn punts(&self) -> &Punts {
        &self.punts
    }

    /// What rules and drops have counted.
    pub fn tally(&self) -> &tally::Tally {
        &self.tally
    }

    /// Tunnels, and how many of them have a port number.
    pub fn tunnels(&self) -> (usize, usize) {
        let tunnels = self.observed.tunnels.values();
        (self.observed.tunnels.len(), tunnels.filter(|tunnel| tunnel.ofport > 0).count())
    }

    /// Interfaces whose flows are in the switch.
    pub fn ports_bound(&self) -> usize {
        self.installed.as_ref().map_or(0, BTreeSet::len)
    }

    /// The revision in the switch.
    pub fn revision(&self) -> Option<u64> {
        self.applied
    }

    /// Whether a controller answers.
    pub fn controller_connected(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_open)
    }

    /// When the rows were last stored.
    pub fn stored_at(&self) -> Option<Instant> {
        self.stored_at
    }
}

/// Rows from disk are used after so long without a word from a controller.
const DISK_GRACE: Duration = Duration::from_secs(2);
/// A port that is plugged again at once finds its tunnels still there.
const TUNNEL_HOLD: Duration = Duration::from_secs(10);
const TRANSACT_PAUSE: Duration = Duration::from_secs(1);
/// Changes that come together are judged once.
const DHCP_DELAY: Duration = Duration::from_millis(500);
const RULES_DELAY: Duration = Duration::from_millis(500);
const MTU_INTERVAL: Duration = Duration::from_secs(30);
const STORE_DELAY: Duration = Duration::from_millis(500);
const STORE_INTERVAL: Duration = Duration::from_secs(5);
const CHECK_AGAIN: Duration = Duration::from_secs(5);
const CHECK_INTERVAL: Duration = Duration::from_secs(120);
/// Keeps the check below a hundredth of a core.
const CHECK_INTERVAL_PER_FLOW: Duration = Duration::from_millis(2);
