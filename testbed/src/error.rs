//! Why the testbed could not do what it was asked.
//!
//! # Invariants
//! - Every variant names the thing it is about (program, lab, node, file) and, where a person can mend it, what to do.

use std::{io, path::PathBuf, time::Duration};

/// Anything that can go wrong while a lab is built, used or taken down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Namespaces, veth pairs and raw sockets are for root only.
    #[error("the testbed needs root (effective user id is {uid}): run it with sudo")]
    NotRoot {
        /// The effective user id found.
        uid: u32,
    },
    /// A program the lab is made of is not installed.
    #[error("program {program} not found in {searched}: install the Debian package {package}")]
    MissingProgram {
        /// Name or path of the program.
        program: String,
        /// The folders that were searched.
        searched: String,
        /// The Debian package that brings it.
        package: &'static str,
    },
    /// A file the lab is made of is not there.
    #[error("{what} not found: {path}")]
    MissingFile {
        /// What the file is for.
        what: &'static str,
        /// Where it was expected.
        path: PathBuf,
    },
    /// A name or number of the request is out of range.
    #[error("{what} {value:?}: {rule}")]
    Invalid {
        /// Which field.
        what: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        rule: String,
    },
    /// The lab, node or VM is there already.
    #[error("{what} {name} exists already; {hint}")]
    Exists {
        /// Kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// There is no such lab, node, VM or process.
    #[error("no {what} named {name} (there is: {known})")]
    Unknown {
        /// Kind of thing.
        what: &'static str,
        /// The name asked for.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// A program ended with an error.
    #[error("{command}: {outcome}\n{stderr}")]
    Command {
        /// The command line.
        command: String,
        /// Exit status or signal.
        outcome: String,
        /// What it wrote to stderr (or stdout when that was empty).
        stderr: String,
    },
    /// A program did not end in its time and was killed.
    #[error("{command}: killed after {after:?}")]
    CommandTimeout {
        /// The command line.
        command: String,
        /// How long it was given.
        after: Duration,
    },
    /// A condition did not become true in its time.
    #[error("waited {after:?} in vain for {what}{detail}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
        /// Log lines or the last state seen; begins with a separator when not empty.
        detail: String,
    },
    /// A daemon of the lab ended by itself.
    #[error("{process} ended unasked; the end of its log:\n{log}")]
    Died {
        /// The process's name in the lab.
        process: String,
        /// Last lines of its log.
        log: String,
    },
    /// The state file is not one this version can read.
    #[error("state file {path}: {problem}")]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Output of a program that could not be understood.
    #[error("cannot read the output of {program}: {problem}")]
    Output {
        /// The program.
        program: &'static str,
        /// What was expected and what came.
        problem: String,
    },
    /// The operating system refused something.
    #[error("{action}: {source}")]
    Io {
        /// What was being done.
        action: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Adds "what was being done" to an [`io::Result`].
pub(crate) trait IoContext<T> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { action: action(), source })
    }
}

impl<T> IoContext<T> for nix::Result<T> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::Io { action: action(), source: errno.into() })
    }
}
