//! Matches of routers' rules: policies, translations, exceptions.
//!
//! # Contract
//! - In: an expression, the router that it is about, what it is for. Out: flows that match it there: listed, where that takes few;
//!   else as a conjunction, whose number is asked for.
//!
//! # Invariants
//! - A name that nobody has, or a port of another datapath, matches nothing.
//! - What the switch can't match yields no flow, and the controller has told so. So does a conjunction without its number.

use ofpacket::{Action, Match, field};
use ovsdb::value::Atom;
use quantumnet_expr::{self as expr, Clause, Expr, Term};
use quantumnet_model::sb::PortBinding;
use uuid::Uuid;

use crate::compile::{
    index::By,
    logical::{self, on_switch},
    owner::{Relation, named},
    sink::Sink,
    stage::filter::{conjunction::Number, expression},
    table::Table,
    view::View,
};

/// A rule of a router.
pub(in crate::compile::stage) struct Rule {
    pub(in crate::compile::stage) router: Uuid,
    /// Key of the router.
    pub(in crate::compile::stage) key: u32,
    /// What it belongs to: another uuid in another table or with another priority.
    pub(in crate::compile::stage) of: Uuid,
    pub(in crate::compile::stage) table: Table,
    pub(in crate::compile::stage) priority: u16,
}

/// The clauses of a match; `None` if it is none.
pub(in crate::compile::stage) fn clauses(text: &str) -> Option<Vec<Clause>> {
    Expr::parse(text).ok()?.normalize().ok()
}

impl Rule {
    /// Flows for what fulfils one of the clauses; the sink's stage has to state `Relation::Numbered`. `narrow` adds what holds
    /// for all.
    pub(in crate::compile::stage) fn put(
        &self,
        view: &View<'_>,
        out: &mut Sink,
        clauses: &[Clause],
        narrow: &dyn Fn(Match) -> Match,
        actions: &[Action],
    ) {
        let base = narrow(on_switch(self.key));
        for (place, clause) in clauses.iter().enumerate() {
            let Some((base, dimensions)) = self.dimensions(view, &base, clause) else { continue };
            let product = dimensions.iter().fold(1usize, |all, terms| all.saturating_mul(terms.len()));
            if dimensions.len() < 2 || product <= LISTED {
                for matches in listed(base, &dimensions) {
                    out.flow(self.table, self.priority, matches, actions);
                }
                continue;
            }
            let number = named(named(self.of, &self.router.to_string()), &place.to_string());
            out.fact(Relation::Numbered, Uuid::nil(), 0, number);
            let (Some(number), Ok(clauses)) = (Number::of(view, number), u8::try_from(dimensions.len()))
            else {
                continue;
            };
            for (dimension, terms) in (0..clauses).zip(&dimensions) {
                for term in terms.iter().filter_map(|term| expression::with(&base, *term)) {
                    let action = Action::conjunction(number.id, dimension, clauses);
                    out.flow(self.table, self.priority, number.of_list(term), [action]);
                }
            }
            let all = base.with(field::CONJ_ID, number.id);
            out.flow(self.table, self.priority, all, actions);
        }
    }

    /// What a clause says of every packet, and its lists of alternatives; `None` if nothing fulfils it.
    fn dimensions(
        &self,
        view: &View<'_>,
        base: &Match,
        clause: &Clause,
    ) -> Option<(Match, Vec<Vec<expr::Match>>)> {
        let mut base = base.clone();
        for fixed in clause.fixed() {
            base = expression::with(&base, fixed)?;
        }
        let mut wide = Vec::new();
        for dimension in clause.wide() {
            let (mut terms, mut always) = (Vec::new(), false);
            for term in dimension.terms() {
                match term {
                    Term::Match(only) => terms.push(*only),
                    Term::AddressSet(set) => terms.extend(expression::members(view, set)),
                    // Groups are of switches' ports.
                    Term::PortGroup { .. } => {}
                    Term::Port { field, name } => {
                        let key = self.port(view, name);
                        let only =
                            |key: u16| expr::Match { field: *field, value: key.into(), mask: KEY_MASK };
                        terms.extend(key.map(only));
                    }
                    Term::Resident { name, negated } => {
                        let port = view.uuids(By::LogicalPort, &[Atom::String(name.as_str().into())]);
                        let resident = port.first().is_some_and(|port| view.holds(Relation::Resident, *port));
                        always |= resident != *negated;
                    }
                }
            }
            if !always {
                wide.push(terms);
            }
        }
        expression::settled(base, wide)
    }

    /// Key of a port of the router.
    fn port(&self, view: &View<'_>, name: &str) -> Option<u16> {
        let (_, binding) = view.find_one::<PortBinding>(By::LogicalPort, &[Atom::String(name.into())])?;
        logical::port_key(binding.tunnel_key).filter(|_| binding.datapath.uuid() == self.router)
    }
}

/// Every combination of alternatives.
fn listed(base: Match, dimensions: &[Vec<expr::Match>]) -> Vec<Match> {
    dimensions.iter().fold(vec![base], |all, terms| {
        let each = |matches: &Match| -> Vec<Match> {
            terms.iter().filter_map(|term| expression::with(matches, *term)).collect()
        };
        all.iter().flat_map(each).collect()
    })
}

/// A port's key fills its register.
const KEY_MASK: u128 = 0xffff_ffff;
/// As many flows a list may have; more are a conjunction.
const LISTED: usize = 16;
