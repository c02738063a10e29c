//! What happens to packets, in the words of those who asked for networks and rules.
//!
//! # Contract
//! - [`object`]: a row that a flow was made for, as the object that users know.
//! - [`Question`]: a packet between two ends ([`end`]), traced over the hypervisors on its way ([`hop`]): what each switch's
//!   tables do with it, told step by step ([`steps`]), judged ([`verdict`]), and what to change ([`advice`]).
//! - [`sources`]: who may reach a port, by the rules as rows say them ([`rules`]).
//!
//! # Invariants
//! - Nothing is written and no packet is sent.
//! - A trace tells what switches say; what the rows say is told as such, with what that leaves out.

mod advice;
mod end;
mod hop;
pub mod object;
mod packet;
mod reach;
mod rules;
mod steps;
mod trace;
mod verdict;

pub(crate) use reach::list as sources;
pub(crate) use trace::Question;
