//! Reading the members of a JSON object one by one, as OVS's `ovsdb_parser` does: what is missing and what does not
//! belong there are both errors.

use serde_json::{Map, Value};
use thiserror::Error;

use crate::json::{DecodeError, excerpt};

/// A request, reply or notification that is not what RFC 7047 says it is.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum RequestError {
    /// Another form.
    #[error("{what}: expected {expected}, got {got}")]
    Form {
        /// The part.
        what: &'static str,
        /// What belongs there.
        expected: &'static str,
        /// The start of what was there.
        got: String,
    },
    /// A member that must be there is not.
    #[error("{what}: required member {member:?} is missing")]
    Missing {
        /// The object.
        what: &'static str,
        /// The member.
        member: &'static str,
    },
    /// A member that has no business there.
    #[error("{what}: member {member:?} is not allowed here")]
    Unexpected {
        /// The object.
        what: &'static str,
        /// The member.
        member: String,
    },
    /// A value that could not be read.
    #[error("{what}: {source}")]
    Value {
        /// The part.
        what: &'static str,
        /// Why.
        source: DecodeError,
    },
    /// The wrong number of parameters.
    #[error("{what}: expected {expected} parameters, got {got}")]
    Count {
        /// The method.
        what: &'static str,
        /// How many it takes.
        expected: usize,
        /// How many there were.
        got: usize,
    },
}

impl RequestError {
    pub(crate) fn form(what: &'static str, expected: &'static str, got: &Value) -> Self {
        Self::Form { what, expected, got: excerpt(got) }
    }
}

/// The members of an object that were not read yet.
pub(crate) struct Members {
    pub(crate) what: &'static str,
    map: Map<String, Value>,
}

impl Members {
    pub(crate) fn new(what: &'static str, json: Value) -> Result<Self, RequestError> {
        object(what, json).map(|map| Self { what, map })
    }

    pub(crate) fn take(&mut self, member: &str) -> Option<Value> {
        self.map.remove(member)
    }

    pub(crate) fn need(&mut self, member: &'static str) -> Result<Value, RequestError> {
        self.take(member).ok_or(RequestError::Missing { what: self.what, member })
    }

    pub(crate) fn string(&mut self, member: &'static str) -> Result<String, RequestError> {
        string(member, self.need(member)?)
    }

    pub(crate) fn optional_string(&mut self, member: &'static str) -> Result<Option<String>, RequestError> {
        self.take(member).map(|json| string(member, json)).transpose()
    }

    /// Whatever was not read does not belong there.
    pub(crate) fn finish(self) -> Result<(), RequestError> {
        match self.map.into_iter().next() {
            None => Ok(()),
            Some((member, _)) => {
                Err(RequestError::Unexpected { what: self.what, member: member.chars().take(80).collect() })
            }
        }
    }
}

pub(crate) fn object(what: &'static str, json: Value) -> Result<Map<String, Value>, RequestError> {
    match json {
        Value::Object(map) => Ok(map),
        other => Err(RequestError::form(what, "an object", &other)),
    }
}

pub(crate) fn array(what: &'static str, json: Value) -> Result<Vec<Value>, RequestError> {
    match json {
        Value::Array(elements) => Ok(elements),
        other => Err(RequestError::form(what, "an array", &other)),
    }
}

pub(crate) fn string(what: &'static str, json: Value) -> Result<String, RequestError> {
    match json {
        Value::String(text) => Ok(text),
        other => Err(RequestError::form(what, "a string", &other)),
    }
}

pub(crate) fn boolean(what: &'static str, json: &Value) -> Result<bool, RequestError> {
    json.as_bool().ok_or_else(|| RequestError::form(what, "a boolean", json))
}

pub(crate) fn strings(what: &'static str, json: Value) -> Result<Vec<String>, RequestError> {
    array(what, json)?.into_iter().map(|element| string(what, element)).collect()
}

/// Exactly `N` parameters.
pub(crate) fn exactly<const N: usize>(
    what: &'static str,
    params: Vec<Value>,
) -> Result<[Value; N], RequestError> {
    params.try_into().map_err(|params: Vec<Value>| RequestError::Count {
        what,
        expected: N,
        got: params.len(),
    })
}
