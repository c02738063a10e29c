//! Addresses and keys: what a subnet may give, what a pool has left, and MACs.
//!
//! # Contract
//! - Pure: a pool is a row ([`Pool`](quantumnet_model::intent::Pool)) and changes only by the functions
//!   of [`pool`], given the time. Who asks, and where the row is kept, is none of its business.
//! - Nothing enumerates addresses: a /1 of IPv6 costs what a /29 of IPv4 does.
//!
//! # Invariants
//! - A key is in exactly one of three states: free, taken, resting. `take` and `take_first` give only
//!   free ones, so that no key is ever given twice; `release` begins its rest of [`pool::REST_MS`].

pub mod layout;
pub mod mac;
pub mod northbound;
pub mod pool;
pub mod range;

pub use layout::{Layout, LayoutError};
pub use pool::{PoolError, REST_MS};
pub use range::{Range, key_of};
