//! What comes to the members' port from whoever is no member, or a broken one.

use quantumnet_api::{
    PEER_FORMAT,
    peer::v1::{
        AgentState, ForwardRequest, MemberReport, RaftMessage, peer_service_client::PeerServiceClient,
    },
};
use quantumnet_model::{Uuid, intent::Project};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_stream::iter;
use tonic::{Code, Request};

use crate::harness::{Cluster, DEADLINE, Member};

/// Named as a call of one member to another.
fn named<T>(message: T, cluster: &str, from: u64, to: u64) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("x-quantumnet-peer-format", PEER_FORMAT.into());
    metadata.insert("x-quantumnet-cluster", cluster.parse().unwrap());
    metadata.insert("x-quantumnet-from", from.into());
    metadata.insert("x-quantumnet-to", to.into());
    request
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let byte = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(byte).collect()
}

async fn write(member: &Member, name: &str) {
    let row = Project { name: name.into(), ..Project::default() };
    let done = member.replica().propose("test", move |txn| txn.insert(Uuid::new_v4(), row)).await;
    done.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_on_the_members_port_harms_nothing() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let (term, target) = (cluster.members[&leader].replica().status().term, &cluster.members[&leader]);
    for (seed, preface) in
        [(1, "".as_bytes()), (2, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), (3, b"GET / HTTP/1.1\r\n")]
    {
        let mut stream = TcpStream::connect(target.peer_port()).await.unwrap();
        // The member may hang up before it has read all.
        _ = stream.write_all(&[preface, &noise(seed, 100_000)].concat()).await;
        _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "the connection ends");
    }

    // Callers that are no member, of this cluster or of any.
    let mut client = PeerServiceClient::connect(format!("http://{}", target.peer_port())).await.unwrap();
    let identity = target.replica().log_identity().to_string();
    let nothing = || iter(Vec::<RaftMessage>::new());
    let follower = cluster.follower().await;
    let strangers = [
        (Request::new(nothing()), "is missing"),
        (named(nothing(), &identity, 9, leader), "member 9 is no other member"),
        (named(nothing(), &identity, leader, leader), "is no other member"),
        (named(nothing(), &identity, follower, 9), "the caller means member 9"),
        (named(nothing(), &"0".repeat(32), follower, leader), "belongs to cluster 000"),
    ];
    let count = strangers.len() as u64;
    for (request, text) in strangers {
        let refused = client.raft(request).await.unwrap_err();
        assert!(refused.message().contains(text), "{refused}");
    }
    assert_eq!(target.metric("quantumnet_controller_refused_input_total{kind=\"Peer\"}").await, count);

    // A member that says nothing sensible.
    let messages: Vec<RaftMessage> = (0..50)
        .map(|seed| RaftMessage { message: noise(seed, 40 * usize::try_from(seed).unwrap()).into() })
        .collect();
    client.raft(named(iter(messages), &identity, follower, leader)).await.unwrap();
    let refused = async {
        while target.replica().consensus().messages_refused < 50 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, refused).await.expect("each is refused and counted");
    let requests: Vec<ForwardRequest> = (0..9)
        .map(|number: i32| {
            let body = noise(7, 100).into();
            ForwardRequest { number: number.unsigned_abs().into(), kind: number, body }
        })
        .collect();
    let call = client.forward(named(iter(requests), &identity, follower, leader)).await;
    let mut answers = call.unwrap().into_inner();
    for _ in 0..9 {
        let answer = tokio::time::timeout(DEADLINE, answers.message()).await.expect("each is answered");
        assert!(answer.unwrap().is_some());
    }
    let agents = vec![AgentState { name: "hv".into(), chassis: noise(8, 3).into(), ..AgentState::default() }];
    let report = MemberReport { agents, ..MemberReport::default() };
    let refused = client.report(named(iter([report]), &identity, follower, leader)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");

    write(target, "afterwards").await;
    cluster.settled(target.replica().state().revision()).await;
    assert_eq!(target.replica().status().term, term, "nobody lost the leader over it");
}
