//! Random transactions give the same results, the same errors and the same rows on both.
//!
//! A failure prints its seed; `QN_SEED=n` runs that one case, `QN_CASES=n` so many.

use std::env;

use quantumnet_model::{Database, row::TableId, tables};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::Value;

use crate::{generate::Generator, pair::Pair};

const CASES: u64 = 25;
const TRANSACTIONS: usize = 40;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn random_transactions_do_the_same_on_both() {
    let mut pair = Pair::new();
    let seeds: Vec<u64> = match number("QN_SEED") {
        Some(seed) => vec![seed],
        None => {
            let first: u64 = rand::rng().random();
            (0..number("QN_CASES").unwrap_or(CASES)).map(|n| first.wrapping_add(n)).collect()
        }
    };
    let mut outcomes = std::collections::BTreeMap::<String, usize>::new();
    for seed in seeds {
        pair.clear();
        case(&mut pair, seed, &mut outcomes);
    }
    println!("{outcomes:#?}");
}

fn case(pair: &mut Pair, seed: u64, outcomes: &mut std::collections::BTreeMap<String, usize>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let northbound: Vec<TableId> =
        tables::ids().filter(|table| tables::decl(*table).database == Database::Northbound).collect();
    let count = rng.random_range(2..northbound.len());
    let tables: Vec<TableId> = northbound.choose_multiple(&mut rng, count.min(8)).copied().collect();
    let mut serial = 0;
    println!("seed {seed}");
    for at in 0..TRANSACTIONS {
        let operations = Generator::new(&mut rng, &pair.ours.clone(), &tables, &mut serial).transaction();
        if number("QN_SEED").is_some() {
            println!("{}", serde_json::json!(operations));
        }
        let answers = pair.transact(&operations);
        let (ours, real) = (told(&operations, &answers.ours), told(&operations, &answers.real));
        let all: Vec<String> = operations.iter().map(ToString::to_string).collect();
        assert_eq!(ours, real, "seed {seed}, transaction {at}:\n{}", all.join("\n"));
        let outcome = failure(&ours).map_or("committed", |error| error["error"].as_str().unwrap_or_default());
        *outcomes.entry(outcome.to_owned()).or_default() += 1;
        if at % 10 == 9 {
            let contents = pair.contents();
            assert_eq!(
                contents.ours,
                contents.real,
                "seed {seed}, after transaction {at}:\n{}",
                all.join("\n")
            );
            assert!(pair.ours.check(), "seed {seed}: indexes and references are those of the rows");
        }
    }
}

fn failure(results: &Value) -> Option<&Value> {
    results.as_array()?.iter().find(|result| result.get("error").is_some())
}

/// Results without what follows the order of ovsdb-server's hash tables: which of several rows is named first.
fn told(operations: &[Value], results: &Value) -> Value {
    let mut results = results.as_array().unwrap().clone();
    for (at, result) in results.iter_mut().enumerate() {
        let Some(result) = result.as_object_mut().filter(|result| result.contains_key("error")) else {
            continue;
        };
        let commit = at == operations.len();
        let rows = operations.get(at).is_some_and(|operation| operation["op"] == "mutate")
            && !result.contains_key("syntax");
        if commit || rows {
            result.remove("details");
        }
    }
    results.into()
}
