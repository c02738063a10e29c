//! Routers and their ports as Southbound rows.

use imbl::{OrdMap, OrdSet};
use quantumnet_model::{
    Strong, Uuid,
    column::Text,
    nb::{LogicalRouter, LogicalRouterPort, LogicalSwitch, LogicalSwitchPort},
    sb::{Chassis, DatapathBinding},
};

use crate::store::{OTHER, OTHER_RP, ROUTER, RP, SP, SWITCH, Store, add, map, options, port};

#[test]
fn a_pair_of_ports_is_two_patches_that_name_each_other() {
    let mut store = Store::routed();
    let datapath = store.state.get::<DatapathBinding>(ROUTER).unwrap();
    assert_eq!(datapath.r#type.as_deref(), Some("logical-router"));
    assert_eq!(datapath.external_ids, map(&[("logical-router", &ROUTER.to_string()), ("name", "lr")]));
    let (rp, sp) = (store.binding("rp"), store.binding("sp"));
    assert_eq!((options(rp), options(sp)), ("patch peer=sp".to_owned(), "patch peer=rp".to_owned()));
    assert_eq!((rp.datapath.uuid(), rp.tunnel_key), (ROUTER, 1));
    assert_eq!(rp.mac, OrdSet::unit("0a:00:00:00:00:01 10.0.0.1/24 fd00::1/64".into()));
    assert_eq!(sp.mac, OrdSet::unit("0a:00:00:00:00:01 10.0.0.1 fd00::1".into()));
    assert_eq!(store.state.get::<LogicalSwitchPort>(SP).unwrap().up, Some(true));
    assert_eq!(store.problems(), [] as [&str; 0]);

    store.run(|txn| {
        _ = txn.update::<LogicalRouterPort>(RP, |row| row.networks = OrdSet::unit("10.9.0.1/16".into()))
    });
    assert_eq!(store.binding("sp").mac, OrdSet::unit("0a:00:00:00:00:01 10.9.0.1".into()));
    store.run(|txn| _ = txn.update::<LogicalRouterPort>(RP, |row| row.name = "renamed".into()));
    assert_eq!(options(store.binding("renamed")), "patch ");
    assert_eq!(options(store.binding("sp")), "patch peer=rp", "as northd writes it, whoever is there");
    assert_eq!(
        store.problems(),
        ["Logical_Switch_Port.options: router-port is rp, and no router has a port of that name"]
    );
    store.run(|txn| _ = txn.delete::<LogicalRouter>(ROUTER));
    assert!(!store.is_bound("renamed") && store.state.get::<DatapathBinding>(ROUTER).is_none());
    assert_eq!(store.state.iter::<LogicalRouterPort>().count(), 0);
    store.run(|txn| _ = txn.delete::<LogicalSwitch>(SWITCH));
    assert_eq!(store.problems(), [] as [&str; 0]);
}

#[test]
fn a_router_on_a_chassis_makes_its_pairs_those_of_a_gateway() {
    let mut store = Store::routed();
    store.run(|txn| _ = txn.update::<LogicalRouter>(ROUTER, |row| row.options = map(&[("chassis", "gw1")])));
    assert_eq!(options(store.binding("rp")), "l3gateway l3gateway-chassis=gw1 peer=sp");
    assert_eq!(options(store.binding("sp")), "l3gateway l3gateway-chassis=gw1 peer=rp");
    assert_eq!(store.binding("rp").chassis, None);
    let chassis = store.chassis(1, "gw1");
    for name in ["rp", "sp"] {
        assert_eq!(store.binding(name).chassis.map(|chassis| chassis.uuid()), Some(chassis), "{name}");
        assert_eq!(store.binding(name).up, Some(false), "its flows are not there yet");
    }
    assert_eq!(
        store.state.get::<LogicalSwitchPort>(SP).unwrap().up,
        Some(true),
        "as of every port of a router"
    );
    store.run(|txn| _ = txn.delete::<Chassis>(chassis));
    assert_eq!(store.binding("rp").chassis, None);
    store.run(|txn| _ = txn.update::<LogicalRouter>(ROUTER, |row| row.options = OrdMap::new()));
    assert_eq!(options(store.binding("sp")), "patch peer=rp");
}

#[test]
fn routers_are_joined_where_each_names_the_other() {
    let mut store = Store::default();
    let named = |name: &str, peer: &str| LogicalRouterPort {
        peer: Some(peer.into()),
        ..port(name, "0a:00:00:00:00:02", &["10.1.0.1/30"])
    };
    store.run(|txn| add(txn, ROUTER, "a", &[(RP, named("ab", "ba"))]));
    assert_eq!(options(store.binding("ab")), "patch ");
    assert_eq!(store.problems(), ["Logical_Router_Port.peer: no router port ba has this one as its peer"]);
    store.run(|txn| add(txn, OTHER, "b", &[(OTHER_RP, named("ba", "elsewhere"))]));
    assert_eq!(options(store.binding("ab")), "patch ", "not mutual");
    store.run(|txn| txn.put(OTHER_RP, named("ba", "ab")));
    assert_eq!(options(store.binding("ab")), "patch peer=ba");
    assert_eq!(options(store.binding("ba")), "patch peer=ab");
    assert_eq!(store.problems(), [] as [&str; 0]);
    store.run(|txn| _ = txn.delete::<LogicalRouter>(OTHER));
    assert_eq!(options(store.binding("ab")), "patch ");
}

#[test]
fn keys_are_those_asked_for() {
    let mut store = Store::routed();
    store.run(|txn| {
        txn.update::<LogicalRouter>(ROUTER, |row| row.options = map(&[("requested-tnl-key", "77")]));
        txn.update::<LogicalRouterPort>(RP, |row| row.options = map(&[("requested-tnl-key", "9")]));
    });
    assert_eq!(store.state.get::<DatapathBinding>(ROUTER).unwrap().tunnel_key, 77);
    assert_eq!(store.binding("rp").tunnel_key, 9);
}

#[test]
fn what_cannot_be_served_is_kept_and_told() {
    let mut store = Store::routed();
    let second = Uuid::from_u128(7);
    store.run(|txn| {
        txn.update::<LogicalRouterPort>(RP, |row| {
            row.networks = ["10.0.0.1/24", "nonsense"].into_iter().map(Text::from).collect();
        });
        let sp =
            LogicalSwitchPort { name: "sp2".into(), ..txn.get::<LogicalSwitchPort>(SP).unwrap().clone() };
        txn.put(second, sp);
        txn.update::<LogicalSwitch>(SWITCH, |row| _ = row.ports.insert(Strong::new(second)));
    });
    assert_eq!(options(store.binding("rp")), "patch peer=sp");
    assert_eq!(store.binding("sp").mac, OrdSet::unit("0a:00:00:00:00:01 10.0.0.1".into()));
    assert_eq!(
        store.problems(),
        [
            "Logical_Router_Port.networks: \"nonsense\" has no effect: expected an address and prefix length such as 10.0.0.1/24",
            "Logical_Switch_Port.options: router-port rp is that of port sp already",
        ]
    );
    // The first goes, the second takes its place.
    store.run(|txn| _ = txn.update::<LogicalSwitch>(SWITCH, |row| _ = row.ports.remove(&Strong::new(SP))));
    assert_eq!(options(store.binding("rp")), "patch peer=sp2");
    store.run(|txn| {
        txn.update::<LogicalRouterPort>(RP, |row| {
            row.networks = OrdSet::new();
            row.mac = "x".into();
        });
    });
    assert!(!store.is_bound("rp"));
    assert_eq!(
        store.problems(),
        [
            "Logical_Router_Port.mac: \"x\" is no MAC address such as 0a:00:00:00:00:01; the port has no effect"
        ]
    );
    store.run(|txn| {
        txn.update::<LogicalRouterPort>(RP, |row| row.mac = "0a:00:00:00:00:01".into());
    });
    // A switch port of the same name comes first.
    store.run(|txn| _ = txn.update::<LogicalSwitchPort>(second, |row| row.name = "rp".into()));
    assert_eq!(store.binding("rp").datapath.uuid(), SWITCH);
    assert_eq!(
        store.problems(),
        ["Logical_Router_Port.name: a switch port is named rp too; the port has no effect"]
    );
    store.run(|txn| _ = txn.update::<LogicalSwitchPort>(second, |row| row.name = "sp3".into()));
    assert_eq!(store.binding("rp").datapath.uuid(), ROUTER);
    assert_eq!(store.problems(), [] as [&str; 0]);
}
