//! Logical switches and their ports, and where the ports are.

use imbl::{OrdMap, OrdSet};
use uuid::Uuid;

use super::{Chassis, Encap, GatewayChassis, HaChassisGroup, Mirror};
use crate::{
    column::{Strong, Text, Weak},
    row::Scope,
    table,
};

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
        /// `logical-switch` or `logical-router` with the northbound uuid, `name`, `name2` from OpenStack, settings.
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
        /// Chassis of which one serves the port, in the former form. Always empty.
        gateway_chassis: OrdSet<Strong<GatewayChassis>>,
        /// Chassis of which one serves an external port or a gateway.
        ha_chassis_group: Option<Strong<HaChassisGroup>>,
        /// Mirrors of which the port is the source.
        mirror_rules: OrdSet<Weak<Mirror>>,
        /// Target of a mirror to a logical port.
        mirror_port: Option<Text>,
        /// From the northbound port.
        external_ids: OrdMap<Text, Text> => |c| c.central(),
        /// The only chassis that may hold it.
        requested_chassis: Option<Weak<Chassis>>,
        /// Further chassis that may hold it.
        requested_additional_chassis: OrdSet<Weak<Chassis>>,
    }
    indexes [["datapath", "tunnel_key"], ["logical_port"]]
    scopes [Scope::Of("datapath")]
}
