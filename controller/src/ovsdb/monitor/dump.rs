//! The rows that are there when a monitor begins.
//!
//! # Invariants
//! - Written piece by piece while the client takes them: a client that reads slowly holds a snapshot, whose rows are
//!   shared with everybody, and one piece.
//! - All pieces are of one snapshot.

use std::{ops::Bound, sync::Arc};

use quantumnet_model::Uuid;

use super::{Spec, changes::Updates};
use crate::store::State;

/// A reply with rows, being written.
#[derive(Debug)]
pub struct Dump {
    spec: Arc<Spec>,
    state: Arc<State>,
    updates: Updates,
    /// The table that is next, and the row after which it goes on.
    at: (usize, Option<Uuid>),
    /// What follows the rows; `None` when it was written.
    rest: Option<Vec<u8>>,
}

impl Dump {
    /// A reply that begins with `head`, then has the rows, then `rest`.
    pub(in crate::ovsdb) fn new(spec: Arc<Spec>, state: Arc<State>, head: Vec<u8>, rest: Vec<u8>) -> Self {
        let updates = Updates::after(head);
        Self { spec, state, updates, at: (0, None), rest: Some(rest) }
    }

    /// Writes the next piece of at least so many octets, if there are that many; false when all was written.
    pub fn write(&mut self, octets: usize, out: &mut Vec<u8>) -> bool {
        if self.rest.is_none() {
            return false;
        }
        while let Some(spec) = self.spec.tables.get(self.at.0) {
            let (_, after) = self.at;
            if after.is_none() {
                self.updates.table(spec.decl.name);
            }
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            for (uuid, row) in self.state.rows().table(spec.table).range((from, Bound::Unbounded)) {
                let form = self.spec.form;
                self.updates.row(*uuid, |out| spec.initial(form, *uuid, row.as_ref(), out));
                if self.updates.out.len() >= octets {
                    self.at.1 = Some(*uuid);
                    out.append(&mut self.updates.out);
                    return true;
                }
            }
            self.at = (self.at.0 + 1, None);
        }
        if !self.updates.close() {
            self.updates.out.extend_from_slice(b"{}");
        }
        out.append(&mut self.updates.out);
        out.extend(self.rest.take().unwrap_or_default());
        true
    }
}
