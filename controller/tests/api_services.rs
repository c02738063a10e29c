//! The API over a real server in this process: gRPC and JSON over HTTP.

#![allow(clippy::unwrap_used)] // in helpers of tests too: a panic is the test's failure

use std::{net::SocketAddr, sync::Arc, time::Duration};

use prost_reflect::DescriptorPool;
use quantumnet_api::v1::{
    CreatePortRequest, ListOptions, ListPortsRequest, ObjectMeta, ObjectRef, Port, PortSpec, WatchEventKind,
    WatchOptions, WatchPortsRequest, port_service_client::PortServiceClient,
};
use quantumnet_controller::{
    agents::AgentRegistry,
    lower,
    metrics::Metrics,
    replica::{self, Replica},
    service::{self, Admins, Kind, Peer, Policy, Principal, RpcStatus, Verb},
    store::{Class, Refusal},
};
use quantumnet_model::{
    Strong, Uuid,
    sb::{Chassis, ChassisInterface, Encap},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

const PATIENCE: Duration = Duration::from_secs(30);

struct Server {
    address: SocketAddr,
    replica: Replica,
    _directory: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        Self::start_with(Arc::new(Admins)).await
    }

    async fn start_with(policy: Arc<dyn Policy>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let replica = replica::start(replica::Options {
            data_dir: directory.path().to_owned(),
            member: 1,
            history_transactions_max: 1_000,
            snapshot_after_bytes: 64 << 20,
            lower: Arc::new(lower::run),
            observers: Vec::new(),
            metrics: Arc::new(Metrics::default()),
        })
        .unwrap();
        let mut applied = replica.applied();
        tokio::time::timeout(PATIENCE, applied.wait_for(|state| state.revision() > 0))
            .await
            .unwrap()
            .unwrap();
        let context = service::Context {
            replica: replica.clone(),
            agents: Arc::new(AgentRegistry::default()),
            policy,
            members: vec![(1, "127.0.0.1:1".into())],
        };
        let routes = service::routes(context).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            axum::serve(listener, routes.into_make_service_with_connect_info::<Peer>()).await.unwrap();
        });
        Self { address, replica, _directory: directory }
    }

    /// One JSON call: HTTP status and body.
    async fn post(&self, method: &str, body: &Value) -> (u16, Value) {
        self.post_as(method, body, "").await
    }

    async fn post_as(&self, method: &str, body: &Value, headers: &str) -> (u16, Value) {
        let body = body.to_string();
        let request = format!(
            "POST /quantumnet.v1.{method} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let text = self.raw(request.as_bytes()).await;
        let status = text.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, serde_json::from_str(body).unwrap_or_else(|_| Value::String(text.clone())))
    }

    async fn raw(&self, request: &[u8]) -> String {
        self.exchange(request, false).await
    }

    /// `closing`: the client says no more, which the server takes as its leaving.
    async fn exchange(&self, request: &[u8], closing: bool) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The server may close before it has read all of a body that is too large.
        _ = stream.write_all(request).await;
        if closing {
            _ = stream.shutdown().await;
        }
        let mut answer = Vec::new();
        _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .expect("the server answers or closes");
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn ok(&self, method: &str, body: Value) -> Value {
        let (status, answer) = self.post(method, &body).await;
        assert_eq!(status, 200, "{method} {body}: {answer}");
        answer
    }

    async fn refused(&self, method: &str, body: Value) -> (u16, String, String, String) {
        let (status, answer) = self.post(method, &body).await;
        let text =
            |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        assert_ne!(status, 200, "{method} {body}: {answer}");
        (status, text("/error/reason"), text("/error/field"), text("/message"))
    }

    async fn network(&self, name: &str, cidr: &str) -> Value {
        let spec = json!({ "subnets": [{ "cidr": cidr }] });
        self.ok(
            "VirtualNetworkService/CreateVirtualNetwork",
            json!({ "network": { "meta": { "name": name }, "spec": spec } }),
        )
        .await
    }

    async fn port(&self, name: &str, network: &str) -> Value {
        let spec = json!({ "network": { "name": network } });
        self.ok("PortService/CreatePort", json!({ "port": { "meta": { "name": name }, "spec": spec } })).await
    }
}

