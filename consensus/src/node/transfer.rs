//! Snapshots of a node: taken here, sent to a peer, received from the leader, installed.
//!
//! # Invariants
//! * A snapshot taken here replaces log entries only up to what was applied, and only if it names the applied term.
//! * A received snapshot reaches the state machine after it is on disk, and before any entry that follows it.

use raft::eraftpb::{Message, MessageType};

use super::Node;
use crate::{
    error::{MessageError, Refusal},
    event::{Answer, Effect, MemberId, Snapshot, SnapshotMeta},
    log::cache::snapshot_to_raft,
    snapshot::{Chunk, Receipt, Received, SnapshotName},
    wire::Envelope,
};

impl Node {
    pub(super) fn install(&mut self, snapshot: Snapshot, out: &mut Vec<Effect>) {
        let index = snapshot.meta.index;
        self.raw.advance_apply_to(index);
        self.applied = index;
        self.metrics.snapshots_installed += 1;
        self.log_bytes_unsnapshotted = 0;
        self.snapshot_hint_at_bytes = self.config.snapshot_after_bytes;
        out.push(Effect::InstallSnapshot(snapshot));
        out.push(Effect::Compact { through: index });
        let later = self.proposals.split_off(&(index + 1));
        for (at, proposals) in std::mem::replace(&mut self.proposals, later) {
            for proposal in proposals {
                self.metrics.proposals_lost += 1;
                let answer = Answer::Refused(Refusal::Unknown { index: at });
                out.push(Effect::Answer { request: proposal.request, answer });
            }
        }
    }

    pub(super) fn accept_snapshot(&mut self, snapshot: &raft::eraftpb::Snapshot) -> Option<Snapshot> {
        if snapshot.is_empty() {
            return None;
        }
        let meta = snapshot.get_metadata();
        let meta = SnapshotMeta { index: meta.index, term: meta.term, voters: self.voters.clone() };
        let snapshot = Snapshot { meta, data: snapshot.data.clone() };
        self.snapshot_name = Some(SnapshotName::of(&snapshot));
        Some(snapshot)
    }

    /// Raft decided that `to` needs a snapshot: sends the one held.
    pub(super) fn begin_transfer(&mut self, to: MemberId, out: &mut Vec<Effect>) {
        let held = self.raw.store().snapshot_held().zip(self.snapshot_name.as_ref());
        let Some((snapshot, name)) = held else { return };
        self.sender.begin(to, snapshot, name);
        self.send_chunks(to, out);
    }

    pub(super) fn send_chunks(&mut self, to: MemberId, out: &mut Vec<Effect>) {
        let term = self.raw.raft.term;
        for chunk in self.sender.poll(to, term, self.config.transfer_limits()) {
            self.send_envelope(to, &Envelope::Chunk(chunk), out);
        }
    }

    pub(super) fn chunk(
        &mut self,
        from: MemberId,
        chunk: Chunk,
        out: &mut Vec<Effect>,
    ) -> Result<(), MessageError> {
        if chunk.term < self.raw.raft.term {
            return Ok(()); // a former leader; it learns of the new term from others
        }
        if chunk.name.meta.voters != self.voters {
            return Err(MessageError::Voters { index: chunk.name.meta.index });
        }
        let committed = self.raw.raft.raft_log.committed;
        self.receiver.forget_through(committed);
        let (name, term) = (chunk.name.clone(), chunk.term);
        let received = if name.meta.index <= committed {
            None
        } else {
            Some(self.receiver.accept(&chunk, self.config.snapshot_bytes_max)?)
        };
        let (receipt, snapshot) = match received {
            Some(Received::More(receipt)) => (receipt, None),
            Some(Received::Complete(snapshot)) => (done(name), Some(snapshot)),
            None => (done(name), None),
        };
        let mut message = Message::default();
        (message.from, message.to, message.term) = (from.0, self.config.member.0, term);
        if let Some(snapshot) = snapshot {
            message.set_msg_type(MessageType::MsgSnapshot);
            message.set_snapshot(snapshot_to_raft(&snapshot));
        } else {
            // Chunks count as a sign of life: a long transfer must not look like a dead leader.
            message.set_msg_type(MessageType::MsgHeartbeat);
        }
        self.raft_message(message)?;
        self.send_envelope(from, &Envelope::Receipt(receipt), out);
        Ok(())
    }

    pub(super) fn receipt(&mut self, from: MemberId, receipt: &Receipt, out: &mut Vec<Effect>) {
        if self.sender.acknowledge(from, receipt) {
            self.metrics.snapshots_sent += 1;
            self.raw.report_snapshot(from.0, raft::SnapshotStatus::Finish);
        }
        self.send_chunks(from, out);
    }

    pub(super) fn snapshot_taken(&mut self, mut snapshot: Snapshot, out: &mut Vec<Effect>) {
        let SnapshotMeta { index, term, .. } = snapshot.meta;
        let held = self.raw.store().snapshot_held().map_or(0, |held| held.meta.index);
        if index <= held || index > self.applied || self.raw.store().term_at(index) != Some(term) {
            tracing::warn!(
                index,
                term,
                held,
                applied = self.applied,
                "snapshot does not fit the log, not used"
            );
            return;
        }
        snapshot.meta.voters = self.voters.clone();
        self.snapshot_name = Some(SnapshotName::of(&snapshot));
        self.raw.mut_store().compact(snapshot, index.saturating_sub(self.config.retain_entries));
        self.metrics.snapshots_taken += 1;
        self.log_bytes_unsnapshotted = 0;
        self.snapshot_hint_at_bytes = self.config.snapshot_after_bytes;
        out.push(Effect::Compact { through: index });
    }
}

fn done(name: SnapshotName) -> Receipt {
    let offset_next = name.bytes_total;
    Receipt { name, offset_next, done: true }
}
