//! One port's change in a large model: compute time of the agent's compiler and how much work it did.

use std::{sync::Arc, time::Instant};

use anyhow::{Result, ensure};
use quantumnet_dataplane::compile::{Compiler, RowUpdate};
use quantumnet_model::{
    DynRow, Row, Uuid,
    column::{Strong, Text},
    host::{HostInterface, HostSelf},
    nb::{LogicalSwitch, LogicalSwitchPort},
    sb::{Chassis, DatapathBinding, PortBinding},
};

use crate::report::{Samples, begin, row};

/// Measures in models of these sizes.
pub(crate) fn run(sizes: &[u32], changes: usize) -> Result<()> {
    begin("One port's change of address in the compiler");
    let mut work = Vec::new();
    for &ports in sizes {
        let mut compiler = Compiler::new();
        let started = Instant::now();
        compiler.apply(model(ports));
        let cold = started.elapsed();
        let before = compiler.counters();
        let mut samples = Samples::default();
        for number in 0..changes {
            let port = u32::try_from(number)? * 7 % ports;
            let batch = vec![binding(port, number + 1)];
            let started = Instant::now();
            let delta = compiler.apply(batch);
            samples.push(started.elapsed());
            ensure!(!delta.is_empty(), "a change of address changes flows");
        }
        let after = compiler.counters();
        ensure!(compiler.recompute_check().is_empty(), "the table has drifted");
        let count = |value: u64| value as f64 / changes as f64;
        let per_change =
            (count(after.units_run - before.units_run), count(after.flows_changed - before.flows_changed));
        let name = format!("{ports} ports here, {} rules", compiler.flows());
        row(&format!("{name}: first compilation"), format!("{:.2} s", cold.as_secs_f64()), "");
        row(&format!("{name}: one change"), samples.line(), "<= 1 ms");
        row(
            &format!("{name}: work of one change"),
            format!("{} units, {} flows", per_change.0, per_change.1),
            "no growth",
        );
        work.push(per_change);
    }
    ensure!(work.windows(2).all(|pair| pair[0] == pair[1]), "work grows with the model: {work:?}");
    Ok(())
}

/// All ports are on this hypervisor, 100 to a switch: the worst an agent can meet.
fn model(ports: u32) -> Vec<RowUpdate> {
    let mut rows = vec![
        update(id(1, 0), Chassis { name: "hv1".into(), ..Chassis::default() }),
        update(
            id(2, 0),
            HostSelf { chassis: "hv1".into(), tunnel_option: 0, nd_extensions: true, sctp_ports: true },
        ),
    ];
    for switch in 0..ports.div_ceil(100) {
        rows.push(update(id(3, switch), LogicalSwitch::default()));
        let binding = DatapathBinding { tunnel_key: i64::from(switch) + 1, ..DatapathBinding::default() };
        rows.push(update(id(3, switch), binding));
    }
    for port in 0..ports {
        let name: Text = format!("port-{port}").into();
        rows.push(update(
            id(4, port),
            LogicalSwitchPort { name: name.clone(), ..LogicalSwitchPort::default() },
        ));
        rows.push(binding(port, 0));
        let interface = HostInterface {
            name: format!("vnet{port}").into(),
            iface_id: name,
            ofport: i64::from(port) + 1,
            meter: i64::from(port) * 16 + 1,
        };
        rows.push(update(id(5, port), interface));
    }
    rows
}

/// The port's binding, with two IPv4 addresses and one IPv6 address; `round` changes the second.
fn binding(port: u32, round: usize) -> RowUpdate {
    let [_, a, b, c] = port.to_be_bytes();
    let second = match round {
        0 => format!("172.{a}.{b}.{c}"),
        _ => format!("192.168.{}.{}", round / 256 % 256, round % 256),
    };
    let addresses: Text =
        format!("0a:00:00:{a:02x}:{b:02x}:{c:02x} 10.{a}.{b}.{c} {second} fd00::{:x}", port + 1).into();
    let row = PortBinding {
        logical_port: format!("port-{port}").into(),
        datapath: Strong::new(id(3, port / 100)),
        tunnel_key: i64::from(port % 100) + 1,
        chassis: Some(id(1, 0).into()),
        mac: [addresses.clone()].into_iter().collect(),
        port_security: [addresses].into_iter().collect(),
        up: Some(true),
        ..PortBinding::default()
    };
    update(id(4, port), row)
}

fn update<T: Row>(uuid: Uuid, row: T) -> RowUpdate {
    (T::TABLE, uuid, Some(Arc::new(row) as Arc<dyn DynRow>))
}

fn id(kind: u128, number: u32) -> Uuid {
    Uuid::from_u128(u128::from(number) << 96 | kind)
}
