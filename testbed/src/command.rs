//! Running a program to its end, with a deadline and with its output.
//!
//! # Contract
//! - In: a program, its arguments, optionally text for its stdin. Out: [`Output`], whatever the exit status;
//!   [`Cmd::check`] turns a non-zero status into an error that carries stderr.
//!
//! # Invariants
//! - No program runs longer than its deadline: it is killed and the error says so.

use std::{
    ffi::{OsStr, OsString},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{Error, Result, error::IoContext, wait::wait_for};

/// What a program left behind.
#[derive(Clone, Debug, Serialize)]
pub struct Output {
    /// Exit code; 128 + n when signal n ended it.
    pub code: i32,
    /// Everything written to stdout.
    pub stdout: String,
    /// Everything written to stderr.
    pub stderr: String,
}

impl Output {
    /// True for exit code 0.
    pub fn ok(&self) -> bool {
        self.code == 0
    }
}

/// A program about to be run.
#[derive(Clone, Debug)]
pub struct Cmd {
    argv: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    stdin: Option<Vec<u8>>,
    within: Duration,
}

impl Cmd {
    /// A command from program and arguments; it gets 60 seconds unless told otherwise.
    pub fn new<S: AsRef<OsStr>>(argv: impl IntoIterator<Item = S>) -> Self {
        let argv = argv.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        Self { argv, env: Vec::new(), stdin: None, within: COMMAND_WITHIN }
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.argv.push(arg.as_ref().to_owned());
        self
    }

    /// Several more arguments.
    pub fn args<S: AsRef<OsStr>>(self, args: impl IntoIterator<Item = S>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// An environment variable on top of the inherited ones.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Text for the program's stdin; otherwise it is empty.
    pub fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(text.into());
        self
    }

    /// How long the program may take.
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Runs it; an error only when it could not be started or did not end in time.
    pub fn run(&self) -> Result<Output> {
        let line = self.line();
        let deadline = Instant::now() + self.within;
        let mut child = self
            .to_std()?
            .stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .doing(|| format!("start {line}"))?;
        if let (Some(mut pipe), Some(text)) = (child.stdin.take(), self.stdin.clone()) {
            // A program may end without reading everything; that is its own affair, hence no error.
            std::thread::spawn(move || drop(pipe.write_all(&text)));
        }
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        let left = || deadline.saturating_duration_since(Instant::now());
        let texts = stdout.recv_timeout(left()).and_then(|out| Ok((out, stderr.recv_timeout(left())?)));
        let status = wait_for(left(), &line, || child.try_wait().transpose());
        let (Ok((stdout, stderr)), Ok(status)) = (texts, status) else {
            // It may have ended in this very moment; what counts is that it is gone afterwards.
            drop(child.kill());
            child.wait().doing(|| format!("reap {line}"))?;
            return Err(Error::CommandTimeout { command: line, after: self.within });
        };
        let code = exit_code(status.doing(|| format!("wait for {line}"))?);
        Ok(Output { code, stdout: lossy(stdout), stderr: lossy(stderr) })
    }

    /// The same command for running it otherwise, such as with the terminal of the person who asked for it.
    pub fn to_std(&self) -> Result<Command> {
        let Some((program, args)) = self.argv.split_first() else {
            return Err(Error::Invalid {
                what: "command",
                value: self.line(),
                rule: "must not be empty".into(),
            });
        };
        let mut command = Command::new(program);
        command.args(args).envs(self.env.iter().map(|(key, value)| (key, value)));
        Ok(command)
    }

    /// Runs it and returns stdout; a non-zero exit status is an error.
    pub fn check(&self) -> Result<String> {
        let output = self.run()?;
        if output.ok() {
            return Ok(output.stdout);
        }
        let stderr = if output.stderr.trim().is_empty() { output.stdout } else { output.stderr };
        Err(Error::Command { command: self.line(), outcome: format!("exit code {}", output.code), stderr })
    }

    /// The command line as a person would read it.
    pub fn line(&self) -> String {
        self.argv.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}

/// Where a program is, by `PATH` and the system folders that `PATH` of an ordinary user lacks.
pub fn find_program(program: &str, package: &'static str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> =
        std::env::split_paths(&path).chain(SYSTEM_FOLDERS.iter().map(PathBuf::from)).collect();
    let direct = Path::new(program);
    let found = if direct.is_absolute() {
        direct.is_file().then(|| direct.to_owned())
    } else {
        folders.iter().map(|folder| folder.join(program)).find(|file| file.is_file())
    };
    found.ok_or_else(|| Error::MissingProgram {
        program: program.to_owned(),
        searched: folders.iter().map(|folder| folder.to_string_lossy()).collect::<Vec<_>>().join(":"),
        package,
    })
}

pub(crate) fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // A read error ends the text early; the exit status still tells how the program fared.
            drop(pipe.read_to_end(&mut bytes));
        }
        drop(sender.send(bytes));
    });
    receiver
}

fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

const COMMAND_WITHIN: Duration = Duration::from_secs(60);
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_output_and_status() {
        let output = Cmd::new(["sh", "-c", "cat; echo complaint >&2; exit 3"]).stdin("hello").run().unwrap();
        assert_eq!(
            (output.code, output.stdout.as_str(), output.stderr.as_str()),
            (3, "hello", "complaint\n")
        );
    }

    #[test]
    fn kills_what_takes_too_long() {
        let started = Instant::now();
        let error = Cmd::new(["sleep", "60"]).within(Duration::from_millis(50)).run().unwrap_err();
        assert!(matches!(error, Error::CommandTimeout { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn names_the_package_of_a_missing_program() {
        let error = find_program("no-such-program", "no-such-package").unwrap_err();
        assert!(error.to_string().contains("install the Debian package no-such-package"), "{error}");
    }
}
