//! What runs inside the QEMU guest: Open vSwitch's kernel datapath by itself, then QuantumNet on it.
//!
//! Prints one line `QN-GUEST ok|FAILED name: detail` per check and `QN-GUEST N passed, M failed` at the end;
//! `testbed/guest/run` reads them from the serial line. First come flows written by hand, which try Open vSwitch, the
//! kernel's Geneve and the lab itself; if they fail, nothing else is tried and the exit status is 3. Then come a
//! controller, agents and VMs; any other failure is exit status 1.
//!
//! usage: guest_smoke [system|netdev [FOLDER_OF_THE_PROGRAMS [all|rules]]]; with `netdev` it runs on any machine. `rules` leaves out
//! what needs neither rules nor routers, and IPv6 between the hypervisors: it takes a third of the time.

mod rules;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use quantumnet_testbed::{
    Capture, Cmd, Daemon, Datapath, DhcpOptions, Hypervisor, LabGuard, LabSpec, Node, PingOptions,
    PingResult, Place, Programs, Signal, Underlay, Vm, wait_ok,
};
use serde_json::Value;

const TENANTS: &str = include_str!("../../../examples/two-networks.yaml");
/// VM, hypervisor, project, address; one has no address in the file and gets the next free one.
const TENANT_VMS: [(&str, u16, &str, &str); 5] = [
    ("red-1", 1, "red", "10.0.1.11"),
    ("red-2", 2, "red", "10.0.1.12"),
    ("red-3", 1, "red", "10.0.1.2"),
    ("blue-1", 1, "blue", "10.0.1.11"),
    ("blue-2", 2, "blue", "10.0.1.12"),
];
const BOTH_VERSIONS: &str = "
kind: VirtualNetwork
metadata: { name: net }
spec: { subnets: [{ cidr: 10.0.0.0/24 }, { cidr: 'fd00::/64' }] }
---
kind: Port
metadata: { name: a }
spec: { network: net, addresses: [10.0.0.11, 'fd00::11'] }
---
kind: Port
metadata: { name: b }
spec: { network: net, addresses: [10.0.0.12, 'fd00::12'] }
";
/// Everything is slow in a guest that is emulated on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const NO_KERNEL_DATAPATH: u8 = 3;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            println!("QN-GUEST {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<ExitCode> {
    let mut args = std::env::args().skip(1);
    let datapath = match args.next().as_deref() {
        None | Some("system") => Datapath::System,
        Some("netdev") => Datapath::Netdev,
        Some(other) => anyhow::bail!("datapath {other:?}: system or netdev"),
    };
    let here = std::env::current_exe().context("where this program lies")?;
    let folder = args.next().map_or_else(|| here.with_file_name(""), PathBuf::from);
    let all = match args.next().as_deref() {
        None | Some("all") => true,
        Some("rules") => false,
        Some(other) => anyhow::bail!("checks {other:?}: all or rules"),
    };
    let mut checks = Checks::default();
    let underlays = [
        ("flows by hand, geneve over IPv4", Underlay::Ipv4),
        ("flows by hand, geneve over IPv6", Underlay::Ipv6),
    ];
    for (name, underlay) in underlays.into_iter().take(if all { 2 } else { 1 }) {
        checks.run(name, || by_hand(datapath, underlay));
    }
    let sound = checks.failed == 0;
    if sound {
        rules::tenant(&mut checks, datapath, &folder);
    }
    if sound && all {
        tenants(&mut checks, datapath, &folder);
        over_ipv6(&mut checks, datapath, &folder);
    }
    println!("QN-GUEST {} passed, {} failed", checks.passed, checks.failed);
    Ok(match (sound, checks.failed) {
        (true, 0) => ExitCode::SUCCESS,
        (true, _) => ExitCode::FAILURE,
        (false, _) => ExitCode::from(NO_KERNEL_DATAPATH),
    })
}

/// Results so far.
#[derive(Default)]
struct Checks {
    passed: u32,
    failed: u32,
}

