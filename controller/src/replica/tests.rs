//! A member driven by hand: outputs that a cluster gives, injected.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use quantumnet_consensus::{
    Answer, Committed, Event, Leadership, MemberId, Output, Refusal as ConsensusRefusal, RequestId,
    log::vfs::StdVfs,
};
use quantumnet_model::{Uuid, intent::Project};
use tokio::sync::oneshot;

use crate::{
    metrics::Metrics,
    replica::{
        Observer, Options, ProposeError, Replica,
        handle::Input,
        job::Job,
        member::Member,
        open::{open, start},
    },
    store::{Context, Effects, Entry, State, Transaction, evaluate},
};

type Reply = oneshot::Receiver<Result<super::Committed<()>, ProposeError>>;

struct Bench {
    replica: Replica,
    member: Member<StdVfs>,
    _dir: tempfile::TempDir,
}

fn options(dir: &tempfile::TempDir, observers: Vec<Box<dyn Observer>>) -> Options {
    Options {
        data_dir: dir.path().to_owned(),
        member: 1,
        peers: None,
        history_transactions_max: 100,
        snapshot_after_bytes: 1 << 20,
        lower: Arc::new(|_| Ok(())),
        observers,
        metrics: Arc::new(Metrics::default()),
    }
}

impl Bench {
    /// A member that leads and has its identity.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (replica, mut member) = open(StdVfs, options(&dir, Vec::new())).unwrap();
        let mut events = vec![Event::Tick; 40];
        while !events.is_empty() {
            assert!(member.handle(std::mem::take(&mut events)).is_ok());
            member.evaluate(&mut events);
        }
        assert!(replica.status().writable && replica.state().revision() > 0);
        Self { replica, member, _dir: dir }
    }

    /// Evaluates the creation of a project; the entry is not handed on.
    fn propose(&mut self, name: &'static str) -> (Reply, Vec<Event>) {
        let (reply, answer) = oneshot::channel();
        let job = Job::new(
            "test".into(),
            move |txn| txn.insert(Uuid::new_v4(), Project { name: name.into(), ..Project::default() }),
            reply,
            None,
        );
        self.member.take(Input::Propose(job), &mut Vec::new());
        let mut events = Vec::new();
        self.member.evaluate(&mut events);
        (answer, events)
    }

    fn output(&mut self, output: Output) {
        assert!(self.member.output(output).is_ok());
    }

    /// What another leader wrote on this base.
    fn foreign(&self, base: &State, name: &str) -> Vec<Committed> {
        let context = Context { now_ms: 1, principal: "other".into() };
        let request = |txn: &mut crate::store::Txn<'_>| {
            txn.insert(Uuid::new_v4(), Project { name: name.into(), ..Project::default() })
        };
        let done = evaluate(base, &context, request, &|_| Ok(())).unwrap();
        let effects = Effects { time_ms: 1, principal: "other".into(), changes: done.changes };
        let entry = Entry { base_revision: base.revision(), transactions: vec![effects] };
        let (index, term) = (self.member.applied_at.index + 1, self.member.applied_at.term);
        vec![Committed { index, term, data: entry.encode() }]
    }

    fn has(&self, name: &str) -> bool {
        self.replica.state().find::<Project>(&[("name", name.into())]).is_some()
    }
}

fn request_of(events: &[Event]) -> RequestId {
    let [Event::Propose { request, .. }] = events else { panic!("{events:?}") };
    *request
}

#[test]
fn an_entry_of_another_base_changes_nothing() {
    let mut bench = Bench::new();
    let old = bench.replica.state();
    let entries = bench.foreign(&old, "first");
    bench.output(Output::Apply { entries });
    let after = bench.replica.state().revision();
    assert_eq!((after, bench.has("first")), (old.revision() + 1, true));
    // Evaluated on what was before, and on what is not there yet.
    let entries = bench.foreign(&old, "stale");
    bench.output(Output::Apply { entries });
    let mut ahead = old.as_ref().clone();
    ahead.set_revision(after + 5);
    let entries = bench.foreign(&ahead, "ahead");
    bench.output(Output::Apply { entries });
    assert_eq!(bench.replica.state().revision(), after);
    assert!(!bench.has("stale") && !bench.has("ahead"));
}

