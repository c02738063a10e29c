//! Routers: their rows in the Southbound database, and what is told of those that can't be served.

#![allow(clippy::unwrap_used)] // a test's helpers, like a test, fail by a panic

mod conflicts;
mod gateways;
mod neighbours;
mod pairs;
mod store;
