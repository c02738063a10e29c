//! A private Open vSwitch in its own network namespace, and OpenFlow connections to it.
//!
//! # Invariants
//! - Tests that run at the same time share one switch; each has a bridge of its own.
//! - The last test that holds the switch ends its processes and removes its namespace and files,
//!   also when it panics.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::time::{Duration, Instant};

use ofpacket::{ErrorMessage, Framer, Hello, Message, MultipartRequest, ReplyBody, SwitchConfig, Version};

/// The processes of one Open vSwitch.
pub(crate) struct Switch {
    directory: PathBuf,
    namespace: String,
    children: Vec<Child>,
}

static SHARED: Mutex<Weak<Switch>> = Mutex::new(Weak::new());
static STARTS: AtomicU32 = AtomicU32::new(0);
const DEADLINE: Duration = Duration::from_secs(30);

impl Switch {
    /// The switch of this test binary.
    pub(crate) fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(switch) = shared.upgrade() {
            return switch;
        }
        let switch = Arc::new(Self::start());
        *shared = Arc::downgrade(&switch);
        switch
    }

    fn start() -> Self {
        for program in ["ovsdb-server", "ovs-vswitchd", "ovsdb-tool", "ovs-vsctl", "ovs-ofctl", "ip"] {
            let found = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
                .iter()
                .any(|dir| Path::new(dir).join(program).exists());
            assert!(found, "these tests need Open vSwitch and iproute2: {program} is not installed");
        }
        let own = Command::new("id").arg("-u").output().expect("id runs");
        assert_eq!(own.stdout.trim_ascii(), b"0", "these tests make a network namespace and need root");

        // Between two tests the switch may end and start again.
        let start = STARTS.fetch_add(1, Ordering::Relaxed);
        let tag = format!("ofp{}-{start}", std::process::id());
        let directory = std::env::temp_dir().join(format!("ofpacket-{tag}"));
        std::fs::create_dir_all(&directory).expect("a directory for the switch");
        let mut this = Self { directory, namespace: tag, children: Vec::new() };
        run(Command::new("ip").args(["netns", "add", &this.namespace]));
        let database = this.path("conf.db");
        run(this.command("ovsdb-tool").args([
            "create",
            &database,
            "/usr/share/openvswitch/vswitch.ovsschema",
        ]));
        let remote = format!("--remote=punix:{}", this.path("db.sock"));
        this.spawn("ovsdb-server", &[&database, &remote]);
        this.until("the database answers", || this.path_exists("db.sock"));
        run(this.vsctl().arg("init"));
        let remote = format!("unix:{}", this.path("db.sock"));
        this.spawn("ovs-vswitchd", &[&remote]);
        this.until("the switch answers", || this.path_exists("ovs-vswitchd.ctl"));
        this
    }

    /// A new bridge, with nothing in it.
    pub(crate) fn bridge(&self, name: &str) -> PathBuf {
        run(self
            .vsctl()
            .args(["add-br", name, "--", "set", "bridge", name, "datapath_type=netdev"])
            .args(["fail_mode=secure", "protocols=OpenFlow10,OpenFlow13,OpenFlow14,OpenFlow15"]));
        let socket = format!("{name}.mgmt");
        self.until("the bridge is there", || self.path_exists(&socket));
        self.directory.join(socket)
    }

    /// What `ovs-ofctl` says, line by line.
    pub(crate) fn ofctl(&self, arguments: &[&str]) -> Vec<String> {
        let output = self.command("ovs-ofctl").args(arguments).output().expect("ovs-ofctl runs");
        assert!(
            output.status.success(),
            "ovs-ofctl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).lines().map(|line| line.trim().to_owned()).collect()
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).to_str().expect("the path is ASCII").to_owned()
    }

    fn path_exists(&self, name: &str) -> bool {
        self.directory.join(name).exists()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]);
        command
            .env("OVS_RUNDIR", &self.directory)
            .env("OVS_DBDIR", &self.directory)
            .env("OVS_LOGDIR", &self.directory);
        command
    }

    fn vsctl(&self) -> Command {
        let mut command = self.command("ovs-vsctl");
        command.args([&format!("--db=unix:{}", self.path("db.sock")), "--no-wait", "--timeout=20"]);
        command
    }

    fn spawn(&mut self, program: &str, arguments: &[&str]) {
        let mut command = self.command(program);
        command.args(arguments);
        command.arg(format!("--pidfile={}", self.path(&format!("{program}.pid"))));
        command.arg(format!("--unixctl={}", self.path(&format!("{program}.ctl"))));
        command.arg(format!("--log-file={}", self.path(&format!("{program}.log"))));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.children.push(command.spawn().expect("Open vSwitch starts"));
    }

    fn until(&self, what: &str, condition: impl Fn() -> bool) {
        until(what, condition);
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // `ip netns exec` becomes the program, so these are its own ids.
        for child in self.children.iter_mut().rev() {
            drop(child.kill());
            drop(child.wait());
        }
        drop(Command::new("ip").args(["netns", "del", &self.namespace]).status());
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Waits for a condition that nothing announces.
fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    // Nobody sends: the receiver is a timer.
    let (_keep, timer) = mpsc::channel::<()>();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        let _ = timer.recv_timeout(Duration::from_millis(5));
    }
}

