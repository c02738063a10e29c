//! Gateways that die and come back: others serve meanwhile, and there is no outage on the way back.

use std::time::Duration;

use quantumnet_testbed::{Daemon, Link, Node, Probe, Signal, Vm, mac_of, wait_until};

use crate::{
    filters::nbctl,
    support::{Net, ip},
};

const WITHIN: Duration = Duration::from_secs(20);
/// So many packets at 100 a second are a while.
const A_WHILE: u64 = 100;
/// Requests whose answers are on their way in the moment in which the gateway changes.
const ON_THE_WAY: u64 = 2;
/// The address of b outside.
const FLOATING: &str = "172.16.0.12";
const OUTSIDE: &str = "172.16.0.1";
/// Guests a and b on the first hypervisor, and a router whose gateway is the second, else the third; sessions of 100 ms.
const NETWORK: &str = "
ls-add inner -- ls-add outer -- lr-add lr
lrp-add lr lr-inner 0a:00:00:00:01:01 10.0.0.254/24 -- lsp-add inner inner-lr
lsp-set-type inner-lr router -- lsp-set-addresses inner-lr router -- lsp-set-options inner-lr router-port=lr-inner
lrp-add lr lr-outer 0a:00:00:00:01:02 172.16.0.254/24 -- lsp-add outer outer-lr
lsp-set-type outer-lr router -- lsp-set-addresses outer-lr router -- lsp-set-options outer-lr router-port=lr-outer nat-addresses=router
lsp-add outer phys -- lsp-set-type phys localnet -- lsp-set-addresses phys unknown -- lsp-set-options phys network_name=physnet1
lrp-set-gateway-chassis lr-outer hv2 20 -- lrp-set-gateway-chassis lr-outer hv3 10
lr-nat-add lr snat 172.16.0.254 10.0.0.0/24 -- lr-nat-add lr dnat_and_snat 172.16.0.12 10.0.0.12
lsp-add inner a -- lsp-set-addresses a MAC-A+10.0.0.11 -- lsp-add inner b -- lsp-set-addresses b MAC-B+10.0.0.12
set NB_Global . options:bfd-min-rx=100 options:bfd-min-tx=100 options:bfd-mult=3";

fn guest(net: &Net, name: &str, address: &str) -> Vm {
    let vm = net.lab.add_vm(1, name, name, &mac_of(name)).unwrap();
    vm.add_address(address).unwrap();
    vm.set_default_route(ip("10.0.0.254")).unwrap();
    vm
}

/// Streams by source translation and through the floating address, answered.
fn streams(a: &Vm, b: &Vm, outside: &Vm) -> [Probe; 2] {
    let streams = [
        a.probe_udp(outside, ip(OUTSIDE), 7_000).unwrap(),
        outside.probe_udp(b, ip(FLOATING), 7_000).unwrap(),
    ];
    flow(&streams);
    streams
}

/// Waits until a while's packets more have been answered.
fn flow(streams: &[Probe]) {
    let before: Vec<u64> = streams.iter().map(|stream| stream.so_far().unwrap().received).collect();
    for (stream, before) in streams.iter().zip(before) {
        stream.wait_received(before + A_WHILE, WITHIN).unwrap();
    }
}

#[test]
fn a_gateway_comes_back_without_an_outage() {
    let net = Net::up("failback", 3);
    let network = NETWORK.replace("MAC-A", &mac_of("a")).replace("MAC-B", &mac_of("b"));
    for line in network.trim().lines() {
        let words: Vec<String> = line.split(' ').map(|word| word.replace('+', " ")).collect();
        nbctl(&net, &words.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let outside = net.lab.add_outside("outside", &mac_of("outside")).unwrap();
    outside.add_address(&format!("{OUTSIDE}/24")).unwrap();
    let (a, b) = (guest(&net, "a", "10.0.0.11/24"), guest(&net, "b", "10.0.0.12/24"));
    let serves =
        |n| net.metric(Daemon::Agent(n), "quantumnet_agent_gateway_active").is_some_and(|ports| ports > 0.0);
    let served_by = |gateway: u16, other: u16| {
        wait_until(WITHIN, &format!("hv{gateway} to be the gateway"), || serves(gateway) && !serves(other))
            .unwrap();
    };
    served_by(2, 3);

    let links = |up: bool| {
        for link in [Link::Underlay, Link::Physical] {
            net.lab.set_link(Node::Hypervisor(2), link, up).unwrap();
        }
    };
    let kill = || net.lab.stop(Daemon::Vswitchd(2), Signal::SIGKILL).unwrap();
    let start = || net.lab.start(Daemon::Vswitchd(2)).unwrap();
    for (what, is_killed) in [("ovs-vswitchd is killed", true), ("links are cut", false)] {
        let broken = streams(&a, &b, &outside);
        if is_killed {
            kill()
        } else {
            links(false)
        }
        wait_until(WITHIN, "hv3 to be the gateway", || serves(3)).unwrap();
        flow(&broken);
        drop(broken);
        let mended = streams(&a, &b, &outside);
        if is_killed {
            start()
        } else {
            links(true)
        }
        served_by(2, 3);
        // Until who was taken over has stopped.
        (0..6).for_each(|_| flow(&mended));
        for (way, stream) in ["source translation", "a floating address"].into_iter().zip(mended) {
            let report = stream.stop().unwrap();
            assert!(report.lost() <= ON_THE_WAY, "{what}, {way}: {report:?}");
        }
    }
}
