//! What to change in the switch database, so that it is as the agent needs it.
//!
//! # Invariants
//! - A pure function; when nothing is to be done it is empty. One transaction carries all of it.
//! - The bridge is made closed: `fail_mode=secure` stands in the transaction that makes it.
//! - Ports that the agent did not make, or ovn-controller for the same end, are never touched, but for `ovn-installed` of interfaces with an iface-id.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use ovsdb::{
    json::{named_uuid_json, uuid_json},
    operation::{Condition, JsonRow, Mutation, Mutator, Operation},
    replica::Replica,
    value::Datum,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    compile::{WantedMirror, WantedPatch, WantedQueue, WantedTunnel},
    host::{
        Bridge, Config, Observed, Session,
        observe::{TUNNEL_CHASSIS, TUNNEL_ENCAP},
    },
};

/// What should be there.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Tunnels; `None` while the rows are not known.
    pub tunnels: Option<BTreeSet<WantedTunnel>>,
    /// Which tunnels BFD watches, and how.
    pub watch: Watch,
    /// Patches to physical networks; `None` while the rows are not known.
    pub patches: Option<BTreeSet<WantedPatch>>,
    /// Mirrors; `None` while the rows are not known.
    pub mirrors: Option<BTreeSet<WantedMirror>>,
    /// Queues; `None` while the rows are not known.
    pub queues: Option<BTreeSet<WantedQueue>>,
    /// Endpoints whose tunnels are not needed any more and stay for a while all the same.
    pub kept: BTreeSet<Uuid>,
    /// Rows of interfaces whose flows are in the switch; `None` while that is not known.
    pub installed: Option<BTreeSet<Uuid>>,
    /// For `ovn-installed-ts`.
    pub now_ms: u64,
}

/// Which tunnels BFD watches (ovs-vswitchd.conf.db(5), `bfd`).
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Those to these chassis.
    pub chassis: BTreeSet<Uuid>,
    /// Their settings.
    pub settings: BTreeMap<String, String>,
}

impl Watch {
    /// Settings for a session as it is.
    ///
    /// Open vSwitch 3.1 sends once a second until a session is up (RFC 5880, section 6.8.3), and announces its faster interval
    /// before: who is up first takes that for the other's, waits no longer than it says, and the session falls again. So
    /// packets are asked for once a second until both ends are up.
    fn settings_for(&self, session: &Session) -> BTreeMap<String, String> {
        let mut settings = self.settings.clone();
        let is_faster = |text: &String| {
            text.parse().is_ok_and(|interval| Duration::from_millis(interval) < SLOW_INTERVAL)
        };
        if !session.is_settled()
            && let Some(min_rx) = settings.get_mut("min_rx").filter(|text| is_faster(text))
        {
            *min_rx = SLOW_INTERVAL.as_millis().to_string();
        }
        settings
    }
}

/// The operations, and what can't be done.
pub fn plan(
    replica: &Replica,
    config: &Config,
    observed: &Observed,
    wanted: &Wanted,
) -> (Vec<Operation>, Vec<String>) {
    let mut plan = Plan { config, observed, operations: Vec::new(), problems: Vec::new() };
    match observed.bridge {
        Bridge::Missing => plan.make_bridge(replica),
        Bridge::Refused => {}
        Bridge::Ready { row } => {
            plan.mend_bridge(replica, row);
            if let Some(tunnels) = &wanted.tunnels {
                plan.tunnels(row, tunnels, &wanted.kept);
                plan.watch(&wanted.watch);
            }
            if let Some(patches) = &wanted.patches {
                plan.patches(row, patches);
            }
            if let Some(mirrors) = &wanted.mirrors {
                let before = plan.operations.len();
                plan.mirrors(row, mirrors);
                let changed = plan.operations.len() > before;
                if let Some(system) = replica.rows("Open_vSwitch").next().filter(|_| changed) {
                    // By it ovs-vswitchd says when it has done so.
                    plan.mutate("Open_vSwitch", system.uuid(), CONFIGURATION, Mutator::Add, json!(1));
                }
            }
            if let Some(queues) = &wanted.queues {
                plan.queues(queues);
            }
            if let Some(installed) = &wanted.installed {
                plan.installed(installed, wanted.now_ms);
            }
        }
    }
    (plan.operations, plan.problems)
}

