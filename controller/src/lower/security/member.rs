//! Who is in the port groups of security groups and selectors.
//!
//! # Invariants
//! - A group of a selector has a `Selector_Group` row of the same uuid, and `Lookup` rows by which it is found when a
//!   label changes that may concern it.
//! - A port's own change looks at the groups that it may concern, and writes those that it enters or leaves.

use std::collections::BTreeSet;

use quantumnet_model::{
    Row, Uuid, Weak,
    column::Text,
    intent::{Port, Project, SecurityGroup, SelectorGroup, VirtualNetwork},
    nb::{LogicalSwitchPort, PortGroup},
    selector::{Labels, Selector, Trigger},
};
use uuid::uuid;

use crate::{
    lower::{Dirty, lookup, owner},
    store::{State, Txn},
};

const NAMESPACE: Uuid = uuid!("a4d0e6b1-0f6c-4c1e-9a25-7b8e3f5d1c92");

/// Label that a VM's name is seen as.
const VM: &str = "vm";

/// Northbound name of a selector's group.
pub(super) fn name(group: Uuid) -> String {
    format!("tag_{}", group.simple())
}

/// The group of a selector in a project, made if it is not there.
pub(super) fn ensure(txn: &mut Txn<'_>, project: Uuid, selector: &Selector, dirty: &mut Dirty) -> Uuid {
    let text = Text::from(selector.to_string());
    let group = Uuid::new_v5(&NAMESPACE, format!("{project} {text}").as_bytes());
    if txn.get::<SelectorGroup>(group).is_some() {
        return group;
    }
    dirty.work.rows += 1;
    let ports: Vec<Uuid> = txn
        .referrers_through::<Project, Port>(project, "project")
        .filter(|port| txn.get::<Port>(*port).is_some_and(|port| selector.matches(&labels(port))))
        .filter(|port| txn.get::<LogicalSwitchPort>(*port).is_some())
        .collect();
    let row = PortGroup {
        name: name(group).into(),
        ports: ports.into_iter().map(Weak::new).collect(),
        external_ids: owner::external_ids(SelectorGroup::NAME, &text, project),
        ..PortGroup::default()
    };
    txn.put(group, row);
    let mut keys: Vec<Text> =
        selector.triggers().iter().map(|trigger| trigger_key(project, trigger)).collect();
    if selector.matches(&Labels::new()) {
        keys.push(unlabelled_key(project));
    }
    lookup::set(txn, lookup::TRIGGER, group, &keys);
    txn.put(group, SelectorGroup { project, selector: text });
    group
}

/// Removes the group of a selector that nobody needs.
pub(super) fn forget(txn: &mut Txn<'_>, group: Uuid) {
    txn.delete::<SelectorGroup>(group);
    txn.delete::<PortGroup>(group);
    lookup::set(txn, lookup::TRIGGER, group, &[]);
}

/// Moves ports that were touched into the groups they are in now.
pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    for touched in txn.touched_in::<Port>() {
        let Some(port) = touched.after::<Port>() else { continue };
        let (project, now) = (port.project.uuid(), labels(port));
        let before = touched.before::<Port>().map(labels);
        if before.as_ref() == Some(&now) {
            continue;
        }
        for group in concerned(txn, project, before.as_ref(), &now) {
            let selector =
                txn.get::<SelectorGroup>(group).and_then(|row| row.selector.parse::<Selector>().ok());
            let is_member = selector.is_some_and(|selector| selector.matches(&now));
            set_member(txn, group, touched.uuid, is_member, dirty);
        }
    }
    for uuid in super::touched_ports(txn) {
        let Some(port) = txn.get::<Port>(uuid) else { continue };
        let wanted = groups_of(txn.state(), port);
        let present: BTreeSet<Uuid> = txn
            .referrers_through::<LogicalSwitchPort, PortGroup>(uuid, "ports")
            .filter(|group| txn.get::<SecurityGroup>(*group).is_some())
            .collect();
        for group in present.symmetric_difference(&wanted) {
            set_member(txn, *group, uuid, wanted.contains(group), dirty);
        }
    }
}

/// The security groups that filter a port: its own, or its network's default.
pub(crate) fn groups_of(state: &State, port: &Port) -> BTreeSet<Uuid> {
    if !port.security_groups.is_empty() || port.no_security_groups {
        return port.security_groups.iter().map(|group| group.uuid()).collect();
    }
    let network = state.get::<VirtualNetwork>(port.network.uuid());
    network.and_then(|network| network.default_security_group).into_iter().map(|group| group.uuid()).collect()
}

/// What selectors see of a port.
fn labels(port: &Port) -> Labels {
    let named = if port.vm.is_empty() { Labels::new() } else { Labels::unit(VM.into(), port.vm.clone()) };
    // Of two with one key that on the left stays.
    port.labels.clone().union(port.vm_labels.clone()).union(named)
}

/// Groups of selectors that a port with these labels may have entered or left.
fn concerned(txn: &Txn<'_>, project: Uuid, before: Option<&Labels>, now: &Labels) -> BTreeSet<Uuid> {
    let none = Labels::new();
    let fired = Selector::fired(before.unwrap_or(&none), now);
    let mut keys: BTreeSet<Text> = fired.iter().map(|trigger| trigger_key(project, trigger)).collect();
    if before.is_none() {
        keys.insert(unlabelled_key(project));
    }
    keys.iter().flat_map(|key| lookup::rows(txn.state(), lookup::TRIGGER, key)).collect()
}

fn set_member(txn: &mut Txn<'_>, group: Uuid, port: Uuid, is_member: bool, dirty: &mut Dirty) {
    let port = Weak::new(port);
    if txn.get::<PortGroup>(group).is_none_or(|row| row.ports.contains(&port) == is_member) {
        return;
    }
    dirty.work.rows += 1;
    txn.update::<PortGroup>(group, |row| {
        if is_member {
            row.ports.insert(port);
        } else {
            row.ports.remove(&port);
        }
    });
}

fn trigger_key(project: Uuid, trigger: &Trigger) -> Text {
    match trigger {
        Trigger::Value(key, value) => format!("{project} = {key}={value}").into(),
        Trigger::Presence(key) => format!("{project} ? {key}").into(),
    }
}

/// Of selectors that match a port without labels.
fn unlabelled_key(project: Uuid) -> Text {
    format!("{project} *").into()
}
