//! Schemas: databases, tables, columns and their types (RFC 7047, sections 3.1 and 3.2).
//!
//! # Invariants
//! - `min` is 0 or 1, `max` is at least 1 (RFC 7047, `<type>`); the parser in [`crate::schema_json`] refuses others.
//! - An enumeration is sorted and of the base type's own atomic type.
//! - `_uuid` and `_version` are implicit: never listed in [`TableSchema::columns`], always found by
//!   [`TableSchema::column_type`].

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::value::{Atom, AtomicType, Datum, Real};

/// A database's schema (RFC 7047, section 3.2 `<database-schema>`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseSchema {
    /// The database's name, an `<id>`.
    pub name: String,
    /// The version, `x.y.z`.
    pub version: String,
    /// The checksum OVS keeps beside its schemas; opaque.
    pub cksum: Option<String>,
    /// Tables by name.
    pub tables: BTreeMap<String, TableSchema>,
}

impl DatabaseSchema {
    /// The table of that name.
    pub fn table(&self, name: &str) -> Option<&TableSchema> {
        self.tables.get(name)
    }

    /// Whether rows of this table live without being referred to. A schema without any root table has only roots
    /// (RFC 7047, section 3.2 `isRoot`).
    pub fn is_root(&self, table: &str) -> bool {
        self.tables.get(table).is_some_and(|t| t.is_root) || self.tables.values().all(|t| !t.is_root)
    }
}

/// A table's schema (RFC 7047, section 3.2 `<table-schema>`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    /// Columns by name, without `_uuid` and `_version`.
    pub columns: BTreeMap<String, ColumnSchema>,
    /// The most rows the table may have at commit.
    pub max_rows: Option<u64>,
    /// Whether the table says of itself that it is a root; see [`DatabaseSchema::is_root`].
    pub is_root: bool,
    /// Sets of columns that together are unique.
    pub indexes: Vec<Vec<String>>,
}

impl TableSchema {
    /// A column's type by name, `_uuid` and `_version` included.
    pub fn column_type(&self, name: &str) -> Option<&ColumnType> {
        match name {
            "_uuid" | "_version" => Some(&ROW_ID),
            _ => self.columns.get(name).map(|column| &column.ty),
        }
    }
}

/// A column's schema (RFC 7047, section 3.2 `<column-schema>`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnSchema {
    /// The column's name.
    pub name: String,
    /// What it may hold.
    pub ty: ColumnType,
    /// Whether it is lost when the database restarts.
    pub ephemeral: bool,
    /// Whether it may change after the insert.
    pub mutable: bool,
}

impl ColumnSchema {
    /// A persistent, mutable column.
    pub fn new(name: impl Into<String>, ty: ColumnType) -> Self {
        Self { name: name.into(), ty, ephemeral: false, mutable: true }
    }
}

/// A column's type (RFC 7047, section 3.2 `<type>`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnType {
    /// The type of the atoms of a set, or of the keys of a map.
    pub key: BaseType,
    /// The type of the values of a map; `None` means a set.
    pub value: Option<BaseType>,
    /// The least number of elements, 0 or 1.
    pub min: usize,
    /// The largest number of elements.
    pub max: Max,
}

impl ColumnType {
    /// Exactly one atom.
    pub const fn scalar(key: BaseType) -> Self {
        Self { key, value: None, min: 1, max: Max::Limited(1) }
    }

    /// One atom or none.
    pub const fn optional(key: BaseType) -> Self {
        Self { key, value: None, min: 0, max: Max::Limited(1) }
    }

    /// Any number of atoms.
    pub const fn set(key: BaseType) -> Self {
        Self { key, value: None, min: 0, max: Max::Unlimited }
    }

    /// Any number of pairs.
    pub const fn map(key: BaseType, value: BaseType) -> Self {
        Self { key, value: Some(value), min: 0, max: Max::Unlimited }
    }

    /// Whether it is a map.
    pub const fn is_map(&self) -> bool {
        self.value.is_some()
    }

    /// Whether it is exactly one atom.
    pub const fn is_scalar(&self) -> bool {
        self.value.is_none() && self.min == 1 && matches!(self.max, Max::Limited(1))
    }

    /// Whether it may hold more than one element. Such a column is updated by differences, the others by whole values.
    pub const fn is_composite(&self) -> bool {
        !matches!(self.max, Max::Limited(0 | 1))
    }

    /// The base types: key, then value.
    pub fn bases(&self) -> impl Iterator<Item = &BaseType> {
        std::iter::once(&self.key).chain(&self.value)
    }
}

/// The type of `_uuid` and `_version`.
pub static ROW_ID: ColumnType = ColumnType::scalar(BaseType::UUID);

/// An upper bound on the number of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Max {
    /// At most this many.
    Limited(usize),
    /// No bound.
    Unlimited,
}

