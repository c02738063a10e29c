//! JSON-RPC 1.0 as OVSDB and unixctl speak it: JSON objects one after another on a byte stream (RFC 7047, section 4).
//!
//! # Contract
//! In: bytes in any chunks. Out: [`Message`]s. There is no delimiter and no length on the wire; [`Framer`] finds the end
//! of each value by its brackets.
//!
//! # Invariants
//! - Each byte is scanned once, whatever the chunks: the scan resumes where it stopped.
//! - Held memory is bounded by [`FrameLimits::message_bytes_max`] and one chunk.
//! - Nesting is bounded before the JSON reader runs, so it can't exhaust the stack.
//! - After an error the framer stays in it: where the next message starts is not known any more.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::json::excerpt;

/// How much a peer may make us hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// The longest message.
    pub message_bytes_max: usize,
    /// The deepest nesting; at most [`Self::DEPTH_LIMIT`] takes effect.
    pub depth_max: usize,
    /// Values in a message: each takes many times its octets once it is read.
    pub values_max: usize,
}

impl FrameLimits {
    /// The nesting the JSON reader itself allows.
    pub const DEPTH_LIMIT: usize = 127;
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self { message_bytes_max: 64 << 20, depth_max: 64, values_max: 4 << 20 }
    }
}

/// Cuts a byte stream into JSON values.
#[derive(Debug)]
pub struct Framer {
    limits: FrameLimits,
    buffer: Vec<u8>,
    /// Where the current value, or the space before it, begins.
    start: usize,
    /// Everything before this was scanned.
    scanned: usize,
    depth: usize,
    /// Values of the current message so far, about: its brackets and commas.
    values: usize,
    /// What opened each level, the innermost in the lowest bit: set for an object.
    objects: u128,
    text: Text,
    failed: Option<FrameError>,
}

/// Whether the scan stands inside a string.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Text {
    Outside,
    Inside,
    Escaped,
}

impl Framer {
    /// An empty framer.
    pub fn new(limits: FrameLimits) -> Self {
        let limits = FrameLimits { depth_max: limits.depth_max.min(FrameLimits::DEPTH_LIMIT), ..limits };
        Self {
            limits,
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            depth: 0,
            values: 0,
            objects: 0,
            text: Text::Outside,
            failed: None,
        }
    }

    /// Takes bytes off the stream. Drain [`Self::next_value`] before the next push; that keeps the bound on memory.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        // Moving the rest down costs at most as much as what was consumed before it.
        if self.start > 0 && self.start * 2 >= self.buffer.len() {
            self.buffer.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
            if self.buffer.is_empty() && self.buffer.capacity() > KEEP_BYTES {
                self.buffer = Vec::new();
            }
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete value, or `None` if more bytes are needed.
    pub fn next_value(&mut self) -> Result<Option<Value>, FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let found = self.scan().and_then(|end| end.map(|end| self.take(end)).transpose());
        if let Err(error) = &found {
            self.failed = Some(error.clone());
            self.buffer = Vec::new();
            (self.start, self.scanned) = (0, 0);
        }
        found
    }

    /// The next complete message, or `None` if more bytes are needed.
    pub fn next_message(&mut self) -> Result<Option<Message>, MessageError> {
        self.next_value()?.map(Message::from_json).transpose()
    }

