//! What is in the switch database: the integration bridge, its interfaces and tunnels.
//!
//! # Invariants
//! - A pure function of the replica.
//! - An interface whose ids no controller would take is named as a problem and left out.
//! - Of two interfaces with one iface-id the first by name counts, and both are named as a problem.

use std::collections::{BTreeMap, BTreeSet};

use ovsdb::{
    replica::{Replica, Row},
    request::ReplicaRequest,
    value::Atom,
};
use uuid::Uuid;

use crate::host::{Config, Egress, MirrorPort, MirrorRow};

/// The integration bridge.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Bridge {
    /// Not there: to be made.
    #[default]
    Missing,
    /// There, and not to be used.
    Refused,
    /// There.
    Ready {
        /// Its row.
        row: Uuid,
    },
}

/// An interface with an iface-id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plugged {
    /// Its row.
    pub row: Uuid,
    /// Row of its port.
    pub port: Uuid,
    /// Its device's name.
    pub name: String,
    /// external_ids:iface-id-ver, or empty.
    pub iface_id_ver: String,
    /// Its OpenFlow port; 0 while it has none.
    pub ofport: i64,
    /// Whether it says `ovn-installed`.
    pub installed: bool,
}

/// A tunnel port that the agent made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TunnelPort {
    /// Row of the port.
    pub port: Uuid,
    /// Row of its interface.
    pub interface: Uuid,
    /// Name of both.
    pub name: String,
    /// The chassis at the other end.
    pub chassis: Uuid,
    /// Its OpenFlow port; 0 while it has none.
    pub ofport: i64,
    /// options of the interface.
    pub options: BTreeMap<String, String>,
    /// bfd of the interface.
    pub bfd: BTreeMap<String, String>,
    /// What of bfd_status counts.
    pub session: Session,
}

/// The BFD session of a tunnel, as ovs-vswitchd has it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Session {
    /// `admin_down`, `down`, `init` or `up`; empty without a session.
    pub state: String,
    /// The same of the other end, as last heard.
    pub remote_state: String,
    /// It is up, and neither end says that it can't forward.
    pub forwards: bool,
    /// How often it has come up or gone down.
    pub flaps: u64,
}

/// One end of a patch between the integration bridge and that of a physical network.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PatchEnd {
    /// The bridge that it is on.
    pub bridge: Uuid,
    /// Row of the port.
    pub port: Uuid,
    /// Row of its interface.
    pub interface: Uuid,
    /// The logical port that it is for.
    pub logical_port: String,
    /// The other end.
    pub peer: String,
    /// Its OpenFlow port; 0 while it has none.
    pub ofport: i64,
}

/// All of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Observed {
    /// The bridge.
    pub bridge: Bridge,
    /// Interfaces by iface-id.
    pub interfaces: BTreeMap<String, Plugged>,
    /// Tunnel ports of ours by `Encap`.
    pub tunnels: BTreeMap<Uuid, TunnelPort>,
    /// Ends of patches of ours, by name.
    pub patches: BTreeMap<String, PatchEnd>,
    /// What ovs-vswitchd has made of the database: `cur_cfg` and `next_cfg`.
    pub configured: (i64, i64),
    /// Mirrors of the integration bridge by name.
    pub mirrors: BTreeMap<String, MirrorRow>,
    /// Ports there that may be those of mirrors, by name.
    pub mirror_ports: BTreeMap<String, MirrorPort>,
    /// Ports there by the external_ids:mirror-id of their interface.
    pub sinks: BTreeMap<String, Uuid>,
    /// Bridges by name.
    pub bridges: BTreeMap<String, Uuid>,
    /// Ways out of bridges of physical networks, by the bridge's name.
    pub egresses: BTreeMap<String, Egress>,
    /// Ports of ours that no longer say what they are for.
    pub stray: BTreeSet<Uuid>,
    /// Names of all ports.
    pub names: BTreeSet<String>,
    /// Facts for `Chassis.other_config`.
    pub facts: BTreeMap<String, String>,
    /// What is wrong.
    pub problems: Vec<String>,
}

