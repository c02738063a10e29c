//! The OVSDB server of a controller in this process, with the clients that Open vSwitch and OVN bring, with raw JSON,
//! and with clients that behave badly.

#![allow(clippy::unwrap_used)] // a test's helpers, like a test, fail by a panic

mod clients;
mod connections;
mod harness;
mod hostile;
mod methods;
mod monitors;
#[path = "../support/real_ovsdb.rs"]
mod real_ovsdb;