impl Max {
    /// Whether so many elements are too many.
    pub const fn is_exceeded_by(self, count: usize) -> bool {
        match self {
            Self::Limited(max) => count > max,
            Self::Unlimited => false,
        }
    }
}

impl fmt::Display for Max {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limited(max) => write!(f, "{max}"),
            Self::Unlimited => f.write_str("unlimited"),
        }
    }
}

/// An atomic type with its constraints (RFC 7047, section 3.2 `<base-type>`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseType {
    /// The type of the atoms.
    pub atomic: AtomicType,
    /// The only atoms allowed, sorted.
    pub enumeration: Option<Vec<Atom>>,
    /// The smallest integer allowed.
    pub min_integer: Option<i64>,
    /// The largest integer allowed.
    pub max_integer: Option<i64>,
    /// The smallest real allowed.
    pub min_real: Option<Real>,
    /// The largest real allowed.
    pub max_real: Option<Real>,
    /// The least number of characters.
    pub min_length: Option<usize>,
    /// The largest number of characters.
    pub max_length: Option<usize>,
    /// The table whose rows the UUIDs name.
    pub ref_table: Option<String>,
    /// What happens when such a row goes; means something only with `ref_table`.
    pub ref_type: RefType,
}

impl BaseType {
    /// Any integer.
    pub const INTEGER: Self = Self::new(AtomicType::Integer);
    /// Any real.
    pub const REAL: Self = Self::new(AtomicType::Real);
    /// A boolean.
    pub const BOOLEAN: Self = Self::new(AtomicType::Boolean);
    /// Any string.
    pub const STRING: Self = Self::new(AtomicType::String);
    /// Any UUID, not checked against a table.
    pub const UUID: Self = Self::new(AtomicType::Uuid);

    /// The atomic type without constraints.
    pub const fn new(atomic: AtomicType) -> Self {
        Self {
            atomic,
            enumeration: None,
            min_integer: None,
            max_integer: None,
            min_real: None,
            max_real: None,
            min_length: None,
            max_length: None,
            ref_table: None,
            ref_type: RefType::Strong,
        }
    }

    /// A reference to rows of a table.
    pub fn reference(table: impl Into<String>, ref_type: RefType) -> Self {
        Self { ref_table: Some(table.into()), ref_type, ..Self::UUID }
    }

    /// One of these strings.
    pub fn one_of<S: AsRef<str>>(strings: impl IntoIterator<Item = S>) -> Self {
        let mut atoms: Vec<Atom> = strings.into_iter().map(|s| Atom::from(s.as_ref())).collect();
        atoms.sort_unstable();
        atoms.dedup();
        Self { enumeration: Some(atoms), ..Self::STRING }
    }

    /// An integer in this closed range.
    pub const fn integer_range(min: i64, max: i64) -> Self {
        let mut base = Self::INTEGER;
        base.min_integer = Some(min);
        base.max_integer = Some(max);
        base
    }

    /// Whether it refers to rows that may go.
    pub fn is_weak_reference(&self) -> bool {
        self.ref_table.is_some() && self.ref_type == RefType::Weak
    }

    /// Whether it refers to rows that must be there.
    pub fn is_strong_reference(&self) -> bool {
        self.ref_table.is_some() && self.ref_type == RefType::Strong
    }

    /// Whether an atom is of this type and keeps its constraints. References are not followed.
    pub fn check(&self, atom: &Atom) -> Result<(), ConstraintError> {
        if atom.atomic_type() != self.atomic {
            return Err(ConstraintError::Type { expected: self.atomic, got: atom.clone() });
        }
        if let Some(allowed) = &self.enumeration {
            return if allowed.contains(atom) {
                Ok(())
            } else {
                Err(ConstraintError::Enumeration { allowed: allowed.clone(), got: atom.clone() })
            };
        }
        match atom {
            Atom::Integer(value) => {
                if self.min_integer.is_some_and(|min| *value < min)
                    || self.max_integer.is_some_and(|max| *value > max)
                {
                    return Err(ConstraintError::Integer {
                        min: self.min_integer.unwrap_or(i64::MIN),
                        max: self.max_integer.unwrap_or(i64::MAX),
                        got: *value,
                    });
                }
            }
            Atom::Real(value) => {
                if self.min_real.is_some_and(|min| *value < min)
                    || self.max_real.is_some_and(|max| *value > max)
                {
                    return Err(ConstraintError::Real {
                        min: self.min_real.map_or(f64::MIN, Real::value),
                        max: self.max_real.map_or(f64::MAX, Real::value),
                        got: value.value(),
                    });
                }
            }
            Atom::String(value) => {
                if self.min_length.is_some() || self.max_length.is_some() {
                    let got = value.chars().count();
                    let (min, max) = (self.min_length.unwrap_or(0), self.max_length.unwrap_or(usize::MAX));
                    if got < min || got > max {
                        return Err(ConstraintError::Length { min, max, got });
                    }
                }
            }
            Atom::Boolean(_) | Atom::Uuid(_) => {}
        }
        Ok(())
    }
}

