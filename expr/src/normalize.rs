//! From a typed tree to the normal form.
//!
//! # Contract
//! - A pure function of the tree; parts in another order give the same clauses.
//! - Bounded: [`TooComplex`] says which bound was met, before memory or time runs away.
//!
//! # Invariants
//! - Fields that are prerequisites of others (`eth.type`, `ip.proto`, `icmp6.type`, `icmp6.code`) are multiplied out, one value a
//!   clause; all other fields keep their alternatives in one dimension.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::clause::{AddressSet, Clause, Family, Term, literal};
use crate::constant::ones;
use crate::cube::{self, TooMany};
use crate::dimension::{Both, Dim};
use crate::expr::{Comparison, Op, Text, Value};
use crate::{Expr, Field, Meaning};

/// Why an expression has no normal form.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum TooComplex {
    /// More alternatives that no dimension can hold together.
    #[error("{found} clauses are more than the {limit} allowed")]
    Clauses {
        /// Clauses found so far.
        found: usize,
        /// Most allowed.
        limit: usize,
    },
    /// More alternatives in all.
    #[error("{found} terms are more than the {limit} allowed")]
    Terms {
        /// Terms in all clauses.
        found: usize,
        /// Most allowed.
        limit: usize,
    },
    /// More masks of one field that are not prefixes.
    #[error("{found} masks of one field that are not prefixes are more than the {limit} allowed")]
    Masks {
        /// Masks found so far.
        found: usize,
        /// Most allowed.
        limit: usize,
    },
    /// A template whose value is not known, see [`Expr::expand_templates`].
    #[error("template `^{name}` is not expanded")]
    Template {
        /// Name of the variable.
        name: String,
    },
}

/// Most clauses of a normal form.
const MAX_CLAUSES: usize = 4096;
/// Most pairs of clauses that one `&&` multiplies.
const MAX_PAIRS: usize = 1 << 16;
/// Most terms of a normal form.
const MAX_TERMS: usize = 1 << 17;

impl From<TooMany> for TooComplex {
    fn from(TooMany(found): TooMany) -> Self {
        Self::Masks { found, limit: cube::MAX_CUBES }
    }
}

impl Expr {
    /// The expression as a disjunction of clauses; no clause if it is never true, a clause without dimensions if it always is.
    ///
    /// # Errors
    /// If the normal form would be too large, or if a template is not expanded.
    pub fn normalize(&self) -> Result<Vec<Clause>, TooComplex> {
        let product = lower(self, false)?.product()?;
        let found = product.iter().flatten().map(|dim| dim.cubes.len() + dim.references.len()).sum();
        if found > MAX_TERMS {
            return Err(TooComplex::Terms { found, limit: MAX_TERMS });
        }
        let clause = |dims: Dims| Clause { dimensions: dims.into_iter().map(Dim::finish).collect() };
        let mut clauses: Vec<Clause> = product.into_iter().map(clause).collect();
        clauses.sort_unstable();
        Ok(clauses)
    }
}

/// A conjunction, sorted.
type Dims = Vec<Dim>;

/// A tree without symbols and negations.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Form {
    Dim(Dim),
    All(Vec<Self>),
    Any(Vec<Self>),
}

/// Replaces symbols by fields and prerequisites by what they say. `negate` is for what lies within predicates; there a
/// negation includes the prerequisites.
fn lower(expr: &Expr, negate: bool) -> Result<Form, TooComplex> {
    let each = |parts: &[Expr]| parts.iter().map(|part| lower(part, negate)).collect::<Result<Vec<_>, _>>();
    Ok(match expr {
        Expr::Bool(value) if *value != negate => Form::All(Vec::new()),
        Expr::Bool(_) => Form::Any(Vec::new()),
        Expr::And(parts) => junction(!negate, each(parts)?),
        Expr::Or(parts) => junction(negate, each(parts)?),
        Expr::Resident { port: Text::Template(name), .. } => {
            return Err(TooComplex::Template { name: name.clone() });
        }
        Expr::Resident { port: Text::Literal(name), negated } => {
            let term = Term::Resident { name: name.clone(), negated: *negated != negate };
            Form::Dim(Dim {
                family: Family::Residence,
                cubes: Vec::new(),
                references: BTreeSet::from([term]),
            })
        }
        Expr::Compare(comparison) => lower_comparison(comparison, negate)?,
    })
}

fn junction(all: bool, parts: Vec<Form>) -> Form {
    if all { Form::All(parts) } else { Form::Any(parts) }
}

