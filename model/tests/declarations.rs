//! The declarations against the laws they promise and against an installed OVN's schema.

use std::{
    cell::Cell,
    cmp::Ordering,
    hash::{Hash, Hasher},
};

use imbl::OrdSet;
use ovsdb::{
    schema::{BaseType, DatabaseSchema},
    value::{Atom, Datum},
};
use proptest::prelude::*;
use quantumnet_model::{
    Column, Database, Row, Rows, Strong, Uuid,
    change::{ChangeKind, RowChange},
    column::{Scalar, Text},
    nb::{LogicalSwitch, LogicalSwitchPort},
    sb, tables,
};

fn uuids(range: std::ops::Range<u128>) -> OrdSet<Strong<LogicalSwitchPort>> {
    range.map(|n| Strong::new(Uuid::from_u128(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))).collect()
}

#[test]
fn every_scope_rule_names_declared_columns() {
    use quantumnet_model::Scope;
    for decl in tables::all() {
        let find = |table| tables::decl(tables::find(decl.database, table).unwrap());
        for scope in &decl.scopes {
            match scope {
                Scope::Global | Scope::Own => {}
                Scope::Of(column) => assert!(decl.column(column).is_some()),
                Scope::Referrers { table, column } => assert!(find(table).column(column).is_some()),
                Scope::Key { column, table, key } => {
                    let key = find(table).column(key).unwrap();
                    assert!(decl.column(column).is_some());
                    assert!(find(table).indexes.contains(&vec![key]), "{table} is not indexed by its key");
                }
                Scope::Named { column, database, table, by, .. } => {
                    assert!(decl.column(column).is_some());
                    let table = tables::decl(tables::find(*database, table).unwrap());
                    assert!(table.column(by).is_some());
                }
            }
        }
    }
}

#[test]
fn references_name_tables_of_the_same_database() {
    for decl in tables::all() {
        for column in &decl.columns {
            for base in column.ty.bases() {
                if let Some(table) = &base.ref_table {
                    assert!(
                        tables::find(decl.database, table).is_some(),
                        "{}.{} -> {table}",
                        decl.name,
                        column.name
                    );
                }
            }
        }
    }
}

/// Debian's schema is older: whatever it has, ours has with the same type, but for enumerations and
/// ranges that have grown since.
#[test]
fn northbound_schema_holds_all_that_an_installed_ovn_knows() {
    let path = "/usr/share/ovn/ovn-nb.ovsschema";
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}; install ovn-common"));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let ours = tables::schema(Database::Northbound, "7.19.0");
    for (table, theirs) in json["tables"].as_object().unwrap() {
        let table_ours = &ours.tables[table];
        for column in theirs["columns"].as_object().unwrap().keys() {
            assert!(table_ours.columns.contains_key(column), "{table}.{column} is missing");
        }
        for index in theirs["indexes"].as_array().into_iter().flatten() {
            let index: Vec<String> = serde_json::from_value(index.clone()).unwrap();
            assert!(table_ours.indexes.contains(&index), "{table} lacks the index {index:?}");
        }
        assert_eq!(theirs["isRoot"].as_bool().unwrap_or(false), table_ours.is_root, "{table}");
    }
}

/// Columns whose enumeration or range has grown since Debian's schema.
const GROWN: [(&str, &str); 6] = [
    ("DHCPv6_Options", "type"),
    ("Encap", "type"),
    ("Logical_Flow", "table_id"),
    ("Mirror", "filter"),
    ("Mirror", "type"),
    ("Service_Monitor", "protocol"),
];

/// A client that was built for Debian's schema finds every table and column of it, with the same type.
#[test]
fn southbound_schema_holds_all_that_an_installed_ovn_knows() {
    let path = "/usr/share/ovn/ovn-sb.ovsschema";
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}; install ovn-common"));
    let theirs = DatabaseSchema::parse(&text).unwrap();
    let ours = tables::schema(Database::Southbound, sb::VERSION);
    for (name, table) in &theirs.tables {
        let known = ours.tables.get(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!((known.is_root, known.max_rows), (table.is_root, table.max_rows), "{name}");
        assert_eq!(known.indexes, table.indexes, "{name}");
        for (column, theirs) in &table.columns {
            let ours = known.columns.get(column).unwrap_or_else(|| panic!("{name}.{column} is missing"));
            assert_eq!(ours.ephemeral, theirs.ephemeral, "{name}.{column}");
            if !GROWN.contains(&(name.as_str(), column.as_str())) {
                assert_eq!(ours.ty, theirs.ty, "{name}.{column}");
            }
        }
    }
    // What is ours, or OVN's since.
    let more: Vec<&str> =
        ours.tables.keys().filter(|name| !theirs.tables.contains_key(*name)).map(String::as_str).collect();
    assert_eq!(
        more,
        [
            "ACL_ID",
            "Advertised_MAC_Binding",
            "Advertised_Route",
            "Chassis_Interface",
            "ECMP_Nexthop",
            "Learned_Route"
        ]
    );
}

