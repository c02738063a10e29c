//! How long nobody's write is acknowledged when the leader of three is killed.
//!
//! One client writes one small object after the other and goes to the next controller when one does not answer. The time
//! is that between two acknowledgements with the kill between them, so it holds what the client itself takes to notice.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use quantumnet_testbed::{Daemon, LabGuard, LabSpec, Programs, Signal};

use crate::report::{Samples, begin, row};

/// Kills the leader `kills` times.
pub(crate) fn run(programs: &Path, kills: usize) -> Result<()> {
    let lab = LabGuard::up(&LabSpec::with_programs("failover", 3, 0, Programs::in_folder(programs)))?;
    lab.wait_leader(WITHIN)?;
    let writes = lab.writes()?;
    let mut moments = Vec::new();
    for _ in 0..kills {
        writes.wait_more(WRITES_BETWEEN, WITHIN)?;
        let leader = lab.wait_leader(WITHIN)?;
        moments.push(Instant::now());
        lab.stop(Daemon::Controller(leader), Signal::SIGKILL)?;
        writes.wait_more(WRITES_BETWEEN, WITHIN)?;
        lab.start(Daemon::Controller(leader))?;
    }
    let written = writes.stop()?;
    let mut gaps = Samples::default();
    for (place, moment) in moments.iter().enumerate() {
        // Until the next kill: what comes after that one is its own.
        let until = moments.get(place + 1).copied();
        gaps.push(written.gap(*moment, until.unwrap_or_else(|| *moment + WITHIN)));
    }
    let whole = written.acknowledged.last().zip(written.acknowledged.first());
    let (last, first) = whole.context("nothing was written")?;
    ensure!(gaps.median() > Duration::ZERO, "no kill fell into the writes");
    begin("Leader of three killed under a stream of writes");
    row("without an acknowledged write", gaps.line(), "median < 0.6 s, worst < 1.5 s");
    row(
        "writes acknowledged",
        format!("{} in {:.1} s", written.acknowledged.len(), (*last - *first).as_secs_f64()),
        "",
    );
    row("tries that were repeated", written.repeated.to_string(), "");
    Ok(())
}

/// Enough that the cluster is at work on both sides of a kill.
const WRITES_BETWEEN: usize = 100;
const WITHIN: Duration = Duration::from_secs(30);
