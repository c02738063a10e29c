//! What operations do, on both.

use ovsdb::Datum;
use quantumnet_controller::{
    ovsdb::transact::{Attempt, Outcome, Request, column},
    store::State,
};
use quantumnet_model::{Database, Row, nb::NbGlobal, tables};
use serde_json::{Value, json};
use std::time::Duration;

use crate::pair::{Pair, chosen, on, request};

/// Runs each transaction on both, which must agree and succeed, and then hold the same.
fn succeed(transactions: &[Value]) -> Vec<Value> {
    let mut pair = Pair::new();
    let mut all = Vec::new();
    for transaction in transactions {
        let answers = pair.transact(transaction.as_array().unwrap());
        assert_eq!(answers.ours, answers.real, "{transaction}");
        let failed = answers.ours.as_array().unwrap().iter().find(|result| result.get("error").is_some());
        assert_eq!(failed, None, "{transaction}");
        all.push(answers.ours);
    }
    let contents = pair.contents();
    assert_eq!(contents.ours, contents.real);
    assert!(pair.ours.check());
    all
}

fn switch(n: u64, name: &str) -> Value {
    json!({"op": "insert", "table": "Logical_Switch", "uuid": chosen(n).to_string(), "row": {"name": name}})
}

fn uuid(n: u64) -> Value {
    json!(["uuid", chosen(n).to_string()])
}

#[test]
fn inserts_with_names_and_uuids() {
    succeed(&[
        // The name is used before the insert that gives it.
        json!([
            {"op": "insert", "table": "Logical_Switch", "row": {"name": "s", "ports": ["named-uuid", "p"],
             "other_config": ["map", [["subnet", "10.0.0.0/24"]]]}},
            {"op": "insert", "table": "Logical_Switch_Port", "row": {"name": "p", "addresses": ["set", ["dynamic", "router"]]},
             "uuid-name": "p"},
            {"op": "select", "table": "Logical_Switch", "where": [["name", "==", "s"]], "columns": ["ports", "name"]},
        ]),
        // A name and a uuid that the client chose.
        json!([
            {"op": "insert", "table": "Logical_Switch_Port", "row": {"name": "r"}, "uuid-name": "r", "uuid": chosen(1).to_string()},
            {"op": "mutate", "table": "Logical_Switch", "where": [], "mutations": [["ports", "insert", ["named-uuid", "r"]]]},
        ]),
        // Nothing refers to it: it vanishes.
        json!([{"op": "insert", "table": "Logical_Switch_Port", "row": {"name": "q"}}]),
        // Not referred to any more: it goes too.
        json!([{"op": "mutate", "table": "Logical_Switch", "where": [],
                "mutations": [["ports", "delete", uuid(1)]]}]),
        json!([{"op": "select", "table": "Logical_Switch_Port", "where": []}]),
        // A weak reference to nothing is dropped.
        json!([{"op": "insert", "table": "Port_Group", "row": {"name": "g", "ports": ["named-uuid", "nobody"]}}]),
    ]);
}

#[test]
fn selects() {
    let answers = succeed(&[
        json!([switch(1, "a"), switch(2, "a"), switch(3, "b")]),
        json!([{"op": "select", "table": "Logical_Switch", "where": [], "columns": ["name"]}]),
        json!([{"op": "select", "table": "Logical_Switch", "where": [], "columns": ["name", "_uuid"]}]),
        json!([{"op": "select", "table": "Logical_Switch", "where": [["_uuid", "==", uuid(2)], ["name", "!=", "b"]],
                "columns": ["name"], "sort": ["name"]}]),
        json!([{"op": "select", "table": "Logical_Switch", "where": [true, ["name", "==", "b"]], "columns": []}]),
        json!([{"op": "select", "table": "Logical_Switch", "where": [false]}]),
    ]);
    assert_eq!(answers[1][0]["rows"].as_array().unwrap().len(), 2, "duplicates are dropped");
    assert_eq!(answers[2][0]["rows"].as_array().unwrap().len(), 3);
}

