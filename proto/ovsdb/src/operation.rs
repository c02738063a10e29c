//! The operations of `transact` (RFC 7047, section 5.2; `uuid` of insert: ovsdb-server(7), 5.2.1).
//!
//! # Contract
//! Columns stay JSON here: only the schema tells their types.
//!
//! # Invariants
//! - `Operation::from_json(op.to_json()) == Ok(op)`, likewise for conditions and mutations.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::json::{parse_uuid, uuid_from_json, uuid_json};
use crate::members::{Members, RequestError, array, boolean, object, string, strings};

/// A `<row>`: columns by name, in JSON.
pub type JsonRow = Map<String, Value>;

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// Makes a row.
    Insert {
        /// In this table.
        table: String,
        /// With these columns; the others have their defaults.
        row: JsonRow,
        /// What other operations of the transaction call it.
        uuid_name: Option<String>,
        /// The UUID it must have; chosen by the server otherwise.
        uuid: Option<Uuid>,
    },
    /// Reads rows.
    Select {
        /// Of this table.
        table: String,
        /// That match all of these.
        conditions: Vec<Condition>,
        /// These columns; all if `None`.
        columns: Option<Vec<String>>,
    },
    /// Sets columns.
    Update {
        /// In this table.
        table: String,
        /// Of the rows that match all of these.
        conditions: Vec<Condition>,
        /// To these values.
        row: JsonRow,
    },
    /// Changes columns by what they are.
    Mutate {
        /// In this table.
        table: String,
        /// Of the rows that match all of these.
        conditions: Vec<Condition>,
        /// In this order.
        mutations: Vec<Mutation>,
    },
    /// Deletes rows.
    Delete {
        /// Of this table.
        table: String,
        /// That match all of these.
        conditions: Vec<Condition>,
    },
    /// Waits until rows are so, or are not.
    Wait {
        /// In this table.
        table: String,
        /// The rows that match all of these.
        conditions: Vec<Condition>,
        /// Compared by these columns; by all if `None`.
        columns: Option<Vec<String>>,
        /// Equal or different.
        until: Until,
        /// To these rows, as a set.
        rows: Vec<JsonRow>,
        /// For so long; for ever if `None`.
        timeout_ms: Option<u64>,
    },
    /// Asks that the transaction be on disk before the reply.
    Commit {
        /// Whether it must be.
        durable: bool,
    },
    /// Undoes everything.
    Abort,
    /// A word for the log.
    Comment {
        /// The word.
        comment: String,
    },
    /// Goes on only if this session owns the lock.
    Assert {
        /// The lock.
        lock: String,
    },
}

