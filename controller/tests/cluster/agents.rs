//! Agents spread over the members: what they say is stored, what they acknowledge counts, and they may move.

use std::sync::Arc;

use quantumnet_api::v1::{
    self, AgentHello, AgentQueryAnswer, AgentReport, TraceAnswer, TraceQuery, agent_message,
    agent_query_answer::Answer,
};
use quantumnet_controller::{
    agents::AskError,
    replica::Replica,
    store::{State, Txn},
};
use quantumnet_model::{
    Strong, Uuid,
    nb::{LogicalSwitch, LogicalSwitchPort, NbGlobal},
    sb::{ChassisPrivate, PortBinding},
};
use serde_json::json;
use tonic::Code;

use crate::{
    agent::{Agent, hello, interface},
    harness::{Cluster, DEADLINE, post},
};

async fn connect(cluster: &Cluster, member: u64, hello: AgentHello) -> Agent {
    let mut agent = Agent::silent(format!("http://{}", cluster.members[&member].api())).await;
    agent.say(agent_message::Message::Hello(hello)).await;
    agent
}

fn greeting(number: u64) -> AgentHello {
    let (name, ip) = (format!("hv{number}"), format!("10.0.0.{number}"));
    hello(&name, &name, &ip, vec![interface(&format!("vm{number}"), 1)])
}

/// A switch with a port for each of three hypervisors.
async fn switch(leader: &Replica) -> Vec<Uuid> {
    let ports: Vec<Uuid> = (1..=3).map(|_| Uuid::new_v4()).collect();
    let made = ports.clone();
    let make = move |txn: &mut Txn<'_>| {
        for (number, port) in (1..).zip(&made) {
            let name = format!("vm{number}");
            txn.insert(
                *port,
                LogicalSwitchPort { name: name.as_str().into(), ..LogicalSwitchPort::default() },
            )?;
        }
        let ports = made.iter().copied().map(Strong::new).collect();
        txn.insert(Uuid::new_v4(), LogicalSwitch { name: "sw".into(), ports, ..LogicalSwitch::default() })
    };
    leader.propose("test", make).await.unwrap();
    ports
}

async fn ask(leader: &Replica, nb_cfg: i64) -> u64 {
    let ask = move |txn: &mut Txn<'_>| {
        let known = txn.iter::<NbGlobal>().next().map(|(uuid, row)| (uuid, row.clone()));
        let (uuid, row) = known.unwrap_or_else(|| (Uuid::new_v4(), NbGlobal::default()));
        txn.put(uuid, NbGlobal { nb_cfg, ..row });
        Ok(())
    };
    leader.propose("test", ask).await.unwrap().revision
}

async fn until(cluster: &Cluster, what: &str, holds: impl Fn(&Arc<State>) -> bool) {
    for (member, running) in cluster.running() {
        let mut applied = running.replica().applied();
        let reached = tokio::time::timeout(DEADLINE, applied.wait_for(&holds)).await;
        assert!(reached.is_ok(), "never on member {member}: {what}");
    }
}

async fn acknowledge(agents: &mut [Agent], revision: u64) {
    for agent in agents {
        agent.until("the revision", |agent| agent.revision >= revision).await;
        agent.applied(agent.revision).await;
    }
}

fn up(state: &State, ports: &[Uuid]) -> bool {
    ports.iter().all(|port| state.get::<PortBinding>(*port).is_some_and(|row| row.up == Some(true)))
}

fn hv_cfg(state: &State) -> i64 {
    state.iter::<NbGlobal>().map(|(_, row)| row.hv_cfg).next().unwrap_or(0)
}

/// Names of the connected hypervisors as a member lists them.
async fn connected(cluster: &Cluster, member: u64) -> Vec<String> {
    let listed = post(cluster.members[&member].api(), "NodeService/ListNodes", &json!({}), "").await.unwrap();
    let nodes = listed.1["nodes"].as_array().unwrap().iter();
    let connected = nodes.filter(|node| node["connected"] == true);
    connected.map(|node| node["name"].as_str().unwrap().to_owned()).collect()
}

