//! Gateways of distributed routers: where their traffic is led, who serves them, what they announce.

use imbl::OrdSet;
use quantumnet_controller::lower::gateway;
use quantumnet_model::{
    Strong, Uuid,
    column::Text,
    nb::{self, GatewayChassis, LogicalRouter, LogicalRouterPort, LogicalSwitch, LogicalSwitchPort, Nat},
    sb::{Chassis, HaChassis, HaChassisGroup, PortBinding},
};

use crate::store::{ROUTER, RP, SP, SWITCH, Store, map, options};

const GROUP: Uuid = Uuid::from_u128(30);

impl Store {
    /// A router whose port has gateways by chassis and priority.
    fn with_gateways(members: &[(&str, i64)]) -> Self {
        let mut store = Self::routed();
        store.run(|txn| {
            let mut rows = OrdSet::new();
            for (number, (chassis, priority)) in (20_u128..).zip(members) {
                let name = format!("rp-{chassis}").into();
                let row = GatewayChassis {
                    name,
                    chassis_name: (*chassis).into(),
                    priority: *priority,
                    ..GatewayChassis::default()
                };
                txn.put(Uuid::from_u128(number), row);
                rows.insert(Strong::new(Uuid::from_u128(number)));
            }
            txn.update::<LogicalRouterPort>(RP, |row| row.gateway_chassis = rows);
        });
        store
    }

    fn announced(&self) -> Vec<&str> {
        self.binding("sp").nat_addresses.iter().map(|entry| &**entry).collect()
    }

    fn nat(
        &mut self,
        number: u128,
        kind: &str,
        external: &str,
        inner: &str,
        distributed: Option<(&str, &str)>,
    ) {
        self.run(|txn| {
            let row = Nat {
                r#type: kind.into(),
                external_ip: external.into(),
                logical_ip: inner.into(),
                external_mac: distributed.map(|(mac, _)| mac.into()),
                logical_port: distributed.map(|(_, port)| port.into()),
                ..Nat::default()
            };
            txn.put(Uuid::from_u128(number), row);
            txn.update::<LogicalRouter>(ROUTER, |row| {
                _ = row.nat.insert(Strong::new(Uuid::from_u128(number)))
            });
        });
    }

    fn serves(&mut self, chassis: Uuid, ports: &[&str]) {
        let ports = ports.iter().map(|port| (*port).to_owned()).collect();
        self.run(|txn| gateway::serve(txn, chassis, &ports));
    }

    fn hosting(&self) -> Option<&str> {
        let port = self.state.get::<LogicalRouterPort>(RP).unwrap();
        port.status.get("hosting-chassis").map(|name| &**name)
    }
}

#[test]
fn gateway_chassis_become_a_group_of_the_ports_name() {
    let mut store = Store::with_gateways(&[("gw1", 20), ("gw2", 10)]);
    let redirect = store.binding("cr-rp");
    assert_eq!(options(redirect), "chassisredirect always-redirect=true distributed-port=rp");
    assert_eq!((redirect.datapath.uuid(), redirect.tunnel_key), (ROUTER, 2));
    assert_eq!(redirect.mac, store.binding("rp").mac);
    assert_eq!(
        store.state.find::<PortBinding>(&[("logical_port", "cr-rp".into())]),
        Some(gateway::redirect_of(RP))
    );
    assert_eq!(options(store.binding("rp")), "patch chassis-redirect-port=cr-rp peer=sp");
    let chassis = store.chassis(1, "gw1");
    let group =
        store.state.get::<HaChassisGroup>(store.binding("cr-rp").ha_chassis_group.unwrap().uuid()).unwrap();
    assert_eq!(&*group.name, "rp");
    let member = |number| store.state.get::<HaChassis>(Uuid::from_u128(number)).unwrap();
    assert_eq!((member(20).priority, member(20).chassis.map(|row| row.uuid())), (20, Some(chassis)));
    assert_eq!((member(21).priority, member(21).chassis), (10, None), "nobody registered as gw2");

    // A group wins over them.
    store.run(|txn| {
        txn.put(GROUP, nb::HaChassisGroup { name: "g".into(), ..nb::HaChassisGroup::default() });
        txn.update::<LogicalRouterPort>(RP, |row| row.ha_chassis_group = Some(Strong::new(GROUP)));
    });
    assert_eq!(store.binding("cr-rp").ha_chassis_group.unwrap().uuid(), GROUP);
    assert_eq!(store.state.iter::<HaChassisGroup>().count(), 1, "that of the port's name went");
    assert_eq!(
        store.problems(),
        ["Logical_Router_Port.gateway_chassis: it has no effect beside ha_chassis_group"]
    );
    store.run(|txn| {
        txn.update::<LogicalRouterPort>(RP, |row| {
            row.ha_chassis_group = None;
            row.gateway_chassis = OrdSet::new();
        });
    });
    assert!(!store.is_bound("cr-rp"));
    assert_eq!(options(store.binding("rp")), "patch peer=sp");
    assert_eq!(store.problems(), [] as [&str; 0]);
}

