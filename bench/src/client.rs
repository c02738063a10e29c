//! A small OVSDB client: what a measurement needs and nothing that costs time.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// A connection to a server of the northbound database, or of both.
pub(crate) struct Client {
    stream: Box<dyn Stream>,
    /// What came and was not taken yet.
    octets: Vec<u8>,
    number: u64,
}

impl Client {
    /// Connects.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let stream =
            UnixStream::connect(socket).with_context(|| format!("connecting to {}", socket.display()))?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(Self::over(stream))
    }

    /// Connects over TCP.
    pub(crate) fn connect_tcp(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }

    fn over(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), octets: Vec::new(), number: 0 }
    }

    /// Sends a request; returns its number.
    pub(crate) fn send(&mut self, method: &str, params: Value) -> Result<u64> {
        self.number += 1;
        let request = json!({"id": self.number, "method": method, "params": params});
        self.stream.write_all(request.to_string().as_bytes())?;
        Ok(self.number)
    }

    /// Sends a transaction.
    pub(crate) fn begin(&mut self, operations: Vec<Value>) -> Result<u64> {
        self.begin_on("OVN_Northbound", operations)
    }

    fn begin_on(&mut self, database: &str, operations: Vec<Value>) -> Result<u64> {
        let mut params = vec![json!(database)];
        params.extend(operations);
        self.send("transact", params.into())
    }

    /// The next message that is no probe.
    pub(crate) fn next(&mut self) -> Result<Value> {
        loop {
            let octets = self.message()?;
            let message: Value = serde_json::from_slice(&octets)?;
            if message["method"] != "echo" {
                return Ok(message);
            }
            let answer = json!({"id": message["id"], "result": message["params"], "error": null});
            self.stream.write_all(answer.to_string().as_bytes())?;
        }
    }

    /// The result of a request; notifications before it are dropped.
    pub(crate) fn result(&mut self, number: u64) -> Result<Value> {
        loop {
            let mut message = self.next()?;
            if message["id"] == number {
                ensure!(message["error"].is_null(), "the server refused a request: {}", message["error"]);
                return Ok(message["result"].take());
            }
        }
    }

    /// Asks and waits.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        let number = self.send(method, params)?;
        self.result(number)
    }

    /// Runs a transaction; an error in it is one here.
    pub(crate) fn transact(&mut self, operations: Vec<Value>) -> Result<Value> {
        self.transact_on("OVN_Northbound", operations)
    }

    /// The same on that database.
    pub(crate) fn transact_on(&mut self, database: &str, operations: Vec<Value>) -> Result<Value> {
        let number = self.begin_on(database, operations)?;
        let results = self.result(number)?;
        check(&results)?;
        Ok(results)
    }

    /// Takes in one message without reading it as JSON; returns its octets.
    pub(crate) fn message(&mut self) -> Result<Vec<u8>> {
        let (mut at, mut depth, mut text, mut escaped) = (0, 0_usize, false, false);
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            while let Some(octet) = self.octets.get(at) {
                at += 1;
                match octet {
                    _ if escaped => escaped = false,
                    b'\\' if text => escaped = true,
                    b'"' => text = !text,
                    b'{' | b'[' if !text => depth += 1,
                    b'}' | b']' if !text => {
                        depth = depth.checked_sub(1).context("a bracket too many")?;
                        if depth == 0 {
                            let rest = self.octets.split_off(at);
                            return Ok(std::mem::replace(&mut self.octets, rest));
                        }
                    }
                    _ => {}
                }
            }
            let got = self.stream.read(&mut chunk)?;
            if got == 0 {
                bail!("the server closed the connection");
            }
            self.octets.extend_from_slice(&chunk[..got]);
        }
    }
}

/// Refuses results of a transaction that failed.
pub(crate) fn check(results: &Value) -> Result<()> {
    let failed = results.as_array().into_iter().flatten().find(|result| result.get("error").is_some());
    ensure!(failed.is_none(), "a transaction failed: {results}");
    Ok(())
}

/// A switch with so many ports, as one transaction; `named` gives the number of the first port.
pub(crate) fn switch(number: u32, ports: std::ops::Range<u32>) -> Vec<Value> {
    let mut operations = Vec::new();
    let mut members = Vec::new();
    for port in ports {
        let name = format!("p{port}");
        let address = address(port);
        members.push(json!(["named-uuid", name]));
        operations.push(json!({"op": "insert", "table": "Logical_Switch_Port", "uuid-name": name, "row":
            {"name": name, "addresses": address, "port_security": address,
             "external_ids": ["map", [["owner", format!("vm-{port}")], ["project", format!("project-{number}")]]]}}));
    }
    operations.push(json!({"op": "insert", "table": "Logical_Switch", "row":
        {"name": format!("s{number}"), "ports": ["set", members]}}));
    operations
}

/// MAC and IPv4 address of a port.
pub(crate) fn address(port: u32) -> String {
    let [_, a, b, c] = port.to_be_bytes();
    format!("0a:00:00:{a:02x}:{b:02x}:{c:02x} 10.{a}.{b}.{c}")
}

const CHUNK_BYTES: usize = 256 << 10;
const ANSWER_WITHIN: Duration = Duration::from_secs(300);
