//! Sets of integers of one width as disjunctions of value and mask.
//!
//! # Contract
//! - Results are canonical for sets of prefixes: the fewest prefixes, in ascending order, whatever the input's order. Other masks
//!   are joined and thinned out, deterministically, but need not be fewest.
//!
//! # Invariants
//! - A bit that is 1 in `value` is 1 in `mask`; no cube of a result lies within another one.

use crate::constant::{ones, prefix_mask};

/// Integers that have `value` where `mask` is 1.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Cube {
    pub(crate) value: u128,
    pub(crate) mask: u128,
}

/// More cubes with masks that are not prefixes than are worked with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TooMany(pub(crate) usize);

/// Most cubes of a set that is not made of prefixes; the work is quadratic.
pub(crate) const MAX_CUBES: usize = 2048;

/// Most pairs of cubes that are intersected where masks are not prefixes.
const MAX_PAIRS: usize = 1 << 18;

impl Cube {
    pub(crate) fn new(value: u128, mask: u128) -> Self {
        Self { value: value & mask, mask }
    }

    /// Whether every integer here is also in `other`.
    pub(crate) fn is_within(self, other: Self) -> bool {
        other.mask & !self.mask == 0 && self.value & other.mask == other.value
    }

    fn intersection(self, other: Self) -> Option<Self> {
        let common = self.mask & other.mask;
        (self.value & common == other.value & common)
            .then_some(Self { value: self.value | other.value, mask: self.mask | other.mask })
    }

    /// First and last integer, if the mask is a prefix.
    fn range(self, width: u8) -> Option<(u128, u128)> {
        let free = ones(width) & !self.mask;
        (free & free.wrapping_add(1) == 0).then_some((self.value, self.value | free))
    }
}

/// Whether every integer of `a` is in one cube of `b`. For canonical sets of prefixes that is set inclusion.
pub(crate) fn is_subset(a: &[Cube], b: &[Cube]) -> bool {
    a.iter().all(|cube| b.iter().any(|other| cube.is_within(*other)))
}

/// The set of all these.
pub(crate) fn union(cubes: Vec<Cube>, width: u8) -> Result<Vec<Cube>, TooMany> {
    match ranges(&cubes, width) {
        Some(ranges) => Ok(prefixes(&merged(ranges), width, 0)),
        None if cubes.len() <= MAX_CUBES => thinned(cubes),
        None => {
            // Many prefixes with some other masks among them: each kind by itself, and what lies within the other goes.
            let (regular, odd): (Vec<_>, Vec<_>) =
                cubes.into_iter().partition(|cube| cube.range(width).is_some());
            let (regular, odd) = (union(regular, width)?, thinned(odd)?);
            let apart = |cubes: &[Cube], from: &[Cube]| -> Vec<Cube> {
                cubes.iter().filter(|cube| !is_subset(&[**cube], from)).copied().collect()
            };
            let mut all = apart(&regular, &odd);
            all.extend(apart(&odd, &regular));
            all.sort_unstable();
            Ok(all)
        }
    }
}

/// The integers in both.
pub(crate) fn intersection(a: &[Cube], b: &[Cube], width: u8) -> Result<Vec<Cube>, TooMany> {
    if let (Some(a), Some(b)) = (ranges(a, width), ranges(b, width)) {
        let (a, b) = (merged(a), merged(b));
        let (mut i, mut j, mut both) = (0, 0, Vec::new());
        while let (Some(&(from, to)), Some(&(other_from, other_to))) = (a.get(i), b.get(j)) {
            if from.max(other_from) <= to.min(other_to) {
                both.push((from.max(other_from), to.min(other_to)));
            }
            if to < other_to { i += 1 } else { j += 1 }
        }
        return Ok(prefixes(&both, width, 0));
    }
    let pairs = a.len().saturating_mul(b.len());
    if pairs > MAX_PAIRS {
        return Err(TooMany(pairs));
    }
    thinned(a.iter().flat_map(|a| b.iter().filter_map(|b| a.intersection(*b))).collect())
}

/// The integers of `width` bits in none of `cubes`.
pub(crate) fn complement(cubes: &[Cube], width: u8) -> Result<Vec<Cube>, TooMany> {
    if let Some(ranges) = ranges(cubes, width) {
        let mut outside = Vec::new();
        let mut next = Some(0);
        for (from, to) in merged(ranges) {
            if let Some(start) = next
                && start < from
            {
                outside.push((start, from - 1));
            }
            next = to.checked_add(1).filter(|next| *next <= ones(width));
        }
        outside.extend(next.map(|start| (start, ones(width))));
        return Ok(prefixes(&outside, width, 0));
    }
    let (regular, odd): (Vec<_>, Vec<_>) = cubes.iter().partition(|cube| cube.range(width).is_some());
    let mut outside = complement(&regular, width)?;
    for cube in &odd {
        outside = intersection(&outside, &differing(*cube), width)?;
    }
    Ok(outside)
}

/// The integers from `from` to `to` in bits `low` to `low + width - 1`.
pub(crate) fn between(from: u128, to: u128, width: u8, low: u8) -> Vec<Cube> {
    if from > to { Vec::new() } else { prefixes(&[(from, to)], width, low) }
}

/// Integers that differ from the cube: for each bit of the mask those that agree above and differ there.
fn differing(cube: Cube) -> Vec<Cube> {
    let bits = (0..128).rev().map(|bit| 1 << bit).filter(|bit| cube.mask & bit != 0);
    bits.map(|bit: u128| {
        let mask = cube.mask & !(bit - 1);
        Cube::new(cube.value ^ bit, mask)
    })
    .collect()
}

