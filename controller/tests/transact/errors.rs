//! What is refused, on both: the same error with the same details.

use serde_json::{Value, json};

use crate::pair::{Pair, chosen};

/// Runs each transaction on both, which must agree to the letter; names the error expected.
fn fail(pair: &mut Pair, expected: &str, operations: Value) {
    let operations = operations.as_array().unwrap();
    let answers = pair.transact(operations);
    let failed = answers.ours.as_array().unwrap().iter().find_map(|result| result.get("error"));
    assert_eq!(failed, Some(&json!(expected)), "{operations:?}\n{}", answers.ours);
    assert_eq!(answers.ours, answers.real, "{operations:?}");
    let contents = pair.contents();
    assert_eq!(contents.ours, contents.real, "nothing stays of {operations:?}");
}

#[test]
fn malformed_operations() {
    let mut pair = Pair::new();
    let mut syntax = |operation: Value| {
        let before = json!({"op": "insert", "table": "Logical_Switch", "row": {"name": "a"}});
        let after = json!({"op": "comment", "comment": "not reached"});
        fail(&mut pair, "syntax error", json!([before, operation, after]));
    };
    syntax(json!(7));
    syntax(json!({}));
    syntax(json!({"op": 7}));
    syntax(json!({"op": "no such"}));
    syntax(json!({"op": "nothing"}));
    syntax(json!({"op": "insert", "row": {}}));
    syntax(json!({"op": "insert", "table": "Logical_Switch"}));
    syntax(json!({"op": "insert", "table": "Logical_Switch", "row": []}));
    syntax(json!({"op": "insert", "table": "Nothing", "row": {}}));
    syntax(json!({"op": "insert", "table": "Logical_Switch", "row": {}, "where": []}));
    syntax(json!({"op": "insert", "table": "Logical_Switch", "row": {}, "uuid": "x"}));
    syntax(json!({"op": "insert", "table": "Logical_Switch", "row": {}, "uuid-name": "9x"}));
    syntax(json!({"op": "select", "table": "Logical_Switch"}));
    syntax(json!({"op": "select", "table": "Logical_Switch", "where": [7]}));
    syntax(json!({"op": "select", "table": "Logical_Switch", "where": [["name", "=="]]}));
    syntax(json!({"op": "select", "table": "Logical_Switch", "where": [], "columns": ["nothing"]}));
    syntax(json!({"op": "select", "table": "Logical_Switch", "where": [], "columns": ["name", "name"]}));
    syntax(json!({"op": "select", "table": "Logical_Switch", "where": [], "columns": [7]}));
    syntax(json!({"op": "select", "table": "Logical_Switch", "where": [["name", "<", "a"]]}));
    syntax(json!({"op": "select", "table": "Logical_Switch", "where": [["name", "==", 7]]}));
    syntax(
        json!({"op": "select", "table": "Logical_Switch", "where": [["name", "==", ["set", ["a", "b"]]]]}),
    );
    syntax(json!({"op": "select", "table": "Logical_Switch", "where": [["_uuid", "==", "a"]]}));
    syntax(json!({"op": "select", "table": "Logical_Switch", "where": [["_uuid", "==", ["uuid", "a"]]]}));
    syntax(
        json!({"op": "select", "table": "Logical_Switch", "where": [["_uuid", "==", ["named-uuid", "9"]]]}),
    );
    syntax(json!({"op": "update", "table": "Logical_Switch", "where": []}));
    syntax(
        json!({"op": "update", "table": "Logical_Switch", "where": [], "row": {"other_config": ["set", []]}}),
    );
    syntax(
        json!({"op": "update", "table": "Logical_Switch", "where": [], "row": {"other_config": ["map", [["a"]]]}}),
    );
    syntax(json!({"op": "update", "table": "Logical_Switch", "where": [], "row": {"ports": ["set", 7]}}));
    syntax(json!({"op": "update", "table": "Logical_Switch", "where": [], "row": {"copp": ["set", [1, 2]]}}));
    syntax(json!({"op": "update", "table": "NB_Global", "where": [], "row": {"nb_cfg": 1.5}}));
    syntax(json!({"op": "update", "table": "NB_Global", "where": [], "row": {"ipsec": 1}}));
    syntax(json!({"op": "mutate", "table": "NB_Global", "where": []}));
    syntax(json!({"op": "mutate", "table": "NB_Global", "where": [], "mutations": [["nb_cfg", "+="]]}));
    syntax(json!({"op": "mutate", "table": "NB_Global", "where": [], "mutations": [["name", "+=", 1]]}));
    syntax(
        json!({"op": "mutate", "table": "NB_Global", "where": [], "mutations": [["nb_cfg", "insert", 1]]}),
    );
    syntax(
        json!({"op": "mutate", "table": "NB_Global", "where": [], "mutations": [["options", "insert", "a"]]}),
    );
    syntax(
        json!({"op": "mutate", "table": "NB_Global", "where": [], "mutations": [["nb_cfg", "+=", ["set", [1, 2]]]]}),
    );
    syntax(json!({"op": "delete", "table": "Logical_Switch"}));
    syntax(
        json!({"op": "wait", "table": "Logical_Switch", "where": [], "until": "=", "rows": [], "timeout": 0}),
    );
    syntax(
        json!({"op": "wait", "table": "Logical_Switch", "where": [], "until": "==", "rows": [7], "timeout": 0}),
    );
    syntax(
        json!({"op": "wait", "table": "Logical_Switch", "where": [], "until": "==", "rows": [], "timeout": -1}),
    );
    syntax(
        json!({"op": "wait", "table": "Logical_Switch", "where": [], "until": "==", "rows": [], "timeout": 0.5}),
    );
    syntax(json!({"op": "commit"}));
    syntax(json!({"op": "commit", "durable": 1}));
    syntax(json!({"op": "comment"}));
    syntax(json!({"op": "assert", "lock": "no id"}));
    syntax(json!({"op": "abort", "now": true}));
}

