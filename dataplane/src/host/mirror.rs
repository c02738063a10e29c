//! Mirrors that the switch itself makes (ovn-nb(5), `Mirror` of type `gre`, `erspan` and `local`): rows of its database.
//!
//! # Invariants
//! - Names are ovn-controller's: the `Mirror` row has that of the mirror, a tunnel's port `ovn-<mirror>`. One that is there under
//!   such a name is taken over; one that nobody needs goes only if the agent has marked it.
//! - A mirror is there while one of its ports is on this hypervisor and there is a port for its copies.

use std::collections::BTreeSet;

use ovsdb::{
    json::{named_uuid_json, uuid_json},
    operation::{Condition, Mutator, Operation},
    replica::{Replica, Row},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    compile::{MirrorWay, WantedMirror},
    host::{
        Observed,
        plan::{Plan, map, object, set},
    },
};

/// A `Mirror` row of the integration bridge.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MirrorRow {
    /// Its uuid.
    pub row: Uuid,
    /// Whether the agent has marked it.
    pub ours: bool,
    /// Where copies go.
    pub output: Option<Uuid>,
    /// Ports whose sent packets are copied: they come into the switch.
    pub sends: BTreeSet<Uuid>,
    /// Ports whose received packets are.
    pub receives: BTreeSet<Uuid>,
}

/// The tunnel port of a mirror.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MirrorPort {
    /// Row of the port.
    pub port: Uuid,
    /// Row of its interface.
    pub interface: Uuid,
    /// Whether the agent has marked it.
    pub ours: bool,
    /// Type of the interface.
    pub kind: String,
    /// Its options.
    pub options: Vec<(String, String)>,
}

impl Observed {
    /// Notes the mirrors of the integration bridge.
    pub(super) fn mirrors(&mut self, replica: &Replica, bridge: &Row) {
        for row in bridge.references("mirrors").filter_map(|uuid| replica.row("Mirror", uuid)) {
            let mirror = MirrorRow {
                row: row.uuid(),
                ours: row.map_string("external_ids", MARK).is_some(),
                output: row.references("output_port").next(),
                sends: row.references("select_src_port").collect(),
                receives: row.references("select_dst_port").collect(),
            };
            self.mirrors.insert(row.string("name").unwrap_or_default().to_owned(), mirror);
        }
    }

    /// Notes what is a port of a mirror.
    pub(super) fn mirror_port(&mut self, port: &Row, interface: &Row) {
        if let Some(id) = interface.map_string("external_ids", "mirror-id").filter(|id| !id.is_empty()) {
            self.sinks.insert(id.to_owned(), port.uuid());
        }
        let kind = interface.string("type").unwrap_or_default();
        if !matches!(kind, "gre" | "erspan") {
            return;
        }
        let options = interface.get("options").into_iter().flat_map(|options| options.pairs());
        let text = |atom: &ovsdb::value::Atom| atom.as_str().unwrap_or_default().to_owned();
        let found = MirrorPort {
            port: port.uuid(),
            interface: interface.uuid(),
            ours: port.map_string("external_ids", MARK).is_some(),
            kind: kind.to_owned(),
            options: options.map(|(key, value)| (text(key), text(value))).collect(),
        };
        self.mirror_ports.insert(port.string("name").unwrap_or_default().to_owned(), found);
    }
}

