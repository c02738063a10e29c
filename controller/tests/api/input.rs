//! What is refused, and how.

use quantumnet_model::Uuid;
use serde_json::{Value, json};

use crate::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_with_its_field() {
    let server = Server::start().await;
    server.network("tiny", "10.0.0.0/30").await;
    server.port("only", "tiny").await;
    let network = |spec: Value| json!({ "network": { "meta": { "name": "n" }, "spec": spec } });
    let subnets = |cidrs: &[&str]| {
        network(json!({ "subnets": cidrs.iter().map(|cidr| json!({ "cidr": cidr })).collect::<Vec<_>>() }))
    };
    let port = |spec: Value| json!({ "port": { "meta": { "name": "p" }, "spec": spec } });
    let on = |more: Value| {
        let mut spec = json!({ "network": { "name": "tiny" } });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        port(spec)
    };
    let (create_network, create_port) =
        ("VirtualNetworkService/CreateVirtualNetwork", "PortService/CreatePort");
    let cases: Vec<(&str, Value, u16, &str, &str)> = vec![
        (
            create_network,
            subnets(&["10.0.0.0/24", "10.0.0.128/25"]),
            400,
            "SUBNETS_OVERLAP",
            "spec.subnets[1].cidr",
        ),
        (create_network, subnets(&["10.0.0.1/24"]), 400, "SUBNET_INVALID", "spec.subnets[0].cidr"),
        (
            create_network,
            network(json!({ "subnets": [{ "cidr": "10.0.0.0/24", "gateway": "10.0.1.1" }] })),
            400,
            "SUBNET_INVALID",
            "spec.subnets[0].gateway",
        ),
        (
            create_network,
            network(
                json!({ "subnets": [{ "cidr": "10.0.0.0/24", "pools": [{ "first": "10.0.0.9", "last": "10.0.0.3" }] }] }),
            ),
            400,
            "SUBNET_INVALID",
            "spec.subnets[0].pools[0]",
        ),
        (
            create_network,
            network(json!({ "subnets": [{ "cidr": "10.0.0.0/24", "dhcp": { "options": { "x": "1" } } }] })),
            400,
            "OPTION_INVALID",
            "spec.subnets[0].dhcp.options[\"x\"]",
        ),
        (create_network, network(json!({ "mtu": 100 })), 400, "MTU_INVALID", "spec.mtu"),
        (
            create_network,
            json!({ "network": { "meta": { "name": "x".repeat(64) } } }),
            400,
            "NAME_INVALID",
            "meta.name",
        ),
        (
            create_network,
            json!({ "network": { "meta": { "name": "-a" } } }),
            400,
            "NAME_INVALID",
            "meta.name",
        ),
        (
            create_network,
            json!({ "network": { "meta": { "name": "tiny" } } }),
            409,
            "NAME_IN_USE",
            "meta.name",
        ),
        (
            create_network,
            json!({ "network": { "meta": { "name": "n", "project": "nowhere" } } }),
            404,
            "PROJECT_NOT_FOUND",
            "meta.project",
        ),
        (
            create_network,
            json!({ "network": { "meta": { "name": "n", "project": "system" } } }),
            400,
            "PROJECT_BUILT_IN",
            "meta.project",
        ),
        (
            create_network,
            json!({ "network": { "meta": { "name": "n", "id": "7" } } }),
            400,
            "ID_INVALID",
            "meta.id",
        ),
        (create_port, on(json!({})), 429, "SUBNET_EXHAUSTED", "spec.addresses[0].subnet"),
        (
            create_port,
            on(json!({ "addresses": [{ "ip": "10.9.9.9" }] })),
            400,
            "ADDRESS_OUTSIDE_SUBNET",
            "spec.addresses[0].ip",
        ),
        (
            create_port,
            on(json!({ "addresses": [{ "ip": "10.0.0.3" }] })),
            400,
            "ADDRESS_NOT_ALLOWED",
            "spec.addresses[0].ip",
        ),
        (
            create_port,
            on(json!({ "addresses": [{ "ip": "banana" }] })),
            400,
            "ADDRESS_INVALID",
            "spec.addresses[0].ip",
        ),
        (create_port, on(json!({ "mac": "01:00:5e:00:00:01" })), 400, "MAC_INVALID", "spec.mac"),
        (
            create_port,
            on(json!({ "noAddresses": true, "hostname": "a b" })),
            400,
            "HOSTNAME_INVALID",
            "spec.hostname",
        ),
        (
            create_port,
            on(json!({ "noAddresses": true, "allowedAddressPairs": [{}] })),
            400,
            "PAIR_INVALID",
            "spec.allowed_address_pairs[0]",
        ),
        (create_port, port(json!({ "network": { "name": "nowhere" } })), 404, "NOT_FOUND", "spec.network"),
        (create_port, port(json!({})), 400, "REFERENCE_EMPTY", "spec.network"),
        (
            "PortService/GetPort",
            json!({ "port": { "id": Uuid::from_u128(9).to_string() } }),
            404,
            "NOT_FOUND",
            "port",
        ),
        (
            "PortService/ListPorts",
            json!({ "options": { "filter": "colour=red" } }),
            400,
            "FILTER_INVALID",
            "options.filter",
        ),
        (
            "PortService/ListPorts",
            json!({ "options": { "pageSize": 5_001 } }),
            400,
            "PAGE_SIZE_INVALID",
            "options.page_size",
        ),
        (
            "PortService/UpdatePort",
            json!({ "port": { "meta": { "name": "only" } }, "updateMask": "spec.network" }),
            400,
            "MASK_INVALID",
            "update_mask",
        ),
        ("NodeService/GetNode", json!({ "name": "hv9" }), 404, "NOT_FOUND", "name"),
        (
            "ProjectService/DeleteProject",
            json!({ "project": { "name": "default" } }),
            400,
            "PROJECT_BUILT_IN",
            "",
        ),
    ];
    let before = server.replica.state().revision();
    for (method, body, status, reason, field) in cases {
        let refused = server.refused(method, body.clone()).await;
        assert_eq!(
            (refused.0, &*refused.1, &*refused.2),
            (status, reason, field),
            "{method} {body}: {}",
            refused.3
        );
    }
    assert_eq!(server.replica.state().revision(), before, "what is refused leaves no trace");

    // The transport's own.
    let (_, _, _, message) = server.refused("PortService/GetPort", json!({ "prot": {} })).await;
    assert!(message.contains("prot"), "{message}");
    assert_eq!(server.refused("PortService/Explode", json!({})).await.0, 404);
    let large = json!({ "port": { "name": "x".repeat(10 << 20) } });
    let answer = server.post("PortService/GetPort", &large).await;
    // A client that is still writing may see the connection closed in place of the answer.
    assert!(answer.0 == 413 || answer.0 == 0, "{answer:?}");
    let deep = format!("{}{}", "{\"port\":".repeat(10_000), "}".repeat(10_000));
    let head = "POST /quantumnet.v1.PortService/GetPort HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n";
    for body in [deep.as_str(), "{\"port\":", "null x", "\u{1}"] {
        let answer =
            server.raw(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    assert!(
        server
            .raw(b"GET /quantumnet.v1.PortService/GetPort HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 405")
    );
    assert!(server.raw(b"POST /quantumnet.v1.PortService/GetPort HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await.starts_with("HTTP/1.1 415"));
    // Bytes that are no HTTP, and gRPC frames that are cut off.
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for length in [0, 1, 9, 24, 200, 5_000] {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed.to_be_bytes()[0]
            })
            .collect();
        server.exchange(&bytes, true).await;
        let mut request = format!("POST /quantumnet.v1.PortService/GetPort HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/grpc\r\ncontent-length: {length}\r\n\r\n").into_bytes();
        request.extend_from_slice(&bytes);
        server.exchange(&request, true).await;
        server.exchange(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes.as_slice()].concat(), true).await;
    }
    server.ok("PortService/GetPort", json!({ "port": { "name": "only" } })).await;
}
