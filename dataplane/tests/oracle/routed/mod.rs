//! Routers, routes and translations: random topologies on the real switches of two hypervisors, every pair of addresses against a
//! reference.

mod reference;
mod topology;

use std::net::IpAddr;

use super::{
    common::interpreter::Random,
    frame::{Body, Flags, Packet},
    number,
    switch::{PORTS, Switch},
};
use reference::Reference;
use topology::{Rule, RuleKind, Topology};

/// Topologies of one run, unless `NETWORKS` says otherwise.
const TOPOLOGIES: u64 = 6;
/// Changes of each.
const CHANGES: u16 = 3;

#[test]
fn what_routers_do_is_what_the_reference_says() {
    let first = number("SEED", 20_261_129);
    let (mut sent, mut delivered) = (0, 0);
    for seed in first..first + number("NETWORKS", TOPOLOGIES) {
        let mut random = Random::new(seed);
        let mut topology = Topology::random(&mut random);
        let mut switch = Switch::start(topology.models());
        for change in 0..=CHANGES {
            // Connections of before are not asked about: each round has ports of its own.
            let mut reference = Reference::default();
            let mut next_port = 10_000 + change * 4_000;
            for client in 1..=PORTS {
                for to in topology.destinations(client, &mut random) {
                    next_port += 1;
                    let tcp = random.one_in(3) && !topology.is_one_way(client, to);
                    let mut asked = Ask { client, to, port: next_port, tcp };
                    let (told, arrived) = asked.talk(&topology, &mut switch, &mut reference, seed);
                    sent += told;
                    delivered += arrived;
                }
            }
            topology.change(&mut random);
            switch.apply(topology.models(), random.one_in(2));
        }
    }
    assert!(delivered * 10 > sent && delivered * 10 < sent * 9, "{delivered} of {sent} arrived");
}

#[test]
fn connections_go_on_when_their_host_is_given_a_floating_ip() {
    let rule = |kind, external: &str, logical: &str| Rule {
        kind,
        external: external.parse().unwrap(),
        logical: logical.parse().unwrap(),
        distributed: None,
    };
    for gateway_port in [false, true] {
        let sources = rule(RuleKind::Snat, "172.16.0.100", "10.0.1.0/24");
        let mut topology = Topology::on_one(gateway_port, vec![sources]);
        let mut switch = Switch::start(topology.models());
        let (inside, outside) = (1, 5);
        let [own, peer] = [inside, outside].map(|port| topology.address(port, false));
        let to_peer = |topology: &Topology, switch: &mut Switch, port: u16, step| {
            let asked = Ask { client: inside, to: peer, port, tcp: true };
            let arrived = switch.send(&asked.packet(topology, inside, (own, peer), step));
            arrived.first().map(|arrival| arrival.source.to_string())
        };
        let from_peer = |topology: &Topology, switch: &mut Switch, port: u16, to: &str, step| {
            let asked = Ask { client: inside, to: peer, port, tcp: true };
            let packet = asked.packet(topology, outside, (peer, to.parse().unwrap()), step);
            switch.send(&packet).first().map(|arrival| arrival.port)
        };
        assert_eq!(to_peer(&topology, &mut switch, 10_001, 0).as_deref(), Some("172.16.0.100"));
        assert_eq!(from_peer(&topology, &mut switch, 10_001, "172.16.0.100", 1), Some(inside));

        topology.rules.push(rule(RuleKind::Both, "172.16.0.101", "10.0.1.1/32"));
        switch.apply(topology.models(), false);
        let old = to_peer(&topology, &mut switch, 10_001, 2);
        assert_eq!(old.as_deref(), Some("172.16.0.100"), "gateway port: {gateway_port}");
        assert_eq!(from_peer(&topology, &mut switch, 10_001, "172.16.0.100", 3), Some(inside));
        assert_eq!(to_peer(&topology, &mut switch, 10_002, 0).as_deref(), Some("172.16.0.101"));
        assert_eq!(from_peer(&topology, &mut switch, 10_002, "172.16.0.101", 1), Some(inside));
    }
}

/// One client that asks an address, and goes on with whoever answers.
struct Ask {
    client: u32,
    to: IpAddr,
    port: u16,
    tcp: bool,
}

impl Ask {
    /// Packets back and forth as long as they arrive. Gives how many were sent, and how many came.
    fn talk(
        &mut self,
        topology: &Topology,
        switch: &mut Switch,
        reference: &mut Reference,
        seed: u64,
    ) -> (usize, usize) {
        let mut story = Vec::new();
        let (mut port, mut source, mut to) =
            (self.client, topology.address(self.client, self.to.is_ipv6()), self.to);
        for step in 0..4 {
            let packet = self.packet(topology, port, (source, to), step);
            let (expected, got) = (reference.send(topology, &packet), switch.send(&packet));
            story.push(format!("{packet}: expected {expected:?}, got {got:?}"));
            assert!(
                got == expected.iter().copied().collect::<Vec<_>>(),
                "SEED={seed} NETWORKS=1\n{topology:#?}\n{}",
                story.join("\n")
            );
            let Some(arrival) = expected else { return (step + 1, step) };
            (port, source, to) = (arrival.port, arrival.to, arrival.source);
        }
        (4, 4)
    }

    fn packet(&self, topology: &Topology, port: u32, (source, to): (IpAddr, IpAddr), step: usize) -> Packet {
        let (here, there) = if step.is_multiple_of(2) { (self.port, 80) } else { (80, self.port) };
        let body = if self.tcp {
            let (flags, sequence, acknowledged) = match step {
                0 => (Flags::Syn, 1_000, 0),
                1 => (Flags::SynAck, 5_000, 1_001),
                2 => (Flags::Ack, 1_001, 5_001),
                _ => (Flags::Ack, 5_001, 1_001),
            };
            Body::Tcp { from: here, to: there, flags, sequence, acknowledged }
        } else {
            Body::Udp { from: here, to: there }
        };
        Packet {
            port,
            source_mac: topology.mac(port),
            to_mac: topology.first_hop(port, to),
            source,
            to,
            body,
        }
    }
}
