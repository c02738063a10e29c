//! A store with routers.

use imbl::{OrdMap, OrdSet};
use quantumnet_controller::{
    lower,
    store::{Context, State, Txn, evaluate},
};
use quantumnet_model::{
    Strong, Uuid,
    column::Text,
    intent::Problem,
    nb::{LogicalRouter, LogicalRouterPort, LogicalSwitch, LogicalSwitchPort},
    sb::{Chassis, Encap, PortBinding},
};

pub(crate) const ROUTER: Uuid = Uuid::from_u128(1);
pub(crate) const SWITCH: Uuid = Uuid::from_u128(2);
pub(crate) const RP: Uuid = Uuid::from_u128(3);
pub(crate) const SP: Uuid = Uuid::from_u128(4);
pub(crate) const OTHER: Uuid = Uuid::from_u128(5);
pub(crate) const OTHER_RP: Uuid = Uuid::from_u128(6);

/// A store, lowered as the leader does.
pub(crate) struct Store {
    pub(crate) state: State,
    pub(crate) now_ms: i64,
}

impl Default for Store {
    fn default() -> Self {
        Self { state: State::default(), now_ms: 1 }
    }
}

impl Store {
    pub(crate) fn run(&mut self, request: impl FnOnce(&mut Txn<'_>)) {
        let context = Context { now_ms: self.now_ms, principal: "test".into() };
        let request = |txn: &mut Txn<'_>| {
            request(txn);
            Ok(())
        };
        let done = evaluate(&self.state, &context, request, &lower::run).unwrap();
        let revision = self.state.revision() + 1;
        self.state.apply(revision, &done.changes).unwrap();
    }

    /// A router with a port to a switch.
    pub(crate) fn routed() -> Self {
        let mut store = Self::default();
        store.run(|txn| {
            add(txn, ROUTER, "lr", &[(RP, port("rp", "0a:00:00:00:00:01", &["10.0.0.1/24", "fd00::1/64"]))]);
            let sp = LogicalSwitchPort {
                name: "sp".into(),
                r#type: "router".into(),
                options: map(&[("router-port", "rp")]),
                addresses: OrdSet::unit("router".into()),
                ..LogicalSwitchPort::default()
            };
            txn.put(SP, sp);
            let ports = OrdSet::unit(Strong::new(SP));
            txn.put(SWITCH, LogicalSwitch { name: "ls".into(), ports, ..LogicalSwitch::default() });
        });
        store
    }

    pub(crate) fn chassis(&mut self, number: u128, name: &str) -> Uuid {
        let (chassis, encap) = (Uuid::from_u128(0x100 + number), Uuid::from_u128(0x200 + number));
        self.run(|txn| {
            let ip = format!("192.0.2.{number}").into();
            txn.put(encap, Encap { r#type: "geneve".into(), ip, ..Encap::default() });
            let encaps = OrdSet::unit(Strong::new(encap));
            txn.put(chassis, Chassis { name: name.into(), encaps, ..Chassis::default() });
        });
        chassis
    }

    pub(crate) fn binding(&self, name: &str) -> &PortBinding {
        let found = self.state.find::<PortBinding>(&[("logical_port", name.into())]);
        self.state.get(found.unwrap_or_else(|| panic!("{name} has a binding"))).unwrap()
    }

    pub(crate) fn is_bound(&self, name: &str) -> bool {
        self.state.find::<PortBinding>(&[("logical_port", name.into())]).is_some()
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        let errors = self.state.iter::<Problem>().filter(|(_, row)| &*row.severity == "error");
        let mut found: Vec<String> =
            errors.map(|(_, row)| format!("{}.{}: {}", row.table, row.column, row.message)).collect();
        found.sort();
        found
    }
}

pub(crate) fn map(pairs: &[(&str, &str)]) -> OrdMap<Text, Text> {
    pairs.iter().map(|(key, value)| (Text::from(*key), Text::from(*value))).collect()
}

pub(crate) fn port(name: &str, mac: &str, networks: &[&str]) -> LogicalRouterPort {
    let networks = networks.iter().map(|network| Text::from(*network)).collect();
    LogicalRouterPort { name: name.into(), mac: mac.into(), networks, ..LogicalRouterPort::default() }
}

pub(crate) fn add(txn: &mut Txn<'_>, router: Uuid, name: &str, ports: &[(Uuid, LogicalRouterPort)]) {
    let mut row = txn.get::<LogicalRouter>(router).cloned().unwrap_or_default();
    row.name = name.into();
    for (uuid, port) in ports {
        txn.put(*uuid, port.clone());
        row.ports.insert(Strong::new(*uuid));
    }
    txn.put(router, row);
}

pub(crate) fn options(binding: &PortBinding) -> String {
    let pairs = binding.options.iter().map(|(key, value)| format!("{key}={value}"));
    format!("{} {}", binding.r#type, pairs.collect::<Vec<_>>().join(" "))
}
