//! Frames seen on an interface, as `tcpdump` prints them.

use std::time::Duration;

use crate::{Error, Lab, Netns, Result, Signal, Vm, background::Background, wait::wait_ok};

/// A capture that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Capture(Background);

impl Vm {
    /// Captures on the VM's interface what `filter` selects (all when empty).
    pub fn capture(&self, filter: &str) -> Result<Capture> {
        Capture::start(&self.netns(), &self.folder(), "eth0", filter)
    }
}

impl Lab {
    /// Captures on an interface of a node; `eth0` of a hypervisor is where tunnels leave.
    pub fn capture(&self, node: crate::Node, interface: &str, filter: &str) -> Result<Capture> {
        Capture::start(&self.netns(node), &self.folders().node(node), interface, filter)
    }
}

impl Capture {
    fn start(netns: &Netns, folder: &std::path::Path, interface: &str, filter: &str) -> Result<Self> {
        let fixed = ["tcpdump", "-Z", "root", "-n", "-e", "-vv", "-l", "--immediate-mode", "-i", interface];
        let argv = fixed.into_iter().chain(filter.split_whitespace());
        let mut tcpdump = Background::start(netns, folder, "capture", argv)?;
        tcpdump.wait_for_word("listening on")?;
        Ok(Self(tcpdump))
    }

    /// What was captured until now.
    pub fn text(&self) -> Result<String> {
        self.0.output()
    }

    /// Waits until the capture contains `word`.
    pub fn wait_for(&self, word: &str, within: Duration) -> Result<()> {
        wait_ok(within, &format!("a frame with {word:?}"), || match self.text() {
            Ok(text) if text.contains(word) => Ok(()),
            Ok(text) => Err(format!("captured so far:\n{text}")),
            Err(error) => Err(error.to_string()),
        })
    }

    /// Ends the capture and returns all of it.
    pub fn stop(mut self) -> Result<String> {
        self.0.finish(Signal::SIGINT)?;
        let errors = self.0.errors()?;
        if errors.lines().any(|line| line.ends_with("dropped by kernel") && !line.starts_with("0 ")) {
            return Err(Error::Output { program: "tcpdump", problem: errors });
        }
        self.text()
    }
}