struct Nobody;

impl Policy for Nobody {
    fn authorize(&self, _: &Principal, _: &str, _: Verb, _: Kind) -> Result<(), Refusal> {
        Err(Refusal::service(Class::PermissionDenied, "NOBODY", "nobody may do anything"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_passes_the_door() {
    let server = Server::start_with(Arc::new(Nobody)).await;
    let pool = DescriptorPool::decode(quantumnet_api::DESCRIPTOR_SET).unwrap();
    let mut methods = 0;
    for service in pool.services().filter(|service| service.name() != "AgentService") {
        for method in service.methods() {
            let (status, answer) =
                server.post(&format!("{}/{}", service.name(), method.name()), &json!({})).await;
            assert_eq!(
                (status, &answer["error"]["reason"]),
                (403, &json!("NOBODY")),
                "{}: {answer}",
                method.full_name()
            );
            methods += 1;
        }
    }
    assert_eq!(methods, 27);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_network_and_its_ports() {
    let server = Server::start().await;
    let project = server
        .ok(
            "ProjectService/CreateProject",
            json!({ "project": { "meta": { "name": "shop", "labels": { "tier": "1" } } } }),
        )
        .await;
    assert_eq!(project["meta"]["labels"]["tier"], "1");
    let network = server
        .ok(
            "VirtualNetworkService/CreateVirtualNetwork",
            json!({ "network": {
                "meta": { "name": "web", "project": "shop" },
                "spec": { "subnets": [
                    { "cidr": "10.0.1.0/24", "gateway": "10.0.1.1", "dhcp": { "dnsServers": ["9.9.9.9"], "options": { "tftp_server": "10.0.1.9" } } },
                    { "cidr": "fd00:1::/64" },
                ] },
            } }),
        )
        .await;
    assert_eq!((&network["status"]["tunnelKey"], &network["status"]["mtu"]), (&json!(1), &json!(1_442)));
    let create = |name: &str, more: Value| {
        let mut spec = json!({ "network": { "name": "web" } });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "port": { "meta": { "name": name, "project": "shop" }, "spec": spec } })
    };
    let port = server.ok("PortService/CreatePort", create("vm-1", json!({}))).await;
    assert_eq!(port["status"]["addresses"], json!(["10.0.1.2", "fd00:1::1"]));
    assert!(port["status"]["mac"].as_str().unwrap().starts_with("0a:"));
    let fixed = json!({ "addresses": [{ "ip": "10.0.1.50" }], "mac": "0A:0:0:0:0:1", "hostname": "db" });
    let second = server.ok("PortService/CreatePort", create("vm-2", fixed)).await;
    assert_eq!(
        (&second["status"]["addresses"], &second["status"]["mac"]),
        (&json!(["10.0.1.50"]), &json!("0a:00:00:00:00:01"))
    );

    // What stands in the way is named.
    let refused = server
        .refused("PortService/CreatePort", create("vm-3", json!({ "addresses": [{ "ip": "10.0.1.50" }] })))
        .await;
    assert_eq!((refused.0, &*refused.1, &*refused.2), (409, "ADDRESS_IN_USE", "spec.addresses[0].ip"));
    assert!(refused.3.contains("Port vm-2"), "{}", refused.3);
    let refused =
        server.refused("PortService/CreatePort", create("vm-3", json!({ "mac": "0a:00:00:00:00:01" }))).await;
    assert_eq!((&*refused.1, &*refused.2), ("MAC_IN_USE", "spec.mac"));
    let refused = server
        .refused(
            "VirtualNetworkService/DeleteVirtualNetwork",
            json!({ "network": { "name": "web", "project": "shop" } }),
        )
        .await;
    assert_eq!((refused.0, &*refused.1), (400, "NETWORK_IN_USE"));
    let refused =
        server.refused("ProjectService/DeleteProject", json!({ "project": { "name": "shop" } })).await;
    assert_eq!(&*refused.1, "PROJECT_NOT_EMPTY");

    // Changes: by mask, by revision, and none when nothing changes.
    let meta = json!({ "name": "vm-2", "project": "shop", "description": "database" });
    let update = json!({ "port": { "meta": meta }, "updateMask": "meta.description", "expectedRevision": second["meta"]["revision"] });
    let changed = server.ok("PortService/UpdatePort", update.clone()).await;
    assert_eq!(
        (&changed["meta"]["description"], &changed["spec"]["hostname"]),
        (&json!("database"), &json!("db"))
    );
    let refused = server.refused("PortService/UpdatePort", update).await;
    assert_eq!((refused.0, &*refused.1), (409, "STALE_REVISION"));
    let again = server.ok("PortService/UpdatePort", json!({ "port": changed })).await;
    assert_eq!(
        again["meta"]["revision"], changed["meta"]["revision"],
        "what changes nothing has no revision"
    );
    let bound = server
        .ok("PortService/BindPort", json!({ "port": { "name": "vm-1", "project": "shop" }, "host": "hv1" }))
        .await;
    assert_eq!(bound["spec"]["host"], "hv1");
    let unbound = server.ok("PortService/UnbindPort", json!({ "port": { "id": bound["meta"]["id"] } })).await;
    assert_eq!(unbound["spec"]["host"], Value::Null);
    let network = server.ok("VirtualNetworkService/UpdateVirtualNetwork", json!({ "network": { "meta": network["meta"], "spec": { "mtu": 9_000 } }, "updateMask": "spec.mtu" })).await;
    assert_eq!((&network["status"]["mtu"], &network["status"]["portCount"]), (&json!(9_000), &json!("2")));
    assert_eq!(network["status"]["subnets"][0], json!({ "cidr": "10.0.1.0/24", "used": "2", "free": "251" }));
    let refused = server.refused("VirtualNetworkService/UpdateVirtualNetwork", json!({ "network": { "meta": network["meta"], "spec": { "subnets": [] } }, "updateMask": "spec.subnets" })).await;
    assert_eq!(&*refused.1, "SUBNET_IN_USE");

    // Lists.
    let filter = |filter: &str| json!({ "options": { "project": "shop", "filter": filter } });
    for (text, count) in [
        ("", 2),
        ("name=vm-1", 1),
        ("name!=vm-1", 1),
        ("network=web", 2),
        ("chassis=hv1", 0),
        ("labels.x=1", 0),
    ] {
        let list = server.ok("PortService/ListPorts", filter(text)).await;
        assert_eq!(list["ports"].as_array().map_or(0, Vec::len), count, "{text}");
    }
    let mut names = Vec::new();
    let mut token = String::new();
    loop {
        let page = server
            .ok("PortService/ListPorts", json!({ "options": { "pageSize": 1, "pageToken": token } }))
            .await;
        names.extend(page["ports"].as_array().unwrap().iter().map(|port| port["meta"]["name"].to_string()));
        token = page["nextPageToken"].as_str().unwrap_or_default().to_owned();
        if token.is_empty() {
            break;
        }
    }
    names.sort();
    assert_eq!(names, ["\"vm-1\"", "\"vm-2\""]);
    for name in ["vm-1", "vm-2"] {
        server.ok("PortService/DeletePort", json!({ "port": { "name": name, "project": "shop" } })).await;
    }
    server
        .ok(
            "VirtualNetworkService/DeleteVirtualNetwork",
            json!({ "network": { "name": "web", "project": "shop" } }),
        )
        .await;
    server.ok("ProjectService/DeleteProject", json!({ "project": { "name": "shop" } })).await;
    let list = server.ok("ProjectService/ListProjects", json!({})).await;
    assert_eq!(list["projects"].as_array().unwrap().len(), 2);
    let status = server.ok("ClusterService/GetClusterStatus", json!({})).await;
    assert_eq!((&status["memberId"], &status["members"][0]["address"]), (&json!("1"), &json!("127.0.0.1:1")));
    assert_eq!(
        server.ok("ClusterService/WaitForRevision", json!({ "revision": status["revision"] })).await,
        json!({})
    );
    assert_eq!(server.ok("ClusterService/ListProblems", json!({})).await, json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_with_its_field() {
    let server = Server::start().await;
    server.network("tiny", "10.0.0.0/30").await;
    server.port("only", "tiny").await;
    let network = |spec: Value| json!({ "network": { "meta": { "name": "n" }, "spec": spec } });
    let subnets = |cidrs: &[&str]| {
        network(json!({ "subnets": cidrs.iter().map(|cidr| json!({ "cidr": cidr })).collect::<Vec<_>>() }))
    };
    let port = |spec: Value| json!({ "port": { "meta": { "name": "p" }, "spec": spec } });
    let on = |more: Value| {
        let mut spec = json!({ "network": { "name": "tiny" } });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        port(spec)
    };
    let (create_network, create_port) =
        ("VirtualNetworkService/CreateVirtualNetwork", "PortService/CreatePort");
    let cases: Vec<(&str, Value, u16, &str, &str)> = vec![
        (
            create_network,
            subnets(&["10.0.0.0/24", "10.0.0.128/25"]),
            400,
            "SUBNETS_OVERLAP",
            "spec.subnets[1].cidr",
        ),
        (create_network, subnets(&["10.0.0.1/24"]), 400, "SUBNET_INVALID", "spec.subnets[0].cidr"),
        (
            create_network,
            network(json!({ "subnets": [{ "cidr": "10.0.0.0/24", "gateway": "10.0.1.1" }] })),
            400,
            "SUBNET_INVALID",
            "spec.subnets[0].gateway",
        ),
        (
            create_network,
            network(
                json!({ "subnets": [{ "cidr": "10.0.0.0/24", "pools": [{ "first": "10.0.0.9", "last": "10.0.0.3" }] }] }),
            ),
            400,
            "SUBNET_INVALID",
            "spec.subnets[0].pools[0]",
        ),
        (
            create_network,
            network(json!({ "subnets": [{ "cidr": "10.0.0.0/24", "dhcp": { "options": { "x": "1" } } }] })),
            400,
            "OPTION_INVALID",
            "spec.subnets[0].dhcp.options[\"x\"]",
        ),
        (create_network, network(json!({ "mtu": 100 })), 400, "MTU_INVALID", "spec.mtu"),
        (
            create_network,
            json!({ "network": { "meta": { "name": "x".repeat(64) } } }),
            400,
            "NAME_INVALID",
            "meta.name",
        ),
        (
            create_network,
            json!({ "network": { "meta": { "name": "-a" } } }),
            400,
            "NAME_INVALID",
            "meta.name",
        ),
        (
            create_network,
            json!({ "network": { "meta": { "name": "tiny" } } }),
            409,
            "NAME_IN_USE",
            "meta.name",
        ),
        (
            create_network,
            json!({ "network": { "meta": { "name": "n", "project": "nowhere" } } }),
            404,
            "PROJECT_NOT_FOUND",
            "meta.project",
        ),
        (
            create_network,
            json!({ "network": { "meta": { "name": "n", "project": "system" } } }),
            400,
            "PROJECT_BUILT_IN",
            "meta.project",
        ),
        (
            create_network,
            json!({ "network": { "meta": { "name": "n", "id": "7" } } }),
            400,
            "ID_INVALID",
            "meta.id",
        ),
        (create_port, on(json!({})), 429, "SUBNET_EXHAUSTED", "spec.addresses[0].subnet"),
        (
            create_port,
            on(json!({ "addresses": [{ "ip": "10.9.9.9" }] })),
            400,
            "ADDRESS_OUTSIDE_SUBNET",
            "spec.addresses[0].ip",
        ),
        (
            create_port,
            on(json!({ "addresses": [{ "ip": "10.0.0.3" }] })),
            400,
            "ADDRESS_NOT_ALLOWED",
            "spec.addresses[0].ip",
        ),
        (
            create_port,
            on(json!({ "addresses": [{ "ip": "banana" }] })),
            400,
            "ADDRESS_INVALID",
            "spec.addresses[0].ip",
        ),
        (create_port, on(json!({ "mac": "01:00:5e:00:00:01" })), 400, "MAC_INVALID", "spec.mac"),
        (
            create_port,
            on(json!({ "noAddresses": true, "hostname": "a b" })),
            400,
            "HOSTNAME_INVALID",
            "spec.hostname",
        ),
        (
            create_port,
            on(json!({ "noAddresses": true, "allowedAddressPairs": [{}] })),
            400,
            "PAIR_INVALID",
            "spec.allowed_address_pairs[0]",
        ),
        (create_port, port(json!({ "network": { "name": "nowhere" } })), 404, "NOT_FOUND", "spec.network"),
        (create_port, port(json!({})), 400, "REFERENCE_EMPTY", "spec.network"),
        (
            "PortService/GetPort",
            json!({ "port": { "id": Uuid::from_u128(9).to_string() } }),
            404,
            "NOT_FOUND",
            "port",
        ),
        (
            "PortService/ListPorts",
            json!({ "options": { "filter": "colour=red" } }),
            400,
            "FILTER_INVALID",
            "options.filter",
        ),
        (
            "PortService/ListPorts",
            json!({ "options": { "pageSize": 5_001 } }),
            400,
            "PAGE_SIZE_INVALID",
            "options.page_size",
        ),
        (
            "PortService/UpdatePort",
            json!({ "port": { "meta": { "name": "only" } }, "updateMask": "spec.network" }),
            400,
            "MASK_INVALID",
            "update_mask",
        ),
        ("NodeService/GetNode", json!({ "name": "hv9" }), 404, "NOT_FOUND", "name"),
        (
            "ProjectService/DeleteProject",
            json!({ "project": { "name": "default" } }),
            400,
            "PROJECT_BUILT_IN",
            "",
        ),
    ];
    let before = server.replica.state().revision();
    for (method, body, status, reason, field) in cases {
        let refused = server.refused(method, body.clone()).await;
        assert_eq!(
            (refused.0, &*refused.1, &*refused.2),
            (status, reason, field),
            "{method} {body}: {}",
            refused.3
        );
    }
    assert_eq!(server.replica.state().revision(), before, "what is refused leaves no trace");

    // The transport's own.
    let (_, _, _, message) = server.refused("PortService/GetPort", json!({ "prot": {} })).await;
    assert!(message.contains("prot"), "{message}");
    assert_eq!(server.refused("PortService/Explode", json!({})).await.0, 404);
    let large = json!({ "port": { "name": "x".repeat(10 << 20) } });
    let answer = server.post("PortService/GetPort", &large).await;
    // A client that is still writing may see the connection closed in place of the answer.
    assert!(answer.0 == 413 || answer.0 == 0, "{answer:?}");
    let deep = format!("{}{}", "{\"port\":".repeat(10_000), "}".repeat(10_000));
    let head = "POST /quantumnet.v1.PortService/GetPort HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n";
    for body in [deep.as_str(), "{\"port\":", "null x", "\u{1}"] {
        let answer =
            server.raw(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    assert!(
        server
            .raw(b"GET /quantumnet.v1.PortService/GetPort HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 405")
    );
    assert!(server.raw(b"POST /quantumnet.v1.PortService/GetPort HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await.starts_with("HTTP/1.1 415"));
    // Bytes that are no HTTP, and gRPC frames that are cut off.
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for length in [0, 1, 9, 24, 200, 5_000] {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed.to_be_bytes()[0]
            })
            .collect();
        server.exchange(&bytes, true).await;
        let mut request = format!("POST /quantumnet.v1.PortService/GetPort HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/grpc\r\ncontent-length: {length}\r\n\r\n").into_bytes();
        request.extend_from_slice(&bytes);
        server.exchange(&request, true).await;
        server.exchange(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes.as_slice()].concat(), true).await;
    }
    server.ok("PortService/GetPort", json!({ "port": { "name": "only" } })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_is_answered_once() {
    let server = Server::start().await;
    let body = |name: &str| json!({ "network": { "meta": { "name": name } } });
    let create = "VirtualNetworkService/CreateVirtualNetwork";
    let headers = "x-quantumnet-request-id: r-1\r\nx-quantumnet-principal: ann\r\n";
    let (_, first) = server.post_as(create, &body("a"), headers).await;
    let (status, again) = server.post_as(create, &body("a"), headers).await;
    assert_eq!((status, &first["meta"]["id"]), (200, &again["meta"]["id"]));
    let (status, other) = server.post_as(create, &body("b"), headers).await;
    assert_eq!((status, &other["error"]["reason"]), (400, &json!("REQUEST_ID_REUSED")));
    // Somebody else's id is another id.
    let (status, _) = server
        .post_as(create, &body("b"), "x-quantumnet-request-id: r-1\r\nx-quantumnet-principal: bob\r\n")
        .await;
    assert_eq!(status, 200);
    server.ok("VirtualNetworkService/DeleteVirtualNetwork", json!({ "network": { "name": "a" } })).await;
    let (status, gone) = server.post_as(create, &body("a"), headers).await;
    assert_eq!((status, &gone["error"]["reason"]), (400, &json!("OBJECT_GONE")));
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_carries_the_same_and_watches_resume() {
    let server = Server::start().await;
    server.network("web", "10.0.0.0/24").await;
    server.port("before", "web").await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", server.address))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut ports = PortServiceClient::new(channel.clone());
    let mut watch = ports.watch_ports(WatchPortsRequest::default()).await.unwrap().into_inner();
    let mut kinds = Vec::new();
    let mut resume = None;
    for _ in 0..3 {
        let event = watch.message().await.unwrap().unwrap();
        kinds.push(event.kind());
        resume = event.resume.or(resume);
    }
    assert_eq!(kinds, [WatchEventKind::Reset, WatchEventKind::Created, WatchEventKind::Synced]);

    let meta = ObjectMeta { name: "vm".into(), ..ObjectMeta::default() };
    let network = Some(ObjectRef { name: "web".into(), ..ObjectRef::default() });
    let port =
        Port { meta: Some(meta), spec: Some(PortSpec { network, ..PortSpec::default() }), status: None };
    let made = ports.create_port(CreatePortRequest { port: Some(port.clone()) }).await.unwrap().into_inner();
    let refused = ports.create_port(CreatePortRequest { port: Some(port) }).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::AlreadyExists);
    let detail = RpcStatus::detail(&refused).unwrap();
    assert_eq!((&*detail.reason, &*detail.field, detail.blocking.len()), ("NAME_IN_USE", "meta.name", 1));
    let event = watch.message().await.unwrap().unwrap();
    assert_eq!((event.kind(), event.port.as_ref()), (WatchEventKind::Created, Some(&made)));

    // A hypervisor plugs it: the status changes.
    let id: Uuid = made.meta.as_ref().unwrap().id.parse().unwrap();
    let plug = move |txn: &mut quantumnet_controller::store::Txn<'_>| {
        let (chassis, encap) = (Uuid::from_u128(1), Uuid::from_u128(2));
        txn.insert(encap, Encap { r#type: "geneve".into(), ip: "192.0.2.1".into(), ..Encap::default() })?;
        let row = Chassis {
            name: "hv1".into(),
            encaps: imbl::OrdSet::unit(Strong::new(encap)),
            ..Chassis::default()
        };
        txn.insert(chassis, row)?;
        let row = ChassisInterface {
            chassis: Strong::new(chassis),
            iface_id: id.to_string().into(),
            claim: 1,
            ..ChassisInterface::default()
        };
        txn.insert(Uuid::from_u128(3), row)
    };
    server.replica.propose("test", plug).await.unwrap();
    let event = watch.message().await.unwrap().unwrap();
    assert_eq!(
        (event.kind(), event.port.unwrap().status.unwrap().chassis),
        (WatchEventKind::Updated, "hv1".to_owned())
    );
    let list = ports.list_ports(ListPortsRequest {
        options: Some(ListOptions { filter: "chassis=hv1".into(), ..ListOptions::default() }),
    });
    assert_eq!(list.await.unwrap().into_inner().ports.len(), 1);

    // From the token, what came after it and nothing else; from another cluster's, everything.
    let options = |resume| Some(WatchOptions { resume, ..WatchOptions::default() });
    let mut resumed =
        ports.watch_ports(WatchPortsRequest { options: options(resume.clone()) }).await.unwrap().into_inner();
    let mut kinds = Vec::new();
    for _ in 0..3 {
        kinds.push(resumed.message().await.unwrap().unwrap().kind());
    }
    assert_eq!(kinds, [WatchEventKind::Created, WatchEventKind::Updated, WatchEventKind::Synced]);
    let foreign =
        resume.map(|token| quantumnet_api::v1::ResumeToken { history_id: Uuid::nil().to_string(), ..token });
    let mut reset =
        ports.watch_ports(WatchPortsRequest { options: options(foreign) }).await.unwrap().into_inner();
    assert_eq!(reset.message().await.unwrap().unwrap().kind(), WatchEventKind::Reset);

    // The same as lines of JSON.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"POST /quantumnet.v1.NodeService/WatchNodes HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        if line.starts_with('{') {
            let event: Value = serde_json::from_str(&line).unwrap();
            seen.push(event["kind"].as_str().unwrap().trim_start_matches("WATCH_EVENT_KIND_").to_owned());
        }
    }
    assert_eq!(seen, ["RESET", "CREATED", "SYNCED"]);
    let nodes = server.ok("NodeService/ListNodes", json!({})).await;
    assert_eq!((&nodes["nodes"][0]["name"], &nodes["nodes"][0]["portCount"]), (&json!("hv1"), &json!("1")));
    server.ok("NodeService/DeleteNode", json!({ "name": "hv1" })).await;
    assert_eq!(server.ok("NodeService/ListNodes", json!({})).await["nodes"], Value::Null);

    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let answer = health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
    assert_eq!(answer.into_inner().status, 1);
}

/// A watcher that does not read costs a bounded queue, and starts over once it reads again. The changes are large
/// enough to fill the window of two megabytes that its connection has.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_watcher_starts_over() {
    const CHANGES: usize = 4_000;
    let server = Server::start().await;
    server.network("web", "10.0.0.0/24").await;
    let port: Uuid = server.port("vm", "web").await["meta"]["id"].as_str().unwrap().parse().unwrap();
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    let mut ports = PortServiceClient::new(endpoint.connect().await.unwrap());
    let mut watch = ports.watch_ports(WatchPortsRequest::default()).await.unwrap().into_inner();
    while watch.message().await.unwrap().unwrap().kind() != WatchEventKind::Synced {}
    let mut changes = tokio::task::JoinSet::new();
    for number in 0..CHANGES {
        let replica = server.replica.clone();
        changes.spawn(async move {
            let change = move |txn: &mut quantumnet_controller::store::Txn<'_>| {
                let description = format!("{number:0>4000}").into();
                txn.update::<quantumnet_model::intent::Port>(port, |row| row.description = description);
                Ok(())
            };
            replica.propose("test", change).await.unwrap()
        });
    }
    while changes.join_next().await.is_some() {}
    let last = server.ok("PortService/GetPort", json!({ "port": { "id": port.to_string() } })).await;
    let (mut events, mut kinds) = (0, Vec::new());
    loop {
        let event = tokio::time::timeout(PATIENCE, watch.message()).await.unwrap().unwrap().unwrap();
        events += 1;
        if event.kind() != WatchEventKind::Updated {
            kinds.push(event.kind());
        }
        let description = event.port.and_then(|port| port.meta).map(|meta| meta.description);
        let up_to_date = description.as_deref() == last["meta"]["description"].as_str();
        if up_to_date && kinds.contains(&WatchEventKind::Reset) {
            break;
        }
    }
    assert!(events < CHANGES, "{events}");
}
