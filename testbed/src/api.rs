//! One call of a controller's JSON API over its socket: the little of HTTP that takes.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// An answer as it came.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Calls `method`, as `ClusterService/GetClusterStatus`, and waits for the answer. `request_id` makes a call that is
/// repeated with it be done once.
pub(crate) fn call(
    socket: &Path,
    method: &str,
    request_id: Option<&str>,
    body: &str,
    within: Duration,
) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(within))?;
    stream.set_write_timeout(Some(within))?;
    let id = request_id.map(|id| format!("x-quantumnet-request-id: {id}\r\n")).unwrap_or_default();
    let request = format!(
        "POST /quantumnet.v1.{method} HTTP/1.1\r\nhost: lab\r\ncontent-type: application/json\r\n{id}\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut text)?;
    let strange =
        || io::Error::new(io::ErrorKind::InvalidData, format!("expected an answer of HTTP, found {text:?}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(strange)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(strange)?;
    Ok(Answer { status, body: body.to_owned() })
}

const ANSWER_BYTES_MAX: u64 = 16 << 20;
