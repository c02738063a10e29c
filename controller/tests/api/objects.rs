//! Projects, networks and ports from creation to deletion.

use serde_json::{Value, json};

use crate::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_network_and_its_ports() {
    let server = Server::start().await;
    let project = server
        .ok(
            "ProjectService/CreateProject",
            json!({ "project": { "meta": { "name": "shop", "labels": { "tier": "1" } } } }),
        )
        .await;
    assert_eq!(project["meta"]["labels"]["tier"], "1");
    let network = server
        .ok(
            "VirtualNetworkService/CreateVirtualNetwork",
            json!({ "network": {
                "meta": { "name": "web", "project": "shop" },
                "spec": { "subnets": [
                    { "cidr": "10.0.1.0/24", "gateway": "10.0.1.1", "dhcp": { "dnsServers": ["9.9.9.9"], "options": { "tftp_server": "10.0.1.9" } } },
                    { "cidr": "fd00:1::/64" },
                ] },
            } }),
        )
        .await;
    assert_eq!((&network["status"]["tunnelKey"], &network["status"]["mtu"]), (&json!(1), &json!(1_442)));
    let create = |name: &str, more: Value| {
        let mut spec = json!({ "network": { "name": "web" } });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "port": { "meta": { "name": name, "project": "shop" }, "spec": spec } })
    };
    let port = server.ok("PortService/CreatePort", create("vm-1", json!({}))).await;
    assert_eq!(port["status"]["addresses"], json!(["10.0.1.2", "fd00:1::1"]));
    assert!(port["status"]["mac"].as_str().unwrap().starts_with("0a:"));
    let fixed = json!({ "addresses": [{ "ip": "10.0.1.50" }], "mac": "0A:0:0:0:0:1", "hostname": "db" });
    let second = server.ok("PortService/CreatePort", create("vm-2", fixed)).await;
    assert_eq!(
        (&second["status"]["addresses"], &second["status"]["mac"]),
        (&json!(["10.0.1.50"]), &json!("0a:00:00:00:00:01"))
    );

    // What stands in the way is named.
    let refused = server
        .refused("PortService/CreatePort", create("vm-3", json!({ "addresses": [{ "ip": "10.0.1.50" }] })))
        .await;
    assert_eq!((refused.0, &*refused.1, &*refused.2), (409, "ADDRESS_IN_USE", "spec.addresses[0].ip"));
    assert!(refused.3.contains("Port vm-2"), "{}", refused.3);
    let refused =
        server.refused("PortService/CreatePort", create("vm-3", json!({ "mac": "0a:00:00:00:00:01" }))).await;
    assert_eq!((&*refused.1, &*refused.2), ("MAC_IN_USE", "spec.mac"));
    let refused = server
        .refused(
            "VirtualNetworkService/DeleteVirtualNetwork",
            json!({ "network": { "name": "web", "project": "shop" } }),
        )
        .await;
    assert_eq!((refused.0, &*refused.1), (400, "NETWORK_IN_USE"));
    let refused =
        server.refused("ProjectService/DeleteProject", json!({ "project": { "name": "shop" } })).await;
    assert_eq!(&*refused.1, "PROJECT_NOT_EMPTY");

    // Changes: by mask, by revision, and none when nothing changes.
    let meta = json!({ "name": "vm-2", "project": "shop", "description": "database" });
    let update = json!({ "port": { "meta": meta }, "updateMask": "meta.description", "expectedRevision": second["meta"]["revision"] });
    let changed = server.ok("PortService/UpdatePort", update.clone()).await;
    assert_eq!(
        (&changed["meta"]["description"], &changed["spec"]["hostname"]),
        (&json!("database"), &json!("db"))
    );
    let refused = server.refused("PortService/UpdatePort", update).await;
    assert_eq!((refused.0, &*refused.1), (409, "STALE_REVISION"));
    let again = server.ok("PortService/UpdatePort", json!({ "port": changed })).await;
    assert_eq!(
        again["meta"]["revision"], changed["meta"]["revision"],
        "what changes nothing has no revision"
    );
    let bound = server
        .ok("PortService/BindPort", json!({ "port": { "name": "vm-1", "project": "shop" }, "host": "hv1" }))
        .await;
    assert_eq!(bound["spec"]["host"], "hv1");
    let unbound = server.ok("PortService/UnbindPort", json!({ "port": { "id": bound["meta"]["id"] } })).await;
    assert_eq!(unbound["spec"]["host"], Value::Null);
    let network = server.ok("VirtualNetworkService/UpdateVirtualNetwork", json!({ "network": { "meta": network["meta"], "spec": { "mtu": 9_000 } }, "updateMask": "spec.mtu" })).await;
    assert_eq!((&network["status"]["mtu"], &network["status"]["portCount"]), (&json!(9_000), &json!("2")));
    assert_eq!(network["status"]["subnets"][0], json!({ "cidr": "10.0.1.0/24", "used": "2", "free": "251" }));
    let refused = server.refused("VirtualNetworkService/UpdateVirtualNetwork", json!({ "network": { "meta": network["meta"], "spec": { "subnets": [] } }, "updateMask": "spec.subnets" })).await;
    assert_eq!(&*refused.1, "SUBNET_IN_USE");

    // Lists.
    let filter = |filter: &str| json!({ "options": { "project": "shop", "filter": filter } });
    for (text, count) in [
        ("", 2),
        ("name=vm-1", 1),
        ("name!=vm-1", 1),
        ("network=web", 2),
        ("chassis=hv1", 0),
        ("labels.x=1", 0),
    ] {
        let list = server.ok("PortService/ListPorts", filter(text)).await;
        assert_eq!(list["ports"].as_array().map_or(0, Vec::len), count, "{text}");
    }
    let mut names = Vec::new();
    let mut token = String::new();
    loop {
        let page = server
            .ok("PortService/ListPorts", json!({ "options": { "pageSize": 1, "pageToken": token } }))
            .await;
        names.extend(page["ports"].as_array().unwrap().iter().map(|port| port["meta"]["name"].to_string()));
        token = page["nextPageToken"].as_str().unwrap_or_default().to_owned();
        if token.is_empty() {
            break;
        }
    }
    names.sort();
    assert_eq!(names, ["\"vm-1\"", "\"vm-2\""]);
    for name in ["vm-1", "vm-2"] {
        server.ok("PortService/DeletePort", json!({ "port": { "name": name, "project": "shop" } })).await;
    }
    server
        .ok(
            "VirtualNetworkService/DeleteVirtualNetwork",
            json!({ "network": { "name": "web", "project": "shop" } }),
        )
        .await;
    server.ok("ProjectService/DeleteProject", json!({ "project": { "name": "shop" } })).await;
    let list = server.ok("ProjectService/ListProjects", json!({})).await;
    assert_eq!(list["projects"].as_array().unwrap().len(), 2);
    let status = server.ok("ClusterService/GetClusterStatus", json!({})).await;
    assert_eq!((&status["memberId"], &status["members"][0]["address"]), (&json!("1"), &json!("127.0.0.1:1")));
    assert_eq!(
        server.ok("ClusterService/WaitForRevision", json!({ "revision": status["revision"] })).await,
        json!({})
    );
    assert_eq!(server.ok("ClusterService/ListProblems", json!({})).await, json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_is_answered_once() {
    let server = Server::start().await;
    let body = |name: &str| json!({ "network": { "meta": { "name": name } } });
    let create = "VirtualNetworkService/CreateVirtualNetwork";
    let headers = "x-quantumnet-request-id: r-1\r\nx-quantumnet-principal: ann\r\n";
    let (_, first) = server.post_as(create, &body("a"), headers).await;
    let (status, again) = server.post_as(create, &body("a"), headers).await;
    assert_eq!((status, &first["meta"]["id"]), (200, &again["meta"]["id"]));
    let (status, other) = server.post_as(create, &body("b"), headers).await;
    assert_eq!((status, &other["error"]["reason"]), (400, &json!("REQUEST_ID_REUSED")));
    // Somebody else's id is another id.
    let (status, _) = server
        .post_as(create, &body("b"), "x-quantumnet-request-id: r-1\r\nx-quantumnet-principal: bob\r\n")
        .await;
    assert_eq!(status, 200);
    server.ok("VirtualNetworkService/DeleteVirtualNetwork", json!({ "network": { "name": "a" } })).await;
    let (status, gone) = server.post_as(create, &body("a"), headers).await;
    assert_eq!((status, &gone["error"]["reason"]), (400, &json!("OBJECT_GONE")));
}
