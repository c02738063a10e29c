//! Security groups and policies on real switches: the examples as people apply them, and what becomes of packets.

use std::time::{Duration, Instant};

use quantumnet_testbed::{Vm, wait_ok, wait_until};
use serde_json::Value;

use crate::{
    support::{Net, ip, text},
    tcp::{PATIENCE, Server},
};

const WITHIN: Duration = Duration::from_secs(20);
/// What users are promised of a label, a policy or a rule that changes.
const PROMISED: Duration = Duration::from_secs(1);

/// A VM with the addresses that its port has.
fn vm(net: &Net, hypervisor: u16, port: &str) -> Vm {
    let vm = net.vm(hypervisor, port);
    let addresses = net.get("port", port);
    for address in addresses.pointer("/status/addresses").and_then(Value::as_array).unwrap() {
        vm.add_address(&format!("{}/24", address.as_str().unwrap())).unwrap();
    }
    vm
}

/// The label of a VM behind a port, as a user would change it.
fn label(port: &str, address: u8, role: &str) -> String {
    format!(
        "kind: Port
metadata: {{ name: {port} }}
spec: {{ network: shop, addresses: [10.0.1.{address}], vm: {{ name: vm-{port}, labels: {{ role: {role} }} }} }}
---
"
    )
}

#[test]
fn the_example_of_ssh_from_a_prefix() {
    let net = Net::up("allowssh", 2);
    net.apply(include_str!("../../../examples/allow-ssh.yaml"));
    let (server, client) = (vm(&net, 1, "server"), vm(&net, 2, "client"));
    let (ssh, web) = (Server::open(&server, 22), Server::open(&server, 80));
    let from_client = Server::open(&client, 80);
    wait_until(WITHIN, "SSH from 10.0.0.0/8", || ssh.answers(&client, "10.0.0.11")).unwrap();
    assert!(!ssh.answers(&client, "192.168.7.11"), "from another prefix");
    assert!(!web.answers(&client, "10.0.0.11"), "another port");
    let ping = client.ping(ip("10.0.0.11"), &Default::default()).unwrap();
    assert!(ping.none_answered(), "another protocol: {ping:?}");
    assert!(from_client.answers(&server, "10.0.0.12"), "members send what they like, and get answers");

    // What is there belongs to the group.
    let group = net.get("sg", "allow-ssh");
    assert_eq!(text(&group, "/status/portCount"), "1");
    let remotes = format!("--db={}", net.lab.nb_remotes().unwrap());
    let name = text(&group, "/status/portGroup");
    let refused = net.lab.exec("net", ["ovn-nbctl", &remotes, "--no-leader-only", "pg-del", &name]).unwrap();
    assert!(!refused.ok() && refused.stderr.contains("allow-ssh"), "{refused:?}");

    // A rule that goes takes its connections with it, within what is promised, unless it was to leave them.
    let rules = |rules: &str| {
        format!("kind: SecurityGroup\nmetadata: {{ name: allow-ssh }}\nspec: {{ rules: [{rules}] }}\n")
    };
    let mut connection = ssh.connect(&client, "10.0.0.11", PATIENCE).unwrap();
    assert!(connection.is_alive());
    net.qnctl_with(&["apply", "-f", "-"], &rules("")).unwrap();
    assert!(connection.ends_within(PROMISED), "still open after its rule went");
    assert!(!ssh.answers(&client, "10.0.0.11"));
    net.apply(&rules("{ protocol: tcp, ports: [22], persist_established: true }"));
    let mut kept = ssh.connect(&client, "10.0.0.11", PATIENCE).unwrap();
    assert!(kept.is_alive());
    net.apply(&rules(""));
    assert!(kept.is_alive(), "its rule was to leave it");
    assert!(!ssh.answers(&client, "10.0.0.11"), "another needs a rule");
}