/// The column by which changes of mirrors are counted, as `ovs-vsctl` does with all of its own.
pub(crate) const CONFIGURATION: &str = "next_cfg";

pub(super) struct Plan<'a> {
    pub(super) config: &'a Config,
    pub(super) observed: &'a Observed,
    operations: Vec<Operation>,
    pub(super) problems: Vec<String>,
}

impl Plan<'_> {
    fn make_bridge(&mut self, replica: &Replica) {
        let Some(system) = replica.rows("Open_vSwitch").next() else { return };
        let name = &self.config.bridge;
        self.insert("Interface", "interface", json!({ "name": name, "type": "internal" }));
        self.insert("Port", "port", json!({ "name": name, "interfaces": named_uuid_json("interface") }));
        let bridge = json!({
            "name": name,
            "ports": named_uuid_json("port"),
            "fail_mode": "secure",
            "datapath_type": self.config.datapath_type,
            "protocols": ["set", PROTOCOLS],
            "other_config": map([("disable-in-band", "true")]),
        });
        self.insert("Bridge", "bridge", bridge);
        self.mutate(
            "Open_vSwitch",
            system.uuid(),
            "bridges",
            Mutator::Insert,
            set([named_uuid_json("bridge")]),
        );
    }

    fn mend_bridge(&mut self, replica: &Replica, row: Uuid) {
        let Some(bridge) = replica.row("Bridge", row) else { return };
        let datapath_type = &self.config.datapath_type;
        if !datapath_type.is_empty() && bridge.string("datapath_type") != Some(datapath_type) {
            self.operations.push(Operation::Update {
                table: "Bridge".into(),
                conditions: vec![Condition::uuid_is(row)],
                row: object(json!({ "datapath_type": datapath_type })),
            });
        }
        if bridge.map_string("other_config", "disable-in-band") != Some("true") {
            self.set_keys("Bridge", row, "other_config", &[("disable-in-band", "true")]);
        }
        // An empty set allows every version.
        let protocols: Vec<&str> = bridge.strings("protocols").collect();
        if !protocols.is_empty() && PROTOCOLS.iter().any(|needed| !protocols.contains(needed)) {
            self.mutate("Bridge", row, "protocols", Mutator::Insert, json!(["set", PROTOCOLS]));
        }
    }

    fn tunnels(&mut self, bridge: Uuid, wanted: &BTreeSet<WantedTunnel>, kept: &BTreeSet<Uuid>) {
        let mut gone = self.observed.stray.clone();
        let encaps: BTreeSet<Uuid> =
            wanted.iter().map(|tunnel| tunnel.encap).chain(kept.iter().copied()).collect();
        gone.extend(
            self.observed.tunnels.iter().filter(|(encap, _)| !encaps.contains(*encap)).map(|(_, t)| t.port),
        );
        let mut names = self.observed.names.clone();
        let mut made = Vec::new();
        for tunnel in wanted {
            let Some(options) = self.options(tunnel) else { continue };
            match self.observed.tunnels.get(&tunnel.encap) {
                Some(port) if port.chassis != tunnel.chassis => {
                    self.set_keys(
                        "Port",
                        port.port,
                        "external_ids",
                        &[(TUNNEL_CHASSIS, &tunnel.chassis.to_string())],
                    );
                }
                Some(port) if port.options != options => self.operations.push(Operation::Update {
                    table: "Interface".into(),
                    conditions: vec![Condition::uuid_is(port.interface)],
                    row: object(json!({ "options": map(&options) })),
                }),
                Some(_) => {}
                None => {
                    let hex = tunnel.encap.simple().to_string();
                    let name = (0..)
                        .map(|count| format!("qn-{}-{count}", &hex[..6]))
                        .find(|name| !names.contains(name));
                    let Some(name) = name else { continue };
                    made.push(self.make_tunnel(&name, tunnel, &options, made.len()));
                    names.insert(name);
                }
            }
        }
        if !made.is_empty() {
            self.mutate("Bridge", bridge, "ports", Mutator::Insert, set(made));
        }
        if !gone.is_empty() {
            self.mutate("Bridge", bridge, "ports", Mutator::Delete, set(gone.into_iter().map(uuid_json)));
        }
    }

    /// Tunnels that are there are watched, or not; new ones are next time, when they have a number.
    fn watch(&mut self, watch: &Watch) {
        for tunnel in self.observed.tunnels.values().filter(|tunnel| tunnel.ofport > 0) {
            let watched = watch.chassis.contains(&tunnel.chassis);
            let settings = if watched { watch.settings_for(&tunnel.session) } else { BTreeMap::new() };
            if tunnel.bfd != settings {
                self.operations.push(Operation::Update {
                    table: "Interface".into(),
                    conditions: vec![Condition::uuid_is(tunnel.interface)],
                    row: object(json!({ "bfd": map(&settings) })),
                });
            }
        }
    }

    fn make_tunnel(
        &mut self,
        name: &str,
        tunnel: &WantedTunnel,
        options: &BTreeMap<String, String>,
        number: usize,
    ) -> Value {
        let (interface, port) = (format!("interface{number}"), format!("port{number}"));
        let row = json!({ "name": name, "type": "geneve", "options": map(options) });
        self.insert("Interface", &interface, row);
        let local = options.get("local_ip").map_or("", String::as_str);
        let row = json!({
            "name": name,
            "interfaces": named_uuid_json(&interface),
            "external_ids": map([
                (TUNNEL_ENCAP, tunnel.encap.to_string()),
                (TUNNEL_CHASSIS, tunnel.chassis.to_string()),
                ("ovn-chassis-id", format!("{}@{}%{local}", tunnel.chassis_name, tunnel.ip)),
            ]),
        });
        self.insert("Port", &port, row);
        named_uuid_json(&port)
    }

    fn options(&mut self, tunnel: &WantedTunnel) -> Option<BTreeMap<String, String>> {
        let local = self.config.encap_ips.iter().find(|ip| ip.is_ipv4() == tunnel.ip.is_ipv4());
        let Some(local) = local else {
            let family = if matches!(tunnel.ip, IpAddr::V4(_)) { "IPv4" } else { "IPv6" };
            let chassis = &tunnel.chassis_name;
            self.problems
                .push(format!("no tunnel to {} of {chassis}: this host has no {family} endpoint", tunnel.ip));
            return None;
        };
        let mut options = self.config.tunnel_options.clone();
        options.insert("csum".into(), tunnel.csum.to_string());
        options.insert("key".into(), "flow".into());
        options.insert("remote_ip".into(), tunnel.ip.to_string());
        options.insert("local_ip".into(), local.to_string());
        options.extend(tunnel.dst_port.map(|port| ("dst_port".into(), port.to_string())));
        Some(options)
    }

    fn installed(&mut self, installed: &BTreeSet<Uuid>, now_ms: u64) {
        for interface in self.observed.interfaces.values() {
            match (installed.contains(&interface.row), interface.installed) {
                (true, false) => self.set_keys(
                    "Interface",
                    interface.row,
                    "external_ids",
                    &[("ovn-installed", "true"), ("ovn-installed-ts", &now_ms.to_string())],
                ),
                (false, true) => {
                    let keys = json!(["set", ["ovn-installed", "ovn-installed-ts"]]);
                    self.mutate("Interface", interface.row, "external_ids", Mutator::Delete, keys);
                }
                _ => {}
            }
        }
    }

    /// Sets keys of a map, whatever they were.
    fn set_keys(&mut self, table: &str, row: Uuid, column: &str, pairs: &[(&str, &str)]) {
        let keys: Vec<&str> = pairs.iter().map(|(key, _)| *key).collect();
        let mutations = vec![
            Mutation::new(column, Mutator::Delete, json!(["set", keys])),
            Mutation::new(column, Mutator::Insert, map(pairs.iter().copied())),
        ];
        let conditions = vec![Condition::uuid_is(row)];
        self.operations.push(Operation::Mutate { table: table.to_owned(), conditions, mutations });
    }

    /// A symbolic name of a row that no other has.
    pub(super) fn next_name(&self, kind: &str) -> String {
        format!("{kind}_{}", self.operations.len())
    }

    pub(super) fn push(&mut self, operation: Operation) {
        self.operations.push(operation);
    }

    pub(super) fn mutate(&mut self, table: &str, row: Uuid, column: &str, mutator: Mutator, argument: Value) {
        self.operations.push(Operation::Mutate {
            table: table.to_owned(),
            conditions: vec![Condition::uuid_is(row)],
            mutations: vec![Mutation::new(column, mutator, argument)],
        });
    }

    pub(super) fn insert(&mut self, table: &str, name: &str, row: Value) {
        let uuid_name = Some(name.to_owned());
        self.operations.push(Operation::Insert {
            table: table.to_owned(),
            row: object(row),
            uuid_name,
            uuid: None,
        });
    }
}

