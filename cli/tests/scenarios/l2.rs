//! Switching: who reaches whom.

use std::time::Duration;

use quantumnet_testbed::{PingOptions, Vm};

use crate::support::{Net, ip, over_ipv6, pair, text};

/// The first packet between two hypervisors may go while Open vSwitch resolves the tunnel's own next hop,
/// so an answer is waited for before losses count.
fn reaches(from: &Vm, to: &str) -> bool {
    from.wait_reachable(ip(to), Duration::from_secs(5)).unwrap();
    from.ping(ip(to), &PingOptions::default()).unwrap().all_answered()
}

fn unreachable(from: &Vm, to: &str) -> bool {
    from.ping(ip(to), &PingOptions::default()).unwrap().none_answered()
}

#[test]
fn leases_and_pings_within_and_across_hosts() {
    let (net, [a, b, c]) = Net::three_vms("l2");
    let lease = c.dhcp(&Default::default()).unwrap();
    assert_eq!((lease.prefix, lease.routers.as_slice()), (24, ["10.0.0.1".parse().unwrap()].as_slice()));
    // 1600 octets of underlay less 58 of Geneve over IPv4: the guests' MTU follows the underlay.
    assert_eq!(lease.mtu, Some(1542));
    assert_eq!(net.get("network", "net").pointer("/status/mtu"), Some(&1542.into()));
    assert!(reaches(&a, "10.0.0.12"), "same host");
    assert!(reaches(&a, "10.0.0.13"), "across hosts");
    assert!(reaches(&c, "10.0.0.12"), "and back");
    for (vm, address) in [(&a, "fd00::11/64"), (&b, "fd00::12/64"), (&c, "fd00::13/64")] {
        vm.add_address(address).unwrap();
    }
    assert!(reaches(&a, "fd00::12"), "IPv6 on the same host");
    assert!(reaches(&c, "fd00::11"), "IPv6 across hosts");
    assert!(unreachable(&a, "10.0.0.99"), "nobody has that address");
}

#[test]
fn tunnels_over_an_ipv6_underlay() {
    let net = Net::with("l2v6", 2, over_ipv6);
    net.apply(&pair("c", 13));
    let (a, c) = (net.vm(1, "a"), net.vm(2, "c"));
    let lease = a.dhcp(&Default::default()).unwrap();
    assert_eq!(lease.mtu, Some(1522), "1600 less 78 of Geneve over IPv6");
    c.dhcp(&Default::default()).unwrap();
    assert!(reaches(&a, "10.0.0.13"));
}

#[test]
fn networks_with_the_same_addresses_are_apart() {
    let net = Net::up("apart", 2);
    let tenant = |name: &str| {
        format!(
            "kind: Project
metadata: {{ name: {name} }}
---
kind: VirtualNetwork
metadata: {{ name: net, project: {name} }}
spec: {{ subnets: [{{ cidr: 10.0.0.0/24 }}] }}
---
kind: Port
metadata: {{ name: {name}-1, project: {name} }}
spec: {{ network: net, addresses: [10.0.0.11] }}
---
kind: Port
metadata: {{ name: {name}-2, project: {name} }}
spec: {{ network: net, addresses: [10.0.0.12] }}
"
        )
    };
    let mut macs = Vec::new();
    for name in ["red", "blue"] {
        net.apply(&tenant(name));
        for (place, hypervisor) in [(1, 1), (2, 2)] {
            let port = format!("{name}-{place}");
            let object: serde_json::Value =
                serde_json::from_str(&net.qnctl(&["get", "port", &port, "-p", name, "-o", "json"])).unwrap();
            let (id, mac) = (text(&object, "/meta/id"), text(&object, "/status/mac"));
            let vm = net.lab.add_vm(hypervisor, &port, &id, &mac).unwrap();
            let lease = vm.dhcp(&Default::default()).unwrap();
            assert_eq!(lease.ip.to_string(), format!("10.0.0.{}", 10 + place));
            macs.push((vm, mac));
        }
    }
    // Both have a 10.0.0.12 on the other host; each must meet its own.
    for (from, to) in [(0, 1), (2, 3)] {
        assert!(reaches(&macs[from].0, "10.0.0.12"));
        let neighbour = macs[from].0.exec(["ip", "neigh", "show", "10.0.0.12"]).unwrap().stdout;
        assert!(neighbour.contains(&macs[to].1), "{neighbour} is not {}", macs[to].1);
    }
}

#[test]
fn a_disabled_port_neither_sends_nor_receives() {
    let (net, [a, _b, _c]) = Net::three_vms("disabled");
    assert!(reaches(&a, "10.0.0.13"));
    net.apply("{kind: Port, metadata: {name: c}, spec: {network: net, disabled: true}}");
    assert!(unreachable(&a, "10.0.0.13"));
    net.apply("{kind: Port, metadata: {name: c}, spec: {network: net, disabled: false}}");
    assert!(reaches(&a, "10.0.0.13"));
}

#[test]
fn port_security_holds_a_vm_to_its_addresses() {
    let (net, [a, _b, c]) = Net::three_vms("portsec");
    a.add_address("10.0.0.77/24").unwrap();
    c.add_address("10.0.0.78/24").unwrap();
    let spoofed = |from: &Vm| {
        let options = PingOptions { source: Some(ip("10.0.0.77")), ..PingOptions::default() };
        from.ping(ip("10.0.0.13"), &options).unwrap()
    };
    assert!(spoofed(&a).none_answered(), "a foreign source address passed");
    net.apply(
        "{kind: Port, metadata: {name: a}, spec: {network: net, allowed_address_pairs: [{ip: 10.0.0.77}]}}",
    );
    assert!(spoofed(&a).all_answered(), "an allowed pair did not pass");
}

#[test]
fn macs_behind_an_unknown_port_are_learned_across_hosts() {
    let (net, [a, _b, c]) = Net::three_vms("learn");
    net.apply(
        "{kind: Port, metadata: {name: c}, spec: {network: net, receive_unknown: true, port_security_disabled: true}}",
    );
    // A second station behind c's port: the switch knows it only from its frames.
    c.exec(["ip", "link", "add", "mac0", "link", "eth0", "type", "macvlan", "mode", "bridge"]).unwrap();
    c.exec(["ip", "link", "set", "mac0", "up"]).unwrap();
    c.exec(["ip", "addr", "add", "10.0.0.50/24", "dev", "mac0"]).unwrap();
    a.wait_reachable(ip("10.0.0.50"), Duration::from_secs(10)).unwrap();
    assert!(reaches(&a, "10.0.0.13"), "the port's own station still answers");
}
