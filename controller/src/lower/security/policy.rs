//! `Security_Policy` -> `ACL`s of the port groups of its selectors, for one project at a time.
//!
//! # Contract
//! - A unit is a policy in a project: its own, or of a policy of `system` any other.
//! - A rule is asked where its packets are received, if the destination is selected, and where they are sent, if the
//!   source is. What stops needs to be asked at one end only.
//!
//! # Invariants
//! - A `Lookup` row leads from each unit to its policy and its project, another to the groups that it needs.

use std::collections::{BTreeMap, BTreeSet};

use quantumnet_model::{
    Row, Uuid,
    column::Text,
    intent::{Project, SecurityPolicy, SecurityPolicyRule, SelectorGroup},
    nb::PortGroup,
    selector::{Endpoint, Selector, Traffic},
};
use uuid::uuid;

use crate::{
    lower::{Dirty, lookup},
    replica::SYSTEM_PROJECT,
    store::{Class, Refusal, State, Txn},
};

use super::{
    PRIORITY_BASICS, PRIORITY_STOP, TIER_LAST, TIER_PLATFORM, TIER_PROJECT, TIER_STAGED, is_system,
    matches::{self, Direction, Remote},
    member,
    unit::{self, Deed, Wanted, Whose},
};

const NAMESPACE: Uuid = uuid!("3e57b7c4-91ab-4c59-9f0d-20a4d6e81f37");

/// Rules of one policy, at most.
pub(crate) const RULES_MAX: i64 = 100;
/// Below every rule: what has no rule.
const PRIORITY_FIRST: i64 = 100;
/// Priorities that the policies of one order have: 101 of their own times [`RULES_MAX`].
const PRIORITIES: i64 = 101 * RULES_MAX;

/// Lowers policies that were touched, and those of the platform in projects that came or went.
pub(super) fn lower(
    txn: &mut Txn<'_>,
    policies: &BTreeSet<Uuid>,
    projects: &BTreeSet<Uuid>,
    dirty: &mut Dirty,
) -> Result<(), Refusal> {
    let mut needed: BTreeMap<Uuid, (Uuid, Uuid)> = BTreeMap::new();
    let mut gone: BTreeSet<Uuid> = BTreeSet::new();
    let mut need = |policy: Uuid, project: Uuid| needed.insert(unit_of(policy, project), (policy, project));
    for policy in policies {
        gone.extend(lookup::rows(txn.state(), lookup::UNIT, &policy_key(*policy)));
        let Some(row) = txn.get::<SecurityPolicy>(*policy) else { continue };
        let own = row.project.uuid();
        if !is_system(txn.state(), own) {
            need(*policy, own);
            continue;
        }
        for (project, _) in txn.iter::<Project>().filter(|(project, _)| *project != own) {
            need(*policy, project);
        }
    }
    let system = txn.find::<Project>(&[("name", SYSTEM_PROJECT.into())]);
    for project in projects.iter().filter(|project| Some(**project) != system) {
        if txn.get::<Project>(*project).is_none() {
            gone.extend(lookup::rows(txn.state(), lookup::UNIT, &project_key(*project)));
        } else if let Some(system) = system {
            for policy in txn.referrers_through::<Project, SecurityPolicy>(system, "project") {
                need(policy, *project);
            }
        }
    }
    let mut unneeded: BTreeSet<Uuid> = BTreeSet::new();
    for unit in gone.into_iter().filter(|unit| !needed.contains_key(unit)) {
        unneeded.extend(groups_of(txn.state(), unit));
        unit::forget(txn, unit, dirty);
        lookup::set(txn, lookup::SELECTOR, unit, &[]);
        lookup::set(txn, lookup::UNIT, unit, &[]);
    }
    for (unit, (policy, project)) in needed {
        dirty.work.rows += 1;
        unneeded.extend(groups_of(txn.state(), unit));
        one(txn, unit, policy, project, dirty)?;
    }
    for group in unneeded {
        if !lookup::finds(txn.state(), lookup::SELECTOR, &group.to_string()) {
            dirty.work.rows += 1;
            member::forget(txn, group);
        }
    }
    Ok(())
}

/// The policy of a unit.
pub(super) fn of_unit(state: &State, unit: Uuid) -> Option<Uuid> {
    lookup::keys(state, lookup::UNIT, unit).iter().find_map(|key| key.strip_prefix(POLICY)?.parse().ok())
}

