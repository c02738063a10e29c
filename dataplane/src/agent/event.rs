//! What happens to the agent, what it wants done, and what it starts with.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ovsdb::{operation::Operation, replica::Replica};
use quantumnet_api::v1::{AgentMessage, AgentQueryAnswer, ControllerMessage};
use quantumnet_model::Rows;

use crate::{
    compile::FullTable,
    disk::{Ids, Resume, Snapshot, Zones},
    error::AgentError,
    host::path::Path,
    switch,
    trace::Job,
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
    /// What the ways to other endpoints carry.
    Paths(BTreeMap<IpAddr, Path>),
    /// The switch tracks so many connections.
    Tracked(Result<switch::Tracked, String>),
    /// The switch took the limits of zones, or why it did not.
    Limited(Result<(), String>),
    /// The whole table, compiled from the rows that went with [`Effect::Recompute`].
    Recomputed {
        /// The table.
        full: FullTable,
        /// Whose.
        tag: u64,
    },
    /// A question that came over the stream of that number is answered.
    Answered {
        /// The stream.
        stream: u64,
        /// The answer.
        answer: Box<AgentQueryAnswer>,
    },
    /// A file was written, or not.
    Stored(Result<(), String>),
    /// It is [`super::Agent::poll_timeout`] or later.
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
    /// Find out whether the ways between these endpoints carry packets of that size.
    TryPaths {
        /// The size.
        mtu: u32,
        /// This host's endpoint and the other, each.
        pairs: Vec<(IpAddr, IpAddr)>,
    },
    /// Count the connections that this datapath tracks.
    CountConnections {
        /// Its name for ovs-vswitchd.
        datapath: String,
    },
    /// Limit the connections of zones.
    LimitZones {
        /// The datapath's name for ovs-vswitchd.
        datapath: String,
        /// By zone.
        limits: BTreeMap<u16, u32>,
        /// Zones that are to have no limit.
        free: BTreeSet<u16>,
    },
    /// Compile these rows from scratch, beside everything else.
    Recompute {
        /// The rows.
        rows: Rows,
        /// Comes back.
        tag: u64,
    },
    /// Trace a packet, beside everything else.
    Trace {
        /// The stream that it is asked over.
        stream: u64,
        /// The question.
        id: u64,
        /// What to do.
        job: Box<Job>,
    },
    /// Store the numbers.
    StoreIds(Ids),
    /// Store the zones.
    StoreZones(Zones),
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
    /// Zones from disk.
    pub zones: Zones,
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
    /// Questions for neighbours of router ports.
    pub neighbours_asked: u64,
    /// Neighbours reported.
    pub neighbours_learned: u64,
    /// Packets that found no room to wait for a neighbour.
    pub neighbour_packets_dropped: u64,
}
