//! What can go wrong, one enum per boundary: peer bytes, requests, this member's log, the node itself.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::{ClusterId, MemberId};

/// Why bytes were not a message, a record or a snapshot of ours. Never fatal: the bytes are refused and counted.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error("{what} needs {needed} more bytes, {left} are left")]
    Truncated {
        /// The field that was being read.
        what: &'static str,
        /// Bytes the field needs.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// The value is not one this program knows.
    #[error("{what} is {got}, expected {expected}")]
    Unexpected {
        /// The field.
        what: &'static str,
        /// What would have been accepted.
        expected: &'static str,
        /// What was there.
        got: u64,
    },
    /// A length exceeds the bound that keeps a peer from exhausting memory.
    #[error("{what} is {got} bytes or items, at most {max} are accepted")]
    TooLarge {
        /// The field.
        what: &'static str,
        /// The bound.
        max: u64,
        /// What was claimed.
        got: u64,
    },
    /// Bytes follow the end of the value.
    #[error("{left} bytes follow the end of {what}")]
    Trailing {
        /// The value that had ended.
        what: &'static str,
        /// How many bytes follow.
        left: usize,
    },
    /// The checksum does not cover these bytes.
    #[error("{what} has checksum {got:#010x}, expected {expected:#010x}")]
    Checksum {
        /// The value.
        what: &'static str,
        /// Computed over the bytes.
        expected: u32,
        /// Stored with the bytes.
        got: u32,
    },
}

/// Why a peer's message was not given to Raft.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum MessageError {
    /// The bytes are not a message.
    #[error("not a consensus message")]
    Decode(#[from] DecodeError),
    /// The sender belongs to another cluster: a wrong address, or a restored copy.
    #[error("message is of cluster {got}, expected {expected}")]
    Cluster {
        /// This member's cluster.
        expected: ClusterId,
        /// The sender's cluster.
        got: ClusterId,
    },
    /// The message was meant for somebody else.
    #[error("message is for member {got}, expected {expected}")]
    Recipient {
        /// This member.
        expected: MemberId,
        /// The member named in the message.
        got: MemberId,
    },
    /// The message names another sender than the connection it came from.
    #[error("message names sender {got}, the connection belongs to {expected}")]
    Sender {
        /// Whom the transport authenticated.
        expected: MemberId,
        /// Whom the message names.
        got: MemberId,
    },
    /// The sender has no vote in this cluster.
    #[error("member {got} is not a voter of this cluster")]
    NotMember {
        /// The sender.
        got: MemberId,
    },
    /// A log position no correct peer would name.
    #[error("{what} names index {got}, this log ends at {last}")]
    Position {
        /// Kind of the message.
        what: &'static str,
        /// This member's last index.
        last: u64,
        /// What the message names.
        got: u64,
    },
    /// A snapshot made with other voters than this member was configured with.
    #[error("snapshot at index {index} was made with other voters")]
    Voters {
        /// Index of the snapshot.
        index: u64,
    },
}

/// Why a request was not, or may not have been, carried out. The text is fit to be shown to a client.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum Refusal {
    /// Only the leader proposes; nothing was written.
    #[error("this member is not the leader (leader: {})", leader.map_or_else(|| "unknown".to_owned(), |id| id.to_string()))]
    NotLeader {
        /// Whom to ask instead, if known.
        leader: Option<MemberId>,
    },
    /// The leader is new and has not applied its own term's first entry; nothing was written, retry shortly.
    #[error("the leader of term {term} has not caught up with its log yet")]
    NotReady {
        /// The new leader's term.
        term: u64,
    },
    /// The proposal was evaluated under an earlier leadership; nothing was written, evaluate it again.
    #[error("proposal was evaluated in term {got}, the term is {expected}")]
    StaleTerm {
        /// The current term.
        expected: u64,
        /// The term the proposal names.
        got: u64,
    },
    /// A proposal has at least one byte; the empty entry is the leader's own.
    #[error("a proposal is never empty")]
    Empty,
    /// The proposal would not fit a peer message.
    #[error("proposal of {got} bytes, at most {max} are accepted")]
    TooLarge {
        /// The bound (`Config::entry_bytes_max`).
        max: u64,
        /// The size of the proposal.
        got: u64,
    },
    /// Too much is waiting for the disk or for the other members; nothing was written, retry later.
    #[error("too many writes are waiting for a majority of the disks")]
    Busy,
    /// Leadership is being handed over; nothing was written, retry at the new leader.
    #[error("leadership is being handed to another member")]
    Transferring,
    /// Another leader's entry took the place; the proposal is certain never to be applied.
    #[error("another leader's entry was committed at index {index}")]
    Superseded {
        /// Where the proposal had been.
        index: u64,
    },
    /// This member learned the outcome only as part of a snapshot: the proposal may or may not have been applied.
    #[error("outcome at index {index} is unknown, it was replaced by a snapshot")]
    Unknown {
        /// Where the proposal had been.
        index: u64,
    },
    /// No majority confirmed the leader in time; nothing was read.
    #[error("no majority confirmed the read within {ticks} ticks")]
    ReadTimeout {
        /// How long it was tried.
        ticks: u64,
    },
}

