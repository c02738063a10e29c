//! Samples of ACLs on a real switch: an IPFIX collector beside it hears of packets, by domain and point.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use quantumnet_testbed::{Vm, wait_ok};
use serde_json::{Value, json};

use crate::{
    filters::nbctl,
    qos::transact,
    support::{Net, ip},
};

const WITHIN: Duration = Duration::from_secs(20);
/// Of the collectors, in Open vSwitch and in the database.
const SET: u32 = 3;

/// A collector of IPFIX (RFC 7011) that a hypervisor sends to at once.
struct Collector {
    socket: UdpSocket,
    /// Templates of what is no sample: counters of the sender itself.
    others: BTreeSet<u16>,
    /// Domains and points of what was sampled.
    heard: BTreeSet<(u32, u32)>,
}

impl Collector {
    fn beside(net: &Net, hypervisor: u16) -> Self {
        let host = net.lab.hypervisor(hypervisor).unwrap();
        let socket = host.netns().within(|| UdpSocket::bind("127.0.0.1:0")).unwrap().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let targets = format!("targets=\"{}\"", socket.local_addr().unwrap());
        let (set, ipfix) =
            (format!("id={SET}"), ["--id=@ipfix", "create", "IPFIX", &targets, "cache_max_flows=0"]);
        let bridge = ["--", "--id=@bridge", "get", "Bridge", "br-int", "--"];
        let row = ["create", "Flow_Sample_Collector_Set", &set, "bridge=@bridge", "ipfix=@ipfix"];
        host.ovs_vsctl([&ipfix[..], &bridge, &row].concat()).unwrap();
        Self { socket, others: BTreeSet::new(), heard: BTreeSet::new() }
    }

    /// Waits for a sample.
    fn wait(&mut self, wanted: (u32, u32)) {
        wait_ok(WITHIN, &format!("a sample of {wanted:x?}"), || {
            let mut message = [0; 2_000];
            if let Ok(length) = self.socket.recv(&mut message) {
                self.read(&message[..length]);
            }
            if self.heard.contains(&wanted) { Ok(()) } else { Err(format!("heard of {:x?}", self.heard)) }
        })
        .unwrap();
    }

    /// Notes the observation domain and points of a message (RFC 7011, section 3).
    fn read(&mut self, message: &[u8]) {
        let short = |at: usize| u16::from_be_bytes(message[at..at + 2].try_into().unwrap());
        let long = |at: usize| u32::from_be_bytes(message[at..at + 4].try_into().unwrap());
        assert_eq!((short(0), usize::from(short(2))), (IPFIX_VERSION, message.len()), "{message:?}");
        let mut at = HEADER;
        while at < message.len() {
            match short(at) {
                // Of Open vSwitch's templates the point is the first field.
                TEMPLATES => assert_eq!(short(at + 8), OBSERVATION_POINT, "{message:?}"),
                OPTIONS_TEMPLATES => _ = self.others.insert(short(at + 4)),
                set if self.others.contains(&set) => {}
                _ => _ = self.heard.insert((long(12), long(at + 4))),
            }
            at += usize::from(short(at + 2)).max(4);
        }
    }
}

const IPFIX_VERSION: u16 = 10;
const HEADER: usize = 16;
/// Id of a set of templates.
const TEMPLATES: u16 = 2;
/// And of templates of what is told of the sender.
const OPTIONS_TEMPLATES: u16 = 3;
/// observationPointId (IANA, IPFIX Information Elements).
const OBSERVATION_POINT: u16 = 138;

fn datapath_key(net: &Net) -> u32 {
    let select = json!(["OVN_Southbound", { "op": "select", "table": "Datapath_Binding", "where": [],
        "columns": ["tunnel_key"] }]);
    let remote = format!("unix:{}", net.lab.sb_socket(1).display());
    let reply = net.lab.exec("net", ["ovsdb-client", "transact", &remote, &select.to_string()]).unwrap();
    let reply: Value = serde_json::from_str(&reply.stdout).unwrap_or_else(|_| panic!("{reply:?}"));
    reply
        .pointer("/0/rows/0/tunnel_key")
        .and_then(Value::as_u64)
        .and_then(|key| u32::try_from(key).ok())
        .unwrap()
}

