//! The latest committed transactions, for whoever resumes.
//!
//! # Invariants
//! - Revisions are contiguous.
//! - A token of another cluster or history is never answered with changes.

use std::{collections::VecDeque, sync::Arc};

use quantumnet_model::{Uuid, intent::Cluster};

use crate::store::{State, Touched};

/// Names a point in the history of a store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ResumeToken {
    /// Fixed for ever.
    pub cluster_id: Uuid,
    /// A restore from backup begins a new one.
    pub history_id: Uuid,
    /// The revision.
    pub revision: u64,
}

/// A committed transaction as it was applied here.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// The revision it led to.
    pub revision: u64,
    /// The leader's clock, in milliseconds since the epoch.
    pub time_ms: i64,
    /// Who asked.
    pub principal: Arc<str>,
    /// Rows before and after, by table and uuid.
    pub touched: Vec<Touched>,
    /// About how many octets of memory it keeps.
    pub bytes: usize,
}

/// The last transactions, at most so many.
#[derive(Clone, Debug)]
pub struct History {
    transactions: VecDeque<Arc<Transaction>>,
    transactions_max: usize,
    bytes: usize,
    bytes_max: usize,
}

impl ResumeToken {
    /// The token of a state; `None` before the first transaction made the cluster's identity.
    pub fn of(state: &State) -> Option<Self> {
        let (_, cluster) = state.iter::<Cluster>().next()?;
        Some(Self {
            cluster_id: cluster.cluster_id,
            history_id: cluster.history_id,
            revision: state.revision(),
        })
    }

    /// Whether it is of the same cluster and history, and not of the future.
    pub fn precedes(&self, now: &Self) -> bool {
        (self.cluster_id, self.history_id) == (now.cluster_id, now.history_id)
            && self.revision <= now.revision
    }
}

impl History {
    /// Remembers at most so many transactions.
    pub const fn new(transactions_max: usize) -> Self {
        Self::bounded(transactions_max, BYTES_MAX)
    }

    const fn bounded(transactions_max: usize, bytes_max: usize) -> Self {
        Self { transactions: VecDeque::new(), transactions_max, bytes: 0, bytes_max }
    }

    /// Adds the next one. After a gap (a snapshot was installed) what came before is forgotten.
    pub fn push(&mut self, transaction: Arc<Transaction>) {
        if self.transactions.back().is_some_and(|last| last.revision + 1 != transaction.revision) {
            self.clear();
        }
        self.bytes += transaction.bytes;
        self.transactions.push_back(transaction);
        while self.transactions.len() > self.transactions_max || self.bytes > self.bytes_max {
            let Some(gone) = self.transactions.pop_front() else { return };
            self.bytes -= gone.bytes;
        }
    }

    /// The revision of the oldest transaction remembered.
    pub fn oldest(&self) -> Option<u64> {
        self.transactions.front().map(|transaction| transaction.revision)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.transactions.clear();
        self.bytes = 0;
    }

    /// What came after the token, oldest first, when `head` is the newest state; `None` when that is not known:
    /// another cluster or history, the future, or too long ago.
    pub fn since(&self, token: &ResumeToken, head: &State) -> Option<Vec<Arc<Transaction>>> {
        if !token.precedes(&ResumeToken::of(head)?) {
            return None;
        }
        if token.revision == head.revision() {
            return Some(Vec::new());
        }
        let first = self.transactions.front()?.revision;
        let skip = usize::try_from((token.revision + 1).checked_sub(first)?).ok()?;
        Some(self.transactions.iter().skip(skip).cloned().collect())
    }
}

/// Octets of memory that the transactions remembered keep, about.
const BYTES_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_bounded_in_number_and_in_octets() {
        let mut history = History::bounded(4, 100);
        let mut push = |revision: u64, bytes: usize| {
            let (principal, touched) = ("test".into(), Vec::new());
            history.push(Arc::new(Transaction { revision, time_ms: 0, principal, touched, bytes }));
            (history.oldest(), history.transactions.len(), history.bytes)
        };
        for revision in 1..=5 {
            push(revision, 10);
        }
        assert_eq!(push(6, 10), (Some(3), 4, 40));
        assert_eq!(push(7, 85), (Some(6), 2, 95));
        assert_eq!(push(8, 101), (None, 0, 0), "what does not fit is not remembered");
        assert_eq!(push(9, 1), (Some(9), 1, 1));
        assert_eq!(push(11, 1), (Some(11), 1, 1), "nothing is remembered across a gap");
    }
}
