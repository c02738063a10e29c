//! Why packets pass or do not: what `qnctl trace`, `why` and `who-can-reach` say, beside what becomes of packets.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use quantumnet_testbed::{Daemon, Signal, Vm, wait_ok, wait_until};
use serde_json::Value;

use crate::support::{Net, ip, text};

const WITHIN: Duration = Duration::from_secs(30);
/// Long enough for an answer, and for a second request where the first was lost.
const PATIENCE: Duration = Duration::from_millis(1_500);

fn vm(net: &Net, hypervisor: u16, port: &str) -> Vm {
    let vm = net.vm(hypervisor, port);
    let addresses = net.get("port", port);
    for address in addresses.pointer("/status/addresses").and_then(Value::as_array).unwrap() {
        let address = address.as_str().unwrap();
        let length = if address.contains(':') { 64 } else { 24 };
        vm.add_address(&format!("{address}/{length}")).unwrap();
    }
    vm
}

fn listener(vm: &Vm, port: u16) -> TcpListener {
    let bind = move || TcpListener::bind(SocketAddr::new(IpAddr::from([0; 4]), port));
    vm.netns().within(bind).unwrap().unwrap()
}

fn connect(from: &Vm, address: &str, port: u16) -> Option<TcpStream> {
    let to = SocketAddr::new(ip(address), port);
    from.netns().within(move || TcpStream::connect_timeout(&to, PATIENCE)).unwrap().ok()
}

/// A trace as JSON.
fn trace(net: &Net, args: &[&str]) -> Value {
    let all = [&["trace", "-o", "json"], args].concat();
    serde_json::from_str(&net.qnctl(&all)).unwrap()
}

fn verdict(trace: &Value) -> String {
    text(trace, "/verdict/kind")
}

fn chassis(trace: &Value, place: &str) -> Vec<String> {
    let hops = trace.pointer(place).and_then(Value::as_array).unwrap();
    hops.iter().map(|hop| text(hop, "/chassis")).collect()
}

fn advice(trace: &Value) -> String {
    trace.pointer("/verdict/advice").and_then(Value::as_array).map_or_else(String::new, |lines| {
        lines.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
    })
}