fn socket(vm: &Vm, address: &str) -> UdpSocket {
    let address: SocketAddr = address.parse().unwrap();
    let socket = vm.netns().within(move || UdpSocket::bind(address)).unwrap().unwrap();
    socket.set_read_timeout(Some(WITHIN)).unwrap();
    socket
}

/// One rule lets UDP of a port pass, another stops some of it; each packet is told of by what it is to them.
#[test]
fn new_established_and_stopped_packets_are_told_of() {
    let net = Net::up("sampling", 1);
    nbctl(&net, &["ls-add", "sw"]);
    let [a, b] = [1u8, 2].map(|number| {
        let (port, mac) = (format!("p{number}"), format!("0a:00:00:00:00:0{number}"));
        let addresses = format!("{mac} 10.0.0.{number}");
        nbctl(&net, &["lsp-add", "sw", &port, "--", "lsp-set-addresses", &port, &addresses]);
        let vm = net.lab.add_vm(1, &port, &port, &mac).unwrap();
        vm.add_address(&format!("10.0.0.{number}/24")).unwrap();
        vm
    });
    nbctl(&net, &["sync"]);
    a.wait_reachable(ip("10.0.0.2"), WITHIN).unwrap();
    let mut collector = Collector::beside(&net, 1);

    let sample = |name: &str, metadata: u32| {
        json!({ "op": "insert", "table": "Sample", "uuid-name": name,
            "row": { "metadata": metadata, "collectors": ["named-uuid", "collector"] } })
    };
    let rule =
        |name: &str, row: Value| json!({ "op": "insert", "table": "ACL", "uuid-name": name, "row": row });
    let app = |kind: &str, id: u8| json!({ "op": "insert", "table": "Sampling_App", "row": { "type": kind, "id": id } });
    transact(
        &net,
        vec![
            app("acl-new", 42),
            app("acl-est", 43),
            json!({ "op": "insert", "table": "Sample_Collector", "uuid-name": "collector",
                "row": { "id": 1, "name": "all", "set_id": SET, "probability": 65_535 } }),
            sample("new", 501),
            sample("known", 502),
            sample("stopped", 503),
            rule(
                "lets",
                json!({ "direction": "from-lport", "priority": 1_000, "match": "inport == \"p1\" && udp",
                    "action": "allow-related", "sample_new": ["named-uuid", "new"], "sample_est": ["named-uuid", "known"] }),
            ),
            rule(
                "stops",
                json!({ "direction": "to-lport", "priority": 1_000, "match": "outport == \"p2\" && udp.dst == 7",
                    "action": "drop", "sample_new": ["named-uuid", "stopped"] }),
            ),
            json!({ "op": "mutate", "table": "Logical_Switch", "where": [["name", "==", "sw"]],
                "mutations": [["acls", "insert", ["set", [["named-uuid", "lets"], ["named-uuid", "stops"]]]]] }),
        ],
    );
    let key = datapath_key(&net);
    let (new, known) = (42 << 24 | key, 43 << 24 | key);
    let (client, server) = (socket(&a, "10.0.0.1:4000"), socket(&b, "10.0.0.2:9"));

    client.send_to(b"?", "10.0.0.2:9").unwrap();
    let (_, asking) = server.recv_from(&mut [0; 8]).unwrap();
    collector.wait((new, 501));
    assert_eq!(collector.heard, BTreeSet::from([(new, 501)]), "nothing is established yet");

    // A reply, and the next request: each by itself.
    server.send_to(b"!", asking).unwrap();
    client.recv_from(&mut [0; 8]).unwrap();
    collector.wait((known, 502));
    collector.heard.clear();
    client.send_to(b"?", "10.0.0.2:9").unwrap();
    server.recv_from(&mut [0; 8]).unwrap();
    collector.wait((known, 502));
    assert_eq!(collector.heard, BTreeSet::from([(known, 502)]), "nothing is new");

    collector.heard.clear();
    client.send_to(b"?", "10.0.0.2:7").unwrap();
    collector.wait((new, 503));
    collector.wait((new, 501));
}
