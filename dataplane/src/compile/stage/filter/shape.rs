//! What a clause has in common with others, and what it says alone.
//!
//! # Contract
//! - In: a clause of a rule's normal form. Out: its dimensions of ports; those it may share with other clauses (address sets and
//!   long lists), each with the prerequisites that its flows need; and what is its own: single matches and one list.
//! - [`Line`]: the table, priority and tier that an ACL's flows have.
//! - [`Line::signature`]: names what is shared. Clauses of one signature are one conjunction.
//!
//! # Invariants
//! - All that a clause says is said by one of its parts: what no shared dimension carries is its own.
//! - No flow is in two dimensions of a conjunction: Open vSwitch counts the flows that a packet meets, and with fewer than
//!   dimensions it is not complete. See [`Position::again`].
//! - Where ports are does not depend on the packet and is decided before.

use std::fmt::Write as _;

use ofpacket::Match;
use quantumnet_expr::{self as expr, Clause, Dimension, Family, Field, Term};
use quantumnet_model::nb::Acl;
use uuid::Uuid;

use super::{PRIORITY_ACL, Round, expression, scope::Scope};
use crate::compile::{register, table::Table, view::View};

/// A clause in parts.
pub(super) struct Shape {
    /// Of ports; the first says where the packet is.
    pub(super) ports: Vec<Dimension>,
    /// Others that flows are shared for.
    pub(super) shared: Vec<Shared>,
    fixed: Vec<expr::Match>,
    own: Option<Dimension>,
    /// Whether there is anything of its own to match.
    pub(super) rest: bool,
}

/// A dimension with what its flows have to match besides.
pub(super) struct Shared {
    /// Prerequisites (OpenFlow 1.3.5, section 7.2.3.8) among what is fixed.
    needs: Vec<expr::Match>,
    /// The dimension.
    pub(super) dimension: Dimension,
}

impl Shape {
    /// Of a clause; `None` if ports are not where it wants them.
    pub(super) fn of(view: &View<'_>, clause: &Clause) -> Option<Self> {
        let fixed: Vec<expr::Match> = clause.fixed().collect();
        let (mut ports, mut shared, mut lists) = (Vec::new(), Vec::new(), Vec::new());
        for dimension in clause.wide() {
            match dimension.family() {
                Family::Residence if expression::any_resides(view, dimension) => {}
                Family::Residence => return None,
                Family::Field(Field::Inport | Field::Outport) => ports.push(dimension.clone()),
                Family::Field(field) => {
                    let dimension = dimension.clone();
                    if dimension.terms().iter().all(|term| matches!(term, Term::Match(_))) {
                        lists.push((field, dimension));
                    } else {
                        shared.push(Shared { needs: prerequisites(field, &fixed), dimension });
                    }
                }
            }
        }
        let own = lists.pop().map(|(_, dimension)| dimension);
        for (field, dimension) in lists {
            shared.push(Shared { needs: prerequisites(field, &fixed), dimension });
        }
        let carried = |only: &expr::Match| shared.iter().any(|shared| shared.needs.contains(only));
        let rest = own.is_some() || !fixed.iter().all(carried);
        Some(Self { ports, shared, fixed, own, rest })
    }

    /// What the clause says alone; nothing if the switch can't match it.
    pub(super) fn rest(&self) -> Vec<Match> {
        let mut base = Match::new();
        for fixed in &self.fixed {
            match expression::with(&base, *fixed) {
                Some(matches) => base = matches,
                None => return Vec::new(),
            }
        }
        match &self.own {
            None => vec![base],
            Some(dimension) => listed(dimension).filter_map(|term| expression::with(&base, term)).collect(),
        }
    }

    /// How many dimensions its conjunction has.
    pub(super) fn dimensions(&self) -> usize {
        self.ports.len().max(1) + self.shared.len() + usize::from(self.rest)
    }

    /// Each of them, in order: ports, what is shared, and what is its own. None if there are more than a conjunction may have, of
    /// which the controller has told.
    pub(super) fn positions(&self) -> Vec<Position> {
        let fields = self.fields();
        let Some(dimensions) = u8::try_from(fields.len()).ok().filter(|count| *count <= DIMENSIONS_MAX)
        else {
            return Vec::new();
        };
        let again = |at: usize, own: &[Field]| {
            fields.iter().take(at).filter(|before| before.iter().any(|field| own.contains(field))).count()
        };
        let places = (0..dimensions).zip(fields.iter().enumerate());
        let position = |(dimension, (at, own)): (u8, (usize, &Vec<Field>))| {
            Some(Position { dimension, dimensions, again: u8::try_from(again(at, own)).ok()? })
        };
        places.filter_map(position).collect()
    }

    /// The fields of each dimension, without what its flows match besides.
    fn fields(&self) -> Vec<Vec<Field>> {
        let of = |dimension: &Dimension| match dimension.family() {
            Family::Field(field) => vec![field],
            Family::Residence => Vec::new(),
        };
        let mut all: Vec<Vec<Field>> = self.ports.iter().map(of).collect();
        all.resize(self.ports.len().max(1), Vec::new());
        all.extend(self.shared.iter().map(|shared| of(&shared.dimension)));
        if self.rest {
            let own = self.own.iter().flat_map(of);
            all.push(self.fixed.iter().map(|fixed| fixed.field).chain(own).collect());
        }
        all
    }

