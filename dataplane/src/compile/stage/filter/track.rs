//! Before the rules: the connection is looked up in the port's zone, where the switch is stateful.
//!
//! # Contract
//! - `filter_track`: owner one local port of a filtered switch. Reads: it, its zone, whether the switch is stateful, and rejects.
//!   Out: its packets to the policy table, tracked or not; what a rule rejects to the agent.
//! - `filter_untracked`: what is never tracked, whatever port it is for. What a port sends has such flows of its own, since
//!   others' packets come by there too.
//! - `filter_around`: what is from or for ports of switches without filters passes by.
//!
//! # Invariants
//! - As in OVN, connections of physical networks' and of routers' ports are not tracked, nor group frames, neighbour discovery, router
//!   advertisements and multicast listener reports.
//! - Where the switch knows no ports of SCTP, none of it is tracked: a reply would be whatever goes back between two hosts. Each packet
//!   is then for rules to judge by itself, so that replies pass only where a rule lets them. The agent tells so.
//! - IP of a port that should be tracked and has no zone yet is dropped.

use ofpacket::{Action, Conntrack, Match, field};
use quantumnet_model::host::{HostSelf, HostZone};

use super::Round;
use crate::compile::{
    index::By,
    logical::{Kind, SwitchPort, go, to_group},
    owner::{Owner, Owners, Relation},
    punt::{Protocol, Punt, PuntReason},
    register,
    sink::Sink,
    stage::Stage,
    table::Table,
    view::View,
};

pub(in crate::compile) const STAGE: Stage = Stage {
    number: 45,
    name: "filter_track",
    owners: Owners::Facts(Relation::LocalPorts),
    tables: &[Table::FromTrack, Table::FromVerdict, Table::AfterVerdict, Table::ToTrack, Table::ToVerdict],
    relations: &[],
    emit,
};

pub(in crate::compile) const UNTRACKED: Stage = Stage {
    number: 108,
    name: "filter_untracked",
    owners: Owners::Facts(Relation::AnyStateful),
    tables: &[Table::ToTrack],
    relations: &[],
    emit: never_tracked,
};

pub(in crate::compile) const AROUND: Stage = Stage {
    number: 46,
    name: "filter_around",
    owners: Owners::Switch,
    tables: &[Table::FromTrack],
    relations: &[],
    emit: around,
};

fn around(_: &View<'_>, _: Owner, out: &mut Sink) {
    out.flow(Table::FromTrack, 0, Match::new(), [go(Table::Steer)]);
}

fn never_tracked(view: &View<'_>, _: Owner, out: &mut Sink) {
    exempt(view, Table::ToTrack, &Match::new(), &entry(Round::To, true), out);
}

fn exempt(view: &View<'_>, table: Table, of: &Match, entry: &[Action], out: &mut Sink) {
    out.flow(table, 110, to_group(of.clone()), entry);
    for kind in UNTRACKED_ICMPV6 {
        let matches = of.clone().ipv6().ip_proto(ICMPV6).with(field::ICMPV6_TYPE, kind);
        out.flow(table, 110, matches, entry);
    }
    if !tracks_sctp(view) {
        // A router may have tracked it as well.
        let entry = [&[Action::CtClear], entry].concat();
        for family in [Match::ipv4, Match::ipv6] {
            out.flow(table, 110, family(of.clone()).ip_proto(SCTP), entry.clone());
        }
    }
}

/// Whether the switch tells SCTP associations apart.
fn tracks_sctp(view: &View<'_>) -> bool {
    view.find_one::<HostSelf>(By::HostSelf, &[]).is_some_and(|(_, host)| host.sctp_ports)
}

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = SwitchPort::read(view, owner.row()) else { return };
    if !view.holds(Relation::Filtered, port.switch) {
        return;
    }
    let stateful = view.holds(Relation::Stateful, port.switch);
    for round in [Round::From, Round::To] {
        let (table, of_port) = match round {
            Round::To => (Table::ToTrack, port.to()),
            _ => (Table::FromTrack, port.from()),
        };
        let untracked = entry(round, stateful);
        if !stateful {
            // Above what is never tracked: there it is not settled before the rules.
            out.flow(table, 120, of_port, untracked);
            continue;
        }
        if port.kind == Kind::Localnet && round == Round::To {
            // The sender's state says nothing to who filters for the physical network.
            let forgotten = [vec![Action::CtClear], untracked.clone()].concat();
            out.flow(table, 10, of_port.clone(), forgotten);
            continue;
        }
        out.flow(table, 10, of_port.clone(), untracked.clone());
        // The other direction may pass a router on another hypervisor. What goes to one keeps the sender's state.
        if port.kind == Kind::Localnet || port.kind.leads_on() {
            continue;
        }
        if round == Round::From {
            exempt(view, table, &of_port, &untracked, out);
        }
        let zone = view.row::<HostZone>(port.uuid).and_then(|row| u16::try_from(row.zone).ok());
        let tracked = match zone {
            Some(zone) => {
                let mut lookup = Conntrack::zone_from(register::PORT_ZONE);
                lookup.table = Some(round.policy().number().into());
                let lookup = vec![Action::load(register::PORT_ZONE, zone.into()), Action::Ct(lookup)];
                [cleared(round), lookup].concat()
            }
            None => Vec::new(),
        };
        out.flow(table, 100, of_port.clone().ipv4(), tracked.clone());
        out.flow(table, 100, of_port.ipv6(), tracked);
    }
    if stateful && port.kind.leads_on() {
        super::verdict::uncommitted(view, port.switch, &port.to(), out);
    }
    rejects(view, &port, out);
}

/// What the registers are to be when rules begin to be asked. A packet that has passed a sender's rules has theirs.
pub(super) fn cleared(round: Round) -> Vec<Action> {
    match round {
        Round::To => vec![Action::load(ofpacket::Field::reg(0), 0), Action::load(register::LABEL, 0)],
        Round::From | Round::After => Vec::new(),
    }
}

/// To the rules without tracking, on a switch that tracks or one that does not.
pub(super) fn entry(round: Round, stateful: bool) -> Vec<Action> {
    let mut entry = cleared(round);
    if !stateful {
        entry.push(Action::load(register::STATELESS, 1));
    }
    entry.push(go(round.policy()));
    entry
}

fn rejects(view: &View<'_>, port: &SwitchPort<'_>, out: &mut Sink) {
    let Some(interface) = port.interface(view) else { return };
    for round in Round::ALL {
        if view.related(Relation::Rejects, port.switch, round.part()).next().is_none() {
            continue;
        }
        let (reason, of_port) = match round {
            Round::To => (PuntReason::RejectedTo, port.to()),
            _ => (PuntReason::RejectedFrom, port.from()),
        };
        let punt = Punt { reason, row: port.uuid };
        let tell = punt.metered(view, port.switch, Protocol::Reject, interface.meters, out);
        super::verdict::rejected(view, port.switch, round, &of_port, &tell, out);
    }
}

const SCTP: u8 = 132;
pub(super) const ICMPV6: u8 = 58;
/// Multicast listener discovery (RFC 2710, RFC 3810), router and neighbour discovery (RFC 4861).
pub(super) const UNTRACKED_ICMPV6: [u8; 8] = [130, 131, 132, 133, 134, 135, 136, 143];