/// What a reference asks of the row it names (RFC 7047, section 3.2 `refType`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RefType {
    /// The row must exist.
    #[default]
    Strong,
    /// The reference goes when the row goes.
    Weak,
}

/// A value that a column may not hold (RFC 7047, section 3.2; error string `constraint violation`).
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum ConstraintError {
    /// An atom of another type.
    #[error("expected {expected}, got {} {got}", got.atomic_type())]
    Type {
        /// The column's type.
        expected: AtomicType,
        /// The atom.
        got: Atom,
    },
    /// A map where a set belongs, or a set where a map belongs.
    #[error("expected a {expected}, got a {got}")]
    Shape {
        /// `set` or `map`.
        expected: &'static str,
        /// `set` or `map`.
        got: &'static str,
    },
    /// Too few or too many elements.
    #[error("expected {min} to {max} elements, got {got}")]
    Count {
        /// At least.
        min: usize,
        /// At most.
        max: Max,
        /// How many there were.
        got: usize,
    },
    /// Not one of the values listed.
    #[error("{got} is not one of the allowed values {}", Datum::Set(allowed.clone()))]
    Enumeration {
        /// The values listed.
        allowed: Vec<Atom>,
        /// The atom.
        got: Atom,
    },
    /// An integer out of range.
    #[error("{got} is not in the valid range {min} to {max} (inclusive)")]
    Integer {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
        /// The integer.
        got: i64,
    },
    /// A real out of range.
    #[error("{got} is not in the valid range {min} to {max} (inclusive)")]
    Real {
        /// Smallest.
        min: f64,
        /// Largest.
        max: f64,
        /// The real.
        got: f64,
    },
    /// A string too short or too long.
    #[error("expected a string of {min} to {max} characters, got {got}")]
    Length {
        /// At least.
        min: usize,
        /// At most.
        max: usize,
        /// How many there were.
        got: usize,
    },
    /// Elements out of order or twice: a bug of whoever built the datum.
    #[error("elements are not sorted and unique")]
    Unsorted,
}

impl Datum {
    /// Whether a column of this type may hold this value. References are not followed.
    pub fn check(&self, ty: &ColumnType) -> Result<(), ConstraintError> {
        match (self, &ty.value) {
            (Self::Set(atoms), None) => atoms.iter().try_for_each(|atom| ty.key.check(atom))?,
            (Self::Map(pairs), Some(value)) => {
                pairs.iter().try_for_each(|(k, v)| ty.key.check(k).and_then(|()| value.check(v)))?;
            }
            (Self::Set(_), Some(_)) => return Err(ConstraintError::Shape { expected: "map", got: "set" }),
            (Self::Map(_), None) => return Err(ConstraintError::Shape { expected: "set", got: "map" }),
        }
        if !self.is_normal() {
            return Err(ConstraintError::Unsorted);
        }
        if self.len() < ty.min || ty.max.is_exceeded_by(self.len()) {
            return Err(ConstraintError::Count { min: ty.min, max: ty.max, got: self.len() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_name_what_was_expected() {
        let priority = ColumnType::scalar(BaseType::integer_range(0, 32767));
        assert_eq!(Datum::from(7).check(&priority), Ok(()));
        assert_eq!(
            Datum::from(40000).check(&priority).unwrap_err().to_string(),
            "40000 is not in the valid range 0 to 32767 (inclusive)"
        );
        assert_eq!(
            Datum::from("x").check(&priority).unwrap_err().to_string(),
            "expected integer, got string \"x\""
        );
        assert_eq!(
            Datum::EMPTY_SET.check(&priority).unwrap_err().to_string(),
            "expected 1 to 1 elements, got 0"
        );
        let action = ColumnType::scalar(BaseType::one_of(["drop", "allow"]));
        assert_eq!(
            Datum::from("x").check(&action).unwrap_err().to_string(),
            r#""x" is not one of the allowed values ["allow", "drop"]"#
        );
        let options = ColumnType::map(BaseType::STRING, BaseType::STRING);
        assert_eq!(Datum::EMPTY_SET.check(&options).unwrap_err().to_string(), "expected a map, got a set");
    }

    #[test]
    fn lengths_count_characters() {
        let mut base = BaseType::STRING;
        base.max_length = Some(2);
        assert_eq!(base.check(&Atom::from("äö")), Ok(()));
        assert!(base.check(&Atom::from("abc")).is_err());
    }
}