    /// All that it matches in few places, if listing that takes no more flows than the conjunction.
    pub(super) fn listed(&self, places: usize) -> Option<Vec<Match>> {
        let lists: Vec<Vec<expr::Match>> =
            self.shared.iter().map(|shared| listed(&shared.dimension).collect()).collect();
        let literal =
            self.shared.iter().zip(&lists).all(|(shared, list)| shared.dimension.terms().len() == list.len());
        if self.ports.len() > 1 || !literal {
            return None;
        }
        let rest = self.rest();
        let product =
            lists.iter().fold(places * rest.len(), |product, list| product.saturating_mul(list.len()));
        let conjunction = places + lists.iter().map(Vec::len).sum::<usize>() + 2 * rest.len();
        if product > conjunction && self.dimensions() > 1 {
            return None;
        }
        Some(lists.into_iter().fold(rest, |all, list| {
            let each = |matches: &Match| -> Vec<Match> {
                list.iter().filter_map(|term| expression::with(matches, *term)).collect()
            };
            all.iter().flat_map(each).collect()
        }))
    }
}

/// One dimension of a conjunction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Position {
    /// From 0.
    pub(super) dimension: u8,
    /// Of so many.
    pub(super) dimensions: u8,
    /// How many before it are about a field of its own. Its flows differ from theirs by bits that are 0 in every packet.
    pub(super) again: u8,
}

impl Shared {
    /// What its flows match besides the dimension.
    pub(super) fn base(&self) -> Option<Match> {
        self.needs.iter().try_fold(Match::new(), |base, only| expression::with(&base, *only))
    }
}

/// Where an ACL's flows go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) round: Round,
    pub(super) table: Table,
    pub(super) priority: u16,
    /// Tier in which it is asked, where tiers are.
    tier: Option<u8>,
}

impl Line {
    /// Of its verdict.
    pub(super) fn policy(acl: &Acl) -> Option<Self> {
        let round = Round::of(acl);
        let priority = u16::try_from(acl.priority).ok()?.saturating_add(PRIORITY_ACL);
        Some(Self { round, table: round.policy(), priority, tier: Some(u8::try_from(acl.tier).ok()?) })
    }

    /// Of its way around connection tracking.
    pub(super) fn around(acl: &Acl) -> Option<Self> {
        if &*acl.action != "allow-stateless" {
            return None;
        }
        let policy = Self::policy(acl)?;
        let table = if policy.round == Round::To { Table::ToTrack } else { Table::FromTrack };
        Some(Self { table, tier: None, ..policy })
    }

    /// Whether it is that around connection tracking.
    pub(super) fn is_around(self) -> bool {
        self.tier.is_none()
    }

    /// A match of a place, in the tier.
    pub(super) fn of_tier(self, matches: Match) -> Match {
        match self.tier {
            Some(tier) => matches.with_bits(register::TIER, tier),
            None => matches,
        }
    }

    /// Names what a clause shares here with others.
    pub(super) fn signature(self, scope: &Scope, shape: &Shape) -> Uuid {
        let mut text = format!("{} {} {:?} {}", self.table.number(), self.priority, self.tier, shape.rest);
        let mut add = |part: &dyn std::fmt::Display| {
            write!(text, "\n{part}").expect("strings do not fail");
        };
        scope.referrers().for_each(|referrer| add(&referrer));
        shape.ports.iter().for_each(|ports| add(ports));
        for shared in &shape.shared {
            add(&shared.dimension);
            shared.needs.iter().for_each(|need| add(need));
        }
        Uuid::new_v5(&SIGNATURES, text.as_bytes())
    }
}

/// Dimensions of a conjunction (ovs-fields(7), "Conjunctive Match Fields").
const DIMENSIONS_MAX: u8 = 64;

/// What the flows of a field must match besides it.
fn prerequisites(field: Field, fixed: &[expr::Match]) -> Vec<expr::Match> {
    let needed = |only: &&expr::Match| match field {
        Field::EthSrc | Field::EthDst | Field::VlanTci => false,
        Field::Ip4Src | Field::Ip4Dst | Field::Ip6Src | Field::Ip6Dst => only.field == Field::EthType,
        _ => matches!(only.field, Field::EthType | Field::IpProto | Field::Icmp6Type | Field::Icmp6Code),
    };
    fixed.iter().filter(needed).copied().collect()
}

fn listed(dimension: &Dimension) -> impl Iterator<Item = expr::Match> {
    dimension.terms().iter().filter_map(|term| if let Term::Match(only) = term { Some(*only) } else { None })
}

/// Names of signatures are made in it.
const SIGNATURES: Uuid = Uuid::from_u128(0x6f0d_5c1e_8a44_4e0b_9d1f_2a77_5b1c_90e3);
