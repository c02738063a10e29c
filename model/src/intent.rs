//! `QuantumNet`: what users asked for, and what the store keeps about itself.
//!
//! # Invariants
//! - An object's northbound row has the object's uuid: `VirtualNetwork` is a `Logical_Switch`, `Port` a
//!   `Logical_Switch_Port`, `Subnet` a `DHCP_Options`, `Router` a `Logical_Router`, `FloatingIp` a `NAT`, `SecurityGroup` and
//!   `SelectorGroup` a `Port_Group`. A northbound row is owned by intent exactly when such a row exists, but an `ACL`,
//!   whose owner is in a `Lookup` row.

use imbl::{OrdMap, OrdSet};
use uuid::Uuid;

use crate::{
    column::{Strong, Text, Weak},
    table,
};

table! {
    /// Identity of the store. One row.
    pub struct Cluster = QuantumNet "Cluster" [root max 1] {
        /// Fixed for ever.
        cluster_id: Uuid,
        /// A restore from backup begins a new one.
        history_id: Uuid,
        /// Last claim given to a `Chassis_Interface`.
        last_claim: i64,
    }
}

table! {
    /// A tenant.
    pub struct Project = QuantumNet "Project" [root] {
        /// Unique.
        name: Text,
        /// Free text.
        description: Text,
        /// Free pairs.
        labels: OrdMap<Text, Text>,
        /// Milliseconds since the epoch.
        created_at: i64,
        /// Milliseconds since the epoch.
        updated_at: i64,
        /// Revision of the last change.
        revision: i64,
    }
    indexes [["name"]]
}

table! {
    /// A layer-2 network.
    pub struct VirtualNetwork = QuantumNet "Virtual_Network" [root] {
        /// Whose it is.
        project: Strong<Project>,
        /// Unique in its project.
        name: Text,
        /// Free text.
        description: Text,
        /// Free pairs.
        labels: OrdMap<Text, Text>,
        /// Milliseconds since the epoch.
        created_at: i64,
        /// Milliseconds since the epoch.
        updated_at: i64,
        /// Revision of the last change.
        revision: i64,
        /// Geneve between the hypervisors, or a VLAN of a physical network.
        r#type: Text => |c| c.with(|t| t.one_of(&["overlay", "vlan"])),
        /// VLAN of a `vlan` network; 0 is untagged.
        vlan_id: i64 => |c| c.with(|t| t.range(0, 4094)),
        /// Physical network of a `vlan` network, as hypervisors name it in their bridge mappings.
        physical_network: Text,
        /// MTU for guests; 0 derives it from the underlay.
        mtu: i64 => |c| c.with(|t| t.range(0, 65_535)),
        /// Address ranges.
        subnets: OrdSet<Strong<Subnet>>,
        /// Group of the ports that name none.
        default_security_group: Option<Strong<SecurityGroup>>,
        /// Routers of any project may be connected to the outside by it, and it gives floating addresses.
        external: bool,
    }
    indexes [["project", "name"]]
}

table! {
    /// A range of addresses of a network.
    pub struct Subnet = QuantumNet "Subnet" {
        /// As `10.0.1.0/24`.
        cidr: Text,
        /// Place in the network's list of subnets.
        position: i64,
        /// The router's address, or none.
        gateway: Option<Text>,
        /// Ranges to allocate from, as `10.0.1.10-10.0.1.99`; none means all.
        pools: OrdSet<Text>,
        /// Ranges never allocated.
        reserved: OrdSet<Text>,
        /// DHCP is answered.
        dhcp: bool,
        /// Seconds.
        lease_time: i64,
        /// Addresses in the order to be given, with commas between them; a set would lose the order.
        dns_servers: Text,
        /// Empty for none.
        domain_name: Text,
        /// Addresses in the order to be given, with commas between them.
        ntp_servers: Text,
        /// Further DHCP options in OVN's names and syntax.
        dhcp_options: OrdMap<Text, Text>,
    }
}

