//! What changed, as `<table-updates>`.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use ovsdb::value::Datum;
use quantumnet_model::{
    Rows, Uuid,
    row::{DynRow, TableId},
};

use super::{
    Form, Spec,
    request::{ColumnSpec, TableSpec},
};
use crate::{
    ovsdb::{json, transact::column::Column},
    store::{Touched, Transaction},
};

/// A row before and after.
#[derive(Clone, Copy, Debug)]
pub(in crate::ovsdb) struct Change<'a> {
    table: TableId,
    uuid: Uuid,
    old: Option<&'a dyn DynRow>,
    new: Option<&'a dyn DynRow>,
}

impl<'a> From<&'a Touched> for Change<'a> {
    fn from(touched: &'a Touched) -> Self {
        let Touched { table, uuid, old, new } = touched;
        Self { table: *table, uuid: *uuid, old: old.as_deref(), new: new.as_deref() }
    }
}

/// What a few transactions did together.
pub(in crate::ovsdb) fn net(transactions: &[Arc<Transaction>]) -> Vec<Change<'_>> {
    let mut rows: BTreeMap<(TableId, Uuid), Change<'_>> = BTreeMap::new();
    for touched in transactions.iter().flat_map(|transaction| &transaction.touched) {
        let change = Change::from(touched);
        rows.entry((touched.table, touched.uuid)).or_insert(change).new = change.new;
    }
    rows.into_values().collect()
}

/// What leads from some rows to others, in these tables.
pub(in crate::ovsdb) fn between<'a>(spec: &Spec, old: &'a Rows, new: &'a Rows) -> Vec<Change<'a>> {
    let mut changes = Vec::new();
    for TableSpec { table, .. } in &spec.tables {
        let table = *table;
        let (mut before, mut after) =
            (old.table(table).iter().peekable(), new.table(table).iter().peekable());
        loop {
            // Both are in the order of their uuids.
            let order = match (before.peek(), after.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((a, _)), Some((b, _))) => a.cmp(b),
            };
            let old = if order.is_le() { before.next() } else { None };
            let new = if order.is_ge() { after.next() } else { None };
            let Some((uuid, _)) = old.or(new) else { break };
            let (old, new) = (old.map(|(_, row)| row), new.map(|(_, row)| row));
            if !old.zip(new).is_some_and(|(old, new)| Arc::ptr_eq(old, new)) {
                changes.push(Change {
                    table,
                    uuid: *uuid,
                    old: old.map(AsRef::as_ref),
                    new: new.map(AsRef::as_ref),
                });
            }
        }
    }
    changes
}

impl Spec {
    /// The `<table-updates>` of changes; `None` when there is nothing to tell.
    pub(in crate::ovsdb) fn updates<'a>(
        &self,
        changes: impl IntoIterator<Item = Change<'a>>,
    ) -> Option<Vec<u8>> {
        let mut of_table: Vec<Vec<Change<'a>>> = self.tables.iter().map(|_| Vec::new()).collect();
        for change in changes {
            if let Ok(place) = self.tables.binary_search_by_key(&change.table, |spec| spec.table) {
                of_table[place].push(change);
            }
        }
        let mut updates = Updates::default();
        for (spec, changes) in self.tables.iter().zip(of_table) {
            updates.table(spec.decl.name);
            for Change { uuid, old, new, .. } in changes {
                let old = old.filter(|row| spec.filter.matches(uuid, *row));
                let new = new.filter(|row| spec.filter.matches(uuid, *row));
                updates.row(uuid, |out| spec.change(self.form, uuid, (old, new), out));
            }
        }
        updates.finish()
    }

    /// The `<table-updates>` of other conditions: rows that match now and did not, and the other way round.
    pub(in crate::ovsdb) fn condition_updates(&self, former: &Self, rows: &Rows) -> Option<Vec<u8>> {
        let mut updates = Updates::default();
        for (spec, former) in self.tables.iter().zip(&former.tables) {
            updates.table(spec.decl.name);
            for (uuid, row) in rows.table(spec.table) {
                let matched = Some(row.as_ref()).filter(|row| former.filter.matches(*uuid, *row));
                let matches = Some(row.as_ref()).filter(|row| spec.filter.matches(*uuid, *row));
                if matched.is_some() != matches.is_some() {
                    updates.row(*uuid, |out| spec.change(self.form, *uuid, (matched, matches), out));
                }
            }
        }
        updates.finish()
    }
}

impl TableSpec {
    /// Appends what is told of a row that is there; false, and nothing, when that is nothing.
    pub(super) fn initial(&self, form: Form, uuid: Uuid, row: &dyn DynRow, out: &mut Vec<u8>) -> bool {
        let told = self.select.initial && self.filter.matches(uuid, row);
        if told {
            let name = if form == Form::Update { "new" } else { "initial" };
            out.push(b'{');
            self.whole(form, name, (uuid, row), |column| column.select.initial, out);
            out.push(b'}');
        }
        told
    }

