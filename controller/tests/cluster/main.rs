//! Members of one cluster in this process: real controllers, sockets on loopback, directories on disk.

#![allow(clippy::unwrap_used)] // in helpers of tests too: a panic is the test's failure

mod harness;
mod members;
