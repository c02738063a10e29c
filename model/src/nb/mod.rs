//! `OVN_Northbound` as OVN's clients know it, schema 7.19.0 (ovn-nb(5)).
//!
//! The comments say what a column means to the client that writes or reads it. They are no claim that the
//! data path acts on every column: rows of all tables are kept, checked and served alike.
//!
//! # Invariants
//! - Names, types, enumerations, ranges and indexes are those of the real schema; a test compares them
//!   with the schema file of an installed OVN.

/// Version of the schema.
pub const VERSION: &str = "7.19.0";

mod balance;
mod chassis;
mod dhcp;
mod global;
mod nat;
mod policy;
mod router;
mod sample;
mod service;
mod switch;

pub use balance::{LoadBalancer, LoadBalancerGroup, LoadBalancerHealthCheck};
pub use chassis::{Bfd, ChassisTemplateVar, GatewayChassis, HaChassis, HaChassisGroup};
pub use dhcp::{DhcpOptions, DhcpRelay, Dns};
pub use global::{Connection, NbGlobal, Ssl};
pub use nat::Nat;
pub use policy::{Acl, AddressSet, Copp, Meter, MeterBand, PortGroup, Qos};
pub use router::{
    LogicalRouter, LogicalRouterPolicy, LogicalRouterPort, LogicalRouterStaticRoute, StaticMacBinding,
};
pub use sample::{Sample, SampleCollector, SamplingApp};
pub use service::{Mirror, MirrorRule, NetworkFunction, NetworkFunctionGroup, NetworkFunctionHealthCheck};
pub use switch::{ForwardingGroup, LogicalSwitch, LogicalSwitchPort, LogicalSwitchPortHealthCheck};
