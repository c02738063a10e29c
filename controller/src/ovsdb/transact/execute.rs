//! The operations of a transaction, one after the other (RFC 7047, section 5.2; ovsdb-server(7), section 5.2).
//!
//! # Contract
//! - Each operation sees what those before it did. The first that fails ends the transaction; nothing of it stays.
//! - Rows that an operation answers come in the order of their uuids, unless it says otherwise.

use std::{collections::BTreeSet, time::Duration};

use ovsdb::{
    json::{parse_uuid, uuid_json},
    operation::Until,
    result::ErrorKind,
    value::{Atom, AtomicType, Datum},
};
use quantumnet_model::{
    Database, Uuid,
    row::{ColumnId, DynRow, TableDecl, TableId},
    tables,
};
use serde_json::{Map, Value, json};

use super::{
    Request, access,
    column::Column,
    condition::{Condition, unknown_column},
    decode,
    fault::Fault,
    members::{Members, id},
    mutation::Mutation,
    names::Names,
    query,
};
use crate::store::Txn;

/// A transaction under way.
pub(crate) struct Execution<'r, 't, 'a> {
    request: &'r Request,
    database: Database,
    txn: &'t mut Txn<'a>,
    names: Names,
    /// The least timeout of the waits so far.
    pub(crate) timeout: Option<Duration>,
}

/// Why an operation has no result.
pub(crate) enum Stop {
    /// It failed.
    Failed(Fault),
    /// It waits for what may yet come.
    Blocked,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

/// What an operation answers, and whether it may run in a session that only reads.
struct Done {
    result: Value,
    reads_only: bool,
}

impl<'r, 't, 'a> Execution<'r, 't, 'a> {
    pub(crate) fn new(request: &'r Request, database: Database, txn: &'t mut Txn<'a>) -> Self {
        Self { request, database, txn, names: Names::default(), timeout: None }
    }

    /// Runs the operation at this place of so many, counted from 1.
    pub(crate) fn operation(&mut self, json: &Value, place: (usize, usize)) -> Result<Value, Stop> {
        let mut members = Members::new(json, place);
        let name = members.need("op", id).and_then(Value::as_str);
        let done = self.run(name, &mut members);
        // What is wrong with the members overrides what the operation says.
        members.finish()?;
        let Done { result, reads_only } = done?;
        if self.request.read_only && !reads_only {
            let name = name.unwrap_or_default();
            let details = format!("{name} operation not allowed when database server is in read only mode");
            return Err(Fault::new(ErrorKind::NotAllowed, details).into());
        }
        Ok(result)
    }

    fn run(&mut self, name: Option<&str>, members: &mut Members<'_>) -> Result<Done, Stop> {
        let (result, reads_only) = match name {
            Some("insert") => (self.insert(members)?, false),
            Some("select") => (self.select(members)?, true),
            Some("update") => (self.update(members)?, false),
            Some("mutate") => (self.mutate(members)?, false),
            Some("delete") => (self.delete(members)?, false),
            Some("wait") => (self.wait(members)?, true),
            Some("commit") => (commit(members)?, false),
            Some("abort") => return Err(Fault::new(ErrorKind::Aborted, "aborted by request").into()),
            Some("comment") => (self.comment(members)?, true),
            Some("assert") => (self.assert(members)?, true),
            other => {
                if let Some(other) = other {
                    members.raise(&format!("No operation \"{other}\""));
                }
                members.check()?;
                (json!({}), true)
            }
        };
        Ok(Done { result, reads_only })
    }

    fn table(&self, members: &mut Members<'_>) -> Option<TableId> {
        let name = members.need("table", id)?.as_str()?;
        let table = tables::find(self.database, name);
        if table.is_none() {
            members.raise(&format!("No table named {name}."));
        }
        table
    }

    fn insert(&mut self, members: &mut Members<'_>) -> Result<Value, Fault> {
        let table = self.table(members);
        let chosen = members.take("uuid", Value::is_string);
        let name = members.take("uuid-name", id);
        let row = members.need("row", Value::is_object).and_then(Value::as_object);
        members.check()?;
        let (Some(table), Some(row)) = (table, row) else { return Ok(json!({})) };
        let decl = tables::decl(table);
        let chosen = match chosen {
            Some(json) => Some(self.chosen(table, json)?),
            None => None,
        };
        let uuid = match name {
            Some(json) => self.names.insert(json.as_str().unwrap_or_default(), chosen).ok_or_else(|| {
                let details = "This \"uuid-name\" appeared on an earlier \"insert\" operation.";
                Fault::at(json, ErrorKind::DuplicateUuidName, details)
            })?,
            None => chosen.unwrap_or_else(Uuid::new_v4),
        };
        let columns = self.row(decl, row, members.json())?;
        access::may_insert(decl)?;
        let new = new_row(decl, &columns)?;
        self.txn.put_dyn(uuid, new.into());
        Ok(json!({ "uuid": uuid_json(uuid) }))
    }

