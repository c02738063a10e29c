//! The real switches of the oracle: compiled flows, frames in and frames out.

use std::{collections::BTreeMap, net::IpAddr};

use quantumnet_dataplane::compile::Compiler;
use quantumnet_model::host::HostInterface;
use tempfile::TempDir;

use super::{
    common::{self, Kind, Model, id, ovs::Ovs, plain},
    frame::{self, Body, Packet},
    rule::address,
};

/// Ports of a network of the oracle, numbered from 1.
pub const PORTS: u32 = 6;
/// Ports of a switch of their own, by which the test knows that the datapath has done what it was given.
const SENTINELS: [u32; 2] = [7, 8];
const SENTINEL_SWITCH: u32 = 9;

/// The switches of all hypervisors, with the flows of a network.
pub struct Switch {
    hypervisors: Vec<Hypervisor>,
    /// Frames that were seen at each port.
    seen: BTreeMap<u32, usize>,
    /// Where the wire between them is.
    _wire: TempDir,
}

struct Hypervisor {
    ovs: Ovs,
    compiler: Compiler,
    rows: Model,
}

/// A frame that has left the switch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Arrival {
    pub port: u32,
    pub source: IpAddr,
    pub to: IpAddr,
    /// TTL or hop limit.
    pub hops: u8,
}

impl Switch {
    /// One or two hypervisors, with a network as each of them sees it.
    pub fn start(rows: Vec<Model>) -> Self {
        let ovs = || Ovs::start(PORTS + 2, 0).expect("the oracle needs Open vSwitch");
        let hypervisor = |_| Hypervisor { ovs: ovs(), compiler: Compiler::new(), rows: Model::default() };
        let hypervisors: Vec<Hypervisor> = rows.iter().map(hypervisor).collect();
        let wire = TempDir::new().expect("a temporary folder");
        if let [one, two] = hypervisors.as_slice() {
            let socket = wire.path().join("wire");
            one.ovs.join(1, 2, &socket);
            two.ovs.join(2, 1, &socket);
        }
        let mut this = Self { hypervisors, seen: BTreeMap::new(), _wire: wire };
        this.apply(rows, true);
        this
    }

    /// Follows a change of the network: step by step, or compiled anew as an agent that starts does.
    pub fn apply(&mut self, rows: Vec<Model>, restart: bool) {
        let places = [1, self.hypervisors.len() as u32];
        for (hypervisor, mut rows) in self.hypervisors.iter_mut().zip(rows) {
            rows.switch(SENTINEL_SWITCH);
            for (port, place) in SENTINELS.into_iter().zip(places) {
                rows.port(&plain(port, SENTINEL_SWITCH, place));
            }
            if restart {
                hypervisor.compiler = rows.compiled();
            } else {
                hypervisor.compiler.apply(rows.difference(&hypervisor.rows));
            }
            hypervisor.rows = rows;
            hypervisor.ovs.load(&hypervisor.compiler);
            hypervisor.ovs.revalidated();
        }
    }

    /// What leaves when a packet comes in.
    pub fn send(&mut self, packet: &Packet) -> Vec<Arrival> {
        self.at(packet.port).receive(&format!("p{}", packet.port), &packet.frame());
        self.sentinels();
        let mut left = self.left();
        if left.is_empty() {
            // Frames of one round of the datapath are written port by port: the packet's may come after the sentinel's.
            self.sentinels();
            left = self.left();
        }
        left
    }

    /// The switch that a port is on.
    fn at(&self, port: u32) -> &Ovs {
        let interface = id(Kind::Interface, port);
        let here = |hypervisor: &&Hypervisor| hypervisor.rows.rows.get::<HostInterface>(interface).is_some();
        &self.hypervisors.iter().find(here).expect("every port is somewhere").ovs
    }

    /// Waits until what came in before has been looked at: by the next hypervisor too, and by the one that it sends it back to.
    fn sentinels(&mut self) {
        let [one, two] = SENTINELS;
        self.sentinel(one, two);
        if self.hypervisors.len() > 1 {
            self.sentinel(two, one);
            self.sentinel(one, two);
            self.sentinel(two, one);
        }
    }

    /// Sends a frame that always passes, and waits for it.
    fn sentinel(&mut self, from: u32, to: u32) {
        let sentinel = Packet {
            port: from,
            source_mac: mac(from),
            to_mac: mac(to),
            source: address(from, false),
            to: address(to, false),
            body: Body::Udp { from: 1, to: 1 },
        };
        self.at(from).receive(&format!("p{from}"), &sentinel.frame());
        let (before, at) = (self.seen.get(&to).copied().unwrap_or(0), self.at(to));
        let count = common::wait_for(|| Some(at.sent(&format!("p{to}")).len()).filter(|now| *now > before));
        self.seen.insert(to, count);
    }

    /// What has left since this was last asked.
    fn left(&mut self) -> Vec<Arrival> {
        let mut left = Vec::new();
        for port in 1..=PORTS {
            let frames = self.at(port).sent(&format!("p{port}"));
            let before = self.seen.insert(port, frames.len()).unwrap_or(0);
            left.extend(frames[before..].iter().filter_map(|frame| {
                let (source, to, hops) = frame::header(frame)?;
                Some(Arrival { port, source, to, hops })
            }));
        }
        left
    }
}

fn mac(port: u32) -> [u8; 6] {
    common::mac(port).parse::<quantumnet_model::address::Mac>().expect("numbers of ports are small").0
}
