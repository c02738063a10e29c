//! A member between two peers that send well-formed nonsense.

use proptest::prelude::*;

use super::*;
use crate::event::{ClusterId, LogEntry};

const CLUSTER: ClusterId = ClusterId(3);

fn node() -> Node {
    let voters = vec![MemberId(1), MemberId(2), MemberId(3)];
    let meta = crate::SnapshotMeta { index: 2, term: 1, voters: voters.clone() };
    let recovered = Recovered {
        hard_state: HardState { term: 2, vote: 0, commit: 3 },
        snapshot: Some(Snapshot { meta, data: Bytes::from_static(b"state") }),
        entries: (3..6)
            .map(|index| LogEntry { index, term: 2, data: Bytes::from_static(b"entry") })
            .collect(),
        boot: 1,
        torn_bytes: 0,
    };
    let config = Config { election_ticks: 3, ..Config::new(CLUSTER, MemberId(1), voters) };
    Node::new(config, recovered).expect("a right configuration")
}

/// Carries effects out as a perfect disk would; an error is a fault the node reported.
fn run(node: &mut Node, event: Event) -> Result<(), Fault> {
    let mut events = VecDeque::from([event]);
    while let Some(event) = events.pop_front() {
        for effect in node.step(Duration::ZERO, event)? {
            if let Effect::Persist(batch) = effect {
                events.push_back(Event::Persisted { batch: batch.id });
            }
        }
    }
    Ok(())
}

#[test]
fn the_only_voter_leads_after_a_tick() {
    let recovered = Recovered {
        hard_state: HardState { term: 2, vote: 0, commit: 0 },
        snapshot: None,
        entries: Vec::new(),
        boot: 1,
        torn_bytes: 0,
    };
    let mut node = Node::new(Config::new(CLUSTER, MemberId(1), vec![MemberId(1)]), recovered).unwrap();
    run(&mut node, Event::Tick).unwrap();
    assert_eq!(node.leadership().leader, Some(MemberId(1)));
    assert!(node.may_propose());
}

#[derive(Clone, Debug)]
enum Input {
    Ticks(u8),
    Message(Box<Message>),
    Propose,
    Read,
}

fn small() -> impl Strategy<Value = u64> {
    prop_oneof![10 => 0_u64..9, 1 => Just(1 << 40)]
}

fn message() -> impl Strategy<Value = Message> {
    let kind = proptest::sample::select(vec![
        MessageType::MsgAppend,
        MessageType::MsgAppendResponse,
        MessageType::MsgRequestVote,
        MessageType::MsgRequestVoteResponse,
        MessageType::MsgHeartbeat,
        MessageType::MsgHeartbeatResponse,
        MessageType::MsgTimeoutNow,
        MessageType::MsgReadIndex,
        MessageType::MsgReadIndexResp,
        MessageType::MsgRequestPreVote,
        MessageType::MsgRequestPreVoteResponse,
    ]);
    let numbers = (2_u64..4, 1_u64..8, small(), small(), 0_u64..8, small(), small());
    let entries = proptest::collection::vec(0_u64..3, 0..4);
    (kind, numbers, any::<bool>(), entries).prop_map(|(kind, numbers, reject, steps)| {
        let (from, term, log_term, index, commit, commit_term, reject_hint) = numbers;
        let mut message = Message { from, to: 1, term, log_term, index, commit, ..Message::default() };
        message.set_msg_type(kind);
        (message.commit_term, message.reject_hint, message.reject) = (commit_term, reject_hint, reject);
        let count = match kind {
            MessageType::MsgAppend => steps.len(),
            MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => 1,
            _ => 0,
        };
        if kind == MessageType::MsgAppend && (index == 0 || log_term == 0) {
            (message.index, message.log_term) = (0, 0);
        }
        let (index, log_term) = (message.index, message.log_term);
        if kind == MessageType::MsgReadIndex {
            message.term = 0;
        }
        let mut entry_term = log_term;
        let entries = (0..count).map(|at| {
            entry_term += steps.get(at).copied().unwrap_or(0);
            Entry { index: index + 1 + at as u64, term: entry_term.max(1), ..Entry::default() }
        });
        message.set_entries(entries.collect::<Vec<_>>().into());
        message
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_peer_message_panics(inputs in proptest::collection::vec(
        prop_oneof![
            2 => (1_u8..8).prop_map(Input::Ticks),
            8 => message().prop_map(|message| Input::Message(Box::new(message))),
            1 => Just(Input::Propose),
            1 => Just(Input::Read),
        ],
        1..40,
    )) {
        let mut node = node();
        let mut request = 0;
        for input in inputs {
            request += 1;
            let request = RequestId(request);
            let outcome = match input {
                Input::Ticks(count) => (0..count).try_for_each(|_| run(&mut node, Event::Tick)),
                Input::Propose => {
                    let term = node.leadership().term;
                    run(&mut node, Event::Propose { request, term, data: Bytes::from_static(b"x") })
                }
                Input::Read => run(&mut node, Event::Read { request }),
                Input::Message(message) => {
                    let from = MemberId(message.from);
                    let bytes = wire::encode(CLUSTER, from, MemberId(1), &Envelope::Raft(*message));
                    run(&mut node, Event::Message { from, bytes })
                }
            };
            if outcome.is_err() {
                return Ok(()); // a fault is reported, not a panic
            }
        }
    }
}
