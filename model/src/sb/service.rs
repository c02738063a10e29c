//! What agents answer and watch for guests.

use imbl::{OrdMap, OrdSet};

use super::{Chassis, DatapathBinding};
use crate::{
    column::{Strong, Text, Weak},
    row::Scope,
    table,
};

table! {
    /// Names that are answered in some switches.
    pub struct Dns = Southbound "DNS" [root] {
        /// From name to addresses.
        records: OrdMap<Text, Text>,
        /// The switches.
        datapaths: OrdSet<Strong<DatapathBinding>> => |c| c.with(|t| t.at_least(1)),
        /// `ovn-owned`.
        options: OrdMap<Text, Text>,
        /// `dns_id` is the uuid of the northbound row.
        external_ids: OrdMap<Text, Text>,
    }
}

table! {
    /// A probe of a backend, a network function or a port, and its result.
    pub struct ServiceMonitor = Southbound "Service_Monitor" [root] {
        /// What it is for.
        r#type: Option<Text> => |c| c.with(|t| t.one_of(&["load-balancer", "network-function", "logical-switch-port"])),
        /// Address that is probed.
        ip: Text,
        /// Kind of probe.
        protocol: Option<Text> => |c| c.with(|t| t.one_of(&["tcp", "udp", "icmp"])),
        /// Port that is probed.
        port: i64 => |c| c.with(|t| t.range(0, 65535)),
        /// Logical port of the address.
        logical_port: Text,
        /// The other port of a network function.
        logical_input_port: Text,
        /// MAC that is probed.
        mac: Text,
        /// Source MAC of probes.
        src_mac: Text,
        /// Source address of probes.
        src_ip: Text,
        /// Chassis of the port.
        chassis_name: Text,
        /// The last result.
        status: Option<Text> => |c| c.with(|t| t.one_of(&["online", "offline", "error"])),
        /// Intervals and counts.
        options: OrdMap<Text, Text>,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
        /// Learned from another zone.
        ic_learned: bool,
        /// Probed by another zone.
        remote: bool,
    }
    indexes [["logical_port", "ip", "port", "protocol"]]
}

table! {
    /// A DHCPv4 option that agents can encode. Always empty: ours know them.
    pub struct DhcpOptions = Southbound "DHCP_Options" [root] {
        /// Its name.
        name: Text,
        /// Its code.
        code: i64 => |c| c.with(|t| t.range(0, 254)),
        /// Form of its value.
        r#type: Text => |c| c.with(|t| t.one_of(&[
            "bool", "uint8", "uint16", "uint32", "ipv4", "static_routes", "str", "host_id", "domains",
        ])),
    }
}

table! {
    /// A DHCPv6 option that agents can encode. Always empty: ours know them.
    pub struct Dhcpv6Options = Southbound "DHCPv6_Options" [root] {
        /// Its name.
        name: Text,
        /// Its code.
        code: i64 => |c| c.with(|t| t.range(0, 254)),
        /// Form of its value.
        r#type: Text => |c| c.with(|t| t.one_of(&["ipv6", "str", "mac", "domain"])),
    }
}

table! {
    /// Something that a client asked to be told of.
    pub struct ControllerEvent = Southbound "Controller_Event" [root] {
        /// What happened.
        event_type: Text => |c| c.with(|t| t.one_of(&["empty_lb_backends"])),
        /// Its details.
        event_info: OrdMap<Text, Text>,
        /// Where.
        chassis: Option<Weak<Chassis>>,
        /// Grows with each event.
        seq_num: i64,
    }
}

table! {
    /// A BFD session from a router port.
    pub struct Bfd = Southbound "BFD" [root] {
        /// UDP source port.
        src_port: i64 => |c| c.with(|t| t.range(49152, 65535)),
        /// Discriminator.
        disc: i64,
        /// Name of the router port.
        logical_port: Text,
        /// IP address of the peer.
        dst_ip: Text,
        /// Shortest interval at which to send, in milliseconds.
        min_tx: i64,
        /// Shortest interval at which to be sent to, in milliseconds.
        min_rx: i64,
        /// Intervals without a packet after which the peer is down.
        detect_mult: i64,
        /// State of the session.
        status: Text => |c| c.with(|t| t.one_of(&["down", "init", "up", "admin_down"])),
        /// Chassis that runs the session.
        chassis_name: Text,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
        /// Settings.
        options: OrdMap<Text, Text>,
    }
    indexes [["logical_port", "dst_ip", "src_port", "disc"]]
    scopes [Scope::Key { column: "logical_port", table: "Port_Binding", key: "logical_port" }]
}
