//! Waiting for a condition with a deadline: the only place of this crate that pauses.
//!
//! # Contract
//! - `wait_until` returns as soon as the condition holds, or an error that says what was waited for.
//!
//! # Invariants
//! - Nothing here sleeps for a fixed time and hopes: every pause ends in a new look at the condition.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{Error, Result};

/// Looks at `condition` until it holds; an error after `within`, which names `what`.
pub fn wait_until(within: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    wait_for(within, what, || condition().then_some(()))
}

/// Like [`wait_until`], for a condition that brings a value with it.
pub fn wait_for<T>(within: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    wait_ok(within, what, || probe().ok_or(String::new()))
}

/// Like [`wait_for`]; the last refusal becomes part of the error.
pub fn wait_ok<T>(within: Duration, what: &str, mut probe: impl FnMut() -> Result<T, String>) -> Result<T> {
    let deadline = Instant::now() + within;
    let mut pause = PAUSE_FIRST;
    loop {
        let refusal = match probe() {
            Ok(value) => return Ok(value),
            Err(refusal) => refusal,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let detail = if refusal.is_empty() { refusal } else { format!(": {refusal}") };
            return Err(Error::Timeout { what: what.to_owned(), after: within, detail });
        }
        pause_for(pause.min(left));
        pause = (pause * 2).min(PAUSE_MOST);
    }
}

/// Pauses the calling thread until `until`; for senders that keep a rate, not for hoping.
pub(crate) fn pace(until: Instant) {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        pause_for(left);
    }
}

fn pause_for(duration: Duration) {
    let never = Mutex::new(());
    let guard = never.lock().unwrap_or_else(PoisonError::into_inner);
    // Nobody notifies: the timeout is the pause. A spurious wake-up only means one look more.
    drop(Condvar::new().wait_timeout(guard, duration));
}

const PAUSE_FIRST: Duration = Duration::from_millis(1);
const PAUSE_MOST: Duration = Duration::from_millis(25);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_as_soon_as_the_condition_holds() {
        let mut looks = 0;
        wait_until(Duration::from_secs(60), "the third look", || {
            looks += 1;
            looks == 3
        })
        .unwrap();
        assert_eq!(looks, 3);
    }

    #[test]
    fn names_what_was_waited_for() {
        let error =
            wait_ok::<()>(Duration::from_millis(3), "a miracle", || Err("none seen".into())).unwrap_err();
        assert_eq!(error.to_string(), "waited 3ms in vain for a miracle: none seen");
    }
}
