//! Members that lead, follow, fall behind and come back.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quantumnet_controller::{
    peer::{Answer, Elsewhere, ForwardError, Handler, Kind},
    replica::Replica,
};
use quantumnet_model::{Uuid, intent::Project};
use tokio::sync::watch;

use crate::harness::{Cluster, DEADLINE};

/// More than two elections.
const LONG: Duration = Duration::from_millis(1_500);

/// Makes the project that the body names.
struct Make(Replica);

impl Handler for Make {
    fn start(&self, body: Bytes) -> Answer {
        let name = String::from_utf8(body.to_vec()).unwrap();
        let row = Project { name: name.as_str().into(), ..Project::default() };
        let queued = self.0.queue("test", move |txn| txn.insert(Uuid::new_v4(), row));
        Box::pin(async move {
            match queued.await {
                Ok(committed) => Ok(committed.revision.to_string().into()),
                Err(error) if error.is_elsewhere() => Err(Elsewhere),
                Err(error) => Ok(format!("error: {error}").into()),
            }
        })
    }
}

fn serve(cluster: &Cluster) {
    for (_, member) in cluster.running() {
        let controller = member.controller.as_ref().unwrap();
        let handler = Arc::new(Make(controller.replica().clone()));
        controller.leader().register(Kind::Transact, handler);
    }
}

fn make(
    cluster: &Cluster,
    member: u64,
    name: &str,
) -> impl Future<Output = Result<Bytes, ForwardError>> + Send + 'static + use<> {
    let controller = cluster.members[&member].controller.as_ref().unwrap();
    controller.leader().start(Kind::Transact, Bytes::from(name.to_owned()))
}

fn revision(answer: Result<Bytes, ForwardError>) -> u64 {
    let answer = answer.unwrap();
    String::from_utf8_lossy(&answer).parse().unwrap_or_else(|_| panic!("{answer:?}"))
}

