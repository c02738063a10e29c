//! The incremental engine: which units run again when rows change, and the net difference that follows.
//!
//! A unit is one stage compiled for one owner. It keeps what it read and what it made. A batch of rows dirties
//! the readers of what it touched; dirty units run stage by stage, and facts that a stage makes dirty only
//! readers in later stages, so that one pass settles everything.
//!
//! # Invariants
//! - After every batch the table equals that of [`super::compile_full`] over the same rows.
//! - The delta is net: a flow whose merged value did not change is not in it.
//! - Nothing here knows what any stage means.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ovsdb::value::Atom;
use quantumnet_model::{
    DynRow, Row, Rows, TableId,
    change::{ChangeError, RowChange},
};
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;
use uuid::Uuid;

use super::{
    desired::{Before, Desired, FlowId, UnitId},
    flow::{FlowDelta, FlowKey, FlowValue, GroupSpec, MeterSpec},
    full,
    index::{By, IndexedRows},
    owner::{Dep, Fact, Owner, Owners, Relation},
    sink::{Made, Sink},
    stage::STAGES,
    view::{Source, View},
};

/// A row that came, changed (`Some`) or went (`None`).
pub type RowUpdate = (TableId, Uuid, Option<Arc<dyn DynRow>>);

/// How much was done, since the start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Batches applied.
    pub batches: u64,
    /// Units that ran.
    pub units_run: u64,
    /// Reads that units recorded.
    pub reads: u64,
    /// Flows in deltas.
    pub flows_changed: u64,
}

/// How the incremental table differs from a full one. Anything in it is a bug.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Drift {
    /// Flows that the full compilation has and the incremental table lacks, or has with another value.
    pub missing: Vec<FlowKey>,
    /// Flows that only the incremental table has.
    pub extra: Vec<FlowKey>,
    /// Meters that differ.
    pub meters: Vec<u32>,
    /// Groups that differ.
    pub groups: Vec<u32>,
}

impl Drift {
    /// No difference.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.meters.is_empty() && self.groups.is_empty()
    }
}

/// The compiler from rows to flows.
#[derive(Debug)]
pub struct Compiler {
    store: Store,
    units: Vec<Option<Unit>>,
    free: Vec<UnitId>,
    ids: FxHashMap<(u8, Owner), UnitId>,
    readers: Readers,
    desired: Desired,
    dirty: Vec<Vec<UnitId>>,
    /// Relations that the last batch changed.
    changed: FxHashSet<Relation>,
    counters: Counters,
}

#[derive(Debug)]
struct Unit {
    stage: u8,
    alive: bool,
    queued: bool,
    owner: Owner,
    deps: Box<[DepId]>,
    flows: Box<[FlowId]>,
    facts: Box<[Fact]>,
    meters: Box<[u32]>,
    groups: Box<[u32]>,
}

#[derive(Debug, Default)]
struct Store {
    rows: IndexedRows,
    facts: FxHashMap<(Relation, Uuid, u32), BTreeSet<Uuid>>,
    counts: FxHashMap<Fact, u32>,
}

impl Source for Store {
    fn rows(&self) -> &Rows {
        self.rows.rows()
    }

    fn find(&self, by: By, key: &[Atom]) -> Vec<Uuid> {
        self.rows.find(by, key)
    }

    fn facts(&self, relation: Relation, of: Uuid, part: u32) -> Option<&BTreeSet<Uuid>> {
        self.facts.get(&(relation, of, part))
    }
}

impl Default for Compiler {
    fn default() -> Self {
        Self::new()
    }
}

impl Compiler {
    /// A compiler without rows. The first [`Compiler::apply`], of an empty batch too, gives the flows that need none.
    pub fn new() -> Self {
        let mut this = Self {
            store: Store::default(),
            units: Vec::new(),
            free: Vec::new(),
            ids: FxHashMap::default(),
            readers: Readers::default(),
            desired: Desired::default(),
            dirty: vec![Vec::new(); STAGES.len()],
            changed: FxHashSet::default(),
            counters: Counters::default(),
        };
        this.set_owner(Owners::Switch, Owner::Switch, true);
        this
    }

    /// Applies a batch of rows at once and returns the net difference of the table.
    pub fn apply(&mut self, batch: impl IntoIterator<Item = RowUpdate>) -> FlowDelta {
        for (table, uuid, row) in batch {
            self.set_row(table, uuid, row);
        }
        self.settle()
    }

