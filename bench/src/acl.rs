//! Many ACLs over large address sets, in the compiler and in a real switch: what they take, and what one change takes until the
//! switch has it.
//!
//! # Contract
//! - `large`: rules of one group over ten sets. `many`: groups with a hundred rules each. `tenants`: the network of
//!   `../shared/perf`'s m2 without its routers, as one of four hypervisors sees it.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use quantumnet_dataplane::{
    compile::{Compiler, FlowDelta, RowUpdate, stage_of},
    switch::{Driver, Input, Limits, Output},
};
use quantumnet_model::{
    DynRow, Row, Uuid, Weak,
    column::{Strong, Text},
    host::{HostConjunction, HostInterface, HostSelf, HostZone},
    nb::{Acl, LogicalSwitch, LogicalSwitchPort, PortGroup},
    sb::{AddressSet, Chassis, DatapathBinding, PortBinding},
};
use quantumnet_testbed::{LabGuard, LabSpec};

use crate::report::{Samples, begin, milliseconds, row};

/// Measures all three.
pub(crate) fn run(rules: u32, groups: u32, ports: u32, changes: u32) -> Result<()> {
    large(rules, changes)?;
    many(groups)?;
    tenants(ports)
}

fn large(rules: u32, changes: u32) -> Result<()> {
    begin(&format!("{rules} ACLs of a group of 20 ports, over ten sets of 450 addresses"));
    let mut rows = hypervisor();
    switch(&mut rows, 1);
    (1..=20).for_each(|number| port(&mut rows, number, 1, 1, 1));
    (0..10).for_each(|set| rows.push(set_of(set, 450, None)));
    (0..rules).for_each(|number| rows.push(rule(number)));
    rows.push(group_of(rules));

    let mut agent = Numbering::default();
    let started = Instant::now();
    let delta = agent.apply(rows);
    let cold = started.elapsed();
    let flows = agent.compiler.flows();
    row("first compilation", format!("{} ms", milliseconds(cold)), "< 1 s");
    row("flows", flows, "");

    let lab = LabGuard::up(&LabSpec::switches_only("acl", 1))?;
    lab.hypervisor(1)?.add_bridge("br-int")?;
    let mut switch = Installer::connect(&lab.ovsdb_socket(1).with_file_name("br-int.mgmt"))?;
    row(
        "first flows in the switch, delta to barrier",
        format!("{} ms", milliseconds(switch.install(delta)?)),
        "",
    );

    let before = agent.compiler.counters();
    let mut samples = Samples::default();
    for change in 0..changes {
        let batch = vec![rule(rules + change), group_of(rules + change + 1)];
        samples.push(agent.change(batch, &mut switch)?);
    }
    report(&agent, before, changes, "one ACL more, rows to barrier", &samples);
    let before = agent.compiler.counters();
    let mut samples = Samples::default();
    for change in 0..changes {
        samples.push(agent.change(vec![set_of(change % 10, 450, Some(change))], &mut switch)?);
    }
    report(&agent, before, changes, "one address more or another one, rows to barrier", &samples);
    ensure!(agent.compiler.recompute_check().is_empty(), "the table has drifted");
    Ok(())
}

fn report(
    agent: &Numbering,
    before: quantumnet_dataplane::compile::Counters,
    changes: u32,
    what: &str,
    samples: &Samples,
) {
    let after = agent.compiler.counters();
    let each = |count: u64| count as f64 / f64::from(changes.max(1));
    row(what, samples.line(), "< 5 ms");
    row(
        &format!("{what}: work"),
        format!(
            "{} units, {} flows",
            each(after.units_run - before.units_run),
            each(after.flows_changed - before.flows_changed)
        ),
        "",
    );
}

fn many(groups: u32) -> Result<()> {
    begin(&format!("{} ACLs in {groups} groups of one port here each", groups * 100));
    let mut rows = hypervisor();
    (0..groups.div_ceil(50)).for_each(|number| switch(&mut rows, number + 1));
    for group in 0..groups {
        port(&mut rows, group + 1, group / 50 + 1, group % 50 + 1, 1);
        // Members of the group, as remote groups have them.
        rows.push(set_of(group, 10, None));
        for number in 0..100 {
            rows.push(group_rule(group, number));
        }
        let acls = (0..100).map(|number| Strong::new(id(ACL, group * 100 + number))).collect();
        let ports = std::iter::once(Weak::new(id(PORT, group + 1))).collect();
        rows.push(update(
            id(GROUP, group),
            PortGroup { name: text(&format!("g{group}")), ports, acls, ..PortGroup::default() },
        ));
    }
    let before = resident()?;
    let mut agent = Numbering::default();
    let started = Instant::now();
    drop(agent.apply(rows));
    row("first compilation", format!("{} ms", milliseconds(started.elapsed())), "");
    row("flows", agent.compiler.flows(), "beside OVN's");
    row("memory of rows, units and flows", format!("{} MiB", (resident()?.saturating_sub(before)) >> 20), "");
    Ok(())
}