/// A policy that needs the group.
pub(in crate::lower) fn needing(state: &State, group: Uuid) -> Option<Uuid> {
    let unit = lookup::rows(state, lookup::SELECTOR, &group.to_string()).first().copied()?;
    of_unit(state, unit)
}

/// ACLs of a policy, in all projects.
pub(crate) fn acls(state: &State, policy: Uuid) -> Vec<Uuid> {
    let units = lookup::rows(state, lookup::UNIT, &policy_key(policy));
    units.into_iter().flat_map(|unit| unit::known(state, unit)).collect()
}

/// The selectors of a policy in their normal form, and how many ports each matches.
pub(crate) fn selected(state: &State, policy: Uuid) -> BTreeMap<Text, u64> {
    let mut selected: BTreeMap<Text, u64> = BTreeMap::new();
    for unit in lookup::rows(state, lookup::UNIT, &policy_key(policy)) {
        for group in groups_of(state, unit) {
            let (Some(row), Some(ports)) = (state.get::<SelectorGroup>(group), state.get::<PortGroup>(group))
            else {
                continue;
            };
            *selected.entry(row.selector.clone()).or_default() += ports.ports.len() as u64;
        }
    }
    selected
}

fn groups_of(state: &State, unit: Uuid) -> Vec<Uuid> {
    lookup::keys(state, lookup::SELECTOR, unit).iter().filter_map(|key| key.parse().ok()).collect()
}

const POLICY: &str = "policy ";

fn policy_key(policy: Uuid) -> String {
    format!("{POLICY}{policy}")
}

fn project_key(project: Uuid) -> String {
    format!("project {project}")
}

fn unit_of(policy: Uuid, project: Uuid) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{policy} {project}").as_bytes())
}

/// A rule, understood.
struct Rule {
    uuid: Uuid,
    name: String,
    priority: i64,
    deed: Deed,
    stateless: bool,
    persist_established: bool,
    traffic: Traffic,
}

fn one(txn: &mut Txn<'_>, unit: Uuid, policy: Uuid, project: Uuid, dirty: &mut Dirty) -> Result<(), Refusal> {
    let Some(row) = txn.get::<SecurityPolicy>(policy).cloned() else { return Ok(()) };
    let mut lowering = Lowering {
        unit,
        project,
        staged: row.staged,
        tier: tier(&row, is_system(txn.state(), row.project.uuid())),
        needed: BTreeSet::new(),
        isolated: BTreeSet::new(),
        wanted: Vec::new(),
    };
    let isolates = match &*row.isolate {
        "nothing" => [].as_slice(),
        "both" => &[Direction::Ingress, Direction::Egress],
        _ => &[Direction::Ingress],
    };
    for rule in rules(txn, &row, lowering.tier)? {
        lowering.rule(txn, &rule, isolates, dirty);
    }
    lowering.isolate();
    let Lowering { needed, wanted, .. } = lowering;
    lookup::set(txn, lookup::UNIT, unit, &[policy_key(policy).into(), project_key(project).into()]);
    let needed: Vec<Text> = needed.iter().map(|group| group.to_string().into()).collect();
    lookup::set(txn, lookup::SELECTOR, unit, &needed);
    let whose = Whose { kind: SecurityPolicy::NAME, id: policy, name: &row.name, project };
    unit::write(txn, unit, &whose, &wanted, dirty);
    Ok(())
}

/// The tier of a policy that is in force.
fn tier(row: &SecurityPolicy, system: bool) -> i64 {
    match &*row.order {
        "default" => TIER_LAST,
        "platform" => TIER_PLATFORM,
        "" if system => TIER_PLATFORM,
        _ => TIER_PROJECT,
    }
}

