//! The packet oracle: random small networks with rules on a real switch, and for every pair of ports and kind of packet
//! the switch's verdict against a reference that is written from the semantics and shares no code with the compiler.
//!
//! Frames go through the switch's userspace datapath with its own connection tracking, one after the other, while rules
//! change and the table is compiled anew as after a restart of the agent. A failure prints its seed: run it again with
//! `SEED=n NETWORKS=1`. `NETWORKS` says how many networks are tried.

#![allow(unreachable_pub)] // one crate in several files

#[path = "../common/mod.rs"]
mod common;
mod exchange;
mod frame;
mod golden;
mod network;
mod reference;
mod routed;
mod rule;
mod switch;

use common::interpreter::Random;
use exchange::Exchange;
use network::Network;
use reference::Reference;
use switch::{Arrival, Switch};

/// Networks of one run, unless `NETWORKS` says otherwise.
const NETWORKS: u64 = 6;
/// Changes of each, with exchanges before and after.
const CHANGES: usize = 4;

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn verdicts_of_the_switch_are_those_of_the_reference() {
    let first = number("SEED", 20_261_129);
    let mut count = Count::default();
    for seed in first..first + number("NETWORKS", NETWORKS) {
        one_network(seed, &mut count);
    }
    println!("{count:?}");
    // Networks in which all or nothing passes would prove nothing.
    assert!(count.delivered * 10 > count.sent && count.delivered * 10 < count.sent * 9, "{count:?}");
}

/// How many packets were tried.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    sent: usize,
    delivered: usize,
}

fn one_network(seed: u64, count: &mut Count) {
    let mut random = Random::new(seed);
    let mut network = Network::random(&mut random);
    let mut switch = Switch::start(vec![network.model()]);
    let mut reference = Reference::default();
    let mut open: Vec<Exchange> = Vec::new();
    let mut story = Vec::new();
    for change in 0..=CHANGES {
        // What was begun under the rules of before goes on under those of now.
        for exchange in &mut open {
            while let Some(packet) = exchange.next(&network) {
                check(seed, &network, &mut switch, &mut reference, &packet, &mut story, count);
            }
        }
        open = Exchange::all(&network, change as u16);
        for exchange in &mut open {
            for _ in 0..1 + random.below(4) {
                let Some(packet) = exchange.next(&network) else { break };
                check(seed, &network, &mut switch, &mut reference, &packet, &mut story, count);
            }
        }
        let what = network.change(&mut random);
        story.push(format!("-- {what}"));
        switch.apply(vec![network.model()], random.one_in(2));
    }
}

fn check(
    seed: u64,
    network: &Network,
    switch: &mut Switch,
    reference: &mut Reference,
    packet: &frame::Packet,
    story: &mut Vec<String>,
    count: &mut Count,
) {
    let expected = reference.send(network, packet);
    let arrivals = switch.send(packet);
    let unchanged = |arrival: &Arrival| (arrival.source, arrival.to) == (packet.source, packet.to);
    assert!(arrivals.iter().all(unchanged), "SEED={seed}: another packet than {packet} left: {arrivals:?}");
    let got: Vec<u32> = arrivals.iter().map(|arrival| arrival.port).collect();
    count.sent += 1;
    count.delivered += usize::from(!got.is_empty());
    story.push(format!("{packet} : expected {expected:?}, got {got:?}"));
    if got != expected {
        // What changed meanwhile, and all that these two hosts said to each other.
        let hosts = [packet.source, packet.to].map(|host| format!("{host} "));
        let tells = |line: &&String| line.starts_with("--") || hosts.iter().all(|host| line.contains(host));
        let story: Vec<&str> = story.iter().filter(tells).map(String::as_str).collect();
        panic!("SEED={seed} NETWORKS=1\n{network:#?}\n{}", story.join("\n"));
    }
}
