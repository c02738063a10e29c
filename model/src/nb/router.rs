//! Logical routers: ports, routes, policies and fixed neighbours.

use imbl::{OrdMap, OrdSet};

use super::{Bfd, Copp, DhcpRelay, GatewayChassis, HaChassisGroup, LoadBalancer, LoadBalancerGroup, Nat};
use crate::{
    column::{Strong, Text, Weak},
    row::Scope,
    table,
};

table! {
    /// A router. It works on every chassis, or on one alone if options:chassis says so.
    pub struct LogicalRouter = Northbound "Logical_Router" [root] {
        /// Name, for people; need not be unique.
        name: Text,
        /// Its ports. A port is in one router only.
        ports: OrdSet<Strong<LogicalRouterPort>> => |c| c.central(),
        /// Routes besides those to the networks of its ports.
        static_routes: OrdSet<Strong<LogicalRouterStaticRoute>>,
        /// Rules that may overrule the route of a packet.
        policies: OrdSet<Strong<LogicalRouterPolicy>>,
        /// Administrative state; false drops all its traffic. Enabled when empty.
        enabled: Option<bool>,
        /// Address translations; they need a router on one chassis or a port with a gateway.
        nat: OrdSet<Strong<Nat>>,
        /// Balancers for connections that reach it; limited as `nat` is.
        load_balancer: OrdSet<Weak<LoadBalancer>>,
        /// Groups whose balancers are added to those above.
        load_balancer_group: OrdSet<Strong<LoadBalancerGroup>>,
        /// Limits for packets that it makes the agent handle; none means no limit.
        copp: Option<Weak<Copp>>,
        /// Settings, as `chassis`, `lb_force_snat_ip`, `mac_binding_age_threshold`, `dynamic-routing`;
        /// keys and defaults are in ovn-nb(5), Logical_Router.
        options: OrdMap<Text, Text>,
        /// Free for clients; `neutron:router_name` serves as a second name.
        external_ids: OrdMap<Text, Text> => |c| c.central(),
    }
    scopes [Scope::Own]
}

table! {
    /// A port of a router, to a switch or to another router.
    pub struct LogicalRouterPort = Northbound "Logical_Router_Port" {
        /// Unique name, also among switch ports; the switch's port refers to it by options:router-port.
        name: Text,
        /// Chassis of which the highest by priority that is alive is the port's gateway. Ignored beside
        /// `ha_chassis_group`; with neither, the port has no gateway.
        gateway_chassis: OrdSet<Strong<GatewayChassis>>,
        /// Group of chassis of which one is the port's gateway; none leaves it to `gateway_chassis`.
        ha_chassis_group: Option<Strong<HaChassisGroup>>,
        /// Settings, as `gateway_mtu`, `redirect-type`, `reside-on-redirect-chassis`, `route_table`;
        /// ovn-nb(5), Logical_Router_Port.
        options: OrdMap<Text, Text>,
        /// Its addresses with their networks, as `192.168.0.1/24`. It always has the IPv6 link-local
        /// address of its MAC besides.
        networks: OrdSet<Text>,
        /// Its MAC, as `0a:00:00:00:00:01`.
        mac: Text,
        /// Name of the other router's port; empty for a port to a switch.
        peer: Option<Text>,
        /// Administrative state; false drops all its traffic. Enabled when empty.
        enabled: Option<bool>,
        /// Router advertisements: `address_mode`, `mtu`, `send_periodic`, …; ovn-nb(5),
        /// Logical_Router_Port ipv6_ra_configs. None are sent without `address_mode`.
        ipv6_ra_configs: OrdMap<Text, Text>,
        /// Prefixes that an upstream router delegated to it (RFC 3633); written by the centre.
        ipv6_prefix: OrdSet<Text>,
        /// Where DHCPv4 requests from the attached switch are relayed; not relayed when empty.
        dhcp_relay: Option<Strong<DhcpRelay>>,
        /// Free for clients, copied to the port's binding.
        external_ids: OrdMap<Text, Text> => |c| c.central(),
        /// `hosting-chassis`: name of the chassis that is its gateway at present; written by the centre.
        status: OrdMap<Text, Text> => |c| c.central(),
    }
    indexes [["name"]]
    scopes [Scope::Referrers { table: "Logical_Router", column: "ports" }]
}

