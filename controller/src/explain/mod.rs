//! What happens to packets, in the words of those who asked for networks and rules.
//!
//! # Contract
//! - [`object`]: a row that a flow was made for, as the object that users know.

pub mod object;
