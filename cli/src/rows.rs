//! `qnctl get switches|routers|acls|…`: rows of OVN_Northbound and OVN_Southbound by OVN's own names.
//!
//! # Contract
//! - Which tables and columns there are is asked of the controller: no list of them is kept here.
//! - A table goes by its name, however it is written: `Logical_Switch_Port`, `logical-switch-ports`, `switch-port`.

use anyhow::{Context, Result, bail};
use quantumnet_cli::client::Client;
use serde_json::{Value, json};

use crate::{
    kind::{cell, is_uuid},
    show::{Format, print, table},
};

/// A table of one of the two databases.
#[derive(Debug)]
pub(crate) struct Table {
    database: &'static str,
    name: String,
    columns: Vec<String>,
}

impl Table {
    /// The table that `word` means; the northbound one if both databases have such.
    pub(crate) async fn find(client: &Client, word: &str) -> Result<Self> {
        let mut known = Vec::new();
        for database in DATABASES {
            let answer =
                client.call("DatabaseService", "ListTables", &json!({ "database": database })).await?;
            for described in answer["tables"].as_array().into_iter().flatten() {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let name = text(&described["name"]);
                if means(word, &name) {
                    let columns = described["columns"].as_array().into_iter().flatten().map(text).collect();
                    return Ok(Self { database, name, columns });
                }
                known.push(name);
            }
        }
        bail!(
            "unknown kind {word:?}; known are projects, networks, ports, nodes, and the tables {}",
            known.join(", ")
        )
    }

    /// Its rows, all or the one of that name or uuid, as text.
    pub(crate) async fn show(
        &self,
        client: &Client,
        name: Option<&str>,
        filter: &str,
        format: Format,
    ) -> Result<String> {
        let filter = match name {
            None => filter.to_owned(),
            Some(uuid) if is_uuid(uuid) => format!("_uuid={uuid}"),
            Some(name) if self.columns.iter().any(|column| column == "name") => format!("name={name}"),
            Some(_) => bail!("rows of {} have no names: give a uuid", self.name),
        };
        let rows = self.rows(client, &filter).await?;
        if let (Some(name), true) = (name, rows.is_empty()) {
            bail!("{} {name} is not there", self.name);
        }
        match format {
            Format::Table => Ok(self.table(&rows)),
            Format::Json | Format::Yaml => print(&rows, format),
        }
    }

    async fn rows(&self, client: &Client, filter: &str) -> Result<Vec<Value>> {
        let (mut rows, mut token) = (Vec::new(), String::new());
        loop {
            let request = json!({
                "database": self.database, "table": self.name, "filter": filter, "pageToken": token,
            });
            let answer = client.call("DatabaseService", "ListRows", &request).await?;
            for text in answer["rows"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                rows.push(serde_json::from_str(text).context("reading a row")?);
            }
            match answer["nextPageToken"].as_str() {
                Some(next) if !next.is_empty() => token = next.to_owned(),
                _ => return Ok(rows),
            }
        }
    }

    /// The uuid, the name, and each column that some row has set.
    fn table(&self, rows: &[Value]) -> String {
        let is_set = |column: &str| rows.iter().any(|row| !is_default(&row[column]));
        let named = self.columns.iter().filter(|column| *column == "name");
        let others = self.columns.iter().filter(|column| *column != "name" && is_set(column));
        let columns: Vec<&String> = named.chain(others).collect();
        let header = ["_uuid"].into_iter().chain(columns.iter().map(|column| column.as_str()));
        let line = |row: &Value| {
            let cells = columns.iter().map(|column| short(cell(row, &format!("/{column}"))));
            [cell(row, "/_uuid")].into_iter().chain(cells).collect()
        };
        table(header.map(str::to_ascii_uppercase).collect(), rows.iter().map(line).collect())
    }
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(pairs) => pairs.is_empty(),
    }
}

fn short(text: String) -> String {
    if text.chars().count() <= CELL_CHARS_MAX {
        return text;
    }
    text.chars().take(CELL_CHARS_MAX - 1).chain(['…']).collect()
}

/// Whether a person who writes `word` means the table: case, `-` and `_` do not count, nor `Logical_` and the plural.
fn means(word: &str, table: &str) -> bool {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let (word, table) = (plain(word), plain(table));
    let singular = |table: &str| {
        word == table
            || word.strip_suffix('s') == Some(table)
            || word.strip_suffix("es") == Some(table)
            || word.strip_suffix("ies").is_some_and(|stem| format!("{stem}y") == table)
    };
    singular(&table) || table.strip_prefix("logical").is_some_and(singular)
}

const DATABASES: [&str; 2] = ["OVN_Northbound", "OVN_Southbound"];
/// What is longer is cut in a table; JSON and YAML have it whole.
const CELL_CHARS_MAX: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_go_by_many_names() {
        for (word, table) in [
            ("Logical_Switch_Port", "Logical_Switch_Port"),
            ("switch-ports", "Logical_Switch_Port"),
            ("switches", "Logical_Switch"),
            ("ACLs", "ACL"),
            ("router-policies", "Logical_Router_Policy"),
            ("address-sets", "Address_Set"),
            ("dhcp-options", "DHCP_Options"),
            ("dns", "DNS"),
            ("qos", "QoS"),
        ] {
            assert!(means(word, table), "{word} is {table}");
        }
        assert!(!means("switch-ports", "Logical_Switch") && !means("port", "Logical_Switch_Port"));
    }
}
