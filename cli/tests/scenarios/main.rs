//! Scenarios: a whole lab with real Open vSwitch, driven through qnctl as a person would, looked at
//! through packets.
//!
//! Need root, and the programs built beside qnctl (`cargo build --workspace`); they fail without, and never skip.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod cluster;
mod counters;
mod explain;
mod filters;
mod gateways;
mod hostile;
mod import;
mod l2;
mod paths;
mod qos;
mod restarts;
mod sampling;
mod security;
mod support;
mod tags;
mod tcp;
mod two_tier;
