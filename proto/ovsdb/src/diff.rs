//! Differences between two values of one column, as `update2` and `update3` carry them
//! (ovsdb-server(7), section 4.1.14 `<row-update2>`).
//!
//! # Contract
//! A column with a maximum of one element is replaced: the difference *is* the new value. A set's difference holds the
//! atoms that came or went; a map's holds the pairs that came, the pairs that went, and for a key whose value changed
//! the new pair.
//!
//! # Invariants
//! - `old.apply_diff(&old.diff(&new, ty)?, ty) == new`, for every old and new of the type.
//! - Both walk the two sorted vectors once.

use std::cmp::Ordering;

use crate::schema::{ColumnType, ConstraintError};
use crate::value::Datum;

impl Datum {
    /// What to send so that the peer turns `self` into `new`; `None` if nothing changed.
    ///
    /// Both must have the shape of `ty`; if they differ in shape the answer is `new`.
    pub fn diff(&self, new: &Self, ty: &ColumnType) -> Option<Self> {
        if self == new {
            return None;
        }
        Some(match (self, new) {
            (Self::Set(old), Self::Set(new)) if ty.is_composite() => {
                Self::Set(merge(old, new, |a| a, |_, _| None))
            }
            (Self::Map(old), Self::Map(new)) if ty.is_composite() => {
                let changed = |old: &(_, _), new: &(_, _)| (old != new).then(|| new.clone());
                Self::Map(merge(old, new, |(key, _)| key, changed))
            }
            _ => new.clone(),
        })
    }

    /// The value that `diff` makes of `self`. The result's number of elements is not checked.
    pub fn apply_diff(&self, diff: &Self, ty: &ColumnType) -> Result<Self, ConstraintError> {
        Ok(match (self, diff) {
            (Self::Set(_), Self::Set(_)) | (Self::Map(_), Self::Map(_)) if !ty.is_composite() => diff.clone(),
            (Self::Set(old), Self::Set(diff)) => Self::Set(merge(old, diff, |a| a, |_, _| None)),
            (Self::Map(old), Self::Map(diff)) => {
                // The same pair again takes it away; the key with another value replaces it.
                let toggled = |old: &(_, _), diff: &(_, _)| (old != diff).then(|| diff.clone());
                Self::Map(merge(old, diff, |(key, _)| key, toggled))
            }
            (Self::Set(_), Self::Map(_)) => {
                return Err(ConstraintError::Shape { expected: "set", got: "map" });
            }
            (Self::Map(_), Self::Set(_)) => {
                return Err(ConstraintError::Shape { expected: "map", got: "set" });
            }
        })
    }
}

/// The elements whose key is in one side only, and for keys in both what `both` makes of them.
fn merge<T: Clone, K: Ord>(
    left: &[T],
    right: &[T],
    key: impl Fn(&T) -> &K,
    both: impl Fn(&T, &T) -> Option<T>,
) -> Vec<T> {
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut l, mut r) = (0, 0);
    while let (Some(a), Some(b)) = (left.get(l), right.get(r)) {
        match key(a).cmp(key(b)) {
            Ordering::Less => {
                merged.push(a.clone());
                l += 1;
            }
            Ordering::Greater => {
                merged.push(b.clone());
                r += 1;
            }
            Ordering::Equal => {
                merged.extend(both(a, b));
                l += 1;
                r += 1;
            }
        }
    }
    merged.extend_from_slice(&left[l..]);
    merged.extend_from_slice(&right[r..]);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::BaseType;

    #[test]
    fn a_single_element_is_replaced() {
        let ty = ColumnType::optional(BaseType::INTEGER);
        assert_eq!(Datum::from(1).diff(&Datum::from(2), &ty), Some(Datum::from(2)));
        assert_eq!(Datum::from(1).diff(&Datum::EMPTY_SET, &ty), Some(Datum::EMPTY_SET));
        assert_eq!(Datum::from(1).apply_diff(&Datum::EMPTY_SET, &ty), Ok(Datum::EMPTY_SET));
        assert_eq!(Datum::from(1).diff(&Datum::from(1), &ty), None);
    }

    #[test]
    fn a_set_carries_what_came_and_went() {
        let ty = ColumnType::set(BaseType::INTEGER);
        let (old, new) = (Datum::set([1, 2, 3]), Datum::set([2, 3, 4]));
        let diff = old.diff(&new, &ty).unwrap();
        assert_eq!(diff, Datum::set([1, 4]));
        assert_eq!(old.apply_diff(&diff, &ty), Ok(new));
    }

    #[test]
    fn a_map_carries_pairs_that_came_went_or_changed() {
        let ty = ColumnType::map(BaseType::STRING, BaseType::STRING);
        let old = Datum::map([("gone", "1"), ("kept", "2"), ("changed", "3")]);
        let new = Datum::map([("kept", "2"), ("changed", "4"), ("new", "5")]);
        let diff = old.diff(&new, &ty).unwrap();
        assert_eq!(diff, Datum::map([("gone", "1"), ("changed", "4"), ("new", "5")]));
        assert_eq!(old.apply_diff(&diff, &ty), Ok(new));
        assert!(old.apply_diff(&Datum::EMPTY_SET, &ty).is_err());
    }
}
