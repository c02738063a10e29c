//! Conjunctions: what clauses of several ACLs share is in the switch once (ovs-fields(7), "Conjunctive Match Fields").
//!
//! # Contract
//! - Owner: one signature, see [`super::shape`]. Reads: one ACL that has it, its number, the places of its ports, sets that are
//!   not to be had member by member.
//! - Out: the flows of its dimensions but for the last, which is each ACL's own; for address sets the fact that [`super::set`]
//!   makes flows of.
//!
//! # Invariants
//! - The first dimension says where the packet is, and in which tier of rules. The others hold for all switches alike: no flow
//!   of theirs names a switch.
//! - A flow belongs to at most [`LONGEST`] conjunctions in each dimension, or the switch could not be told of it.

use ofpacket::{Action, Match};
use ovsdb::value::Atom;
use quantumnet_expr::{AddressSet, Family, Field, Term};
use quantumnet_model::{host::HostConjunction, nb::Acl};
use uuid::Uuid;

use super::{
    expression,
    rule::shapes,
    scope::Scope,
    set::Use,
    shape::{Line, Position, Shared},
};
use crate::compile::{
    index::By,
    owner::{Owner, Owners, Relation},
    register,
    sink::Sink,
    stage::Stage,
    table::Table,
    view::View,
};

pub(in crate::compile) const STAGE: Stage = Stage {
    number: 104,
    name: "conjunction",
    owners: Owners::Facts(Relation::Conjunctions),
    tables: &[Table::FromTrack, Table::FromPolicy, Table::AfterPolicy, Table::ToTrack, Table::ToPolicy],
    relations: &[Relation::SetUses],
    emit,
};

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(signature) = owner.fact().map(|fact| fact.value) else { return };
    let Some(number) = Number::of(view, signature) else { return };
    // Any ACL that has it says the same of what they share.
    let Some(acl) = view.related_one(Relation::Joined, signature) else { return };
    let Some(row) = view.row::<Acl>(acl) else { return };
    let scope = Scope::of(view, acl);
    let lines = [Line::policy(row), Line::around(row)].into_iter().flatten();
    let shapes = shapes(view, row).unwrap_or_default();
    let found = lines
        .flat_map(|line| shapes.iter().map(move |shape| (line, shape)))
        .find(|(line, shape)| line.signature(&scope, shape) == signature);
    let Some((line, shape)) = found else { return };
    let mut positions = shape.positions().into_iter();
    let ports: Vec<_> =
        if shape.ports.is_empty() { vec![None] } else { shape.ports.iter().map(Some).collect() };
    for (ports, position) in ports.into_iter().zip(positions.by_ref()) {
        for place in scope.places_of(view, line, ports) {
            number.term(out, line, line.of_tier(place.matches()), position);
        }
    }
    for (shared, position) in shape.shared.iter().zip(positions) {
        share(view, Part { number, line, position }, shared, out);
    }
}

/// One dimension of a conjunction.
#[derive(Clone, Copy)]
struct Part {
    number: Number,
    line: Line,
    position: Position,
}

fn share(view: &View<'_>, part: Part, shared: &Shared, out: &mut Sink) {
    let Some(base) = shared.base() else { return };
    let mut terms = Vec::new();
    for term in shared.dimension.terms() {
        match term {
            Term::Match(only) => terms.push(*only),
            Term::AddressSet(set) => match by_member(set, shared) {
                Some(field) => {
                    let named = Atom::String(set.name.as_str().into());
                    let row = view.uuids(By::AddressSetName, &[named]).into_iter().next();
                    let used = Use::new(part.line, part.number, field, part.position);
                    if let Some(row) = row {
                        out.fact(Relation::SetUses, row, u32::from(field.width()), used.packed());
                    }
                }
                None => terms.extend(expression::members(view, set)),
            },
            Term::PortGroup { .. } | Term::Port { .. } | Term::Resident { .. } => {}
        }
    }
    for matches in terms.into_iter().filter_map(|term| expression::with(&base, term)) {
        part.number.term(out, part.line, matches, part.position);
    }
}

/// The field whose flows a set's members have each by itself, if its members stand for themselves.
fn by_member(set: &AddressSet, shared: &Shared) -> Option<Field> {
    let Family::Field(field) = shared.dimension.family() else { return None };
    let whole =
        !set.negated && set.low == 0 && set.width == field.width() && set.symbol_width == field.width();
    (whole && super::set::FIELDS.contains(&field)).then_some(field)
}

/// The number of a conjunction.
#[derive(Clone, Copy, Debug)]
pub(in crate::compile::stage) struct Number {
    pub(in crate::compile::stage) id: u32,
    /// Which list it is in, of flows that have several.
    pub(super) list: u16,
}

impl Number {
    /// Of a signature; `None` while the agent has given it none.
    pub(in crate::compile::stage) fn of(view: &View<'_>, signature: Uuid) -> Option<Self> {
        let row = view.row::<HostConjunction>(signature)?;
        let id = u32::try_from(row.id).ok().filter(|id| *id > 0)?;
        Some(Self { id, list: u16::try_from(row.list).ok()? })
    }

    /// Wants a flow of one dimension.
    pub(super) fn term(self, out: &mut Sink, line: Line, matches: Match, position: Position) {
        let action = Action::conjunction(self.id, position.dimension, position.dimensions);
        out.flow(line.table, line.priority, apart(matches, self.list, position.again), [action]);
    }

    /// Tells the flows of different lists apart.
    pub(in crate::compile::stage) fn of_list(self, matches: Match) -> Match {
        apart(matches, self.list, 0)
    }
}

/// A match of a flow in that list, and of a field's dimension that comes after so many others: bits that are 0 in every packet make
/// it another flow.
pub(super) fn apart(matches: Match, list: u16, again: u8) -> Match {
    if list == 0 && again == 0 {
        return matches;
    }
    let bits = u32::from(list) << register::LIST.offset | u32::from(again) << register::AGAIN.offset;
    matches.with_masked(register::LIST.field, 0u32, bits)
}

/// Conjunctions of one list: with as many in each of two dimensions a flow still fits a message.
pub const LONGEST: usize = 1_024;