impl Checks {
    /// Runs a check and prints its line; true when it passed.
    fn run(&mut self, name: &str, check: impl FnOnce() -> anyhow::Result<String>) -> bool {
        let started = Instant::now();
        let result = check();
        let seconds = started.elapsed().as_secs_f32();
        match &result {
            Ok(detail) => {
                self.passed += 1;
                println!("QN-GUEST ok      {name}: {detail} ({seconds:.1} s)");
            }
            Err(error) => {
                self.failed += 1;
                println!("QN-GUEST FAILED  {name}: {error:#} ({seconds:.1} s)");
            }
        }
        result.is_ok()
    }
}

// ---- QuantumNet --------------------------------------------------------------------------------------------------

/// Two tenants with the same addresses, tunnels over IPv4; then the agents are killed.
fn tenants(checks: &mut Checks, datapath: Datapath, folder: &Path) {
    let Some(net) = Net::up(checks, "tenants", datapath, Underlay::Ipv4, folder) else { return };
    let failed_before = checks.failed;
    checks.run("apply two-networks.yaml", || net.apply(TENANTS));
    for (vm, hypervisor, project, address) in TENANT_VMS {
        checks.run(&format!("lease of {vm} on hv{hypervisor}"), || {
            net.vm_with_lease(vm, hypervisor, project, address)
        });
    }
    checks.run("ping on the same hypervisor", || net.reaches("red-1", "10.0.1.2"));
    checks.run("ping across hypervisors", || {
        net.reaches("red-1", "10.0.1.12")?;
        net.reaches("red-2", "10.0.1.2")?;
        net.reaches("blue-1", "10.0.1.12")
    });
    checks
        .run("full-size packets across hypervisors", || net.reaches_full_size("red-1", "red-2", "10.0.1.12"));
    checks.run("the kernel carries it", || net.in_datapath("red-1", "10.0.1.12"));
    checks.run("networks with the same addresses are apart", || net.tenants_are_apart());
    for n in [1, 2] {
        checks.run(&format!("kill -9 of the agent on hv{n} loses no packet"), || {
            net.agent_killed_under_traffic(n, "red-1", ["10.0.1.2", "10.0.1.12"])
        });
    }
    checks.run("the switches took every flow, no problems", || net.nothing_refused());
    checks.run("kill -9 of ovs-vswitchd on hv1, traffic comes back", || {
        net.switch_killed_under_traffic(1, "red-1", "10.0.1.12")
    });
    checks.run("a lease after all that", || {
        let lease = net.lab.vm("blue-2")?.dhcp(&patient())?;
        Ok(format!("{}/{}", lease.ip, lease.prefix))
    });
    if checks.failed != failed_before {
        println!("{}", evidence(&net.lab, None));
    }
}

/// Tunnels over IPv6, both versions inside.
fn over_ipv6(checks: &mut Checks, datapath: Datapath, folder: &Path) {
    let Some(net) = Net::up(checks, "over6", datapath, Underlay::Ipv6, folder) else { return };
    let failed_before = checks.failed;
    checks.run("apply a network of both versions, IPv6 underlay", || net.apply(BOTH_VERSIONS));
    for (vm, hypervisor, address) in [("a", 1, "10.0.0.11"), ("b", 2, "10.0.0.12")] {
        checks.run(&format!("lease of {vm} on hv{hypervisor}, IPv6 underlay"), || {
            net.vm_with_lease(vm, hypervisor, "default", address)
        });
    }
    checks.run("ping across hypervisors, IPv6 underlay", || net.reaches("a", "10.0.0.12"));
    checks.run("IPv6 between VMs across hypervisors", || {
        net.lab.vm("a")?.add_address("fd00::11/64")?;
        net.lab.vm("b")?.add_address("fd00::12/64")?;
        net.reaches("a", "fd00::12")
    });
    checks.run("full-size packets, IPv6 underlay", || net.reaches_full_size("a", "b", "10.0.0.12"));
    checks.run("the kernel carries it, IPv6 underlay", || net.in_datapath("a", "10.0.0.12"));
    if checks.failed != failed_before {
        println!("{}", evidence(&net.lab, None));
    }
}

/// A controller and two hypervisors with agents.
struct Net {
    lab: LabGuard,
    qnctl: PathBuf,
    datapath: Datapath,
}