/// Why the log refused, or could not do, what was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LogError {
    /// No space left. Nothing was lost; the same append may be repeated when there is space.
    #[error("disk is full while {doing} {}", path.display())]
    DiskFull {
        /// What was being done.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The directory or a file in it belongs to somebody else, or is read-only.
    #[error("no permission while {doing} {}", path.display())]
    Permission {
        /// What was being done.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process has this data directory open.
    #[error("data directory {} is in use by another process", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// Any other failure of the system below.
    #[error("input/output error while {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A sync failed earlier: what is on disk is not known, and only a restart reads it back.
    #[error("the log stopped after a failed sync of {}; restart to recover from disk", path.display())]
    Stopped {
        /// The file whose sync failed.
        path: PathBuf,
    },
    /// Bytes that had been synced are damaged, and valid records follow them: truncating would lose acknowledged writes.
    #[error("{} is damaged at offset {offset} but later records are intact; restore this member from another", path.display())]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Offset of the first damaged byte's record.
        offset: u64,
        /// What is wrong there.
        #[source]
        source: DecodeError,
    },
    /// A file is not of the format this program writes.
    #[error("{} is not a file of this log", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: DecodeError,
    },
    /// The directory belongs to another member or cluster.
    #[error("data directory belongs to {what} {got}, expected {expected}")]
    Identity {
        /// `cluster` or `member`.
        what: &'static str,
        /// What this program was configured with.
        expected: String,
        /// What the directory says.
        got: String,
    },
    /// Entries that were not covered by a snapshot are missing.
    #[error("log starts at index {got} but the newest snapshot ends at {expected}")]
    Gap {
        /// Last index of the newest readable snapshot.
        expected: u64,
        /// First index in the log.
        got: u64,
    },
    /// A batch that does not continue the log: a mistake of the caller, nothing was written.
    #[error("batch starts at index {got}, the log can be continued from {first} to {next}")]
    Discontinuous {
        /// Lowest index that may be overwritten.
        first: u64,
        /// The index after the last.
        next: u64,
        /// Where the batch starts.
        got: u64,
    },
    /// The batch is larger than a segment record may be.
    #[error("batch of {got} bytes, at most {max} are accepted")]
    BatchTooLarge {
        /// The bound.
        max: u64,
        /// The size.
        got: u64,
    },
    /// The commit index on disk is beyond the last entry: entries that had been synced are gone.
    #[error("log ends at index {last} but {commit} had been committed; restore this member from another")]
    Lost {
        /// Last index found.
        last: u64,
        /// Commit index found.
        commit: u64,
    },
}

impl LogError {
    /// Whether the same call may be repeated later without having lost anything.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }
}

/// Why a configuration does not make a node.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// Identifiers start at 1.
    #[error("member identifier 0 is reserved")]
    ZeroMember,
    /// The voters do not include this member.
    #[error("member {member} is not among the voters")]
    NotVoter {
        /// This member.
        member: MemberId,
    },
    /// A voter is named twice.
    #[error("voter {member} is named twice")]
    DuplicateVoter {
        /// The voter.
        member: MemberId,
    },
    /// raft-rs refuses the numbers.
    #[error("{reason}")]
    Raft {
        /// What raft-rs said.
        reason: String,
    },
}

/// Why the node can't go on. The process stops taking part and says so; nothing it acknowledged is changed.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// The leader knows that this member had entries which are no longer here: its disk lost synced data.
    #[error(
        "this member acknowledged index {acknowledged} but its log ends at {last}; restore it from another member"
    )]
    LostEntries {
        /// Last index of the log.
        last: u64,
        /// What the leader says was acknowledged.
        acknowledged: u64,
    },
    /// The node faulted earlier and takes no more events.
    #[error("the node stopped earlier: {reason}")]
    Halted {
        /// The first fault.
        reason: String,
    },
}

/// What ends a [`crate::Driver`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FatalError {
    /// The log failed in a way that a retry can't mend.
    #[error("log failed")]
    Log(#[from] LogError),
    /// The node can't go on.
    #[error("consensus stopped")]
    Fault(#[from] Fault),
}
