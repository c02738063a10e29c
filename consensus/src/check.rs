//! The invariants of one node, checked after every step in debug builds and tests.

use crate::Node;

impl Node {
    /// Panics if an invariant of this node does not hold: a programming error, never a peer's doing.
    ///
    /// | relation | why |
    /// |---|---|
    /// | snapshot <= applied | a snapshot is of applied state |
    /// | applied <= committed | Raft: state machine safety |
    /// | applied <= persisted | an entry lost by this disk was never applied here |
    /// | committed <= last | nothing missing can be committed here |
    /// | nothing ready inside raft-rs | each step drains |
    pub fn check(&self) {
        let log = &self.raw.raft.raft_log;
        let snapshot = self.raw.store().snapshot_held().map_or(0, |held| held.meta.index);
        let installing = log.unstable_snapshot().is_some() || !self.unpersisted.is_empty();
        assert!(
            snapshot <= self.applied || installing,
            "snapshot {snapshot} is ahead of applied {}",
            self.applied
        );
        assert!(self.applied <= log.committed, "applied {} > committed {}", self.applied, log.committed);
        assert!(self.applied <= log.persisted, "applied {} > persisted {}", self.applied, log.persisted);
        assert!(log.committed <= log.last_index(), "committed {} > last {}", log.committed, log.last_index());
        assert!(!self.raw.has_ready(), "a step left something inside raft-rs");
        assert_eq!(self.raw.store().last(), log.last_index(), "everything appended is in the cache");
    }
}
