//! Where ACLs apply, and what the switches need for them.
//!
//! # Contract
//! - `group_switches`: owner one port of any switch. Reads: it, whether its switch is here, the groups it is in. States which
//!   switches here a group has a member on, the member's key, and its place if it is of a kind that no interface carries.
//! - `group_places`: owner one local port. States its place for each group it is in.
//! - `group_size`: owner one port group. States how many places and switches it has here, as far as that decides the form of
//!   flows: none, few, many.
//! - `acl_needs`: owner one ACL. Reads: it, the switches and groups that refer to it. States what it needs, of whoever refers to
//!   it.
//! - `group_needs`, `switch_needs`: owner one group on one switch, or one switch. State what the switch needs.
//! - [`Scope`]: the switches and places of one ACL.
//!
//! # Invariants
//! - A port more in a group costs what that port costs, however many the group has.
//! - What an ACL needs is stated once for each group, not for each switch.

use std::collections::{BTreeMap, BTreeSet};

use ofpacket::Match;
use ovsdb::value::Atom;
use quantumnet_expr::{Dimension, Field, Term};
use quantumnet_model::{
    Row,
    nb::{Acl, LogicalSwitch, PortGroup},
    sb::PortBinding,
};
use uuid::Uuid;

use super::{Round, Verdict, shape::Line, verdict::dropped_by_default};
use crate::compile::{
    index::By,
    logical::{self, Kind, SwitchPort, on_switch},
    owner::{Owner, Owners, Relation, pair},
    register,
    sink::Sink,
    stage::Stage,
    view::View,
};

pub(in crate::compile) const GROUP_SWITCHES: Stage = Stage {
    number: 41,
    name: "group_switches",
    owners: Owners::Rows(PortBinding::TABLE),
    tables: &[],
    relations: &[Relation::GroupSwitches, Relation::GroupKeys, Relation::GroupPlaces],
    emit: group_switches,
};

pub(in crate::compile) const GROUP_PLACES: Stage = Stage {
    number: 42,
    name: "group_places",
    owners: Owners::Facts(Relation::LocalPorts),
    tables: &[],
    relations: &[Relation::GroupPlaces],
    emit: group_places,
};

pub(in crate::compile) const GROUP_SIZE: Stage = Stage {
    number: 101,
    name: "group_size",
    owners: Owners::Rows(PortGroup::TABLE),
    tables: &[],
    relations: &[Relation::GroupSize],
    emit: group_size,
};

pub(in crate::compile) const ACL_NEEDS: Stage = Stage {
    number: 43,
    name: "acl_needs",
    owners: Owners::Rows(Acl::TABLE),
    tables: &[],
    relations: &[Relation::AclNeeds],
    emit: acl_needs,
};

pub(in crate::compile) const GROUP_NEEDS: Stage = Stage {
    number: 102,
    name: "group_needs",
    owners: Owners::Facts(Relation::GroupSwitches),
    tables: &[],
    relations: NEEDS,
    emit: group_needs,
};

pub(in crate::compile) const SWITCH_NEEDS: Stage = Stage {
    number: 103,
    name: "switch_needs",
    owners: Owners::Rows(LogicalSwitch::TABLE),
    tables: &[],
    relations: NEEDS,
    emit: switch_needs,
};

const NEEDS: &[Relation] = &[
    Relation::Filtered,
    Relation::AnyFiltered,
    Relation::Stateful,
    Relation::AnyStateful,
    Relation::FilteredAfter,
    Relation::FilterTiers,
    Relation::Rejects,
];

