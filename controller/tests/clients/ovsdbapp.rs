//! ovsdbapp on python-ovs, as OpenStack's Neutron and its agents run it, against three members of which one is killed.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use crate::{hypervisor::Hypervisor, system::Members};

#[test]
fn neutrons_client_works_and_resumes_on_another_member() {
    let mut members = Members::start(3);
    let mut client = Client::start("neutron.py", &members.remotes());
    assert_eq!(client.step(), "connected");
    let worked = client.step();
    let at = worked.strip_prefix("worked ").unwrap_or_else(|| panic!("{worked}"));

    members.kill(at);
    client.go_on();
    // Once when it was made: after the change of members it was not told again of what it knew.
    assert_eq!(client.step(), "seen 1");
    client.end();
}

#[test]
fn neutrons_agents_see_events_and_resume_on_another_member() {
    let mut members = Members::start(3);
    let mut client = Client::start("neutron_southbound.py", &members.southbound());
    let connected = client.step();
    let at = connected.strip_prefix("connected ").unwrap_or_else(|| panic!("{connected}")).to_owned();

    let mut hypervisor = Hypervisor::register(members.listen(&at), "hv1", "192.0.2.1");
    let nbctl = |members: &Members, line: &str| {
        let ended = members.run_shell(&format!("ovn-nbctl --timeout=30 {line}"), &BTreeMap::new());
        assert_eq!(ended.status, 0, "{line}: {}", ended.stderr);
    };
    nbctl(&members, "ls-add s0 -- set Logical_Switch s0 'external_ids:\"neutron:network_name\"=web'");
    nbctl(
        &members,
        "lsp-add s0 p0 -- set Logical_Switch_Port p0 'external_ids:\"neutron:port_name\"=vm0' -- lsp-add s0 p1",
    );
    hypervisor.plug("p0");
    client.go_on();
    assert_eq!(client.step(), "worked");

    nbctl(&members, "--wait=hv sync");
    client.go_on();
    assert_eq!(client.step(), "configured");

    members.kill(&at);
    client.go_on();
    assert_eq!(client.step(), "watching");
    // Once a write succeeds, there is a leader to report to.
    let deadline = Instant::now() + PATIENCE;
    let write = "ovn-nbctl --timeout=30 set NB_Global . external_ids:after=kill";
    while members.run_shell(write, &BTreeMap::new()).status != 0 {
        assert!(Instant::now() < deadline, "the others have a leader");
    }
    hypervisor.plug("p1");
    // Once when it was registered: after the change of members it was not told again of what it knew.
    assert_eq!(client.step(), "seen 1");

    drop(hypervisor);
    client.go_on();
    assert_eq!(client.step(), "deleted");
    client.end();
}

struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
}

impl Client {
    fn start(script: &str, remotes: &str) -> Self {
        let script = format!("{}/tests/clients/{script}", env!("CARGO_MANIFEST_DIR"));
        // Debian's own Python, where the packages are.
        let child = Command::new("/usr/bin/python3")
            .args(["-B", &script, remotes])
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
