//! A lab as `qnctl lab status` shows it.
//!
//! # Contract
//! - In: the state file and the processes it names. Out: [`LabStatus`], serialisable; it changes nothing.

use serde::Serialize;

use crate::{
    Lab, LabSpec, Result,
    spec::{Daemon, Node},
    state::Phase,
    vm::Place,
};

/// Everything about a lab that a person asks for.
#[derive(Clone, Debug, Serialize)]
pub struct LabStatus {
    /// Its name.
    pub name: String,
    /// How far it is.
    pub phase: Phase,
    /// What it was asked to be.
    pub spec: LabSpec,
    /// Its folder, with logs and sockets.
    pub folder: String,
    /// Nodes in the order in which they were made.
    pub nodes: Vec<NodeStatus>,
    /// Daemons in the order in which they were started.
    pub daemons: Vec<DaemonStatus>,
    /// VMs by name.
    pub vms: Vec<VmStatus>,
}

impl LabStatus {
    /// True when the lab is complete and everything in it runs.
    pub fn healthy(&self) -> bool {
        let nodes = self.nodes.iter().all(|node| node.exists);
        let daemons = self.daemons.iter().all(|daemon| daemon.alive);
        self.phase == Phase::Up && nodes && daemons
    }
}

/// One namespace of the lab.
#[derive(Clone, Debug, Serialize)]
pub struct NodeStatus {
    /// `net`, `controllerN` or `hvN`.
    pub name: String,
    /// The namespace, for `ip netns exec`.
    pub namespace: String,
    /// Whether it is there.
    pub exists: bool,
    /// Management address.
    pub address: String,
    /// Tunnel addresses of a hypervisor.
    pub tunnel_addresses: Vec<String>,
}

/// One daemon of the lab.
#[derive(Clone, Debug, Serialize)]
pub struct DaemonStatus {
    /// Its name, such as `agent1`.
    pub name: String,
    /// Its process id, when it has been started.
    pub pid: Option<i32>,
    /// Whether it runs.
    pub alive: bool,
    /// Its log.
    pub log: String,
}

/// One VM of the lab.
#[derive(Clone, Debug, Serialize)]
pub struct VmStatus {
    /// Its name.
    pub name: String,
    /// Where it is plugged.
    pub place: Place,
    /// The logical port.
    pub iface_id: String,
    /// Its MAC address.
    pub mac: String,
    /// The namespace, for `ip netns exec`.
    pub namespace: String,
}

impl Lab {
    /// What the lab is made of and what of it runs.
    pub fn status(&self) -> Result<LabStatus> {
        let state = self.state()?;
        let nodes = state.spec.nodes().map(|node| {
            let namespace = state.spec.netns(node);
            let tunnel_addresses = match node {
                Node::Hypervisor(n) => {
                    state.spec.tunnel_addresses(n).iter().map(ToString::to_string).collect()
                }
                Node::Net | Node::Controller(_) => Vec::new(),
            };
            NodeStatus {
                name: node.to_string(),
                exists: namespace.exists(),
                namespace: namespace.name().to_owned(),
                address: node.management_address().to_string(),
                tunnel_addresses,
            }
        });
        let daemons = state.spec.daemons().map(|daemon: Daemon| {
            let record = state.processes.get(&daemon.to_string());
            DaemonStatus {
                name: daemon.to_string(),
                pid: record.and_then(|record| record.pid),
                alive: record.is_some_and(|record| record.alive()),
                log: record.map(|record| record.log.display().to_string()).unwrap_or_default(),
            }
        });
        let vms = state.vms.iter().map(|(name, record)| VmStatus {
            name: name.clone(),
            place: record.place,
            iface_id: record.iface_id.clone(),
            mac: record.mac.clone(),
            namespace: state.spec.netns(name).name().to_owned(),
        });
        Ok(LabStatus {
            name: self.name().to_owned(),
            phase: state.phase,
            folder: self.folder().display().to_string(),
            nodes: nodes.collect(),
            daemons: daemons.collect(),
            vms: vms.collect(),
            spec: state.spec.clone(),
        })
    }
}
