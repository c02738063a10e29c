//! The replicated store and everything northbound of the agents.

pub mod store;
