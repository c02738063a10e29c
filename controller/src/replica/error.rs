//! What can go wrong between a client and the log.

use std::{io, path::PathBuf};

use quantumnet_consensus::{ConfigError, LogError};
use thiserror::Error;

use crate::store::{DecodeError, Refusal};

/// Why a proposal has no result. Says whether it may have been written.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum ProposeError {
    /// The store refused it; nothing was written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Only the leader writes; nothing was written.
    #[error("this member is not the leader (leader: {})", leader.map_or_else(|| "unknown".to_owned(), |id| id.to_string()))]
    NotLeader {
        /// Whom to ask instead, if known.
        leader: Option<u64>,
    },
    /// Leadership changed meanwhile; nothing was written, retry.
    #[error("leadership changed before the write was replicated; nothing was written, retry")]
    Retry,
    /// Too much waits for the disk; nothing was written, retry later.
    #[error("too many writes wait for the disk; nothing was written, retry later")]
    Busy,
    /// The disk is full; nothing was written.
    #[error("nothing was written: {reason}")]
    DiskFull {
        /// What the log said, with the path.
        reason: String,
    },
    /// The changes do not fit an entry of the log; nothing was written.
    #[error("the changes take {got} octets, at most {max} fit one transaction; split the request")]
    TooLarge {
        /// The bound.
        max: u64,
        /// Their size.
        got: u64,
    },
    /// It may or may not be applied later.
    #[error("it is not known whether the write will be applied: {reason}")]
    Unknown {
        /// Why.
        reason: String,
    },
    /// The request ended without an answer, by a fault of the program; nothing was written.
    #[error("the request failed by a fault of the controller; nothing was written, its log says more")]
    Dropped,
    /// This member stopped writing for good; it still serves reads.
    #[error("this controller has stopped writing: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

impl ProposeError {
    /// Nothing was written for lack of leadership: the same request may be made again, of the leader there is then.
    #[must_use]
    pub const fn is_elsewhere(&self) -> bool {
        matches!(self, Self::NotLeader { .. } | Self::Retry)
    }
}

/// Why a linearizable read was not possible.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum ReadError {
    /// No majority answered in time.
    #[error("no linearizable read is possible: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
}

fn list(members: &[u64]) -> String {
    members.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Why a member could not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The log could not be opened.
    #[error("the log in {} cannot be opened; {advice}", path.display())]
    Log {
        /// The data directory.
        path: PathBuf,
        /// What to do.
        advice: &'static str,
        /// The log's own error.
        #[source]
        source: LogError,
    },
    /// The data directory, or the file with the cluster's identity in it, could not be used.
    #[error("cannot {doing} {}; make it a directory that this user may read and write, or choose another with --data-dir", path.display())]
    Directory {
        /// What was being done.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The identity file holds something else.
    #[error("{} holds {got:?}, expected a uuid and a line of members; restore it from another member or from a backup", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// Its beginning.
        got: String,
    },
    /// The data directory was made with other members.
    #[error(
        "{} was made for the members {}, --peers names {}; a cluster's members can't be changed yet: give the list it was made with, or choose another --data-dir",
        path.display(), list(made), list(named)
    )]
    Voters {
        /// The identity file.
        path: PathBuf,
        /// Its members.
        made: Vec<u64>,
        /// Those of the configuration.
        named: Vec<u64>,
    },
    /// The snapshot on disk is not understood.
    #[error("the snapshot in {} is not understood; a newer program may have written it", path.display())]
    Snapshot {
        /// The data directory.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: DecodeError,
    },
    /// The numbers contradict each other.
    #[error("the configuration of this member is wrong")]
    Config(#[from] ConfigError),
    /// The system gives no thread.
    #[error("cannot start the thread of the replica")]
    Thread(#[source] io::Error),
}

/// The error and everything that caused it, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
