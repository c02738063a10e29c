//! 100,000 flows from a cold agent into ovs-vswitchd, beside `ovs-ofctl --bundle add-flows` of the same flows.
//!
//! The switch is emptied before each round, and both take turns. The agent's side is its driver on a
//! socket: from the delta it is handed to the barrier's reply. ovs-ofctl reads its flows from a file, so parsing
//! text is part of its figure; the share is shown by a round with a text of the same flows that is only parsed.

use std::{
    fmt::Write as _,
    io::{Read, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use ofpacket::{Action, Match, field};
use quantumnet_dataplane::{
    compile::{DesiredFlow, FlowDelta, FlowKey, FlowValue},
    switch::{Driver, Input, Limits, Output},
};
use quantumnet_testbed::{LabGuard, LabSpec};

use crate::report::{Samples, begin, ratio, row};

/// Measures `rounds` times each.
pub(crate) fn run(flows: u32, rounds: usize) -> Result<()> {
    let lab = LabGuard::up(&LabSpec::switches_only("cold", 1))?;
    let host = lab.hypervisor(1)?;
    host.add_bridge("br-int")?;
    let file = lab.folder().join("flows.txt");
    std::fs::write(&file, text(flows)?)?;
    let file = file.display().to_string();
    let socket = lab.ovsdb_socket(1).with_file_name("br-int.mgmt");

    let (mut ours, mut theirs, mut parsing) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..rounds {
        host.ovs_ofctl(["del-flows", "br-int"])?;
        let started = Instant::now();
        host.ovs_ofctl(["--bundle", "add-flows", "br-int", &file])?;
        theirs.push(started.elapsed());
        let started = Instant::now();
        host.ovs_ofctl(["parse-flows", &file])?;
        parsing.push(started.elapsed());

        host.ovs_ofctl(["del-flows", "br-int"])?;
        let delta = FlowDelta { put: (0..flows).map(flow).collect(), ..FlowDelta::default() };
        ours.push(install(&socket, delta)?);
        let present = host.flows("br-int")?.len();
        ensure!(present == flows as usize, "{present} flows are in the switch, not {flows}");
    }
    begin(&format!("{flows} flows into an empty ovs-vswitchd"));
    row("QuantumNet's driver, delta to barrier", ours.line(), "");
    row("`ovs-ofctl --bundle add-flows`", theirs.line(), "");
    row("of which reading the file, measured by `ovs-ofctl parse-flows`", parsing.line(), "");
    row("rate, ours / theirs", ratio(theirs.median(), ours.median()), ">= 0.8");
    let without = theirs.median().saturating_sub(parsing.median());
    row("the same, theirs without reading the file", ratio(without, ours.median()), "");
    Ok(())
}

fn flow(number: u32) -> DesiredFlow {
    let [a, b, c, d] = number.to_be_bytes();
    let matches = Match::new().with(field::METADATA, 5u64).with(field::ETH_DST, [2, 0, a, b, c, d]);
    let actions = vec![Action::load(field::REG15, u64::from(number)), Action::resubmit(32)];
    DesiredFlow {
        key: Arc::new(FlowKey { table: 12, priority: 50, matches }),
        value: FlowValue { cookie: number.into(), actions: actions.into() },
    }
}

fn text(flows: u32) -> Result<String> {
    let mut text = String::new();
    for number in 0..flows {
        let [a, b, c, d] = number.to_be_bytes();
        writeln!(
            text,
            "cookie={number},table=12,priority=50,metadata=5,dl_dst=02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x},\
             actions=load:{number}->NXM_NX_REG15[],resubmit(,32)"
        )?;
    }
    Ok(text)
}

/// From the delta to the barrier.
fn install(socket: &Path, delta: FlowDelta) -> Result<Duration> {
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("connecting to {}", socket.display()))?;
    let mut driver = Driver::new(Limits::default());
    let mut buffer = vec![0; 256 << 10];
    let mut outputs = driver.handle(Instant::now(), Input::Connected);
    outputs.extend(driver.handle(Instant::now(), Input::Complete));
    let (mut delta, mut started) = (Some(delta), Instant::now());
    loop {
        for output in std::mem::take(&mut outputs) {
            match output {
                Output::Send(bytes) => stream.write_all(&bytes)?,
                Output::Applied(1) => return Ok(started.elapsed()),
                Output::Applied(_) => {
                    // The empty table is in; now the clock runs.
                    if let Some(delta) = delta.take() {
                        started = Instant::now();
                        outputs.extend(driver.handle(started, Input::Delta { delta, tag: 1 }));
                    }
                }
                _ => {}
            }
        }
        if outputs.is_empty() {
            let count = stream.read(&mut buffer)?;
            ensure!(count > 0, "ovs-vswitchd hung up");
            outputs.extend(driver.handle(Instant::now(), Input::Received(buffer[..count].to_vec())));
        }
    }
}