    /// Applies row changes as the stream carries them. When one does not fit the rows, those before it are
    /// applied and the caller should ask for a snapshot; see [`Compiler::rows`].
    pub fn apply_changes(&mut self, changes: &[RowChange]) -> Result<FlowDelta, ChangeError> {
        for change in changes {
            let old = self.store.rows().dyn_row(change.table, change.uuid);
            let new = change.applied_to(old.map(AsRef::as_ref))?;
            self.set_row(change.table, change.uuid, new);
        }
        Ok(self.settle())
    }

    /// The rows as applied.
    pub fn rows(&self) -> &Rows {
        self.store.rows()
    }

    /// The whole desired table, in order.
    pub fn table(&self) -> BTreeMap<Arc<FlowKey>, FlowValue> {
        let order = unit_order(&self.units);
        self.desired.iter(&order).map(|flow| (flow.key, flow.value)).collect()
    }

    /// How many flows the table has.
    pub fn flows(&self) -> usize {
        self.desired.len()
    }

    /// All meters that should exist.
    pub fn meters(&self) -> BTreeMap<u32, MeterSpec> {
        self.desired.meters().collect()
    }

    /// All groups that should exist.
    pub fn groups(&self) -> BTreeMap<u32, GroupSpec> {
        let order = unit_order(&self.units);
        self.desired.groups(&order).collect()
    }

    /// See [`Counters`].
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether the last batch changed a derived relation.
    pub(crate) fn changed(&self, relation: Relation) -> bool {
        self.changed.contains(&relation)
    }

    /// Values of a derived relation, for the parts of the agent that are not flows.
    pub(crate) fn related(&self, relation: Relation, of: Uuid) -> impl Iterator<Item = Uuid> {
        self.store.facts(relation, of, 0).into_iter().flatten().copied()
    }

    /// The uuid of the first row with a key, likewise.
    pub(crate) fn find_uuid<T: Row>(&self, by: By, key: &[Atom]) -> Option<Uuid> {
        self.store.find(by, key).into_iter().find(|uuid| self.rows().get::<T>(*uuid).is_some())
    }

    /// The first row with a key, likewise.
    pub(crate) fn find<T: Row>(&self, by: By, key: &[Atom]) -> Option<&T> {
        self.store.find(by, key).into_iter().find_map(|uuid| self.rows().get(uuid))
    }

