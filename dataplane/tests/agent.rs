//! The agent program on real Open vSwitch, with a controller made for the test. Needs root.
#![allow(clippy::unwrap_used)] // a test fails by panicking, its helpers too

mod controller;

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};

use controller::{Controller, localnet, mac, network, port, remove_port};
use quantumnet_testbed::{Daemon, LabGuard, LabSpec, Signal, wait_until};

/// An agent in the root namespace: sockets of Open vSwitch are files, and those of controllers are on loopback.
struct Agent {
    child: Child,
    metrics: SocketAddr,
}

impl Agent {
    fn start(lab: &LabGuard, hypervisor: u16, controllers: &[SocketAddr], state: &std::path::Path) -> Self {
        let metrics = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let remotes: Vec<String> = controllers.iter().map(|address| format!("http://{address}")).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_quantumnet-agent"));
        command.arg("--ovsdb").arg(format!("unix:{}", lab.ovsdb_socket(hypervisor).display()));
        command.arg("--controller").arg(remotes.join(","));
        command.arg("--state-dir").arg(state.join(format!("hv{hypervisor}")));
        command.arg("--metrics").arg(metrics.to_string());
        if std::env::var_os("AGENT_LOG").is_none() {
            command.stderr(Stdio::null());
        }
        Self { child: command.spawn().unwrap(), metrics }
    }

