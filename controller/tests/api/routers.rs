//! Routers and floating addresses, from creation to deletion.

use serde_json::{Value, json};

use crate::server::Server;

/// An external network, and a tenant's network with two ports.
async fn prepared() -> Server {
    let server = Server::start().await;
    let outside = json!({
        "type": "VLAN", "vlanId": 100, "physicalNetwork": "physnet1", "external": true,
        "subnets": [{
            "cidr": "203.0.113.0/24", "gateway": "203.0.113.1", "dhcp": { "disabled": true },
            "pools": [{ "first": "203.0.113.10", "last": "203.0.113.13" }],
        }],
    });
    server
        .ok(
            "VirtualNetworkService/CreateVirtualNetwork",
            json!({ "network": { "meta": { "name": "outside" }, "spec": outside } }),
        )
        .await;
    let web = json!({ "subnets": [{ "cidr": "10.0.1.0/24", "gateway": "10.0.1.1" }, { "cidr": "fd00:1::/64", "gateway": "fd00:1::1" }] });
    server
        .ok(
            "VirtualNetworkService/CreateVirtualNetwork",
            json!({ "network": { "meta": { "name": "web" }, "spec": web } }),
        )
        .await;
    server.port("vm-1", "web").await;
    server.port("vm-2", "web").await;
    server
}

fn router(name: &str, networks: &[&str], external: Value) -> Value {
    let networks: Vec<Value> = networks.iter().map(|name| json!({ "name": name })).collect();
    json!({ "router": { "meta": { "name": name }, "spec": { "networks": networks, "external": external } } })
}

fn floating(name: &str, port: Value) -> Value {
    json!({ "floatingIp": { "meta": { "name": name }, "spec": { "network": { "name": "outside" }, "port": port } } })
}

