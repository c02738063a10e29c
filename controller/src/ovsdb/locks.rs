//! Locks of one server: names that one session at a time owns (RFC 7047, sections 4.1.8 to 4.1.11).
//!
//! # Contract
//! - Who waits gets the lock in the order of asking; who steals gets it at once.
//! - What happens to a session through others is told to it by [`Notice`]s.
//!
//! # Invariants
//! - The first in a lock's queue owns it; nobody is in one queue twice.
//! - A session that was stolen from gets the lock back when the thief lets go, unless it had stolen it itself
//!   (as in ovsdb-server).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;

/// The locks of a server; clones are the same ones.
#[derive(Clone, Debug, Default)]
pub struct Locks {
    inner: Arc<Mutex<Inner>>,
}

/// What a session is told of a lock.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Notice {
    /// It owns the lock now.
    Locked(String),
    /// It no longer owns the lock.
    Stolen(String),
}

/// One session's part of the locks. It lets go of everything when dropped.
#[derive(Debug)]
pub struct Holder {
    locks: Locks,
    session: u64,
}

#[derive(Debug, Default)]
struct Inner {
    next_session: u64,
    sessions: HashMap<u64, mpsc::UnboundedSender<Notice>>,
    queues: BTreeMap<String, VecDeque<Waiter>>,
}

#[derive(Debug)]
struct Waiter {
    session: u64,
    stole: bool,
}

impl Locks {
    /// A new session, and where its notices arrive. What can wait there is bounded by the session's own requests:
    /// each makes it owner or victim at most once.
    pub fn join(&self) -> (Holder, mpsc::UnboundedReceiver<Notice>) {
        let (sender, notices) = mpsc::unbounded_channel();
        let mut inner = self.inner();
        inner.next_session += 1;
        let session = inner.next_session;
        inner.sessions.insert(session, sender);
        drop(inner);
        (Holder { locks: self.clone(), session }, notices)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holder {
    /// Asks for a lock; says whether it is owned now. The session must not be waiting for it already.
    pub fn lock(&self, name: &str) -> bool {
        let mut inner = self.locks.inner();
        let queue = inner.queues.entry(name.to_owned()).or_default();
        queue.push_back(Waiter { session: self.session, stole: false });
        queue.len() == 1
    }

    /// Takes a lock.
    pub fn steal(&self, name: &str) {
        let mut inner = self.locks.inner();
        let queue = inner.queues.entry(name.to_owned()).or_default();
        let victim = queue.front().map(|owner| (owner.session, owner.stole));
        if victim.is_some_and(|(_, stole)| stole) {
            queue.pop_front();
        }
        queue.push_front(Waiter { session: self.session, stole: true });
        if let Some((victim, _)) = victim {
            inner.tell(victim, Notice::Stolen(name.to_owned()));
        }
    }

    /// Lets go of a lock, or stops waiting for it.
    pub fn unlock(&self, name: &str) {
        self.locks.inner().leave(self.session, name);
    }

    /// The locks owned.
    pub fn owned(&self) -> BTreeSet<String> {
        let inner = self.locks.inner();
        let owned =
            |queue: &VecDeque<Waiter>| queue.front().is_some_and(|first| first.session == self.session);
        inner.queues.iter().filter(|(_, queue)| owned(queue)).map(|(name, _)| name.clone()).collect()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let mut inner = self.locks.inner();
        inner.sessions.remove(&self.session);
        let waits = |queue: &VecDeque<Waiter>| queue.iter().any(|waiter| waiter.session == self.session);
        let names: Vec<String> =
            inner.queues.iter().filter(|(_, queue)| waits(queue)).map(|(name, _)| name.clone()).collect();
        for name in names {
            inner.leave(self.session, &name);
        }
    }
}

impl Inner {
    fn leave(&mut self, session: u64, name: &str) {
        let Some(queue) = self.queues.get_mut(name) else { return };
        let owned = queue.front().is_some_and(|first| first.session == session);
        queue.retain(|waiter| waiter.session != session);
        let next = queue.front().map(|first| first.session);
        if queue.is_empty() {
            self.queues.remove(name);
        }
        if let Some(next) = next.filter(|_| owned) {
            self.tell(next, Notice::Locked(name.to_owned()));
        }
    }

    fn tell(&self, session: u64, notice: Notice) {
        if let Some(notices) = self.sessions.get(&session) {
            // A session that ends needs no notice.
            _ = notices.send(notice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiters_get_a_lock_in_turn() {
        let locks = Locks::default();
        let ((a, mut told_a), (b, mut told_b), (c, mut told_c)) = (locks.join(), locks.join(), locks.join());
        assert!(a.lock("l"));
        assert!(!b.lock("l"));
        assert!(!c.lock("l"));
        b.unlock("l");
        assert!(a.owned().contains("l"));
        drop(a);
        assert_eq!(told_c.try_recv(), Ok(Notice::Locked("l".into())));
        assert!(c.owned().contains("l") && told_b.try_recv().is_err() && told_a.try_recv().is_err());
    }

    #[test]
    fn a_stolen_lock_comes_back_to_who_waited_for_it() {
        let locks = Locks::default();
        let ((a, mut told_a), (b, mut told_b), (c, _told_c)) = (locks.join(), locks.join(), locks.join());
        assert!(a.lock("l"));
        b.steal("l");
        assert_eq!(told_a.try_recv(), Ok(Notice::Stolen("l".into())));
        c.steal("l");
        assert_eq!(told_b.try_recv(), Ok(Notice::Stolen("l".into())));
        c.unlock("l");
        assert_eq!(told_a.try_recv(), Ok(Notice::Locked("l".into())));
        assert!(told_b.try_recv().is_err(), "a thief that was stolen from waits no longer");
        assert!(b.owned().is_empty() && a.owned().contains("l"));
    }
}