impl Operation {
    /// The `op` member.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Insert { .. } => "insert",
            Self::Select { .. } => "select",
            Self::Update { .. } => "update",
            Self::Mutate { .. } => "mutate",
            Self::Delete { .. } => "delete",
            Self::Wait { .. } => "wait",
            Self::Commit { .. } => "commit",
            Self::Abort => "abort",
            Self::Comment { .. } => "comment",
            Self::Assert { .. } => "assert",
        }
    }

    /// Reads an operation.
    pub fn from_json(json: Value) -> Result<Self, RequestError> {
        let mut m = Members::new("operation", json)?;
        let op = m.string("op")?;
        let operation = match op.as_str() {
            "insert" => {
                m.what = "insert";
                let uuid = m.take("uuid").map(|json| plain_uuid("uuid", &json)).transpose()?;
                Self::Insert {
                    table: m.string("table")?,
                    row: object("row", m.need("row")?)?,
                    uuid_name: m.optional_string("uuid-name")?,
                    uuid,
                }
            }
            "select" => {
                m.what = "select";
                Self::Select {
                    table: m.string("table")?,
                    conditions: conditions(&mut m)?,
                    columns: columns(&mut m)?,
                }
            }
            "update" => {
                m.what = "update";
                Self::Update {
                    table: m.string("table")?,
                    conditions: conditions(&mut m)?,
                    row: object("row", m.need("row")?)?,
                }
            }
            "mutate" => {
                m.what = "mutate";
                let mutations = array("mutations", m.need("mutations")?)?;
                Self::Mutate {
                    table: m.string("table")?,
                    conditions: conditions(&mut m)?,
                    mutations: mutations.into_iter().map(Mutation::from_json).collect::<Result<_, _>>()?,
                }
            }
            "delete" => {
                m.what = "delete";
                Self::Delete { table: m.string("table")?, conditions: conditions(&mut m)? }
            }
            "wait" => {
                m.what = "wait";
                let until = m.string("until")?;
                let rows = array("rows", m.need("rows")?)?;
                let timeout_ms = match m.take("timeout") {
                    None => None,
                    Some(json) => Some(timeout(&json)?),
                };
                Self::Wait {
                    table: m.string("table")?,
                    conditions: conditions(&mut m)?,
                    columns: columns(&mut m)?,
                    until: Until::from_name(&until)
                        .ok_or_else(|| RequestError::form("until", r#""==" or "!=""#, &until.into()))?,
                    rows: rows.into_iter().map(|row| object("row", row)).collect::<Result<_, _>>()?,
                    timeout_ms,
                }
            }
            "commit" => {
                m.what = "commit";
                let durable = m.need("durable")?;
                Self::Commit { durable: boolean("durable", &durable)? }
            }
            "abort" => {
                m.what = "abort";
                Self::Abort
            }
            "comment" => {
                m.what = "comment";
                Self::Comment { comment: m.string("comment")? }
            }
            "assert" => {
                m.what = "assert";
                Self::Assert { lock: m.string("lock")? }
            }
            _ => return Err(RequestError::form("op", "the name of an operation", &op.into())),
        };
        m.finish()?;
        Ok(operation)
    }

    /// The JSON form.
    pub fn to_json(&self) -> Value {
        let mut json = Map::new();
        let mut put = |name: &str, value: Value| drop(json.insert(name.into(), value));
        put("op", self.name().into());
        match self {
            Self::Insert { table, row, uuid_name, uuid } => {
                put("table", table.clone().into());
                put("row", row.clone().into());
                if let Some(name) = uuid_name {
                    put("uuid-name", name.clone().into());
                }
                if let Some(uuid) = uuid {
                    put("uuid", uuid.to_string().into());
                }
            }
            Self::Select { table, conditions, columns } => {
                put("table", table.clone().into());
                put("where", Condition::list_to_json(conditions));
                if let Some(columns) = columns {
                    put("columns", columns.clone().into());
                }
            }
            Self::Update { table, conditions, row } => {
                put("table", table.clone().into());
                put("where", Condition::list_to_json(conditions));
                put("row", row.clone().into());
            }
            Self::Mutate { table, conditions, mutations } => {
                put("table", table.clone().into());
                put("where", Condition::list_to_json(conditions));
                put("mutations", mutations.iter().map(Mutation::to_json).collect());
            }
            Self::Delete { table, conditions } => {
                put("table", table.clone().into());
                put("where", Condition::list_to_json(conditions));
            }
            Self::Wait { table, conditions, columns, until, rows, timeout_ms } => {
                put("table", table.clone().into());
                put("where", Condition::list_to_json(conditions));
                if let Some(columns) = columns {
                    put("columns", columns.clone().into());
                }
                put("until", until.name().into());
                put("rows", rows.iter().cloned().map(Value::from).collect());
                if let Some(timeout_ms) = timeout_ms {
                    put("timeout", (*timeout_ms).into());
                }
            }
            Self::Commit { durable } => put("durable", (*durable).into()),
            Self::Abort => {}
            Self::Comment { comment } => put("comment", comment.clone().into()),
            Self::Assert { lock } => put("lock", lock.clone().into()),
        }
        json.into()
    }
}

fn conditions(m: &mut Members) -> Result<Vec<Condition>, RequestError> {
    Condition::list_from_json(m.need("where")?)
}

fn columns(m: &mut Members) -> Result<Option<Vec<String>>, RequestError> {
    m.take("columns").map(|json| strings("columns", json)).transpose()
}

/// `uuid` of an insert is a bare string in OVS; the tagged form is taken as well.
fn plain_uuid(what: &'static str, json: &Value) -> Result<Uuid, RequestError> {
    json.as_str()
        .map_or_else(|| uuid_from_json(json), parse_uuid)
        .map_err(|source| RequestError::Value { what, source })
}

fn timeout(json: &Value) -> Result<u64, RequestError> {
    // OVS takes any number; what is negative has passed already.
    let value =
        json.as_f64().ok_or_else(|| RequestError::form("timeout", "a number of milliseconds", json))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates at both ends"
    )]
    Ok(json.as_u64().unwrap_or(value as u64))
}

