//! The switch: from a desired table to what ovs-vswitchd holds, over OpenFlow 1.3 with bundles.
//!
//! # Contract
//! - [`Driver`] is the protocol and the bookkeeping, without sockets or clock; [`net`] carries its bytes.
//! - [`control`] asks its control socket what OpenFlow has no question for; [`limits`] tells it what OpenFlow has no words for.
//!
//! # Invariants
//! - What is in the switch follows what is desired whatever fails between; see [`Driver`].

mod batch;
mod compare;
pub mod control;
mod driver;
pub mod limits;
pub mod net;
mod readings;
pub mod tracked;

pub use driver::{Abilities, Driver, Failure, Input, Limits, Output, Stats, SwitchError};
pub use readings::Count;
pub use tracked::Tracked;
