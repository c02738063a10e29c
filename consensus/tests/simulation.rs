//! A seeded cluster of 3 and 5 members under loss, delay, reordering, duplication, partitions, crashes, torn writes and
//! full disks. One named test per property; a failure prints the command that repeats it.

#[path = "sim/cluster.rs"]
mod cluster;
#[path = "sim/disk.rs"]
#[allow(dead_code, reason = "shared with the tests of the disk log")]
mod disk;

use std::{panic::AssertUnwindSafe, sync::OnceLock, time::Duration};

use cluster::{Cluster, Plan, TICK};
use quantumnet_consensus::{Answer, Effect, Event, MemberId, Refusal, RequestId, Sequenced};

/// What all seeds together came to.
#[derive(Default)]
struct Outcome {
    violations: Vec<(&'static str, String)>,
    acknowledged: usize,
    reads: u64,
    terms: u64,
    snapshots: u64,
    restarts: u64,
    stale: u64,
    not_leader: u64,
}

/// Runs every seed once, for all tests together.
fn runs(members: u64) -> &'static Outcome {
    static OF_3: OnceLock<Outcome> = OnceLock::new();
    static OF_5: OnceLock<Outcome> = OnceLock::new();
    let cell = if members == 3 { &OF_3 } else { &OF_5 };
    cell.get_or_init(|| {
        let one = std::env::var("SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
        let seeds = one.map_or_else(|| (0..SEEDS[usize::from(members == 5)]).collect(), |seed| vec![seed]);
        let mut outcome = Outcome::default();
        for seed in seeds {
            let mut cluster = Cluster::new(Plan::hostile(members), seed);
            let again = format!("SEED={seed} cargo test -p quantumnet-consensus --test simulation");
            if std::panic::catch_unwind(AssertUnwindSafe(|| cluster.run())).is_err() {
                let what = format!("see above ({members} members)\n  {again}");
                outcome.violations.push(("a member panicked", what));
                continue;
            }
            outcome.acknowledged += cluster.oracle.acknowledged.len();
            outcome.reads += cluster.oracle.reads;
            outcome.stale += cluster.oracle.stale;
            outcome.not_leader += cluster.oracle.not_leader;
            outcome.terms += cluster.terms_with_leader;
            outcome.snapshots += cluster.snapshots_installed;
            outcome.restarts += cluster.restarts;
            let found = cluster.violations.into_iter();
            outcome.violations.extend(
                found.map(|(property, what)| (property, format!("{what} ({members} members)\n  {again}"))),
            );
        }
        outcome
    })
}

/// Fails if any run violated one of `properties`.
fn holds(properties: &[&str]) {
    for members in [3, 5] {
        let found = runs(members).violations.iter().find(|(property, _)| properties.contains(property));
        if let Some((property, what)) = found {
            panic!("{property}: {what}");
        }
    }
}

/// Raft, figure 3: at most one leader is elected in a term.
#[test]
fn election_safety() {
    holds(&["election safety"]);
}

/// Raft, figure 3: two logs that agree on an index and term agree on everything before.
#[test]
fn log_matching() {
    holds(&["log matching"]);
}

/// Raft, figure 3: no acknowledged write is lost.
#[test]
fn leader_completeness() {
    holds(&["leader completeness", "no member loses what it acknowledged"]);
}

/// Raft, figure 3: no two members apply different entries at one index.
#[test]
fn state_machine_safety() {
    holds(&["state machine safety", "applied in order"]);
}

#[test]
fn no_write_applies_twice() {
    holds(&["no write applies twice"]);
}

#[test]
fn a_refused_write_is_never_applied() {
    holds(&["refused means not applied"]);
}

/// What a client is told about its write is what became of it.
#[test]
fn answers_are_true() {
    holds(&["answers are true"]);
}

#[test]
fn no_member_panics() {
    holds(&["a member panicked"]);
}

#[test]
fn reads_are_linearizable() {
    holds(&["linearizable reads"]);
}

#[test]
fn every_crash_is_recovered_from() {
    holds(&["recovery", "disk"]);
}

#[test]
fn without_faults_the_cluster_heals() {
    holds(&["liveness", "convergence"]);
}

/// The runs did meet what they are meant to meet; otherwise the properties above hold for want of trying.
#[test]
fn the_runs_were_hostile_enough() {
    if std::env::var("SEED").is_ok() {
        return;
    }
    for members in [3, 5] {
        let outcome = runs(members);
        let seeds = SEEDS[usize::from(members == 5)];
        let summary = format!(
            "{members} members, {seeds} seeds: {} acknowledged, {} reads, {} terms, {} snapshots installed, {} starts, {} stale, {} refused by followers",
            outcome.acknowledged,
            outcome.reads,
            outcome.terms,
            outcome.snapshots,
            outcome.restarts,
            outcome.stale,
            outcome.not_leader
        );
        println!("{summary}");
        assert!(outcome.acknowledged as u64 > 100 * seeds, "{summary}");
        assert!(outcome.reads > 50 * seeds, "{summary}");
        assert!(outcome.terms > 3 * seeds, "{summary}");
        assert!(outcome.snapshots > seeds / 2, "{summary}");
        assert!(outcome.restarts > 10 * seeds, "{summary}");
    }
}

/// A run is a function of its seed.
#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut cluster = Cluster::new(Plan::hostile(3), 7);
        cluster.run();
        (cluster.oracle.acknowledged, cluster.oracle.answers, cluster.terms_with_leader, cluster.restarts)
    };
    assert_eq!(run(), run());
}

