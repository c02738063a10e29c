//! Rust types that can be columns, and how they become OVSDB values.
//!
//! # Invariants
//! - `from_datum(to_datum(x)) == x` for every column type.
//! - `diff` and `apply` are OVSDB's update2 differences: a column of at most one value carries the new
//!   value, a set the symmetric difference, a map the keys that went or came (ovsdb-server(7) 4.1.14).
//! - Sets and maps are persistent trees, so that a clone is cheap and a difference costs what differs.

use std::{fmt, hash::Hash, marker::PhantomData, sync::Arc};

use imbl::{OrdMap, OrdSet};
use ovsdb::{
    schema::{BaseType, ColumnType, Max, RefType},
    value::{Atom, AtomicType, Datum, Real},
};
use uuid::Uuid;

use crate::row::Row;

/// A string column's value. Shared, because a row lives in many snapshots.
pub type Text = Arc<str>;

/// One value of a column: what OVSDB calls an atom.
pub trait Scalar: Clone + Ord + Hash + fmt::Debug + Send + Sync + 'static {
    /// The type without constraints.
    fn base_type() -> BaseType;
    /// As an atom.
    fn to_atom(&self) -> Atom;
    /// Back; `None` when the atom is of another type.
    fn from_atom(atom: &Atom) -> Option<Self>;
    /// The row this value refers to, for references.
    fn referred(&self) -> Option<Uuid> {
        None
    }
    /// OVSDB's default (RFC 7047 section 5.2.1).
    fn zero() -> Self;
}

/// A Rust type that can be a column of a row.
pub trait Column: Clone + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// The type as far as the Rust type says it; the declaration adds ranges and enumerations.
    fn column_type() -> ColumnType;
    /// The default of RFC 7047 section 5.2.1.
    fn zero() -> Self;
    /// The value in OVSDB's form.
    fn to_datum(&self) -> Datum;
    /// Back; `None` when the datum is not of this type.
    fn from_datum(datum: &Datum) -> Option<Self>;
    /// How many elements the value has.
    fn count(&self) -> usize;
    /// The element with this key: of a set the key itself, of a map its value. Does not walk a large column.
    fn element(&self, key: &Atom) -> Option<Atom>;
    /// What turns `self` into `new`; `None` when they are equal.
    fn diff(&self, new: &Self) -> Option<Datum>;
    /// Applies what `diff` gave; `None` when the difference is not of this type.
    fn apply(&self, diff: &Datum) -> Option<Self>;
    /// Every row that the value refers to.
    fn each_reference(&self, visit: &mut dyn FnMut(Uuid));
    /// References that `new` lost (`false`) or gained (`true`), at a cost that follows their number.
    fn reference_changes(&self, new: &Self, visit: &mut dyn FnMut(Uuid, bool));
}

/// A reference to a row of table `T`; `K` says whether it keeps that row alive.
pub struct Ref<T, K> {
    uuid: Uuid,
    target: PhantomData<fn() -> (T, K)>,
}

/// Marks references that keep a row alive and must not dangle.
#[derive(Clone, Copy, Debug)]
pub struct StrongKind;

/// Marks references that vanish with the row.
#[derive(Clone, Copy, Debug)]
pub struct WeakKind;

/// A reference that keeps its row alive; a transaction that would leave it dangling is refused.
pub type Strong<T> = Ref<T, StrongKind>;

/// A reference that is dropped when its row goes.
pub type Weak<T> = Ref<T, WeakKind>;

/// Strong or weak, as a type.
pub trait RefKind: Send + Sync + 'static {
    /// In the schema's words.
    const REF_TYPE: RefType;
}

impl RefKind for StrongKind {
    const REF_TYPE: RefType = RefType::Strong;
}

impl RefKind for WeakKind {
    const REF_TYPE: RefType = RefType::Weak;
}

impl<T, K> Ref<T, K> {
    /// Refers to the row `uuid` of table `T`.
    pub const fn new(uuid: Uuid) -> Self {
        Self { uuid, target: PhantomData }
    }

    /// The row referred to.
    pub const fn uuid(&self) -> Uuid {
        self.uuid
    }
}

impl<T, K> Clone for Ref<T, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, K> Copy for Ref<T, K> {}