fn ranges(cubes: &[Cube], width: u8) -> Option<Vec<(u128, u128)>> {
    cubes.iter().map(|cube| cube.range(width)).collect()
}

/// Ascending ranges with something between each two.
fn merged(mut ranges: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (from, to) in ranges {
        match merged.last_mut() {
            Some((_, last)) if from <= last.saturating_add(1) => *last = to.max(*last),
            _ => merged.push((from, to)),
        }
    }
    merged
}

/// The fewest prefixes that cover the ranges, for bits from `low` on.
fn prefixes(ranges: &[(u128, u128)], width: u8, low: u8) -> Vec<Cube> {
    let mut cubes = Vec::new();
    for &(mut from, to) in ranges {
        loop {
            // The largest block that begins here and does not go beyond `to`.
            let mut free = (from.trailing_zeros() as u8).min(width);
            while from | ones(free) > to {
                free -= 1;
            }
            cubes.push(Cube::new(from << low, prefix_mask(width - free, width) << low));
            match (from | ones(free)).checked_add(1) {
                Some(next) if next <= to => from = next,
                _ => break,
            }
        }
    }
    cubes
}

/// Joins cubes that differ in one bit, and leaves out those within others.
fn thinned(mut cubes: Vec<Cube>) -> Result<Vec<Cube>, TooMany> {
    loop {
        cubes.sort_unstable();
        cubes.dedup();
        if cubes.len() > MAX_CUBES {
            return Err(TooMany(cubes.len()));
        }
        let sibling = |cube: &Cube| {
            let bits = (0..128).map(|bit| 1 << bit).filter(|bit| cube.mask & cube.value & bit != 0);
            let mut lower = bits.map(|bit: u128| (bit, Cube { value: cube.value & !bit, mask: cube.mask }));
            lower.find(|(_, lower)| cubes.binary_search(lower).is_ok())
        };
        let joined: Vec<Cube> = cubes
            .iter()
            .filter_map(|cube| sibling(cube).map(|(bit, lower)| Cube::new(lower.value, cube.mask & !bit)))
            .filter(|joined| cubes.binary_search(joined).is_err())
            .collect();
        let all: Vec<Cube> = cubes.iter().chain(&joined).copied().collect();
        let before = cubes.len();
        cubes = all
            .iter()
            .filter(|cube| !all.iter().any(|o| o != *cube && cube.is_within(*o)))
            .copied()
            .collect();
        cubes.sort_unstable();
        cubes.dedup();
        if joined.is_empty() || cubes.len() > before {
            return Ok(cubes);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WIDTH: u8 = 6;

    fn members(cubes: &[Cube]) -> u64 {
        (0..64)
            .filter(|n| cubes.iter().any(|cube| n & cube.mask == cube.value))
            .fold(0, |set, n: u128| set | 1 << n)
    }

    fn any_cubes() -> impl Strategy<Value = Vec<Cube>> {
        let mask = prop_oneof![0..=ones(WIDTH), (0..=WIDTH).prop_map(|length| prefix_mask(length, WIDTH))];
        let cube = (0..=ones(WIDTH), mask).prop_map(|(value, mask)| Cube::new(value, mask));
        let prefix = (0..=ones(WIDTH), 0..=WIDTH)
            .prop_map(|(value, length)| Cube::new(value, prefix_mask(length, WIDTH)));
        prop_oneof![prop::collection::vec(cube, 0..6), prop::collection::vec(prefix, 0..6)]
    }

    fn is_thin(cubes: &[Cube]) -> bool {
        cubes.iter().all(|cube| cubes.iter().filter(|other| cube.is_within(**other)).count() == 1)
    }

    proptest! {
        #[test]
        fn operations_are_those_of_sets(a in any_cubes(), b in any_cubes()) {
            let both = intersection(&a, &b, WIDTH).unwrap();
            prop_assert_eq!(members(&both), members(&a) & members(&b));
            let outside = complement(&a, WIDTH).unwrap();
            prop_assert_eq!(members(&outside), !members(&a));
            let any = union(a.iter().chain(&b).copied().collect(), WIDTH).unwrap();
            prop_assert_eq!(members(&any), members(&a) | members(&b));
            prop_assert!(is_thin(&both) && is_thin(&any) && is_thin(&outside));
            prop_assert_eq!(union(b.into_iter().chain(a).rev().collect(), WIDTH).unwrap(), any);
        }

        #[test]
        fn ranges_are_covered_exactly(from in 0..=ones(WIDTH), to in 0..=ones(WIDTH)) {
            let cubes = between(from, to, WIDTH, 0);
            let expected = (from..=to).fold(0, |set: u64, n| set | 1 << n);
            prop_assert_eq!(members(&cubes), expected);
            prop_assert!(cubes.len() <= usize::from(WIDTH) * 2);
        }
    }

    #[test]
    fn the_widest_field_has_ends() {
        let all = between(0, u128::MAX, 128, 0);
        assert_eq!(all, [Cube::new(0, 0)]);
        assert_eq!(complement(&all, 128).unwrap(), []);
        assert_eq!(complement(&[], 128).unwrap(), all);
        let but_last = complement(&[Cube::new(u128::MAX, u128::MAX)], 128).unwrap();
        assert_eq!(but_last.len(), 128);
        assert_eq!(
            union(but_last.into_iter().chain([Cube::new(u128::MAX, u128::MAX)]).collect(), 128).unwrap(),
            all
        );
    }
}