impl Plan<'_> {
    pub(super) fn mirrors(&mut self, bridge: Uuid, wanted: &BTreeSet<WantedMirror>) {
        let (mut kept, mut kept_ports) = (BTreeSet::new(), BTreeSet::new());
        let (mut made, mut made_ports) = (Vec::new(), Vec::new());
        for mirror in wanted {
            for port in &mirror.without_interface {
                self.problems.push(format!(
                    "mirror {} does not copy what port {port} sends and gets: it has no interface of its own",
                    mirror.name
                ));
            }
            let ports = |interfaces: &BTreeSet<Uuid>| -> BTreeSet<Uuid> {
                let plugged = self.observed.interfaces.values();
                plugged
                    .filter(|plugged| interfaces.contains(&plugged.row))
                    .map(|plugged| plugged.port)
                    .collect()
            };
            let (sends, receives) = (ports(&mirror.sends), ports(&mirror.receives));
            if sends.is_empty() && receives.is_empty() {
                continue;
            }
            let Some((output, there)) = self.mirror_output(mirror, &mut made_ports) else { continue };
            kept.insert(mirror.name.clone());
            kept_ports.insert(port_name(&mirror.name));
            let uuids = |ports: &BTreeSet<Uuid>| set(ports.iter().map(|port| uuid_json(*port)));
            let row = json!({
                "output_port": output,
                "select_src_port": uuids(&sends),
                "select_dst_port": uuids(&receives),
                "external_ids": map([(MARK, mirror.mirror.to_string())]),
            });
            match self.observed.mirrors.get(&mirror.name) {
                Some(found)
                    if found.ours
                        && there.is_some()
                        && found.output == there
                        && found.sends == sends
                        && found.receives == receives => {}
                Some(found) => self.update("Mirror", found.row, row),
                None => {
                    let name = format!("mirror{}", made.len());
                    let mut row = object(row);
                    row.insert("name".to_owned(), json!(mirror.name));
                    self.insert("Mirror", &name, Value::Object(row));
                    made.push(named_uuid_json(&name));
                }
            }
        }
        if !made_ports.is_empty() {
            self.mutate("Bridge", bridge, "ports", Mutator::Insert, set(made_ports));
        }
        if !made.is_empty() {
            self.mutate("Bridge", bridge, "mirrors", Mutator::Insert, set(made));
        }
        let observed = self.observed;
        let gone = observed.mirrors.iter().filter(|(name, found)| found.ours && !kept.contains(*name));
        let gone: Vec<Value> = gone.map(|(_, found)| uuid_json(found.row)).collect();
        if !gone.is_empty() {
            self.mutate("Bridge", bridge, "mirrors", Mutator::Delete, set(gone));
        }
        let gone =
            observed.mirror_ports.iter().filter(|(name, found)| found.ours && !kept_ports.contains(*name));
        let gone: Vec<Value> = gone.map(|(_, found)| uuid_json(found.port)).collect();
        if !gone.is_empty() {
            self.mutate("Bridge", bridge, "ports", Mutator::Delete, set(gone));
        }
    }

    /// The port that copies go to, and its uuid if it is there already.
    fn mirror_output(
        &mut self,
        mirror: &WantedMirror,
        made: &mut Vec<Value>,
    ) -> Option<(Value, Option<Uuid>)> {
        let (kind, options) = match &mirror.way {
            MirrorWay::Local { id } => {
                let Some(port) = self.observed.sinks.get(id) else {
                    self.problems.push(format!(
                        "mirror {} copies nothing: no interface has external_ids:mirror-id={id}",
                        mirror.name
                    ));
                    return None;
                };
                return Some((uuid_json(*port), Some(*port)));
            }
            MirrorWay::Tunnel { kind, options } => (kind, options),
        };
        let name = port_name(&mirror.name);
        if let Some(found) = self.observed.mirror_ports.get(&name) {
            if found.kind != *kind || found.options != *options {
                let row = json!({ "type": kind, "options": map(options.iter().cloned()) });
                self.update("Interface", found.interface, row);
            }
            if !found.ours {
                let mark = map([(MARK, mirror.mirror.to_string())]);
                self.mutate("Port", found.port, "external_ids", Mutator::Insert, mark);
            }
            return Some((uuid_json(found.port), Some(found.port)));
        }
        if self.observed.names.contains(&name) {
            self.problems.push(format!("port {name} is there and is not that of mirror {}", mirror.name));
            return None;
        }
        let (interface, port) =
            (format!("mirror_interface{}", made.len()), format!("mirror_port{}", made.len()));
        let row = json!({ "name": name, "type": kind, "options": map(options.iter().cloned()) });
        self.insert("Interface", &interface, row);
        let row = json!({
            "name": name,
            "interfaces": named_uuid_json(&interface),
            "external_ids": map([(MARK, mirror.mirror.to_string())]),
        });
        self.insert("Port", &port, row);
        made.push(named_uuid_json(&port));
        Some((named_uuid_json(&port), None))
    }

    pub(super) fn update(&mut self, table: &str, row: Uuid, columns: Value) {
        self.push(Operation::Update {
            table: table.to_owned(),
            conditions: vec![Condition::uuid_is(row)],
            row: object(columns),
        });
    }
}

fn port_name(mirror: &str) -> String {
    format!("ovn-{mirror}")
}

/// external_ids of what the agent made for a mirror: the northbound row.
const MARK: &str = "quantumnet-mirror";
