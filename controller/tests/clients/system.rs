//! The two systems: sockets, daemons, and a client that talks to them.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

/// How the client runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    /// A connection for each command.
    OneShot,
    /// One `ovn-nbctl --detach` that runs them all.
    Daemon,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A northbound database with whatever keeps it, in a folder of its own.
pub(crate) struct System {
    folder: tempfile::TempDir,
    children: Vec<Child>,
    environment: BTreeMap<String, String>,
}

impl System {
    /// ovsdb-server with both databases, and ovn-northd.
    pub(crate) fn real(mode: Mode) -> Self {
        let mut system = Self::new("nb.sock");
        for (schema, file) in [("ovn-nb", "nb.db"), ("ovn-sb", "sb.db")] {
            let schema = format!("/usr/share/ovn/{schema}.ovsschema");
            let file = system.path(file);
            assert!(
                Path::new(&schema).is_file(),
                "{schema} is missing: apt-get install ovn-common ovn-central"
            );
            succeed(Command::new("ovsdb-tool").args(["create", text(&file), &schema]));
        }
        for kind in ["nb", "sb"] {
            let mut server = Command::new("ovsdb-server");
            server
                .arg(format!("--remote=punix:{}", text(&system.path(&format!("{kind}.sock")))))
                .arg(format!("--unixctl={}", text(&system.path(&format!("{kind}.ctl")))));
            server.arg(match kind {
                "nb" => "--remote=db:OVN_Northbound,NB_Global,connections",
                _ => "--remote=db:OVN_Southbound,SB_Global,connections",
            });
            server.arg(system.path(&format!("{kind}.db")));
            system.spawn(server, kind);
        }
        system.wait_for("sb.sock");
        system.wait_for("nb.sock");
        let mut northd = Command::new("ovn-northd");
        northd
            .arg(format!("--ovnnb-db=unix:{}", text(&system.path("nb.sock"))))
            .arg(format!("--ovnsb-db=unix:{}", text(&system.path("sb.sock"))))
            .arg(format!("--unixctl={}", text(&system.path("northd.ctl"))));
        system.spawn(northd, "northd");
        system.begin(mode)
    }

    /// One controller.
    pub(crate) fn quantumnet(mode: Mode) -> Self {
        let mut system = Self::new("nb.sock");
        let mut controller = Command::new(env!("CARGO_BIN_EXE_quantumnet-controller"));
        controller
            .args(["--data-dir", text(&system.path("data"))])
            .args(["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"])
            .args(["--nb", &format!("punix:{}", text(&system.path("nb.sock")))])
            .args(["--sb", &format!("punix:{}", text(&system.path("sb.sock")))]);
        system.spawn(controller, "controller");
        system.begin(mode)
    }

    fn new(socket: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pair = |name: &str, value: String| (name.to_owned(), value);
        let path = text(folder.path()).to_owned();
        let environment = [
            pair("OVN_NB_DB", format!("unix:{path}/{socket}")),
            pair("OVN_SB_DB", format!("unix:{path}/sb.sock")),
            pair("SOCKETS", path.clone()),
            // Where the client itself puts sockets and logs.
            pair("OVN_RUNDIR", path.clone()),
            pair("OVS_RUNDIR", path),
            pair("OVN_NBCTL_OPTIONS", "--timeout=20".to_owned()),
        ];
        Self { folder, children: Vec::new(), environment: environment.into() }
    }

    fn begin(mut self, mode: Mode) -> Self {
        self.wait_for("nb.sock");
        let deadline = Instant::now() + PATIENCE;
        while self.run("--wait=sb sync").status != 0 {
            assert!(Instant::now() < deadline, "the system answers within {PATIENCE:?}; {}", self.logs());
        }
        if mode == Mode::Daemon {
            let mut daemon = Command::new("ovn-nbctl");
            daemon.envs(&self.environment).args(["--no-leader-only", "-vconsole:off"]);
            // In the foreground, so that it ends with this process.
            daemon.args(["--no-chdir", "--unixctl", text(&self.path("nbctl.ctl")), "--detach", "--pidfile"]);
            let started = daemon.output().unwrap();
            assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
            let socket = String::from_utf8(started.stdout).unwrap().trim().to_owned();
            self.environment.insert("OVN_NB_DAEMON".to_owned(), socket);
        }
        self
    }