/// What of the switch database the agent follows.
pub fn request() -> ReplicaRequest {
    ReplicaRequest::new("Open_vSwitch")
        .table(
            "Open_vSwitch",
            ["external_ids", "bridges", "iface_types", "ovs_version", "cur_cfg", "next_cfg"],
        )
        .table(
            "Bridge",
            [
                "name",
                "ports",
                "mirrors",
                "fail_mode",
                "datapath_type",
                "other_config",
                "protocols",
                "controller",
            ],
        )
        .table("Port", ["name", "interfaces", "external_ids", "qos"])
        .table("Mirror", ["name", "output_port", "select_src_port", "select_dst_port", "external_ids"])
        .table("QoS", ["queues", "external_ids"])
        .table("Queue", ["other_config", "external_ids"])
        .table(
            "Interface",
            ["name", "type", "ofport", "external_ids", "options", "error", "bfd", "bfd_status"],
        )
        .skip_missing()
}

impl Observed {
    /// Looks.
    pub fn new(replica: &Replica, config: &Config) -> Self {
        let mut this = Self::default();
        if let Some(system) = replica.rows("Open_vSwitch").next() {
            let number = |column| system.integer(column).unwrap_or_default();
            this.configured = (number("cur_cfg"), number("next_cfg"));
            let types: Vec<&str> = system.strings("iface_types").collect();
            this.facts.insert("iface-types".to_owned(), types.join(","));
            if let Some(version) = system.string("ovs_version") {
                this.facts.insert("ovs-version".to_owned(), version.to_owned());
            }
        }
        this.names = replica.rows("Port").filter_map(|port| port.string("name")).map(str::to_owned).collect();
        for bridge in replica.rows("Bridge") {
            this.bridges.insert(bridge.string("name").unwrap_or_default().to_owned(), bridge.uuid());
            this.patch_ends(replica, bridge);
        }
        this.closed_networks(replica, config);
        this.egresses(replica, config);
        let Some(bridge) = replica.rows("Bridge").find(|row| row.string("name") == Some(&config.bridge))
        else {
            return this;
        };
        if bridge.string("fail_mode") != Some("secure") {
            this.problems.push(format!(
                "bridge {name} is there with fail_mode {mode}, which forwards whatever it likes while no flows are \
                 there; delete it, or run: ovs-vsctl set-fail-mode {name} secure",
                name = config.bridge,
                mode = bridge.string("fail_mode").unwrap_or("standalone (the default)"),
            ));
            this.bridge = Bridge::Refused;
            return this;
        }
        this.bridge = Bridge::Ready { row: bridge.uuid() };
        this.mirrors(replica, bridge);
        for port in bridge.references("ports").filter_map(|uuid| replica.row("Port", uuid)) {
            let interfaces = port.references("interfaces").filter_map(|uuid| replica.row("Interface", uuid));
            for interface in interfaces {
                this.mirror_port(port, interface);
                this.interface(port, interface);
            }
        }
        this
    }

    /// The ends on the integration bridge that have a port number.
    pub fn near_patches(&self) -> impl Iterator<Item = &PatchEnd> {
        let Bridge::Ready { row } = self.bridge else { return None.into_iter().flatten() };
        let near = move |end: &&PatchEnd| end.bridge == row && end.ofport > 0;
        Some(self.patches.values().filter(near)).into_iter().flatten()
    }

    fn patch_ends(&mut self, replica: &Replica, bridge: &Row) {
        for port in bridge.references("ports").filter_map(|uuid| replica.row("Port", uuid)) {
            let mut marks = PATCH_MARKS.iter().filter_map(|mark| port.map_string("external_ids", mark));
            let Some(logical_port) = marks.next() else { continue };
            let interface = port.references("interfaces").find_map(|uuid| replica.row("Interface", uuid));
            let Some(interface) = interface.filter(|row| row.string("type") == Some("patch")) else {
                continue;
            };
            let end = PatchEnd {
                bridge: bridge.uuid(),
                port: port.uuid(),
                interface: interface.uuid(),
                logical_port: logical_port.to_owned(),
                peer: interface.map_string("options", "peer").unwrap_or_default().to_owned(),
                ofport: interface.integer("ofport").unwrap_or_default().max(0),
            };
            self.patches.insert(port.string("name").unwrap_or_default().to_owned(), end);
        }
    }

    /// Bridges of physical networks that forward nothing by themselves.
    fn closed_networks(&mut self, replica: &Replica, config: &Config) {
        for (network, bridge) in &config.mappings {
            let row = self.bridges.get(bridge).and_then(|row| replica.row("Bridge", *row));
            let Some(row) = row else { continue };
            if row.string("fail_mode") == Some("secure") && row.references("controller").next().is_none() {
                self.problems.push(format!(
                    "bridge {bridge} of network {network} has fail_mode secure and no controller: it forwards only by \
                     flows that somebody else adds"
                ));
            }
        }
    }

