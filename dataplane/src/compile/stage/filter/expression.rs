//! From an expression's normal form to matches of the switch: plain ones, or conjunctive ones where several dimensions have
//! several terms (ovs-fields(7), "Conjunctive Match Fields").
//!
//! # Contract
//! - In: a clause, the switch it is about, who is in its sets and groups. Out: matches of one priority, each with its
//!   part in the clause.
//!
//! # Invariants
//! - A name that nobody has matches nothing.
//! - What the switch can't match yields no match at all, and the controller has told so.

use ofpacket::Match;
use ovsdb::value::Atom;
use quantumnet_expr::{self as expr, AddressSet, Clause, Field, Term};
use quantumnet_model::sb::{self, PortBinding};
use uuid::Uuid;

use crate::compile::{
    index::By,
    logical,
    owner::{Relation, pair},
    register,
    view::View,
};

/// One match of a clause.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    /// Whatever it matches, the clause matches.
    Whole(Match),
    /// One term of dimension `dimension` of `dimensions`.
    Term {
        /// The term, with what all flows of the clause carry.
        matches: Match,
        /// From 0.
        dimension: u8,
        /// At least 2.
        dimensions: u8,
    },
}

/// A switch, as expressions see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The switch.
    pub(crate) switch: Uuid,
    /// Its key.
    pub(crate) key: u32,
}

/// The matches of a clause; none if nothing fulfils it.
pub(crate) fn parts(view: &View<'_>, place: Place, clause: &Clause) -> Vec<Part> {
    let mut base = logical::on_switch(place.key);
    for fixed in clause.fixed() {
        match with(&base, fixed) {
            Some(matches) => base = matches,
            None => return Vec::new(),
        }
    }
    let mut wide: Vec<Vec<expr::Match>> = Vec::new();
    for dimension in clause.wide() {
        let mut terms = Vec::new();
        let mut always = false;
        for term in dimension.terms() {
            match resolve(view, place, term) {
                Resolved::Always => always = true,
                Resolved::Terms(resolved) => terms.extend(resolved),
            }
        }
        terms.sort_unstable();
        terms.dedup();
        if !always {
            wide.push(terms);
        }
    }
    // Dimensions that have come down to one term are like fixed ones.
    let (single, wide): (Vec<_>, Vec<_>) = wide.into_iter().partition(|terms| terms.len() <= 1);
    for terms in single {
        match terms.first().and_then(|only| with(&base, *only)) {
            Some(matches) => base = matches,
            None => return Vec::new(),
        }
    }
    let Ok(dimensions) = u8::try_from(wide.len()) else { return Vec::new() };
    let matches = |terms: Vec<expr::Match>| -> Vec<Match> {
        terms.into_iter().filter_map(|term| with(&base, term)).collect()
    };
    match dimensions {
        0 => vec![Part::Whole(base)],
        1 => wide.into_iter().flat_map(matches).map(Part::Whole).collect(),
        _ => (0..dimensions)
            .zip(wide)
            .flat_map(|(dimension, terms)| {
                matches(terms).into_iter().map(move |matches| Part::Term { matches, dimension, dimensions })
            })
            .collect(),
    }
}

enum Resolved {
    Always,
    Terms(Vec<expr::Match>),
}

fn resolve(view: &View<'_>, place: Place, term: &Term) -> Resolved {
    let key = |field, key: u128| expr::Match { field, value: key, mask: KEY_MASK };
    Resolved::Terms(match term {
        Term::Match(only) => vec![*only],
        Term::AddressSet(set) => members(view, set),
        Term::PortGroup { field, name } => {
            let groups = view.uuids(By::GroupName, &[Atom::String(name.as_str().into())]);
            let keys = groups
                .iter()
                .flat_map(|group| view.related(Relation::GroupKeys, pair(*group, place.switch), 0));
            keys.map(|number| key(*field, number.as_u128())).collect()
        }
        Term::Port { field, name } => {
            let named = Atom::String(name.as_str().into());
            let found = view.find_one::<PortBinding>(By::LogicalPort, &[named]);
            let here = found.filter(|(_, binding)| binding.datapath.uuid() == place.switch);
            let number = here.and_then(|(_, binding)| logical::port_key(binding.tunnel_key));
            number.map(|number| key(*field, number.into())).into_iter().collect()
        }
        Term::Resident { name, negated } => {
            let named = Atom::String(name.as_str().into());
            let port = view.uuids(By::LogicalPort, &[named]).first().copied();
            let resident = port.is_some_and(|port| view.holds(Relation::Resident, port));
            if resident != *negated {
                return Resolved::Always;
            }
            Vec::new()
        }
    })
}

fn members(view: &View<'_>, set: &AddressSet) -> Vec<expr::Match> {
    let named = Atom::String(set.name.as_str().into());
    let Some((_, row)) = view.find_one::<sb::AddressSet>(By::AddressSetName, &[named]) else {
        return Vec::new();
    };
    let members: Vec<expr::Constant> = row.addresses.iter().filter_map(|text| text.parse().ok()).collect();
    // Too many masks are no prefixes: the controller has told so.
    set.matches(&members).unwrap_or_default()
}

/// Both; `None` if they contradict each other or the switch has no such field.
fn with(matches: &Match, term: expr::Match) -> Option<Match> {
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

/// A port's key fills its register.
const KEY_MASK: u128 = 0xffff_ffff;
