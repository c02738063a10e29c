//! The JSON form of schemas (RFC 7047, section 3.2), read and written as OVS does.
//!
//! # Contract
//! Members this reader does not know are skipped, so that a newer server's schema can still be used.
//!
//! # Invariants
//! - What is read is consistent: referenced tables exist, indexes name persistent columns, bounds are in order,
//!   constraints fit the atomic type.
//! - `DatabaseSchema::from_json(&schema.to_json()) == Ok(schema)`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use thiserror::Error;

use crate::json::{DecodeError, excerpt};
use crate::schema::{BaseType, ColumnSchema, ColumnType, DatabaseSchema, Max, RefType, TableSchema};
use crate::value::{Atom, AtomicType, Datum, Real};

/// JSON that is no schema. `at` is a path such as `tables.Bridge.columns.name.type.key`.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum SchemaError {
    /// No JSON at all.
    #[error("schema: {why}")]
    Syntax {
        /// What the JSON reader said.
        why: String,
    },
    /// Another form.
    #[error("schema: {at}: expected {expected}, got {got}")]
    Form {
        /// Where.
        at: String,
        /// What belongs there.
        expected: &'static str,
        /// The start of what was there.
        got: String,
    },
    /// A member that must be there is not.
    #[error("schema: {at}: member {member:?} is missing")]
    Missing {
        /// Where.
        at: String,
        /// The member.
        member: &'static str,
    },
    /// No `<id>`: a letter or `_`, then letters, digits and `_`; a column's does not start with `_`.
    #[error("schema: {at}: {got:?} is not a valid name")]
    Name {
        /// Where.
        at: String,
        /// The name.
        got: String,
    },
    /// A constraint that does not go with the atomic type, or a lower bound above the upper.
    #[error("schema: {at}: {why}")]
    Constraint {
        /// Where.
        at: String,
        /// What does not go together.
        why: &'static str,
    },
    /// An atom of an enumeration.
    #[error("schema: {at}: {source}")]
    Atom {
        /// Where.
        at: String,
        /// Why it is none.
        source: DecodeError,
    },
    /// A reference to a table that is not there.
    #[error("schema: {at}: refers to unknown table {table:?}")]
    UnknownTable {
        /// Where.
        at: String,
        /// The table.
        table: String,
    },
    /// An index on a column that is not there.
    #[error("schema: {at}: index on unknown column {column:?}")]
    UnknownColumn {
        /// Where.
        at: String,
        /// The column.
        column: String,
    },
}

impl DatabaseSchema {
    /// Reads a schema from JSON text, such as a `.ovsschema` file.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        let json: Value =
            serde_json::from_str(text).map_err(|error| SchemaError::Syntax { why: error.to_string() })?;
        Self::from_json(&json)
    }

    /// Reads a schema.
    pub fn from_json(json: &Value) -> Result<Self, SchemaError> {
        let node = Node { at: String::new(), json };
        let mut tables = BTreeMap::new();
        for (name, table) in node.member("tables")?.members()? {
            name_check(&table, name)?;
            tables.insert(name.clone(), table_from_json(&table)?);
        }
        let version = node.member("version")?;
        let schema = Self {
            name: node.member("name")?.id()?,
            version: version.string()?,
            cksum: node.optional("cksum")?.map(|n| n.string()).transpose()?,
            tables,
        };
        let parts: Vec<&str> = schema.version.split('.').collect();
        if parts.len() != 3 || parts.iter().any(|p| p.is_empty() || !p.bytes().all(|b| b.is_ascii_digit())) {
            return Err(version.form("a version x.y.z"));
        }
        schema.check_references()?;
        Ok(schema)
    }

    /// The JSON form, as OVS prints it: what equals its default is left out.
    pub fn to_json(&self) -> Value {
        let mut json = Map::new();
        json.insert("name".into(), self.name.clone().into());
        json.insert("version".into(), self.version.clone().into());
        if let Some(cksum) = &self.cksum {
            json.insert("cksum".into(), cksum.clone().into());
        }
        let tables: Map<String, Value> =
            self.tables.iter().map(|(name, table)| (name.clone(), table.to_json())).collect();
        json.insert("tables".into(), tables.into());
        json.into()
    }

    fn check_references(&self) -> Result<(), SchemaError> {
        for (table_name, table) in &self.tables {
            for column in table.columns.values() {
                for target in column.ty.bases().filter_map(|base| base.ref_table.as_ref()) {
                    if !self.tables.contains_key(target) {
                        let at = format!("tables.{table_name}.columns.{}", column.name);
                        return Err(SchemaError::UnknownTable { at, table: target.clone() });
                    }
                }
            }
        }
        Ok(())
    }
}