/// One OpenFlow connection.
pub(crate) struct Connection {
    stream: UnixStream,
    framer: Framer,
    version: Version,
    xid: u32,
}

impl Connection {
    /// Connects to a bridge and agrees on a version.
    pub(crate) fn new(socket: &Path, version: Version) -> Self {
        let stream = UnixStream::connect(socket).expect("the bridge listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout that is not zero");
        let mut this = Self { stream, framer: Framer::new(), version, xid: 0 };
        this.send(&Message::Hello(Hello::new(&[version])));
        let (_, hello) = this.receive();
        assert!(
            matches!(&hello, Message::Hello(hello) if hello.supports(version) == Some(true)),
            "{hello:?}"
        );
        this
    }

    /// Connects, and asks for packet-ins and the like: a connection to the management socket gets
    /// none before it sets a packet-in length.
    pub(crate) fn listening(socket: &Path, version: Version) -> Self {
        let mut this = Self::new(socket, version);
        this.apply(&[Message::SetConfig(SwitchConfig { flags: 0, miss_send_len: 0xffff })]);
        this
    }

    /// Sends a message and tells its transaction id.
    pub(crate) fn send(&mut self, message: &Message) -> u32 {
        self.xid += 1;
        let bytes = message.encode_as(self.version, self.xid).expect("the message has an encoding");
        self.stream.write_all(&bytes).expect("the switch reads");
        self.xid
    }

    /// The next message that is not an echo request. Checks that it survives a round trip.
    pub(crate) fn receive(&mut self) -> (u32, Message) {
        loop {
            if let Some(bytes) = self.framer.next_message().expect("the switch frames well") {
                let (header, message) = Message::decode(bytes).expect("the switch writes what we read");
                let again =
                    message.encode_as(self.version, header.xid).expect("what was read can be written");
                let back = Message::decode(&again).expect("what was written can be read");
                assert_eq!(back.1, message);
                if let Message::EchoRequest(data) = message {
                    let reply =
                        Message::EchoReply(data).encode_as(self.version, header.xid).expect("an echo");
                    self.stream.write_all(&reply).expect("the switch reads");
                    continue;
                }
                return (header.xid, message);
            }
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => panic!("the switch closed the connection"),
                Ok(length) => self.framer.push(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("no message within {DEADLINE:?}: {error}"),
            }
        }
    }

    /// Sends messages and a barrier; what was refused, by the index of the message.
    pub(crate) fn refusals(&mut self, messages: &[Message]) -> BTreeMap<usize, ErrorMessage> {
        let xids: Vec<u32> = messages.iter().map(|message| self.send(message)).collect();
        let barrier = self.send(&Message::BarrierRequest);
        let mut refusals = BTreeMap::new();
        loop {
            match self.receive() {
                (xid, Message::BarrierReply) if xid == barrier => return refusals,
                (xid, Message::Error(error)) => {
                    let index =
                        xids.iter().position(|sent| *sent == xid).expect("an error answers a message");
                    refusals.insert(index, error);
                }
                _ => {}
            }
        }
    }

    /// Sends messages that the switch must take.
    pub(crate) fn apply(&mut self, messages: &[Message]) {
        let refusals = self.refusals(messages);
        assert!(refusals.is_empty(), "{refusals:?} of {messages:?}");
    }

    /// The one answer to a message.
    pub(crate) fn ask(&mut self, message: &Message) -> Message {
        let xid = self.send(message);
        loop {
            match self.receive() {
                (answer, message) if answer == xid => return message,
                _ => {}
            }
        }
    }

    /// All parts of an answer.
    pub(crate) fn ask_all(&mut self, request: MultipartRequest) -> Vec<ReplyBody> {
        let xid = self.send(&Message::MultipartRequest(request));
        let mut parts = Vec::new();
        loop {
            match self.receive() {
                (answer, Message::MultipartReply(reply)) if answer == xid => {
                    parts.push(reply.body);
                    if !reply.more {
                        return parts;
                    }
                }
                (answer, Message::Error(error)) if answer == xid => panic!("{error}"),
                _ => {}
            }
        }
    }
}