#[test]
fn traces_agree_with_packets_and_name_the_rule() {
    let net = Net::up("explain", 2);
    net.apply(include_str!("../../../examples/web-to-db.yaml"));
    let (web, batch, db) = (vm(&net, 1, "web"), vm(&net, 1, "batch"), vm(&net, 2, "db"));
    let (postgres, _ssh) = (listener(&db, 5432), listener(&db, 22));
    wait_until(WITHIN, "web to db", || connect(&web, "10.0.1.13", 5432).is_some()).unwrap();

    // What is allowed: over both hypervisors, by the rule of the policy, which says whose it is.
    let allowed = trace(&net, &["web", "db", "tcp/5432", "--reply"]);
    assert_eq!(verdict(&allowed), "DELIVERED", "{allowed:#}");
    assert_eq!(chassis(&allowed, "/hops"), ["hv1", "hv2"], "{allowed:#}");
    let rule = &allowed["verdict"]["allowedBy"][0];
    assert_eq!(
        (text(rule, "/kind"), text(rule, "/name"), text(rule, "/project")),
        ("SecurityPolicy".into(), "web-to-db".into(), "default".into()),
        "{allowed:#}"
    );
    let policy = net.get("policy", "web-to-db");
    assert_eq!(text(rule, "/revision"), text(&policy, "/meta/revision"));
    assert!(text(&allowed, "/verdict/summary").contains("Port db"), "{allowed:#}");
    // The answer goes back as part of what was allowed.
    assert_eq!(text(&allowed, "/replyVerdict/kind"), "DELIVERED", "{allowed:#}");
    assert_eq!(chassis(&allowed, "/replyHops"), ["hv2", "hv1"]);

    // What is not: the rule that stops it, where, and what to write; by port, VM and address alike.
    assert!(connect(&batch, "10.0.1.13", 5432).is_none());
    for (source, destination) in [("batch", "db"), ("vm-batch", "vm-db"), ("10.0.1.12", "10.0.1.13")] {
        let denied = trace(&net, &[source, destination, "tcp/5432"]);
        assert_eq!(verdict(&denied), "DROPPED", "{denied:#}");
        let by = &denied["verdict"]["decidedBy"];
        assert_eq!(
            (text(by, "/name"), text(by, "/part")),
            ("web-to-db".into(), "isolate".into()),
            "{denied:#}"
        );
        assert_eq!(text(&denied, "/verdict/chassis"), "hv2");
        assert!(advice(&denied).contains("role=batch -> role=db-server : tcp/5432"), "{denied:#}");
    }
    assert!(connect(&web, "10.0.1.13", 22).is_none());
    assert_eq!(verdict(&trace(&net, &["web", "db", "tcp/22"])), "DROPPED");
    let ping = web.ping(ip("10.0.1.13"), &Default::default()).unwrap();
    assert!(ping.none_answered());
    assert_eq!(verdict(&trace(&net, &["web", "db", "icmp"])), "DROPPED");
    // Nothing is isolated but the database.
    let ping = batch.ping(ip("10.0.1.11"), &Default::default()).unwrap();
    assert!(ping.all_answered());
    let free = trace(&net, &["batch", "web", "icmp"]);
    assert_eq!(
        (verdict(&free), chassis(&free, "/hops")),
        ("DELIVERED".into(), vec!["hv1".to_owned()]),
        "{free:#}"
    );

    // An open connection is found in the switches, by its source port.
    let mut client = connect(&web, "10.0.1.13", 5432).unwrap();
    let own = client.local_addr().unwrap().port().to_string();
    let mut server = loop {
        let (server, peer) = postgres.accept().unwrap();
        if peer == client.local_addr().unwrap() {
            break server;
        }
    };
    client.write_all(b"x").unwrap();
    server.read_exact(&mut [0]).unwrap();
    let open = trace(&net, &["web", "db", "tcp/5432", "--source-port", &own]);
    let steps = open["hops"][1]["steps"].to_string();
    assert!(steps.contains("est, as the switch has it"), "{open:#}");
    assert_eq!(verdict(&open), "DELIVERED", "{open:#}");

    // In words, and by the rules alone.
    let why = net.qnctl(&["why", "batch", "db", "tcp/5432"]);
    assert!(why.starts_with("DROPPED") && why.contains("rule isolate of SecurityPolicy web-to-db"), "{why}");
    let shown = net.qnctl(&["trace", "web", "db", "tcp/5432"]);
    assert!(
        shown.contains("into the tunnel to hv2") && shown.contains("hv2, from the tunnel from hv1"),
        "{shown}"
    );
    let reach: Value =
        serde_json::from_str(&net.qnctl(&["who-can-reach", "db", "tcp/5432", "-o", "json"])).unwrap();
    let judged: Vec<(String, bool)> = reach["sources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|source| (text(source, "/port/name"), source["allowed"] == true))
        .collect();
    let expected = [("web".to_owned(), true), ("batch".to_owned(), false)];
    assert!(expected.iter().all(|one| judged.contains(one)) && judged.len() == 2, "{judged:?}");

    // Nothing of this changed anything: no connection was made by a trace.
    let flows = net.lab.hypervisor(2).unwrap().ovs_appctl(["dpctl/dump-conntrack"]).unwrap();
    assert!(!flows.contains("sport=65535"), "{flows}");

    // A hypervisor that cannot be asked is said to be so.
    net.lab.stop(Daemon::Agent(2), Signal::SIGKILL).unwrap();
    wait_ok(WITHIN, "the lost agent to be named", || {
        let undecided = trace(&net, &["web", "db", "tcp/5432"]);
        let summary = text(&undecided, "/verdict/summary");
        if verdict(&undecided) == "UNDECIDED" && summary.contains("hv2") { Ok(()) } else { Err(summary) }
    })
    .unwrap();
}

#[test]
fn traces_over_routers_and_of_ports_that_are_not_there() {
    let net = Net::up("explainr", 2);
    net.apply(
        "
kind: VirtualNetwork
metadata: { name: blue }
spec: { subnets: [{ cidr: 10.0.1.0/24, gateway: 10.0.1.1 }, { cidr: 'fd00:1::/64', gateway: 'fd00:1::1' }] }
---
kind: VirtualNetwork
metadata: { name: green }
spec: { subnets: [{ cidr: 10.0.2.0/24, gateway: 10.0.2.1 }, { cidr: 'fd00:2::/64', gateway: 'fd00:2::1' }] }
---
kind: Router
metadata: { name: r }
spec: { networks: [blue, green] }
---
kind: SecurityGroup
metadata: { name: ssh }
spec: { default_ingress: REJECT, rules: [{ name: in, protocol: tcp, ports: [22], remote_prefix: 10.0.1.0/24 }] }
---
kind: Port
metadata: { name: a }
spec: { network: blue, addresses: [10.0.1.11, 'fd00:1::11'] }
---
kind: Port
metadata: { name: b }
spec: { network: green, addresses: [10.0.2.11, 'fd00:2::11'], security_groups: [ssh] }
---
kind: Port
metadata: { name: later }
spec: { network: green, addresses: [10.0.2.12] }
",
    );
    let (_a, _b) = (vm(&net, 1, "a"), vm(&net, 2, "b"));
    let routed = trace(&net, &["a", "b", "tcp/22", "--reply"]);
    assert_eq!(verdict(&routed), "DELIVERED", "{routed:#}");
    assert_eq!(text(&routed, "/replyVerdict/kind"), "DELIVERED", "{routed:#}");
    assert!(net.qnctl(&["trace", "a", "b", "tcp/22"]).contains("Route "), "{routed:#}");
    // Over IPv6 the group allows nothing, and its default rejects.
    let rejected = trace(&net, &["a", "b", "tcp/22", "-6"]);
    assert_eq!(verdict(&rejected), "REJECTED", "{rejected:#}");
    assert_eq!(text(&rejected, "/verdict/decidedBy/part"), "default-ingress", "{rejected:#}");
    assert!(advice(&rejected).contains("remote_prefix: fd00:1::11/128"), "{rejected:#}");

    let absent = trace(&net, &["a", "later", "icmp"]);
    assert_eq!(verdict(&absent), "DROPPED", "{absent:#}");
    assert!(advice(&absent).contains("Port later"), "{absent:#}");
    let unbound = trace(&net, &["later", "a", "icmp"]);
    assert!(text(&unbound, "/verdict/summary").contains("is on no hypervisor"), "{unbound:#}");
    let nobody = trace(&net, &["a", "10.0.1.99", "icmp"]);
    assert!(text(&nobody, "/verdict/summary").contains("nobody on"), "{nobody:#}");
    let nowhere = trace(&net, &["a", "192.0.2.1", "icmp"]);
    assert_eq!(
        (verdict(&nowhere), text(&nowhere, "/verdict/table")),
        ("DROPPED".into(), "Route".into()),
        "{nowhere:#}"
    );
    for (args, expected) in [
        (["trace", "a", "b", "tcp"], "single port"),
        (["trace", "a", "nobody", "tcp/1"], "no port and no VM"),
        (["trace", "192.0.2.1", "b", "tcp/1"], "a trace begins at a port"),
    ] {
        let refused = net.qnctl_with(&args, "").unwrap_err();
        assert!(refused.contains(expected), "{refused}");
    }
    let why = net.qnctl(&["why", "192.0.2.1", "b", "tcp/22"]);
    assert!(why.starts_with("DENIED") && why.contains("default-ingress"), "{why}");
    let reach = net.qnctl(&["who-can-reach", "b"]);
    assert!(reach.contains("tcp/22") && reach.contains("OUTSIDE"), "{reach}");
}
