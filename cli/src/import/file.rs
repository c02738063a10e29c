//! A database file: what `ovsdb-client backup` writes, and what an ovsdb-server without a cluster keeps.
//!
//! The format is a log (ovsdb(5), "Standalone Format"): records of a line `OVSDB JSON LENGTH SHA1` and LENGTH octets
//! of JSON. The first is the schema, each further one a transaction: per table and uuid the columns that changed, or
//! null for a row that went. With `_is_diff` columns of rows that are there hold the difference to what they held.

use std::fs;

use anyhow::{Context, Result, bail};
use ovsdb::{
    schema::{ColumnType, DatabaseSchema},
    value::Datum,
};
use serde_json::{Map, Value};

use super::Dump;

pub(super) fn read(path: &str) -> Result<Dump> {
    parse(&fs::read(path).context("opening it")?)
}

fn parse(bytes: &[u8]) -> Result<Dump> {
    if bytes.starts_with(CLUSTERED) {
        bail!(
            "it is a file of one member of a cluster; save the database with `ovsdb-client backup` instead"
        );
    }
    let mut rest = bytes;
    let first = record(&mut rest, 1)?.context("it is empty")?;
    let schema = DatabaseSchema::from_json(&first).context("the first record is no schema")?;
    let mut dump = Dump { name: schema.name.clone(), ..Dump::default() };
    let mut number = 1;
    loop {
        number += 1;
        let Some(transaction) = record(&mut rest, number)? else { return Ok(dump) };
        apply(&mut dump, &schema, &transaction).with_context(|| format!("record {number}"))?;
    }
}

/// The next record, none at the end.
fn record(rest: &mut &[u8], number: usize) -> Result<Option<Value>> {
    if rest.is_empty() {
        return Ok(None);
    }
    let broken = || format!("record {number} does not begin with `OVSDB JSON LENGTH SHA1`");
    let end = rest.iter().position(|octet| *octet == b'\n').with_context(broken)?;
    let header = std::str::from_utf8(&rest[..end]).with_context(broken)?;
    let length = header.strip_prefix(STANDALONE).and_then(|header| header.split_whitespace().next());
    let length: usize = length.and_then(|length| length.parse().ok()).with_context(broken)?;
    let body = rest.get(end + 1..).and_then(|body| body.get(..length));
    let body = body.with_context(|| format!("record {number} is cut off: it should have {length} octets"))?;
    *rest = &rest[end + 1 + length..];
    serde_json::from_slice(body).with_context(|| format!("record {number} is not JSON")).map(Some)
}

fn apply(dump: &mut Dump, schema: &DatabaseSchema, transaction: &Value) -> Result<()> {
    let tables = transaction.as_object().context("a transaction is no object")?;
    let differs = tables.get("_is_diff").and_then(Value::as_bool).unwrap_or(false);
    for (table, changes) in tables.iter().filter(|(name, _)| !name.starts_with('_')) {
        let declared = schema.table(table).with_context(|| format!("table {table} is not in the schema"))?;
        let rows = dump.tables.entry(table.clone()).or_default();
        for (uuid, change) in changes.as_object().with_context(|| format!("{table} is no object"))? {
            let Some(columns) = change.as_object() else {
                rows.remove(uuid);
                continue;
            };
            let row = rows.entry(uuid.clone()).or_default();
            for (column, value) in columns {
                let ty = declared.column_type(column);
                let ty = ty.with_context(|| format!("{table} has no column {column}"))?;
                let value = match differs {
                    true => merged(row, column, value, ty)?,
                    false => value.clone(),
                };
                row.insert(column.clone(), value);
            }
        }
    }
    Ok(())
}

/// What a column holds after a difference; a row that is new holds the default before it.
fn merged(row: &Map<String, Value>, column: &str, difference: &Value, ty: &ColumnType) -> Result<Value> {
    let Some(present) = row.get(column) else { return Ok(difference.clone()) };
    let present = Datum::from_json(present, ty)?;
    let difference = Datum::from_json(difference, ty)?;
    Ok(present.apply_diff(&difference, ty)?.to_json())
}

const STANDALONE: &str = "OVSDB JSON ";
const CLUSTERED: &[u8] = b"OVSDB CLUSTER";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn log(records: &[Value]) -> Vec<u8> {
        let record = |value: &Value| {
            let body = format!("{value}\n");
            format!("OVSDB JSON {} {:040}\n{body}", body.len(), 0)
        };
        records.iter().map(record).collect::<String>().into_bytes()
    }

    fn schema() -> Value {
        let text = json!({ "type": "string" });
        let set = json!({ "type": { "key": "string", "min": 0, "max": "unlimited" } });
        json!({ "name": "DB", "version": "1.0.0", "tables": { "T": { "columns": { "name": text, "set": set } } } })
    }

    #[test]
    fn later_records_change_and_delete() {
        let (a, b) = ("00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b");
        let dump = parse(&log(&[
            schema(),
            json!({ "_date": 1, "T": { a: { "name": "one", "set": ["set", ["x", "y"]] }, b: { "name": "two" } } }),
            json!({ "T": { a: { "name": "uno" }, b: null } }),
            json!({ "_is_diff": true, "T": { a: { "set": ["set", ["y", "z"]] } } }),
        ]))
        .unwrap();
        let rows = &dump.tables["T"];
        assert_eq!(rows.len(), 1);
        assert_eq!(Value::Object(rows[a].clone()), json!({ "name": "uno", "set": ["set", ["x", "z"]] }));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |bytes: &[u8], word: &str| {
            let error = format!("{:#}", parse(bytes).unwrap_err());
            assert!(error.contains(word), "{error}");
        };
        check(b"", "empty");
        check(b"OVSDB CLUSTER 10 aa\n{}", "ovsdb-client backup");
        check(b"hello\n", "record 1 does not begin");
        check(&log(&[schema()])[..100], "cut off");
        check(&log(&[schema(), json!({ "T": { "u": { "colour": 1 } } })]), "no column colour");
    }
}
