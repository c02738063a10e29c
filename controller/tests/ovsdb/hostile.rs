//! Clients that send what they should not, or do not read: they are told or disconnected, the others are undisturbed.

use quantumnet_controller::ovsdb::session::Limits;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{NB, Raw, Server, within};

/// Sends octets and expects the server to close the connection.
async fn closes(server: &Server, octets: &[u8]) {
    let mut client = server.connect().await;
    // It may close before all was sent.
    _ = client.stream.write_all(octets).await;
    while client.next().await.is_some() {}
}

async fn is_well(server: &Server) {
    assert_eq!(server.connect().await.call("echo", json!(["x"])).await, json!(["x"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn octets_that_are_no_messages_end_the_session() {
    let server = Server::start().await;
    for octets in [
        b"GET / HTTP/1.1\r\n\r\n".as_slice(),
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"{\"id\":1,\"method\":\"echo\",\"params\":[}",
        b"{\"id\":1,\"method\":\"\xff\xff\"}",
        b"[1,2,3]",
        b"{}",
        b"{\"id\":1,\"method\":3,\"params\":[]}",
        b"{\"id\":1,\"result\":{},\"error\":null}",
    ] {
        closes(&server, octets).await;
    }
    closes(&server, "[".repeat(100_000).as_bytes()).await;
    closes(&server, "{\"a\":".repeat(100_000).as_bytes()).await;
    is_well(&server).await;
    server.controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_100_megabytes_ends_the_session() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let chunk = vec![b'a'; 1 << 20];
    _ = client.stream.write_all(b"{\"id\":1,\"method\":\"echo\",\"params\":[\"").await;
    let mut sent = 0;
    while sent < 100 && client.stream.write_all(&chunk).await.is_ok() {
        sent += 1;
    }
    assert!(sent <= Limits::default().frame.message_bytes_max >> 20 | 15, "{sent} MiB were taken");
    assert!(client.next().await.is_none());
    is_well(&server).await;
    server.controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_schema_has_is_refused_and_the_session_goes_on() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for operation in [
        json!({"op": "insert", "table": "Nope", "row": {}}),
        json!({"op": "insert", "table": "Logical_Switch", "row": {"nope": 1}}),
        json!({"op": "insert", "table": "Logical_Switch", "row": {"name": ["uuid", "x"]}}),
        json!({"op": "select", "table": "Logical_Switch", "where": [["name", "~", 1]]}),
        json!({"op": "nope"}),
        json!(3),
    ] {
        let results = client.transact(json!([operation])).await;
        assert!(results[0]["error"].is_string(), "{operation}: {results}");
    }
    server.controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_clients_disturb_nobody() {
    let server = Server::start().await;
    let mut idle = Vec::new();
    for _ in 0..1_000 {
        let mut client = server.connect().await;
        client
            .send(&json!({"id": 1, "method": "monitor_cond", "params":
            ["_Server", "s", {"Database": [{"columns": ["leader"]}]}]}))
            .await;
        idle.push(client);
    }
    for client in &mut idle {
        assert_eq!(client.next().await.unwrap()["id"], 1);
    }
    server.nbctl(&["ls-add", "s1"]).await;
    assert!(server.nbctl(&["ls-list"]).await.contains("s1"));
    drop(idle);
    is_well(&server).await;
    server.controller.stop().await;
}

/// A client that asks for everything and reads nothing.
async fn deaf(server: &Server) -> Raw {
    let mut client = server.connect().await;
    let request = json!([NB, "m", {"Logical_Switch": [{"columns": ["name", "external_ids"]}]}]);
    client.send(&json!({"id": 1, "method": "monitor_cond", "params": request})).await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_late_gets_what_it_missed() {
    let server = Server::start().await;
    let mut late = deaf(&server).await;
    let mut client = server.connect().await;
    let text = "x".repeat(100_000);
    let insert = json!({"op": "insert", "table": "Logical_Switch", "row": {"name": "s"}});
    client.transact(json!([insert])).await;
    let change = |number: usize| {
        let ids = json!(["map", [["n", number.to_string()], ["text", text]]]);
        json!([{"op": "update", "table": "Logical_Switch", "where": [], "row": {"external_ids": ids}}])
    };
    // Far more than sockets and the server hold for it.
    for number in 0..200 {
        let ids = change(number);
        assert_eq!(client.transact(ids).await[0]["count"], 1);
        client
            .transact(json!([{"op": "update", "table": "Logical_Switch", "where": [],
            "row": {"external_ids": ["map", []]}}]))
            .await;
    }
    client.transact(change(200)).await;
    let mut ids = Value::Null;
    while ids["n"] != "200" {
        let message = late.next().await.expect("it is not disconnected for being slow for a moment");
        let update = &message["params"][1]["Logical_Switch"];
        let Some(row) = update.as_object().and_then(|rows| rows.values().next()) else { continue };
        let row = row.get("modify").or_else(|| row.get("insert")).unwrap();
        for pair in row["external_ids"][1].as_array().into_iter().flatten() {
            ids[pair[0].as_str().unwrap()] = pair[1].clone();
        }
    }
    server.controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_octets_never_disturb_others() {
    let server = Server::start().await;
    let whole = json!({"id": 1, "method": "transact", "params": [NB,
        {"op": "mutate", "table": "Logical_Switch", "where": [["name", "==", "x"]],
         "mutations": [["external_ids", "insert", ["map", [["a", "b"]]]]]}]})
    .to_string();
    let mut seed = 7_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    for _ in 0..300 {
        let mut octets = whole.clone().into_bytes();
        for _ in 0..random(4) {
            let at = random(octets.len());
            octets[at] = u8::try_from(random(256)).unwrap();
        }
        octets.truncate(1 + random(octets.len()));
        let mut client = server.connect().await;
        _ = client.stream.write_all(&octets).await;
        _ = client.stream.shutdown().await;
        _ = within(client.stream.read_to_end(&mut Vec::new())).await;
    }
    is_well(&server).await;
    server.controller.stop().await;
}
