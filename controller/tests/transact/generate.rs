//! Random transactions over the whole northbound schema: what they say depends on the rows that are there.
//!
//! At most one thing is wrong with the form of a transaction: of several, which one ovsdb-server tells follows the order
//! of its hash tables.

use ovsdb::{
    schema::{BaseType, ColumnType},
    value::{Atom, AtomicType, Datum, Real},
};
use quantumnet_controller::store::State;
use quantumnet_model::{
    Database, Uuid,
    row::{ColumnDecl, TableDecl, TableId},
    tables,
};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Map, Value, json};

use crate::pair::chosen;

/// Makes one transaction.
pub(crate) struct Generator<'a> {
    pub(crate) rng: &'a mut StdRng,
    pub(crate) state: &'a State,
    /// Tables that this case is about.
    pub(crate) tables: &'a [TableId],
    /// Last uuid chosen.
    pub(crate) serial: &'a mut u64,
    /// Names of rows inserted in this transaction, or to be.
    names: Vec<(TableId, String)>,
    operations: Vec<Value>,
    broken: bool,
}

impl<'a> Generator<'a> {
    pub(crate) fn new(
        rng: &'a mut StdRng,
        state: &'a State,
        tables: &'a [TableId],
        serial: &'a mut u64,
    ) -> Self {
        Self { rng, state, tables, serial, names: Vec::new(), operations: Vec::new(), broken: false }
    }

    /// The operations.
    pub(crate) fn transaction(mut self) -> Vec<Value> {
        for _ in 0..self.rng.random_range(1..6) {
            let table = *self.tables.choose(self.rng).unwrap();
            match self.rng.random_range(0..20) {
                0..7 => self.insert(table, 0),
                7..9 => self.update(table),
                9..13 => self.mutate(table),
                13..15 => self.delete(table),
                15..17 => self.select(table),
                17..19 => self.wait(table),
                _ => self.small(),
            }
        }
        if self.rng.random_bool(0.08) {
            self.spoil();
        }
        self.operations
    }

    fn insert(&mut self, table: TableId, depth: usize) {
        let decl = tables::decl(table);
        let name = format!("{}_{}", decl.name, self.names.len());
        let named = self.rng.random_bool(0.6);
        let mut row = Map::new();
        for column in &decl.columns {
            let needed = column.ty.min > 0 && self.needs(&column.ty);
            let indexed = decl.indexes.iter().flatten().any(|id| decl.column_decl(*id).name == column.name);
            let reference = column.ty.bases().any(|base| base.ref_table.is_some());
            if needed
                || self.rng.random_bool(if indexed {
                    0.95
                } else if reference {
                    0.4
                } else {
                    0.2
                })
            {
                row.insert(column.name.into(), self.value(column, depth));
            }
        }
        let mut operation = json!({"op": "insert", "table": decl.name, "row": row});
        if named {
            // Seldom a name that another row has.
            let taken = self.names.choose(self.rng).map(|(_, name)| name.clone());
            let name = taken.filter(|_| self.rng.random_bool(0.03)).unwrap_or_else(|| name.clone());
            operation["uuid-name"] = name.clone().into();
            self.names.push((table, name));
        } else if self.rng.random_bool(0.8) {
            // Seldom a uuid that is taken, or was.
            *self.serial += u64::from(*self.serial == 0 || self.rng.random_bool(0.97));
            operation["uuid"] = chosen(*self.serial).to_string().into();
        }
        self.operations.push(operation);
        if named && !decl.root && self.rng.random_bool(0.8) {
            self.adopt(table, &name);
        }
    }

