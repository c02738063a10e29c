//! ACLs of one object, or of one policy in one project: written as a whole, found again by whoever asks whose they are.
//!
//! # Invariants
//! - A `Lookup` row leads from each ACL to its unit; an ACL is in the group that its unit says and in no other.

use std::collections::BTreeMap;

use imbl::OrdMap;
use quantumnet_model::{
    Row, Strong, Uuid,
    column::Text,
    intent::{SecurityGroup, SecurityPolicy},
    nb::{Acl, PortGroup},
};

use crate::{
    lower::{Dirty, lookup, owner},
    store::{State, Txn},
};

use super::matches::Direction;

/// external_ids key with the id of the owning object.
const ID: &str = "quantumnet:id";
/// external_ids key that says which of its rules: the name of one, or `rules[2]`, `isolate`, `default`.
pub(crate) const RULE: &str = "quantumnet:rule";
/// external_ids key with what a staged rule would do.
pub(crate) const STAGED: &str = "quantumnet:staged";
/// Characters of an ACL's name, at most.
const NAME_MAX: usize = 63;

/// What a rule does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Deed {
    /// Lets pass, and replies too.
    Allow,
    /// Lets pass; no connection is tracked on its account.
    Spare,
    Drop,
    Reject,
    /// Leaves it to later tiers.
    Pass,
    /// Has connections tracked.
    Track,
}

impl Deed {
    /// As intent has it, or what is meant where it says nothing.
    pub(super) fn of(text: &str, usual: Self) -> Self {
        match text {
            "allow" => Self::Allow,
            "drop" => Self::Drop,
            "reject" => Self::Reject,
            "pass" => Self::Pass,
            _ => usual,
        }
    }

    pub(super) const fn stops(self) -> bool {
        matches!(self, Self::Drop | Self::Reject)
    }

    /// `action` of an ACL that does it.
    const fn action(self, stateless: bool) -> &'static str {
        match (self, stateless) {
            (Self::Allow, true) => "allow-stateless",
            (Self::Allow, false) | (Self::Track, _) => "allow-related",
            (Self::Spare, _) => "allow",
            (Self::Drop, _) => "drop",
            (Self::Reject, _) => "reject",
            (Self::Pass, _) => "pass",
        }
    }
}

/// An ACL to be.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Its uuid.
    pub(super) acl: Uuid,
    /// The port group that has it.
    pub(super) group: Uuid,
    pub(super) direction: Direction,
    pub(super) tier: i64,
    pub(super) priority: i64,
    pub(super) matches: String,
    pub(super) deed: Deed,
    /// Counts what it would do, and passes.
    pub(super) staged: bool,
    pub(super) stateless: bool,
    pub(super) persist_established: bool,
    /// Which rule of the object it is.
    pub(super) rule: String,
}

/// Whose ACLs they are.
pub(super) struct Whose<'a> {
    /// Table of the object.
    pub(super) kind: &'static str,
    pub(super) id: Uuid,
    pub(super) name: &'a Text,
    /// The project whose ports they are about.
    pub(super) project: Uuid,
}

impl Wanted {
    fn row(&self, whose: &Whose<'_>) -> Acl {
        let mut external_ids: OrdMap<Text, Text> = owner::external_ids(whose.kind, whose.name, whose.project);
        external_ids.insert(ID.into(), whose.id.to_string().into());
        external_ids.insert(RULE.into(), self.rule.as_str().into());
        let mut action = self.deed.action(self.stateless);
        if self.staged && self.deed != Deed::Track {
            external_ids.insert(STAGED.into(), action.into());
            action = "pass";
        }
        let keeps = self.persist_established && action == "allow-related";
        let options =
            if keeps { OrdMap::unit("persist-established".into(), "true".into()) } else { OrdMap::new() };
        let name: String = format!("{}/{}", whose.name, self.rule).chars().take(NAME_MAX).collect();
        Acl {
            name: Some(name.into()),
            direction: self.direction.acl().into(),
            tier: self.tier,
            priority: self.priority,
            r#match: self.matches.as_str().into(),
            action: action.into(),
            options,
            external_ids,
            ..Acl::default()
        }
    }
}

/// Makes the unit's ACLs be these.
pub(super) fn write(txn: &mut Txn<'_>, unit: Uuid, whose: &Whose<'_>, wanted: &[Wanted], dirty: &mut Dirty) {
    // Two rules may say the same; one ACL says it for both.
    let wanted: BTreeMap<Uuid, &Wanted> = wanted.iter().map(|wanted| (wanted.acl, wanted)).collect();
    for acl in known(txn.state(), unit) {
        if !wanted.contains_key(&acl) {
            dirty.work.rows += 1;
            leave(txn, acl, None);
            txn.delete::<Acl>(acl);
        }
    }
    for (acl, wanted) in &wanted {
        let row = wanted.row(whose);
        if txn.get::<Acl>(*acl) != Some(&row) {
            dirty.work.rows += 1;
            txn.put(*acl, row);
        }
        leave(txn, *acl, Some(wanted.group));
        let lacks = |group: &PortGroup| !group.acls.contains(&Strong::new(*acl));
        if txn.get::<PortGroup>(wanted.group).is_some_and(lacks) {
            txn.update::<PortGroup>(wanted.group, |group| _ = group.acls.insert(Strong::new(*acl)));
        }
    }
    let keys: Vec<Text> = wanted.keys().map(|acl| acl.to_string().into()).collect();
    lookup::set(txn, lookup::UNIT_ACL, unit, &keys);
}

/// Removes the unit's ACLs.
pub(super) fn forget(txn: &mut Txn<'_>, unit: Uuid, dirty: &mut Dirty) {
    for acl in known(txn.state(), unit) {
        dirty.work.rows += 1;
        leave(txn, acl, None);
        txn.delete::<Acl>(acl);
    }
    lookup::set(txn, lookup::UNIT_ACL, unit, &[]);
}

/// The unit's ACLs. A security group is a unit.
pub(crate) fn known(state: &State, unit: Uuid) -> Vec<Uuid> {
    lookup::keys(state, lookup::UNIT_ACL, unit).iter().filter_map(|key| key.parse().ok()).collect()
}

/// Takes the ACL out of every group but one.
fn leave(txn: &mut Txn<'_>, acl: Uuid, but: Option<Uuid>) {
    let groups: Vec<Uuid> = txn.referrers_through::<Acl, PortGroup>(acl, "acls").collect();
    for group in groups.into_iter().filter(|group| Some(*group) != but) {
        txn.update::<PortGroup>(group, |group| _ = group.acls.remove(&Strong::new(acl)));
    }
}

/// The object that an ACL was made for: its kind and its name.
pub(in crate::lower) fn owner(state: &State, acl: Uuid) -> Option<(&'static str, Text, Uuid)> {
    let unit = lookup::rows(state, lookup::UNIT_ACL, &acl.to_string()).first().copied()?;
    if let Some(group) = state.get::<SecurityGroup>(unit) {
        return Some((SecurityGroup::NAME, group.name.clone(), unit));
    }
    let policy = super::policy::of_unit(state, unit)?;
    Some((SecurityPolicy::NAME, state.get::<SecurityPolicy>(policy)?.name.clone(), policy))
}
