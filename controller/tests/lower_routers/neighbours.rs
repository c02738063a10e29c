//! Neighbours and BFD sessions of router ports.

use quantumnet_controller::agents::{Neighbour, Report, aging, store_reports};
use quantumnet_model::{
    Strong, Uuid,
    nb::{self, LogicalRouter, LogicalRouterPort, LogicalRouterStaticRoute},
    sb::{Bfd, MacBinding, StaticMacBinding},
};

use crate::store::{ROUTER, RP, Store, map, options, port};

impl Store {
    fn report(&mut self, chassis: &str, report: Report) {
        let chassis = chassis.to_owned();
        self.run(|txn| {
            store_reports(txn, &chassis, &[report], &imbl::OrdSet::new()).unwrap();
        });
    }

    fn learned(&mut self, ip: &str, mac: &str) {
        let neighbour =
            Neighbour { datapath_key: 2, port_key: 1, ip: ip.parse().unwrap(), mac: mac.parse().unwrap() };
        self.report("hv1", Report { neighbours: vec![neighbour], ..Report::default() });
    }

    fn neighbours(&self) -> Vec<String> {
        let rows = self.state.iter::<MacBinding>();
        let mut rows: Vec<String> = rows
            .map(|(_, row)| format!("{} {} {} {}", row.logical_port, row.ip, row.mac, row.timestamp))
            .collect();
        rows.sort();
        rows
    }

    fn age(&mut self) {
        self.run(|txn| aging::forget(txn).unwrap());
    }
}

#[test]
fn neighbours_are_learned_once_and_change_their_mac() {
    let mut store = Store::routed();
    store.chassis(1, "hv1");
    store.now_ms = 1_000_000;
    store.learned("10.0.0.9", "02:00:00:00:00:09");
    store.now_ms += 10_000;
    store.learned("10.0.0.9", "02:00:00:00:00:09");
    assert_eq!(
        store.neighbours(),
        ["rp 10.0.0.9 02:00:00:00:00:09 1000000"],
        "a time as young as this stays"
    );
    store.learned("10.0.0.9", "02:00:00:00:00:0a");
    assert_eq!(store.neighbours(), ["rp 10.0.0.9 02:00:00:00:00:0a 1010000"]);
    store.learned("fd00::9", "02:00:00:00:00:09");
    assert_eq!(store.neighbours().len(), 2);
    store.run(|txn| _ = txn.update::<LogicalRouterPort>(RP, |row| row.name = "renamed".into()));
    assert_eq!(store.neighbours(), [] as [&str; 0], "they were those of another name");
    store.learned("fd00::9", "02:00:00:00:00:09");
    store.run(|txn| _ = txn.delete::<LogicalRouter>(ROUTER));
    assert_eq!(store.neighbours(), [] as [&str; 0]);
    store.learned("fd00::9", "02:00:00:00:00:09");
    assert_eq!(store.neighbours(), [] as [&str; 0], "the port is gone");
}

#[test]
fn neighbours_grow_old_by_the_longest_prefix() {
    let mut store = Store::routed();
    store.chassis(1, "hv1");
    store.now_ms = 1_000_000;
    for host in 1..=3 {
        store.learned(&format!("10.0.0.{host}"), "02:00:00:00:00:09");
    }
    store.learned("10.0.1.1", "02:00:00:00:00:09");
    store.now_ms += 60_000;
    store.age();
    assert_eq!(store.neighbours().len(), 4, "no threshold");
    let thresholds = map(&[("mac_binding_age_threshold", "10.0.1.0/24:0;30")]);
    store.run(|txn| _ = txn.update::<LogicalRouter>(ROUTER, |row| row.options = thresholds));
    store.learned("10.0.0.3", "02:00:00:00:00:09");
    store.run(|txn| {
        let global = txn.iter::<nb::NbGlobal>().next().unwrap().0;
        txn.update::<nb::NbGlobal>(global, |row| {
            _ = row.options.insert("mac_binding_removal_limit".into(), "1".into());
        });
    });
    store.age();
    assert_eq!(store.neighbours().len(), 3, "one at once");
    store.age();
    store.age();
    assert_eq!(
        store.neighbours(),
        ["rp 10.0.0.3 02:00:00:00:00:09 1060000", "rp 10.0.1.1 02:00:00:00:00:09 1000000"]
    );
    store.run(|txn| {
        let wrong = map(&[("mac_binding_age_threshold", "x")]);
        txn.update::<LogicalRouter>(ROUTER, |row| row.options = wrong);
    });
    assert!(store.problems()[0].starts_with("Logical_Router.options: mac_binding_age_threshold: "));
}

