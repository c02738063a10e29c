//! Counts of rules and drops on real switches, as people see them.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use quantumnet_testbed::{Daemon, PingOptions, Signal, wait_ok};
use serde_json::Value;

use crate::support::{Net, ip, text};

const WITHIN: Duration = Duration::from_secs(30);
/// The switch counts within a second, and its agent reads every second.
const LATE: Duration = Duration::from_secs(4);

/// Who may be pinged, and by whom.
const GROUPS: &str = "
kind: SecurityGroup
metadata: { name: pinged }
spec:
  rules:
    - { name: echo, protocol: icmp, remote_prefix: 10.0.0.11 }
---
kind: VirtualNetwork
metadata: { name: net }
spec: { subnets: [{ cidr: 10.0.0.0/24 }] }
---
kind: Port
metadata: { name: a }
spec: { network: net, addresses: [10.0.0.11] }
---
kind: Port
metadata: { name: b }
spec: { network: net, addresses: [10.0.0.12] }
---
kind: Port
metadata: { name: c }
spec: { network: net, addresses: [10.0.0.13], security_groups: [pinged] }
";

/// What a rule of the group has counted.
struct Hits {
    packets: u64,
    bytes: u64,
    last: String,
}

fn hits(net: &Net, rule: &str, action: &str) -> Hits {
    let answer: Value =
        serde_json::from_str(&net.qnctl(&["rules", "--group", "pinged", "-o", "json"])).unwrap();
    let answer = &answer[0];
    assert_eq!(answer.get("missing"), None, "{answer}");
    let rules = answer["rules"].as_array().unwrap();
    let is_it = |found: &&Value| {
        text(found, "/rule/part") == rule && found["action"] == action && found["direction"] == "to-lport"
    };
    let found: Vec<&Value> = rules.iter().filter(is_it).collect();
    let [found] = found[..] else { panic!("{rule}: {answer}") };
    let number = |name: &str| found[name].as_str().map_or(0, |text| text.parse().unwrap());
    Hits {
        packets: number("packets"),
        bytes: number("bytes"),
        last: found["lastHit"].as_str().unwrap_or_default().to_owned(),
    }
}

fn wait_packets(net: &Net, rule: &str, action: &str, packets: u64) -> Hits {
    wait_ok(WITHIN, &format!("{packets} packets of {rule}"), || match hits(net, rule, action) {
        hits if hits.packets == packets => Ok(hits),
        hits => Err(format!("{}", hits.packets)),
    })
    .unwrap()
}

/// What a rule has counted once nothing comes any more.
fn settled(net: &Net, rule: &str, action: &str) -> Hits {
    let mut last: Option<(u64, Instant)> = None;
    wait_ok(2 * WITHIN, &format!("packets of {rule} to be all counted"), || {
        let hits = hits(net, rule, action);
        match last {
            Some((packets, since)) if packets == hits.packets && since.elapsed() >= LATE => Ok(hits),
            Some((packets, _)) if packets == hits.packets => Err("not for long".to_owned()),
            _ => {
                last = Some((hits.packets, Instant::now()));
                Err("still counting".to_owned())
            }
        }
    })
    .unwrap()
}

/// `qnctl drops --follow`, line by line.
struct Follower {
    child: Child,
    lines: mpsc::Receiver<Value>,
}

