//! Rows as the objects that users know.
//!
//! # Contract
//! - In: table and uuid of a row, as an agent names what a flow was made for. Out: the object that it was lowered from, with the
//!   part of it that the row is, what that says, and the object's revision. A row that nobody owns is its own object.
//! - A row that is gone meanwhile is named by its uuid.

use std::fmt;

use quantumnet_api::v1::ExplainedObject;
use quantumnet_model::{
    Row, Uuid,
    column::Text,
    intent::{
        FloatingIp, Port, Project, Router, SecurityGroup, SecurityGroupRule, SecurityPolicy,
        SecurityPolicyRule, Subnet, VirtualNetwork,
    },
    nb::{
        Acl, LogicalRouter, LogicalRouterPolicy, LogicalRouterPort, LogicalRouterStaticRoute, LogicalSwitch,
        LogicalSwitchPort, Nat, PortGroup, Qos,
    },
    row::TableId,
    sb::{DatapathBinding, PortBinding},
    tables,
};

use crate::{
    lower::{
        owner,
        security::{RULE, STAGED},
    },
    store::State,
};

/// A row as users know it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Object {
    /// `Port`, `SecurityGroup`, …, or the table of a row that nobody owns.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: Uuid,
    /// Name of its project; empty for none.
    pub project: String,
    /// Which part of it the row is; empty for the whole.
    pub part: String,
    /// What that says.
    pub says: String,
    /// Revision of its last change; 0 for none.
    pub revision: u64,
    /// Table of the row.
    pub row_table: String,
    /// The row.
    pub row: Uuid,
}

impl Object {
    /// Of a row.
    pub fn of(state: &State, table: TableId, row: Uuid) -> Self {
        let (part, says) = part(state, table, row);
        let row_table = tables::decl(table).name.to_owned();
        let this = Self { part, says, row_table: row_table.clone(), row, ..Self::default() };
        match owner::object(state, table, row) {
            Some((kind, name, id)) => {
                let (project, revision) = stamp(state, kind, id);
                let kind = kind.replace("Floating_IP", "FloatingIp").replace('_', "");
                Self { kind, name: name.to_string(), id, project, revision, ..this }
            }
            None => {
                let name = own_name(state, table, row).unwrap_or_else(|| row.to_string());
                Self { kind: row_table, name, id: row, ..this }
            }
        }
    }

    /// Of a row whose table is known by its name, as agents have it.
    pub fn named(state: &State, table: &str, row: Uuid) -> Option<Self> {
        let id = tables::ids().find(|id| {
            let decl = tables::decl(*id);
            decl.name == table && decl.database.is_replicated()
        })?;
        Some(Self::of(state, id, row))
    }

    /// For clients.
    pub fn message(&self) -> ExplainedObject {
        ExplainedObject {
            kind: self.kind.clone(),
            name: self.name.clone(),
            id: self.id.to_string(),
            project: self.project.clone(),
            part: self.part.clone(),
            says: self.says.clone(),
            revision: self.revision,
            row_table: self.row_table.clone(),
            row: self.row.to_string(),
        }
    }
}

impl fmt::Display for Object {
    /// `rule ssh of SecurityGroup web`, `Port db`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, part, .. } = self;
        if self.row_table == Acl::NAME && !part.is_empty() {
            write!(f, "rule {part} of ")?;
        } else if !part.is_empty() {
            write!(f, "{part} of ")?;
        }
        write!(f, "{kind} {name}")?;
        if self.revision > 0 { write!(f, " (revision {})", self.revision) } else { Ok(()) }
    }
}

