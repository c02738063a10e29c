//! Between the members of one cluster: consensus' messages, and requests on their way to the leader.
//!
//! # Contract
//! - [`Outbox`] carries what consensus sends; it never waits, and drops what a slow or absent member does not take.
//! - [`Leader`] carries requests to whoever leads, in the order in which they were made, and brings the answers back
//!   once this member has applied what they rest on.
//!   What only a certain member can do is asked of it directly, once.
//! - [`Members`] says where the others stand and how far the agents are that they serve.
//! - Both ends of a call are named and checked before anything of it is read.
//!
//! # Invariants
//! - A request is carried out at most once: it is sent again only while it is certain that nothing was done.
//! - Whatever another member sends is bounded, and refused and counted if it is wrong; it never ends the process.
//! - [`net`] is the only place that makes a connection or a listener: there mutual TLS will be.

mod lane;
mod leader;
mod link;
mod members;
mod net;
mod server;

pub use leader::{Answer, Elsewhere, ForwardError, Handler, Kind, Leader};
pub use link::{Outbox, outbox};
pub use members::{Members, Standing};
pub use net::listen;
pub use server::{run, service};