    fn chosen(&self, table: TableId, json: &Value) -> Result<Uuid, Fault> {
        let uuid = json.as_str().and_then(|text| parse_uuid(text).ok());
        let uuid = uuid.ok_or_else(|| Fault::syntax(json, "bad uuid"))?;
        let taken = self.txn.rows().dyn_row(table, uuid).or_else(|| self.txn.original(table, uuid));
        if taken.is_some() {
            let details = "This UUID would duplicate a UUID already present within the table or deleted within the \
                           same transaction.";
            return Err(Fault::at(json, ErrorKind::DuplicateUuid, details));
        }
        Ok(uuid)
    }

    /// The columns of a `<row>`.
    fn row(
        &mut self,
        decl: &TableDecl,
        row: &Map<String, Value>,
        whole: &Value,
    ) -> Result<Vec<(Column, Datum)>, Fault> {
        let mut columns = Vec::with_capacity(row.len());
        for (name, json) in row {
            let column = Column::find(decl, name)
                .ok_or_else(|| unknown_column(decl, whole.get("row").unwrap_or(whole), name))?;
            columns.push((column, decode::datum(json, column.ty(decl).into(), &mut self.names)?));
        }
        Ok(columns)
    }

    fn condition(&mut self, table: TableId, json: &Value) -> Result<Condition, Fault> {
        Condition::parse(table, json.as_array().map_or(&[], Vec::as_slice), &mut self.names)
    }

    fn select(&mut self, members: &mut Members<'_>) -> Result<Value, Fault> {
        let table = self.table(members);
        let conditions = members.need("where", Value::is_array);
        let columns = members.take("columns", Value::is_array);
        let sort = members.take("sort", Value::is_array);
        members.check()?;
        let (Some(table), Some(conditions)) = (table, conditions) else { return Ok(json!({})) };
        let decl = tables::decl(table);
        let condition = self.condition(table, conditions)?;
        let columns = column_set(decl, columns)?;
        let sort = sort.map(|json| column_set(decl, Some(json))).transpose()?;
        let mut found: Vec<_> = query::rows(self.txn.state(), &condition).collect();
        if !columns.contains(&Column::Uuid) {
            let mut seen = BTreeSet::new();
            found.retain(|(uuid, row)| seen.insert(values(decl, &columns, *uuid, row.as_ref())));
        }
        if let Some(sort) = sort {
            found.sort_by_cached_key(|(uuid, row)| values(decl, &sort, *uuid, row.as_ref()));
        }
        let rows: Vec<Value> = found
            .into_iter()
            .map(|(uuid, row)| {
                let column = |column: &Column| {
                    (column.name(decl).to_owned(), column.datum(decl, uuid, row.as_ref()).to_json())
                };
                Value::Object(columns.iter().map(column).collect())
            })
            .collect();
        Ok(json!({ "rows": rows }))
    }

    fn update(&mut self, members: &mut Members<'_>) -> Result<Value, Fault> {
        let table = self.table(members);
        let conditions = members.need("where", Value::is_array);
        let row = members.need("row", Value::is_object).and_then(Value::as_object);
        members.check()?;
        let (Some(table), Some(conditions), Some(row)) = (table, conditions, row) else {
            return Ok(json!({}));
        };
        let decl = tables::decl(table);
        let columns = self.row(decl, row, members.json())?;
        if let Some((fixed, _)) = columns.iter().find(|(column, _)| !column.is_mutable(decl)) {
            let details =
                format!("Cannot update immutable column {} in table {}.", fixed.name(decl), decl.name);
            return Err(Fault::at(members.json(), ErrorKind::ConstraintViolation, details));
        }
        let condition = self.condition(table, conditions)?;
        access::may_write_columns(decl, "update", declared(&columns))?;
        let found: Vec<_> =
            query::rows(self.txn.state(), &condition).map(|(uuid, row)| (uuid, row.clone())).collect();
        let count = found.len();
        for (uuid, old) in found {
            let mut new = old.clone_row();
            set(decl, new.as_mut(), &columns)?;
            if !old.same(new.as_ref()) {
                self.txn.put_dyn(uuid, new.into());
            }
        }
        Ok(json!({ "count": count }))
    }

