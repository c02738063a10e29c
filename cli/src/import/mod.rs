//! `qnctl import ovn-nb`: takes over the database of an OVN installation.
//!
//! # Contract
//! - In: OVN_Northbound, and for the tunnel keys OVN_Southbound, each from a file or a running server. Out: one
//!   `ImportRows`, which keeps every uuid and key or changes nothing.
//! - What is left out, and what is kept without being acted on, is said row by row.

mod file;
mod live;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use quantumnet_cli::client::Client;
use serde_json::{Map, Value, json};

use crate::features::{Features, is_unset};

/// `qnctl import …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// The northbound database of an OVN installation.
    OvnNb(OvnNb),
}

/// What `qnctl import ovn-nb` takes.
#[derive(Args, Debug)]
pub(crate) struct OvnNb {
    /// File that `ovsdb-client backup` wrote or a server without a cluster keeps, or tcp:IP:PORT of a running one.
    northbound: String,
    /// The same of its southbound database: switches and ports keep their tunnel keys.
    #[arg(long)]
    sb: Option<String>,
    /// Replace what is there; without it a database that holds anything is refused.
    #[arg(long)]
    replace: bool,
    /// Check everything and change nothing.
    #[arg(long)]
    dry_run: bool,
}

/// A database read from somewhere: rows by table and uuid, columns in OVSDB's JSON.
#[derive(Debug, Default)]
pub(crate) struct Dump {
    name: String,
    tables: BTreeMap<String, BTreeMap<String, Map<String, Value>>>,
}

/// Imports, and says what came of it.
pub(crate) async fn run(client: &Client, command: ImportCommand) -> Result<()> {
    let ImportCommand::OvnNb(OvnNb { northbound, sb, replace, dry_run }) = command;
    let source = read(&northbound, "OVN_Northbound")?;
    let keys = match &sb {
        Some(sb) => tunnel_keys(&source, &read(sb, "OVN_Southbound")?),
        None => BTreeMap::new(),
    };
    let (dump, left_out) = what_is_known(client, source).await?;
    let features = Features::fetch(client).await?;

    let rows: Vec<Value> = dump
        .tables
        .iter()
        .flat_map(|(table, rows)| {
            rows.iter().map(move |(uuid, columns)| {
                json!({ "table": table, "uuid": uuid, "columns": Value::Object(columns.clone()).to_string() })
            })
        })
        .collect();
    let keys: Vec<Value> = keys.iter().map(|(uuid, key)| json!({ "uuid": uuid, "key": key })).collect();
    let wanted = keys.len();
    let request = json!({ "rows": rows, "keys": keys, "replace": replace, "dryRun": dry_run });
    let answer = client.call("DatabaseService", "ImportRows", &request).await?;

    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for count in answer["counts"].as_array().into_iter().flatten() {
        println!("{:>8} {}", text(&count["rows"]), text(&count["table"]));
    }
    let kept = if answer["keysKept"].is_null() { "0".to_owned() } else { text(&answer["keysKept"]) };
    println!("{kept} of {wanted} tunnel keys kept");
    for line in &left_out {
        println!("! left out: {line}");
    }
    for (table, rows) in &dump.tables {
        for (uuid, columns) in rows {
            for line in features.not_acted_on(table, columns) {
                println!("! {table} {uuid} {}: {line}", name_of(columns));
            }
        }
    }
    match dry_run {
        true => println!("dry run: nothing was changed"),
        false => println!("imported at revision {}", text(&answer["revision"])),
    }
    Ok(())
}

fn read(place: &str, database: &str) -> Result<Dump> {
    let dump = match place.strip_prefix("tcp:") {
        Some(address) => {
            live::read(address, database).with_context(|| format!("reading {database} from {place}"))?
        }
        None => file::read(place).with_context(|| format!("reading {place}"))?,
    };
    if dump.name != database {
        bail!("{place} holds the database {}, not {database}", dump.name);
    }
    Ok(dump)
}

