//! Monitors: what a client asks to be told, and what it is told (RFC 7047, sections 4.1.5 and 4.1.6; ovsdb-server(7),
//! sections 4.1.12 to 4.1.16).
//!
//! # Contract
//! Columns stay JSON here: only the schema tells their types, and [`crate::replica`] reads them with it.
//!
//! # Invariants
//! - For each type `from_json(x.to_json()) == Ok(x)`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::json::parse_uuid;
use crate::members::{Members, RequestError, boolean, object, strings};
use crate::operation::{Condition, JsonRow};

/// What a client asks for, by table. One table may have several requests.
pub type MonitorRequests = BTreeMap<String, Vec<MonitorRequest>>;

/// A `<monitor-request>` or `<monitor-cond-request>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MonitorRequest {
    /// These columns; all if `None`. An empty list asks only which rows there are.
    pub columns: Option<Vec<String>>,
    /// The rows that match any of these; all rows if `None` or empty.
    pub conditions: Option<Vec<Condition>>,
    /// When to be told.
    pub select: Select,
}

/// A `<monitor-select>`: which changes to tell. All by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Select {
    /// The rows there are.
    pub initial: bool,
    /// Rows that come.
    pub insert: bool,
    /// Rows that go.
    pub delete: bool,
    /// Rows that change.
    pub modify: bool,
}

impl Default for Select {
    fn default() -> Self {
        Self { initial: true, insert: true, delete: true, modify: true }
    }
}

impl MonitorRequest {
    /// Asks for these columns of all rows.
    pub fn columns<S: Into<String>>(columns: impl IntoIterator<Item = S>) -> Self {
        Self { columns: Some(columns.into_iter().map(Into::into).collect()), ..Self::default() }
    }

    /// Reads a request.
    pub fn from_json(json: Value) -> Result<Self, RequestError> {
        let mut m = Members::new("monitor request", json)?;
        let columns = m.take("columns").map(|json| strings("columns", json)).transpose()?;
        let conditions = m.take("where").map(Condition::list_from_json).transpose()?;
        let mut select = Select::default();
        if let Some(json) = m.take("select") {
            let mut s = Members::new("select", json)?;
            for (name, flag) in [
                ("initial", &mut select.initial),
                ("insert", &mut select.insert),
                ("delete", &mut select.delete),
                ("modify", &mut select.modify),
            ] {
                if let Some(json) = s.take(name) {
                    *flag = boolean("select", &json)?;
                }
            }
            s.finish()?;
        }
        m.finish()?;
        Ok(Self { columns, conditions, select })
    }

    /// The JSON form.
    pub fn to_json(&self) -> Value {
        let mut json = Map::new();
        if let Some(columns) = &self.columns {
            json.insert("columns".into(), columns.clone().into());
        }
        if let Some(conditions) = &self.conditions {
            json.insert("where".into(), Condition::list_to_json(conditions));
        }
        if self.select != Select::default() {
            let Select { initial, insert, delete, modify } = self.select;
            let select =
                serde_json::json!({"initial": initial, "insert": insert, "delete": delete, "modify": modify});
            json.insert("select".into(), select);
        }
        json.into()
    }

    /// Reads the requests of a monitor method. A single request may stand without its array.
    pub fn map_from_json(json: Value) -> Result<MonitorRequests, RequestError> {
        let read = |json| match json {
            Value::Array(list) => list.into_iter().map(Self::from_json).collect(),
            single => Ok(vec![Self::from_json(single)?]),
        };
        let tables = object("monitor requests", json)?;
        tables.into_iter().map(|(table, json)| Ok((table, read(json)?))).collect()
    }

    /// The JSON form of the requests of a monitor method.
    pub fn map_to_json(requests: &MonitorRequests) -> Value {
        let list = |requests: &Vec<Self>| requests.iter().map(Self::to_json).collect::<Value>();
        requests.iter().map(|(table, requests)| (table.clone(), list(requests))).collect::<Map<_, _>>().into()
    }
}

/// `<table-updates>` or `<table-updates2>`: rows by table and UUID.
#[derive(Clone, Debug, PartialEq)]
pub struct TableUpdates<R> {
    /// The tables.
    pub tables: BTreeMap<String, BTreeMap<Uuid, R>>,
}

impl<R> Default for TableUpdates<R> {
    fn default() -> Self {
        Self { tables: BTreeMap::new() }
    }
}

/// What happened to one row, in one of the two forms.
pub trait RowForm: Sized {
    /// Reads it.
    fn from_json(json: Value) -> Result<Self, RequestError>;
    /// The JSON form.
    fn to_json(&self) -> Value;
}

impl<R: RowForm> TableUpdates<R> {
    /// Reads the updates. Null counts as nothing changed.
    pub fn from_json(json: Value) -> Result<Self, RequestError> {
        if json.is_null() {
            return Ok(Self::default());
        }
        let mut tables = BTreeMap::new();
        for (table, rows) in object("table updates", json)? {
            let mut updates = BTreeMap::new();
            for (uuid, row) in object("table update", rows)? {
                let uuid = parse_uuid(&uuid)
                    .map_err(|source| RequestError::Value { what: "table update", source })?;
                updates.insert(uuid, R::from_json(row)?);
            }
            tables.insert(table, updates);
        }
        Ok(Self { tables })
    }

