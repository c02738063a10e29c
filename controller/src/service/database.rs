//! `DatabaseService`: rows by the names that OVN gives tables and columns. Which there are is read from the
//! declarations.

use std::ops::Bound;

use ovsdb::{
    schema::{ColumnType, Max},
    value::{Atom, Datum},
};
use quantumnet_api::v1::{
    ImportRowsRequest, ImportRowsResponse, ListRowsRequest, ListRowsResponse, ListTablesRequest,
    ListTablesResponse, Table, database_service_server::DatabaseService,
};
use quantumnet_model::{
    Database, Uuid,
    row::{ColumnId, DynRow, TableDecl, TableId},
    tables,
};
use serde_json::{Map, Value};
use tonic::{Request, Response, Status};

use crate::{
    service::{Api, Kind, Verb, error, import::Import, list},
    store::{Class, Refusal},
};

#[tonic::async_trait]
impl DatabaseService for Api {
    async fn list_tables(
        &self,
        request: Request<ListTablesRequest>,
    ) -> Result<Response<ListTablesResponse>, Status> {
        let (_, request) = self.enter(request, Verb::Read, Kind::Database, |_| "")?;
        let database = database(&request.database).map_err(error::refused)?;
        let state = self.read().await?;
        let ids = tables::ids().filter(|id| tables::decl(*id).database == database);
        let table = |id: TableId| Table {
            name: tables::decl(id).name.into(),
            columns: tables::decl(id).columns.iter().map(|column| column.name.into()).collect(),
            row_count: state.rows().len(id) as u64,
        };
        Ok(Response::new(ListTablesResponse { tables: ids.map(table).collect() }))
    }

    async fn list_rows(
        &self,
        request: Request<ListRowsRequest>,
    ) -> Result<Response<ListRowsResponse>, Status> {
        let (_, request) = self.enter(request, Verb::Read, Kind::Database, |_| "")?;
        let id = table(database(&request.database).map_err(error::refused)?, &request.table, "table")
            .map_err(error::refused)?;
        let decl = tables::decl(id);
        let conditions = conditions(decl, &request.filter).map_err(error::refused)?;
        let (after, size) =
            list::place_of(request.page_size, &request.page_token, "").map_err(error::refused)?;
        let state = self.read().await?;
        let beyond = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = state.rows().table(id).range((beyond, Bound::Unbounded));
        let chosen = rows
            .filter(|(uuid, row)| conditions.iter().all(|condition| condition.holds(**uuid, row.as_ref())));
        let (rows, last) = list::cut(chosen.map(|(uuid, row)| (*uuid, row)), size);
        Ok(Response::new(ListRowsResponse {
            rows: rows.into_iter().map(|(uuid, row)| json(decl, uuid, row.as_ref()).to_string()).collect(),
            next_page_token: last.map(|last| last.to_string()).unwrap_or_default(),
            revision: state.revision(),
        }))
    }

    async fn import_rows(
        &self,
        request: Request<ImportRowsRequest>,
    ) -> Result<Response<ImportRowsResponse>, Status> {
        let (call, request) = self.enter(request, Verb::Create, Kind::Database, |_| "")?;
        let dry_run = request.dry_run;
        let import = Import::new(request).map_err(error::refused)?;
        let counts = import.counts();
        let (revision, keys_kept) = if dry_run {
            let state = self.read().await?;
            let tried = tokio::task::spawn_blocking(move || import.try_on(&state, call.principal.name));
            let kept = tried.await.map_err(|error| Status::internal(error.to_string()))?;
            kept.map_err(error::refused)?
        } else {
            self.write(&call, move |txn| import.apply(txn)).await?
        };
        Ok(Response::new(ImportRowsResponse { counts, keys_kept, revision }))
    }
}

/// The database of that name, the northbound one for none.
fn database(name: &str) -> Result<Database, Refusal> {
    let known = [Database::Northbound, Database::Southbound];
    if name.is_empty() {
        return Ok(Database::Northbound);
    }
    known.into_iter().find(|database| database.name() == name).ok_or_else(|| {
        let message =
            format!("there is no database {name:?}; there are {}", known.map(Database::name).join(", "));
        Refusal::service(Class::NotFound, "DATABASE_UNKNOWN", message).at("database")
    })
}

