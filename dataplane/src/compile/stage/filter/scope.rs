//! Which ACLs apply to which switch here, and what the switch needs for them.
//!
//! # Contract
//! - `group_members`: owner one port group. Reads: it and its members' bindings. States which local switches have a member, and
//!   the members' keys there.
//! - `acl_scope`: owner one ACL. Reads: which switches and groups refer to it. States it for each such switch that has a usable
//!   port here.
//! - `acl_needs`: owner one ACL on one switch. Reads the ACL. States what the switch needs for it.

use ovsdb::value::Atom;
use quantumnet_model::{
    Row,
    nb::{Acl, PortGroup},
    sb::PortBinding,
};
use uuid::Uuid;

use super::{Round, Verdict};
use crate::compile::{
    index::By,
    logical,
    owner::{Owner, Owners, Relation, pair},
    sink::Sink,
    stage::Stage,
    view::View,
};

pub(in crate::compile) const GROUP_MEMBERS: Stage = Stage {
    number: 41,
    name: "group_members",
    owners: Owners::Rows(PortGroup::TABLE),
    tables: &[],
    relations: &[Relation::GroupSwitches, Relation::GroupKeys],
    emit: group_members,
};

pub(in crate::compile) const ACL_SCOPE: Stage = Stage {
    number: 42,
    name: "acl_scope",
    owners: Owners::Rows(Acl::TABLE),
    tables: &[],
    relations: &[Relation::Acls],
    emit: acl_scope,
};

pub(in crate::compile) const ACL_NEEDS: Stage = Stage {
    number: 43,
    name: "acl_needs",
    owners: Owners::Facts(Relation::Acls),
    tables: &[],
    relations: &[
        Relation::Filtered,
        Relation::Stateful,
        Relation::FilteredAfter,
        Relation::FilterTiers,
        Relation::Rejects,
    ],
    emit: acl_needs,
};

fn group_members(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let group = owner.row();
    let Some(row) = view.row::<PortGroup>(group) else { return };
    for port in &row.ports {
        let Some(binding) = view.row::<PortBinding>(port.uuid()) else { continue };
        let switch = binding.datapath.uuid();
        let Some(key) = logical::port_key(binding.tunnel_key) else { continue };
        if view.holds(Relation::LocalSwitches, switch) {
            out.fact(Relation::GroupSwitches, group, 0, switch);
            out.fact(Relation::GroupKeys, pair(group, switch), 0, Uuid::from_u128(key.into()));
        }
    }
}

fn acl_scope(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let acl = owner.row();
    for switch in view.uuids(By::SwitchAcls, &[Atom::Uuid(acl)]) {
        if view.holds(Relation::LocalSwitches, switch) {
            out.fact(Relation::Acls, switch, 0, acl);
        }
    }
    for group in view.uuids(By::GroupAcls, &[Atom::Uuid(acl)]) {
        for switch in view.related(Relation::GroupSwitches, group, 0) {
            out.fact(Relation::Acls, switch, 0, acl);
        }
    }
}

fn acl_needs(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(fact) = owner.fact() else { return };
    let (switch, Some(acl)) = (fact.of, view.row::<Acl>(fact.value)) else { return };
    let round = Round::of(acl);
    out.fact(Relation::Filtered, switch, 0, Uuid::nil());
    if &*acl.action == "allow-related" {
        out.fact(Relation::Stateful, switch, 0, Uuid::nil());
    }
    if round == Round::After {
        out.fact(Relation::FilteredAfter, switch, 0, Uuid::nil());
    }
    if let Ok(tier @ 1..) = u128::try_from(acl.tier) {
        out.fact(Relation::FilterTiers, switch, round.part(), Uuid::from_u128(tier));
    }
    if Verdict::of(&acl.action) == Verdict::Reject {
        out.fact(Relation::Rejects, switch, round.part(), Uuid::nil());
    }
}
