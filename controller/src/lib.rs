//! The replicated store and everything northbound of the agents.

pub mod agents;
pub mod config;
pub mod controller;
mod counters;
pub mod explain;
pub mod ipam;
pub mod lower;
pub mod metrics;
pub mod ovsdb;
pub mod peer;
pub mod replica;
pub mod serve;
pub mod service;
pub mod store;
pub mod threads;
