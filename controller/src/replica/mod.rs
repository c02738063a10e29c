//! A member's part of the replicated store: proposals in, applied states out.
//!
//! # Contract
//! - One thread at a time has the consensus driver and the log (`rounds`); everything else talks to it through
//!   [`Replica`].
//! - Requests are evaluated in order on the speculative head; what queued up while the disk was busy rides in one
//!   entry and one sync.
//! - Readers and watchers see applied states only.
//!
//! # Invariants
//! - An entry that does not follow the revision it was evaluated on changes nothing, on every member alike.
//! - A leader that works on a request for long keeps its leadership meanwhile; one whose disk hangs does not.
//! - An answer is given only after the state it rests on was applied, also when the request changed nothing.
//! - What was acknowledged is in the log on disk; what was refused never enters it.

mod announce;
mod bootstrap;
mod error;
mod handle;
mod identity;
mod job;
mod member;
mod open;
mod pacer;
mod proposals;
mod queue;
mod rounds;
#[cfg(test)]
mod tests;

pub use bootstrap::{DEFAULT_PROJECT, SYSTEM_PROJECT};
pub(crate) use error::with_causes;
pub use error::{ProposeError, ReadError, StartError};
pub use handle::{Committed, Replica, Status};
pub use open::{Lower, Observer, Options, Peers, Transport, start, start_on};