/// The tests can fail: with disks that lie about syncs, an acknowledged write is lost and the checker says so.
#[test]
fn a_disk_that_lies_about_syncs_is_caught() {
    let caught = (0..20).filter(|seed| {
        let plan = Plan { sync_lies: true, ..Plan::calm(3) };
        let mut cluster = Cluster::new(plan, *seed);
        let leader = cluster.elect();
        for _ in 0..10 {
            cluster.write(leader);
            settle(&mut cluster, 20);
        }
        assert_eq!(cluster.oracle.acknowledged.len(), 10);
        cluster.forget_history();
        (0..3).for_each(|at| cluster.crash(at));
        cluster.heal();
        cluster
            .violations
            .iter()
            .any(|(property, _)| *property == "leader completeness" || *property == "recovery")
    });
    // A lie costs nothing where the writes happened to reach the disk before the power went.
    let caught = caught.count();
    assert!(caught >= 10, "caught in {caught} of 20 runs");
}

/// The same for whole hostile runs, whatever property notices first.
#[test]
fn hostile_runs_on_disks_that_lie_are_caught() {
    let caught = (0..20).filter(|seed| {
        let plan = Plan { sync_lies: true, crash: 0.01, full_disk: 0.0, ..Plan::hostile(3) };
        let mut cluster = Cluster::new(plan, *seed);
        cluster.run();
        !cluster.violations.is_empty()
    });
    let caught = caught.count();
    assert!(caught >= 15, "caught in {caught} of 20 runs");
}

// The store's four rules.

/// Rule 1: an entry evaluated on any other revision is a no-op on every replica, and its client is told.
#[test]
fn rule_1_an_entry_on_another_revision_is_a_no_op_everywhere() {
    let mut cluster = Cluster::new(Plan::calm(3), 1);
    let leader = cluster.elect();
    let term = term(&cluster, leader);
    // Both were evaluated on revision 0: a program that lost track of its head.
    cluster.propose_tracked(leader, term, 0, 1_000);
    cluster.propose_tracked(leader, term, 0, 2_000);
    settle(&mut cluster, 200);
    for at in 0..3 {
        assert_eq!(alive(&cluster, at).state.writes, [1_000], "member {at}");
    }
    assert_eq!(cluster.oracle.acknowledged, [1_000]);
    assert!(cluster.oracle.refused.contains(&2_000));
}

/// Rule 2: between winning an election and applying its own term's entry, a leader takes no proposal.
#[test]
fn rule_2_a_new_leader_proposes_nothing_before_its_own_entry_is_applied() {
    let mut refused = 0;
    for seed in 0..10 {
        let mut cluster = Cluster::new(Plan::calm(3), seed);
        for _ in 0..400 {
            cluster.step();
            for at in 0..3 {
                let leadership = alive(&cluster, at).node.leadership();
                let leads = leadership.leader == Some(cluster.members[at].id);
                if leads && !leadership.may_propose {
                    refused += 1;
                    let answer = propose_now(&mut cluster, at, leadership.term);
                    assert_eq!(answer, Answer::Refused(Refusal::NotReady { term: leadership.term }));
                }
            }
        }
    }
    assert!(refused > 0, "no leader was ever seen that was not ready");
}