    /// Makes some row refer to the one of this name.
    fn adopt(&mut self, table: TableId, name: &str) {
        let target = tables::decl(table).name;
        let mut places = Vec::new();
        for id in tables::ids().filter(|id| tables::decl(*id).database == Database::Northbound) {
            for column in &tables::decl(id).columns {
                let refers =
                    column.ty.key.is_strong_reference() && column.ty.key.ref_table.as_deref() == Some(target);
                if refers && !column.ty.is_map() && !column.ty.is_scalar() {
                    places.push((id, column.name));
                }
            }
        }
        let Some((id, column)) = places.choose(self.rng).copied() else { return };
        let where_ = self.condition(id);
        let mutation = json!([column, "insert", ["named-uuid", name]]);
        self.operations.push(
            json!({"op": "mutate", "table": tables::decl(id).name, "where": where_, "mutations": [mutation]}),
        );
    }

    fn update(&mut self, table: TableId) {
        let decl = tables::decl(table);
        let mut row = Map::new();
        for _ in 0..self.rng.random_range(1..3) {
            let column = decl.columns.choose(self.rng).unwrap();
            row.insert(column.name.into(), self.value(column, 3));
        }
        let where_ = self.condition(table);
        self.operations.push(json!({"op": "update", "table": decl.name, "where": where_, "row": row}));
    }

    fn mutate(&mut self, table: TableId) {
        let decl = tables::decl(table);
        let mut mutations = Vec::new();
        for _ in 0..self.rng.random_range(1..3) {
            let column = decl.columns.choose(self.rng).unwrap();
            let numeric =
                !column.ty.is_map() && matches!(column.ty.key.atomic, AtomicType::Integer | AtomicType::Real);
            if numeric && (column.ty.is_scalar() || self.rng.random_bool(0.5)) {
                let mutator = ["+=", "-=", "*=", "/=", "%="].choose(self.rng).unwrap();
                let argument = [0, 1, 2, 3, -1, -7, 1000, i64::MAX - 5].choose(self.rng).copied().unwrap();
                // ovsdb-server takes some products at the very end of the range for too large, and is ended by a
                // division error (its check for overflow) when what is not positive is multiplied by zero.
                let argument = match (*mutator, argument) {
                    ("*=", 0) => 1,
                    ("*=", argument) => argument.min(1000),
                    (_, argument) => argument,
                };
                mutations.push(json!([column.name, mutator, argument]));
            } else if !column.ty.is_scalar() {
                let insert = self.rng.random_bool(0.5);
                let keys = !insert && column.ty.is_map() && self.rng.random_bool(0.5);
                let argument = if keys {
                    let keys = ColumnType::set(column.ty.key.clone());
                    self.json(&keys, 3)
                } else {
                    let loose = ColumnType { min: 0, ..column.ty.clone() };
                    self.json(&loose, if insert { 1 } else { 3 })
                };
                mutations.push(json!([column.name, if insert { "insert" } else { "delete" }, argument]));
            }
        }
        let where_ = self.condition(table);
        self.operations
            .push(json!({"op": "mutate", "table": decl.name, "where": where_, "mutations": mutations}));
    }

    fn delete(&mut self, table: TableId) {
        let where_ = self.condition(table);
        self.operations.push(json!({"op": "delete", "table": tables::decl(table).name, "where": where_}));
    }

    fn select(&mut self, table: TableId) {
        let where_ = self.condition(table);
        let mut operation = json!({"op": "select", "table": tables::decl(table).name, "where": where_});
        if self.rng.random_bool(0.8) {
            operation["columns"] = self.columns(table).into();
        }
        self.operations.push(operation);
    }

    fn columns(&mut self, table: TableId) -> Vec<Value> {
        let decl = tables::decl(table);
        let some: Vec<&ColumnDecl> = decl.columns.choose_multiple(self.rng, 2).collect();
        let mut columns: Vec<Value> = some.into_iter().map(|column| column.name.into()).collect();
        if self.rng.random_bool(0.3) {
            columns.push("_uuid".into());
        }
        columns
    }