impl TableSchema {
    /// The JSON form.
    pub fn to_json(&self) -> Value {
        let mut json = Map::new();
        let columns: Map<String, Value> =
            self.columns.iter().map(|(name, column)| (name.clone(), column.to_json())).collect();
        json.insert("columns".into(), columns.into());
        if let Some(max_rows) = self.max_rows {
            json.insert("maxRows".into(), max_rows.into());
        }
        if self.is_root {
            json.insert("isRoot".into(), true.into());
        }
        if !self.indexes.is_empty() {
            json.insert("indexes".into(), self.indexes.iter().cloned().map(Value::from).collect());
        }
        json.into()
    }
}

impl ColumnSchema {
    /// The JSON form.
    pub fn to_json(&self) -> Value {
        let mut json = Map::new();
        json.insert("type".into(), self.ty.to_json());
        if !self.mutable {
            json.insert("mutable".into(), false.into());
        }
        if self.ephemeral {
            json.insert("ephemeral".into(), true.into());
        }
        json.into()
    }
}

impl ColumnType {
    /// Reads a `<type>`.
    pub fn from_json(json: &Value) -> Result<Self, SchemaError> {
        type_from_json(&Node { at: "type".into(), json })
    }

    /// The JSON form.
    pub fn to_json(&self) -> Value {
        let key = self.key.to_json();
        if self.is_scalar() && key.is_string() {
            return key;
        }
        let mut json = Map::new();
        json.insert("key".into(), key);
        if let Some(value) = &self.value {
            json.insert("value".into(), value.to_json());
        }
        if self.min != 1 {
            json.insert("min".into(), self.min.into());
        }
        match self.max {
            Max::Limited(1) => {}
            Max::Limited(max) => drop(json.insert("max".into(), max.into())),
            Max::Unlimited => drop(json.insert("max".into(), "unlimited".into())),
        }
        json.into()
    }
}

impl BaseType {
    /// The JSON form: the type's name, or an object if there are constraints.
    pub fn to_json(&self) -> Value {
        if *self == Self::new(self.atomic) {
            return self.atomic.name().into();
        }
        let mut json = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                json.insert(name.into(), value);
            }
        };
        put("type", Some(self.atomic.name().into()));
        put("enum", self.enumeration.clone().map(|atoms| Datum::Set(atoms).to_json()));
        put("minInteger", self.min_integer.map(Into::into));
        put("maxInteger", self.max_integer.map(Into::into));
        put("minReal", self.min_real.map(|real| real.value().into()));
        put("maxReal", self.max_real.map(|real| real.value().into()));
        put("minLength", self.min_length.map(Into::into));
        put("maxLength", self.max_length.map(Into::into));
        put("refTable", self.ref_table.clone().map(Into::into));
        put("refType", (self.ref_type == RefType::Weak).then(|| "weak".into()));
        json.into()
    }
}

fn table_from_json(node: &Node<'_>) -> Result<TableSchema, SchemaError> {
    let mut columns = BTreeMap::new();
    for (name, column) in node.member("columns")?.members()? {
        name_check(&column, name)?;
        let ty = type_from_json(&column.member("type")?)?;
        // As in OVS: a weak reference goes when its row goes, so such a column can't be immutable.
        let weak = ty.bases().any(BaseType::is_weak_reference);
        let schema = ColumnSchema {
            name: name.clone(),
            ephemeral: column.flag("ephemeral", false)?,
            mutable: column.flag("mutable", true)? || weak,
            ty,
        };
        columns.insert(name.clone(), schema);
    }
    let max_rows = match node.optional("maxRows")? {
        None => None,
        Some(n) => match n.json.as_u64() {
            Some(rows @ 1..) => Some(rows),
            _ => return Err(n.form("a positive integer")),
        },
    };
    let mut indexes = Vec::new();
    if let Some(list) = node.optional("indexes")? {
        for index in list.elements()? {
            let mut names = Vec::new();
            for column in index.elements()? {
                let name = column.string()?;
                if !columns.contains_key(&name) {
                    return Err(SchemaError::UnknownColumn { at: column.at, column: name });
                }
                if names.contains(&name) {
                    return Err(SchemaError::Constraint {
                        at: column.at,
                        why: "a column twice in one index",
                    });
                }
                names.push(name);
            }
            if names.is_empty() {
                return Err(index.form("at least one column"));
            }
            indexes.push(names);
        }
    }
    Ok(TableSchema { columns, max_rows, is_root: node.flag("isRoot", false)?, indexes })
}

