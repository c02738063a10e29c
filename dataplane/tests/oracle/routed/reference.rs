//! What routers do with a packet, from the semantics of OVN's routers (ovn-nb(5), `Logical_Router`, `NAT`;
//! ovn-architecture(7)), without a line of the compiler.
//!
//! # Contract
//! - Packets come one at a time. Out: where it arrives, with which addresses and hops left; nothing if nowhere.
//! - The translations of a router that is pinned to its chassis hold for all that it routes, whichever ports it comes and goes by;
//!   those of one with a gateway port for what comes in or leaves by that: on the gateway's hypervisor, those with a MAC of their
//!   own on their guest's. Each hypervisor knows its own connections.

use std::{collections::BTreeMap, net::IpAddr};

use super::{
    super::{
        frame::{Body, HOPS, Packet},
        switch::{Arrival, PORTS},
    },
    topology::{Hop, RuleKind, Topology},
};

/// Connections that hypervisors know.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    connections: BTreeMap<u32, Vec<Connection>>,
}

/// As its first packet came to the router, and as it left.
#[derive(Clone, Copy, Debug)]
struct Connection {
    came: Tuple,
    left: Tuple,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Tuple {
    source: IpAddr,
    to: IpAddr,
    ports: (u16, u16),
    tcp: bool,
}

/// What a router decides.
#[derive(Clone, Copy, Debug)]
enum Next {
    Guest(u32),
    /// The other router.
    Router,
    Nowhere,
}

impl Reference {
    pub fn send(&mut self, topology: &Topology, packet: &Packet) -> Option<Arrival> {
        let mut tuple = Tuple::of(packet);
        let switch = topology.switch_of(packet.port);
        let guest = (1..=PORTS)
            .find(|port| topology.mac(*port) == packet.to_mac && topology.switch_of(*port) == switch);
        if let Some(port) = guest {
            // Nobody gets by a switch what it sent itself.
            return (port != packet.port).then(|| tuple.arrives(port, HOPS));
        }
        let mut hops = HOPS;
        let mut at_gateway = !topology.two || switch == 3;
        // At most each router once, and the one that a packet goes back through.
        for _ in 0..3 {
            hops -= 1;
            let next = if at_gateway {
                if topology.gateway_port {
                    let by_it = switch == 3 && hops == HOPS - 1;
                    let (translated, next, more) = self.gateway_port(topology, tuple, by_it)?;
                    hops -= more;
                    tuple = translated;
                    next
                } else {
                    let (translated, next) = self.gateway(topology, tuple)?;
                    tuple = translated;
                    next
                }
            } else {
                inner(topology, tuple.to)
            };
            match next {
                Next::Guest(port) => return Some(tuple.arrives(port, hops)),
                Next::Nowhere => return None,
                Next::Router => at_gateway = !at_gateway,
            }
        }
        None
    }

    /// Translates and routes.
    fn gateway(&mut self, topology: &Topology, tuple: Tuple) -> Option<(Tuple, Next)> {
        let at = topology.gateway_at;
        if let Some(known) = self.known(at, tuple) {
            return Some((known, route(topology, known.to)));
        }
        let mut left = tuple;
        match topology.rules.iter().find(|rule| rule.external == tuple.to) {
            Some(rule) if rule.kind != RuleKind::Snat => left.to = rule.logical.addr(),
            // An outer address that nothing comes back to.
            Some(_) => return None,
            None => {}
        }
        let next = route(topology, left.to);
        if matches!(next, Next::Nowhere) {
            return None;
        }
        if let Some(rule) = outbound(topology, tuple.source) {
            left.source = rule.external;
        }
        self.learn(at, tuple, left);
        Some((left, next))
    }

    /// Routes, and translates what passes the gateway port. Also how often it is routed beyond the first time: what leaves for an
    /// outer address comes in again.
    fn gateway_port(
        &mut self,
        topology: &Topology,
        tuple: Tuple,
        from_outside: bool,
    ) -> Option<(Tuple, Next, u8)> {
        let (mut tuple, mut from_outside) = (tuple, from_outside);
        for more in 0..2 {
            if from_outside {
                tuple = self.comes_in(topology, tuple)?;
            }
            let next = route(topology, tuple.to);
            let is_outer = topology.rules.iter().any(|rule| rule.external == tuple.to);
            let leaves = is_outer || matches!(next, Next::Guest(port) if topology.switch_of(port) == 3);
            if leaves && !from_outside {
                tuple = self.leaves(topology, tuple);
            }
            if !is_outer {
                return Some((tuple, next, more));
            }
            if from_outside {
                return None;
            }
            from_outside = true;
        }
        None
    }

