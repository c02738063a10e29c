//! The closed set of things a node is told and of things it asks for.
//!
//! # Contract
//! * Effects are carried out **in the order they are returned**; an effect may rely on every earlier one.
//! * `Persist` batches are written in order. `Persisted` names the last batch of which everything, and everything
//!   before, is on disk; it may skip batches (that is group commit) and may arrive while later batches are being written.
//! * `Send` is lossy: it may be dropped, delayed, repeated or reordered.

use std::fmt;

use bytes::Bytes;

use crate::error::Refusal;

/// Identifies a member within its cluster; never 0, never given to another member later.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MemberId(pub u64);

/// Identifies a cluster; messages and directories of another are refused.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ClusterId(pub u128);

/// Chosen by the embedding program, unique among its outstanding requests; comes back in `Effect::Answer`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RequestId(pub u64);

/// Number of a `Persist` batch; grows by one from 1 at each start of the node.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct BatchId(pub u64);

/// What a node is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// A unit of time has passed (`Config::election_ticks` of them make an election).
    Tick,
    /// A peer's bytes; `from` is whom the transport authenticated.
    Message {
        /// Sender.
        from: MemberId,
        /// What its `Effect::Send` held.
        bytes: Bytes,
    },
    /// Replicate `data`. Answered by `Committed` or `Refused`.
    Propose {
        /// Comes back in the answer.
        request: RequestId,
        /// The leadership under which `data` was evaluated: the term of the last `LeaderChanged` with `may_propose`.
        term: u64,
        /// At least one byte; see [`crate::Sequenced`] for the store's envelope.
        data: Bytes,
    },
    /// Ask for a linearizable read, on any member. Answered by `ReadReady` or `Refused`.
    Read {
        /// Comes back in the answer.
        request: RequestId,
    },
    /// Everything up to and including this batch is on disk.
    Persisted {
        /// The last batch that is.
        batch: BatchId,
    },
    /// The program wrote this snapshot of its applied state to disk (see [`crate::SnapshotWriter`]).
    SnapshotTaken(Snapshot),
    /// Hand leadership to `to`. Has no effect on a member that does not lead.
    TransferLeader {
        /// The next leader.
        to: MemberId,
    },
    /// Tell the followers now what is committed, see `Config::announces_commits`. Has no effect on a member that does not
    /// lead.
    AnnounceCommit,
    /// The transport could not deliver to `peer`; a hint that speeds up flow control.
    Unreachable {
        /// The member that could not be reached.
        peer: MemberId,
    },
}

/// What a node asks for.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Write to the log and sync, then answer with `Event::Persisted`.
    Persist(Batch),
    /// Hand to the transport. May leave before earlier `Persist` effects are on disk: the node held back what may not.
    Send {
        /// Receiver.
        to: MemberId,
        /// At most [`crate::MESSAGE_BYTES_MAX`].
        bytes: Bytes,
    },
    /// Apply to the state machine, in order. Indexes are contiguous over all `Apply` and `InstallSnapshot` effects.
    Apply {
        /// Committed entries.
        entries: Vec<Committed>,
    },
    /// Replace the state machine by this snapshot (it is on disk already).
    InstallSnapshot(Snapshot),
    /// A request is done.
    Answer {
        /// Whose.
        request: RequestId,
        /// How it ended.
        answer: Answer,
    },
    /// The leader, the term or the right to propose changed.
    LeaderChanged(Leadership),
    /// The log grew by `Config::snapshot_after_bytes` since the last snapshot: take one when convenient.
    /// Given once; given again when a snapshot was taken and the log grew as much again.
    TakeSnapshot,
    /// Log entries up to this index and older snapshots are no longer needed.
    Compact {
        /// Last index that may go.
        through: u64,
    },
}

/// What goes to disk as one unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Its number.
    pub id: BatchId,
    /// Replaces the hard state before it.
    pub hard_state: HardState,
    /// A snapshot received from the leader: replaces the whole log. Written before `entries`.
    pub snapshot: Option<Snapshot>,
    /// Contiguous; the first may overwrite: every entry at or after it is replaced.
    pub entries: Vec<LogEntry>,
}

/// What Raft must never forget.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HardState {
    /// Latest term seen.
    pub term: u64,
    /// Whom this member voted for in `term`; 0 for nobody.
    pub vote: u64,
    /// Highest index known to be committed; may lag.
    pub commit: u64,
}

/// An entry of the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogEntry {
    /// Position, from 1.
    pub index: u64,
    /// Term of the leader that made it.
    pub term: u64,
    /// Empty for the first entry of a leader.
    pub data: Bytes,
}

/// An entry that will never change again.
pub type Committed = LogEntry;

/// What a snapshot covers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SnapshotMeta {
    /// Last applied index it includes.
    pub index: u64,
    /// Term of the entry at `index`.
    pub term: u64,
    /// Voters at `index`, ascending.
    pub voters: Vec<MemberId>,
}

/// The state machine at one index, as bytes only the embedding program understands.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Snapshot {
    /// What it covers.
    pub meta: SnapshotMeta,
    /// The state.
    pub data: Bytes,
}

/// How a request ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// The proposal is committed, and the `Apply` effect before this answer holds it.
    Committed {
        /// Where.
        index: u64,
        /// In which term.
        term: u64,
    },
    /// Everything committed before the request was made is contained in the `Apply` effects before this answer.
    ReadReady {
        /// Applied index that suffices for the read.
        index: u64,
    },
    /// It was not done, or its outcome is unknown ([`Refusal::Unknown`]).
    Refused(Refusal),
}

/// Who leads.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Leadership {
    /// The leader, if one is known.
    pub leader: Option<MemberId>,
    /// The current term.
    pub term: u64,
    /// Whether this member leads and has applied its own term's first entry: only then may it evaluate and propose.
    pub may_propose: bool,
}

/// What a log holds when it is opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovered {
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// The newest snapshot; the program installs it before the first `Apply`.
    pub snapshot: Option<Snapshot>,
    /// Everything after the snapshot.
    pub entries: Vec<LogEntry>,
    /// How often this directory has been opened; makes read tokens unique over restarts.
    pub boot: u64,
    /// Bytes of unfinished writes cut off the end; more than 0 after a crash.
    pub torn_bytes: u64,
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
