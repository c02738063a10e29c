//! Rows by OVN's names: listed, and imported with their uuids and keys.

use serde_json::{Value, json};

use crate::server::Server;

const SWITCH: &str = "00000000-0000-4000-8000-0000000000aa";
const OTHER: &str = "00000000-0000-4000-8000-0000000000bb";
const PORT: &str = "00000000-0000-4000-8000-000000000001";

fn row(table: &str, uuid: &str, columns: Value) -> Value {
    json!({ "table": table, "uuid": uuid, "columns": columns.to_string() })
}

/// Two switches, the first with a port.
fn rows() -> Vec<Value> {
    let ports = json!(["uuid", PORT]);
    vec![
        row(
            "Logical_Switch",
            SWITCH,
            json!({ "name": "sw", "ports": ports, "external_ids": ["map", [["a", "b"]]] }),
        ),
        row("Logical_Switch", OTHER, json!({ "name": "other" })),
        row("Logical_Switch_Port", PORT, json!({ "name": "p", "addresses": "0a:00:00:00:00:01 10.0.0.1" })),
    ]
}

async fn keys_of(server: &Server) -> (Vec<u64>, Vec<u64>) {
    let list = async |table: &str| {
        let answer = server
            .ok("DatabaseService/ListRows", json!({ "database": "OVN_Southbound", "table": table }))
            .await;
        let rows = answer["rows"].as_array().cloned().unwrap_or_default();
        let parse = |row: &Value| serde_json::from_str::<Value>(row.as_str().unwrap()).unwrap();
        rows.iter().map(|row| parse(row)["tunnel_key"].as_u64().unwrap()).collect::<Vec<u64>>()
    };
    (list("Datapath_Binding").await, list("Port_Binding").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_keeps_uuids_and_keys_and_happens_whole_or_not_at_all() {
    let server = Server::start().await;
    let keys = |switch: u32, other: u32, port: u32| json!([{ "uuid": SWITCH, "key": switch }, { "uuid": OTHER, "key": other }, { "uuid": PORT, "key": port }]);
    let import = |keys: Value, more: Value| {
        let mut request = json!({ "rows": rows(), "keys": keys });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    let tried =
        server.ok("DatabaseService/ImportRows", import(keys(70, 80, 9), json!({ "dryRun": true }))).await;
    assert_eq!(tried["keysKept"], "3");
    assert_eq!(keys_of(&server).await, (vec![], vec![]), "a dry run changed something");

    let done = server.ok("DatabaseService/ImportRows", import(keys(70, 80, 9), json!({}))).await;
    assert_eq!(
        done["counts"],
        json!([
            { "table": "Logical_Switch", "rows": "2" }, { "table": "Logical_Switch_Port", "rows": "1" }
        ])
    );
    assert_eq!(keys_of(&server).await, (vec![70, 80], vec![9]));
    let listed = server
        .ok("DatabaseService/ListRows", json!({ "table": "Logical_Switch", "filter": "external_ids.a=b" }))
        .await;
    let found: Value = serde_json::from_str(listed["rows"][0].as_str().unwrap()).unwrap();
    assert_eq!(
        (&found["_uuid"], &found["name"], &found["ports"]),
        (&json!(SWITCH), &json!("sw"), &json!([PORT]))
    );
    assert_eq!(listed["rows"].as_array().map(Vec::len), Some(1));

    // Over what is there only if that is said; two may exchange their keys.
    let refused = server.refused("DatabaseService/ImportRows", import(keys(80, 70, 9), json!({}))).await;
    assert_eq!((refused.0, &*refused.1), (400, "DATABASE_NOT_EMPTY"));
    server.ok("DatabaseService/ImportRows", import(keys(80, 70, 10), json!({ "replace": true }))).await;
    assert_eq!(keys_of(&server).await, (vec![80, 70], vec![10]));

    // What goes leaves its key to what comes, in one transaction.
    let only = row("Logical_Switch", "00000000-0000-4000-8000-0000000000cc", json!({ "name": "third" }));
    let key = json!([{ "uuid": "00000000-0000-4000-8000-0000000000cc", "key": 80 }]);
    server.ok("DatabaseService/ImportRows", json!({ "rows": [only], "keys": key, "replace": true })).await;
    assert_eq!(keys_of(&server).await, (vec![80], vec![]));

    let refused = server
        .refused(
            "DatabaseService/ImportRows",
            json!({ "rows": [row("Logical_Switch", SWITCH, json!({ "colour": "red" }))], "replace": true }),
        )
        .await;
    assert_eq!((&*refused.1, &*refused.2), ("COLUMN_INVALID", "rows[0].columns"));
    assert_eq!(keys_of(&server).await, (vec![80], vec![]), "a refused import changed something");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_leaves_alone_what_intent_owns() {
    let server = Server::start().await;
    let network = server.network("mine", "10.0.0.0/24").await;
    let id = network["meta"]["id"].as_str().unwrap();
    let refused = server
        .refused(
            "DatabaseService/ImportRows",
            json!({ "rows": [row("Logical_Switch", id, json!({ "name": "theirs" }))], "replace": true }),
        )
        .await;
    assert_eq!(refused.1, "OWNED_BY_INTENT");
    server.ok("DatabaseService/ImportRows", json!({ "rows": rows(), "replace": true })).await;
    let listed = server.ok("DatabaseService/ListRows", json!({ "table": "Logical_Switch" })).await;
    assert_eq!(listed["rows"].as_array().map(Vec::len), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_names_are_said() {
    let server = Server::start().await;
    for (request, reason) in [
        (json!({ "table": "Logical_Swich" }), "TABLE_UNKNOWN"),
        (json!({ "database": "OVN", "table": "Logical_Switch" }), "DATABASE_UNKNOWN"),
        (json!({ "table": "Logical_Switch", "filter": "colour=red" }), "FILTER_INVALID"),
        (json!({ "table": "Logical_Switch", "filter": "name.x=red" }), "FILTER_INVALID"),
    ] {
        assert_eq!(server.refused("DatabaseService/ListRows", request).await.1, reason);
    }
    let tables = server.ok("DatabaseService/ListTables", json!({})).await;
    let names: Vec<&str> =
        tables["tables"].as_array().unwrap().iter().filter_map(|table| table["name"].as_str()).collect();
    assert!(names.contains(&"Logical_Router_Static_Route") && names.contains(&"NB_Global"), "{names:?}");
}
