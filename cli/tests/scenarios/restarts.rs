//! What users are promised when something dies.

use std::time::{Duration, Instant};

use quantumnet_testbed::{Daemon, Probe, ProbeReport, Signal, wait_until};
use serde_json::Value;

use crate::support::{Net, ip, text};

const PROBES_BEFORE: u64 = 100;
const PROBES_AFTER: u64 = 200;
const WITHIN: Duration = Duration::from_secs(20);

/// Streams at 100 packets per second, started and flowing.
pub(crate) fn streams(vm: &quantumnet_testbed::Vm, to: &[&str]) -> Vec<Probe> {
    let probes: Vec<Probe> = to.iter().map(|address| vm.probe_ping(ip(address)).unwrap()).collect();
    for probe in &probes {
        probe.wait_received(PROBES_BEFORE, WITHIN).unwrap();
    }
    probes
}

/// Lets them flow some more and stops them.
pub(crate) fn finish(probes: Vec<Probe>) -> Vec<ProbeReport> {
    for probe in &probes {
        let received = probe.so_far().unwrap().received;
        probe.wait_received(received + PROBES_AFTER, WITHIN).unwrap();
    }
    probes.into_iter().map(|probe| probe.stop().unwrap()).collect()
}

/// Waits until an agent has told the controller that the newest revision is in its switch.
fn wait_in_sync(net: &Net, node: &str) {
    wait_until(WITHIN, &format!("{node} to be in sync"), || {
        let cluster: Value = serde_json::from_str(&net.qnctl(&["status", "-o", "json"])).unwrap();
        let number = |value: &Value| value.as_str().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let revision = number(&cluster["cluster"]["revision"]);
        cluster["nodes"].as_array().unwrap().iter().any(|entry| {
            entry["name"] == node
                && entry["connected"] == true
                && number(&entry["appliedRevision"]) >= revision
        })
    })
    .unwrap();
}

#[test]
fn a_killed_agent_loses_no_packet() {
    let (net, [a, _b, _c]) = Net::three_vms("agentkill");
    let probes = streams(&a, &["10.0.0.12", "10.0.0.13"]);
    for _ in 0..3 {
        net.lab.restart(Daemon::Agent(1), Signal::SIGKILL).unwrap();
        wait_in_sync(&net, "hv1");
    }
    net.lab.restart(Daemon::Agent(2), Signal::SIGKILL).unwrap();
    wait_in_sync(&net, "hv2");
    for report in finish(probes) {
        assert_eq!(report.lost(), 0, "{report:?}");
    }
}

#[test]
fn without_a_controller_traffic_goes_on_and_an_agent_programs_from_its_disk() {
    let (net, [a, _b, _c]) = Net::three_vms("nocontroller");
    let probes = streams(&a, &["10.0.0.12", "10.0.0.13"]);
    net.lab.stop_controllers(Signal::SIGKILL).unwrap();
    for report in finish(probes) {
        assert_eq!(report.lost(), 0, "{report:?}");
    }
    // A host that comes up with nothing in its switch and nobody to ask.
    net.lab.stop(Daemon::Agent(1), Signal::SIGKILL).unwrap();
    net.lab.hypervisor(1).unwrap().ovs_ofctl(["del-flows", "br-int"]).unwrap();
    let options = quantumnet_testbed::PingOptions::default();
    assert!(a.ping(ip("10.0.0.12"), &options).unwrap().none_answered(), "an emptied switch must be closed");
    net.lab.start(Daemon::Agent(1)).unwrap();
    a.wait_reachable(ip("10.0.0.12"), WITHIN).unwrap();
    a.wait_reachable(ip("10.0.0.13"), WITHIN).unwrap();
    net.lab.start_controllers().unwrap();
    wait_in_sync(&net, "hv1");
    assert!(a.ping(ip("10.0.0.13"), &options).unwrap().all_answered());
}

#[test]
fn killed_controllers_forget_nothing_that_they_acknowledged() {
    let net = Net::up("controllerkill", 1);
    net.apply("{kind: VirtualNetwork, metadata: {name: net}, spec: {subnets: [{cidr: 10.0.0.0/24}]}}");
    for round in 0..5 {
        net.apply(&format!("{{kind: Port, metadata: {{name: p{round}}}, spec: {{network: net}}}}"));
        net.lab.stop_controllers(Signal::SIGKILL).unwrap();
        net.lab.start_controllers().unwrap();
        let ports: Value = serde_json::from_str(&net.qnctl(&["get", "ports", "-o", "json"])).unwrap();
        assert_eq!(ports.as_array().unwrap().len(), round + 1);
    }
}

#[test]
fn a_restarted_vswitchd_is_back_within_two_seconds() {
    let (net, [a, _b, _c]) = Net::three_vms("vswitchd");
    let probes = streams(&a, &["10.0.0.12", "10.0.0.13"]);
    net.lab.stop(Daemon::Vswitchd(1), Signal::SIGKILL).unwrap();
    let before: Vec<u64> = probes.iter().map(|probe| probe.so_far().unwrap().received).collect();
    let started = Instant::now();
    net.lab.start(Daemon::Vswitchd(1)).unwrap();
    for (probe, before) in probes.iter().zip(before) {
        probe.wait_received(before + 1, WITHIN).unwrap();
    }
    let back = started.elapsed();
    finish(probes);
    assert!(back < Duration::from_secs(2), "traffic was back {back:?} after the start of ovs-vswitchd");
}

#[test]
fn a_moved_interface_is_reachable_within_a_second() {
    let (net, [a, b, _c]) = Net::three_vms("move");
    let probe = a.probe_ping(ip("10.0.0.12")).unwrap();
    probe.wait_received(PROBES_BEFORE, WITHIN).unwrap();
    net.lab.unplug_vm("b").unwrap();
    let received = probe.so_far().unwrap().received;
    let moved = Instant::now();
    net.lab.move_vm("b", 2).unwrap();
    probe.wait_received(received + 1, WITHIN).unwrap();
    let back = moved.elapsed();
    finish(vec![probe]);
    net.wait_port("b", "on hv2", |port| text(port, "/status/chassis") == "hv2");
    assert!(back < Duration::from_secs(1), "reachable {back:?} after the move began");
    drop(b);
}
