//! Threads with a runtime each, for tasks that may run a round of the member.
//!
//! What is served on such a thread needs no other to be woken: its socket, its messages and the rounds that it helps with
//! are all there. A round that waits for the disk holds up what is on its thread, and nothing else of the program.
//!
//! # Invariants
//! - Tasks are dealt out in turn and stay where they are.
//! - The threads end when this is dropped, and with them what they serve.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// The threads.
#[derive(Debug)]
pub struct Threads {
    threads: Vec<Thread>,
    next: AtomicUsize,
}

#[derive(Debug)]
struct Thread {
    handle: Handle,
    /// Dropped with this, which the thread hears.
    _end: oneshot::Sender<()>,
}

impl Threads {
    /// One for each processor, within reason.
    pub fn for_processors(name: &str) -> io::Result<Self> {
        Self::start(name, thread::available_parallelism()?.get().min(THREADS_MAX))
    }

    /// So many, at least one.
    pub fn start(name: &str, count: usize) -> io::Result<Self> {
        let start = |number| Thread::start(format!("{name}-{number}"));
        let threads = (0..count.max(1)).map(start).collect::<Result<_, _>>()?;
        Ok(Self { threads, next: AtomicUsize::new(0) })
    }

    /// Where the next task is to be spawned.
    pub fn next(&self) -> &Handle {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        &self.threads[turn % self.threads.len()].handle
    }
}

impl Thread {
    fn start(name: String) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        thread::Builder::new().name(name).spawn(move || {
            // Nothing is ever sent.
            _ = runtime.block_on(ended);
        })?;
        Ok(Self { handle, _end: end })
    }
}

const THREADS_MAX: usize = 8;