#[test]
fn a_gateway_is_where_its_agents_say() {
    let mut store = Store::with_gateways(&[("gw1", 20), ("gw2", 10)]);
    let (first, second, other) = (store.chassis(1, "gw1"), store.chassis(2, "gw2"), store.chassis(3, "hv"));
    let holder = |store: &Store| store.binding("cr-rp").chassis.map(|chassis| chassis.uuid());
    assert_eq!((holder(&store), store.hosting()), (None, None), "nobody has said so");
    store.serves(first, &["cr-rp", "nosuch", "rp"]);
    assert_eq!((holder(&store), store.hosting()), (Some(first), Some("gw1")));
    store.serves(other, &["cr-rp"]);
    assert_eq!(holder(&store), Some(first), "it is no member");
    store.serves(second, &["cr-rp"]);
    assert_eq!((holder(&store), store.hosting()), (Some(second), Some("gw2")));
    store.serves(first, &[]);
    assert_eq!(holder(&store), Some(second), "it did not have it any more");
    store.serves(second, &[]);
    assert_eq!((holder(&store), store.hosting()), (None, None));
    store.serves(first, &["cr-rp"]);
    store.run(|txn| _ = txn.delete::<Chassis>(first));
    assert_eq!((holder(&store), store.hosting()), (None, None));
}

#[test]
fn options_that_are_not_understood_are_told() {
    let mut store = Store::with_gateways(&[("gw1", 20)]);
    let given = |store: &mut Store, pairs: &[(&str, &str)]| {
        let given = map(pairs);
        store.run(|txn| _ = txn.update::<LogicalRouterPort>(RP, |row| row.options = given));
        store.problems()
    };
    let right =
        [("gateway_mtu", "1400"), ("gateway_mtu_bypass", "udp.dst == 53"), ("redirect-type", "bridged")];
    assert!(given(&mut store, &right).is_empty());
    assert!(given(&mut store, &[("gateway_mtu", "0"), ("redirect-type", "overlay")]).is_empty());
    let wrong = [("gateway_mtu", "large"), ("gateway_mtu_bypass", "udp.dst == "), ("redirect-type", "vlan")];
    let problems = given(&mut store, &wrong).join("\n");
    for said in [
        "Logical_Router_Port.options: ",
        "gateway_mtu is \"large\", expected 0 to 65535; it is not used",
        "gateway_mtu_bypass: column 12: ",
        "redirect-type is \"vlan\", expected overlay or bridged; overlay is used",
    ] {
        assert!(problems.contains(said), "{said} in {problems}");
    }
}

