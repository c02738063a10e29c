//! `OVN_Northbound` as OVN's clients know it, schema 7.19.0 (ovn-nb(5)).
//!
//! # Invariants
//! - Names, types, enumerations, ranges and indexes are those of the real schema; a test compares them
//!   with the schema file of an installed OVN.

use imbl::{OrdMap, OrdSet};

use crate::{
    column::{Strong, Text, Weak},
    row::Scope,
    table,
};

table! {
    /// `NB_Global`.
    pub struct NbGlobal = Northbound "NB_Global" [root max 1] {
        /// `name`.
        name: Text,
        /// `nb_cfg`.
        nb_cfg: i64 => |c| c.central(),
        /// `nb_cfg_timestamp`.
        nb_cfg_timestamp: i64 => |c| c.central(),
        /// `sb_cfg`.
        sb_cfg: i64 => |c| c.central(),
        /// `sb_cfg_timestamp`.
        sb_cfg_timestamp: i64 => |c| c.central(),
        /// `hv_cfg`.
        hv_cfg: i64 => |c| c.central(),
        /// `hv_cfg_timestamp`.
        hv_cfg_timestamp: i64 => |c| c.central(),
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
        /// `connections`.
        connections: OrdSet<Strong<Connection>> => |c| c.central(),
        /// `ssl`.
        ssl: Option<Strong<Ssl>> => |c| c.central(),
        /// `options`.
        options: OrdMap<Text, Text>,
        /// `ipsec`.
        ipsec: bool,
    }
    scopes [Scope::Global]
}

table! {
    /// `Sample_Collector`.
    pub struct SampleCollector = Northbound "Sample_Collector" [root] {
        /// `id`.
        id: i64 => |c| c.with(|t| t.range(1, 255)),
        /// `name`.
        name: Text,
        /// `probability`.
        probability: i64 => |c| c.with(|t| t.range(0, 65535)),
        /// `set_id`.
        set_id: i64 => |c| c.with(|t| t.range(1, 4294967295)),
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["id"]]
}

table! {
    /// `Sample`.
    pub struct Sample = Northbound "Sample" {
        /// `collectors`.
        collectors: OrdSet<Strong<SampleCollector>>,
        /// `metadata`.
        metadata: i64 => |c| c.with(|t| t.range(1, 4294967295)),
    }
    indexes [["metadata"]]
}

table! {
    /// `Copp`.
    pub struct Copp = Northbound "Copp" [root] {
        /// `name`.
        name: Text,
        /// `meters`.
        meters: OrdMap<Text, Text>,
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["name"]]
}

table! {
    /// `Logical_Switch`.
    pub struct LogicalSwitch = Northbound "Logical_Switch" [root] {
        /// `name`.
        name: Text,
        /// `ports`.
        ports: OrdSet<Strong<LogicalSwitchPort>> => |c| c.central(),
        /// `acls`.
        acls: OrdSet<Strong<Acl>>,
        /// `qos_rules`.
        qos_rules: OrdSet<Strong<Qos>>,
        /// `load_balancer`.
        load_balancer: OrdSet<Weak<LoadBalancer>>,
        /// `load_balancer_group`.
        load_balancer_group: OrdSet<Strong<LoadBalancerGroup>>,
        /// `dns_records`.
        dns_records: OrdSet<Weak<Dns>>,
        /// `copp`.
        copp: Option<Weak<Copp>>,
        /// `other_config`.
        other_config: OrdMap<Text, Text>,
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
        /// `forwarding_groups`.
        forwarding_groups: OrdSet<Strong<ForwardingGroup>>,
    }
    scopes [Scope::Own]
}

