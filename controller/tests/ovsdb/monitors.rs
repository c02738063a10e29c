//! Monitors of ours and of a real ovsdb-server: random transactions, monitors and conditions give the same updates.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use quantumnet_controller::{
    ovsdb::{
        Metrics,
        locks::Locks,
        session::{Effect, Input, Limits, Piece, Session, Store, World},
        transact::{self, Attempt, Request},
    },
    store::{Context, History, ResumeToken, State, Transaction, Txn, evaluate},
};
use quantumnet_model::{Database, Uuid, intent::Cluster, nb, tables};
use serde_json::{Value, json};

use crate::{
    harness::NB,
    real_ovsdb::{Connection, RealServer},
};

/// A store of one process, without log and lowering.
struct Local {
    state: Arc<State>,
    history: History,
}

impl Store for Local {
    fn state(&self) -> Arc<State> {
        self.state.clone()
    }

    fn since(&self, token: &ResumeToken) -> (Arc<State>, Option<Vec<Arc<Transaction>>>) {
        (self.state.clone(), self.history.since(token, &self.state))
    }
}

impl Local {
    fn new() -> Self {
        let mut local = Self { state: Arc::default(), history: History::new(1_000) };
        local.run(|txn| {
            let cluster =
                Cluster { cluster_id: Uuid::from_u128(1), history_id: Uuid::from_u128(2), last_claim: 0 };
            txn.insert(Uuid::from_u128(3), cluster).unwrap();
        });
        local
    }

    fn run<R>(&mut self, request: impl FnOnce(&mut Txn<'_>) -> R) -> R {
        let context = Context { now_ms: 0, principal: "test".into() };
        let evaluated = evaluate(&self.state, &context, |txn| Ok(request(txn)), &|_| Ok(())).unwrap();
        if !evaluated.changes.is_empty() {
            let (mut state, revision) = (State::clone(&self.state), evaluated.state.revision());
            let touched = state.apply(revision, &evaluated.changes).unwrap();
            let (principal, time_ms, bytes) = ("test".into(), 0, 1);
            self.history.push(Arc::new(Transaction { revision, time_ms, principal, touched, bytes }));
            self.state = Arc::new(state);
        }
        evaluated.result
    }

    fn transact(&mut self, operations: &[Value]) -> Vec<Value> {
        let request = Request {
            database: NB.to_owned(),
            operations: operations.to_vec(),
            locks: [].into(),
            read_only: false,
            waited: Duration::ZERO,
        };
        match self.run(|txn| transact::run(txn, &request)) {
            Attempt::Done(results) => results,
            Attempt::Blocked(_) => panic!("nothing waits here"),
        }
    }
}

/// A session on it, without a socket.
struct Ours {
    store: Local,
    session: Session,
    server: Arc<State>,
    metrics: Metrics,
    now: Instant,
}

impl Ours {
    fn new() -> Self {
        let (locks, _) = Locks::default().join();
        let now = Instant::now();
        let limits = Limits { probe: Duration::ZERO, ..Limits::default() };
        let session = Session::new(now, Database::Northbound, Uuid::nil(), locks, limits);
        Self { store: Local::new(), session, server: Arc::default(), metrics: Metrics::default(), now }
    }

    fn handle(&mut self, input: Input<'_>) -> Vec<Value> {
        let world = World { store: &self.store, server: &self.server, metrics: &self.metrics };
        let mut out = Vec::new();
        for effect in self.session.handle(self.now, &world, input) {
            match effect {
                Effect::Send(Piece::Octets(octets)) => out.extend_from_slice(&octets),
                // In small pieces, as for a slow client.
                Effect::Send(Piece::Dump(mut dump)) => while dump.write(16, &mut out) {},
                other => panic!("{other:?}"),
            }
        }
        serde_json::Deserializer::from_slice(&out).into_iter().collect::<Result<_, _>>().unwrap()
    }

    fn call(&mut self, method: &str, params: &Value) -> Vec<Value> {
        let request = json!({"id": 1, "method": method, "params": params}).to_string();
        self.handle(Input::Received(request.as_bytes()))
    }
}

#[derive(Clone, Debug)]
enum Step {
    Transact(Vec<Value>),
    Monitor { form: usize, request: Value },
    Condition { monitor: usize, request: Value },
}

fn row_uuid(n: u8) -> String {
    Uuid::from_u128(0x1000 + u128::from(n)).to_string()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[ab]", Just("\"\u{e9}\n".to_owned())]
}

fn map() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-c]", text(), 0..3)
        .prop_map(|map| json!(["map", map.into_iter().map(|(k, v)| json!([k, v])).collect::<Vec<_>>()]))
}