fn type_from_json(node: &Node<'_>) -> Result<ColumnType, SchemaError> {
    if node.json.is_string() {
        return Ok(ColumnType::scalar(base_from_json(node)?));
    }
    let key = base_from_json(&node.member("key")?)?;
    let value = node.optional("value")?.map(|n| base_from_json(&n)).transpose()?;
    let min = match node.optional("min")? {
        None => 1,
        Some(n) => match n.json.as_u64() {
            Some(0) => 0,
            Some(1) => 1,
            _ => return Err(n.form("0 or 1")),
        },
    };
    let max = match node.optional("max")? {
        None => Max::Limited(1),
        Some(n) if n.json == "unlimited" => Max::Unlimited,
        Some(n) => match n.json.as_u64().map(usize::try_from) {
            Some(Ok(max @ 1..)) => Max::Limited(max),
            _ => return Err(n.form("a positive integer or \"unlimited\"")),
        },
    };
    Ok(ColumnType { key, value, min, max })
}

fn base_from_json(node: &Node<'_>) -> Result<BaseType, SchemaError> {
    let atomic = |n: &Node<'_>| AtomicType::from_name(&n.string()?).ok_or_else(|| n.form("an atomic type"));
    if node.json.is_string() {
        return Ok(BaseType::new(atomic(node)?));
    }
    let mut base = BaseType::new(atomic(&node.member("type")?)?);
    let wrong = |why| Err(SchemaError::Constraint { at: node.at.clone(), why });
    if let Some(n) = node.optional("enum")? {
        let set = ColumnType::set(BaseType::new(base.atomic));
        let datum = Datum::from_json(n.json, &set)
            .map_err(|source| SchemaError::Atom { at: n.at.clone(), source })?;
        if datum.is_empty() {
            return Err(n.form("at least one value"));
        }
        base.enumeration = Some(datum.atoms().to_vec());
    }
    let integer = |name| node.optional(name).and_then(|n| n.map(|n| n.integer()).transpose());
    let real = |name| node.optional(name).and_then(|n| n.map(|n| n.real()).transpose());
    let length = |name| node.optional(name).and_then(|n| n.map(|n| n.length()).transpose());
    (base.min_integer, base.max_integer) = (integer("minInteger")?, integer("maxInteger")?);
    (base.min_real, base.max_real) = (real("minReal")?, real("maxReal")?);
    (base.min_length, base.max_length) = (length("minLength")?, length("maxLength")?);
    if let Some(n) = node.optional("refTable")? {
        base.ref_table = Some(n.id()?);
    }
    if let Some(n) = node.optional("refType")? {
        base.ref_type = match n.json.as_str() {
            Some("strong") => RefType::Strong,
            Some("weak") => RefType::Weak,
            _ => return Err(n.form("\"strong\" or \"weak\"")),
        };
        if base.ref_table.is_none() {
            return wrong("refType without refTable");
        }
    }

    let has_integer = base.min_integer.is_some() || base.max_integer.is_some();
    let has_real = base.min_real.is_some() || base.max_real.is_some();
    let has_length = base.min_length.is_some() || base.max_length.is_some();
    if (has_integer && base.atomic != AtomicType::Integer)
        || (has_real && base.atomic != AtomicType::Real)
        || (has_length && base.atomic != AtomicType::String)
        || (base.ref_table.is_some() && base.atomic != AtomicType::Uuid)
    {
        return wrong("constraint on another atomic type");
    }
    if base.enumeration.is_some() && (has_integer || has_real || has_length || base.ref_table.is_some()) {
        return wrong("enum together with another constraint");
    }
    let inverted = |low: Option<bool>| low == Some(true);
    if inverted(base.min_integer.zip(base.max_integer).map(|(min, max)| min > max))
        || inverted(base.min_real.zip(base.max_real).map(|(min, max)| min > max))
        || inverted(base.min_length.zip(base.max_length).map(|(min, max)| min > max))
    {
        return wrong("lower bound above upper bound");
    }
    Ok(base)
}

/// The name of a table or column: an `<id>` that does not start with `_`, for those names are the protocol's own.
fn name_check(node: &Node<'_>, name: &str) -> Result<(), SchemaError> {
    if is_id(name) && !name.starts_with('_') {
        return Ok(());
    }
    Err(SchemaError::Name { at: node.at.clone(), got: name.chars().take(80).collect() })
}

