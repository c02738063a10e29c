//! What a lab is made of, and the addresses that follow from it.
//!
//! # Contract
//! - In: a [`LabSpec`] from a person or a test. Out: names, addresses and link names, all a function of the spec.
//!
//! # Invariants
//! - Addresses never clash between labs, because none of them exists outside a lab's own namespaces.
//! - No interface name is longer than the kernel's 15 bytes.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    str::FromStr,
    sync::atomic::{AtomicU32, Ordering},
};

use serde::{Deserialize, Serialize};

use crate::{Error, Netns, Result};

/// A lab as it is asked for.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LabSpec {
    /// Name, unique among the labs of one base folder.
    pub name: String,
    /// How many controllers form the cluster.
    pub controllers: u16,
    /// How many hypervisors there are.
    pub hypervisors: u16,
    /// The IP version of the network that carries the tunnels.
    pub underlay: Underlay,
    /// MTU of that network.
    pub mtu: u32,
    /// Which of OVS's datapaths the bridges use.
    pub datapath: Datapath,
    /// The programs under test; without them the lab is Open vSwitch alone.
    pub programs: Option<Programs>,
}

impl Default for LabSpec {
    fn default() -> Self {
        Self {
            name: "default".into(),
            controllers: 1,
            hypervisors: 2,
            underlay: Underlay::Ipv4,
            mtu: UNDERLAY_MTU,
            datapath: Datapath::Netdev,
            programs: None,
        }
    }
}

impl LabSpec {
    /// A lab for a test: a name that no other test has, and `hypervisors` without controllers or agents.
    pub fn switches_only(purpose: &str, hypervisors: u16) -> Self {
        Self { name: unique_name(purpose), controllers: 0, hypervisors, ..Self::default() }
    }

    /// A lab for a test: a name that no other test has, `controllers` in one cluster, and `hypervisors` with agents.
    pub fn with_programs(purpose: &str, controllers: u16, hypervisors: u16, programs: Programs) -> Self {
        let name = unique_name(purpose);
        Self { name, controllers, hypervisors, programs: Some(programs), ..Self::default() }
    }

    /// Refuses what cannot be built, with the rule that was broken.
    pub fn validate(&self) -> Result<()> {
        let invalid =
            |what, value: String, rule: &str| Err(Error::Invalid { what, value, rule: rule.into() });
        valid_name("lab name", &self.name)?;
        if self.controllers > CONTROLLERS_MAX {
            return invalid("controllers", self.controllers.to_string(), "at most 5");
        }
        if self.hypervisors > HYPERVISORS_MAX {
            return invalid("hypervisors", self.hypervisors.to_string(), "at most 200");
        }
        if self.controllers > 0 && self.programs.is_none() {
            return invalid("controllers", self.controllers.to_string(), "need programs; 0 without them");
        }
        if !(1280..=65_000).contains(&self.mtu) {
            return invalid("mtu", self.mtu.to_string(), "from 1280 to 65000");
        }
        Ok(())
    }

    /// Every node of the lab in the order in which they are made.
    pub fn nodes(&self) -> impl Iterator<Item = Node> + use<> {
        let controllers = (1..=self.controllers).map(Node::Controller);
        let hypervisors = (1..=self.hypervisors).map(Node::Hypervisor);
        std::iter::once(Node::Net).chain(controllers).chain(hypervisors)
    }

    /// The daemons of the lab in the order in which they are started.
    pub fn daemons(&self) -> impl Iterator<Item = Daemon> + use<> {
        let with_programs = self.programs.is_some();
        let controllers = (1..=self.controllers).map(Daemon::Controller);
        let switches = (1..=self.hypervisors).flat_map(|n| [Daemon::OvsdbServer(n), Daemon::Vswitchd(n)]);
        let agents = (1..=self.hypervisors).filter(move |_| with_programs).map(Daemon::Agent);
        controllers.chain(switches).chain(agents)
    }

    /// The tunnel addresses of hypervisor `n`, the preferred one first.
    pub fn tunnel_addresses(&self, n: u16) -> Vec<IpAddr> {
        let v4 = IpAddr::V4(Ipv4Addr::new(172, 31, 0, low_byte(n)));
        let v6 = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x31, 0, 0, 0, 0, 0, n));
        match self.underlay {
            Underlay::Ipv4 => vec![v4],
            Underlay::Ipv6 => vec![v6],
            Underlay::Dual => vec![v4, v6],
        }
    }

    pub(crate) fn netns(&self, place: impl fmt::Display) -> Netns {
        Netns::named(format!("{}{place}", namespace_prefix(&self.name)))
    }
}