/// Half of them by address, half by port alone.
fn group_rule(group: u32, number: u32) -> RowUpdate {
    let from = if number.is_multiple_of(2) { format!(" && ip4.src == $s{group}") } else { String::new() };
    let row = Acl {
        priority: 1_000,
        direction: text("to-lport"),
        r#match: text(&format!("outport == @g{group} && tcp.dst == {}{from}", 1_000 + number)),
        action: text("allow-related"),
        ..Acl::default()
    };
    update(id(ACL, group * 100 + number), row)
}

fn tenants(ports: u32) -> Result<()> {
    const PER_SWITCH: u32 = 50;
    const PER_TENANT: u32 = 10;
    const LOCAL: u32 = 50;
    begin(&format!("{ports} ports of m2, {LOCAL} of them here"));
    let switches = ports / PER_SWITCH;
    let here: Vec<u32> = (0..LOCAL)
        .map(|number| (number * 4) % switches * PER_SWITCH + PER_SWITCH - 1 - number * 4 / switches)
        .collect();
    let mut rows = hypervisor();
    (0..switches).for_each(|number| switch(&mut rows, number + 1));
    for number in 0..ports {
        let chassis = if here.contains(&number) { 1 } else { 2 + number % 3 };
        port(&mut rows, number + 1, number / PER_SWITCH + 1, number % PER_SWITCH + 1, chassis);
    }
    let mut acls = 0;
    let mut rule = |rows: &mut Vec<RowUpdate>, to: bool, priority: i64, what: &str, action: &str| {
        let row = Acl {
            priority,
            direction: text(if to { "to-lport" } else { "from-lport" }),
            r#match: text(what),
            action: text(action),
            ..Acl::default()
        };
        acls += 1;
        rows.push(update(id(ACL, acls), row));
        Strong::new(id(ACL, acls))
    };
    let members =
        |numbers: std::ops::Range<u32>| numbers.map(|number| Weak::new(id(PORT, number + 1))).collect();
    let drops = [
        rule(&mut rows, false, 1_001, "inport == @pg_drop && ip", "drop"),
        rule(&mut rows, true, 1_001, "outport == @pg_drop && ip", "drop"),
    ];
    let closed = PortGroup {
        name: text("pg_drop"),
        ports: members(0..ports),
        acls: drops.into_iter().collect(),
        ..PortGroup::default()
    };
    rows.push(update(id(GROUP, 0), closed));
    for tenant in 0..switches / PER_TENANT {
        let group = format!("pg_t{tenant}");
        let own = format!("outport == @{group} && ip4");
        let acls = [
            (false, format!("inport == @{group} && ip4")),
            (true, format!("{own} && ip4.src == ${group}_ip4")),
            (true, format!("{own} && ip4.src == 0.0.0.0/0 && icmp4")),
            (true, format!("{own} && ip4.src == 0.0.0.0/0 && tcp && tcp.dst == 22")),
            (true, format!("{own} && ip4.src == $as_t{tenant} && udp && udp.dst == 7001")),
            (true, format!("{own} && ip4.src == $as_t{tenant} && tcp && tcp.dst >= 8000 && tcp.dst <= 8099")),
        ]
        .into_iter()
        .map(|(to, what)| rule(&mut rows, to, 1_002, &what, "allow-related"))
        .collect();
        let all = tenant * PER_SWITCH * PER_TENANT..(tenant + 1) * PER_SWITCH * PER_TENANT;
        let addresses = |range: std::ops::Range<u32>| range.map(|number| Text::from(address(number + 1)));
        let row = AddressSet {
            name: text(&format!("{group}_ip4")),
            addresses: addresses(all.clone()).collect(),
            ..AddressSet::default()
        };
        rows.push(update(id(SET, tenant * 2), row));
        let clients = (1..33).map(|host| text(&format!("192.0.{}.{host}", 2 + tenant))).collect();
        rows.push(update(
            id(SET, tenant * 2 + 1),
            AddressSet { name: text(&format!("as_t{tenant}")), addresses: clients, ..AddressSet::default() },
        ));
        rows.push(update(
            id(GROUP, tenant + 1),
            PortGroup { name: text(&group), ports: members(all), acls, ..PortGroup::default() },
        ));
    }
    let before = resident()?;
    let mut agent = Numbering::default();
    let started = Instant::now();
    drop(agent.apply(rows));
    row("first compilation", format!("{} ms", milliseconds(started.elapsed())), "");
    let mut stages: BTreeMap<&str, usize> = BTreeMap::new();
    for value in agent.compiler.table().values() {
        *stages.entry(stage_of(value.cookie).0.map_or("nobody", |stage| stage.name)).or_default() += 1;
    }
    let mut stages: Vec<(&str, usize)> = stages.into_iter().collect();
    stages.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    row("flows", agent.compiler.flows(), "<= 48,000 with routers (OVN: 192,000)");
    for (stage, count) in stages.into_iter().take(12) {
        row(&format!("flows of {stage}"), count, "");
    }
    row(
        "memory of rows, units and flows",
        format!("{} MiB", (resident()?.saturating_sub(before)) >> 20),
        "<= 210 with routers",
    );
    Ok(())
}

