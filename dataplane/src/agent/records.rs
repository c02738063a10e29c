//! The last records of packets that ACLs want logged, for those who follow what is dropped.
//!
//! # Invariants
//! - At most [`RECORDS_MAX`] are kept: who asks too seldom misses some, and the agent's log has them all.

use std::collections::VecDeque;

use ovsdb::value::Atom;
use quantumnet_model::sb::{DatapathBinding, PortBinding};

use crate::{agent::Agent, compile::By, punt::acl_log::Record};

/// Records in order, each with its number and its time.
#[derive(Debug, Default)]
pub(super) struct Records {
    kept: VecDeque<(u64, u64, Record)>,
    last: u64,
}

impl Records {
    /// Adds one.
    pub(super) fn push(&mut self, record: Record, now_ms: u64) {
        self.last += 1;
        self.kept.push_back((self.last, now_ms, record));
        if self.kept.len() > RECORDS_MAX {
            self.kept.pop_front();
        }
    }

    /// Those after a number, with their times, and the last one's number.
    pub(super) fn since(&self, number: u64) -> (impl Iterator<Item = (u64, &Record)>, u64) {
        let newer = self.kept.iter().filter(move |(at, ..)| *at > number);
        (newer.map(|(_, at_ms, record)| (*at_ms, record)), self.last)
    }
}

impl Agent {
    /// An ACL wants a record of a packet that it met at a port.
    pub(super) fn logged(&mut self, mut record: Record, place: Option<(i64, i64)>) {
        record.port = place.and_then(|place| self.port_at(place)).unwrap_or_default();
        record.log();
        self.records.push(record, self.now_ms);
    }

    fn port_at(&self, (datapath, port): (i64, i64)) -> Option<String> {
        let datapath =
            self.compiler.find_uuid::<DatapathBinding>(By::SwitchKey, &[Atom::Integer(datapath)])?;
        let key = [Atom::Uuid(datapath), Atom::Integer(port)];
        Some(self.compiler.find::<PortBinding>(By::PortKey, &key)?.logical_port.to_string())
    }
}

const RECORDS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use quantumnet_model::nb::Acl;

    use super::*;

    #[test]
    fn the_last_are_kept_and_told_once() {
        let mut records = Records::default();
        let record = Record::new(&Acl::default(), &[], true);
        (0..300).for_each(|at_ms| records.push(record.clone(), at_ms));
        let (mut newer, last) = records.since(0);
        assert_eq!((newer.next().map(|(at_ms, _)| at_ms), newer.count(), last), (Some(44), 255, 300));
        assert_eq!(records.since(last).0.count(), 0);
        records.push(record, 300);
        assert_eq!(records.since(last).0.map(|(at_ms, _)| at_ms).collect::<Vec<_>>(), [300]);
    }
}
