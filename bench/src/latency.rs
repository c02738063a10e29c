//! From an acknowledged API call to flows in both switches, beside OVN's `--wait=hv`.
//!
//! Both systems run at the same time in labs of their own and take turns. The port's interface is there
//! before the port, so that neither waits for the other's plumbing. OVN's client is measured too, by
//! the same command without `--wait`, as it is a good part of OVN's figure.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use quantumnet_cli::client::{Address, Client};
use quantumnet_testbed::{LabGuard, LabSpec, Programs};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    ovn::Ovn,
    report::{Samples, begin, ratio, row},
};

/// Measures `rounds` ports in each system.
pub(crate) async fn run(programs: &Path, rounds: usize) -> Result<()> {
    let lab = LabGuard::up(&LabSpec::with_programs("latency", 1, 2, Programs::in_folder(programs)))?;
    let client = Client::new(vec![Address::Unix(lab.api_socket(1))], None);
    let network = json!({ "meta": { "name": "net" }, "spec": { "subnets": [{ "cidr": "10.0.0.0/16" }] } });
    client.call("VirtualNetworkService", "CreateVirtualNetwork", &json!({ "network": network })).await?;

    let ovn = Ovn::up(2)?;
    ovn.nbctl(&["ls-add", "sw"])?;

    // Ten ports are there before, as in the harness that measured OVN; the last ones make both hypervisors interested.
    let (mut ours, mut ours_whole, mut theirs, mut their_client) =
        (Samples::default(), Samples::default(), Samples::default(), Samples::default());
    for round in 0..rounds + WARM_UP {
        let hypervisor = u16::try_from(round % 2 + 1)?;
        let id = Uuid::new_v4().to_string();
        lab.hypervisor(hypervisor)?.add_deviceless_ports([&id])?;
        let theirs_name = format!("p{round}");
        ovn.lab.hypervisor(hypervisor)?.add_deviceless_ports([&theirs_name])?;

        let (acknowledged, whole) = our_port(&client, round, &id).await?;
        let their_sample = their_port(&ovn, round, &theirs_name, &["--wait=hv"])?;
        let client_sample = their_port(&ovn, IDLE + round, &format!("idle{round}"), &[])?;
        if round >= WARM_UP {
            ours.push(acknowledged);
            ours_whole.push(whole);
            theirs.push(their_sample);
            their_client.push(client_sample);
        }
    }
    let net_of_client = theirs.median().saturating_sub(their_client.median());
    begin("One port more, two hypervisors");
    row("QuantumNet: acknowledged to flows in both switches", ours.line(), "");
    row("QuantumNet: call to flows in both switches", ours_whole.line(), "");
    row("OVN: `ovn-nbctl --wait=hv`", theirs.line(), "");
    row("OVN: `ovn-nbctl` without `--wait`", their_client.line(), "");
    row("ratio of medians, acknowledged / `--wait=hv`", ratio(ours.median(), theirs.median()), "<= 0.2");
    row("the same, OVN net of its client", ratio(ours.median(), net_of_client), "");
    row("whole call / OVN net of its client", ratio(ours_whole.median(), net_of_client), "");
    Ok(())
}

async fn our_port(client: &Client, round: usize, id: &str) -> Result<(Duration, Duration)> {
    let port = json!({ "meta": { "id": id, "name": format!("p{round}") }, "spec": { "network": { "name": "net" } } });
    let called = Instant::now();
    let made = client.call("PortService", "CreatePort", &json!({ "port": port })).await?;
    let acknowledged = Instant::now();
    let revision = made["meta"]["revision"].clone();
    let answer = client.call("ClusterService", "WaitForRevision", &json!({ "revision": revision })).await?;
    let done = Instant::now();
    if answer["behind"].as_array().is_some_and(|behind| !behind.is_empty()) {
        bail!("revision {revision} did not reach {}", answer["behind"]);
    }
    if made.pointer("/status/chassis").and_then(Value::as_str).unwrap_or_default().is_empty() {
        bail!("port p{round} was not bound in the transaction that made it");
    }
    Ok((done - acknowledged, done - called))
}

fn their_port(ovn: &Ovn, round: usize, name: &str, options: &[&str]) -> Result<Duration> {
    let address = format!(
        "0a:00:00:00:{:02x}:{:02x} 10.0.{}.{}",
        round / 256,
        round % 256,
        round / 200,
        round % 200 + 2
    );
    let command = ["lsp-add", "sw", name, "--", "lsp-set-addresses", name, &address];
    let started = Instant::now();
    ovn.nbctl(&[options, &command].concat())?;
    Ok(started.elapsed())
}

const WARM_UP: usize = 10;

/// Where the addresses of OVN's ports without an interface begin.
const IDLE: usize = 20_000;