    fn wait(&mut self, table: TableId) {
        let where_ = self.condition(table);
        let columns = self.columns(table);
        let decl = tables::decl(table);
        // Often what is there, so that it holds.
        let rows: Vec<Value> = if self.rng.random_bool(0.6) {
            let rows = self.state.rows().table(table).iter();
            rows.map(|(uuid, row)| {
                let value = |name: &str| match decl.column(name) {
                    Some(column) => row.datum(column).to_json(),
                    None => json!(["uuid", uuid.to_string()]),
                };
                let column =
                    |name: &Value| (name.as_str().unwrap().to_owned(), value(name.as_str().unwrap()));
                Value::Object(columns.iter().map(column).collect())
            })
            .collect()
        } else {
            Vec::new()
        };
        let until = if self.rng.random_bool(0.3) { "==" } else { "!=" };
        self.operations.push(json!({"op": "wait", "table": decl.name, "where": where_, "columns": columns,
            "until": until, "rows": rows, "timeout": 0}));
    }

    fn small(&mut self) {
        let operation = match self.rng.random_range(0..10) {
            0 => json!({"op": "abort"}),
            1 => json!({"op": "assert", "lock": "other"}),
            2..5 => json!({"op": "assert", "lock": "mine"}),
            5..8 => json!({"op": "comment", "comment": "random"}),
            _ => json!({"op": "commit", "durable": false}),
        };
        self.operations.push(operation);
    }

    /// Mostly one row, by one column or another.
    fn condition(&mut self, table: TableId) -> Value {
        let decl = tables::decl(table);
        match self.rng.random_range(0..10) {
            0 => json!([]),
            1 => json!([true]),
            2..6 => match self.reference(table) {
                Some(uuid) => json!([["_uuid", "==", uuid]]),
                None => json!([]),
            },
            _ => {
                let mut clauses = Vec::new();
                for _ in 0..self.rng.random_range(1..3) {
                    let column = decl.columns.choose(self.rng).unwrap();
                    clauses.push(self.clause(column));
                }
                clauses.into()
            }
        }
    }

    fn clause(&mut self, column: &ColumnDecl) -> Value {
        let single = !column.ty.is_map() && !column.ty.is_composite();
        let numeric = single && matches!(column.ty.key.atomic, AtomicType::Integer | AtomicType::Real);
        let functions: &[&str] = if numeric {
            &["==", "!=", "<", "<=", ">", ">=", "includes", "excludes"]
        } else {
            &["==", "!=", "includes", "excludes"]
        };
        let function = *functions.choose(self.rng).unwrap();
        let scalar = ColumnType { min: 1, ..column.ty.clone() };
        let argument = match function {
            "<" | "<=" | ">" | ">=" => self.json(&scalar, 3),
            _ => self.json(&column.ty, 3),
        };
        json!([column.name, function, argument])
    }

    /// A default that may not be stored must not be left to be found.
    fn needs(&self, ty: &ColumnType) -> bool {
        let default = Datum::default_for(ty);
        default.atoms().iter().any(|atom| ty.key.check(atom).is_err()) || ty.key.ref_table.is_some()
    }

    fn value(&mut self, column: &ColumnDecl, depth: usize) -> Value {
        let target = column.ty.key.ref_table.as_deref();
        let target = target.and_then(|name| tables::find(Database::Northbound, name));
        if let Some(target) = target.filter(|_| depth < 2 && self.rng.random_bool(0.5)) {
            self.insert(target, depth + 2);
        }
        self.json(&column.ty, 3)
    }

