//! What hypervisors learn: MACs, neighbours, groups, routes.

use imbl::{OrdMap, OrdSet};

use super::{Chassis, DatapathBinding, PortBinding};
use crate::{
    column::{Strong, Text, Weak},
    row::Scope,
    table,
};

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

table! {
    /// A neighbour's MAC that a router port learned.
    pub struct MacBinding = Southbound "MAC_Binding" [root] {
        /// Name of the router port.
        logical_port: Text,
        /// The neighbour's IPv4 or IPv6 address.
        ip: Text,
        /// The neighbour's MAC.
        mac: Text,
        /// Last learned or used, in milliseconds since the epoch.
        timestamp: i64,
        /// The router.
        datapath: Strong<DatapathBinding>,
    }
    indexes [["logical_port", "ip"]]
    scopes [Scope::Of("datapath")]
}

table! {
    /// A neighbour's MAC that is given.
    pub struct StaticMacBinding = Southbound "Static_MAC_Binding" [root] {
        /// Name of the router port.
        logical_port: Text,
        /// The neighbour's IPv4 or IPv6 address.
        ip: Text,
        /// The neighbour's MAC.
        mac: Text,
        /// Whether it also wins over a MAC that was learned.
        override_dynamic_mac: bool,
        /// The router.
        datapath: Strong<DatapathBinding>,
    }
    indexes [["logical_port", "ip"]]
    scopes [Scope::Of("datapath")]
}

table! {
    /// Ports of one chassis that joined a multicast group.
    pub struct IgmpGroup = Southbound "IGMP_Group" [root] {
        /// The group.
        address: Text,
        /// The switch.
        datapath: Option<Weak<DatapathBinding>>,
        /// The chassis.
        chassis: Option<Weak<Chassis>>,
        /// Its name.
        chassis_name: Text,
        /// The ports.
        ports: OrdSet<Weak<PortBinding>>,
        /// Version of IGMP or MLD.
        protocol: Text,
    }
    indexes [["address", "datapath", "chassis"]]
}

table! {
    /// Settings of a switch's multicast snooping.
    pub struct IpMulticast = Southbound "IP_Multicast" [root] {
        /// The switch.
        datapath: Weak<DatapathBinding>,
        /// Whether groups are learned.
        enabled: Option<bool>,
        /// Whether queries are sent.
        querier: Option<bool>,
        /// Source MAC of queries.
        eth_src: Text,
        /// Source address of IGMP queries.
        ip4_src: Text,
        /// Source address of MLD queries.
        ip6_src: Text,
        /// Groups learned at most.
        table_size: Option<i64>,
        /// Seconds after which a group is forgotten.
        idle_timeout: Option<i64>,
        /// Seconds between queries.
        query_interval: Option<i64>,
        /// Changes flush what was learned.
        seq_no: i64,
        /// Seconds for answers to a query.
        query_max_resp: Option<i64>,
    }
    indexes [["datapath"]]
}

table! {
    /// A route that a chassis learned from its host.
    pub struct LearnedRoute = Southbound "Learned_Route" [root] {
        /// The router.
        datapath: Strong<DatapathBinding>,
        /// Port to leave by.
        logical_port: Strong<PortBinding>,
        /// Destination.
        ip_prefix: Text,
        /// Next hop.
        nexthop: Text,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["datapath", "logical_port", "ip_prefix", "nexthop"]]
}

table! {
    /// A route that chassis announce.
    pub struct AdvertisedRoute = Southbound "Advertised_Route" [root] {
        /// The router.
        datapath: Strong<DatapathBinding>,
        /// Port that the route belongs to.
        logical_port: Strong<PortBinding>,
        /// Destination.
        ip_prefix: Text,
        /// Port whose chassis announces it with preference.
        tracked_port: Option<Strong<PortBinding>>,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["datapath", "logical_port", "ip_prefix", "tracked_port"]]
}

table! {
    /// A MAC and address that chassis announce.
    pub struct AdvertisedMacBinding = Southbound "Advertised_MAC_Binding" [root] {
        /// The switch.
        datapath: Strong<DatapathBinding>,
        /// The port.
        logical_port: Strong<PortBinding>,
        /// IP address.
        ip: Text,
        /// MAC.
        mac: Text,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["datapath", "logical_port", "ip", "mac"]]
}

table! {
    /// A next hop of an ECMP route with symmetric replies.
    pub struct EcmpNexthop = Southbound "ECMP_Nexthop" [root] {
        /// The next hop.
        nexthop: Text,
        /// Port to leave by.
        port: Strong<PortBinding>,
        /// The router.
        datapath: Strong<DatapathBinding>,
        /// MAC of the next hop.
        mac: Text,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["nexthop", "port"]]
}
