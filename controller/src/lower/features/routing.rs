//! The list of [`northbound`](super::northbound), continued: routers, their ports, routes and translations.

use super::{Entry, not_yet, partly, works};

const ROUTES: &str = "routing";
const LEARNED: &str = "dynamic-routing";
const ZONES: &str = "interconnection";

pub(super) const LOGICAL_ROUTER: &[Entry] = &[
    works("name"),
    works("ports"),
    works("static_routes"),
    works("policies"),
    works("enabled"),
    works("nat"),
    not_yet("load_balancer", "lb"),
    not_yet("load_balancer_group", "lb"),
    works("copp"),
    works("external_ids"),
    partly("options", "see its keys"),
    works("options").key("chassis"),
    works("options").key("requested-tnl-key"),
    works("options").key("mac_binding_age_threshold"),
    works("options").key("always_learn_from_arp_request").default("true"),
    works("options").key("dynamic_neigh_routers").default("false"),
    works("options").key("disable_garp_rarp"),
    works("options").key("ct-zone-limit").note("where the datapath of Open vSwitch has limits"),
    works("options").key("snat-ct-zone"),
    works("options").key("dnat_force_snat_ip"),
    not_yet("options", "nat").key("ct-commit-all").default("false"),
    not_yet("options", "lb").key("lb_force_snat_ip"),
    not_yet("options", "multicast").key("mcast_relay").default("false"),
    not_yet("options", LEARNED).key("dynamic-routing").default("false"),
    not_yet("options", LEARNED).key("dynamic-routing-redistribute"),
    not_yet("options", LEARNED).key("dynamic-routing-vrf-id"),
    not_yet("options", LEARNED).key("dynamic-routing-vrf-name"),
    not_yet("options", LEARNED).key("dynamic-routing-no-learning").default("false"),
    not_yet("options", LEARNED).key("dynamic-routing-redistribute-local-only").default("false"),
    not_yet("options", LEARNED).key("dynamic-routing-v4-prefix-nexthop"),
    not_yet("options", LEARNED).key("dynamic-routing-v6-prefix-nexthop"),
    not_yet("options", ZONES).key("interconn-tr"),
    not_yet("options", ZONES).key("ic-route-filter-adv"),
    not_yet("options", ZONES).key("ic-route-filter-learn"),
    not_yet("options", ZONES).key("ic-route-deny-adv"),
    not_yet("options", ZONES).key("ic-route-deny-learn"),
    not_yet("options", ZONES).key("ic-route-tag"),
    not_yet("options", ZONES).key("ic-route-filter-tag"),
    not_yet("options", ZONES).key("ic-route-ipv4-next-hop-ipv6").default("false"),
];

pub(super) const LOGICAL_ROUTER_PORT: &[Entry] = &[
    works("name"),
    works("gateway_chassis"),
    works("ha_chassis_group"),
    works("networks"),
    works("mac"),
    works("peer"),
    works("enabled"),
    not_yet("ipv6_prefix", "ra"),
    not_yet("dhcp_relay", "dhcp"),
    works("external_ids"),
    works("status").note("written by the centre"),
    partly("options", "see its keys"),
    works("options").key("requested-tnl-key"),
    works("options").key("redirect-type"),
    works("options")
        .key("reside-on-redirect-chassis")
        .note("where the router has one gateway and the switch a way to its physical network"),
    works("options").key("gateway_mtu"),
    partly("options", "without address sets").key("gateway_mtu_bypass"),
    works("options").key("route_table"),
    not_yet("options", "dhcp").key("dhcpv4_primary_ip"),
    not_yet("options", "multicast").key("mcast_flood").default("false"),
    not_yet("options", "ra").key("prefix_delegation").default("false"),
    not_yet("options", "ra").key("prefix").default("false"),
    not_yet("options", ZONES).key("requested-chassis"),
    not_yet("options", LEARNED).key("dynamic-routing-redistribute"),
    not_yet("options", LEARNED).key("dynamic-routing-maintain-vrf").default("false"),
    not_yet("options", LEARNED).key("dynamic-routing-redistribute-local-only").default("false"),
    not_yet("options", LEARNED).key("dynamic-routing-port-name"),
    not_yet("options", LEARNED).key("dynamic-routing-no-learning").default("false"),
    not_yet("options", LEARNED).key("routing-protocol-redirect"),
    not_yet("options", LEARNED).key("routing-protocols"),
    not_yet("options", ZONES).key("ic-route-filter-adv"),
    not_yet("options", ZONES).key("ic-route-filter-learn"),
    not_yet("options", ZONES).key("ic-route-deny-adv"),
    not_yet("options", ZONES).key("ic-route-deny-learn"),
    not_yet("options", ZONES).key("ic-route-tag"),
    not_yet("options", ZONES).key("ic-route-filter-tag"),
    not_yet("ipv6_ra_configs", "ra"),
];

pub(super) const STATIC_ROUTE: &[Entry] = &[
    works("route_table"),
    works("ip_prefix"),
    works("policy"),
    works("nexthop"),
    works("output_port"),
    works("bfd"),
    partly(
        "selection_fields",
        "eth_src, an address or both, or both with protocol and ports; others are told, and the choice is by the last",
    ),
    partly("options", "see its keys"),
    works("options").key("ecmp_symmetric_reply").note("on routers with options:chassis, as ovn-nb(5) has it"),
    works("options").key("override-connected").default("false"),
    works("options").key("origin").note("of routes learned from another availability zone"),
    not_yet("options", LEARNED).key("dynamic-routing-advertise"),
    works("external_ids"),
];

pub(super) const POLICY: &[Entry] = &[
    works("priority"),
    works("chain"),
    works("match"),
    works("action"),
    works("jump_chain"),
    works("nexthop").note("deprecated; used where nexthops is empty"),
    works("nexthops"),
    works("output_port"),
    works("bfd_sessions"),
    partly("options", "see its keys"),
    works("options").key("pkt_mark"),
    works("external_ids"),
];

pub(super) const STATIC_MAC_BINDING: &[Entry] =
    &[works("logical_port"), works("ip"), works("mac"), works("override_dynamic_mac")];

pub(super) const BFD: &[Entry] = &[
    works("logical_port"),
    works("dst_ip"),
    works("min_tx"),
    works("min_rx"),
    works("detect_mult"),
    works("status").note("written by the centre"),
    works("external_ids"),
    // ovn-nb(5) defines no key.
    not_yet("options", ROUTES),
];

pub(super) const NAT: &[Entry] = &[
    works("external_ip"),
    works("external_mac"),
    works("external_port_range"),
    works("logical_ip"),
    works("logical_port"),
    works("type"),
    works("allowed_ext_ips"),
    works("exempted_ext_ips"),
    works("gateway_port"),
    works("priority"),
    works("match"),
    partly("options", "see its keys"),
    works("options").key("stateless"),
    works("options").key("stateless_icmp_helper"),
    works("options").key("add_route"),
    not_yet("options", LEARNED).key("dynamic-routing-advertise"),
    works("external_ids"),
];

pub(super) const GATEWAY_CHASSIS: &[Entry] = &[
    works("name"),
    works("chassis_name"),
    works("priority"),
    works("external_ids"),
    // ovn-nb(5) defines no key.
    not_yet("options", "ha"),
];
