//! ACLs on real switches, set with ovn-nbctl as an OVN client does: what they stop, let through, answer and cut.

use std::time::Duration;

use quantumnet_testbed::{Daemon, Signal, Vm, wait_ok};
use serde_json::json;

use crate::{
    restarts::{finish, streams},
    support::{Net, ip, text},
};

const WITHIN: Duration = Duration::from_secs(20);

pub(crate) fn nbctl(net: &Net, commands: &[&str]) {
    let remotes = format!("--db={}", net.lab.nb_remotes().unwrap());
    let mut argv = vec!["ovn-nbctl", &remotes, "--no-leader-only", "--timeout=20", "--wait=hv"];
    argv.extend(commands);
    wait_ok(WITHIN, &format!("ovn-nbctl {commands:?}"), || {
        let output = net.lab.exec("net", &argv).unwrap();
        if output.ok() { Ok(()) } else { Err(output.stderr) }
    })
    .unwrap();
}

/// Rules of several tiers, which Debian's ovn-nbctl can't write: the first tier that decides counts.
#[test]
fn later_tiers_are_asked_where_earlier_ones_say_nothing() {
    let (net, [_a, b, c]) = Net::three_vms("tiers");
    let id = text(&net.get("port", "a"), "/meta/id");
    b.wait_reachable(ip("10.0.0.11"), WITHIN).unwrap();
    c.wait_reachable(ip("10.0.0.11"), WITHIN).unwrap();
    nbctl(&net, &["pg-add", "guarded", &id]);
    let acl = |tier: u8, priority: u16, from: &str, action: &str| {
        json!({ "direction": "to-lport", "tier": tier, "priority": priority, "action": action,
            "match": format!("outport == @guarded && ip4.src == {from}") })
    };
    let rules = [
        acl(0, 2_000, "10.0.0.12", "pass"),
        acl(0, 1_000, "10.0.0.12", "drop"),
        acl(1, 1_000, "10.0.0.12", "allow"),
        acl(2, 1_000, "10.0.0.0/24", "drop"),
    ];
    let mut request = vec![json!("OVN_Northbound")];
    let names: Vec<String> = (0..rules.len()).map(|rule| format!("rule{rule}")).collect();
    for (row, name) in rules.iter().zip(&names) {
        request.push(json!({"op": "insert", "table": "ACL", "uuid-name": name, "row": row}));
    }
    let acls: Vec<_> = names.iter().map(|name| json!(["named-uuid", name])).collect();
    request.push(json!({"op": "update", "table": "Port_Group", "where": [["name", "==", "guarded"]],
        "row": {"acls": ["set", acls]}}));
    let remotes = net.lab.nb_remotes().unwrap();
    let remote = remotes.split(',').next().unwrap();
    let request = serde_json::Value::from(request).to_string();
    let done = net.lab.exec("net", ["ovsdb-client", "transact", remote, &request]).unwrap();
    assert!(done.ok() && !done.stdout.contains("error"), "{done:?}");
    nbctl(&net, &["sync"]);
    let answered = |from: &Vm| from.ping(ip("10.0.0.11"), &Default::default()).unwrap();
    assert!(answered(&b).all_answered(), "passed on by the first tier, allowed by the second");
    assert!(answered(&c).none_answered(), "nothing before the third");
}

