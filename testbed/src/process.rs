//! The lab's long-running programs: started in a namespace, found again by another process, ended for certain.
//!
//! # Contract
//! - A [`ProcessRecord`] is written before the program starts and completed with its id after.
//! - [`Children`] holds the programs this very process started, so that they do not stay zombies.
//!
//! # Invariants
//! - A signal goes to a process only if id, start time and boot are those recorded: a recycled id is never hit.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Netns, Result,
    error::IoContext,
    state::boot_id,
    wait::{wait_ok, wait_until},
};

/// One program of the lab, as the state file knows it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ProcessRecord {
    pub(crate) netns: Netns,
    pub(crate) argv: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    /// The working folder; the log lies there too.
    pub(crate) folder: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) pid: Option<i32>,
    /// Start time in clock ticks since boot, from `/proc/PID/stat`.
    pub(crate) started_ticks: Option<u64>,
}

impl ProcessRecord {
    /// Starts the program in its namespace, in a process group of its own, output to its log.
    pub(crate) fn spawn(&mut self) -> Result<Child> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .doing(|| format!("open {}", self.log.display()))?;
        let errors = log.try_clone().doing(|| format!("open {}", self.log.display()))?;
        let child = {
            use std::os::unix::process::CommandExt;
            // `ip netns exec` becomes the program (exec), so the id is the program's own.
            Command::new("ip")
                .args(["netns", "exec", self.netns.name()])
                .args(&self.argv)
                .envs(&self.env)
                .current_dir(&self.folder)
                .stdin(Stdio::null())
                .stdout(log)
                .stderr(errors)
                .process_group(0)
                .spawn()
                .doing(|| format!("start {}", self.argv.join(" ")))?
        };
        let pid = i32::try_from(child.id()).expect("Linux process ids fit 22 bits");
        self.pid = Some(pid);
        self.started_ticks = started_ticks(pid);
        Ok(child)
    }

    /// True while the very process that was recorded runs (a zombie does not run).
    pub(crate) fn alive(&self) -> bool {
        match (self.pid, self.started_ticks) {
            (Some(pid), Some(ticks)) => started_ticks(pid) == Some(ticks),
            _ => false,
        }
    }

    /// Sends a signal if the process is still the recorded one; false when there was nobody to send it to.
    pub(crate) fn signal(&self, signal: Signal) -> Result<bool> {
        match self.pid {
            Some(pid) if self.alive() => send(pid, signal),
            _ => Ok(false),
        }
    }

    /// The last `lines` lines of the log.
    pub(crate) fn log_tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }
}

/// Programs that this process started and has to reap.
#[derive(Debug, Default)]
pub(crate) struct Children(Mutex<Vec<Child>>);

impl Children {
    pub(crate) fn keep(&self, child: Child) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(child);
    }

    /// Forgets those that ended.
    pub(crate) fn reap(&self) {
        let mut children = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }
}

/// Ends processes of a namespace (whoever started them there): first asked, then killed.
pub(crate) fn end_all(recorded: &[&ProcessRecord], namespaces: &[Netns], children: &Children) -> Result<()> {
    let me = i32::try_from(std::process::id()).expect("Linux process ids fit 22 bits");
    let survivors = || -> Vec<(i32, Option<u64>)> {
        children.reap();
        let known = recorded.iter().filter(|record| record.alive()).filter_map(|record| record.pid);
        let inside = namespaces.iter().flat_map(Netns::pids);
        let mut pids: Vec<i32> = known.chain(inside).filter(|pid| *pid != me).collect();
        pids.sort_unstable();
        pids.dedup();
        pids.into_iter().map(|pid| (pid, started_ticks(pid))).filter(|(_, ticks)| ticks.is_some()).collect()
    };
    for (signal, within) in [(Signal::SIGTERM, TERM_WITHIN), (Signal::SIGKILL, KILL_WITHIN)] {
        for (pid, ticks) in survivors() {
            if started_ticks(pid) == ticks {
                send(pid, signal)?;
            }
        }
        if wait_until(within, "the lab's processes to end", || survivors().is_empty()).is_ok() {
            return Ok(());
        }
    }
    wait_ok(KILL_WITHIN, "the lab's processes to end", || match survivors() {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?} still run")),
    })
}

/// Start time of a running process in clock ticks since boot; `None` for one that ended, zombies included.
pub(crate) fn started_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name is in parentheses and may hold anything, so fields are counted from the last one.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    // A killed process is a zombie as soon as its first thread is: until the others have ended its sockets are open.
    let threads: u32 = fields.get(17)?.parse().ok()?;
    if matches!(*fields.first()?, "Z" | "X") && threads <= 1 {
        return None;
    }
    fields.get(19)?.parse().ok()
}

/// True when ids in a state file of that boot still mean something.
pub(crate) fn same_boot(boot: &str) -> bool {
    boot == boot_id()
}

/// The last `lines` lines of a file; empty when it cannot be read.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn send(pid: i32, signal: Signal) -> Result<bool> {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) => Ok(true),
        Err(Errno::ESRCH) => Ok(false),
        Err(errno) => {
            Err(Error::Io { action: format!("send {signal} to process {pid}"), source: errno.into() })
        }
    }
}

const TERM_WITHIN: Duration = Duration::from_secs(3);
const KILL_WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recycled_id_is_not_the_recorded_process() {
        let me = i32::try_from(std::process::id()).unwrap();
        let mut record = ProcessRecord {
            netns: Netns::named("none"),
            argv: Vec::new(),
            env: BTreeMap::new(),
            folder: PathBuf::new(),
            log: PathBuf::new(),
            pid: Some(me),
            started_ticks: started_ticks(me),
        };
        assert!(record.alive());
        record.started_ticks = record.started_ticks.map(|ticks| ticks + 1);
        assert!(!record.alive());
        // Were the check missing, this test process would end here.
        assert!(!record.signal(Signal::SIGKILL).unwrap());
    }

    #[test]
    fn a_zombie_does_not_run() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        wait_until(Duration::from_secs(5), "the child to end", || started_ticks(pid).is_none()).unwrap();
        child.wait().unwrap();
    }
}
