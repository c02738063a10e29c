//! Counters of one node, plain values for the embedding program to publish.

/// Everything that is counted. Counters only grow; gauges say so.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Metrics {
    /// Peer messages given to Raft.
    pub messages_received: u64,
    /// Peer messages refused: undecodable, foreign, or not for this member.
    pub messages_refused: u64,
    /// Peer messages sent.
    pub messages_sent: u64,
    /// Bytes of peer messages sent.
    pub message_bytes_sent: u64,
    /// Proposals accepted into the log.
    pub proposals_accepted: u64,
    /// Proposals refused at once.
    pub proposals_refused: u64,
    /// Proposals that were replaced by another leader's entry, or whose outcome is unknown.
    pub proposals_lost: u64,
    /// Entries handed out to be applied.
    pub entries_applied: u64,
    /// Bytes of entries handed out to be applied.
    pub entry_bytes_applied: u64,
    /// Linearizable reads answered.
    pub reads_answered: u64,
    /// Linearizable reads that found no majority in time.
    pub reads_timed_out: u64,
    /// Batches handed to the disk.
    pub batches: u64,
    /// Entries in those batches.
    pub batch_entries: u64,
    /// Changes of leader seen, including to "unknown".
    pub leader_changes: u64,
    /// Snapshots taken here.
    pub snapshots_taken: u64,
    /// Snapshots received and installed.
    pub snapshots_installed: u64,
    /// Snapshot transfers to a peer that were finished.
    pub snapshots_sent: u64,
    /// Snapshot transfers to a peer that were given up.
    pub snapshots_failed: u64,
    /// Chunks sent a second time.
    pub snapshot_chunks_repeated: u64,
    /// Sum over committed own proposals of the time from proposal to commit.
    pub commit_latency_us_total: u64,
    /// Number of proposals in that sum.
    pub commits: u64,
    /// Gauge: current term.
    pub term: u64,
    /// Gauge: 1 while this member leads.
    pub is_leader: u64,
    /// Gauge: highest committed index known here.
    pub commit_index: u64,
    /// Gauge: last index handed out to be applied.
    pub applied_index: u64,
    /// Gauge: last index of the log.
    pub last_index: u64,
    /// Gauge: entries held in memory.
    pub log_entries: u64,
    /// Gauge: bytes of entries held in memory.
    pub log_bytes: u64,
}