impl Net {
    fn up(
        checks: &mut Checks,
        purpose: &str,
        datapath: Datapath,
        underlay: Underlay,
        folder: &Path,
    ) -> Option<Self> {
        let mut net = None;
        checks.run(&format!("1 controller, 2 hypervisors, {underlay:?} underlay"), || {
            let programs = Programs::in_folder(folder);
            let spec = LabSpec { underlay, datapath, ..LabSpec::with_programs(purpose, 1, 2, programs) };
            let lab = LabGuard::up(&spec)?;
            let net = net.insert(Self { lab, qnctl: folder.join("qnctl"), datapath });
            for n in [1, 2] {
                let bridges = net.lab.hypervisor(n)?.ovs_vsctl([
                    "--bare",
                    "--columns=datapath_type",
                    "find",
                    "Bridge",
                    "name=br-int",
                ])?;
                ensure!(bridges.trim() == datapath.name(), "br-int of hv{n} has the datapath {bridges:?}");
            }
            net.wait_in_sync(1)?;
            net.wait_in_sync(2)?;
            Ok(format!("agents made br-int with datapath_type={}", datapath.name()))
        });
        net
    }

    fn qnctl(&self, args: &[&str], input: &str) -> anyhow::Result<String> {
        let socket = format!("unix:{}", self.lab.api_socket(1).display());
        let command = Cmd::new([self.qnctl.as_os_str()]).args(["--controller", &socket]).args(args);
        command.stdin(input).within(PATIENCE).check().context("qnctl")
    }

    fn json(&self, args: &[&str]) -> anyhow::Result<Value> {
        let text = self.qnctl(&[args, &["-o", "json"]].concat(), "")?;
        serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
    }

    fn apply(&self, yaml: &str) -> anyhow::Result<String> {
        let said = self.qnctl(&["apply", "--wait", "-f", "-"], yaml)?;
        Ok(said.lines().last().unwrap_or_default().to_owned())
    }

    /// Plugs the VM of a port in and asks for its lease.
    fn vm_with_lease(
        &self,
        name: &str,
        hypervisor: u16,
        project: &str,
        address: &str,
    ) -> anyhow::Result<String> {
        let get = ["get", "port", name, "-p", project];
        let port = self.json(&get)?;
        let vm = self.lab.add_vm(hypervisor, name, text(&port, "/meta/id"), text(&port, "/status/mac"))?;
        wait_ok(PATIENCE, &format!("port {name} to be up on hv{hypervisor}"), || {
            let port = self.json(&get).map_err(|error| error.to_string())?;
            let up = port.pointer("/status/up") == Some(&Value::Bool(true));
            if up && text(&port, "/status/chassis") == format!("hv{hypervisor}") {
                Ok(())
            } else {
                Err(port["status"].to_string())
            }
        })?;
        let lease = vm.dhcp(&patient())?;
        ensure!(lease.ip.to_string() == address, "got {}, not {address}", lease.ip);
        Ok(format!("{}/{}, MTU {}", lease.ip, lease.prefix, lease.mtu.unwrap_or_default()))
    }

    fn ping(&self, from: &str, to: &str, options: &PingOptions) -> anyhow::Result<PingResult> {
        Ok(self.lab.vm(from)?.ping(ip(to)?, options)?)
    }

    fn reaches(&self, from: &str, to: &str) -> anyhow::Result<String> {
        if self.datapath == Datapath::Netdev {
            // ovs-vswitchd drops the packet that makes it look for the other hypervisor's MAC address; the kernel keeps it.
            self.lab.vm(from)?.wait_reachable(ip(to)?, PATIENCE)?;
        }
        let result = self.ping(from, to, &PingOptions { wait_s: 5, ..PingOptions::default() })?;
        ensure!(result.all_answered(), "{from} does not reach {to}: {result:?}");
        Ok(format!("{from} to {to} {}/{}", result.received, result.sent))
    }

