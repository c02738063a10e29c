//! A router with many ports and routes on one hypervisor: one route more, one less, until the switch has it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use quantumnet_cli::client::{Address, Client as Api};
use quantumnet_testbed::{LabGuard, LabSpec, Programs};
use serde_json::{Value, json};

use crate::{
    client::Client,
    report::{Samples, begin, row},
    scale::{WITHIN, settled, synchronized, watch},
};

/// Measures with so many router ports and routes.
pub(crate) async fn run(programs: &Path, ports: u32, routes: u32, changes: u32) -> Result<()> {
    let lab = LabGuard::up(&LabSpec::with_programs("routes", 1, 1, Programs::in_folder(programs)))?;
    lab.wait_leader(WITHIN)?;
    begin(&format!("A router with {ports} ports and {routes} routes, one hypervisor"));
    let mut client = Client::connect(&lab.nb_socket(1))?;
    let mut watcher = watch(&lab)?;
    client.transact(vec![json!({"op": "insert", "table": "Logical_Router", "row": {"name": "r"}})])?;
    for port in 0..ports {
        client.transact(subnet(port))?;
    }
    // A port of the first and of the last switch is here, so the whole router is.
    lab.hypervisor(1)?.add_deviceless_ports(["p0".to_owned(), format!("p{}", ports - 1)])?;
    for first in (0..routes).step_by(EACH) {
        let batch = (first..routes.min(first + EACH as u32)).flat_map(|number| add(number, ports));
        client.transact(batch.collect())?;
    }
    let took = synchronized(&mut client, &mut watcher, Vec::new())?;
    row("until the hypervisor has it", format!("{:.2} s", took.as_secs_f64()), "");

    let api = Api::new(vec![Address::Unix(lab.api_socket(1))], None);
    let (mut more, mut less) = (Samples::default(), Samples::default());
    let before = settled(&lab)?;
    for change in 0..changes {
        more.push(until_barrier(&mut client, &api, add(routes + change, ports)).await?);
        let removal = remove(&mut client, routes + change)?;
        less.push(until_barrier(&mut client, &api, removal).await?);
    }
    let after = settled(&lab)?;
    ensure!(after.flows - before.flows >= u64::from(2 * changes), "each change changes flows");
    row("one route more, request to barrier", more.line(), "median < 5 ms");
    row("one route less, request to barrier", less.line(), "median < 5 ms");
    let each = |count: u64| count as f64 / f64::from(2 * changes.max(1));
    row(
        "work of a change: units run, flows changed",
        format!("{:.1}, {:.1}", each(after.units - before.units), each(after.flows - before.flows)),
        "no growth",
    );
    Ok(())
}

/// Runs a transaction and waits until the hypervisor's switch has what follows from it.
async fn until_barrier(client: &mut Client, api: &Api, operations: Vec<Value>) -> Result<Duration> {
    let started = Instant::now();
    client.transact(operations)?;
    let status = api.call("ClusterService", "GetClusterStatus", &json!({})).await?;
    let wait = json!({ "revision": status["revision"] });
    let answer = api.call("ClusterService", "WaitForRevision", &wait).await?;
    let behind = answer["behind"].as_array().is_some_and(|behind| !behind.is_empty());
    ensure!(!behind, "{} did not reach {}", answer["behind"], status["revision"]);
    Ok(started.elapsed())
}

/// A switch with a port, behind a port of the router.
fn subnet(number: u32) -> Vec<Value> {
    let [_, _, a, b] = number.to_be_bytes();
    let (mac, net) = (format!("0a:01:00:00:{a:02x}:{b:02x}"), format!("10.{a}.{b}"));
    vec![
        json!({"op": "insert", "table": "Logical_Router_Port", "uuid-name": "inner",
               "row": {"name": format!("r-s{number}"), "mac": mac, "networks": format!("{net}.1/24")}}),
        json!({"op": "mutate", "table": "Logical_Router", "where": [["name", "==", "r"]],
               "mutations": [["ports", "insert", ["named-uuid", "inner"]]]}),
        json!({"op": "insert", "table": "Logical_Switch_Port", "uuid-name": "outer",
               "row": {"name": format!("s{number}-r"), "type": "router", "addresses": "router",
                       "options": ["map", [["router-port", format!("r-s{number}")]]]}}),
        json!({"op": "insert", "table": "Logical_Switch_Port", "uuid-name": "vm",
               "row": {"name": format!("p{number}"), "addresses": format!("0a:02:00:00:{a:02x}:{b:02x} {net}.10")}}),
        json!({"op": "insert", "table": "Logical_Switch", "row": {"name": format!("s{number}"),
               "ports": ["set", [["named-uuid", "outer"], ["named-uuid", "vm"]]]}}),
    ]
}

/// One route, by a host behind one of the router's ports.
fn add(number: u32, ports: u32) -> Vec<Value> {
    let via = number % ports;
    let name = format!("route{number}");
    vec![
        json!({"op": "insert", "table": "Logical_Router_Static_Route", "uuid-name": name,
               "row": {"ip_prefix": prefix(number), "nexthop": format!("10.{}.{}.10", via >> 8, via & 255)}}),
        json!({"op": "mutate", "table": "Logical_Router", "where": [["name", "==", "r"]],
               "mutations": [["static_routes", "insert", ["named-uuid", name]]]}),
    ]
}

/// The route's row goes with its reference.
fn remove(client: &mut Client, number: u32) -> Result<Vec<Value>> {
    let found = client.transact(vec![json!({"op": "select", "table": "Logical_Router_Static_Route",
               "where": [["ip_prefix", "==", prefix(number)]], "columns": ["_uuid"]})])?;
    let row = found.pointer("/0/rows/0/_uuid").context("the route is there")?;
    Ok(vec![json!({"op": "mutate", "table": "Logical_Router", "where": [["name", "==", "r"]],
                   "mutations": [["static_routes", "delete", row]]})])
}

fn prefix(number: u32) -> String {
    format!("172.{}.{}.0/24", 16 + (number >> 8), number & 255)
}

/// Routes of one transaction.
const EACH: usize = 500;
