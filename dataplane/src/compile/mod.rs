//! The compiler: from rows and host facts to the desired flow table, incrementally.
//!
//! Start at [`Compiler::apply`]; to add a stage, copy a small one of [`stage`] and name it in `STAGES`.
//!
//! # Contract
//! - In: batches of rows of any table, those of `Host` (this hypervisor's facts) among them.
//! - Out: net differences of flows and meters, and the set of tunnels that are needed.
//! - Refuses to know about connections, bundles, files, clocks and what the switch holds.
//!
//! # Invariants
//! - The table is a pure function of the rows: [`Compiler::table`] equals [`compile_full`] after every batch, whatever
//!   batches led there. Numbers (tunnel and port keys, OpenFlow ports, meters) are inputs.
//! - Dangling references and values that make no sense have no flows; they never panic and never open anything.

mod class;
pub mod derive;
mod desired;
mod engine;
pub(crate) mod expression;
mod flow;
mod full;
mod index;
pub(crate) mod logical;
pub(crate) mod meter;
mod outside;
mod owner;
pub mod punt;
pub mod register;
mod sink;
pub mod stage;
pub mod table;
#[cfg(test)]
mod testing;
mod view;

pub use class::{ACL, Class, NO_FLOW, rule_cookie};
pub use engine::{Compiler, Counters, Drift, RowUpdate};
pub use expression::CONJUNCTIONS;
pub use flow::{DesiredFlow, FlowDelta, FlowKey, FlowValue, GroupSpec, MeterSpec, MeterUnit};
pub use full::{FullTable, compile_full};
pub use index::{By, INDEXES, Index};
pub use outside::{MirrorWay, WantedMirror, WantedPatch, WantedQueue, WantedTunnel};
pub use owner::{Dep, Fact, Owner, Owners, Relation};
pub use sink::Sink;
pub use stage::{
    alike,
    filter::{LONGEST, said},
    is_held, row_of, stage_of,
};
pub use view::View;