    /// All rows with a key, likewise.
    pub(crate) fn find_all<'a, T: Row>(
        &'a self,
        by: By,
        key: &[Atom],
    ) -> impl Iterator<Item = (Uuid, &'a T)> + use<'a, T> {
        self.store.find(by, key).into_iter().filter_map(|uuid| Some((uuid, self.rows().get(uuid)?)))
    }

    /// Compiles everything anew and compares. Costs as much as a start.
    pub fn recompute_check(&self) -> Drift {
        let (full, now) = (full::compile_full(self.rows()), self.table());
        let missing =
            full.flows.iter().filter(|(key, value)| now.get(*key) != Some(value)).map(|(key, _)| key.clone());
        let extra =
            now.keys().filter(|key| !full.flows.contains_key(key.as_ref())).map(|key| key.as_ref().clone());
        let meters = self.meters();
        let numbers: BTreeSet<u32> = meters.keys().chain(full.meters.keys()).copied().collect();
        let differ = |number: &u32| meters.get(number) != full.meters.get(number);
        let groups = self.groups();
        let group_numbers: BTreeSet<u32> = groups.keys().chain(full.groups.keys()).copied().collect();
        let group_differs = |number: &u32| groups.get(number) != full.groups.get(number);
        Drift {
            missing: missing.collect(),
            extra: extra.collect(),
            meters: numbers.into_iter().filter(differ).collect(),
            groups: group_numbers.into_iter().filter(group_differs).collect(),
        }
    }

    fn set_row(&mut self, table: TableId, uuid: Uuid, row: Option<Arc<dyn DynRow>>) {
        let old = self.store.rows().dyn_row(table, uuid);
        let unchanged = match (old, &row) {
            (Some(old), Some(new)) => old.same(new.as_ref()),
            (None, None) => true,
            _ => false,
        };
        if unchanged {
            return;
        }
        let present = row.is_some();
        let mut keys: SmallVec<[Dep; 4]> = SmallVec::new();
        let old =
            self.store.rows.set(table, uuid, row, &mut |index, hash| keys.push(Dep::Index(index, hash)));
        keys.push(Dep::Row(table, uuid));
        for dep in keys {
            self.touch(dep);
        }
        if old.is_some() != present {
            self.set_owner(Owners::Rows(table), Owner::Row(table, uuid), present);
        }
    }

    /// Queues the readers of something that changed.
    fn touch(&mut self, dep: Dep) {
        let Some(slot) = self.readers.ids.get(&dep) else { return };
        for unit in self.readers.slots[slot.0 as usize].readers.iter() {
            queue(&mut self.units, &mut self.dirty, unit);
        }
    }

    /// Makes or ends an owner's units.
    fn set_owner(&mut self, owners: Owners, owner: Owner, present: bool) {
        for (number, stage) in (0u8..).zip(STAGES).filter(|(_, stage)| stage.owners == owners) {
            debug_assert_eq!(stage.owners, owners);
            let id = match self.ids.get(&(number, owner)) {
                Some(id) => *id,
                None if present => self.add_unit(number, owner),
                None => continue,
            };
            self.units[id as usize].as_mut().expect("ids name units in use").alive = present;
            queue(&mut self.units, &mut self.dirty, id);
        }
    }

    fn add_unit(&mut self, stage: u8, owner: Owner) -> UnitId {
        let unit = Unit {
            stage,
            alive: true,
            queued: false,
            owner,
            deps: Box::default(),
            flows: Box::default(),
            facts: Box::default(),
            meters: Box::default(),
            groups: Box::default(),
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.units[id as usize] = Some(unit);
                id
            }
            None => {
                self.units.push(Some(unit));
                UnitId::try_from(self.units.len() - 1).expect("a hypervisor has fewer than 2^32 units")
            }
        };
        self.ids.insert((stage, owner), id);
        id
    }

    /// Runs all dirty units, stage by stage.
    fn settle(&mut self) -> FlowDelta {
        self.changed.clear();
        let mut before = Before::default();
        let mut dead = Vec::new();
        for stage in 0..STAGES.len() {
            let mut facts: BTreeMap<Fact, bool> = BTreeMap::new();
            for id in std::mem::take(&mut self.dirty[stage]) {
                if !self.run(id, &mut before, &mut facts) {
                    dead.push(id);
                }
            }
            for (fact, held) in facts {
                let holds = self.store.counts.contains_key(&fact);
                if holds != held {
                    self.set_fact(fact, holds);
                }
            }
        }
        let delta = self.desired.delta(before, &unit_order(&self.units));
        for id in dead {
            let unit = self.units[id as usize].take().expect("a unit dies once a batch");
            self.ids.remove(&(unit.stage, unit.owner));
            self.free.push(id);
        }
        self.counters.batches += 1;
        self.counters.flows_changed += (delta.put.len() + delta.delete.len()) as u64;
        delta
    }

    fn set_fact(&mut self, fact: Fact, holds: bool) {
        self.changed.insert(fact.relation);
        let key = (fact.relation, fact.of, fact.part);
        let values = self.store.facts.entry(key).or_default();
        if holds {
            values.insert(fact.value);
        } else {
            values.remove(&fact.value);
        }
        if values.is_empty() {
            self.store.facts.remove(&key);
        }
        self.touch(Dep::Facts(fact.relation, fact.of, fact.part));
        self.set_owner(Owners::Facts(fact.relation), Owner::Fact(fact), holds);
    }

    /// Runs one unit; false when it has ended.
    fn run(&mut self, id: UnitId, before: &mut Before, touched: &mut BTreeMap<Fact, bool>) -> bool {
        let unit = self.units[id as usize].as_mut().expect("queued units exist");
        unit.queued = false;
        let (alive, owner, stage) = (unit.alive, unit.owner, STAGES[usize::from(unit.stage)]);
        let (old_deps, old_flows) = (std::mem::take(&mut unit.deps), std::mem::take(&mut unit.flows));
        let (old_facts, old_meters) = (std::mem::take(&mut unit.facts), std::mem::take(&mut unit.meters));
        let old_groups = std::mem::take(&mut unit.groups);
        let (made, reads) = if alive {
            let view = View::new(&self.store);
            let mut sink = Sink::new(stage, owner);
            (stage.emit)(&view, owner, &mut sink);
            self.counters.units_run += 1;
            (sink.into_made(), view.into_reads())
        } else {
            (Made::default(), Vec::new())
        };
        self.counters.reads += reads.len() as u64;
        let deps = self.readers.replace(id, &old_deps, reads);

        let mut flows: Vec<FlowId> = Vec::with_capacity(made.flows.len());
        {
            let order = unit_order(&self.units);
            for (key, value) in made.flows {
                flows.push(self.desired.want(id, key, value, before, &order));
            }
            let kept: FxHashSet<FlowId> = flows.iter().copied().collect();
            for flow in old_flows.iter().filter(|flow| !kept.contains(flow)) {
                self.desired.unwant(id, *flow, before, &order);
            }
        }
        self.desired.want_meters(id, &old_meters, &made.meters, before);
        let groups: Box<[u32]> = made.groups.iter().map(|(number, _)| *number).collect();
        if !groups.is_empty() || !old_groups.is_empty() {
            let order = unit_order(&self.units);
            self.desired.want_groups(id, &old_groups, made.groups, before, &order);
        }

        for fact in old_facts.iter().filter(|fact| made.facts.binary_search(fact).is_err()) {
            touched.entry(*fact).or_insert(true);
            let count = self.store.counts.get_mut(fact).expect("a stated fact is counted");
            *count -= 1;
            if *count == 0 {
                self.store.counts.remove(fact);
            }
        }
        for fact in made.facts.iter().filter(|fact| old_facts.binary_search(fact).is_err()) {
            let count = self.store.counts.entry(*fact).or_default();
            touched.entry(*fact).or_insert(*count > 0);
            *count += 1;
        }
        let unit = self.units[id as usize].as_mut().expect("it is running");
        (unit.deps, unit.flows, unit.facts) = (deps, flows.into(), made.facts.into());
        unit.groups = groups;
        unit.meters = made.meters.into_iter().map(|(number, _)| number).collect();
        alive
    }
}

