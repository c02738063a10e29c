//! Who serves what only one chassis of a group may serve: gateway ports and external ports (ovn-nb(5), `HA_Chassis_Group`).
//!
//! # Contract
//! - `liveness`: owner one `Host_Tunnel`; says whose BFD session is up, and who can be sent to.
//! - `watched`: owner one southbound `HA_Chassis_Group`; says to which chassis tunnels must exist for its sake, and
//!   which of them BFD watches: those between members, and those between members and the chassis that refer to the group.
//! - `election`: owner one such group; reads its members and who is alive; says whether this chassis is the active one.
//! - [`resident`]: whether a port binding is resident here.
//!
//! # Invariants
//! - Each chassis judges by itself, from the rows and its own tunnels: the first member by priority, then by name from the
//!   last, that is this one or alive. Two may be active for a moment, as in OVN; senders use one.
//! - A chassis that hears nobody is cut off and serves no group that has another member. The only member always serves.
//! - A member that is not registered counts for nothing.

use quantumnet_model::{
    Row,
    host::{HostHandover, HostTunnel},
    sb::{Chassis, HaChassis, HaChassisGroup, PortBinding},
};
use uuid::Uuid;

use crate::compile::{
    logical,
    owner::{Owner, Owners, Relation},
    sink::Sink,
    stage::Stage,
    view::View,
};

pub(in crate::compile) const LIVENESS: Stage = Stage {
    number: 140,
    name: "liveness",
    owners: Owners::Rows(HostTunnel::TABLE),
    tables: &[],
    relations: &[Relation::Heard, Relation::Alive],
    emit: liveness,
};

pub(in crate::compile) const WATCHED: Stage = Stage {
    number: 141,
    name: "watched",
    owners: Owners::Rows(HaChassisGroup::TABLE),
    tables: &[],
    relations: &[Relation::Watched, Relation::TunnelPeers],
    emit: watched,
};

pub(in crate::compile) const ELECTION: Stage = Stage {
    number: 142,
    name: "election",
    owners: Owners::Rows(HaChassisGroup::TABLE),
    tables: &[],
    relations: &[Relation::Active, Relation::ActiveGroups],
    emit: election,
};

/// A registered member of a group.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Member<'a> {
    priority: i64,
    name: &'a str,
    chassis: Uuid,
}

/// Registered members of a group, the first choice first.
pub(in crate::compile) fn members(view: &View<'_>, group: Uuid) -> Vec<Uuid> {
    let Some(group) = view.row::<HaChassisGroup>(group) else { return Vec::new() };
    let member = |uuid: Uuid| {
        let row: &HaChassis = view.row(uuid)?;
        let chassis = row.chassis?.uuid();
        let name = row.external_ids.get("chassis-name").map(|name| &**name);
        let name = name.or_else(|| view.row::<Chassis>(chassis).map(|row| &*row.name)).unwrap_or_default();
        Some(Member { priority: row.priority, name, chassis })
    };
    let mut members: Vec<Member<'_>> = group.ha_chassis.iter().filter_map(|row| member(row.uuid())).collect();
    members.sort_by(|a, b| (b.priority, b.name, b.chassis).cmp(&(a.priority, a.name, a.chassis)));
    let mut order: Vec<Uuid> = Vec::with_capacity(members.len());
    for member in members {
        if !order.contains(&member.chassis) {
            order.push(member.chassis);
        }
    }
    order
}

fn liveness(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(tunnel) = view.row::<HostTunnel>(owner.row()) else { return };
    if logical::ofport(tunnel.ofport).is_none() {
        return;
    }
    if tunnel.heard {
        out.fact(Relation::Heard, Uuid::nil(), 0, tunnel.chassis);
    }
    if tunnel.alive {
        out.fact(Relation::Alive, Uuid::nil(), 0, tunnel.chassis);
    }
}