/// Rule 3: only the leader proposes, only what it evaluated in this term; others name the leader.
#[test]
fn rule_3_effects_are_proposed_only_by_the_leader_itself() {
    let mut cluster = Cluster::new(Plan::calm(3), 2);
    let leader = cluster.elect();
    settle(&mut cluster, 50);
    let (term, leader_id) = (term(&cluster, leader), cluster.members[leader].id);
    let last = alive(&cluster, leader).node.metrics().last_index;
    let answer = propose_now(&mut cluster, (leader + 1) % 3, term);
    assert_eq!(answer, Answer::Refused(Refusal::NotLeader { leader: Some(leader_id) }));
    let answer = propose_now(&mut cluster, leader, term - 1);
    assert_eq!(answer, Answer::Refused(Refusal::StaleTerm { expected: term, got: term - 1 }));
    settle(&mut cluster, 100);
    assert_eq!(alive(&cluster, leader).node.metrics().last_index, last, "nothing was forwarded");
}

/// Rule 4: a read never sees what is only proposed, not even on the leader, and a deposed leader answers none.
#[test]
fn rule_4_reads_see_applied_revisions_only() {
    let mut cluster = Cluster::new(Plan::calm(3), 3);
    let leader = cluster.elect();
    settle(&mut cluster, 50);
    cluster.read(leader);
    settle(&mut cluster, 50);
    assert_eq!(cluster.oracle.reads, 1);
    isolate(&mut cluster, leader);
    let write = cluster.write(leader);
    cluster.read(leader);
    settle(&mut cluster, 20);
    assert!(write.is_some() && alive(&cluster, leader).state.writes.is_empty());
    assert_eq!(cluster.oracle.reads, 1, "a leader without a majority answers no read");
    settle(&mut cluster, 500);
    assert_eq!(cluster.oracle.reads, 1, "nor after it was deposed");
    assert!(cluster.violations.is_empty(), "{:?}", cluster.violations);
}

// Field bugs of ovsdb's Raft.

/// A write whose leader is lost before it could answer is applied once, and never reported as refused.
#[test]
fn a_write_is_not_committed_twice_after_lost_leadership() {
    let mut seen = 0;
    for seed in 0..20 {
        let mut cluster = Cluster::new(Plan::calm(3), seed);
        let leader = cluster.elect();
        settle(&mut cluster, 50);
        let write = cluster.write(leader).expect("the leader is up");
        settle(&mut cluster, seed % 8); // some appends have arrived, no answer has
        isolate(&mut cluster, leader);
        settle(&mut cluster, 400);
        cluster.heal();
        assert!(cluster.violations.is_empty(), "seed {seed}: {:?}", cluster.violations);
        let times = alive(&cluster, 0).state.writes.iter().filter(|applied| **applied == write).count();
        assert!(times <= 1, "seed {seed}: applied {times} times");
        let acknowledged = cluster.oracle.acknowledged.contains(&write);
        assert_eq!(acknowledged, times == 1, "seed {seed}: the old leader learns the truth");
        assert_eq!(cluster.oracle.refused.contains(&write), times == 0, "seed {seed}");
        seen |= 1 << times;
    }
    assert_eq!(seen, 3, "both outcomes were met");
}

/// A member that could reach nobody for long is a follower soon after it returns, and disturbs no leader.
#[test]
fn a_candidate_is_not_stuck_for_ever() {
    let mut cluster = Cluster::new(Plan::calm(3), 4);
    let leader = cluster.elect();
    settle(&mut cluster, 50);
    let (alone, before) = ((leader + 1) % 3, term(&cluster, leader));
    isolate(&mut cluster, alone);
    settle(&mut cluster, 2_000);
    cluster.sides.fill(0);
    settle(&mut cluster, 200);
    assert_eq!(alive(&cluster, alone).node.leadership().leader, Some(cluster.members[leader].id));
    assert_eq!(term(&cluster, leader), before, "pre-vote: its term did not grow");
    // Alone with one other, where neither can have a majority until the second arrives.
    let (second, third) = ((leader + 1) % 3, (leader + 2) % 3);
    (0..3).for_each(|at| cluster.crash(at));
    cluster.start(second);
    settle(&mut cluster, 1_000);
    assert_eq!(cluster.leader(), None);
    cluster.start(third);
    cluster.elect();
}

/// A member that is behind gets no pre-vote, so it neither wins nor delays the election of one that is not.
#[test]
fn no_pre_vote_is_granted_to_a_member_that_is_behind() {
    for seed in 0..10 {
        let mut cluster = Cluster::new(Plan::calm(3), seed);
        let leader = cluster.elect();
        settle(&mut cluster, 50);
        let (behind, complete) = ((leader + 1) % 3, (leader + 2) % 3);
        isolate(&mut cluster, behind);
        for _ in 0..5 {
            cluster.write(leader);
            settle(&mut cluster, 20);
        }
        assert_eq!(cluster.oracle.acknowledged.len(), 5);
        cluster.crash(leader);
        cluster.sides.fill(0);
        assert_eq!(cluster.elect(), complete, "seed {seed}");
        assert!(cluster.now < 3_000, "seed {seed}");
    }
}