#[test]
fn refused_operations() {
    let mut pair = Pair::new();
    let setup = json!([
        {"op": "insert", "table": "Logical_Switch", "row": {"name": "a"}, "uuid": chosen(1).to_string()},
        {"op": "insert", "table": "NB_Global", "row": {"nb_cfg": i64::MAX}},
        {"op": "insert", "table": "Logical_Switch_Port", "row": {"name": "p", "tag": 4095}, "uuid-name": "p"},
        {"op": "insert", "table": "Logical_Switch", "row": {"ports": ["named-uuid", "p"]}},
    ]);
    let answers = pair.transact(setup.as_array().unwrap());
    assert_eq!(answers.ours, answers.real);
    let insert = |row: Value| json!({"op": "insert", "table": "ACL", "row": row});
    let acl = |row: Value| {
        let mut whole = json!({"action": "allow", "direction": "to-lport", "priority": 1, "match": "1"});
        whole.as_object_mut().unwrap().extend(row.as_object().unwrap().clone());
        insert(whole)
    };
    let update = |table: &str, row: Value| json!({"op": "update", "table": table, "where": [], "row": row});
    let mutate = |table: &str, mutation: Value| json!({"op": "mutate", "table": table, "where": [], "mutations": [mutation]});
    let cases = [
        ("unknown column", update("Logical_Switch", json!({"nothing": 1}))),
        (
            "unknown column",
            json!({"op": "delete", "table": "Logical_Switch", "where": [["nothing", "==", 1]]}),
        ),
        ("unknown column", mutate("Logical_Switch", json!(["nothing", "+=", 1]))),
        (
            "unknown function",
            json!({"op": "delete", "table": "Logical_Switch", "where": [["name", "=", "a"]]}),
        ),
        ("unknown mutator", mutate("NB_Global", json!(["nb_cfg", "^=", 1]))),
        (
            "duplicate uuid",
            json!({"op": "insert", "table": "Logical_Switch", "row": {}, "uuid": chosen(1).to_string()}),
        ),
        ("constraint violation", acl(json!({"action": "nothing"}))),
        ("constraint violation", acl(json!({"priority": 32768}))),
        ("constraint violation", acl(json!({"tier": -1}))),
        ("constraint violation", insert(json!({"direction": "to-lport"}))),
        ("constraint violation", update("Logical_Switch", json!({"_uuid": ["uuid", chosen(7).to_string()]}))),
        ("constraint violation", mutate("Logical_Switch", json!(["_uuid", "insert", 1]))),
        ("constraint violation", mutate("Logical_Switch_Port", json!(["tag", "+=", 1]))),
        ("constraint violation", mutate("Logical_Switch_Port", json!(["tag", "insert", 7]))),
        ("ovsdb error", update("Logical_Switch_Port", json!({"addresses": ["set", ["a", "a"]]}))),
        ("ovsdb error", update("Logical_Switch_Port", json!({"options": ["map", [["a", "1"], ["a", "2"]]]}))),
        ("range error", mutate("NB_Global", json!(["nb_cfg", "+=", 1]))),
        ("range error", mutate("NB_Global", json!(["nb_cfg", "*=", 3]))),
        ("domain error", mutate("NB_Global", json!(["nb_cfg", "/=", 0]))),
        ("domain error", mutate("NB_Global", json!(["nb_cfg", "%=", 0]))),
        ("aborted", json!({"op": "abort"})),
        ("not owner", json!({"op": "assert", "lock": "other"})),
        (
            "timed out",
            json!({"op": "wait", "table": "Logical_Switch", "where": [], "columns": ["name"],
                             "until": "==", "rows": [], "timeout": 0}),
        ),
    ];
    for (expected, operation) in cases {
        fail(&mut pair, expected, json!([operation, {"op": "comment", "comment": "not reached"}]));
    }
    let named = json!({"op": "insert", "table": "Logical_Switch", "row": {}, "uuid-name": "n"});
    fail(&mut pair, "duplicate uuid-name", json!([named, named]));
    // Its uuid is not free again in the transaction that deletes it.
    let delete = json!({"op": "delete", "table": "Logical_Switch", "where": []});
    let again = json!({"op": "insert", "table": "Logical_Switch", "row": {}, "uuid": chosen(1).to_string()});
    fail(&mut pair, "duplicate uuid", json!([delete, again]));
}