impl<T, K> PartialEq for Ref<T, K> {
    fn eq(&self, other: &Self) -> bool {
        self.uuid == other.uuid
    }
}

impl<T, K> Eq for Ref<T, K> {}

impl<T, K> PartialOrd for Ref<T, K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T, K> Ord for Ref<T, K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.uuid.cmp(&other.uuid)
    }
}

impl<T, K> Hash for Ref<T, K> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.uuid.hash(state);
    }
}

impl<T, K> fmt::Debug for Ref<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uuid.fmt(f)
    }
}

impl<T, K> From<Uuid> for Ref<T, K> {
    fn from(uuid: Uuid) -> Self {
        Self::new(uuid)
    }
}

impl<T: Row, K: RefKind> Scalar for Ref<T, K> {
    fn base_type() -> BaseType {
        BaseType { ref_table: Some(T::NAME.to_owned()), ref_type: K::REF_TYPE, ..BaseType::UUID }
    }

    fn to_atom(&self) -> Atom {
        Atom::Uuid(self.uuid)
    }

    fn from_atom(atom: &Atom) -> Option<Self> {
        match atom {
            Atom::Uuid(uuid) => Some(Self::new(*uuid)),
            _ => None,
        }
    }

    fn referred(&self) -> Option<Uuid> {
        Some(self.uuid)
    }

    fn zero() -> Self {
        Self::new(Uuid::nil())
    }
}

macro_rules! scalar {
    ($rust:ty, $atom:ident, $zero:expr) => {
        impl Scalar for $rust {
            fn base_type() -> BaseType {
                BaseType::new(AtomicType::$atom)
            }

            fn to_atom(&self) -> Atom {
                Atom::$atom(self.clone())
            }

            fn from_atom(atom: &Atom) -> Option<Self> {
                match atom {
                    Atom::$atom(value) => Some(value.clone()),
                    _ => None,
                }
            }

            fn zero() -> Self {
                $zero
            }
        }
    };
}

scalar!(i64, Integer, 0);
scalar!(Real, Real, Self::default());
scalar!(bool, Boolean, false);
scalar!(Text, String, Self::from(""));
scalar!(Uuid, Uuid, Self::nil());

/// Columns of exactly one value.
macro_rules! single {
    ([$($generic:tt)*] $rust:ty) => {
        impl<$($generic)*> Column for $rust {
            fn column_type() -> ColumnType {
                ColumnType { key: Self::base_type(), value: None, min: 1, max: Max::Limited(1) }
            }

            fn zero() -> Self {
                <Self as Scalar>::zero()
            }

            fn to_datum(&self) -> Datum {
                Datum::Set(vec![self.to_atom()])
            }

            fn from_datum(datum: &Datum) -> Option<Self> {
                match datum {
                    Datum::Set(atoms) => match atoms.as_slice() {
                        [atom] => Self::from_atom(atom),
                        _ => None,
                    },
                    Datum::Map(_) => None,
                }
            }

            fn count(&self) -> usize {
                1
            }

            fn element(&self, key: &Atom) -> Option<Atom> {
                Self::from_atom(key).is_some_and(|key| *self == key).then(|| key.clone())
            }

            fn diff(&self, new: &Self) -> Option<Datum> {
                (self != new).then(|| new.to_datum())
            }

            fn apply(&self, diff: &Datum) -> Option<Self> {
                Self::from_datum(diff)
            }

            fn each_reference(&self, visit: &mut dyn FnMut(Uuid)) {
                self.referred().into_iter().for_each(visit);
            }

            fn reference_changes(&self, new: &Self, visit: &mut dyn FnMut(Uuid, bool)) {
                if self != new {
                    self.each_reference(&mut |uuid| visit(uuid, false));
                    new.each_reference(&mut |uuid| visit(uuid, true));
                }
            }
        }
    };
}

single!([] i64);
single!([] Real);
single!([] bool);
single!([] Text);
single!([] Uuid);
single!([T: Row, K: RefKind] Ref<T, K>);

impl<S: Scalar> Column for Option<S> {
    fn column_type() -> ColumnType {
        ColumnType { key: S::base_type(), value: None, min: 0, max: Max::Limited(1) }
    }

    fn zero() -> Self {
        None
    }

    fn to_datum(&self) -> Datum {
        Datum::Set(self.iter().map(S::to_atom).collect())
    }