fn watched(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(own) = view.related_one(Relation::OwnChassis, Uuid::nil()) else { return };
    let Some(group) = view.row::<HaChassisGroup>(owner.row()) else { return };
    let members = members(view, owner.row());
    let serves = members.contains(&own);
    let refers = group.ref_chassis.iter().any(|chassis| chassis.uuid() == own);
    let mut peers: Vec<Uuid> = members.clone();
    if serves {
        peers.extend(group.ref_chassis.iter().map(|chassis| chassis.uuid()));
    }
    for peer in peers.into_iter().filter(|peer| *peer != own) {
        out.fact(Relation::TunnelPeers, Uuid::nil(), 0, peer);
        // The only member serves whatever is heard of it.
        if members.len() > 1 && (serves || refers) {
            out.fact(Relation::Watched, Uuid::nil(), 0, peer);
        }
    }
}

fn election(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(own) = view.related_one(Relation::OwnChassis, Uuid::nil()) else { return };
    let members = members(view, owner.row());
    if !members.contains(&own) {
        return;
    }
    let active = match members.as_slice() {
        [_] => true,
        _ if !view.holds(Relation::Heard, Uuid::nil()) => false,
        _ => {
            let alive: Vec<Uuid> = view.related(Relation::Alive, Uuid::nil(), 0).collect();
            members.iter().find(|member| **member == own || alive.contains(member)) == Some(&own)
        }
    };
    if active {
        out.fact(Relation::Active, owner.row(), 0, Uuid::nil());
        out.fact(Relation::ActiveGroups, Uuid::nil(), 0, owner.row());
    }
}

/// Whether this hypervisor serves a group: as the active member, or until what is on its way has arrived.
pub(in crate::compile) fn serves(view: &View<'_>, group: Uuid) -> bool {
    view.holds(Relation::Active, group) || view.row::<HostHandover>(group).is_some()
}