table! {
    /// `Logical_Switch_Port`.
    pub struct LogicalSwitchPort = Northbound "Logical_Switch_Port" {
        /// `name`.
        name: Text,
        /// `type`.
        r#type: Text,
        /// `options`.
        options: OrdMap<Text, Text>,
        /// `parent_name`.
        parent_name: Option<Text>,
        /// `tag_request`.
        tag_request: Option<i64> => |c| c.with(|t| t.range(0, 4095)),
        /// `tag`.
        tag: Option<i64> => |c| c.with(|t| t.range(1, 4095)),
        /// `addresses`.
        addresses: OrdSet<Text>,
        /// `dynamic_addresses`.
        dynamic_addresses: Option<Text>,
        /// `port_security`.
        port_security: OrdSet<Text>,
        /// `peer`.
        peer: Option<Text>,
        /// `up`.
        up: Option<bool>,
        /// `enabled`.
        enabled: Option<bool>,
        /// `dhcpv4_options`.
        dhcpv4_options: Option<Weak<DhcpOptions>>,
        /// `dhcpv6_options`.
        dhcpv6_options: Option<Weak<DhcpOptions>>,
        /// `mirror_rules`.
        mirror_rules: OrdSet<Weak<Mirror>>,
        /// `ha_chassis_group`.
        ha_chassis_group: Option<Strong<HaChassisGroup>>,
        /// `health_checks`.
        health_checks: OrdSet<Strong<LogicalSwitchPortHealthCheck>>,
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["name"]]
    scopes [Scope::Referrers { table: "Logical_Switch", column: "ports" }]
}

table! {
    /// `Network_Function_Health_Check`.
    pub struct NetworkFunctionHealthCheck = Northbound "Network_Function_Health_Check" {
        /// `name`.
        name: Text,
        /// `options`.
        options: OrdMap<Text, Text>,
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["name"]]
}

table! {
    /// `Network_Function`.
    pub struct NetworkFunction = Northbound "Network_Function" [root] {
        /// `name`.
        name: Text,
        /// `outport`.
        outport: Option<Strong<LogicalSwitchPort>>,
        /// `inport`.
        inport: Strong<LogicalSwitchPort>,
        /// `health_check`.
        health_check: Option<Strong<NetworkFunctionHealthCheck>>,
        /// `id`.
        id: i64 => |c| c.with(|t| t.range(1, 255)),
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["name"], ["id"]]
}

table! {
    /// `Network_Function_Group`.
    pub struct NetworkFunctionGroup = Northbound "Network_Function_Group" [root] {
        /// `name`.
        name: Text,
        /// `fallback`.
        fallback: Option<Text> => |c| c.with(|t| t.one_of(&["fail-open", "fail-close"])),
        /// `network_function`.
        network_function: OrdSet<Strong<NetworkFunction>>,
        /// `network_function_active`.
        network_function_active: Option<Strong<NetworkFunction>>,
        /// `mode`.
        mode: Text => |c| c.with(|t| t.one_of(&["inline", "vtap"])),
        /// `id`.
        id: i64 => |c| c.with(|t| t.range(1, 255)),
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["name"], ["id"]]
}

table! {
    /// `Logical_Switch_Port_Health_Check`.
    pub struct LogicalSwitchPortHealthCheck = Northbound "Logical_Switch_Port_Health_Check" {
        /// `protocol`.
        protocol: Text => |c| c.with(|t| t.one_of(&["tcp", "udp", "icmp"])),
        /// `src_ip`.
        src_ip: Text,
        /// `port`.
        port: i64 => |c| c.with(|t| t.range(0, 65535)),
        /// `address`.
        address: Text,
        /// `status`.
        status: Option<Text> => |c| c.with(|t| t.one_of(&["online", "offline", "error"])),
        /// `options`.
        options: OrdMap<Text, Text>,
    }
}

table! {
    /// `Forwarding_Group`.
    pub struct ForwardingGroup = Northbound "Forwarding_Group" {
        /// `name`.
        name: Text,
        /// `vip`.
        vip: Text,
        /// `vmac`.
        vmac: Text,
        /// `liveness`.
        liveness: bool,
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
        /// `child_port`.
        child_port: OrdSet<Text> => |c| c.with(|t| t.at_least(1)),
    }
}

