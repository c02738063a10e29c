//! A private ovsdb-server in a directory of its own: its own socket, its own control socket, ended with the value.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ovsdb::net::Target;
use tempfile::TempDir;

/// A running ovsdb-server that serves Open_vSwitch. Ended, by the process id it was started with, on drop.
pub(crate) struct Server {
    dir: TempDir,
    process: Option<Child>,
}

impl Server {
    /// A standalone database: it has no history, so nothing can be resumed.
    pub(crate) fn standalone() -> Self {
        let dir = tempfile::tempdir().expect("a directory for the server");
        run(Command::new("ovsdb-tool").arg("create").arg(dir.path().join("db")).arg(SCHEMA));
        Self::started(dir)
    }

    /// A cluster of one: it keeps its history.
    pub(crate) fn clustered() -> Self {
        let dir = tempfile::tempdir().expect("a directory for the server");
        let raft = format!("unix:{}", dir.path().join("raft").display());
        run(Command::new("ovsdb-tool")
            .arg("create-cluster")
            .arg(dir.path().join("db"))
            .arg(SCHEMA)
            .arg(raft));
        Self::started(dir)
    }

    fn started(dir: TempDir) -> Self {
        let mut server = Self { dir, process: None };
        server.start();
        server
    }

    /// Starts it, and returns once it listens.
    pub(crate) fn start(&mut self) {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let mut process = Command::new("ovsdb-server")
            .arg(path("db"))
            .arg(format!("--remote=punix:{}", path("sock")))
            .arg(format!("--unixctl={}", path("ctl")))
            .arg(format!("--pidfile={}", path("pid")))
            .args(["-vconsole:info", "-vsyslog:off", "-vfile:off"])
            .env("OVS_RUNDIR", self.dir.path())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ovsdb-server is installed");
        let mut log = BufReader::new(process.stderr.take().expect("it is a pipe"));
        self.process = Some(process);
        // The server names its version once it listens.
        let mut line = String::new();
        let mut all = String::new();
        while !line.contains("(Open vSwitch)") {
            line.clear();
            assert_ne!(log.read_line(&mut line).expect("the log is text"), 0, "ovsdb-server ended: {all}");
            all += &line;
        }
        // A full pipe would stop it.
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it is ours");
            process.wait().expect("it was killed");
        }
    }

    /// Sends the process a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("it runs");
        run(Command::new("kill").arg(signal).arg(process.id().to_string()));
    }

    /// A file in the server's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path("sock")
    }

    /// Its socket as a target.
    pub(crate) fn target(&self) -> Target {
        Target::Unix(self.socket())
    }

    /// Runs `ovs-vsctl` with these words, which must succeed.
    pub(crate) fn vsctl(&self, words: &str) -> String {
        let mut command = Command::new("ovs-vsctl");
        command.arg(format!("--db={}", self.target())).args(["--no-wait", "--timeout=20"]);
        run(command.args(words.split_whitespace()))
    }

    /// Runs `ovsdb-client transact`.
    pub(crate) fn transact(&self, transaction: &serde_json::Value) -> String {
        let mut command = Command::new("ovsdb-client");
        run(command.args(["--timeout=20", "transact", &self.target().to_string(), &transaction.to_string()]))
    }

    /// Runs `ovsdb-client get-schema`.
    pub(crate) fn schema(&self) -> String {
        let mut command = Command::new("ovsdb-client");
        run(command.args(["--timeout=20", "get-schema", &self.target().to_string(), "Open_vSwitch"]))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the tools print text")
}

/// Passes connections on to a server, until told to drop them.
pub(crate) struct Relay {
    path: PathBuf,
    drop_all: tokio::sync::watch::Sender<()>,
    _dir: TempDir,
}

impl Relay {
    /// Starts a relay to this socket.
    pub(crate) fn new(server: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a directory for the relay");
        let path = dir.path().join("sock");
        let listener = tokio::net::UnixListener::bind(&path).expect("the directory is ours");
        let (drop_all, dropped) = tokio::sync::watch::channel(());
        let server = server.to_owned();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (server, mut dropped) = (server.clone(), dropped.clone());
                dropped.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut server) = tokio::net::UnixStream::connect(server).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = dropped.changed() => {}
                    }
                });
            }
        });
        Self { path, drop_all, _dir: dir }
    }

    /// Where it listens.
    pub(crate) fn target(&self) -> Target {
        Target::Unix(self.path.clone())
    }

    /// Drops the connections there are.
    pub(crate) fn drop_connections(&self) {
        self.drop_all.send_replace(());
    }
}

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
