//! A named network namespace.
//!
//! # Contract
//! - A [`Netns`] is a name; making and deleting are explicit, because labs outlive the process that made them.
//! - [`Netns::within`] runs a closure on a thread that is inside the namespace. A socket belongs to the namespace it
//!   was opened in, wherever it is used later, so a test opens its sockets there and uses them anywhere.
//!
//! # Invariants
//! - The calling thread never changes its namespace.

use std::{ffi::OsStr, fs, io, os::unix::fs::MetadataExt, path::PathBuf, time::Duration};

use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};

use crate::{Result, command::Cmd, error::IoContext, wait::wait_until};

/// A network namespace known to `ip netns` under this name.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Netns(String);

impl Netns {
    /// A namespace by name; nothing is made.
    pub fn named(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name under which `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// True when the namespace is there.
    pub fn exists(&self) -> bool {
        self.path().exists()
    }

    /// Makes it, with loopback up and with IPv6 addresses usable at once (no duplicate address detection).
    pub fn create(&self) -> Result<()> {
        Cmd::new(["ip", "netns", "add", &self.0]).check()?;
        self.sysctl("net/ipv6/conf/all/accept_dad", "0")?;
        self.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        self.sysctl("net/ipv6/conf/default/router_solicitations", "0")?;
        self.ip(&["link set lo up"])
    }

    /// Deletes the name; the namespace itself goes with its last process. No error when it is not there.
    pub fn delete(&self) -> Result<()> {
        if !self.exists() {
            return Ok(());
        }
        Cmd::new(["ip", "netns", "del", &self.0]).check()?;
        wait_until(Duration::from_secs(5), &format!("namespace {} to go", self.0), || !self.exists())
    }

    /// Runs `ip` commands inside, all in one process; stops at the first that fails.
    pub fn ip(&self, commands: &[&str]) -> Result<()> {
        let script = commands.iter().map(|command| format!("{command}\n")).collect::<String>();
        Cmd::new(["ip", "-n", &self.0, "-batch", "-"]).stdin(script).check().map(drop)
    }

    /// A command that will run inside the namespace.
    pub fn command<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Cmd {
        argv.into_iter().fold(Cmd::new(["ip", "netns", "exec", &self.0]), Cmd::arg)
    }

    /// Writes a kernel setting such as `net/ipv4/ip_forward`; one that this kernel lacks is passed over.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = PathBuf::from("/proc/sys").join(key);
        let written = self.within(|| match fs::write(&path, value) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        })?;
        written.doing(|| format!("write {value} to {key} in {}", self.0))
    }

    /// Switches off checksum and segmentation offload: the userspace datapath needs whole frames with whole checksums.
    pub fn offload_off(&self, interface: &str) -> Result<()> {
        let options = ["tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off"];
        // ethtool complains of each feature a driver has fixed; only a wrong `tx` would matter and shows in traffic.
        self.command(["ethtool", "-K", interface]).args(options).run().map(drop)
    }

    /// Runs `work` on a thread of its own inside the namespace and returns what it returns.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = self.path();
        let namespace = fs::File::open(&path).doing(|| format!("open namespace {}", self.0))?;
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                setns(&namespace, CloneFlags::CLONE_NEWNET).doing(|| format!("enter {}", path.display()))?;
                Ok(work())
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Ids of all processes whose main thread is inside.
    pub fn pids(&self) -> Vec<i32> {
        let Ok(here) = fs::metadata(self.path()) else { return Vec::new() };
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| {
                fs::metadata(format!("/proc/{pid}/ns/net"))
                    .is_ok_and(|there| (there.dev(), there.ino()) == (here.dev(), here.ino()))
            })
            .collect()
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.0)
    }
}
