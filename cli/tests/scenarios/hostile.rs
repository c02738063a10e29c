//! Guests and peers that mean no good, and users who err.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use quantumnet_testbed::{Daemon, DhcpKind, DhcpRequest, Flood, PingOptions, Signal, Underlay, VmSpec};
use serde_json::Value;

use crate::support::{Net, ip, pair, text};

#[test]
fn no_frame_passes_before_the_agents_first_bundle() {
    let net = Net::up("closed", 1);
    net.apply(&pair("b", 12));
    let (a, b) = (net.vm(1, "a"), net.vm(1, "b"));
    a.add_address("10.0.0.11/24").unwrap();
    b.add_address("10.0.0.12/24").unwrap();
    // Agent gone, its disk gone, the bridge gone: what the agent then makes must be closed from its first moment.
    net.lab.stop(Daemon::Agent(1), Signal::SIGKILL).unwrap();
    net.lab.stop_controllers(Signal::SIGKILL).unwrap();
    let host = net.lab.hypervisor(1).unwrap();
    let state = net.lab.folder().join("hv1").join("agent");
    assert!(state.is_dir(), "{} is where the agent keeps its state", state.display());
    std::fs::remove_dir_all(&state).unwrap();
    host.ovs_vsctl(["del-br", "br-int"]).unwrap();
    net.lab.start(Daemon::Agent(1)).unwrap();
    net.lab.plug_vm("a").unwrap();
    net.lab.plug_vm("b").unwrap();
    assert_eq!(host.ovs_vsctl(["get", "Bridge", "br-int", "fail_mode"]).unwrap().trim(), "secure");
    let options = PingOptions { count: 20, ..PingOptions::default() };
    let result = a.ping(ip("10.0.0.12"), &options).unwrap();
    assert!(result.none_answered(), "an agent that knows no rows let packets pass: {result:?}");
    net.lab.start_controllers().unwrap();
    a.wait_reachable(ip("10.0.0.12"), Duration::from_secs(10)).unwrap();
}

#[test]
fn an_open_bridge_is_refused() {
    let net = Net::up("standalone", 1);
    net.lab.stop(Daemon::Agent(1), Signal::SIGTERM).unwrap();
    let host = net.lab.hypervisor(1).unwrap();
    host.ovs_vsctl(["del-fail-mode", "br-int"]).unwrap();
    net.lab.start(Daemon::Agent(1)).unwrap();
    quantumnet_testbed::wait_until(Duration::from_secs(10), "the agent to complain", || {
        let nodes = net.qnctl(&["get", "nodes", "-o", "json"]);
        nodes.contains("fail_mode") || net.lab.log(Daemon::Agent(1)).unwrap().contains("fail_mode")
    })
    .unwrap();
    assert_eq!(host.ovs_vsctl(["get", "Bridge", "br-int", "fail_mode"]).unwrap().trim(), "[]");
}

#[test]
fn a_flooding_vm_neither_delays_others_nor_fills_the_log() {
    let (net, [a, b, _c]) = Net::three_vms("flood");
    net.apply(
        "{kind: Port, metadata: {name: a}, spec: {network: net, receive_unknown: true, port_security_disabled: true}}",
    );
    let entries = |net: &Net| {
        net.metric(Daemon::Controller(1), "quantumnet_controller_raft_applied_index")
            .expect("the index is a metric")
    };
    let arp = Flood::Arp { sender: "10.0.0.11".parse().unwrap(), network: "10.0.0.0".parse().unwrap() };
    for (flood, count) in [(Flood::RandomMac, 100_000), (arp, 20_000), (Flood::DhcpDiscover, 20_000)] {
        let (before, started) = (entries(&net), Instant::now());
        let answered = std::thread::scope(|scope| {
            let running = scope.spawn(|| a.flood(&flood, count).unwrap());
            let mut answered = 0;
            while !running.is_finished() || answered < 5 {
                let request = DhcpRequest::new(DhcpKind::Discover, 0x1000 + answered);
                let reply = b.dhcp_raw(&request, Duration::from_millis(100)).unwrap();
                assert!(reply.is_some(), "{flood:?}: another port's DHCP had no answer within 100 ms");
                answered += 1;
            }
            assert_eq!(running.join().unwrap(), u64::from(count));
            answered
        });
        let rate = (entries(&net) - before) / started.elapsed().as_secs_f64().max(1.0);
        assert!(answered >= 5 && rate < 100.0, "{flood:?}: {rate:.0} log entries a second");
    }
}

#[test]
fn two_hosts_that_claim_one_port_are_named_and_do_not_fight() {
    let (net, [_a, b, _c]) = Net::three_vms("twohosts");
    let port = net.get("port", "b");
    let twin = VmSpec {
        name: "twin".into(),
        iface_id: text(&port, "/meta/id"),
        mac: b.mac().into(),
        ..VmSpec::default()
    };
    net.lab.add_vm_with(2, &twin).unwrap();
    net.wait_port("b", "claimed by two", |port| {
        port["status"]["contenders"].as_array().is_some_and(|names| names.len() == 2)
    });
    assert!(net.qnctl(&["problems"]).contains("hv1"), "{}", net.qnctl(&["problems"]));
    // Nobody fights: after the change of hands the revision stands still.
    let revision = |net: &Net| {
        let status: Value = serde_json::from_str(&net.qnctl(&["status", "-o", "json"])).unwrap();
        text(&status, "/cluster/revision").parse::<u64>().unwrap()
    };
    let start = (Instant::now(), revision(&net));
    quantumnet_testbed::wait_until(Duration::from_secs(10), "three quiet seconds", || {
        start.0.elapsed() > Duration::from_secs(5)
    })
    .unwrap();
    let changes = revision(&net) - start.1;
    assert!(changes <= 3, "{changes} revisions in five seconds: the hosts fight over the port");
    net.lab.remove_vm("twin").unwrap();
    net.wait_port("b", "claimed by hv1 alone", |port| {
        text(port, "/status/chassis") == "hv1"
            && port["status"]["contenders"].as_array().is_none_or(Vec::is_empty)
    });
    assert!(net.qnctl(&["problems"]).contains("no problems"));
}

