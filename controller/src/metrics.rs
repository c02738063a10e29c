//! What the controller counts, in Prometheus' format and naming.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use quantumnet_model::tables;

use crate::{ovsdb, peer::Kind, replica::Replica};

/// All metrics of one controller.
pub struct Metrics {
    registry: Mutex<Registry>,
    transactions: Family<OutcomeLabels, Counter>,
    transaction_seconds: Histogram,
    log_write_seconds: Histogram,
    switch_seconds: Histogram,
    refused_input: Family<InputLabels, Counter>,
    agent_resyncs: Counter,
    agent_messages: Counter,
    agent_bytes: Counter,
    agents_connected: Gauge,
    macs_dropped: Counter,
    neighbours_dropped: Counter,
    raft_term: Gauge,
    raft_leader: Gauge,
    raft_commit: Gauge,
    raft_applied: Gauge,
    raft_log_bytes: Gauge,
    raft_log_entries: Gauge,
    writable: Gauge,
    revision: Gauge,
    watch_lag: Gauge,
    rows: Family<TableLabels, Gauge>,
    rows_changed: Counter,
    peer_messages: Family<PeerLabels, Counter>,
    forwards: Family<ForwardLabels, Counter>,
    raft_lag: Gauge,
    raft_leader_changes: Gauge,
    raft_refused: Gauge,
    ovsdb: Arc<ovsdb::Metrics>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, EncodeLabelValue, Eq, Hash, PartialEq)]
pub enum Outcome {
    /// It is applied, or had nothing to change.
    Committed,
    /// The store refused it.
    Refused,
    /// It could not be replicated, or that is not known.
    Failed,
}

/// What was wrong with input that was refused.
#[derive(Clone, Copy, Debug, EncodeLabelValue, Eq, Hash, PartialEq)]
pub enum BadInput {
    /// An agent of another format.
    AgentFormat,
    /// A first message that is no hello, or a second hello.
    AgentOrder,
    /// A name, address or text that cannot be.
    AgentValue,
    /// More than one message may hold.
    AgentSize,
    /// On the members' port, somebody who is no other member of this cluster, or a request of an unknown kind.
    Peer,
}

/// What became of a message between members.
#[derive(Clone, Copy, Debug, EncodeLabelValue, Eq, Hash, PartialEq)]
pub enum PeerMessage {
    /// Handed to the connection.
    Sent,
    /// There was no connection, or no room.
    Dropped,
    /// Came from the other member.
    Received,
}