fn group_switches(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(binding) = view.row::<PortBinding>(owner.row()) else { return };
    let switch = binding.datapath.uuid();
    if !view.holds(Relation::LocalSwitches, switch) {
        return;
    }
    let Some(key) = logical::port_key(binding.tunnel_key) else { return };
    let groups = view.uuids(By::PortGroups, &[Atom::Uuid(owner.row())]);
    if groups.is_empty() {
        return;
    }
    // Guests are where their interface is; what is in no interface may be met on any hypervisor.
    let carried = SwitchPort::read(view, owner.row())
        .is_some_and(|port| matches!(port.kind, Kind::Vif | Kind::Nested | Kind::L2Gateway));
    let place = logical::switch_key(view, switch).filter(|_| !carried).map(|on| packed(on, key));
    for group in groups {
        out.fact(Relation::GroupSwitches, group, 0, switch);
        out.fact(Relation::GroupKeys, pair(group, switch), 0, Uuid::from_u128(key.into()));
        if let Some(place) = place {
            out.fact(Relation::GroupPlaces, group, 0, place);
        }
    }
}

fn group_places(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = SwitchPort::read(view, owner.row()) else { return };
    for group in view.uuids(By::PortGroups, &[Atom::Uuid(port.uuid)]) {
        out.fact(Relation::GroupPlaces, group, 0, packed(port.switch_key, port.key));
    }
}

fn group_size(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let group = owner.row();
    let mut size = |part: u32, count: usize| {
        let size = match count {
            0 => return,
            1..=FEW => Size::Few,
            _ => Size::Many,
        };
        out.fact(Relation::GroupSize, group, part, Uuid::from_u128(size as u128));
    };
    size(PLACES, view.related(Relation::GroupPlaces, group, 0).take(FEW + 1).count());
    size(SWITCHES, view.related(Relation::GroupSwitches, group, 0).take(FEW + 1).count());
}

fn acl_needs(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(acl) = view.row::<Acl>(owner.row()) else { return };
    let need = Need {
        round: Round::of(acl),
        stateful: &*acl.action == "allow-related",
        rejects: Verdict::of(&acl.action) == Verdict::Reject,
        tier: u8::try_from(acl.tier).unwrap_or(0),
    };
    for referrer in Scope::of(view, owner.row()).referrers() {
        out.fact(Relation::AclNeeds, referrer, 0, need.packed());
    }
}

fn group_needs(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(fact) = owner.fact() else { return };
    state_needs(view, fact.of, fact.value, out);
}

fn switch_needs(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let switch = owner.row();
    if view.holds(Relation::LocalSwitches, switch) {
        state_needs(view, switch, switch, out);
    }
}

/// States of `switch` what ACLs of `referrer` need.
fn state_needs(view: &View<'_>, referrer: Uuid, switch: Uuid, out: &mut Sink) {
    for need in view.related(Relation::AclNeeds, referrer, 0).filter_map(Need::unpacked) {
        let part = need.round.part();
        out.fact(Relation::Filtered, switch, 0, Uuid::nil());
        out.fact(Relation::AnyFiltered, Uuid::nil(), 0, Uuid::nil());
        if need.stateful {
            out.fact(Relation::Stateful, switch, 0, Uuid::nil());
            out.fact(Relation::AnyStateful, Uuid::nil(), 0, Uuid::nil());
        }
        // As in OVN, the default holds in that round too, where no rule is of it.
        if need.round == Round::After || dropped_by_default(view) {
            out.fact(Relation::FilteredAfter, switch, 0, Uuid::nil());
        }
        if need.tier > 0 {
            out.fact(Relation::FilterTiers, switch, part, Uuid::from_u128(need.tier.into()));
        }
        if need.rejects {
            out.fact(Relation::Rejects, switch, part, Uuid::nil());
        }
    }
}

/// What an ACL needs of a switch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Need {
    round: Round,
    stateful: bool,
    rejects: bool,
    tier: u8,
}

impl Need {
    fn packed(self) -> Uuid {
        let bits = u128::from(self.tier) << 8
            | u128::from(self.rejects) << 3
            | u128::from(self.stateful) << 2
            | u128::from(self.round.part());
        Uuid::from_u128(bits)
    }