    /// The largest packet the lease allows, whole.
    fn reaches_full_size(&self, from: &str, other: &str, to: &str) -> anyhow::Result<String> {
        let link = self.lab.vm(from)?.exec(["ip", "-o", "link", "show", "dev", "eth0"])?.stdout;
        let mut words = link.split_whitespace().skip_while(|word| *word != "mtu");
        let mtu: u32 =
            words.nth(1).and_then(|word| word.parse().ok()).with_context(|| format!("no MTU in {link:?}"))?;
        // The lab's interfaces at the switch have 1500 bytes; whoever makes them for real gives them the network's MTU.
        for vm in [from, other] {
            let vm = self.lab.vm(vm)?;
            let Place::Hypervisor(n) = vm.place()? else {
                anyhow::bail!("{} is not on a hypervisor", vm.name())
            };
            let set = ["ip", "link", "set", vm.switch_interface(), "mtu", &mtu.to_string()];
            let output = self.lab.hypervisor(n)?.exec(set)?;
            ensure!(output.ok(), "{}", output.stderr);
        }
        let options = PingOptions {
            payload_bytes: Some(mtu - 28),
            dont_fragment: true,
            wait_s: 5,
            ..PingOptions::default()
        };
        let result = self.ping(from, to, &options)?;
        ensure!(result.all_answered(), "{mtu} bytes do not pass: {result:?}");
        Ok(format!("{mtu} bytes, {}/{}", result.received, result.sent))
    }

    /// The packets are in Geneve on the wire, and the flows that do it are in the datapath that was asked for.
    fn in_datapath(&self, from: &str, to: &str) -> anyhow::Result<String> {
        let seen = self.lab.capture(Node::Hypervisor(1), "eth0", "udp port 6081")?;
        let host = self.lab.hypervisor(1)?;
        // A flow leaves the datapath ten seconds after its last packet.
        self.reaches(from, to)?;
        let flows = host.ovs_appctl(["dpctl/dump-flows"])?;
        seen.wait_for("Geneve", PATIENCE)?;
        let datapath = host.ovs_appctl(["dpctl/dump-dps"])?;
        let wanted = format!("{}@ovs-{}", self.datapath.name(), self.datapath.name());
        ensure!(datapath.contains(&wanted), "datapaths are {datapath:?}");
        let tunnelled =
            flows.lines().filter(|flow| flow.contains("tunnel(") || flow.contains("tnl_push")).count();
        ensure!(tunnelled > 0, "no tunnelled flow in the datapath: {flows}");
        if self.datapath == Datapath::System {
            let device = host.exec(["ip", "-d", "link", "show", "dev", "genev_sys_6081"])?;
            ensure!(device.stdout.contains("geneve"), "the kernel has no Geneve device: {}", device.stderr);
        }
        Ok(format!("{wanted}, {tunnelled} tunnelled flows of {}", flows.lines().count()))
    }

    fn tenants_are_apart(&self) -> anyhow::Result<String> {
        let result = self.ping("blue-1", "10.0.1.2", &PingOptions { wait_s: 2, ..PingOptions::default() })?;
        ensure!(result.none_answered(), "blue-1 reaches 10.0.1.2, which only red has: {result:?}");
        let mut macs = Vec::new();
        for (project, from, owner) in [("red", "red-1", "red-2"), ("blue", "blue-1", "blue-2")] {
            self.reaches(from, "10.0.1.12")?;
            let neighbour = self.lab.vm(from)?.exec(["ip", "neigh", "show", "10.0.1.12"])?.stdout;
            let port = self.json(&["get", "port", owner, "-p", project])?;
            let mac = text(&port, "/status/mac").to_owned();
            ensure!(neighbour.contains(&mac), "{from} sees {neighbour:?}, {owner} has {mac}");
            macs.push(mac);
        }
        ensure!(macs[0] != macs[1], "both tenants' 10.0.1.12 have one MAC address");
        Ok(format!("10.0.1.12 is {} for red and {} for blue", macs[0], macs[1]))
    }

    /// The agent dies at once, is away until the controller has noticed, and comes back; streams run all the time.
    fn agent_killed_under_traffic(&self, n: u16, from: &str, to: [&str; 2]) -> anyhow::Result<String> {
        let vm = self.lab.vm(from)?;
        let mut probes = Vec::new();
        for address in to {
            let probe = vm.probe_ping(ip(address)?)?;
            probe.wait_received(100, PATIENCE)?;
            probes.push(probe);
        }
        self.lab.stop(Daemon::Agent(n), Signal::SIGKILL)?;
        self.wait_node(n, "to be noticed as gone", |node, _| node["connected"] != true)?;
        self.lab.start(Daemon::Agent(n))?;
        self.wait_in_sync(n)?;
        let mut details = Vec::new();
        for (probe, address) in probes.into_iter().zip(to) {
            let received = probe.so_far()?.received;
            probe.wait_received(received + 200, PATIENCE)?;
            let report = probe.stop()?;
            ensure!(report.lost() == 0, "{address}: {report:?}");
            details.push(format!("{address} {}/{}", report.received, report.sent));
        }
        Ok(details.join(", "))
    }