fn rules(txn: &Txn<'_>, policy: &SecurityPolicy, tier: i64) -> Result<Vec<Rule>, Refusal> {
    // All staged policies share a tier, the orders one above the other.
    let order = if policy.staged { TIER_LAST - tier } else { 0 };
    let first = PRIORITY_FIRST + order * PRIORITIES + policy.priority * RULES_MAX;
    let rules = policy
        .rules
        .iter()
        .filter_map(|rule| Some((rule.uuid(), txn.get::<SecurityPolicyRule>(rule.uuid())?)));
    rules
        .map(|(uuid, row)| {
            let traffic = row.traffic.parse().map_err(|error: quantumnet_model::selector::SyntaxError| {
                let field = format!("spec.rules[{}].match", row.position);
                Refusal::service(Class::InvalidArgument, "MATCH_INVALID", error.to_string()).at(field)
            })?;
            Ok(Rule {
                uuid,
                name: if row.name.is_empty() {
                    format!("rules[{}]", row.position)
                } else {
                    row.name.to_string()
                },
                priority: first + (RULES_MAX - 1 - row.position).max(0),
                deed: Deed::of(&row.action, Deed::Allow),
                stateless: row.stateless,
                persist_established: row.persist_established,
                traffic,
            })
        })
        .collect()
}

/// A unit on its way.
struct Lowering {
    unit: Uuid,
    project: Uuid,
    staged: bool,
    tier: i64,
    needed: BTreeSet<Uuid>,
    /// Groups and directions that are left with what is allowed.
    isolated: BTreeSet<(Uuid, Direction)>,
    wanted: Vec<Wanted>,
}

impl Lowering {
    fn rule(&mut self, txn: &mut Txn<'_>, rule: &Rule, isolates: &[Direction], dirty: &mut Dirty) {
        let Traffic { source, destination, services } = &rule.traffic;
        let is_select = |end: &Endpoint| matches!(end, Endpoint::Select(_));
        for (direction, here, there) in
            [(Direction::Ingress, destination, source), (Direction::Egress, source, destination)]
        {
            let asked = match here {
                Endpoint::Select(_) => {
                    // What is stopped where it arrives need not be stopped where it begins.
                    let stopped_there =
                        rule.deed.stops() && direction == Direction::Egress && is_select(there);
                    !stopped_there
                }
                Endpoint::Any => !is_select(there),
                Endpoint::Prefix(_) => false,
            };
            if !asked {
                continue;
            }
            let group = self.group(txn, here, dirty);
            let remote = match there {
                Endpoint::Any => Remote::Any,
                Endpoint::Prefix(net) => Remote::Prefix(*net),
                Endpoint::Select(_) => Remote::Group(member::name(self.group(txn, there, dirty))),
            };
            if rule.deed == Deed::Allow && isolates.contains(&direction) {
                self.isolated.insert((group, direction));
            }
            self.wanted.push(Wanted {
                acl: self.acl(&format!("{} {}", rule.uuid, direction.word())),
                group,
                direction,
                tier: if self.staged { TIER_STAGED } else { self.tier },
                priority: rule.priority,
                matches: matches::traffic(direction, &member::name(group), &remote, services),
                deed: rule.deed,
                staged: self.staged,
                stateless: rule.stateless,
                persist_established: rule.persist_established,
                rule: rule.name.clone(),
            });
        }
    }

    /// The group of what an end selects.
    fn group(&mut self, txn: &mut Txn<'_>, end: &Endpoint, dirty: &mut Dirty) -> Uuid {
        let selector = match end {
            Endpoint::Select(selector) => selector,
            Endpoint::Any | Endpoint::Prefix(_) => &Selector::ALL,
        };
        let group = member::ensure(txn, self.project, selector, dirty);
        self.needed.insert(group);
        group
    }

    fn isolate(&mut self) {
        for (group, direction) in std::mem::take(&mut self.isolated) {
            let name = member::name(group);
            let (basics, everything) =
                (matches::basics(direction, &name), matches::everything(direction, &name));
            let mut parts = vec![
                ("basics", PRIORITY_BASICS, basics, Deed::Spare),
                ("isolate", PRIORITY_STOP, everything, Deed::Drop),
            ];
            if self.staged {
                // Or replies would be counted, which the policy in force would let pass.
                parts.push(("track", PRIORITY_BASICS, "0".to_owned(), Deed::Track));
            }
            for (part, priority, matches, deed) in parts {
                self.wanted.push(Wanted {
                    acl: self.acl(&format!("{group} {} {part}", direction.word())),
                    group,
                    direction,
                    tier: if self.staged { TIER_STAGED } else { TIER_LAST },
                    priority,
                    matches,
                    deed,
                    staged: self.staged,
                    stateless: false,
                    persist_established: false,
                    rule: "isolate".to_owned(),
                });
            }
        }
    }

    fn acl(&self, part: &str) -> Uuid {
        Uuid::new_v5(&self.unit, part.as_bytes())
    }
}