/// A port of the intent API is a member of a client's group; its rules hold at once on every hypervisor.
#[test]
fn rules_hold_across_hosts_and_restarts_and_cut_when_they_go() {
    let (net, [a, b, c]) = Net::three_vms("filters");
    let id = text(&net.get("port", "c"), "/meta/id");
    a.wait_reachable(ip("10.0.0.13"), WITHIN).unwrap();
    b.wait_reachable(ip("10.0.0.13"), WITHIN).unwrap();

    let all = "outport == @guarded && ip4";
    let web = "outport == @guarded && icmp4 && ip4.src == $friends";
    nbctl(&net, &["pg-add", "guarded", &id, "--", "acl-add", "guarded", "to-lport", "1000", all, "drop"]);
    let answered = |from: &Vm, to: &str| {
        let result = from.ping(ip(to), &Default::default()).unwrap();
        assert!(result.all_answered() || result.none_answered(), "a rule holds for every packet: {result:?}");
        result.all_answered()
    };
    assert!(!answered(&a, "10.0.0.13") && !answered(&b, "10.0.0.13"));

    nbctl(
        &net,
        &[
            "create",
            "Address_Set",
            "name=friends",
            "addresses=10.0.0.11",
            "--",
            "acl-add",
            "guarded",
            "to-lport",
            "1001",
            web,
            "allow-related",
        ],
    );
    assert!(answered(&a, "10.0.0.13"), "an address of the set");
    assert!(!answered(&b, "10.0.0.13"), "another");
    assert!(answered(&c, "10.0.0.12"), "replies to what the guarded port begins");

    // An agent that comes back finds its zones and connections as they were.
    let probes = streams(&a, &["10.0.0.13"]);
    net.lab.restart(Daemon::Agent(2), Signal::SIGKILL).unwrap();
    nbctl(&net, &["sync"]);
    for report in finish(probes) {
        assert_eq!(report.lost(), 0, "{report:?}");
    }

    // The connection is established; without its rule it ends with the next packet.
    nbctl(&net, &["remove", "Address_Set", "friends", "addresses", "10.0.0.11"]);
    assert!(!answered(&a, "10.0.0.13"), "revocation cuts");
    nbctl(&net, &["pg-del", "guarded"]);
    assert!(answered(&a, "10.0.0.13") && answered(&b, "10.0.0.13"), "nothing is left of it");
}

/// Packets that no rule allows, all the while: none passes, whatever becomes of rules, agents and ports.
#[test]
fn what_is_denied_never_passes() {
    let (net, [a, b, c]) = Net::three_vms("closed");
    let id = |port: &str| text(&net.get("port", port), "/meta/id");
    let (all, open) = ("outport == @guarded && ip4", "outport == @guarded && udp.dst == 7000");
    nbctl(
        &net,
        &[
            "pg-add",
            "guarded",
            &id("b"),
            &id("c"),
            "--",
            "acl-add",
            "guarded",
            "to-lport",
            "1000",
            all,
            "drop",
            "--",
            "acl-add",
            "guarded",
            "to-lport",
            "1001",
            open,
            "allow-related",
        ],
    );
    let to = [(&b, "10.0.0.12"), (&c, "10.0.0.13")];
    let denied = to.map(|(vm, address)| a.probe_udp(vm, ip(address), 7_001).unwrap());
    let allowed = to.map(|(vm, address)| a.probe_udp(vm, ip(address), 7_000).unwrap());
    let flows_on = || {
        for probe in &allowed {
            let received = probe.so_far().unwrap().received;
            probe.wait_received(received + 20, WITHIN).unwrap();
        }
    };
    flows_on();
    for port in 7_002..7_006 {
        let other = format!("outport == @guarded && udp.dst == {port}");
        nbctl(&net, &["acl-add", "guarded", "to-lport", "1001", &other, "allow-related"]);
        nbctl(&net, &["acl-del", "guarded", "to-lport", "1001", &other]);
    }
    for agent in [1, 2] {
        net.lab.restart(Daemon::Agent(agent), Signal::SIGKILL).unwrap();
        nbctl(&net, &["sync"]);
    }
    flows_on();
    for vm in ["b", "c"] {
        net.lab.unplug_vm(vm).unwrap();
        net.lab.plug_vm(vm).unwrap();
    }
    flows_on();
    for probe in &denied {
        let report = probe.so_far().unwrap();
        assert!(report.sent > 100 && report.received == 0, "{report:?}");
    }
    nbctl(&net, &["pg-del", "guarded"]);
    for probe in denied {
        probe.wait_received(10, WITHIN).unwrap();
    }
}
