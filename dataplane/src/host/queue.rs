//! Queues of shaped ports: `QoS` and `Queue` rows at the interface by which the bridge of a physical network leaves the host.
//!
//! # Invariants
//! - That interface is the one with external_ids:ovn-egress-iface=true. A `QoS` row that somebody else has given its port
//!   stays as it is, and the ports are told to be unshaped.
//! - Marks are ovn-controller's: external_ids:ovn_qos of the `QoS` row, ovn_port of a `Queue`.

use std::collections::{BTreeMap, BTreeSet};

use ovsdb::{
    json::{named_uuid_json, uuid_json},
    operation::{Condition, Operation},
    replica::Replica,
    value::Atom,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    compile::WantedQueue,
    host::{
        Config, Observed,
        plan::{Plan, map},
    },
};

/// The way out of a bridge to its physical network.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Egress {
    /// Row of the port.
    pub port: Uuid,
    /// Its `QoS` row.
    pub qos: Option<QosRow>,
}

/// A `QoS` row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QosRow {
    /// Its uuid.
    pub row: Uuid,
    /// Whether the agent, or ovn-controller, has made it.
    pub ours: bool,
    /// Its queues by number.
    pub queues: BTreeMap<i64, QueueRow>,
}

/// A `Queue` row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QueueRow {
    /// Its uuid.
    pub row: Uuid,
    /// The logical port that it is for.
    pub logical_port: String,
    /// Its rates.
    pub config: BTreeMap<String, String>,
}

impl Observed {
    /// Notes the ways out of the bridges that physical networks are mapped to.
    pub(super) fn egresses(&mut self, replica: &Replica, config: &Config) {
        for bridge in config.mappings.values() {
            let row = self.bridges.get(bridge).and_then(|row| replica.row("Bridge", *row));
            let ports = row.into_iter().flat_map(|row| row.references("ports"));
            let egress = ports.filter_map(|port| replica.row("Port", port)).find(|port| {
                let mut interfaces =
                    port.references("interfaces").filter_map(|interface| replica.row("Interface", interface));
                interfaces.any(|interface| {
                    interface.map_string("external_ids", "ovn-egress-iface") == Some("true")
                        && interface.map_string("external_ids", "iface-id").is_none()
                })
            });
            if let Some(port) = egress {
                let qos = port.references("qos").next().and_then(|row| qos_row(replica, row));
                self.egresses.insert(bridge.clone(), Egress { port: port.uuid(), qos });
            }
        }
    }
}

fn qos_row(replica: &Replica, uuid: Uuid) -> Option<QosRow> {
    let row = replica.row("QoS", uuid)?;
    let mut queues = BTreeMap::new();
    for (number, queue) in row.get("queues").into_iter().flat_map(|queues| queues.pairs()) {
        let (Atom::Integer(number), Atom::Uuid(queue)) = (number, queue) else { continue };
        let Some(found) = replica.row("Queue", *queue) else { continue };
        let config = found.get("other_config").into_iter().flat_map(|config| config.pairs());
        let text = |atom: &Atom| atom.as_str().unwrap_or_default().to_owned();
        let queue = QueueRow {
            row: *queue,
            logical_port: found.map_string("external_ids", PORT).unwrap_or_default().to_owned(),
            config: config.map(|(key, value)| (text(key), text(value))).collect(),
        };
        queues.insert(*number, queue);
    }
    Some(QosRow { row: uuid, ours: row.map_string("external_ids", OURS) == Some("true"), queues })
}

impl Plan<'_> {
    pub(super) fn queues(&mut self, wanted: &BTreeSet<WantedQueue>) {
        let mut by_bridge: BTreeMap<&str, BTreeMap<i64, &WantedQueue>> = BTreeMap::new();
        for queue in wanted {
            let bridge = self.config.mappings.get(&queue.network);
            match bridge.filter(|bridge| self.observed.egresses.contains_key(*bridge)) {
                Some(bridge) => _ = by_bridge.entry(bridge).or_default().insert(queue.number, queue),
                None => self.problems.push(format!(
                    "port {} is not shaped: the bridge of network {:?} has no interface with \
                     external_ids:ovn-egress-iface=true",
                    queue.port, queue.network
                )),
            }
        }
        let observed = self.observed;
        for (bridge, egress) in &observed.egresses {
            let queues = by_bridge.remove(bridge.as_str()).unwrap_or_default();
            match &egress.qos {
                Some(qos) if !qos.ours => {
                    for queue in queues.values() {
                        self.problems.push(format!(
                            "port {} is not shaped: the interface to network {:?} has a QoS row of somebody else",
                            queue.port, queue.network
                        ));
                    }
                }
                Some(qos) if queues.is_empty() => {
                    self.update("Port", egress.port, json!({ "qos": ["set", []] }));
                    self.delete("QoS", qos.row);
                    qos.queues.values().for_each(|queue| self.delete("Queue", queue.row));
                }
                Some(qos) => self.mend_queues(qos, &queues),
                None if queues.is_empty() => {}
                None => {
                    let rows = self.queue_rows(&BTreeMap::new(), &queues);
                    let name = self.next_name("qos");
                    let row =
                        json!({ "type": "linux-htb", "queues": rows, "external_ids": map([(OURS, "true")]) });
                    self.insert("QoS", &name, row);
                    self.update("Port", egress.port, json!({ "qos": named_uuid_json(&name) }));
                }
            }
        }
    }

    fn mend_queues(&mut self, qos: &QosRow, wanted: &BTreeMap<i64, &WantedQueue>) {
        let same = qos.queues.keys().eq(wanted.keys());
        let rows = self.queue_rows(&qos.queues, wanted);
        if !same {
            self.update("QoS", qos.row, json!({ "queues": rows }));
        }
        let gone = qos.queues.iter().filter(|(number, _)| !wanted.contains_key(number));
        gone.for_each(|(_, queue)| self.delete("Queue", queue.row));
    }

    /// The queues of a `QoS` row, of which those that are missing are made and those that differ are changed.
    fn queue_rows(&mut self, there: &BTreeMap<i64, QueueRow>, wanted: &BTreeMap<i64, &WantedQueue>) -> Value {
        let mut pairs = Vec::new();
        for (number, queue) in wanted {
            let row = json!({
                "other_config": map(&queue.config),
                "external_ids": map([(PORT, &queue.port)]),
            });
            let reference = match there.get(number) {
                Some(found) => {
                    if found.config != queue.config || found.logical_port != queue.port {
                        self.update("Queue", found.row, row);
                    }
                    uuid_json(found.row)
                }
                None => {
                    let name = self.next_name("queue");
                    self.insert("Queue", &name, row);
                    named_uuid_json(&name)
                }
            };
            pairs.push(json!([number, reference]));
        }
        json!(["map", pairs])
    }

    fn delete(&mut self, table: &str, row: Uuid) {
        self.push(Operation::Delete { table: table.to_owned(), conditions: vec![Condition::uuid_is(row)] });
    }
}

/// external_ids of a `QoS` row that the agent has made.
const OURS: &str = "ovn_qos";
/// external_ids of a `Queue`: the logical port that it is for.
const PORT: &str = "ovn_port";
