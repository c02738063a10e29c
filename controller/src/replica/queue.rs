//! What waits for the member's next round.
//!
//! # Invariants
//! - Inputs are taken in the order in which they were put.
//! - Whoever puts wakes the member, or runs the round itself; waking a member that is awake costs no system call.
//! - Nothing is put any more once it is closed.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::replica::handle::Input;

/// The queue, for whoever has something for the member.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    woken: Condvar,
}

#[derive(Default)]
struct Waiting {
    inputs: Vec<Input>,
    /// The member's thread waits for inputs.
    asleep: bool,
    /// It has something to do besides them.
    urged: bool,
    closed: bool,
}

/// The member takes nothing any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed;

impl Queue {
    /// Adds an input and wakes the member.
    pub(crate) fn send(&self, input: Input) -> Result<(), Closed> {
        let mut waiting = self.lock();
        waiting.put(input)?;
        self.notify(waiting);
        Ok(())
    }

    /// Adds an input. To be followed by [`Self::wake`], or by a round.
    pub(crate) fn put(&self, input: Input) -> Result<(), Closed> {
        self.lock().put(input)
    }

    /// Wakes the member if something waits for it.
    pub(crate) fn wake(&self) {
        let waiting = self.lock();
        if !waiting.inputs.is_empty() {
            self.notify(waiting);
        }
    }

    /// Wakes the member in any case.
    pub(crate) fn urge(&self) {
        let mut waiting = self.lock();
        waiting.urged = true;
        self.notify(waiting);
    }

    /// Waits for inputs, to be urged, or for that time.
    pub(crate) fn wait(&self, until: Instant) {
        let mut waiting = self.lock();
        while waiting.inputs.is_empty() && !waiting.urged {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            waiting.asleep = true;
            waiting = self.woken.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        (waiting.asleep, waiting.urged) = (false, false);
    }

    /// Everything that was put.
    pub(crate) fn take(&self) -> Vec<Input> {
        std::mem::take(&mut self.lock().inputs)
    }

    /// Everything that was put if it is messages of other members alone.
    pub(crate) fn take_messages(&self) -> Option<Vec<Input>> {
        let mut waiting = self.lock();
        let messages = waiting.inputs.iter().all(|input| matches!(input, Input::Received { .. }));
        messages.then(|| std::mem::take(&mut waiting.inputs))
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().inputs.is_empty()
    }

    /// Takes nothing any more; what is there is dropped.
    pub(crate) fn close(&self) {
        let inputs = {
            let mut waiting = self.lock();
            waiting.closed = true;
            std::mem::take(&mut waiting.inputs)
        };
        // Whoever waits for them may look at the queue.
        drop(inputs);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self, mut waiting: MutexGuard<'_, Waiting>) {
        let asleep = std::mem::take(&mut waiting.asleep);
        drop(waiting);
        if asleep {
            self.woken.notify_one();
        }
    }
}

impl Waiting {
    fn put(&mut self, input: Input) -> Result<(), Closed> {
        if self.closed {
            return Err(Closed);
        }
        self.inputs.push(input);
        Ok(())
    }
}
