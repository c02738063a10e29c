//! Indexes that are not unique, kept as `Lookup` rows.
//!
//! # Invariants
//! - The rows of one (kind, row) are those at the places 0, 1, 2 … without a gap, so that they are found again
//!   without knowing their keys.

use quantumnet_model::{Uuid, column::Text, intent::Lookup};
use uuid::uuid;

use crate::store::{State, Txn};

/// Host name of a `Chassis`.
pub(super) const HOSTNAME: &str = "hostname";
/// Chassis that a `Logical_Switch_Port` asks for, by name or host name.
pub(super) const REQUESTED_CHASSIS: &str = "requested-chassis";
/// Parent's name of a `Logical_Switch_Port`.
pub(super) const PARENT: &str = "parent";
/// MTU that guests behind a `Chassis` can have.
pub(super) const GUEST_MTU: &str = "guest-mtu";
/// Address of a port in the subnet of its switch, or of the router port behind it.
pub(super) const ADDRESS: &str = "address";
/// Name of a `HA_Chassis`' chassis.
pub(super) const HA_CHASSIS: &str = "ha-chassis";
/// Keys of a learned MAC's datapath, and of its port there.
pub(super) const FDB: &str = "fdb";
/// Name of the port that a virtual port is behind at present.
pub(super) const VIRTUAL_PARENT: &str = "virtual-parent";
/// MAC of a port that begins with the prefix of dynamic ones.
pub(super) const MAC: &str = "mac";
/// What a port with a dynamic address waits for: an address, or any of its switch.
pub(super) const WAITS: &str = "waits";
/// VLAN and physical network of a `Virtual_Network`.
pub(super) const VLAN: &str = "vlan";
/// Name of the router port behind a port of type `router`.
pub(super) const ROUTER_PORT: &str = "router-port";
/// Name of the chassis of a `Port_Binding` of type `l3gateway`.
pub(super) const GATEWAY: &str = "gateway";
/// Name of the chassis of a `Gateway_Chassis`.
pub(super) const GATEWAY_CHASSIS: &str = "gateway-chassis";
/// Router of a `Logical_Router_Port` with a gateway.
pub(super) const GATEWAY_PORT: &str = "gateway-port";
/// Router of a `NAT` that each chassis does for its own ports.
pub(super) const DISTRIBUTED_NAT: &str = "distributed-nat";
/// Switch of a `Logical_Router_Port`, with each of its addresses and its MAC.
pub(super) const PORT_CLAIM: &str = "port-claim";
/// Switch that a `NAT` of destinations is reached by, with its outer address and its MAC.
pub(super) const NAT_CLAIM: &str = "nat-claim";
/// `Logical_Router_Port` with a network that overlaps one of another port of the router.
pub(super) const OVERLAP: &str = "overlap";
/// Router behind a `Logical_Switch_Port`, and the switch it is in.
pub(super) const ANNOUNCES: &str = "announces";
/// Switch of a `Logical_Switch_Port` of type `localnet`.
pub(super) const LOCALNET: &str = "localnet";
/// Chassis that said that it serves a `Port_Binding`.
pub(super) const SERVED: &str = "served";
/// Router of a route or policy that has a problem.
pub(super) const PATHLESS: &str = "pathless";
/// What a port contributes to port groups.
pub(super) const MEMBER: &str = "member";
/// Group and datapath of a Southbound `Port_Group`.
pub(super) const PORT_GROUP: &str = "port-group";
/// An ACL that a security group, or a policy in a project, has.
pub(super) const UNIT_ACL: &str = "unit-acl";
/// The policy and the project of such a unit.
pub(super) const UNIT: &str = "unit";
/// A `Selector_Group` that a unit needs.
pub(super) const SELECTOR: &str = "selector";
/// What may change who is in a `Selector_Group`.
pub(super) const TRIGGER: &str = "trigger";
/// `Chassis_Private.nb_cfg`.
pub(super) const NB_CFG: &str = "nb-cfg";

/// Name of the `Meter` that an ACL's records are limited by.
pub(super) const METERED_ACL: &str = "metered-acl";
/// Names of the `Meter` rows that a `Copp` limits protocols by.
pub(super) const METERED_COPP: &str = "metered-copp";
/// Switch of a port whose traffic is shaped.
pub(super) const SHAPED: &str = "shaped";
/// Switch and target of the mirrors to ports that a port has, each such pair.
pub(super) const MIRRORED: &str = "mirrored";
/// Switch of a port with mirrors to ports.
pub(super) const MIRRORED_ON: &str = "mirrored-on";
/// Name of the port that a `Mirror` copies to.
pub(super) const MIRROR_SINK: &str = "mirror-sink";
/// Name of the port that stands behind a `Port_Binding` of type `mirror`.
pub(super) const MIRROR_TARGET: &str = "mirror-target";

const NAMESPACE: Uuid = uuid!("0d2a86b5-3fb1-4a39-9a3f-9e9a3f0b6f44");

/// The keys that find `row`.
pub(super) fn keys(state: &State, kind: &str, row: Uuid) -> Vec<Text> {
    let key = |place| state.get::<Lookup>(place_of(kind, row, place)).map(|lookup| lookup.key.clone());
    (0..).map_while(key).collect()
}

/// Makes `keys` the keys that find `row`.
pub(super) fn set(txn: &mut Txn<'_>, kind: &str, row: Uuid, keys: &[Text]) {
    for (place, key) in keys.iter().enumerate() {
        let uuid = place_of(kind, row, place);
        if txn.get::<Lookup>(uuid).is_none_or(|found| found.key != *key) {
            txn.put(uuid, Lookup { kind: kind.into(), key: key.clone(), row });
        }
    }
    let mut place = keys.len();
    while txn.delete::<Lookup>(place_of(kind, row, place)) {
        place += 1;
    }
}

/// Rows that the key finds.
pub(super) fn rows(state: &State, kind: &str, key: &str) -> Vec<Uuid> {
    let found = state.lookup::<Lookup>(&[("kind", kind.into()), ("key", key.into())]);
    found.filter_map(|uuid| state.get::<Lookup>(uuid)).map(|lookup| lookup.row).collect()
}

/// Whether the key finds any row.
pub(super) fn finds(state: &State, kind: &str, key: &str) -> bool {
    state.find::<Lookup>(&[("kind", kind.into()), ("key", key.into())]).is_some()
}

/// The least key of a kind.
pub(super) fn least(state: &State, kind: &str) -> Option<Text> {
    let found = state.find::<Lookup>(&[("kind", kind.into())])?;
    state.get::<Lookup>(found).map(|lookup| lookup.key.clone())
}

fn place_of(kind: &str, row: Uuid, place: usize) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{kind} {row} {place}").as_bytes())
}
