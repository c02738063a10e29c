//! Models for the compiler's tests: rows of switches, ports and hypervisors in a few words.
#![allow(dead_code, unreachable_pub)] // each test binary uses its own part

use std::{collections::BTreeMap, sync::Arc};

use quantumnet_dataplane::compile::{Compiler, FlowDelta, RowUpdate};
use quantumnet_model::{
    DynRow, Row, Rows, Strong, TableId, Uuid, Weak,
    host::{HostActivated, HostConjunction, HostGroup, HostInterface, HostPatch, HostSelf, HostTunnel},
    nb::{
        DhcpOptions, LogicalRouter, LogicalRouterPolicy, LogicalRouterPort, LogicalRouterStaticRoute,
        LogicalSwitch, LogicalSwitchPort,
    },
    sb::{Chassis, DatapathBinding, Encap, Fdb, HaChassis, HaChassisGroup, PortBinding},
};

pub mod filters;
pub mod interpreter;
pub mod ovs;
pub mod qos;
pub mod random;
pub mod routers;
pub mod translations;

/// A uuid that says what it is for.
pub fn id(kind: Kind, number: u32) -> Uuid {
    Uuid::from_u128((number as u128) << 96 | 0x4000 << 64 | kind as u128)
}

/// Kinds of rows.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum Kind {
    Chassis = 1,
    Encap,
    Switch,
    Port,
    Interface,
    Tunnel,
    Own,
    Dhcp,
    Fdb,
    Patch,
    Acl,
    Group,
    Set,
    RouterPort,
    Route,
    Policy,
    Neighbour,
    Nat,
    Redirect,
    HaGroup,
    HaChassis,
    Bfd,
    Qos,
    Meter,
    Copp,
    Mirror,
    MirrorRule,
    MirrorPort,
    Sample,
    Collector,
    App,
}

/// A logical port in few words.
#[derive(Clone, Debug, Default)]
pub struct PortSpec {
    pub number: u32,
    pub switch: u32,
    pub key: i64,
    pub chassis: Option<u32>,
    pub addresses: Vec<String>,
    pub security: Vec<String>,
    pub disabled: bool,
    pub dhcp: Option<u32>,
    /// `localnet`, … or empty.
    pub kind: String,
    /// The port that it is nested in.
    pub parent: Option<u32>,
    pub tag: Option<i64>,
    /// Chassis that have it besides `chassis`.
    pub further: Vec<u32>,
    pub options: Vec<(String, String)>,
}

/// A router's port in few words: `r<number>`, key `number`, MAC `router_mac(number)`.
#[derive(Clone, Debug, Default)]
pub struct RouterPortSpec {
    pub number: u32,
    pub router: u32,
    /// `10.1.0.254/24`, …
    pub networks: Vec<String>,
    /// The switch that it is on: its port there is `number` plus 1000, named `s<number>`, whose addresses are `router`.
    pub switch: Option<u32>,
    /// The other router's port.
    pub peer: Option<u32>,
    pub disabled: bool,
    /// A gateway router's chassis.
    pub chassis: Option<u32>,
    pub options: Vec<(String, String)>,
}

/// Rows of a hypervisor, and what changed since the last batch.
#[derive(Clone)]
pub struct Model {
    pub rows: Rows,
    batch: BTreeMap<(TableId, Uuid), Option<Arc<dyn DynRow>>>,
    here: u32,
}

impl Default for Model {
    fn default() -> Self {
        Self { rows: Rows::default(), batch: BTreeMap::new(), here: 1 }
    }
}

pub fn text(text: &str) -> Arc<str> {
    text.into()
}

pub fn texts<S: AsRef<str>>(texts: impl IntoIterator<Item = S>) -> imbl::OrdSet<Arc<str>> {
    texts.into_iter().map(|text| Arc::from(text.as_ref())).collect()
}

pub fn options(pairs: &[(&str, &str)]) -> imbl::OrdMap<Arc<str>, Arc<str>> {
    pairs.iter().map(|(key, value)| (text(key), text(value))).collect()
}

