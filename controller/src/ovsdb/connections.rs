//! What a database itself says of its connections: the rows of `Connection` and `SSL` that its global row names
//! (ovn-nb(5), ovn-sb(5)), and what becomes of them.
//!
//! # Contract
//! - In: a state. Out: targets with their options, key and certificates; and back, `is_connected` and `status` of the
//!   rows, as changes to be written.
//! - Both databases have these tables with the same columns; they are read by name.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use ovsdb::value::Datum;
use quantumnet_model::{
    Database, Uuid,
    row::{ColumnId, DynRow, TableDecl, TableId},
    tables,
};

use super::{
    connection::Options,
    remote::Status,
    target::{Target, TargetError},
    tls::{Tls, Versions},
};
use crate::store::{Refusal, State, Txn};

/// What a database says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Connections {
    /// By row.
    pub(super) rows: BTreeMap<Uuid, Result<(Target, Options), TargetError>>,
    /// Key and certificates, or what is wrong with them.
    pub(super) tls: Option<Result<Tls, String>>,
    /// What is asked for and not done.
    pub(super) unheeded: Vec<String>,
}

impl Connections {
    /// Reads what a state says.
    pub(super) fn read(state: &State, database: Database) -> Self {
        let mut connections = Self::default();
        let global =
            Named::find(database, if database == Database::Northbound { "NB_Global" } else { "SB_Global" });
        let (rows, ssl) = (Named::find(database, "Connection"), Named::find(database, "SSL"));
        let Some((global, (rows, ssl))) = global.zip(rows.zip(ssl)) else { return connections };
        for row in state.rows().table(global.table).values() {
            for uuid in global.get(row.as_ref(), "connections").uuids() {
                if let Some(row) = state.rows().dyn_row(rows.table, uuid) {
                    connections.connection(rows, uuid, row.as_ref());
                }
            }
            for uuid in global.get(row.as_ref(), "ssl").uuids() {
                if let Some(row) = state.rows().dyn_row(ssl.table, uuid) {
                    connections.ssl(ssl, row.as_ref());
                }
            }
        }
        connections
    }

    fn connection(&mut self, named: Named, uuid: Uuid, row: &dyn DynRow) {
        let text = named.text(row, "target");
        let target = text.parse::<Target>().map(|target| {
            let mut options = Options::of(&target);
            let millis = |column: &str| {
                let given = named.get(row, column).as_integer().and_then(|ms| u64::try_from(ms).ok());
                given.map(Duration::from_millis)
            };
            options.probe = millis("inactivity_probe").unwrap_or(options.probe);
            options.backoff_max = millis("max_backoff").unwrap_or(options.backoff_max);
            options.read_only = named.get(row, "read_only").as_bool().unwrap_or(false);
            (target, options)
        });
        for column in ["other_config", "role"] {
            let value = named.get(row, column);
            if !value.is_empty() && value.as_str() != Some("") {
                self.unheeded.push(format!("Connection {text}: {column} {value}"));
            }
        }
        self.rows.insert(uuid, target);
    }

    fn ssl(&mut self, named: Named, row: &dyn DynRow) {
        let path = |column: &str| PathBuf::from(named.text(row, column));
        self.tls = Some(Versions::parse(&named.text(row, "ssl_protocols")).map(|versions| Tls {
            private_key: path("private_key"),
            certificate: path("certificate"),
            ca_certificate: path("ca_cert"),
            versions,
        }));
        for column in ["ssl_ciphers", "ssl_ciphersuites"] {
            let value = named.text(row, column);
            if !value.is_empty() {
                self.unheeded.push(format!("SSL: {column} {value}"));
            }
        }
        if named.get(row, "bootstrap_ca_cert").as_bool() == Some(true) {
            self.unheeded.push("SSL: bootstrap_ca_cert".to_owned());
        }
    }
}

/// What is to be written to a row of `Connection`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shown {
    table: TableId,
    uuid: Uuid,
    columns: Vec<(ColumnId, Datum)>,
}

impl Shown {
    /// What `status` makes of a row; `None` when that stands there already.
    pub(super) fn of(
        state: &State,
        database: Database,
        uuid: Uuid,
        target: &Result<(Target, Options), TargetError>,
        status: &Status,
    ) -> Option<Self> {
        let named = Named::find(database, "Connection")?;
        let row = state.rows().dyn_row(named.table, uuid)?;
        let error = target.as_ref().err().map(ToString::to_string).or_else(|| status.last_error.clone());
        let connected = status.sessions > 0;
        let active = target.as_ref().is_ok_and(|(target, _)| !target.is_passive());
        let mut words: BTreeMap<&str, String> = BTreeMap::new();
        if connected || active {
            words.insert("state", if connected { "ACTIVE" } else { "BACKOFF" }.to_owned());
        }
        if let Some(port) = status.bound_port {
            words.insert("bound_port", port.to_string());
        }
        if status.sessions > 1 {
            words.insert("n_connections", status.sessions.to_string());
        }
        if let Some(error) = error {
            words.insert("last_error", error);
        }
        let mut columns = Vec::new();
        for (name, value) in [("is_connected", Datum::from(connected)), ("status", Datum::map(words))] {
            let column = named.decl.column(name)?;
            if row.datum(column) != value {
                columns.push((column, value));
            }
        }
        (!columns.is_empty()).then_some(Self { table: named.table, uuid, columns })
    }

    /// Writes it. A row that is gone by now needs nothing.
    pub(super) fn write(&self, txn: &mut Txn<'_>) -> Result<(), Refusal> {
        txn.set_dyn(self.table, self.uuid, &self.columns).map(|_| ())
    }
}

/// A table whose columns are read by name.
#[derive(Clone, Copy, Debug)]
struct Named {
    table: TableId,
    decl: &'static TableDecl,
}

impl Named {
    fn find(database: Database, name: &str) -> Option<Self> {
        tables::find(database, name).map(|table| Self { table, decl: tables::decl(table) })
    }

    /// A column's value; an empty set for a column that this database does not have.
    fn get(&self, row: &dyn DynRow, column: &str) -> Datum {
        self.decl.column(column).map_or(Datum::EMPTY_SET, |column| row.datum(column))
    }

    fn text(&self, row: &dyn DynRow, column: &str) -> String {
        self.get(row, column).as_str().unwrap_or_default().to_owned()
    }
}
