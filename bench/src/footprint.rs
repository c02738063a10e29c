//! What the daemons cost when nothing happens: processor time and resident memory in a lab of two hypervisors.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use quantumnet_cli::client::{Address, Client};
use quantumnet_testbed::{LabGuard, LabSpec, Programs, wait_until};
use serde_json::json;

use crate::report::{begin, row};

/// Looks at the daemons over `seconds`.
pub(crate) async fn run(programs: &Path, seconds: u64) -> Result<()> {
    let lab = LabGuard::up(&LabSpec::with_programs("footprint", 1, 2, Programs::in_folder(programs)))?;
    let client = Client::new(vec![Address::Unix(lab.api_socket(1))], None);
    let network = json!({ "meta": { "name": "net" }, "spec": { "subnets": [{ "cidr": "10.0.0.0/24" }] } });
    client.call("VirtualNetworkService", "CreateVirtualNetwork", &json!({ "network": network })).await?;
    for (name, hypervisor) in [("a", 1), ("b", 2)] {
        let port = json!({ "meta": { "name": name }, "spec": { "network": { "name": "net" } } });
        let made = client.call("PortService", "CreatePort", &json!({ "port": port })).await?;
        let text =
            |place: &str| made.pointer(place).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
        lab.add_vm(hypervisor, name, &text("/meta/id"), &text("/status/mac"))?.dhcp(&Default::default())?;
    }
    let ours = |name: &str| name.starts_with("controller") || name.starts_with("agent");
    let daemons: Vec<(String, i32)> = lab
        .status()?
        .daemons
        .into_iter()
        .filter(|daemon| ours(&daemon.name))
        .filter_map(|daemon| Some((daemon.name, daemon.pid?)))
        .collect();
    let before: Vec<u64> = daemons.iter().map(|(_, pid)| ticks(*pid)).collect::<Result<_>>()?;
    let started = Instant::now();
    wait_until(Duration::from_secs(seconds + 5), "the time of the measurement", || {
        started.elapsed() >= Duration::from_secs(seconds)
    })?;
    let elapsed = started.elapsed().as_secs_f64();
    begin(&format!("Idle for {seconds} s, two hypervisors with a VM each"));
    for ((name, pid), before) in daemons.iter().zip(before) {
        let busy = (ticks(*pid)? - before) as f64 / TICKS_PER_SECOND / elapsed * 100.0;
        row(&format!("{name}: processor"), format!("{busy:.2} %"), "< 1 %");
        let target = if name.starts_with("agent") { "< 50 MB" } else { "< 100 MB" };
        row(&format!("{name}: resident"), format!("{:.1} MB", resident(u32::try_from(*pid)?)?), target);
    }
    Ok(())
}

/// utime and stime, fields 14 and 15 of proc_pid_stat(5).
fn ticks(pid: i32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |place: usize| fields.get(place).and_then(|text| text.parse::<u64>().ok());
    field(11)
        .zip(field(12))
        .map(|(user, system)| user + system)
        .with_context(|| format!("stat of {pid}: {text}"))
}

/// VmRSS of proc_pid_status(5), in MB.
pub(crate) fn resident(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: f64 = line
        .and_then(|line| line.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("VmRSS of {pid}"))?;
    Ok(kilobytes * 1024.0 / 1e6)
}

/// USER_HZ is 100 on every architecture that Linux gives it to user space on.
const TICKS_PER_SECOND: f64 = 100.0;
