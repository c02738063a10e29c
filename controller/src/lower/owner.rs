//! Rows that follow from intent belong to it.

use imbl::OrdMap;
use quantumnet_model::{
    Database, Row, Uuid,
    column::Text,
    intent::{Port, Subnet, VirtualNetwork},
    nb::{DhcpOptions, LogicalSwitch, LogicalSwitchPort},
    row::TableId,
    sb::{DatapathBinding, PortBinding},
    tables,
};

use crate::{
    lower::localnet,
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
    let (kind, name) = if table == LogicalSwitch::TABLE || table == DatapathBinding::TABLE {
        (VirtualNetwork::NAME, state.get::<VirtualNetwork>(row)?.name.clone())
    } else if table == LogicalSwitchPort::TABLE || table == PortBinding::TABLE {
        match state.get::<Port>(row) {
            Some(port) => (Port::NAME, port.name.clone()),
            None => (VirtualNetwork::NAME, localnet::network(state, row)?.name.clone()),
        }
    } else if table == DhcpOptions::TABLE {
        (Subnet::NAME, state.get::<Subnet>(row)?.cidr.clone())
    } else {
        return None;
    };
    Some(format!("{kind} {name} ({row})"))
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