/// Whether `name` is an `<id>` (RFC 7047, section 3.1).
pub fn is_id(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Some JSON and the way to it.
struct Node<'a> {
    at: String,
    json: &'a Value,
}

impl<'a> Node<'a> {
    fn form(&self, expected: &'static str) -> SchemaError {
        SchemaError::Form { at: self.at.clone(), expected, got: excerpt(self.json) }
    }

    fn object(&self) -> Result<&'a Map<String, Value>, SchemaError> {
        self.json.as_object().ok_or_else(|| self.form("an object"))
    }

    fn child(&self, name: &str, json: &'a Value) -> Self {
        let at = if self.at.is_empty() { name.to_owned() } else { format!("{}.{name}", self.at) };
        Self { at, json }
    }

    fn optional(&self, name: &str) -> Result<Option<Self>, SchemaError> {
        Ok(self.object()?.get(name).map(|json| self.child(name, json)))
    }

    fn member(&self, name: &'static str) -> Result<Self, SchemaError> {
        self.optional(name)?.ok_or_else(|| SchemaError::Missing { at: self.at.clone(), member: name })
    }

    fn members(&self) -> Result<impl Iterator<Item = (&'a String, Self)>, SchemaError> {
        Ok(self.object()?.iter().map(|(name, json)| (name, self.child(name, json))))
    }

    fn elements(&self) -> Result<impl Iterator<Item = Self>, SchemaError> {
        let elements = self.json.as_array().ok_or_else(|| self.form("an array"))?;
        Ok(elements.iter().enumerate().map(|(at, json)| self.child(&at.to_string(), json)))
    }

    fn string(&self) -> Result<String, SchemaError> {
        self.json.as_str().map(str::to_owned).ok_or_else(|| self.form("a string"))
    }

    fn id(&self) -> Result<String, SchemaError> {
        let name = self.string()?;
        if is_id(&name) { Ok(name) } else { Err(SchemaError::Name { at: self.at.clone(), got: name }) }
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool, SchemaError> {
        match self.optional(name)? {
            None => Ok(default),
            Some(n) => n.json.as_bool().ok_or_else(|| n.form("a boolean")),
        }
    }

    fn integer(&self) -> Result<i64, SchemaError> {
        match Atom::from_json(self.json, AtomicType::Integer) {
            Ok(Atom::Integer(value)) => Ok(value),
            _ => Err(self.form("an integer")),
        }
    }

    fn real(&self) -> Result<Real, SchemaError> {
        self.json.as_f64().and_then(|v| Real::new(v).ok()).ok_or_else(|| self.form("a number"))
    }

    fn length(&self) -> Result<usize, SchemaError> {
        usize::try_from(self.integer()?).map_err(|_| self.form("a length"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn check(key: Value, expected: Expect) {
        let schema = json!({
            "name": "D", "version": "1.0.0",
            "tables": {"T": {"columns": {"c": {"type": {"key": key}}}, "indexes": [["c"]]}}
        });
        let got = match DatabaseSchema::from_json(&schema) {
            Ok(schema) => schema.to_json().to_string(),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&got);
    }

    #[test]
    fn types_are_printed_in_their_shortest_form() {
        check(
            json!({"type": "string"}),
            expect![[
                r#"{"name":"D","tables":{"T":{"columns":{"c":{"type":"string"}},"indexes":[["c"]]}},"version":"1.0.0"}"#
            ]],
        );
        check(
            json!({"type": "uuid", "refTable": "T", "refType": "weak"}),
            expect![[
                r#"{"name":"D","tables":{"T":{"columns":{"c":{"type":{"key":{"refTable":"T","refType":"weak","type":"uuid"}}}},"indexes":[["c"]]}},"version":"1.0.0"}"#
            ]],
        );
    }

    #[test]
    fn errors_say_where() {
        check(
            json!("text"),
            expect![[r#"schema: tables.T.columns.c.type.key: expected an atomic type, got "text""#]],
        );
        check(
            json!({"type": "uuid", "refTable": "X"}),
            expect![[r#"schema: tables.T.columns.c: refers to unknown table "X""#]],
        );
        check(
            json!({"type": "integer", "minInteger": 4, "maxInteger": 3}),
            expect!["schema: tables.T.columns.c.type.key: lower bound above upper bound"],
        );
        check(
            json!({"type": "integer", "enum": "x"}),
            expect![[r#"schema: tables.T.columns.c.type.key.enum: expected an integer, got "x""#]],
        );
        check(
            json!({"type": "string", "minInteger": 4}),
            expect!["schema: tables.T.columns.c.type.key: constraint on another atomic type"],
        );
    }
}