/// The programs under test and how to start them.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Programs {
    /// Path of `quantumnet-controller`.
    pub controller: PathBuf,
    /// Path of `quantumnet-agent`.
    pub agent: PathBuf,
    /// More arguments for every controller.
    pub controller_args: Vec<String>,
    /// More arguments for every agent.
    pub agent_args: Vec<String>,
    /// Environment of both, such as `QUANTUMNET_LOG`.
    pub env: BTreeMap<String, String>,
}

impl Programs {
    /// Both programs from one folder, such as cargo's target folder.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self {
            controller: folder.join("quantumnet-controller"),
            agent: folder.join("quantumnet-agent"),
            ..Self::default()
        }
    }
}

/// The IP version of the tunnel network.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Underlay {
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
    /// Both; `ovn-encap-ip` lists the IPv4 address first.
    Dual,
}

/// Which datapath Open vSwitch uses.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Datapath {
    /// In `ovs-vswitchd` itself; needs nothing of the kernel.
    Netdev,
    /// The kernel module `openvswitch`.
    System,
}

impl Datapath {
    /// The value of `Bridge.datapath_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Netdev => "netdev",
            Self::System => "system",
        }
    }
}

/// One namespace of the lab that is not a VM.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Node {
    /// The wires: the bridges for tunnels, management and the physical network.
    Net,
    /// Controller n, counted from 1.
    Controller(u16),
    /// Hypervisor n, counted from 1.
    Hypervisor(u16),
}

impl Node {
    /// The address in the management network.
    pub fn management_address(self) -> Ipv4Addr {
        match self {
            Self::Net => Ipv4Addr::new(10, 254, 255, 254),
            Self::Controller(n) => Ipv4Addr::new(10, 254, 0, low_byte(n)),
            Self::Hypervisor(n) => Ipv4Addr::new(10, 254, 1, low_byte(n)),
        }
    }

    /// The end in [`Node::Net`] of this node's link to a network.
    pub(crate) fn near_link(self, link: Link) -> String {
        let node = match self {
            Self::Net => "net".to_owned(),
            Self::Controller(n) => format!("c{n}"),
            Self::Hypervisor(n) => format!("hv{n}"),
        };
        format!("{}-{node}", link.bridge())
    }
}

impl fmt::Display for Node {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net => write!(out, "net"),
            Self::Controller(n) => write!(out, "controller{n}"),
            Self::Hypervisor(n) => write!(out, "hv{n}"),
        }
    }
}

impl FromStr for Node {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |prefix: &str| text.strip_prefix(prefix).and_then(|digits| digits.parse::<u16>().ok());
        match (text, number("controller"), number("hv")) {
            ("net", _, _) => Ok(Self::Net),
            (_, Some(n), _) => Ok(Self::Controller(n)),
            (_, _, Some(n)) => Ok(Self::Hypervisor(n)),
            _ => Err(Error::Invalid {
                what: "node",
                value: text.into(),
                rule: "net, controllerN or hvN".into(),
            }),
        }
    }
}

/// A network a node is attached to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Link {
    /// Controllers and agents talk here.
    Management,
    /// Tunnels between hypervisors.
    Underlay,
    /// The physical network behind `physnet1`.
    Physical,
}

impl Link {
    /// The bridge in the namespace [`Node::Net`].
    pub fn bridge(self) -> &'static str {
        match self {
            Self::Management => "mg",
            Self::Underlay => "ul",
            Self::Physical => "px",
        }
    }

    /// The interface in the node's namespace.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Management => "mgmt",
            Self::Underlay => "eth0",
            Self::Physical => "eth1",
        }
    }
}

/// A long-running program of the lab.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Daemon {
    /// `quantumnet-controller` of controller n.
    Controller(u16),
    /// `quantumnet-agent` on hypervisor n.
    Agent(u16),
    /// `ovs-vswitchd` on hypervisor n.
    Vswitchd(u16),
    /// `ovsdb-server` on hypervisor n.
    OvsdbServer(u16),
}

impl Daemon {
    /// Where it runs.
    pub fn node(self) -> Node {
        match self {
            Self::Controller(n) => Node::Controller(n),
            Self::Agent(n) | Self::Vswitchd(n) | Self::OvsdbServer(n) => Node::Hypervisor(n),
        }
    }
}

