//! Rules of security groups and policies as clients may write them, and as they are kept.
//!
//! # Invariants
//! - What a client left out is kept as left out, so that a document differs from what is there only where it says so.
//! - A rule that says the same as before stays the same row, and so keeps its ACL with its counters.

use imbl::OrdSet;
use quantumnet_api::v1::{RuleAction, RuleDirection, SecurityGroupRule, SecurityPolicyRule};
use quantumnet_model::{
    Row, Strong, Uuid,
    column::Text,
    intent::{SecurityGroupRule as GroupRow, SecurityPolicyRule as PolicyRow},
    selector::{Endpoint, Protocol, Service, SyntaxError, Traffic},
};

use crate::{
    lower::security::{POLICY_RULES_MAX, prefix},
    service::{
        error::invalid,
        meta,
        security_group::{name_of, named_in},
    },
    store::{Refusal, State, Txn},
};

/// Rules of one group, at most.
const GROUP_RULES_MAX: usize = 1_000;
/// Ports and ranges of one rule, at most.
const PORTS_MAX: usize = 64;
const PRIORITY_MAX: u32 = 5_000;

/// What rules and defaults of groups can do.
pub(super) const NO_PASS: &[RuleAction] = &[RuleAction::Allow, RuleAction::Drop, RuleAction::Reject];
/// What rules of policies can do.
pub(super) const ALL_ACTIONS: &[RuleAction] =
    &[RuleAction::Allow, RuleAction::Drop, RuleAction::Reject, RuleAction::Pass];

/// A rule that is kept as a row of its own, in a place of a list.
pub(super) trait Placed: Row {
    fn position(&self) -> i64;
    fn place(&mut self, position: i64);
}

impl Placed for GroupRow {
    fn position(&self) -> i64 {
        self.position
    }

    fn place(&mut self, position: i64) {
        self.position = position;
    }
}

impl Placed for PolicyRow {
    fn position(&self) -> i64 {
        self.position
    }

    fn place(&mut self, position: i64) {
        self.position = position;
    }
}

/// Writes rules in their order. One that says the same as before stays the same row.
pub(super) fn keep<T: Placed>(
    txn: &mut Txn<'_>,
    before: &OrdSet<Strong<T>>,
    rules: Vec<T>,
) -> OrdSet<Strong<T>> {
    let mut known = ordered(txn.state(), before);
    let mut kept = OrdSet::new();
    for (position, mut rule) in (0..).zip(rules) {
        let same = |(_, row): &(Uuid, T)| {
            let mut row = row.clone();
            row.place(rule.position());
            row == rule
        };
        let uuid = match known.iter().position(same) {
            Some(found) => known.remove(found).0,
            None => Uuid::new_v4(),
        };
        rule.place(position);
        if txn.get::<T>(uuid) != Some(&rule) {
            txn.put(uuid, rule);
        }
        kept.insert(Strong::new(uuid));
    }
    if kept == *before { before.clone() } else { kept }
}

fn ordered<T: Placed>(state: &State, rules: &OrdSet<Strong<T>>) -> Vec<(Uuid, T)> {
    let mut rows: Vec<(Uuid, T)> =
        rules.iter().filter_map(|rule| Some((rule.uuid(), state.get::<T>(rule.uuid())?.clone()))).collect();
    rows.sort_by_key(|(_, row)| row.position());
    rows
}

/// A rule of a group, and the text that names its remote group.
pub(super) type Unresolved = (GroupRow, String);

/// Checks rules of a group as far as it can be without the state.
pub(super) fn of_group(rules: &[SecurityGroupRule]) -> Result<Vec<Unresolved>, Refusal> {
    if rules.len() > GROUP_RULES_MAX {
        let message =
            format!("a group has at most {GROUP_RULES_MAX} rules, this one {}; make another", rules.len());
        return Err(invalid("spec.rules", "TOO_MANY_RULES", message));
    }
    rules.iter().enumerate().map(|(place, rule)| group_rule(rule, &format!("spec.rules[{place}]"))).collect()
}

