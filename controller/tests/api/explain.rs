//! What is said of traces, with an agent whose switch says what the test wants, and who may reach a port by the rules.

use std::sync::Arc;

use quantumnet_api::v1::{
    AgentHello, AgentMessage, AgentQueryAnswer, ChassisFacts, EncapFact, LocalInterface, TraceAnswer,
    TraceExit, TracePass, TraceQuery, TraceStep, agent_message, agent_query::Query,
    agent_query_answer::Answer, agent_service_client::AgentServiceClient, controller_message, trace_exit::To,
    trace_query::From,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::server::{PATIENCE, Server};

/// A network with a database that only web may reach.
async fn shop() -> Server {
    let server = Server::start().await;
    server.network("shop", "10.0.0.0/24").await;
    let rules = json!([
        { "name": "postgres", "protocol": "tcp", "ports": ["5432"], "remotePrefix": "10.0.0.2/32" },
        { "name": "telnet", "protocol": "tcp", "ports": ["23"], "action": "REJECT" },
    ]);
    let group = json!({ "group": { "meta": { "name": "db" }, "spec": { "rules": rules } } });
    server.ok("SecurityGroupService/CreateSecurityGroup", group).await;
    for (name, address, groups) in
        [("web", "10.0.0.2", json!([])), ("batch", "10.0.0.3", json!([])), ("db", "10.0.0.4", json!(["db"]))]
    {
        let spec = json!({ "network": { "name": "shop" }, "addresses": [{ "ip": address }], "securityGroups": groups,
            "vm": { "name": format!("vm-{name}") } });
        server
            .ok("PortService/CreatePort", json!({ "port": { "meta": { "name": name }, "spec": spec } }))
            .await;
    }
    server
}

async fn id(server: &Server, port: &str) -> String {
    let port = server.ok("PortService/GetPort", json!({ "port": { "name": port } })).await;
    port["meta"]["id"].as_str().unwrap().to_owned()
}

/// The ACL of a rule of the group.
async fn acl(server: &Server, rule: &str, action: &str) -> String {
    let list =
        json!({ "table": "ACL", "filter": format!("external_ids.quantumnet:rule={rule},action={action}") });
    let rows = server.ok("DatabaseService/ListRows", list).await;
    let row: Value = serde_json::from_str(rows["rows"][0].as_str().unwrap()).unwrap();
    let uuid = &row["_uuid"];
    uuid.as_str().or_else(|| uuid[1].as_str()).unwrap().to_owned()
}

/// An agent that answers what `says` says.
async fn agent(
    server: &Server,
    name: &str,
    ip: &str,
    interfaces: Vec<String>,
    says: Arc<dyn Fn(TraceQuery) -> TraceAnswer + Send + Sync>,
) -> mpsc::Sender<AgentMessage> {
    let mut client = AgentServiceClient::connect(format!("http://{}", server.address)).await.unwrap();
    let (out, messages) = mpsc::channel(16);
    let stream = client.sync(tokio_stream::wrappers::ReceiverStream::new(messages)).await.unwrap();
    let encap = EncapFact { r#type: "geneve".into(), ip: ip.into(), ..EncapFact::default() };
    let interface = |iface_id| LocalInterface { iface_id, generation: 1, ..LocalInterface::default() };
    let hello = AgentHello {
        format: quantumnet_api::AGENT_FORMAT,
        chassis: name.into(),
        facts: Some(ChassisFacts { hostname: name.into(), encaps: vec![encap], ..ChassisFacts::default() }),
        interfaces: interfaces.into_iter().map(interface).collect(),
        queries: true,
        ..AgentHello::default()
    };
    out.send(AgentMessage { message: Some(agent_message::Message::Hello(hello)) }).await.unwrap();
    let (answers, (greeted, greeting)) = (out.clone(), tokio::sync::oneshot::channel());
    tokio::spawn(async move {
        let (mut inbound, mut greeted) = (stream.into_inner(), Some(greeted));
        while let Ok(Some(message)) = inbound.message().await {
            match message.message.unwrap() {
                controller_message::Message::Hello(_) => drop(greeted.take().map(|greeted| greeted.send(()))),
                controller_message::Message::Query(query) => {
                    let Some(Query::Trace(trace)) = query.query else { continue };
                    let answer = AgentQueryAnswer { id: query.id, answer: Some(Answer::Trace(says(trace))) };
                    let message = AgentMessage { message: Some(agent_message::Message::Answer(answer)) };
                    _ = answers.send(message).await;
                }
                _ => {}
            }
        }
    });
    tokio::time::timeout(PATIENCE, greeting).await.unwrap().unwrap();
    out
}

fn step(table: &str, says: &str, acl: &str, actions: &[&str]) -> TraceStep {
    TraceStep {
        table_name: table.into(),
        purpose: "What it is for.".into(),
        says: says.into(),
        row_table: if acl.is_empty() { String::new() } else { "ACL".into() },
        row: acl.into(),
        actions: actions.iter().map(|action| (*action).to_owned()).collect(),
        ..TraceStep::default()
    }
}

fn answer(steps: Vec<TraceStep>, exits: Vec<To>) -> TraceAnswer {
    let actions = if exits.is_empty() { "drop" } else { "3" }.to_owned();
    let exit = |to| TraceExit { to: Some(to), packet: Some(Default::default()), ..TraceExit::default() };
    TraceAnswer {
        passes: vec![TracePass { steps, actions, ..TracePass::default() }],
        exits: exits.into_iter().map(exit).collect(),
        ..TraceAnswer::default()
    }
}

fn text(answer: &Value, place: &str) -> String {
    answer.pointer(place).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn request(source: &str, destination: &str, service: &str) -> Value {
    json!({ "source": source, "destination": destination, "service": service })
}

#[tokio::test(flavor = "multi_thread")]
async fn verdicts_name_rules_and_what_to_change() {
    let server = shop().await;
    let (web, batch, db) = (id(&server, "web").await, id(&server, "batch").await, id(&server, "db").await);
    let postgres = acl(&server, "postgres", "allow-related").await;
    let telnet = acl(&server, "telnet", "reject").await;
    let default = acl(&server, "default-ingress", "drop").await;
    let to = db.clone();
    let says = move |query: TraceQuery| {
        let packet = query.packet.unwrap();
        assert!(matches!(&query.from, Some(From::Interface(_))), "{query:?}", query = query.from);
        match packet.dst {
            5432 if packet.ip_src == "10.0.0.2" => {
                let steps = vec![
                    step("ToPolicy", "allow", &postgres, &[]),
                    step("ToVerdict", "", "", &["resubmit(,44)"]),
                ];
                answer(steps, vec![To::Interface(to.clone())])
            }
            23 => answer(
                vec![step("ToPolicy", "reject", &telnet, &[]), step("ToVerdict", "", "", &["controller(x)"])],
                vec![To::Agent("RejectedTo".into())],
            ),
            7 => answer(vec![TraceStep { miss: true, ..step("Admit", "", "", &[]) }], Vec::new()),
            9 => answer(
                vec![step("ToPolicy", "nothing", "", &[]), step("ToVerdict", "", "", &["drop"])],
                Vec::new(),
            ),
            // What is no row any more, and a table that nobody knows.
            11 => {
                answer(vec![step("Later", "", "00000000-0000-0000-0000-000000000001", &["drop"])], Vec::new())
            }
            _ => answer(
                vec![step("ToPolicy", "drop", &default, &[]), step("ToVerdict", "", "", &["drop"])],
                Vec::new(),
            ),
        }
    };
    let _agent = agent(&server, "hv1", "192.0.2.1", vec![web, batch, db], Arc::new(says)).await;
    let trace = async |source: &str, destination: &str, service: &str| {
        server.ok("ExplainService/GetTrace", request(source, destination, service)).await
    };

    let allowed = trace("web", "vm-db", "tcp/5432").await;
    assert_eq!(text(&allowed, "/verdict/kind"), "DELIVERED", "{allowed}");
    let rule = &allowed["verdict"]["allowedBy"][0];
    assert_eq!(
        [
            text(rule, "/kind"),
            text(rule, "/name"),
            text(rule, "/part"),
            text(rule, "/project"),
            text(rule, "/rowTable")
        ],
        ["SecurityGroup", "db", "postgres", "default", "ACL"]
    );
    let group =
        server.ok("SecurityGroupService/GetSecurityGroup", json!({ "group": { "name": "db" } })).await;
    assert_eq!(text(rule, "/revision"), text(&group, "/meta/revision"));
    assert_eq!(text(rule, "/says"), "ingress allow tcp ports 5432 from 10.0.0.2/32");

    let revision = text(&group, "/meta/revision");
    let source = server.ok("PortService/GetPort", json!({ "port": { "name": "web" } })).await;
    let not_up = text(&source, "/meta/revision");
    let not_up = format!("see that the source, Port web (revision {not_up}), comes up: it is not up yet");
    for (source, service, kind, summary, advice) in [
        ("batch", "tcp/5432", "DROPPED", format!("dropped on hv1 by rule default-ingress of SecurityGroup db (revision {revision})"),
            "add a rule to SecurityGroup db: { direction: INGRESS, protocol: tcp, ports: [5432], remote_prefix: 10.0.0.3/32 }"),
        ("10.0.0.3", "tcp/23", "REJECTED", format!("rejected on hv1 by rule telnet of SecurityGroup db (revision {revision})"),
            "change or remove rule telnet of SecurityGroup db"),
        ("web", "udp/7", "DROPPED", "dropped on hv1 in table Admit: port security: the port may not send with this MAC and address".into(),
            "send with the port's own addresses, or add what it may have to its allowed_address_pairs"),
        ("web", "udp/9", "DROPPED",
            "dropped on hv1: no rule allows what the port receives, and the default is to drop (NB_Global options:default_acl_drop)".into(),
            "put the port into a SecurityGroup with the rule { direction: INGRESS, protocol: udp, ports: [9], remote_prefix: 10.0.0.2/32 }"),
        ("web", "udp/11", "DROPPED", "dropped on hv1 in table Later: a flow of the table drops it".into(), &not_up),
    ] {
        let traced = trace(source, "db", service).await;
        assert_eq!((text(&traced, "/verdict/kind"), text(&traced, "/verdict/summary")), (kind.into(), summary), "{traced}");
        assert_eq!(text(&traced, "/verdict/advice/0"), advice, "{traced}");
    }

    // What cannot be traced is refused with a reason, or said at once.
    for (body, reason) in [
        (request("web", "nobody", "tcp/1"), "END_NOT_FOUND"),
        (request("", "db", "tcp/1"), "END_EMPTY"),
        (request("192.0.2.7", "db", "tcp/1"), "SOURCE_OUTSIDE"),
        (request("web", "db", "tcp"), "SERVICE_INVALID"),
        (request("web", "2001:db8::1", "icmp"), "ADDRESS_MISSING"),
        (json!({ "source": "web", "destination": "db", "service": "icmp", "family": 5 }), "FAMILY_INVALID"),
        (
            json!({ "source": "web", "destination": "db", "service": "tcp/1", "sourcePort": 70_000 }),
            "PORT_INVALID",
        ),
        (
            json!({ "source": "web", "destination": "db", "service": "tcp/1", "project": "x" }),
            "PROJECT_NOT_FOUND",
        ),
    ] {
        assert_eq!(server.refused("ExplainService/GetTrace", body.clone()).await.1, reason, "{body}");
    }
    let nobody = trace("web", "10.0.0.99", "icmp").await;
    assert!(text(&nobody, "/verdict/summary").contains("nobody on VirtualNetwork shop"), "{nobody}");
    let away = trace("web", "192.0.2.1", "icmp").await;
    assert!(text(&away, "/verdict/summary").contains("has no router"), "{away}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_is_followed_over_tunnels_and_lost_agents_are_named() {
    let server = shop().await;
    let (web, db) = (id(&server, "web").await, id(&server, "db").await);
    let first = |query: TraceQuery| {
        assert!(matches!(query.from, Some(From::Interface(_))));
        let tunnel = quantumnet_api::v1::TraceTunnel {
            chassis: "hv2".into(),
            datapath_key: 7,
            in_port_key: 1,
            out_port_key: 3,
        };
        answer(vec![step("TunnelOut", "", "", &[])], vec![To::Tunnel(tunnel)])
    };
    let to = db.clone();
    let second = move |query: TraceQuery| {
        let Some(From::Tunnel(tunnel)) = query.from else { panic!("{:?}", query.from) };
        assert_eq!((tunnel.chassis.as_str(), tunnel.datapath_key, tunnel.out_port_key), ("hv1", 7, 3));
        answer(vec![step("Deliver", "", "", &[])], vec![To::Interface(to.clone())])
    };
    let _first = agent(&server, "hv1", "192.0.2.1", vec![web], Arc::new(first)).await;
    let trace = || server.ok("ExplainService/GetTrace", request("web", "db", "tcp/5432"));
    let lost = trace().await;
    assert_eq!(text(&lost, "/verdict/kind"), "UNDECIDED", "{lost}");
    assert!(text(&lost, "/verdict/summary").contains("hypervisor hv2 is not connected"), "{lost}");
    let _second = agent(&server, "hv2", "192.0.2.2", vec![db], Arc::new(second)).await;
    let found = trace().await;
    assert_eq!(text(&found, "/verdict/kind"), "DELIVERED", "{found}");
    let chassis: Vec<String> =
        found["hops"].as_array().unwrap().iter().map(|hop| text(hop, "/chassis")).collect();
    assert_eq!(chassis, ["hv1", "hv2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_reach_a_port() {
    let server = shop().await;
    let list = async |service: &str| {
        let body = json!({ "destination": "db", "service": service });
        let answer = server.ok("ExplainService/ListSources", body).await;
        let of = |source: &Value| {
            (
                text(source, "/port/name"),
                text(source, "/service"),
                source["allowed"] == true,
                text(source, "/ingress/part"),
            )
        };
        (answer["sources"].as_array().unwrap().iter().map(of).collect::<Vec<_>>(), answer)
    };
    let one = |name: &str, service: &str, allowed: bool, rule: &str| {
        (name.to_owned(), service.to_owned(), allowed, rule.to_owned())
    };
    let (mut sources, answer) = list("tcp/5432").await;
    sources.sort();
    assert_eq!(
        sources,
        [one("batch", "tcp/5432", false, "default-ingress"), one("web", "tcp/5432", true, "postgres")],
        "{answer}"
    );
    assert!(answer["outside"].is_null(), "the network has no way out: {answer}");
    let (all, answer) = list("").await;
    for expected in [
        one("web", "tcp/5432", true, "postgres"),
        one("web", "tcp/23", false, "telnet"),
        one("web", "tcp, any other port", false, "default-ingress"),
        one("web", "icmp/8/0", false, "default-ingress"),
    ] {
        assert!(all.contains(&expected), "{expected:?} is not in {answer}");
    }
    // A tenant's egress counts too.
    let update = json!({ "group": { "meta": { "name": "db" }, "spec": { "defaultEgress": "DROP" } }, "updateMask": "spec.defaultEgress" });
    server.ok("SecurityGroupService/UpdateSecurityGroup", update).await;
    let body = json!({ "destination": "web", "service": "icmp" });
    let answer = server.ok("ExplainService/ListSources", body).await;
    let from_db = answer["sources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|source| text(source, "/port/name") == "db")
        .unwrap()
        .clone();
    assert_eq!(
        (from_db["allowed"] == true, text(&from_db, "/egress/part")),
        (false, "default-egress".into()),
        "{from_db}"
    );
    let refused = server.refused("ExplainService/ListSources", json!({ "destination": "10.0.0.77" })).await;
    assert_eq!(refused.1, "END_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_outside_is_judged_by_its_own_rules() {
    let server = shop().await;
    let subnet = json!([{ "cidr": "10.5.0.0/24", "gateway": "10.5.0.1" }]);
    let network = json!({ "network": { "meta": { "name": "home" }, "spec": { "subnets": subnet } } });
    server.ok("VirtualNetworkService/CreateVirtualNetwork", network).await;
    let router =
        json!({ "router": { "meta": { "name": "edge" }, "spec": { "networks": [{ "name": "home" }] } } });
    server.ok("RouterService/CreateRouter", router).await;
    let rules =
        json!([{ "name": "office", "protocol": "tcp", "ports": ["443"], "remotePrefix": "203.0.113.0/24" }]);
    let group = json!({ "group": { "meta": { "name": "open" }, "spec": { "rules": rules } } });
    server.ok("SecurityGroupService/CreateSecurityGroup", group).await;
    let spec = json!({ "network": { "name": "home" }, "addresses": [{ "ip": "10.5.0.2" }],
        "securityGroups": ["open"], "vm": { "name": "vm" } });
    server
        .ok("PortService/CreatePort", json!({ "port": { "meta": { "name": "site" }, "spec": spec } }))
        .await;
    for (source, allowed) in [("203.0.113.77", true), ("192.0.2.9", false)] {
        let body = json!({ "destination": "site", "service": "tcp/443", "source": source });
        let answer = server.ok("ExplainService/ListSources", body).await;
        let judged =
            answer["outside"].as_array().unwrap().iter().find(|verdict| text(verdict, "/address") == source);
        let judged = judged.unwrap_or_else(|| panic!("{source} is not in {answer}"));
        assert_eq!(judged["allowed"] == true, allowed, "{answer}");
    }
    let body = json!({ "destination": "site", "source": "nonsense" });
    assert_eq!(server.refused("ExplainService/ListSources", body).await.1, "ADDRESS_INVALID");
}
