//! The agent of one hypervisor: from rows and facts of the host to flows in its switch.
//!
//! Start at [`agent::Agent::handle`]; [`run`] is the only place with sockets, clock and signals.
//!
//! # Invariants
//! - `compile`, `punt`, `trace`, [`switch::Driver`], [`controller::Session`] and [`agent`] wait for nothing: values in, values out.
//! - The tables of the switch are a function of (rows, host facts).

pub mod agent;
pub mod compile;
pub mod config;
pub mod controller;
pub mod disk;
pub mod error;
pub mod host;
pub mod metrics;
pub mod punt;
pub mod run;
pub mod switch;
pub mod trace;
