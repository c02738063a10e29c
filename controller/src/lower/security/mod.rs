//! Security groups and policies -> `Port_Group` and `ACL`.
//!
//! # Contract
//! - A security group is a port group of the same uuid; so is a distinct selector of a project as long as a policy needs it
//!   ([`member`] says who is in them). Rules are ACLs of these groups ([`group`], [`policy`]), written and found again
//!   by [`unit`].
//! - Every ACL says in its external_ids whose it is: kind, name and id of the object, and which of its rules.
//!
//! # Invariants
//! - Tiers: 0 staged policies, which only pass; 1 policies of order platform; 2 of order project; 3 rules of groups, policies of order
//!   default, and last what is isolated and the groups' defaults.
//! - No rule of a tenant decides before one of the platform.
//! - A port that comes, goes or changes its labels is looked at by the selectors that this may concern; the members
//!   of a group are looked at when the group is new.

mod group;
mod matches;
mod member;
mod policy;
mod unit;

use std::collections::BTreeSet;

use quantumnet_model::{
    Uuid,
    intent::{
        Port, Project, SecurityGroup, SecurityGroupRule, SecurityPolicy, SecurityPolicyRule, VirtualNetwork,
    },
};

use crate::{
    lower::Dirty,
    replica::SYSTEM_PROJECT,
    store::{Refusal, State, Txn},
};

/// ACLs of a policy, in all projects.
pub(crate) use policy::acls as acls_of_policy;
pub(super) use policy::needing;
/// ACLs of a security group.
pub(crate) use unit::known as acls_of_group;
pub(super) use unit::owner;
pub(crate) use unit::{RULE, STAGED};

/// Northbound name of a security group.
pub(crate) fn port_group(group: Uuid) -> String {
    format!("sg_{}", group.simple())
}

pub(crate) use group::prefix;
/// Rules of one policy, at most.
pub(crate) const POLICY_RULES_MAX: usize = policy::RULES_MAX as usize;
/// What the policy's selectors match, in their normal form.
pub(crate) use policy::selected;

/// The security groups that filter a port.
pub(crate) use member::groups_of;

/// When rules are asked.
const TIER_STAGED: i64 = 0;
const TIER_PLATFORM: i64 = 1;
const TIER_PROJECT: i64 = 2;
const TIER_LAST: i64 = 3;

/// Priorities of what has no rule: what is not to be stopped, then what stops, then what lets pass.
const PRIORITY_BASICS: i64 = 3;
const PRIORITY_STOP: i64 = 2;
const PRIORITY_PASS: i64 = 1;

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) -> Result<(), Refusal> {
    for touched in txn.touched_in::<SecurityGroup>() {
        dirty.work.rows += 1;
        group::port_group(txn, touched.uuid);
    }
    let mut policies: BTreeSet<Uuid> = BTreeSet::new();
    for touched in txn.touched_in::<SecurityPolicy>() {
        policies.insert(touched.uuid);
    }
    for touched in txn.touched_in::<SecurityPolicyRule>() {
        policies.extend(txn.referrers_through::<SecurityPolicyRule, SecurityPolicy>(touched.uuid, "rules"));
    }
    let projects: BTreeSet<Uuid> = txn.touched_in::<Project>().iter().map(|touched| touched.uuid).collect();
    policy::lower(txn, &policies, &projects, dirty)?;
    // After the rules that name a group went, before those who are new name theirs.
    group::lower(txn, dirty)?;
    member::lower(txn, dirty);
    Ok(())
}

/// The groups whose rules may have changed.
fn touched_groups(txn: &Txn<'_>) -> BTreeSet<Uuid> {
    let mut groups: BTreeSet<Uuid> =
        txn.touched_in::<SecurityGroup>().iter().map(|touched| touched.uuid).collect();
    for touched in txn.touched_in::<SecurityGroupRule>() {
        groups.extend(txn.referrers_through::<SecurityGroupRule, SecurityGroup>(touched.uuid, "rules"));
    }
    groups
}

/// Ports whose groups may have changed.
fn touched_ports(txn: &Txn<'_>) -> BTreeSet<Uuid> {
    let mut ports: BTreeSet<Uuid> = txn.touched_in::<Port>().iter().map(|touched| touched.uuid).collect();
    for touched in txn.touched_in::<VirtualNetwork>() {
        let default = |row: Option<&VirtualNetwork>| row.and_then(|row| row.default_security_group);
        if default(touched.before()) != default(touched.after()) {
            ports.extend(txn.referrers_through::<VirtualNetwork, Port>(touched.uuid, "network"));
        }
    }
    ports
}

/// Whether policies of the project are about all projects.
fn is_system(state: &State, project: Uuid) -> bool {
    state.get::<Project>(project).is_some_and(|row| &*row.name == SYSTEM_PROJECT)
}
