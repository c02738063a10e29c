//! Hypervisors, their tunnel endpoints and interfaces, and groups of them.

use imbl::{OrdMap, OrdSet};

use crate::{
    column::{Strong, Text, Weak},
    row::Scope,
    table,
};

table! {
    /// A hypervisor, as its agent describes it.
    pub struct Chassis = Southbound "Chassis" [root] {
        /// external_ids:system-id of its Open vSwitch.
        name: Text,
        /// Host name; `requested-chassis` may give it instead of the name.
        hostname: Text,
        /// Tunnel endpoints, of either address family.
        encaps: OrdSet<Strong<Encap>> => |c| c.with(|t| t.at_least(1)),
        /// Of VTEP gateways; unused here.
        vtep_logical_switches: OrdSet<Text>,
        /// Kept by `Chassis_Private`; unused here.
        nb_cfg: i64,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
        /// Facts: bridge mappings, datapath type, MTU of the underlay, cms options.
        other_config: OrdMap<Text, Text>,
        /// Zones; tunnels are made within a common one.
        transport_zones: OrdSet<Text>,
    }
    indexes [["name"]]
    scopes [
        Scope::Own,
        Scope::Referrers { table: "Port_Binding", column: "chassis" },
        Scope::Referrers { table: "Port_Binding", column: "additional_chassis" },
        Scope::Referrers { table: "HA_Chassis", column: "chassis" },
    ]
}

table! {
    /// What only the centre needs to know of a chassis.
    pub struct ChassisPrivate = Southbound "Chassis_Private" [root] {
        /// The chassis' name.
        name: Text,
        /// The chassis, while it is registered.
        chassis: Option<Weak<Chassis>>,
        /// The highest `NB_Global.nb_cfg` that is in its switch.
        nb_cfg: i64,
        /// When it got there, in milliseconds since the epoch.
        nb_cfg_timestamp: i64,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["name"]]
}

table! {
    /// A tunnel endpoint of a chassis.
    pub struct Encap = Southbound "Encap" {
        /// Tunnel protocol.
        r#type: Text => |c| c.with(|t| t.one_of(&["geneve", "vxlan"])),
        /// `csum`, `dst_port`, `is_default`.
        options: OrdMap<Text, Text>,
        /// IPv4 or IPv6 address.
        ip: Text,
        /// Name of the chassis.
        chassis_name: Text,
    }
    indexes [["type", "ip"]]
    scopes [Scope::Referrers { table: "Chassis", column: "encaps" }]
}

table! {
    /// An interface with an iface-id that a chassis' switch has. Not a table of OVN.
    pub struct ChassisInterface = Southbound "Chassis_Interface" [root] {
        /// The chassis; the row goes with it.
        chassis: Strong<Chassis>,
        /// external_ids:iface-id.
        iface_id: Text,
        /// external_ids:iface-id-ver, or empty.
        iface_id_ver: Text,
        /// The agent's count of appearances; a restated interface keeps it.
        generation: i64,
        /// Order of appearance over all chassis, given by the store: the latest claim holds the port.
        claim: i64,
        /// When the claim was made, in milliseconds since the epoch.
        claimed_at: i64,
    }
    indexes [["iface_id", "chassis"]]
}

table! {
    /// A member of a group of chassis.
    pub struct HaChassis = Southbound "HA_Chassis" {
        /// The chassis, while it is registered.
        chassis: Option<Weak<Chassis>>,
        /// The highest that is registered is active.
        priority: i64 => |c| c.with(|t| t.range(0, 32767)),
        /// `chassis-name`, also while none of that name is registered.
        external_ids: OrdMap<Text, Text>,
    }
    scopes [Scope::Referrers { table: "HA_Chassis_Group", column: "ha_chassis" }]
}

table! {
    /// Chassis of which one at a time serves what refers to the group.
    pub struct HaChassisGroup = Southbound "HA_Chassis_Group" [root] {
        /// Name of the northbound group.
        name: Text,
        /// The members.
        ha_chassis: OrdSet<Strong<HaChassis>>,
        /// Chassis that must know which member is active: their agents hold a router that the group serves.
        ref_chassis: OrdSet<Weak<Chassis>>,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["name"]]
    scopes [Scope::Referrers { table: "Port_Binding", column: "ha_chassis_group" }]
}

table! {
    /// What `HA_Chassis` has replaced. Always empty.
    pub struct GatewayChassis = Southbound "Gateway_Chassis" {
        /// Unique name.
        name: Text,
        /// The chassis, while it is registered.
        chassis: Option<Weak<Chassis>>,
        /// The highest that is alive is the gateway.
        priority: i64 => |c| c.with(|t| t.range(0, 32767)),
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
        /// Reserved; ovn-sb(5) defines no key.
        options: OrdMap<Text, Text>,
    }
    indexes [["name"]]
}
