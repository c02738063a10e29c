//! QoS rules, meters, queues and mirrors on real switches, set as OVN's clients do.

use std::{
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use quantumnet_testbed::{Daemon, Node, Signal, Vm, wait_ok, wait_until};
use serde_json::{Value, json};

use crate::{
    filters::nbctl,
    restarts::{finish, streams},
    support::{Net, ip},
};

const WITHIN: Duration = Duration::from_secs(20);

/// The switch `sw` with the ports p1 on hypervisor 1, p2 and p3 on hypervisor 2, and their VMs at 10.0.0.1 to 3.
fn switch(purpose: &str) -> (Net, [Vm; 3]) {
    let net = Net::up(purpose, 2);
    nbctl(&net, &["ls-add", "sw"]);
    let vms = [("a", 1u16, 1u8), ("b", 2, 2), ("m", 2, 3)].map(|(name, hypervisor, number)| {
        let (port, mac) = (format!("p{number}"), format!("0a:00:00:00:00:0{number}"));
        let addresses = format!("{mac} 10.0.0.{number}");
        nbctl(&net, &["lsp-add", "sw", &port, "--", "lsp-set-addresses", &port, &addresses]);
        let vm = net.lab.add_vm(hypervisor, name, &port, &mac).unwrap();
        vm.add_address(&format!("10.0.0.{number}/24")).unwrap();
        vm
    });
    nbctl(&net, &["sync"]);
    vms[0].wait_reachable(ip("10.0.0.2"), WITHIN).unwrap();
    (net, vms)
}

/// What Debian's ovn-nbctl has no words for.
pub(crate) fn transact(net: &Net, operations: Vec<Value>) {
    let mut request = vec![json!("OVN_Northbound")];
    request.extend(operations);
    let remotes = net.lab.nb_remotes().unwrap();
    let remote = remotes.split(',').next().unwrap();
    let done =
        net.lab.exec("net", ["ovsdb-client", "transact", remote, &Value::from(request).to_string()]).unwrap();
    assert!(done.ok() && !done.stdout.contains("error"), "{done:?}");
    nbctl(net, &["sync"]);
}

/// A mirror of port p1.
fn mirror(net: &Net, name: &str, kind: &str, filter: &str, sink: &str) {
    let row = json!({ "name": name, "type": kind, "filter": filter, "sink": sink, "index": 5 });
    transact(
        net,
        vec![
            json!({ "op": "insert", "table": "Mirror", "uuid-name": "mirror", "row": row }),
            json!({ "op": "mutate", "table": "Logical_Switch_Port", "where": [["name", "==", "p1"]],
                "mutations": [["mirror_rules", "insert", ["named-uuid", "mirror"]]] }),
        ],
    );
}

/// Waits until a column of the switch database of a hypervisor is as wanted.
fn wait_vsctl(net: &Net, hypervisor: u16, command: &[&str], what: &str, wanted: impl Fn(&str) -> bool) {
    let host = net.lab.hypervisor(hypervisor).unwrap();
    wait_ok(WITHIN, what, || {
        let text = host.ovs_vsctl(command.iter().copied()).map_err(|error| error.to_string())?;
        if wanted(text.trim()) { Ok(()) } else { Err(text) }
    })
    .unwrap();
}

fn meters(net: &Net, hypervisor: u16) -> String {
    let host = net.lab.hypervisor(hypervisor).unwrap();
    host.ovs_ofctl(["-O", "OpenFlow13", "dump-meters", "br-int"]).unwrap()
}

/// What came of many datagrams that were sent at once.
#[derive(Debug)]
struct Blast {
    datagrams: usize,
    took: Duration,
}

const SENT: usize = 400;
const AT_ONCE: usize = 10;
const LOST_AFTER: Duration = Duration::from_millis(50);
/// With its headers a datagram has some more octets.
const PAYLOAD: usize = 1_000;

impl Blast {
    /// How many pass a meter of so many kilobits a second, with a burst; and half as many again, for its ticks are coarse.
    fn at_most(&self, rate: u64, burst: u64) -> usize {
        let bits = (burst * 1_000) as f64 + self.took.as_secs_f64() * (rate * 1_000) as f64;
        (bits * 1.5 / (PAYLOAD * 8) as f64) as usize
    }
}

fn blast(from: &Vm, to: &Vm) -> Blast {
    let address: SocketAddr = (ip("10.0.0.2"), 9).into();
    let receiver = to.netns().within(move || UdpSocket::bind(address)).unwrap().unwrap();
    let sender = from.netns().within(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    receiver.set_read_timeout(Some(LOST_AFTER)).unwrap();
    let started = Instant::now();
    let mut datagrams = 0;
    // No more at once than fits the queues on the way.
    for _ in 0..SENT / AT_ONCE {
        for _ in 0..AT_ONCE {
            sender.send_to(&[0; PAYLOAD], address).unwrap();
        }
        datagrams += (0..AT_ONCE).take_while(|_| receiver.recv(&mut [0; PAYLOAD]).is_ok()).count();
    }
    Blast { datagrams, took: started.elapsed() }
}

#[test]
fn packets_are_marked_and_limited() {
    let (net, [a, b, _]) = switch("qos");
    let seen = b.capture("icmp").unwrap();
    nbctl(&net, &["qos-add", "sw", "from-lport", "100", "inport == \"p1\" && ip4", "dscp=30"]);
    a.wait_reachable(ip("10.0.0.2"), WITHIN).unwrap();
    seen.wait_for("tos 0x78", WITHIN).unwrap();
    drop(seen);

    // Of two rules the one of higher priority applies, also when it comes later.
    let seen = b.capture("icmp").unwrap();
    nbctl(&net, &["create", "Address_Set", "name=far", "addresses=10.0.0.2"]);
    nbctl(&net, &["qos-add", "sw", "from-lport", "200", "ip4.dst == $far", "dscp=10"]);
    a.wait_reachable(ip("10.0.0.2"), WITHIN).unwrap();
    seen.wait_for("tos 0x28", WITHIN).unwrap();
    drop(seen);

    let unlimited = blast(&a, &b);
    assert!(unlimited.datagrams > SENT / 2, "of {SENT} came {}", unlimited.datagrams);
    let limited = "outport == \"p2\" && udp";
    nbctl(&net, &["qos-add", "sw", "to-lport", "100", limited, "rate=100", "burst=50"]);
    let rate = |text: &str| text.contains("kbps") && text.contains("rate=100 burst_size=50");
    assert!(rate(&meters(&net, 2)), "{}", meters(&net, 2));
    let limited = blast(&a, &b);
    assert!((1..=limited.at_most(100, 50)).contains(&limited.datagrams), "{limited:?}");

    // A restart finds the meter as it is, and what is not limited loses nothing.
    let before = meters(&net, 2);
    let other = streams(&a, &["10.0.0.3"]);
    net.lab.restart(Daemon::Agent(2), Signal::SIGKILL).unwrap();
    nbctl(&net, &["sync"]);
    for report in finish(other) {
        assert_eq!(report.lost(), 0, "{report:?}");
    }
    assert_eq!(meters(&net, 2), before);

    let seen = b.capture("icmp").unwrap();
    nbctl(&net, &["qos-del", "sw"]);
    assert!(!rate(&meters(&net, 2)), "{}", meters(&net, 2));
    let unlimited = blast(&a, &b);
    assert!(unlimited.datagrams > SENT / 2, "of {SENT} came {}", unlimited.datagrams);
    a.wait_reachable(ip("10.0.0.2"), WITHIN).unwrap();
    seen.wait_for("tos 0x0", WITHIN).unwrap();
}

#[test]
fn a_port_is_mirrored_to_another_hypervisors_port_and_by_the_switch() {
    let (net, [a, b, m]) = switch("mirrors");
    mirror(&net, "to-port", "lport", "both", "p3");
    let copies = m.capture("icmp").unwrap();
    a.wait_reachable(ip("10.0.0.2"), WITHIN).unwrap();
    copies.wait_for("10.0.0.1 > 10.0.0.2", WITHIN).unwrap();
    copies.wait_for("10.0.0.2 > 10.0.0.1", WITHIN).unwrap();
    drop(copies);

    // Rules choose: what is for p2 is not copied, the rest is.
    transact(
        &net,
        vec![
            json!({ "op": "insert", "table": "Mirror_Rule", "uuid-name": "rule",
                "row": { "match": "ip4.dst == 10.0.0.2", "action": "skip", "priority": 100 } }),
            json!({ "op": "mutate", "table": "Mirror", "where": [["name", "==", "to-port"]],
                "mutations": [["mirror_rules", "insert", ["named-uuid", "rule"]]] }),
        ],
    );
    let copies = m.capture("icmp").unwrap();
    b.wait_reachable(ip("10.0.0.1"), WITHIN).unwrap();
    copies.wait_for("10.0.0.2 > 10.0.0.1", WITHIN).unwrap();
    let text = copies.stop().unwrap();
    assert!(!text.contains("10.0.0.1 > 10.0.0.2"), "{text}");

    let host = net.lab.hypervisor(1).unwrap();
    host.ovs_vsctl(
        "add-port br-int sink -- set Interface sink type=internal external_ids:mirror-id=here".split(' '),
    )
    .unwrap();
    mirror(&net, "to-remote", "gre", "from-lport", "192.0.2.9");
    mirror(&net, "to-here", "local", "to-lport", "here");
    let options = ["get", "Interface", "ovn-to-remote", "options"];
    wait_vsctl(&net, 1, &options, "the tunnel of a mirror", |text| {
        text == "{key=\"5\", remote_ip=\"192.0.2.9\"}"
    });
    let port = host.ovs_vsctl(["get", "Port", a.switch_interface(), "_uuid"]).unwrap();
    for (name, selects, not) in [
        ("to-remote", "select_src_port", "select_dst_port"),
        ("to-here", "select_dst_port", "select_src_port"),
    ] {
        let wanted = format!("[{}]", port.trim());
        wait_vsctl(&net, 1, &["get", "Mirror", name, selects], "a mirror to select the port", |text| {
            text == wanted
        });
        assert_eq!(host.ovs_vsctl(["get", "Mirror", name, not]).unwrap().trim(), "[]");
    }
    let rows = || host.ovs_vsctl(["--columns=_uuid,name,output_port", "list", "Mirror"]).unwrap();
    let before = rows();
    net.lab.restart(Daemon::Agent(1), Signal::SIGKILL).unwrap();
    nbctl(&net, &["sync"]);
    assert_eq!(rows(), before, "a restart finds its mirrors");

    nbctl(&net, &["clear", "Logical_Switch_Port", "p1", "mirror_rules"]);
    wait_vsctl(&net, 1, &["list", "Mirror"], "no mirror", str::is_empty);
    wait_vsctl(&net, 1, &["list-ports", "br-int"], "no tunnel of one", |text| {
        !text.contains("ovn-to-remote")
    });
}

/// The sink is the other hypervisor, whose link is listened to: no interface there takes the copies.
#[test]
fn copies_reach_a_sink_in_tunnels() {
    let (net, [a, _b, _m]) = switch("sinks");
    let sink = net.lab.spec().unwrap().tunnel_addresses(2)[0].to_string();
    // From 10.0.0.1 to 10.0.0.2, as octets.
    let inner = "0a0000010a000002";
    for (kind, outer) in [("gre", "key=0x5, proto TEB"), ("erspan", "88be")] {
        mirror(&net, kind, kind, "from-lport", &sink);
        let tunnel = format!("ovn-{kind}");
        wait_vsctl(&net, 1, &["get", "Interface", &tunnel, "ofport"], "the tunnel of a mirror", |text| {
            text.parse().is_ok_and(|number: u32| number > 0)
        });
        let copies = net.lab.capture(Node::Hypervisor(2), "eth0", "-x ip proto 47").unwrap();
        a.wait_reachable(ip("10.0.0.2"), WITHIN).unwrap();
        copies.wait_for(outer, WITHIN).unwrap();
        wait_ok(WITHIN, "a copy of the packet", || {
            let text = copies.text().map_err(|error| error.to_string())?;
            if octets(&text).contains(inner) { Ok(()) } else { Err(text) }
        })
        .unwrap();
        nbctl(&net, &["clear", "Logical_Switch_Port", "p1", "mirror_rules"]);
        wait_vsctl(&net, 1, &["list", "Mirror"], "no mirror", str::is_empty);
    }
}

/// The packets of a capture with `-x`, one after the other.
fn octets(text: &str) -> String {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("0x")?.split_once(':'));
    lines.flat_map(|(_, line)| line.chars().filter(|letter| letter.is_ascii_hexdigit())).collect()
}

#[test]
fn shaped_ports_have_queues_at_the_way_out() {
    let (net, [_a, _b, _]) = switch("queues");
    let host = net.lab.hypervisor(1).unwrap();
    let out = host.ovs_vsctl(["list-ports", "br-ex"]).unwrap();
    let out = out.lines().find(|name| !name.starts_with("patch-")).unwrap().to_owned();
    nbctl(
        &net,
        &[
            "lsp-add",
            "sw",
            "ln",
            "--",
            "lsp-set-type",
            "ln",
            "localnet",
            "--",
            "lsp-set-options",
            "ln",
            "network_name=physnet1",
        ],
    );
    nbctl(&net, &["lsp-set-options", "p1", "qos_max_rate=2000000", "qos_burst=400000"]);
    // Until it is known where.
    wait_ok(WITHIN, "the port to be named as not shaped", || {
        let status = net.qnctl(&["status"]);
        if status.contains("port p1 is not shaped") { Ok(()) } else { Err(status) }
    })
    .unwrap();
    host.ovs_vsctl(["set", "Interface", &out, "external_ids:ovn-egress-iface=true"]).unwrap();
    wait_vsctl(&net, 1, &["--bare", "--columns=other_config", "list", "Queue"], "the queue", |text| {
        text == "burst=400000 max-rate=2000000"
    });
    let kind = || host.ovs_vsctl(["--bare", "--columns=type", "list", "QoS"]).unwrap();
    assert_eq!(kind().trim(), "linux-htb");
    nbctl(&net, &["sync"]);
    let flows = host.flows("br-int").unwrap();
    assert!(flows.iter().any(|flow| flow.contains("set_queue:1")), "{flows:#?}");
    nbctl(&net, &["lsp-set-options", "p1", "qos_max_rate=3000000"]);
    wait_vsctl(&net, 1, &["--bare", "--columns=other_config", "list", "Queue"], "the new rate", |text| {
        text == "max-rate=3000000"
    });
    nbctl(&net, &["lsp-set-options", "p1"]);
    wait_vsctl(&net, 1, &["list", "QoS"], "no QoS", str::is_empty);
    wait_vsctl(&net, 1, &["list", "Queue"], "no queue", str::is_empty);
}

/// A router that looks for many hosts at once, limited to one packet a second for that.
#[test]
fn what_a_router_hands_to_the_agent_is_limited() {
    let (net, [a, b, _m]) = switch("copp");
    let router = ["--", "lrp-add", "r", "r-sw", "0a:ff:00:00:00:01", "10.0.0.254/24"];
    let other = ["--", "lrp-add", "r", "r-other", "0a:ff:00:00:00:02", "10.9.0.254/24"];
    nbctl(&net, &[&["lr-add", "r"], &router[..], &other].concat());
    nbctl(
        &net,
        &["ls-add", "other", "--", "lsp-add", "other", "p9", "--", "lsp-set-addresses", "p9", "unknown"],
    );
    for (switch, port) in [("sw", "r-sw"), ("other", "r-other")] {
        let side = format!("{switch}-r");
        let options = format!("router-port={port}");
        let add = ["lsp-add", switch, &side, "--", "lsp-set-type", &side, "router"];
        let set = ["--", "lsp-set-addresses", &side, "router", "--", "lsp-set-options", &side, &options];
        nbctl(&net, &[&add[..], &set].concat());
    }
    let listener = net.lab.add_vm(2, "listener", "p9", "0a:00:00:00:00:09").unwrap();
    nbctl(&net, &["sync"]);
    a.set_default_route(ip("10.0.0.254")).unwrap();
    a.wait_reachable(ip("10.0.0.254"), WITHIN).unwrap();

    let asked = listener.capture("arp").unwrap();
    look_for_hosts(&a, 1);
    let all = |first: usize| wait_until(WITHIN, "all to be asked for", || asked_for(&asked, first) == HOSTS);
    all(1).unwrap();
    nbctl(&net, &["meter-add", "slow", "drop", "1", "pktps", "1"]);
    nbctl(&net, &["copp-add", "limits", "arp-resolve", "slow", "--", "lr-copp-add", "limits", "r"]);
    let stopped = || {
        let text = net.lab.hypervisor(1).unwrap().ovs_ofctl(["-O", "OpenFlow13", "meter-stats", "br-int"]);
        let text = text.unwrap();
        let counts = text.lines().filter_map(|line| line.trim().strip_prefix("0: packet_count:"));
        counts.map(|rest| rest.split(' ').next().unwrap().parse::<usize>().unwrap()).sum::<usize>()
    };
    assert_eq!(stopped(), 0, "nothing else is limited here");
    look_for_hosts(&a, 100);
    wait_ok(WITHIN, "the meter to have stopped most", || match stopped() {
        count if count > HOSTS / 2 => Ok(()),
        count => Err(format!("{count} of {HOSTS}")),
    })
    .unwrap();
    // Other packets are not of that protocol.
    b.set_default_route(ip("10.0.0.254")).unwrap();
    assert!(a.ping(ip("10.0.0.254"), &quantumnet_testbed::PingOptions::default()).unwrap().all_answered());
    assert!((1..HOSTS).contains(&asked_for(&asked, 100)), "{}", asked_for(&asked, 100));
    nbctl(&net, &["clear", "Logical_Router", "r", "copp"]);
    look_for_hosts(&a, 200);
    all(200).unwrap();
}

/// Hosts that are looked for at once.
const HOSTS: usize = 50;

fn hosts(first: usize) -> impl Iterator<Item = String> {
    (first..first + HOSTS).map(|place| format!("10.9.0.{place}"))
}

/// Sends to addresses that nobody has, from the `first` on.
fn look_for_hosts(from: &Vm, first: usize) {
    let sender = from.netns().within(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    for host in hosts(first) {
        sender.send_to(&[0; 8], (ip(&host), 9)).unwrap();
    }
}

/// How many of them a router has asked for.
fn asked_for(seen: &quantumnet_testbed::Capture, first: usize) -> usize {
    let text = seen.text().unwrap();
    hosts(first).filter(|host| text.contains(&format!("who-has {host} "))).count()
}
