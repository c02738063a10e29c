//! The messages of github.com/ovn-org/libovsdb, the client of ovn-kubernetes, kube-ovn and Incus, in its order and
//! its forms: null parameters, objects as monitor ids, thousands of operations in one transaction, resume by the last
//! transaction's id after the connection is lost.

use std::{io::Write, net::TcpStream, time::Duration};

use serde_json::{Deserializer, Value, json};

use crate::system::Members;

#[test]
fn the_messages_of_libovsdb_are_answered_as_it_expects() {
    let mut members = Members::start(3);
    let remotes = members.remotes();
    let remotes: Vec<&str> = remotes.split(',').collect();

    // A leader-only client asks each in turn.
    let (at, mut client) = leader(&remotes);
    let id = json!({"databaseName": "OVN_Northbound", "id": "4e2f4b2e-7f1f-44b5-8bd1-b0d4c71c56b5"});
    let tables = json!({
        "Logical_Switch": [{"columns": ["name", "ports", "other_config"]}],
        "Logical_Switch_Port": [{"columns": ["name", "addresses", "options"]}],
    });
    let nothing = "00000000-0000-0000-0000-000000000000";
    let since = client.call("monitor_cond_since", json!(["OVN_Northbound", id, tables, nothing]));
    assert_eq!(since[0], json!(false));
    assert_eq!(since[2], json!({}), "an empty database, never null");

    // ovn-kubernetes guards names that have no index, and adds many rows at once.
    let mut operations = vec![json!({
        "op": "wait", "timeout": 0, "table": "Logical_Switch", "where": [["name", "==", "node1"]],
        "columns": ["name"], "until": "!=", "rows": [{"name": "node1"}],
    })];
    let names: Vec<String> = (0..PORTS).map(|number| format!("pod{number}")).collect();
    operations.extend(names.iter().map(|name| {
        json!({"op": "insert", "table": "Logical_Switch_Port", "uuid-name": format!("u{name}"),
            "row": {"name": name, "addresses": ["set", ["dynamic"]], "options": ["map", [["a", "b"]]]}})
    }));
    let named: Vec<Value> = names.iter().map(|name| json!(["named-uuid", format!("u{name}")])).collect();
    operations.push(json!({"op": "insert", "table": "Logical_Switch", "uuid-name": "uswitch",
        "row": {"name": "node1", "ports": ["set", named]}}));
    let (results, updates) = client.transact(operations.clone());
    assert_eq!(results.len(), operations.len());
    assert!(results.iter().all(|result| result.get("error").is_none()), "{results:?}");
    let update = updates.last().expect("its own change is told before the reply");
    assert_eq!(update["params"][0], id);
    let last = update["params"][1].as_str().unwrap().to_owned();
    assert_eq!(update["params"][2]["Logical_Switch_Port"].as_object().unwrap().len(), PORTS);

    // The guard holds.
    let (results, updates) = client.transact(operations);
    assert_eq!(results[0]["error"], "timed out");
    assert!(results[1..].iter().all(Value::is_null) && updates.is_empty());

    assert_eq!(client.call("echo", json!(["libovsdb"])), json!(["libovsdb"]));
    assert_eq!(client.error("no_such_method", json!([])), json!("unknown method"));

    members.kill(at);
    let others: Vec<&str> = remotes.iter().copied().filter(|remote| *remote != at).collect();
    let (_, mut client) = leader(&others);
    let since = client.call("monitor_cond_since", json!(["OVN_Northbound", id, tables, last]));
    assert_eq!(since[0], json!(true), "another member knows the transaction");
    assert_eq!(since[2], json!({}));
    let row = json!({"op": "mutate", "table": "Logical_Switch", "where": [["name", "==", "node1"]],
        "mutations": [["other_config", "insert", ["map", [["subnet", "10.0.0.0/16"]]]]]});
    let (results, updates) = client.transact(vec![row]);
    assert_eq!(results, [json!({"count": 1})]);
    let switch = updates[0]["params"][2]["Logical_Switch"].as_object().unwrap().values().next().unwrap();
    assert_eq!(switch["modify"]["other_config"], json!(["map", [["subnet", "10.0.0.0/16"]]]));
    assert!(switch["modify"].get("ports").is_none(), "only what changed");
    assert_eq!(client.call("monitor_cancel", json!([id])), json!({}));
}