/// A `<condition>`; a list of them holds when all hold, except in monitors, where one is enough.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// Always or never.
    Constant(bool),
    /// A column compared with a value.
    Clause {
        /// The column.
        column: String,
        /// How.
        function: Function,
        /// With what.
        argument: Value,
    },
}

impl Condition {
    /// A clause.
    pub fn clause(column: impl Into<String>, function: Function, argument: impl Into<Value>) -> Self {
        Self::Clause { column: column.into(), function, argument: argument.into() }
    }

    /// The row with this UUID.
    pub fn uuid_is(uuid: Uuid) -> Self {
        Self::clause("_uuid", Function::Equal, uuid_json(uuid))
    }

    /// Reads a condition.
    pub fn from_json(json: Value) -> Result<Self, RequestError> {
        if let Value::Bool(constant) = json {
            return Ok(Self::Constant(constant));
        }
        let [column, function, argument] = triple("condition", json)?;
        let function = string("function", function)?;
        let Some(function) = Function::from_name(&function) else {
            return Err(RequestError::form("function", "the name of a function", &function.into()));
        };
        Ok(Self::Clause { column: string("column", column)?, function, argument })
    }

    /// The JSON form.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Constant(constant) => Value::from(*constant),
            Self::Clause { column, function, argument } => {
                Value::from(vec![column.clone().into(), function.name().into(), argument.clone()])
            }
        }
    }

    /// Reads a `where`.
    pub fn list_from_json(json: Value) -> Result<Vec<Self>, RequestError> {
        array("where", json)?.into_iter().map(Self::from_json).collect()
    }

    /// The JSON form of a `where`.
    pub fn list_to_json(conditions: &[Self]) -> Value {
        conditions.iter().map(Self::to_json).collect()
    }
}

/// A `<mutation>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Mutation {
    /// The column.
    pub column: String,
    /// What to do to it.
    pub mutator: Mutator,
    /// With what.
    pub argument: Value,
}

impl Mutation {
    /// A mutation.
    pub fn new(column: impl Into<String>, mutator: Mutator, argument: impl Into<Value>) -> Self {
        Self { column: column.into(), mutator, argument: argument.into() }
    }

    /// Reads a mutation.
    pub fn from_json(json: Value) -> Result<Self, RequestError> {
        let [column, mutator, argument] = triple("mutation", json)?;
        let mutator = string("mutator", mutator)?;
        let Some(mutator) = Mutator::from_name(&mutator) else {
            return Err(RequestError::form("mutator", "the name of a mutator", &mutator.into()));
        };
        Ok(Self { column: string("column", column)?, mutator, argument })
    }

    /// The JSON form.
    pub fn to_json(&self) -> Value {
        Value::from(vec![self.column.clone().into(), self.mutator.name().into(), self.argument.clone()])
    }
}

fn triple(what: &'static str, json: Value) -> Result<[Value; 3], RequestError> {
    let elements = array(what, json)?;
    let count = elements.len();
    elements.try_into().map_err(|_| RequestError::Form {
        what,
        expected: "three elements",
        got: format!("{count} elements"),
    })
}

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The one of that name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

