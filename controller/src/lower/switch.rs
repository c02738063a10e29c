//! `Logical_Switch` -> `Datapath_Binding`.
//!
//! # Contract
//! - Reads `Logical_Switch`; writes `Datapath_Binding` and the pool of datapath keys; marks ports that joined, left
//!   or lost their switch.

use imbl::OrdMap;
use quantumnet_model::{
    Column, Row, Uuid,
    column::Text,
    nb::LogicalSwitch,
    sb::{DatapathBinding, PortBinding},
};

use crate::{
    ipam::{PoolError, northbound::Plan},
    lower::{
        Dirty, keys,
        owner::owner,
        problem::{self, Problems},
    },
    store::{Class, Refusal, Touched, Txn},
};

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) -> Result<(), Refusal> {
    let touched = txn.touched_in::<LogicalSwitch>();
    for touched in &touched {
        touched.each_moved("ports", &mut |port| _ = dirty.ports.insert(port));
        let passes = |row: Option<&LogicalSwitch>| row.is_some_and(passes_vlans);
        if let Some(switch) = touched.after::<LogicalSwitch>()
            && passes(touched.before()) != passes(Some(switch))
        {
            // Their bindings say so.
            dirty.ports.extend(switch.ports.iter().map(|port| port.uuid()));
        }
        if touched.new.is_none() {
            dirty.work.rows += 1;
            // Its ports give their keys back to a pool that goes too.
            dirty
                .ports
                .extend(txn.referrers_through::<DatapathBinding, PortBinding>(touched.uuid, "datapath"));
        }
    }
    for touched in &touched {
        if touched.new.is_some() {
            dirty.work.rows += 1;
            one(txn, touched, dirty)?;
        }
    }
    Ok(())
}

/// Deletes the datapaths of switches that went; their ports are gone by now.
pub(super) fn sweep(txn: &mut Txn<'_>) {
    for touched in txn.touched_in::<LogicalSwitch>() {
        if touched.new.is_some() {
            continue;
        }
        forget(txn, touched.uuid);
        problem::set::<LogicalSwitch>(txn, touched.uuid, Vec::new());
    }
}

/// Deletes a datapath and its pools.
pub(super) fn forget(txn: &mut Txn<'_>, datapath: Uuid) {
    let key = txn.get::<DatapathBinding>(datapath).map(|datapath| datapath.tunnel_key);
    if let Some(key) = key.and_then(|key| u128::try_from(key).ok()) {
        keys::release(txn, keys::DATAPATHS, key);
        keys::forget(txn, &keys::ports_of(datapath));
        keys::forget(txn, &keys::addresses_of(datapath));
        txn.delete::<DatapathBinding>(datapath);
    }
}