    fn comes_in(&mut self, topology: &Topology, tuple: Tuple) -> Option<Tuple> {
        let at = topology.served_at(tuple.to);
        if let Some(known) = self.known(at, tuple) {
            return Some(known);
        }
        let mut left = tuple;
        match topology.rules.iter().find(|rule| rule.external == tuple.to) {
            Some(rule) if rule.kind != RuleKind::Snat => left.to = rule.logical.addr(),
            Some(_) => return None,
            None => {}
        }
        self.learn(at, tuple, left);
        Some(left)
    }

    fn leaves(&mut self, topology: &Topology, tuple: Tuple) -> Tuple {
        let at = topology.leaves_at(tuple.source);
        if let Some(known) = self.known(at, tuple) {
            return known;
        }
        let mut left = tuple;
        if let Some(rule) = outbound(topology, tuple.source) {
            left.source = rule.external;
            self.learn(at, tuple, left);
        }
        left
    }

    fn learn(&mut self, at: u32, came: Tuple, left: Tuple) {
        self.connections.entry(at).or_default().push(Connection { came, left });
    }

    /// What becomes of a packet of a connection that a hypervisor knows.
    fn known(&self, at: u32, tuple: Tuple) -> Option<Tuple> {
        self.connections.get(&at)?.iter().find_map(|connection| {
            if connection.came == tuple {
                Some(connection.left)
            } else {
                (connection.left.reversed() == tuple).then(|| connection.came.reversed())
            }
        })
    }
}

/// The rule that translates a source: the one of the longest prefix.
fn outbound(topology: &Topology, source: IpAddr) -> Option<&super::topology::Rule> {
    let rules = topology.rules.iter();
    let rules = rules.filter(|rule| rule.kind != RuleKind::Dnat && rule.logical.contains(&source));
    rules.max_by_key(|rule| rule.logical.prefix_len())
}

/// The gateway's routes.
fn route(topology: &Topology, to: IpAddr) -> Next {
    if !topology.two {
        return connected(topology, to, &[1, 2, 3]).unwrap_or_else(|| static_route(topology, to));
    }
    connected(topology, to, &[3]).unwrap_or_else(|| {
        let back = ["10.0.0.0/16", "fd01::/64", "fd02::/64"];
        let leads = |prefix: &&str| prefix.parse::<ipnet::IpNet>().expect("a prefix").contains(&to);
        if back.iter().any(leads) { Next::Router } else { Next::Nowhere }
    })
}

/// The inner router's.
fn inner(topology: &Topology, to: IpAddr) -> Next {
    connected(topology, to, &[1, 2]).unwrap_or_else(|| match static_route(topology, to) {
        // Its default.
        Next::Nowhere if !is_static(topology, to) => Next::Router,
        next => next,
    })
}

fn connected(topology: &Topology, to: IpAddr, switches: &[u32]) -> Option<Next> {
    let switch =
        switches.iter().find(|switch| topology.networks(**switch).iter().any(|net| net.contains(&to)))?;
    let guest = (1..=PORTS)
        .find(|port| topology.switch_of(*port) == *switch && topology.address(*port, to.is_ipv6()) == to);
    Some(guest.map_or(Next::Nowhere, Next::Guest))
}

fn is_static(topology: &Topology, to: IpAddr) -> bool {
    topology.routes.iter().any(|(prefix, _)| prefix.contains(&to))
}

fn static_route(topology: &Topology, to: IpAddr) -> Next {
    let leads = topology.routes.iter().filter(|(prefix, _)| prefix.contains(&to));
    match leads.max_by_key(|(prefix, _)| prefix.prefix_len()) {
        Some((_, Hop::Guest(guest))) => Next::Guest(*guest),
        Some((_, Hop::Discard)) | None => Next::Nowhere,
    }
}

impl Tuple {
    fn of(packet: &Packet) -> Self {
        let (ports, tcp) = match packet.body {
            Body::Tcp { from, to, .. } => ((from, to), true),
            Body::Udp { from, to } => ((from, to), false),
            Body::Echo { id, .. } => ((id, id), false),
        };
        Self { source: packet.source, to: packet.to, ports, tcp }
    }

    fn reversed(self) -> Self {
        Self { source: self.to, to: self.source, ports: (self.ports.1, self.ports.0), ..self }
    }

    fn arrives(self, port: u32, hops: u8) -> Arrival {
        Arrival { port, source: self.source, to: self.to, hops }
    }
}