    fn from_datum(datum: &Datum) -> Option<Self> {
        match datum {
            Datum::Set(atoms) => match atoms.as_slice() {
                [] => Some(None),
                [atom] => S::from_atom(atom).map(Some),
                _ => None,
            },
            Datum::Map(_) => None,
        }
    }

    fn count(&self) -> usize {
        usize::from(self.is_some())
    }

    fn element(&self, key: &Atom) -> Option<Atom> {
        self.as_ref().filter(|value| S::from_atom(key).as_ref() == Some(*value)).map(|_| key.clone())
    }

    fn diff(&self, new: &Self) -> Option<Datum> {
        (self != new).then(|| new.to_datum())
    }

    fn apply(&self, diff: &Datum) -> Option<Self> {
        Self::from_datum(diff)
    }

    fn each_reference(&self, visit: &mut dyn FnMut(Uuid)) {
        self.iter().filter_map(S::referred).for_each(visit);
    }

    fn reference_changes(&self, new: &Self, visit: &mut dyn FnMut(Uuid, bool)) {
        if self != new {
            self.each_reference(&mut |uuid| visit(uuid, false));
            new.each_reference(&mut |uuid| visit(uuid, true));
        }
    }
}

impl<S: Scalar> Column for OrdSet<S> {
    fn column_type() -> ColumnType {
        ColumnType { key: S::base_type(), value: None, min: 0, max: Max::Unlimited }
    }

    fn zero() -> Self {
        Self::new()
    }

    fn to_datum(&self) -> Datum {
        Datum::Set(self.iter().map(S::to_atom).collect())
    }

    fn from_datum(datum: &Datum) -> Option<Self> {
        match datum {
            Datum::Set(atoms) => atoms.iter().map(S::from_atom).collect(),
            Datum::Map(_) => None,
        }
    }

    fn count(&self) -> usize {
        self.len()
    }

    fn element(&self, key: &Atom) -> Option<Atom> {
        self.contains(&S::from_atom(key)?).then(|| key.clone())
    }

    fn diff(&self, new: &Self) -> Option<Datum> {
        let mut atoms = Vec::new();
        for item in self.diff(new) {
            match item {
                imbl::ordset::DiffItem::Add(value) | imbl::ordset::DiffItem::Remove(value) => {
                    atoms.push(value.to_atom());
                }
            }
        }
        atoms.sort();
        (!atoms.is_empty()).then_some(Datum::Set(atoms))
    }

    fn apply(&self, diff: &Datum) -> Option<Self> {
        let Datum::Set(atoms) = diff else { return None };
        let mut set = self.clone();
        for atom in atoms {
            let value = S::from_atom(atom)?;
            if set.remove(&value).is_none() {
                set.insert(value);
            }
        }
        Some(set)
    }

    fn each_reference(&self, visit: &mut dyn FnMut(Uuid)) {
        self.iter().filter_map(S::referred).for_each(visit);
    }

    fn reference_changes(&self, new: &Self, visit: &mut dyn FnMut(Uuid, bool)) {
        for item in self.diff(new) {
            match item {
                imbl::ordset::DiffItem::Add(value) => {
                    value.referred().into_iter().for_each(|uuid| visit(uuid, true));
                }
                imbl::ordset::DiffItem::Remove(value) => {
                    value.referred().into_iter().for_each(|uuid| visit(uuid, false));
                }
            }
        }
    }
}

impl<K: Scalar, V: Scalar> Column for OrdMap<K, V> {
    fn column_type() -> ColumnType {
        ColumnType { key: K::base_type(), value: Some(V::base_type()), min: 0, max: Max::Unlimited }
    }

    fn zero() -> Self {
        Self::new()
    }

    fn to_datum(&self) -> Datum {
        Datum::Map(self.iter().map(|(key, value)| (key.to_atom(), value.to_atom())).collect())
    }

    fn from_datum(datum: &Datum) -> Option<Self> {
        match datum {
            Datum::Map(pairs) => {
                pairs.iter().map(|(key, value)| Some((K::from_atom(key)?, V::from_atom(value)?))).collect()
            }
            // OVSDB writes an empty map and an empty set alike.
            Datum::Set(atoms) => atoms.is_empty().then(Self::new),
        }
    }

    fn count(&self) -> usize {
        self.len()
    }