    fn interface(&mut self, port: &Row, interface: &Row) {
        let name = interface.string("name").unwrap_or_default();
        if let Some(error) = interface.string("error").filter(|error| !error.is_empty()) {
            self.problems.push(format!("interface {name}: {error}"));
        }
        let ofport = interface.integer("ofport").unwrap_or_default().max(0);
        if let Some(encap) = port.map_string("external_ids", TUNNEL_ENCAP) {
            let chassis = port.map_string("external_ids", TUNNEL_CHASSIS).and_then(|text| text.parse().ok());
            let (Ok(encap), Some(chassis)) = (encap.parse::<Uuid>(), chassis) else {
                self.stray.insert(port.uuid());
                return;
            };
            let tunnel = TunnelPort {
                port: port.uuid(),
                interface: interface.uuid(),
                name: name.to_owned(),
                chassis,
                ofport,
                options: map(interface, "options"),
                bfd: map(interface, "bfd"),
                session: Session::read(interface),
            };
            if let Some(other) = self.tunnels.insert(encap, tunnel) {
                self.stray.insert(other.port);
            }
            return;
        }
        let external = |key| interface.map_string("external_ids", key);
        let Some(iface_id) = external("iface-id").filter(|id| !id.is_empty()) else { return };
        for (key, value) in [("iface-id", external("iface-id")), ("iface-id-ver", external("iface-id-ver"))] {
            // A controller would refuse all that this host says for one such name.
            if value.is_some_and(|value| value.len() > ID_BYTES_MAX || value.chars().any(char::is_control)) {
                self.problems.push(format!("interface {name}: external_ids:{key} is no name; it is ignored"));
                return;
            }
        }
        let plugged = Plugged {
            row: interface.uuid(),
            port: port.uuid(),
            name: name.to_owned(),
            iface_id_ver: external("iface-id-ver").unwrap_or_default().to_owned(),
            ofport,
            installed: external("ovn-installed").is_some(),
        };
        match self.interfaces.get_mut(iface_id) {
            Some(other) => {
                let mut names = [other.name.clone(), plugged.name.clone()];
                names.sort();
                self.problems.push(format!(
                    "interfaces {} and {} both have iface-id {iface_id}: the first is used",
                    names[0], names[1]
                ));
                if plugged.name < other.name {
                    *other = plugged;
                }
            }
            None => drop(self.interfaces.insert(iface_id.to_owned(), plugged)),
        }
    }
}

impl Session {
    fn read(interface: &Row) -> Self {
        let status = |key| interface.map_string("bfd_status", key).unwrap_or_default();
        // What is left of a session that is switched off says nothing.
        if interface.map_string("bfd", "enable") != Some("true") {
            return Self::default();
        }
        Self {
            state: status("state").to_owned(),
            remote_state: status("remote_state").to_owned(),
            forwards: status("forwarding") == "true",
            flaps: status("flap_count").parse().unwrap_or_default(),
        }
    }

    /// This end hears the other.
    pub fn is_up(&self) -> bool {
        self.state == "up"
    }

    /// Both ends hear each other, and each knows it.
    pub fn is_settled(&self) -> bool {
        self.is_up() && self.remote_state == "up"
    }
}

fn map(row: &Row, column: &str) -> BTreeMap<String, String> {
    let pairs = row.get(column).into_iter().flat_map(|datum| datum.pairs());
    let text = |atom: &Atom| atom.as_str().unwrap_or_default().to_owned();
    pairs.map(|(key, value)| (text(key), text(value))).collect()
}

/// external_ids of a patch port, as ovn-controller has them: the logical port that it is for.
pub(super) const PATCH_MARKS: [&str; 2] = ["ovn-localnet-port", "ovn-l2gateway-port"];
const ID_BYTES_MAX: usize = 255;
/// external_ids of a tunnel port: the `Encap` at the other end.
pub(super) const TUNNEL_ENCAP: &str = "quantumnet-encap";
/// external_ids of a tunnel port: the `Chassis` at the other end.
pub(super) const TUNNEL_CHASSIS: &str = "quantumnet-chassis";
