//! Linearizable reads under way on one member, by Raft's ReadIndex.
//!
//! Reads that arrive together share one round. A round is repeated until a leader confirms it: raft-rs drops a read
//! silently when there is no leader, or a leader that has committed nothing in its term.
//!
//! # Invariants
//! * A token names member, start of the process and round, so a late answer to an earlier life is never taken for one of this.
//! * A read is answered only after the applied index reached the one a majority confirmed after the read was asked.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes};

use crate::{
    codec::Reader,
    event::{MemberId, RequestId},
};

/// Reads that wait for a majority, or for the applied index.
#[derive(Debug)]
pub(crate) struct Reads {
    member: MemberId,
    boot: u64,
    round_next: u64,
    arrived: Vec<RequestId>,
    rounds: BTreeMap<u64, Round>,
    confirmed: Vec<(u64, Vec<RequestId>)>,
}

#[derive(Debug)]
struct Round {
    requests: Vec<RequestId>,
    ticks: u64,
}

impl Reads {
    pub(crate) const fn new(member: MemberId, boot: u64) -> Self {
        Self {
            member,
            boot,
            round_next: 1,
            arrived: Vec::new(),
            rounds: BTreeMap::new(),
            confirmed: Vec::new(),
        }
    }

    pub(crate) fn arrive(&mut self, request: RequestId) {
        self.arrived.push(request);
    }

    /// Starts a round for the reads that arrived; returns its token.
    pub(crate) fn start_round(&mut self) -> Option<Vec<u8>> {
        if self.arrived.is_empty() {
            return None;
        }
        let round = self.round_next;
        self.round_next += 1;
        self.rounds.insert(round, Round { requests: std::mem::take(&mut self.arrived), ticks: 0 });
        Some(self.token(round))
    }

    /// A tick has passed: tokens to repeat, and requests that have waited too long.
    pub(crate) fn tick(&mut self, timeout_ticks: u64) -> (Vec<Vec<u8>>, Vec<RequestId>) {
        let mut expired = Vec::new();
        self.rounds.retain(|_, round| {
            round.ticks += 1;
            if round.ticks < timeout_ticks {
                return true;
            }
            expired.append(&mut round.requests);
            false
        });
        let repeat = self.rounds.iter().filter(|(_, round)| round.ticks % TICKS_REPEAT == 0);
        (repeat.map(|(number, _)| self.token(*number)).collect(), expired)
    }

    /// All tokens still waiting: a new leader has to hear them again.
    pub(crate) fn tokens(&self) -> Vec<Vec<u8>> {
        self.rounds.keys().map(|round| self.token(*round)).collect()
    }

    /// A majority confirmed the leader; the reads of this token may be answered at `index`.
    pub(crate) fn confirm(&mut self, token: &[u8], index: u64) {
        let Some(number) = self.round_of(token) else { return };
        if let Some(round) = self.rounds.remove(&number) {
            self.confirmed.push((index, round.requests));
        }
    }

    /// The reads that `applied` satisfies.
    pub(crate) fn ready(&mut self, applied: u64) -> Vec<(u64, RequestId)> {
        let mut ready = Vec::new();
        self.confirmed.retain_mut(|(index, requests)| {
            if *index > applied {
                return true;
            }
            ready.extend(requests.drain(..).map(|request| (*index, request)));
            false
        });
        ready
    }

    fn token(&self, round: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(24);
        out.put_u64_le(self.member.0);
        out.put_u64_le(self.boot);
        out.put_u64_le(round);
        out
    }

    fn round_of(&self, token: &[u8]) -> Option<u64> {
        let mut reader = Reader::new(Bytes::copy_from_slice(token));
        let member = reader.u64("member").ok()?;
        let boot = reader.u64("boot").ok()?;
        (member == self.member.0 && boot == self.boot).then(|| reader.u64("round").ok()).flatten()
    }
}

const TICKS_REPEAT: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_that_arrive_together_share_a_round_and_wait_for_the_index() {
        let mut reads = Reads::new(MemberId(1), 4);
        reads.arrive(RequestId(10));
        reads.arrive(RequestId(11));
        let token = reads.start_round().expect("two arrived");
        assert!(reads.start_round().is_none());
        reads.confirm(&token, 7);
        assert!(reads.ready(6).is_empty());
        assert_eq!(reads.ready(7), [(7, RequestId(10)), (7, RequestId(11))]);
        assert!(reads.ready(8).is_empty());
    }

    #[test]
    fn an_answer_to_an_earlier_life_confirms_nothing() {
        let mut before = Reads::new(MemberId(1), 4);
        before.arrive(RequestId(10));
        let token = before.start_round().expect("one arrived");
        let mut after = Reads::new(MemberId(1), 5);
        after.arrive(RequestId(20));
        after.start_round();
        after.confirm(&token, 3);
        assert!(after.ready(100).is_empty());
    }

    #[test]
    fn a_round_is_repeated_and_then_given_up() {
        let mut reads = Reads::new(MemberId(1), 1);
        reads.arrive(RequestId(5));
        let token = reads.start_round().expect("one arrived");
        let told = (0..6).map(|_| reads.tick(6)).collect::<Vec<_>>();
        assert_eq!(told[1].0, [token]);
        assert_eq!(told[5].1, [RequestId(5)]);
        assert!(reads.tokens().is_empty());
    }
}
