//! Both databases side by side.

use std::{collections::BTreeMap, time::Duration};

use quantumnet_controller::{
    ovsdb::transact::{self, Attempt, Request},
    store::{Context, Refusal, State, Txn, evaluate},
};
use quantumnet_model::{Database, Uuid, tables};
use serde_json::{Value, json};

use crate::real_ovsdb::{Connection, RealServer};

/// Runs a transaction on a state of ours, without lowering.
pub(crate) fn on(state: &mut State, request: &Request) -> Attempt {
    let context = Context { now_ms: 0, principal: "test".into() };
    let no_lowering = |_: &mut Txn<'_>| -> Result<(), Refusal> { Ok(()) };
    let run = |txn: &mut Txn<'_>| Ok(transact::run(txn, request));
    let evaluated = evaluate(state, &context, run, &no_lowering).expect("refusals are results");
    *state = evaluated.state;
    evaluated.result
}

/// A request to the northbound database.
pub(crate) fn request(operations: &[Value]) -> Request {
    Request {
        database: "OVN_Northbound".to_owned(),
        operations: operations.to_vec(),
        locks: std::iter::once("mine".to_owned()).collect(),
        read_only: false,
        waited: Duration::ZERO,
    }
}

/// Our engine and a real ovsdb-server.
pub(crate) struct Pair {
    pub(crate) ours: State,
    real: Connection,
    _server: RealServer,
    /// Uuids that only one of them chose, from the real one's to ours and back.
    to_ours: BTreeMap<String, String>,
    to_real: BTreeMap<String, String>,
}

/// What both answered to one transaction, in the same form.
#[derive(Debug, PartialEq)]
pub(crate) struct Answers {
    pub(crate) ours: Value,
    pub(crate) real: Value,
}

impl Pair {
    pub(crate) fn new() -> Self {
        let server = RealServer::start(&tables::schema(Database::Northbound, "1.0.0"));
        let mut real = server.connect();
        assert_eq!(real.call("lock", json!(["mine"])), json!({ "locked": true }));
        Self {
            ours: State::default(),
            real,
            _server: server,
            to_ours: BTreeMap::new(),
            to_real: BTreeMap::new(),
        }
    }

    /// Empties both.
    pub(crate) fn clear(&mut self) {
        self.ours = State::default();
        let delete = |table: &str| json!({ "op": "delete", "table": table, "where": [] });
        let mut params = vec![json!("OVN_Northbound")];
        params.extend(tables_of_northbound().map(delete));
        let results = self.real.call("transact", params.into());
        assert!(results.as_array().unwrap().iter().all(|result| result.get("error").is_none()), "{results}");
    }

    /// Runs the operations on both. A `wait` that blocks is not for here.
    pub(crate) fn transact(&mut self, operations: &[Value]) -> Answers {
        let Attempt::Done(ours) = on(&mut self.ours, &request(operations)) else {
            panic!("blocked: {operations:?}")
        };
        let mut params = vec![json!("OVN_Northbound")];
        params.extend(operations.iter().map(|operation| renamed(operation, &self.to_real)));
        let Value::Array(real) = self.real.call("transact", params.into()) else { panic!("no array") };
        let inserted = |results: &[Value]| -> Vec<String> {
            let uuid = |result: &Value| result["uuid"][1].as_str().map_or_else(String::new, str::to_owned);
            results.iter().map(uuid).collect()
        };
        for (real, ours) in inserted(&real).into_iter().zip(inserted(&ours)) {
            if real != ours && !real.is_empty() && !ours.is_empty() {
                self.to_real.insert(ours.clone(), real.clone());
                self.to_ours.insert(real, ours);
            }
        }
        let known = |text: &str| self.to_real.contains_key(text);
        Answers {
            ours: normal(&ours.into(), &known),
            real: normal(&renamed(&real.into(), &self.to_ours), &known),
        }
    }

    /// All rows of all tables of both.
    pub(crate) fn contents(&mut self) -> Answers {
        let select = |table: &'static str| {
            let decl = tables::decl(tables::find(Database::Northbound, table).unwrap());
            let mut columns: Vec<&str> = decl.columns.iter().map(|column| column.name).collect();
            columns.push("_uuid");
            json!({ "op": "select", "table": table, "where": [], "columns": columns })
        };
        let selects: Vec<Value> = tables_of_northbound().map(select).collect();
        self.transact(&selects)
    }
}

pub(crate) fn tables_of_northbound() -> impl Iterator<Item = &'static str> {
    tables::all().iter().filter(|decl| decl.database == Database::Northbound).map(|decl| decl.name)
}

/// The same JSON with the uuids of the other side, also inside of messages.
fn renamed(json: &Value, names: &BTreeMap<String, String>) -> Value {
    match json {
        Value::String(text) => match names.get(text) {
            Some(name) => name.clone().into(),
            None if text.len() > 36 => each_uuid(text, &|uuid| names.get(uuid).cloned()).into(),
            None => json.clone(),
        },
        Value::Array(elements) => elements.iter().map(|element| renamed(element, names)).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), renamed(value, names))).collect()
        }
        other => other.clone(),
    }
}

/// Sets, maps and rows in one order; uuids of names that no insert gave, which each side draws, are masked.
fn normal(json: &Value, known: &dyn Fn(&str) -> bool) -> Value {
    match json {
        Value::Array(elements) => {
            let mut elements: Vec<Value> = elements.iter().map(|element| normal(element, known)).collect();
            if let [Value::String(tag), Value::Array(inner)] = elements.as_mut_slice()
                && (tag == "set" || tag == "map")
            {
                inner.sort_by_key(ToString::to_string);
            }
            elements.into()
        }
        Value::String(text) if text.len() >= 36 => {
            each_uuid(text, &|uuid| (!known(uuid) && !is_chosen(uuid)).then(|| "?".into())).into()
        }
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| {
                let mut value = normal(value, known);
                match (name.as_str(), &mut value) {
                    // Each has its own way to make them.
                    ("_version", version) => *version = "a version".into(),
                    ("rows", Value::Array(rows)) => rows.sort_by_key(ToString::to_string),
                    _ => {}
                }
                (name.clone(), value)
            };
            members.iter().map(member).collect()
        }
        other => other.clone(),
    }
}

/// Uuids that tests choose begin like this, so that both sides have them.
pub(crate) const CHOSEN: &str = "c0ffee00-";

pub(crate) fn chosen(n: u64) -> Uuid {
    Uuid::from_u128((0xc0ff_ee00_u128 << 96) | u128::from(n))
}

fn is_chosen(uuid: &str) -> bool {
    uuid.starts_with(CHOSEN)
}

fn each_uuid(text: &str, replace: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let uuid = rest.get(..36).filter(|head| Uuid::try_parse(head).is_ok());
        match uuid {
            Some(uuid) => {
                out += &replace(uuid).unwrap_or_else(|| uuid.to_owned());
                rest = &rest[36..];
            }
            None => {
                let next = rest.chars().next().unwrap();
                out.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    out
}