/// The table of that name.
pub(super) fn table(database: Database, name: &str, field: &str) -> Result<TableId, Refusal> {
    tables::find(database, name).ok_or_else(|| {
        let message = format!("{} has no table {name:?}", database.name());
        Refusal::service(Class::NotFound, "TABLE_UNKNOWN", message).at(field)
    })
}

/// A condition of a filter.
struct Condition {
    /// `None`: the row's uuid.
    column: Option<ColumnId>,
    /// Key of a map.
    key: Option<String>,
    equals: bool,
    value: String,
}

impl Condition {
    fn holds(&self, uuid: Uuid, row: &dyn DynRow) -> bool {
        let found = match self.column {
            None => uuid.to_string() == self.value,
            Some(column) => match (row.datum(column), &self.key) {
                (Datum::Map(pairs), Some(key)) => {
                    let wanted = |(name, _): &&(Atom, Atom)| text(name) == *key;
                    pairs
                        .iter()
                        .find(wanted)
                        .map_or(self.value.is_empty(), |(_, value)| text(value) == self.value)
                }
                (Datum::Map(pairs), None) => pairs.is_empty() && self.value.is_empty(),
                (Datum::Set(atoms), _) => {
                    atoms.iter().any(|atom| text(atom) == self.value)
                        || atoms.is_empty() && self.value.is_empty()
                }
            },
        };
        found == self.equals
    }
}

fn conditions(decl: &TableDecl, filter: &str) -> Result<Vec<Condition>, Refusal> {
    let wrong = |message: String| error::invalid("filter", "FILTER_INVALID", message);
    let parts = filter.split(',').map(str::trim).filter(|part| !part.is_empty());
    let condition = |part: &str| {
        let (name, equals, value) = match (part.split_once("!="), part.split_once('=')) {
            (Some((name, value)), _) => (name.trim(), false, value.trim()),
            (None, Some((name, value))) => (name.trim(), true, value.trim()),
            (None, None) => return Err(wrong(format!("{part:?} is no condition such as name=web"))),
        };
        let (name, key) =
            name.split_once('.').map_or((name, None), |(name, key)| (name, Some(key.to_owned())));
        let column = decl.column(name);
        let is_map = column.is_some_and(|column| decl.column_decl(column).ty.is_map());
        if column.is_none() && name != "_uuid" || key.is_some() && !is_map {
            return Err(wrong(format!("{} has no column {name:?} that {part:?} could mean", decl.name)));
        }
        Ok(Condition { column, key, equals, value: value.to_owned() })
    };
    let conditions: Vec<Condition> = parts.map(condition).collect::<Result<_, _>>()?;
    if conditions.len() > list::CONDITIONS_MAX {
        return Err(wrong(format!("a filter has at most {} conditions", list::CONDITIONS_MAX)));
    }
    Ok(conditions)
}

/// A row for people and scripts: values as JSON has them, not in OVSDB's own form.
fn json(decl: &TableDecl, uuid: Uuid, row: &dyn DynRow) -> Value {
    let mut object = Map::with_capacity(decl.columns.len() + 1);
    object.insert("_uuid".into(), uuid.to_string().into());
    for column in decl.column_ids() {
        let column_decl = decl.column_decl(column);
        object.insert(column_decl.name.into(), plain(&row.datum(column), &column_decl.ty));
    }
    Value::Object(object)
}

fn plain(datum: &Datum, ty: &ColumnType) -> Value {
    match datum {
        Datum::Map(pairs) => pairs.iter().map(|(key, value)| (text(key), atom(value))).collect(),
        Datum::Set(atoms) if ty.max == Max::Limited(1) => atoms.first().map_or(Value::Null, atom),
        Datum::Set(atoms) => atoms.iter().map(atom).collect(),
    }
}

fn atom(atom: &Atom) -> Value {
    match atom {
        Atom::Integer(value) => (*value).into(),
        Atom::Real(value) => value.value().into(),
        Atom::Boolean(value) => (*value).into(),
        Atom::String(_) | Atom::Uuid(_) => text(atom).into(),
    }
}

fn text(atom: &Atom) -> String {
    match atom {
        Atom::Integer(value) => value.to_string(),
        Atom::Real(value) => value.value().to_string(),
        Atom::Boolean(value) => value.to_string(),
        Atom::String(value) => value.to_string(),
        Atom::Uuid(value) => value.to_string(),
    }
}