#[test]
fn a_gateway_is_not_where_it_can_t_be() {
    let mut store = Store::with_gateways(&[("gw1", 20)]);
    store.run(|txn| _ = txn.update::<LogicalRouter>(ROUTER, |row| row.options = map(&[("chassis", "gw9")])));
    assert!(!store.is_bound("cr-rp"));
    assert_eq!(
        store.problems(),
        ["Logical_Router_Port.gateway_chassis: it has no effect: the router is on chassis gw9 as a whole"]
    );
    store.run(|txn| _ = txn.update::<LogicalRouter>(ROUTER, |row| row.options = map(&[])));
    assert!(store.is_bound("cr-rp"));
    let second = Uuid::from_u128(8);
    store.run(|txn| {
        txn.put(second, LogicalSwitchPort { name: "cr-rp".into(), ..LogicalSwitchPort::default() });
        txn.update::<LogicalSwitch>(SWITCH, |row| _ = row.ports.insert(Strong::new(second)));
    });
    assert_eq!(store.binding("cr-rp").datapath.uuid(), SWITCH);
    assert_eq!(
        store.problems(),
        ["Logical_Router_Port.gateway_chassis: it has no effect: another port is named cr-rp"]
    );
    store.run(|txn| {
        txn.update::<LogicalSwitch>(SWITCH, |row| _ = row.ports.remove(&Strong::new(second)));
        txn.put(GROUP, nb::HaChassisGroup { name: "rp".into(), ..nb::HaChassisGroup::default() });
    });
    assert_eq!(
        store.problems(),
        ["Logical_Router_Port.gateway_chassis: it has no effect: a group of chassis is named rp already"]
    );
    store.run(|txn| _ = txn.delete::<nb::HaChassisGroup>(GROUP));
    assert!(store.is_bound("cr-rp"));
    assert_eq!(store.problems(), [] as [&str; 0]);
}

#[test]
fn all_traffic_is_redirected_unless_a_translation_is_distributed() {
    let mut store = Store::with_gateways(&[("gw1", 20)]);
    let is_always = |store: &Store| store.binding("cr-rp").options.contains_key("always-redirect");
    assert!(is_always(&store));
    store.nat(40, "dnat_and_snat", "192.0.2.9", "10.0.0.9", Some(("0a:00:00:00:0f:09", "vm")));
    assert!(!is_always(&store));
    store.run(|txn| _ = txn.update::<Nat>(Uuid::from_u128(40), |row| row.external_mac = None));
    assert!(is_always(&store));
    store.run(|txn| {
        _ = txn.update::<Nat>(Uuid::from_u128(40), |row| row.external_mac = Some("0a:00:00:00:0f:09".into()))
    });
    assert!(!is_always(&store));
    store.run(|txn| _ = txn.update::<LogicalRouter>(ROUTER, |row| row.nat = OrdSet::new()));
    assert!(is_always(&store));
    store.run(|txn| {
        txn.update::<LogicalRouterPort>(RP, |row| row.options = map(&[("redirect-type", "bridged")]));
    });
    assert_eq!(options(store.binding("cr-rp")), "chassisredirect distributed-port=rp redirect-type=bridged");
}