/// A compiler whose conjunctions get their numbers, as the agent gives them.
#[derive(Default)]
struct Numbering {
    compiler: Compiler,
    given: BTreeMap<Uuid, i64>,
}

impl Numbering {
    fn apply(&mut self, rows: Vec<RowUpdate>) -> FlowDelta {
        let mut delta = self.compiler.apply(rows);
        if self.compiler.conjunctions_changed() {
            let mut rows = Vec::new();
            let next = self.given.values().max().map_or(1, |last| last + 1);
            let lacking: Vec<Uuid> =
                self.compiler.conjunctions().filter(|uuid| !self.given.contains_key(uuid)).collect();
            for (number, uuid) in (next..).zip(lacking) {
                self.given.insert(uuid, number);
                rows.push(update(uuid, HostConjunction { id: number, list: number / 1_024 }));
            }
            delta.then(self.compiler.apply(rows));
        }
        delta
    }

    /// From rows to the barrier.
    fn change(&mut self, rows: Vec<RowUpdate>, switch: &mut Installer) -> Result<Duration> {
        let started = Instant::now();
        let delta = self.apply(rows);
        ensure!(!delta.is_empty(), "the change changes flows");
        switch.install(delta)?;
        Ok(started.elapsed())
    }
}

/// A driver on its socket.
struct Installer {
    stream: UnixStream,
    driver: Driver,
    tag: u64,
}

impl Installer {
    fn connect(socket: &Path) -> Result<Self> {
        let stream =
            UnixStream::connect(socket).with_context(|| format!("connecting to {}", socket.display()))?;
        let mut this = Self { stream, driver: Driver::new(Limits::default()), tag: 0 };
        let mut outputs = this.driver.handle(Instant::now(), Input::Connected);
        outputs.extend(this.driver.handle(Instant::now(), Input::Complete));
        this.until(outputs, |applied| applied == 0)?;
        Ok(this)
    }

    fn install(&mut self, delta: FlowDelta) -> Result<Duration> {
        let started = Instant::now();
        self.tag += 1;
        let tag = self.tag;
        let outputs = self.driver.handle(started, Input::Delta { delta, tag });
        self.until(outputs, |applied| applied == tag)?;
        Ok(started.elapsed())
    }

    fn until(&mut self, mut outputs: Vec<Output>, done: impl Fn(u64) -> bool) -> Result<()> {
        let mut buffer = vec![0; 256 << 10];
        loop {
            for output in std::mem::take(&mut outputs) {
                match output {
                    Output::Send(bytes) => self.stream.write_all(&bytes)?,
                    Output::Applied(tag) if done(tag) => return Ok(()),
                    _ => {}
                }
            }
            let count = self.stream.read(&mut buffer)?;
            ensure!(count > 0, "ovs-vswitchd hung up");
            outputs.extend(self.driver.handle(Instant::now(), Input::Received(buffer[..count].to_vec())));
        }
    }
}