    /// Appends what is told of a change; false, and nothing, when that is nothing.
    fn change(
        &self,
        form: Form,
        uuid: Uuid,
        rows: (Option<&dyn DynRow>, Option<&dyn DynRow>),
        out: &mut Vec<u8>,
    ) -> bool {
        match rows {
            (None, Some(new)) if self.select.insert => {
                let name = if form == Form::Update { "new" } else { "insert" };
                out.push(b'{');
                self.whole(form, name, (uuid, new), |column| column.select.insert, out);
                out.push(b'}');
                true
            }
            (Some(old), None) if self.select.delete => {
                if form == Form::Update {
                    out.push(b'{');
                    self.whole(form, "old", (uuid, old), |column| column.select.delete, out);
                    out.push(b'}');
                } else {
                    out.extend_from_slice(b"{\"delete\":null}");
                }
                true
            }
            (Some(old), Some(new)) if self.select.modify => self.modify(form, uuid, (old, new), out),
            _ => false,
        }
    }

    fn modify(
        &self,
        form: Form,
        uuid: Uuid,
        (old, new): (&dyn DynRow, &dyn DynRow),
        out: &mut Vec<u8>,
    ) -> bool {
        let from = out.len();
        let name = if form == Form::Update { "old" } else { "modify" };
        out.push(b'{');
        let columns = self.columns.iter().filter(|column| column.select.modify);
        let changed = self.object(name, out, |members| {
            for ColumnSpec { column, .. } in columns {
                let difference = match column {
                    Column::Declared(id) => old.diff(new, *id),
                    fixed => {
                        let (old, new) =
                            (fixed.datum(self.decl, uuid, old), fixed.datum(self.decl, uuid, new));
                        (old != new).then_some(new)
                    }
                };
                if let Some(difference) = difference {
                    let told = match form {
                        Form::Update => column.datum(self.decl, uuid, old),
                        Form::Update2 | Form::Update3 => difference,
                    };
                    members.add(column.name(self.decl), &told);
                }
            }
        });
        if !changed {
            // It differs in what this monitor is not told.
            out.truncate(from);
            return false;
        }
        if form == Form::Update {
            out.push(b',');
            self.whole(form, "new", (uuid, new), |column| column.select.modify, out);
        }
        out.push(b'}');
        true
    }

    /// Appends all columns as a member; in `update2` those that have their default are left out.
    fn whole(
        &self,
        form: Form,
        name: &str,
        (uuid, row): (Uuid, &dyn DynRow),
        wanted: impl Fn(&ColumnSpec) -> bool,
        out: &mut Vec<u8>,
    ) {
        self.object(name, out, |members| {
            for column in self.columns.iter().filter(|column| wanted(column)) {
                let value = column.column.datum(self.decl, uuid, row);
                if form == Form::Update || !value.is_default(column.column.ty(self.decl)) {
                    members.add(column.column.name(self.decl), &value);
                }
            }
        });
    }

    /// Appends a member that is an object; says whether that has members itself.
    fn object(&self, name: &str, out: &mut Vec<u8>, fill: impl FnOnce(&mut Members<'_>)) -> bool {
        json::value(out, name);
        out.extend_from_slice(b":{");
        let mut members = Members { out, any: false };
        fill(&mut members);
        let any = members.any;
        out.push(b'}');
        any
    }
}

/// Members of an object being written.
struct Members<'a> {
    out: &'a mut Vec<u8>,
    any: bool,
}

impl Members<'_> {
    fn add(&mut self, name: &str, value: &Datum) {
        if std::mem::replace(&mut self.any, true) {
            self.out.push(b',');
        }
        json::value(self.out, name);
        self.out.push(b':');
        json::datum(self.out, value);
    }
}

/// `<table-updates>` being written, a table at a time. A table appears with its first row.
#[derive(Debug, Default)]
pub(super) struct Updates {
    pub(super) out: Vec<u8>,
    table: &'static str,
    /// The table has rows.
    open: bool,
    any: bool,
}

impl Updates {
    /// What was written before them stands in front.
    pub(super) fn after(head: Vec<u8>) -> Self {
        Self { out: head, ..Self::default() }
    }

    /// What follows are rows of this table.
    pub(super) fn table(&mut self, name: &'static str) {
        if std::mem::take(&mut self.open) {
            self.out.push(b'}');
        }
        self.table = name;
    }

    /// A row; `write` says whether it wrote anything.
    pub(super) fn row(&mut self, uuid: Uuid, write: impl FnOnce(&mut Vec<u8>) -> bool) {
        let from = self.out.len();
        match (self.open, self.any) {
            (true, _) => self.out.push(b','),
            (false, any) => {
                self.out.push(if any { b',' } else { b'{' });
                json::value(&mut self.out, self.table);
                self.out.extend_from_slice(b":{");
            }
        }
        json::uuid_text(&mut self.out, uuid);
        self.out.push(b':');
        if write(&mut self.out) {
            (self.open, self.any) = (true, true);
        } else {
            self.out.truncate(from);
        }
    }

    /// All of it; `None` when there was no row.
    pub(super) fn finish(mut self) -> Option<Vec<u8>> {
        self.close().then_some(self.out)
    }

    /// Ends the object; false, with nothing written, when there was no row.
    pub(super) fn close(&mut self) -> bool {
        self.table("");
        if self.any {
            self.out.push(b'}');
        }
        self.any
    }
}
