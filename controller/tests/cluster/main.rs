//! Members of one cluster in this process: real controllers, sockets on loopback, directories on disk.

#![allow(clippy::unwrap_used)] // in helpers of tests too: a panic is the test's failure

#[path = "../support/agent.rs"]
mod agent;
mod agents;
mod api;
mod harness;
mod hostile;
mod members;
