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

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ovsdb::{operation::Operation, replica::Replica};
use quantumnet_api::v1::{AgentMessage, ControllerMessage, LearnedMac, LocalInterface};
use quantumnet_model::{
    DynRow, Row, Rows, TableId,
    change::ChangeError,
    host::{HostInterface, HostSelf, HostTunnel},
    nb::{DhcpOptions, LogicalSwitchPort},
    row::Database,
    sb::{Chassis, PortBinding},
    tables,
};
use uuid::Uuid;

use crate::{
    compile::{Compiler, FullTable, RowUpdate},
    controller::{self, RowsUpdate, Session, StreamError},
    disk::{Ids, Resume, Snapshot},
    error::AgentError,
    host::{Bridge, Config, Observed, Wanted, plan},
    punt::{self, LearnLimits, Learner, Punts, Verdict},
    switch::{self, Abilities, Driver},
};

/// What happens to the agent.
#[derive(Debug)]
pub enum Event {
    /// The switch database is like this now.
    Replica(Arc<Replica>),
    /// The switch database is out of reach.
    ReplicaLost,
    /// The transaction is over.
    Transacted(Result<(), String>),
    /// From the bridge's socket.
    Switch(switch::Input),
    /// There is a new stream to a controller.
    StreamConnected,
    /// A controller said something.
    StreamReceived(Box<ControllerMessage>),
    /// The stream is gone.
    StreamDisconnected,
    /// MTU of the underlay.
    Mtu(Option<u32>),
    /// The whole table, compiled from the rows that went with [`Effect::Recompute`].
    Recomputed {
        /// The table.
        full: FullTable,
        /// Whose.
        tag: u64,
    },
    /// A file was written, or not.
    Stored(Result<(), String>),
    /// It is [`Agent::poll_timeout`] or later.
    Timeout,
    /// Save everything: the agent ends.
    Terminate,
}

/// What the agent wants done.
#[derive(Debug)]
pub enum Effect {
    /// Connect to this bridge.
    OpenSwitch {
        /// Its name.
        bridge: String,
    },
    /// Send these bytes to the bridge.
    SwitchSend(Vec<u8>),
    /// Connect to the bridge anew.
    SwitchClose,
    /// Connect to one of these controllers.
    OpenStream {
        /// Their addresses.
        remotes: Vec<String>,
    },
    /// Send this to the controller.
    StreamSend(Box<AgentMessage>),
    /// Connect to a controller anew.
    StreamClose,
    /// Change the switch database.
    Transact(Vec<Operation>),
    /// Find the MTU behind this address.
    ReadMtu(IpAddr),
    /// Compile these rows from scratch, beside everything else.
    Recompute {
        /// The rows.
        rows: Rows,
        /// Comes back.
        tag: u64,
    },
    /// Store the numbers.
    StoreIds(Ids),
    /// Store the rows.
    StoreRows {
        /// Whose.
        chassis: String,
        /// Of which point in history.
        resume: Resume,
        /// The rows.
        rows: Rows,
    },
    /// End.
    End(AgentError),
}

/// What the agent starts with.
#[derive(Debug, Default)]
pub struct Start {
    /// The system's host name.
    pub hostname: String,
    /// Controllers of the command line.
    pub remotes: Vec<String>,
    /// Numbers from disk.
    pub ids: Ids,
    /// Rows from disk.
    pub snapshot: Option<Snapshot>,
    /// What was wrong on disk.
    pub problems: Vec<String>,
    /// Milliseconds since the epoch.
    pub now_ms: u64,
}

