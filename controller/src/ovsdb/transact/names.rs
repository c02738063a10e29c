//! Rows that a transaction names before they have uuids (RFC 7047, section 5.1 `<named-uuid>`).
//!
//! # Contract
//! - A name means the same uuid in the whole transaction, also before the insert that makes its row. A name that no
//!   insert gives stands for a row that does not exist; what refers to it is judged at the end like any reference.

use std::collections::HashMap;

use ovsdb::Symbols;
use quantumnet_model::Uuid;

use super::members::is_id;

/// The names of one transaction.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: HashMap<String, Name>,
}

#[derive(Debug)]
struct Name {
    uuid: Uuid,
    inserted: bool,
}

impl Names {
    /// Gives a name to the row about to be inserted, with the uuid that the client chose or the name already has;
    /// `None` when an earlier insert has that name.
    pub(crate) fn insert(&mut self, name: &str, chosen: Option<Uuid>) -> Option<Uuid> {
        let name = self.of(name);
        if name.inserted {
            return None;
        }
        name.inserted = true;
        name.uuid = chosen.unwrap_or(name.uuid);
        Some(name.uuid)
    }

    fn of(&mut self, name: &str) -> &mut Name {
        if !self.known.contains_key(name) {
            let new = Name { uuid: Uuid::new_v4(), inserted: false };
            self.known.insert(name.to_owned(), new);
        }
        self.known.get_mut(name).expect("it was put there if it was not")
    }
}

impl Symbols for Names {
    fn resolve(&mut self, name: &str) -> Option<Uuid> {
        is_id(name).then(|| self.of(name).uuid)
    }
}