    /// Runs a line of the script of `ovn-nbctl`.
    pub(crate) fn run(&self, line: &str) -> Ended {
        self.run_shell(&format!("ovn-nbctl {line}"))
    }

    /// Runs a line of a script.
    pub(crate) fn run_shell(&self, line: &str) -> Ended {
        shell(line, &self.environment, self.folder.path())
    }

    /// Gives clients a variable.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    /// Makes what a line printed a variable of later ones.
    pub(crate) fn remember(&mut self, name: &str, printed: &str) {
        self.environment.insert(name.to_owned(), printed.trim().to_owned());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn spawn(&mut self, mut command: Command, name: &str) {
        let log = std::fs::File::create(self.path(&format!("{name}.log"))).unwrap();
        let errors = log.try_clone().unwrap();
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        let program = command.get_program().to_owned();
        let child = child.unwrap_or_else(|error| panic!("{program:?}: {error}; apt-get install ovn-central"));
        self.children.push(child);
    }

    fn wait_for(&self, socket: &str) {
        let (path, deadline) = (self.path(socket), Instant::now() + PATIENCE);
        while std::os::unix::net::UnixStream::connect(&path).is_err() {
            assert!(Instant::now() < deadline, "{} within {PATIENCE:?}; {}", path.display(), self.logs());
            std::thread::yield_now();
        }
    }

    fn logs(&self) -> String {
        let entries = std::fs::read_dir(self.folder.path()).unwrap().flatten();
        let logs = entries.filter(|entry| entry.path().extension().is_some_and(|kind| kind == "log"));
        logs.map(|log| format!("{:?}:\n{}\n", log.file_name(), std::fs::read_to_string(log.path()).unwrap()))
            .collect()
    }
}

impl Drop for System {
    fn drop(&mut self) {
        if self.environment.contains_key("OVN_NB_DAEMON") {
            _ = self.run("-u $OVN_NB_DAEMON exit");
            _ = Command::new("ovn-appctl").args(["-t", &self.environment["OVN_NB_DAEMON"], "exit"]).output();
        }
        for mut child in self.children.drain(..) {
            _ = child.kill();
            _ = child.wait();
        }
    }
}

fn shell(line: &str, environment: &BTreeMap<String, String>, folder: &Path) -> Ended {
    let output =
        Command::new("sh").args(["-c", line]).envs(environment).stdin(Stdio::null()).output().unwrap();
    let Output { status, stdout, stderr } = output;
    let own = text(folder);
    let printed = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace(own, "SOCKETS");
    Ended { status: status.code().unwrap_or(-1), stdout: printed(stdout), stderr: printed(stderr) }
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

const PATIENCE: Duration = Duration::from_secs(30);

/// Controllers that are one cluster, on loopback.
pub(crate) struct Members {
    folder: tempfile::TempDir,
    members: Vec<Member>,
}

struct Member {
    northbound: String,
    southbound: String,
    /// Where agents connect.
    listen: String,
    child: Option<Child>,
}

impl Members {
    /// Starts so many and waits until a client is served.
    pub(crate) fn start(count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = free_ports(4 * count);
        let [northbound, southbound, listen, peers] =
            [0, 1, 2, 3].map(|kind| &ports[kind * count..(kind + 1) * count]);
        let all: Vec<String> =
            peers.iter().zip(1..).map(|(port, number)| format!("{number}=127.0.0.1:{port}")).collect();
        let members = (0..count).map(|place| {
            let (number, peer) = (place + 1, peers[place]);
            let [northbound, southbound, listen] = [northbound, southbound, listen].map(|ports| ports[place]);
            let own = folder.path().join(format!("member{number}"));
            let log = std::fs::File::create(folder.path().join(format!("member{number}.log"))).unwrap();
            let child = Command::new(env!("CARGO_BIN_EXE_quantumnet-controller"))
                .args(["--member-id", &number.to_string(), "--data-dir", text(&own)])
                .args(["--listen", &format!("127.0.0.1:{listen}"), "--metrics", "127.0.0.1:0"])
                .args(["--peer-listen", &format!("127.0.0.1:{peer}"), "--peers", &all.join(",")])
                .args(["--nb", &format!("ptcp:{northbound}:127.0.0.1")])
                .args(["--sb", &format!("ptcp:{southbound}:127.0.0.1")])
                .stdin(Stdio::null())
                .stderr(log.try_clone().unwrap())
                .stdout(log)
                .spawn()
                .unwrap();
            Member {
                northbound: format!("tcp:127.0.0.1:{northbound}"),
                southbound: format!("tcp:127.0.0.1:{southbound}"),
                listen: format!("127.0.0.1:{listen}"),
                child: Some(child),
            }
        });
        let members = Self { members: members.collect(), folder };
        let deadline = Instant::now() + PATIENCE;
        let served = || {
            let mut client = Command::new("ovn-nbctl");
            client
                .args([&format!("--db={}", members.remotes()), "--timeout=5", "init"])
                .output()
                .unwrap()
                .status
        };
        while !served().success() {
            assert!(Instant::now() < deadline, "the cluster serves within {PATIENCE:?}: {}", members.logs());
        }
        members
    }

    /// All addresses of the northbound database, as clients take them.
    pub(crate) fn remotes(&self) -> String {
        self.members.iter().map(|member| member.northbound.as_str()).collect::<Vec<_>>().join(",")
    }

    /// All addresses of the southbound database.
    pub(crate) fn southbound(&self) -> String {
        self.members.iter().map(|member| member.southbound.as_str()).collect::<Vec<_>>().join(",")
    }

    /// Where agents find a member, another one than that which serves a database there.
    pub(crate) fn listen(&self, but: &str) -> &str {
        let other = self.members.iter().find(|member| member.northbound != but && member.southbound != but);
        &other.expect("there is another member").listen
    }

    /// Runs a line with the addresses of all members in the environment.
    pub(crate) fn run_shell(&self, line: &str, environment: &BTreeMap<String, String>) -> Ended {
        let mut environment = environment.clone();
        environment.insert("OVN_NB_DB".to_owned(), self.remotes());
        environment.insert("OVN_SB_DB".to_owned(), self.southbound());
        shell(line, &environment, self.folder.path())
    }

    /// Kills the member that serves a database at that address.
    pub(crate) fn kill(&mut self, remote: &str) {
        let serves = |member: &&mut Member| member.northbound == remote || member.southbound == remote;
        let child = self.members.iter_mut().find(serves).and_then(|member| member.child.take());
        let mut child = child.unwrap_or_else(|| panic!("no member runs at {remote}"));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn logs(&self) -> String {
        let logs =
            (1..=self.members.len()).map(|number| self.folder.path().join(format!("member{number}.log")));
        logs.map(|log| std::fs::read_to_string(log).unwrap_or_default()).collect()
    }
}

/// Ports that nobody listens on, below those that the kernel gives to connections, and apart from other processes' and
/// other calls'.
fn free_ports(count: usize) -> Vec<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = (std::process::id() % 300) * 64;
    let next = || {
        let offset = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        u16::try_from(10_000 + (base + offset) % 20_000).expect("it is less than 30000")
    };
    std::iter::repeat_with(next)
        .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .take(count)
        .collect()
}

impl Drop for Members {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(child) = &mut member.child {
                _ = child.kill();
                _ = child.wait();
            }
        }
    }
}
