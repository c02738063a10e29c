//! The host: what its switch database says, and what the agent keeps in it.
//!
//! # Contract
//! - [`Config`] reads settings, [`Observed`] reads what is there, [`plan`] says what to change: pure functions of the
//!   replica, so that whatever was lost between is found again by looking.

mod config;
mod mirror;
pub mod mtu;
mod observe;
mod patch;
pub mod path;
mod plan;
mod queue;

pub use config::{Config, ConfigError};
pub use mirror::{MirrorPort, MirrorRow};
pub use observe::{Bridge, Observed, PatchEnd, Plugged, Session, TunnelPort, request};
pub(crate) use plan::CONFIGURATION;
pub use plan::{SLOW_INTERVAL, Wanted, Watch, plan};
pub use queue::{Egress, QosRow, QueueRow};
