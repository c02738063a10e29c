//! A pool of keys kept as runs: what is free, what rests.
//!
//! # Invariants
//! - Runs of `Pool.free` do not overlap or touch; none of them holds a resting key.
//! - `Pool.queue` names exactly the keys of `Pool.resting`, ordered by the time of their release.
//! - Every operation costs the logarithm of the pool's runs, times the runs asked for, plus what it ages.

use imbl::{OrdMap, OrdSet};
use quantumnet_model::{column::Text, intent::Pool};
use thiserror::Error;

use super::range::Run;

/// How long a key that was given back rests before it is given again: one minute. Long enough for
/// tunnels, neighbour caches and connections of the former owner to be gone; short enough that even a
/// small subnet is not starved.
pub const REST_MS: i64 = 60_000;

/// Rested keys that one allocation returns to the free ones, unless nothing else is left.
const AGED_PER_CALL: usize = 64;

/// Why a pool gives nothing.
#[derive(Clone, Copy, Debug, Error, Eq, PartialEq)]
#[non_exhaustive]
pub enum PoolError {
    /// Every key of the wanted runs is taken or rests.
    #[error("nothing is free; {resting} released keys rest for up to {} seconds", REST_MS / 1000)]
    Exhausted {
        /// How many keys of the pool rest.
        resting: usize,
    },
    /// Somebody has the key.
    #[error("it is taken")]
    Taken,
}

/// A pool of everything in `whole`, all free.
pub fn new(name: &str, whole: Run) -> Pool {
    Pool {
        name: name.into(),
        free: OrdMap::unit(text(whole.0), text(whole.1)),
        resting: OrdMap::new(),
        queue: OrdSet::new(),
    }
}

/// Takes the lowest free key of the first run in `allowed` that has one.
pub fn take_first(pool: &mut Pool, allowed: &[Run], now_ms: i64) -> Result<u128, PoolError> {
    age(pool, now_ms, AGED_PER_CALL);
    let found = match first_free(pool, allowed) {
        Some(key) => Some(key),
        None => {
            age(pool, now_ms, usize::MAX);
            first_free(pool, allowed)
        }
    };
    let key = found.ok_or(PoolError::Exhausted { resting: pool.resting.len() })?;
    cut(pool, key);
    Ok(key)
}

/// Takes this key. A resting one is given too: whoever names a key knows what it is for.
pub fn take(pool: &mut Pool, key: u128) -> Result<(), PoolError> {
    if let Some(released_at) = pool.resting.remove(&text(key)) {
        pool.queue.remove(&queued(released_at, key));
        return Ok(());
    }
    if run_of(pool, key).is_none() {
        return Err(PoolError::Taken);
    }
    cut(pool, key);
    Ok(())
}

/// Gives a key back; it begins its rest. A key that is not taken stays as it is.
pub fn release(pool: &mut Pool, key: u128, now_ms: i64) {
    if run_of(pool, key).is_some() || pool.resting.contains_key(&text(key)) {
        return;
    }
    pool.resting.insert(text(key), now_ms);
    pool.queue.insert(queued(now_ms, key));
}

/// Gives a key back for the next who asks, without rest. A key that is not taken stays as it is.
pub fn give_back(pool: &mut Pool, key: u128) {
    if run_of(pool, key).is_none() && !pool.resting.contains_key(&text(key)) {
        join(pool, key);
    }
}

/// How many keys of `allowed` are free, stopping at `i64::MAX`. Resting ones are not counted.
pub fn count_free(pool: &Pool, allowed: &[Run]) -> u64 {
    bounded(allowed.iter().map(|run| free_within(pool, *run)).fold(0, u128::saturating_add))
}

/// How many keys of the pool are taken, stopping at `i64::MAX`.
pub fn count_taken(pool: &Pool, whole: Run) -> u64 {
    let size = (whole.1 - whole.0).saturating_add(1);
    bounded(size.saturating_sub(free_within(pool, whole)).saturating_sub(pool.resting.len() as u128))
}

fn free_within(pool: &Pool, (first, last): Run) -> u128 {
    let mut sum: u128 = 0;
    let mut at = run_of(pool, first).or_else(|| next_run(pool, first));
    while let Some((run_first, run_last)) = at.filter(|run| run.0 <= last) {
        sum = sum.saturating_add((run_last.min(last) - run_first.max(first)).saturating_add(1));
        at = run_last.checked_add(1).and_then(|next| next_run(pool, next));
    }
    sum
}

fn bounded(count: u128) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX).min(i64::MAX as u64)
}

