//! Three controllers, and what the loss of one costs.

use std::time::{Duration, Instant};

use quantumnet_testbed::{Daemon, Link, Node, Signal, wait_ok};
use serde_json::Value;

use crate::{
    restarts::{finish, streams},
    support::Net,
};

const WITHIN: Duration = Duration::from_secs(20);

#[test]
fn a_killed_leader_loses_no_write_and_no_packet() {
    let (net, [a, _b, _c]) = Net::three_vms("leaderkill");
    let kills: usize = std::env::var("QN_LEADER_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let probes = streams(&a, &["10.0.0.12", "10.0.0.13"]);
    let writes = net.lab.writes().unwrap();
    // An OVN client that knows all three addresses, as it stands in its manual.
    let remotes = format!("--db={}", net.lab.nb_remotes().unwrap());
    // It wants the leader and gives up once it has tried each address: while the others elect one, it is run again.
    let nbctl = |args: &[&str]| {
        let argv: Vec<&str> = ["ovn-nbctl", &remotes, "--timeout=20"].iter().chain(args).copied().collect();
        wait_ok(WITHIN, &format!("ovn-nbctl {args:?}"), || {
            let output = net.lab.exec("net", &argv).unwrap();
            if output.ok() { Ok(output.stdout) } else { Err(output.stderr) }
        })
        .unwrap()
    };
    let mut killed = Vec::new();
    for round in 0..kills {
        writes.wait_more(20, WITHIN).unwrap();
        let leader = net.lab.wait_leader(WITHIN).unwrap();
        killed.push(Instant::now());
        net.lab.stop(Daemon::Controller(leader), Signal::SIGKILL).unwrap();
        nbctl(&["--wait=hv", "--may-exist", "ls-add", &format!("sw{round}")]);
        writes.wait_more(20, WITHIN).unwrap();
        net.lab.start(Daemon::Controller(leader)).unwrap();
    }
    net.lab.wait_leader(WITHIN).unwrap();
    let written = writes.stop().unwrap();
    for report in finish(probes) {
        assert_eq!(report.lost(), 0, "{report:?}");
    }

    // Exactly the writes that were acknowledged are there: names are unique, so a second one would have been refused.
    let projects: Value = serde_json::from_str(&net.qnctl(&["get", "projects", "-o", "json"])).unwrap();
    let mut numbers: Vec<usize> = projects
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|project| project["meta"]["name"].as_str()?.strip_prefix('w')?.parse().ok())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..written.acknowledged.len()).collect::<Vec<_>>());

    let switches = nbctl(&["--bare", "--columns=name", "list", "Logical_Switch"]);
    assert!((0..kills).all(|round| switches.lines().any(|line| line == format!("sw{round}"))), "{switches}");
    let numbers = nbctl(&["--bare", "--columns=nb_cfg,hv_cfg", "list", "NB_Global"]);
    let numbers: Vec<&str> = numbers.split_whitespace().collect();
    assert_eq!(
        numbers,
        [kills.to_string(), kills.to_string()],
        "every chassis is where the last client left it"
    );

    // The agents are with the members that are left, and what is new gets into the switches.
    net.apply("{kind: Port, metadata: {name: d}, spec: {network: net, addresses: [10.0.0.14]}}");
    let d = net.vm(2, "d");
    d.dhcp(&Default::default()).unwrap();
    a.wait_reachable("10.0.0.14".parse().unwrap(), WITHIN).unwrap();
    for port in ["a", "b", "c"] {
        net.wait_port(port, "up still", |port| port.pointer("/status/up") == Some(&Value::Bool(true)));
    }
    // What the next kill interrupts is not this one's.
    let ends = killed.iter().skip(1).copied().chain(killed.last().map(|last| *last + WITHIN));
    let mut gaps: Vec<Duration> = killed.iter().zip(ends).map(|(at, end)| written.gap(*at, end)).collect();
    gaps.sort_unstable();
    println!(
        "{} writes acknowledged, {} tries repeated; without a write for {:?} (median), {:?} (worst)",
        written.acknowledged.len(),
        written.repeated,
        gaps[gaps.len() / 2],
        gaps[gaps.len() - 1]
    );
}

#[test]
fn a_leader_that_is_cut_off_is_replaced_and_follows_when_it_is_back() {
    let net = Net::up("cutoff", 1);
    net.apply("{kind: Project, metadata: {name: before}}");
    let former = net.lab.wait_leader(WITHIN).unwrap();
    net.lab.set_link(Node::Controller(former), Link::Management, false).unwrap();
    let next = wait_ok(WITHIN, "another leader", || {
        let leader = net.lab.leader().map_err(|error| error.to_string())?;
        leader.filter(|leader| *leader != former).ok_or_else(|| format!("{leader:?} leads"))
    })
    .unwrap();
    // What the rest decides meanwhile is there on the one that was away; asked of it alone.
    net.qnctl_of(next, &["apply", "-f", "-"], "{kind: Project, metadata: {name: meanwhile}}").unwrap();
    net.lab.set_link(Node::Controller(former), Link::Management, true).unwrap();
    wait_ok(WITHIN, "the former leader to have caught up", || {
        let projects = net.qnctl_of(former, &["get", "projects"], "")?;
        let whole = projects.contains("before") && projects.contains("meanwhile");
        if whole { Ok(()) } else { Err(projects) }
    })
    .unwrap();
    net.lab.wait_leader(WITHIN).unwrap();
}

#[test]
fn a_member_that_was_down_catches_up_and_every_member_takes_writes() {
    let net = Net::up("catchup", 1);
    let leader = net.lab.wait_leader(WITHIN).unwrap();
    let follower = (1..=3).find(|n| *n != leader).unwrap();
    net.lab.stop(Daemon::Controller(follower), Signal::SIGKILL).unwrap();
    for n in 0..5 {
        net.apply(&format!("{{kind: Project, metadata: {{name: away{n}}}}}"));
    }
    net.lab.start(Daemon::Controller(follower)).unwrap();
    // Reads are linearizable, so the first answer has everything.
    let projects = net.qnctl_of(follower, &["get", "projects"], "").unwrap();
    assert!((0..5).all(|n| projects.contains(&format!("away{n}"))), "{projects}");
    for n in 1..=3 {
        let document = format!("{{kind: Project, metadata: {{name: by{n}}}}}");
        net.qnctl_of(n, &["apply", "-f", "-"], &document).unwrap();
        // Each sees its own write and that of the one before, whoever it asked.
        let projects = net.qnctl_of(n, &["get", "projects"], "").unwrap();
        assert!((1..=n).all(|n| projects.contains(&format!("by{n}"))), "{projects}");
    }
}

/// Kills of a short run; QN_LEADER_KILLS=20 is the whole one.
const KILLS: usize = 3;