fn queue(units: &mut [Option<Unit>], dirty: &mut [Vec<UnitId>], id: UnitId) {
    let unit = units[id as usize].as_mut().expect("readers and ids name units in use");
    if !unit.queued {
        unit.queued = true;
        dirty[usize::from(unit.stage)].push(id);
    }
}

fn unit_order(units: &[Option<Unit>]) -> impl Fn(UnitId, UnitId) -> Ordering + '_ {
    |a, b| {
        let rank = |id: UnitId| units[id as usize].as_ref().map(|unit| (unit.stage, unit.owner));
        rank(a).cmp(&rank(b))
    }
}

/// Place of a dependency in the reference index.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct DepId(u32);

/// The reference index: who has read what.
#[derive(Debug, Default)]
struct Readers {
    ids: FxHashMap<Dep, DepId>,
    slots: Vec<DepSlot>,
    free: Vec<DepId>,
}

#[derive(Debug)]
struct DepSlot {
    dep: Dep,
    readers: UnitSet,
}

impl Readers {
    /// Replaces what a unit has read.
    fn replace(&mut self, unit: UnitId, old: &[DepId], reads: Vec<Dep>) -> Box<[DepId]> {
        let mut new: Vec<DepId> = reads.into_iter().map(|dep| self.id(dep)).collect();
        new.sort_unstable();
        for id in new.iter().filter(|id| old.binary_search(id).is_err()) {
            self.slots[id.0 as usize].readers.insert(unit);
        }
        for id in old.iter().filter(|id| new.binary_search(id).is_err()) {
            let slot = &mut self.slots[id.0 as usize];
            slot.readers.remove(unit);
            if slot.readers.is_empty() {
                self.ids.remove(&slot.dep);
                self.free.push(*id);
            }
        }
        new.into()
    }

    fn id(&mut self, dep: Dep) -> DepId {
        if let Some(id) = self.ids.get(&dep) {
            return *id;
        }
        let slot = DepSlot { dep, readers: UnitSet::Few(SmallVec::new()) };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id.0 as usize] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                DepId(u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 things are read"))
            }
        };
        self.ids.insert(dep, id);
        id
    }
}

/// Units that read one thing: mostly few, sometimes very many.
#[derive(Debug)]
enum UnitSet {
    Few(SmallVec<[UnitId; 4]>),
    Many(FxHashSet<UnitId>),
}

const FEW: usize = 16;

impl UnitSet {
    fn insert(&mut self, unit: UnitId) {
        match self {
            Self::Few(units) if units.contains(&unit) => {}
            Self::Few(units) if units.len() < FEW => units.push(unit),
            Self::Few(units) => *self = Self::Many(units.iter().copied().chain([unit]).collect()),
            Self::Many(units) => {
                units.insert(unit);
            }
        }
    }

    fn remove(&mut self, unit: UnitId) {
        match self {
            Self::Few(units) => units.retain(|other| *other != unit),
            Self::Many(units) => {
                units.remove(&unit);
            }
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Few(units) => units.is_empty(),
            Self::Many(units) => units.is_empty(),
        }
    }

    fn iter(&self) -> impl Iterator<Item = UnitId> + '_ {
        let (few, many) = match self {
            Self::Few(units) => (Some(units.iter()), None),
            Self::Many(units) => (None, Some(units.iter())),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten()).copied()
    }
}