fn group_rule(rule: &SecurityGroupRule, field: &str) -> Result<Unresolved, Refusal> {
    let wrong =
        |part: &str, message: String| Err(invalid(format!("{field}.{part}"), "RULE_INVALID", message));
    about(&rule.name, &rule.description, field)?;
    if rule.priority > PRIORITY_MAX {
        let message = format!("{} is too high, expected 1 to {PRIORITY_MAX}, or 0 for 1000", rule.priority);
        return wrong("priority", message);
    }
    let Some(protocol) = Protocol::named(&rule.protocol) else {
        let message = format!(
            "{:?} is no protocol; use tcp, udp, sctp, icmp, icmpv6, any or a number from 0 to 255",
            rule.protocol
        );
        return wrong("protocol", message);
    };
    if !rule.ports.is_empty() && !protocol.has_ports() {
        let message =
            format!("{:?} has no ports; set protocol to tcp, udp or sctp, or leave ports out", rule.protocol);
        return wrong("ports", message);
    }
    if rule.ports.len() > PORTS_MAX {
        let message =
            format!("a rule has at most {PORTS_MAX} ports and ranges, this one {}", rule.ports.len());
        return wrong("ports", message);
    }
    for (place, ports) in rule.ports.iter().enumerate() {
        if Service::ports(ports).is_none() {
            let message = format!(
                "{ports:?} is no port; use one such as 22, or a range such as 8000-8999, up to 65535"
            );
            return wrong(&format!("ports[{place}]"), message);
        }
    }
    let is_icmp = matches!(protocol, Protocol::Icmp | Protocol::Icmpv6);
    for (part, value) in [("icmp_type", rule.icmp_type), ("icmp_code", rule.icmp_code)] {
        if let Some(value) = value
            && (!is_icmp || value > 255)
        {
            return wrong(part, format!("{value} needs protocol icmp or icmpv6 and a value from 0 to 255"));
        }
    }
    if rule.icmp_code.is_some() && rule.icmp_type.is_none() {
        return wrong("icmp_code", "a code is one of a type; set icmp_type too".to_owned());
    }
    if !rule.remote_group.is_empty() && !rule.remote_prefix.is_empty() {
        let message = "a rule has a remote prefix or a remote group, not both; make two rules".to_owned();
        return wrong("remote_group", message);
    }
    if !rule.remote_prefix.is_empty() {
        let text = &rule.remote_prefix;
        let Some(net) = prefix(text) else {
            return wrong(
                "remote_prefix",
                format!("{text:?} is no prefix such as 10.0.0.0/8 and no address"),
            );
        };
        if net.trunc() != net {
            return wrong("remote_prefix", format!("{text:?} has host bits set; use {}", net.trunc()));
        }
        let other = if net.addr().is_ipv4() { Protocol::Icmpv6 } else { Protocol::Icmp };
        if protocol == other {
            let message =
                format!("{text} has no packets of {}; use the protocol of its family", rule.protocol);
            return wrong("remote_prefix", message);
        }
    }
    let direction = match RuleDirection::try_from(rule.direction) {
        Ok(RuleDirection::Unspecified) => "",
        Ok(RuleDirection::Ingress) => "ingress",
        Ok(RuleDirection::Egress) => "egress",
        Err(_) => {
            return wrong(
                "direction",
                format!("unknown direction {}; use INGRESS or EGRESS", rule.direction),
            );
        }
    };
    let row = GroupRow {
        position: 0,
        name: rule.name.as_str().into(),
        description: rule.description.as_str().into(),
        direction: direction.into(),
        action: action(rule.action, &format!("{field}.action"), NO_PASS)?,
        priority: rule.priority.into(),
        protocol: rule.protocol.as_str().into(),
        ports: rule.ports.join(",").into(),
        icmp_type: rule.icmp_type.map(i64::from),
        icmp_code: rule.icmp_code.map(i64::from),
        remote_prefix: rule.remote_prefix.as_str().into(),
        remote_group: None,
        stateless: rule.stateless,
        persist_established: persist(rule.persist_established, rule.action, rule.stateless, field)?,
    };
    Ok((row, rule.remote_group.clone()))
}

/// Finds the groups that rules name; `own` is that which has the rules.
pub(super) fn with_groups(
    state: &State,
    project: Uuid,
    own: (&str, Uuid),
    rules: Vec<Unresolved>,
) -> Result<Vec<GroupRow>, Refusal> {
    let one = |(place, (mut row, remote)): (usize, Unresolved)| {
        if !remote.is_empty() {
            let field = format!("spec.rules[{place}].remote_group");
            let uuid = if remote == own.0 { own.1 } else { named_in(state, project, &remote, &field)? };
            row.remote_group = Some(Strong::new(uuid));
        }
        Ok(row)
    };
    rules.into_iter().enumerate().map(one).collect()
}

/// Rules of a group as clients are sent them.
pub(super) fn group_messages(state: &State, rules: &OrdSet<Strong<GroupRow>>) -> Vec<SecurityGroupRule> {
    let number = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok());
    let one = |(_, row): (Uuid, GroupRow)| SecurityGroupRule {
        name: row.name.to_string(),
        description: row.description.to_string(),
        direction: match &*row.direction {
            "ingress" => RuleDirection::Ingress,
            "egress" => RuleDirection::Egress,
            _ => RuleDirection::Unspecified,
        } as i32,
        action: action_message(&row.action),
        priority: u32::try_from(row.priority).unwrap_or(0),
        protocol: row.protocol.to_string(),
        ports: row.ports.split(',').filter(|ports| !ports.is_empty()).map(str::to_owned).collect(),
        icmp_type: number(row.icmp_type),
        icmp_code: number(row.icmp_code),
        remote_prefix: row.remote_prefix.to_string(),
        remote_group: row.remote_group.map(|group| name_of(state, group.uuid())).unwrap_or_default(),
        stateless: row.stateless,
        persist_established: row.persist_established,
    };
    ordered(state, rules).into_iter().map(one).collect()
}

