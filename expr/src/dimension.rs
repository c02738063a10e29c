//! Dimensions while they are computed with: matches as cubes, references beside them.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::clause::{Dimension, Family, Match, Term};
use crate::constant::ones;
use crate::cube::{self, Cube, TooMany};
use crate::{Field, Level};

/// A disjunction of cubes and references over one family.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Dim {
    pub(crate) family: Family,
    pub(crate) cubes: Vec<Cube>,
    pub(crate) references: BTreeSet<Term>,
}

/// What a conjunction of two dimensions over one family is.
pub(crate) enum Both {
    /// This one.
    One(Dim),
    /// They stay beside each other.
    Two,
}

impl Dim {
    pub(crate) fn new(family: Family, cubes: Vec<Cube>, references: BTreeSet<Term>) -> Self {
        let cubes = match family {
            Family::Field(field) if field.level() == Level::Nominal => listed(cubes, field.width()),
            _ => cubes,
        };
        Self { family, cubes, references }
    }

    pub(crate) fn literal(field: Field, cubes: Vec<Cube>) -> Self {
        Self::new(Family::Field(field), cubes, BTreeSet::new())
    }

    pub(crate) fn reference(family: Family, term: Term) -> Self {
        Self::new(family, Vec::new(), BTreeSet::from([term]))
    }

    pub(crate) fn width(&self) -> u8 {
        match self.family {
            Family::Field(field) => field.width(),
            Family::Residence => 0,
        }
    }

    /// Never true.
    pub(crate) fn is_empty(&self) -> bool {
        self.cubes.is_empty() && self.references.is_empty()
    }

    /// Always true.
    pub(crate) fn is_full(&self) -> bool {
        self.cubes.iter().any(|cube| cube.mask == 0)
            || self
                .references
                .iter()
                .any(|term| negation(term).is_some_and(|not| self.references.contains(&not)))
    }

    /// Whether it must be one match in each clause, because other fields need it as a prerequisite.
    pub(crate) fn is_prerequisite(&self) -> bool {
        use Field::{EthType, Icmp6Code, Icmp6Type, IpProto};
        matches!(self.family, Family::Field(EthType | IpProto | Icmp6Type | Icmp6Code))
            && self.references.is_empty()
    }

    /// Whether each of its cubes is one value.
    pub(crate) fn is_exact(&self) -> bool {
        let full = ones(self.width());
        self.cubes.iter().all(|cube| cube.mask == full)
    }

    /// Whether whatever satisfies it satisfies `other`, as far as that shows without knowing what references hold.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.family == other.family
            && self.references.is_subset(&other.references)
            && cube::is_subset(&self.cubes, &other.cubes)
    }

    /// The conjunction with another dimension of the same family.
    pub(crate) fn and(&self, other: &Self) -> Result<Both, TooMany> {
        let dim = |cubes, references| Both::One(Self::new(self.family, cubes, references));
        if self.references.is_empty() && other.references.is_empty() {
            let cubes = cube::intersection(&self.cubes, &other.cubes, self.width())?;
            return Ok(dim(cubes, BTreeSet::new()));
        }
        if self.is_ports() && other.is_ports() {
            return Ok(dim(Vec::new(), self.references.intersection(&other.references).cloned().collect()));
        }
        if let ([one], [two]) = (self.only().as_slice(), other.only().as_slice())
            && negation(one).as_ref() == Some(*two)
        {
            return Ok(dim(Vec::new(), BTreeSet::new()));
        }
        Ok(match (self.is_within(other), other.is_within(self)) {
            (true, _) => Both::One(self.clone()),
            (_, true) => Both::One(other.clone()),
            _ => Both::Two,
        })
    }

    fn only(&self) -> Vec<&Term> {
        if self.cubes.is_empty() { self.references.iter().take(2).collect() } else { Vec::new() }
    }

    /// Whether it names ports only, of which a packet has one.
    fn is_ports(&self) -> bool {
        self.cubes.is_empty() && self.references.iter().all(|term| matches!(term, Term::Port { .. }))
    }

    pub(crate) fn finish(self) -> Dimension {
        let Family::Field(field) = self.family else {
            return Dimension { family: self.family, terms: self.references.into_iter().collect() };
        };
        let matches = self.cubes.into_iter().map(|cube| Match { field, value: cube.value, mask: cube.mask });
        Dimension { family: self.family, terms: matches.map(Term::Match).chain(self.references).collect() }
    }

    /// How dimensions are worked through: narrow ones first, then in their own order.
    pub(crate) fn by_size(&self, other: &Self) -> Ordering {
        let size = |dim: &Self| dim.cubes.len() + dim.references.len();
        size(self).cmp(&size(other)).then_with(|| self.cmp(other))
    }
}

/// Most values of a nominal field that are listed one by one.
const MAX_LISTED: u128 = 128;

/// The single values of the cubes, in ascending order, because switches match nominal fields without a mask; the cubes
/// themselves if there are too many values.
fn listed(cubes: Vec<Cube>, width: u8) -> Vec<Cube> {
    let free = |cube: &Cube| ones(width) & !cube.mask;
    let sizes = cubes.iter().map(|cube| 1u128.checked_shl(free(cube).count_ones()).unwrap_or(u128::MAX));
    if sizes.fold(0, u128::saturating_add) > MAX_LISTED {
        return cubes;
    }
    let mut values = BTreeSet::new();
    for cube in &cubes {
        // Counts through the bits that the mask leaves open.
        let mut open = 0_u128;
        loop {
            values.insert(Cube::new(cube.value | open, ones(width)));
            open = open.wrapping_sub(free(cube)) & free(cube);
            if open == 0 {
                break;
            }
        }
    }
    values.into_iter().collect()
}

/// The reference that holds exactly if this one does not.
fn negation(term: &Term) -> Option<Term> {
    match term {
        Term::AddressSet(set) => {
            let mut set = set.clone();
            set.negated = !set.negated;
            Some(Term::AddressSet(set))
        }
        Term::Resident { name, negated } => Some(Term::Resident { name: name.clone(), negated: !negated }),
        Term::Match(_) | Term::PortGroup { .. } | Term::Port { .. } => None,
    }
}
