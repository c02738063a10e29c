//! Rows that follow from intent belong to it.

use imbl::OrdMap;
use quantumnet_model::{
    Database, Row, Uuid,
    column::Text,
    intent::{
        FloatingIp, Port, Router, SecurityGroup, SecurityPolicy, SelectorGroup, Subnet, VirtualNetwork,
    },
    nb::{
        Acl, DhcpOptions, HaChassis, HaChassisGroup, LogicalRouter, LogicalRouterPort,
        LogicalRouterStaticRoute, LogicalSwitch, LogicalSwitchPort, Nat, PortGroup,
    },
    row::TableId,
    sb::{DatapathBinding, PortBinding},
    tables,
};

use crate::{
    lower::security,
    store::{Class, Refusal, State, Txn},
};

/// external_ids key with the kind of the owning object.
pub const OWNER: &str = "quantumnet:owner";
/// external_ids key with its name.
pub const NAME: &str = "quantumnet:name";
/// external_ids key with the id of its project.
pub const PROJECT: &str = "quantumnet:project";

/// Reason of a refusal to change a row that belongs to intent.
pub const OWNED_BY_INTENT: &str = "OWNED_BY_INTENT";

/// The object that a Northbound or Southbound row was lowered from, as people name it.
pub fn owner(state: &State, table: TableId, row: Uuid) -> Option<String> {
    if table == PortGroup::TABLE
        && let Some(group) = state.get::<SelectorGroup>(row)
    {
        let (kind, name, _) =
            object(state, table, row).unwrap_or_else(|| (SecurityPolicy::NAME, Text::default(), Uuid::nil()));
        return Some(format!("{kind} {name}, which selects {}", group.selector));
    }
    let (kind, name, uuid) = object(state, table, row)?;
    Some(format!("{kind} {name} ({uuid})"))
}

/// The same: table, name and uuid of the object.
pub fn object(state: &State, table: TableId, row: Uuid) -> Option<Owner> {
    Some(if table == LogicalSwitch::TABLE {
        of_network(state, row)?
    } else if table == DatapathBinding::TABLE {
        of_network(state, row).or_else(|| of_router(state, row))?
    } else if table == LogicalSwitchPort::TABLE || table == PortBinding::TABLE {
        of_port(state, row)?
    } else if table == DhcpOptions::TABLE {
        (Subnet::NAME, state.get::<Subnet>(row)?.cidr.clone(), row)
    } else if table == LogicalRouter::TABLE {
        of_router(state, row)?
    } else if table == LogicalRouterPort::TABLE {
        of_router(state, state.referrers_through::<LogicalRouterPort, LogicalRouter>(row, "ports").next()?)?
    } else if table == LogicalRouterStaticRoute::TABLE {
        let router = state
            .referrers_through::<LogicalRouterStaticRoute, LogicalRouter>(row, "static_routes")
            .next()?;
        of_router(state, router)?
    } else if table == Nat::TABLE {
        match state.get::<FloatingIp>(row) {
            Some(floating) => (FloatingIp::NAME, floating.name.clone(), row),
            None => of_router(state, state.referrers_through::<Nat, LogicalRouter>(row, "nat").next()?)?,
        }
    } else if table == HaChassisGroup::TABLE {
        of_group(state, row)?
    } else if table == HaChassis::TABLE {
        of_group(state, state.referrers_through::<HaChassis, HaChassisGroup>(row, "ha_chassis").next()?)?
    } else if table == PortGroup::TABLE {
        match state.get::<SecurityGroup>(row) {
            Some(group) => (SecurityGroup::NAME, group.name.clone(), row),
            None => {
                let policy = security::needing(state, row)?;
                (SecurityPolicy::NAME, state.get::<SecurityPolicy>(policy)?.name.clone(), policy)
            }
        }
    } else if table == Acl::TABLE {
        security::owner(state, row)?
    } else {
        return None;
    })
}

/// Table, name and uuid.
pub type Owner = (&'static str, Text, Uuid);

fn of_network(state: &State, row: Uuid) -> Option<Owner> {
    Some((VirtualNetwork::NAME, state.get::<VirtualNetwork>(row)?.name.clone(), row))
}

fn of_router(state: &State, row: Uuid) -> Option<Owner> {
    Some((Router::NAME, state.get::<Router>(row)?.name.clone(), row))
}

/// A port of a network is a `Port`, or the network's own: to a physical network or to a router.
fn of_port(state: &State, row: Uuid) -> Option<Owner> {
    if let Some(port) = state.get::<Port>(row) {
        return Some((Port::NAME, port.name.clone(), row));
    }
    let switch = state.referrers_through::<LogicalSwitchPort, LogicalSwitch>(row, "ports").next();
    switch.and_then(|switch| of_network(state, switch)).map(|(kind, name, _)| (kind, name, row))
}

/// A group of chassis belongs to the router whose gateway it is.
fn of_group(state: &State, row: Uuid) -> Option<Owner> {
    let port =
        state.referrers_through::<HaChassisGroup, LogicalRouterPort>(row, "ha_chassis_group").next()?;
    let router = state.referrers_through::<LogicalRouterPort, LogicalRouter>(port, "ports").next()?;
    of_router(state, router)
}

/// Refuses a transaction that wrote rows which belong to intent. For those who write Northbound rows on behalf of
/// clients: call it at the end of the request, before lowering, as the last thing given to `evaluate`.
pub fn refuse_owned(txn: &Txn<'_>) -> Result<(), Refusal> {
    for touched in txn.touched() {
        let decl = tables::decl(touched.table);
        if decl.database == Database::QuantumNet {
            let message =
                format!("table {} of {} is changed through the API only", decl.name, decl.database.name());
            return Err(Refusal::service(Class::PermissionDenied, "INTENT_ONLY", message));
        }
        if let Some(owner) = owner(txn.state(), touched.table, touched.uuid) {
            let message = format!(
                "row {} of table {} belongs to {owner}; change that object through the API instead",
                touched.uuid, decl.name
            );
            return Err(
                Refusal::service(Class::FailedPrecondition, OWNED_BY_INTENT, message).blocked_by([owner])
            );
        }
    }
    Ok(())
}

/// What tells people whose a Northbound row is.
pub(super) fn external_ids(kind: &str, name: &Text, project: Uuid) -> OrdMap<Text, Text> {
    let pair = |key: &str, value: Text| (Text::from(key), value);
    let project: Text = project.to_string().into();
    [pair(OWNER, kind.into()), pair(NAME, name.clone()), pair(PROJECT, project)].into_iter().collect()
}
