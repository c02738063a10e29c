//! A replicated log around raft-rs; knows bytes, not networks.
//!
//! An acknowledged write survives the loss of any minority, kill -9 and power loss. No write applies twice. Reads are
//! linearizable. A member is a value: it has no clock, no socket, no thread and no task, so a whole cluster
//! runs in one thread under a seeded scheduler.
//!
//! | start here | for |
//! |---|---|
//! | [`Driver`] | embedding a member: one loop, with an example |
//! | [`Node`], [`Event`], [`Effect`] | a member without its disk, for a loop of one's own |
//! | [`DiskLog`], [`SnapshotWriter`] | the log and the snapshots on disk |
//! | [`Sequenced`], [`Sequencer`] | the envelope that makes late proposals harmless |
//!
//! # The four rules of the store, and where they are kept
//! 1. *An entry names the revision it was evaluated on; any other revision makes it a no-op.* [`Sequencer::admit`].
//! 2. *A new leader proposes nothing before its own term's empty entry is applied.* [`Node::may_propose`]; a proposal before
//!    that, or one evaluated in an earlier term, is refused.
//! 3. *Effects are proposed only by the leader itself.* The peer format has no proposal message; followers refuse, naming
//!    the leader.
//! 4. *Reads see applied revisions only.* [`Answer::ReadReady`] follows the `Apply` it rests on.
//!
//! # Membership
//! The voters are a fixed list, alike on every member. The log format has room for other record kinds and the snapshot names
//! its voters, so joint changes can be added without a new format.

mod check;
mod codec;
mod config;
mod driver;
mod error;
mod event;
pub mod log;
mod metrics;
mod node;
mod reads;
mod sequence;
mod snapshot;
mod wire;

pub use config::Config;
pub use driver::{Driver, Output};
pub use error::{ConfigError, DecodeError, FatalError, Fault, LogError, MessageError, Refusal};
pub use event::{
    Answer, Batch, BatchId, ClusterId, Committed, Effect, Event, HardState, Leadership, LogEntry, MemberId,
    Recovered, RequestId, Snapshot, SnapshotMeta,
};
pub use log::{
    LogStore,
    disk::{DiskLog, DiskOptions, SnapshotWriter},
    memory::MemoryLog,
};
pub use metrics::Metrics;
pub use node::Node;
pub use sequence::{Admit, Sequenced, Sequencer};
pub use wire::{MESSAGE_BYTES_MAX, decode_any};