#[test]
fn a_gateway_announces_what_is_translated_there() {
    let mut store = Store::with_gateways(&[("gw1", 20)]);
    let own = "0a:00:00:00:00:01 10.0.0.1 is_chassis_resident(\"cr-rp\")";
    assert_eq!(store.announced(), [own]);
    store.nat(40, "snat", "10.0.0.8", "10.9.0.0/16", None);
    assert_eq!(store.announced(), [own], "nobody asked for more");
    store.run(|txn| {
        txn.update::<LogicalSwitchPort>(SP, |row| {
            _ = row.options.insert("nat-addresses".into(), "router".into())
        });
    });
    assert_eq!(store.announced(), [own, "0a:00:00:00:00:01 10.0.0.8 is_chassis_resident(\"cr-rp\")"]);
    store.nat(41, "dnat_and_snat", "10.0.0.9", "10.9.0.9", Some(("0a:00:00:00:0f:09", "vm")));
    store.nat(42, "snat", "10.0.0.1", "10.8.0.0/16", None);
    assert_eq!(
        store.announced(),
        [
            own,
            "0a:00:00:00:00:01 10.0.0.8 is_chassis_resident(\"cr-rp\")",
            "0a:00:00:00:0f:09 10.0.0.9 is_chassis_resident(\"vm\")"
        ]
    );
    let list = "0a:00:00:00:00:01 10.0.0.77";
    store.run(|txn| {
        txn.update::<LogicalSwitchPort>(SP, |row| {
            _ = row.options.insert("nat-addresses".into(), list.into())
        });
    });
    assert_eq!(store.announced(), [own, "0a:00:00:00:00:01 10.0.0.77 is_chassis_resident(\"cr-rp\")"]);
    // As a gateway router: to physical networks.
    store.run(|txn| {
        txn.update::<LogicalRouterPort>(RP, |row| row.gateway_chassis = OrdSet::new());
        txn.update::<LogicalRouter>(ROUTER, |row| row.options = map(&[("chassis", "gw1")]));
    });
    assert_eq!(store.announced(), [list]);
    let localnet = Uuid::from_u128(9);
    store.run(|txn| {
        let row = LogicalSwitchPort {
            name: "ln".into(),
            r#type: "localnet".into(),
            options: map(&[("network_name", "physnet1")]),
            ..LogicalSwitchPort::default()
        };
        txn.put(localnet, row);
        txn.update::<LogicalSwitch>(SWITCH, |row| _ = row.ports.insert(Strong::new(localnet)));
    });
    assert_eq!(store.announced(), ["0a:00:00:00:00:01 10.0.0.1", list]);
    store.run(|txn| {
        _ = txn.update::<LogicalSwitch>(SWITCH, |row| _ = row.ports.remove(&Strong::new(localnet)))
    });
    assert_eq!(store.announced(), [list]);
}

#[test]
fn what_is_not_to_be_announced_is_not() {
    let mut store = Store::with_gateways(&[("gw1", 20)]);
    let own = "0a:00:00:00:00:01 10.0.0.1 is_chassis_resident(\"cr-rp\")";
    let mute = map(&[("disable_garp_rarp", "true")]);
    store.run(|txn| _ = txn.update::<LogicalRouter>(ROUTER, |row| row.options = mute));
    assert_eq!(store.announced(), [] as [&str; 0]);
    store.run(|txn| {
        let loud = map(&[("disable_garp_rarp", "false")]);
        txn.update::<LogicalRouter>(ROUTER, |row| row.options = loud);
    });
    assert_eq!(store.announced(), [own]);
    store.run(|txn| {
        txn.update::<LogicalSwitchPort>(SP, |row| {
            _ = row.options.insert("disable_garp_rarp".into(), "true".into())
        });
    });
    assert_eq!(store.announced(), [] as [&str; 0]);
    store.nat(40, "snat", "10.0.0.8", "10.9.0.0/16", None);
    store.run(|txn| {
        let options = map(&[
            ("router-port", "rp"),
            ("nat-addresses", "router"),
            ("exclude-router-ips-from-garp", "true"),
        ]);
        txn.update::<LogicalSwitchPort>(SP, |row| row.options = options);
    });
    assert_eq!(store.announced(), ["0a:00:00:00:00:01 10.0.0.8 is_chassis_resident(\"cr-rp\")"]);
}