#[test]
fn fixed_neighbours_follow_their_port() {
    let mut store = Store::routed();
    let fixed = Uuid::from_u128(60);
    store.run(|txn| {
        let row = nb::StaticMacBinding {
            logical_port: "rp".into(),
            ip: "10.0.0.9".into(),
            mac: "02:00:00:00:00:09".into(),
            override_dynamic_mac: true,
        };
        txn.put(fixed, row);
    });
    let row = store.state.get::<StaticMacBinding>(fixed).unwrap();
    assert_eq!((&*row.ip, row.override_dynamic_mac, row.datapath.uuid()), ("10.0.0.9", true, ROUTER));
    store.run(|txn| _ = txn.update::<LogicalRouterPort>(RP, |row| row.name = "other".into()));
    assert!(store.state.get::<StaticMacBinding>(fixed).is_none());
    assert_eq!(
        store.problems()[1],
        "Static_MAC_Binding.logical_port: there is no router port rp; the row has no effect"
    );
    store.run(|txn| _ = txn.update::<LogicalRouterPort>(RP, |row| row.name = "rp".into()));
    assert!(store.state.get::<StaticMacBinding>(fixed).is_some());
    store.run(|txn| _ = txn.update::<nb::StaticMacBinding>(fixed, |row| row.mac = "x".into()));
    assert!(store.state.get::<StaticMacBinding>(fixed).is_none());
    store.run(|txn| _ = txn.delete::<nb::StaticMacBinding>(fixed));
    assert_eq!(store.problems(), [] as [&str; 0]);
}

