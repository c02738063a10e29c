//! The smoke that runs inside the QEMU guest: two hypervisors on the kernel datapath, one layer-2 network across.
//!
//! Prints one line `QN-GUEST PASS|FAIL name` per check and `QN-GUEST DONE passed failed` at the end; `testbed/guest/run.sh`
//! reads them from the serial line. The flows are written by hand, so what is tried is Open vSwitch, the kernel's Geneve and
//! the lab itself. With `netdev` as its argument it runs on the userspace datapath of the machine it is started on.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use quantumnet_testbed::{
    Capture, Daemon, Datapath, Hypervisor, LabGuard, LabSpec, Node, PingOptions, Underlay, Vm,
};

fn main() -> anyhow::Result<()> {
    let datapath = match std::env::args().nth(1).as_deref() {
        None | Some("system") => Datapath::System,
        Some("netdev") => Datapath::Netdev,
        Some(other) => anyhow::bail!("datapath {other:?}: system or netdev"),
    };
    let checks: [(&str, Underlay); 2] =
        [("geneve-over-ipv4", Underlay::Ipv4), ("geneve-over-ipv6", Underlay::Ipv6)];
    let (mut passed, mut failed) = (0, 0);
    for (name, underlay) in checks {
        let started = Instant::now();
        match cross_host(datapath, underlay) {
            Ok(()) => {
                passed += 1;
                println!("QN-GUEST PASS {name} {:.1}s", started.elapsed().as_secs_f32());
            }
            Err(error) => {
                failed += 1;
                println!("QN-GUEST FAIL {name}: {error:#}");
            }
        }
    }
    println!("QN-GUEST DONE {passed} passed {failed} failed");
    ensure!(failed == 0, "{failed} checks failed");
    Ok(())
}

/// Two VMs on two hypervisors reach each other in both IP versions, also with full-size packets, and the tunnel is Geneve.
fn cross_host(datapath: Datapath, underlay: Underlay) -> anyhow::Result<()> {
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
        let reached = a.wait_reachable(destination.parse()?, Duration::from_secs(20));
        reached.with_context(|| format!("{destination} is not reached\n{}", evidence(&lab, &seen)))?;
    }
    let full_size = PingOptions { payload_bytes: Some(1472), dont_fragment: true, ..PingOptions::default() };
    let result = a.ping("192.168.7.11".parse()?, &full_size)?;
    ensure!(result.all_answered(), "1500 bytes do not pass: {result:?}");
    seen.wait_for("vni 0x7", Duration::from_secs(5))?;
    let flows = lab.hypervisor(1)?.ovs_appctl(["dpctl/dump-flows"])?;
    ensure!(flows.contains("tunnel") || flows.contains("set("), "no tunnelled flow in the datapath: {flows}");
    Ok(())
}

/// What a person would look at first when nothing passes.
fn evidence(lab: &LabGuard, seen: &Capture) -> String {
    let mut text = format!("tunnel packets on hv1: {}\n", seen.text().unwrap_or_default());
    let looks: [&[&str]; 6] = [
        &["ip", "-s", "link", "show", "dev", "eth0"],
        &["ip", "addr", "show", "dev", "eth0"],
        &["ip", "neigh"],
        &["ovs-ofctl", "-O", "OpenFlow15", "dump-flows", "br-int"],
        &["ovs-ofctl", "-O", "OpenFlow15", "dump-ports", "br-int"],
        &["ovs-vsctl", "show"],
    ];
    for place in ["hv1", "hv2"] {
        for argv in looks {
            let output =
                lab.exec(place, argv).map_or_else(|error| error.to_string(), |o| o.stdout + &o.stderr);
            text += &format!("{place}# {}\n{output}", argv.join(" "));
        }
        let number = if place == "hv1" { 1 } else { 2 };
        for args in [&["dpctl/dump-flows", "-m"][..], &["dpctl/show", "-s"], &["upcall/show"]] {
            let answer = lab.hypervisor(number).and_then(|host| host.ovs_appctl(args));
            text +=
                &format!("{place}# {}\n{}", args.join(" "), answer.unwrap_or_else(|error| error.to_string()));
        }
        let log = lab.log(Daemon::Vswitchd(number)).unwrap_or_default();
        let warnings = log.lines().filter(|line| !line.contains("|DBG|"));
        text += &format!("{place} warnings: {}\n", warnings.collect::<Vec<_>>().join("\n"));
    }
    text
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