    fn unpacked(value: Uuid) -> Option<Self> {
        let bits = value.as_u128();
        let round = Round::ALL.into_iter().find(|round| u128::from(round.part()) == bits & 3)?;
        let tier = u8::try_from(bits >> 8).ok()?;
        Some(Self { round, stateful: bits & 4 != 0, rejects: bits & 8 != 0, tier })
    }
}

/// How many places there are, as far as it matters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub(super) enum Size {
    /// There is nothing to match.
    None = 0,
    /// At most [`FEW`]: a flow for each is no more than a conjunction takes.
    Few = 1,
    /// More.
    Many = 2,
}

impl Size {
    fn of(count: usize) -> Self {
        match count {
            0 => Self::None,
            1..=FEW => Self::Few,
            _ => Self::Many,
        }
    }
}

/// Who refers to an ACL, and so where it applies.
pub(super) struct Scope {
    switches: Vec<Uuid>,
    groups: Vec<Uuid>,
}

impl Scope {
    /// Of an ACL.
    pub(super) fn of(view: &View<'_>, acl: Uuid) -> Self {
        Self {
            switches: view.uuids(By::SwitchAcls, &[Atom::Uuid(acl)]),
            groups: view.uuids(By::GroupAcls, &[Atom::Uuid(acl)]),
        }
    }

    /// Switches, then groups.
    pub(super) fn referrers(&self) -> impl Iterator<Item = Uuid> {
        self.switches.iter().chain(&self.groups).copied()
    }

    /// Whether it applies to any switch here.
    pub(super) fn is_here(&self, view: &View<'_>) -> bool {
        self.switches.iter().any(|switch| view.holds(Relation::LocalSwitches, *switch))
            || self.groups.iter().any(|group| view.holds(Relation::GroupSwitches, *group))
    }

    /// Switches here that it applies to, with their keys.
    fn here(&self, view: &View<'_>) -> BTreeMap<Uuid, u32> {
        let own = self.switches.iter().copied().filter(|switch| view.holds(Relation::LocalSwitches, *switch));
        let groups = self.groups.iter().flat_map(|group| view.related(Relation::GroupSwitches, *group, 0));
        own.chain(groups).filter_map(|switch| Some((switch, logical::switch_key(view, switch)?))).collect()
    }

    /// Keys of those switches, and whether they track connections.
    pub(super) fn tracked(&self, view: &View<'_>) -> BTreeMap<u32, bool> {
        let here = self.here(view).into_iter();
        here.map(|(switch, key)| (key, view.holds(Relation::Stateful, switch))).collect()
    }

    /// Keys of those of them that track connections.
    pub(super) fn tracking(&self, view: &View<'_>) -> BTreeSet<u32> {
        let mut here = self.here(view);
        here.retain(|switch, _| view.holds(Relation::Stateful, *switch));
        here.into_values().collect()
    }

    /// The group whose members here are the places of an ACL that only that group has, if the ports are those.
    fn members_of(&self, view: &View<'_>, round: Round, ports: &Dimension) -> Option<Uuid> {
        let ([], [group]) = (self.switches.as_slice(), self.groups.as_slice()) else { return None };
        let [Term::PortGroup { field, name }] = ports.terms() else { return None };
        (*field == round.own() && named(view, name).as_slice() == [*group]).then_some(*group)
    }

    /// How many [places](Self::places) there are.
    pub(super) fn size(&self, view: &View<'_>, round: Round, ports: Option<&Dimension>) -> Size {
        let counted = match (ports, self.groups.as_slice()) {
            (Some(ports), _) => self.members_of(view, round, ports).map(|group| (group, PLACES)),
            (None, [group]) if self.switches.is_empty() => Some((*group, SWITCHES)),
            _ => None,
        };
        match counted {
            Some((group, part)) => {
                let size = view.related(Relation::GroupSize, group, part).map(|size| size.as_u128()).next();
                match size {
                    None => Size::None,
                    Some(size) if size == Size::Few as u128 => Size::Few,
                    Some(_) => Size::Many,
                }
            }
            None => Size::of(self.places(view, round, ports).len()),
        }
    }