/// Keys of switches and ports by northbound uuid. A datapath names its switch in `external_ids` (or, of late, in
/// `nb_uuid`); a binding names its port.
fn tunnel_keys(northbound: &Dump, southbound: &Dump) -> BTreeMap<String, u64> {
    let empty = BTreeMap::new();
    let table = |dump: &'_ Dump, name: &str| dump.tables.get(name).unwrap_or(&empty).clone();
    let mut keys = BTreeMap::new();
    let switches = table(northbound, "Logical_Switch");
    for row in table(southbound, "Datapath_Binding").values() {
        let named = pair(row.get("external_ids"), "logical-switch").or_else(|| uuid(row.get("nb_uuid")));
        if let (Some(switch), Some(key)) = (named, row.get("tunnel_key").and_then(Value::as_u64))
            && switches.contains_key(&switch)
        {
            keys.insert(switch, key);
        }
    }
    let ports: BTreeMap<String, String> = table(northbound, "Logical_Switch_Port")
        .into_iter()
        .filter_map(|(uuid, row)| Some((row.get("name")?.as_str()?.to_owned(), uuid)))
        .collect();
    for row in table(southbound, "Port_Binding").values() {
        let port = row.get("logical_port").and_then(Value::as_str).and_then(|name| ports.get(name));
        if let (Some(port), Some(key)) = (port, row.get("tunnel_key").and_then(Value::as_u64)) {
            keys.insert(port.clone(), key);
        }
    }
    keys
}

/// The value of a key in a map of OVSDB's JSON.
fn pair(map: Option<&Value>, key: &str) -> Option<String> {
    let pairs = map?.get(1)?.as_array()?;
    let found = pairs.iter().find(|pair| pair.get(0).and_then(Value::as_str) == Some(key))?;
    found.get(1)?.as_str().map(str::to_owned)
}

/// The uuid in `["uuid", …]`.
fn uuid(value: Option<&Value>) -> Option<String> {
    let parts = value?.as_array()?;
    (parts.first()?.as_str()? == "uuid").then(|| parts.get(1)?.as_str().map(str::to_owned))?
}

fn name_of(columns: &Map<String, Value>) -> &str {
    columns.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// Drops tables and columns that the controller does not have, and says which.
async fn what_is_known(client: &Client, mut dump: Dump) -> Result<(Dump, BTreeSet<String>)> {
    let answer = client.call("DatabaseService", "ListTables", &json!({ "database": dump.name })).await?;
    let names = |value: &Value| -> BTreeSet<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let known: BTreeMap<String, BTreeSet<String>> = answer["tables"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|table| Some((table["name"].as_str()?.to_owned(), names(&table["columns"]))))
        .collect();
    let mut left_out = BTreeSet::new();
    dump.tables.retain(|table, rows| {
        if !known.contains_key(table) && !rows.is_empty() {
            left_out.insert(format!("{} rows of {table}, a table that is not known here", rows.len()));
        }
        known.contains_key(table)
    });
    for (table, rows) in &mut dump.tables {
        let Some(columns) = known.get(table) else { continue };
        for (uuid, row) in rows {
            row.retain(|column, value| {
                let keep = columns.contains(column);
                if !keep && !is_unset(value) {
                    left_out.insert(format!("{table} {uuid} {column}, a column that is not known here"));
                }
                keep
            });
        }
    }
    Ok((dump, left_out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_by_switch_and_by_port_name() {
        let row = |value: Value| value.as_object().cloned().unwrap();
        let table = |rows: &[(&str, Value)]| {
            rows.iter()
                .map(|(uuid, value)| ((*uuid).to_owned(), row(value.clone())))
                .collect::<BTreeMap<_, _>>()
        };
        let mut northbound = Dump::default();
        northbound.tables.insert("Logical_Switch".into(), table(&[("s1", json!({})), ("s2", json!({}))]));
        northbound.tables.insert("Logical_Switch_Port".into(), table(&[("p1", json!({ "name": "a" }))]));
        let mut southbound = Dump::default();
        southbound.tables.insert(
            "Datapath_Binding".into(),
            table(&[
                ("d1", json!({ "tunnel_key": 7, "external_ids": ["map", [["logical-switch", "s1"]]] })),
                ("d2", json!({ "tunnel_key": 8, "external_ids": ["map", []], "nb_uuid": ["uuid", "s2"] })),
                ("d3", json!({ "tunnel_key": 9, "external_ids": ["map", [["logical-router", "r"]]] })),
            ]),
        );
        southbound.tables.insert(
            "Port_Binding".into(),
            table(&[
                ("b1", json!({ "tunnel_key": 3, "logical_port": "a" })),
                ("b2", json!({ "tunnel_key": 4, "logical_port": "gone" })),
            ]),
        );
        let keys = tunnel_keys(&northbound, &southbound);
        let wanted = [("p1", 3), ("s1", 7), ("s2", 8)].map(|(uuid, key)| (uuid.to_owned(), key));
        assert_eq!(keys.into_iter().collect::<Vec<_>>(), wanted);
    }
}
