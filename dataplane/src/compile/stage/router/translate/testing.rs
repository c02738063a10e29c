//! A router between a switch with a guest and the physical network, and rules on it.

use std::{fmt::Write as _, sync::Arc};

use expect_test::Expect;
use imbl::{OrdMap, OrdSet};
use quantumnet_model::{
    Row, Strong, Uuid,
    column::Text,
    host::{HostInterface, HostRouterZones, HostSelf, HostZone},
    nb::{
        AddressSet, LogicalRouter, LogicalRouterPort, LogicalRouterStaticRoute, LogicalSwitch,
        LogicalSwitchPort, Nat, NbGlobal, Qos,
    },
    sb::{Chassis, DatapathBinding, HaChassis, HaChassisGroup, PortBinding},
};

use crate::compile::{Compiler, RowUpdate, compile_full, stage::Stage, table::Table};

/// One world; what is not said is ordinary.
#[derive(Clone, Default)]
pub(in crate::compile::stage::router) struct World {
    pub(in crate::compile::stage::router) rules: Vec<Nat>,
    /// Static routes of the router.
    pub(in crate::compile::stage::router) routes: Vec<LogicalRouterStaticRoute>,
    /// Zone of the ways of connections.
    pub(in crate::compile::stage::router) ways: Option<i64>,
    /// The router is pinned to this hypervisor instead of having a gateway port.
    pub(in crate::compile::stage::router) pinned: bool,
    /// The gateway is on hypervisor 2.
    pub(in crate::compile::stage::router) elsewhere: bool,
    /// Port `a`, with 10.0.0.1, is on hypervisor 2.
    pub(in crate::compile::stage::router) guest_elsewhere: bool,
    pub(in crate::compile::stage::router) no_zones: bool,
    pub(in crate::compile::stage::router) common_zone: bool,
    pub(in crate::compile::stage::router) options: &'static [(&'static str, &'static str)],
    /// Something on the public switch looks at addresses.
    pub(in crate::compile::stage::router) looked_at: bool,
    /// A second gateway port, in 192.0.2.0/24.
    pub(in crate::compile::stage::router) second: bool,
}