    fn mutate(&mut self, members: &mut Members<'_>) -> Result<Value, Fault> {
        let table = self.table(members);
        let conditions = members.need("where", Value::is_array);
        let mutations = members.need("mutations", Value::is_array).and_then(Value::as_array);
        members.check()?;
        let (Some(table), Some(conditions), Some(mutations)) = (table, conditions, mutations) else {
            return Ok(json!({}));
        };
        let decl = tables::decl(table);
        let mutations: Vec<Mutation> = mutations
            .iter()
            .map(|json| Mutation::parse(decl, json, &mut self.names))
            .collect::<Result<_, _>>()?;
        let condition = self.condition(table, conditions)?;
        access::may_write_columns(decl, "mutate", mutations.iter().map(|mutation| mutation.column))?;
        let found: Vec<_> =
            query::rows(self.txn.state(), &condition).map(|(uuid, row)| (uuid, row.clone())).collect();
        let count = found.len();
        for (uuid, old) in found {
            let mut new = old.clone_row();
            for mutation in &mutations {
                mutation.apply(decl, new.as_mut())?;
            }
            if !old.same(new.as_ref()) {
                self.txn.put_dyn(uuid, new.into());
            }
        }
        Ok(json!({ "count": count }))
    }

    fn delete(&mut self, members: &mut Members<'_>) -> Result<Value, Fault> {
        let conditions = members.need("where", Value::is_array);
        let table = self.table(members);
        members.check()?;
        let (Some(table), Some(conditions)) = (table, conditions) else { return Ok(json!({})) };
        let condition = self.condition(table, conditions)?;
        access::may_delete(tables::decl(table))?;
        let found: Vec<Uuid> = query::rows(self.txn.state(), &condition).map(|(uuid, _)| uuid).collect();
        for uuid in &found {
            access::before_delete(self.txn, table, *uuid);
            self.txn.delete_dyn(table, *uuid);
        }
        Ok(json!({ "count": found.len() }))
    }

    fn wait(&mut self, members: &mut Members<'_>) -> Result<Value, Stop> {
        let timeout = members.take("timeout", |json| integer(json).is_some());
        let conditions = members.need("where", Value::is_array);
        let columns = members.take("columns", Value::is_array);
        let until = members.need("until", Value::is_string);
        let rows = members.need("rows", Value::is_array).and_then(Value::as_array);
        let table = self.table(members);
        members.check()?;
        let (Some(table), Some(conditions), Some(until), Some(rows)) = (table, conditions, until, rows)
        else {
            return Ok(json!({}));
        };
        let decl = tables::decl(table);
        let condition = self.condition(table, conditions)?;
        let columns = column_set(decl, columns)?;
        let timeout = match timeout.and_then(|json| Some((json, integer(json)?))) {
            None => None,
            Some((json, ms)) => {
                let ms = u64::try_from(ms).map_err(|_| Fault::syntax(json, "timeout must be nonnegative"))?;
                let timeout = Duration::from_millis(ms);
                self.timeout = Some(self.timeout.map_or(timeout, |least| least.min(timeout)));
                Some(timeout)
            }
        };
        let wanted = until.as_str().and_then(Until::from_name);
        let wanted =
            wanted.ok_or_else(|| Fault::syntax(until, "\"until\" must be \"==\" or \"!=\""))? == Until::Equal;
        let mut expected = BTreeSet::new();
        for json in rows {
            expected.insert(self.expected(decl, &columns, json)?);
        }
        let mut actual = BTreeSet::new();
        let mut equal = true;
        for (uuid, row) in query::rows(self.txn.state(), &condition) {
            let row = values(decl, &columns, uuid, row.as_ref());
            if !expected.contains(&row) {
                equal = false;
                break;
            }
            actual.insert(row);
        }
        equal &= actual.len() == expected.len();
        if equal == wanted {
            return Ok(json!({}));
        }
        let waited = self.request.waited;
        match timeout.filter(|timeout| waited >= *timeout) {
            None => Err(Stop::Blocked),
            Some(_) => {
                let details = match waited.as_millis() {
                    0 => "\"where\" clause test failed".to_owned(),
                    ms => format!("\"wait\" timed out after {ms} ms"),
                };
                Err(Fault::new(ErrorKind::TimedOut, details).into())
            }
        }
    }

