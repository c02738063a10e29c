//! From terms of an expression's normal form to matches of the switch.
//!
//! # Invariants
//! - A name that nobody has matches nothing.
//! - What the switch can't match yields no match at all, and the controller has told so.

use std::collections::BTreeMap;

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

/// What all flows of a clause match, and its lists of alternatives, of which there is one for each field and none for what has come
/// down to one alternative: Open vSwitch wants a flow for each dimension of a conjunction, and of one field two could be the
/// same. `None` if nothing fulfils the clause.
pub(crate) fn settled(
    mut base: Match,
    lists: Vec<Vec<expr::Match>>,
) -> Option<(Match, Vec<Vec<expr::Match>>)> {
    let mut of_field: BTreeMap<Field, Vec<expr::Match>> = BTreeMap::new();
    for list in lists {
        let field = list.first()?.field;
        let merged = match of_field.get(&field) {
            Some(known) => {
                known.iter().flat_map(|one| list.iter().filter_map(|other| both(*one, *other))).collect()
            }
            None => list,
        };
        of_field.insert(field, merged);
    }
    let mut wide = Vec::new();
    for mut list in of_field.into_values() {
        list.retain(|term| with(&base, *term).is_some());
        list.sort_unstable();
        list.dedup();
        match list.as_slice() {
            [] => return None,
            [only] => base = with(&base, *only)?,
            _ if list.iter().all(|term| with(&base, *term).as_ref() == Some(&base)) => {}
            _ => wide.push(list),
        }
    }
    Some((base, wide))
}

/// What fulfils two terms of one field.
fn both(one: expr::Match, other: expr::Match) -> Option<expr::Match> {
    if (one.value ^ other.value) & one.mask & other.mask != 0 {
        return None;
    }
    let value = one.value & one.mask | other.value & other.mask;
    Some(expr::Match { value, mask: one.mask | other.mask, ..one })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(value: u128, length: u32) -> expr::Match {
        expr::Match { field: Field::Ip4Src, value, mask: (0xffff_ffff << (32 - length)) & 0xffff_ffff }
    }

    #[test]
    fn lists_of_one_field_are_one() {
        let port = |value| expr::Match { field: Field::TcpDst, value, mask: 0xffff };
        let (ports, net) = (vec![port(22), port(80)], source(0x0a00_0000, 8));
        let [near, far] = [source(0x0a00_0001, 32), source(0x0b00_0001, 32)];
        let base = || Match::new().ipv4().with(ofpacket::field::IP_PROTO, 6u8);
        let with_near = with(&base(), near).expect("it has the field");
        for (lists, expected) in [
            (vec![vec![near, far], ports.clone()], Some((base(), vec![vec![near, far], ports.clone()]))),
            (
                vec![vec![near, far], ports.clone(), vec![far, net]],
                Some((base(), vec![vec![near, far], ports.clone()])),
            ),
            (vec![vec![near, far], ports.clone(), vec![net]], Some((with_near, vec![ports.clone()]))),
            (vec![vec![near], vec![far]], None),
            (vec![ports, Vec::new()], None),
        ] {
            assert_eq!(settled(base(), lists.clone()), expected, "{lists:?}");
        }
    }
}
