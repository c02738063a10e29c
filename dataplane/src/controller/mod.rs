//! The stream to the controllers: rows in; facts, interfaces, learned MACs and applied revisions out.
//!
//! # Contract
//! - [`Session`] is the protocol, without sockets; [`net`] carries its messages.

pub mod net;
mod session;

pub use session::{Input, Output, RowsUpdate, Session, StreamError};
