//! Rules as the rows say them: which ACL decides of a packet that begins a connection.
//!
//! # Contract
//! - In: the ACLs of a switch and of the port groups that have a port there, and a packet. Out: the ACL that decides.
//!   Straight from the semantics (ovn-nb(5), `ACL`): rounds, tiers, priorities, the first that matches.
//! - Shares nothing with the compiler but the reading of expressions; a trace asks the switch instead.
//!
//! # Invariants
//! - Of ACLs of one priority that match, one that stops counts: which of them the switch takes is not defined.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use quantumnet_expr::{Constant, Expr, Field, Packet, Term};
use quantumnet_model::{
    Uuid,
    nb::{Acl, LogicalSwitch, LogicalSwitchPort, NbGlobal, PortGroup},
    sb::{AddressSet, PortBinding},
};

use crate::{
    explain::packet::{ICMP, ICMPV6, Kind},
    store::State,
};

/// Rules of switches, read once.
pub(crate) struct Rules<'a> {
    state: &'a State,
    switches: BTreeMap<Uuid, Vec<Rule>>,
    sets: BTreeMap<String, Vec<Constant>>,
    groups: BTreeMap<String, BTreeSet<String>>,
    /// What no rule decides does not pass, where there are rules.
    drops: bool,
    /// Some rule has a match that cannot be read, or asks what is known to switches only.
    pub(crate) unread: bool,
}

struct Rule {
    acl: Uuid,
    round: Round,
    tier: i64,
    priority: i64,
    deed: Deed,
    expr: Expr,
}

/// When rules are asked.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Round {
    From,
    After,
    To,
}

/// In the order in which they count among rules of one priority.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Deed {
    Reject,
    Drop,
    Pass,
    Allow,
}

/// What becomes of a packet at a switch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) passes: bool,
    /// The ACL that decided; none if the default did.
    pub(crate) acl: Option<Uuid>,
}

/// A packet at a switch.
pub(crate) struct At<'a> {
    pub(crate) rules: &'a Rules<'a>,
    pub(crate) inport: &'a str,
    pub(crate) outport: &'a str,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) kind: Kind,
    /// The hypervisor where rules are asked.
    pub(crate) chassis: Option<Uuid>,
    /// Whether the port that it is to leave by is known yet.
    pub(crate) leaving: bool,
}

impl<'a> Rules<'a> {
    pub(crate) fn new(state: &'a State) -> Self {
        let drops = state
            .iter::<NbGlobal>()
            .any(|(_, row)| row.options.get("default_acl_drop").is_some_and(|value| &**value == "true"));
        let (switches, sets, groups) = Default::default();
        Self { state, switches, sets, groups, drops, unread: false }
    }

    /// Reads the rules of a switch.
    pub(crate) fn read(&mut self, switch: Uuid) {
        if self.switches.contains_key(&switch) {
            return;
        }
        let state = self.state;
        let mut acls = BTreeSet::new();
        if let Some(row) = state.get::<LogicalSwitch>(switch) {
            acls.extend(row.acls.iter().map(|acl| acl.uuid()));
            let groups: BTreeSet<Uuid> = row
                .ports
                .iter()
                .flat_map(|port| {
                    state.referrers_through::<LogicalSwitchPort, PortGroup>(port.uuid(), "ports")
                })
                .collect();
            let groups = groups.iter().filter_map(|group| state.get::<PortGroup>(*group));
            acls.extend(groups.flat_map(|group| group.acls.iter().map(|acl| acl.uuid())));
        }
        let mut rules: Vec<Rule> = acls.into_iter().filter_map(|acl| self.rule(acl)).collect();
        rules.sort_by_key(|rule| (rule.round, rule.tier, -rule.priority, rule.deed, rule.acl));
        self.switches.insert(switch, rules);
    }

    fn rule(&mut self, uuid: Uuid) -> Option<Rule> {
        let acl = self.state.get::<Acl>(uuid)?;
        let Ok(expr) = Expr::parse(&acl.r#match) else {
            self.unread = true;
            return None;
        };
        let references = expr.references();
        self.unread |= !references.templates.is_empty();
        for name in references.address_sets {
            let state = self.state;
            self.sets.entry(name).or_insert_with_key(|name| {
                let row = state.find::<AddressSet>(&[("name", name.as_str().into())]);
                let row = row.and_then(|row| state.get::<AddressSet>(row));
                row.iter().flat_map(|row| &row.addresses).filter_map(|text| text.parse().ok()).collect()
            });
        }
        for name in references.port_groups {
            let state = self.state;
            self.groups.entry(name).or_insert_with_key(|name| {
                let row = state.find::<PortGroup>(&[("name", name.as_str().into())]);
                let row = row.and_then(|row| state.get::<PortGroup>(row));
                let ports = row.iter().flat_map(|row| &row.ports);
                ports
                    .filter_map(|port| Some(state.get::<LogicalSwitchPort>(port.uuid())?.name.to_string()))
                    .collect()
            });
        }
        let after = acl.options.get("apply-after-lb").is_some_and(|value| &**value == "true");
        let round = match (&*acl.direction, after) {
            ("to-lport", _) => Round::To,
            (_, true) => Round::After,
            (_, false) => Round::From,
        };
        let deed = match &*acl.action {
            "allow" | "allow-related" | "allow-stateless" => Deed::Allow,
            "pass" => Deed::Pass,
            "reject" => Deed::Reject,
            _ => Deed::Drop,
        };
        Some(Rule { acl: uuid, round, tier: acl.tier, priority: acl.priority, deed, expr })
    }