fn set() -> impl Strategy<Value = Value> {
    prop::collection::btree_set("[a-d]", 0..4).prop_map(|set| json!(["set", set]))
}

fn switch() -> impl Strategy<Value = Value> {
    prop_oneof![
        text().prop_map(|name| json!({"name": name})),
        map().prop_map(|map| json!({"external_ids": map})),
        (text(), map()).prop_map(|(name, map)| json!({"name": name, "other_config": map})),
    ]
}

fn addresses() -> impl Strategy<Value = Value> {
    (set(), map()).prop_map(|(set, map)| json!({"addresses": set, "external_ids": map}))
}

fn global() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-1_i64..4).prop_map(|cfg| json!({"nb_cfg": cfg})),
        any::<bool>().prop_map(|ipsec| json!({"ipsec": ipsec, "hv_cfg": 1})),
    ]
}

fn operation() -> impl Strategy<Value = Value> {
    let row = |table: &'static str, columns: BoxedStrategy<Value>| {
        // ovsdb-server 3.1 dies of a uuid that two tables have while there are monitors.
        let first = if table == "Address_Set" { 4 } else { 0 };
        (first..first + 4_u8, columns, 0_u8..4).prop_map(move |(n, columns, kind)| {
            let (uuid, id) = (row_uuid(n), json!([["_uuid", "==", ["uuid", row_uuid(n)]]]));
            match kind {
                0 => {
                    let mut row = columns;
                    if table == "Address_Set" {
                        row["name"] = format!("as{n}").into();
                    }
                    json!({"op": "insert", "table": table, "row": row, "uuid": uuid})
                }
                1 => json!({"op": "delete", "table": table, "where": id}),
                _ => json!({"op": "update", "table": table, "where": id, "row": columns}),
            }
        })
    };
    prop_oneof![
        row("Logical_Switch", switch().boxed()),
        row("Address_Set", addresses().boxed()),
        global().prop_map(|row| json!({"op": "update", "table": "NB_Global", "where": [], "row": row})),
        Just(json!({"op": "insert", "table": "NB_Global", "row": {}, "uuid": row_uuid(9)})),
        Just(json!({"op": "delete", "table": "NB_Global", "where": []})),
    ]
}

fn condition(table: &'static str) -> BoxedStrategy<Value> {
    let clause = match table {
        "Logical_Switch" => prop_oneof![
            text().prop_map(|name| json!(["name", "==", name])),
            map().prop_map(|map| json!(["external_ids", "includes", map])),
            (0_u8..4).prop_map(|n| json!(["_uuid", "==", ["uuid", row_uuid(n)]])),
        ]
        .boxed(),
        "Address_Set" => prop_oneof![
            set().prop_map(|set| json!(["addresses", "includes", set])),
            set().prop_map(|set| json!(["addresses", "excludes", set])),
            set().prop_map(|set| json!(["addresses", "==", set])),
        ]
        .boxed(),
        _ => prop_oneof![
            (0_i64..4).prop_map(|cfg| json!(["nb_cfg", "<", cfg])),
            any::<bool>().prop_map(|ipsec| json!(["ipsec", "!=", ipsec])),
        ]
        .boxed(),
    };
    let clause = prop_oneof![1 => any::<bool>().prop_map(Value::from), 4 => clause];
    prop::collection::vec(clause, 0..3).prop_map(Value::from).boxed()
}

fn table() -> impl Strategy<Value = (&'static str, Vec<&'static str>)> {
    prop_oneof![
        Just(("Logical_Switch", vec!["name", "external_ids", "other_config", "ports"])),
        Just(("Address_Set", vec!["name", "addresses", "external_ids"])),
        Just(("NB_Global", vec!["nb_cfg", "ipsec", "hv_cfg", "ssl"])),
    ]
}

fn monitored(form: usize) -> impl Strategy<Value = Value> {
    prop::collection::vec(requests(form), 1..3)
        .prop_map(|list| list.into_iter().map(|(table, json)| (table.to_owned(), json)).collect())
}

fn requests(form: usize) -> BoxedStrategy<(&'static str, Value)> {
    table()
        .prop_flat_map(move |(table, columns)| {
            let flags = prop::array::uniform4(prop::bool::weighted(0.8));
            (prop::sample::subsequence(columns, 0..4), flags, prop::option::of(condition(table))).prop_map(
                move |(columns, [initial, insert, delete, modify], condition)| {
                    let select =
                        json!({"initial": initial, "insert": insert, "delete": delete, "modify": modify});
                    let mut request = json!({"columns": columns, "select": select});
                    if let Some(condition) = condition.filter(|_| form > 0) {
                        request["where"] = condition;
                    }
                    (table, json!([request]))
                },
            )
        })
        .boxed()
}