/// The MAC of port `number`, as in `ports`.
pub fn mac(number: u32) -> String {
    let [_, a, b, c] = number.to_be_bytes();
    format!("0a:00:00:{a:02x}:{b:02x}:{c:02x}")
}

/// The MAC of router port `number`.
pub fn router_mac(number: u32) -> String {
    let [_, a, b, c] = number.to_be_bytes();
    format!("0a:ff:00:{a:02x}:{b:02x}:{c:02x}")
}

impl Model {
    /// Hypervisor 1 of `chassis`, with tunnels to the others by ports 1000 + number.
    pub fn hypervisor(chassis: u32) -> Self {
        Self::of(1, chassis)
    }

    /// The same, of hypervisor `here`.
    pub fn of(here: u32, chassis: u32) -> Self {
        let mut this = Self { here, ..Self::default() };
        let name = text(&format!("hv{here}"));
        this.put(
            id(Kind::Own, 0),
            HostSelf { chassis: name, tunnel_option: 0, nd_extensions: true, sctp_ports: true },
        );
        for number in 1..=chassis {
            this.chassis(number);
        }
        this
    }

    pub fn chassis(&mut self, number: u32) {
        let encap = id(Kind::Encap, number);
        self.put(
            encap,
            Encap {
                r#type: text("geneve"),
                ip: text(&format!("192.0.2.{number}")),
                chassis_name: text(&format!("hv{number}")),
                ..Encap::default()
            },
        );
        self.put(
            id(Kind::Chassis, number),
            Chassis {
                name: text(&format!("hv{number}")),
                encaps: std::iter::once(Strong::new(encap)).collect(),
                ..Chassis::default()
            },
        );
        if number != self.here {
            let row = HostTunnel {
                chassis: id(Kind::Chassis, number),
                encap,
                ofport: 1000 + i64::from(number),
                ..HostTunnel::default()
            };
            self.put(id(Kind::Tunnel, number), row);
        }
    }

    pub fn switch(&mut self, number: u32) {
        self.put(
            id(Kind::Switch, number),
            DatapathBinding {
                tunnel_key: i64::from(number),
                r#type: Some(text("logical-switch")),
                ..DatapathBinding::default()
            },
        );
        self.put(
            id(Kind::Switch, number),
            LogicalSwitch { name: text(&format!("sw{number}")), ..LogicalSwitch::default() },
        );
    }

    /// Router `number`: its datapath has that key. Routers and switches share keys and uuids.
    pub fn router(&mut self, number: u32) {
        self.put(
            id(Kind::Switch, number),
            DatapathBinding {
                tunnel_key: i64::from(number),
                r#type: Some(text("logical-router")),
                ..DatapathBinding::default()
            },
        );
        self.put(
            id(Kind::Switch, number),
            LogicalRouter { name: text(&format!("lr{number}")), ..LogicalRouter::default() },
        );
    }

