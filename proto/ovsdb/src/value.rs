//! Atoms and datums: what one column of one row holds (RFC 7047, section 5.1 `<atom>`, `<value>`).
//!
//! # Invariants
//! - A [`Real`] is finite and never `-0.0`, so equality, order and hash agree.
//! - [`Datum::Set`] is sorted and unique; [`Datum::Map`] is sorted by key with unique keys. The constructors here and
//!   the decoders keep it; code that fills the vectors itself must keep it too ([`Datum::is_normal`] tells).
//! - The serde derives are for our own binary records. The JSON of the protocol is in [`crate::json`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::schema::ColumnType;

/// An atom: the smallest value. Reals are finite, so `Eq`, `Ord` and `Hash` all hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Atom {
    /// A signed 64-bit integer.
    Integer(i64),
    /// A finite double.
    Real(Real),
    /// A boolean; `false` sorts first.
    Boolean(bool),
    /// A string without NUL bytes; sorts by its bytes. Shared, because a value lives in many snapshots.
    String(Arc<str>),
    /// A UUID, often the name of another row.
    Uuid(Uuid),
}

impl Atom {
    /// The type this atom is of.
    pub fn atomic_type(&self) -> AtomicType {
        match self {
            Self::Integer(_) => AtomicType::Integer,
            Self::Real(_) => AtomicType::Real,
            Self::Boolean(_) => AtomicType::Boolean,
            Self::String(_) => AtomicType::String,
            Self::Uuid(_) => AtomicType::Uuid,
        }
    }

    /// The atom a column of this type starts with: 0, 0.0, false, the empty string, the zero UUID.
    pub fn default_for(ty: AtomicType) -> Self {
        match ty {
            AtomicType::Integer => Self::Integer(0),
            AtomicType::Real => Self::Real(Real::ZERO),
            AtomicType::Boolean => Self::Boolean(false),
            AtomicType::String => Self::String(Arc::from("")),
            AtomicType::Uuid => Self::Uuid(Uuid::nil()),
        }
    }

    /// The integer, if it is one.
    pub fn as_integer(&self) -> Option<i64> {
        if let Self::Integer(value) = self { Some(*value) } else { None }
    }

    /// The real, if it is one.
    pub fn as_real(&self) -> Option<f64> {
        if let Self::Real(value) = self { Some(value.value()) } else { None }
    }

    /// The boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Boolean(value) = self { Some(*value) } else { None }
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(value) = self { Some(value) } else { None }
    }

    /// The UUID, if it is one.
    pub fn as_uuid(&self) -> Option<Uuid> {
        if let Self::Uuid(value) = self { Some(*value) } else { None }
    }
}

/// Prints as `ovs-vsctl` does: strings quoted, the others bare.
impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Real(value) => write!(f, "{}", value.value()),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::String(value) => write!(f, "{value:?}"),
            Self::Uuid(value) => write!(f, "{value}"),
        }
    }
}

/// A finite double with a total order; `-0.0` is stored as `0.0`, as it has no form of its own on the wire.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Real(f64);

impl Real {
    /// Zero.
    pub const ZERO: Self = Self(0.0);

    /// Takes a finite double.
    pub fn new(value: f64) -> Result<Self, NotFinite> {
        if !value.is_finite() {
            return Err(NotFinite { got: value });
        }
        // Adding 0.0 turns -0.0 into 0.0 and changes nothing else.
        Ok(Self(value + 0.0))
    }

    /// The double.
    pub fn value(self) -> f64 {
        self.0
    }
}

impl PartialEq for Real {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Real {}

impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Real {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl std::hash::Hash for Real {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl TryFrom<f64> for Real {
    type Error = NotFinite;
    fn try_from(value: f64) -> Result<Self, NotFinite> {
        Self::new(value)
    }
}

impl From<Real> for f64 {
    fn from(value: Real) -> Self {
        value.0
    }
}

/// NaN and the infinities are no OVSDB reals.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
#[error("real: expected a finite number, got {got}")]
pub struct NotFinite {
    /// What was offered.
    pub got: f64,
}

/// The five atomic types (RFC 7047, section 3.1 `<atomic-type>`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AtomicType {
    /// Signed 64-bit integer.
    Integer,
    /// Finite double.
    Real,
    /// Boolean.
    Boolean,
    /// UTF-8 string.
    String,
    /// UUID.
    Uuid,
}

impl AtomicType {
    /// The name used in schemas.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Real => "real",
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Uuid => "uuid",
        }
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "integer" => Self::Integer,
            "real" => Self::Real,
            "boolean" => Self::Boolean,
            "string" => Self::String,
            "uuid" => Self::Uuid,
            _ => return None,
        })
    }
}