    /// What a row of a `wait` holds in the columns compared; what it leaves out has its default.
    fn expected(&mut self, decl: &TableDecl, columns: &[Column], json: &Value) -> Result<Vec<Datum>, Fault> {
        let row = json.as_object().ok_or_else(|| Fault::syntax(json, "row must be JSON object"))?;
        let given = self.row(decl, row, json)?;
        let value = |column: &Column| {
            let given = given.iter().find(|(named, _)| named == column);
            given.map_or_else(|| Datum::default_for(column.ty(decl)), |(_, datum)| datum.clone())
        };
        Ok(columns.iter().map(value).collect())
    }

    fn comment(&self, members: &mut Members<'_>) -> Result<Value, Fault> {
        let comment = members.need("comment", Value::is_string);
        members.check()?;
        if let Some(comment) = comment.and_then(Value::as_str) {
            tracing::info!(principal = self.txn.principal(), comment, "a transaction's comment");
        }
        Ok(json!({}))
    }

    fn assert(&self, members: &mut Members<'_>) -> Result<Value, Fault> {
        let lock = members.need("lock", id).and_then(Value::as_str);
        members.check()?;
        let Some(lock) = lock else { return Ok(json!({})) };
        if self.request.locks.contains(lock) {
            return Ok(json!({}));
        }
        Err(Fault::new(ErrorKind::NotOwner, format!("Asserted lock {lock} not held.")))
    }
}

/// Every transaction is on a majority's disks before its reply, so that `durable` asks for nothing more.
fn commit(members: &mut Members<'_>) -> Result<Value, Fault> {
    members.need("durable", Value::is_boolean);
    members.check()?;
    Ok(json!({}))
}

fn integer(json: &Value) -> Option<i64> {
    Atom::from_json(json, AtomicType::Integer).ok()?.as_integer()
}

fn declared(columns: &[(Column, Datum)]) -> impl Iterator<Item = ColumnId> {
    columns.iter().filter_map(|(column, _)| match column {
        Column::Declared(column) => Some(*column),
        Column::Uuid | Column::Version => None,
    })
}

/// A row with these columns; the others have their defaults (RFC 7047, section 5.2.1), which must keep the
/// constraints too.
fn new_row(decl: &TableDecl, columns: &[(Column, Datum)]) -> Result<Box<dyn DynRow>, Fault> {
    let mut row = (decl.new_row)();
    for column in decl.column_ids() {
        let ty = &decl.column_decl(column).ty;
        if ty.min == 0 || columns.iter().any(|(given, _)| *given == Column::Declared(column)) {
            continue;
        }
        let default = Datum::default_for(ty);
        for atom in default.atoms() {
            decode::check(atom, &ty.key)?;
        }
        // A set of at least one is empty in a new row of ours.
        if ty.is_composite() {
            set(decl, row.as_mut(), &[(Column::Declared(column), default)])?;
        }
    }
    set(decl, row.as_mut(), columns)?;
    Ok(row)
}

fn set(decl: &TableDecl, row: &mut dyn DynRow, columns: &[(Column, Datum)]) -> Result<(), Fault> {
    for (column, datum) in columns {
        // An insert may name `_uuid` and `_version`; as in ovsdb-server that says nothing.
        let Column::Declared(declared) = column else { continue };
        if !row.set_datum(*declared, datum) {
            let name = column.name(decl);
            return Err(Fault::constraint(format!(
                "column {name} of table {} cannot hold {datum}",
                decl.name
            )));
        }
    }
    Ok(())
}

/// A `<column-set>`; all columns when it is not given.
fn column_set(decl: &TableDecl, json: Option<&Value>) -> Result<Vec<Column>, Fault> {
    let Some(json) = json else { return Ok(Column::all(decl).collect()) };
    let distinct = || Fault::syntax(json, "array of distinct column names expected");
    let mut columns = Vec::new();
    for name in json.as_array().ok_or_else(distinct)? {
        let name = name.as_str().ok_or_else(distinct)?;
        let column = Column::find(decl, name)
            .ok_or_else(|| Fault::syntax(json, format!("{name} is not a valid column name")))?;
        if columns.contains(&column) {
            return Err(distinct());
        }
        columns.push(column);
    }
    Ok(columns)
}

fn values(decl: &TableDecl, columns: &[Column], uuid: Uuid, row: &dyn DynRow) -> Vec<Datum> {
    columns.iter().map(|column| column.datum(decl, uuid, row)).collect()
}
