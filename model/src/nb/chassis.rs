//! Which chassis does a job, how next hops are watched, and what differs by chassis.

use imbl::{OrdMap, OrdSet};

use crate::{
    column::{Strong, Text},
    row::{Database, Scope},
    table,
};

table! {
    /// A chassis that may be the gateway of the router port that refers to it.
    pub struct GatewayChassis = Northbound "Gateway_Chassis" {
        /// Unique name, by custom the port's, `_` and the chassis'.
        name: Text,
        /// Name of the chassis (`Chassis.name`).
        chassis_name: Text,
        /// The highest that is alive is the gateway.
        priority: i64 => |c| c.with(|t| t.range(0, 32767)),
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
        /// Reserved; ovn-nb(5) defines no key.
        options: OrdMap<Text, Text>,
    }
    indexes [["name"]]
}

table! {
    /// A member of a group of chassis.
    pub struct HaChassis = Northbound "HA_Chassis" {
        /// Name of the chassis (`Chassis.name`).
        chassis_name: Text,
        /// The highest that is alive is active.
        priority: i64 => |c| c.with(|t| t.range(0, 32767)),
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
}

table! {
    /// Chassis of which one at a time serves a gateway port or external ports.
    pub struct HaChassisGroup = Northbound "HA_Chassis_Group" [root] {
        /// Unique name.
        name: Text,
        /// The members. When the active one fails the next by priority takes over.
        ha_chassis: OrdSet<Strong<HaChassis>>,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["name"]]
}

table! {
    /// A BFD session (RFC 5880) from a router port to a next hop; not those of tunnels.
    pub struct Bfd = Northbound "BFD" [root] {
        /// Name of the router port.
        logical_port: Text,
        /// IP address of the peer.
        dst_ip: Text,
        /// Shortest interval at which to send, in milliseconds; 1000 when empty.
        min_tx: Option<i64> => |c| c.with(|t| t.range(1, i64::MAX)),
        /// Shortest interval at which to be sent to, in milliseconds; 0 asks the peer for silence, 1000
        /// when empty.
        min_rx: Option<i64>,
        /// Intervals without a packet after which the peer is down; 5 when empty.
        detect_mult: Option<i64> => |c| c.with(|t| t.range(1, i64::MAX)),
        /// State of the session; empty until there is one. Written by the centre.
        status: Option<Text> => |c| c.with(|t| t.one_of(&["down", "init", "up", "admin_down"])),
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
        /// Reserved; ovn-nb(5) defines no key.
        options: OrdMap<Text, Text>,
    }
    indexes [["logical_port", "dst_ip"]]
    scopes [Scope::Key { column: "logical_port", table: "Logical_Router_Port", key: "name" }]
}

table! {
    /// Values of template variables on one chassis, for `^NAME` in matches and load balancers.
    pub struct ChassisTemplateVar = Northbound "Chassis_Template_Var" [root] {
        /// Name of the chassis (`Chassis.name`).
        chassis: Text,
        /// From variable, without `^`, to value. A variable without one is left as it is written.
        variables: OrdMap<Text, Text>,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["chassis"]]
    scopes [Scope::Named { column: "chassis", database: Database::Southbound, table: "Chassis", by: "name", sigil: None }]
}
