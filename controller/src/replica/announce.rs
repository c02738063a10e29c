//! When a leader tells its followers what is committed.
//!
//! The next entry carries it anyway. Told at once it costs two messages to each follower and two answers, half of what an entry
//! costs at all; so what a client writes that sends one request after the other waits for the client's next.
//!
//! # Invariants
//! - Whoever waits for the commit on another member is not kept waiting: only requests that were made on the leader, one at
//!   a time and one soon after the other, are held back.
//! - Nothing is held back for longer than [`SOON`] and a round.

use std::time::{Duration, Instant};

/// What the followers are to be told.
#[derive(Debug, Default)]
pub(super) struct Announcement {
    due: Due,
    /// The latest lone request.
    lone_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Due {
    /// They know, or are being told.
    #[default]
    Nothing,
    At(Instant),
    Now,
}

impl Announcement {
    /// An entry is proposed, which carries what was due. Returns whether its own commit may wait for the next.
    pub(super) fn proposed(&mut self, lone: bool, now: Instant) -> bool {
        self.due = Due::Nothing;
        let soon_after = self.lone_at.is_some_and(|before| now.saturating_duration_since(before) <= SOON);
        self.lone_at = lone.then_some(now);
        lone && soon_after
    }

    /// Something is committed.
    pub(super) fn committed(&mut self, may_wait: bool, now: Instant) {
        self.due = match (self.due, may_wait) {
            (Due::Nothing, true) => Due::At(now + SOON),
            (due, true) => due,
            (_, false) => Due::Now,
        };
    }

    /// Whether the followers are to be told now; they count as told.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let told = match self.due {
            Due::Nothing => false,
            Due::At(at) => at <= now,
            Due::Now => true,
        };
        if told {
            self.due = Due::Nothing;
        }
        told
    }

    /// When to look again. While one request follows the other there is a time even if nothing is due, so that the member's
    /// thread need not be woken by each of them.
    pub(super) fn look_at(&self, now: Instant) -> Option<Instant> {
        match self.due {
            Due::At(at) => Some(at),
            Due::Now => Some(now),
            Due::Nothing => self.lone_at.map(|at| at + SOON).filter(|until| *until > now),
        }
    }

    /// When something is due.
    pub(super) const fn due(&self) -> Option<Instant> {
        match self.due {
            Due::At(at) => Some(at),
            Due::Nothing | Due::Now => None,
        }
    }
}

/// How soon the next request follows, if it does; a transaction takes less.
const SOON: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_micros(500);

    #[test]
    fn a_lone_request_after_a_pause_is_announced_at_once() {
        let (mut announcement, now) = (Announcement::default(), Instant::now());
        let may_wait = announcement.proposed(true, now);
        announcement.committed(may_wait, now);
        assert!(announcement.take(now));
        assert!(!announcement.take(now), "they were told");
        let later = now + SOON * 2;
        let may_wait = announcement.proposed(true, later);
        assert!(!may_wait);
    }

    #[test]
    fn one_after_the_other_waits_for_the_next_but_not_for_long() {
        let (mut announcement, now) = (Announcement::default(), Instant::now());
        announcement.proposed(true, now);
        let next = now + STEP;
        let may_wait = announcement.proposed(true, next);
        announcement.committed(may_wait, next + STEP);
        assert!(!announcement.take(next + STEP));
        assert_eq!(announcement.look_at(next + STEP), Some(next + STEP + SOON));
        // The next entry carries it.
        announcement.proposed(true, next + STEP * 2);
        assert_eq!(announcement.due(), None);
        announcement.committed(true, next + STEP * 3);
        assert!(announcement.take(next + STEP * 3 + SOON));
        assert_eq!(announcement.look_at(next + STEP * 3 + SOON), None);
    }

    #[test]
    fn whoever_waits_elsewhere_does_not_wait() {
        let (mut announcement, now) = (Announcement::default(), Instant::now());
        announcement.proposed(true, now);
        assert!(announcement.proposed(true, now));
        assert!(!announcement.proposed(false, now));
        announcement.committed(true, now);
        announcement.committed(false, now);
        announcement.committed(true, now);
        assert!(announcement.take(now));
    }
}
