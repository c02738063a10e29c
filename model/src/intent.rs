//! `QuantumNet`: what users asked for, and what the store keeps about itself.
//!
//! # Invariants
//! - An object's northbound row has the object's uuid: `VirtualNetwork` is a `Logical_Switch`, `Port` a
//!   `Logical_Switch_Port`, `Subnet` a `DHCP_Options`, `Router` a `Logical_Router`, `FloatingIp` a `NAT`. A northbound row is owned by intent exactly when
//!   such a row exists.

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
    /// A row that is kept but has no effect, or only part of it, and why.
    pub struct Problem = QuantumNet "Problem" [root] {
        /// Database of the row.
        database: Text,
        /// Its table.
        table: Text,
        /// Its uuid.
        row: Uuid,
        /// The column at fault.
        column: Text,
        /// Whether the row is at fault, or what it asks for is not there yet.
        severity: Text => |c| c.with(|t| t.one_of(&["error", "warning"])),
        /// For people.
        message: Text,
    }
    indexes [["row", "column", "table", "severity"]]
}
