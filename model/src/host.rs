//! `Host`: facts about one hypervisor, as rows beside the replicated ones, so that the compiler reads
//! both in one way. They live in the agent only: nothing here is sent or stored.

use uuid::Uuid;

use crate::{column::Text, table};

table! {
    /// Who this hypervisor is. One row.
    pub struct HostSelf = Host "Host_Self" [root max 1] {
        /// external_ids:system-id, the chassis' name.
        chassis: Text,
        /// The slot of Geneve option class 0x0102 type 0x80 in the switch's TLV table: `tun_metadataN`.
        tunnel_option: i64,
        /// The datapath can write the reserved bits and the type of options of neighbour discovery.
        nd_extensions: bool,
        /// The datapath tracks SCTP associations by their ports.
        sctp_ports: bool,
    }
    indexes [["chassis"]]
}

table! {
    /// An interface of the integration bridge that carries an iface-id.
    pub struct HostInterface = Host "Host_Interface" [root] {
        /// Name of the device.
        name: Text,
        /// external_ids:iface-id.
        iface_id: Text,
        /// OpenFlow port number; 0 or less while it has none.
        ofport: i64,
        /// First of the numbers of its meters, given by the agent and kept over restarts; 0 for none.
        meter: i64,
    }
    indexes [["iface_id"], ["name"]]
}

table! {
    /// A tunnel port to an endpoint of another chassis.
    pub struct HostTunnel = Host "Host_Tunnel" [root] {
        /// The southbound `Chassis`.
        chassis: Uuid,
        /// The southbound `Encap`.
        encap: Uuid,
        /// OpenFlow port number.
        ofport: i64,
        /// Its BFD session is up.
        heard: bool,
        /// The session is up, and neither end says that it can't forward or this end has not forwarded for long itself.
        alive: bool,
    }
    indexes [["encap"], ["ofport"]]
}

table! {
    /// A patch port to the bridge of a physical network.
    pub struct HostPatch = Host "Host_Patch" [root] {
        /// The logical port that it is for, of type `localnet` or `l2gateway`.
        logical_port: Text,
        /// OpenFlow port number.
        ofport: i64,
        /// As that of an interface.
        meter: i64,
    }
    indexes [["logical_port"]]
}

table! {
    /// A port that has shown itself here while it waited for that (`activation-strategy`), until the store says so. The
    /// row has the uuid of the port's `Port_Binding`.
    pub struct HostActivated = Host "Host_Activated" [root] {
        /// The logical port.
        logical_port: Text,
    }
    indexes [["logical_port"]]
}

table! {
    /// A learned MAC that is to be seen again, since it is half as old as it may become (`fdb_age_threshold`). The row
    /// has the uuid of the `FDB` row.
    pub struct HostOldMac = Host "Host_Old_Mac" [root] {
        /// The address.
        mac: Text,
    }
}

table! {
    /// The zone in which a port's connections are tracked, given by the agent and kept over restarts. The row has the uuid
    /// of the port's `Port_Binding`, or of the `Datapath_Binding` of a router that keeps there by which ways connections go.
    pub struct HostZone = Host "Host_Zone" [root] {
        /// The zone.
        zone: i64,
    }
}

table! {
    /// The zones in which a router's translations are kept, given by the agent and kept over restarts. The row has the uuid of
    /// the router's `Datapath_Binding`.
    pub struct HostRouterZones = Host "Host_Router_Zones" [root] {
        /// Of destinations.
        dnat: i64,
        /// Of sources.
        snat: i64,
    }
}

table! {
    /// The number of a conjunctive match, given by the agent. The row has the uuid by which the compiler asked for it.
    pub struct HostConjunction = Host "Host_Conjunction" [root] {
        /// Its id in the switch.
        id: i64,
        /// Of flows that belong to very many conjunctions there are several; which of them it is in.
        list: i64,
    }
}

table! {
    /// The numbers of a rule's conjunctive matches, given by the agent. The row has the uuid of the rule: a `QoS` or a
    /// `Mirror_Rule`. In tables of their own, so that they may be those of a conjunction too.
    pub struct HostRule = Host "Host_Rule" [root] {
        /// The first of its conjunction ids; the next 255 are its own too.
        conjunction: i64,
    }
}

table! {
    /// A meter that a row needs of its own, given by the agent. The row has the uuid of the one that needs it: an `ACL` that
    /// logs, a `QoS` rule with a rate, a `Meter` that protocols are limited by. Without one the switch has no meter for it.
    pub struct HostMeter = Host "Host_Meter" [root] {
        /// Number of the meter.
        number: i64,
    }
}

table! {
    /// A group of chassis that this one served until a moment ago and goes on to serve for packets that are on their way,
    /// since another member has taken over. The row has the uuid of the southbound `HA_Chassis_Group`.
    pub struct HostHandover = Host "Host_Handover" [root] {
        /// Name of the group.
        name: Text,
    }
}

table! {
    /// Numbers of a router's port, or of one between switches, given by the agent and kept over restarts. The row has the uuid of
    /// the port's `Port_Binding`.
    pub struct HostRouterPort = Host "Host_Router_Port" [root] {
        /// As that of an interface.
        meter: i64,
    }
}

table! {
    /// A neighbour's MAC that this hypervisor has learned and the store has not told of yet.
    pub struct HostNeighbour = Host "Host_Neighbour" [root] {
        /// The `Port_Binding` of the router port.
        port: Uuid,
        /// The neighbour's IPv4 or IPv6 address.
        ip: Text,
        /// The neighbour's MAC.
        mac: Text,
    }
}

table! {
    /// Number of a group of the switch, given by the agent. The row has the uuid of what the group is for.
    pub struct HostGroup = Host "Host_Group" [root] {
        /// The group.
        group: i64,
    }
}