fn lower_comparison(comparison: &Comparison, negate: bool) -> Result<Form, TooComplex> {
    let template = comparison.values.iter().find_map(|value| match value {
        Value::Template(name) => Some(name),
        _ => None,
    });
    if let Some(name) = template {
        return Err(TooComplex::Template { name: name.clone() });
    }
    let symbol = comparison.symbol;
    let own = match symbol.meaning() {
        Meaning::Predicate(_) => return lower_predicate(comparison, negate),
        Meaning::Port(field) => Form::Dim(ports(field, comparison)),
        Meaning::Bits { field, low } => lower_bits(comparison, field, low + comparison.low, negate)?,
    };
    let Some(prerequisite) = symbol.expansion() else { return Ok(own) };
    let satisfied = Form::All(vec![own, lower(prerequisite, false)?]);
    // Where a prerequisite fails the field is no part of it, or flows would name it without its prerequisites.
    Ok(if negate { Form::Any(vec![satisfied, lower(prerequisite, true)?]) } else { satisfied })
}

fn lower_predicate(comparison: &Comparison, negate: bool) -> Result<Form, TooComplex> {
    let Some(expansion) = comparison.symbol.expansion() else { return Ok(Form::Any(Vec::new())) };
    let unequal = comparison.op == Op::Ne;
    let mut parts = Vec::new();
    for value in &comparison.values {
        let Value::Integer(constant) = value else { continue };
        let positive = (constant.value() & 1 == 1) != unequal;
        parts.push(lower(expansion, positive == negate)?);
    }
    Ok(junction(unequal != negate, parts))
}

/// Names of ports are only ever compared for equality, and not negated in predicates.
fn ports(field: Field, comparison: &Comparison) -> Dim {
    let term = |value: &Value| match value {
        Value::String(name) => Some(Term::Port { field, name: name.clone() }),
        Value::PortGroup(name) => Some(Term::PortGroup { field, name: name.clone() }),
        Value::Integer(_) | Value::AddressSet(_) | Value::Template(_) => None,
    };
    let references = comparison.values.iter().filter_map(term).collect();
    Dim::new(Family::Field(field), Vec::new(), references)
}

fn lower_bits(comparison: &Comparison, field: Field, low: u8, negate: bool) -> Result<Form, TooComplex> {
    let width = comparison.width;
    let op = if negate { comparison.op.inverted() } else { comparison.op };
    let mut constants = Vec::new();
    let mut sets = BTreeSet::new();
    for value in &comparison.values {
        match value {
            Value::Integer(constant) => constants.push(constant),
            Value::AddressSet(name) => drop(sets.insert(Term::AddressSet(AddressSet {
                field,
                name: name.clone(),
                negated: op == Op::Ne,
                low,
                width,
                symbol_width: comparison.symbol.width(),
            }))),
            Value::String(_) | Value::PortGroup(_) | Value::Template(_) => {}
        }
    }
    if op.is_ordering() {
        let value = constants.first().map_or(0, |constant| constant.value() & ones(width));
        let (above, below) = (value.checked_add(1), value.checked_sub(1));
        let range = match op {
            Op::Lt => below.map(|below| (0, below)),
            Op::Le => Some((0, value)),
            Op::Gt => above.map(|above| (above, ones(width))),
            _ => Some((value, ones(width))),
        };
        let cubes = range.map_or_else(Vec::new, |(from, to)| cube::between(from, to, width, low));
        return Ok(Form::Dim(Dim::literal(field, cubes)));
    }
    let cubes = constants.into_iter().map(|constant| literal(constant, low, width)).collect();
    let cubes = cube::union(cubes, field.width())?;
    if op == Op::Eq {
        return Ok(Form::Dim(Dim::new(Family::Field(field), cubes, sets)));
    }
    let outside = Dim::literal(field, cube::complement(&cubes, field.width())?);
    let unequal = sets.into_iter().map(|set| Dim::reference(Family::Field(field), set));
    Ok(Form::All(unequal.chain([outside]).map(Form::Dim).collect()))
}

impl Form {
    /// The disjunction of conjunctions that it is.
    fn product(self) -> Result<Vec<Dims>, TooComplex> {
        match self {
            Self::Dim(dim) => conjoined(&Vec::new(), &[dim]).map(|dims| split(dims.into_iter().collect())),
            Self::Any(parts) => {
                let mut clauses = Vec::new();
                for part in parts {
                    clauses.extend(part.product()?);
                }
                compressed(clauses)
            }
            Self::All(mut parts) => {
                parts.sort_unstable();
                parts.dedup();
                let mut dims = Vec::new();
                let mut factors = Vec::new();
                for part in parts {
                    match part {
                        Self::Dim(dim) => dims.push(dim),
                        other => factors.push(other.product()?),
                    }
                }
                dims.sort_by(Dim::by_size);
                let own = conjoined(&Vec::new(), &dims)?;
                let mut clauses = split(own.into_iter().collect());
                factors.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
                for factor in factors {
                    clauses = multiplied(&clauses, &factor)?;
                }
                Ok(clauses)
            }
        }
    }
}

