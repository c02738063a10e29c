//! The API on any member.

use std::{sync::Arc, time::Duration};

use quantumnet_model::intent::Project;
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};

use crate::harness::{Cluster, DEADLINE, post};

fn project(name: &str) -> Value {
    json!({ "project": { "meta": { "name": name } } })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_made_and_read_on_any_member() {
    let cluster = Cluster::start(3).await;
    for (member, running) in cluster.running() {
        let name = format!("p{member}");
        let created = post(running.api(), "ProjectService/CreateProject", &project(&name), "").await.unwrap();
        assert_eq!((created.0, &created.1["meta"]["name"]), (200, &json!(name)), "{created:?}");
        for (other, reader) in cluster.running() {
            let body = json!({ "project": { "name": name } });
            let read = post(reader.api(), "ProjectService/GetProject", &body, "").await.unwrap();
            assert_eq!(read, created, "member {other}");
        }
        // Refusals are the leader's, with their details.
        let again = post(running.api(), "ProjectService/CreateProject", &project(&name), "").await.unwrap();
        assert_eq!((again.0, &again.1["error"]["reason"]), (409, &json!("NAME_IN_USE")), "{again:?}");
    }
}

/// Clients of the members that stay, which repeat with the same request id what has no answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_repeats_loses_and_doubles_nothing_when_leaders_fall() {
    let mut cluster = Cluster::start(3).await;
    let addresses: Vec<_> = cluster.running().map(|(_, member)| member.api()).collect();
    let made: Arc<watch::Sender<Vec<String>>> = Arc::default();
    let (stop, stopping) = watch::channel(false);
    let mut clients = JoinSet::new();
    for client in 0..6 {
        let (addresses, made, stopping) = (addresses.clone(), made.clone(), stopping.clone());
        clients.spawn(async move {
            let mut at = client;
            for number in 0.. {
                let name = format!("c{client}-{number}");
                let id = format!("x-quantumnet-request-id: {name}\r\n");
                loop {
                    let address = addresses[at % addresses.len()];
                    match post(address, "ProjectService/CreateProject", &project(&name), &id).await {
                        Ok((200, _)) => break,
                        Ok((503 | 500, answer)) => {
                            assert_ne!(answer["error"]["reason"], "REQUEST_DROPPED", "{answer}")
                        }
                        Ok(answer) => panic!("{name}: {answer:?}"),
                        Err(_) => at += 1,
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                made.send_modify(|made| made.push(name));
                if *stopping.borrow() {
                    return;
                }
            }
        });
    }
    let made_more = |count: usize| {
        let made = made.clone();
        async move {
            let goal = made.borrow().len() + count;
            let mut made = made.subscribe();
            let enough = made.wait_for(|made| made.len() >= goal);
            tokio::time::timeout(DEADLINE, enough).await.expect("writes go on").unwrap();
        }
    };
    for _ in 0..3 {
        made_more(60).await;
        let leader = cluster.leader().await;
        cluster.end(leader).await;
        made_more(60).await;
        cluster.begin(leader).await;
    }
    stop.send_replace(true);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    let leader = cluster.leader().await;
    let revision = cluster.members[&leader].replica().linearizable().await.unwrap().revision();
    cluster.settled(revision).await;
    let made = made.borrow();
    for (id, member) in cluster.running() {
        let state = member.replica().state();
        for name in made.iter() {
            let found = state.find::<Project>(&[("name", name.as_str().into())]);
            assert!(found.is_some(), "{name} is lost on member {id}");
        }
        // The two projects that always are, and each once.
        assert_eq!(state.iter::<Project>().count(), made.len() + 2, "member {id}");
    }
}
