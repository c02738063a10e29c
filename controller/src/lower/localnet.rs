//! The port by which a VLAN network is on its physical network: a `Logical_Switch_Port` of type `localnet`.
//!
//! # Contract
//! - It is named `<network>-localnet`, which no port of intent is: those are named by a uuid alone.
//!
//! # Invariants
//! - A VLAN of a physical network is that of one network at most.

use imbl::{OrdMap, OrdSet};
use quantumnet_model::{
    Strong, Uuid,
    column::Text,
    intent::VirtualNetwork,
    nb::{LogicalSwitch, LogicalSwitchPort},
};
use uuid::uuid;

use crate::{
    lower::{lookup, owner},
    store::{Class, Refusal, State, Txn},
};

const NAMESPACE: Uuid = uuid!("e6a2c7f1-4b83-4d0e-9f53-2a61b8d0c944");

/// `Virtual_Network.type` of networks that are on a physical one.
pub(crate) const VLAN: &str = "vlan";

/// The port of a network, whether it is there or not.
pub(super) fn of(network: Uuid) -> Uuid {
    Uuid::new_v5(&NAMESPACE, network.as_bytes())
}

/// The network that has the VLAN.
pub(crate) fn holder(state: &State, physical_network: &str, vlan_id: i64) -> Option<Uuid> {
    lookup::rows(state, lookup::VLAN, &key(physical_network, vlan_id)).first().copied()
}

/// Makes, changes or removes the port of a network whose switch is there.
pub(super) fn lower(txn: &mut Txn<'_>, uuid: Uuid) -> Result<(), Refusal> {
    let port = of(uuid);
    let network = txn.get::<VirtualNetwork>(uuid).filter(|network| &*network.r#type == VLAN).cloned();
    let Some(network) = network else {
        lookup::set(txn, lookup::VLAN, uuid, &[]);
        let is_listed = |switch: &LogicalSwitch| switch.ports.contains(&Strong::new(port));
        if txn.get::<LogicalSwitch>(uuid).is_some_and(is_listed) {
            txn.update::<LogicalSwitch>(uuid, |switch| _ = switch.ports.remove(&Strong::new(port)));
        }
        txn.delete::<LogicalSwitchPort>(port);
        return Ok(());
    };
    if let Some(other) =
        holder(txn.state(), &network.physical_network, network.vlan_id).filter(|other| *other != uuid)
    {
        let name = txn.get::<VirtualNetwork>(other).map(|row| row.name.clone()).unwrap_or_default();
        let message = format!(
            "VLAN {} of physical network {} is that of network {name} ({other}) already; choose another",
            network.vlan_id, network.physical_network
        );
        let refusal = Refusal::service(Class::AlreadyExists, "VLAN_IN_USE", message).at("spec.vlan_id");
        return Err(refusal.blocked_by([format!("VirtualNetwork {name} ({other})")]));
    }
    lookup::set(txn, lookup::VLAN, uuid, &[key(&network.physical_network, network.vlan_id)]);
    let name: Text = format!("{uuid}-localnet").into();
    if txn.find::<LogicalSwitchPort>(&[("name", (&*name).into())]).is_some_and(|found| found != port) {
        let message = format!("a northbound port is named {name} already; rename it first");
        return Err(Refusal::service(Class::FailedPrecondition, "NAME_IN_USE", message));
    }
    let tag = Some(network.vlan_id).filter(|vlan| *vlan != 0);
    let before = txn.get::<LogicalSwitchPort>(port).cloned().unwrap_or_default();
    let row = LogicalSwitchPort {
        name,
        r#type: "localnet".into(),
        addresses: OrdSet::unit("unknown".into()),
        options: OrdMap::unit("network_name".into(), network.physical_network.clone()),
        tag_request: tag,
        tag,
        external_ids: owner::external_ids("Virtual_Network", &network.name, network.project.uuid()),
        ..before.clone()
    };
    if row != before {
        txn.put(port, row);
    }
    if txn.get::<LogicalSwitch>(uuid).is_some_and(|switch| !switch.ports.contains(&Strong::new(port))) {
        txn.update::<LogicalSwitch>(uuid, |switch| _ = switch.ports.insert(Strong::new(port)));
    }
    Ok(())
}

fn key(physical_network: &str, vlan_id: i64) -> Text {
    format!("{vlan_id} {physical_network}").into()
}
