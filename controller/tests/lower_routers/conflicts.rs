//! Addresses that two rows have: each is told of the other, and both are served.

use imbl::OrdSet;
use quantumnet_model::{
    Strong, Uuid,
    column::Text,
    intent::{Lookup, Problem},
    nb::{LogicalRouter, LogicalRouterPort, LogicalSwitch, LogicalSwitchPort, Nat},
};

use crate::store::{OTHER, OTHER_RP, ROUTER, RP, SP, SWITCH, Store, add, map, port};

const OTHER_SP: Uuid = Uuid::from_u128(10);
const NAT: Uuid = Uuid::from_u128(40);

impl Store {
    fn conflicts(&self) -> Vec<String> {
        let conflicts = self.state.iter::<Problem>().filter(|(_, row)| &*row.severity == "conflict");
        let mut found: Vec<String> = conflicts
            .map(|(_, row)| format!("{} {}.{}: {}", row.row.as_u128(), row.table, row.column, row.message))
            .collect();
        found.sort();
        found
    }

    /// Another router on the switch, which has `address` there.
    fn with_other(mac: &str, address: &str) -> Self {
        let mut store = Self::routed();
        store.run(|txn| {
            add(txn, OTHER, "other", &[(OTHER_RP, port("orp", mac, &[address]))]);
            let sp = LogicalSwitchPort {
                name: "osp".into(),
                options: map(&[("router-port", "orp")]),
                ..txn.get::<LogicalSwitchPort>(SP).unwrap().clone()
            };
            txn.put(OTHER_SP, sp);
            txn.update::<LogicalSwitch>(SWITCH, |row| _ = row.ports.insert(Strong::new(OTHER_SP)));
        });
        store
    }

    fn has_address(&mut self, port: Uuid, networks: &[&str]) {
        let networks: OrdSet<Text> = networks.iter().map(|network| Text::from(*network)).collect();
        self.run(|txn| _ = txn.update::<LogicalRouterPort>(port, |row| row.networks = networks));
    }

    fn floating(&mut self, number: u128, router: Uuid, external: &str, mac: &str, logical_port: &str) {
        self.run(|txn| {
            let row = Nat {
                r#type: "dnat_and_snat".into(),
                external_ip: external.into(),
                logical_ip: "10.9.0.9".into(),
                external_mac: Some(mac.into()),
                logical_port: Some(logical_port.into()),
                ..Nat::default()
            };
            txn.put(Uuid::from_u128(number), row);
            txn.update::<LogicalRouter>(router, |row| {
                _ = row.nat.insert(Strong::new(Uuid::from_u128(number)))
            });
        });
    }
}

#[test]
fn router_ports_of_one_switch_with_one_address_or_mac_name_each_other() {
    let mut store = Store::with_other("0A:00:00:00:00:01", "10.0.0.1/16");
    let both = [
        "3 Logical_Router_Port.mac: router port orp on the switch has 0a:00:00:00:00:01 too",
        "3 Logical_Router_Port.networks: router port orp on the switch has 10.0.0.1 too",
        "6 Logical_Router_Port.mac: router port rp on the switch has 0a:00:00:00:00:01 too",
        "6 Logical_Router_Port.networks: router port rp on the switch has 10.0.0.1 too",
    ];
    assert_eq!(store.conflicts(), both);
    assert_eq!(store.problems(), [] as [&str; 0], "both are served");
    assert!(store.is_bound("rp") && store.is_bound("orp"));

    // Elsewhere it is nobody's business.
    let elsewhere = Uuid::from_u128(11);
    store.run(|txn| {
        txn.update::<LogicalSwitch>(SWITCH, |row| _ = row.ports.remove(&Strong::new(OTHER_SP)));
        let ports = OrdSet::unit(Strong::new(OTHER_SP));
        txn.put(elsewhere, LogicalSwitch { name: "ls2".into(), ports, ..LogicalSwitch::default() });
    });
    assert_eq!(store.conflicts(), [] as [&str; 0]);
    store.run(|txn| {
        _ = txn.delete::<LogicalSwitch>(elsewhere);
        txn.update::<LogicalSwitch>(SWITCH, |row| _ = row.ports.insert(Strong::new(OTHER_SP)));
    });
    assert_eq!(store.conflicts(), both);
    store.has_address(OTHER_RP, &["10.0.0.2/24"]);
    assert_eq!(store.conflicts(), [both[0], both[2]]);
    store.run(|txn| _ = txn.update::<LogicalRouterPort>(OTHER_RP, |row| row.name = "renamed".into()));
    assert_eq!(store.conflicts(), [] as [&str; 0], "nothing leads to it");
    store.run(|txn| {
        txn.update::<LogicalRouterPort>(OTHER_RP, |row| row.name = "orp".into());
        txn.update::<LogicalRouterPort>(OTHER_RP, |row| row.mac = "0a:00:00:00:00:02".into());
    });
    assert_eq!(store.conflicts(), [] as [&str; 0]);
    store.has_address(RP, &["10.0.0.2/24"]);
    assert_eq!(store.conflicts().len(), 2);
    store.run(|txn| _ = txn.delete::<LogicalRouter>(OTHER));
    assert_eq!(store.conflicts(), [] as [&str; 0]);
}

