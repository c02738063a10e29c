//! A real ovsdb-server with a schema of ours, and a connection to it. Ended with the value, by the process id that it was
//! started with.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use ovsdb::DatabaseSchema;
use serde_json::{Deserializer, Value, json};
use tempfile::TempDir;

/// A running ovsdb-server with an empty standalone database.
pub(crate) struct RealServer {
    dir: TempDir,
    process: Child,
}

impl RealServer {
    /// Starts one, and returns once it listens.
    pub(crate) fn start(schema: &DatabaseSchema) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(path("schema"), schema.to_json().to_string()).unwrap();
        let created = Command::new("ovsdb-tool").args(["create", &path("db"), &path("schema")]).output();
        let created = created.expect("ovsdb-tool is installed");
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
        let mut process = Command::new("ovsdb-server")
            .arg(path("db"))
            .arg(format!("--remote=punix:{}", path("sock")))
            .arg(format!("--unixctl={}", path("ctl")))
            .arg(format!("--pidfile={}", path("pid")))
            .args(["-vconsole:info", "-vsyslog:off", "-vfile:off"])
            .env("OVS_RUNDIR", dir.path())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ovsdb-server is installed");
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let (mut line, mut all) = (String::new(), String::new());
        // The server names its version once it listens.
        while !line.contains("(Open vSwitch)") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "ovsdb-server ended: {all}");
            all += &line;
        }
        // A full pipe would stop it.
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        Self { dir, process }
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    /// A connection to it.
    pub(crate) fn connect(&self) -> Connection {
        Connection::open(&self.socket())
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// A JSON-RPC connection over a Unix socket that waits for each reply.
pub(crate) struct Connection {
    socket: UnixStream,
    messages: Box<dyn Iterator<Item = serde_json::Result<Value>>>,
    /// Notifications that came before the replies, in order.
    pub(crate) notifications: Vec<Value>,
    id: u64,
}

impl Connection {
    /// Connects.
    pub(crate) fn open(path: &std::path::Path) -> Self {
        let socket = UnixStream::connect(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let messages = Deserializer::from_reader(BufReader::new(socket.try_clone().unwrap())).into_iter();
        Self { socket, messages: Box::new(messages), notifications: Vec::new(), id: 0 }
    }

    /// Calls a method; returns `result`, or panics on a JSON-RPC error.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        let reply = self.call_raw(method, params);
        assert_eq!(reply["error"], Value::Null, "{method}: {reply}");
        reply["result"].clone()
    }

    /// Calls a method and returns the whole reply.
    pub(crate) fn call_raw(&mut self, method: &str, params: Value) -> Value {
        self.id += 1;
        let id = self.id;
        self.send(&json!({ "method": method, "params": params, "id": id }));
        loop {
            let message = self.messages.next().expect("the server lives").unwrap();
            if message.get("method").is_none() {
                assert_eq!(message["id"], id, "{message}");
                return message;
            }
            if message["method"] == "echo" {
                self.send(&json!({ "result": message["params"], "error": null, "id": message["id"] }));
            } else {
                self.notifications.push(message);
            }
        }
    }

    fn send(&mut self, message: &Value) {
        self.socket.write_all(message.to_string().as_bytes()).unwrap();
    }
}
