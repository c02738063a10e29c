//! The only door to rows and derived relations; every accessor notes what it served.
//!
//! # Invariants
//! - A stage cannot read without the read being recorded, an absent row or an empty set included.
//! - Sets are read by their key, so that an insertion runs the reader again.

use std::{cell::RefCell, collections::BTreeSet};

use ovsdb::value::Atom;
use quantumnet_model::{Row, Rows};
use uuid::Uuid;

use super::{
    index::{self, By},
    owner::{Dep, Relation},
};

/// Where rows and facts come from: the engine's incremental store, or the oracle's own.
pub(crate) trait Source {
    /// All rows.
    fn rows(&self) -> &Rows;
    /// Uuids of rows with a key, in order.
    fn find(&self, by: By, key: &[Atom]) -> Vec<Uuid>;
    /// Values of facts, in order.
    fn facts(&self, relation: Relation, of: Uuid, part: u32) -> Option<&BTreeSet<Uuid>>;
}

/// What a stage may read.
pub struct View<'a> {
    source: &'a dyn Source,
    reads: RefCell<Vec<Dep>>,
}

impl<'a> View<'a> {
    pub(crate) fn new(source: &'a dyn Source) -> Self {
        Self { source, reads: RefCell::default() }
    }

    fn note(&self, dep: Dep) {
        self.reads.borrow_mut().push(dep);
    }

    /// What was read, each once, in order.
    pub(crate) fn into_reads(self) -> Vec<Dep> {
        let mut reads = self.reads.into_inner();
        reads.sort_unstable();
        reads.dedup();
        reads
    }

    /// A row.
    pub fn row<T: Row>(&self, uuid: Uuid) -> Option<&'a T> {
        self.note(Dep::Row(T::TABLE, uuid));
        self.source.rows().get(uuid)
    }

    /// The rows with a key, by uuid. `T` is the index's row type.
    pub fn find<T: Row>(&self, by: By, key: &[Atom]) -> Vec<(Uuid, &'a T)> {
        debug_assert_eq!(by.index().table, T::TABLE, "{by:?} is an index of another table");
        self.note(Dep::Index(by as u8, index::hash(key)));
        let uuids = self.source.find(by, key);
        uuids.into_iter().filter_map(|uuid| Some((uuid, self.row(uuid)?))).collect()
    }

    /// Uuids of the rows with a key, in order. Says nothing about the rows, so that their other columns run nobody.
    pub fn uuids(&self, by: By, key: &[Atom]) -> Vec<Uuid> {
        self.note(Dep::Index(by as u8, index::hash(key)));
        self.source.find(by, key)
    }

    /// Whether any row has a key. Says nothing about the rows, so that their other columns run nobody.
    pub fn any(&self, by: By, key: &[Atom]) -> bool {
        !self.uuids(by, key).is_empty()
    }

    /// The first row with a key, where one is expected.
    pub fn find_one<T: Row>(&self, by: By, key: &[Atom]) -> Option<(Uuid, &'a T)> {
        self.find(by, key).into_iter().next()
    }

    /// Values related to `of`, in order.
    pub fn related(&self, relation: Relation, of: Uuid, part: u32) -> impl Iterator<Item = Uuid> + 'a {
        self.note(Dep::Facts(relation, of, part));
        self.source.facts(relation, of, part).into_iter().flatten().copied()
    }

    /// Whether anything is related to `of`.
    pub fn holds(&self, relation: Relation, of: Uuid) -> bool {
        self.related(relation, of, 0).next().is_some()
    }

    /// The first uuid related to `of`, where one is expected.
    pub fn related_one(&self, relation: Relation, of: Uuid) -> Option<Uuid> {
        self.related(relation, of, 0).next()
    }
}
