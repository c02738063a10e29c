//! `OVN_Southbound`: hypervisors, bindings, what was learned, as OVN's clients know it, schema 21.11.0.
//!
//! Tables and columns have OVN's names and types wherever OVN has them (ovn-sb(5)). `Chassis_Interface`
//! is ours: a binding is not claimed by an agent but *derived*, in the transaction that changes one of
//! its inputs, from the port, its `requested-chassis` and the interfaces that the agents report.
//!
//! Every table and column of OVN is there, so that clients that check the schema connect; those that stay empty say
//! so.
//!
//! # Invariants
//! - A `Datapath_Binding` has the uuid of its `Logical_Switch`, a `Port_Binding` that of its
//!   `Logical_Switch_Port`: the join between the databases is the uuid.
//! - `Port_Binding.chassis` is the chassis of an eligible `Chassis_Interface` with the highest `claim`.

/// Version of the schema that clients are told.
pub const VERSION: &str = "21.11.0";

mod binding;
mod chassis;
mod flow;
mod global;
mod learned;
mod service;

pub use binding::{DatapathBinding, PortBinding};
pub use chassis::{
    Chassis, ChassisInterface, ChassisPrivate, Encap, GatewayChassis, HaChassis, HaChassisGroup,
};
pub use flow::{
    AclId, AddressSet, ChassisTemplateVar, LoadBalancer, LogicalDpGroup, LogicalFlow, Meter, MeterBand,
    Mirror, MulticastGroup, PortGroup,
};
pub use global::{Connection, RbacPermission, RbacRole, SbGlobal, Ssl};
pub use learned::{
    AdvertisedMacBinding, AdvertisedRoute, EcmpNexthop, Fdb, IgmpGroup, IpMulticast, LearnedRoute,
    MacBinding, StaticMacBinding,
};
pub use service::{Bfd, ControllerEvent, DhcpOptions, Dhcpv6Options, Dns, ServiceMonitor};
