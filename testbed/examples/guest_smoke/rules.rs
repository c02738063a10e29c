//! Rules and routers on the datapath under test: connections are tracked and translated by it, not by whoever makes the flows.

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use anyhow::{Context, ensure};
use quantumnet_testbed::{Datapath, PingOptions, Underlay, Vm, wait_ok};

use crate::{Checks, Net, PATIENCE, evidence, ip, text};

/// As people apply it, but with the outside untagged: the machine may have no VLAN devices.
fn two_tiers() -> String {
    include_str!("../../../examples/two-tier.yaml").replace("vlan_id: 100", "vlan_id: 0")
}

/// web-1 takes connections to port 80, refuses those to port 23 and lets nothing else in.
const GUARDED: &str = "
kind: SecurityGroup
metadata: { name: guarded, project: shop }
spec:
  rules:
    - { name: web, protocol: tcp, ports: [80] }
    - { name: no-telnet, protocol: tcp, ports: [23], action: REJECT, priority: 2000 }
---
kind: Port
metadata: { name: web-1, project: shop }
spec: { network: web, addresses: [10.0.1.11], security_groups: [guarded] }
";
const WEB: &str = "10.0.1.11";
const DB: &str = "10.0.2.11";
/// The outside's router, which knows no way to the tenant's addresses.
const OUTSIDE: &str = "203.0.113.1";
/// Long enough for an answer and for the second packet of a connection whose first was lost.
const ANSWER: Duration = Duration::from_secs(4);

pub(crate) fn tenant(checks: &mut Checks, datapath: Datapath, folder: &Path) {
    let Some(net) = Net::up(checks, "rules", datapath, Underlay::Ipv4, folder) else { return };
    let failed_before = checks.failed;
    checks.run("apply two-tier.yaml and a security group", || {
        net.apply(&two_tiers())?;
        net.apply(GUARDED)
    });
    checks.run("lease of web-1 on hv1", || net.routed_vm("web-1", 1, WEB, "10.0.1.1"));
    checks.run("lease of db-1 on hv2", || net.routed_vm("db-1", 2, DB, "10.0.2.1"));
    checks.run("a host outside", || {
        let outside = net.lab.add_outside("outside", "02:00:00:00:00:99")?;
        outside.add_address(&format!("{OUTSIDE}/24"))?;
        Ok(OUTSIDE.to_owned())
    });
    checks.run("a rule lets connections in, through the router", || net.is_let_in());
    checks.run("answers come back to who sent, and nothing else comes", || net.only_answers_come_back());
    checks.run("a rule rejects, and says so", || net.is_rejected());
    checks.run("SNAT: the outside sees the router's address", || net.source_is_translated());
    checks.run("a floating IP leads to web-1, and its rules hold", || net.floating_ip_leads_in());
    checks.run("the datapath tracks and translates", || net.datapath_tracks());
    checks.run("the switches took every flow, no problems, with rules and routers", || net.nothing_refused());
    if checks.failed != failed_before {
        println!("{}", evidence(&net.lab, None));
    }
}

/// A VM that listens on a TCP port.
struct Server(TcpListener);

impl Server {
    fn open(vm: &Vm, port: u16) -> anyhow::Result<Self> {
        let bind = move || TcpListener::bind(SocketAddr::from(([0; 4], port)));
        Ok(Self(vm.netns().within(bind)?.with_context(|| format!("listen on port {port}"))?))
    }

    /// Who the next connection comes from.
    fn peer(&self) -> anyhow::Result<String> {
        Ok(self.0.accept().context("accept")?.1.ip().to_string())
    }
}

fn connect(from: &Vm, to: &str, port: u16) -> anyhow::Result<io::Result<()>> {
    let to = SocketAddr::new(ip(to)?, port);
    Ok(from.netns().within(move || TcpStream::connect_timeout(&to, ANSWER).map(drop))?)
}

/// Connects, at the latest when flows and neighbours are in place.
fn connects(from: &Vm, to: &str, port: u16) -> anyhow::Result<()> {
    wait_ok(PATIENCE, &format!("{} to connect to {to} port {port}", from.name()), || {
        connect(from, to, port).map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    })?;
    Ok(())
}