    fn element(&self, key: &Atom) -> Option<Atom> {
        self.get(&K::from_atom(key)?).map(V::to_atom)
    }

    fn diff(&self, new: &Self) -> Option<Datum> {
        let mut pairs = Vec::new();
        for item in self.diff(new) {
            match item {
                imbl::ordmap::DiffItem::Add(key, value)
                | imbl::ordmap::DiffItem::Remove(key, value)
                | imbl::ordmap::DiffItem::Update { new: (key, value), .. } => {
                    pairs.push((key.to_atom(), value.to_atom()));
                }
            }
        }
        pairs.sort();
        (!pairs.is_empty()).then_some(Datum::Map(pairs))
    }

    fn apply(&self, diff: &Datum) -> Option<Self> {
        let Datum::Map(pairs) = diff else { return None };
        let mut map = self.clone();
        for (key, value) in pairs {
            let (key, value) = (K::from_atom(key)?, V::from_atom(value)?);
            // A pair that is there already goes; anything else is the new value of its key.
            if map.get(&key) == Some(&value) {
                map.remove(&key);
            } else {
                map.insert(key, value);
            }
        }
        Some(map)
    }

    fn each_reference(&self, visit: &mut dyn FnMut(Uuid)) {
        for (key, value) in self {
            key.referred().into_iter().chain(value.referred()).for_each(&mut *visit);
        }
    }

    fn reference_changes(&self, new: &Self, visit: &mut dyn FnMut(Uuid, bool)) {
        let mut pair = |key: &K, value: &V, added: bool| {
            key.referred().into_iter().chain(value.referred()).for_each(|uuid| visit(uuid, added));
        };
        for item in self.diff(new) {
            match item {
                imbl::ordmap::DiffItem::Add(key, value) => pair(key, value, true),
                imbl::ordmap::DiffItem::Remove(key, value) => pair(key, value, false),
                imbl::ordmap::DiffItem::Update { old, new } => {
                    pair(old.0, old.1, false);
                    pair(new.0, new.1, true);
                }
            }
        }
    }
}

/// What a declaration adds to the type that Rust knows: constraints in the schema's words.
pub trait Constrain: Sized {
    /// One of these strings only.
    fn one_of(self, values: &[&str]) -> Self;
    /// Integers from `low` to `high`; a bound that every integer keeps is none in the schema.
    fn range(self, low: i64, high: i64) -> Self;
    /// Integers of a map's values from `low` to `high`.
    fn value_range(self, low: i64, high: i64) -> Self;
    /// A map's values are one of these strings only.
    fn value_one_of(self, values: &[&str]) -> Self;
    /// At least so many values.
    fn at_least(self, count: usize) -> Self;
    /// At most so many values.
    fn at_most(self, count: usize) -> Self;
    /// Strings of `low` to `high` characters.
    fn length(self, low: usize, high: usize) -> Self;
}

impl Constrain for ColumnType {
    fn one_of(mut self, values: &[&str]) -> Self {
        self.key.enumeration = Some(enumeration(values));
        self
    }

    fn range(mut self, low: i64, high: i64) -> Self {
        self.key.min_integer = Some(low).filter(|low| *low != i64::MIN);
        self.key.max_integer = Some(high).filter(|high| *high != i64::MAX);
        self
    }

    fn value_range(mut self, low: i64, high: i64) -> Self {
        let value = self.value.as_mut().expect("declared on a map column");
        value.min_integer = Some(low);
        value.max_integer = Some(high);
        self
    }

    fn value_one_of(mut self, values: &[&str]) -> Self {
        self.value.as_mut().expect("declared on a map column").enumeration = Some(enumeration(values));
        self
    }

    fn at_least(mut self, count: usize) -> Self {
        self.min = count;
        self
    }

    fn at_most(mut self, count: usize) -> Self {
        self.max = Max::Limited(count);
        self
    }

    fn length(mut self, low: usize, high: usize) -> Self {
        self.key.min_length = Some(low).filter(|low| *low != 0);
        self.key.max_length = Some(high);
        self
    }
}

fn enumeration(values: &[&str]) -> Vec<Atom> {
    let mut atoms: Vec<Atom> = values.iter().map(|value| Atom::String((*value).into())).collect();
    atoms.sort();
    atoms
}
