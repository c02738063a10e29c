//! Numbers that filters need: a meter for each ACL that logs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quantumnet_model::{DynRow, Row, host::HostAcl, nb::Acl};
use uuid::Uuid;

use crate::{agent::Agent, compile::RowUpdate};

/// Meters by ACL.
#[derive(Debug, Default)]
pub(super) struct AclNumbers {
    /// Places of ACLs that log, from 0. Their meters are counted down from the switch's last: those of interfaces, which are
    /// kept over restarts, are counted up from the first.
    logging: BTreeMap<Uuid, u32>,
}

impl AclNumbers {
    /// The numbers of an ACL on a switch with so many meters.
    fn row(&self, acl: Uuid, meters: u32) -> Option<HostAcl> {
        let meter = meters.checked_sub(*self.logging.get(&acl)? + 1);
        Some(HostAcl { meter: meter.map_or(0, i64::from) })
    }

    /// An ACL that came, changed or went.
    fn note(&mut self, acl: Uuid, logs: bool) {
        if !logs {
            self.logging.remove(&acl);
        } else if !self.logging.contains_key(&acl) {
            let taken: BTreeSet<u32> = self.logging.values().copied().collect();
            let free = (0..).find(|place| !taken.contains(place)).unwrap_or(u32::MAX);
            self.logging.insert(acl, free);
        }
    }

    /// All of them, on a switch with so many meters.
    pub(super) fn rows(&self, meters: u32) -> impl Iterator<Item = (Uuid, HostAcl)> {
        self.logging.keys().filter_map(move |acl| Some((*acl, self.row(*acl, meters)?)))
    }
}

impl Agent {
    /// The batch, with the numbers of the ACLs in it.
    pub(super) fn with_acl_numbers(&mut self, mut batch: Vec<RowUpdate>) -> Vec<RowUpdate> {
        let meters = self.meters();
        let changed = batch.iter().filter(|(table, ..)| *table == Acl::TABLE);
        let logs = |row: &Arc<dyn DynRow>| row.as_any().downcast_ref::<Acl>().is_some_and(|acl| acl.log);
        let acls: Vec<(Uuid, bool)> =
            changed.map(|(_, acl, row)| (*acl, row.as_ref().is_some_and(logs))).collect();
        for (acl, logs) in acls {
            self.acl_numbers.note(acl, logs);
            let numbers = self.acl_numbers.row(acl, meters).map(|row| Arc::new(row) as _);
            batch.push((HostAcl::TABLE, acl, numbers));
        }
        batch
    }

    /// How many meters the switch has, as far as that is known.
    pub(super) fn meters(&self) -> u32 {
        self.abilities.map_or(0, |abilities| abilities.meters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_log_have_meters() {
        let mut numbers = AclNumbers::default();
        let acl = Uuid::from_u128;
        numbers.note(acl(1), false);
        numbers.note(acl(2), true);
        numbers.note(acl(3), true);
        let meter = |numbers: &AclNumbers, low, of| numbers.row(acl(low), of).map(|row| row.meter);
        assert_eq!([meter(&numbers, 2, 65_536), meter(&numbers, 3, 65_536)], [Some(65_535), Some(65_534)]);
        assert_eq!(meter(&numbers, 2, 0), Some(0), "a switch without meters");
        numbers.note(acl(2), false);
        assert_eq!([meter(&numbers, 1, 65_536), meter(&numbers, 2, 65_536)], [None, None]);
    }
}
