//! Signs of life while the member's thread works on one request for long.
//!
//! A leader that evaluates thousands of rows in one transaction says nothing meanwhile, and an election would take its
//! leadership before it is done: such a request could never be made. So a second thread sends heartbeats for it.
//!
//! # Contract
//! - In: when the thread begins and ends work, and what heartbeats of its term are. Out: those, while one piece of work lasts.
//!
//! # Invariants
//! - Nothing is sent while the thread is idle or waits for its disk: a leader whose disk hangs is replaced.
//! - It ends: work that lasts longer than [`WORK_MAX`] costs the leadership after all.
//! - Begin and end cost no system call.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::replica::Transport;

/// Heartbeats by member.
type Heartbeats = Vec<(u64, Bytes)>;

/// Paces one member's followers. Its thread ends with it.
pub(crate) struct Pacer {
    shared: Arc<Shared>,
    /// Dropped with the pacer, which the thread hears.
    _end: mpsc::Sender<()>,
}

struct Shared {
    started: Instant,
    /// Milliseconds from `started` to the begin of work, and one; 0 while idle.
    since: AtomicU64,
    heartbeats: Mutex<Heartbeats>,
}

impl Pacer {
    /// Starts the thread, which looks once in `interval`.
    pub(crate) fn start(transport: Arc<dyn Transport>, interval: Duration) -> std::io::Result<Self> {
        let (end, ended) = mpsc::channel();
        let shared = Arc::new(Shared {
            started: Instant::now(),
            since: AtomicU64::new(0),
            heartbeats: Mutex::default(),
        });
        let paced = shared.clone();
        let pace = move || {
            let mut before = 0;
            while ended.recv_timeout(interval) == Err(mpsc::RecvTimeoutError::Timeout) {
                before = paced.pace(before, transport.as_ref());
            }
        };
        thread::Builder::new().name("pacer".into()).spawn(pace)?;
        Ok(Self { shared, _end: end })
    }

    /// What to send from now on; nothing unless the member leads.
    pub(crate) fn heartbeats(&self, heartbeats: Heartbeats) {
        *self.shared.heartbeats.lock().unwrap_or_else(PoisonError::into_inner) = heartbeats;
    }

    /// The thread works from now on.
    pub(crate) fn begin(&self) {
        self.shared.since.store(self.shared.now(), Ordering::Relaxed);
    }

    /// It waits again.
    pub(crate) fn end(&self) {
        self.shared.since.store(0, Ordering::Relaxed);
    }
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// Sends if the thread has been at the same work since the last look; gives what it was at.
    fn pace(&self, before: u64, transport: &dyn Transport) -> u64 {
        let since = self.since.load(Ordering::Relaxed);
        let lasting = since != 0 && since == before;
        if lasting && self.now() - since <= WORK_MAX.as_millis() as u64 {
            let heartbeats = self.heartbeats.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for (to, bytes) in heartbeats {
                // Whether it is taken, the thread will find out itself.
                let _taken = transport.send(to, bytes);
            }
        }
        since
    }
}

/// No piece of work takes so long, but for a fault.
const WORK_MAX: Duration = Duration::from_secs(60);
