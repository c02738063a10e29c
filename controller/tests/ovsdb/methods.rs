//! Methods by raw JSON: what the usual clients never say, or never look at.

use serde_json::{Value, json};

use crate::harness::{NB, Server};

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_answered_as_ovsdb_server_does() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let check = [
        ("foo", json!(["a"]), json!("unknown method")),
        (
            "get_schema",
            json!(["nope"]),
            json!({"error": "unknown database", "syntax": "[\"nope\"]",
            "details": "get_schema request specifies unknown database nope"}),
        ),
        (
            "monitor",
            json!([NB, "m", {"X": {}}]),
            json!({"error": "syntax error", "details": "no table named X"}),
        ),
        (
            "monitor",
            json!([NB, "m", {"NB_Global": {"columns": ["x"]}}]),
            json!({"error": "syntax error", "syntax": "[\"x\"]", "details": "x is not a valid column name"}),
        ),
        (
            "monitor",
            json!([NB, "m", {"NB_Global": {"columns": 3}}]),
            json!({"error": "syntax error", "syntax": "{\"columns\":3}",
                "details": "Parsing table NB_Global failed: Type mismatch for member 'columns'."}),
        ),
        (
            "monitor",
            json!([NB, "m", {"NB_Global": [{"columns": ["name"]}, {"columns": ["name"]}]}]),
            json!({"error": "syntax error", "syntax": "[\"name\"]",
                "details": "column name mentioned more than once"}),
        ),
        (
            "monitor",
            json!([NB, "m", {"NB_Global": {"where": [true]}}]),
            json!({"error": "syntax error", "syntax": "{\"where\":[true]}",
                "details": "Parsing table NB_Global failed: Member 'where' is present but not allowed here."}),
        ),
        (
            "monitor",
            json!([NB, "m", {"NB_Global": 3}]),
            json!({"error": "syntax error", "details": "Parsing table NB_Global failed: Object expected."}),
        ),
        (
            "monitor_cond",
            json!([NB, "m", {"NB_Global": {"where": [["x", "==", 1]]}}]),
            json!({"error": "unknown column", "syntax": "[\"x\",\"==\",1]",
                "details": "No column x in table NB_Global."}),
        ),
        (
            "monitor_cond",
            json!([NB, "m", {"NB_Global": {"where": [["nb_cfg", "==", "x"]]}}]),
            json!({"error": "syntax error", "syntax": "\"x\"", "details": "expected integer"}),
        ),
        (
            "monitor_cond_since",
            json!([NB, "m", {"NB_Global": {}}, "xx"]),
            json!({"error": "syntax error", "syntax": "\"xx\"",
                "details": "last-txn-id must be UUID format."}),
        ),
        (
            "monitor_cond_change",
            json!(["z", "m", {}]),
            json!({"error": "syntax error", "syntax": "\"z\"", "details": "unknown monitor session"}),
        ),
        ("monitor_cancel", json!(["z"]), json!("unknown monitor")),
        ("monitor_cancel", json!([]), json!("invalid parameters")),
        (
            "lock",
            json!(["a b"]),
            json!({"error": "syntax error", "syntax": "[\"a b\"]",
            "details": "lock request params must be <id>"}),
        ),
        (
            "unlock",
            json!(["a"]),
            json!({"error": "syntax error", "syntax": "[\"a\"]",
            "details": "unlock: \"unlock\" without \"lock\" or \"steal\""}),
        ),
        (
            "set_db_change_aware",
            json!([3]),
            json!({"error": "syntax error", "syntax": "[3]",
            "details": "set_db_change_aware: true or false parameter expected"}),
        ),
        (
            "convert",
            json!([NB]),
            json!({"error": "syntax error", "syntax": "[\"OVN_Northbound\"]",
            "details": "array expected"}),
        ),
    ];
    for (method, params, error) in check {
        assert_eq!(client.ask(method, params.clone()).await["error"], error, "{method} {params}");
    }
    assert_eq!(client.call("list_dbs", Value::Null).await, json!([NB, "_Server"]), "libovsdb sends null");
    assert_eq!(client.call("echo", json!([1, {"a": null}])).await, json!([1, {"a": null}]));
    assert_eq!(client.call("set_db_change_aware", json!([true])).await, json!({}));
    let id = client.call("get_server_id", Value::Null).await;
    assert_eq!(client.call("get_server_id", json!([])).await, id);
    server.controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_says_that_it_leads() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let columns = json!(["name", "model", "connected", "leader", "cid", "sid", "index", "schema"]);
    let select =
        json!({"op": "select", "table": "Database", "where": [["name", "==", NB]], "columns": columns});
    let rows = client.call("transact", json!(["_Server", select])).await;
    let row = &rows[0]["rows"][0];
    assert_eq!(
        (&row["model"], &row["connected"], &row["leader"]),
        (&json!("clustered"), &json!(true), &json!(true))
    );
    assert!(
        row["cid"][0] == "uuid" && row["sid"][0] == "uuid" && row["index"].as_i64().unwrap() > 0,
        "{row}"
    );
    let schema: Value = serde_json::from_str(row["schema"].as_str().unwrap()).unwrap();
    assert_eq!(schema["name"], NB);
    let write = json!({"op": "update", "table": "Database", "where": [], "row": {"leader": false}});
    assert_eq!(client.call("transact", json!(["_Server", write])).await[0]["error"], "not allowed");
    let monitor =
        client.call("monitor_cond", json!(["_Server", "s", {"Database": [{"columns": ["name", "index"]}]}]));
    assert_eq!(monitor.await["Database"].as_object().unwrap().len(), 2);
    server.controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_come_before_the_reply_of_their_transaction() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let id = json!({"databaseName": NB, "id": "x"});
    let request = json!({"Logical_Switch": [{"columns": ["name"]}]});
    let zero = "00000000-0000-0000-0000-000000000000";
    let reply = client.call("monitor_cond_since", json!([NB, id, request, zero])).await;
    assert_eq!((&reply[0], &reply[2]), (&json!(false), &json!({})));
    let same = client.ask("monitor", json!([NB, {"id": "x", "databaseName": NB}, {}])).await;
    assert_eq!(same["error"]["details"], "duplicate monitor ID", "ids are compared as JSON");
    for name in ["a", "b", "c"] {
        let insert = json!({"op": "insert", "table": "Logical_Switch", "row": {"name": name}});
        client.send(&json!({"id": name, "method": "transact", "params": [NB, insert]})).await;
    }
    let (mut last, mut told, mut replied) = (reply[1].clone(), Vec::new(), Vec::new());
    while replied.len() < 3 {
        let message = client.next().await.unwrap();
        if message["method"] == Value::Null {
            replied.push(message["id"].as_str().unwrap().to_owned());
            assert!(told.len() >= replied.len(), "the update of a transaction precedes its reply");
            continue;
        }
        assert_eq!((&message["method"], &message["params"][0]), (&json!("update3"), &id), "{message}");
        let rows = message["params"][2]["Logical_Switch"].as_object().unwrap();
        told.push(rows.values().next().unwrap()["insert"]["name"].as_str().unwrap().to_owned());
        assert!(message["params"][1].as_str() > last.as_str(), "ids grow within one history");
        last = message["params"][1].clone();
    }
    assert_eq!((&told, &replied), (&vec!["a".to_owned(), "b".into(), "c".into()], &told));
    let mut other = server.connect().await;
    let resumed = other.call("monitor_cond_since", json!([NB, "m", request, reply[1]])).await;
    assert_eq!((&resumed[0], &resumed[1]), (&json!(true), &last));
    assert_eq!(resumed[2]["Logical_Switch"].as_object().unwrap().len(), 3, "{resumed}");
    let nothing = other.call("monitor_cond_since", json!([NB, "n", request, last])).await;
    assert_eq!(nothing, json!([true, last, {}]));
    server.controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_change_with_the_difference_first() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let insert = |name: &str| json!({"op": "insert", "table": "Logical_Switch", "row": {"name": name}});
    client.transact(json!([insert("a"), insert("b")])).await;
    let request = json!({"Logical_Switch": [{"columns": [], "where": [["name", "==", "a"]]}]});
    let initial = client.call("monitor_cond", json!([NB, 1, request])).await;
    let rows = initial["Logical_Switch"].as_object().unwrap();
    assert_eq!(rows.values().collect::<Vec<_>>(), [&json!({"initial": {}})]);
    let change = json!([1, [2], {"Logical_Switch": [{"where": [["name", "==", "b"]]}]}]);
    client.send(&json!({"id": "c", "method": "monitor_cond_change", "params": change})).await;
    let update = client.next().await.unwrap();
    assert_eq!((&update["method"], &update["params"][0]), (&json!("update2"), &json!([2])));
    let mut kinds: Vec<String> =
        update["params"][1]["Logical_Switch"].as_object().unwrap().values().map(Value::to_string).collect();
    kinds.sort();
    assert_eq!(kinds, [r#"{"delete":null}"#, r#"{"insert":{}}"#]);
    assert_eq!(client.next().await.unwrap()["result"], json!({}));
    // A row that begins to match is new to the client.
    let rename = json!({"op": "update", "table": "Logical_Switch", "where": [["name", "==", "a"]], "row": {"name": "b"}});
    client.send(&json!({"id": "t", "method": "transact", "params": [NB, rename]})).await;
    let update = client.next().await.unwrap();
    let rows = update["params"][1]["Logical_Switch"].as_object().unwrap();
    assert_eq!(rows.values().collect::<Vec<_>>(), [&json!({"insert": {}})]);
    assert_eq!(client.next().await.unwrap()["id"], "t");
    assert_eq!(client.call("monitor_cancel", json!([[2]])).await, json!({}));
    server.controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_is_parked_passed_woken_canceled_and_timed_out() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let wait = |name: &str, timeout: Value| {
        let mut wait = json!({"op": "wait", "table": "Logical_Switch", "where": [["name", "==", name]],
            "columns": ["name"], "until": "==", "rows": [{"name": name}]});
        if !timeout.is_null() {
            wait["timeout"] = timeout;
        }
        wait
    };
    for (id, name, timeout) in [(1, "a", Value::Null), (2, "never", Value::Null), (3, "never", json!(50))] {
        let params = json!([NB, wait(name, timeout)]);
        client.send(&json!({"id": id, "method": "transact", "params": params})).await;
    }
    client.send(&json!({"id": 1, "method": "transact", "params": [NB]})).await;
    let duplicate = client.next().await.unwrap();
    assert_eq!((&duplicate["id"], &duplicate["error"]), (&json!(1), &json!("duplicate request ID")));
    let over = client.next().await.unwrap();
    assert_eq!((&over["id"], &over["result"][0]["error"]), (&json!(3), &json!("timed out")));
    client.send(&json!({"id": null, "method": "cancel", "params": [2]})).await;
    let canceled = client.next().await.unwrap();
    assert_eq!((&canceled["id"], &canceled["error"]), (&json!(2), &json!("canceled")));
    let insert = json!({"op": "insert", "table": "Logical_Switch", "row": {"name": "a"}});
    client.send(&json!({"id": 4, "method": "transact", "params": [NB, insert]})).await;
    assert_eq!(client.next().await.unwrap()["id"], 4, "what waits holds up nothing");
    assert_eq!(client.next().await.unwrap(), json!({"id": 1, "result": [{}], "error": null}));
    server.controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_guard_transactions_and_end_with_the_session() {
    let server = Server::start().await;
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    let guarded = json!([{"op": "assert", "lock": "l"}, {"op": "comment", "comment": "x"}]);
    assert_eq!(first.transact(guarded.clone()).await[0]["error"], "not owner");
    assert_eq!(first.call("lock", json!(["l"])).await, json!({"locked": true}));
    assert_eq!(first.transact(guarded.clone()).await, json!([{}, {}]));
    assert_eq!(second.call("lock", json!(["l"])).await, json!({"locked": false}));
    assert_eq!(second.transact(guarded.clone()).await[0]["error"], "not owner");
    drop(first);
    let told = second.next().await.unwrap();
    assert_eq!((&told["method"], &told["params"]), (&json!("locked"), &json!(["l"])));
    assert_eq!(second.transact(guarded).await, json!([{}, {}]));
    server.controller.stop().await;
}