table! {
    /// `Address_Set`.
    pub struct AddressSet = Northbound "Address_Set" [root] {
        /// `name`.
        name: Text,
        /// `addresses`.
        addresses: OrdSet<Text>,
        /// `options`.
        options: OrdMap<Text, Text>,
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["name"]]
}

table! {
    /// `Port_Group`.
    pub struct PortGroup = Northbound "Port_Group" [root] {
        /// `name`.
        name: Text,
        /// `ports`.
        ports: OrdSet<Weak<LogicalSwitchPort>>,
        /// `acls`.
        acls: OrdSet<Strong<Acl>>,
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["name"]]
}

table! {
    /// `Load_Balancer`.
    pub struct LoadBalancer = Northbound "Load_Balancer" [root] {
        /// `name`.
        name: Text,
        /// `vips`.
        vips: OrdMap<Text, Text>,
        /// `protocol`.
        protocol: Option<Text> => |c| c.with(|t| t.one_of(&["tcp", "udp", "sctp"])),
        /// `health_check`.
        health_check: OrdSet<Strong<LoadBalancerHealthCheck>>,
        /// `ip_port_mappings`.
        ip_port_mappings: OrdMap<Text, Text>,
        /// `selection_fields`.
        selection_fields: OrdSet<Text> => |c| c.with(|t| t.one_of(&["eth_src", "eth_dst", "ip_src", "ip_dst", "ipv6_src", "ipv6_dst", "tp_src", "tp_dst"])),
        /// `options`.
        options: OrdMap<Text, Text>,
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
}

table! {
    /// `Load_Balancer_Group`.
    pub struct LoadBalancerGroup = Northbound "Load_Balancer_Group" [root] {
        /// `name`.
        name: Text,
        /// `load_balancer`.
        load_balancer: OrdSet<Weak<LoadBalancer>>,
    }
    indexes [["name"]]
}

table! {
    /// `Load_Balancer_Health_Check`.
    pub struct LoadBalancerHealthCheck = Northbound "Load_Balancer_Health_Check" {
        /// `vip`.
        vip: Text,
        /// `options`.
        options: OrdMap<Text, Text>,
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
}

table! {
    /// `ACL`.
    pub struct Acl = Northbound "ACL" {
        /// `name`.
        name: Option<Text>,
        /// `priority`.
        priority: i64 => |c| c.with(|t| t.range(0, 32767)),
        /// `direction`.
        direction: Text => |c| c.with(|t| t.one_of(&["from-lport", "to-lport"])),
        /// `match`.
        r#match: Text,
        /// `action`.
        action: Text => |c| c.with(|t| t.one_of(&["allow", "allow-related", "allow-stateless", "drop", "reject", "pass"])),
        /// `network_function_group`.
        network_function_group: Option<Strong<NetworkFunctionGroup>>,
        /// `log`.
        log: bool,
        /// `severity`.
        severity: Option<Text> => |c| c.with(|t| t.one_of(&["alert", "warning", "notice", "info", "debug"])),
        /// `meter`.
        meter: Option<Text>,
        /// `label`.
        label: i64 => |c| c.with(|t| t.range(0, 4294967295)),
        /// `tier`.
        tier: i64 => |c| c.with(|t| t.range(0, 3)),
        /// `sample_new`.
        sample_new: Option<Strong<Sample>>,
        /// `sample_est`.
        sample_est: Option<Strong<Sample>>,
        /// `options`.
        options: OrdMap<Text, Text>,
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
}

table! {
    /// `QoS`.
    pub struct Qos = Northbound "QoS" {
        /// `priority`.
        priority: i64 => |c| c.with(|t| t.range(0, 32767)),
        /// `direction`.
        direction: Text => |c| c.with(|t| t.one_of(&["from-lport", "to-lport"])),
        /// `match`.
        r#match: Text,
        /// `action`.
        action: OrdMap<Text, i64> => |c| c.with(|t| t.one_of(&["dscp", "mark"]).value_range(0, 4294967295)),
        /// `bandwidth`.
        bandwidth: OrdMap<Text, i64> => |c| c.with(|t| t.one_of(&["rate", "burst"]).value_range(1, 4294967295)),
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
}

table! {
    /// `Mirror`.
    pub struct Mirror = Northbound "Mirror" [root] {
        /// `name`.
        name: Text,
        /// `filter`.
        filter: Text => |c| c.with(|t| t.one_of(&["from-lport", "to-lport", "both"])),
        /// `sink`.
        sink: Text,
        /// `type`.
        r#type: Text => |c| c.with(|t| t.one_of(&["gre", "erspan", "local", "lport"])),
        /// `index`.
        index: i64,
        /// `mirror_rules`.
        mirror_rules: OrdSet<Strong<MirrorRule>>,
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["name"]]
}

table! {
    /// `Mirror_Rule`.
    pub struct MirrorRule = Northbound "Mirror_Rule" {
        /// `match`.
        r#match: Text,
        /// `action`.
        action: Text => |c| c.with(|t| t.one_of(&["mirror", "skip"])),
        /// `priority`.
        priority: i64 => |c| c.with(|t| t.range(0, 32767)),
    }
}

table! {
    /// `Meter`.
    pub struct Meter = Northbound "Meter" [root] {
        /// `name`.
        name: Text,
        /// `unit`.
        unit: Text => |c| c.with(|t| t.one_of(&["kbps", "pktps"])),
        /// `bands`.
        bands: OrdSet<Strong<MeterBand>> => |c| c.with(|t| t.at_least(1)),
        /// `fair`.
        fair: Option<bool>,
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["name"]]
}

table! {
    /// `Meter_Band`.
    pub struct MeterBand = Northbound "Meter_Band" {
        /// `action`.
        action: Text => |c| c.with(|t| t.one_of(&["drop"])),
        /// `rate`.
        rate: i64 => |c| c.with(|t| t.range(1, 4294967295)),
        /// `burst_size`.
        burst_size: i64 => |c| c.with(|t| t.range(0, 4294967295)),
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
}

table! {
    /// `Logical_Router`.
    pub struct LogicalRouter = Northbound "Logical_Router" [root] {
        /// `name`.
        name: Text,
        /// `ports`.
        ports: OrdSet<Strong<LogicalRouterPort>>,
        /// `static_routes`.
        static_routes: OrdSet<Strong<LogicalRouterStaticRoute>>,
        /// `policies`.
        policies: OrdSet<Strong<LogicalRouterPolicy>>,
        /// `enabled`.
        enabled: Option<bool>,
        /// `nat`.
        nat: OrdSet<Strong<Nat>>,
        /// `load_balancer`.
        load_balancer: OrdSet<Weak<LoadBalancer>>,
        /// `load_balancer_group`.
        load_balancer_group: OrdSet<Strong<LoadBalancerGroup>>,
        /// `copp`.
        copp: Option<Weak<Copp>>,
        /// `options`.
        options: OrdMap<Text, Text>,
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
}

table! {
    /// `Logical_Router_Port`.
    pub struct LogicalRouterPort = Northbound "Logical_Router_Port" {
        /// `name`.
        name: Text,
        /// `gateway_chassis`.
        gateway_chassis: OrdSet<Strong<GatewayChassis>>,
        /// `ha_chassis_group`.
        ha_chassis_group: Option<Strong<HaChassisGroup>>,
        /// `options`.
        options: OrdMap<Text, Text>,
        /// `networks`.
        networks: OrdSet<Text>,
        /// `mac`.
        mac: Text,
        /// `peer`.
        peer: Option<Text>,
        /// `enabled`.
        enabled: Option<bool>,
        /// `ipv6_ra_configs`.
        ipv6_ra_configs: OrdMap<Text, Text>,
        /// `ipv6_prefix`.
        ipv6_prefix: OrdSet<Text>,
        /// `dhcp_relay`.
        dhcp_relay: Option<Strong<DhcpRelay>>,
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
        /// `status`.
        status: OrdMap<Text, Text>,
    }
    indexes [["name"]]
}

table! {
    /// `Logical_Router_Static_Route`.
    pub struct LogicalRouterStaticRoute = Northbound "Logical_Router_Static_Route" {
        /// `route_table`.
        route_table: Text,
        /// `ip_prefix`.
        ip_prefix: Text,
        /// `policy`.
        policy: Option<Text> => |c| c.with(|t| t.one_of(&["src-ip", "dst-ip"])),
        /// `nexthop`.
        nexthop: Text,
        /// `output_port`.
        output_port: Option<Text>,
        /// `bfd`.
        bfd: Option<Weak<Bfd>>,
        /// `selection_fields`.
        selection_fields: OrdSet<Text> => |c| c.with(|t| t.one_of(&["eth_src", "eth_dst", "ip_proto", "ip_src", "ip_dst", "ipv6_src", "ipv6_dst", "tp_src", "tp_dst"])),
        /// `options`.
        options: OrdMap<Text, Text>,
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
}

table! {
    /// `Logical_Router_Policy`.
    pub struct LogicalRouterPolicy = Northbound "Logical_Router_Policy" {
        /// `priority`.
        priority: i64 => |c| c.with(|t| t.range(0, 32767)),
        /// `chain`.
        chain: Option<Text>,
        /// `match`.
        r#match: Text,
        /// `action`.
        action: Text => |c| c.with(|t| t.one_of(&["allow", "drop", "reroute", "jump"])),
        /// `jump_chain`.
        jump_chain: Option<Text>,
        /// `nexthop`.
        nexthop: Option<Text>,
        /// `nexthops`.
        nexthops: OrdSet<Text>,
        /// `output_port`.
        output_port: Option<Weak<LogicalRouterPort>>,
        /// `bfd_sessions`.
        bfd_sessions: OrdSet<Weak<Bfd>>,
        /// `options`.
        options: OrdMap<Text, Text>,
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
}

table! {
    /// `NAT`.
    pub struct Nat = Northbound "NAT" {
        /// `external_ip`.
        external_ip: Text,
        /// `external_mac`.
        external_mac: Option<Text>,
        /// `external_port_range`.
        external_port_range: Text,
        /// `logical_ip`.
        logical_ip: Text,
        /// `logical_port`.
        logical_port: Option<Text>,
        /// `type`.
        r#type: Text => |c| c.with(|t| t.one_of(&["dnat", "snat", "dnat_and_snat"])),
        /// `allowed_ext_ips`.
        allowed_ext_ips: Option<Strong<AddressSet>>,
        /// `exempted_ext_ips`.
        exempted_ext_ips: Option<Strong<AddressSet>>,
        /// `gateway_port`.
        gateway_port: Option<Weak<LogicalRouterPort>>,
        /// `priority`.
        priority: i64 => |c| c.with(|t| t.range(0, 32767)),
        /// `match`.
        r#match: Text,
        /// `options`.
        options: OrdMap<Text, Text>,
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
}

table! {
    /// `DHCP_Options`.
    pub struct DhcpOptions = Northbound "DHCP_Options" [root] {
        /// `cidr`.
        cidr: Text,
        /// `options`.
        options: OrdMap<Text, Text>,
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
    scopes [
        Scope::Referrers { table: "Logical_Switch_Port", column: "dhcpv4_options" },
        Scope::Referrers { table: "Logical_Switch_Port", column: "dhcpv6_options" },
    ]
}

table! {
    /// `DHCP_Relay`.
    pub struct DhcpRelay = Northbound "DHCP_Relay" [root] {
        /// `name`.
        name: Text,
        /// `servers`.
        servers: Option<Text>,
        /// `options`.
        options: OrdMap<Text, Text>,
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
}

table! {
    /// `Connection`.
    pub struct Connection = Northbound "Connection" {
        /// `target`.
        target: Text,
        /// `max_backoff`.
        max_backoff: Option<i64> => |c| c.with(|t| t.range(1000, i64::MAX)),
        /// `inactivity_probe`.
        inactivity_probe: Option<i64>,
        /// `other_config`.
        other_config: OrdMap<Text, Text>,
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
        /// `is_connected`.
        is_connected: bool => |c| c.ephemeral(),
        /// `status`.
        status: OrdMap<Text, Text> => |c| c.ephemeral(),
    }
    indexes [["target"]]
}

table! {
    /// `DNS`.
    pub struct Dns = Northbound "DNS" [root] {
        /// `records`.
        records: OrdMap<Text, Text>,
        /// `options`.
        options: OrdMap<Text, Text>,
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
}

table! {
    /// `SSL`.
    pub struct Ssl = Northbound "SSL" [leaf max 1] {
        /// `private_key`.
        private_key: Text,
        /// `certificate`.
        certificate: Text,
        /// `ca_cert`.
        ca_cert: Text,
        /// `bootstrap_ca_cert`.
        bootstrap_ca_cert: bool,
        /// `ssl_protocols`.
        ssl_protocols: Text,
        /// `ssl_ciphers`.
        ssl_ciphers: Text,
        /// `ssl_ciphersuites`.
        ssl_ciphersuites: Text,
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
}

table! {
    /// `Gateway_Chassis`.
    pub struct GatewayChassis = Northbound "Gateway_Chassis" {
        /// `name`.
        name: Text,
        /// `chassis_name`.
        chassis_name: Text,
        /// `priority`.
        priority: i64 => |c| c.with(|t| t.range(0, 32767)),
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
        /// `options`.
        options: OrdMap<Text, Text>,
    }
    indexes [["name"]]
}

table! {
    /// `HA_Chassis`.
    pub struct HaChassis = Northbound "HA_Chassis" {
        /// `chassis_name`.
        chassis_name: Text,
        /// `priority`.
        priority: i64 => |c| c.with(|t| t.range(0, 32767)),
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
}

table! {
    /// `HA_Chassis_Group`.
    pub struct HaChassisGroup = Northbound "HA_Chassis_Group" [root] {
        /// `name`.
        name: Text,
        /// `ha_chassis`.
        ha_chassis: OrdSet<Strong<HaChassis>>,
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["name"]]
}

table! {
    /// `BFD`.
    pub struct Bfd = Northbound "BFD" [root] {
        /// `logical_port`.
        logical_port: Text,
        /// `dst_ip`.
        dst_ip: Text,
        /// `min_tx`.
        min_tx: Option<i64> => |c| c.with(|t| t.range(1, i64::MAX)),
        /// `min_rx`.
        min_rx: Option<i64>,
        /// `detect_mult`.
        detect_mult: Option<i64> => |c| c.with(|t| t.range(1, i64::MAX)),
        /// `status`.
        status: Option<Text> => |c| c.with(|t| t.one_of(&["down", "init", "up", "admin_down"])),
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
        /// `options`.
        options: OrdMap<Text, Text>,
    }
    indexes [["logical_port", "dst_ip"]]
}

table! {
    /// `Static_MAC_Binding`.
    pub struct StaticMacBinding = Northbound "Static_MAC_Binding" [root] {
        /// `logical_port`.
        logical_port: Text,
        /// `ip`.
        ip: Text,
        /// `mac`.
        mac: Text,
        /// `override_dynamic_mac`.
        override_dynamic_mac: bool,
    }
    indexes [["logical_port", "ip"]]
}

table! {
    /// `Chassis_Template_Var`.
    pub struct ChassisTemplateVar = Northbound "Chassis_Template_Var" [root] {
        /// `chassis`.
        chassis: Text,
        /// `variables`.
        variables: OrdMap<Text, Text>,
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["chassis"]]
}

table! {
    /// `Sampling_App`.
    pub struct SamplingApp = Northbound "Sampling_App" [root] {
        /// `type`.
        r#type: Text => |c| c.with(|t| t.one_of(&["drop", "acl-new", "acl-est"])),
        /// `id`.
        id: i64 => |c| c.with(|t| t.range(1, 255)),
        /// `external_ids`.
        external_ids: OrdMap<Text, Text>,
    }
    indexes [["type"]]
}
