//! The declarations' scope rules, resolved to ids and in the order in which they can be followed.
//!
//! # Invariants
//! - A table comes after every table that carries its rows; the declarations promise that this is possible.

use std::{collections::BTreeSet, sync::LazyLock};

use quantumnet_model::{
    Scope,
    row::{ColumnId, TableDecl, TableId},
    tables,
};

/// One rule of one table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Rule {
    /// Its number among all rules.
    pub(super) place: usize,
    /// The table whose rows it puts into scopes.
    pub(super) carried: TableId,
    /// From where.
    pub(super) link: Link,
    /// It is the first of its table's that looks rows up by its column.
    pub(super) first_by_column: bool,
}

/// What a rule goes by; see [`Scope`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Link {
    Global,
    Own,
    Of { carrier: TableId, column: ColumnId },
    Referrers { carrier: TableId, column: ColumnId },
    Key { carrier: TableId, column: ColumnId, key: ColumnId },
    Named { carrier: TableId, column: ColumnId, by: ColumnId, sigil: Option<char> },
}

impl Link {
    /// The column of carried rows whose value carrying ones are found by.
    pub(super) const fn looked_up_by(self) -> Option<ColumnId> {
        match self {
            Self::Key { column, .. } | Self::Named { column, .. } => Some(column),
            Self::Global | Self::Own | Self::Of { .. } | Self::Referrers { .. } => None,
        }
    }

    /// The table whose rows carry others by this rule.
    pub(super) const fn carrier(self) -> Option<TableId> {
        match self {
            Self::Global | Self::Own => None,
            Self::Of { carrier, .. }
            | Self::Referrers { carrier, .. }
            | Self::Key { carrier, .. }
            | Self::Named { carrier, .. } => Some(carrier),
        }
    }
}

/// Tables with rules, carriers first.
pub(super) fn rules() -> &'static [(TableId, Vec<Rule>)] {
    static RULES: LazyLock<Vec<(TableId, Vec<Rule>)>> = LazyLock::new(sorted);
    &RULES
}

fn sorted() -> Vec<(TableId, Vec<Rule>)> {
    let mut place = 0;
    let mut left: Vec<(TableId, Vec<Rule>)> = tables::ids()
        .filter(|table| tables::decl(*table).database.is_replicated())
        .map(|carried| {
            let decl = tables::decl(carried);
            let mut columns = BTreeSet::new();
            let rules = decl.scopes.iter().map(|scope| {
                place += 1;
                let link = resolve(decl, scope);
                let first_by_column = link.looked_up_by().is_some_and(|column| columns.insert(column));
                Rule { place, carried, link, first_by_column }
            });
            (carried, rules.collect())
        })
        .collect();
    let mut sorted = Vec::new();
    let mut done = BTreeSet::new();
    while !left.is_empty() {
        let (ready, later): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|(_, rules)| rules.iter().all(|rule| follows(rule.link, &done)));
        assert!(!ready.is_empty(), "declared scope rules form no cycle");
        done.extend(ready.iter().map(|(table, _)| *table));
        sorted.extend(ready.into_iter().filter(|(_, rules)| !rules.is_empty()));
        left = later;
    }
    sorted
}

fn follows(link: Link, done: &BTreeSet<TableId>) -> bool {
    link.carrier().is_none_or(|carrier| done.contains(&carrier))
}

fn resolve(decl: &TableDecl, scope: &Scope) -> Link {
    let find = |table| tables::find(decl.database, table).expect("a scope rule names a declared table");
    let own = |column| decl.column(column).expect("a scope rule names a declared column");
    match scope {
        Scope::Global => Link::Global,
        Scope::Own => Link::Own,
        Scope::Of(column) => {
            let column = own(column);
            let carrier = decl.column_decl(column).ty.key.ref_table.as_deref().map(find);
            Link::Of { carrier: carrier.expect("the column refers to a table"), column }
        }
        Scope::Referrers { table, column } => {
            let carrier = find(table);
            let column = tables::decl(carrier).column(column).expect("a scope rule names a declared column");
            Link::Referrers { carrier, column }
        }
        Scope::Key { column, table, key } => {
            let carrier = find(table);
            let key = tables::decl(carrier).column(key).expect("a scope rule names a declared column");
            Link::Key { carrier, column: own(column), key }
        }
        Scope::Named { column, database, table, by, sigil } => {
            let carrier = tables::find(*database, table).expect("a scope rule names a declared table");
            let by = tables::decl(carrier).column(by).expect("a scope rule names a declared column");
            Link::Named { carrier, column: own(column), by, sigil: *sigil }
        }
    }
}