/// Project and revision of an object of a table.
fn stamp(state: &State, kind: &str, id: Uuid) -> (String, u64) {
    macro_rules! of {
        ($($table:ty),*) => {
            $(if kind == <$table>::NAME && let Some(row) = state.get::<$table>(id) {
                return (project(state, row.project.uuid()), u64::try_from(row.revision).unwrap_or(0));
            })*
        };
    }
    of!(Port, VirtualNetwork, Router, FloatingIp, SecurityGroup, SecurityPolicy);
    if kind == Subnet::NAME
        && let Some(network) = state.referrers_through::<Subnet, VirtualNetwork>(id, "subnets").next()
    {
        return stamp(state, VirtualNetwork::NAME, network);
    }
    (String::new(), 0)
}

/// Name of a project.
pub(crate) fn project(state: &State, uuid: Uuid) -> String {
    state.get::<Project>(uuid).map(|row| row.name.to_string()).unwrap_or_default()
}

/// Which part of its object a row is, and what it says.
fn part(state: &State, table: TableId, row: Uuid) -> (String, String) {
    if table == Acl::TABLE
        && let Some(acl) = state.get::<Acl>(row)
    {
        let part = acl.external_ids.get(RULE).map(Text::to_string).unwrap_or_default();
        let asked = asked(state, row, &part).unwrap_or_else(|| acl_says(state, row, acl));
        return (part, asked);
    }
    if table == LogicalRouterStaticRoute::TABLE
        && let Some(route) = state.get::<LogicalRouterStaticRoute>(row)
    {
        return (format!("route {}", route.ip_prefix), format!("{} via {}", route.ip_prefix, route.nexthop));
    }
    if table == LogicalRouterPolicy::TABLE
        && let Some(policy) = state.get::<LogicalRouterPolicy>(row)
    {
        let says = format!("{} priority {}: {}", policy.action, policy.priority, policy.r#match);
        return (format!("policy {}", policy.priority), says);
    }
    if table == Nat::TABLE
        && let Some(nat) = state.get::<Nat>(row)
    {
        let says = format!("{} {} <-> {}", nat.r#type, nat.external_ip, nat.logical_ip);
        return (format!("translation {}", nat.external_ip), says);
    }
    if table == Qos::TABLE
        && let Some(qos) = state.get::<Qos>(row)
    {
        return (String::new(), format!("{} priority {}: {}", qos.direction, qos.priority, qos.r#match));
    }
    if table == LogicalRouterPort::TABLE
        && let Some(port) = state.get::<LogicalRouterPort>(row)
    {
        let networks: Vec<&str> = port.networks.iter().map(|network| &**network).collect();
        // Those of intent have no name that says more.
        return (format!("port {}", networks.first().unwrap_or(&&*port.name)), networks.join(" "));
    }
    // A port of a network that is no Port: to a router or to a physical network.
    if (table == PortBinding::TABLE || table == LogicalSwitchPort::TABLE)
        && state.get::<Port>(row).is_none()
        && let Some(name) = port_name(state, row)
        && owner::object(state, table, row).is_some()
    {
        let kind = state.get::<PortBinding>(row).map_or("", |binding| &*binding.r#type);
        let part = match kind {
            "patch" | "l3gateway" => "port to the router".to_owned(),
            "localnet" => "port to the physical network".to_owned(),
            _ => format!("port {name}"),
        };
        return (part, String::new());
    }
    Default::default()
}

/// What users asked for by an ACL, in their words: as staged if it only counts.
fn asked(state: &State, acl: Uuid, part: &str) -> Option<String> {
    let (kind, _, id) = owner::object(state, Acl::TABLE, acl)?;
    if kind == SecurityGroup::NAME {
        let group = state.get::<SecurityGroup>(id)?;
        let or = |text: &Text, usual: &str| if text.is_empty() { usual.to_owned() } else { text.to_string() };
        return match part {
            "default-ingress" => Some(format!("default_ingress: {}", or(&group.default_ingress, "drop"))),
            "default-egress" => Some(format!("default_egress: {}", or(&group.default_egress, "allow"))),
            _ => state.get::<SecurityGroupRule>(acl).map(|rule| group_rule(state, rule)),
        };
    }
    let policy = state.get::<SecurityPolicy>(id)?;
    let staged = if policy.staged { " (staged: stops nothing)" } else { "" };
    if part == "isolate" {
        return Some(format!("nothing else for ports that its rules allow something{staged}"));
    }
    let rules = policy.rules.iter().filter_map(|rule| state.get::<SecurityPolicyRule>(rule.uuid()));
    let rule = rules
        .filter(|rule| *rule.name == *part || format!("rules[{}]", rule.position) == part)
        .find(|rule| !rule.traffic.is_empty())?;
    let action = if rule.action.is_empty() { "allow" } else { &*rule.action };
    Some(format!("{action} {}{staged}", rule.traffic))
}

/// A rule of a group as one line.
fn group_rule(state: &State, rule: &SecurityGroupRule) -> String {
    let egress = &*rule.direction == "egress";
    let mut text = format!(
        "{} {} {}",
        if egress { "egress" } else { "ingress" },
        if rule.action.is_empty() { "allow" } else { &*rule.action },
        if rule.protocol.is_empty() { "any" } else { &*rule.protocol }
    );
    if !rule.ports.is_empty() {
        text += &format!(" ports {}", rule.ports);
    }
    if let Some(kind) = rule.icmp_type {
        text += &format!(" type {kind}");
    }
    let remote = match &rule.remote_group {
        Some(group) => state.get::<SecurityGroup>(group.uuid()).map(|group| format!("group {}", group.name)),
        None => Some(rule.remote_prefix.to_string()).filter(|prefix| !prefix.is_empty()),
    };
    if let Some(remote) = remote {
        text += &format!(" {} {remote}", if egress { "to" } else { "from" });
    }
    text
}

fn acl_says(state: &State, uuid: Uuid, acl: &Acl) -> String {
    let holder = state
        .referrers_through::<Acl, PortGroup>(uuid, "acls")
        .next()
        .and_then(|group| state.get::<PortGroup>(group))
        .map(|group| format!("port group {}", group.name));
    let holder = holder.or_else(|| {
        let switch = state.referrers_through::<Acl, LogicalSwitch>(uuid, "acls").next()?;
        Some(format!("switch {}", state.get::<LogicalSwitch>(switch)?.name))
    });
    let staged = acl.external_ids.get(STAGED).map(|would| format!(", staged: would {would}"));
    format!(
        "{} {} priority {} tier {} of {}{}: {}",
        acl.direction,
        acl.action,
        acl.priority,
        acl.tier,
        holder.unwrap_or_else(|| "nobody".to_owned()),
        staged.unwrap_or_default(),
        acl.r#match
    )
}

fn port_name(state: &State, row: Uuid) -> Option<String> {
    let northbound = state.get::<LogicalSwitchPort>(row).map(|port| &port.name);
    let name = northbound.or_else(|| Some(&state.get::<PortBinding>(row)?.logical_port));
    name.map(Text::to_string)
}

/// What a row that nobody owns is called.
fn own_name(state: &State, table: TableId, row: Uuid) -> Option<String> {
    let text = |name: &Text| Some(name.to_string()).filter(|name| !name.is_empty());
    if table == Acl::TABLE {
        return text(state.get::<Acl>(row)?.name.as_ref()?);
    }
    if table == LogicalSwitchPort::TABLE || table == PortBinding::TABLE {
        return port_name(state, row);
    }
    if table == LogicalRouterPort::TABLE {
        return text(&state.get::<LogicalRouterPort>(row)?.name);
    }
    if table == PortGroup::TABLE {
        return text(&state.get::<PortGroup>(row)?.name);
    }
    if [LogicalSwitch::TABLE, LogicalRouter::TABLE, DatapathBinding::TABLE].contains(&table) {
        let switch = state.get::<LogicalSwitch>(row).map(|row| &row.name);
        return text(switch.or_else(|| Some(&state.get::<LogicalRouter>(row)?.name))?);
    }
    None
}
