//! A stream of small writes to a lab's controllers, as of a client that insists: what a failure of a controller costs it.
//!
//! # Contract
//! - One write after the other, each a project made through the API. A write without an answer is repeated, with the
//!   same request id, at the next controller until one acknowledges it; then the next write begins.
//!
//! # Invariants
//! - Write n makes the project `wN`, so what is there afterwards shows every write that was lost or done twice.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{Error, Lab, Result, api, wait::wait_until};

/// Writes under way.
#[derive(Debug)]
pub struct Writes {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    thread: JoinHandle<Result<Written>>,
}

/// What came of them.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// When each was acknowledged, in order.
    pub acknowledged: Vec<Instant>,
    /// Tries that got no answer, or that of a controller which knew no leader.
    pub repeated: usize,
}

impl Written {
    /// The longest time without an acknowledgement that has `moment` in it or begins after it, up to `until`.
    pub fn gap(&self, moment: Instant, until: Instant) -> Duration {
        let pairs = self.acknowledged.windows(2).map(|pair| (pair[0], pair[1]));
        let near = pairs.filter(|(before, after)| *after > moment && *before < until);
        near.map(|(before, after)| after - before).max().unwrap_or_default()
    }
}

impl Lab {
    /// Begins to write.
    pub fn writes(&self) -> Result<Writes> {
        let sockets: Vec<PathBuf> = (1..=self.spec()?.controllers).map(|n| self.api_socket(n)).collect();
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopping, counted) = (stop.clone(), count.clone());
        let thread = std::thread::spawn(move || write(&sockets, &stopping, &counted));
        Ok(Writes { stop, count, thread })
    }
}

impl Writes {
    /// How many are acknowledged.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Waits until `count` more are acknowledged.
    pub fn wait_more(&self, count: usize, within: Duration) -> Result<()> {
        let wanted = self.count() + count;
        let ended = || self.count() >= wanted || self.thread.is_finished();
        wait_until(within, &format!("write {wanted} to be acknowledged"), ended)
    }

    /// Ends after the write under way.
    pub fn stop(self) -> Result<Written> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn write(sockets: &[PathBuf], stop: &AtomicBool, count: &AtomicUsize) -> Result<Written> {
    let mut written = Written::default();
    // Who answered last is asked first.
    let mut members = sockets.iter().cycle();
    let mut member = members.next();
    while let Some(socket) = member {
        let name = format!("w{}", written.acknowledged.len());
        let body = format!(r#"{{"project":{{"meta":{{"name":"{name}"}}}}}}"#);
        match api::call(socket, "ProjectService/CreateProject", Some(&name), &body, ANSWER_WITHIN) {
            Ok(answer) if answer.status == 200 => {
                written.acknowledged.push(Instant::now());
                count.store(written.acknowledged.len(), Ordering::Release);
                if stop.load(Ordering::Acquire) {
                    return Ok(written);
                }
            }
            Ok(answer) if !may_be_repeated(&answer) => {
                let problem = format!("write {name} was refused with {}: {}", answer.status, answer.body);
                return Err(Error::Output { program: "quantumnet-controller", problem });
            }
            Ok(_) | Err(_) => {
                written.repeated += 1;
                member = members.next();
                // Three controllers without a leader are not asked in a tight loop.
                crate::wait::pace(Instant::now() + RETRY_AFTER);
            }
        }
    }
    Ok(written)
}

/// Not now, or not known: 503 and 504 are UNAVAILABLE and DEADLINE_EXCEEDED, the reasons those of a leader that went.
fn may_be_repeated(answer: &api::Answer) -> bool {
    let unsettled = ["OUTCOME_UNKNOWN", "LEADERSHIP_CHANGED"];
    matches!(answer.status, 503 | 504) || unsettled.iter().any(|reason| answer.body.contains(reason))
}

const ANSWER_WITHIN: Duration = Duration::from_secs(1);
const RETRY_AFTER: Duration = Duration::from_millis(5);