    /// The bytes held: an unfinished message, and what follows it.
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Looks for the end of the current value.
    fn scan(&mut self) -> Result<Option<usize>, FrameError> {
        while let Some(&byte) = self.buffer.get(self.scanned) {
            self.scanned += 1;
            match self.text {
                Text::Escaped => self.text = Text::Inside,
                Text::Inside => match byte {
                    b'"' => self.text = Text::Outside,
                    b'\\' => self.text = Text::Escaped,
                    _ => {}
                },
                Text::Outside => match byte {
                    b'{' | b'[' => {
                        self.depth += 1;
                        if self.depth > self.limits.depth_max {
                            return Err(FrameError::TooDeep { depth_max: self.limits.depth_max });
                        }
                        self.objects = self.objects << 1 | u128::from(byte == b'{');
                        self.value()?;
                    }
                    b' ' | b'\t' | b'\r' | b'\n' if self.depth == 0 => self.start = self.scanned,
                    _ if self.depth == 0 => return Err(FrameError::Start { got: byte }),
                    b'}' | b']' => {
                        let matches = (self.objects & 1 == 1) == (byte == b'}');
                        self.objects >>= 1;
                        self.depth -= 1;
                        // With the wrong bracket it is over too: what is there so far tells the JSON reader what is wrong.
                        if self.depth == 0 || !matches {
                            return self.bound().map(|()| Some(self.scanned));
                        }
                    }
                    b'"' => self.text = Text::Inside,
                    b',' => self.value()?,
                    _ => {}
                },
            }
        }
        self.bound().map(|()| None)
    }

    /// One value more.
    fn value(&mut self) -> Result<(), FrameError> {
        self.values += 1;
        let values_max = self.limits.values_max;
        if self.values > values_max { Err(FrameError::TooMany { values_max }) } else { Ok(()) }
    }

    fn bound(&self) -> Result<(), FrameError> {
        if self.scanned - self.start > self.limits.message_bytes_max {
            return Err(FrameError::TooLong { message_bytes_max: self.limits.message_bytes_max });
        }
        Ok(())
    }

    fn take(&mut self, end: usize) -> Result<Value, FrameError> {
        let frame = &self.buffer[self.start..end];
        let text =
            std::str::from_utf8(frame).map_err(|error| FrameError::Utf8 { at: error.valid_up_to() })?;
        let value =
            serde_json::from_str(text).map_err(|error| FrameError::Syntax { why: error.to_string() })?;
        (self.start, self.values) = (end, 0);
        Ok(value)
    }
}

impl Default for Framer {
    fn default() -> Self {
        Self::new(FrameLimits::default())
    }
}

/// Bytes that are no stream of JSON values. The connection can't be used any further.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// A message starts with something else than a bracket.
    #[error("json-rpc: expected '{{' or '[' at the start of a message, got byte {got:#04x}")]
    Start {
        /// The byte.
        got: u8,
    },
    /// A message nests too deep.
    #[error("json-rpc: message nested deeper than {depth_max}")]
    TooDeep {
        /// The limit.
        depth_max: usize,
    },
    /// A message does not end.
    #[error("json-rpc: message longer than {message_bytes_max} bytes")]
    TooLong {
        /// The limit.
        message_bytes_max: usize,
    },
    /// A message has too many values.
    #[error("json-rpc: message of more than {values_max} values")]
    TooMany {
        /// The limit.
        values_max: usize,
    },
    /// A message is not UTF-8.
    #[error("json-rpc: message is not UTF-8 at byte {at}")]
    Utf8 {
        /// Offset in the message.
        at: usize,
    },
    /// A message is not JSON.
    #[error("json-rpc: {why}")]
    Syntax {
        /// What the JSON reader said.
        why: String,
    },
}

/// A JSON-RPC 1.0 message.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Asks for a reply.
    Request {
        /// Chosen by the asker, any JSON but null; comes back verbatim.
        id: Value,
        /// What to do.
        method: String,
        /// With what.
        params: Vec<Value>,
    },
    /// Asks for nothing.
    Notification {
        /// What happened.
        method: String,
        /// To what.
        params: Vec<Value>,
    },
    /// A reply that tells a result.
    Response {
        /// Of the request.
        id: Value,
        /// The result.
        result: Value,
    },
    /// A reply that tells an error.
    Error {
        /// Of the request.
        id: Value,
        /// A string, or an OVSDB `<error>` object.
        error: Value,
    },
}

