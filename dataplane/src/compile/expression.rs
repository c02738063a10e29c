//! From an expression's normal form to matches of one switch, for rules that belong to one: plain ones, or conjunctive ones where several dimensions have
//! several terms (ovs-fields(7), "Conjunctive Match Fields").
//!
//! # Contract
//! - In: clauses, the switch they are about, who is in their sets and groups. Out: matches of one priority, each with its
//!   part in its clause, and the flows of a rule that does something to what it matches.
//!
//! # Invariants
//! - A name that nobody has matches nothing.
//! - What the switch can't match yields no match at all, and the controller has told so.

use ofpacket::{Action, ETH_TYPE_IPV4, ETH_TYPE_IPV6, Match, field};
use ovsdb::value::Atom;
use quantumnet_expr::{self as expr, Clause, Term};
use quantumnet_model::{host::HostRule, sb::PortBinding};
use uuid::Uuid;

use crate::compile::{
    index::By,
    logical::{self, on_switch},
    owner::{Relation, pair},
    sink::Sink,
    stage::filter::expression::{members, settled, with},
    table::Table,
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
    /// The only port that matches are about, if they are: the register that has to have its key, and the key.
    pub(crate) port: Option<(ofpacket::Field, u16)>,
}

impl Place {
    /// All of a switch.
    pub(crate) const fn of_switch(switch: Uuid, key: u32) -> Self {
        Self { switch, key, port: None }
    }

    /// What all its packets have.
    fn base(self) -> Match {
        let base = on_switch(self.key);
        match self.port {
            Some((register, key)) => base.with(register, key),
            None => base,
        }
    }
}

/// The matches of a clause; none if nothing fulfils it.
pub(crate) fn parts(view: &View<'_>, place: Place, clause: &Clause) -> Vec<Part> {
    let mut base = place.base();
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
        if !always {
            wide.push(terms);
        }
    }
    let Some((base, wide)) = settled(base, wide) else { return Vec::new() };
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

/// Where flows of a rule go.
pub(crate) struct RuleFlows {
    /// The table.
    pub(crate) table: Table,
    /// Their priority.
    pub(crate) priority: u16,
    /// Where they are.
    pub(crate) place: Place,
    /// The first of the rule's conjunction ids. Clauses that need them have no flows while it has none.
    pub(crate) conjunction: Option<u32>,
    /// What the rule does can be done to IP only, so that it is about nothing else.
    pub(crate) ip_only: bool,
}

impl RuleFlows {
    /// Wants the flows: `actions` for whatever fulfils a clause, narrowed further by `narrow`.
    pub(crate) fn put(
        &self,
        out: &mut Sink,
        clauses: &[Vec<Part>],
        narrow: &dyn Fn(Match) -> Match,
        actions: &[Action],
    ) {
        for (clause, parts) in (0u32..).zip(clauses) {
            let conjunction = self.conjunction.filter(|_| clause < CONJUNCTIONS);
            let mut conjunctive = false;
            for part in parts {
                match part {
                    Part::Whole(matches) => self.act(out, narrow(matches.clone()), actions),
                    Part::Term { matches, dimension, dimensions } => {
                        let Some(base) = conjunction else { continue };
                        conjunctive = true;
                        let term = Action::conjunction(base + clause, *dimension, *dimensions);
                        out.flow(self.table, self.priority, narrow(matches.clone()), [term]);
                    }
                }
            }
            if let Some(base) = conjunction.filter(|_| conjunctive) {
                let all = self.place.base().with(field::CONJ_ID, base + clause);
                self.act(out, all, actions);
            }
        }
    }

    fn act(&self, out: &mut Sink, matches: Match, actions: &[Action]) {
        if !self.ip_only {
            out.flow(self.table, self.priority, matches, actions);
            return;
        }
        let (found, mask) = matches.get(field::ETH_TYPE).unwrap_or((0, 0));
        for family in [ETH_TYPE_IPV4, ETH_TYPE_IPV6] {
            if (found ^ u128::from(family)) & mask == 0 {
                out.flow(self.table, self.priority, matches.clone().eth_type(family), actions);
            }
        }
    }
}

/// The first conjunction id of a rule; `None` while the agent has given it none.
pub(crate) fn conjunction(view: &View<'_>, rule: Uuid) -> Option<u32> {
    u32::try_from(view.row::<HostRule>(rule)?.conjunction).ok()
}

/// Conjunction ids of one rule; see `Host_Rule.conjunction`.
pub const CONJUNCTIONS: u32 = 256;
/// A port's key fills its register.
const KEY_MASK: u128 = 0xffff_ffff;