#[test]
fn conditions() {
    let lsp = |n: u64, row: Value| json!({"op": "insert", "table": "Logical_Switch_Port", "uuid": chosen(n).to_string(), "row": row});
    let mut transactions = vec![json!([
        lsp(1, json!({"name": "a", "tag": 1, "addresses": ["set", ["x", "y"]], "options": ["map", [["k", "v"], ["l", "w"]]]})),
        lsp(2, json!({"name": "b", "tag": 7, "addresses": "x", "up": true, "options": ["map", [["k", "w"]]]})),
        lsp(3, json!({"name": "c", "enabled": false})),
        {"op": "insert", "table": "Logical_Switch", "row": {"ports": ["set", [uuid(1), uuid(2), uuid(3)]]}},
    ])];
    for clause in [
        json!(["tag", "<", 7]),
        json!(["tag", "<=", 7]),
        json!(["tag", ">", 1]),
        json!(["tag", ">=", 1]),
        json!(["tag", "==", ["set", []]]),
        json!(["tag", "!=", ["set", []]]),
        json!(["tag", "!=", 7]),
        json!(["tag", "includes", ["set", []]]),
        json!(["tag", "excludes", ["set", [1, 2, 3]]]),
        json!(["up", "==", true]),
        json!(["enabled", "includes", false]),
        json!(["addresses", "==", ["set", ["y", "x"]]]),
        json!(["addresses", "!=", "x"]),
        json!(["addresses", "includes", "x"]),
        json!(["addresses", "includes", ["set", []]]),
        json!(["addresses", "excludes", "y"]),
        json!(["addresses", "excludes", ["set", []]]),
        json!(["options", "==", ["map", [["k", "w"]]]]),
        json!(["options", "includes", ["map", [["k", "v"]]]]),
        json!(["options", "excludes", ["map", [["k", "v"], ["k2", "v"]]]]),
        json!(["name", "includes", "a"]),
        json!(["name", "excludes", "a"]),
        json!(["_uuid", "!=", uuid(1)]),
        json!(["_uuid", "includes", uuid(1)]),
        json!(["_version", "!=", uuid(1)]),
    ] {
        transactions.push(json!([
            {"op": "select", "table": "Logical_Switch_Port", "where": [clause], "columns": ["name"]}
        ]));
        transactions.push(json!([
            {"op": "select", "table": "Logical_Switch_Port", "where": [["name", "!=", "b"], clause], "columns": ["name"]}
        ]));
    }
    succeed(&transactions);
}

#[test]
fn updates_and_deletes() {
    let answers = succeed(&[
        json!([switch(1, "a"), switch(2, "b")]),
        json!([
            {"op": "update", "table": "Logical_Switch", "where": [["name", "==", "a"]], "row": {"name": "c"}},
            {"op": "update", "table": "Logical_Switch", "where": [], "row": {"external_ids": ["map", [["k", "v"]]]}},
            {"op": "update", "table": "Logical_Switch", "where": [], "row": {}},
            {"op": "delete", "table": "Logical_Switch", "where": [["name", "==", "b"]]},
            {"op": "delete", "table": "Logical_Switch", "where": [["name", "==", "b"]]},
            // Two rows change their names with each other: unique at the end.
            {"op": "insert", "table": "Address_Set", "row": {"name": "x"}, "uuid": chosen(3).to_string()},
            {"op": "insert", "table": "Address_Set", "row": {"name": "y"}, "uuid": chosen(4).to_string()},
        ]),
        json!([
            {"op": "update", "table": "Address_Set", "where": [["_uuid", "==", uuid(3)]], "row": {"name": "y"}},
            {"op": "update", "table": "Address_Set", "where": [["_uuid", "==", uuid(4)]], "row": {"name": "x"}},
        ]),
        json!([{"op": "commit", "durable": true}, {"op": "comment", "comment": "hi"}, {"op": "assert", "lock": "mine"}]),
    ]);
    assert_eq!(answers[1][3]["count"], 1);
    assert_eq!(answers[1][4]["count"], 0);
}

#[test]
fn mutations() {
    let global = |mutations: Value| {
        json!([{"op": "mutate", "table": "NB_Global", "where": [], "mutations": mutations},
               {"op": "select", "table": "NB_Global", "where": [], "columns": ["nb_cfg", "options", "external_ids"]}])
    };
    let port = |mutations: Value| {
        json!([{"op": "mutate", "table": "Logical_Switch_Port", "where": [], "mutations": mutations},
               {"op": "select", "table": "Logical_Switch_Port", "where": [], "columns": ["addresses", "tag"]}])
    };
    let answers = succeed(&[
        json!([{"op": "insert", "table": "NB_Global", "row": {"nb_cfg": 7}}]),
        global(json!([["nb_cfg", "+=", 1]])),
        global(json!([["nb_cfg", "-=", 3], ["nb_cfg", "*=", 6], ["nb_cfg", "/=", 4], ["nb_cfg", "%=", 5]])),
        global(json!([["nb_cfg", "-=", 100], ["nb_cfg", "/=", 7], ["nb_cfg", "%=", 4]])),
        global(json!([["options", "insert", ["map", [["a", "1"], ["b", "2"]]]]])),
        global(json!([["options", "insert", ["map", [["a", "9"], ["c", "3"]]]]])),
        global(json!([["options", "delete", ["map", [["a", "9"], ["b", "2"]]]]])),
        global(json!([["options", "delete", ["set", ["c", "nothing"]]]])),
        global(json!([["options", "delete", "a"]])),
        global(json!([])),
        json!([
            {"op": "insert", "table": "Logical_Switch_Port", "row": {"name": "p"}, "uuid-name": "p"},
            {"op": "insert", "table": "Logical_Switch", "row": {"ports": ["named-uuid", "p"]}},
        ]),
        port(json!([["addresses", "insert", ["set", ["a", "b"]]]])),
        port(json!([["addresses", "insert", "a"], ["addresses", "delete", ["set", ["b", "z"]]]])),
        port(json!([["tag", "+=", 4]])),
        port(json!([["tag", "insert", 4]])),
        port(json!([["tag", "insert", 4], ["tag", "+=", 4]])),
        port(json!([["tag", "delete", 5]])),
        port(json!([["tag", "delete", ["set", [8, 9]]]])),
    ]);
    assert_eq!(answers[1][1]["rows"][0]["nb_cfg"], 8, "select sees what mutate did");
}