table! {
    /// Where a VM meets a network.
    pub struct Port = QuantumNet "Port" [root] {
        /// Whose it is.
        project: Strong<Project>,
        /// Unique in its project.
        name: Text,
        /// Free text.
        description: Text,
        /// Free pairs.
        labels: OrdMap<Text, Text>,
        /// Milliseconds since the epoch.
        created_at: i64,
        /// Milliseconds since the epoch.
        updated_at: i64,
        /// Revision of the last change.
        revision: i64,
        /// Its network.
        network: Strong<VirtualNetwork> => |c| c.immutable(),
        /// As `0a:00:00:00:00:01`.
        mac: Text,
        /// Addresses, chosen or allocated.
        addresses: OrdSet<Text>,
        /// Neither sends nor receives.
        disabled: bool,
        /// Lets foreign addresses pass.
        port_security_disabled: bool,
        /// `MAC IP…` entries beyond the port's own.
        allowed_address_pairs: OrdSet<Text>,
        /// Receives what nobody in the network owns.
        receive_unknown: bool,
        /// For DHCP; empty means the name.
        hostname: Text,
        /// The only chassis that may hold it; empty for any.
        host: Text,
        /// Groups whose rules filter it; none means its network's default.
        security_groups: OrdSet<Strong<SecurityGroup>>,
        /// Not even the network's default.
        no_security_groups: bool,
        /// Name of the VM behind it; empty for none.
        vm: Text,
        /// Labels of that VM.
        vm_labels: OrdMap<Text, Text>,
    }
    indexes [["project", "name"]]
}

table! {
    /// A router of a tenant.
    pub struct Router = QuantumNet "Router" [root] {
        /// Whose it is.
        project: Strong<Project>,
        /// Unique in its project.
        name: Text,
        /// Free text.
        description: Text,
        /// Free pairs.
        labels: OrdMap<Text, Text>,
        /// Milliseconds since the epoch.
        created_at: i64,
        /// Milliseconds since the epoch.
        updated_at: i64,
        /// Revision of the last change.
        revision: i64,
        /// Networks that it routes between, as the gateway of their subnets.
        networks: OrdSet<Strong<VirtualNetwork>>,
        /// `PREFIX NEXTHOP`, beside those to its networks and the default by the external one.
        routes: OrdSet<Text>,
        /// The network by which it is connected to the outside.
        external: Option<Strong<VirtualNetwork>>,
        /// Its address there; empty without one.
        external_address: Text,
        /// Connections to the outside keep their source address.
        snat_disabled: bool,
        /// Chassis that may be its gateway, the preferred first, with commas between them; empty for every one that is
        /// connected to the external network.
        gateways: Text,
        /// Floating addresses are served by the hypervisors of their ports.
        distributed: bool,
        /// Routes nothing.
        disabled: bool,
    }
    indexes [["project", "name"]]
}

table! {
    /// An address of an external network that leads to a port.
    pub struct FloatingIp = QuantumNet "Floating_IP" [root] {
        /// Whose it is.
        project: Strong<Project>,
        /// Unique in its project.
        name: Text,
        /// Free text.
        description: Text,
        /// Free pairs.
        labels: OrdMap<Text, Text>,
        /// Milliseconds since the epoch.
        created_at: i64,
        /// Milliseconds since the epoch.
        updated_at: i64,
        /// Revision of the last change.
        revision: i64,
        /// The external network.
        network: Strong<VirtualNetwork> => |c| c.immutable(),
        /// The address, chosen or allocated.
        address: Text,
        /// Where it leads; none while it is only kept.
        port: Option<Weak<Port>>,
    }
    indexes [["project", "name"]]
}

