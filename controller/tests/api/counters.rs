//! What hypervisors have counted, as clients see it: summed, named, and with those who did not answer.

use quantumnet_api::v1::{
    AgentQueryAnswer, DropCount, DropCountsAnswer, LoggedPacket, ObjectRef, RuleCount, RuleCountsAnswer,
    WatchDropsRequest, WatchDropsResponse, agent_message, agent_query::Query, agent_query_answer::Answer,
    counter_service_client::CounterServiceClient,
};
use quantumnet_model::Uuid;
use serde_json::{Value, json};

use crate::{
    agent::{Agent, hello},
    server::Server,
};

async fn connected(server: &Server, number: u8) -> Agent {
    let mut agent = Agent::silent(format!("http://{}", server.address)).await;
    let (chassis, ip) = (format!("hv{number}"), format!("192.0.2.{number}"));
    agent.say(agent_message::Message::Hello(hello(&chassis, &chassis, &ip, Vec::new()))).await;
    agent.until("it is welcome", |agent| agent.token.is_some()).await;
    agent
}

/// Answers the next question.
async fn answer(agent: &mut Agent, make: impl FnOnce(&Query) -> Answer) {
    agent.until("it is asked", |agent| !agent.asked.is_empty()).await;
    let asked = agent.asked.remove(0);
    let answer = Some(make(asked.query.as_ref().unwrap()));
    agent.say(agent_message::Message::Answer(AgentQueryAnswer { id: asked.id, answer })).await;
}

/// Twenty packets for the place of that ACL in the question.
fn twenty(acl: Uuid, last_ms: u64) -> impl FnOnce(&Query) -> Answer {
    move |query| {
        let Query::RuleCounts(query) = query else { panic!("{query:?}") };
        let place = query.acls.iter().position(|asked| asked == acl.as_bytes()).unwrap();
        let count = RuleCount { acl: u32::try_from(place).unwrap(), packets: 20, bytes: 2_000, last_ms };
        Answer::RuleCounts(RuleCountsAnswer { counts: vec![count] })
    }
}