#[test]
fn a_translation_that_can_t_be_used_is_told() {
    let mut store = Store::routed();
    store.nat(40, "snat", "10.0.0.1", "10.9.0.0/16", None);
    assert_eq!(
        store.problems(),
        [
            "NAT._uuid: the router has no gateway: neither options:chassis nor a port with gateway_chassis or ha_chassis_group; the rule has no effect"
        ]
    );
    store.run(|txn| _ = txn.update::<LogicalRouter>(ROUTER, |row| row.options = map(&[("chassis", "gw1")])));
    assert_eq!(store.problems(), [] as [&str; 0]);
    let mut check = |change: &dyn Fn(&mut Nat)| {
        let before = store.state.get::<Nat>(Uuid::from_u128(40)).unwrap().clone();
        store.run(|txn| _ = txn.update::<Nat>(Uuid::from_u128(40), |row| change(row)));
        let problems = store.problems();
        store.run(|txn| txn.put(Uuid::from_u128(40), before));
        assert_eq!(store.problems(), [] as [&str; 0]);
        problems.join("|")
    };
    let end = "; the rule has no effect";
    assert_eq!(
        check(&|row| row.external_ip = "x".into()),
        format!("NAT.external_ip: external_ip is \"x\", expected an IP address{end}")
    );
    assert_eq!(
        check(&|row| row.external_ip = "fd00::1".into()),
        format!(
            "NAT.logical_ip: logical_ip 10.9.0.0/16 and external_ip fd00::1 are of different families{end}"
        )
    );
    assert_eq!(
        check(&|row| row.r#type = "dnat".into()),
        format!("NAT.logical_ip: 10.9.0.0/16 is a network, which only snat may have{end}")
    );
    assert_eq!(
        check(&|row| row.external_port_range = "9-1".into()),
        format!("NAT.external_port_range: \"9-1\" is no range of ports such as 1024-65535{end}")
    );
    let wrong = check(&|row| row.r#match = "ip4.src = 1".into());
    assert!(wrong.starts_with("NAT.match: column 9: ") && wrong.ends_with(end), "{wrong}");
    assert_eq!(check(&|row| row.gateway_port = None), "");
}

#[test]
fn of_several_gateways_one_is_named_or_has_the_address() {
    let mut store = Store::with_gateways(&[("gw1", 20)]);
    let second = Uuid::from_u128(50);
    store.run(|txn| {
        txn.put(GROUP, nb::HaChassisGroup { name: "g".into(), ..nb::HaChassisGroup::default() });
        let row = LogicalRouterPort {
            name: "rp2".into(),
            mac: "0a:00:00:00:00:02".into(),
            networks: OrdSet::unit("192.0.2.1/24".into()),
            ha_chassis_group: Some(Strong::new(GROUP)),
            ..LogicalRouterPort::default()
        };
        txn.put(second, row);
        txn.update::<LogicalRouter>(ROUTER, |row| _ = row.ports.insert(Strong::new(second)));
    });
    store.nat(40, "snat", "192.0.2.1", "10.9.0.0/16", None);
    assert_eq!(store.problems(), [] as [&str; 0]);
    store.nat(41, "snat", "198.51.100.1", "10.9.0.0/16", None);
    let several = "NAT.gateway_port: the router has several gateway ports and none has the network of 198.51.100.1; name one; the rule has no effect";
    assert_eq!(store.problems(), [several]);
    store.run(|txn| {
        txn.update::<LogicalRouterPort>(second, |row| {
            row.networks = ["192.0.2.1/24", "198.51.100.1/24"].into_iter().map(Text::from).collect();
        });
    });
    assert_eq!(store.problems(), [] as [&str; 0]);
    store.run(|txn| {
        txn.update::<LogicalRouterPort>(second, |row| row.networks = OrdSet::unit("192.0.2.1/24".into()));
        txn.update::<Nat>(Uuid::from_u128(41), |row| row.gateway_port = Some(second.into()));
    });
    assert_eq!(store.problems(), [] as [&str; 0]);
    store.run(|txn| _ = txn.update::<LogicalRouterPort>(second, |row| row.ha_chassis_group = None));
    assert_eq!(
        store.problems(),
        ["NAT.gateway_port: the port is no gateway port of the router; the rule has no effect"]
    );
}
