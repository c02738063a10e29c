//! ovsdbapp on python-ovs, as OpenStack's Neutron runs it, against three members of which one is killed.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use crate::system::Members;

#[test]
fn neutrons_client_works_and_resumes_on_another_member() {
    let mut members = Members::start(3);
    let mut client = Client::start(&members.remotes());
    assert_eq!(client.step(), "connected");
    let worked = client.step();
    let at = worked.strip_prefix("worked ").unwrap_or_else(|| panic!("{worked}"));

    members.kill(at);
    client.go_on();
    // Once when it was made: after the change of members it was not told again of what it knew.
    assert_eq!(client.step(), "seen 1");
    client.end();
}

struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
}

impl Client {
    fn start(remotes: &str) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/neutron.py");
        // Debian's own Python, where the packages are.
        let child = Command::new("/usr/bin/python3")
            .args(["-B", script, remotes])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child =
            child.unwrap_or_else(|error| panic!("python3: {error}; apt-get install python3-ovsdbapp"));
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let stdin = child.stdin.take();
        Self { child, stdin, lines }
    }

    /// The next line; its absence means that the client failed, and why is on standard error.
    fn step(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("the client says nothing: {error}"))
    }

    fn go_on(&mut self) {
        writeln!(self.stdin.as_mut().unwrap()).unwrap();
    }

    fn end(mut self) {
        self.stdin = None;
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
