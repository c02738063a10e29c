//! The numbers a node is made with.

use crate::{
    error::ConfigError,
    event::{ClusterId, MemberId},
    snapshot::Limits,
    wire::MESSAGE_BYTES_MAX,
};

/// Identity, voters and bounds of a node. [`Config::new`] fills in what fits 3 or 5 members and a tick of 100 ms.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster this member belongs to.
    pub cluster: ClusterId,
    /// This member.
    pub member: MemberId,
    /// All voters including this member; the same list on each.
    pub voters: Vec<MemberId>,
    /// Ticks for which a member that heard its leader hears no candidate, and a leader does without a majority. It is a
    /// candidate itself after a quarter more of them at least, spread over as many again: one that has waited long
    /// enough must not find that another has not.
    pub election_ticks: u32,
    /// Ticks between heartbeats.
    pub heartbeat_ticks: u32,
    /// Bytes of entries per append message (a single larger entry still goes, alone).
    pub append_bytes_max: u64,
    /// Append messages on their way to one follower.
    pub inflight_messages_max: usize,
    /// Bytes of one proposal.
    pub entry_bytes_max: u64,
    /// Bytes proposed but not committed; beyond it proposals are refused as `Busy`.
    pub uncommitted_bytes_max: u64,
    /// Bytes handed out in one `Apply`.
    pub apply_bytes_max: u64,
    /// Growth of the log after which a snapshot is asked for.
    pub snapshot_after_bytes: u64,
    /// Entries kept behind a snapshot so that a follower slightly behind needs no snapshot.
    pub retain_entries: u64,
    /// Bytes of one snapshot chunk.
    pub snapshot_chunk_bytes: u64,
    /// Chunks on their way to one follower.
    pub snapshot_window_chunks: u64,
    /// A snapshot claimed to be larger is refused.
    pub snapshot_bytes_max: u64,
    /// Ticks after which a read without a majority is refused.
    pub read_timeout_ticks: u64,
    /// A leader tells its followers at once what is committed. Otherwise they hear of it with what is proposed next, with a
    /// heartbeat, or when the program says so ([`crate::Event::AnnounceCommit`]): half of the messages of an entry.
    pub announces_commits: bool,
    /// Spreads election timeouts; any value, in tests the seed of the run.
    pub seed: u64,
}

impl Config {
    /// Defaults for a member of a cluster.
    #[must_use]
    pub fn new(cluster: ClusterId, member: MemberId, voters: Vec<MemberId>) -> Self {
        Self {
            cluster,
            member,
            voters,
            election_ticks: 10,
            heartbeat_ticks: 1,
            append_bytes_max: 1 << 20,
            inflight_messages_max: 256,
            entry_bytes_max: 8 << 20,
            uncommitted_bytes_max: 64 << 20,
            apply_bytes_max: 4 << 20,
            snapshot_after_bytes: 64 << 20,
            retain_entries: 1_000,
            snapshot_chunk_bytes: 512 << 10,
            snapshot_window_chunks: 4,
            snapshot_bytes_max: 4 << 30,
            read_timeout_ticks: 20,
            announces_commits: true,
            seed: 0,
        }
    }

    /// Voters in ascending order.
    pub(crate) fn voters_sorted(&self) -> Vec<MemberId> {
        let mut voters = self.voters.clone();
        voters.sort_unstable();
        voters
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.voters.contains(&MemberId(0)) || self.member.0 == 0 {
            return Err(ConfigError::ZeroMember);
        }
        let voters = self.voters_sorted();
        if let Some(pair) = voters.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(ConfigError::DuplicateVoter { member: pair[0] });
        }
        if !voters.contains(&self.member) {
            return Err(ConfigError::NotVoter { member: self.member });
        }
        let message_bytes = self.entry_bytes_max.max(self.append_bytes_max).max(self.snapshot_chunk_bytes);
        if message_bytes > MESSAGE_BYTES_MAX as u64 / 2 || self.snapshot_chunk_bytes == 0 {
            let reason =
                format!("entries, appends and chunks must have 1 to {} bytes", MESSAGE_BYTES_MAX / 2);
            return Err(ConfigError::Raft { reason });
        }
        Ok(())
    }

    /// Ticks without a leader before a pre-vote, at least.
    pub(crate) const fn candidate_ticks(&self) -> u32 {
        self.election_ticks + self.election_ticks / 4
    }

    pub(crate) fn raft(&self, applied: u64) -> raft::Config {
        raft::Config {
            id: self.member.0,
            election_tick: self.election_ticks as usize,
            min_election_tick: self.candidate_ticks() as usize,
            max_election_tick: (self.candidate_ticks() + self.election_ticks) as usize,
            heartbeat_tick: self.heartbeat_ticks as usize,
            applied,
            max_size_per_msg: self.append_bytes_max,
            max_inflight_msgs: self.inflight_messages_max,
            check_quorum: true,
            pre_vote: true,
            read_only_option: raft::ReadOnlyOption::Safe,
            batch_append: true,
            skip_bcast_commit: !self.announces_commits,
            max_uncommitted_size: self.uncommitted_bytes_max,
            max_committed_size_per_ready: self.apply_bytes_max,
            ..raft::Config::default()
        }
    }

    pub(crate) const fn transfer_limits(&self) -> Limits {
        Limits {
            chunk_bytes: self.snapshot_chunk_bytes,
            window_chunks: self.snapshot_window_chunks,
            ticks_repeat: self.election_ticks,
            ticks_give_up: self.election_ticks * 10,
        }
    }
}