    /// Open vSwitch dies at once and is started again; the stream says how long nothing passed.
    fn switch_killed_under_traffic(&self, n: u16, from: &str, to: &str) -> anyhow::Result<String> {
        let probe = self.lab.vm(from)?.probe_ping(ip(to)?)?;
        probe.wait_received(100, PATIENCE)?;
        self.lab.stop(Daemon::Vswitchd(n), Signal::SIGKILL)?;
        let received = probe.so_far()?.received;
        let alone = probe.wait_received(received + 50, Duration::from_secs(2)).is_ok();
        self.lab.start(Daemon::Vswitchd(n))?;
        let started = probe.so_far()?.received;
        self.wait_in_sync(n)?;
        probe.wait_received(started + 200, PATIENCE)?;
        let report = probe.stop()?;
        Ok(format!(
            "{} while it was dead, lost {} of {}, longest gap {} ms",
            if alone { "traffic went on" } else { "nothing passed" },
            report.lost(),
            report.sent,
            report.longest_gap_ms
        ))
    }

    /// An agent says so to the controller and in its log when its switch does not take a flow.
    fn nothing_refused(&self) -> anyhow::Result<String> {
        let status = self.json(&["status"])?;
        let nodes = status["nodes"].as_array().context("no nodes in the status")?;
        let problems: Vec<String> = nodes
            .iter()
            .flat_map(|node| node["problems"].as_array().into_iter().flatten())
            .chain(status["problems"].as_array().into_iter().flatten())
            .map(ToString::to_string)
            .collect();
        for n in [1, 2] {
            let log = self.lab.log(Daemon::Agent(n))?;
            let refused: Vec<&str> = log.lines().filter(|line| line.contains("refused")).collect();
            let first = refused.first().unwrap_or(&"");
            ensure!(
                refused.is_empty(),
                "hv{n}: {} refusals, the first: {first}; qnctl status: {}",
                refused.len(),
                problems.join(", ")
            );
        }
        ensure!(problems.is_empty(), "qnctl status: {}", problems.join(", "));
        let flows = self.lab.hypervisor(1)?.flows("br-int")?;
        Ok(format!("{} flows on hv1", flows.len()))
    }

    /// Waits until the agent has told the controller that the newest revision is in its switch.
    fn wait_in_sync(&self, n: u16) -> anyhow::Result<()> {
        self.wait_node(n, "to be in sync", |node, revision| {
            node["connected"] == true && number(&node["appliedRevision"]) >= revision
        })
    }

    fn wait_node(&self, n: u16, what: &str, condition: impl Fn(&Value, u64) -> bool) -> anyhow::Result<()> {
        let name = format!("hv{n}");
        wait_ok(PATIENCE, &format!("{name} {what}"), || {
            let status = self.json(&["status"]).map_err(|error| format!("{error:#}"))?;
            let revision = number(&status["cluster"]["revision"]);
            let node = status["nodes"].as_array().into_iter().flatten().find(|node| node["name"] == *name);
            match node {
                Some(node) if condition(node, revision) => Ok(()),
                _ => Err(status.to_string()),
            }
        })?;
        Ok(())
    }
}

fn text<'a>(object: &'a Value, place: &str) -> &'a str {
    object.pointer(place).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn ip(text: &str) -> anyhow::Result<IpAddr> {
    text.parse().with_context(|| format!("{text:?} is no address"))
}

fn patient() -> DhcpOptions {
    DhcpOptions { tries: 30, ..DhcpOptions::default() }
}

// ---- Open vSwitch by itself --------------------------------------------------------------------------------------

