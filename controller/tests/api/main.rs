//! The API over a real server in this process: gRPC and JSON over HTTP.

#![allow(clippy::unwrap_used)] // in helpers of tests too: a panic is the test's failure

#[allow(dead_code)] // other tests use the rest
#[path = "../support/agent.rs"]
mod agent;
mod counters;
mod database;
mod door;
mod explain;
mod input;
mod objects;
mod routers;
mod security;
mod server;
mod watches;