/// A port added to a switch of 50,000 must not cost 50,000: the tree is compared where it differs.
#[test]
fn difference_of_a_large_set_visits_what_differs() {
    let cost = |elements: i64| {
        let old: OrdSet<Counted> = (0..elements).map(|n| Counted(2 * n)).collect();
        let mut new = old.clone();
        new.insert(Counted(7));
        let before = COMPARISONS.get();
        assert_eq!(Column::diff(&old, &new), Some(Datum::scalar(7)));
        let shared = COMPARISONS.get() - before;
        let before = COMPARISONS.get();
        assert_eq!(old.diff(&(0..elements).map(|n| Counted(2 * n)).collect()).count(), 0);
        (shared, COMPARISONS.get() - before)
    };
    let ((few, _), (many, unshared)) = (cost(1_000), cost(50_000));
    assert!(unshared >= 50_000, "the counter counts: {unshared} comparisons without sharing");
    assert!(many <= 2 * few && many < 500, "{few} comparisons of 1,000 elements, {many} of 50,000");
}

thread_local! {
    static COMPARISONS: Cell<u64> = const { Cell::new(0) };
}

/// An integer whose comparisons are counted.
#[derive(Clone, Copy, Debug)]
struct Counted(i64);

impl Hash for Counted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Ord for Counted {
    fn cmp(&self, other: &Self) -> Ordering {
        COMPARISONS.set(COMPARISONS.get() + 1);
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Counted {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Counted {}

impl Scalar for Counted {
    fn base_type() -> BaseType {
        i64::base_type()
    }

    fn to_atom(&self) -> Atom {
        self.0.to_atom()
    }

    fn from_atom(atom: &Atom) -> Option<Self> {
        i64::from_atom(atom).map(Self)
    }

    fn zero() -> Self {
        Self(0)
    }
}

fn switch() -> impl Strategy<Value = LogicalSwitch> {
    (".{0,3}", prop::collection::vec(0_u128..8, 0..6), prop::collection::vec((0_u8..4, ".{0,2}"), 0..4))
        .prop_map(|(name, ports, config)| LogicalSwitch {
            name: name.into(),
            ports: ports.into_iter().map(|n| Strong::new(Uuid::from_u128(n))).collect(),
            other_config: config
                .into_iter()
                .map(|(key, value)| (Text::from(key.to_string()), Text::from(value)))
                .collect(),
            ..LogicalSwitch::default()
        })
}

proptest! {
    #[test]
    fn a_change_leads_from_old_to_new(old in prop::option::of(switch()), new in prop::option::of(switch())) {
        let uuid = Uuid::from_u128(1);
        let mut rows = Rows::default();
        rows.set(LogicalSwitch::TABLE, uuid, old.clone().map(|row| std::sync::Arc::new(row) as _));
        let dynamic = |row: &Option<LogicalSwitch>| row.clone().map(|row| Box::new(row) as Box<dyn quantumnet_model::DynRow>);
        let change = RowChange::between(LogicalSwitch::TABLE, uuid, dynamic(&old).as_deref(), dynamic(&new).as_deref());
        prop_assert_eq!(change.is_none(), old == new);
        if let Some(change) = change {
            let decoded = RowChange::decode(&change.encode()).unwrap();
            prop_assert_eq!(&decoded, &change);
            decoded.apply(&mut rows).unwrap();
        }
        prop_assert_eq!(rows.get::<LogicalSwitch>(uuid).cloned(), new);
    }

    #[test]
    fn decode_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = RowChange::decode(&bytes);
        let mut first = bytes;
        if let Some(byte) = first.first_mut() {
            *byte = quantumnet_model::change::FORMAT;
        }
        let _ = RowChange::decode(&first);
    }
}

#[test]
fn agents_are_not_sent_central_columns() {
    let row = LogicalSwitch { name: "sw".into(), ports: uuids(0..3), ..LogicalSwitch::default() };
    let change = RowChange::between(LogicalSwitch::TABLE, Uuid::nil(), None, Some(&row)).unwrap();
    let ChangeKind::Insert(columns) = change.for_agents().unwrap().kind else {
        panic!("an insert stays one")
    };
    assert_eq!(columns.len(), 1);
    let more = LogicalSwitch { ports: uuids(0..4), ..row.clone() };
    let change = RowChange::between(LogicalSwitch::TABLE, Uuid::nil(), Some(&row), Some(&more)).unwrap();
    assert_eq!(change.for_agents(), None);
}