fn multiplied(left: &[Dims], right: &[Dims]) -> Result<Vec<Dims>, TooComplex> {
    let found = left.len().saturating_mul(right.len());
    if found > MAX_PAIRS {
        return Err(TooComplex::Clauses { found, limit: MAX_PAIRS });
    }
    let mut clauses = Vec::new();
    for a in left {
        for b in right {
            clauses.extend(conjoined(a, b)?);
        }
    }
    compressed(split(clauses))
}

/// `dims` and `others`; nothing if they contradict each other.
fn conjoined(dims: &Dims, others: &[Dim]) -> Result<Option<Dims>, TooComplex> {
    let mut all = dims.clone();
    'others: for other in others {
        let mut other = other.clone();
        let mut i = 0;
        while i < all.len() && !other.is_full() {
            if all[i].family == other.family {
                match all[i].and(&other)? {
                    Both::One(both) if both == all[i] => continue 'others,
                    Both::One(both) => {
                        // What is narrower now may also decide about those that were passed.
                        other = both;
                        all.remove(i);
                        i = 0;
                        continue;
                    }
                    Both::Two => {}
                }
            }
            i += 1;
        }
        if other.is_empty() {
            return Ok(None);
        }
        if !other.is_full() {
            all.push(other);
        }
    }
    all.sort_unstable();
    Ok(Some(all))
}

/// Multiplies out the prerequisites of other fields.
fn split(clauses: Vec<Dims>) -> Vec<Dims> {
    let mut done = Vec::with_capacity(clauses.len());
    let mut open = clauses;
    while let Some(dims) = open.pop() {
        let wide = dims.iter().position(|dim| dim.is_prerequisite() && dim.cubes.len() > 1 && dim.is_exact());
        let Some(at) = wide else {
            done.push(dims);
            continue;
        };
        for cube in &dims[at].cubes {
            let mut one = dims.clone();
            one[at].cubes = vec![*cube];
            open.push(one);
        }
    }
    done
}

/// Joins clauses that differ in one family, and leaves out those within others.
fn compressed(mut clauses: Vec<Dims>) -> Result<Vec<Dims>, TooComplex> {
    loop {
        clauses.sort_unstable();
        clauses.dedup();
        let before = clauses.len();
        let families: BTreeSet<Family> = clauses.iter().flatten().map(|dim| dim.family).collect();
        for family in families {
            clauses = joined(clauses, family)?;
        }
        if clauses.len() == before {
            break;
        }
    }
    let found = clauses.len();
    if found > MAX_CLAUSES {
        return Err(TooComplex::Clauses { found, limit: MAX_CLAUSES });
    }
    let within = |a: &Dims, b: &Dims| b.iter().all(|wider| a.iter().any(|dim| dim.is_within(wider)));
    let needed: Vec<bool> = (0..found)
        .map(|i| {
            (0..found).all(|j| {
                // Of two that hold the same packets the first stays.
                i == j || !within(&clauses[i], &clauses[j]) || (i < j && within(&clauses[j], &clauses[i]))
            })
        })
        .collect();
    let mut needed = needed.into_iter();
    clauses.retain(|_| needed.next().unwrap_or(true));
    Ok(clauses)
}

/// Joins clauses that have one dimension of this family each and are otherwise equal.
fn joined(clauses: Vec<Dims>, family: Family) -> Result<Vec<Dims>, TooComplex> {
    let mut others = Vec::with_capacity(clauses.len());
    let mut alike: BTreeMap<Dims, Vec<Dim>> = BTreeMap::new();
    for mut dims in clauses {
        let mut of_family = dims.iter().enumerate().filter(|(_, dim)| dim.family == family).map(|(at, _)| at);
        match (of_family.next(), of_family.next()) {
            (Some(at), None) if !dims[at].is_prerequisite() => {
                let dim = dims.remove(at);
                alike.entry(dims).or_default().push(dim);
            }
            _ => others.push(dims),
        }
    }
    for (mut dims, alternatives) in alike {
        let cubes = alternatives.iter().flat_map(|dim| &dim.cubes).copied().collect();
        let references = alternatives.into_iter().flat_map(|dim| dim.references).collect();
        let width = match family {
            Family::Field(field) => field.width(),
            Family::Residence => 0,
        };
        let joined = Dim::new(family, cube::union(cubes, width)?, references);
        if !joined.is_full() {
            dims.push(joined);
            dims.sort_unstable();
        }
        others.push(dims);
    }
    others.sort_unstable();
    Ok(others)
}