#[test]
fn a_client_whose_entry_is_stale_is_told_to_retry() {
    let mut bench = Bench::new();
    let (mut answer, events) = bench.propose("mine");
    let request = request_of(&events);
    let Event::Propose { data, term, .. } = &events[0] else { unreachable!("it was one") };
    // Another leader's entry came between.
    let entries = bench.foreign(&bench.replica.state(), "other");
    bench.output(Output::Apply { entries });
    let index = bench.member.applied_at.index + 1;
    let entries = vec![Committed { index, term: *term, data: data.clone() }];
    bench.output(Output::Apply { entries });
    bench.output(Output::Answer { request, answer: Answer::Committed { index, term: *term } });
    assert_eq!(answer.try_recv().unwrap(), Err(ProposeError::Retry));
    assert!(bench.has("other") && !bench.has("mine"));
    // The next is evaluated on what is applied.
    let (_, events) = bench.propose("next");
    let Event::Propose { data, .. } = &events[0] else { panic!("{events:?}") };
    assert_eq!(Entry::decode(data).unwrap().base_revision, bench.replica.state().revision());
}

#[test]
fn what_rests_on_a_lost_entry_is_lost_too() {
    let mut bench = Bench::new();
    let (mut first, events) = bench.propose("first");
    let (mut second, later) = bench.propose("second");
    let Event::Propose { data, .. } = &later[0] else { panic!("{later:?}") };
    assert_eq!(Entry::decode(data).unwrap().base_revision, bench.replica.state().revision() + 1);
    // Another leads: writes are refused with its name, and what is in flight is not answered before it is known.
    let term = bench.replica.status().term + 1;
    bench.output(Output::LeaderChanged(Leadership { leader: Some(MemberId(2)), term, may_propose: false }));
    assert_eq!((bench.replica.status().leader, bench.replica.status().writable), (Some(2), false));
    assert!(first.try_recv().is_err() && second.try_recv().is_err());
    let entries = bench.foreign(&bench.replica.state(), "other");
    let index = entries[0].index;
    bench.output(Output::Apply { entries });
    for request in [request_of(&events), request_of(&later)] {
        let answer = Answer::Refused(ConsensusRefusal::Superseded { index });
        bench.output(Output::Answer { request, answer });
    }
    assert_eq!(first.try_recv().unwrap(), Err(ProposeError::Retry));
    assert_eq!(second.try_recv().unwrap(), Err(ProposeError::Retry));
    assert!(bench.has("other") && !bench.has("first") && !bench.has("second"));
}

#[test]
fn entries_of_a_lost_leadership_are_answered_in_bounded_time() {
    let mut bench = Bench::new();
    let (mut answer, events) = bench.propose("mine");
    let flight = bench.member.flights.get_mut(&request_of(&events).0).unwrap();
    flight.term -= 1;
    let begun = flight.proposed_at;
    bench.member.give_up(begun + Duration::from_secs(4));
    assert!(answer.try_recv().is_err());
    bench.member.give_up(begun + Duration::from_secs(5));
    assert!(matches!(answer.try_recv().unwrap(), Err(ProposeError::Unknown { .. })));
}

/// Fails at the second transaction.
struct Faulty(u64);

impl Observer for Faulty {
    fn applied(&mut self, state: &Arc<State>, _: &Arc<Transaction>) {
        assert!(state.revision() <= self.0, "on purpose: clients must hear that the end is not known");
    }

