//! The real switch of the oracle: compiled flows, frames in and frames out.

use std::{collections::BTreeMap, net::IpAddr};

use quantumnet_dataplane::compile::Compiler;

use super::{
    common::{self, Model, ovs::Ovs, plain},
    frame::{self, Body, Packet},
    rule::address,
};

/// Ports of a network of the oracle, numbered from 1.
pub const PORTS: u32 = 6;
/// Ports of a switch of their own, by which the test knows that the datapath has done what it was given.
const SENTINELS: [u32; 2] = [7, 8];
const SENTINEL_SWITCH: u32 = 9;

/// A switch with the flows of a network.
pub struct Switch {
    ovs: Ovs,
    compiler: Compiler,
    rows: Model,
    /// Frames that were seen at each port.
    seen: BTreeMap<u32, usize>,
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
    pub fn start(rows: Model) -> Self {
        let ovs = Ovs::start(PORTS + 2, 0).expect("the oracle needs Open vSwitch");
        let mut this = Self { ovs, compiler: Compiler::new(), rows: Model::default(), seen: BTreeMap::new() };
        this.apply(rows, true);
        this
    }

    /// Follows a change of the network: step by step, or compiled anew as an agent that starts does.
    pub fn apply(&mut self, mut rows: Model, restart: bool) {
        rows.switch(SENTINEL_SWITCH);
        SENTINELS.iter().for_each(|port| rows.port(&plain(*port, SENTINEL_SWITCH, 1)));
        if restart {
            self.compiler = rows.compiled();
        } else {
            self.compiler.apply(rows.difference(&self.rows));
        }
        self.rows = rows;
        self.ovs.load(&self.compiler);
        self.ovs.revalidated();
    }

    /// What leaves when a packet comes in.
    pub fn send(&mut self, packet: &Packet) -> Vec<Arrival> {
        self.ovs.receive(&format!("p{}", packet.port), &packet.frame());
        self.sentinel();
        let mut left = self.left();
        if left.is_empty() {
            // Frames of one round of the datapath are written port by port: the packet's may come after the sentinel's.
            self.sentinel();
            left = self.left();
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

    /// What has left since this was last asked.
    fn left(&mut self) -> Vec<Arrival> {
        let mut left = Vec::new();
        for port in 1..=PORTS {
            let frames = self.ovs.sent(&format!("p{port}"));
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