/// Whether guests' frames may carry VLAN tags (`vlan-passthru`).
pub(super) fn passes_vlans(switch: &LogicalSwitch) -> bool {
    switch.other_config.get("vlan-passthru").is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

fn one(txn: &mut Txn<'_>, touched: &Touched, dirty: &mut Dirty) -> Result<(), Refusal> {
    let uuid = touched.uuid;
    let Some(switch) = touched.after::<LogicalSwitch>() else { return Ok(()) };
    let present = txn.get::<DatapathBinding>(uuid).map(|datapath| datapath.tunnel_key);
    let (_, wrong) = Plan::parse(&switch.other_config);
    let mut problems: Problems = wrong.into_iter().map(|message| ("other_config", message)).collect();
    problems.extend(limit_problem("other_config", &switch.other_config));
    let wish = switch.other_config.get("requested-tnl-key");
    let key = match key(txn, wish, present, &mut problems) {
        Ok(key) => key,
        Err(error) => {
            let message =
                format!("no datapath key is left out of {}: {error}; delete networks", keys::DATAPATH_KEYS.1);
            if owner(txn.state(), LogicalSwitch::TABLE, uuid).is_some() {
                return Err(Refusal::service(Class::ResourceExhausted, "DATAPATH_KEYS_EXHAUSTED", message));
            }
            problem::set::<LogicalSwitch>(txn, uuid, vec![("_uuid", message)]);
            return Ok(());
        }
    };
    if present.is_none() {
        // Ports that wait for the datapath.
        dirty.ports.extend(switch.ports.iter().map(|port| port.uuid()));
    }
    let datapath = DatapathBinding {
        tunnel_key: key,
        load_balancers: Column::zero(),
        r#type: Some("logical-switch".into()),
        nb_uuid: Some(uuid),
        external_ids: external_ids(uuid, switch),
    };
    if txn.get::<DatapathBinding>(uuid) != Some(&datapath) {
        txn.put(uuid, datapath);
    }
    problem::set::<LogicalSwitch>(txn, uuid, problems);
    Ok(())
}

/// What northd writes there: the switch by uuid and names, and settings that OVN's agents read there.
fn external_ids(uuid: Uuid, switch: &LogicalSwitch) -> OrdMap<Text, Text> {
    let setting = |key: &str| switch.other_config.get(key);
    let positive = |key: &str| setting(key).filter(|value| value.trim().parse::<u32>().is_ok_and(|n| n > 0));
    let second = switch.external_ids.get("neutron:network_name").filter(|name| !name.is_empty());
    let pairs = [
        ("logical-switch", Some(uuid.to_string().into())),
        ("name", Some(switch.name.clone())),
        ("name2", second.cloned()),
        ("interconn-ts", setting("interconn-ts").cloned()),
        ("fdb_age_threshold", positive("fdb_age_threshold").cloned()),
        ("ct-zone-limit", positive("ct-zone-limit").cloned()),
    ];
    pairs.into_iter().filter_map(|(key, value)| Some((Text::from(key), value?))).collect()
}

/// Says that a limit of connections is not understood.
pub(super) fn limit_problem(
    column: &'static str,
    options: &OrdMap<Text, Text>,
) -> Option<(&'static str, String)> {
    let limit = options.get("ct-zone-limit").filter(|limit| limit.trim().parse::<u32>().is_err())?;
    Some((column, format!("ct-zone-limit is {limit:?}, expected 0 to 4294967295; it is not used")))
}

fn key(
    txn: &mut Txn<'_>,
    wish: Option<&Text>,
    present: Option<i64>,
    problems: &mut Problems,
) -> Result<i64, PoolError> {
    pick(txn, keys::DATAPATHS, keys::DATAPATH_KEYS, wish, "other_config", present, problems)
}

/// The key wished for if it can be had, else the present one, else the next free one. A key that is exchanged for
/// another is given back.
pub(super) fn pick(
    txn: &mut Txn<'_>,
    pool: &str,
    whole: (u128, u128),
    wish: Option<&Text>,
    column: &'static str,
    present: Option<i64>,
    problems: &mut Problems,
) -> Result<i64, PoolError> {
    let signed = |key: u128| i64::try_from(key).expect("tunnel keys have at most 24 bits");
    if let Some(text) = wish {
        let wished = text.parse::<u128>().ok().filter(|key| (whole.0..=whole.1).contains(key));
        match wished {
            Some(key) if present == Some(signed(key)) => return Ok(signed(key)),
            Some(key) if keys::take(txn, pool, whole, key).is_ok() => {
                if let Some(before) = present.and_then(|key| u128::try_from(key).ok()) {
                    keys::release(txn, pool, before);
                }
                return Ok(signed(key));
            }
            Some(key) => {
                problems.push((column, format!("requested-tnl-key {key} is in use; another is used instead")))
            }
            None => problems.push((
                column,
                format!(
                    "requested-tnl-key is {text:?}, expected {} to {}; another is used instead",
                    whole.0, whole.1
                ),
            )),
        }
    }
    match present {
        Some(key) => Ok(key),
        None => keys::take_first(txn, pool, whole, &[whole]).map(signed),
    }
}