/// Rows of a northbound table, as `column=value` of those columns, sorted.
async fn rows(server: &Server, table: &str, columns: &[&str]) -> Vec<String> {
    let body = json!({ "database": "OVN_Northbound", "table": table });
    let answer = server.ok("DatabaseService/ListRows", body).await;
    let rows = answer["rows"].as_array().cloned().unwrap_or_default();
    let text = |row: &Value| {
        let row: Value = serde_json::from_str(row.as_str().unwrap()).unwrap();
        columns.iter().map(|column| row[column].to_string()).collect::<Vec<_>>().join(" ")
    };
    let mut rows: Vec<String> = rows.iter().map(text).collect();
    rows.sort();
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_router_and_a_floating_address() {
    let server = prepared().await;
    let refused = server
        .refused("FloatingIpService/CreateFloatingIp", floating("www", json!({ "name": "vm-1" })))
        .await;
    assert_eq!((refused.0, &*refused.1, &*refused.2), (400, "NO_ROUTER", "spec.port"));
    let made = server
        .ok(
            "RouterService/CreateRouter",
            router("edge", &["web"], json!({ "network": { "name": "outside" } })),
        )
        .await;
    assert_eq!(made["status"]["externalAddress"], "203.0.113.10");
    assert_eq!(made["spec"]["networks"][0]["name"], "web");
    let www =
        server.ok("FloatingIpService/CreateFloatingIp", floating("www", json!({ "name": "vm-1" }))).await;
    assert_eq!(
        (&www["status"]["address"], &www["status"]["fixedAddress"]),
        (&json!("203.0.113.11"), &json!("10.0.1.2"))
    );
    assert_eq!(www["status"]["routerId"], made["meta"]["id"]);

    let nats = rows(&server, "NAT", &["type", "external_ip", "logical_ip"]).await;
    assert_eq!(nats.len(), 2, "{nats:?}");
    assert!(
        nats[0].contains("dnat_and_snat") && nats[0].contains("203.0.113.11") && nats[0].contains("10.0.1.2"),
        "{nats:?}"
    );
    assert!(
        nats[1].contains("snat") && nats[1].contains("203.0.113.10") && nats[1].contains("10.0.1.0/24"),
        "{nats:?}"
    );
    let ports = rows(&server, "Logical_Router_Port", &["networks"]).await;
    assert!(ports[0].contains("10.0.1.1/24") && ports[0].contains("fd00:1::1/64"), "{ports:?}");
    assert!(ports[1].contains("203.0.113.10/24"), "{ports:?}");
    let routes = rows(&server, "Logical_Router_Static_Route", &["ip_prefix", "nexthop"]).await;
    assert!(routes[0].contains("0.0.0.0/0") && routes[0].contains("203.0.113.1"), "{routes:?}");

    // It moves at once, and nowhere that has one.
    let mut change = floating("www", json!({ "name": "vm-2" }));
    change["updateMask"] = json!("spec.port");
    let moved = server.ok("FloatingIpService/UpdateFloatingIp", change).await;
    assert_eq!(
        (&moved["status"]["address"], &moved["status"]["fixedAddress"]),
        (&json!("203.0.113.11"), &json!("10.0.1.3"))
    );
    let refused = server
        .refused("FloatingIpService/CreateFloatingIp", floating("second", json!({ "name": "vm-2" })))
        .await;
    assert_eq!((&*refused.1, &*refused.2), ("PORT_HAS_ADDRESS", "spec.port"));

    // What is in use stays.
    let refused = server.refused("RouterService/DeleteRouter", json!({ "router": { "name": "edge" } })).await;
    assert_eq!((refused.0, &*refused.1), (400, "ROUTER_IN_USE"));
    for network in ["web", "outside"] {
        let body = json!({ "network": { "name": network } });
        assert_ne!(
            server.post("VirtualNetworkService/DeleteVirtualNetwork", &body).await.0,
            200,
            "{network}"
        );
    }
    // A port that goes leaves its address without a port.
    server.ok("PortService/DeletePort", json!({ "port": { "name": "vm-2" } })).await;
    let left = server.ok("FloatingIpService/GetFloatingIp", json!({ "floatingIp": { "name": "www" } })).await;
    assert_eq!((&left["spec"]["port"], &left["status"]["fixedAddress"]), (&Value::Null, &Value::Null));
    assert_eq!(rows(&server, "NAT", &["type"]).await.len(), 1);

    // Without translation, and then without the outside.
    let mut change =
        router("edge", &["web"], json!({ "network": { "name": "outside" }, "snatDisabled": true }));
    change["updateMask"] = json!("spec.external");
    let changed = server.ok("RouterService/UpdateRouter", change).await;
    assert_eq!(changed["status"]["externalAddress"], "203.0.113.10", "it keeps its address");
    assert_eq!(rows(&server, "NAT", &["type"]).await, [] as [&str; 0]);
    let mut change = router("edge", &["web"], Value::Null);
    change["updateMask"] = json!("spec.external");
    server.ok("RouterService/UpdateRouter", change).await;
    assert_eq!(rows(&server, "Logical_Router_Port", &["name"]).await.len(), 1);
    server.ok("FloatingIpService/DeleteFloatingIp", json!({ "floatingIp": { "name": "www" } })).await;
    server.ok("RouterService/DeleteRouter", json!({ "router": { "name": "edge" } })).await;
    for table in
        ["Logical_Router", "Logical_Router_Port", "Logical_Router_Static_Route", "NAT", "HA_Chassis_Group"]
    {
        assert_eq!(rows(&server, table, &["external_ids"]).await, [] as [&str; 0], "{table}");
    }
    server.ok("PortService/DeletePort", json!({ "port": { "name": "vm-1" } })).await;
    for network in ["web", "outside"] {
        server
            .ok("VirtualNetworkService/DeleteVirtualNetwork", json!({ "network": { "name": network } }))
            .await;
    }
    assert_eq!(rows(&server, "Logical_Switch_Port", &["name"]).await, [] as [&str; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_with_the_same_addresses_share_an_external_network() {
    let server = prepared().await;
    server.network("blue", "10.0.1.0/24").await;
    let external = || json!({ "network": { "name": "outside" } });
    let refused = server.refused("RouterService/CreateRouter", router("second", &["blue"], external())).await;
    assert_eq!((&*refused.1, &*refused.2), ("NO_GATEWAY", "spec.networks[0]"));
    let subnets = json!([{ "cidr": "10.0.1.0/24", "gateway": "10.0.1.1" }]);
    let network = json!({ "meta": { "name": "blue" }, "spec": { "subnets": subnets } });
    server
        .ok(
            "VirtualNetworkService/UpdateVirtualNetwork",
            json!({ "network": network, "updateMask": "spec.subnets" }),
        )
        .await;
    let first = server.ok("RouterService/CreateRouter", router("first", &["web"], external())).await;
    let second = server.ok("RouterService/CreateRouter", router("second", &["blue"], external())).await;
    assert_ne!(first["status"]["externalAddress"], second["status"]["externalAddress"]);
    let refused = server.refused("RouterService/CreateRouter", router("third", &["blue"], external())).await;
    assert_eq!((&*refused.1, &*refused.2), ("NETWORK_ROUTED", "spec.networks[0]"));
    let refused = server
        .refused("RouterService/CreateRouter", router("third", &[], json!({ "network": { "name": "web" } })))
        .await;
    assert_eq!((&*refused.1, &*refused.2), ("NETWORK_INTERNAL", "spec.external.network"));
    let taken = json!({ "network": { "name": "outside" }, "address": first["status"]["externalAddress"] });
    let refused = server.refused("RouterService/CreateRouter", router("third", &[], taken)).await;
    assert_eq!((&*refused.1, &*refused.2), ("ADDRESS_IN_USE", "spec.external.address"));
    assert!(refused.3.contains("Router first"), "{}", refused.3);
    let routes = json!([{ "prefix": "10.9.0.0/16", "nexthop": "10.0.1.9" }, { "prefix": "10.8.0.1/16", "nexthop": "discard" }]);
    let wrong = json!({ "router": { "meta": { "name": "third" }, "spec": { "routes": routes } } });
    let refused = server.refused("RouterService/CreateRouter", wrong).await;
    assert_eq!((&*refused.1, &*refused.2), ("ROUTE_INVALID", "spec.routes[1].prefix"));
    let owner = rows(&server, "Logical_Router", &["external_ids"]).await;
    assert!(owner.iter().all(|ids| ids.contains("Router")), "{owner:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_with_a_router_of_its_own() {
    let server = prepared().await;
    let outside = json!({ "network": { "name": "outside" } });
    let spec = |router: Value| json!({ "subnets": [{ "cidr": "10.0.5.0/24", "gateway": "10.0.5.1" }], "mtu": 1400, "router": router });
    let network = |name: &str, spec: Value| json!({ "network": { "meta": { "name": name }, "spec": spec } });
    let create = "VirtualNetworkService/CreateVirtualNetwork";
    let update = "VirtualNetworkService/UpdateVirtualNetwork";
    let made = server.ok(create, network("solo", spec(json!({ "external": outside })))).await;
    assert_eq!(made["spec"]["router"]["external"]["address"], "203.0.113.10");
    let router = server.ok("RouterService/GetRouter", json!({ "router": { "name": "solo" } })).await;
    assert_eq!(router["spec"]["networks"][0]["name"], "solo");
    assert_eq!(rows(&server, "NAT", &["logical_ip"]).await, ["\"10.0.5.0/24\""]);
    // Its network takes less than the outside may send.
    let ports = rows(&server, "Logical_Router_Port", &["networks", "options"]).await;
    let limited: Vec<&String> = ports.iter().filter(|port| port.contains("gateway_mtu")).collect();
    assert!(
        limited.len() == 1 && limited[0].contains("10.0.5.1/24") && limited[0].contains("1400"),
        "{ports:?}"
    );

    // It is the network's: nobody else changes it, and a repetition changes nothing.
    let change = json!({ "router": { "meta": { "name": "solo" }, "spec": { "disabled": true } }, "updateMask": "spec.disabled" });
    for (method, body) in [
        ("RouterService/UpdateRouter", change),
        ("RouterService/DeleteRouter", json!({ "router": { "name": "solo" } })),
    ] {
        let refused = server.refused(method, body).await;
        assert_eq!((refused.0, &*refused.1), (400, "ROUTER_OF_NETWORK"), "{method}");
    }
    let again = server.ok(update, network("solo", made["spec"].clone())).await;
    assert_eq!(again["meta"]["revision"], made["meta"]["revision"]);
    let routes = json!([{ "prefix": "10.9.0.0/16", "nexthop": "elsewhere" }]);
    let refused = server.refused(update, network("solo", spec(json!({ "routes": routes })))).await;
    assert_eq!((&*refused.1, &*refused.2), ("ROUTE_INVALID", "spec.router.routes[0].nexthop"));
    let rename = json!({ "id": made["meta"]["id"], "name": "alone" });
    server.ok(update, json!({ "network": { "meta": rename }, "updateMask": "meta.name" })).await;
    let router = server.ok("RouterService/GetRouter", json!({ "router": { "name": "alone" } })).await;
    assert_eq!(router["status"]["externalAddress"], "203.0.113.10");

    // A floating address holds it; without, it goes with what the network says, and with the network.
    server.port("vm-5", "alone").await;
    server.ok("FloatingIpService/CreateFloatingIp", floating("www", json!({ "name": "vm-5" }))).await;
    let without = json!({ "network": { "meta": { "name": "alone" } }, "updateMask": "spec.router" });
    assert_eq!(server.refused(update, without.clone()).await.1, "ROUTER_IN_USE");
    server.ok("FloatingIpService/DeleteFloatingIp", json!({ "floatingIp": { "name": "www" } })).await;
    let changed = server.ok(update, without).await;
    assert_eq!(changed["spec"]["router"], Value::Null);
    assert_eq!(rows(&server, "Logical_Router", &["name"]).await, [] as [&str; 0]);
    server
        .ok(
            update,
            network(
                "alone",
                spec(json!({ "external": { "network": { "name": "outside" }, "snatDisabled": true } })),
            ),
        )
        .await;
    assert_eq!(rows(&server, "Logical_Router", &["name"]).await.len(), 1);
    assert_eq!(rows(&server, "NAT", &["type"]).await, [] as [&str; 0]);
    server.ok("PortService/DeletePort", json!({ "port": { "name": "vm-5" } })).await;
    server.ok("VirtualNetworkService/DeleteVirtualNetwork", json!({ "network": { "name": "alone" } })).await;
    assert_eq!(rows(&server, "Logical_Router", &["name"]).await, [] as [&str; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn floating_addresses_are_served_where_their_ports_are() {
    let server = prepared().await;
    let external =
        |distributed: bool| json!({ "network": { "name": "outside" }, "distributed": distributed });
    server.ok("RouterService/CreateRouter", router("edge", &["web"], external(true))).await;
    server.ok("FloatingIpService/CreateFloatingIp", floating("www", json!({ "name": "vm-1" }))).await;
    let port = server.ok("PortService/GetPort", json!({ "port": { "name": "vm-1" } })).await;
    let columns = &["type", "logical_port", "external_mac"];
    let nats = rows(&server, "NAT", columns).await;
    let id = port["meta"]["id"].as_str().unwrap();
    assert!(
        nats[0].contains("dnat_and_snat") && nats[0].contains(id) && nats[0].contains("\"0a:"),
        "{nats:?}"
    );
    let mut change = router("edge", &["web"], external(false));
    change["updateMask"] = json!("spec.external");
    server.ok("RouterService/UpdateRouter", change).await;
    let nats = rows(&server, "NAT", columns).await;
    assert!(!nats[0].contains(id) && !nats[0].contains("0a:"), "{nats:?}");
}
