//! Transactions on our store and on a real ovsdb-server with the same schema: the same results, errors and rows.

#![allow(clippy::unwrap_used)] // a test's helpers, like a test, fail by a panic

mod access;
mod errors;
mod generate;
mod operations;
mod pair;
mod property;
#[path = "../support/real_ovsdb.rs"]
mod real_ovsdb;