impl fmt::Display for Daemon {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller(n) => write!(out, "controller{n}"),
            Self::Agent(n) => write!(out, "agent{n}"),
            Self::Vswitchd(n) => write!(out, "vswitchd{n}"),
            Self::OvsdbServer(n) => write!(out, "ovsdb-server{n}"),
        }
    }
}

impl FromStr for Daemon {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
        let kind = text.strip_suffix(digits).unwrap_or(text);
        match (kind, digits.parse()) {
            ("controller", Ok(n)) => Ok(Self::Controller(n)),
            ("agent", Ok(n)) => Ok(Self::Agent(n)),
            ("vswitchd", Ok(n)) => Ok(Self::Vswitchd(n)),
            ("ovsdb-server", Ok(n)) => Ok(Self::OvsdbServer(n)),
            _ => Err(Error::Invalid {
                what: "daemon",
                value: text.into(),
                rule: "controllerN, agentN, vswitchdN or ovsdb-serverN".into(),
            }),
        }
    }
}

/// Refuses names that would not do as part of a file, namespace or interface name.
pub(crate) fn valid_name(what: &'static str, name: &str) -> Result<()> {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if starts_well && name.len() <= NAME_BYTES_MAX && name.chars().all(letters) {
        return Ok(());
    }
    let rule = "lower-case letters, digits and '-', a letter or digit first, at most 32 bytes";
    Err(Error::Invalid { what, value: name.into(), rule: rule.into() })
}

/// The beginning of all namespace names of one lab; the dot ends a lab name, which cannot hold one.
pub(crate) fn namespace_prefix(lab: &str) -> String {
    format!("qn-{lab}.")
}

fn unique_name(purpose: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{purpose}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn low_byte(n: u16) -> u8 {
    u8::try_from(n).expect("LabSpec::validate bounds every count below 256")
}

/// The physical network's name in `ovn-bridge-mappings`.
pub const PHYSICAL_NETWORK: &str = "physnet1";
/// Port of the controllers' gRPC and JSON interface.
pub const API_PORT: u16 = 9640;
/// Port of the controllers' metrics.
pub const CONTROLLER_METRICS_PORT: u16 = 9641;
/// Port of the agents' metrics.
pub const AGENT_METRICS_PORT: u16 = 9642;
/// Port of OVN_Northbound.
pub const NB_PORT: u16 = 6641;
/// Port of OVN_Southbound.
pub const SB_PORT: u16 = 6642;
/// Port where a controller serves the other members of its cluster.
pub const PEER_PORT: u16 = 9643;

/// Room for 1500 bytes in Geneve over IPv6 with an option.
const UNDERLAY_MTU: u32 = 1600;
const CONTROLLERS_MAX: u16 = 5;
const HYPERVISORS_MAX: u16 = 200;
const NAME_BYTES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_nodes_and_daemons_round_trip() {
        for node in [Node::Net, Node::Controller(3), Node::Hypervisor(12)] {
            assert_eq!(node.to_string().parse::<Node>().unwrap(), node);
        }
        for daemon in [Daemon::Controller(1), Daemon::Agent(2), Daemon::Vswitchd(30), Daemon::OvsdbServer(4)]
        {
            assert_eq!(daemon.to_string().parse::<Daemon>().unwrap(), daemon);
        }
        assert!("hvx".parse::<Node>().is_err());
        assert!("vswitchd".parse::<Daemon>().is_err());
    }

    #[test]
    fn impossible_specs_are_refused() {
        let check = |change: fn(&mut LabSpec), word: &str| {
            let mut spec = LabSpec { controllers: 0, ..LabSpec::default() };
            change(&mut spec);
            let error = spec.validate().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        };
        check(|spec| spec.name = "Has.Dot".into(), "lab name");
        check(|spec| spec.name = String::new(), "lab name");
        check(|spec| spec.hypervisors = 201, "at most 200");
        check(|spec| spec.controllers = 1, "need programs");
        check(|spec| spec.controllers = 6, "at most 5");
        check(|spec| spec.mtu = 500, "mtu");
    }

    #[test]
    fn interface_names_fit_the_kernel() {
        for link in [Link::Management, Link::Underlay, Link::Physical] {
            assert!(Node::Hypervisor(HYPERVISORS_MAX).near_link(link).len() <= 15);
        }
    }
}
