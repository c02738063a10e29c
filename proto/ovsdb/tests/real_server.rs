//! The client against a real ovsdb-server, and the tools of Open vSwitch beside it.
#![cfg(feature = "net")]

mod support;

use std::future::Future;
use std::time::Duration;

use ovsdb::json::named_uuid_json;
use ovsdb::net::{Client, ClientHandle, ClientOptions, Disconnect, ReplicaEvent};
use ovsdb::{
    Condition, DatabaseSchema, Datum, ErrorKind, Function, JsonRow, Limits, Mutation, Mutator, OpResult,
    Operation, Replica, ReplicaRequest, SessionError, TransactError, Until, Uuid,
};
use serde_json::{Value, json};
use support::{Relay, Server};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(30);

async fn within<F: Future>(future: F) -> F::Output {
    timeout(DEADLINE, future).await.expect("it happens before the deadline")
}

fn request() -> ReplicaRequest {
    ReplicaRequest::new("Open_vSwitch")
        .table("Open_vSwitch", ["bridges", "external_ids"])
        .table("Bridge", ["name", "ports", "fail_mode", "other_config"])
        .table("Port", ["name", "interfaces", "tag", "trunks"])
        .whole_table("Interface")
}

fn row(json: Value) -> JsonRow {
    match json {
        Value::Object(row) => row,
        other => panic!("no row: {other}"),
    }
}

async fn has_bridge(client: &ClientHandle, name: &str) -> std::sync::Arc<Replica> {
    let name = Datum::from(name);
    let found = client.wait_for(|replica| replica.find("Bridge", "name", &name).is_some());
    within(found).await.expect("the client lives")
}

/// The next time it is synced: whether it was resumed.
async fn synced(events: &mut Receiver<ReplicaEvent>) -> bool {
    loop {
        if let ReplicaEvent::Synced { resumed, .. } = within(events.recv()).await.expect("the client lives") {
            return resumed;
        }
    }
}