/// Whether a port is resident here: bound to this chassis, further ones of a migration not counted; of a gateway and an
/// external port, whether this chassis serves its group; of a gateway router's port, whether it is this chassis'.
pub(in crate::compile) fn resident(view: &View<'_>, binding: &PortBinding) -> bool {
    let Some(own) = view.related_one(Relation::OwnChassis, Uuid::nil()) else { return false };
    match &*binding.r#type {
        "chassisredirect" | "external" => {
            binding.ha_chassis_group.is_some_and(|group| serves(view, group.uuid()))
        }
        "l3gateway" => logical::is_at_its_chassis(view, binding),
        _ => binding.chassis.is_some_and(|chassis| chassis.uuid() == own),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use quantumnet_model::{Strong, Weak, host::HostSelf};

    use super::*;
    use crate::compile::{Compiler, RowUpdate};

    fn id(kind: u16, number: u32) -> Uuid {
        Uuid::from_u128(u128::from(number) << 96 | u128::from(kind) << 32 | 1)
    }

    fn chassis(number: u32) -> Uuid {
        id(Chassis::TABLE.0, number)
    }

    fn put<T: Row>(uuid: Uuid, row: T) -> RowUpdate {
        (T::TABLE, uuid, Some(Arc::new(row)))
    }

    /// Chassis hv1 (this one) to hv4, and a group of members (number, priority) to which others refer.
    fn world(members: &[(u32, i64)], refer: &[u32]) -> Vec<RowUpdate> {
        let mut rows = vec![put(id(0, 0), HostSelf { chassis: "hv1".into(), ..HostSelf::default() })];
        for number in 1..=4 {
            let row = Chassis { name: format!("hv{number}").into(), ..Chassis::default() };
            rows.push(put(chassis(number), row));
        }
        for (number, priority) in members {
            let name = format!("hv{number}");
            let row = HaChassis {
                chassis: (*number < 9).then(|| Weak::new(chassis(*number))),
                priority: *priority,
                external_ids: imbl::OrdMap::unit("chassis-name".into(), name.as_str().into()),
            };
            rows.push(put(id(HaChassis::TABLE.0, *number), row));
        }
        let row = HaChassisGroup {
            name: "g".into(),
            ha_chassis: members
                .iter()
                .map(|(number, _)| Strong::new(id(HaChassis::TABLE.0, *number)))
                .collect(),
            ref_chassis: refer.iter().map(|number| Weak::new(chassis(*number))).collect(),
            ..HaChassisGroup::default()
        };
        rows.push(put(group(), row));
        rows
    }

    fn group() -> Uuid {
        id(HaChassisGroup::TABLE.0, 1)
    }

    fn tunnel(number: u32, heard: bool, alive: bool) -> RowUpdate {
        let row = HostTunnel {
            chassis: chassis(number),
            encap: id(0, number),
            ofport: i64::from(number),
            heard,
            alive,
        };
        put(id(HostTunnel::TABLE.0, number), row)
    }

    #[test]
    fn the_first_that_is_alive_is_active() {
        let (both, one): (&[_], &[_]) = (&[(1, 20), (2, 10)], &[(1, 1)]);
        for (what, members, tunnels, expected) in [
            ("the only one", one, &[][..], true),
            ("the only one registered", &[(1, 10), (9, 20)], &[], true),
            ("no member", &[(2, 20), (3, 10)], &[tunnel(2, true, true)], false),
            ("the first", both, &[tunnel(2, true, true)], true),
            ("the first, cut off", both, &[tunnel(2, false, false), tunnel(3, false, false)], false),
            ("the first, heard by a chassis that refers", both, &[tunnel(3, true, true)], true),
            ("the first, of those that start together", both, &[tunnel(2, true, false)], true),
            ("the second", &[(1, 10), (2, 20)], &[tunnel(2, true, true)], false),
            ("the second of a dead one", &[(1, 10), (2, 20)], &[tunnel(3, true, true)], true),
            (
                "the second of one that can't forward yet",
                &[(1, 10), (2, 20)],
                &[tunnel(2, true, false)],
                true,
            ),
            ("the lesser name", &[(1, 10), (2, 10)], &[tunnel(2, true, true)], false),
        ] {
            let mut compiler = Compiler::new();
            compiler.apply(world(members, &[3]).into_iter().chain(tunnels.iter().cloned()));
            assert_eq!(compiler.related(Relation::Active, group()).next().is_some(), expected, "{what}");
        }
    }

    #[test]
    fn tunnels_of_members_are_watched() {
        let numbers = |compiler: &Compiler, relation| -> Vec<u128> {
            compiler.related(relation, Uuid::nil()).map(|uuid| uuid.as_u128() >> 96).collect()
        };
        for (members, refer, tunnels, watched) in [
            (&[(1, 20), (2, 10)][..], &[1, 3][..], &[2, 3][..], &[2, 3][..]),
            (&[(2, 20), (3, 10)], &[1, 4], &[2, 3], &[2, 3]),
            (&[(2, 20), (3, 10)], &[4], &[2, 3], &[]),
            (&[(2, 20)], &[1, 4], &[2], &[]),
            (&[(1, 20), (9, 10)], &[4], &[4], &[]),
        ] {
            let mut compiler = Compiler::new();
            compiler.apply(world(members, refer));
            assert_eq!(numbers(&compiler, Relation::TunnelPeers), tunnels, "{members:?} {refer:?}");
            assert_eq!(numbers(&compiler, Relation::Watched), watched, "{members:?} {refer:?}");
        }
    }

    #[test]
    fn who_hands_over_stays_resident_for_packets_on_their_way() {
        let mut compiler = Compiler::new();
        let port = id(PortBinding::TABLE.0, 1);
        let binding = PortBinding {
            r#type: "chassisredirect".into(),
            ha_chassis_group: Some(Strong::new(group())),
            ..PortBinding::default()
        };
        compiler.apply(world(&[(1, 10), (2, 20)], &[]).into_iter().chain([put(port, binding)]));
        let mut resident = |rows: Vec<RowUpdate>| {
            compiler.apply(rows);
            compiler.related(Relation::Resident, port).next().is_some()
        };
        assert!(!resident(vec![]));
        assert!(resident(vec![tunnel(3, true, true)]));
        let handover = put(group(), HostHandover { name: "g".into() });
        assert!(resident(vec![tunnel(2, true, true), handover]));
        assert!(!resident(vec![(HostHandover::TABLE, group(), None)]));
    }
}