    /// The JSON form.
    pub fn to_json(&self) -> Value {
        let rows = |rows: &BTreeMap<Uuid, R>| {
            rows.iter().map(|(uuid, row)| (uuid.to_string(), row.to_json())).collect::<Map<_, _>>()
        };
        self.tables
            .iter()
            .map(|(table, updates)| (table.clone(), rows(updates).into()))
            .collect::<Map<_, _>>()
            .into()
    }
}

/// A `<row-update>` (RFC 7047, section 4.1.6).
#[derive(Clone, Debug, PartialEq)]
pub enum RowUpdate {
    /// The row was there, or came.
    Insert {
        /// Its columns.
        new: JsonRow,
    },
    /// The row changed.
    Modify {
        /// The columns that changed, as they were.
        old: JsonRow,
        /// All columns, as they are.
        new: JsonRow,
    },
    /// The row went.
    Delete {
        /// Its columns.
        old: JsonRow,
    },
}

impl RowForm for RowUpdate {
    fn from_json(json: Value) -> Result<Self, RequestError> {
        let mut m = Members::new("row update", json)?;
        let old = m.take("old").map(|json| object("old", json)).transpose()?;
        let new = m.take("new").map(|json| object("new", json)).transpose()?;
        match (old, new) {
            (None, Some(new)) => Ok(Self::Insert { new }),
            (Some(old), Some(new)) => Ok(Self::Modify { old, new }),
            (Some(old), None) => Ok(Self::Delete { old }),
            (None, None) => Err(RequestError::Missing { what: "row update", member: "new" }),
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Insert { new } => serde_json::json!({ "new": new }),
            Self::Modify { old, new } => serde_json::json!({ "old": old, "new": new }),
            Self::Delete { old } => serde_json::json!({ "old": old }),
        }
    }
}

/// A `<row-update2>` (ovsdb-server(7), section 4.1.14).
#[derive(Clone, Debug, PartialEq)]
pub enum RowUpdate2 {
    /// The row was there; columns that have their default are left out.
    Initial(JsonRow),
    /// The row came; columns that have their default are left out.
    Insert(JsonRow),
    /// The row changed: differences, see [`crate::diff`].
    Modify(JsonRow),
    /// The row went.
    Delete,
}

impl RowForm for RowUpdate2 {
    fn from_json(json: Value) -> Result<Self, RequestError> {
        let mut members = object("row update", json)?.into_iter();
        let (Some((kind, row)), None) = (members.next(), members.next()) else {
            return Err(RequestError::Form {
                what: "row update",
                expected: "one member",
                got: "none or several".to_owned(),
            });
        };
        match kind.as_str() {
            "initial" => object("initial", row).map(Self::Initial),
            "insert" => object("insert", row).map(Self::Insert),
            "modify" => object("modify", row).map(Self::Modify),
            // Null, except from old servers.
            "delete" => Ok(Self::Delete),
            _ => {
                Err(RequestError::Unexpected { what: "row update", member: kind.chars().take(80).collect() })
            }
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Initial(row) => serde_json::json!({ "initial": row }),
            Self::Insert(row) => serde_json::json!({ "insert": row }),
            Self::Modify(row) => serde_json::json!({ "modify": row }),
            Self::Delete => serde_json::json!({ "delete": null }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_are_read_and_written_back() {
        let json = json!({
            "T": [{"columns": ["a"], "where": [["a", "==", 1], true]}, {}],
            "U": [{"columns": [], "select": {"initial": false, "insert": true, "delete": true, "modify": false}}],
        });
        let requests = MonitorRequest::map_from_json(json.clone()).unwrap();
        assert_eq!(MonitorRequest::map_to_json(&requests), json);
        let single = MonitorRequest::map_from_json(json!({"T": {}})).unwrap();
        assert_eq!(single["T"], [MonitorRequest::default()]);
        assert!(MonitorRequest::map_from_json(json!({"T": {"rows": 1}})).is_err());
    }

    #[test]
    fn updates_are_read_and_written_back() {
        let id = "36bef046-7da7-43a5-905a-c17899216fcb";
        for row in [json!({"new": {"a": 1}}), json!({"old": {}, "new": {}}), json!({"old": {}})] {
            let json = json!({"T": {id: row}});
            assert_eq!(TableUpdates::<RowUpdate>::from_json(json.clone()).unwrap().to_json(), json);
        }
        for row in [
            json!({"initial": {}}),
            json!({"insert": {}}),
            json!({"modify": {"a": 1}}),
            json!({"delete": null}),
        ] {
            let json = json!({"T": {id: row}});
            assert_eq!(TableUpdates::<RowUpdate2>::from_json(json.clone()).unwrap().to_json(), json);
        }
        assert!(TableUpdates::<RowUpdate2>::from_json(json!({"T": {id: {}}})).is_err());
        assert!(TableUpdates::<RowUpdate>::from_json(json!({"T": {"x": {"new": {}}}})).is_err());
    }
}
