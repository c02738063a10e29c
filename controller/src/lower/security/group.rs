//! `Security_Group` -> `Port_Group`, its rules and defaults -> `ACL`.

use ipnet::IpNet;
use quantumnet_model::{
    Row, Uuid,
    intent::{SecurityGroup, SecurityGroupRule},
    nb::PortGroup,
    selector::{Protocol, Service},
};
use uuid::uuid;

use crate::{
    lower::{Dirty, owner},
    store::{Class, Refusal, Txn},
};

use super::{
    PRIORITY_BASICS, PRIORITY_PASS, PRIORITY_STOP, TIER_LAST,
    matches::{self, Direction, Remote},
    unit::{self, Deed, Wanted, Whose},
};

const NAMESPACE: Uuid = uuid!("b1f6a9c2-52d7-4f0e-8a3f-6d1c90e7b458");

/// Added to what rules of groups have, so that policies of order default come after them.
const PRIORITY_RULES: i64 = 20_000;
/// Of rules that have none.
const PRIORITY_USUAL: i64 = 1_000;

/// Makes, renames or removes the port group of a security group.
pub(super) fn port_group(txn: &mut Txn<'_>, uuid: Uuid) {
    let Some(group) = txn.get::<SecurityGroup>(uuid) else {
        txn.delete::<PortGroup>(uuid);
        return;
    };
    let before = txn.get::<PortGroup>(uuid).cloned().unwrap_or_default();
    let row = PortGroup {
        name: super::port_group(uuid).into(),
        external_ids: owner::external_ids(SecurityGroup::NAME, &group.name, group.project.uuid()),
        ..before.clone()
    };
    if row != before {
        txn.put(uuid, row);
    }
}

/// Lowers the rules of groups that were touched.
pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) -> Result<(), Refusal> {
    for uuid in super::touched_groups(txn) {
        dirty.work.rows += 1;
        let Some(group) = txn.get::<SecurityGroup>(uuid).cloned() else {
            unit::forget(txn, uuid, dirty);
            continue;
        };
        let mut wanted = Vec::new();
        for rule in &group.rules {
            let Some(row) = txn.get::<SecurityGroupRule>(rule.uuid()) else { continue };
            wanted.push(of_rule(txn, uuid, &group, rule.uuid(), row)?);
        }
        let ingress = Deed::of(&group.default_ingress, Deed::Drop);
        wanted.extend(default(uuid, &group, Direction::Ingress, ingress));
        let egress = Deed::of(&group.default_egress, Deed::Allow);
        wanted.extend(default(uuid, &group, Direction::Egress, egress));
        let whose =
            Whose { kind: SecurityGroup::NAME, id: uuid, name: &group.name, project: group.project.uuid() };
        unit::write(txn, uuid, &whose, &wanted, dirty);
    }
    Ok(())
}

fn of_rule(
    txn: &Txn<'_>,
    uuid: Uuid,
    group: &SecurityGroup,
    rule: Uuid,
    row: &SecurityGroupRule,
) -> Result<Wanted, Refusal> {
    let direction = if &*row.direction == "egress" { Direction::Egress } else { Direction::Ingress };
    let deed = Deed::of(&row.action, Deed::Allow);
    let own = if row.priority == 0 { PRIORITY_USUAL } else { row.priority };
    let wrong = |message: String| {
        let field = format!("spec.rules[{}]", row.position);
        Refusal::service(Class::InvalidArgument, "RULE_INVALID", message).at(field)
    };
    let remote = match (&row.remote_group, &*row.remote_prefix) {
        (Some(remote), _) => Remote::Group(
            txn.get::<PortGroup>(remote.uuid()).map(|group| group.name.to_string()).ok_or_else(|| {
                wrong(format!("there is no port group of security group {}", remote.uuid()))
            })?,
        ),
        (None, "") => Remote::Any,
        (None, text) => Remote::Prefix(prefix(text).ok_or_else(|| wrong(format!("{text:?} is no prefix")))?),
    };
    let services = services(row).ok_or_else(|| wrong("its protocol or ports cannot be read".to_owned()))?;
    Ok(Wanted {
        acl: rule,
        group: uuid,
        direction,
        tier: TIER_LAST,
        // Of equals what does not allow is asked first.
        priority: PRIORITY_RULES + 2 * own + i64::from(deed.stops()),
        matches: matches::traffic(direction, &super::port_group(uuid), &remote, &services),
        deed,
        staged: false,
        stateless: group.stateless || row.stateless,
        persist_established: row.persist_established,
        rule: if row.name.is_empty() { format!("rules[{}]", row.position) } else { row.name.to_string() },
    })
}

/// An address or a prefix.
pub(crate) fn prefix(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from))
}

/// What a rule is about; `None` if its row was written by somebody who does not validate.
fn services(row: &SecurityGroupRule) -> Option<Vec<Service>> {
    let protocol = Protocol::named(&row.protocol)?;
    if let Some(kind) = row.icmp_type {
        let code = row.icmp_code.map(u8::try_from).transpose().ok()?;
        return Some(vec![Service {
            icmp: Some((u8::try_from(kind).ok()?, code)),
            ..Service::all(protocol)
        }]);
    }
    if row.ports.is_empty() {
        return Some(vec![Service::all(protocol)]);
    }
    let one = |text: &str| Some(Service { ports: Some(Service::ports(text)?), ..Service::all(protocol) });
    row.ports.split(',').map(one).collect()
}

/// What becomes of what no rule matches.
fn default(uuid: Uuid, group: &SecurityGroup, direction: Direction, deed: Deed) -> Vec<Wanted> {
    let name = super::port_group(uuid);
    let rule = format!("default-{}", direction.word());
    let one = |part: &str, priority: i64, matches: String, deed: Deed| Wanted {
        acl: Uuid::new_v5(&NAMESPACE, format!("{uuid} {rule} {part}").as_bytes()),
        group: uuid,
        direction,
        tier: TIER_LAST,
        priority,
        matches,
        deed,
        staged: false,
        stateless: group.stateless,
        persist_established: false,
        rule: rule.clone(),
    };
    let everything = matches::everything(direction, &name);
    if !deed.stops() {
        return vec![one("all", PRIORITY_PASS, everything, deed)];
    }
    let basics = matches::basics(direction, &name);
    vec![one("basics", PRIORITY_BASICS, basics, Deed::Spare), one("all", PRIORITY_STOP, everything, deed)]
}