table! {
    /// What ports may receive and send.
    pub struct SecurityGroup = QuantumNet "Security_Group" [root] {
        /// Whose it is.
        project: Strong<Project>,
        /// Unique in its project.
        name: Text,
        /// Free text.
        description: Text,
        /// Free pairs.
        labels: OrdMap<Text, Text>,
        /// Milliseconds since the epoch.
        created_at: i64,
        /// Milliseconds since the epoch.
        updated_at: i64,
        /// Revision of the last change.
        revision: i64,
        /// What becomes of traffic that is about to reach a member and no rule decides; empty is `drop`.
        default_ingress: Text => |c| c.with(|t| t.one_of(&["", "allow", "drop", "reject"])),
        /// What becomes of traffic that a member sends and no rule decides; empty is `allow`.
        default_egress: Text => |c| c.with(|t| t.one_of(&["", "allow", "drop", "reject"])),
        /// No connections are tracked for it.
        stateless: bool,
        /// Its rules.
        rules: OrdSet<Strong<SecurityGroupRule>>,
    }
    indexes [["project", "name"]]
}

table! {
    /// A rule of a security group. What may be left out is kept as it was said.
    pub struct SecurityGroupRule = QuantumNet "Security_Group_Rule" {
        /// Place in the list of rules.
        position: i64,
        /// Empty for none.
        name: Text,
        /// Free text.
        description: Text,
        /// Empty is `ingress`.
        direction: Text => |c| c.with(|t| t.one_of(&["", "ingress", "egress"])),
        /// Empty is `allow`.
        action: Text => |c| c.with(|t| t.one_of(&["", "allow", "drop", "reject"])),
        /// Higher wins, of equals what does not allow; 0 is 1000.
        priority: i64 => |c| c.with(|t| t.range(0, 5000)),
        /// Name or number; empty for any.
        protocol: Text,
        /// Ports and ranges with commas between them; empty for all.
        ports: Text,
        /// Type of ICMP.
        icmp_type: Option<i64> => |c| c.with(|t| t.range(0, 255)),
        /// Code of ICMP.
        icmp_code: Option<i64> => |c| c.with(|t| t.range(0, 255)),
        /// Addresses at the other end; empty for all.
        remote_prefix: Text,
        /// Group whose members are at the other end.
        remote_group: Option<Strong<SecurityGroup>>,
        /// No connections are tracked for it.
        stateless: bool,
        /// Connections that it allowed go on when it no longer does.
        persist_established: bool,
    }
}

table! {
    /// Who may talk to whom, by labels.
    pub struct SecurityPolicy = QuantumNet "Security_Policy" [root] {
        /// Whose ports it is about; of project `system` those of all projects.
        project: Strong<Project>,
        /// Unique in its project.
        name: Text,
        /// Free text.
        description: Text,
        /// Free pairs.
        labels: OrdMap<Text, Text>,
        /// Milliseconds since the epoch.
        created_at: i64,
        /// Milliseconds since the epoch.
        updated_at: i64,
        /// Revision of the last change.
        revision: i64,
        /// When it is asked; empty is `platform` in project `system` and `project` elsewhere.
        r#order: Text => |c| c.with(|t| t.one_of(&["", "platform", "project", "default"])),
        /// Among policies of one order the higher is asked first.
        priority: i64 => |c| c.with(|t| t.range(0, 100)),
        /// Counts what it would do, and does nothing.
        staged: bool,
        /// Which ports of its allowing rules have nothing else; empty is `destinations`.
        isolate: Text => |c| c.with(|t| t.one_of(&["", "nothing", "destinations", "both"])),
        /// Its rules, asked in their order.
        rules: OrdSet<Strong<SecurityPolicyRule>>,
    }
    indexes [["project", "name"]]
}

table! {
    /// A rule of a policy. What may be left out is kept as it was said.
    pub struct SecurityPolicyRule = QuantumNet "Security_Policy_Rule" {
        /// Place in the list of rules.
        position: i64,
        /// Empty for none.
        name: Text,
        /// Free text.
        description: Text,
        /// As `role=web -> role=db : 5432`; see `selector::Traffic`.
        traffic: Text,
        /// Empty is `allow`.
        action: Text => |c| c.with(|t| t.one_of(&["", "allow", "drop", "reject", "pass"])),
        /// No connections are tracked for it.
        stateless: bool,
        /// Connections that it allowed go on when it no longer does.
        persist_established: bool,
    }
}

