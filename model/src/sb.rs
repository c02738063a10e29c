//! `OVN_Southbound`: hypervisors, bindings, what was learned. No logical flows.
//!
//! Tables and columns have OVN's names and types wherever OVN has them (ovn-sb(5)). `Chassis_Interface`
//! is ours: a binding is not claimed by an agent but *derived*, in the transaction that changes one of
//! its inputs, from the port, its `requested-chassis` and the interfaces that the agents report.
//!
//! # Invariants
//! - A `Datapath_Binding` has the uuid of its `Logical_Switch`, a `Port_Binding` that of its
//!   `Logical_Switch_Port`: the join between the databases is the uuid.
//! - `Port_Binding.chassis` is the chassis of an eligible `Chassis_Interface` with the highest `claim`.

use imbl::{OrdMap, OrdSet};
use uuid::Uuid;

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
    /// A logical switch or router.
    pub struct DatapathBinding = Southbound "Datapath_Binding" [root] {
        /// VNI of the Geneve header.
        tunnel_key: i64 => |c| c.with(|t| t.range(1, 16_777_215)),
        /// Unused here.
        load_balancers: OrdSet<Uuid>,
        /// What the row is for.
        r#type: Option<Text> => |c| c.with(|t| t.one_of(&["logical-switch", "logical-router"])),
        /// The northbound row.
        nb_uuid: Option<Uuid>,
        /// `logical-switch` or `logical-router` with the northbound uuid, `name`.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["tunnel_key"]]
    scopes [Scope::Own]
}

table! {
    /// A logical port, and where it is.
    pub struct PortBinding = Southbound "Port_Binding" [root] {
        /// Name of the northbound port.
        logical_port: Text,
        /// Type of the northbound port, or `patch`, `l3gateway`, `chassisredirect`.
        r#type: Text,
        /// From the northbound port, with what agents and the centre keep there.
        options: OrdMap<Text, Text>,
        /// The switch or router.
        datapath: Strong<DatapathBinding>,
        /// Key of the port, unique in its datapath.
        tunnel_key: i64 => |c| c.with(|t| t.range(1, 32_767)),
        /// Port that this one is nested in.
        parent_port: Option<Text>,
        /// VLAN of a nested or localnet port.
        tag: Option<i64> => |c| c.with(|t| t.range(1, 4_095)),
        /// Parent of a virtual port at present.
        virtual_parent: Option<Text>,
        /// The chassis that holds it.
        chassis: Option<Weak<Chassis>>,
        /// Further chassis during a live migration.
        additional_chassis: OrdSet<Weak<Chassis>>,
        /// The endpoint to reach it by; none means the chassis' default.
        encap: Option<Weak<Encap>>,
        /// Endpoints of the additional chassis.
        additional_encap: OrdSet<Weak<Encap>>,
        /// Addresses, as in the northbound port, dynamic ones filled in.
        mac: OrdSet<Text>,
        /// As in the northbound port.
        port_security: OrdSet<Text>,
        /// Addresses that a gateway announces.
        nat_addresses: OrdSet<Text>,
        /// The flows are in the switch of `chassis`.
        up: Option<bool>,
        /// From the northbound port.
        external_ids: OrdMap<Text, Text>,
        /// The only chassis that may hold it.
        requested_chassis: Option<Weak<Chassis>>,
        /// Further chassis that may hold it.
        requested_additional_chassis: OrdSet<Weak<Chassis>>,
    }
    indexes [["datapath", "tunnel_key"], ["logical_port"]]
    scopes [Scope::Of("datapath")]
}

table! {
    /// A MAC learned behind a port with unknown addresses.
    pub struct Fdb = Southbound "FDB" [root] {
        /// As `0a:00:00:00:00:01`.
        mac: Text,
        /// Key of the datapath.
        dp_key: i64 => |c| c.with(|t| t.range(1, 16_777_215)),
        /// Key of the port.
        port_key: i64 => |c| c.with(|t| t.range(1, 16_777_215)),
        /// Last learned, in milliseconds since the epoch.
        timestamp: i64,
    }
    indexes [["mac", "dp_key"]]
    scopes [Scope::Key { column: "dp_key", table: "Datapath_Binding", key: "tunnel_key" }]
}
