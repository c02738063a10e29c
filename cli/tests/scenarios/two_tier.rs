//! A tenant of two tiers behind a router, the outside as a namespace: the example as people apply it, floating addresses
//! that move, and tenants with the same addresses.

use std::time::Duration;

use quantumnet_testbed::{PingOptions, Vm, mac_of};

use crate::{
    support::{Net, ip, text},
    tcp::Server,
};

const WITHIN: Duration = Duration::from_secs(20);
/// The provider's router in the external network.
const PROVIDER: &str = "203.0.113.1";
/// What is beyond it.
const BEYOND: &str = "198.51.100.1";

/// The router of the provider, in VLAN 100 of the physical network, and what is behind it.
fn outside(net: &Net) -> Vm {
    let host = net.lab.add_outside_in(100, "internet", &mac_of("internet")).unwrap();
    host.add_address(&format!("{PROVIDER}/24")).unwrap();
    host.add_address_to("lo", &format!("{BEYOND}/32")).unwrap();
    host
}

/// A VM with its lease.
fn guest(net: &Net, project: &str, hypervisor: u16, port: &str, address: &str) -> Vm {
    let vm = net.vm_in(project, hypervisor, port);
    let lease = vm.dhcp(&Default::default()).unwrap();
    assert_eq!(lease.ip.to_string(), address);
    vm
}

#[track_caller]
fn reaches(from: &Vm, to: &str) {
    from.wait_reachable(ip(to), WITHIN).unwrap();
    let result = from.ping(ip(to), &PingOptions::default()).unwrap();
    assert!(result.all_answered(), "{} to {to}: {result:?}", from.name());
}

fn floating(net: &Net, project: &str, name: &str) -> String {
    text(&net.get_in(project, "floatingip", name), "/status/address")
}

/// A port of the example's web tier, and a floating address that leads to one.
fn web_port(name: &str, address: &str) -> String {
    format!(
        "kind: Port
metadata: {{ name: {name}, project: shop }}
spec: {{ network: web, addresses: [{address}] }}
---
"
    )
}

fn leads_to(name: &str, port: &str) -> String {
    format!(
        "kind: FloatingIp
metadata: {{ name: {name}, project: shop }}
spec: {{ network: {{ name: outside, project: infra }}, port: {port} }}
---
"
    )
}

#[test]
fn the_example_of_two_tiers() {
    let net = Net::up("twotier", 2);
    let internet = outside(&net);
    net.apply(include_str!("../../../examples/two-tier.yaml"));
    let (web, db) =
        (guest(&net, "shop", 1, "web-1", "10.0.1.11"), guest(&net, "shop", 2, "db-1", "10.0.2.11"));
    let router = text(&net.get_in("shop", "router", "edge"), "/status/externalAddress");
    let www = floating(&net, "shop", "www");

    // Between the tiers, and to the outside: with the floating address where there is one, else with the router's.
    reaches(&web, "10.0.2.11");
    reaches(&db, "10.0.1.11");
    reaches(&db, BEYOND);
    reaches(&web, BEYOND);
    reaches(&internet, &www);
    let (beyond, of_web, of_db) =
        (Server::open(&internet, 80), Server::open(&web, 80), Server::open(&db, 80));
    assert_eq!(beyond.seen(&db, BEYOND), Some(router.clone()));
    assert_eq!(beyond.seen(&web, BEYOND), Some(www.clone()));
    assert_eq!(of_web.seen(&internet, &www).as_deref(), Some(PROVIDER), "sources are kept on the way in");
    assert!(
        of_db.connect_translated(&internet, &router).is_none(),
        "nothing leads in by the router's address"
    );
    // A guest reaches another by the outer address too, and is seen with its own tier's.
    assert_eq!(of_web.seen(&db, &www), Some(router.clone()));

    // A floating address moves to another port by one call, and takes nothing from another.
    net.apply(
        &(web_port("web-2", "10.0.1.12") + &web_port("web-3", "10.0.1.13") + &leads_to("other", "web-3")),
    );
    let (second, third) =
        (guest(&net, "shop", 2, "web-2", "10.0.1.12"), guest(&net, "shop", 2, "web-3", "10.0.1.13"));
    let other = floating(&net, "shop", "other");
    reaches(&internet, &other);
    let (of_second, of_third) = (Server::open(&second, 80), Server::open(&third, 80));
    let mut kept = of_third.connect_translated(&internet, &other).unwrap();
    assert!(of_second.connect_translated(&internet, &www).is_none());
    let stream = internet.probe_udp(&third, ip(&other), 7_000).unwrap();
    let inside = db.probe_udp(&internet, ip(PROVIDER), 7_000).unwrap();
    for stream in [&stream, &inside] {
        stream.wait_received(100, WITHIN).unwrap();
    }
    for (port, now, before) in
        [("web-2", &of_second, &of_web), ("web-1", &of_web, &of_second), ("web-2", &of_second, &of_web)]
    {
        net.apply(&leads_to("www", port));
        assert_eq!(floating(&net, "shop", "www"), www, "it stays the same address");
        assert!(now.connect_translated(&internet, &www).is_some(), "it leads to {port}");
        assert!(before.connect_translated(&internet, &www).is_none(), "and nowhere else");
    }
    assert_eq!(beyond.seen(&second, BEYOND), Some(www), "it is the port's address on the way out too");
    assert_eq!(beyond.seen(&web, BEYOND), Some(router), "who lost it has the router's");
    for (what, stream) in [("another floating address", stream), ("source translation", inside)] {
        let report = stream.stop().unwrap();
        assert_eq!(report.lost(), 0, "{what}: {report:?}");
    }
    assert!(kept.is_alive(), "a connection through another floating address");
}

