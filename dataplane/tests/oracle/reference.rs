//! What a network with rules does with a packet, from the semantics of ACLs (ovn-nb(5), `ACL`; ovn-architecture(7)) and of
//! connection tracking (ovs-fields(7), `ct_state`). Plain and slow, and without a line of the compiler.
//!
//! # Contract
//! - Packets come one at a time, in the order in which the switch gets them. Out: the ports that it leaves by.
//! - Knows no flow, table or register.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{
    frame::{Body, Flags, Packet},
    network::Network,
    rule::{Action, Rule, Subject},
};

/// Connections, by zone; each port has one.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    zones: BTreeMap<u32, BTreeMap<Tuple, Connection>>,
}

/// Source, destination and what tells the connections between them apart.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Tuple {
    source: IpAddr,
    to: IpAddr,
    protocol: u8,
    from_port: u16,
    to_port: u16,
}

#[derive(Clone, Copy, Debug, Default)]
struct Connection {
    /// Something came back.
    replied: bool,
    blocked: bool,
    persists: bool,
}

/// What tracking says of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Untracked,
    New,
    Request { blocked: bool, persists: bool },
    Reply { blocked: bool },
    Invalid,
}

/// What rules say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Allow { persists: bool },
    Deny,
    Undecided,
}

impl Reference {
    /// Ports that the packet leaves by.
    pub fn send(&mut self, network: &Network, packet: &Packet) -> Vec<u32> {
        let sender = packet.port;
        let receiver = (1..=super::switch::PORTS).find(|port| network.mac_of(*port) == packet.to_mac);
        let Some(receiver) = receiver.filter(|port| network.switch_of(*port) == network.switch_of(sender))
        else {
            return Vec::new();
        };
        if self.passes(network, packet, sender, false) && self.passes(network, packet, receiver, true) {
            vec![receiver]
        } else {
            Vec::new()
        }
    }

    /// One side: rules of the port's switch in one direction, with the connections of the port's zone.
    fn passes(&mut self, network: &Network, packet: &Packet, port: u32, to_lport: bool) -> bool {
        let switch = network.switch_of(port);
        let all: Vec<&Rule> = network.rules_on(switch).collect();
        if all.is_empty() {
            return true;
        }
        let rules: Vec<&Rule> = all.iter().copied().filter(|rule| rule.to_lport == to_lport).collect();
        let subject = Subject { packet, port, groups: &network.groups, sets: &network.sets };
        let stateful = all.iter().any(|rule| rule.action == Action::AllowRelated);
        let stateless =
            rules.iter().any(|rule| rule.action == Action::AllowStateless && rule.expr.holds(subject));
        let state = if stateful && !stateless { self.track(packet, port) } else { State::Untracked };
        match state {
            State::Invalid | State::Reply { blocked: true } => return false,
            State::Reply { blocked: false } | State::Request { persists: true, .. } => return true,
            _ => {}
        }
        let verdict = verdict(&rules, subject);
        let decided = match verdict {
            Verdict::Undecided if network.default_drop => Verdict::Deny,
            Verdict::Undecided => Verdict::Allow { persists: false },
            decided => decided,
        };
        match (decided, state) {
            (Verdict::Allow { persists }, State::New | State::Request { blocked: true, .. }) => {
                let connection = self.connection(packet, port);
                connection.blocked = false;
                connection.persists = persists;
                true
            }
            (Verdict::Allow { .. }, _) => true,
            // A rule forbids the connection; that no rule allows it does not.
            (_, State::Request { blocked: false, .. }) if verdict == Verdict::Deny => {
                self.connection(packet, port).blocked = true;
                false
            }
            _ => false,
        }
    }

    /// Looks the packet up in a zone, which also learns that there was a reply.
    fn track(&mut self, packet: &Packet, zone: u32) -> State {
        let tuple = Tuple::of(packet);
        let zone = self.zones.entry(zone).or_default();
        if let Some(connection) = zone.get(&tuple) {
            // What follows a SYN counts as of an established connection, answered or not.
            let follows = matches!(packet.body, Body::Tcp { flags: Flags::SynAck | Flags::Ack, .. });
            return if connection.replied || follows {
                State::Request { blocked: connection.blocked, persists: connection.persists }
            } else {
                State::New
            };
        }
        if let Some(connection) = zone.get_mut(&tuple.reversed()) {
            connection.replied = true;
            return State::Reply { blocked: connection.blocked };
        }
        match packet.body {
            Body::Tcp { flags: Flags::SynAck, .. } | Body::Echo { reply: true, .. } => State::Invalid,
            _ => State::New,
        }
    }

    /// The connection that the packet belongs to, or begins.
    fn connection(&mut self, packet: &Packet, zone: u32) -> &mut Connection {
        let tuple = Tuple::of(packet);
        let zone = self.zones.entry(zone).or_default();
        let known = [tuple, tuple.reversed()].into_iter().find(|tuple| zone.contains_key(tuple));
        zone.entry(known.unwrap_or(tuple)).or_default()
    }
}

/// The matching rule of highest priority in the first tier that says something.
fn verdict(rules: &[&Rule], subject: Subject<'_>) -> Verdict {
    let last = rules.iter().map(|rule| rule.tier).max().unwrap_or(0);
    for tier in 0..=last {
        let of_tier = rules.iter().filter(|rule| rule.tier == tier && rule.expr.holds(subject));
        let Some(rule) = of_tier.max_by_key(|rule| rule.priority) else { continue };
        match rule.action {
            Action::Allow | Action::AllowRelated | Action::AllowStateless => {
                return Verdict::Allow { persists: rule.persist };
            }
            Action::Drop | Action::Reject => return Verdict::Deny,
            Action::Pass => {}
        }
    }
    Verdict::Undecided
}

impl Tuple {
    fn of(packet: &Packet) -> Self {
        let (protocol, from_port, to_port) = match packet.body {
            Body::Tcp { from, to, .. } => (6, from, to),
            Body::Udp { from, to } => (17, from, to),
            Body::Echo { id, .. } => (1, id, id),
        };
        Self { source: packet.source, to: packet.to, protocol, from_port, to_port }
    }

    fn reversed(self) -> Self {
        Self {
            source: self.to,
            to: self.source,
            protocol: self.protocol,
            from_port: self.to_port,
            to_port: self.from_port,
        }
    }
}