impl Follower {
    fn start(net: &Net, args: &[&str]) -> Self {
        let address = format!("unix:{}", net.lab.api_socket(2).display());
        let mut child = Command::new(env!("CARGO_BIN_EXE_qnctl"))
            .args(["--controller", &address, "drops", "--follow", "-o", "json"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The packets of drops that `wanted` likes, as soon as there are so many.
    fn wait(&self, wanted: impl Fn(&Value) -> bool, packets: u64) {
        let mut seen = 0;
        while seen < packets {
            let answer =
                self.lines.recv_timeout(WITHIN).unwrap_or_else(|error| panic!("{seen} seen: {error}"));
            for drop in answer["drops"].as_array().into_iter().flatten().filter(|drop| wanted(drop)) {
                seen += drop["packets"].as_str().unwrap().parse::<u64>().unwrap();
            }
        }
        assert_eq!(seen, packets);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn rules_and_drops_are_counted() {
    let net = Net::up("counters", 2);
    net.apply(GROUPS);
    let [a, b, _c] = [("a", 1), ("b", 1), ("c", 2)].map(|(port, hypervisor)| {
        let vm = net.vm(hypervisor, port);
        let addresses = net.get("port", port);
        vm.add_address(&format!("{}/24", text(&addresses, "/status/addresses/0"))).unwrap();
        vm
    });
    a.wait_reachable(ip("10.0.0.13"), WITHIN).unwrap();
    let echo = settled(&net, "echo", "allow-related");
    assert!(echo.packets > 0);

    // What passes: each request, established or not, and no reply.
    let options = PingOptions { count: 7, ..PingOptions::default() };
    let ping = a.ping(ip("10.0.0.13"), &options).unwrap();
    assert!(ping.all_answered(), "{ping:?}");
    let after = wait_packets(&net, "echo", "allow-related", echo.packets + u64::from(ping.sent));
    assert!(after.bytes > echo.bytes && after.last > echo.last, "{} {}", after.bytes, after.last);

    // What does not: by the group's default, on the hypervisor of who is protected.
    let before = settled(&net, "default-ingress", "drop").packets;
    let follower = Follower::start(&net, &[]);
    let other = Follower::start(&net, &["--port", "a"]);
    let ping = b.ping(ip("10.0.0.13"), &PingOptions { count: 5, ..PingOptions::default() }).unwrap();
    assert!(ping.none_answered(), "{ping:?}");
    let denied = wait_packets(&net, "default-ingress", "drop", before + u64::from(ping.sent));
    follower.wait(
        |drop| {
            drop["reason"] == "acl"
                && drop["node"] == "hv2"
                && drop["table"] == "ToPolicy"
                && text(drop, "/by/name") == "pinged"
                && text(drop, "/by/part") == "default-ingress"
        },
        u64::from(ping.sent),
    );
    let lines: Vec<Value> = other.lines.try_iter().collect();
    assert!(lines.iter().all(|answer| answer.get("drops").is_none()), "no rule of a's: {lines:?}");
    let described = net.qnctl(&["describe", "sg", "pinged"]);
    assert!(described.contains("default-ingress") && described.contains("LAST HIT"), "{described}");
    let counted = net.metric(Daemon::Agent(2), "quantumnet_agent_drops_total").unwrap();
    assert!(counted >= denied.packets as f64, "{counted}");

    // The connection of who is pinged is one of its zone.
    wait_ok(3 * WITHIN, "the connection to be counted", || {
        a.ping(ip("10.0.0.13"), &PingOptions { count: 1, ..PingOptions::default() }).unwrap();
        match net.metric(Daemon::Agent(2), "quantumnet_agent_conntrack_zone_connections") {
            Some(connections) if connections > 0.0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .unwrap();

    // A rule beside it leaves its count alone.
    let echo = settled(&net, "echo", "allow-related");
    net.apply(
        "kind: SecurityGroup
metadata: { name: pinged }
spec:
  rules:
    - { name: echo, protocol: icmp, remote_prefix: 10.0.0.11 }
    - { name: none, protocol: icmp, remote_prefix: 10.0.0.11, action: DROP, priority: 9 }
",
    );
    let ping = a.ping(ip("10.0.0.13"), &PingOptions::default()).unwrap();
    assert!(ping.all_answered(), "{ping:?}");
    wait_packets(&net, "echo", "allow-related", echo.packets + u64::from(ping.sent));

    // So does an agent that begins anew, of flows that are still there.
    net.lab.restart(Daemon::Agent(1), Signal::SIGKILL).unwrap();
    wait_packets(&net, "default-ingress", "drop", denied.packets);
    net.lab.restart(Daemon::Agent(2), Signal::SIGKILL).unwrap();
    let kept = wait_packets(&net, "default-ingress", "drop", denied.packets);
    assert_eq!(kept.last, "", "when is not known to the new agent");
    let ping = b.ping(ip("10.0.0.13"), &PingOptions { count: 2, ..PingOptions::default() }).unwrap();
    let more = wait_packets(&net, "default-ingress", "drop", denied.packets + u64::from(ping.sent));
    assert!(more.last > denied.last, "{} after {}", more.last, denied.last);
}