    fn metric(&self, name: &str) -> Option<f64> {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(self.metrics).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).ok()?;
        let line = page.lines().find(|line| line.starts_with(&format!("quantumnet_agent_{name} ")))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    fn wait_metric(&self, name: &str, value: impl Fn(f64) -> bool) {
        wait_until(Duration::from_secs(15), name, || self.metric(name).is_some_and(&value)).unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

fn ip(number: u16) -> IpAddr {
    format!("10.0.{}.{}", number >> 8, number & 0xff).parse().unwrap()
}

#[test]
fn two_hypervisors_ping_and_outlive_restarts() {
    if !is_root() {
        return;
    }
    let lab = LabGuard::up(&LabSpec::switches_only("agent", 2)).unwrap();
    let state = tempfile::tempdir().unwrap();
    let controller = Controller::start("127.0.0.1:0");
    let revision = controller.change(|rows| {
        network(rows, 2);
        port(rows, 1, 1, false);
        port(rows, 2, 2, false);
    });
    let mut agents: Vec<Agent> =
        (1..=2).map(|number| Agent::start(&lab, number, &[controller.address], state.path())).collect();
    let hv1 = lab.hypervisor(1).unwrap();
    wait_until(Duration::from_secs(10), "br-int", || {
        hv1.ovs_vsctl(["--no-wait", "br-exists", "br-int"]).is_ok()
    })
    .unwrap();
    assert_eq!(hv1.ovs_vsctl(["get-fail-mode", "br-int"]).unwrap().trim(), "secure");
    let hv2 = lab.hypervisor(2).unwrap();
    wait_until(Duration::from_secs(10), "br-int", || {
        hv2.ovs_vsctl(["--no-wait", "br-exists", "br-int"]).is_ok()
    })
    .unwrap();
    let a = lab.add_vm(1, "a", "p1", &mac(1)).unwrap();
    let b = lab.add_vm(2, "b", "p2", &mac(2)).unwrap();
    controller.wait_applied("hv1", revision);
    controller.wait_applied("hv2", revision);
    wait_until(Duration::from_secs(10), "interfaces to be reported", || {
        let heard = controller.heard();
        ["hv1", "hv2"].iter().all(|chassis| {
            let hellos = heard.hellos.get(*chassis).into_iter().flatten().flat_map(|hello| &hello.interfaces);
            let reports = heard.reports.get(*chassis).into_iter().flatten().flat_map(|r| &r.interfaces_added);
            hellos.chain(reports).count() > 0
        })
    })
    .unwrap();

    // DHCP from the agent, by a client that is not ours.
    let lease = a.dhcp(&Default::default()).unwrap();
    assert_eq!(IpAddr::from(lease.ip), ip(1));
    b.dhcp(&Default::default()).unwrap();
    a.wait_reachable(ip(2), Duration::from_secs(10)).unwrap();
    wait_until(Duration::from_secs(5), "ovn-installed", || {
        let interface = a.switch_interface();
        hv1.ovs_vsctl(["get", "Interface", interface, "external_ids:ovn-installed"]).is_ok()
    })
    .unwrap();

    // Killed and started again: nothing is rewritten, nothing is lost.
    let probe = a.probe_ping(ip(2)).unwrap();
    probe.wait_received(20, Duration::from_secs(5)).unwrap();
    let sum = |agent: &Agent| agent.metric("flow_mods_total").unwrap();
    agents[0] = Agent::start(&lab, 1, &[controller.address], state.path());
    agents[0].wait_metric("switch_checks_total", |checks| checks >= 1.0);
    agents[0].wait_metric("flows_outstanding", |flows| flows == 0.0);
    assert_eq!(sum(&agents[0]), 0.0, "flows were rewritten although they were right");

    // No controller: state on disk is enough, also for a switch that lost everything.
    let stored = state.path().join("hv1/rows");
    wait_until(Duration::from_secs(5), "rows on disk", || stored.is_file()).unwrap();
    controller.stop();
    agents[0] = Agent::start(&lab, 1, &[controller.address], state.path());
    agents[0].wait_metric("switch_checks_total", |checks| checks >= 1.0);
    agents[0].wait_metric("flows_outstanding", |flows| flows == 0.0);
    assert_eq!(sum(&agents[0]), 0.0, "flows were rewritten although they were right");
    let report = probe.stop().unwrap();
    assert_eq!(report.lost(), 0, "{report:?}");

    lab.restart(Daemon::Vswitchd(1), Signal::SIGKILL).unwrap();
    a.wait_reachable(ip(2), Duration::from_secs(15)).unwrap();
    assert_eq!(agents[0].metric("drift_total"), Some(0.0));
}

#[test]
fn foreign_and_stale_flows_are_replaced_and_right_ones_stay() {
    if !is_root() {
        return;
    }
    let lab = LabGuard::up(&LabSpec::switches_only("reconcile", 1)).unwrap();
    let hv1 = lab.hypervisor(1).unwrap();
    let state = tempfile::tempdir().unwrap();
    let controller = Controller::start("127.0.0.1:0");
    let revision = controller.change(|rows| {
        network(rows, 1);
        port(rows, 1, 1, false);
        port(rows, 2, 1, true);
    });
    let agent = Agent::start(&lab, 1, &[controller.address], state.path());
    wait_until(Duration::from_secs(10), "br-int", || {
        hv1.ovs_vsctl(["--no-wait", "br-exists", "br-int"]).is_ok()
    })
    .unwrap();
    lab.add_vm(1, "a", "p1", &mac(1)).unwrap();
    lab.add_vm(1, "b", "p2", &mac(2)).unwrap();
    controller.wait_applied("hv1", revision);
    agent.wait_metric("ports_bound", |ports| ports == 2.0);
    agent.wait_metric("flows_outstanding", |flows| flows == 0.0);
    let right = hv1.flows("br-int").unwrap();
    assert!(right.len() > 10, "{right:?}");
    drop(agent);

    hv1.ovs_ofctl(["add-flow", "br-int", "table=0,priority=7,icmp,actions=NORMAL"]).unwrap();
    hv1.ovs_ofctl(["del-flows", "br-int", "table=45"]).unwrap();
    let agent = Agent::start(&lab, 1, &[controller.address], state.path());
    agent.wait_metric("bundles_total", |bundles| bundles >= 1.0);
    agent.wait_metric("flows_outstanding", |flows| flows == 0.0);
    assert_eq!(hv1.flows("br-int").unwrap(), right);
    let gone = right.iter().filter(|flow| flow.contains("table=45,") || flow.contains("table=45 ")).count();
    assert_eq!(agent.metric("flow_mods_total"), Some(gone as f64 + 1.0), "only what differed is written");

    // A port that goes takes its flows and its mark along.
    let revision = controller.change(|rows| remove_port(rows, 2));
    controller.wait_applied("hv1", revision);
    agent.wait_metric("ports_bound", |ports| ports == 1.0);
}

#[test]
fn an_open_bridge_is_refused() {
    if !is_root() {
        return;
    }
    let lab = LabGuard::up(&LabSpec::switches_only("open", 1)).unwrap();
    let hv1 = lab.hypervisor(1).unwrap();
    hv1.ovs_vsctl(["add-br", "br-int", "--", "set", "Bridge", "br-int", "datapath_type=netdev"]).unwrap();
    let before = hv1.flows("br-int").unwrap();
    let state = tempfile::tempdir().unwrap();
    let controller = Controller::start("127.0.0.1:0");
    controller.change(|rows| network(rows, 1));
    let _agent = Agent::start(&lab, 1, &[controller.address], state.path());
    wait_until(Duration::from_secs(10), "the problem to be reported", || {
        let heard = controller.heard();
        let hellos = heard.hellos.get("hv1").into_iter().flatten().filter_map(|hello| hello.facts.as_ref());
        let reports =
            heard.reports.get("hv1").into_iter().flatten().filter_map(|report| report.facts.as_ref());
        hellos.chain(reports).any(|facts| facts.problems.iter().any(|problem| problem.contains("fail_mode")))
    })
    .unwrap();
    assert_eq!(hv1.flows("br-int").unwrap(), before);
}

#[test]
fn a_switch_is_joined_to_a_physical_network() {
    if !is_root() {
        return;
    }
    let lab = LabGuard::up(&LabSpec::switches_only("physical", 2)).unwrap();
    let hv1 = lab.hypervisor(1).unwrap();
    let state = tempfile::tempdir().unwrap();
    let controller = Controller::start("127.0.0.1:0");
    let revision = controller.change(|rows| {
        network(rows, 2);
        port(rows, 1, 1, false);
        localnet(rows, 2, "physnet1");
        localnet(rows, 3, "elsewhere");
        port(rows, 4, 2, false);
    });
    let _agents: Vec<Agent> =
        (1..=2).map(|number| Agent::start(&lab, number, &[controller.address], state.path())).collect();
    for number in 1..=2 {
        let hypervisor = lab.hypervisor(number).unwrap();
        wait_until(Duration::from_secs(10), "br-int", || {
            hypervisor.ovs_vsctl(["--no-wait", "br-exists", "br-int"]).is_ok()
        })
        .unwrap();
    }
    let patches = || {
        let ports = |bridge: &str| hv1.ovs_vsctl(["list-ports", bridge]).unwrap_or_default();
        let all = ports("br-int") + &ports("br-ex");
        all.lines().filter(|name| name.starts_with("patch-")).map(str::to_owned).collect::<Vec<_>>()
    };
    controller.wait_applied("hv1", revision);
    assert_eq!(patches(), [""; 0], "nothing is joined before there is a guest");
    let a = lab.add_vm(1, "a", "p1", &mac(1)).unwrap();
    let b = lab.add_vm(2, "b", "p4", &mac(4)).unwrap();
    let outside = lab.add_outside("outside", "0a:99:00:00:00:01").unwrap();
    outside.add_address("10.0.0.100/24").unwrap();
    a.dhcp(&Default::default()).unwrap();
    b.dhcp(&Default::default()).unwrap();
    a.wait_reachable(ip(100), Duration::from_secs(10)).unwrap();
    outside.wait_reachable(ip(4), Duration::from_secs(10)).unwrap();
    a.wait_reachable(ip(4), Duration::from_secs(10)).unwrap();
    assert_eq!(patches(), ["patch-br-int-to-p2", "patch-p2-to-br-int"]);
    let mark = hv1.ovs_vsctl(["get", "Port", "patch-p2-to-br-int", "external_ids:ovn-localnet-port"]);
    assert_eq!(mark.unwrap().trim(), "p2");
    wait_until(Duration::from_secs(10), "the other network to be missed", || {
        let heard = controller.heard();
        let mut facts =
            heard.reports.get("hv1").into_iter().flatten().filter_map(|report| report.facts.as_ref());
        facts.any(|facts| facts.problems.iter().any(|problem| problem.contains("\"elsewhere\"")))
    })
    .unwrap();

    let revision = controller.change(|rows| remove_port(rows, 2));
    controller.wait_applied("hv1", revision);
    wait_until(Duration::from_secs(10), "the patch to go", || patches().is_empty()).unwrap();
}
