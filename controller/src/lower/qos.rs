//! QoS: what agents can't make flows of is told, and ports whose traffic is shaped on its way to a physical network have
//! a queue (ovn-nb(5), `QoS`; `Logical_Switch_Port`, options:qos_max_rate).
//!
//! # Contract
//! - Reads `QoS`, `Mirror_Rule`, `Logical_Switch_Port` and bindings; writes problems, and of `Port_Binding` the options
//!   `qdisc_queue_id` and `qos_physical_network`, as northd does: on switches with a port of type `localnet` only.
//!
//! # Invariants
//! - No two ports have a queue in common, and a port keeps its own while it is shaped.
//! - Of several physical networks the one of the least port counts.

use std::collections::BTreeSet;

use imbl::OrdMap;
use quantumnet_model::{
    Uuid,
    column::Text,
    intent::Lookup,
    nb::{LogicalSwitch, LogicalSwitchPort, MirrorRule, Qos},
    sb::PortBinding,
};

use crate::{
    lower::{
        Dirty, keys, lookup, matches,
        problem::{self, Problems},
    },
    store::Txn,
};

/// Options of a port that ask for shaping, each a number of bits or bits a second.
pub(super) const SHAPING: [&str; 3] = ["qos_min_rate", "qos_max_rate", "qos_burst"];
/// Option of a binding: the port's queue.
pub(super) const QUEUE: &str = "qdisc_queue_id";
/// Option of a binding: where it is shaped.
pub(super) const NETWORK: &str = "qos_physical_network";

/// Tells of rules without effect.
pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    for touched in txn.touched_in::<Qos>() {
        dirty.work.rows += 1;
        let mut problems = Problems::new();
        if let Some(row) = touched.after::<Qos>() {
            problems.extend(wrong(&row.r#match, "QoS rule"));
            if let Some(dscp) = row.action.get("dscp").filter(|dscp| **dscp > DSCP_MAX) {
                problems.push(("action", format!("dscp is {dscp}, expected 0 to {DSCP_MAX}; it is not set")));
            }
            if row.bandwidth.contains_key("burst") && !row.bandwidth.contains_key("rate") {
                problems.push(("bandwidth", "a burst without a rate limits nothing".to_owned()));
            }
        }
        problem::set::<Qos>(txn, touched.uuid, problems);
    }
    for touched in txn.touched_in::<MirrorRule>() {
        dirty.work.rows += 1;
        let row = touched.after::<MirrorRule>();
        problem::set::<MirrorRule>(
            txn,
            touched.uuid,
            row.and_then(|row| wrong(&row.r#match, "mirror rule")).into_iter().collect(),
        );
    }
}

/// Why a row of that kind has no effect.
fn wrong(text: &str, what: &str) -> Option<(&'static str, String)> {
    let reason = matches::check(text).err()?;
    Some(("match", format!("{reason}; the {what} has no effect")))
}

/// What is wrong with a port's options.
pub(super) fn problems(port: &LogicalSwitchPort) -> Problems {
    let given = SHAPING.into_iter().filter_map(|key| Some((key, port.options.get(key)?)));
    let wrong = given.filter(|(_, value)| value.parse::<u64>().is_err());
    wrong
        .map(|(key, value)| ("options", format!("{key} is {value:?}, expected a number; it has no effect")))
        .collect()
}

/// Gives queues to ports, after their bindings are made.
pub(super) fn ports(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    let mut ports: BTreeSet<Uuid> = BTreeSet::new();
    let mut networks: BTreeSet<Text> = BTreeSet::new();
    let touched = txn.touched_in::<LogicalSwitchPort>().into_iter().map(|touched| touched.uuid);
    let touched: BTreeSet<Uuid> =
        touched.chain(txn.touched_in::<PortBinding>().iter().map(|touched| touched.uuid)).collect();
    for touched in txn.touched_in::<PortBinding>() {
        let queue = |row: Option<&PortBinding>| row.and_then(|row| row.options.get(QUEUE).cloned());
        if touched.new.is_none()
            && let Some(queue) = queue(touched.before()).and_then(|queue| queue.parse().ok())
        {
            keys::give_back(txn, QUEUES_POOL, queue);
        }
    }
    for touched in txn.touched_in::<Lookup>() {
        for row in [touched.before::<Lookup>(), touched.after()].into_iter().flatten() {
            networks.extend((&*row.kind == lookup::LOCALNET).then(|| row.key.clone()));
        }
    }
    for uuid in touched {
        let binding = txn.get::<PortBinding>(uuid);
        let switch = binding.map(|binding| Text::from(binding.datapath.uuid().to_string()));
        let port = txn.get::<LogicalSwitchPort>(uuid);
        let shaped = port.is_some_and(|port| SHAPING.iter().any(|key| port.options.contains_key(*key)));
        // The network's name may have changed.
        networks.extend(lookup::keys(txn.state(), lookup::LOCALNET, uuid));
        let had = !lookup::keys(txn.state(), lookup::SHAPED, uuid).is_empty();
        lookup::set(txn, lookup::SHAPED, uuid, switch.filter(|_| shaped).as_slice());
        if shaped || had {
            ports.insert(uuid);
        }
    }
    for switch in networks {
        ports.extend(lookup::rows(txn.state(), lookup::SHAPED, &switch));
    }
    for uuid in ports {
        dirty.work.rows += 1;
        one(txn, uuid);
    }
}

fn one(txn: &mut Txn<'_>, uuid: Uuid) {
    let Some(binding) = txn.get::<PortBinding>(uuid) else { return };
    let switch = binding.datapath.uuid();
    let present = binding.options.get(QUEUE).and_then(|queue| queue.parse::<u128>().ok());
    let shaped = !lookup::keys(txn.state(), lookup::SHAPED, uuid).is_empty();
    let network = network(txn, switch).filter(|_| shaped);
    let queue = match (&network, present) {
        (None, None) => None,
        (None, Some(queue)) => {
            keys::give_back(txn, QUEUES_POOL, queue);
            None
        }
        (Some(_), Some(queue)) => Some(queue),
        (Some(_), None) => keys::take_first(txn, QUEUES_POOL, keys::QUEUES, &[keys::QUEUES]).ok(),
    };
    if queue.is_none() && network.is_some() {
        tracing::error!(port = %uuid, "no queue is left; the port's traffic is not shaped");
    }
    let options: OrdMap<Text, Text> = [
        (QUEUE, queue.map(|queue| Text::from(queue.to_string()))),
        (NETWORK, network.filter(|_| queue.is_some())),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((Text::from(key), value?)))
    .collect();
    let next = |row: &PortBinding| options.clone().union(row.options.without(QUEUE).without(NETWORK));
    if txn.get::<PortBinding>(uuid).is_some_and(|row| row.options != next(row)) {
        txn.update::<PortBinding>(uuid, |row| row.options = next(row));
    }
}

/// The physical network of a switch.
fn network(txn: &Txn<'_>, switch: Uuid) -> Option<Text> {
    txn.get::<LogicalSwitch>(switch)?;
    let ports = lookup::rows(txn.state(), lookup::LOCALNET, &switch.to_string());
    let first = txn.get::<LogicalSwitchPort>(ports.into_iter().min()?)?;
    first.options.get("network_name").filter(|name| !name.is_empty()).cloned()
}

const DSCP_MAX: i64 = 63;
/// Name of the pool of queues.
const QUEUES_POOL: &str = "queue";
