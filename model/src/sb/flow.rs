//! What OVN compiles for its agents. Ours compile for themselves, so most of these tables stay empty; clients
//! that know OVN's schema expect them.

use imbl::{OrdMap, OrdSet};

use super::{DatapathBinding, PortBinding};
use crate::{
    column::{Strong, Text, Weak},
    row::{Database, Scope},
    table,
};

table! {
    /// A flow of a logical pipeline. Always empty.
    pub struct LogicalFlow = Southbound "Logical_Flow" [root] {
        /// The switch or router.
        logical_datapath: Option<Strong<DatapathBinding>>,
        /// Or several of them.
        logical_dp_group: Option<Strong<LogicalDpGroup>>,
        /// Which pipeline.
        pipeline: Text => |c| c.with(|t| t.one_of(&["ingress", "egress"])),
        /// Stage.
        table_id: i64 => |c| c.with(|t| t.range(0, 34)),
        /// Higher wins.
        priority: i64 => |c| c.with(|t| t.range(0, 65535)),
        /// Packets meant.
        r#match: Text,
        /// What is done to them.
        actions: Text,
        /// Tags of the centre.
        tags: OrdMap<Text, Text>,
        /// Limit for packets that it makes agents handle.
        controller_meter: Option<Text>,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
        /// For people.
        flow_desc: Option<Text>,
    }
}

table! {
    /// Datapaths that share flows. Always empty.
    pub struct LogicalDpGroup = Southbound "Logical_DP_Group" {
        /// The datapaths.
        datapaths: OrdSet<Weak<DatapathBinding>>,
    }
}

table! {
    /// Ports that receive copies of a packet. Always empty: agents derive the groups.
    pub struct MulticastGroup = Southbound "Multicast_Group" [root] {
        /// The switch or router.
        datapath: Strong<DatapathBinding>,
        /// Unique in its datapath.
        name: Text,
        /// Egress key of the group.
        tunnel_key: i64 => |c| c.with(|t| t.range(32768, 65535)),
        /// The ports.
        ports: OrdSet<Weak<PortBinding>>,
    }
    indexes [["datapath", "tunnel_key"], ["datapath", "name"]]
}

table! {
    /// Addresses that matches refer to as `$name`.
    pub struct AddressSet = Southbound "Address_Set" [root] {
        /// Unique name.
        name: Text,
        /// The addresses.
        addresses: OrdSet<Text>,
        /// Reserved for interconnection.
        options: OrdMap<Text, Text>,
    }
    indexes [["name"]]
    scopes [
        Scope::Named { column: "name", database: Database::Northbound, table: "ACL", by: "match", sigil: Some('$') },
        Scope::Named { column: "name", database: Database::Northbound, table: "Logical_Router_Policy", by: "match", sigil: Some('$') },
        Scope::Named { column: "name", database: Database::Northbound, table: "NAT", by: "match", sigil: Some('$') },
        Scope::Named { column: "name", database: Database::Northbound, table: "QoS", by: "match", sigil: Some('$') },
        Scope::Named { column: "name", database: Database::Northbound, table: "Mirror_Rule", by: "match", sigil: Some('$') },
    ]
}

table! {
    /// Ports that matches refer to as `@name`.
    pub struct PortGroup = Southbound "Port_Group" [root] {
        /// `<key of the datapath>_<name of the northbound group>`.
        name: Text,
        /// Names of the ports.
        ports: OrdSet<Text>,
    }
    indexes [["name"]]
}

table! {
    /// A limit that flows refer to.
    pub struct Meter = Southbound "Meter" [root] {
        /// Unique name.
        name: Text,
        /// What is counted.
        unit: Text => |c| c.with(|t| t.one_of(&["kbps", "pktps"])),
        /// The limits.
        bands: OrdSet<Strong<MeterBand>> => |c| c.with(|t| t.at_least(1)),
    }
    indexes [["name"]]
}

table! {
    /// A rate beyond which a meter acts.
    pub struct MeterBand = Southbound "Meter_Band" {
        /// What happens to packets beyond it.
        action: Text => |c| c.with(|t| t.one_of(&["drop"])),
        /// The rate.
        rate: i64 => |c| c.with(|t| t.range(1, 4294967295)),
        /// The burst.
        burst_size: i64 => |c| c.with(|t| t.range(0, 4294967295)),
    }
}

table! {
    /// Copies of the traffic of ports.
    pub struct Mirror = Southbound "Mirror" [root] {
        /// Unique name.
        name: Text,
        /// Which direction is copied.
        filter: Text => |c| c.with(|t| t.one_of(&["from-lport", "to-lport", "both"])),
        /// Where copies go.
        sink: Text,
        /// How they travel.
        r#type: Text => |c| c.with(|t| t.one_of(&["gre", "erspan", "local", "lport"])),
        /// Key of the tunnel.
        index: i64,
        /// From the northbound row.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["name"]]
}

table! {
    /// A load balancer, for the agents' hairpin flows.
    pub struct LoadBalancer = Southbound "Load_Balancer" [root] {
        /// Name of the northbound balancer.
        name: Text,
        /// Virtual addresses and their backends.
        vips: OrdMap<Text, Text>,
        /// Transport protocol.
        protocol: Option<Text> => |c| c.with(|t| t.one_of(&["tcp", "udp", "sctp"])),
        /// Datapaths it is on, in the oldest form.
        datapaths: OrdSet<Strong<DatapathBinding>>,
        /// In the older form.
        datapath_group: Option<Strong<LogicalDpGroup>>,
        /// Switches it is on.
        ls_datapath_group: Option<Strong<LogicalDpGroup>>,
        /// Routers it is on.
        lr_datapath_group: Option<Strong<LogicalDpGroup>>,
        /// Settings.
        options: OrdMap<Text, Text>,
        /// From the northbound row.
        external_ids: OrdMap<Text, Text>,
    }
}

table! {
    /// Values of template variables on one chassis.
    pub struct ChassisTemplateVar = Southbound "Chassis_Template_Var" [root] {
        /// Name of the chassis.
        chassis: Text,
        /// From variable to value.
        variables: OrdMap<Text, Text>,
    }
    indexes [["chassis"]]
}

table! {
    /// Number by which connections remember an ACL.
    pub struct AclId = Southbound "ACL_ID" [root] {
        /// The number.
        id: i64 => |c| c.with(|t| t.range(0, 32767)),
    }
}