#[test]
fn what_users_get_wrong_is_said_and_nothing_is_lost() {
    let net = Net::up("mistakes", 1);
    net.apply("{kind: VirtualNetwork, metadata: {name: net}, spec: {subnets: [{cidr: 10.0.0.0/29}]}}");
    net.apply("{kind: Port, metadata: {name: a}, spec: {network: net, addresses: [10.0.0.2], mac: '0a:00:00:00:00:01'}}");
    let network = |subnets: &str| {
        format!("{{kind: VirtualNetwork, metadata: {{name: other}}, spec: {{subnets: [{subnets}]}}}}")
    };
    let port = |name: &str, spec: &str| {
        format!("{{kind: Port, metadata: {{name: {name}}}, spec: {{network: net{spec}}}}}")
    };
    let cases = [
        (network("{cidr: 10.1.0.0/24}, {cidr: 10.1.0.128/25}"), "overlap"),
        (network("{cidr: 10.1.0.1/24}"), "did you mean 10.1.0.0/24"),
        (network("{cidr: 10.1.0.0/24, gateway: 10.2.0.1}"), "10.2.0.1"),
        (port("b", ", addresses: [10.9.9.9]"), "10.9.9.9"),
        (port("b", ", addresses: [10.0.0.2]"), "10.0.0.2"),
        (port("b", ", mac: '0a:00:00:00:00:01'"), "0a:00:00:00:00:01"),
        (port("b", ", mac: nonsense"), "nonsense"),
        (port(&"x".repeat(64), ""), "63"),
        (port("b", ", colour: green"), "colour"),
        ("{kind: Port, metadata: {name: b}, spec: {network: nowhere}}".to_owned(), "nowhere"),
    ];
    for (document, word) in cases {
        let message = net.apply_refused(&document);
        assert!(message.contains(word), "{document}\nsays {message}\nand not {word}");
    }
    for name in ["p1", "p2", "p3", "p4", "p5"] {
        if let Err(message) = net.qnctl_with(&["apply", "-f", "-"], &port(name, "")) {
            assert!(message.contains("10.0.0.0/29"), "{message}");
            assert_eq!(
                name, "p5",
                "a /29 has 6 addresses of which one is in use and one is the DHCP server's: {message}"
            );
        }
    }
    let message = net.qnctl_with(&["delete", "network", "net"], "").unwrap_err();
    assert!(message.contains("p1"), "what blocks the deletion is named: {message}");
    assert_eq!(text(&net.get("port", "a"), "/meta/name"), "a");
}

#[test]
fn garbage_on_a_listening_port_harms_nobody() {
    let net = Net::up("garbage", 1);
    let socket = net.lab.api_socket(1);
    let raw = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        // The server may hang up in the middle: that is one right answer.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let noise: Vec<u8> = (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    raw(&noise);
    raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff");
    let post = |body: &[u8]| {
        let head = format!(
            "POST /quantumnet.v1.ProjectService/CreateProject HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        raw(&[head.as_bytes(), body].concat())
    };
    let large =
        post(format!("{{\"project\":{{\"meta\":{{\"name\":\"{}\"}}}}}}", "x".repeat(10 << 20)).as_bytes());
    assert!(
        large.starts_with("HTTP/1.1 413") || large.contains("too large"),
        "{}",
        &large[..large.len().min(300)]
    );
    let deep = post(format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)).as_bytes());
    assert!(deep.starts_with("HTTP/1.1 400"), "{}", &deep[..deep.len().min(300)]);
    assert!(post(b"{\"project\":{\"meta\":{\"name\":").starts_with("HTTP/1.1 400"));
    assert!(post(b"{\"projekt\":{}}").contains("projekt"));
    // The ports on the network: the API again, and the metrics of both daemons.
    let api = (Daemon::Controller(1), net.lab.api_address(1));
    let metrics = [Daemon::Controller(1), Daemon::Agent(1)]
        .map(|daemon| (daemon, net.lab.metrics_address(daemon).unwrap()));
    for (daemon, address) in [api].into_iter().chain(metrics) {
        let sent = noise.clone();
        let tried = net.lab.netns(daemon.node()).within(move || -> std::io::Result<()> {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            // As above, the server may hang up in the middle.
            let _ = stream.write_all(&sent);
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
            TcpStream::connect(address).map(drop)
        });
        tried.unwrap().unwrap_or_else(|error| panic!("{daemon} no longer listens on {address}: {error}"));
        assert!(net.lab.alive(daemon).unwrap());
    }
    assert!(net.qnctl(&["get", "projects"]).contains("default"), "the controller still answers");
    assert!(net.metric(Daemon::Agent(1), "quantumnet_agent_ovs_connected").is_some());
}

#[test]
fn a_dual_stack_underlay_uses_one_of_both() {
    let net = Net::with("dual", 2, |spec| spec.underlay = Underlay::Dual);
    net.apply(&pair("c", 13));
    let (a, c) = (net.vm(1, "a"), net.vm(2, "c"));
    a.dhcp(&Default::default()).unwrap();
    c.dhcp(&Default::default()).unwrap();
    a.wait_reachable(ip("10.0.0.13"), Duration::from_secs(5)).unwrap();
    let node = net.get("node", "hv1");
    assert_eq!(node["encaps"].as_array().map(Vec::len), Some(2), "{node}");
}
