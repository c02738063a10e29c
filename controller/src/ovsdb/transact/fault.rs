//! Why an operation or a commit failed, in ovsdb-server's words.
//!
//! # Contract
//! - `error` is what programs compare and equals ovsdb-server's; `details` and `syntax` are for people. `syntax` quotes
//!   the JSON that was wrong, an extension that RFC 7047 (section 3.1 `<error>`) allows.

use std::fmt;

use ovsdb::result::ErrorKind;
use serde_json::{Map, Value};

/// Why an operation or a commit failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// Which error.
    pub kind: ErrorKind,
    /// For people.
    pub details: String,
    /// The JSON that was wrong.
    pub syntax: Option<String>,
}

impl Fault {
    /// An error that no JSON in particular is to blame for.
    pub(crate) fn new(kind: ErrorKind, details: impl Into<String>) -> Self {
        Self { kind, details: details.into(), syntax: None }
    }

    /// An error of this kind in `json`.
    pub(crate) fn at(json: &Value, kind: ErrorKind, details: impl Into<String>) -> Self {
        Self { kind, details: details.into(), syntax: Some(json.to_string()) }
    }

    /// JSON of another form than was expected.
    pub(crate) fn syntax(json: &Value, details: impl Into<String>) -> Self {
        Self::at(json, ErrorKind::SyntaxError, details)
    }

    /// A value that the schema refuses.
    pub(crate) fn constraint(details: impl Into<String>) -> Self {
        Self::new(ErrorKind::ConstraintViolation, details)
    }

    /// A name that means nothing, as `unknown function`.
    pub(crate) fn unknown(error: &str, details: impl Into<String>) -> Self {
        Self::new(ErrorKind::from_text(error), details)
    }

    /// The `<error>` of RFC 7047.
    pub fn to_json(&self) -> Value {
        let mut json = Map::new();
        json.insert("error".into(), self.kind.text().into());
        json.insert("details".into(), self.details.clone().into());
        if let Some(syntax) = &self.syntax {
            json.insert("syntax".into(), syntax.clone().into());
        }
        json.into()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.details)
    }
}

impl std::error::Error for Fault {}