fn step() -> impl Strategy<Value = Step> {
    let change = table().prop_flat_map(|(table, _)| {
        (0_usize..4, condition(table))
            .prop_map(move |(monitor, clauses)| (monitor, json!({table: [{"where": clauses}]})))
    });
    prop_oneof![
        6 => prop::collection::vec(operation(), 1..5).prop_map(Step::Transact),
        2 => (0_usize..2).prop_flat_map(|form| (Just(form), monitored(form)))
            .prop_map(|(form, request)| Step::Monitor { form, request }),
        1 => change.prop_map(|(monitor, request)| Step::Condition { monitor, request }),
    ]
}

/// Notifications without updates that say nothing: ovsdb-server sends an empty change when a column changed that only
/// the condition names.
fn told(messages: Vec<Value>) -> Vec<String> {
    let mut told = Vec::new();
    for mut message in messages {
        let Some(tables) = message["params"][1].as_object_mut() else { continue };
        for rows in tables.values_mut().filter_map(Value::as_object_mut) {
            rows.retain(|_, row| {
                row != &json!({"modify": {}}) && row["old"] != json!({}) || row.get("delete").is_some()
            });
        }
        tables.retain(|_, rows| rows.as_object().is_some_and(|rows| !rows.is_empty()));
        if !tables.is_empty() {
            told.push(message.to_string());
        }
    }
    // One monitor's before another's means nothing.
    told.sort();
    told
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn updates_are_those_of_ovsdb_server(steps in prop::collection::vec(step(), 1..30)) {
        let schema = tables::schema(Database::Northbound, nb::VERSION);
        let server = RealServer::start(&schema);
        let mut real: Connection = server.connect();
        let mut ours = Ours::new();
        let mut monitors = Vec::new();
        for step in steps {
            match step {
                Step::Transact(operations) => {
                    let mut params = vec![Value::from(NB)];
                    params.extend(operations.iter().cloned());
                    let expected = real.call("transact", params.into());
                    let got = ours.store.transact(&operations);
                    prop_assert_eq!(errors(&got), errors(expected.as_array().unwrap()), "{:?}", operations);
                    let told_ours = told(ours.handle(Input::Moved));
                    prop_assert_eq!(told_ours, told(std::mem::take(&mut real.notifications)));
                }
                Step::Monitor { form, request } => {
                    let method = ["monitor", "monitor_cond"][form];
                    let params = json!([NB, [monitors.len()], request]);
                    monitors.push(form);
                    let expected = real.call(method, params.clone());
                    let got = ours.call(method, &params);
                    prop_assert_eq!(&got[0]["result"], &expected, "{}", params);
                }
                Step::Condition { monitor, request } => {
                    let params = json!([[monitor], [monitor], request]);
                    let expected = real.call_raw("monitor_cond_change", params.clone());
                    let mut got = ours.call("monitor_cond_change", &params);
                    let reply = got.pop().unwrap();
                    prop_assert_eq!(&reply["result"], expected.get("result").unwrap_or(&Value::Null), "{} {}", params, reply);
                    prop_assert_eq!(told(got), told(std::mem::take(&mut real.notifications)), "{}", params);
                }
            }
        }
    }
}

#[test]
fn a_monitor_without_conditions_takes_a_change_of_them() {
    let schema = tables::schema(Database::Northbound, nb::VERSION);
    let server = RealServer::start(&schema);
    let (mut real, mut ours): (Connection, _) = (server.connect(), Ours::new());
    let monitor = json!([NB, "m", {"Logical_Switch": {"columns": ["name"]}}]);
    assert_eq!(ours.call("monitor", &monitor)[0]["result"], real.call("monitor", monitor.clone()));
    let change = json!(["m", "n", {"Logical_Switch": [{"where": [false]}]}]);
    let expected = real.call_raw("monitor_cond_change", change.clone());
    assert_eq!(ours.call("monitor_cond_change", &change)[0]["result"], expected["result"]);
    // The new name counts, the condition does not.
    let operations = [json!({"op": "insert", "table": "Logical_Switch", "row": {"name": "a"}})];
    ours.store.transact(&operations);
    let told = ours.handle(Input::Moved);
    assert_eq!((&told[0]["method"], &told[0]["params"][0]), (&json!("update"), &json!("n")));
}

fn errors(results: &[Value]) -> Vec<Option<&str>> {
    results.iter().map(|result| result.get("error").and_then(Value::as_str)).collect()
}