#[test]
fn a_session_is_down_until_its_chassis_says_otherwise_and_unused_without_a_route() {
    let mut store = Store::routed();
    store.run(|txn| _ = txn.update::<LogicalRouter>(ROUTER, |row| row.options = map(&[("chassis", "gw1")])));
    store.chassis(1, "gw1");
    store.chassis(2, "hv1");
    let (session, route) = (Uuid::from_u128(70), Uuid::from_u128(71));
    store.run(|txn| {
        let row = nb::Bfd {
            logical_port: "rp".into(),
            dst_ip: "10.0.0.9".into(),
            min_tx: Some(250),
            ..nb::Bfd::default()
        };
        txn.put(session, row);
    });
    let state = |store: &Store| {
        let (north, south) = (store.state.get::<nb::Bfd>(session), store.state.get::<Bfd>(session));
        let (north, south) = (north.unwrap().status.clone().unwrap(), south.unwrap().status.clone());
        assert_eq!(north, south);
        north.to_string()
    };
    let row = store.state.get::<Bfd>(session).unwrap();
    assert_eq!((row.src_port, row.min_tx, row.min_rx, row.detect_mult), (49_152, 250, 1_000, 5));
    assert!(row.disc > 0);
    assert_eq!(state(&store), "admin_down");
    let told = |store: &mut Store, chassis: &str, status: &str| {
        store.report(chassis, Report { bfd: [(session, status.to_owned())].into(), ..Report::default() });
    };
    told(&mut store, "gw1", "up");
    assert_eq!(state(&store), "admin_down", "nothing refers to it");
    store.run(|txn| {
        let row = LogicalRouterStaticRoute {
            ip_prefix: "0.0.0.0/0".into(),
            nexthop: "10.0.0.9".into(),
            bfd: Some(session.into()),
            ..LogicalRouterStaticRoute::default()
        };
        txn.put(route, row);
        txn.update::<LogicalRouter>(ROUTER, |row| _ = row.static_routes.insert(Strong::new(route)));
    });
    assert_eq!(state(&store), "down");
    told(&mut store, "hv1", "up");
    assert_eq!(state(&store), "down", "it does not run there");
    told(&mut store, "gw1", "up");
    assert_eq!(state(&store), "up");
    assert_eq!(&*store.state.get::<Bfd>(session).unwrap().chassis_name, "gw1");
    store.run(|txn| _ = txn.update::<LogicalRouterStaticRoute>(route, |row| row.bfd = None));
    assert_eq!(state(&store), "admin_down");
    store.run(|txn| {
        let row = nb::Bfd { logical_port: "nosuch".into(), dst_ip: "x".into(), ..nb::Bfd::default() };
        txn.put(Uuid::from_u128(72), row);
    });
    assert_eq!(store.state.get::<Bfd>(Uuid::from_u128(72)).unwrap().src_port, 49_153);
    assert_eq!(
        store.problems(),
        [
            "BFD.dst_ip: dst_ip is \"x\", expected an IP address; no session runs",
            "BFD.logical_port: there is no router port nosuch; no session runs"
        ]
    );
    store.run(|txn| {
        txn.delete::<nb::Bfd>(Uuid::from_u128(72));
        txn.delete::<nb::Bfd>(session);
    });
    assert_eq!(store.state.iter::<Bfd>().count(), 0);
    assert_eq!(store.problems(), [] as [&str; 0]);
}

#[test]
fn a_route_has_a_path_as_long_as_a_port_has_its_network() {
    let mut store = Store::routed();
    let route = Uuid::from_u128(71);
    store.run(|txn| {
        let row = LogicalRouterStaticRoute {
            ip_prefix: "0.0.0.0/0".into(),
            nexthop: "192.0.2.1".into(),
            ..LogicalRouterStaticRoute::default()
        };
        txn.put(route, row);
        txn.update::<LogicalRouter>(ROUTER, |row| _ = row.static_routes.insert(Strong::new(route)));
    });
    let pathless = "Logical_Router_Static_Route.nexthop: no port of the router is in a network of 192.0.2.1; the route has no effect";
    assert_eq!(store.problems(), [pathless]);
    let second = Uuid::from_u128(80);
    store.run(|txn| {
        txn.put(second, port("rp2", "0a:00:00:00:00:02", &["192.0.2.254/24"]));
        txn.update::<LogicalRouter>(ROUTER, |row| _ = row.ports.insert(Strong::new(second)));
    });
    assert_eq!(store.problems(), [] as [&str; 0]);
    assert_eq!(options(store.binding("rp2")), "patch ");
    store.run(|txn| {
        txn.update::<LogicalRouterPort>(second, |row| {
            row.networks = imbl::OrdSet::unit("192.0.3.254/24".into())
        });
    });
    assert_eq!(store.problems(), [pathless]);
    store.run(|txn| {
        txn.update::<LogicalRouterPort>(second, |row| {
            row.networks = imbl::OrdSet::unit("192.0.2.254/24".into())
        });
    });
    assert_eq!(store.problems(), [] as [&str; 0]);
    store
        .run(|txn| _ = txn.update::<LogicalRouter>(ROUTER, |row| _ = row.ports.remove(&Strong::new(second))));
    assert_eq!(store.problems(), [pathless]);
    store.run(|txn| _ = txn.delete::<LogicalRouter>(ROUTER));
    assert_eq!(
        store.problems()[0],
        "Logical_Switch_Port.options: router-port is rp, and no router has a port of that name"
    );
    assert_eq!(store.problems().len(), 1);
}
