//! For which packets a rule holds beyond its addresses: its `match`, and sets of peers.
//!
//! # Contract
//! - In: a rule, one of its sides, what of its conditions counts. Out: flows with the rule's addresses, narrowed by those.
//!
//! # Invariants
//! - A match that does not parse, or that the switch can't express, has no flows: the controller has told so.
//! - A set without addresses of the rule's family has nobody in it.
//! - Conditions are listed, not made conjunctions: a conjunction's flow could not look a connection up, since it does not say of
//!   which family its packets are. One that takes more than [`LISTED_MAX`] flows has none.

use std::fmt::Write as _;

use ipnet::IpNet;
use ofpacket::{Action, Match};
use ovsdb::value::Atom;
use quantumnet_expr::{self as expr, Clause, Constant, Dimension, Expr, Family, Field, Term};
use quantumnet_model::{nb::AddressSet, sb::PortBinding};
use uuid::Uuid;

use super::rule::Rule;
use crate::compile::{
    index::By,
    logical::{on_switch, port_key},
    sink::Sink,
    stage::filter::expression,
    table::Table,
    view::View,
};

/// Which packets of a rule.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    /// Those that come in for the address.
    In(IpNet),
    /// Those that leave from inside.
    Out,
}

/// What of a rule's conditions counts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Counts {
    /// Its match, and that the peer is allowed.
    All,
    /// As [`Counts::All`], of ICMP errors.
    Errors,
    /// That the peer is exempted.
    Exempted,
}

/// Flows of a rule.
pub(super) struct Flows<'a> {
    pub(super) view: &'a View<'a>,
    pub(super) rule: &'a Rule<'a>,
    pub(super) table: Table,
    pub(super) priority: u16,
    pub(super) side: Side,
}

impl Flows<'_> {
    /// Wants `actions` for what fulfils the conditions that count, narrowed further by `narrow`.
    pub(super) fn put(
        &self,
        counts: Counts,
        narrow: &dyn Fn(Match) -> Match,
        actions: &[Action],
        out: &mut Sink,
    ) {
        let rule = self.rule;
        let (matches, peers) = match counts {
            Counts::All | Counts::Errors => (&*rule.row.r#match, rule.row.allowed_ext_ips.as_ref()),
            Counts::Exempted => match &rule.row.exempted_ext_ips {
                Some(exempted) => ("", Some(exempted)),
                None => return,
            },
        };
        let errors = matches!(counts, Counts::Errors);
        if matches.is_empty() && peers.is_none() && !errors {
            let base = match self.side {
                Side::In(to) => rule.inbound(to),
                Side::Out => rule.outbound(),
            };
            out.flow(self.table, self.priority, narrow(base), actions);
            return;
        }
        let mut text = self.addresses();
        if errors {
            text += if rule.external.is_ipv4() { ERRORS_V4 } else { ERRORS_V6 };
        }
        if !matches.is_empty() {
            let _ = write!(text, " && ({matches})");
        }
        if let Some(peers) = peers {
            let Some(peers) = self.peers(peers.uuid()) else { return };
            text += &peers;
        }
        let Some(clauses) = Expr::parse(&text).ok().and_then(|expr| expr.normalize().ok()) else { return };
        for matches in clauses.iter().flat_map(|clause| self.listed(clause)) {
            out.flow(self.table, self.priority, narrow(matches), actions);
        }
    }

    /// All that a clause matches, one by one.
    fn listed(&self, clause: &Clause) -> Vec<Match> {
        let mut listed = vec![on_switch(self.rule.router_key)];
        let fixed = clause.fixed().map(|only| vec![only]);
        let wide = clause.wide().filter_map(|dimension| self.terms(dimension));
        for terms in fixed.chain(wide) {
            let each = |base: &Match| -> Vec<Match> {
                terms.iter().filter_map(|term| expression::with(base, *term)).collect()
            };
            if listed.len().saturating_mul(terms.len()) > LISTED_MAX {
                return Vec::new();
            }
            listed = listed.iter().flat_map(each).collect();
        }
        listed
    }

    /// The terms of a dimension; `None` if it holds of every packet.
    fn terms(&self, dimension: &Dimension) -> Option<Vec<expr::Match>> {
        if dimension.family() == Family::Residence {
            return (!expression::any_resides(self.view, dimension)).then(Vec::new);
        }
        let terms = dimension.terms().iter().flat_map(|term| match term {
            Term::Match(only) => vec![*only],
            Term::AddressSet(set) => expression::members(self.view, set),
            Term::Port { field, name } => {
                self.port(name).map(|key| port_term(*field, key)).into_iter().collect()
            }
            // Groups have ports of switches only; residence is not of packets.
            Term::PortGroup { .. } | Term::Resident { .. } => Vec::new(),
        });
        Some(terms.collect())
    }

    /// Key of a port of the router.
    fn port(&self, name: &str) -> Option<u16> {
        let named = Atom::String(name.into());
        let (_, binding) = self.view.find_one::<PortBinding>(By::LogicalPort, &[named])?;
        port_key(binding.tunnel_key).filter(|_| binding.datapath.uuid() == self.rule.router)
    }

    /// The rule's port and addresses, as an expression.
    fn addresses(&self) -> String {
        let family = self.family();
        let (port, address) = match self.side {
            Side::In(to) => ("inport", format!("{family}.dst == {to}")),
            Side::Out => ("outport", format!("{family}.src == {}", self.rule.logical)),
        };
        match &self.rule.gateway {
            Some(gateway) => format!("{port} == {:?} && {address}", gateway.port.binding.logical_port),
            None => address,
        }
    }

    fn peers(&self, set: Uuid) -> Option<String> {
        let v4 = self.rule.external.is_ipv4();
        let set: &AddressSet = self.view.row(set)?;
        let ours = |member: &&std::sync::Arc<str>| {
            member.parse::<Constant>().is_ok_and(|constant| constant.is_of_family(if v4 { 32 } else { 128 }))
        };
        let members: Vec<&str> = set.addresses.iter().filter(ours).map(|member| &**member).collect();
        let family = self.family();
        let side = if matches!(self.side, Side::In(_)) { "src" } else { "dst" };
        (!members.is_empty()).then(|| format!(" && {family}.{side} == {{{}}}", members.join(", ")))
    }

    fn family(&self) -> &'static str {
        if self.rule.external.is_ipv4() { "ip4" } else { "ip6" }
    }
}

fn port_term(field: Field, key: u16) -> expr::Match {
    expr::Match { field, value: key.into(), mask: u32::MAX.into() }
}

/// Of ICMP types those that quote a packet and are no redirect.
const ERRORS_V4: &str = " && icmp4.type == {3, 11, 12}";
const ERRORS_V6: &str = " && icmp6.type == {1, 2, 3, 4}";
/// How many flows a clause may take.
const LISTED_MAX: usize = 4_096;