named! {
    /// A `<function>` of a condition (RFC 7047, section 5.1).
    Function {
        /// Less than.
        Less = "<",
        /// Less than or equal.
        LessOrEqual = "<=",
        /// The same value.
        Equal = "==",
        /// Another value.
        NotEqual = "!=",
        /// Greater than or equal.
        GreaterOrEqual = ">=",
        /// Greater than.
        Greater = ">",
        /// The column holds all elements of the value.
        Includes = "includes",
        /// The column holds no element of the value.
        Excludes = "excludes",
    }
}

named! {
    /// A `<mutator>` (RFC 7047, section 5.1).
    Mutator {
        /// Plus.
        Add = "+=",
        /// Minus.
        Subtract = "-=",
        /// Times.
        Multiply = "*=",
        /// Divided by, towards zero.
        Divide = "/=",
        /// The remainder.
        Modulo = "%=",
        /// Puts elements in; a key that is there keeps its value.
        Insert = "insert",
        /// Takes elements, pairs or keys out.
        Delete = "delete",
    }
}

named! {
    /// What a `wait` waits for.
    Until {
        /// The rows are these.
        Equal = "==",
        /// The rows are not these.
        NotEqual = "!=",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn check(input: Value, expected: Expect) {
        let got = match Operation::from_json(input.clone()) {
            Ok(operation) => {
                assert_eq!(operation.to_json(), input);
                operation.name().to_owned()
            }
            Err(error) => format!("error: {error}"),
        };
        expected.assert_eq(&got);
    }

    #[test]
    fn every_operation_is_read_and_written_back() {
        let uuid = "36bef046-7da7-43a5-905a-c17899216fcb";
        check(
            json!({"op": "insert", "table": "T", "row": {}, "uuid-name": "a", "uuid": uuid}),
            expect!["insert"],
        );
        check(json!({"op": "select", "table": "T", "where": [], "columns": ["_uuid"]}), expect!["select"]);
        check(
            json!({"op": "update", "table": "T", "where": [["_uuid", "==", ["uuid", uuid]]], "row": {"a": 1}}),
            expect!["update"],
        );
        check(
            json!({"op": "mutate", "table": "T", "where": [true], "mutations": [["a", "+=", 1], ["s", "insert", ["set", []]]]}),
            expect!["mutate"],
        );
        check(json!({"op": "delete", "table": "T", "where": [["a", "includes", 3]]}), expect!["delete"]);
        check(
            json!({"op": "wait", "table": "T", "where": [], "columns": ["a"], "until": "==", "rows": [{"a": 1}], "timeout": 0}),
            expect!["wait"],
        );
        check(json!({"op": "commit", "durable": true}), expect!["commit"]);
        check(json!({"op": "abort"}), expect!["abort"]);
        check(json!({"op": "comment", "comment": "ovn-nbctl: ls-add x"}), expect!["comment"]);
        check(json!({"op": "assert", "lock": "ovn_northd"}), expect!["assert"]);
    }

    #[test]
    fn errors_name_the_part() {
        check(
            json!({"op": "drop"}),
            expect![[r#"error: op: expected the name of an operation, got "drop""#]],
        );
        check(
            json!({"op": "insert", "table": "T"}),
            expect![[r#"error: insert: required member "row" is missing"#]],
        );
        check(
            json!({"op": "abort", "why": 1}),
            expect![[r#"error: abort: member "why" is not allowed here"#]],
        );
        check(
            json!({"op": "delete", "table": "T", "where": [["a", "=", 3]]}),
            expect![[r#"error: function: expected the name of a function, got "=""#]],
        );
        check(
            json!({"op": "delete", "table": "T", "where": [["a"]]}),
            expect!["error: condition: expected three elements, got 1 elements"],
        );
    }
}