    /// What becomes of a packet that a port sends into a switch.
    pub(crate) fn sent(&self, switch: Uuid, packet: &At<'_>) -> Outcome {
        let first = self.asked(switch, Round::From, packet);
        if !first.passes {
            return first;
        }
        let after = self.asked(switch, Round::After, packet);
        if after.acl.is_some() || !after.passes { after } else { first }
    }

    /// What becomes of a packet that a switch has for a port.
    pub(crate) fn received(&self, switch: Uuid, packet: &At<'_>) -> Outcome {
        self.asked(switch, Round::To, packet)
    }

    fn asked(&self, switch: Uuid, round: Round, packet: &At<'_>) -> Outcome {
        let rules = self.switches.get(&switch).map(Vec::as_slice).unwrap_or_default();
        let mut tier = 0;
        for rule in rules.iter().filter(|rule| rule.round == round) {
            if rule.tier < tier || !rule.expr.eval(packet) {
                continue;
            }
            if rule.deed == Deed::Pass {
                tier = rule.tier + 1;
                continue;
            }
            return Outcome { passes: rule.deed == Deed::Allow, acl: Some(rule.acl) };
        }
        Outcome { passes: !self.drops || rules.is_empty(), acl: None }
    }

    /// Services, and prefixes of sources, that the rules of a switch for what its ports receive name.
    pub(crate) fn named(&self, switch: Uuid) -> (BTreeSet<(u8, u16)>, BTreeSet<IpAddr>) {
        let (mut services, mut sources) = (BTreeSet::new(), BTreeSet::new());
        let rules = self.switches.get(&switch).into_iter().flatten().filter(|rule| rule.round == Round::To);
        for clause in rules.filter_map(|rule| rule.expr.normalize().ok()).flatten() {
            for term in clause.dimensions().iter().flat_map(|dimension| dimension.terms()) {
                let Term::Match(only) = term else { continue };
                let port = u16::try_from(only.value).unwrap_or(0);
                match only.field {
                    Field::TcpDst => _ = services.insert((6, port)),
                    Field::UdpDst => _ = services.insert((17, port)),
                    Field::SctpDst => _ = services.insert((132, port)),
                    Field::Ip4Src => {
                        sources.extend(u32::try_from(only.value).ok().map(|ip| IpAddr::V4(ip.into())));
                    }
                    Field::Ip6Src => _ = sources.insert(IpAddr::V6(only.value.into())),
                    _ => {}
                }
            }
        }
        (services, sources)
    }
}

impl Packet for At<'_> {
    fn field(&self, field: Field) -> Option<u128> {
        let Kind { protocol, src, dst } = self.kind;
        let number = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => u128::from(u32::from(ip)),
            IpAddr::V6(ip) => u128::from(ip),
        };
        let (v4, tcp, udp, sctp) = (self.src.is_ipv4(), protocol == 6, protocol == 17, protocol == 132);
        let only = |holds: bool, value: u128| holds.then_some(value);
        match field {
            Field::EthType => Some(if v4 { 0x800 } else { 0x86dd }),
            Field::EthSrc | Field::EthDst | Field::VlanTci => Some(0),
            Field::IpProto => Some(protocol.into()),
            Field::IpDscp | Field::IpEcn | Field::IpFrag => Some(0),
            Field::IpTtl => Some(64),
            Field::Ip4Src => only(v4, number(self.src)),
            Field::Ip4Dst => only(v4, number(self.dst)),
            Field::Ip6Src => only(!v4, number(self.src)),
            Field::Ip6Dst => only(!v4, number(self.dst)),
            Field::Ip6Label => only(!v4, 0),
            Field::Icmp4Type => only(protocol == ICMP, src.into()),
            Field::Icmp4Code => only(protocol == ICMP, dst.into()),
            Field::Icmp6Type => only(protocol == ICMPV6, src.into()),
            Field::Icmp6Code => only(protocol == ICMPV6, dst.into()),
            Field::TcpSrc => only(tcp, src.into()),
            Field::TcpDst => only(tcp, dst.into()),
            Field::TcpFlags => only(tcp, SYN),
            Field::UdpSrc => only(udp, src.into()),
            Field::UdpDst => only(udp, dst.into()),
            Field::SctpSrc => only(sctp, src.into()),
            Field::SctpDst => only(sctp, dst.into()),
            Field::CtState => Some(TRACKED_AND_NEW),
            _ => Some(0),
        }
    }

    fn port(&self, field: Field) -> Option<&str> {
        match field {
            Field::Inport => Some(self.inport),
            Field::Outport => self.leaving.then_some(self.outport),
            _ => None,
        }
    }

    fn address_set(&self, name: &str) -> &[Constant] {
        self.rules.sets.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    fn is_in_port_group(&self, group: &str, port: &str) -> bool {
        self.rules.groups.get(group).is_some_and(|members| members.contains(port))
    }

    fn is_resident(&self, port: &str) -> bool {
        let state = self.rules.state;
        let binding = state.find::<PortBinding>(&[("logical_port", port.into())]);
        let binding = binding.and_then(|binding| state.get::<PortBinding>(binding));
        binding.and_then(|row| row.chassis).is_some_and(|chassis| Some(chassis.uuid()) == self.chassis)
    }
}

/// Of TCP (RFC 9293, section 3.1).
const SYN: u128 = 0x002;
/// Bits of `ct_state`: `new` and `trk`.
const TRACKED_AND_NEW: u128 = 0x21;