table! {
    /// A route. The longest prefix wins, then `dst-ip` over `src-ip`; equal ones share the traffic.
    pub struct LogicalRouterStaticRoute = Northbound "Logical_Router_Static_Route" {
        /// Table of the route: packets see it only if their ingress port's options:route_table is the
        /// same. Empty is the main table.
        route_table: Text,
        /// Addresses meant, as `192.168.100.0/24` or a single address.
        ip_prefix: Text,
        /// Whether the prefix is of the source or the destination; `dst-ip` when empty.
        policy: Option<Text> => |c| c.with(|t| t.one_of(&["src-ip", "dst-ip"])),
        /// IP address of the next hop; `discard` drops. Empty, with an `output_port`, means the
        /// destination itself is next.
        nexthop: Text,
        /// Name of the router port to leave by; found by the next hop when empty.
        output_port: Option<Text>,
        /// Session that watches the next hop: while it is down the route is not used.
        bfd: Option<Weak<Bfd>>,
        /// Fields whose hash chooses among equal routes; the switch chooses the fields when empty.
        selection_fields: OrdSet<Text> => |c| c.with(|t| t.one_of(&["eth_src", "eth_dst", "ip_proto", "ip_src", "ip_dst", "ipv6_src", "ipv6_dst", "tp_src", "tp_dst"])),
        /// `ecmp_symmetric_reply`, `override-connected`, `origin`, `dynamic-routing-advertise`; ovn-nb(5),
        /// Logical_Router_Static_Route.
        options: OrdMap<Text, Text>,
        /// Free for clients; `ic-learned-route` marks one from another availability zone.
        external_ids: OrdMap<Text, Text> => |c| c.central(),
    }
    scopes [Scope::Referrers { table: "Logical_Router", column: "static_routes" }]
}

table! {
    /// A rule that follows routing. The matching one of highest priority decides; a packet that none
    /// matches keeps its route.
    pub struct LogicalRouterPolicy = Northbound "Logical_Router_Policy" {
        /// Higher wins. Priority, chain and match together are unique in a router.
        priority: i64 => |c| c.with(|t| t.range(0, 32767)),
        /// Chain of the rule. Packets start in the one without a name.
        chain: Option<Text>,
        /// Packets meant, in the language of ovn-sb(5), Logical_Flow.
        r#match: Text,
        /// `allow` keeps the route, `reroute` replaces the next hop, `jump` goes on in `jump_chain`
        /// without return.
        action: Text => |c| c.with(|t| t.one_of(&["allow", "drop", "reroute", "jump"])),
        /// Chain that `jump` leads to.
        jump_chain: Option<Text>,
        /// Replaced by `nexthops`; ignored.
        nexthop: Option<Text>,
        /// IP addresses of the next hops of `reroute`, all of one family; several share the traffic.
        nexthops: OrdSet<Text>,
        /// Port to leave by, for a single next hop; found by the next hop when empty.
        output_port: Option<Weak<LogicalRouterPort>>,
        /// Sessions that watch the next hops: one that is down is not used.
        bfd_sessions: OrdSet<Weak<Bfd>>,
        /// `pkt_mark`: a mark to set in the packet's metadata, lost where it leaves the chassis.
        options: OrdMap<Text, Text>,
        /// Free for clients.
        external_ids: OrdMap<Text, Text> => |c| c.central(),
    }
    scopes [Scope::Referrers { table: "Logical_Router", column: "policies" }]
}

table! {
    /// A neighbour of a router port that need not be asked for its MAC.
    pub struct StaticMacBinding = Northbound "Static_MAC_Binding" [root] {
        /// Name of the router port.
        logical_port: Text,
        /// The neighbour's IPv4 or IPv6 address.
        ip: Text,
        /// The neighbour's MAC.
        mac: Text,
        /// Whether it also wins over a MAC that was learned; if not, it serves until one is.
        override_dynamic_mac: bool,
    }
    indexes [["logical_port", "ip"]]
}
