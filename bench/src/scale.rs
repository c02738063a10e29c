//! Many ports loaded by an OVSDB client, and what one port more costs then: time, rows, units of the compilers.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use quantumnet_testbed::{Daemon, LabGuard, LabSpec, Programs, wait_for};
use serde_json::{Value, json};

use crate::{
    client::{Client, address, switch},
    footprint::resident,
    report::{Samples, begin, row},
};

/// Measures with so many ports, 50 to a switch.
pub(crate) fn run(programs: &Path, sizes: &[u32], adds: usize) -> Result<()> {
    let work = sizes.iter().map(|ports| one(programs, *ports, adds)).collect::<Result<Vec<_>>>()?;
    // A few writes of the controller's own (states, sequence numbers) fall together or not, as it happens; what a port more costs
    // with each port that is there would be whole ones.
    let alike = |[a, b]: &[[f64; 3]; 2]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1.0);
    ensure!(work.array_windows().all(alike), "the work of one port grows: {work:?}");
    Ok(())
}

/// What was done since the daemons started.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Work {
    rows: u64,
    pub(crate) units: u64,
    pub(crate) flows: u64,
}

/// Rows, units and flows of a port that is added.
fn one(programs: &Path, ports: u32, adds: usize) -> Result<[f64; 3]> {
    let lab = LabGuard::up(&LabSpec::with_programs("scale", 1, 2, Programs::in_folder(programs)))?;
    lab.wait_leader(WITHIN)?;
    let switches = ports / PORTS_EACH;
    begin(&format!("{ports} ports in {switches} switches loaded by an OVSDB client, two hypervisors"));
    let mut client = Client::connect(&lab.nb_socket(1))?;
    let started = Instant::now();
    for number in 0..switches {
        client.transact(switch(number, number * PORTS_EACH..(number + 1) * PORTS_EACH))?;
    }
    row("load, a switch in a transaction", format!("{:.2} s", started.elapsed().as_secs_f64()), "");
    // Both hypervisors have a port of the first switch.
    for hypervisor in 1..=2_u16 {
        lab.hypervisor(hypervisor)?.add_deviceless_ports([format!("p{}", hypervisor - 1)])?;
    }
    let mut watcher = watch(&lab)?;
    synchronized(&mut client, &mut watcher, Vec::new())?;
    row("resident afterwards: controller", format!("{:.0} MB", controller(&lab)?), "");

    let mut samples = Samples::default();
    let mut before = None;
    for number in 0..adds + WARM_UP {
        let name = format!("x{number}");
        lab.hypervisor(u16::try_from(number % 2 + 1)?)?.add_deviceless_ports([&name])?;
        if number == WARM_UP {
            before = Some(settled(&lab)?);
        }
        let address = address(u32::try_from(number)? + FURTHER);
        let took = synchronized(
            &mut client,
            &mut watcher,
            vec![
                json!({"op": "insert", "table": "Logical_Switch_Port", "uuid-name": "further",
                       "row": {"name": name, "addresses": address, "port_security": address}}),
                json!({"op": "mutate", "table": "Logical_Switch", "where": [["name", "==", "s0"]],
                       "mutations": [["ports", "insert", ["named-uuid", "further"]]]}),
            ],
        )?;
        if number >= WARM_UP {
            samples.push(took);
        }
    }
    let (before, after) = (before.context("something is added")?, settled(&lab)?);
    let each = |before: u64, after: u64| (after - before) as f64 / adds as f64;
    let (rows, units, flows) =
        (each(before.rows, after.rows), each(before.units, after.units), each(before.flows, after.flows));
    row("one port more, request to barriers of both", samples.line(), "median < 20 ms");
    row(
        "its work: rows changed, units run, flows changed",
        format!("{rows:.2}, {units:.2}, {flows:.2}"),
        "no growth",
    );
    row("resident in the end: controller", format!("{:.0} MB", controller(&lab)?), "");
    Ok([rows, units, flows])
}

/// A client that is told of `hv_cfg`.
pub(crate) fn watch(lab: &LabGuard) -> Result<Client> {
    let mut watcher = Client::connect(&lab.nb_socket(1))?;
    watcher.call("monitor", json!(["OVN_Northbound", "cfg", {"NB_Global": {"columns": ["hv_cfg"]}}]))?;
    Ok(watcher)
}

/// Runs a transaction and waits until all hypervisors have it.
pub(crate) fn synchronized(
    client: &mut Client,
    watcher: &mut Client,
    operations: Vec<Value>,
) -> Result<Duration> {
    let mut operations = operations;
    operations
        .push(json!({"op": "mutate", "table": "NB_Global", "where": [], "mutations": [["nb_cfg", "+=", 1]]}));
    operations.push(json!({"op": "select", "table": "NB_Global", "where": [], "columns": ["nb_cfg"]}));
    let started = Instant::now();
    let results = client.transact(operations)?;
    let wanted = results.as_array().and_then(|results| results.last()?.pointer("/rows/0/nb_cfg")?.as_i64());
    let wanted = wanted.with_context(|| format!("nb_cfg in {results}"))?;
    loop {
        let update = watcher.next()?;
        let rows = update.pointer("/params/1/NB_Global").and_then(Value::as_object);
        let reached = rows.into_iter().flat_map(|rows| rows.values());
        if reached.filter_map(|row| row.pointer("/new/hv_cfg")?.as_i64()).any(|reached| reached >= wanted) {
            return Ok(started.elapsed());
        }
    }
}

/// Counters once nothing moves any more.
pub(crate) fn settled(lab: &LabGuard) -> Result<Work> {
    let hypervisors = 1..=lab.spec()?.hypervisors;
    let mut seen: Option<(Work, Instant)> = None;
    let settled = wait_for(WITHIN, "the daemons to come to rest", || {
        let sum = |name: &str| {
            hypervisors.clone().map(|number| counter(lab, Daemon::Agent(number), name)).sum::<Option<u64>>()
        };
        let now = Work {
            rows: counter(lab, Daemon::Controller(1), "quantumnet_controller_rows_changed_total")?,
            units: sum("quantumnet_agent_compiler_units_run_total")?,
            flows: sum("quantumnet_agent_flow_mods_total")?,
        };
        match seen {
            Some((before, since)) if before == now => (since.elapsed() >= REST).then_some(now),
            _ => {
                seen = Some((now, Instant::now()));
                None
            }
        }
    })?;
    Ok(settled)
}

fn counter(lab: &LabGuard, daemon: Daemon, name: &str) -> Option<u64> {
    lab.metric(daemon, name).map(|value| value as u64)
}

fn controller(lab: &LabGuard) -> Result<f64> {
    let daemons = lab.status()?.daemons;
    let daemon = daemons.into_iter().find(|daemon| daemon.name.starts_with("controller"));
    let pid = daemon.and_then(|daemon| daemon.pid).context("a controller runs")?;
    resident(u32::try_from(pid)?)
}

const PORTS_EACH: u32 = 50;
/// Where the addresses of further ports begin.
const FURTHER: u32 = 10_000_000;
const WARM_UP: usize = 10;
const REST: Duration = Duration::from_secs(1);
pub(crate) const WITHIN: Duration = Duration::from_secs(60);