/// Counters of the agent itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Streams given up for what came over them.
    pub stream_errors: u64,
    /// Messages that the switch refused.
    pub refused: u64,
    /// Incremental tables that differed from a full compilation.
    pub full_recompute: u64,
    /// Flows that differed then.
    pub recompute_drift: u64,
    /// MACs reported.
    pub macs_learned: u64,
}

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
    punts: Punts,
    learner: Learner,
    mtu: Option<u32>,
    mtu_at: Option<Instant>,
    check_at: Instant,
    store_at: Option<Instant>,
    stored_at: Option<Instant>,
    applied: Option<u64>,
    plan_problems: Vec<String>,
    disk_problem: Option<String>,
    /// Why the connection to the bridge was last given up, until there is one again.
    switch_problem: Option<String>,
    dhcp_problems: Vec<String>,
    /// When the DHCP configuration is looked at, after a change.
    dhcp_at: Option<Instant>,
    /// What the controllers were told.
    told_problems: Vec<String>,
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
            start,
            config: None,
            replica: None,
            observed: Observed::default(),
            transacting: false,
            unneeded: BTreeMap::new(),
            transact_after: None,
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
            mtu: None,
            mtu_at: None,
            check_at: now + CHECK_INTERVAL,
            store_at: None,
            stored_at: None,
            applied: None,
            plan_problems: Vec::new(),
            disk_problem: None,
            switch_problem: None,
            dhcp_problems: Vec::new(),
            dhcp_at: None,
            told_problems: Vec::new(),
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
            self.transact_after,
            self.mtu_at,
            self.store_at,
            self.dhcp_at,
            grace,
            self.unneeded.values().map(|since| *since + TUNNEL_HOLD).filter(|_| can_transact).min(),
            Some(self.check_at),
        ];
        times.into_iter().flatten().min()
    }

    /// Takes what happened, tells what to do. `now_ms` is the wall clock, for what people read.
    pub fn handle(&mut self, now: Instant, now_ms: u64, event: Event) -> Vec<Effect> {
        let mut out = Vec::new();
        match event {
            Event::Replica(replica) => {
                self.replica = Some(replica);
                self.look(now, now_ms, &mut out);
            }
            Event::ReplicaLost => self.transacting = false,
            Event::Transacted(result) => {
                self.transacting = false;
                if let Err(error) = result {
                    tracing::warn!(%error, "the switch database refused a transaction");
                    self.transact_after = Some(now + TRANSACT_PAUSE);
                }
            }
            Event::Switch(input) => self.switch(now, input, &mut out),
            Event::StreamConnected => self.stream(now, now_ms, controller::Input::Connected, &mut out),
            Event::StreamReceived(message) => {
                self.stream(now, now_ms, controller::Input::Received(message), &mut out);
            }
            Event::StreamDisconnected => {
                self.stream(now, now_ms, controller::Input::Disconnected, &mut out);
                // No controller: what is on disk has to do.
                self.rows_known |= self.from_disk;
            }
            Event::Mtu(mtu) => {
                self.mtu = mtu;
                self.mtu_at = Some(now + MTU_INTERVAL);
                self.facts(now, now_ms, &mut out);
            }
            Event::Recomputed { full, tag } => self.compare(now, &full, tag, &mut out),
            Event::Stored(result) => {
                let problem = result.err().map(|error| format!("state folder: {error}"));
                if let Some(problem) = problem.as_ref().filter(|_| self.disk_problem != problem) {
                    tracing::error!(%problem, "the state could not be stored; the agent goes on without");
                }
                self.disk_problem = problem;
            }
            Event::Timeout => self.timeout(now, now_ms, &mut out),
            Event::Terminate => {
                if self.store_at.is_some() || self.stored_at.is_none() {
                    self.store(now, &mut out);
                }
            }
        }
        self.settle(now, now_ms, &mut out);
        out
    }

    // ---- the host ----------------------------------------------------------------------------------------------

    fn look(&mut self, now: Instant, now_ms: u64, out: &mut Vec<Effect>) {
        let Some(replica) = self.replica.clone() else { return };
        let Some(system) = replica.rows("Open_vSwitch").next() else { return };
        let Some(external_ids) = system.get("external_ids") else { return };
        let config = match Config::read(external_ids, &self.start.hostname) {
            Ok(config) => config,
            Err(error) => {
                tracing::error!(%error, "waiting for it to be set");
                return;
            }
        };
        if let Some(old) = self.config.as_ref().filter(|old| old.chassis != config.chassis) {
            let (from, to) = (old.chassis.clone(), config.chassis);
            out.push(Effect::End(AgentError::OtherChassis { from, to }));
            return;
        }
        if self.config.as_ref() != Some(&config) {
            for problem in &config.problems {
                tracing::warn!(%problem, "setting of the host");
            }
            if let Some(ip) = config.encap_ips.first() {
                out.push(Effect::ReadMtu(*ip));
            }
        }
        if self.session.is_none() {
            self.begin(&config, now, now_ms, out);
        }
        let observed = Observed::new(&replica, &config);
        for problem in observed.problems.iter().filter(|problem| !self.observed.problems.contains(problem)) {
            tracing::warn!(%problem, "switch database");
        }
        let remotes = if self.start.remotes.is_empty() { &config.remotes } else { &self.start.remotes };
        if self.stream_open.as_ref() != Some(remotes) {
            let remotes = remotes.clone();
            // A stream to the controllers of before ends unheard.
            self.stream(now, now_ms, controller::Input::Disconnected, out);
            self.stream_open = Some(remotes.clone());
            out.push(Effect::OpenStream { remotes });
        }
        if matches!(observed.bridge, Bridge::Ready { .. })
            && self.bridge_open.as_ref() != Some(&config.bridge)
        {
            self.bridge_open = Some(config.bridge.clone());
            out.push(Effect::OpenSwitch { bridge: config.bridge.clone() });
        }
        self.config = Some(config);
        self.observed = observed;
        self.interfaces(now, now_ms, out);
        self.facts(now, now_ms, out);
        self.host_rows(now, out);
    }

    /// The first look: now the chassis' name is known, and whether what is on disk is its own.
    fn begin(&mut self, config: &Config, now: Instant, now_ms: u64, out: &mut Vec<Effect>) {
        let mut resume = None;
        if let Some(snapshot) = self.start.snapshot.take() {
            let rows = snapshot.rows();
            match rows {
                Ok(changes) if snapshot.chassis == config.chassis => {
                    let update = RowsUpdate { snapshot: true, changes, resume: snapshot.resume.clone() };
                    match self.updates(&update) {
                        Ok(batch) => {
                            resume = Some(snapshot.resume);
                            self.from_disk = true;
                            self.apply(now, batch, None, out);
                        }
                        Err(error) => self.disk_warning(format!("rows on disk: {error}")),
                    }
                }
                Ok(_) => self.disk_warning(format!("rows on disk are those of chassis {}", snapshot.chassis)),
                Err(error) => self.disk_warning(error.to_string()),
            }
        }
        self.session = Some(Session::new(&config.chassis, resume, now_ms));
    }

    fn disk_warning(&mut self, problem: String) {
        tracing::warn!(%problem, "ignored");
        self.start.problems.push(problem);
    }

    fn interfaces(&mut self, now: Instant, now_ms: u64, out: &mut Vec<Effect>) {
        let mut store = false;
        let mut interfaces = BTreeMap::new();
        for (iface_id, plugged) in self.observed.interfaces.iter().filter(|(_, plugged)| plugged.ofport > 0) {
            let (known, new) = self.ids.appeared(iface_id, plugged.row, now_ms);
            store |= new;
            let interface = LocalInterface {
                iface_id: iface_id.clone(),
                iface_id_ver: plugged.iface_id_ver.clone(),
                generation: known.generation,
            };
            interfaces.insert(iface_id.clone(), interface);
        }
        // Ports lose their numbers while ovs-vswitchd restarts; only those whose row is gone are gone.
        if matches!(self.observed.bridge, Bridge::Ready { .. }) {
            let observed = &self.observed;
            store |= self.ids.retain(|iface_id| observed.interfaces.contains_key(iface_id));
        }
        if store {
            out.push(Effect::StoreIds(self.ids.clone()));
        }
        self.stream(now, now_ms, controller::Input::Interfaces(interfaces), out);
    }

    fn facts(&mut self, now: Instant, now_ms: u64, out: &mut Vec<Effect>) {
        let Some(config) = &self.config else { return };
        let mut found = self.observed.facts.clone();
        found.extend(self.mtu.map(|mtu| ("underlay-mtu".to_owned(), mtu.to_string())));
        self.told_problems = self.problems();
        let facts = config.facts(&found, &self.told_problems);
        self.stream(now, now_ms, controller::Input::Facts(facts), out);
    }

    /// What is wrong, apart from settings.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.observed.problems.clone();
        problems.extend(self.plan_problems.iter().cloned());
        problems.extend(self.start.problems.iter().cloned());
        problems.extend(self.disk_problem.clone());
        problems.extend(self.switch_problem.clone());
        let refused = self.driver.refused();
        if refused > 0 {
            problems.push(format!("the switch refuses {refused} flows or meters; see the agent's log"));
        }
        problems.extend(self.dhcp_problems.iter().cloned());
        problems
    }

    /// Rows of the database `Host`.
    fn host_rows(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let mut rows: BTreeMap<(TableId, Uuid), Arc<dyn DynRow>> = BTreeMap::new();
        if let (Some(config), Some(abilities)) = (&self.config, self.abilities) {
            let row = HostSelf {
                chassis: config.chassis.as_str().into(),
                tunnel_option: abilities.tunnel_option.into(),
            };
            rows.insert((HostSelf::TABLE, Uuid::nil()), Arc::new(row));
        }
        let meters = self.abilities.is_some_and(|abilities| abilities.meters > 0);
        for (iface_id, plugged) in self.observed.interfaces.iter().filter(|(_, plugged)| plugged.ofport > 0) {
            let meter = self.ids.meter(iface_id).filter(|_| meters);
            let row = HostInterface {
                name: plugged.name.as_str().into(),
                iface_id: iface_id.as_str().into(),
                ofport: plugged.ofport,
                meter: meter.unwrap_or_default().into(),
            };
            rows.insert((HostInterface::TABLE, plugged.row), Arc::new(row));
        }
        for (encap, tunnel) in self.observed.tunnels.iter().filter(|(_, tunnel)| tunnel.ofport > 0) {
            let row = HostTunnel { chassis: tunnel.chassis, encap: *encap, ofport: tunnel.ofport };
            rows.insert((HostTunnel::TABLE, tunnel.interface), Arc::new(row));
        }
        let mut batch: Vec<RowUpdate> = Vec::new();
        for table in [HostSelf::TABLE, HostInterface::TABLE, HostTunnel::TABLE] {
            let gone =
                self.compiler.rows().table(table).keys().filter(|uuid| !rows.contains_key(&(table, **uuid)));
            batch.extend(gone.map(|uuid| (table, *uuid, None)));
        }
        for ((table, uuid), row) in rows {
            let old = self.compiler.rows().dyn_row(table, uuid);
            if old.is_none_or(|old| !old.same(row.as_ref())) {
                batch.push((table, uuid, Some(row)));
            }
        }
        if !batch.is_empty() {
            self.apply(now, batch, None, out);
        }
    }

    // ---- rows ----------------------------------------------------------------------------------------------------

    /// The batch that an update means, or why it does not fit.
    fn updates(&self, update: &RowsUpdate) -> Result<Vec<RowUpdate>, ChangeError> {
        let current = self.compiler.rows();
        let mut rows = if update.snapshot { Rows::default() } else { current.clone() };
        let mut touched = BTreeSet::new();
        for change in &update.changes {
            let decl = tables::decl(change.table);
            if decl.database == Database::Host {
                let (database, table) = (decl.database.name().to_owned(), decl.name.to_owned());
                return Err(ChangeError::UnknownTable { database, table });
            }
            change.apply(&mut rows)?;
            touched.insert((change.table, change.uuid));
        }
        if update.snapshot {
            let replicated = tables::ids().filter(|table| tables::decl(*table).database != Database::Host);
            touched.extend(
                replicated.flat_map(|table| current.table(table).keys().map(move |uuid| (table, *uuid))),
            );
        }
        Ok(touched
            .into_iter()
            .map(|(table, uuid)| (table, uuid, rows.dyn_row(table, uuid).cloned()))
            .collect())
    }

    fn rows(&mut self, now: Instant, update: &RowsUpdate, out: &mut Vec<Effect>) -> Result<(), ChangeError> {
        let batch = self.updates(update)?;
        self.rows_known = true;
        if update.snapshot {
            // Revisions of an earlier history say nothing in this one.
            self.waiting.iter_mut().for_each(|waiting| waiting.revision = None);
        }
        self.apply(now, batch, Some(update.resume.revision), out);
        let at = self.stored_at.map_or(now, |at| at + STORE_INTERVAL).max(now + STORE_DELAY);
        self.store_at.get_or_insert(at);
        Ok(())
    }

    /// Compiles a batch and hands the difference to the driver.
    fn apply(&mut self, now: Instant, batch: Vec<RowUpdate>, revision: Option<u64>, out: &mut Vec<Effect>) {
        const BINDING: [TableId; 3] = [PortBinding::TABLE, Chassis::TABLE, HostInterface::TABLE];
        const DHCP: [TableId; 2] = [DhcpOptions::TABLE, LogicalSwitchPort::TABLE];
        let binding = batch.iter().any(|(table, ..)| BINDING.contains(table));
        if binding || batch.iter().any(|(table, ..)| DHCP.contains(table)) {
            self.dhcp_at.get_or_insert(now + DHCP_DELAY);
        }
        let delta = self.compiler.apply(batch);
        self.tag += 1;
        let bound = binding.then(|| self.bound_here());
        let bound = bound.filter(|bound| *bound != self.bound || self.installed.is_none());
        if let Some(bound) = &bound {
            self.bound.clone_from(bound);
        }
        self.waiting.push_back(Waiting { tag: self.tag, revision, bound });
        let outputs = self.driver.handle(now, switch::Input::Delta { delta, tag: self.tag });
        self.switch_outputs(now, outputs, out);
    }

    /// Rows of interfaces whose port is bound to this chassis.
    fn bound_here(&self) -> BTreeSet<Uuid> {
        self.ports_here().into_iter().map(|(_, interface)| interface).collect()
    }

    /// Ports that are bound to this chassis, with the interfaces that carry them.
    fn ports_here(&self) -> Vec<(Uuid, Uuid)> {
        let rows = self.compiler.rows();
        let name = self.config.as_ref().map(|config| config.chassis.as_str());
        let own = rows.iter::<Chassis>().find(|(_, chassis)| Some(&*chassis.name) == name);
        let Some((own, _)) = own else { return Vec::new() };
        let here: BTreeMap<&str, Uuid> =
            rows.iter::<HostInterface>().map(|(uuid, row)| (&*row.iface_id, uuid)).collect();
        let is_here = |binding: &PortBinding| {
            binding.chassis.as_ref().is_some_and(|chassis| chassis.uuid() == own)
                || binding.additional_chassis.iter().any(|chassis| chassis.uuid() == own)
        };
        let bound = rows.iter::<PortBinding>().filter(|(_, binding)| is_here(binding));
        let interface = |binding: &PortBinding| here.get(&*binding.logical_port).copied();
        bound.filter_map(|(port, binding)| Some((port, interface(binding)?))).collect()
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
                    self.switch_problem = None;
                    self.host_rows(now, out);
                }
                switch::Output::Applied(tag) => self.applied(tag, out),
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
                    out.push(Effect::StreamSend(Box::new(message)));
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
            Verdict::Nothing(_) => {}
        }
    }

    // ---- the controller --------------------------------------------------------------------------------------------

    fn stream(&mut self, now: Instant, _now_ms: u64, input: controller::Input, out: &mut Vec<Effect>) {
        let Some(session) = &mut self.session else { return };
        let mut outputs: VecDeque<controller::Output> = session.handle(input).into();
        while let Some(output) = outputs.pop_front() {
            match output {
                controller::Output::Send(message) => out.push(Effect::StreamSend(Box::new(message))),
                controller::Output::Rows(update) => {
                    if let Err(source) = self.rows(now, &update, out)
                        && let Some(session) = &mut self.session
                    {
                        let revision = update.resume.revision;
                        outputs.extend(session.refuse_rows(StreamError::Rows { revision, source }));
                    }
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

    fn timeout(&mut self, now: Instant, now_ms: u64, out: &mut Vec<Effect>) {
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
            self.stream(now, now_ms, controller::Input::Learned(macs.collect()), out);
        }
        if self.mtu_at.is_some_and(|at| at <= now) {
            self.mtu_at = None;
            let ip = self.config.as_ref().and_then(|config| config.encap_ips.first());
            out.extend(ip.map(|ip| Effect::ReadMtu(*ip)));
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

    /// Compares the incremental table with one compiled from scratch, of the rows of `tag`.
    fn compare(&mut self, now: Instant, full: &FullTable, tag: u64, out: &mut Vec<Effect>) {
        if tag != self.tag {
            // Rows changed meanwhile: no verdict.
            self.check_at = now + CHECK_AGAIN;
            return;
        }
        // The larger the table, the rarer: a check costs as much as a start.
        let per_flow = CHECK_INTERVAL_PER_FLOW * u32::try_from(full.flows.len()).unwrap_or(u32::MAX);
        self.check_at = now + CHECK_INTERVAL.max(per_flow);
        let table = self.compiler.table();
        let differs = full.flows.iter().filter(|(key, value)| table.get(*key) != Some(value)).count();
        let extra: Vec<_> =
            table.keys().filter(|key| !full.flows.contains_key(key.as_ref())).cloned().collect();
        if differs == 0 && extra.is_empty() && self.compiler.meters() == full.meters {
            return;
        }
        self.counts.full_recompute += 1;
        self.counts.recompute_drift += (differs + extra.len()) as u64;
        tracing::error!(differs, ?extra, "the incremental table drifted from its rows: compiling anew");
        let rows = self.compiler.rows().clone();
        let batch = tables::ids().flat_map(|table| {
            rows.table(table)
                .iter()
                .map(move |(uuid, row)| (table, *uuid, Some(row.clone())))
                .collect::<Vec<_>>()
        });
        let mut compiler = Compiler::new();
        let mut delta = compiler.apply(batch);
        delta.delete = extra;
        let meters = compiler.meters();
        let gone = self.compiler.meters().into_keys().filter(|number| !meters.contains_key(number));
        delta.meters_delete = gone.collect();
        self.compiler = compiler;
        self.tag += 1;
        self.waiting.push_back(Waiting { tag: self.tag, revision: None, bound: None });
        let outputs = self.driver.handle(now, switch::Input::Delta { delta, tag: self.tag });
        self.switch_outputs(now, outputs, out);
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
            let bound = self.bound_here();
            self.bound.clone_from(&bound);
            self.waiting.push_back(Waiting { tag: self.tag, revision: None, bound: Some(bound) });
            let mut outputs = self.driver.handle(now, switch::Input::Delta { delta, tag: self.tag });
            outputs.extend(self.driver.handle(now, switch::Input::Complete));
            self.switch_outputs(now, outputs, out);
        }
        self.transact(now, now_ms, out);
        if self.told_problems != self.problems() {
            self.facts(now, now_ms, out);
        }
    }

    fn transact(&mut self, now: Instant, now_ms: u64, out: &mut Vec<Effect>) {
        if self.transacting || self.transact_after.is_some() {
            return;
        }
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
            kept: young.map(|(encap, _)| *encap).collect(),
            installed: self.installed.clone(),
            now_ms,
        };
        let (operations, problems) = plan(replica, config, &self.observed, &wanted);
        if !operations.is_empty() {
            self.transacting = true;
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
const MTU_INTERVAL: Duration = Duration::from_secs(30);
const STORE_DELAY: Duration = Duration::from_millis(500);
const STORE_INTERVAL: Duration = Duration::from_secs(5);
const CHECK_AGAIN: Duration = Duration::from_secs(5);
const CHECK_INTERVAL: Duration = Duration::from_secs(120);
/// Keeps the check below a hundredth of a core.
const CHECK_INTERVAL_PER_FLOW: Duration = Duration::from_millis(2);