    /// A router's port, and that of its switch.
    pub fn router_port(&mut self, spec: &RouterPortSpec) {
        let (uuid, name, mac) =
            (id(Kind::RouterPort, spec.number), format!("r{}", spec.number), router_mac(spec.number));
        self.put(
            uuid,
            LogicalRouterPort {
                name: text(&name),
                mac: text(&mac),
                networks: texts(&spec.networks),
                peer: spec.peer.map(|peer| text(&format!("r{peer}"))),
                enabled: spec.disabled.then_some(false),
                options: spec.options.iter().map(|(key, value)| (text(key), text(value))).collect(),
                ..LogicalRouterPort::default()
            },
        );
        let binding = |peer: String| {
            let mut options = imbl::OrdMap::unit(text("peer"), text(&peer));
            if let Some(chassis) = spec.chassis {
                options.insert(text("l3gateway-chassis"), text(&format!("hv{chassis}")));
            }
            PortBinding {
                r#type: text(if spec.chassis.is_some() { "l3gateway" } else { "patch" }),
                options,
                ..PortBinding::default()
            }
        };
        let peer = match (spec.peer, spec.switch) {
            (Some(peer), _) => format!("r{peer}"),
            (None, _) => format!("s{}", spec.number),
        };
        self.put(
            uuid,
            PortBinding {
                logical_port: text(&name),
                datapath: id(Kind::Switch, spec.router).into(),
                tunnel_key: i64::from(spec.number),
                mac: texts([format!("{mac} {}", spec.networks.join(" "))]),
                ..binding(peer)
            },
        );
        let Some(switch) = spec.switch else { return };
        let number = spec.number + SWITCH_SIDE;
        let ips = spec.networks.iter().filter_map(|net| net.split('/').next());
        let ips: Vec<&str> = ips.collect();
        self.put(
            id(Kind::Port, number),
            LogicalSwitchPort {
                name: text(&format!("s{}", spec.number)),
                r#type: text("router"),
                options: options(&[("router-port", &name)]),
                addresses: texts(["router"]),
                ..LogicalSwitchPort::default()
            },
        );
        self.put(
            id(Kind::Port, number),
            PortBinding {
                logical_port: text(&format!("s{}", spec.number)),
                datapath: id(Kind::Switch, switch).into(),
                tunnel_key: i64::from(number),
                mac: texts([format!("{mac} {}", ips.join(" "))]),
                ..binding(name)
            },
        );
    }

    /// A static route of a router.
    pub fn route(&mut self, number: u32, router: u32, row: LogicalRouterStaticRoute) {
        self.put(id(Kind::Route, number), row);
        self.edit_router(router, |row| _ = row.static_routes.insert(Strong::new(id(Kind::Route, number))));
    }

    /// A policy of a router.
    pub fn policy(&mut self, number: u32, router: u32, row: LogicalRouterPolicy) {
        let uuid = id(Kind::Policy, number);
        self.put(uuid, row);
        self.edit_router(router, |row| _ = row.policies.insert(Strong::new(uuid)));
    }

    pub fn edit_router(&mut self, router: u32, change: impl FnOnce(&mut LogicalRouter)) {
        let uuid = id(Kind::Switch, router);
        let mut row = self.rows.get::<LogicalRouter>(uuid).cloned().expect("the router is there");
        change(&mut row);
        self.put(uuid, row);
    }

    /// Numbers for all groups that are wanted now.
    pub fn number_groups(&mut self) {
        let mut copy = self.clone();
        for wanted in copy.compiled().wanted_groups() {
            self.put(wanted, HostGroup { group: 1 + i64::from(wanted.as_fields().1) });
        }
    }

    pub fn vlan_passthru(&mut self, switch: u32) {
        let other_config = options(&[("vlan-passthru", "true")]);
        self.put(id(Kind::Switch, switch), LogicalSwitch { other_config, ..LogicalSwitch::default() });
    }

    /// The port's rows; when it is on this hypervisor its interface has OpenFlow port `number`.
    pub fn port(&mut self, spec: &PortSpec) {
        let uuid = id(Kind::Port, spec.number);
        let name = format!("p{}", spec.number);
        self.put(
            uuid,
            LogicalSwitchPort {
                name: text(&name),
                enabled: spec.disabled.then_some(false),
                dhcpv4_options: spec.dhcp.map(|number| id(Kind::Dhcp, number).into()),
                ..LogicalSwitchPort::default()
            },
        );
        let served_by =
            spec.chassis.filter(|_| spec.kind == "external").map(|chassis| self.group_of(chassis));
        self.put(
            uuid,
            PortBinding {
                logical_port: text(&name),
                datapath: id(Kind::Switch, spec.switch).into(),
                tunnel_key: spec.key,
                chassis: spec.chassis.map(|number| id(Kind::Chassis, number).into()),
                mac: texts(&spec.addresses),
                port_security: texts(&spec.security),
                r#type: text(&spec.kind),
                ha_chassis_group: served_by,
                parent_port: spec.parent.map(|parent| text(&format!("p{parent}"))),
                tag: spec.tag,
                additional_chassis: spec
                    .further
                    .iter()
                    .map(|number| Weak::new(id(Kind::Chassis, *number)))
                    .collect(),
                options: spec.options.iter().map(|(key, value)| (text(key), text(value))).collect(),
                ..PortBinding::default()
            },
        );
        let here = spec.chassis == Some(self.here) || spec.further.contains(&self.here);
        match spec.kind.as_str() {
            "localnet" => self.patch(spec.number, spec.number.into()),
            "l2gateway" if here => self.patch(spec.number, spec.number.into()),
            "localport" => self.interface(spec.number, spec.number.into()),
            "" if here && spec.parent.is_none() => self.interface(spec.number, spec.number.into()),
            _ => {}
        }
    }