/// Connects as libovsdb does, to the member that says that it leads; from one that has not heard of a leader yet it goes on
/// to the next.
fn leader<'a>(remotes: &[&'a str]) -> (&'a str, Client) {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        for remote in remotes {
            let mut client = Client::connect(remote);
            let names = client.call("list_dbs", Value::Null);
            assert!(names.as_array().unwrap().contains(&json!("_Server")), "{names}");
            let schema = client.reply("get_schema", json!(["OVN_Northbound"]));
            if schema["error"]["error"] == "database not available" {
                continue;
            }
            let priority = &schema["result"]["tables"]["ACL"]["columns"]["priority"];
            assert_eq!(priority["type"]["key"]["maxInteger"], 32767, "{}", schema["error"]);
            client.call("get_schema", json!(["_Server"]));
            let select = json!({"op": "select", "table": "Database", "where": [],
                "columns": ["name", "model", "leader", "sid"]});
            let rows = client.call("transact", json!(["_Server", select]));
            let rows = rows[0]["rows"].as_array().unwrap();
            let row = rows.iter().find(|row| row["name"] == "OVN_Northbound").unwrap();
            assert_eq!(row["model"], "clustered");
            assert_eq!(row["sid"][0], "uuid", "{row}");
            if row["leader"] == json!(true) {
                return (remote, client);
            }
        }
        assert!(std::time::Instant::now() < deadline, "a member leads within {PATIENCE:?}");
    }
}

struct Client {
    out: TcpStream,
    messages: Box<dyn Iterator<Item = serde_json::Result<Value>>>,
    last: u64,
    updates: Vec<Value>,
}

impl Client {
    fn connect(remote: &str) -> Self {
        let out = TcpStream::connect(remote.strip_prefix("tcp:").unwrap()).unwrap();
        out.set_read_timeout(Some(PATIENCE)).unwrap();
        let messages = Box::new(
            Deserializer::from_reader(std::io::BufReader::new(out.try_clone().unwrap())).into_iter(),
        );
        Self { out, messages, last: 0, updates: Vec::new() }
    }

    fn reply(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let request = json!({"id": self.last, "method": method, "params": params});
        self.out.write_all(request.to_string().as_bytes()).unwrap();
        loop {
            let message = self.messages.next().expect("the connection lives").unwrap();
            match message.get("method").and_then(Value::as_str) {
                Some("echo") => {
                    let answer = json!({"id": message["id"], "result": message["params"], "error": null});
                    self.out.write_all(answer.to_string().as_bytes()).unwrap();
                }
                Some(_) => self.updates.push(message),
                None => {
                    assert_eq!(message["id"], json!(self.last));
                    return message;
                }
            }
        }
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        let reply = self.reply(method, params);
        assert!(reply["error"].is_null(), "{method}: {reply}");
        reply["result"].clone()
    }

    fn error(&mut self, method: &str, params: Value) -> Value {
        self.reply(method, params)["error"].clone()
    }

    /// Results, and the updates that came before them.
    fn transact(&mut self, mut operations: Vec<Value>) -> (Vec<Value>, Vec<Value>) {
        self.updates.clear();
        operations.insert(0, json!("OVN_Northbound"));
        let results = self.call("transact", Value::Array(operations));
        (results.as_array().unwrap().clone(), std::mem::take(&mut self.updates))
    }
}

/// Ports of one transaction.
const PORTS: usize = 2_000;
const PATIENCE: Duration = Duration::from_secs(60);
