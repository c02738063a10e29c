//! The real switch of the oracle: compiled flows, frames in and frames out.

use std::collections::BTreeMap;

use quantumnet_dataplane::compile::Compiler;

use super::{
    common::{self, ovs::Ovs},
    frame::{self, Body, Packet},
    network::{Network, PORTS, SENTINELS},
    rule::address,
};

/// A switch with the flows of a network.
pub struct Switch {
    ovs: Ovs,
    compiler: Compiler,
    rows: common::Model,
    /// Frames that were seen at each port.
    seen: BTreeMap<u32, usize>,
}

impl Switch {
    pub fn start(network: &Network) -> Self {
        let ovs = Ovs::start(PORTS + 2, 0).expect("the oracle needs Open vSwitch");
        let mut rows = network.model();
        let compiler = rows.compiled();
        ovs.load(&compiler);
        Self { ovs, compiler, rows, seen: BTreeMap::new() }
    }

    /// Follows a change of the network: step by step, or compiled anew as an agent that starts does.
    pub fn apply(&mut self, network: &Network, restart: bool) {
        let mut rows = network.model();
        if restart {
            self.compiler = rows.compiled();
        } else {
            self.compiler.apply(rows.difference(&self.rows));
        }
        self.rows = rows;
        self.ovs.load(&self.compiler);
        self.ovs.revalidated();
    }

    /// Ports that a packet leaves by.
    pub fn send(&mut self, packet: &Packet) -> Vec<u32> {
        self.ovs.receive(&format!("p{}", packet.port), &packet.frame());
        self.sentinel();
        let mut left = self.left(packet);
        if left.is_empty() {
            // Frames of one round of the datapath are written port by port: the packet's may come after the sentinel's.
            self.sentinel();
            left = self.left(packet);
        }
        left
    }

    /// Sends a frame that always passes, and waits for it: what came in before has been looked at then.
    fn sentinel(&mut self) {
        let [from, to] = SENTINELS;
        let sentinel = Packet {
            port: from,
            source_mac: mac(from),
            to_mac: mac(to),
            source: address(from, false),
            to: address(to, false),
            body: Body::Udp { from: 1, to: 1 },
        };
        self.ovs.receive(&format!("p{from}"), &sentinel.frame());
        let before = self.seen.get(&to).copied().unwrap_or(0);
        let count =
            common::wait_for(|| Some(self.ovs.sent(&format!("p{to}")).len()).filter(|now| *now > before));
        self.seen.insert(to, count);
    }

    /// Ports by which frames of the packet have left since this was last asked.
    fn left(&mut self, packet: &Packet) -> Vec<u32> {
        let mut left = Vec::new();
        for port in 1..=PORTS {
            let frames = self.ovs.sent(&format!("p{port}"));
            let before = self.seen.insert(port, frames.len()).unwrap_or(0);
            for frame in &frames[before..] {
                assert_eq!(
                    frame::addresses(frame),
                    Some((packet.source, packet.to)),
                    "no other frame leaves"
                );
                left.push(port);
            }
        }
        left
    }
}

fn mac(port: u32) -> [u8; 6] {
    common::mac(port).parse::<quantumnet_model::address::Mac>().expect("numbers of ports are small").0
}