    /// Makes a router's port one with a gateway, which is hypervisor 1.
    pub fn gateway(&mut self, router_port: u32, router: u32) {
        self.gateway_at(router_port, router, 1);
    }

    /// The same, of any hypervisor.
    pub fn gateway_at(&mut self, router_port: u32, router: u32, chassis: u32) {
        let group = self.group_of(chassis);
        let redirect = PortBinding {
            logical_port: text(&format!("cr-r{router_port}")),
            r#type: text("chassisredirect"),
            datapath: id(Kind::Switch, router).into(),
            tunnel_key: i64::from(router_port + 100),
            options: options(&[("distributed-port", &format!("r{router_port}"))]),
            chassis: Some(id(Kind::Chassis, chassis).into()),
            ha_chassis_group: Some(group),
            ..PortBinding::default()
        };
        self.put(id(Kind::Redirect, router_port), redirect);
        let uuid = id(Kind::RouterPort, router_port);
        let row = self.rows.get::<LogicalRouterPort>(uuid).cloned().expect("the port is there");
        self.put(
            uuid,
            LogicalRouterPort {
                ha_chassis_group: Some(Strong::new(id(Kind::HaGroup, 100 + chassis))),
                ..row
            },
        );
    }

    /// A group of one chassis.
    fn group_of(&mut self, chassis: u32) -> Strong<HaChassisGroup> {
        let (group, member) = (id(Kind::HaGroup, 100 + chassis), id(Kind::HaChassis, 100 + chassis));
        let row = HaChassis {
            chassis: Some(id(Kind::Chassis, chassis).into()),
            external_ids: options(&[("chassis-name", &format!("hv{chassis}"))]),
            ..HaChassis::default()
        };
        self.put(member, row);
        let ha_chassis = std::iter::once(Strong::new(member)).collect();
        self.put(group, HaChassisGroup { ha_chassis, ..HaChassisGroup::default() });
        Strong::new(group)
    }

    pub fn patch(&mut self, port: u32, ofport: i64) {
        let row = HostPatch { logical_port: text(&format!("p{port}")), ofport, meter: i64::from(port) * 16 };
        self.put(id(Kind::Patch, port), row);
    }

    pub fn activated(&mut self, port: u32) {
        self.put(id(Kind::Port, port), HostActivated { logical_port: text(&format!("p{port}")) });
    }

    pub fn interface(&mut self, port: u32, ofport: i64) {
        let name = format!("p{port}");
        let row = HostInterface {
            name: text(&format!("v{name}")),
            iface_id: text(&name),
            ofport,
            meter: i64::from(port) * 16,
        };
        self.put(id(Kind::Interface, port), row);
    }

    pub fn dhcp(&mut self, number: u32, cidr: &str, server: &str) {
        let options =
            options(&[("server_id", server), ("server_mac", "0a:dd:00:00:00:01"), ("lease_time", "3600")]);
        self.put(id(Kind::Dhcp, number), DhcpOptions { cidr: text(cidr), options, ..DhcpOptions::default() });
    }

    pub fn fdb(&mut self, number: u32, switch: u32, port_key: i64, mac: &str) {
        let row = Fdb { mac: text(mac), dp_key: switch.into(), port_key, timestamp: 0 };
        self.put(id(Kind::Fdb, number), row);
    }

