//! The northbound database of one member beside ovsdb-server: transactions a second, and the initial dump.
//!
//! Both run at the same time, each with a client of this program, on the same disk, and take turns. ovsdb-server is alone:
//! what northd does in a real OVN is left out, what we do in its place (lowering) is not.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use quantumnet_testbed::{find_program, wait_until};
use serde_json::{Value, json};

use crate::{
    client::{Client, check, switch},
    report::{Samples, begin, row},
};

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) rounds: usize,
    pub(crate) round: Duration,
    pub(crate) switches: u32,
    pub(crate) ports: u32,
}

/// Measures beside `ovsdb-server`.
pub(crate) fn run(programs: &Path, size: Size) -> Result<()> {
    let folder = Folder::new()?;
    let ours = Server::ours(programs, &folder.0)?;
    let theirs = Server::theirs(&folder.0)?;

    begin("Northbound transactions, one member and ovsdb-server in turns");
    for (what, window, target) in [("sequential", 1, ">= 1"), ("64 in flight", 64, ">= 5")] {
        let (mut our_rates, mut their_rates, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..size.rounds {
            let our = rate(&ours, window, size.round, round)?;
            let their = rate(&theirs, window, size.round, round)?;
            our_rates.push(our);
            their_rates.push(their);
            ratios.push(our / their);
        }
        row(&format!("{what}: QuantumNet"), format!("{:.0}/s", median(&our_rates)), "");
        row(&format!("{what}: ovsdb-server"), format!("{:.0}/s", median(&their_rates)), "");
        let spread =
            ratios.iter().copied().fold((f64::MAX, 0.0_f64), |(low, high), x| (low.min(x), high.max(x)));
        let value =
            format!("{:.2} [{:.2}..{:.2}], {} rounds", median(&ratios), spread.0, spread.1, size.rounds);
        row(&format!("{what}: ratio of a round"), value, target);
    }

    begin(&format!("{} ports in {} switches: load and initial dump", size.ports, size.switches));
    for (name, server) in [("QuantumNet", &ours), ("ovsdb-server", &theirs)] {
        let took = load(server, size)?;
        row(&format!("load, a switch in a transaction, {name}"), format!("{:.2} s", took.as_secs_f64()), "");
    }
    let (mut our_dumps, mut their_dumps, mut ratios) = (Samples::default(), Samples::default(), Vec::new());
    for _ in 0..size.rounds {
        let (our, our_bytes) = dump(&ours)?;
        let (their, their_bytes) = dump(&theirs)?;
        ensure!(our_bytes > 1_000 && their_bytes > 1_000, "a dump holds rows");
        our_dumps.push(our);
        their_dumps.push(their);
        ratios.push(our.as_secs_f64() / their.as_secs_f64());
    }
    row("initial dump to a client that monitors all: QuantumNet", our_dumps.line(), "");
    row("the same: ovsdb-server", their_dumps.line(), "");
    row("ratio of a round, ours / theirs", format!("{:.2}", median(&ratios)), "<= 1");
    let resident = |server: &Server| crate::footprint::resident(server.child.id());
    row("resident afterwards: QuantumNet", format!("{:.0} MB", resident(&ours)?), "");
    row("resident afterwards: ovsdb-server", format!("{:.0} MB", resident(&theirs)?), "");
    Ok(())
}

/// Durable transactions a second, with at most `window` of them unanswered.
fn rate(server: &Server, window: usize, round: Duration, number: usize) -> Result<f64> {
    let mut client = Client::connect(&server.socket)?;
    let mut flying = VecDeque::new();
    let (mut made, mut done) = (0_u64, 0_u64);
    let started = Instant::now();
    loop {
        while flying.len() < window && started.elapsed() < round {
            made += 1;
            let name = format!("w{window}r{number}n{made}");
            flying.push_back(client.begin(vec![
                json!({"op": "insert", "table": "Address_Set", "row": {"name": name, "addresses": "192.0.2.1"}}),
                json!({"op": "commit", "durable": true}),
            ])?);
        }
        let Some(first) = flying.pop_front() else { break };
        check(&client.result(first)?)?;
        done += 1;
    }
    Ok(done as f64 / started.elapsed().as_secs_f64())
}

fn load(server: &Server, size: Size) -> Result<Duration> {
    let mut client = Client::connect(&server.socket)?;
    let each = size.ports / size.switches.max(1);
    let started = Instant::now();
    for number in 0..size.switches {
        client.transact(switch(number, number * each..(number + 1) * each))?;
    }
    Ok(started.elapsed())
}

/// From the request of everything until the last octet of the answer, and their number.
fn dump(server: &Server) -> Result<(Duration, usize)> {
    let mut client = Client::connect(&server.socket)?;
    let schema = client.call("get_schema", json!(["OVN_Northbound"]))?;
    let tables = schema["tables"].as_object().context("a schema has tables")?;
    let all: serde_json::Map<String, Value> =
        tables.keys().map(|table| (table.clone(), json!([{}]))).collect();
    let started = Instant::now();
    client.send(
        "monitor_cond_since",
        json!(["OVN_Northbound", "all", all, "00000000-0000-0000-0000-000000000000"]),
    )?;
    let answer = client.message()?;
    Ok((started.elapsed(), answer.len()))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// A server of the database; ended when dropped.
struct Server {
    child: Child,
    socket: PathBuf,
}

impl Server {
    fn ours(programs: &Path, folder: &Path) -> Result<Self> {
        let socket = folder.join("ours.sock");
        let mut command = Command::new(programs.join("quantumnet-controller"));
        command.arg("--data-dir").arg(folder.join("ours"));
        command.args(["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]);
        command.arg("--nb").arg(format!("punix:{}", socket.display()));
        command.arg("--sb").arg(format!("punix:{}", folder.join("ours-sb.sock").display()));
        Self::start(command, socket, &folder.join("ours.log"))
    }

    fn theirs(folder: &Path) -> Result<Self> {
        find_program("ovsdb-server", "openvswitch-switch")?;
        let (file, socket) = (folder.join("theirs.db"), folder.join("theirs.sock"));
        let made = Command::new("ovsdb-tool").arg("create").arg(&file).arg(SCHEMA).status()?;
        ensure!(made.success(), "ovsdb-tool could not make {} from {SCHEMA}", file.display());
        let mut command = Command::new("ovsdb-server");
        command.arg(&file).arg(format!("--remote=punix:{}", socket.display()));
        command.arg(format!("--unixctl={}", folder.join("theirs.ctl").display()));
        Self::start(command, socket, &folder.join("theirs.log"))
    }

    fn start(mut command: Command, socket: PathBuf, log: &Path) -> Result<Self> {
        let log = std::fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let server = Self { child, socket };
        wait_until(START_WITHIN, "a server to take writes", || {
            let made = || -> Result<()> {
                let mut client = Client::connect(&server.socket)?;
                client.transact(vec![json!({"op": "comment", "comment": "ready"})]).map(drop)
            };
            made().is_ok()
        })?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that is gone already is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder of this run; removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("quantumnet-bench-{}", std::process::id()));
        std::fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const SCHEMA: &str = "/usr/share/ovn/ovn-nb.ovsschema";
const START_WITHIN: Duration = Duration::from_secs(30);