    fn replaced(&mut self, _: &Arc<State>) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_the_thread_does_not_say_that_nothing_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let replica = start(options(&dir, vec![Box::new(Faulty(1))])).unwrap();
    replica.applied().wait_for(|state| state.revision() == 1).await.unwrap();
    replica.status_changes().wait_for(|status| status.writable).await.unwrap();
    let make = |txn: &mut crate::store::Txn<'_>| {
        txn.insert(Uuid::new_v4(), Project { name: "written".into(), ..Project::default() })
    };
    let error = replica.propose("test", make).await.unwrap_err();
    assert!(matches!(error, ProposeError::Unknown { .. }), "{error}");
    assert!(replica.status().stopped.is_some());
    assert!(matches!(replica.propose("test", |_| Ok(())).await, Err(ProposeError::Stopped { .. })));
}

fn make(name: &str) -> impl FnOnce(&mut crate::store::Txn<'_>) -> Result<(), crate::store::Refusal> + use<> {
    let project = Project { name: name.into(), ..Project::default() };
    move |txn| txn.insert(Uuid::new_v4(), project)
}

/// Notes on which thread the latest transaction was applied.
struct Noting(Arc<Mutex<Option<ThreadId>>>);

impl Observer for Noting {
    fn applied(&mut self, _: &Arc<State>, _: &Arc<Transaction>) {
        *self.0.lock().unwrap() = Some(thread::current().id());
    }

    fn replaced(&mut self, _: &Arc<State>) {}
}

#[tokio::test]
async fn a_lone_request_is_run_by_whoever_makes_it() {
    let dir = tempfile::tempdir().unwrap();
    let applied_by = Arc::new(Mutex::new(None));
    let replica = start(options(&dir, vec![Box::new(Noting(applied_by.clone()))])).unwrap();
    replica.status_changes().wait_for(|status| status.writable).await.unwrap();
    // The member's own thread takes what it finds at a tick, and what comes before it has ended the round of the one before.
    let (deadline, mut helped, mut number) = (Instant::now() + Duration::from_secs(10), false, 0);
    while !helped && Instant::now() < deadline {
        number += 1;
        let answer = replica.put("test", make(&format!("lone{number}")));
        replica.begin(true);
        answer.await.unwrap();
        helped = *applied_by.lock().unwrap() == Some(thread::current().id());
        // That thread may be on its way to rest.
        thread::yield_now();
    }
    assert!(helped, "no request of {number} was run here");
    // Several are the member's.
    let answers = ["i", "j"].map(|name| replica.put("test", make(name)));
    replica.begin(false);
    for answer in answers {
        answer.await.unwrap();
    }
    assert_ne!(*applied_by.lock().unwrap(), Some(thread::current().id()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_during_a_round_is_in_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (entered, begun) = mpsc::channel();
    let (open, gate) = mpsc::channel::<()>();
    let (gate, closed) = (Mutex::new(gate), Arc::new(AtomicBool::new(false)));
    let close = closed.clone();
    let lower = move |_: &mut crate::store::Txn<'_>| {
        if closed.swap(false, Ordering::SeqCst) {
            entered.send(()).unwrap();
            gate.lock().unwrap().recv().unwrap();
        }
        Ok(())
    };
    let options = Options { lower: Arc::new(lower), ..options(&dir, Vec::new()) };
    let replica = start(options).unwrap();
    replica.status_changes().wait_for(|status| status.writable).await.unwrap();
    replica.applied().wait_for(|state| state.revision() > 0).await.unwrap();
    close.store(true, Ordering::SeqCst);
    let first = tokio::spawn({
        let replica = replica.clone();
        async move {
            let answer = replica.put("test", make("first"));
            replica.begin(true);
            answer.await
        }
    });
    begun.recv_timeout(Duration::from_secs(10)).unwrap();
    // A round is under way: this one does not wait for it.
    let second = replica.put("test", make("second"));
    replica.begin(true);
    open.send(()).unwrap();
    let answers = async { (first.await.unwrap(), second.await) };
    let (first, second) = tokio::time::timeout(Duration::from_secs(10), answers).await.unwrap();
    assert!(first.unwrap().revision < second.unwrap().revision);
}
