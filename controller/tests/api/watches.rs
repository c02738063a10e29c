//! Watches over gRPC and as lines of JSON.

use quantumnet_api::v1::{
    AgentHello, AgentMessage, ChassisFacts, CreatePortRequest, EncapFact, ListOptions, ListPortsRequest,
    ObjectMeta, ObjectRef, Port, PortSpec, WatchEventKind, WatchNodesRequest, WatchOptions,
    WatchPortsRequest, WatchVirtualNetworksRequest, agent_message, agent_service_client::AgentServiceClient,
    node_service_client::NodeServiceClient, port_service_client::PortServiceClient,
    virtual_network_service_client::VirtualNetworkServiceClient,
};
use quantumnet_controller::service::RpcStatus;
use quantumnet_model::{
    Strong, Uuid,
    sb::{Chassis, ChassisInterface, Encap},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::server::{PATIENCE, Server};

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

/// The next event of a stream.
async fn next<T>(stream: &mut tonic::Streaming<T>) -> T {
    tokio::time::timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap()
}

/// Several objects change in one transaction. A client that takes the token of any event must not lose the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_between_events_of_one_transaction_loses_none() {
    let server = Server::start().await;
    server.network("web", "10.0.0.0/24").await;
    let mut ids: Vec<Uuid> = Vec::new();
    for name in ["a", "b", "c"] {
        ids.push(server.port(name, "web").await["meta"]["id"].as_str().unwrap().parse().unwrap());
    }
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    let mut ports = PortServiceClient::new(endpoint.connect().await.unwrap());
    let mut watch = ports.watch_ports(WatchPortsRequest::default()).await.unwrap().into_inner();
    while next(&mut watch).await.kind() != WatchEventKind::Synced {}
    let change = move |txn: &mut quantumnet_controller::store::Txn<'_>| {
        for id in ids {
            txn.update::<quantumnet_model::intent::Port>(id, |row| row.description = "changed".into());
        }
        Ok(())
    };
    let revision = server.replica.propose("test", change).await.unwrap().revision;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(next(&mut watch).await.resume.unwrap());
    }
    let revisions: Vec<u64> = tokens.iter().map(|token| token.revision).collect();
    assert_eq!(revisions, [revision - 1, revision - 1, revision]);
    for (token, missing) in tokens.into_iter().zip([3, 3, 0]) {
        let options = Some(WatchOptions { resume: Some(token), ..WatchOptions::default() });
        let mut resumed = ports.watch_ports(WatchPortsRequest { options }).await.unwrap().into_inner();
        let mut events = 0;
        while next(&mut resumed).await.kind() != WatchEventKind::Synced {
            events += 1;
        }
        assert_eq!(events, missing);
    }
}

/// What a network counts and whether a hypervisor is connected are told when they change.
#[tokio::test(flavor = "multi_thread")]
async fn counts_and_connections_reach_watchers() {
    let server = Server::start().await;
    server.network("web", "10.0.0.0/24").await;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let mut networks = VirtualNetworkServiceClient::new(channel.clone());
    let mut watch =
        networks.watch_virtual_networks(WatchVirtualNetworksRequest::default()).await.unwrap().into_inner();
    while next(&mut watch).await.kind() != WatchEventKind::Synced {}
    server.port("vm", "web").await;
    let event = next(&mut watch).await;
    assert_eq!(
        (event.kind(), event.network.unwrap().status.unwrap().port_count),
        (WatchEventKind::Updated, 1)
    );
    server.ok("PortService/DeletePort", json!({ "port": { "name": "vm" } })).await;
    let event = next(&mut watch).await;
    assert_eq!(
        (event.kind(), event.network.unwrap().status.unwrap().port_count),
        (WatchEventKind::Updated, 0)
    );

    let mut nodes = NodeServiceClient::new(channel.clone());
    let mut watch = nodes.watch_nodes(WatchNodesRequest::default()).await.unwrap().into_inner();
    while next(&mut watch).await.kind() != WatchEventKind::Synced {}
    let (out, messages) = tokio::sync::mpsc::channel(4);
    let mut agents = AgentServiceClient::new(channel);
    let stream = agents.sync(tokio_stream::wrappers::ReceiverStream::new(messages)).await.unwrap();
    let encap = EncapFact { r#type: "geneve".into(), ip: "192.0.2.1".into(), ..EncapFact::default() };
    let hello = AgentHello {
        format: quantumnet_api::AGENT_FORMAT,
        chassis: "hv1".into(),
        facts: Some(ChassisFacts { hostname: "hv1".into(), encaps: vec![encap], ..ChassisFacts::default() }),
        ..AgentHello::default()
    };
    out.send(AgentMessage { message: Some(agent_message::Message::Hello(hello)) }).await.unwrap();
    let mut kinds = Vec::new();
    let connected = loop {
        let event = next(&mut watch).await;
        kinds.push(event.kind());
        if event.node.as_ref().is_some_and(|node| node.connected) {
            break event;
        }
    };
    assert_eq!(kinds[0], WatchEventKind::Created, "{kinds:?}");
    drop((out, stream));
    while next(&mut watch).await.node.unwrap().connected {}
    // What came and went while nobody watched is in no history: a token is answered by a snapshot.
    let options = Some(WatchOptions { resume: connected.resume, ..WatchOptions::default() });
    let mut resumed = nodes.watch_nodes(WatchNodesRequest { options }).await.unwrap().into_inner();
    assert_eq!(next(&mut resumed).await.kind(), WatchEventKind::Reset);
    assert!(!next(&mut resumed).await.node.unwrap().connected);
}
