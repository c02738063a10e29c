//! What one OVSDB transaction costs the leader before the log: operations, checks, lowering.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use quantumnet_controller::{
    lower,
    ovsdb::transact::{self, Attempt, Request},
    store::{Context, Refusal, State, Txn, evaluate},
};
use quantumnet_model::{
    Uuid,
    column::Strong,
    nb::{LogicalSwitch, LogicalSwitchPort, NbGlobal},
};
use serde_json::{Value, json};

use crate::report::{Samples, begin, row};

type Lower = dyn Fn(&mut Txn<'_>) -> Result<(), Refusal>;

/// Measures with switches of these sizes.
pub(crate) fn run(sizes: &[u32], rounds: usize) -> Result<()> {
    for &ports in sizes {
        begin(&format!("One OVSDB transaction evaluated, {ports} ports in the switch"));
        for (what, lower) in [("operations and checks", &without as &Lower), ("and lowering", &lower::run)] {
            let state = filled(ports, lower)?;
            let port = |n: usize| Uuid::from_u128(u128::from(ports) + n as u128 + 100);
            let measure = |name: &str, operations: &dyn Fn(usize) -> Vec<Value>| -> Result<()> {
                let samples = samples(state.clone(), rounds, lower, operations)?;
                let median = samples.median();
                let rate = 1.0 / median.as_secs_f64().max(f64::MIN_POSITIVE);
                let value = format!("{:.1} µs, {rate:.0}/s", median.as_secs_f64() * 1e6);
                row(&format!("{name}, {what}"), value, "> 10,000/s");
                Ok(())
            };
            measure("a port more", &|n| {
                let uuid = port(n).to_string();
                vec![
                    json!({"op": "insert", "table": "Logical_Switch_Port", "uuid": uuid,
                           "row": {"name": uuid, "addresses": format!("02:00:00:00:00:01 {uuid}")}}),
                    json!({"op": "mutate", "table": "Logical_Switch", "where": [["name", "==", "switch"]],
                           "mutations": [["ports", "insert", ["uuid", uuid]]]}),
                ]
            })?;
            measure("a port's columns", &|n| {
                let uuid = Uuid::from_u128(n as u128 % u128::from(ports) + 100).to_string();
                vec![
                    json!({"op": "update", "table": "Logical_Switch_Port", "where": [["_uuid", "==", ["uuid", uuid]]],
                            "row": {"external_ids": ["map", [["round", n.to_string()]]]}}),
                ]
            })?;
            measure("nb_cfg and its value", &|_| {
                vec![
                    json!({"op": "mutate", "table": "NB_Global", "where": [], "mutations": [["nb_cfg", "+=", 1]]}),
                    json!({"op": "select", "table": "NB_Global", "where": [], "columns": ["nb_cfg"]}),
                ]
            })?;
        }
    }
    Ok(())
}

fn without(_: &mut Txn<'_>) -> Result<(), Refusal> {
    Ok(())
}

fn context() -> Context {
    Context { now_ms: 1, principal: Arc::from("bench") }
}

/// A switch with so many ports.
fn filled(ports: u32, lower: &Lower) -> Result<State> {
    let fill = |txn: &mut Txn<'_>| {
        let uuid = |n: u32| Uuid::from_u128(u128::from(n) + 100);
        for n in 0..ports {
            let name = format!("port-{n}").as_str().into();
            txn.put(uuid(n), LogicalSwitchPort { name, ..Default::default() });
        }
        let ports = (0..ports).map(|n| Strong::new(uuid(n))).collect();
        txn.put(Uuid::from_u128(1), LogicalSwitch { name: "switch".into(), ports, ..Default::default() });
        txn.put(Uuid::from_u128(2), NbGlobal::default());
        Ok(())
    };
    Ok(evaluate(&State::default(), &context(), fill, lower)?.state)
}

fn samples(
    mut state: State,
    rounds: usize,
    lower: &Lower,
    operations: &dyn Fn(usize) -> Vec<Value>,
) -> Result<Samples> {
    let mut samples = Samples::default();
    for round in 0..rounds {
        let request = Request {
            database: "OVN_Northbound".to_owned(),
            operations: operations(round),
            locks: Default::default(),
            read_only: false,
            waited: Duration::ZERO,
        };
        let started = Instant::now();
        let done = evaluate(&state, &context(), |txn| Ok(transact::run(txn, &request)), lower)?;
        samples.push(started.elapsed());
        let failed = match &done.result {
            Attempt::Done(results) => results.iter().find(|result| result.get("error").is_some()),
            Attempt::Blocked(_) => None,
        };
        ensure!(failed.is_none() && !done.changes.is_empty(), "it does something: {:?}", done.result);
        state = done.state;
    }
    Ok(samples)
}