#[test]
fn tenants_with_the_same_addresses_behind_one_external_network() {
    let net = Net::up("overlap", 2);
    let internet = outside(&net);
    let example = include_str!("../../../examples/two-tier.yaml");
    let (provider, _) = example.split_once("---\nkind: VirtualNetwork\nmetadata: { name: web,").unwrap();
    net.apply(provider);
    let tenant = |name: &str| {
        format!(
            "kind: Project
metadata: {{ name: {name} }}
---
kind: VirtualNetwork
metadata: {{ name: net, project: {name} }}
spec: {{ subnets: [{{ cidr: 10.0.1.0/24, gateway: 10.0.1.1 }}] }}
---
kind: Port
metadata: {{ name: {name}-1, project: {name} }}
spec: {{ network: net, addresses: [10.0.1.11] }}
---
kind: Port
metadata: {{ name: {name}-2, project: {name} }}
spec: {{ network: net, addresses: [10.0.1.12] }}
---
kind: Router
metadata: {{ name: edge, project: {name} }}
spec: {{ networks: [net], external: {{ network: {{ name: outside, project: infra }} }} }}
---
kind: FloatingIp
metadata: {{ name: www, project: {name} }}
spec: {{ network: {{ name: outside, project: infra }}, port: {name}-1 }}
"
        )
    };
    let beyond = Server::open(&internet, 80);
    let mut tenants = Vec::new();
    for (name, [first, second]) in [("red", [1, 2]), ("blue", [2, 1])] {
        net.apply(&tenant(name));
        let served = guest(&net, name, first, &format!("{name}-1"), "10.0.1.11");
        let other = guest(&net, name, second, &format!("{name}-2"), "10.0.1.12");
        let router = text(&net.get_in(name, "router", "edge"), "/status/externalAddress");
        let server = Server::open(&served, 80);
        tenants.push((served, other, router, floating(&net, name, "www"), server));
    }
    for (served, other, router, www, server) in &tenants {
        reaches(other, BEYOND);
        reaches(&internet, www);
        assert_eq!(beyond.seen(other, BEYOND).as_ref(), Some(router));
        assert_eq!(beyond.seen(served, BEYOND).as_ref(), Some(www));
        assert!(server.seen(&internet, www).is_some(), "{www} leads to its own tenant's");
        // Each other's addresses are the outside's to each.
        let (_, _, _, theirs, their_server) =
            tenants.iter().find(|(tenant, ..)| tenant.name() != served.name()).unwrap();
        assert_eq!(their_server.seen(served, theirs).as_ref(), Some(www));
        assert_eq!(their_server.seen(other, theirs).as_ref(), Some(router));
    }
}