fn age(pool: &mut Pool, now_ms: i64, mut keys_max: usize) {
    while keys_max > 0 {
        let Some(first) = pool.queue.get_min().cloned() else { return };
        let Some((released_at, key)) = first.split_once(' ') else { return };
        let Ok(released_at) = i64::from_str_radix(released_at, 16) else { return };
        if released_at.saturating_add(REST_MS) > now_ms {
            return;
        }
        let number = number(key);
        pool.resting.remove(key);
        pool.queue.remove(&first);
        join(pool, number);
        keys_max -= 1;
    }
}

fn first_free(pool: &Pool, allowed: &[Run]) -> Option<u128> {
    allowed.iter().find_map(|&(first, last)| {
        if run_of(pool, first).is_some() {
            return Some(first);
        }
        next_run(pool, first).map(|run| run.0).filter(|key| *key <= last)
    })
}

/// The free run that holds `key`.
fn run_of(pool: &Pool, key: u128) -> Option<Run> {
    let (first, last) = pool.free.get_prev(&text(key))?;
    let run = (number(first), number(last));
    (run.0 <= key && key <= run.1).then_some(run)
}

/// The first free run that begins at `key` or later.
fn next_run(pool: &Pool, key: u128) -> Option<Run> {
    let (first, last) = pool.free.get_next(&text(key))?;
    Some((number(first), number(last)))
}

fn cut(pool: &mut Pool, key: u128) {
    let (first, last) = run_of(pool, key).expect("only a free key is cut out");
    pool.free.remove(&text(first));
    if first < key {
        pool.free.insert(text(first), text(key - 1));
    }
    if key < last {
        pool.free.insert(text(key + 1), text(last));
    }
}

fn join(pool: &mut Pool, key: u128) {
    let (mut first, mut last) = (key, key);
    if let Some(before) = key.checked_sub(1).and_then(|key| run_of(pool, key)) {
        first = before.0;
    }
    if let Some(after) = key.checked_add(1).and_then(|key| run_of(pool, key)) {
        last = after.1;
        pool.free.remove(&text(after.0));
    }
    pool.free.insert(text(first), text(last));
}

/// Fixed width, so that the order of texts is that of numbers.
fn text(key: u128) -> Text {
    format!("{key:032x}").into()
}

fn number(text: &str) -> u128 {
    u128::from_str_radix(text, 16).expect("only `text` writes keys")
}

fn queued(released_at: i64, key: u128) -> Text {
    format!("{:016x} {key:032x}", released_at.max(0)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_key_rests() {
        let mut pool = new("p", (1, 2));
        assert_eq!(take_first(&mut pool, &[(1, 2)], 0), Ok(1));
        assert_eq!(take_first(&mut pool, &[(1, 2)], 0), Ok(2));
        assert_eq!(take_first(&mut pool, &[(1, 2)], 0), Err(PoolError::Exhausted { resting: 0 }));
        release(&mut pool, 1, 10);
        assert_eq!(
            take_first(&mut pool, &[(1, 2)], 10 + REST_MS - 1),
            Err(PoolError::Exhausted { resting: 1 })
        );
        assert_eq!(take_first(&mut pool, &[(1, 2)], 10 + REST_MS), Ok(1));
        assert_eq!(take(&mut pool, 2), Err(PoolError::Taken));
        release(&mut pool, 2, 10);
        assert_eq!(take(&mut pool, 2), Ok(()));
        assert!(pool.queue.is_empty() && pool.resting.is_empty());
    }

    #[test]
    fn a_key_given_back_without_rest_is_given_at_once() {
        let mut pool = new("p", (1, 3));
        for key in 1..=3 {
            assert_eq!(take_first(&mut pool, &[(1, 3)], 0), Ok(key));
        }
        give_back(&mut pool, 2);
        give_back(&mut pool, 2);
        assert_eq!(count_free(&pool, &[(1, 3)]), 1);
        assert_eq!(take_first(&mut pool, &[(1, 3)], 0), Ok(2));
        release(&mut pool, 1, 0);
        give_back(&mut pool, 1);
        assert_eq!(take_first(&mut pool, &[(1, 3)], 0), Err(PoolError::Exhausted { resting: 1 }));
    }

    #[test]
    fn the_ends_of_the_number_space_are_usable() {
        let whole = (u128::MAX - 1, u128::MAX);
        let mut pool = new("p", whole);
        assert_eq!(count_free(&pool, &[whole]), 2);
        assert_eq!(take_first(&mut pool, &[whole], 0), Ok(u128::MAX - 1));
        assert_eq!(take_first(&mut pool, &[whole], 0), Ok(u128::MAX));
        assert_eq!(count_free(&pool, &[whole]), 0);
        release(&mut pool, u128::MAX, 0);
        assert_eq!(take_first(&mut pool, &[whole], REST_MS), Ok(u128::MAX));
        assert_eq!(count_free(&new("p", (0, u128::MAX)), &[(0, u128::MAX)]), i64::MAX as u64);
    }
}