/// A rule of that type.
pub(in crate::compile::stage::router) fn rule(kind: &str, external: &str, logical: &str) -> Nat {
    Nat { r#type: kind.into(), external_ip: external.into(), logical_ip: logical.into(), ..Nat::default() }
}

/// A floating IP that its port's hypervisor serves.
pub(in crate::compile::stage::router) fn distributed(external: &str, logical: &str) -> Nat {
    Nat {
        external_mac: Some("0a:f1:00:00:00:01".into()),
        logical_port: Some("a".into()),
        ..rule("dnat_and_snat", external, logical)
    }
}

/// The set of peers 198.51.100.7 and 2001:db8::/32.
pub(in crate::compile::stage::router) fn peers() -> Strong<AddressSet> {
    Strong::new(id(90))
}

/// Another gateway port, by its number: 2 or 4.
pub(in crate::compile::stage::router) fn gateway_port(
    number: u128,
) -> quantumnet_model::Weak<LogicalRouterPort> {
    quantumnet_model::Weak::new(id(20 + number))
}

impl World {
    pub(in crate::compile::stage::router) fn of(rules: impl IntoIterator<Item = Nat>) -> Self {
        Self { rules: rules.into_iter().collect(), ..Self::default() }
    }

    /// What the stages make of it, by table.
    #[track_caller]
    pub(in crate::compile::stage::router) fn check(&self, stages: &[&Stage], expect: Expect) {
        let mut compiler = Compiler::new();
        compiler.apply(self.rows());
        assert!(compiler.recompute_check().is_empty(), "{:?}", compile_full(compiler.rows()).flows.len());
        let mut text = String::new();
        for (key, value) in compiler.table() {
            if stages.iter().any(|stage| value.cookie >> 32 == u64::from(stage.number)) {
                let actions: Vec<String> = value.actions.iter().map(ToString::to_string).collect();
                let actions = if actions.is_empty() { "drop".to_owned() } else { actions.join(",") };
                let name = Table::from_number(key.table).map_or("?", |table| table.decl().name);
                let matches =
                    key.matches.to_string().replace(",metadata=0x9", "").replace("metadata=0x9", "");
                writeln!(text, "{name} {} {matches} => {actions}", key.priority)
                    .expect("strings do not fail");
            }
        }
        expect.assert_eq(&text);
    }

    pub(in crate::compile::stage::router) fn rows(&self) -> Vec<RowUpdate> {
        let mut rows = vec![
            put(
                1,
                HostSelf {
                    chassis: "hv1".into(),
                    nd_extensions: true,
                    sctp_ports: true,
                    ..HostSelf::default()
                },
            ),
            put(41, Chassis { name: "hv1".into(), ..Chassis::default() }),
            put(42, Chassis { name: "hv2".into(), ..Chassis::default() }),
            put(
                90,
                AddressSet {
                    name: "peers".into(),
                    addresses: ["198.51.100.7", "2001:db8::/32"].into_iter().map(Text::from).collect(),
                    ..AddressSet::default()
                },
            ),
        ];
        if self.common_zone {
            let options = map(&[("use_common_zone", "true")]);
            rows.push(put(2, NbGlobal { options, ..NbGlobal::default() }));
        }
        self.router(&mut rows);
        for (switch, key) in [(50, 5), (60, 6)] {
            rows.push(put(switch, datapath(key, "logical-switch")));
        }
        let mut public = LogicalSwitch::default();
        if self.looked_at {
            public.qos_rules = OrdSet::unit(Strong::<Qos>::new(id(99)));
        }
        rows.push(put(60, public));
        let lsp = |kind: &str| LogicalSwitchPort { r#type: kind.into(), ..LogicalSwitchPort::default() };
        rows.push(put(52, lsp("")));
        rows.push(put(
            52,
            PortBinding {
                mac: OrdSet::unit("0a:00:00:00:00:01 10.0.0.1 fd00::1".into()),
                chassis: Some(id(if self.guest_elsewhere { 42 } else { 41 }).into()),
                ..binding("a", 50, 2, "")
            },
        ));
        let interface = HostInterface { name: "a".into(), iface_id: "a".into(), ofport: 7, meter: 16 };
        rows.push(put(3, interface));
        for (port, switch, name) in [(51, 50, "sw-lr"), (61, 60, "public-lr")] {
            rows.push(put(port, lsp("router")));
            rows.push(put(
                port,
                self.patch(binding(name, switch, 1, ""), &format!("lr-{}", &name[..name.len() - 3])),
            ));
        }
        rows
    }

    fn router(&self, rows: &mut Vec<RowUpdate>) {
        rows.push(put(9, datapath(9, "logical-router")));
        let mut options = map(self.options);
        if self.pinned {
            options.insert("chassis".into(), "hv1".into());
        }
        let numbers = 100..100 + self.rules.len() as u128;
        let routes = 200..200 + self.routes.len() as u128;
        rows.push(put(
            9,
            LogicalRouter {
                options,
                nat: numbers.clone().map(|number| Strong::new(id(number))).collect(),
                static_routes: routes.clone().map(|number| Strong::new(id(number))).collect(),
                ..LogicalRouter::default()
            },
        ));
        rows.extend(numbers.zip(&self.rules).map(|(number, rule)| put(number, rule.clone())));
        rows.extend(routes.zip(&self.routes).map(|(number, route)| put(number, route.clone())));
        rows.extend(self.ways.map(|zone| put(9, HostZone { zone })));
        if !self.no_zones {
            rows.push(put(9, HostRouterZones { dnat: 11, snat: 12 }));
        }
        let mut port = |number: u128, name: &str, networks: &str, peer: &str| {
            let mac = format!("0a:ff:00:00:00:{number:02x}");
            let row = LogicalRouterPort {
                name: name.into(),
                mac: mac.as_str().into(),
                ..LogicalRouterPort::default()
            };
            rows.push(put(20 + number, row));
            let mac = OrdSet::unit(format!("{mac} {networks}").into());
            let binding = PortBinding { mac, ..binding(name, 9, number as i64, "") };
            rows.push(put(20 + number, self.patch(binding, peer)));
        };
        port(1, "lr-sw", "10.0.0.254/24 fd00::fe/64", "sw-lr");
        port(2, "lr-public", "172.16.0.1/24 fd16::1/64", "public-lr");
        if self.second {
            port(4, "lr-other", "192.0.2.1/24", "nobody");
        }
        if self.pinned {
            return;
        }
        let chassis = id(if self.elsewhere { 42 } else { 41 });
        rows.push(put(70, HaChassis { chassis: Some(chassis.into()), priority: 1, ..HaChassis::default() }));
        rows.push(put(
            71,
            HaChassisGroup {
                name: "g".into(),
                ha_chassis: OrdSet::unit(Strong::new(id(70))),
                ..HaChassisGroup::default()
            },
        ));
        let mut redirect = |number: u128, port: &str| {
            let binding = PortBinding {
                options: map(&[("distributed-port", port)]),
                ha_chassis_group: Some(Strong::new(id(71))),
                chassis: Some(chassis.into()),
                ..binding(&format!("cr-{port}"), 9, number as i64, "chassisredirect")
            };
            rows.push(put(20 + number, binding));
        };
        redirect(3, "lr-public");
        if self.second {
            redirect(5, "lr-other");
        }
    }

    /// A port of a pair.
    fn patch(&self, binding: PortBinding, peer: &str) -> PortBinding {
        let mut options = map(&[("peer", peer)]);
        if self.pinned {
            options.insert("l3gateway-chassis".into(), "hv1".into());
        }
        let kind = if self.pinned { "l3gateway" } else { "patch" };
        PortBinding { r#type: kind.into(), options, ..binding }
    }
}

fn put<T: Row>(number: u128, row: T) -> RowUpdate {
    (T::TABLE, id(number), Some(Arc::new(row)))
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number << 96 | 1)
}

pub(in crate::compile::stage::router) fn map(entries: &[(&str, &str)]) -> OrdMap<Text, Text> {
    entries.iter().map(|(key, value)| (Text::from(*key), Text::from(*value))).collect()
}

fn datapath(key: i64, kind: &str) -> DatapathBinding {
    DatapathBinding { tunnel_key: key, r#type: Some(kind.into()), ..DatapathBinding::default() }
}

fn binding(name: &str, datapath: u128, key: i64, kind: &str) -> PortBinding {
    PortBinding {
        logical_port: name.into(),
        datapath: id(datapath).into(),
        tunnel_key: key,
        r#type: kind.into(),
        ..PortBinding::default()
    }
}