impl Message {
    /// Reads a message. `params` may be null or missing: libovsdb and some tools send them so.
    pub fn from_json(json: Value) -> Result<Self, MessageError> {
        let Value::Object(mut members) = json else {
            return Err(MessageError::NoObject { got: excerpt(&json) });
        };
        let mut take = |name: &str| members.remove(name).unwrap_or(Value::Null);
        let (id, method, params) = (take("id"), take("method"), take("params"));
        let (result, error) = (take("result"), take("error"));
        let method = match method {
            Value::Null => None,
            Value::String(method) => Some(method),
            other => {
                return Err(MessageError::Member {
                    member: "method",
                    expected: "a string",
                    got: excerpt(&other),
                });
            }
        };
        let Some(method) = method else {
            if id.is_null() {
                return Err(MessageError::Neither);
            }
            return Ok(if error.is_null() {
                Self::Response { id, result }
            } else {
                Self::Error { id, error }
            });
        };
        let params = match params {
            Value::Null => Vec::new(),
            Value::Array(params) => params,
            other => {
                return Err(MessageError::Member {
                    member: "params",
                    expected: "an array",
                    got: excerpt(&other),
                });
            }
        };
        Ok(if id.is_null() {
            Self::Notification { method, params }
        } else {
            Self::Request { id, method, params }
        })
    }

    /// The JSON form.
    pub fn to_json(&self) -> Value {
        let mut json = Map::new();
        let mut put = |name: &str, value: Value| drop(json.insert(name.into(), value));
        match self {
            Self::Request { id, method, params } => {
                put("id", id.clone());
                put("method", method.clone().into());
                put("params", params.clone().into());
            }
            Self::Notification { method, params } => {
                put("id", Value::Null);
                put("method", method.clone().into());
                put("params", params.clone().into());
            }
            Self::Response { id, result } => {
                put("id", id.clone());
                put("result", result.clone());
                put("error", Value::Null);
            }
            Self::Error { id, error } => {
                put("id", id.clone());
                put("result", Value::Null);
                put("error", error.clone());
            }
        }
        json.into()
    }

    /// The bytes to send.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("JSON values have string keys and a vector takes every byte")
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        match self {
            Self::Request { id, method, params } => {
                map.serialize_entry("method", method)?;
                map.serialize_entry("params", params)?;
                map.serialize_entry("id", id)?;
            }
            Self::Notification { method, params } => {
                map.serialize_entry("method", method)?;
                map.serialize_entry("params", params)?;
                map.serialize_entry("id", &Value::Null)?;
            }
            Self::Response { id, result } => {
                map.serialize_entry("result", result)?;
                map.serialize_entry("error", &Value::Null)?;
                map.serialize_entry("id", id)?;
            }
            Self::Error { id, error } => {
                map.serialize_entry("result", &Value::Null)?;
                map.serialize_entry("error", error)?;
                map.serialize_entry("id", id)?;
            }
        }
        map.end()
    }
}

/// JSON that is no message.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageError {
    /// Not even JSON.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// JSON, but no object.
    #[error("json-rpc: expected an object, got {got}")]
    NoObject {
        /// The start of what was there.
        got: String,
    },
    /// A member of another type.
    #[error("json-rpc: {member}: expected {expected}, got {got}")]
    Member {
        /// The member.
        member: &'static str,
        /// What belongs there.
        expected: &'static str,
        /// The start of what was there.
        got: String,
    },
    /// Neither a method nor an id: no request, no notification, no reply.
    #[error("json-rpc: expected a method or an id, got neither")]
    Neither,
}

