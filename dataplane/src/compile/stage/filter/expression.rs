//! From terms of an expression's normal form to matches of the switch.
//!
//! # Invariants
//! - A name that nobody has matches nothing.
//! - What the switch can't match yields no match at all, and the controller has told so.

use ofpacket::Match;
use ovsdb::value::Atom;
use quantumnet_expr::{self as expr, AddressSet, Dimension, Field, Term};
use quantumnet_model::sb;

use crate::compile::{index::By, owner::Relation, register, view::View};

/// Whether any port is where a dimension of residence wants it.
pub(crate) fn any_resides(view: &View<'_>, dimension: &Dimension) -> bool {
    dimension.terms().iter().any(|term| {
        let Term::Resident { name, negated } = term else { return false };
        let named = Atom::String(name.as_str().into());
        let port = view.uuids(By::LogicalPort, &[named]).first().copied();
        port.is_some_and(|port| view.holds(Relation::Resident, port)) != *negated
    })
}

/// What a set stands for.
pub(crate) fn members(view: &View<'_>, set: &AddressSet) -> Vec<expr::Match> {
    let named = Atom::String(set.name.as_str().into());
    let Some((_, row)) = view.find_one::<sb::AddressSet>(By::AddressSetName, &[named]) else {
        return Vec::new();
    };
    let members: Vec<expr::Constant> = row.addresses.iter().filter_map(|text| text.parse().ok()).collect();
    // Too many masks are no prefixes: the controller has told so.
    set.matches(&members).unwrap_or_default()
}

/// Both; `None` if they contradict each other or the switch has no such field.
pub(crate) fn with(matches: &Match, term: expr::Match) -> Option<Match> {
    let place = match term.field {
        Field::Inport => register::IN_PORT,
        Field::Outport => register::OUT_PORT,
        field => field.openflow().filter(|_| term.is_matchable())?,
    };
    if let Some((value, mask)) = matches.get(place)
        && (value ^ term.value) & mask & term.mask != 0
    {
        return None;
    }
    if term.mask == 0 {
        return Some(matches.clone());
    }
    Some(matches.clone().with_masked(place, term.value, term.mask))
}