/// Where a request that only the leader can carry out ended.
#[derive(Clone, Copy, Debug, EncodeLabelValue, Eq, Hash, PartialEq)]
pub enum ForwardEnd {
    /// On this member.
    Here,
    /// On another member.
    There,
    /// Nowhere: nothing was done.
    Failed,
    /// That is not known.
    Unknown,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct PeerLabels {
    peer: u64,
    what: PeerMessage,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ForwardLabels {
    kind: &'static str,
    end: ForwardEnd,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OutcomeLabels {
    outcome: Outcome,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct InputLabels {
    kind: BadInput,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct TableLabels {
    database: &'static str,
    table: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("quantumnet_controller");
        let seconds = || Histogram::new(exponential_buckets(0.000_1, 2.0, 18));
        let metrics = Self {
            transactions: Family::default(),
            transaction_seconds: seconds(),
            log_write_seconds: seconds(),
            switch_seconds: seconds(),
            refused_input: Family::default(),
            agent_resyncs: Counter::default(),
            agent_messages: Counter::default(),
            agent_bytes: Counter::default(),
            agents_connected: Gauge::default(),
            macs_dropped: Counter::default(),
            neighbours_dropped: Counter::default(),
            raft_term: Gauge::default(),
            raft_leader: Gauge::default(),
            raft_commit: Gauge::default(),
            raft_applied: Gauge::default(),
            raft_log_bytes: Gauge::default(),
            raft_log_entries: Gauge::default(),
            writable: Gauge::default(),
            revision: Gauge::default(),
            watch_lag: Gauge::default(),
            rows: Family::default(),
            rows_changed: Counter::default(),
            peer_messages: Family::default(),
            forwards: Family::default(),
            raft_lag: Gauge::default(),
            raft_leader_changes: Gauge::default(),
            raft_refused: Gauge::default(),
            ovsdb: Arc::default(),
            registry: Mutex::default(),
        };
        metrics.register(&mut registry);
        *metrics.registry.lock().unwrap_or_else(PoisonError::into_inner) = registry;
        metrics
    }
}

impl Metrics {
    fn register(&self, to: &mut Registry) {
        to.register("transactions", "Transactions proposed, by how they ended", self.transactions.clone());
        let help = "Time from a proposal to its answer";
        to.register_with_unit("transaction", help, Unit::Seconds, self.transaction_seconds.clone());
        let help = "Time of a round that wrote to the log and synced it";
        to.register_with_unit("raft_log_write", help, Unit::Seconds, self.log_write_seconds.clone());
        let help = "Time from a revision being applied here to an interested agent having it in its switch";
        to.register_with_unit("change_to_switch", help, Unit::Seconds, self.switch_seconds.clone());
        to.register("refused_input", "Input that was refused, by kind", self.refused_input.clone());
        let help = "Agents that fell behind and were brought up to date from history or a snapshot";
        to.register("agent_resyncs", help, self.agent_resyncs.clone());
        to.register("agent_messages", "Messages sent to agents", self.agent_messages.clone());
        to.register_with_unit(
            "agent_sent",
            "Row changes sent to agents",
            Unit::Bytes,
            self.agent_bytes.clone(),
        );
        to.register("agents_connected", "Agents with an open stream here", self.agents_connected.clone());
        let help = "Learned MACs over the limits of their port or network";
        to.register("learned_macs_dropped", help, self.macs_dropped.clone());
        let help = "Learned neighbours over the limits of their router port";
        to.register("learned_neighbours_dropped", help, self.neighbours_dropped.clone());
        to.register("raft_term", "Current term", self.raft_term.clone());
        to.register("raft_leader", "Member that leads, 0 while none is known", self.raft_leader.clone());
        to.register("raft_commit_index", "Highest committed index known here", self.raft_commit.clone());
        to.register("raft_applied_index", "Last index applied here", self.raft_applied.clone());
        to.register_with_unit("raft_log", "Log held in memory", Unit::Bytes, self.raft_log_bytes.clone());
        to.register("raft_log_entries", "Log entries held in memory", self.raft_log_entries.clone());
        to.register("writable", "1 while this member leads and may write", self.writable.clone());
        to.register("revision", "Revision of the applied state", self.revision.clone());
        let help = "Revisions that the slowest connected agent is behind in its switch";
        to.register("agents_behind_revisions", help, self.watch_lag.clone());
        to.register("rows", "Rows by table", self.rows.clone());
        let help = "Rows changed by the transactions that were applied here";
        to.register("rows_changed", help, self.rows_changed.clone());
        let help = "Messages of consensus to and from other members";
        to.register("peer_messages", help, self.peer_messages.clone());
        let help = "Requests that only the leader can carry out, by kind and where they ended";
        to.register("forwards", help, self.forwards.clone());
        let help = "Committed entries that are not applied here yet";
        to.register("raft_applied_lag_entries", help, self.raft_lag.clone());
        let help = "Changes of the leader seen since the start, to none included";
        to.register("raft_leader_changes", help, self.raft_leader_changes.clone());
        let help = "Messages of other members that consensus refused since the start";
        to.register("raft_messages_refused", help, self.raft_refused.clone());
        self.ovsdb.register(to);
    }

    /// Those of the OVSDB servers.
    pub fn ovsdb(&self) -> Arc<ovsdb::Metrics> {
        self.ovsdb.clone()
    }

    /// A transaction ended.
    pub fn transaction(&self, outcome: Outcome, took: Duration) {
        self.transactions.get_or_create(&OutcomeLabels { outcome }).inc();
        self.transaction_seconds.observe(took.as_secs_f64());
    }

    /// The log was written and synced.
    pub fn log_write(&self, took: Duration) {
        self.log_write_seconds.observe(took.as_secs_f64());
    }

    /// A transaction that changed so many rows was applied.
    pub fn rows_changed(&self, count: usize) {
        self.rows_changed.inc_by(count as u64);
    }

    /// An agent has a revision in its switch.
    pub fn in_switch(&self, took: Duration) {
        self.switch_seconds.observe(took.as_secs_f64());
    }

    /// Input was refused.
    pub fn refused(&self, kind: BadInput) {
        self.refused_input.get_or_create(&InputLabels { kind }).inc();
    }

    /// Messages to or from another member.
    pub fn peer_message(&self, peer: u64, what: PeerMessage, count: u64) {
        self.peer_messages.get_or_create(&PeerLabels { peer, what }).inc_by(count);
    }

    /// A request for the leader ended.
    pub fn forwarded(&self, kind: Kind, end: ForwardEnd) {
        let kind = match kind {
            Kind::Api => "api",
            Kind::Transact => "transact",
            Kind::Agent => "agent",
            Kind::Query => "query",
        };
        self.forwards.get_or_create(&ForwardLabels { kind, end }).inc();
    }

    /// An agent fell behind.
    pub fn agent_resync(&self) {
        self.agent_resyncs.inc();
    }

    /// Row changes went to an agent.
    pub fn agent_sent(&self, bytes: usize) {
        self.agent_messages.inc();
        self.agent_bytes.inc_by(bytes as u64);
    }

    /// How many agents are connected, and how many revisions the slowest of them is behind.
    pub fn agents(&self, connected: usize, behind: u64) {
        self.agents_connected.set(i64::try_from(connected).unwrap_or(i64::MAX));
        self.watch_lag.set(i64::try_from(behind).unwrap_or(i64::MAX));
    }

    /// Learned MACs were over a limit.
    pub fn macs_dropped(&self, count: usize) {
        self.macs_dropped.inc_by(count as u64);
    }

    /// Learned neighbours were over a limit.
    pub fn neighbours_dropped(&self, count: usize) {
        self.neighbours_dropped.inc_by(count as u64);
    }

    /// Everything as text, gauges as they are now.
    pub fn text(&self, replica: &Replica) -> Result<String, fmt::Error> {
        let gauge = |gauge: &Gauge, value: u64| _ = gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        let (consensus, status, state) = (replica.consensus(), replica.status(), replica.state());
        gauge(&self.raft_term, status.term);
        gauge(&self.raft_leader, status.leader.unwrap_or(0));
        gauge(&self.raft_commit, consensus.commit_index);
        gauge(&self.raft_applied, consensus.applied_index);
        gauge(&self.raft_lag, consensus.commit_index.saturating_sub(status.applied_index));
        gauge(&self.raft_leader_changes, consensus.leader_changes);
        gauge(&self.raft_refused, consensus.messages_refused);
        gauge(&self.raft_log_bytes, consensus.log_bytes);
        gauge(&self.raft_log_entries, consensus.log_entries);
        gauge(&self.writable, u64::from(status.writable));
        gauge(&self.revision, state.revision());
        for table in tables::ids() {
            let decl = tables::decl(table);
            if decl.database.is_replicated() {
                let labels = TableLabels { database: decl.database.name(), table: decl.name };
                gauge(&self.rows.get_or_create(&labels), state.rows().len(table) as u64);
            }
        }
        let mut text = String::new();
        encode(&mut text, &self.registry.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(text)
    }
}
