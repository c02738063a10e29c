//! Random transactions on every table of the northbound schema, against a model that recomputes everything.

#![allow(clippy::unwrap_used)] // a test's helpers, like a test, fail by a panic

use std::collections::{BTreeMap, BTreeSet};

use ovsdb::{
    schema::{BaseType, ColumnType, Max, RefType},
    value::{Atom, AtomicType, Datum, Real},
};
use proptest::prelude::*;
use quantumnet_controller::store::{Class, Context, Effects, Entry, Refusal, State, Txn, evaluate};
use quantumnet_model::{
    Database, Row, Strong, Uuid, Weak,
    nb::{LogicalSwitch, LogicalSwitchPort, PortGroup},
    row::{ColumnId, TableId},
    tables,
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

type ModelRow = BTreeMap<ColumnId, Datum>;
type Model = BTreeMap<(TableId, Uuid), ModelRow>;

fn northbound() -> Vec<TableId> {
    tables::ids().filter(|table| tables::decl(*table).database == Database::Northbound).collect()
}

fn pool(n: u32) -> Uuid {
    Uuid::from_u128(u128::from(n) + 1)
}

fn context() -> Context {
    Context { now_ms: 1_000, principal: "test".into() }
}

fn no_lowering(_: &mut Txn<'_>) -> Result<(), Refusal> {
    Ok(())
}

fn atom(base: &BaseType, rng: &mut StdRng) -> Atom {
    if base.ref_table.is_some() {
        return Atom::Uuid(pool(rng.random_range(0..4)));
    }
    if let Some(allowed) = base.enumeration.as_ref().filter(|_| rng.random_bool(0.97)) {
        return allowed.choose(rng).unwrap().clone();
    }
    match base.atomic {
        AtomicType::Integer => {
            let (min, max) = (base.min_integer.unwrap_or(0), base.max_integer.unwrap_or(3));
            let near = min.saturating_add(rng.random_range(0..3)).min(max);
            Atom::Integer(if rng.random_bool(0.02) { min.saturating_sub(1) } else { near })
        }
        AtomicType::Real => Atom::Real(Real::new(f64::from(rng.random_range(0..3))).unwrap()),
        AtomicType::Boolean => Atom::Boolean(rng.random()),
        AtomicType::String => {
            Atom::String(["a", "b", "c", "d", "e", "f", "g"].choose(rng).copied().unwrap().into())
        }
        AtomicType::Uuid => Atom::Uuid(pool(rng.random_range(0..4))),
    }
}

fn datum(ty: &ColumnType, rng: &mut StdRng) -> Datum {
    let most = if ty.is_composite() { 3 } else { 1 };
    let count = rng.random_range(if ty.is_composite() { 0 } else { ty.min }..=most);
    match &ty.value {
        None => Datum::set((0..count).map(|_| atom(&ty.key, rng)).collect::<Vec<_>>()),
        Some(value) => {
            Datum::map((0..count).map(|_| (atom(&ty.key, rng), atom(value, rng))).collect::<Vec<_>>())
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Insert(TableId, Uuid, ModelRow),
    Set(TableId, Uuid, ColumnId, Datum),
    Delete(TableId, Uuid),
}

/// References hold together more often when a transaction also makes what it refers to.
fn transaction(rng: &mut StdRng) -> Vec<Op> {
    let tables = northbound();
    let mut ops = Vec::new();
    for _ in 0..rng.random_range(1..6) {
        let table = *tables.choose(rng).unwrap();
        let (decl, uuid) = (tables::decl(table), pool(rng.random_range(0..4)));
        match rng.random_range(0..10) {
            0..5 => insert(table, uuid, rng, &mut ops, 0),
            5..8 => {
                let column = decl.column_ids().collect::<Vec<_>>().choose(rng).copied().unwrap();
                ops.push(Op::Set(table, uuid, column, datum(&decl.column_decl(column).ty, rng)));
            }
            _ => ops.push(Op::Delete(table, uuid)),
        }
    }
    ops
}

fn insert(table: TableId, uuid: Uuid, rng: &mut StdRng, ops: &mut Vec<Op>, depth: usize) {
    let decl = tables::decl(table);
    let mut row = ModelRow::new();
    for column in decl.column_ids() {
        let declared = decl.column_decl(column);
        let needed = declared.ty.min > 0 && declared.ty.key.enumeration.is_some();
        let reference = declared.ty.bases().find(|base| base.ref_table.is_some());
        let indexed = decl.indexes.iter().flatten().any(|indexed| *indexed == column);
        if !needed && !indexed && !rng.random_bool(if reference.is_some() { 0.4 } else { 0.2 }) {
            continue;
        }
        let value = datum(&declared.ty, rng);
        if let Some(base) = reference.filter(|_| depth < 3 && rng.random_bool(0.9)) {
            let target = tables::find(decl.database, base.ref_table.as_deref().unwrap()).unwrap();
            value.uuids().for_each(|uuid| insert(target, uuid, rng, ops, depth + 1));
        }
        row.insert(column, value);
    }
    ops.push(Op::Insert(table, uuid, row));
}

fn perform(txn: &mut Txn<'_>, ops: &[Op]) -> Result<(), Refusal> {
    for op in ops {
        match op {
            Op::Insert(table, uuid, columns) => {
                if txn.rows().dyn_row(*table, *uuid).is_none() {
                    let mut row = (tables::decl(*table).new_row)();
                    columns.iter().for_each(|(column, datum)| assert!(row.set_datum(*column, datum)));
                    txn.insert_dyn(*uuid, row.into())?;
                }
            }
            Op::Set(table, uuid, column, datum) => {
                txn.set_dyn(*table, *uuid, &[(*column, datum.clone())])?;
            }
            Op::Delete(table, uuid) => _ = txn.delete_dyn(*table, *uuid),
        }
    }
    Ok(())
}

/// What is wrong, as far as the order of the checks says which of several it is.
#[derive(Debug, Eq, PartialEq)]
enum Wrong {
    Reference,
    Rows,
    Value,
}

fn model_commit(before: &Model, ops: &[Op]) -> Result<Model, Wrong> {
    let mut model = before.clone();
    for op in ops {
        match op {
            Op::Insert(table, uuid, columns) => {
                model.entry((*table, *uuid)).or_insert_with(|| {
                    let empty = (tables::decl(*table).new_row)();
                    let all = tables::decl(*table).column_ids();
                    all.map(|c| (c, columns.get(&c).cloned().unwrap_or_else(|| empty.datum(c)))).collect()
                });
            }
            Op::Set(table, uuid, column, datum) => {
                if let Some(row) = model.get_mut(&(*table, *uuid)) {
                    row.insert(*column, datum.clone());
                }
            }
            Op::Delete(table, uuid) => _ = model.remove(&(*table, *uuid)),
        }
    }
    let strong = referred(&model, RefType::Strong);
    if strong.iter().any(|target| !model.contains_key(target)) {
        return Err(Wrong::Reference);
    }
    loop {
        let strong = referred(&model, RefType::Strong);
        let count = model.len();
        model.retain(|key, _| tables::decl(key.0).root || strong.contains(key));
        if model.len() == count {
            break;
        }
    }
    for table in northbound() {
        let rows = model.keys().filter(|key| key.0 == table).count();
        if tables::decl(table).max_rows.is_some_and(|max| rows > max) {
            return Err(Wrong::Rows);
        }
    }
    let present: BTreeSet<_> = model.keys().copied().collect();
    for ((table, _), row) in &mut model {
        for (column, datum) in row {
            prune(*table, *column, datum, &present);
        }
    }
    for ((table, uuid), row) in &model {
        let decl = tables::decl(*table);
        for (column, datum) in row {
            let old = before.get(&(*table, *uuid)).map(|row| &row[column]);
            if old != Some(datum) {
                // A nil reference and a default that its enumeration lacks are checked like any other value.
                datum.check(&decl.column_decl(*column).ty).map_err(|_| Wrong::Value)?;
            }
        }
        for index in &decl.indexes {
            let key = |row: &ModelRow| index.iter().map(|column| row[column].clone()).collect::<Vec<_>>();
            let twins = model.iter().filter(|(other, twin)| other.0 == *table && key(twin) == key(row));
            if twins.count() > 1 {
                return Err(Wrong::Value);
            }
        }
    }
    Ok(model)
}

fn referred(model: &Model, kind: RefType) -> BTreeSet<(TableId, Uuid)> {
    let mut targets = BTreeSet::new();
    for ((table, _), row) in model {
        for (column, datum) in row {
            let ty = &tables::decl(*table).column_decl(*column).ty;
            for (at, base) in ty.bases().enumerate() {
                let Some(name) = base.ref_table.as_deref().filter(|_| base.ref_type == kind) else {
                    continue;
                };
                let target = tables::find(Database::Northbound, name).unwrap();
                let atoms: Vec<&Atom> = match datum {
                    Datum::Set(atoms) => atoms.iter().collect(),
                    Datum::Map(pairs) => pairs.iter().map(|(k, v)| if at == 0 { k } else { v }).collect(),
                };
                targets.extend(atoms.into_iter().filter_map(Atom::as_uuid).map(|uuid| (target, uuid)));
            }
        }
    }
    targets
}

fn prune(table: TableId, column: ColumnId, datum: &mut Datum, present: &BTreeSet<(TableId, Uuid)>) {
    let ty = &tables::decl(table).column_decl(column).ty;
    let gone = |base: &BaseType, atom: &Atom| {
        let target = base.ref_table.as_deref().filter(|_| base.ref_type == RefType::Weak);
        let target = target.map(|name| tables::find(Database::Northbound, name).unwrap());
        target.is_some_and(|target| !present.contains(&(target, atom.as_uuid().unwrap())))
    };
    match datum {
        Datum::Set(atoms) if ty.min == 0 || ty.max == Max::Unlimited => {
            atoms.retain(|atom| !gone(&ty.key, atom))
        }
        Datum::Set(_) => {}
        Datum::Map(pairs) => {
            let value = ty.value.as_ref().unwrap();
            pairs.retain(|(k, v)| !gone(&ty.key, k) && !gone(value, v));
        }
    }
}

fn rows_of(state: &State) -> Model {
    let row = |table: TableId, row: &dyn quantumnet_model::DynRow| {
        tables::decl(table).column_ids().map(|column| (column, row.datum(column))).collect()
    };
    northbound()
        .into_iter()
        .flat_map(|table| {
            state
                .rows()
                .table(table)
                .iter()
                .map(move |(uuid, dynamic)| ((table, *uuid), row(table, dynamic.as_ref())))
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn transactions_do_what_the_model_does(seed in any::<u64>(), count in 1_usize..25) {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut head, mut model) = (State::default(), Model::new());
        // Applies log entries only; now and then it goes through a snapshot.
        let mut replica = State::default();
        for _ in 0..count {
            let ops = transaction(&mut rng);
            let expected = model_commit(&model, &ops);
            let done = evaluate(&head, &context(), |txn| perform(txn, &ops), &no_lowering);
            match (done, expected) {
                (Ok(done), Ok(expected)) => {
                    prop_assert_eq!(&rows_of(&done.state), &expected);
                    prop_assert_eq!(done.changes.is_empty(), expected == model);
                    prop_assert_eq!(done.state.revision(), head.revision() + u64::from(!done.changes.is_empty()));
                    prop_assert!(done.state.check(), "indexes or references are not those of the rows");
                    if !done.changes.is_empty() {
                        let effects = Effects { time_ms: 1, principal: "test".into(), changes: done.changes };
                        let entry = Entry { base_revision: head.revision(), transactions: vec![effects] };
                        let read = Entry::decode(&entry.encode()).unwrap();
                        prop_assert_eq!(&read, &entry);
                        for (effects, revision) in read.transactions.iter().zip(replica.revision() + 1..) {
                            replica.apply(revision, &effects.changes).unwrap();
                        }
                    }
                    (head, model) = (done.state, expected);
                    prop_assert_eq!(&rows_of(&replica), &model);
                    if rng.random_bool(0.2) {
                        replica = State::decode(&replica.encode()).unwrap();
                        prop_assert_eq!(replica.revision(), head.revision());
                        prop_assert!(replica.check());
                    }
                }
                (Err(refusal), Err(wrong)) => {
                    let got = match refusal {
                        Refusal::ReferentialIntegrity { .. } => Wrong::Reference,
                        Refusal::MaxRows { .. } => Wrong::Rows,
                        _ => Wrong::Value,
                    };
                    prop_assert_eq!(got, wrong);
                    prop_assert_eq!(&rows_of(&head), &model, "a refusal left a trace");
                }
                (done, expected) => prop_assert!(false, "store {:?}, model {:?}, ops {ops:#?}", done.map(|_| ()), expected.map(|_| ())),
            }
        }
    }

    #[test]
    fn noise_is_no_entry_and_no_snapshot(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Entry::decode(&bytes);
        let _ = State::decode(&bytes);
        if let Some(first) = bytes.first_mut() {
            *first = 1;
        }
        let _ = Entry::decode(&bytes);
        let _ = State::decode(&bytes);
    }
}

#[test]
fn random_transactions_reach_every_table_and_every_outcome() {
    let mut rng = StdRng::seed_from_u64(7);
    let (mut head, mut seen, mut outcomes) =
        (State::default(), BTreeSet::new(), BTreeMap::<&str, usize>::new());
    for at in 0..6_000 {
        if at % 40 == 0 {
            head = State::default();
        }
        let ops = transaction(&mut rng);
        match evaluate(&head, &context(), |txn| perform(txn, &ops), &no_lowering) {
            Ok(done) => {
                *outcomes.entry("committed").or_default() += 1;
                seen.extend(done.changes.iter().map(|change| tables::decl(change.table).name));
                head = done.state;
            }
            Err(refusal) => *outcomes.entry(refusal.reason()).or_default() += 1,
        }
    }
    let missing: Vec<_> =
        northbound().into_iter().map(|t| tables::decl(t).name).filter(|name| !seen.contains(name)).collect();
    assert!(missing.is_empty(), "never committed: {missing:?}; {outcomes:?}");
    for outcome in [
        "committed",
        "REFERENTIAL_INTEGRITY_VIOLATION",
        "CONSTRAINT_VIOLATION",
        "DUPLICATE_INDEX",
        "MAX_ROWS",
    ] {
        assert!(outcomes.contains_key(outcome), "never {outcome}: {outcomes:?}");
    }
}

#[test]
fn a_column_refers_to_one_table_at_most() {
    for table in tables::ids() {
        for column in &tables::decl(table).columns {
            let references = column.ty.bases().filter(|base| base.ref_table.is_some()).count();
            assert!(references <= 1, "{}.{}", tables::decl(table).name, column.name);
        }
    }
}

/// One port more on a switch of 50,000 must not look at 50,000: referrers, indexes and changes follow the difference.
#[test]
fn a_port_added_to_a_large_switch_is_one_small_change() {
    let switch = Uuid::from_u128(1);
    let port = |n: u128| Uuid::from_u128(n + 0x1000);
    let row = |n: u128| LogicalSwitchPort { name: n.to_string().into(), ..LogicalSwitchPort::default() };
    let fill = |txn: &mut Txn<'_>| {
        let ports = (0..20_000).map(|n| Strong::new(port(n))).collect();
        txn.insert(switch, LogicalSwitch { ports, ..LogicalSwitch::default() })?;
        (0..20_000).try_for_each(|n| txn.insert(port(n), row(n)))
    };
    let head = evaluate(&State::default(), &context(), fill, &no_lowering).unwrap().state;
    let add = |txn: &mut Txn<'_>| {
        txn.update::<LogicalSwitch>(switch, |switch| _ = switch.ports.insert(Strong::new(port(30_000))));
        txn.insert(port(30_000), row(30_000))
    };
    let done = evaluate(&head, &context(), add, &no_lowering).unwrap();
    let bytes: usize = done.changes.iter().map(|change| change.encode().len()).sum();
    assert!(bytes < 400, "{bytes} octets for one port");
    assert_eq!(done.state.referrers(LogicalSwitchPort::TABLE, port(30_000)).count(), 1);
    let by = done.state.referrers_through::<LogicalSwitchPort, LogicalSwitch>(port(30_000), "ports");
    assert_eq!(by.collect::<Vec<_>>(), [switch]);
}

#[test]
fn deleting_a_switch_takes_its_ports_and_prunes_weak_references() {
    let (switch, port, group) = (pool(1), pool(2), pool(3));
    let make = |txn: &mut Txn<'_>| {
        txn.insert(port, LogicalSwitchPort { name: "p".into(), ..LogicalSwitchPort::default() })?;
        let ports = [Strong::new(port)].into_iter().collect();
        txn.insert(switch, LogicalSwitch { ports, ..LogicalSwitch::default() })?;
        let ports = [Weak::new(port)].into_iter().collect();
        txn.insert(group, PortGroup { name: "g".into(), ports, ..PortGroup::default() })
    };
    let head = evaluate(&State::default(), &context(), make, &no_lowering).unwrap().state;
    let done =
        evaluate(&head, &context(), |txn| Ok(txn.delete::<LogicalSwitch>(switch)), &no_lowering).unwrap();
    assert!(done.result);
    assert_eq!(done.state.get::<LogicalSwitchPort>(port), None);
    assert!(done.state.get::<PortGroup>(group).unwrap().ports.is_empty());
    let names: Vec<_> = done.changes.iter().map(|change| tables::decl(change.table).name).collect();
    assert_eq!(names, ["Logical_Switch", "Logical_Switch_Port", "Port_Group"]);
    assert_eq!(done.state.find::<LogicalSwitchPort>(&[("name", "p".into())]), None);
}

#[test]
fn what_lowering_derives_is_checked_too() {
    let lower = |txn: &mut Txn<'_>| {
        // Derived from nothing that exists.
        let ports = [Strong::new(pool(9))].into_iter().collect();
        txn.insert(pool(1), LogicalSwitch { ports, ..LogicalSwitch::default() })
    };
    let done = evaluate(&State::default(), &context(), |_| Ok(()), &lower);
    assert_eq!(done.unwrap_err().class(), Class::FailedPrecondition);
}

/// What a stage removes after the first check is collected as well.
#[test]
fn lowering_may_orphan_what_the_request_made() {
    let (switch, port) = (pool(1), pool(2));
    let request = |txn: &mut Txn<'_>| {
        txn.insert(port, LogicalSwitchPort { name: "p".into(), ..LogicalSwitchPort::default() })?;
        let ports = [Strong::new(port)].into_iter().collect();
        txn.insert(switch, LogicalSwitch { ports, ..LogicalSwitch::default() })
    };
    let lower = |txn: &mut Txn<'_>| {
        txn.update::<LogicalSwitch>(switch, |switch| switch.ports.clear());
        Ok(())
    };
    let done = evaluate(&State::default(), &context(), request, &lower).unwrap();
    assert_eq!(done.state.rows().len(LogicalSwitchPort::TABLE), 0);
    assert!(done.state.check());
}