    /// The [places](Self::places) for flows of a line: around connection tracking only where there is any.
    pub(super) fn places_of(
        &self,
        view: &View<'_>,
        line: Line,
        ports: Option<&Dimension>,
    ) -> BTreeSet<Place> {
        let mut places = self.places(view, line.round, ports);
        if line.is_around() {
            let tracking = self.tracking(view);
            places.retain(|place| tracking.contains(&place.switch));
        }
        places
    }

    /// What says where a packet is: switch and port for a dimension of ports, else the switch.
    pub(super) fn places(&self, view: &View<'_>, round: Round, ports: Option<&Dimension>) -> BTreeSet<Place> {
        let Some(ports) = ports else {
            return self.here(view).into_values().map(|switch| Place { switch, port: None }).collect();
        };
        if let Some(group) = self.members_of(view, round, ports) {
            return view
                .related(Relation::GroupPlaces, group, 0)
                .map(|place| Place::unpacked(place, round.own()))
                .collect();
        }
        let here = self.here(view);
        let keys: BTreeSet<u32> = here.values().copied().collect();
        let mut places = BTreeSet::new();
        for term in ports.terms() {
            match term {
                Term::PortGroup { field, name } => {
                    for group in named(view, name) {
                        if *field == round.own() {
                            let members = view.related(Relation::GroupPlaces, group, 0);
                            let members = members.map(|place| Place::unpacked(place, *field));
                            places.extend(members.filter(|place| keys.contains(&place.switch)));
                        } else {
                            for (switch, key) in &here {
                                let members = view.related(Relation::GroupKeys, pair(group, *switch), 0);
                                let port = |member: Uuid| u16::try_from(member.as_u128()).ok();
                                places.extend(
                                    members
                                        .filter_map(port)
                                        .map(|port| Place { switch: *key, port: Some((*field, port)) }),
                                );
                            }
                        }
                    }
                }
                Term::Port { field, name } => {
                    let by_name = Atom::String(name.as_str().into());
                    let found = view.find_one::<PortBinding>(By::LogicalPort, &[by_name]);
                    let place = found.and_then(|(_, binding)| {
                        let switch = *here.get(&binding.datapath.uuid())?;
                        Some(Place { switch, port: Some((*field, logical::port_key(binding.tunnel_key)?)) })
                    });
                    places.extend(place);
                }
                Term::Match(_) | Term::AddressSet(_) | Term::Resident { .. } => {}
            }
        }
        places
    }
}

/// A switch, or a port of it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Place {
    switch: u32,
    port: Option<(Field, u16)>,
}

impl Place {
    /// Key of the switch.
    pub(super) fn switch(self) -> u32 {
        self.switch
    }

    fn unpacked(place: Uuid, field: Field) -> Self {
        let bits = place.as_u128();
        let [switch, port] = [(bits >> 32) as u32, bits as u32]; // as `packed` has put them
        Self { switch, port: u16::try_from(port).ok().map(|port| (field, port)) }
    }

    /// What matches there.
    pub(super) fn matches(self) -> Match {
        let on = on_switch(self.switch);
        match self.port {
            Some((Field::Inport, key)) => on.with(register::IN_PORT, key),
            Some((_, key)) => on.with(register::OUT_PORT, key),
            None => on,
        }
    }
}

/// A place of a group, in a fact.
fn packed(switch: u32, port: u16) -> Uuid {
    Uuid::from_u128(u128::from(switch) << 32 | u128::from(port))
}

fn named(view: &View<'_>, group: &str) -> Vec<Uuid> {
    view.uuids(By::GroupName, &[Atom::String(group.into())])
}

/// Parts of [`Relation::GroupSize`].
const PLACES: u32 = 0;
const SWITCHES: u32 = 1;
/// Up to so many places each has a flow of its own.
pub(super) const FEW: usize = 2;
