//! Monitors: the rows that a client asked to be told of, and their changes, as JSON octets (RFC 7047, sections 4.1.5
//! and 4.1.6; ovsdb-server(7), sections 4.1.12 to 4.1.16).
//!
//! # Contract
//! - In: rows before and after, typed. Out: `<table-updates>` in the form that the client's method has.
//! - Refuses to know sessions, ids and order; `session` sends what is made here.
//!
//! # Invariants
//! - What is sent of a change costs what differs, not what the row holds, but for the RFC's `update`, which repeats rows.
//! - A row that begins or stops to match the condition is told as inserted or deleted.
//! - A table or monitor that nothing is to be told of leaves no trace: no empty objects, no empty updates.

mod changes;
mod dump;
mod filter;
mod request;

pub(super) use changes::{Change, between, net};
pub use dump::Dump;
pub(super) use request::Spec;

/// How a monitor's method words things.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    /// `monitor`: `<table-updates>`, `update`.
    Update,
    /// `monitor_cond`: `<table-updates2>`, `update2`.
    Update2,
    /// `monitor_cond_since`: `<table-updates2>`, `update3`.
    Update3,
}
