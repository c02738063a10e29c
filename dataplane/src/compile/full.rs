//! The oracle: the whole table from rows alone. Deliberately naive.
//!
//! # Invariants
//! - Shares the stages and the merge with the engine and nothing else: no recorded reads, no counts, no interning.

use std::collections::{BTreeMap, BTreeSet};

use ovsdb::value::Atom;
use quantumnet_model::Rows;
use uuid::Uuid;

use super::{
    flow::{FlowKey, FlowValue, GroupSpec, MeterSpec},
    index::{self, By, INDEXES, Key},
    owner::{Fact, Owner, Owners, Relation},
    sink::{self, Sink},
    stage::STAGES,
    view::{Source, View},
};

/// What [`compile_full`] gives.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FullTable {
    /// All flows.
    pub flows: BTreeMap<FlowKey, FlowValue>,
    /// All meters.
    pub meters: BTreeMap<u32, MeterSpec>,
    /// All groups.
    pub groups: BTreeMap<u32, GroupSpec>,
}

struct Plain<'a> {
    rows: &'a Rows,
    indexes: Vec<BTreeMap<Key, BTreeSet<Uuid>>>,
    facts: BTreeMap<(Relation, Uuid, u32), BTreeSet<Uuid>>,
}

impl Source for Plain<'_> {
    fn rows(&self) -> &Rows {
        self.rows
    }

    fn find(&self, by: By, key: &[Atom]) -> Vec<Uuid> {
        self.indexes[by as usize].get(key).into_iter().flatten().copied().collect()
    }

    fn facts(&self, relation: Relation, of: Uuid, part: u32) -> Option<&BTreeSet<Uuid>> {
        self.facts.get(&(relation, of, part))
    }
}

/// Compiles all rows.
pub fn compile_full(rows: &Rows) -> FullTable {
    let mut plain = Plain { rows, indexes: Vec::new(), facts: BTreeMap::new() };
    for index in INDEXES {
        let mut entries: BTreeMap<Key, BTreeSet<Uuid>> = BTreeMap::new();
        for (uuid, row) in rows.table(index.table) {
            for key in index::keys(*index, row.as_ref()) {
                entries.entry(key).or_default().insert(*uuid);
            }
        }
        plain.indexes.push(entries);
    }
    let mut wishes: BTreeMap<FlowKey, Vec<FlowValue>> = BTreeMap::new();
    let mut meters: BTreeMap<u32, MeterSpec> = BTreeMap::new();
    let mut groups: BTreeMap<u32, GroupSpec> = BTreeMap::new();
    for stage in STAGES {
        let owners: Vec<Owner> = match stage.owners {
            Owners::Switch => vec![Owner::Switch],
            Owners::Rows(table) => rows.table(table).keys().map(|uuid| Owner::Row(table, *uuid)).collect(),
            Owners::Facts(relation) => plain
                .facts
                .iter()
                .filter(|((of, ..), _)| *of == relation)
                .flat_map(|((_, of, part), values)| {
                    values
                        .iter()
                        .map(|value| Owner::Fact(Fact { relation, of: *of, part: *part, value: *value }))
                })
                .collect(),
        };
        let mut facts = Vec::new();
        for owner in owners {
            let mut sink = Sink::new(stage, owner);
            (stage.emit)(&View::new(&plain), owner, &mut sink);
            let made = sink.into_made();
            for (key, value) in made.flows {
                wishes.entry(key).or_default().push(value);
            }
            for (number, spec) in made.meters {
                let wish = meters.entry(number).or_insert(spec);
                *wish = spec.max(*wish);
            }
            for (number, spec) in made.groups {
                groups.entry(number).or_insert(spec);
            }
            facts.extend(made.facts);
        }
        for fact in facts {
            plain.facts.entry((fact.relation, fact.of, fact.part)).or_default().insert(fact.value);
        }
    }
    let merged = |(key, wishes): (FlowKey, Vec<FlowValue>)| Some((key, sink::merge(&wishes)?));
    FullTable { flows: wishes.into_iter().filter_map(merged).collect(), meters, groups }
}