pub(super) fn object(json: Value) -> JsonRow {
    if let Value::Object(row) = json { row } else { JsonRow::new() }
}

pub(super) fn set(elements: impl IntoIterator<Item = Value>) -> Value {
    json!(["set", elements.into_iter().collect::<Vec<_>>()])
}

pub(super) fn map<K: ToString, V: ToString>(pairs: impl IntoIterator<Item = (K, V)>) -> Value {
    Datum::map(pairs.into_iter().map(|(key, value)| (key.to_string(), value.to_string()))).to_json()
}

const PROTOCOLS: [&str; 2] = ["OpenFlow13", "OpenFlow15"];

/// Between packets of a BFD session that is not up: so much is agreed on, and up to a quarter less is waited (RFC 5880, sections
/// 6.8.3 and 6.8.7).
pub const SLOW_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Session, TunnelPort};

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn settings() -> BTreeMap<String, String> {
        [("enable".to_owned(), "true".to_owned()), ("min_rx".to_owned(), "100".to_owned())].into()
    }

    fn tunnel(chassis: u128, ofport: i64, bfd: BTreeMap<String, String>) -> TunnelPort {
        TunnelPort {
            port: id(chassis + 10),
            interface: id(chassis + 20),
            name: format!("qn-{chassis}"),
            chassis: id(chassis),
            ofport,
            options: BTreeMap::new(),
            bfd,
            session: Session::default(),
        }
    }

    #[test]
    fn tunnels_to_watched_chassis_have_bfd_and_no_others() {
        let up = |state: &str, remote: &str| Session {
            state: state.to_owned(),
            remote_state: remote.to_owned(),
            ..Session::default()
        };
        let tunnels = [
            tunnel(1, 1, BTreeMap::new()),
            TunnelPort { session: up("up", "up"), ..tunnel(2, 2, settings()) },
            tunnel(3, 3, settings()),
            tunnel(4, 0, BTreeMap::new()),
            TunnelPort { session: up("up", "init"), ..tunnel(5, 5, settings()) },
        ];
        let tunnels = tunnels.into_iter().map(|tunnel| (tunnel.chassis, tunnel)).collect();
        let observed = Observed { tunnels, ..Observed::default() };
        let watch = Watch { chassis: [id(1), id(2), id(4), id(5)].into(), settings: settings() };
        let config = Config::default();
        let mut plan =
            Plan { config: &config, observed: &observed, operations: Vec::new(), problems: Vec::new() };
        plan.watch(&watch);
        let changed: Vec<(String, String)> = plan
            .operations
            .iter()
            .map(|operation| match operation {
                Operation::Update { conditions, row, .. } => {
                    (format!("{conditions:?}"), row["bfd"].to_string())
                }
                other => panic!("{other:?}"),
            })
            .collect();
        // The first gets it, the third loses it; the second has it, the fourth has no number yet. Who is not heard by the other end
        // asks for packets as slowly as that sends.
        let [(first, on), (third, off), (fifth, slower)] = &changed[..] else { panic!("{changed:?}") };
        for (condition, interface) in [(first, 21), (third, 23), (fifth, 25)] {
            assert!(condition.contains(&id(interface).to_string()), "{changed:?}");
        }
        let slow = r#"["map",[["enable","true"],["min_rx","1000"]]]"#;
        assert_eq!((on.as_str(), off.as_str(), slower.as_str()), (slow, r#"["map",[]]"#, slow));
    }
}
