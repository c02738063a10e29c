//! What of qnctl others use too: calls to a controller.

pub mod client;
