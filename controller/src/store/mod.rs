//! The store: one persistent state for intent, Northbound and Southbound, and the transactions on it.
//!
//! # Contract
//! - In: a head state, a request and the leader's clock; out: the net row changes, or a typed refusal.
//! - Owns references, unique indexes and constraints of all tables, from their declarations alone.
//! - Refuses to know the log, the network, and what any table means (that is `lower`).
//!
//! # Invariants
//! - A [`State`] that was committed satisfies every declared constraint: strong references resolve, rows of
//!   non-root tables are referred to, weak references resolve, indexes are unique, maxRows holds.
//! - Indexes and references are functions of the rows; tests rebuild and compare them.

mod entry;
mod evaluate;
mod history;
mod index;
mod integrity;
mod references;
mod refusal;
pub mod scopes;
mod snapshot;
mod state;
mod txn;
mod visits;

pub use entry::{DecodeError, ENTRY_FORMAT, Effects, EncodedEffects, Entry, EntryWriter};
pub use evaluate::{Context, Evaluated, evaluate};
pub use history::{History, ResumeToken, Transaction};
pub use references::{Reference, ReferenceColumn, reference_columns};
pub use refusal::{Class, Refusal, ServiceRefusal};
pub use snapshot::SNAPSHOT_FORMAT;
pub use state::State;
pub use txn::{Touched, Txn};
pub use visits::visits;