fn hypervisor() -> Vec<RowUpdate> {
    let chassis = |number: u32| {
        update(id(CHASSIS, number), Chassis { name: text(&format!("hv{number}")), ..Chassis::default() })
    };
    let own = HostSelf { chassis: text("hv1"), tunnel_option: 0, nd_extensions: true, sctp_ports: true };
    (1..=4).map(chassis).chain([update(id(OWN, 0), own)]).collect()
}

fn switch(rows: &mut Vec<RowUpdate>, number: u32) {
    rows.push(update(id(SWITCH, number), LogicalSwitch::default()));
    let binding = DatapathBinding { tunnel_key: number.into(), ..DatapathBinding::default() };
    rows.push(update(id(SWITCH, number), binding));
}

fn port(rows: &mut Vec<RowUpdate>, number: u32, switch: u32, key: u32, chassis: u32) {
    let name = text(&format!("p{number}"));
    let [_, a, b, c] = number.to_be_bytes();
    let address = text(&format!("0a:00:00:{a:02x}:{b:02x}:{c:02x} {}", address(number)));
    let lsp = LogicalSwitchPort { name: name.clone(), ..LogicalSwitchPort::default() };
    rows.push(update(id(PORT, number), lsp));
    let binding = PortBinding {
        logical_port: name.clone(),
        datapath: Strong::new(id(SWITCH, switch)),
        tunnel_key: key.into(),
        chassis: Some(id(CHASSIS, chassis).into()),
        mac: std::iter::once(address.clone()).collect(),
        port_security: std::iter::once(address).collect(),
        up: Some(true),
        ..PortBinding::default()
    };
    rows.push(update(id(PORT, number), binding));
    if chassis == 1 {
        let interface = HostInterface {
            name: name.clone(),
            iface_id: name,
            ofport: i64::from(number % 60_000) + 1,
            meter: 0,
        };
        rows.push(update(id(INTERFACE, number), interface));
        rows.push(update(id(PORT, number), HostZone { zone: i64::from(number % 60_000) + 1 }));
    }
}

/// The address of a port, 50 of each /24 from .10 on.
fn address(number: u32) -> String {
    let (subnet, host) = ((number - 1) / 50, (number - 1) % 50);
    format!("10.{}.{}.{}", subnet >> 8, subnet & 255, 10 + host)
}

/// A set of addresses that no prefix joins, and perhaps one more.
fn set_of(set: u32, size: u32, more: Option<u32>) -> RowUpdate {
    let member = |number: u32| {
        text(&format!("10.{}.{}.{}", set & 255, (set >> 8) * 16 + (number >> 7), (number & 127) * 2))
    };
    let more = more.map(|number| text(&format!("172.16.{}.{}", number >> 8, number & 255)));
    let addresses = (0..size).map(member).chain(more).collect();
    update(id(SET, set), AddressSet { name: text(&format!("s{set}")), addresses, ..AddressSet::default() })
}

fn rule(number: u32) -> RowUpdate {
    let (set, port) = (number % 10, 1_000 + number / 10);
    let row = Acl {
        priority: 1_000,
        direction: text("to-lport"),
        r#match: text(&format!("outport == @g && ip4.src == $s{set} && tcp.dst == {port}")),
        action: text("allow-related"),
        ..Acl::default()
    };
    update(id(ACL, number), row)
}

fn group_of(rules: u32) -> RowUpdate {
    let row = PortGroup {
        name: text("g"),
        ports: (1..=20).map(|number| Weak::new(id(PORT, number))).collect(),
        acls: (0..rules).map(|number| Strong::new(id(ACL, number))).collect(),
        ..PortGroup::default()
    };
    update(id(GROUP, 0), row)
}

/// Octets of memory that this process has.
fn resident() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let number = line.trim().trim_end_matches(" kB").trim();
    Ok(number.parse::<u64>().with_context(|| format!("VmRSS of {number:?}"))? << 10)
}

fn text(text: &str) -> Text {
    text.into()
}

fn update<T: Row>(uuid: Uuid, row: T) -> RowUpdate {
    (T::TABLE, uuid, Some(Arc::new(row) as Arc<dyn DynRow>))
}

fn id(kind: u128, number: u32) -> Uuid {
    Uuid::from_u128(u128::from(number) << 96 | kind)
}

const CHASSIS: u128 = 1;
const OWN: u128 = 2;
const SWITCH: u128 = 3;
const PORT: u128 = 4;
const INTERFACE: u128 = 5;
const ACL: u128 = 6;
const GROUP: u128 = 7;
const SET: u128 = 8;
