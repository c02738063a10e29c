//! The normal form: a disjunction of clauses, each a conjunction of dimensions, each a disjunction of terms over one field.
//!
//! # Contract
//! - A consumer makes of a clause plain flows if at most one dimension is [wide](Dimension::is_wide), else a conjunctive match
//!   with one dimension `k/n` per wide dimension (ovs-fields(7), "Conjunctive Match Fields"). Every flow of a clause also carries
//!   the clause's [fixed](Clause::fixed) matches.
//!
//! # Invariants
//! - What OpenFlow demands before a field of the clause may be named is among the fixed matches, so no flow lacks a prerequisite.
//! - A field has at most one dimension without references; dimensions with references may repeat it.
//! - Clauses, dimensions and terms are sorted and distinct; equal expressions up to order have equal normal forms.

use std::fmt;

use crate::constant::{Constant, ones};
use crate::cube::{self, Cube, TooMany};
use crate::{Field, TooComplex};

/// All of its dimensions. A clause without dimensions is always true.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Clause {
    pub(crate) dimensions: Vec<Dimension>,
}

/// Any of its terms, all over one field.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Dimension {
    pub(crate) family: Family,
    pub(crate) terms: Vec<Term>,
}

/// What the terms of a dimension are about.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Family {
    /// A field of the packet or the pipeline.
    Field(Field),
    /// Where ports are; known before any packet.
    Residence,
}

/// One alternative. Ports and port groups are never negated, because names are nominal.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Term {
    /// Bits of a field.
    Match(Match),
    /// Members of an address set.
    AddressSet(AddressSet),
    /// Membership in a port group.
    PortGroup {
        /// `Inport` or `Outport`.
        field: Field,
        /// Name of the group.
        name: String,
    },
    /// A logical port.
    Port {
        /// `Inport` or `Outport`.
        field: Field,
        /// Name of the port.
        name: String,
    },
    /// Whether this hypervisor has a port.
    Resident {
        /// The logical port.
        name: String,
        /// Whether it must not have it.
        negated: bool,
    },
}

/// A field's bits under a mask, ready for `ofpacket`'s `Match` where [`Field::openflow`] gives a field.
///
/// Switches match nominal fields only as a whole. Their values are listed, but for `eth.type` and `arp.op` where they are
/// very many, as in `!ip4.mcast` (`eth.type` is not 0x800) or `arp.op == 0/1`: [`Match::is_matchable`] tells, and a pipeline
/// copies the field to a register to match it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Match {
    /// The field.
    pub field: Field,
    /// Value of the bits, 0 outside the mask.
    pub value: u128,
    /// The bits that count; never none.
    pub mask: u128,
}

/// Some bits of a field against the members of an address set.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AddressSet {
    /// The field.
    pub field: Field,
    /// Name of the set.
    pub name: String,
    /// Whether the bits must differ from every member.
    pub negated: bool,
    /// First bit of the field that is compared with bit 0 of a member.
    pub low: u8,
    /// Bits that are compared.
    pub width: u8,
    /// Width of the symbol, which says the family of members that count.
    pub symbol_width: u8,
}

impl Clause {
    /// Its dimensions, in the order of fields.
    pub fn dimensions(&self) -> &[Dimension] {
        &self.dimensions
    }

    /// The dimensions of exactly one match: what every flow of the clause carries.
    pub fn fixed(&self) -> impl Iterator<Item = Match> {
        self.dimensions.iter().filter_map(Dimension::fixed)
    }

    /// The dimensions of several terms, or with references.
    pub fn wide(&self) -> impl Iterator<Item = &Dimension> {
        self.dimensions.iter().filter(|dimension| dimension.is_wide())
    }
}

impl Dimension {
    /// What its terms are about.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Its alternatives, at least one; matches come before references.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Whether it is more than one match.
    pub fn is_wide(&self) -> bool {
        self.fixed().is_none()
    }

    fn fixed(&self) -> Option<Match> {
        match self.terms.as_slice() {
            [Term::Match(only)] => Some(*only),
            _ => None,
        }
    }
}

impl Match {
    /// Whether Open vSwitch can match it: either the whole field or a field that takes masks.
    pub fn is_matchable(&self) -> bool {
        self.mask == ones(self.field.width()) || self.field.level() == crate::Level::Ordinal
    }
}

impl AddressSet {
    /// What the set stands for with these members; those of another family do not count. The result is a disjunction, empty if
    /// nothing matches, and of one match without mask bits if everything does.
    ///
    /// # Errors
    /// If members have so many masks that are not prefixes that their complement cannot be listed.
    pub fn matches(&self, members: &[Constant]) -> Result<Vec<Match>, TooComplex> {
        let cube = |member: &Constant| literal(member, self.low, self.width);
        let cubes =
            members.iter().filter(|member| member.is_of_family(self.symbol_width)).map(cube).collect();
        let cubes = cube::union(cubes, self.field.width()).and_then(|cubes| {
            if self.negated { cube::complement(&cubes, self.field.width()) } else { Ok(cubes) }
        });
        let cubes = cubes.map_err(|TooMany(found)| TooComplex::Masks { found, limit: cube::MAX_CUBES })?;
        Ok(cubes
            .into_iter()
            .map(|cube| Match { field: self.field, value: cube.value, mask: cube.mask })
            .collect())
    }
}

/// The constant compared with `width` bits from `low` on. Bits of the constant beyond `width` do not count, as in OVN.
pub(crate) fn literal(constant: &Constant, low: u8, width: u8) -> Cube {
    let mask = constant.mask().unwrap_or(u128::MAX) & ones(width);
    Cube::new(constant.value() << low, mask << low)
}

impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dimensions.is_empty() {
            return f.write_str("1");
        }
        for (i, dimension) in self.dimensions.iter().enumerate() {
            write!(f, "{}{dimension}", if i == 0 { "" } else { " && " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [term] = self.terms.as_slice() {
            return term.fmt(f);
        }
        for (i, term) in self.terms.iter().enumerate() {
            write!(f, "{}{term}", if i == 0 { "(" } else { " | " })?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = |negated: bool| if negated { "!" } else { "" };
        match self {
            Self::Match(only) => only.fmt(f),
            Self::AddressSet(set) => {
                write!(f, "{}", set.field)?;
                if set.width != set.field.width() {
                    write!(f, "[{}..{}]", set.low, set.low + (set.width - 1))?;
                }
                write!(f, "{}=${}", not(set.negated), set.name)
            }
            Self::PortGroup { field, name } => write!(f, "{field}=@{name}"),
            Self::Port { field, name } => write!(f, "{field}={name:?}"),
            Self::Resident { name, negated } => write!(f, "{}resident({name:?})", not(*negated)),
        }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:#x}", self.field, self.value)?;
        if self.mask == ones(self.field.width()) { Ok(()) } else { write!(f, "/{:#x}", self.mask) }
    }
}
