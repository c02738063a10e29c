//! What a client asks a monitor for: tables, columns, conditions, kinds of changes.
//!
//! # Contract
//! - Errors are ovsdb-server's, member by member.

use ovsdb::monitor::Select;
use quantumnet_model::{
    Database,
    row::{TableDecl, TableId},
    tables,
};
use serde_json::{Map, Value};

use super::{Form, filter::Filter};
use crate::ovsdb::transact::{column::Column, fault::Fault};

/// What a monitor tells of, table by table.
#[derive(Clone, Debug)]
pub(in crate::ovsdb) struct Spec {
    pub(super) form: Form,
    /// By table.
    pub(super) tables: Vec<TableSpec>,
}

/// What a monitor tells of one table.
#[derive(Clone, Debug)]
pub(super) struct TableSpec {
    pub(super) table: TableId,
    pub(super) decl: &'static TableDecl,
    pub(super) select: Select,
    pub(super) columns: Vec<ColumnSpec>,
    pub(super) filter: Filter,
}

/// A column that is told.
#[derive(Clone, Debug)]
pub(super) struct ColumnSpec {
    pub(super) column: Column,
    pub(super) select: Select,
}

impl Spec {
    /// Reads the requests of a `monitor` method.
    pub(in crate::ovsdb) fn from_json(database: Database, form: Form, json: &Value) -> Result<Self, Fault> {
        let requests =
            json.as_object().ok_or_else(|| Fault::syntax(json, "monitor-requests must be object"))?;
        let mut list = Vec::with_capacity(requests.len());
        for (name, json) in requests {
            let table = find_table(database, name)?;
            let mut spec = TableSpec {
                table,
                decl: tables::decl(table),
                select: NOTHING,
                columns: Vec::new(),
                filter: Filter::default(),
            };
            match json {
                Value::Array(requests) => {
                    requests.iter().try_for_each(|request| spec.add(form, request))?;
                }
                single => spec.add(form, single)?,
            }
            list.push(spec);
        }
        list.sort_unstable_by_key(|spec| spec.table);
        Ok(Self { form, tables: list })
    }

    /// The spec with the conditions of a `monitor_cond_change`. One of RFC 7047 has none: as with ovsdb-server, they are
    /// accepted unread and change nothing.
    pub(in crate::ovsdb) fn with_conditions(&self, database: Database, json: &Value) -> Result<Self, Fault> {
        let requests =
            json.as_object().ok_or_else(|| syntax("monitor-cond-change-requests must be object"))?;
        let mut spec = self.clone();
        for (name, json) in requests {
            let table = find_table(database, name)?;
            let monitored = spec.tables.iter_mut().find(|monitored| monitored.table == table);
            let monitored =
                monitored.ok_or_else(|| syntax(format!("no table named {name} in monitor session")))?;
            let list = json
                .as_array()
                .ok_or_else(|| syntax(format!("table {name} no monitor-cond-change JSON array")))?;
            let mut filter = Filter::default();
            for json in list {
                let mut members = members(json, || format!("table {}", monitored.decl.name))?;
                let columns = members.array("columns")?;
                let condition = members.array("where")?;
                members.finish()?;
                if columns.is_some() {
                    return Err(Fault::syntax(json, "changing columns is unsupported"));
                }
                if self.form != Form::Update {
                    filter.add(table, condition)?;
                }
            }
            if !list.is_empty() && self.form != Form::Update {
                monitored.filter = filter;
            }
        }
        Ok(spec)
    }
}