impl fmt::Display for AtomicType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A column's value: a scalar is a set of one, an optional a set of zero or one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Datum {
    /// Atoms, sorted and unique.
    Set(Vec<Atom>),
    /// Pairs, sorted by key, keys unique.
    Map(Vec<(Atom, Atom)>),
}

impl Datum {
    /// The set of no atoms.
    pub const EMPTY_SET: Self = Self::Set(Vec::new());
    /// The map of no pairs.
    pub const EMPTY_MAP: Self = Self::Map(Vec::new());

    /// A scalar.
    pub fn scalar(atom: impl Into<Atom>) -> Self {
        Self::Set(vec![atom.into()])
    }

    /// A set of these atoms, sorted, each once.
    pub fn set<A: Into<Atom>>(atoms: impl IntoIterator<Item = A>) -> Self {
        let mut atoms: Vec<Atom> = atoms.into_iter().map(Into::into).collect();
        atoms.sort_unstable();
        atoms.dedup();
        Self::Set(atoms)
    }

    /// A map of these pairs, sorted; of two pairs with one key the later one stays.
    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let map: BTreeMap<Atom, Atom> = pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        Self::Map(map.into_iter().collect())
    }

    /// What a column of this type holds when nothing was said (RFC 7047, section 5.2.1): `min` default atoms.
    ///
    /// As in OVS an enumeration does not change it: `""` may be a default that [`Self::check`] refuses.
    pub fn default_for(ty: &ColumnType) -> Self {
        match (&ty.value, ty.min) {
            (None, 0) => Self::EMPTY_SET,
            (None, _) => Self::Set(vec![Atom::default_for(ty.key.atomic)]),
            (Some(_), 0) => Self::EMPTY_MAP,
            (Some(value), _) => {
                Self::Map(vec![(Atom::default_for(ty.key.atomic), Atom::default_for(value.atomic))])
            }
        }
    }

    /// Whether this is [`Self::default_for`] that type.
    pub fn is_default(&self, ty: &ColumnType) -> bool {
        match self {
            Self::Set(atoms) => {
                ty.value.is_none()
                    && match (ty.min, atoms.as_slice()) {
                        (0, []) => true,
                        (1.., [atom]) => *atom == Atom::default_for(ty.key.atomic),
                        _ => false,
                    }
            }
            Self::Map(_) => *self == Self::default_for(ty),
        }
    }

    /// The number of atoms or pairs.
    pub fn len(&self) -> usize {
        match self {
            Self::Set(atoms) => atoms.len(),
            Self::Map(pairs) => pairs.len(),
        }
    }

    /// Whether there are no atoms or pairs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The atoms of a set; empty for a map.
    pub fn atoms(&self) -> &[Atom] {
        if let Self::Set(atoms) = self { atoms } else { &[] }
    }

    /// The pairs of a map; empty for a set.
    pub fn pairs(&self) -> &[(Atom, Atom)] {
        if let Self::Map(pairs) = self { pairs } else { &[] }
    }

    /// The only atom of a set of one: a scalar, or an optional that is there.
    pub fn as_scalar(&self) -> Option<&Atom> {
        if let [atom] = self.atoms() { Some(atom) } else { None }
    }

    /// The integer of a scalar.
    pub fn as_integer(&self) -> Option<i64> {
        self.as_scalar().and_then(Atom::as_integer)
    }

    /// The real of a scalar.
    pub fn as_real(&self) -> Option<f64> {
        self.as_scalar().and_then(Atom::as_real)
    }

    /// The boolean of a scalar.
    pub fn as_bool(&self) -> Option<bool> {
        self.as_scalar().and_then(Atom::as_bool)
    }

    /// The string of a scalar.
    pub fn as_str(&self) -> Option<&str> {
        self.as_scalar().and_then(Atom::as_str)
    }

    /// The UUID of a scalar.
    pub fn as_uuid(&self) -> Option<Uuid> {
        self.as_scalar().and_then(Atom::as_uuid)
    }

    /// The UUIDs of a set.
    pub fn uuids(&self) -> impl Iterator<Item = Uuid> + '_ {
        self.atoms().iter().filter_map(Atom::as_uuid)
    }

    /// The strings of a set.
    pub fn strings(&self) -> impl Iterator<Item = &str> + '_ {
        self.atoms().iter().filter_map(Atom::as_str)
    }

    /// The value a map holds for this key.
    pub fn get(&self, key: &Atom) -> Option<&Atom> {
        let pairs = self.pairs();
        pairs.binary_search_by(|(k, _)| k.cmp(key)).ok().map(|at| &pairs[at].1)
    }

    /// The string a map of strings holds for this key (`external_ids`, `options`, …).
    pub fn get_str(&self, key: &str) -> Option<&str> {
        let pairs = self.pairs();
        let at = pairs.binary_search_by(|(k, _)| match k {
            Atom::String(k) => k.as_ref().cmp(key),
            other => other.atomic_type().cmp(&AtomicType::String),
        });
        at.ok().and_then(|at| pairs[at].1.as_str())
    }

    /// Whether a set holds this atom.
    pub fn contains(&self, atom: &Atom) -> bool {
        self.atoms().binary_search(atom).is_ok()
    }

    /// Whether the order and uniqueness promised in the module header hold.
    pub fn is_normal(&self) -> bool {
        match self {
            Self::Set(atoms) => atoms.windows(2).all(|w| w[0] < w[1]),
            Self::Map(pairs) => pairs.windows(2).all(|w| w[0].0 < w[1].0),
        }
    }
}

