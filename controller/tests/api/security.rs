//! Security groups and policies from creation to deletion, and what is refused of them.

use serde_json::{Value, json};

use crate::server::Server;

const GROUPS: &str = "SecurityGroupService";
const POLICIES: &str = "SecurityPolicyService";

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_security_group() {
    let server = Server::start().await;
    let network = server.network("net", "10.0.0.0/24").await;
    server.port("plain", "net").await;
    let rules = json!([
        { "name": "ssh", "protocol": "tcp", "ports": ["22", "8000-8099"], "remotePrefix": "10.0.0.0/8" },
        { "remoteGroup": "web", "persistEstablished": true },
        { "direction": "EGRESS", "action": "REJECT", "protocol": "icmp", "icmpType": 8, "icmpCode": 0, "priority": 7 },
    ]);
    let spec = json!({ "rules": rules, "defaultEgress": "DROP" });
    let group = server
        .ok(
            &format!("{GROUPS}/CreateSecurityGroup"),
            json!({ "group": { "meta": { "name": "web" }, "spec": spec } }),
        )
        .await;
    // What was left out stays so: a document that is applied again finds no difference.
    assert_eq!(group["spec"], spec);
    assert_eq!(group["status"]["portCount"], Value::Null);

    let port = |name: &str, more: Value| {
        let mut spec = json!({ "network": { "name": "net" } });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "port": { "meta": { "name": name }, "spec": spec } })
    };
    let member =
        server.ok("PortService/CreatePort", port("member", json!({ "securityGroups": ["web"] }))).await;
    assert_eq!(
        (&member["spec"]["securityGroups"], &member["status"]["securityGroups"]),
        (&json!(["web"]), &json!(["web"]))
    );
    let free = server.ok("PortService/CreatePort", port("free", json!({ "noSecurityGroups": true }))).await;
    assert_eq!(free["status"]["securityGroups"], Value::Null);
    let update = json!({ "network": { "meta": { "name": "net" }, "spec": { "defaultSecurityGroup": group["meta"]["id"] } },
        "updateMask": "spec.defaultSecurityGroup" });
    let changed = server.ok("VirtualNetworkService/UpdateVirtualNetwork", update).await;
    assert_eq!(
        (&changed["spec"]["defaultSecurityGroup"], &changed["meta"]["id"]),
        (&json!("web"), &network["meta"]["id"])
    );
    let now = server.ok(&format!("{GROUPS}/GetSecurityGroup"), json!({ "group": { "name": "web" } })).await;
    assert_eq!(now["status"]["portCount"], "2", "the member, and the one that names none");
    assert_eq!(
        server.ok("PortService/GetPort", json!({ "port": { "name": "plain" } })).await["status"]["securityGroups"],
        json!(["web"])
    );

    // Rules that stay are the same rows, whatever their place.
    let acls = |answer: Value| {
        let rows = answer["rows"].as_array().unwrap().iter().map(|row| row.as_str().unwrap().to_owned());
        rows.map(|row| serde_json::from_str::<Value>(&row).unwrap()["_uuid"].clone()).collect::<Vec<_>>()
    };
    let list = json!({ "table": "ACL", "filter": "external_ids.quantumnet:name=web" });
    let before = acls(server.ok("DatabaseService/ListRows", list.clone()).await);
    assert_eq!(before.len(), 7);
    let mut fewer = now["spec"].clone();
    fewer["rules"].as_array_mut().unwrap().remove(0);
    let update = json!({ "group": { "meta": { "name": "web" }, "spec": fewer }, "updateMask": "spec.rules" });
    let changed = server.ok(&format!("{GROUPS}/UpdateSecurityGroup"), update.clone()).await;
    assert_eq!(changed["spec"], fewer);
    let after = acls(server.ok("DatabaseService/ListRows", list).await);
    assert_eq!((after.len(), after.iter().filter(|acl| before.contains(acl)).count()), (6, 6));
    let again = server.ok(&format!("{GROUPS}/UpdateSecurityGroup"), update).await;
    assert_eq!(again["meta"]["revision"], changed["meta"]["revision"]);

    // What uses it stands in the way.
    let delete = json!({ "group": { "name": "web" } });
    let (status, refused) = server.post(&format!("{GROUPS}/DeleteSecurityGroup"), &delete).await;
    assert_eq!((status, &refused["error"]["reason"]), (400, &json!("GROUP_IN_USE")));
    let blocking = refused["error"]["blocking"].to_string();
    assert!(blocking.contains("Port member") && blocking.contains("VirtualNetwork net"), "{blocking}");
    let update =
        json!({ "network": { "meta": { "name": "net" } }, "updateMask": "spec.defaultSecurityGroup" });
    server.ok("VirtualNetworkService/UpdateVirtualNetwork", update).await;
    let update = json!({ "port": { "meta": { "name": "member" } }, "updateMask": "spec.securityGroups" });
    server.ok("PortService/UpdatePort", update).await;
    server.ok(&format!("{GROUPS}/DeleteSecurityGroup"), delete).await;
    assert_eq!(server.ok(&format!("{GROUPS}/ListSecurityGroups"), json!({})).await["groups"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_policy() {
    let server = Server::start().await;
    server.network("net", "10.0.0.0/24").await;
    let spec = json!({ "priority": 9, "staged": true, "rules": [
        { "match": "role=web-server -> role=db-server : 5432" },
        { "match": "vm=x -> *", "action": "DROP", "name": "quarantine" },
    ] });
    let create = |name: &str, project: &str, spec: &Value| json!({ "policy": { "meta": { "name": name, "project": project }, "spec": spec } });
    let policy = server.ok(&format!("{POLICIES}/CreateSecurityPolicy"), create("p", "", &spec)).await;
    assert_eq!(policy["spec"], spec);
    let port = json!({ "port": { "meta": { "name": "a", "labels": { "role": "db-server" } },
        "spec": { "network": { "name": "net" }, "vm": { "name": "x", "labels": { "role": "web-server" } } } } });
    let port = server.ok("PortService/CreatePort", port).await;
    assert_eq!(port["spec"]["vm"], json!({ "name": "x", "labels": { "role": "web-server" } }));
    let status = server
        .ok(&format!("{POLICIES}/GetSecurityPolicy"), json!({ "policy": { "name": "p" } }))
        .await["status"]
        .clone();
    // The label of the port goes before that of its VM.
    assert_eq!(
        status,
        json!({ "selectors": [
            { "selector": "role=db-server", "portCount": "1" },
            { "selector": "role=web-server" },
            { "selector": "vm=x", "portCount": "1" },
        ] })
    );
    // Those of the platform are made in project system, where nothing else of the API is.
    let platform = server.ok(&format!("{POLICIES}/CreateSecurityPolicy"), create("q", "system", &spec)).await;
    assert_eq!(platform["spec"]["order"], Value::Null);
    let group = json!({ "group": { "meta": { "name": "g", "project": "system" } } });
    let refused = server.refused(&format!("{GROUPS}/CreateSecurityGroup"), group).await;
    assert_eq!(&*refused.1, "PROJECT_BUILT_IN");
    let listed = server
        .ok(&format!("{POLICIES}/ListSecurityPolicies"), json!({ "options": { "filter": "name=q" } }))
        .await;
    assert_eq!(listed["policies"].as_array().unwrap().len(), 1);
    for name in ["p", "q"] {
        let project = if name == "q" { "system" } else { "" };
        let delete = json!({ "policy": { "name": name, "project": project } });
        server.ok(&format!("{POLICIES}/DeleteSecurityPolicy"), delete).await;
    }
    let left = server.ok("DatabaseService/ListRows", json!({ "table": "Port_Group" })).await;
    assert_eq!(left["rows"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_with_its_field_and_a_remedy() {
    let server = Server::start().await;
    server.network("net", "10.0.0.0/24").await;
    let rule = |rule: Value| json!({ "group": { "meta": { "name": "g" }, "spec": { "rules": [{ "protocol": "tcp" }, rule] } } });
    let matching = |text: &str| json!({ "policy": { "meta": { "name": "p" }, "spec": { "rules": [{ "match": text }] } } });
    let policy = |project: &str, spec: Value| json!({ "policy": { "meta": { "name": "p", "project": project }, "spec": spec } });
    let port = |spec: Value| json!({ "port": { "meta": { "name": "x" }, "spec": spec } });
    let (make_group, make_policy) =
        ("SecurityGroupService/CreateSecurityGroup", "SecurityPolicyService/CreateSecurityPolicy");
    let make_port = "PortService/CreatePort";
    let second = |part: &str| format!("spec.rules[1].{part}");
    let cases: Vec<(&str, Value, &str, String, &str)> = vec![
        (
            make_group,
            rule(json!({ "protocol": "http" })),
            "RULE_INVALID",
            second("protocol"),
            "\"http\" is no protocol; use tcp",
        ),
        (
            make_group,
            rule(json!({ "ports": ["22"] })),
            "RULE_INVALID",
            second("ports"),
            "set protocol to tcp",
        ),
        (
            make_group,
            rule(json!({ "protocol": "udp", "ports": ["53", "9-8"] })),
            "RULE_INVALID",
            second("ports[1]"),
            "\"9-8\" is no port",
        ),
        (
            make_group,
            rule(json!({ "protocol": "tcp", "icmpType": 8 })),
            "RULE_INVALID",
            second("icmp_type"),
            "needs protocol icmp",
        ),
        (
            make_group,
            rule(json!({ "protocol": "icmp", "icmpCode": 0 })),
            "RULE_INVALID",
            second("icmp_code"),
            "set icmp_type too",
        ),
        (
            make_group,
            rule(json!({ "remotePrefix": "10.0.0.1/8" })),
            "RULE_INVALID",
            second("remote_prefix"),
            "use 10.0.0.0/8",
        ),
        (
            make_group,
            rule(json!({ "remotePrefix": "ten" })),
            "RULE_INVALID",
            second("remote_prefix"),
            "\"ten\" is no prefix",
        ),
        (
            make_group,
            rule(json!({ "protocol": "icmp", "remotePrefix": "fd00::/8" })),
            "RULE_INVALID",
            second("remote_prefix"),
            "protocol of its family",
        ),
        (
            make_group,
            rule(json!({ "remotePrefix": "::/0", "remoteGroup": "g" })),
            "RULE_INVALID",
            second("remote_group"),
            "make two rules",
        ),
        (
            make_group,
            rule(json!({ "remoteGroup": "other" })),
            "GROUP_NOT_FOUND",
            second("remote_group"),
            "create it first",
        ),
        (
            make_group,
            rule(json!({ "action": "PASS" })),
            "ACTION_INVALID",
            second("action"),
            "use one of ALLOW, DROP, REJECT",
        ),
        (
            make_group,
            rule(json!({ "priority": 5001 })),
            "RULE_INVALID",
            second("priority"),
            "5001 is too high",
        ),
        (
            make_group,
            rule(json!({ "action": "DROP", "persistEstablished": true })),
            "RULE_INVALID",
            second("persist_established"),
            "leave one of the two out",
        ),
        (make_group, rule(json!({ "name": "-" })), "NAME_INVALID", second("name"), "\"-\" is no name"),
        (
            make_policy,
            matching("role=web ->"),
            "MATCH_INVALID",
            "spec.rules[0].match".into(),
            "column 12: expected a label",
        ),
        (
            make_policy,
            matching("10.0.0.0/8 -> 10.0.0.1"),
            "MATCH_INVALID",
            "spec.rules[0].match".into(),
            "or * for all ports",
        ),
        (
            make_policy,
            matching("a -> b : http"),
            "MATCH_INVALID",
            "spec.rules[0].match".into(),
            "found \"http\"",
        ),
        (
            make_policy,
            policy("", json!({ "order": "PLATFORM" })),
            "ORDER_INVALID",
            "spec.order".into(),
            "use PROJECT or DEFAULT",
        ),
        (
            make_policy,
            policy("system", json!({ "order": "PROJECT" })),
            "ORDER_INVALID",
            "spec.order".into(),
            "use PLATFORM or DEFAULT",
        ),
        (
            make_policy,
            policy("", json!({ "priority": 101 })),
            "PRIORITY_INVALID",
            "spec.priority".into(),
            "expected 0 to 100",
        ),
        (
            make_policy,
            policy(
                "",
                json!({ "order": "DEFAULT", "rules": [{ "match": "a -> b" }, { "match": "a -> b", "action": "PASS" }] }),
            ),
            "ACTION_INVALID",
            second("action"),
            "DEFAULT is the last",
        ),
        (
            make_port,
            port(json!({ "network": { "name": "net" }, "securityGroups": ["g"] })),
            "GROUP_NOT_FOUND",
            "spec.security_groups[0]".into(),
            "create it first",
        ),
        (
            make_port,
            port(json!({ "network": { "name": "net" }, "vm": { "name": "a b" } })),
            "NAME_INVALID",
            "spec.vm.name".into(),
            "is no name",
        ),
        (
            make_port,
            port(json!({ "network": { "name": "net" }, "vm": { "labels": { "a b": "" } } })),
            "NAME_INVALID",
            "spec.vm.labels".into(),
            "is no name",
        ),
    ];
    for (method, body, reason, field, remedy) in cases {
        let refused = server.refused(method, body.clone()).await;
        assert_eq!((&*refused.1, &*refused.2), (reason, &*field), "{body}: {}", refused.3);
        assert!(refused.3.contains(remedy), "{body}: {}", refused.3);
    }
    let project = json!({ "project": { "meta": { "name": "other" } } });
    server.ok("ProjectService/CreateProject", project).await;
    let group = json!({ "group": { "meta": { "name": "theirs", "project": "other" } } });
    let group = server.ok(make_group, group).await;
    let foreign = port(json!({ "network": { "name": "net" }, "securityGroups": [group["meta"]["id"]] }));
    assert_eq!(&*server.refused(make_port, foreign).await.1, "GROUP_FOREIGN");
    let (_, refused) =
        server.post("ProjectService/DeleteProject", &json!({ "project": { "name": "other" } })).await;
    assert!(refused["error"]["blocking"].to_string().contains("SecurityGroup theirs"), "{refused}");
}