async fn until_connected(cluster: &Cluster, count: usize) {
    let all = async {
        for (member, _) in cluster.running() {
            while connected(cluster, member).await.len() != count {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::time::timeout(DEADLINE, all).await.expect("all members list all agents");
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_come_up_and_hv_cfg_follows_wherever_the_agents_are() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let ports = switch(cluster.members[&leader].replica()).await;
    let mut agents = Vec::new();
    for member in 1..=3 {
        let mut agent = connect(&cluster, member, greeting(member)).await;
        let port = ports[usize::try_from(member).unwrap() - 1];
        agent.until("its port", |agent| agent.rows.get::<PortBinding>(port).is_some()).await;
        agents.push(agent);
    }
    until_connected(&cluster, 3).await;
    let asked = ask(cluster.members[&leader].replica(), 1).await;
    let is_up = |state: &Arc<State>| up(state, &ports);
    // All but one: nothing is claimed for the one that is silent.
    let (silent, talking) = agents.split_last_mut().unwrap();
    acknowledge(talking, asked).await;
    let others = |state: &Arc<State>| {
        state.iter::<ChassisPrivate>().filter(|(_, row)| row.nb_cfg == 1).count() == 2
            && up(state, &ports[..2])
    };
    until(&cluster, "two have it", others).await;
    assert_eq!(hv_cfg(&cluster.members[&leader].replica().state()), 0);
    acknowledge(std::slice::from_mut(silent), asked).await;
    until(&cluster, "all are up and have it", |state| is_up(state) && hv_cfg(state) == 1).await;

    // The leader goes, and its agent to another member, where it goes on at its revision.
    let lost = usize::try_from(leader).unwrap() - 1;
    let gone = agents.remove(lost);
    cluster.end(leader).await;
    let next = cluster.leader().await;
    let elsewhere = cluster.follower().await;
    let token = v1::ResumeToken { revision: gone.revision, ..gone.token.clone().unwrap() };
    let mut moved =
        connect(&cluster, elsewhere, AgentHello { resume: Some(token), ..greeting(leader) }).await;
    (moved.rows, moved.revision) = (gone.rows.clone(), gone.revision);
    agents.push(moved);
    let asked = ask(cluster.members[&next].replica(), 2).await;
    acknowledge(&mut agents, asked).await;
    until(&cluster, "hv_cfg goes on", |state| hv_cfg(state) == 2).await;
    assert_eq!(agents.last().unwrap().snapshots, 0, "it goes on at its revision");
    until_connected(&cluster, 3).await;
    cluster.begin(leader).await;
    until(&cluster, "what was true stays so", |state| is_up(state) && hv_cfg(state) == 2).await;

    // A new leader that never heard an acknowledgement itself has them all.
    let (before, now) = (ask(cluster.members[&next].replica(), 3).await, cluster.leader().await);
    acknowledge(&mut agents, before).await;
    cluster.end(now).await;
    // One agent was perhaps on that member; the others' acknowledgements are enough for their own rows.
    cluster.leader().await;
    let two =
        |state: &Arc<State>| state.iter::<ChassisPrivate>().filter(|(_, row)| row.nb_cfg == 3).count() >= 1;
    until(&cluster, "acknowledgements outlive the leader", two).await;
    for (_, member) in cluster.running() {
        assert!(is_up(&member.replica().state()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_on_a_follower_are_stored_and_refused_as_on_the_leader() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let ports = switch(cluster.members[&leader].replica()).await;
    let follower = cluster.follower().await;
    let bare = AgentHello { interfaces: Vec::new(), ..greeting(1) };
    let mut agent = connect(&cluster, follower, bare).await;
    agent.until("a snapshot", |agent| agent.revision > 0).await;
    let report =
        AgentReport { sequence: 7, interfaces_added: vec![interface("vm1", 1)], ..AgentReport::default() };
    agent.say(agent_message::Message::Report(report)).await;
    agent.until("the report is stored", |agent| agent.stored == 7).await;
    agent.until("its port", |agent| agent.rows.get::<PortBinding>(ports[0]).is_some()).await;
    until_connected(&cluster, 1).await;

    // The endpoint is held by a chassis whose agent is connected, if to another member.
    let thief = AgentHello { chassis: "thief".into(), ..greeting(1) };
    let refused = connect(&cluster, leader, thief).await.end().await;
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("which is connected"), "{refused}");
    let name = json!({ "name": "hv1" });
    let delete = post(cluster.members[&leader].api(), "NodeService/DeleteNode", &name, "");
    let (status, answer) = delete.await.unwrap();
    assert_eq!((status, &answer["error"]["reason"]), (400, &json!("NODE_CONNECTED")), "{answer}");

    // The same chassis on another member: the stream before ends, with a reason.
    let mut again = connect(&cluster, leader, greeting(1)).await;
    again.until("a snapshot", |agent| agent.revision > 0).await;
    let ended = agent.end().await;
    assert!(ended.message().contains("another agent connected"), "{ended}");
    until_connected(&cluster, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_reach_an_agent_wherever_it_is() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let mut agent = connect(&cluster, follower, greeting(1)).await;
    agent.until("a snapshot", |agent| agent.revision > 0).await;
    until_connected(&cluster, 1).await;
    for member in 1..=3 {
        let controller = cluster.members[&member].controller.as_ref().unwrap();
        let asked = controller.queries().ask("hv1", TraceQuery::default(), DEADLINE);
        let answered = async {
            agent.until("it is asked", |agent| !agent.asked.is_empty()).await;
            let id = agent.asked.remove(0).id;
            let answer = Some(Answer::Trace(TraceAnswer { cut: "x".into(), ..TraceAnswer::default() }));
            agent.say(agent_message::Message::Answer(AgentQueryAnswer { id, answer })).await;
        };
        let (answer, ()) = tokio::join!(asked, answered);
        assert_eq!(answer.unwrap().cut, "x", "asked by member {member}");
    }
    // What its member has to say about it arrives too, and so does that this member is gone.
    let other = (1..=3).find(|member| ![leader, follower].contains(member)).unwrap();
    let queries = |member: u64| cluster.members[&member].controller.as_ref().unwrap().queries();
    let within = std::time::Duration::from_millis(20);
    for member in [leader, other] {
        let asked = queries(member).ask("hv1", TraceQuery::default(), within).await;
        assert_eq!(asked, Err(AskError::Deadline { chassis: "hv1".into(), within }));
    }
    cluster.end(follower).await;
    let asked = cluster.members[&leader].controller.as_ref().unwrap().queries();
    let gone = asked.ask("hv1", TraceQuery::default(), DEADLINE).await;
    assert!(matches!(gone, Err(AskError::Member { .. } | AskError::NotConnected { .. })), "{gone:?}");
}
