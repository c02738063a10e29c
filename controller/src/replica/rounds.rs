//! Who runs the member: its own thread, or a thread that has a request for it and finds it idle.
//!
//! # Contract
//! - A round takes everything that waits, evaluates, writes and applies it. One is run at a time, whoever runs it.
//! - The member's thread runs a round when it is woken and at each tick, and ends the member.
//! - A [`Helper`] runs one on the caller's thread: a lone request, or what another member sent, is in the log and answered
//!   without a switch of threads, which would cost about as much as all the rest but the disk.
//!
//! # Invariants
//! - What is put while a round runs is seen by another: whoever ran one looks at the queue once more before it leaves, and
//!   wakes the thread if something is there.
//! - A helper waits for the disk, but never for another round.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, TryLockError},
    time::Instant,
};

use quantumnet_consensus::{Event, log::vfs::Vfs};

use crate::replica::{
    handle::Input,
    member::{End, Member},
    queue::Queue,
};

/// A member, for whoever runs it.
pub(super) struct Rounds<V: Vfs + Clone> {
    queue: Arc<Queue>,
    turn: Mutex<Turn<V>>,
}

struct Turn<V: Vfs + Clone> {
    member: Member<V>,
    /// When the next tick is.
    tick_at: Instant,
    /// Until when the thread sleeps, if nobody wakes it.
    sleeps_until: Instant,
    /// Why there is no further round.
    end: Option<End>,
}

/// Runs rounds on the calling thread while the member is idle. Whoever runs one already takes what was put otherwise.
pub(crate) trait Helper: Send + Sync {
    /// Runs what waits.
    fn help(&self);
    /// Runs what waits if it is messages of other members, and short: the calling thread also carries the heartbeats that
    /// keep a leadership. The member's thread runs the rest.
    fn receive(&self);
}

impl<V: Vfs + Clone + Send + 'static> Rounds<V>
where
    V::File: Send,
    V::Lock: Send,
{
    pub(super) fn new(member: Member<V>) -> Arc<Self> {
        let (queue, tick_at) = (member.queue.clone(), member.started + member.tick);
        Arc::new(Self { queue, turn: Mutex::new(Turn { member, tick_at, sleeps_until: tick_at, end: None }) })
    }

    /// The member's thread: runs rounds until the member is stopped or can't go on.
    pub(super) fn run(&self) {
        let mut next = self.with(Turn::begin);
        while let Some(until) = next {
            self.queue.wait(until);
            next = self.with(|turn| turn.round(self.queue.take()));
        }
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let end = turn.end.take().unwrap_or(End::Asked);
        turn.member.finish(end);
        // No helper has a turn any more.
        turn.end = Some(End::Asked);
    }

    fn rounds(&self, lone: bool, take: impl Fn(&Queue, &Member<V>) -> Option<Vec<Input>>) {
        for _ in 0..HELPED_MAX {
            let mut turn = match self.turn.try_lock() {
                Ok(turn) => turn,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            let Some(inputs) = take(&self.queue, &turn.member) else { break };
            turn.member.lone = lone && inputs.len() == 1;
            let goes_on = turn.caught(|turn| turn.round(inputs));
            turn.member.lone = false;
            let overslept = turn.member.announcement.due().is_some_and(|due| due < turn.sleeps_until);
            drop(turn);
            if goes_on.is_none() || overslept {
                self.queue.urge();
            }
            if goes_on.is_none() {
                return;
            }
            // With luck the others' answers are there by now.
            if self.queue.is_empty() {
                return;
            }
        }
        self.queue.wake();
    }

    /// Does something with the member; returns when the thread has to look again, if ever.
    fn with(&self, work: impl FnOnce(&mut Turn<V>) -> Result<(), End>) -> Option<Instant> {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let tick_at = turn.caught(work)?;
        let look_at = turn.member.announcement.look_at(Instant::now());
        turn.sleeps_until = look_at.map_or(tick_at, |at| at.min(tick_at));
        Some(turn.sleeps_until)
    }
}

impl<V: Vfs + Clone + Send + 'static> Helper for Rounds<V>
where
    V::File: Send,
    V::Lock: Send,
{
    fn help(&self) {
        self.rounds(true, |queue, _| Some(queue.take()));
    }

    fn receive(&self) {
        self.rounds(false, |queue, member| if member.expects_much() { None } else { queue.take_messages() });
    }
}

impl<V: Vfs + Clone + Send + 'static> Turn<V>
where
    V::File: Send,
    V::Lock: Send,
{
    fn caught(&mut self, work: impl FnOnce(&mut Self) -> Result<(), End>) -> Option<Instant> {
        if self.end.is_none() {
            let done = catch_unwind(AssertUnwindSafe(|| work(self)));
            // What is in flight may be in the log: whoever waits for it must not be told that it is not.
            let fault = "by a fault of the program: restart it, the log says more";
            self.end = done.unwrap_or_else(|_| Err(End::Failed(fault.to_owned()))).err();
        }
        self.end.is_none().then_some(self.tick_at)
    }

    fn begin(&mut self) -> Result<(), End> {
        let state = self.member.applied.clone();
        self.member.observers.iter_mut().for_each(|observer| observer.replaced(&state));
        // A member without peers need not wait for an election that nobody else can win.
        let ticks = if self.member.transport.is_none() { ELECTION_TICKS_MAX } else { 0 };
        self.member.settle(vec![Event::Tick; ticks])
    }

    fn round(&mut self, inputs: Vec<Input>) -> Result<(), End> {
        let now = Instant::now();
        let due = self.member.announcement.due().is_some_and(|due| due <= now);
        if inputs.is_empty() && now < self.tick_at && !due {
            return Ok(());
        }
        self.member.working(true);
        let mut events = Vec::new();
        let mut asked = false;
        for input in inputs {
            asked |= matches!(input, Input::Stop);
            self.member.take(input, &mut events);
        }
        if asked {
            return Err(End::Asked);
        }
        self.member.evaluate(&mut events);
        let now = Instant::now();
        if now >= self.tick_at {
            self.member.give_up(now);
            events.push(Event::Tick);
            // Ticks that were missed are not made up for: what came meanwhile was taken before this one, and a
            // member that was held up must not take that for the leader's silence.
            self.tick_at = now + self.member.tick;
        }
        let settled = self.member.settle(events);
        self.member.working(false);
        settled
    }
}

/// Rounds that a helper runs before it goes on with what it has to do itself.
const HELPED_MAX: usize = 2;
/// More than the ticks of any election timeout of a member without peers.
const ELECTION_TICKS_MAX: usize = 40;
