//! Traffic through real Open vSwitch with flows written by hand: proves the underlay and the tools for looking at it.
//!
//! Needs root and Open vSwitch and fails, naming what is missing, without them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{net::IpAddr, time::Duration};

use quantumnet_testbed::{
    Flood, Hypervisor, LabGuard, LabSpec, Node, PingOptions, Registry, Underlay, UpOptions, Vm,
};

fn up(spec: &LabSpec) -> (tempfile::TempDir, LabGuard) {
    let folder = tempfile::Builder::new().prefix("qn").tempdir().unwrap();
    let options = UpOptions { registry: Registry::at(folder.path()), keep_on_failure: false };
    let lab = LabGuard::up_with(spec, &options).unwrap();
    (folder, lab)
}

/// Two hypervisors, a VM on each, one layer-2 network over a Geneve tunnel.
fn two_hosts(underlay: Underlay) -> (tempfile::TempDir, LabGuard, Vm, Vm) {
    let (folder, lab) = up(&LabSpec { underlay, ..LabSpec::switches_only("geneve", 2) });
    let vms = [(1, "a", "02:00:00:00:00:0a"), (2, "b", "02:00:00:00:00:0b")].map(|(n, name, mac)| {
        let hypervisor = lab.hypervisor(n).unwrap();
        hypervisor.add_bridge("br-int").unwrap();
        hypervisor.add_tunnel("tun", 3 - n).unwrap();
        let vm = lab.add_vm(n, name, &format!("port-{name}"), mac).unwrap();
        wire(&hypervisor, &vm);
        vm
    });
    let [a, b] = vms;
    for (vm, last) in [(&a, 10), (&b, 11)] {
        vm.add_address(&format!("192.168.7.{last}/24")).unwrap();
        vm.add_address(&format!("fd00:7::{last}/64")).unwrap();
    }
    (folder, lab, a, b)
}