async fn disconnected(events: &mut Receiver<ReplicaEvent>) -> Disconnect {
    loop {
        if let ReplicaEvent::Disconnected { why } = within(events.recv()).await.expect("the client lives") {
            return why;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_sees_what_the_tools_do() {
    let server = Server::standalone();
    let (client, mut events) = Client::connect(server.target(), request());
    let Some(ReplicaEvent::Synced { replica, .. }) = within(events.recv()).await else {
        panic!("synced first")
    };
    let mut copy = (*replica).clone();

    server.vsctl("init");
    server.vsctl("add-br br-int -- set bridge br-int fail_mode=secure");
    server.vsctl("add-port br-int vnet0 -- set interface vnet0 external_ids:iface-id=p1 options:a=b");
    server.vsctl("set port vnet0 tag=5 trunks=1,2,3 -- set interface vnet0 options:c=d");
    server.vsctl("clear port vnet0 tag -- remove port vnet0 trunks 2 -- remove interface vnet0 options a");
    server.vsctl("set interface vnet0 options:c=e -- set interface vnet0 mtu_request=1442");
    server.transact(&json!(["Open_vSwitch",
        {"op": "update", "table": "Open_vSwitch", "where": [], "row": {"external_ids": ["map", [["done", "1"]]]}}]));

    let done = |replica: &Replica| {
        replica.rows("Open_vSwitch").any(|row| row.map_string("external_ids", "done") == Some("1"))
    };
    let replica = within(client.wait_for(done)).await.unwrap();
    let bridge = replica.find("Bridge", "name", &"br-int".into()).unwrap();
    assert_eq!(bridge.string("fail_mode"), Some("secure"));
    let ports: Vec<_> =
        bridge.references("ports").map(|port| replica.row("Port", port).unwrap().clone()).collect();
    assert_eq!(ports.len(), 2, "the bridge's own, and the new one");
    let port = ports.iter().find(|port| port.string("name") == Some("vnet0")).unwrap();
    assert_eq!(port.integer("tag"), None);
    assert_eq!(port.get("trunks"), Some(&Datum::set([1, 3])));
    let interface = port.references("interfaces").next().unwrap();
    let interface = replica.row("Interface", interface).unwrap();
    assert_eq!(interface.map_string("external_ids", "iface-id"), Some("p1"));
    assert_eq!(interface.get("options"), Some(&Datum::map([("c", "e")])));
    assert_eq!(interface.integer("mtu_request"), Some(1442));
    assert!(interface.columns().count() > 20, "all columns were asked for");

    server.vsctl("del-br br-int");
    let gone = within(client.wait_for(|replica| replica.rows("Interface").next().is_none())).await.unwrap();
    // The events alone lead to the same copy.
    while copy != *gone {
        match within(events.recv()).await {
            Some(ReplicaEvent::Changed(changes)) => copy.apply(&changes),
            other => panic!("expected changes, got {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_change_the_replica_before_they_return() {
    let server = Server::standalone();
    server.vsctl("init");
    let (client, _events) = Client::connect(server.target(), request());
    within(client.wait_for(|_| true)).await.unwrap();
    let uuid = Uuid::from_u128(0x36bef046_7da7_43a5_905a_c17899216fcb);
    let insert = |table: &str, name: &str, row_json: Value| Operation::Insert {
        table: table.to_owned(),
        row: row(row_json),
        uuid_name: Some(name.to_owned()),
        uuid: None,
    };
    let operations = vec![
        insert("Interface", "i", json!({"name": "br-x", "type": "internal"})),
        insert("Port", "p", json!({"name": "br-x", "interfaces": named_uuid_json("i")})),
        Operation::Insert {
            table: "Bridge".to_owned(),
            row: row(json!({"name": "br-x", "ports": named_uuid_json("p"), "fail_mode": "secure"})),
            uuid_name: Some("b".to_owned()),
            uuid: Some(uuid),
        },
        Operation::Mutate {
            table: "Open_vSwitch".to_owned(),
            conditions: vec![],
            mutations: vec![Mutation::new("bridges", Mutator::Insert, named_uuid_json("b"))],
        },
        Operation::Comment { comment: "a bridge".to_owned() },
        Operation::Commit { durable: true },
    ];
    let results = within(client.transact(operations)).await.unwrap();
    assert_eq!(results[2], OpResult::Inserted(uuid));
    assert_eq!(results[3], OpResult::Count(1));
    let bridge = client.replica().row("Bridge", uuid).cloned().expect("the replica has it already");
    assert_eq!(bridge.string("fail_mode"), Some("secure"));

    // Many at once, each seen when it returns.
    let tasks = (0..50).map(|n| {
        let client = client.clone();
        tokio::spawn(async move {
            let key = format!("k{n}");
            let operation = Operation::Mutate {
                table: "Bridge".to_owned(),
                conditions: vec![Condition::uuid_is(uuid)],
                mutations: vec![Mutation::new(
                    "other_config",
                    Mutator::Insert,
                    Datum::map([(&*key, "v")]).to_json(),
                )],
            };
            client.transact(vec![operation]).await.unwrap();
            assert_eq!(
                client.replica().row("Bridge", uuid).unwrap().map_string("other_config", &key),
                Some("v")
            );
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        within(task).await.unwrap();
    }

    let select = Operation::Select {
        table: "Bridge".to_owned(),
        conditions: vec![Condition::clause("name", Function::Equal, "br-x")],
        columns: Some(vec!["_uuid".to_owned()]),
    };
    let OpResult::Rows(rows) = &within(client.transact(vec![select])).await.unwrap()[0] else {
        panic!("rows")
    };
    assert_eq!(rows[0]["_uuid"], ovsdb::json::uuid_json(uuid));
}

#[tokio::test(flavor = "multi_thread")]
async fn transact_errors_are_typed() {
    let server = Server::standalone();
    server.vsctl("init");
    let (client, _events) = Client::connect(server.target(), request());
    within(client.wait_for(|_| true)).await.unwrap();
    let update = |row_json: Value| Operation::Update {
        table: "Open_vSwitch".to_owned(),
        conditions: vec![],
        row: row(row_json),
    };
    let wait = Operation::Wait {
        table: "Open_vSwitch".to_owned(),
        conditions: vec![],
        columns: Some(vec!["next_cfg".to_owned()]),
        until: Until::Equal,
        rows: vec![row(json!({"next_cfg": 77}))],
        timeout_ms: Some(0),
    };
    let nobody = ovsdb::json::uuid_json(Uuid::from_u128(7));
    for (operations, expected, index) in [
        (vec![Operation::Abort], ErrorKind::Aborted, Some(0)),
        (vec![update(json!({})), wait], ErrorKind::TimedOut, Some(1)),
        (vec![Operation::Assert { lock: "l".to_owned() }], ErrorKind::NotOwner, Some(0)),
        (vec![update(json!({"bridges": nobody}))], ErrorKind::ReferentialIntegrityViolation, None),
        (vec![update(json!({"nothing": 1}))], ErrorKind::UnknownColumn, Some(0)),
        (vec![update(json!({"next_cfg": "x"}))], ErrorKind::SyntaxError, Some(0)),
    ] {
        let error = within(client.transact(operations)).await.unwrap_err();
        match (&error, index) {
            (TransactError::Operation { index: at, error }, Some(index)) if *at == index => {
                assert_eq!(error.kind, expected, "{error}");
            }
            (TransactError::Commit { error }, None) => assert_eq!(error.kind, expected),
            other => panic!("expected {expected}, got {other:?}"),
        }
    }
    let other = ReplicaRequest::new("Nothing");
    let (_client, mut events) = Client::connect(server.target(), other);
    let Disconnect::Session(SessionError::Refused { method: "get_schema", error }) =
        disconnected(&mut events).await
    else {
        panic!("refused");
    };
    assert_eq!(error.kind, ErrorKind::UnknownDatabase);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_resumes_where_it_was() {
    let server = Server::clustered();
    server.vsctl("init");
    // The server keeps no more history than the database is large, so it must be large enough.
    let others: Vec<String> = (0..40).map(|n| format!("-- add-br br{n}")).collect();
    server.vsctl(&format!("add-br br-a {}", others.join(" ")));
    let relay = Relay::new(&server.socket());
    let (client, mut events) = Client::connect(relay.target(), request());
    assert!(!synced(&mut events).await);
    server.vsctl("add-br br-b");
    has_bridge(&client, "br-b").await;

    relay.drop_connections();
    disconnected(&mut events).await;
    server.vsctl("add-br br-c -- del-br br-a");
    assert!(synced(&mut events).await, "the server knows the last transaction");
    let replica = has_bridge(&client, "br-c").await;
    assert!(replica.find("Bridge", "name", &"br-a".into()).is_none());

    // And from nothing the copy is the same.
    let (fresh, _events) = Client::connect(server.target(), request());
    let fresh = within(fresh.wait_for(|_| true)).await.unwrap();
    assert_eq!(*fresh, *client.replica());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_is_found_again() {
    let mut server = Server::standalone();
    server.vsctl("init");
    server.vsctl("add-br br-a");
    let (client, mut events) = Client::connect(server.target(), request());
    has_bridge(&client, "br-a").await;
    server.kill();
    disconnected(&mut events).await;
    within(client.disconnected()).await;
    assert!(client.replica().find("Bridge", "name", &"br-a".into()).is_some(), "the last copy stays");
    let refused = within(client.transact(vec![Operation::Abort])).await.unwrap_err();
    assert_eq!(refused, TransactError::NotConnected);

    server.start();
    assert!(!synced(&mut events).await, "a standalone server has no history");
    server.vsctl("add-br br-b -- del-br br-a");
    let replica = has_bridge(&client, "br-b").await;
    assert_eq!(replica.rows("Bridge").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_lost_with_its_connection() {
    let mut server = Server::standalone();
    server.vsctl("init");
    let (client, _events) = Client::connect(server.target(), request());
    within(client.wait_for(|_| true)).await.unwrap();
    // A wait for something that never comes.
    let wait = Operation::Wait {
        table: "Open_vSwitch".to_owned(),
        conditions: vec![],
        columns: Some(vec!["next_cfg".to_owned()]),
        until: Until::Equal,
        rows: vec![row(json!({"next_cfg": 77}))],
        timeout_ms: None,
    };
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.transact(vec![wait]).await }
    });
    // Requests are answered in order, so the wait has arrived when this is done.
    let _ = within(client.transact(vec![Operation::Comment { comment: "x".to_owned() }])).await;
    server.kill();
    let outcome = within(waiting).await.unwrap();
    assert!(matches!(outcome, Err(TransactError::Lost | TransactError::NotConnected)), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_is_given_up() {
    let server = Server::standalone();
    server.vsctl("init");
    let limits = Limits { probe_interval: Duration::from_millis(200), ..Limits::default() };
    let options = ClientOptions { limits, ..ClientOptions::default() };
    let (client, mut events) = Client::connect_with(server.target(), request(), options);
    within(client.wait_for(|_| true)).await.unwrap();
    server.signal("-STOP");
    let why = disconnected(&mut events).await;
    server.signal("-CONT");
    assert!(matches!(why, Disconnect::Session(SessionError::Inactive { .. })), "{why}");
    server.vsctl("add-br br-a");
    has_bridge(&client, "br-a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_of_events_misses_nothing() {
    let server = Server::standalone();
    server.vsctl("init");
    let (client, mut events) = Client::connect(server.target(), request());
    within(client.wait_for(|_| true)).await.unwrap();
    for n in 0..400 {
        let external_ids = Datum::map([("n", n.to_string().as_str()), (&format!("k{}", n % 7), "x")]);
        let update = Operation::Update {
            table: "Open_vSwitch".to_owned(),
            conditions: vec![],
            row: row(json!({"external_ids": external_ids.to_json()})),
        };
        within(client.transact(vec![update])).await.unwrap();
    }
    let whole = client.replica();
    let Some(ReplicaEvent::Synced { replica, .. }) = within(events.recv()).await else {
        panic!("synced first")
    };
    let mut copy = (*replica).clone();
    let mut count = 0;
    while copy != *whole {
        let Some(ReplicaEvent::Changed(changes)) = within(events.recv()).await else { panic!("changes") };
        for change in &changes {
            assert_eq!(
                copy.row(&change.table, change.uuid),
                change.old.as_ref(),
                "changes follow one another"
            );
        }
        copy.apply(&changes);
        count += 1;
    }
    assert!(count < 400, "{count} events: some were merged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_talks_and_does_not_listen_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let limits = Limits { probe_interval: Duration::from_millis(100), ..Limits::default() };
    let options = ClientOptions { limits, ..ClientOptions::default() };
    let (_client, mut events) = Client::connect_with(ovsdb::net::Target::Unix(path), request(), options);
    let (mut stream, _) = within(listener.accept()).await.unwrap();
    let echo = json!({"id": 1, "method": "echo", "params": ["x".repeat(10_000)]}).to_string();
    let talking =
        async { while tokio::io::AsyncWriteExt::write_all(&mut stream, echo.as_bytes()).await.is_ok() {} };
    within(talking).await;
    let why = disconnected(&mut events).await;
    assert!(matches!(why, Disconnect::Session(SessionError::Inactive { .. })), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_a_connection_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let options = ClientOptions { backoff_max: Duration::from_millis(1), ..ClientOptions::default() };
    let (_client, mut events) = Client::connect_with(ovsdb::net::Target::Unix(path), request(), options);
    for bytes in [b"GET / HTTP/1.1".as_slice(), b"{\"id\":3,", b"", b"\xff\xff", b"{}", &[b'['; 100_000]] {
        let (mut stream, _) = within(listener.accept()).await.unwrap();
        // The client may have closed already.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, bytes).await;
        drop(stream);
        disconnected(&mut events).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_servers_schema_is_printed_as_it_prints_it() {
    let server = Server::standalone();
    let text = server.schema();
    let schema = DatabaseSchema::parse(&text).unwrap();
    assert_eq!(schema.to_json(), serde_json::from_str::<Value>(&text).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_socket_answers() {
    use ovsdb::unixctl::{Unixctl, UnixctlError, call};
    let server = Server::standalone();
    server.vsctl("init");
    let control = server.path("ctl");
    let none: [&str; 0] = [];
    let version = call(&control, "version", none, DEADLINE).unwrap();
    assert!(version.contains("ovsdb-server"), "{version}");
    let databases = within(Unixctl::call(&control, "ovsdb-server/list-dbs", none)).await.unwrap();
    assert!(databases.contains("Open_vSwitch"), "{databases}");
    // Counters are summed up once a second; asking is what makes the server work meanwhile.
    let deadline = std::time::Instant::now() + DEADLINE;
    loop {
        let text = call(&control, "coverage/show", none, DEADLINE).unwrap();
        if ovsdb::unixctl_text::coverage(&text).get("poll_create_node").is_some_and(|total| *total > 0) {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{text}");
        server.vsctl("get-manager");
    }
    let error = call(&control, "nonsense", ["x"], DEADLINE).unwrap_err();
    assert!(matches!(error, UnixctlError::Command { .. }), "{error}");
    server.signal("-STOP");
    let error = call(&control, "version", none, Duration::from_millis(50)).unwrap_err();
    server.signal("-CONT");
    assert!(matches!(error, UnixctlError::TimedOut { .. }), "{error}");
}