/// A group with one rule, and the rule's ACL.
async fn group(server: &Server) -> Uuid {
    let rules = json!([{ "name": "ssh", "protocol": "tcp", "ports": ["22"] }]);
    let group = json!({ "group": { "meta": { "name": "web" }, "spec": { "rules": rules } } });
    server.ok("SecurityGroupService/CreateSecurityGroup", group).await;
    let listed = server.ok("CounterService/ListRuleCounters", json!({ "group": { "name": "web" } })).await;
    let rules = listed["rules"].as_array().unwrap();
    let ssh = rules.iter().find(|rule| rule["rule"]["part"] == "ssh").unwrap();
    assert_eq!((&ssh["packets"], &ssh["lastHit"]), (&Value::Null, &Value::Null));
    ssh["rule"]["row"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_of_all_hypervisors_are_summed() {
    let server = Server::start().await;
    let acl = group(&server).await;
    let (mut first, mut second) = (connected(&server, 1).await, connected(&server, 2).await);
    let listed =
        async { server.ok("CounterService/ListRuleCounters", json!({ "group": { "name": "web" } })).await };
    let (listed, (), ()) =
        tokio::join!(listed, answer(&mut first, twenty(acl, 1_000)), answer(&mut second, twenty(acl, 3_000)));
    let of = |part: &str| {
        let rules = listed["rules"].as_array().unwrap().iter();
        rules.filter(|rule| rule["rule"]["part"] == part).cloned().collect::<Vec<_>>()
    };
    let [ssh] = &of("ssh")[..] else { panic!("{listed}") };
    assert_eq!(
        (&ssh["packets"], &ssh["bytes"], &ssh["hypervisors"], &ssh["lastHit"]),
        (&json!("40"), &json!("4000"), &json!(2), &json!("1970-01-01T00:00:03Z"))
    );
    assert_eq!((&ssh["action"], &ssh["direction"]), (&json!("allow-related"), &json!("to-lport")));
    assert!(of("default-ingress").iter().all(|rule| rule["packets"] == Value::Null));
    assert_eq!(listed.get("missing"), None);

    // Who answers nonsense is not in the sum, and is named.
    let listed =
        async { server.ok("CounterService/ListRuleCounters", json!({ "acls": [acl.to_string()] })).await };
    let nonsense = |_: &Query| Answer::DropCounts(DropCountsAnswer::default());
    let (listed, (), ()) =
        tokio::join!(listed, answer(&mut first, twenty(acl, 0)), answer(&mut second, nonsense));
    assert_eq!(listed["rules"][0]["packets"], "20");
    let missing = listed["missing"][0].as_str().unwrap();
    assert!(missing.contains("hv2"), "{missing}");
}

/// The first answer of a watch, which is the last.
async fn drops(server: &Server, request: WatchDropsRequest) -> WatchDropsResponse {
    let mut client = CounterServiceClient::connect(format!("http://{}", server.address)).await.unwrap();
    let request = WatchDropsRequest { once: true, ..request };
    let mut answers = client.watch_drops(request).await.unwrap().into_inner();
    let first = answers.message().await.unwrap().unwrap();
    assert_eq!(answers.message().await.unwrap(), None);
    first
}

#[tokio::test(flavor = "multi_thread")]
async fn drops_name_who_dropped() {
    let server = Server::start().await;
    let acl = group(&server).await;
    server.network("net", "10.0.0.0/24").await;
    let port = server.port("vm", "net").await;
    let port: Uuid = port["meta"]["id"].as_str().unwrap().parse().unwrap();
    let told = move |query: &Query| {
        let Query::DropCounts(query) = query else { panic!("{query:?}") };
        assert_eq!((query.since, query.records_since), (0, 0));
        let drop = |table: &str, reason: &str, row_table: &str, row: &[u8]| DropCount {
            table: table.into(),
            reason: reason.into(),
            row_table: row_table.into(),
            row: row.to_vec(),
            packets: 3,
            ..DropCount::default()
        };
        let record = LoggedPacket { name: "ssh".into(), port: port.to_string(), ..LoggedPacket::default() };
        Answer::DropCounts(DropCountsAnswer {
            process: 1,
            at: 1,
            records_at: 1,
            drops: vec![
                drop("ToPolicy", "acl", "ACL", acl.as_bytes()),
                drop("AdmitOut", "port_security", "Port_Binding", port.as_bytes()),
                drop("Forward", "no_flow", "", &[]),
            ],
            records: vec![record],
            cut: false,
        })
    };
    let mut agent = connected(&server, 1).await;
    let seen = |answer: &WatchDropsResponse| -> Vec<String> {
        let name = |drop: &quantumnet_api::v1::Drop| drop.by.as_ref().map_or("-", |by| &by.name).to_owned();
        answer.drops.iter().map(|drop| format!("{} {}", drop.reason, name(drop))).collect()
    };
    let everything = WatchDropsRequest::default();
    let (all, ()) = tokio::join!(drops(&server, everything), answer(&mut agent, told));
    assert_eq!(seen(&all), ["acl web", "port_security vm", "no_flow -"]);
    assert_eq!((all.baseline, all.records[0].port.as_str()), (true, "vm"));

    // The group has no port of the network; the port's own is there.
    let network = Some(ObjectRef { name: "net".into(), ..ObjectRef::default() });
    let of_network = WatchDropsRequest { network, ..WatchDropsRequest::default() };
    let (narrow, ()) = tokio::join!(drops(&server, of_network), answer(&mut agent, told));
    assert_eq!(seen(&narrow), ["port_security vm"]);
    let of_project = WatchDropsRequest { project: "default".into(), ..WatchDropsRequest::default() };
    let (own, ()) = tokio::join!(drops(&server, of_project), answer(&mut agent, told));
    assert_eq!(seen(&own), ["acl web", "port_security vm"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_in_a_question_is_said() {
    let server = Server::start().await;
    let refused = server.refused("CounterService/WatchDrops", json!({ "intervalMs": 10 })).await;
    assert_eq!((refused.0, &*refused.1, &*refused.2), (400, "INTERVAL_INVALID", "interval_ms"));
    let refused = server.refused("CounterService/ListRuleCounters", json!({ "acls": ["x"] })).await;
    assert_eq!((refused.0, &*refused.1, &*refused.2), (404, "NOT_FOUND", "acls[0]"));
    let refused =
        server.refused("CounterService/ListRuleCounters", json!({ "group": { "name": "no" } })).await;
    assert_eq!((refused.0, &*refused.2), (404, "group"));
}