/// Everything from the VM goes into the tunnel with key 7, and back.
fn wire(hypervisor: &Hypervisor, vm: &Vm) {
    let (port, tunnel) =
        (hypervisor.ofport(vm.switch_interface()).unwrap(), hypervisor.ofport("tun").unwrap());
    hypervisor
        .replace_flows(
            "br-int",
            &[
                &format!("priority=100,in_port={port} actions=set_field:7->tun_id,output:{tunnel}"),
                &format!("priority=100,in_port={tunnel},tun_id=7 actions=output:{port}"),
            ],
        )
        .unwrap();
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[track_caller]
fn check_cross_host(underlay: Underlay) {
    let (_folder, lab, a, _b) = two_hosts(underlay);
    let seen = lab.capture(Node::Hypervisor(1), "eth0", "udp port 6081").unwrap();
    a.wait_reachable(ip("192.168.7.11"), Duration::from_secs(10)).unwrap();
    a.wait_reachable(ip("fd00:7::11"), Duration::from_secs(10)).unwrap();
    let five = PingOptions { count: 5, ..PingOptions::default() };
    let result = a.ping(ip("192.168.7.11"), &five).unwrap();
    assert!(result.all_answered(), "{result:?}");
    let full_size = PingOptions { payload_bytes: Some(1472), dont_fragment: true, ..PingOptions::default() };
    let result = a.ping(ip("192.168.7.11"), &full_size).unwrap();
    assert!(result.all_answered(), "1500 bytes must pass: {result:?}");
    let too_long = PingOptions { payload_bytes: Some(1473), ..full_size };
    assert!(a.ping(ip("192.168.7.11"), &too_long).unwrap().none_answered());
    let text = seen.stop().unwrap();
    assert!(text.contains("Geneve") && text.contains("vni 0x7"), "{text}");
    assert!(lab.hypervisor(1).unwrap().trace("in_port=tun,tun_id=7").unwrap().contains("Datapath actions"));
}

#[test]
fn vms_meet_over_geneve_on_ipv4() {
    check_cross_host(Underlay::Ipv4);
}

#[test]
fn vms_meet_over_geneve_on_ipv6() {
    check_cross_host(Underlay::Ipv6);
}

#[test]
fn vms_meet_over_geneve_on_both() {
    check_cross_host(Underlay::Dual);
}

#[test]
fn tcp_passes_between_hosts() {
    let (_folder, _lab, a, b) = two_hosts(Underlay::Ipv4);
    a.wait_reachable(ip("192.168.7.11"), Duration::from_secs(10)).unwrap();
    let server = b.netns().within(|| std::net::TcpListener::bind("0.0.0.0:80")).unwrap().unwrap();
    let sink = std::thread::spawn(move || {
        std::io::copy(&mut server.accept().unwrap().0, &mut std::io::sink()).unwrap()
    });
    let mut stream = a.netns().within(|| std::net::TcpStream::connect("192.168.7.11:80")).unwrap().unwrap();
    std::io::Write::write_all(&mut stream, &vec![7; 1_000_000]).unwrap();
    drop(stream);
    assert_eq!(sink.join().unwrap(), 1_000_000);
}

/// The port is taken away and put back; both kinds of probe must see an outage of about that length.
#[test]
fn probes_count_an_outage() {
    let (_folder, lab, a, b) = two_hosts(Underlay::Ipv4);
    a.wait_reachable(ip("192.168.7.11"), Duration::from_secs(10)).unwrap();
    let probes =
        [a.probe_ping(ip("192.168.7.11")).unwrap(), a.probe_udp(&b, ip("192.168.7.11"), 5000).unwrap()];
    for probe in &probes {
        probe.wait_received(50, Duration::from_secs(10)).unwrap();
    }
    let started = std::time::Instant::now();
    lab.unplug_vm("b").unwrap();
    assert!(a.ping(ip("192.168.7.11"), &PingOptions::default()).unwrap().none_answered());
    let before: Vec<u64> = probes.iter().map(|probe| probe.so_far().unwrap().received).collect();
    lab.plug_vm("b").unwrap();
    wire(&lab.hypervisor(2).unwrap(), &b);
    let outage_ms = u64::try_from(started.elapsed().as_millis()).unwrap();
    for (probe, before) in probes.into_iter().zip(before) {
        probe.wait_received(before + 50, Duration::from_secs(20)).unwrap();
        let report = probe.stop().unwrap();
        // The ping in between alone takes more than a second; an ARP entry that went stale may add another.
        assert!((1000..outage_ms + 3000).contains(&report.longest_gap_ms), "{outage_ms} ms: {report:?}");
        assert!(report.lost() >= 50 && report.longest_loss >= 50, "{report:?}");
        assert!(report.received >= 100, "{report:?}");
    }
}

#[test]
fn a_quiet_probe_loses_nothing() {
    let (_folder, _lab, a, b) = two_hosts(Underlay::Ipv4);
    a.wait_reachable(ip("192.168.7.11"), Duration::from_secs(10)).unwrap();
    for probe in
        [a.probe_ping(ip("192.168.7.11")).unwrap(), a.probe_udp(&b, ip("192.168.7.11"), 5000).unwrap()]
    {
        probe.wait_received(100, Duration::from_secs(10)).unwrap();
        let report = probe.stop().unwrap();
        assert_eq!(report.lost(), 0, "{report:?}");
    }
}

#[test]
fn a_vm_moves_and_keeps_its_addresses() {
    let (_folder, lab, a, b) = two_hosts(Underlay::Ipv4);
    a.wait_reachable(ip("192.168.7.11"), Duration::from_secs(10)).unwrap();
    lab.move_vm("b", 1).unwrap();
    let host = lab.hypervisor(1).unwrap();
    let (one, two) = (host.ofport(a.switch_interface()).unwrap(), host.ofport(b.switch_interface()).unwrap());
    host.replace_flows(
        "br-int",
        &[&format!("in_port={one} actions=output:{two}"), &format!("in_port={two} actions=output:{one}")],
    )
    .unwrap();
    a.wait_reachable(ip("192.168.7.11"), Duration::from_secs(10)).unwrap();
    let facts = host.ovs_vsctl(["get", "Interface", b.switch_interface(), "external_ids"]).unwrap();
    assert!(
        facts.contains("iface-id=port-b") && facts.contains("attached-mac=\"02:00:00:00:00:0b\""),
        "{facts}"
    );
    lab.remove_vm("b").unwrap();
    lab.remove_vm("b").unwrap();
    lab.add_vm(2, "b", "port-b", "02:00:00:00:00:0b").unwrap();
}

#[test]
fn frames_are_forged_flooded_and_answered() {
    let (_folder, lab, a, b) = two_hosts(Underlay::Ipv4);
    a.wait_reachable(ip("192.168.7.11"), Duration::from_secs(10)).unwrap();
    let seen = b.capture("ether proto 0x88b5").unwrap();
    a.send_frame_hex("ffffffffffff 02:00:00:00:00:99 88b5 6d61726b6572").unwrap();
    seen.wait_for("02:00:00:00:00:99", Duration::from_secs(5)).unwrap();
    seen.stop().unwrap();

    assert_eq!(a.flood(&Flood::RandomMac, 20_000).unwrap(), 20_000);
    let arp = Flood::Arp { sender: [192, 168, 7, 10].into(), network: [10, 66, 0, 0].into() };
    assert_eq!(a.flood(&arp, 1_000).unwrap(), 1_000);
    assert_eq!(a.flood(&Flood::DhcpDiscover, 1_000).unwrap(), 1_000);
    let port = lab.hypervisor(1).unwrap().ovs_ofctl(["dump-ports", "br-int", a.switch_interface()]).unwrap();
    assert!(port.contains("rx pkts="), "{port}");

    assert_eq!(a.arping([192, 168, 7, 11].into()).unwrap(), ["02:00:00:00:00:0b"]);
    assert_eq!(a.arping([192, 168, 7, 99].into()).unwrap(), Vec::<String>::new());
}

#[test]
fn outside_hosts_share_the_physical_network() {
    let (_folder, lab) = up(&LabSpec::switches_only("outside", 1));
    let host = lab.hypervisor(1).unwrap();
    let router = lab.add_outside("router", "02:00:00:00:01:01").unwrap();
    router.add_address("203.0.113.1/24").unwrap();
    lab.exec("hv1", ["ip", "addr", "add", "203.0.113.2/24", "dev", "br-ex"]).unwrap();
    router.wait_reachable(ip("203.0.113.2"), Duration::from_secs(10)).unwrap();
    lab.set_link(host.node(), quantumnet_testbed::Link::Physical, false).unwrap();
    assert!(router.ping(ip("203.0.113.2"), &PingOptions::default()).unwrap().none_answered());
    lab.set_link(host.node(), quantumnet_testbed::Link::Physical, true).unwrap();
    router.wait_reachable(ip("203.0.113.2"), Duration::from_secs(10)).unwrap();
}
