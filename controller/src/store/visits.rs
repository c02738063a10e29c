//! How many rows a thread looked at: the cost of a transaction as a number that no load of the machine changes.

use std::cell::Cell;

thread_local! {
    static VISITS: Cell<u64> = const { Cell::new(0) };
}

/// Rows and places in indexes that this thread looked at, since it began.
pub fn visits() -> u64 {
    VISITS.get()
}

pub(super) fn count() {
    VISITS.set(VISITS.get().wrapping_add(1));
}
