//! Selectors of objects by their labels, as `role=web-server and not env in (test, dev)`, and what policies say of
//! traffic, as `role=web-server -> role=db-server : 5432`.
//!
//! # Contract
//! - Text becomes a [`Selector`] or a [`SyntaxError`] with its column and what was expected there.
//! - A selector prints as its normal form: what prints alike selects alike.
//! - Refuses to know what has the labels.
//!
//! # Invariants
//! - `text.parse()` of what a selector prints is that selector.
//! - A label that changes from one value to another changes whether a selector matches only if one of
//!   [`Selector::triggers`] is about it; a selector that does not match the empty set of labels matches none
//!   without a trigger.

mod parse;
mod traffic;

use std::{collections::BTreeSet, fmt};

use imbl::OrdMap;
use thiserror::Error;

use crate::column::Text;

pub use parse::SELECTOR_MAX;
pub use traffic::{Endpoint, Protocol, Service, Traffic};

/// Labels of an object.
pub type Labels = OrdMap<Text, Text>;

/// A condition on labels, in its normal form.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Selector(Node);

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Node {
    /// Everything.
    All,
    /// The label is there.
    Has(Text),
    /// The label has one of the values, of which there is one at least.
    In(Text, BTreeSet<Text>),
    /// Anything but a `Not`.
    Not(Box<Self>),
    /// At least two, in order, none of them an `And`.
    And(Vec<Self>),
    /// At least two, in order, none of them an `Or`.
    Or(Vec<Self>),
}

/// What may change whether a selector matches.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Trigger {
    /// The label gets or loses that value.
    Value(Text, Text),
    /// The label comes or goes.
    Presence(Text),
}

/// Text that is no selector, or no traffic.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("column {column}: expected {expected}, found {found}")]
pub struct SyntaxError {
    /// Character at fault, from 1.
    pub column: usize,
    /// What would have been right.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl Selector {
    /// What selects everything.
    pub const ALL: Self = Self(Node::All);

    /// Whether an object with these labels is selected. A label that is not there has no value, so that
    /// `role!=db` selects what has no role.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.matches(labels)
    }

    /// See [`Trigger`].
    pub fn triggers(&self) -> BTreeSet<Trigger> {
        let mut triggers = BTreeSet::new();
        self.0.triggers(&mut triggers);
        triggers
    }

    /// Triggers about the difference between two sets of labels.
    pub fn fired(before: &Labels, after: &Labels) -> BTreeSet<Trigger> {
        let mut fired = BTreeSet::new();
        for (key, value) in before {
            if after.get(key) != Some(value) {
                fired.insert(Trigger::Value(key.clone(), value.clone()));
            }
            if !after.contains_key(key) {
                fired.insert(Trigger::Presence(key.clone()));
            }
        }
        for (key, value) in after {
            if before.get(key) != Some(value) {
                fired.insert(Trigger::Value(key.clone(), value.clone()));
            }
            if !before.contains_key(key) {
                fired.insert(Trigger::Presence(key.clone()));
            }
        }
        fired
    }
}

impl Node {
    fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::All => true,
            Self::Has(key) => labels.contains_key(key),
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Self::Not(node) => !node.matches(labels),
            Self::And(nodes) => nodes.iter().all(|node| node.matches(labels)),
            Self::Or(nodes) => nodes.iter().any(|node| node.matches(labels)),
        }
    }

    fn triggers(&self, triggers: &mut BTreeSet<Trigger>) {
        match self {
            Self::All => {}
            Self::Has(key) => _ = triggers.insert(Trigger::Presence(key.clone())),
            Self::In(key, values) => {
                triggers.extend(values.iter().map(|value| Trigger::Value(key.clone(), value.clone())));
            }
            Self::Not(node) => node.triggers(triggers),
            Self::And(nodes) | Self::Or(nodes) => nodes.iter().for_each(|node| node.triggers(triggers)),
        }
    }

    fn not(self) -> Self {
        match self {
            Self::Not(node) => *node,
            node => Self::Not(Box::new(node)),
        }
    }

    fn and(nodes: Vec<Self>) -> Self {
        let flat =
            nodes.into_iter().flat_map(|node| if let Self::And(inner) = node { inner } else { vec![node] });
        Self::joined(flat.collect(), Self::And)
    }

    fn or(nodes: Vec<Self>) -> Self {
        let flat =
            nodes.into_iter().flat_map(|node| if let Self::Or(inner) = node { inner } else { vec![node] });
        Self::joined(flat.collect(), Self::Or)
    }

    fn joined(mut nodes: Vec<Self>, join: fn(Vec<Self>) -> Self) -> Self {
        nodes.sort_unstable();
        nodes.dedup();
        if nodes.len() == 1 { nodes.remove(0) } else { join(nodes) }
    }

    /// `inner`: something stands around it.
    fn print(&self, inner: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |nodes: &[Self], word: &str, f: &mut fmt::Formatter<'_>| {
            f.write_str(if inner { "(" } else { "" })?;
            for (place, node) in nodes.iter().enumerate() {
                f.write_str(if place == 0 { "" } else { word })?;
                node.print(true, f)?;
            }
            f.write_str(if inner { ")" } else { "" })
        };
        match self {
            Self::All => f.write_str("*"),
            Self::Has(key) => parse::word(key, f),
            Self::In(key, values) => {
                parse::word(key, f)?;
                let alone = values.len() == 1;
                f.write_str(if alone { "=" } else { " in (" })?;
                for (place, value) in values.iter().enumerate() {
                    f.write_str(if place == 0 { "" } else { ", " })?;
                    parse::word(value, f)?;
                }
                f.write_str(if alone { "" } else { ")" })
            }
            Self::Not(node) => {
                f.write_str("not ")?;
                node.print(true, f)
            }
            Self::And(nodes) => list(nodes, " and ", f),
            Self::Or(nodes) => list(nodes, " or ", f),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.print(false, f)
    }
}
