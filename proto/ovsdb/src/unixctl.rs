//! The control sockets of the Open vSwitch daemons, as `ovs-appctl` uses them (ovs-appctl(8); `lib/unixctl.c`).
//!
//! # Contract
//! One JSON-RPC request per call: the command is the method, its arguments are strings; the result is text, and so is an
//! error. [`Call`] has neither socket nor clock; [`call`] blocks with a deadline; `Unixctl::call` (feature `net`) waits.
//!
//! # Invariants
//! - What a daemon may make us hold is bounded by [`REPLY_BYTES_MAX`].

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use thiserror::Error;

use crate::jsonrpc::{FrameLimits, Framer, Message, MessageError};

/// One command and its reply.
#[derive(Debug)]
pub struct Call {
    framer: Framer,
}

impl Call {
    /// A command with its arguments, and the bytes to send.
    pub fn new<S: AsRef<str>>(command: &str, arguments: impl IntoIterator<Item = S>) -> (Self, Vec<u8>) {
        let params = arguments.into_iter().map(|argument| Value::from(argument.as_ref())).collect();
        let request = Message::Request { id: CALL_ID.into(), method: command.to_owned(), params };
        let limits = FrameLimits { message_bytes_max: REPLY_BYTES_MAX, ..FrameLimits::default() };
        (Self { framer: Framer::new(limits) }, request.encode())
    }

    /// Takes bytes of the reply; `None` if more are needed.
    pub fn received(&mut self, bytes: &[u8]) -> Result<Option<String>, UnixctlError> {
        self.framer.push(bytes);
        while let Some(message) = self.framer.next_message()? {
            match message {
                Message::Response { id, result: Value::String(text) } if id == CALL_ID => {
                    return Ok(Some(text));
                }
                // A daemon of 3.5 and later answers some commands in JSON when asked to.
                Message::Response { id, result } if id == CALL_ID => return Ok(Some(result.to_string())),
                Message::Error { id, error } if id == CALL_ID => {
                    let text = error.as_str().map_or_else(|| error.to_string(), str::to_owned);
                    return Err(UnixctlError::Command { text });
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

/// Calls a command and waits for its reply until the timeout.
pub fn call<S: AsRef<str>>(
    path: &Path,
    command: &str,
    arguments: impl IntoIterator<Item = S>,
    timeout: Duration,
) -> Result<String, UnixctlError> {
    let deadline = Instant::now() + timeout;
    // A timeout of zero means none to the socket; the deadline is past then.
    let left = || match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(UnixctlError::TimedOut { after: timeout }),
        left => Ok(Some(left)),
    };
    let late = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => UnixctlError::TimedOut { after: timeout },
        _ => UnixctlError::Io(error),
    };
    let (mut call, request) = Call::new(command, arguments);
    let mut stream = UnixStream::connect(path)?;
    stream.set_write_timeout(left()?)?;
    stream.write_all(&request).map_err(late)?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        stream.set_read_timeout(left()?)?;
        let count = match stream.read(&mut buffer) {
            Ok(0) => return Err(UnixctlError::Closed),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(late(error)),
        };
        if let Some(text) = call.received(&buffer[..count])? {
            return Ok(text);
        }
    }
}

/// Calls without blocking a thread.
#[cfg(feature = "net")]
#[derive(Debug)]
pub struct Unixctl;

#[cfg(feature = "net")]
impl Unixctl {
    /// Calls a command and waits for its reply. The caller brings the timeout.
    pub async fn call<S: AsRef<str>>(
        path: &Path,
        command: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<String, UnixctlError> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let (mut call, request) = Call::new(command, arguments);
        let mut stream = tokio::net::UnixStream::connect(path).await?;
        stream.write_all(&request).await?;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let count = stream.read(&mut buffer).await?;
            if count == 0 {
                return Err(UnixctlError::Closed);
            }
            if let Some(text) = call.received(&buffer[..count])? {
                return Ok(text);
            }
        }
    }
}

/// Why a command has no result.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UnixctlError {
    /// The socket failed.
    #[error("unixctl: {0}")]
    Io(#[from] io::Error),
    /// The daemon sent something else than a message.
    #[error("unixctl: {0}")]
    Message(#[from] MessageError),
    /// The daemon closed the connection without an answer.
    #[error("unixctl: closed by the daemon before its reply")]
    Closed,
    /// The daemon took too long.
    #[error("unixctl: no reply within {after:?}")]
    TimedOut {
        /// The timeout.
        after: Duration,
    },
    /// The daemon refused the command.
    #[error("unixctl: {}", text.trim_end())]
    Command {
        /// What it said.
        text: String,
    },
}

/// The longest reply. A dump of a million connections is about 250 MB.
pub const REPLY_BYTES_MAX: usize = 512 << 20;
const READ_BYTES: usize = 64 << 10;
const CALL_ID: u64 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_one_request_and_one_reply() {
        let (mut call, bytes) = Call::new("ofproto/trace", ["br0", "in_port=1"]);
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            r#"{"method":"ofproto/trace","params":["br0","in_port=1"],"id":0}"#
        );
        assert_eq!(call.received(br#"{"error":null,"id":0,"#).unwrap(), None);
        assert_eq!(call.received(br#""result":"Flow: x\n"}"#).unwrap().as_deref(), Some("Flow: x\n"));
    }

    #[test]
    fn errors_are_the_daemons_own_words() {
        let (mut call, _) = Call::new("nonsense", [""; 0]);
        let error =
            call.received(br#"{"error":"\"nonsense\" is not a valid command\n","id":0,"result":null}"#);
        assert_eq!(error.unwrap_err().to_string(), "unixctl: \"nonsense\" is not a valid command");
        let (mut call, _) = Call::new("x", [""; 0]);
        assert!(matches!(call.received(b"garbage"), Err(UnixctlError::Message(_))));
    }
}