fn has(replica: &Replica, name: &str) -> bool {
    replica.state().find::<Project>(&[("name", name.into())]).is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_on_any_member_is_there_when_it_is_answered_and_on_all_soon() {
    let cluster = Cluster::start(3).await;
    serve(&cluster);
    let mut last = 0;
    for member in 1..=3 {
        let name = format!("p{member}");
        last = revision(make(&cluster, member, &name).await);
        assert!(has(cluster.members[&member].replica(), &name), "update before reply on member {member}");
        for (other, running) in cluster.running() {
            let state = running.replica().linearizable().await.unwrap();
            assert!(state.find::<Project>(&[("name", name.as_str().into())]).is_some(), "read on {other}");
        }
    }
    cluster.settled(last).await;
    let statuses: Vec<_> = cluster.running().map(|(_, member)| member.replica().status()).collect();
    let leader = cluster.leader().await;
    for (id, status) in (1..).zip(&statuses) {
        assert_eq!((status.member, &*status.voters, status.leader), (id, [1, 2, 3].as_slice(), Some(leader)));
        assert!(status.cluster.is_some() && status.cluster == statuses[0].cluster);
        assert!(status.applied_index > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_keep_their_order() {
    let cluster = Cluster::start(3).await;
    serve(&cluster);
    for member in 1..=3 {
        let queued: Vec<_> =
            (0..200).map(|number| make(&cluster, member, &format!("m{member}-{number}"))).collect();
        let mut before = 0;
        for answer in queued {
            let at = revision(answer.await);
            assert!(at > before, "{at} after {before} on member {member}");
            before = at;
        }
    }
}

/// Thousands of rows in one transaction take longer than followers wait for a sign of life.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_long_costs_no_leadership() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let replica = cluster.members[&leader].replica().clone();
    let term = replica.status().term;
    let committed = replica.propose("test", |txn| {
        let until = Instant::now() + LONG;
        while Instant::now() < until {
            std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
        }
        txn.insert(Uuid::new_v4(), Project { name: "late".into(), ..Project::default() })
    });
    let revision = committed.await.unwrap().revision;
    cluster.settled(revision).await;
    for (member, running) in cluster.running() {
        assert_eq!(running.replica().status().term, term, "member {member} saw an election");
        assert!(has(running.replica(), "late"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_hands_over_is_followed_without_an_election_timeout() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let former = cluster.members[&leader].replica().clone();
    let before = former.status();
    cluster.members[&leader].controller.as_ref().unwrap().hand_over().await;
    let after = former.status();
    // It was still heard of when another led: had it not handed over, it would lead on.
    assert!(after.leader.is_some_and(|now| now != leader) && !after.writable, "{after:?}");
    assert!(after.term > before.term);
    let next = cluster.leader_among(&[after.leader.unwrap()]).await;
    let replica = cluster.members[&next].replica();
    let insert = |txn: &mut quantumnet_controller::store::Txn<'_>| {
        txn.insert(Uuid::new_v4(), Project { name: "after".into(), ..Project::default() })
    };
    let revision = replica.propose("test", insert).await.unwrap().revision;
    cluster.settled(revision).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_a_leader_loses_and_doubles_nothing() {
    let mut cluster = Cluster::start(3).await;
    serve(&cluster);
    let leader = cluster.leader().await;
    let survivors: Vec<u64> = (1..=3).filter(|member| *member != leader).collect();
    // Writers on the members that stay, one after another each, until they were told of a few writes by the next leader.
    let outcomes: Arc<watch::Sender<Vec<(String, bool)>>> = Arc::default();
    let (stop, stopping) = watch::channel(false);
    let mut writers = tokio::task::JoinSet::new();
    for member in &survivors {
        for writer in 0..4 {
            let way = cluster.members[member].controller.as_ref().unwrap().leader().clone();
            let (outcomes, stopping, member) = (outcomes.clone(), stopping.clone(), *member);
            writers.spawn(async move {
                for number in 0.. {
                    let name = format!("w{member}-{writer}-{number}");
                    let answer = way.start(Kind::Transact, name.clone().into()).await;
                    let known = match answer {
                        Ok(answer) if answer.starts_with(b"error") => {
                            assert!(String::from_utf8_lossy(&answer).contains("not known"), "{answer:?}");
                            false
                        }
                        Ok(_) => true,
                        Err(ForwardError::Unknown { .. }) => false,
                        Err(error) => panic!("{error}"),
                    };
                    outcomes.send_modify(|outcomes| outcomes.push((name, known)));
                    if *stopping.borrow() {
                        return;
                    }
                }
            });
        }
    }
    let written = |count: usize| {
        let outcomes = outcomes.clone();
        async move {
            let mut outcomes = outcomes.subscribe();
            let enough = outcomes.wait_for(|all| all.iter().filter(|(_, known)| *known).count() >= count);
            tokio::time::timeout(DEADLINE, enough).await.expect("writes go on").unwrap();
        }
    };
    written(200).await;
    cluster.end(leader).await;
    let before = outcomes.borrow().iter().filter(|(_, known)| *known).count();
    written(before + 200).await;
    stop.send_replace(true);
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    cluster.begin(leader).await;
    let revision = cluster.members[&survivors[0]].replica().linearizable().await.unwrap().revision();
    cluster.settled(revision).await;
    for (id, member) in cluster.running() {
        let state = member.replica().state();
        for (name, known) in outcomes.borrow().iter() {
            let times = state.iter::<Project>().filter(|(_, row)| *row.name == **name).count();
            assert!(times == 1 || times == 0 && !known, "{name} is {times} times on member {id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_away_catches_up() {
    for snapshot_after in ["67108864", "20000"] {
        let mut cluster = Cluster::prepare(3, &["--snapshot-after", snapshot_after]).await.run().await;
        cluster.leader().await;
        serve(&cluster);
        let away = cluster.follower().await;
        cluster.end(away).await;
        let writer = cluster.leader().await;
        let mut last = 0;
        // More than the entries that stay in the log behind a snapshot.
        for number in 0..1_600 {
            last = revision(make(&cluster, writer, &format!("p{number}")).await);
        }
        cluster.begin(away).await;
        cluster.settled(last).await;
        let replica = cluster.members[&away].replica();
        assert!(has(replica, "p0") && has(replica, "p1599") && replica.state().check());
        let by_snapshot = replica.consensus().snapshots_installed > 0;
        assert_eq!(by_snapshot, snapshot_after == "20000", "log or snapshot");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_is_replaced_and_follows_again() {
    let cluster = Cluster::start(3).await;
    serve(&cluster);
    let old = cluster.leader().await;
    let rest: Vec<u64> = (1..=3).filter(|member| *member != old).collect();
    cluster.connect(old, false);
    let lost = make(&cluster, old, "on-the-minority");
    let new = cluster.leader_among(&rest).await;
    revision(make(&cluster, new, "on-the-majority").await);
    // The other survivor may still take the old leader for the present one, and must find the new one by itself.
    for member in &rest {
        revision(make(&cluster, *member, &format!("by-{member}")).await);
    }
    assert!(cluster.members[&old].replica().linearizable().await.is_err(), "no stale read");
    cluster.connect(old, true);
    let end = tokio::time::timeout(DEADLINE, lost).await.expect("it is answered");
    let last = revision(make(&cluster, old, "after").await);
    cluster.settled(last).await;
    for (_, member) in cluster.running() {
        let replica = member.replica();
        assert!(has(replica, "on-the-majority") && has(replica, "after"));
        let text = end.as_ref().map(|body| String::from_utf8_lossy(body).into_owned());
        let unknown = match &text {
            Ok(text) => text.contains("not known"),
            Err(error) => matches!(error, ForwardError::Unknown { .. } | ForwardError::NoLeader { .. }),
        };
        assert!(unknown || has(replica, "on-the-minority"), "{text:?}");
    }
}