/// A framer that is empty gives memory beyond this back.
const KEEP_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(input: &[u8], expected: Expect) {
        let limits = FrameLimits { message_bytes_max: 100, depth_max: 4, values_max: 40 };
        let run = |chunk: usize| {
            let mut framer = Framer::new(limits);
            let mut lines = String::new();
            for chunk in input.chunks(chunk) {
                framer.push(chunk);
                loop {
                    match framer.next_message() {
                        Ok(None) => break,
                        Ok(Some(message)) => lines += &format!("{}\n", message.to_json()),
                        Err(MessageError::Frame(error)) => {
                            assert_eq!(framer.pending(), 0, "nothing is held after an error");
                            return lines + &format!("closed: {error}\n");
                        }
                        Err(error) => lines += &format!("error: {error}\n"),
                    }
                }
            }
            lines + &format!("{} pending\n", framer.pending())
        };
        let whole = run(input.len());
        assert_eq!(whole, run(1), "chunks must not matter");
        expected.assert_eq(&whole);
    }

    #[test]
    fn messages_follow_one_another() {
        check(
            br#"{"id":1,"method":"echo","params":["}\"{"]}  {"id":null,"method":"update","params":[]}
               {"id":1,"result":[],"error":null}{"id":"x","error":"unknown method","result":null}{"id""#,
            expect![[r#"
                {"id":1,"method":"echo","params":["}\"{"]}
                {"id":null,"method":"update","params":[]}
                {"error":null,"id":1,"result":[]}
                {"error":"unknown method","id":"x","result":null}
                5 pending
            "#]],
        );
    }

    #[test]
    fn peers_may_leave_things_out() {
        check(
            br#"{"id":1,"method":"list_dbs","params":null}{"method":"x"}{"id":{"a":1},"result":null}"#,
            expect![[r#"
                {"id":1,"method":"list_dbs","params":[]}
                {"id":null,"method":"x","params":[]}
                {"error":null,"id":{"a":1},"result":null}
                0 pending
            "#]],
        );
    }

    #[test]
    fn wrong_messages_do_not_end_the_stream() {
        check(
            br#"[1,2]{}{"method":1}{"method":"x","params":3}"#,
            expect![[r#"
                error: json-rpc: expected an object, got [1, 2]
                error: json-rpc: expected a method or an id, got neither
                error: json-rpc: method: expected a string, got 1
                error: json-rpc: params: expected an array, got 3
                0 pending
            "#]],
        );
    }

    #[test]
    fn values_are_counted_in_each_message() {
        let small = r#"{"id":1,"method":"echo","params":[1,2,3,4,5,6,7,8,9]}"#.repeat(4);
        check(
            format!(r#"{small}{{"id":1,"method":"echo","params":[[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[]]}}"#)
                .as_bytes(),
            expect![[r#"
                {"id":1,"method":"echo","params":[1,2,3,4,5,6,7,8,9]}
                {"id":1,"method":"echo","params":[1,2,3,4,5,6,7,8,9]}
                {"id":1,"method":"echo","params":[1,2,3,4,5,6,7,8,9]}
                {"id":1,"method":"echo","params":[1,2,3,4,5,6,7,8,9]}
                closed: json-rpc: message of more than 40 values
            "#]],
        );
    }

    #[test]
    fn wrong_bytes_end_the_stream() {
        check(
            b"{} 12",
            expect![[r#"
                error: json-rpc: expected a method or an id, got neither
                closed: json-rpc: expected '{' or '[' at the start of a message, got byte 0x31
            "#]],
        );
        check(b"[[[[[", expect![["closed: json-rpc: message nested deeper than 4\n"]]);
        check(b"{\"\xff\"}", expect![["closed: json-rpc: message is not UTF-8 at byte 2\n"]]);
        check(b"{]", expect![["closed: json-rpc: key must be a string at line 1 column 2\n"]]);
        check(b"{\"a\":[}", expect![["closed: json-rpc: expected value at line 1 column 7\n"]]);
        check(&[b'['; 1], expect![["1 pending\n"]]);
        let long = [b"[\"".as_slice(), &[b'a'; 200]].concat();
        check(&long, expect![["closed: json-rpc: message longer than 100 bytes\n"]]);
    }
}