    fn json(&mut self, ty: &ColumnType, most: usize) -> Value {
        let most = if ty.is_composite() { most } else { 1 };
        let count = self.rng.random_range(ty.min..=most.max(ty.min));
        let mut keys: Vec<Value> = Vec::new();
        for _ in 0..count {
            let key = self.atom(&ty.key);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        match &ty.value {
            Some(value) => {
                let pairs = keys.into_iter().map(|key| json!([key, self.atom(value)])).collect();
                json!(["map", Value::Array(pairs)])
            }
            None if keys.len() == 1 && self.rng.random_bool(0.5) => keys.remove(0),
            None => json!(["set", keys]),
        }
    }

    fn atom(&mut self, base: &BaseType) -> Value {
        if let Some(target) = base.ref_table.as_deref() {
            let target = tables::find(Database::Northbound, target).unwrap();
            return self.reference(target).unwrap_or_else(|| json!(["uuid", chosen(u64::MAX).to_string()]));
        }
        if let Some(allowed) = &base.enumeration {
            return allowed.choose(self.rng).unwrap().to_json();
        }
        match base.atomic {
            AtomicType::Integer => {
                let (min, max) = (base.min_integer.unwrap_or(-1), base.max_integer.unwrap_or(i64::MAX));
                Value::from(min.saturating_add(self.rng.random_range(0..4)).min(max))
            }
            AtomicType::Real => {
                Atom::Real(Real::new(f64::from(self.rng.random_range(0..3))).unwrap()).to_json()
            }
            AtomicType::Boolean => self.rng.random::<bool>().into(),
            AtomicType::String => (*["a", "b", "c", "d", "é \"/\n", ""].choose(self.rng).unwrap()).into(),
            AtomicType::Uuid => {
                json!(["uuid", chosen(self.rng.random_range(0..*self.serial + 1)).to_string()])
            }
        }
    }

    /// A row of the table: one that is there, one inserted here, seldom none at all.
    fn reference(&mut self, table: TableId) -> Option<Value> {
        let names: Vec<&String> =
            self.names.iter().filter(|(of, _)| *of == table).map(|(_, name)| name).collect();
        if self.rng.random_bool(0.5)
            && let Some(name) = names.choose(self.rng)
        {
            return Some(json!(["named-uuid", name]));
        }
        if self.rng.random_bool(0.02) {
            let nobody = ["nobody", "noone"].choose(self.rng).unwrap();
            return Some(json!(["named-uuid", nobody]));
        }
        let rows: Vec<Uuid> = self.state.rows().table(table).keys().copied().collect();
        let row = rows.choose(self.rng)?;
        Some(json!(["uuid", row.to_string()]))
    }

    /// Breaks the form of one operation.
    fn spoil(&mut self) {
        if std::mem::replace(&mut self.broken, true) {
            return;
        }
        let at = self.rng.random_range(0..self.operations.len());
        let operation = &mut self.operations[at];
        let table = operation["table"].as_str().and_then(|name| tables::find(Database::Northbound, name));
        let decl: Option<&TableDecl> = table.map(tables::decl);
        match (self.rng.random_range(0..10), decl) {
            (0, _) => *operation = json!("no object"),
            (1, _) => operation["op"] = json!("no operation"),
            (2, _) => operation["extra"] = json!(1),
            (3, Some(_)) => operation["table"] = json!("Nothing"),
            (4, Some(_)) => operation["table"] = json!(7),
            (5, Some(_)) if operation.get("where").is_some() => {
                operation["where"] = json!([["nothing", "==", 1]])
            }
            (6, Some(_)) if operation.get("where").is_some() => {
                operation["where"] = json!([["_uuid", "~", 1]])
            }
            (7, Some(_)) if operation.get("where").is_some() => {
                operation.as_object_mut().unwrap().remove("where");
            }
            (8, Some(decl)) if operation.get("row").is_some() => {
                let column = decl.columns.choose(self.rng).unwrap();
                let wrong =
                    [json!({}), json!(["set", 1]), json!(["map", 1]), json!(["uuid", "x"]), json!(null)];
                operation["row"] =
                    Map::from_iter([(column.name.to_owned(), wrong.choose(self.rng).unwrap().clone())])
                        .into();
            }
            (9, Some(_)) if operation.get("columns").is_some() => operation["columns"] = json!(["nothing"]),
            _ => {}
        }
    }
}