impl TableSpec {
    fn add(&mut self, form: Form, json: &Value) -> Result<(), Fault> {
        let name = self.decl.name;
        let mut request = members(json, || format!("table {name}"))?;
        let condition = if form == Form::Update { None } else { request.array("where")? };
        let columns = request.array("columns")?;
        let select = request.object("select")?;
        request.finish()?;
        let select = select.map(|json| select_from_json(name, json)).transpose()?.unwrap_or_default();
        self.select = either(self.select, select);
        let mut add = |column: Column, json: Option<&[Value]>| {
            if self.columns.iter().any(|known| known.column == column) {
                let details = format!("column {} mentioned more than once", column.name(self.decl));
                return Err(match json {
                    Some(list) => Fault::syntax(&Value::from(list.to_vec()), details),
                    None => syntax(details),
                });
            }
            self.columns.push(ColumnSpec { column, select });
            Ok(())
        };
        match columns {
            Some(list) => {
                let whole = || Value::from(list.to_vec());
                for json in list {
                    let text = json
                        .as_str()
                        .ok_or_else(|| Fault::syntax(&whole(), "array of column names expected"))?;
                    let column = Column::find(self.decl, text).ok_or_else(|| {
                        Fault::syntax(&whole(), format!("{text} is not a valid column name"))
                    })?;
                    add(column, columns)?;
                }
            }
            None => {
                let all = Column::all(self.decl).filter(|column| *column != Column::Uuid);
                all.into_iter().try_for_each(|column| add(column, None))?;
            }
        }
        self.filter.add(self.table, condition)
    }
}

fn find_table(database: Database, name: &str) -> Result<TableId, Fault> {
    tables::find(database, name).ok_or_else(|| syntax(format!("no table named {name}")))
}

fn select_from_json(table: &str, json: &Value) -> Result<Select, Fault> {
    let mut members = members(json, || format!("table {table} select"))?;
    let mut select = Select::default();
    for (name, flag) in [
        ("initial", &mut select.initial),
        ("insert", &mut select.insert),
        ("delete", &mut select.delete),
        ("modify", &mut select.modify),
    ] {
        if let Some(value) = members.boolean(name)? {
            *flag = value;
        }
    }
    members.finish()?;
    Ok(select)
}

const fn either(a: Select, b: Select) -> Select {
    Select {
        initial: a.initial || b.initial,
        insert: a.insert || b.insert,
        delete: a.delete || b.delete,
        modify: a.modify || b.modify,
    }
}

const NOTHING: Select = Select { initial: false, insert: false, delete: false, modify: false };

fn syntax(details: impl Into<String>) -> Fault {
    Fault::new(ovsdb::ErrorKind::SyntaxError, details)
}

/// The members of an object that were not read yet.
struct Members<'a> {
    what: String,
    json: &'a Value,
    map: &'a Map<String, Value>,
    read: Vec<&'static str>,
}

fn members(json: &Value, what: impl FnOnce() -> String) -> Result<Members<'_>, Fault> {
    match json {
        Value::Object(map) => Ok(Members { what: what(), json, map, read: Vec::new() }),
        _ => Err(syntax(format!("Parsing {} failed: Object expected.", what()))),
    }
}

impl<'a> Members<'a> {
    fn array(&mut self, name: &'static str) -> Result<Option<&'a [Value]>, Fault> {
        self.take(name, |json| json.as_array().map(Vec::as_slice))
    }

    fn object(&mut self, name: &'static str) -> Result<Option<&'a Value>, Fault> {
        self.take(name, |json| json.is_object().then_some(json))
    }

    fn boolean(&mut self, name: &'static str) -> Result<Option<bool>, Fault> {
        self.take(name, Value::as_bool)
    }

    fn take<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Fault> {
        self.read.push(name);
        let Some(json) = self.map.get(name) else { return Ok(None) };
        let wrong = || self.failed(format!("Type mismatch for member '{name}'."));
        read(json).map(Some).ok_or_else(wrong)
    }

    fn finish(self) -> Result<(), Fault> {
        match self.map.keys().find(|name| !self.read.contains(&name.as_str())) {
            Some(name) => Err(self.failed(format!("Member '{name}' is present but not allowed here."))),
            None => Ok(()),
        }
    }

    fn failed(&self, why: String) -> Fault {
        Fault::syntax(self.json, format!("Parsing {} failed: {why}", self.what))
    }
}
