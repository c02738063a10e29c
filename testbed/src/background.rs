//! A program that runs beside the test inside a namespace, its output in files: ping, tcpdump, a DHCP client.
//!
//! # Invariants
//! - It ends with its variable; the lab's end would take it too, since it lives in a namespace of the lab.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{Error, Netns, Result, error::IoContext, process::tail, wait::wait_until};

#[derive(Debug)]
pub(crate) struct Background {
    child: Child,
    what: String,
    pub(crate) stdout: PathBuf,
    pub(crate) stderr: PathBuf,
}

impl Background {
    /// Starts a program; its output goes to new files in `folder`.
    pub(crate) fn start<S: AsRef<std::ffi::OsStr>>(
        netns: &Netns,
        folder: &Path,
        what: &str,
        argv: impl IntoIterator<Item = S>,
    ) -> Result<Self> {
        let stem = unique_file(folder, what);
        let (stdout, stderr) = (stem.with_extension("out"), stem.with_extension("err"));
        let create = |path: &Path| File::create(path).doing(|| format!("make {}", path.display()));
        let child = Command::new("ip")
            .args(["netns", "exec", netns.name()])
            .args(argv)
            .stdin(Stdio::null())
            .stdout(create(&stdout)?)
            .stderr(create(&stderr)?)
            .spawn()
            .doing(|| format!("start {what} in {}", netns.name()))?;
        Ok(Self { child, what: what.to_owned(), stdout, stderr })
    }

    pub(crate) fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        if !self.running() {
            return Ok(());
        }
        // Not reaped yet, so the id is still the child's.
        let pid = i32::try_from(self.child.id()).expect("Linux process ids fit 22 bits");
        kill(Pid::from_raw(pid), signal).doing(|| format!("send {signal} to {}", self.what))
    }

    /// Asks the program to end and waits for it.
    pub(crate) fn finish(&mut self, signal: Signal) -> Result<()> {
        self.signal(signal)?;
        let what = format!("{} to end after {signal}", self.what);
        wait_until(Duration::from_secs(5), &what, || !self.running())
    }

    pub(crate) fn output(&self) -> Result<String> {
        read(&self.stdout)
    }

    pub(crate) fn errors(&self) -> Result<String> {
        read(&self.stderr)
    }

    /// Waits until the program has written something to stderr that says it works.
    pub(crate) fn wait_for_word(&mut self, word: &str) -> Result<()> {
        let what = format!("{} to say {word:?}", self.what);
        let mut ended = false;
        let waited = wait_until(Duration::from_secs(10), &what, || {
            let said = self.errors().is_ok_and(|text| text.contains(word));
            ended = !said && !self.running();
            said || ended
        });
        if ended {
            return Err(Error::Died { process: self.what.clone(), log: tail(&self.stderr, 20) });
        }
        waited
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and the end of the lab is the second net.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A file name in `folder` that no other call of any process gets.
pub(crate) fn unique_file(folder: &Path, what: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    folder.join(format!("{what}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
}

fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).doing(|| format!("read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
