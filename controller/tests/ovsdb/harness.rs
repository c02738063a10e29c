//! A controller in this process, and programs that are its clients.

use std::{
    future::Future,
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use clap::Parser as _;
use quantumnet_controller::{config::Config, controller::Controller};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    process::Command,
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const NB: &str = "OVN_Northbound";

/// A controller with a Northbound and a Southbound socket.
pub(crate) struct Server {
    pub(crate) controller: Controller,
    pub(crate) directory: TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let config = Config::try_parse_from([
            "quantumnet-controller",
            "--data-dir",
            &path("data"),
            "--listen",
            "127.0.0.1:0",
            "--metrics",
            "127.0.0.1:0",
            "--nb",
            &format!("punix:{},ptcp:0:127.0.0.1", path("nb.sock")),
            "--sb",
            &format!("punix:{}", path("sb.sock")),
        ]);
        let controller = Controller::start(&config.unwrap()).await.unwrap();
        // Clients that insist on a leader are not turned away at the start.
        assert!(controller.replica().status().writable, "the only member leads when it serves");
        assert!(controller.replica().state().revision() > 0);
        Self { controller, directory }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("nb.sock")
    }

    pub(crate) fn nb(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    pub(crate) fn sb(&self) -> String {
        format!("unix:{}", self.directory.path().join("sb.sock").display())
    }

    /// Runs a program to its end; panics if it fails.
    pub(crate) async fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.try_run(program, arguments).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) async fn try_run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = self.command(program);
        within(command.args(arguments).output()).await.unwrap()
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("OVN_NB_DB", self.nb()).env("OVN_RUNDIR", self.directory.path());
        command.env("OVS_RUNDIR", self.directory.path()).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    pub(crate) async fn nbctl(&self, arguments: &[&str]) -> String {
        self.run("ovn-nbctl", arguments).await
    }

    pub(crate) async fn connect(&self) -> Raw {
        Raw { stream: UnixStream::connect(self.socket()).await.unwrap(), octets: Vec::new() }
    }
}

/// A connection on which tests say what they like.
pub(crate) struct Raw {
    pub(crate) stream: UnixStream,
    octets: Vec<u8>,
}

impl Raw {
    pub(crate) async fn send(&mut self, message: &Value) {
        self.stream.write_all(message.to_string().as_bytes()).await.unwrap();
    }

    /// The next message; `None` when the server closed the connection.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            let mut messages = serde_json::Deserializer::from_slice(&self.octets).into_iter::<Value>();
            if let Some(Ok(message)) = messages.next() {
                let end = messages.byte_offset();
                self.octets.drain(..end);
                return Some(message);
            }
            if within(self.stream.read_buf(&mut self.octets)).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// Asks, and returns the whole reply; nothing may come before it.
    pub(crate) async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.send(&json!({ "id": "q", "method": method, "params": params })).await;
        let reply = self.next().await.expect("the server answers");
        assert_eq!(reply["id"], "q", "{reply}");
        reply
    }

    /// Asks, and returns the result.
    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Value {
        let mut reply = self.ask(method, params).await;
        assert_eq!(reply["error"], Value::Null, "{reply}");
        reply["result"].take()
    }

    pub(crate) async fn transact(&mut self, operations: Value) -> Value {
        let Value::Array(operations) = operations else { panic!("operations are a list") };
        self.call("transact", std::iter::once(Value::from(NB)).chain(operations).collect()).await
    }
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}