fn fails(from: &Vm, to: &str, port: u16, how: io::ErrorKind) -> anyhow::Result<()> {
    let result = connect(from, to, port)?;
    let kind = result.as_ref().err().map(io::Error::kind);
    ensure!(kind == Some(how), "{} to {to} port {port}: {result:?}, not {how:?}", from.name());
    Ok(())
}

impl Net {
    fn routed_vm(&self, name: &str, hypervisor: u16, address: &str, gateway: &str) -> anyhow::Result<String> {
        let lease = self.vm_with_lease(name, hypervisor, "shop", address)?;
        self.lab.vm(name)?.set_default_route(ip(gateway)?)?;
        Ok(lease)
    }

    fn is_let_in(&self) -> anyhow::Result<String> {
        let (web, db) = (self.lab.vm("web-1")?, self.lab.vm("db-1")?);
        let server = Server::open(&web, 80)?;
        connects(&db, WEB, 80)?;
        let peer = server.peer()?;
        ensure!(peer == DB, "it sees {peer}");
        Ok(format!("{peer} to port 80"))
    }

    fn only_answers_come_back(&self) -> anyhow::Result<String> {
        let (web, db) = (self.lab.vm("web-1")?, self.lab.vm("db-1")?);
        let (_there, _here) = (Server::open(&db, 5432)?, Server::open(&web, 5432)?);
        connects(&web, DB, 5432)?;
        fails(&db, WEB, 5432, io::ErrorKind::TimedOut)?;
        let ping = db.ping(ip(WEB)?, &PingOptions { wait_s: 2, ..PingOptions::default() })?;
        ensure!(ping.none_answered(), "a ping comes in: {ping:?}");
        Ok("web-1 to db-1 port 5432, not back".to_owned())
    }

    fn is_rejected(&self) -> anyhow::Result<String> {
        let (web, db) = (self.lab.vm("web-1")?, self.lab.vm("db-1")?);
        let server = Server::open(&web, 23)?;
        fails(&db, WEB, 23, io::ErrorKind::ConnectionRefused)?;
        server.0.set_nonblocking(true)?;
        ensure!(server.0.accept().is_err(), "it came through");
        Ok("connection refused, by the rule".to_owned())
    }

    fn source_is_translated(&self) -> anyhow::Result<String> {
        let (db, outside) = (self.lab.vm("db-1")?, self.lab.vm("outside")?);
        let router = self.json(&["get", "router", "edge", "-p", "shop"])?;
        let address = text(&router, "/status/externalAddress").to_owned();
        let server = Server::open(&outside, 80)?;
        connects(&db, OUTSIDE, 80)?;
        let peer = server.peer()?;
        ensure!(peer == address, "the outside sees {peer}, the router has {address}");
        db.wait_reachable(ip(OUTSIDE)?, PATIENCE)?;
        Ok(format!("{DB} is {peer} outside"))
    }

    fn floating_ip_leads_in(&self) -> anyhow::Result<String> {
        let (web, outside) = (self.lab.vm("web-1")?, self.lab.vm("outside")?);
        let floating = self.json(&["get", "fip", "www", "-p", "shop"])?;
        let address = text(&floating, "/status/address").to_owned();
        let server = Server::open(&web, 80)?;
        connects(&outside, &address, 80)?;
        let peer = server.peer()?;
        ensure!(peer == OUTSIDE, "web-1 sees {peer}");
        fails(&outside, &address, 5432, io::ErrorKind::TimedOut)?;
        let there = Server::open(&outside, 8080)?;
        connects(&web, OUTSIDE, 8080)?;
        let own = there.peer()?;
        ensure!(own == address, "web-1 is {own} outside, not its floating IP");
        Ok(format!("{address} to {WEB} and back"))
    }

    /// What the rules track where web-1 is, and what is translated where the router's gateway is.
    fn datapath_tracks(&self) -> anyhow::Result<String> {
        let known = [1, 2].map(|n| self.lab.hypervisor(n)?.ovs_appctl(["dpctl/dump-conntrack"]));
        let known = known.into_iter().collect::<Result<Vec<_>, _>>()?.join("\n");
        let mut found = Vec::new();
        for what in [WEB, DB] {
            let ours = known.lines().filter(|line| line.contains(what) && line.contains("zone=")).count();
            ensure!(ours > 0, "no connection of {what} is tracked: {known}");
            found.push(format!("{ours} entries of {what}"));
        }
        Ok(found.join(", "))
    }
}