#[test]
fn waits_that_hold() {
    let wait = |until: &str, clause: Value, rows: Value| {
        json!({"op": "wait", "table": "Logical_Switch", "where": clause, "columns": ["name"], "until": until,
               "rows": rows, "timeout": 0})
    };
    succeed(&[
        json!([switch(1, "a"), switch(2, "a"), switch(3, "b")]),
        json!([
            wait("==", json!([["name", "==", "a"]]), json!([{"name": "a"}])),
            wait("!=", json!([["name", "==", "a"]]), json!([{"name": "b"}])),
            wait("==", json!([["name", "==", "z"]]), json!([])),
            wait("==", json!([]), json!([{"name": "b"}, {"name": "a"}, {"name": "a"}])),
            wait("!=", json!([]), json!([{"name": "a"}])),
            wait("!=", json!([]), json!([{"name": "a"}, {"name": "b"}, {"name": "c"}])),
            wait("!=", json!([["name", "==", "a"]]), json!([{}])),
        ]),
    ]);
}

fn blocked(waited_ms: u64, timeouts: &[Option<u64>]) -> Attempt {
    let mut operations = vec![json!({"op": "insert", "table": "Logical_Switch", "row": {"name": "a"}})];
    for timeout in timeouts {
        let mut wait = json!({"op": "wait", "table": "NB_Global", "where": [], "until": "!=", "rows": []});
        wait["columns"] = json!(["nb_cfg"]);
        if let Some(timeout) = timeout {
            wait["timeout"] = (*timeout).into();
        }
        operations.push(wait);
    }
    let mut state = State::default();
    let request = Request { waited: Duration::from_millis(waited_ms), ..request(&operations) };
    let attempt = on(&mut state, &request);
    assert!(state.rows().is_empty(), "nothing stays");
    attempt
}

#[test]
fn a_wait_blocks_until_its_timeout() {
    assert!(matches!(blocked(0, &[None]), Attempt::Blocked(None)));
    assert!(matches!(blocked(9, &[Some(10)]), Attempt::Blocked(Some(timeout)) if timeout.as_millis() == 10));
    let Attempt::Done(results) = blocked(10, &[Some(10)]) else { panic!("timed out") };
    assert_eq!(results[1], json!({"error": "timed out", "details": "\"wait\" timed out after 10 ms"}));
    let Attempt::Done(results) = blocked(0, &[Some(0)]) else { panic!("timed out") };
    assert_eq!(results[1]["details"], "\"where\" clause test failed");
}

#[test]
fn a_version_changes_when_the_row_does() {
    let mut state = State::default();
    let run = |state: &mut State, operation: Value| {
        let Attempt::Done(results) = on(state, &request(&[operation])) else { panic!("blocked") };
        results
    };
    run(&mut state, json!({"op": "insert", "table": "NB_Global", "row": {}}));
    let version = |state: &mut State| {
        let select = json!({"op": "select", "table": "NB_Global", "where": [], "columns": ["_version"]});
        run(state, select)[0]["rows"][0]["_version"].clone()
    };
    let first = version(&mut state);
    assert_eq!(first, version(&mut state));
    run(&mut state, json!({"op": "update", "table": "NB_Global", "where": [], "row": {"nb_cfg": 0}}));
    assert_eq!(first, version(&mut state), "nothing changed");
    run(
        &mut state,
        json!({"op": "update", "table": "NB_Global", "where": [["_version", "==", first]], "row": {"nb_cfg": 1}}),
    );
    let second = version(&mut state);
    assert_ne!(first, second);
    let (uuid, row) = state.rows().table(NbGlobal::TABLE).iter().next().unwrap();
    let digest = column::version(tables::decl(NbGlobal::TABLE), *uuid, row.as_ref());
    assert_eq!(second, Datum::from(digest).to_json());
}

#[test]
fn requests_and_outcomes_travel() {
    let request =
        Request { waited: Duration::from_millis(3), ..request(&[json!({"op": "abort"}), json!(1.5)]) };
    assert_eq!(Request::decode(&request.encode().unwrap()).unwrap(), request);
    for outcome in [
        Outcome::Done { results: vec![json!({}), Value::Null], revision: 7 },
        Outcome::Blocked { revision: 7, timeout: None },
        Outcome::Blocked { revision: 7, timeout: Some(Duration::from_millis(9)) },
    ] {
        assert_eq!(Outcome::decode(&outcome.encode().unwrap()).unwrap(), outcome);
    }
    assert!(Request::decode(b"{\"database\": 7}").is_err());
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(Request::decode(deep.as_bytes()).is_err(), "no stack is exhausted");
}

#[test]
fn all_tables_of_the_schema_are_known() {
    let selects = tables::all().iter().filter(|decl| decl.database == Database::Northbound).map(|decl| {
        json!([{"op": "select", "table": decl.name, "where": [], "columns": decl.columns.iter().map(|c| c.name).collect::<Vec<_>>()}])
    });
    succeed(&selects.collect::<Vec<_>>());
}
