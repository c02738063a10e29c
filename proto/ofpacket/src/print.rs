//! Text in the syntax of `ovs-ofctl`, as `ovs-ofctl --no-names --no-stats dump-flows` prints it, so that
//! what this crate says can be compared with what the switch says.
//!
//! # Invariants
//! - Never fails and never panics, also for flows no switch would take.

mod action;
mod flow;
mod matches;
mod value;