table! {
    /// Ports of a project that a selector matches: there is one as long as a policy needs it.
    pub struct SelectorGroup = QuantumNet "Selector_Group" [root] {
        /// The `Project`.
        project: Uuid,
        /// In its normal form.
        selector: Text,
    }
    indexes [["project", "selector"]]
}

table! {
    /// A pool that keys or addresses are taken from, kept as runs: what is in none of the columns is taken.
    pub struct Pool = QuantumNet "Pool" [root] {
        /// What it is a pool of: `datapath`, `port <datapath uuid>`, `address <subnet or switch uuid>`, `tag <parent>`,
        /// `mac <prefix>`.
        name: Text,
        /// Runs of free keys, from first to last, as 32 hexadecimal digits.
        free: OrdMap<Text, Text>,
        /// Keys that were given back and rest, with the time of their release in milliseconds since the epoch.
        resting: OrdMap<Text, i64>,
        /// The resting keys by the time of their release: `<time> <key>`, in hexadecimal.
        queue: OrdSet<Text>,
    }
    indexes [["name"]]
}

table! {
    /// A MAC or IP address in use in a network, so that no two ports have it.
    pub struct Address = QuantumNet "Address" [root] {
        /// The `Virtual_Network`.
        network: Uuid,
        /// In its normal form.
        address: Text,
        /// The `Port`, `Router` or `Floating_IP` that has it.
        port: Uuid,
    }
    indexes [["network", "address"]]
}

table! {
    /// An index that is not unique, as rows: lowering looks rows up by what OVN's tables have no index for.
    pub struct Lookup = QuantumNet "Lookup" [root] {
        /// `hostname`, `requested-chassis`, `parent`, `guest-mtu`, `nb-cfg` and others: see `lower::lookup`.
        kind: Text,
        /// What is looked for; numbers have a fixed width.
        key: Text,
        /// The row found.
        row: Uuid,
    }
    indexes [["kind", "key", "row"]]
}

table! {
    /// A chassis took a port from another that still claims it. The uuid is that of the `Port_Binding`.
    pub struct Takeover = QuantumNet "Takeover" [root] {
        /// The uuid again, for the index.
        port: Uuid,
        /// Milliseconds since the epoch.
        taken_at: i64,
        /// When claims that wait are looked at again, in milliseconds since the epoch; the highest
        /// number when none waits.
        due: i64,
    }
    indexes [["due", "port"]]
}

table! {
    /// A request that was answered, remembered so that a repetition makes nothing twice.
    pub struct Request = QuantumNet "Request" [root] {
        /// Who asked.
        principal: Text,
        /// The client's id for the request.
        request_id: Text,
        /// Method and digest of the body: the same id with another body is refused.
        fingerprint: Text,
        /// The object that was made or changed, if any is left.
        object: Option<Uuid>,
        /// Revision of the answer.
        revision: i64,
        /// Milliseconds since the epoch.
        answered_at: i64,
    }
    indexes [["answered_at", "principal", "request_id"], ["principal", "request_id"]]
}

table! {
    /// A row that is kept but has no effect, or only part of it, or that another contradicts, and why.
    pub struct Problem = QuantumNet "Problem" [root] {
        /// Database of the row.
        database: Text,
        /// Its table.
        table: Text,
        /// Its uuid.
        row: Uuid,
        /// The column at fault.
        column: Text,
        /// Whether the row is at fault, another row has the same address, or what it asks for is not there yet.
        severity: Text => |c| c.with(|t| t.one_of(&["error", "conflict", "warning"])),
        /// For people.
        message: Text,
    }
    indexes [["row", "column", "table", "severity"]]
}