#[test]
fn ports_of_one_router_with_networks_that_overlap_are_told() {
    let mut store = Store::routed();
    store.run(|txn| {
        let second = port("rp2", "0a:00:00:00:00:02", &["10.0.0.254/24", "10.0.0.253/24", "fe80::1/64"]);
        add(txn, ROUTER, "lr", &[(OTHER_RP, second)]);
    });
    assert_eq!(
        store.conflicts(),
        [
            "3 Logical_Router_Port.networks: port rp2 of the router has the network 10.0.0.0/24 too",
            "6 Logical_Router_Port.networks: port rp of the router has the network 10.0.0.0/24 too"
        ]
    );
    store.has_address(OTHER_RP, &["10.0.0.1/16"]);
    assert_eq!(
        store.conflicts(),
        [
            "3 Logical_Router_Port.networks: port rp2 of the router has the address 10.0.0.1 too",
            "6 Logical_Router_Port.networks: port rp of the router has the address 10.0.0.1 too"
        ]
    );
    store.has_address(OTHER_RP, &["10.0.0.129/25"]);
    store.run(|txn| _ = txn.update::<LogicalRouterPort>(OTHER_RP, |row| row.name = "rp3".into()));
    assert_eq!(
        store.conflicts(),
        [
            "3 Logical_Router_Port.networks: network 10.0.0.128/25 of port rp3 and 10.0.0.0/24 overlap",
            "6 Logical_Router_Port.networks: network 10.0.0.0/24 of port rp and 10.0.0.128/25 overlap"
        ]
    );
    store.has_address(OTHER_RP, &["10.0.1.1/24", "fe80::1/64"]);
    assert_eq!(store.conflicts(), [] as [&str; 0]);
    store.has_address(RP, &["10.0.1.2/24", "fe80::1/64"]);
    assert_eq!(store.conflicts().len(), 2);
    store.run(|txn| {
        _ = txn.update::<LogicalRouter>(ROUTER, |row| _ = row.ports.remove(&Strong::new(OTHER_RP)))
    });
    assert_eq!(store.conflicts(), [] as [&str; 0]);
    let kept = store.state.iter::<Lookup>().filter(|(_, row)| &*row.kind == "overlap");
    assert_eq!(kept.count(), 0);
}

#[test]
fn translations_and_those_who_have_their_address_are_told() {
    let mut store = Store::with_other("0a:00:00:00:00:02", "10.0.0.2/24");
    store.run(|txn| {
        for router in [ROUTER, OTHER] {
            txn.update::<LogicalRouter>(router, |row| row.options = map(&[("chassis", "gw1")]));
        }
    });
    store.floating(40, ROUTER, "10.0.0.1", "0a:00:00:00:0f:09", "vm");
    assert_eq!(store.conflicts(), [] as [&str; 0], "its own router's address may be translated");
    store.floating(40, ROUTER, "10.0.0.2", "0a:00:00:00:00:02", "vm");
    assert_eq!(
        store.conflicts(),
        [
            "40 NAT.external_ip: router port orp has 10.0.0.2 too",
            "40 NAT.external_mac: router port orp has 0a:00:00:00:00:02 too",
            "6 Logical_Router_Port.mac: 0a:00:00:00:00:02 is the external_mac of NAT 00000000-0000-0000-0000-000000000028 too",
            "6 Logical_Router_Port.networks: 10.0.0.2 is the external_ip of NAT 00000000-0000-0000-0000-000000000028 of another router too",
        ]
    );
    store.floating(40, ROUTER, "10.0.0.9", "0a:00:00:00:0f:09", "vm");
    store.floating(41, OTHER, "10.0.0.9", "0a:00:00:00:0f:09", "vm2");
    assert_eq!(
        store.conflicts(),
        [
            "40 NAT.external_ip: NAT 00000000-0000-0000-0000-000000000029 of another router has 10.0.0.9 too",
            "40 NAT.external_mac: NAT 00000000-0000-0000-0000-000000000029 has 0a:00:00:00:0f:09 too, for another logical_port",
            "41 NAT.external_ip: NAT 00000000-0000-0000-0000-000000000028 of another router has 10.0.0.9 too",
            "41 NAT.external_mac: NAT 00000000-0000-0000-0000-000000000028 has 0a:00:00:00:0f:09 too, for another logical_port",
        ]
    );
    // Who only replaces sources may share.
    store.run(|txn| _ = txn.update::<Nat>(Uuid::from_u128(41), |row| row.r#type = "snat".into()));
    assert_eq!(store.conflicts(), [] as [&str; 0]);
    store.floating(42, ROUTER, "10.0.0.9", "0a:00:00:00:0f:09", "vm");
    assert_eq!(
        store.conflicts(),
        [
            "40 NAT.external_ip: NAT 00000000-0000-0000-0000-00000000002a translates 10.0.0.9 too, under the same conditions",
            "42 NAT.external_ip: NAT 00000000-0000-0000-0000-000000000028 translates 10.0.0.9 too, under the same conditions",
        ]
    );
    store.run(|txn| _ = txn.update::<Nat>(NAT, |row| row.r#match = "tcp".into()));
    assert_eq!(store.conflicts(), [] as [&str; 0]);
    store.run(|txn| _ = txn.update::<Nat>(NAT, |row| row.r#match = Text::default()));
    assert_eq!(store.conflicts().len(), 2);
    // Reached by no switch any more.
    store.has_address(RP, &["192.0.2.1/24"]);
    assert_eq!(store.conflicts(), [] as [&str; 0]);
    store.has_address(RP, &["10.0.0.1/24"]);
    assert_eq!(store.conflicts().len(), 2);
    store.run(|txn| _ = txn.delete::<LogicalRouter>(ROUTER));
    assert_eq!(store.conflicts(), [] as [&str; 0]);
    let kept = store.state.iter::<Lookup>().filter(|(_, row)| &*row.kind == "nat-claim");
    assert_eq!(kept.count(), 0);
}
