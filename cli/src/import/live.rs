//! A database as a running server has it: the schema's tables, read in one transaction (RFC 7047).

use std::{
    io::{BufReader, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::{Map, StreamDeserializer, Value, de::IoRead, json};

use super::Dump;

pub(super) fn read(address: &str, database: &str) -> Result<Dump> {
    let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(PATIENCE)).context("setting a timeout")?;
    let reader = BufReader::new(stream.try_clone().context("copying the socket")?);
    let mut session = Session { stream, answers: serde_json::Deserializer::from_reader(reader).into_iter() };
    let schema = session.call("get_schema", json!([database]))?;
    let tables: Vec<String> =
        schema["tables"].as_object().context("the schema has no tables")?.keys().cloned().collect();
    let select = |table: &String| json!({ "op": "select", "table": table, "where": [] });
    let mut request = vec![json!(database)];
    request.extend(tables.iter().map(select));
    let results = session.call("transact", Value::Array(request))?;
    let results = results.as_array().context("the answer is no list")?;
    let mut dump = Dump { name: database.to_owned(), ..Dump::default() };
    for (table, result) in tables.iter().zip(results) {
        let rows = result["rows"].as_array().with_context(|| format!("reading {table}: {result}"))?;
        let into = dump.tables.entry(table.clone()).or_default();
        for row in rows {
            let mut columns: Map<String, Value> = row.as_object().cloned().context("a row is no object")?;
            columns.remove("_version");
            let uuid = columns.remove("_uuid");
            into.insert(
                super::uuid(uuid.as_ref()).with_context(|| format!("a row of {table} has no uuid"))?,
                columns,
            );
        }
    }
    Ok(dump)
}

struct Session {
    stream: TcpStream,
    answers: StreamDeserializer<'static, IoRead<BufReader<TcpStream>>, Value>,
}

impl Session {
    fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        self.send(&json!({ "id": method, "method": method, "params": params }))?;
        loop {
            let message = self.answers.next().context("the server hung up")?.context("reading its answer")?;
            if message["method"] == "echo" {
                self.send(&json!({ "id": message["id"], "result": message["params"], "error": null }))?;
            } else if message["id"] == method && message.get("method").is_none() {
                if !message["error"].is_null() {
                    bail!("{method}: {}", message["error"]);
                }
                return Ok(message["result"].clone());
            }
        }
    }

    fn send(&mut self, message: &Value) -> Result<()> {
        self.stream.write_all(message.to_string().as_bytes()).context("sending")
    }
}

/// A large database takes a server some seconds to write out.
const PATIENCE: Duration = Duration::from_secs(60);
