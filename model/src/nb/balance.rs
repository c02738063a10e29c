//! Load balancers, and the checks that keep dead backends out of them.

use imbl::{OrdMap, OrdSet};

use crate::{
    column::{Strong, Text, Weak},
    table,
};

table! {
    /// Virtual addresses and the backends that connections to them go to.
    pub struct LoadBalancer = Northbound "Load_Balancer" [root] {
        /// Name, for people; need not be unique.
        name: Text,
        /// From `VIP[:port]` to `IP[:port]` of the backends, with commas between and of the VIP's family;
        /// `[IPv6]:port` in brackets. A VIP without a port takes any protocol.
        vips: OrdMap<Text, Text>,
        /// Of VIPs with a port; `tcp` when empty.
        protocol: Option<Text> => |c| c.with(|t| t.one_of(&["tcp", "udp", "sctp"])),
        /// Checks, at most one for a VIP. Backends of a VIP without one count as healthy.
        health_check: OrdSet<Strong<LoadBalancerHealthCheck>>,
        /// From a backend's IP to `port:source`: the switch port to probe and the address to probe from,
        /// in the backend's subnet; IPv6 in brackets, `:zone` at the end for another availability zone.
        ip_port_mappings: OrdMap<Text, Text>,
        /// Fields whose hash chooses the backend; the switch chooses the fields when empty.
        selection_fields: OrdSet<Text> => |c| c.with(|t| t.one_of(&["eth_src", "eth_dst", "ip_src", "ip_dst", "ipv6_src", "ipv6_dst", "tp_src", "tp_dst"])),
        /// `reject`, `affinity_timeout` (seconds), `hairpin_snat_ip`, `skip_snat`, `neighbor_responder`,
        /// `distributed`, `template`, …; ovn-nb(5), Load_Balancer.
        options: OrdMap<Text, Text>,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
}

table! {
    /// Load balancers that are attached to switches and routers together.
    pub struct LoadBalancerGroup = Northbound "Load_Balancer_Group" [root] {
        /// Unique name, for people.
        name: Text,
        /// The members.
        load_balancer: OrdSet<Weak<LoadBalancer>>,
    }
    indexes [["name"]]
}

table! {
    /// A check of the backends of one VIP. Those that fail it get no new connections.
    pub struct LoadBalancerHealthCheck = Northbound "Load_Balancer_Health_Check" {
        /// The VIP, written as in `Load_Balancer.vips`.
        vip: Text,
        /// `interval` (default 5) and `timeout` (3) in seconds; `success_count` and `failure_count`
        /// (1 each), the results that change a backend's state.
        options: OrdMap<Text, Text>,
        /// Free for clients.
        external_ids: OrdMap<Text, Text>,
    }
}