/// Two VMs on two hypervisors reach each other in both IP versions, also with full-size packets, and the tunnel is Geneve.
fn by_hand(datapath: Datapath, underlay: Underlay) -> anyhow::Result<String> {
    let lab = LabGuard::up(&LabSpec { underlay, datapath, ..LabSpec::switches_only("smoke", 2) })?;
    let mut vms = Vec::new();
    for (n, name, mac, last) in [(1, "a", "02:00:00:00:00:0a", 10), (2, "b", "02:00:00:00:00:0b", 11)] {
        let host = lab.hypervisor(n)?;
        host.add_bridge("br-int")?;
        host.add_tunnel("tun", 3 - n)?;
        let vm = lab.add_vm(n, name, &format!("port-{name}"), mac)?;
        wire(&host, &vm)?;
        vm.add_address(&format!("192.168.7.{last}/24"))?;
        vm.add_address(&format!("fd00:7::{last}/64"))?;
        vms.push(vm);
    }
    let seen = lab.capture(Node::Hypervisor(1), "eth0", "udp port 6081").context("capture the tunnel")?;
    let a = vms.first().context("VM a was made")?;
    for destination in ["192.168.7.11", "fd00:7::11"] {
        if let Err(error) = a.wait_reachable(ip(destination)?, Duration::from_secs(20)) {
            println!("{}", evidence(&lab, Some(&seen)));
            return Err(error).with_context(|| format!("{destination} is not reached"));
        }
    }
    let full_size = PingOptions { payload_bytes: Some(1472), dont_fragment: true, ..PingOptions::default() };
    let result = a.ping(ip("192.168.7.11")?, &full_size)?;
    ensure!(result.all_answered(), "1500 bytes do not pass: {result:?}");
    seen.wait_for("vni 0x7", Duration::from_secs(5))?;
    let flows = lab.hypervisor(1)?.ovs_appctl(["dpctl/dump-flows"])?;
    ensure!(flows.contains("tunnel") || flows.contains("set("), "no tunnelled flow in the datapath: {flows}");
    Ok("IPv4 and IPv6 inside, 1500 bytes".to_owned())
}

fn wire(host: &Hypervisor, vm: &Vm) -> anyhow::Result<()> {
    let (port, tunnel) = (host.ofport(vm.switch_interface())?, host.ofport("tun")?);
    host.replace_flows(
        "br-int",
        &[
            &format!("priority=100,in_port={port} actions=set_field:7->tun_id,output:{tunnel}"),
            &format!("priority=100,in_port={tunnel},tun_id=7 actions=output:{port}"),
        ],
    )?;
    Ok(())
}

// ---- when something failed ---------------------------------------------------------------------------------------

/// What a person would look at first when nothing passes.
fn evidence(lab: &LabGuard, seen: Option<&Capture>) -> String {
    let mut text = String::new();
    if let Some(seen) = seen {
        text += &format!("tunnel packets on hv1: {}\n", seen.text().unwrap_or_default());
    }
    let looks: [&[&str]; 6] = [
        &["ip", "-s", "link", "show", "dev", "eth0"],
        &["ip", "addr", "show", "dev", "eth0"],
        &["ip", "neigh"],
        &["ovs-ofctl", "-O", "OpenFlow15", "dump-flows", "br-int"],
        &["ovs-ofctl", "-O", "OpenFlow15", "dump-ports", "br-int"],
        &["ovs-vsctl", "show"],
    ];
    for (place, number) in [("hv1", 1), ("hv2", 2)] {
        for argv in looks {
            let output =
                lab.exec(place, argv).map_or_else(|error| error.to_string(), |o| o.stdout + &o.stderr);
            text += &format!("{place}# {}\n{output}", argv.join(" "));
        }
        for args in [&["dpctl/dump-flows", "-m"][..], &["dpctl/show", "-s"], &["upcall/show"]] {
            let answer = lab.hypervisor(number).and_then(|host| host.ovs_appctl(args));
            text +=
                &format!("{place}# {}\n{}", args.join(" "), answer.unwrap_or_else(|error| error.to_string()));
        }
        for daemon in [Daemon::Vswitchd(number), Daemon::Agent(number), Daemon::Controller(1)] {
            let log = lab.log(daemon).unwrap_or_default();
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains("|DBG|")).collect();
            let end = lines[lines.len().saturating_sub(60)..].join("\n");
            text += &format!("{place} log of {daemon}:\n{end}\n");
        }
    }
    text
}
