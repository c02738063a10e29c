//! The members of an operation, read as ovsdb-server reads them: the first thing wrong is what is told, and it
//! overrides what the operation itself would say; members that nobody asked for are wrong too.

use serde_json::{Map, Value};

use super::fault::Fault;

/// The members of one operation.
pub(crate) struct Members<'a> {
    /// Which operation of how many, counted from 1.
    place: (usize, usize),
    json: &'a Value,
    members: Option<&'a Map<String, Value>>,
    used: Vec<&'static str>,
    fault: Option<Fault>,
}

impl<'a> Members<'a> {
    pub(crate) fn new(json: &'a Value, place: (usize, usize)) -> Self {
        let members = json.as_object();
        let mut new = Self { place, json, members, used: Vec::new(), fault: None };
        if members.is_none() {
            let Self { place: (at, of), .. } = new;
            let details = format!("Parsing ovsdb operation {at} of {of} failed: Object expected.");
            new.fault = Some(Fault::new(ovsdb::result::ErrorKind::SyntaxError, details));
        }
        new
    }

    /// The operation as a whole.
    pub(crate) const fn json(&self) -> &'a Value {
        self.json
    }

    /// A member that must be there and of this kind.
    pub(crate) fn need(&mut self, name: &'static str, kind: fn(&Value) -> bool) -> Option<&'a Value> {
        let found = self.take(name, kind);
        if found.is_none() && self.members.is_some_and(|members| !members.contains_key(name)) {
            self.raise(&format!("Required '{name}' member is missing."));
        }
        found
    }

    /// A member that may be there, of this kind.
    pub(crate) fn take(&mut self, name: &'static str, kind: fn(&Value) -> bool) -> Option<&'a Value> {
        let value = self.members?.get(name)?;
        if !kind(value) {
            self.raise(&format!("Type mismatch for member '{name}'."));
            return None;
        }
        self.used.push(name);
        Some(value)
    }

    /// Remembers what is wrong, if it is the first thing.
    pub(crate) fn raise(&mut self, message: &str) {
        if self.fault.is_none() {
            let (at, of) = self.place;
            let details = format!("Parsing ovsdb operation {at} of {of} failed: {message}");
            self.fault = Some(Fault::syntax(self.json, details));
        }
    }

    /// Whether anything was wrong so far.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        self.fault.clone().map_or(Ok(()), Err)
    }

    /// Whether anything was wrong, unknown members included.
    pub(crate) fn finish(mut self) -> Result<(), Fault> {
        if let Some(members) = self.members.filter(|members| members.len() > self.used.len()) {
            let mut unused = members.keys().filter(|name| !self.used.contains(&name.as_str()));
            let first = unused.next().map_or_else(String::new, Clone::clone);
            let message = match unused.count() {
                0 => format!("Member '{first}' is present but not allowed here."),
                1 => format!("Member '{first}' and 1 other member are present but not allowed here."),
                more => {
                    format!("Member '{first}' and {more} other members are present but not allowed here.")
                }
            };
            self.raise(&message);
        }
        self.check()
    }
}

/// A string that is an `<id>` (RFC 7047, section 3.1).
pub(crate) fn id(value: &Value) -> bool {
    value.as_str().is_some_and(is_id)
}

/// A letter or `_`, then letters, digits and `_`.
pub(crate) fn is_id(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'_')
}