/// While a snapshot is taken and sent in chunks, the leader goes on committing and stays the leader.
#[test]
fn a_leader_is_not_stalled_by_compaction_or_a_returning_member() {
    let plan = Plan { snapshot_after_bytes: 3_000, ..Plan::calm(3) };
    let mut cluster = Cluster::new(plan, 5);
    let leader = cluster.elect();
    let before = term(&cluster, leader);
    let behind = (leader + 1) % 3;
    cluster.crash(behind);
    for _ in 0..300 {
        cluster.write(leader);
        settle(&mut cluster, 4);
    }
    settle(&mut cluster, 50);
    assert_eq!(cluster.oracle.acknowledged.len(), 300);
    assert!(alive(&cluster, leader).node.metrics().snapshots_taken > 2);
    cluster.start(behind);
    while cluster.snapshots_installed == 0 {
        let acknowledged = cluster.oracle.acknowledged.len();
        cluster.write(leader);
        settle(&mut cluster, 20);
        assert!(cluster.oracle.acknowledged.len() > acknowledged, "commits go on during the transfer");
        assert!(cluster.now < 5_000, "the member never caught up");
    }
    settle(&mut cluster, 200);
    assert_eq!(alive(&cluster, behind).state, alive(&cluster, leader).state);
    assert_eq!(term(&cluster, leader), before, "the leader stayed");
}

/// A state far larger than a chunk arrives although chunks and receipts are lost on the way.
#[test]
fn a_member_catches_up_with_a_large_state_over_a_bad_link() {
    let plan = Plan { snapshot_after_bytes: 3_000, ..Plan::calm(3) };
    let mut cluster = Cluster::new(plan, 6);
    let leader = cluster.elect();
    let behind = (leader + 1) % 3;
    cluster.crash(behind);
    for _ in 0..600 {
        cluster.write(leader);
        settle(&mut cluster, 4);
    }
    cluster.plan.loss = 0.15;
    cluster.plan.delay_max = 10;
    cluster.start(behind);
    let mut steps = 0;
    while cluster.snapshots_installed == 0 {
        settle(&mut cluster, 10);
        steps += 10;
        assert!(steps < 10_000, "never arrived");
    }
    assert!(alive(&cluster, behind).state.writes.len() > 300);
}

/// Leadership goes where it is sent, after the receiver has everything.
#[test]
fn leadership_is_handed_over_without_losing_a_write() {
    let mut cluster = Cluster::new(Plan::calm(3), 8);
    let leader = cluster.elect();
    settle(&mut cluster, 50);
    let heir = (leader + 1) % 3;
    cluster.write(leader);
    let to = MemberId(heir as u64 + 1);
    cluster.deliver(leader, Event::TransferLeader { to });
    settle(&mut cluster, 100);
    assert_eq!(cluster.leader(), Some(heir));
    cluster.heal();
    assert!(cluster.violations.is_empty(), "{:?}", cluster.violations);
}

fn settle(cluster: &mut Cluster, steps: u64) {
    for _ in 0..steps {
        cluster.step();
    }
}

fn isolate(cluster: &mut Cluster, at: usize) {
    cluster.sides.fill(0);
    cluster.sides[at] = 1;
}

fn alive(cluster: &Cluster, at: usize) -> &cluster::Alive {
    cluster.members[at].alive.as_ref().expect("this member is up")
}

fn term(cluster: &Cluster, at: usize) -> u64 {
    alive(cluster, at).node.leadership().term
}

/// Proposes something and expects its answer at once.
fn propose_now(cluster: &mut Cluster, at: usize, term: u64) -> Answer {
    let data = Sequenced { base_revision: 0, payload: b"12345678".as_slice().into() }.encode();
    let now = Duration::from_millis(cluster.now * 2 * TICK);
    let node = &mut cluster.members[at].alive.as_mut().expect("this member is up").node;
    let effects =
        node.step(now, Event::Propose { request: RequestId(u64::MAX), term, data }).expect("a sound node");
    let answer = effects.into_iter().find_map(|effect| match effect {
        Effect::Answer { answer, .. } => Some(answer),
        _ => None,
    });
    answer.expect("refused at once")
}

/// Seeds for clusters of 3 and of 5.
const SEEDS: [u64; 2] = [60, 40];
