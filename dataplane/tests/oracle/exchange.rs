//! Exchanges between two ports: packets in the order in which hosts that get them all would send them.

use super::{
    common::interpreter::Random,
    frame::{Body, Flags, Packet},
    network::Network,
    rule::address,
    switch::PORTS,
};

/// Packets back and forth between two ports.
#[derive(Clone, Debug)]
pub struct Exchange {
    client: u32,
    server: u32,
    six: bool,
    kind: Kind,
    /// Source port or identifier: one for each exchange.
    number: u16,
    step: usize,
}

/// What hosts say to each other.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Tcp(u16),
    Udp(u16),
    Echo,
    /// A reply that nobody asked for.
    Stray,
}

/// How far an exchange goes.
const STEPS: usize = 5;

impl Exchange {
    /// An exchange by IPv4.
    pub fn new(client: u32, server: u32, kind: Kind, number: u16) -> Self {
        Self { client, server, six: false, kind, number, step: 0 }
    }

    /// Of every pair of ports, in all kinds; `round` tells those of one round from those of others.
    pub fn all(network: &Network, round: u16) -> Vec<Self> {
        let mut number = 10_000 + round * 1_000;
        let mut random = Random::new(u64::from(round) + 1);
        let mut exchanges = Vec::new();
        let kinds = [
            Kind::Tcp(80),
            Kind::Tcp(443),
            Kind::Tcp(22),
            Kind::Udp(53),
            Kind::Udp(99),
            Kind::Echo,
            Kind::Stray,
        ];
        for client in 1..=PORTS {
            for server in (1..=PORTS).filter(|server| *server != client) {
                // All kinds between all pairs over the rounds, some of them in one.
                for kind in kinds {
                    if network.switch_of(client) != network.switch_of(server) || random.one_in(2) {
                        continue;
                    }
                    number += 1;
                    exchanges.push(Self { client, server, six: random.one_in(3), kind, number, step: 0 });
                }
            }
        }
        exchanges
    }

    /// The next packet, if there is one more.
    pub fn next(&mut self, network: &Network) -> Option<Packet> {
        let step = self.step;
        self.step += 1;
        if step >= STEPS {
            return None;
        }
        let answer = step % 2 == 1;
        let body = match self.kind {
            Kind::Tcp(port) => {
                let (from, to) = if answer { (port, self.number) } else { (self.number, port) };
                let (flags, sequence, acknowledged) = match step {
                    0 => (Flags::Syn, 1_000, 0),
                    1 => (Flags::SynAck, 5_000, 1_001),
                    _ if answer => (Flags::Ack, 5_001, 1_001),
                    _ => (Flags::Ack, 1_001, 5_001),
                };
                Body::Tcp { from, to, flags, sequence, acknowledged }
            }
            Kind::Udp(port) if answer => Body::Udp { from: port, to: self.number },
            Kind::Udp(port) => Body::Udp { from: self.number, to: port },
            Kind::Echo => Body::Echo { id: self.number, reply: answer },
            Kind::Stray if step > 0 => return None,
            Kind::Stray => Body::Echo { id: self.number, reply: true },
        };
        let (sender, receiver) = if answer { (self.server, self.client) } else { (self.client, self.server) };
        Some(Packet {
            port: sender,
            source_mac: network.mac_of(sender),
            to_mac: network.mac_of(receiver),
            source: address(sender, self.six),
            to: address(receiver, self.six),
            body,
        })
    }
}