#[test]
fn the_example_of_policies_by_label() {
    let net = Net::up("webtodb", 2);
    net.apply(include_str!("../../../examples/web-to-db.yaml"));
    let (web, batch, db) = (vm(&net, 1, "web"), vm(&net, 1, "batch"), vm(&net, 2, "db"));
    let (postgres, other) = (Server::open(&db, 5432), Server::open(&db, 22));
    let (to_web, address) = (Server::open(&web, 80), "10.0.1.13");
    wait_until(WITHIN, "web to db", || postgres.answers(&web, address)).unwrap();
    assert!(!postgres.answers(&batch, address), "another role");
    assert!(!other.answers(&web, address), "another port");
    assert!(to_web.answers(&db, "10.0.1.11"), "sources are not isolated, and databases get answers");
    let selectors = net.get("policy", "web-to-db");
    assert_eq!(
        selectors["status"]["selectors"],
        serde_json::json!([{ "selector": "role=db-server", "portCount": "1" }, { "selector": "role=web-server", "portCount": "1" }])
    );

    // The label moves to another VM, and the right to connect with it.
    let mut connection = postgres.connect(&web, address, PATIENCE).unwrap();
    assert!(connection.is_alive());
    let moved = label("batch", 12, "web-server") + &label("web", 11, "batch");
    net.qnctl_with(&["apply", "-f", "-"], &moved).unwrap();
    let acknowledged = Instant::now();
    while postgres.connect(&batch, address, Duration::from_millis(100)).is_none() {
        assert!(
            acknowledged.elapsed() < PROMISED,
            "no effect {:?} after the label moved",
            acknowledged.elapsed()
        );
    }
    // The labels are two writes: the one right may be there before the other is gone.
    assert!(connection.ends_within(PROMISED), "what was established without the label ends");
    assert!(!postgres.answers(&web, address));

    // A policy that goes leaves nothing.
    net.qnctl(&["delete", "policy", "web-to-db"]);
    wait_until(WITHIN, "nothing to be left of the policy", || postgres.answers(&web, address)).unwrap();
}

#[test]
fn a_staged_policy_counts_and_passes() {
    let net = Net::up("staged", 2);
    let example = include_str!("../../../examples/web-to-db.yaml");
    let staged = example.replacen("spec:\n", "spec:\n  staged: true\n", 1);
    net.apply(&staged);
    let (web, batch, db) = (vm(&net, 1, "web"), vm(&net, 1, "batch"), vm(&net, 2, "db"));
    let (postgres, address) = (Server::open(&db, 5432), "10.0.1.13");
    wait_until(WITHIN, "web to db", || postgres.answers(&web, address)).unwrap();
    let mut allowed = postgres.connect(&web, address, PATIENCE).unwrap();
    assert!(allowed.is_alive());
    let before = would_drop(&net);
    let ping = batch.ping(ip(address), &Default::default()).unwrap();
    assert!(ping.all_answered(), "{ping:?}");
    let expected = before + u64::from(ping.sent);
    wait_ok(WITHIN, "what would be dropped to be counted", || match would_drop(&net) {
        count if count == expected => Ok(()),
        count => Err(format!("{count} of {expected}")),
    })
    .unwrap();
    assert_eq!(before, 0, "the allowed connection, and answers, would not be dropped");

    net.apply(example.replacen("spec:\n", "spec:\n  staged: false\n", 1).as_str());
    let ping = batch.ping(ip(address), &Default::default()).unwrap();
    assert!(ping.none_answered(), "in force: {ping:?}");
    assert!(allowed.is_alive());
}

/// Packets that what the policy isolates would have lost, by the counters of the switch that has the database: of flows
/// with the priority of the ACL that would drop, which is 1000 above its own.
fn would_drop(net: &Net) -> u64 {
    let remotes = format!("--db={}", net.lab.nb_remotes().unwrap());
    let find = [
        "ovn-nbctl",
        &remotes,
        "--no-leader-only",
        "--bare",
        "--columns=priority",
        "find",
        "ACL",
        "external_ids:\"quantumnet:staged\"=drop",
    ];
    let found = net.lab.exec("net", find).unwrap();
    let priority: u64 = found.stdout.trim().parse().unwrap_or_else(|_| panic!("{found:?}"));
    let dump = net.lab.hypervisor(2).unwrap().ovs_ofctl(["--no-names", "dump-flows", "br-int"]).unwrap();
    let ours = format!("priority={},", priority + 1_000);
    let packets = |line: &str| line.split_once("n_packets=")?.1.split(',').next()?.parse::<u64>().ok();
    let flows: Vec<u64> = dump.lines().filter(|line| line.contains(&ours)).filter_map(packets).collect();
    assert!(!flows.is_empty(), "no flow has {ours}");
    flows.iter().sum()
}
