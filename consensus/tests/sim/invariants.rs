//! What must hold in every run, each property once: Raft, figure 3, and the promises to clients.

use std::collections::BTreeSet;

use bytes::Buf;
use quantumnet_consensus::{LogEntry, MemberId, Sequenced};

use super::{Cluster, Floor, State};

impl Cluster {
    /// No acknowledged write is lost, none is applied twice, none that was refused is applied.
    pub(super) fn check_clients(&mut self, state: &State) {
        let applied = state.writes.iter().copied().collect::<BTreeSet<_>>();
        if applied.len() != state.writes.len() {
            self.violated("no write applies twice", format!("{:?}", state.writes));
        }
        if let Some(lost) = self.oracle.acknowledged.iter().find(|write| !applied.contains(*write)).copied() {
            self.violated("leader completeness", format!("acknowledged write {lost} is not there"));
        }
        if let Some(ghost) = self.oracle.refused.intersection(&applied).next() {
            self.violated("refused means not applied", format!("write {ghost} was refused and is there"));
        }
    }

    /// Election safety: at most one leader per term.
    pub(super) fn elected(&mut self, term: u64, leader: MemberId) {
        let first = *self.leaders.entry(term).or_insert(leader);
        self.terms_with_leader = self.leaders.len() as u64;
        if first != leader {
            self.violated("election safety", format!("{first} and {leader} both led term {term}"));
        }
    }

    /// Linearizability of a register that only grows: a read sees all that was acknowledged or read before it began.
    pub(super) fn check_read(&mut self, floor: Floor, writes: &[u64]) {
        let seen = writes.iter().collect::<BTreeSet<_>>();
        let missing =
            self.oracle.acknowledged[..floor.acknowledged].iter().find(|write| !seen.contains(write));
        if let Some(missing) = missing.copied() {
            self.violated(
                "linearizable reads",
                format!("a read misses write {missing}, acknowledged before"),
            );
        }
        if writes.len() < floor.writes_seen {
            let text = format!("a read sees {} writes, one before saw {}", writes.len(), floor.writes_seen);
            self.violated("linearizable reads", text);
        }
        self.oracle.writes_seen = self.oracle.writes_seen.max(writes.len());
    }

    /// Log matching: where two logs agree on index and term, all entries before are the same too.
    pub(super) fn check_logs(&mut self) {
        if !self.now.is_multiple_of(10) {
            return;
        }
        let logs =
            self.members.iter().filter_map(|member| member.alive.as_ref()).map(|alive| alive.node.entries());
        let logs = logs.collect::<Vec<_>>();
        for (at, one) in logs.iter().enumerate() {
            for other in &logs[at + 1..] {
                if let Some(index) = mismatch(one, other) {
                    self.violated("log matching", format!("logs agree after index {index} but not there"));
                    return;
                }
            }
        }
    }
}

/// Whether the entry is the proposal of this write.
pub(super) fn holds(entry: &LogEntry, write: u64) -> bool {
    Sequenced::decode(entry.data.clone())
        .is_ok_and(|sequenced| sequenced.payload.clone().get_u64_le() == write)
}

/// The highest index at which two logs differ below one at which they agree.
fn mismatch(one: &[LogEntry], other: &[LogEntry]) -> Option<u64> {
    let start = one.first()?.index.max(other.first()?.index);
    let skip =
        |log: &[LogEntry]| log.iter().skip_while(|entry| entry.index < start).cloned().collect::<Vec<_>>();
    let (one, other) = (skip(one), skip(other));
    let pairs = one.iter().zip(&other).collect::<Vec<_>>();
    let agree = pairs.iter().rposition(|(a, b)| a.term == b.term)?;
    pairs[..=agree].iter().rfind(|(a, b)| a != b).map(|(a, _)| a.index)
}