    pub fn put<T: Row>(&mut self, uuid: Uuid, row: T) {
        self.set(T::TABLE, uuid, Some(Arc::new(row)));
    }

    pub fn remove<T: Row>(&mut self, uuid: Uuid) {
        self.set(T::TABLE, uuid, None);
    }

    pub fn set(&mut self, table: TableId, uuid: Uuid, row: Option<Arc<dyn DynRow>>) {
        self.rows.set(table, uuid, row.clone());
        self.batch.insert((table, uuid), row);
    }

    /// What changed since the last call.
    pub fn take_batch(&mut self) -> Vec<RowUpdate> {
        std::mem::take(&mut self.batch).into_iter().map(|((table, uuid), row)| (table, uuid, row)).collect()
    }

    /// Applies what changed.
    pub fn apply(&mut self, compiler: &mut Compiler) -> FlowDelta {
        compiler.apply(self.take_batch())
    }

    /// What leads from other rows to these.
    pub fn difference(&self, before: &Self) -> Vec<RowUpdate> {
        let mut updates = Vec::new();
        for table in quantumnet_model::tables::ids() {
            let (old, new) = (before.rows.table(table), self.rows.table(table));
            updates
                .extend(old.keys().filter(|uuid| !new.contains_key(*uuid)).map(|uuid| (table, *uuid, None)));
            updates.extend(new.iter().map(|(uuid, row)| (table, *uuid, Some(row.clone()))));
        }
        updates
    }

    /// Gives each conjunction that the rows ask for a number, from `first` on and in several lists; or takes all back.
    pub fn number_conjunctions(&mut self, first: Option<u32>) {
        let asked: Vec<Uuid> = self.clone().compiled().conjunctions().collect();
        let gone: Vec<Uuid> = self.rows.table(HostConjunction::TABLE).keys().copied().collect();
        gone.into_iter().for_each(|uuid| self.remove::<HostConjunction>(uuid));
        let Some(first) = first else { return };
        for (id, uuid) in (i64::from(first)..).zip(asked) {
            self.put(uuid, HostConjunction { id, list: i64::from(first) - 1 });
        }
    }

    /// All rows, compiled anew.
    pub fn compiled(&mut self) -> Compiler {
        self.batch.clear();
        let rows = quantumnet_model::tables::ids().flat_map(|table| {
            let rows = self.rows.table(table).iter();
            rows.map(move |(uuid, row)| (table, *uuid, Some(row.clone()))).collect::<Vec<_>>()
        });
        let mut compiler = Compiler::new();
        compiler.apply(rows);
        compiler
    }
}

/// Added to the number of a router's port for its switch's side.
pub const SWITCH_SIDE: u32 = 1000;

/// A plain port: key and MAC by its number, address 10.0.0.number.
pub fn plain(number: u32, switch: u32, chassis: u32) -> PortSpec {
    PortSpec {
        number,
        switch,
        key: i64::from(number),
        chassis: Some(chassis),
        addresses: vec![format!("{} 10.0.{}.{} fd00::{number:x}", mac(number), number >> 8, number & 0xff)],
        ..PortSpec::default()
    }
}

/// A flow as text that `ovs-ofctl add-flows` reads.
pub fn flow_text(
    key: &quantumnet_dataplane::compile::FlowKey,
    value: &quantumnet_dataplane::compile::FlowValue,
) -> String {
    let actions: Vec<String> = value.actions.iter().map(|action| action.to_string()).collect();
    let actions = if actions.is_empty() { "drop".to_owned() } else { actions.join(",") };
    let matches = key.matches.to_string();
    let comma = if matches.is_empty() { "" } else { "," };
    format!("table={},priority={}{comma}{matches} actions={actions}", key.table, key.priority)
}

/// Waits until there is an answer, at most ten seconds.
pub fn wait_for<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(std::time::Instant::now() < deadline, "nothing came in ten seconds");
        std::thread::yield_now();
    }
}