#[test]
fn refused_commits() {
    let mut pair = Pair::new();
    let insert = |n: u64, table: &str, row: Value| json!({"op": "insert", "table": table, "row": row, "uuid": chosen(n).to_string()});
    let port = |n: u64| json!(["uuid", chosen(n).to_string()]);
    let setup = json!([
        insert(1, "Logical_Switch_Port", json!({"name": "p"})),
        insert(2, "Logical_Switch", json!({"ports": port(1)})),
        insert(3, "NB_Global", json!({})),
        insert(4, "Address_Set", json!({"name": "taken"})),
    ]);
    let answers = pair.transact(setup.as_array().unwrap());
    assert_eq!(answers.ours, answers.real);
    let refint = "referential integrity violation";
    fail(&mut pair, refint, json!([insert(10, "Logical_Switch", json!({"ports": port(77)}))]));
    fail(&mut pair, refint, json!([{"op": "delete", "table": "Logical_Switch_Port", "where": []}]));
    // A row that nothing refers to would go, but what it refers to is looked at first.
    fail(
        &mut pair,
        refint,
        json!([insert(10, "Network_Function", json!({"name": "f", "id": 1, "inport": port(77)}))]),
    );
    fail(&mut pair, refint, json!([insert(10, "Network_Function", json!({"name": "f", "id": 1}))]));
    fail(&mut pair, refint, json!([insert(10, "Meter", json!({"name": "m", "unit": "kbps"}))]));
    let violation = "constraint violation";
    fail(&mut pair, violation, json!([insert(10, "NB_Global", json!({}))]));
    let again = insert(10, "Logical_Switch_Port", json!({"name": "p"}));
    let switch = insert(11, "Logical_Switch", json!({"ports": port(10)}));
    let answers = pair.transact(&[again, switch]);
    assert_eq!(answers.ours[2]["error"], violation);
    assert_eq!(answers.ours[2]["error"], answers.real[2]["error"]);
    // Which row is named first follows an order of columns that only the real one has.
    let words = |answer: &Value| -> Vec<String> {
        let text = answer[2]["details"].as_str().unwrap();
        let mut words: Vec<String> = text
            .split_whitespace()
            .filter(|word| !["First", "Second"].contains(word))
            .map(str::to_owned)
            .collect();
        words.sort();
        words
    };
    assert_eq!(words(&answers.ours), words(&answers.real));
}