/// Checks rules of a policy; `last`: it is asked where no later order is.
pub(super) fn of_policy(rules: &[SecurityPolicyRule]) -> Result<Vec<PolicyRow>, Refusal> {
    if rules.len() > POLICY_RULES_MAX {
        let message =
            format!("a policy has at most {POLICY_RULES_MAX} rules, this one {}; make another", rules.len());
        return Err(invalid("spec.rules", "TOO_MANY_RULES", message));
    }
    rules.iter().enumerate().map(|(place, rule)| policy_rule(rule, &format!("spec.rules[{place}]"))).collect()
}

fn policy_rule(rule: &SecurityPolicyRule, field: &str) -> Result<PolicyRow, Refusal> {
    about(&rule.name, &rule.description, field)?;
    let wrong = |message: String| Err(invalid(format!("{field}.match"), "MATCH_INVALID", message));
    match rule.r#match.parse::<Traffic>() {
        Err(SyntaxError { column, expected, found }) => {
            return wrong(format!("{:?}, column {column}: expected {expected}, found {found}", rule.r#match));
        }
        Ok(Traffic { source: Endpoint::Prefix(_), destination: Endpoint::Prefix(_), .. }) => {
            let message = format!(
                "{:?} is about no port: make its source or its destination a selector, or * for all ports",
                rule.r#match
            );
            return wrong(message);
        }
        Ok(_) => {}
    }
    Ok(PolicyRow {
        position: 0,
        name: rule.name.as_str().into(),
        description: rule.description.as_str().into(),
        traffic: rule.r#match.as_str().into(),
        action: action(rule.action, &format!("{field}.action"), ALL_ACTIONS)?,
        stateless: rule.stateless,
        persist_established: persist(rule.persist_established, rule.action, rule.stateless, field)?,
    })
}

/// Rules of a policy as clients are sent them.
pub(super) fn policy_messages(state: &State, rules: &OrdSet<Strong<PolicyRow>>) -> Vec<SecurityPolicyRule> {
    let one = |(_, row): (Uuid, PolicyRow)| SecurityPolicyRule {
        r#match: row.traffic.to_string(),
        action: action_message(&row.action),
        name: row.name.to_string(),
        description: row.description.to_string(),
        stateless: row.stateless,
        persist_established: row.persist_established,
    };
    ordered(state, rules).into_iter().map(one).collect()
}

/// An action as it is kept; empty if it was left out.
pub(super) fn action(value: i32, field: &str, known: &[RuleAction]) -> Result<Text, Refusal> {
    let action = RuleAction::try_from(value).ok();
    if let Some(action) = action.filter(|action| *action == RuleAction::Unspecified || known.contains(action))
    {
        return Ok(word(action).into());
    }
    let given = action.map_or_else(|| value.to_string(), |action| action.as_str_name().to_owned());
    let known: Vec<&str> = known.iter().map(RuleAction::as_str_name).collect();
    Err(invalid(
        field,
        "ACTION_INVALID",
        format!("{given} cannot stand here; use one of {}", known.join(", ")),
    ))
}

/// A kept action as clients are sent it.
pub(super) fn action_message(text: &str) -> i32 {
    ALL_ACTIONS.iter().find(|action| word(**action) == text).copied().unwrap_or(RuleAction::Unspecified)
        as i32
}

const fn word(action: RuleAction) -> &'static str {
    match action {
        RuleAction::Unspecified => "",
        RuleAction::Allow => "allow",
        RuleAction::Drop => "drop",
        RuleAction::Reject => "reject",
        RuleAction::Pass => "pass",
    }
}

fn persist(persist: bool, action: i32, stateless: bool, field: &str) -> Result<bool, Refusal> {
    let allows = [RuleAction::Unspecified as i32, RuleAction::Allow as i32].contains(&action);
    if persist && (stateless || !allows) {
        let message =
            "only a rule that allows and tracks connections can keep them; leave one of the two out";
        return Err(invalid(format!("{field}.persist_established"), "RULE_INVALID", message));
    }
    Ok(persist)
}

fn about(name: &str, description: &str, field: &str) -> Result<(), Refusal> {
    if !name.is_empty() {
        meta::name(name, &format!("{field}.name"))?;
    }
    meta::description(description, &format!("{field}.description"))
}