/// Prints as `ovs-vsctl` does: a scalar bare, `[..]` for sets, `{k=v, ..}` for maps.
impl fmt::Display for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(atoms) if atoms.len() == 1 => write!(f, "{}", atoms[0]),
            Self::Set(atoms) => {
                f.write_str("[")?;
                for (at, atom) in atoms.iter().enumerate() {
                    write!(f, "{}{atom}", if at == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Self::Map(pairs) => {
                f.write_str("{")?;
                for (at, (key, value)) in pairs.iter().enumerate() {
                    write!(f, "{}{key}={value}", if at == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
        }
    }
}

macro_rules! atom_from {
    ($($from:ty => |$value:ident| $atom:expr;)*) => {$(
        impl From<$from> for Atom {
            fn from($value: $from) -> Self { $atom }
        }
        impl From<$from> for Datum {
            fn from(value: $from) -> Self { Self::scalar(value) }
        }
        impl From<Option<$from>> for Datum {
            fn from(value: Option<$from>) -> Self { Self::Set(value.map(Into::into).into_iter().collect()) }
        }
        impl From<Vec<$from>> for Datum {
            fn from(values: Vec<$from>) -> Self { Self::set(values) }
        }
    )*};
}

atom_from! {
    i64 => |value| Self::Integer(value);
    Real => |value| Self::Real(value);
    bool => |value| Self::Boolean(value);
    &str => |value| Self::String(Arc::from(value));
    String => |value| Self::String(Arc::from(value));
    Arc<str> => |value| Self::String(value);
    Uuid => |value| Self::Uuid(value);
}

impl From<Atom> for Datum {
    fn from(atom: Atom) -> Self {
        Self::Set(vec![atom])
    }
}

impl<K: Into<Atom>, V: Into<Atom>> From<BTreeMap<K, V>> for Datum {
    fn from(map: BTreeMap<K, V>) -> Self {
        Self::map(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::BaseType;

    #[test]
    fn reals_are_finite_and_have_one_zero() {
        assert!(Real::new(f64::NAN).is_err());
        assert!(Real::new(f64::INFINITY).is_err());
        assert_eq!(Real::new(-0.0), Real::new(0.0));
        assert!(Real::new(-1.5).unwrap() < Real::ZERO);
    }

    #[test]
    fn constructors_sort_and_deduplicate() {
        assert_eq!(Datum::set([3, 1, 3]), Datum::Set(vec![Atom::Integer(1), Atom::Integer(3)]));
        let map = Datum::map([("b", "1"), ("a", "2"), ("b", "3")]);
        assert_eq!(map.get_str("b"), Some("3"));
        assert_eq!(map.get_str("c"), None);
        assert_eq!(map.len(), 2);
        assert!(map.is_normal());
        assert_eq!(map.to_string(), r#"{"a"="2", "b"="3"}"#);
    }

    #[test]
    fn defaults_follow_the_minimum() {
        let scalar = ColumnType::scalar(BaseType::STRING);
        assert_eq!(Datum::default_for(&scalar), Datum::from(""));
        assert!(Datum::from("").is_default(&scalar));
        assert!(!Datum::EMPTY_SET.is_default(&scalar));
        let optional = ColumnType::optional(BaseType::INTEGER);
        assert!(Datum::EMPTY_SET.is_default(&optional));
        assert!(!Datum::from(0).is_default(&optional));
        let map = ColumnType::map(BaseType::STRING, BaseType::STRING);
        assert!(Datum::EMPTY_MAP.is_default(&map));
        assert!(!Datum::EMPTY_SET.is_default(&map));
    }
}
