//! 100,000 flows from cold, beside `ovs-ofctl --bundle add-flows` with the same flows. Needs root; run it by name in
//! a release build: `cargo test --release --test driver_scale -- --ignored --nocapture`.
#![allow(clippy::unwrap_used)] // a test fails by panicking, its helpers too

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    sync::Arc,
    time::Instant,
};

use ofpacket::{Action, Match, field};
use quantumnet_dataplane::{
    compile::{DesiredFlow, FlowDelta, FlowKey, FlowValue},
    switch::{Driver, Input, Limits, Output},
};
use quantumnet_testbed::{LabGuard, LabSpec};

const FLOWS: u32 = 100_000;

fn flow(number: u32) -> DesiredFlow {
    let [a, b, c, d] = number.to_be_bytes();
    let matches = Match::new().with(field::METADATA, 5u64).with(field::ETH_DST, [2, 0, a, b, c, d]);
    let actions = vec![Action::load(field::REG15, u64::from(number)), Action::resubmit(32)];
    DesiredFlow {
        key: Arc::new(FlowKey { table: 12, priority: 50, matches }),
        value: FlowValue { cookie: number.into(), actions: actions.into() },
    }
}

#[test]
#[ignore = "a measurement"]
fn a_hundred_thousand_flows() {
    let lab = LabGuard::up(&LabSpec::switches_only("scale", 1)).unwrap();
    let hypervisor = lab.hypervisor(1).unwrap();
    hypervisor.add_bridge("br-int").unwrap();
    let flows: Vec<String> = (0..FLOWS)
        .map(|number| {
            let [a, b, c, d] = number.to_be_bytes();
            format!(
                "add cookie={number},table=12,priority=50,metadata=5,dl_dst=02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x},\
                 actions=load:{number}->NXM_NX_REG15[],resubmit(,32)"
            )
        })
        .collect();
    let file = lab.folder().join("flows.txt");
    std::fs::write(&file, flows.join("\n")).unwrap();
    let mut theirs = f64::MAX;
    for _ in 0..2 {
        hypervisor.ovs_ofctl(["del-flows", "br-int"]).unwrap();
        let begun = Instant::now();
        hypervisor.ovs_ofctl(["--bundle", "add-flows", "br-int", &file.to_string_lossy()]).unwrap();
        theirs = theirs.min(begun.elapsed().as_secs_f64());
    }

    let socket = lab.ovsdb_socket(1).with_file_name("br-int.mgmt");
    let mut ours = f64::MAX;
    for _ in 0..2 {
        hypervisor.ovs_ofctl(["del-flows", "br-int"]).unwrap();
        let delta = FlowDelta { put: (0..FLOWS).map(flow).collect(), ..FlowDelta::default() };
        ours = ours.min(install(&socket, delta));
    }
    println!(
        "{FLOWS} flows: driver {ours:.2} s, ovs-ofctl {theirs:.2} s, rate {:.0} %",
        100.0 * theirs / ours
    );
    assert_eq!(hypervisor.flows("br-int").unwrap().len(), FLOWS as usize, "fewer than 2^32");
}

/// Seconds from the delta to the barrier.
fn install(socket: &std::path::Path, delta: FlowDelta) -> f64 {
    let mut stream = UnixStream::connect(socket).unwrap();
    let mut driver = Driver::new(Limits::default());
    let mut buffer = vec![0; 256 << 10];
    let mut outputs = driver.handle(Instant::now(), Input::Connected);
    outputs.extend(driver.handle(Instant::now(), Input::Complete));
    let (mut delta, mut begun) = (Some(delta), Instant::now());
    loop {
        for output in std::mem::take(&mut outputs) {
            match output {
                Output::Send(bytes) => stream.write_all(&bytes).unwrap(),
                Output::Applied(1) => return begun.elapsed().as_secs_f64(),
                Output::Applied(0) => {
                    begun = Instant::now();
                    let delta = delta.take().unwrap();
                    outputs.extend(driver.handle(Instant::now(), Input::Delta { delta, tag: 1 }));
                }
                _ => {}
            }
        }
        if !outputs.is_empty() {
            continue;
        }
        let count = stream.read(&mut buffer).unwrap();
        outputs.extend(driver.handle(Instant::now(), Input::Received(buffer[..count].to_vec())));
    }
}
