//! Logical switches, their ports, and groups of ports that share an address.

use imbl::{OrdMap, OrdSet};

use super::{Acl, Copp, DhcpOptions, Dns, HaChassisGroup, LoadBalancer, LoadBalancerGroup, Mirror, Qos};
use crate::{
    column::{Strong, Text, Weak},
    row::Scope,
    table,
};

table! {
    /// A layer-2 broadcast domain; bridged to a physical network if it has a port of type `localnet`.
    pub struct LogicalSwitch = Northbound "Logical_Switch" [root] {
        /// Name, for people; need not be unique.
        name: Text,
        /// Its ports. A port is in one switch only.
        ports: OrdSet<Strong<LogicalSwitchPort>> => |c| c.central(),
        /// Filters for all its traffic, besides those of port groups.
        acls: OrdSet<Strong<Acl>>,
        /// Rules that mark or limit its traffic.
        qos_rules: OrdSet<Strong<Qos>>,
        /// Balancers for connections that its ports open.
        load_balancer: OrdSet<Weak<LoadBalancer>>,
        /// Groups whose balancers are added to those above.
        load_balancer_group: OrdSet<Strong<LoadBalancerGroup>>,
        /// Names that are answered within the switch.
        dns_records: OrdSet<Weak<Dns>>,
        /// Limits for packets that its ports make the agent handle; none means no limit.
        copp: Option<Weak<Copp>>,
        /// Settings, as `subnet`, `exclude_ips`, `ipv6_prefix` for dynamic addresses, `mcast_snoop`,
        /// `vlan-passthru`; keys and defaults are in ovn-nb(5), Logical_Switch.
        other_config: OrdMap<Text, Text>,
        /// Free for clients; `neutron:network_name` serves as a second name.
        external_ids: OrdMap<Text, Text> => |c| c.central(),
        /// Virtual addresses behind which several of its ports stand.
        forwarding_groups: OrdSet<Strong<ForwardingGroup>>,
    }
    scopes [Scope::Own]
}

table! {
    /// A place to attach something to a logical switch.
    pub struct LogicalSwitchPort = Northbound "Logical_Switch_Port" {
        /// Unique name, also among router ports. An interface of a chassis carries it as
        /// external_ids:iface-id.
        name: Text,
        /// What is attached: an interface of a guest when empty, else `router`, `switch`, `localnet`,
        /// `localport`, `l2gateway`, `vtep`, `external`, `virtual` or `remote`.
        r#type: Text,
        /// Settings, most of them for one type: `router-port`, `network_name`, `requested-chassis`,
        /// `virtual-ip`, … (ovn-nb(5), Logical_Switch_Port Options).
        options: OrdMap<Text, Text>,
        /// Name of the port whose interface carries this one's frames, told apart by VLAN tag. Empty for
        /// a port with an interface of its own.
        parent_name: Option<Text>,
        /// VLAN wanted, for a nested port or one to a physical network; 0 asks for any that is free
        /// under the parent.
        tag_request: Option<i64> => |c| c.with(|t| t.range(0, 4095)),
        /// VLAN in use: allocated or copied from `tag_request`. Untagged when empty.
        tag: Option<i64> => |c| c.with(|t| t.range(1, 4095)),
        /// Each one `MAC [IP...]`, `unknown` (gets frames for MACs that no port has), `router` (those of
        /// the router port), or at most once `dynamic [IP...]` or `MAC dynamic`.
        addresses: OrdSet<Text> => |c| c.central(),
        /// What became of `dynamic`, as `MAC [IP...]`; written by the centre.
        dynamic_addresses: Option<Text> => |c| c.central(),
        /// Each one `MAC [IP[/length]...]`, perhaps after `VRRPv3`: addresses the port may send from and
        /// receive at, besides multicast. All are permitted when empty.
        port_security: OrdSet<Text> => |c| c.central(),
        /// Name of the other port of a pair of type `switch`; empty otherwise.
        peer: Option<Text>,
        /// Whether traffic can flow: the port is on a chassis with its flows in place; always so for
        /// type `router`. Empty means not yet; written by the centre.
        up: Option<bool> => |c| c.central(),
        /// Administrative state; false drops all its traffic. Enabled when empty.
        enabled: Option<bool>,
        /// What DHCPv4 requests of the port are answered with; not answered when empty.
        dhcpv4_options: Option<Weak<DhcpOptions>>,
        /// What DHCPv6 requests of the port are answered with; not answered when empty.
        dhcpv6_options: Option<Weak<DhcpOptions>>,
        /// Mirrors of which this port is the source.
        mirror_rules: OrdSet<Weak<Mirror>>,
        /// Chassis of which one serves a port of type `external`; ignored for others.
        ha_chassis_group: Option<Strong<HaChassisGroup>>,
        /// Probes of what is attached.
        health_checks: OrdSet<Strong<LogicalSwitchPortHealthCheck>>,
        /// Free for clients, copied to the port's binding; `neutron:port_name` serves as a second name.
        external_ids: OrdMap<Text, Text> => |c| c.central(),
    }
    indexes [["name"]]
    scopes [Scope::Referrers { table: "Logical_Switch", column: "ports" }]
}

table! {
    /// A probe of an address at a switch port, and its result.
    pub struct LogicalSwitchPortHealthCheck = Northbound "Logical_Switch_Port_Health_Check" {
        /// Kind of probe: an attempt to connect, a datagram or an echo request.
        protocol: Text => |c| c.with(|t| t.one_of(&["tcp", "udp", "icmp"])),
        /// IP address that probes come from.
        src_ip: Text,
        /// Destination port of `tcp` and `udp`, which need one; 0 for `icmp`.
        port: i64 => |c| c.with(|t| t.range(0, 65535)),
        /// IP address that is probed.
        address: Text,
        /// The last result; empty before the first. Written by the centre.
        status: Option<Text> => |c| c.with(|t| t.one_of(&["online", "offline", "error"])),
        /// `interval` (default 5) and `timeout` (3) in seconds; `success_count` and `failure_count`
        /// (1 each), the results that change the status.
        options: OrdMap<Text, Text>,
    }
}

table! {
    /// Ports that share the traffic for one virtual address.
    pub struct ForwardingGroup = Northbound "Forwarding_Group" {
        /// Name, for people.
        name: Text,
        /// The virtual IP address. ARP requests for it are answered with `vmac`.
        vip: Text,
        /// The virtual MAC. Frames to it are hashed over the ports.
        vmac: Text,
        /// Whether a port is passed over while the tunnel to its chassis is down.
        liveness: bool,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
        /// Names of the ports, in the same switch.
        child_port: OrdSet<Text> => |c| c.with(|t| t.at_least(1)),
    }
}
