//! The agents' side: one stream per hypervisor, rows out, facts and acknowledgements in.
//!
//! # Contract
//! - A committed change goes from the replica's thread straight into the queues of the agents it concerns, encoded
//!   once; nothing polls.
//! - What agents report becomes transactions at the leader, whichever member has the stream; what they acknowledge
//!   stays in memory, is told to the other members in batches, and is written as derived columns by the leader.
//!
//! # Invariants
//! - Once an agent applied revision `r`, its rows are the projection of the state at `r` onto its scopes.
//! - Nothing queued for an agent is unbounded: one that falls behind resumes from history or gets a snapshot.
//! - What agents are asked is asked over the same stream, and never waits for it or for them without an end.
//! - `Port_Binding.up` never goes false, and `Chassis_Private.nb_cfg` never back, for lack of an acknowledgement.

pub mod aging;
mod calls;
mod derive;
mod hub;
mod input;
mod limits;
mod neighbours;
mod pending;
mod queries;
mod referring;
mod registry;
mod report;
mod service;
mod session;

pub use calls::AgentCalls;
pub use derive::derive;
pub use hub::{Attached, Hub, Push};
pub use input::{Claimed, Facts, InputError, Interface, Learned, Neighbour};
pub use limits::{
    LEARNED_PER_NETWORK_MAX, LEARNED_PER_PORT_MAX, LEARNED_PER_SECOND_MAX, NEIGHBOURS_PER_PORT_MAX,
};
pub use queries::{AskError, Asked, Queries};
pub(crate) use registry::now_ms;
pub use registry::{AgentRegistry, AgentStatus, Registered};
pub use report::{Report, register, store_reports};
pub(crate) use report::{forget, unplug};
pub use service::Agents;
