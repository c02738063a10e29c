//! Flow table changes and reports (OpenFlow 1.3.5, sections 7.3.4.1, 7.3.5.2 and 7.4.2).

use crate::action::Action;
use crate::instruction::Instruction;
use crate::match_::Match;
use crate::port::{BufferId, GroupId, Port, TableId};
use crate::wire::{wire_enum, wire_flags, wire_struct};

wire_enum! {
    /// What a flow-mod does.
    pub enum FlowModCommand(u8) {
        /// Adds a flow, or replaces that with the same match and priority.
        ADD = 0, "add";
        /// Changes the instructions of all flows within the match.
        MODIFY = 1, "modify";
        /// Changes the instructions of the flow with this match and priority.
        MODIFY_STRICT = 2, "modify_strict";
        /// Deletes all flows within the match.
        DELETE = 3, "delete";
        /// Deletes the flow with this match and priority.
        DELETE_STRICT = 4, "delete_strict";
    }
    /// Why a flow went.
    pub enum FlowRemovedReason(u8) {
        /// No packet for too long.
        IDLE_TIMEOUT = 0, "idle";
        /// Too old.
        HARD_TIMEOUT = 1, "hard";
        /// A flow-mod said so.
        DELETE = 2, "delete";
        /// Its group went.
        GROUP_DELETE = 3, "group_delete";
        /// Its meter went (1.4).
        METER_DELETE = 4, "meter_delete";
        /// Made room for another (1.4).
        EVICTION = 5, "eviction";
    }
}

wire_flags! {
    /// How a flow lives.
    pub flags FlowModFlags(u16) {
        /// Tell when it goes.
        SEND_FLOW_REM = 0x01, "send_flow_rem";
        /// Refuse it when it overlaps another of its priority.
        CHECK_OVERLAP = 0x02, "check_overlap";
        /// Start counting anew.
        RESET_COUNTS = 0x04, "reset_counts";
        /// Packets need not be counted.
        NO_PACKET_COUNTS = 0x08, "no_packet_counts";
        /// Bytes need not be counted.
        NO_BYTE_COUNTS = 0x10, "no_byte_counts";
    }
}

wire_struct! {
    /// A change to a flow table (`ofp_flow_mod`).
    pub struct FlowMod "ofp_flow_mod" {
        /// Number the controller gives the flow.
        cookie: u64,
        /// For `MODIFY` and `DELETE`: bits of the cookie that must agree.
        cookie_mask: u64,
        /// The table.
        table: TableId,
        /// What to do.
        command: FlowModCommand,
        /// Seconds without packet after which it goes, 0 for never.
        idle_timeout: u16,
        /// Seconds after which it goes, 0 for never.
        hard_timeout: u16,
        /// Priority; the highest matching flow wins.
        priority: u16,
        /// Buffered packet to run through.
        buffer: BufferId,
        /// For `DELETE`: only flows that output to this port, or `Port::ANY`.
        out_port: Port,
        /// For `DELETE`: only flows that use this group, or `GroupId::ANY`.
        out_group: GroupId,
        /// How it lives.
        flags: FlowModFlags => pad 2,
        /// Which packets.
        matches: Match,
        /// What happens to them.
        instructions: Vec<Instruction>,
    }

    /// A flow is gone (`ofp_flow_removed`).
    pub struct FlowRemoved "ofp_flow_removed" {
        /// Its cookie.
        cookie: u64,
        /// Its priority.
        priority: u16,
        /// Why it went.
        reason: FlowRemovedReason,
        /// Its table.
        table: TableId,
        /// Seconds it lived.
        duration_sec: u32,
        /// And nanoseconds.
        duration_nsec: u32,
        /// Its idle timeout.
        idle_timeout: u16,
        /// Its hard timeout.
        hard_timeout: u16,
        /// Packets it saw.
        packets: u64,
        /// Bytes it saw.
        bytes: u64,
        /// Its match.
        matches: Match,
    }

    /// Which flows a flow or aggregate request is about (`ofp_flow_stats_request`).
    pub struct FlowRequest "ofp_flow_stats_request" {
        /// The table, or all.
        table: TableId => pad 3,
        /// Only flows that output to this port, or `Port::ANY`.
        out_port: Port,
        /// Only flows that use this group, or `GroupId::ANY`.
        out_group: GroupId => pad 4,
        /// Cookie they must have.
        cookie: u64,
        /// Bits of the cookie that must agree.
        cookie_mask: u64,
        /// Match they must be within.
        matches: Match,
    }

    /// A flow as the switch reports it (`ofp_flow_stats`).
    pub sized struct FlowStats "ofp_flow_stats" {
        /// Its table.
        table: TableId => pad 1,
        /// Seconds it has lived.
        duration_sec: u32,
        /// And nanoseconds.
        duration_nsec: u32,
        /// Its priority.
        priority: u16,
        /// Its idle timeout.
        idle_timeout: u16,
        /// Its hard timeout.
        hard_timeout: u16,
        /// How it lives.
        flags: FlowModFlags => pad 4,
        /// Its cookie.
        cookie: u64,
        /// Packets it saw.
        packets: u64,
        /// Bytes it saw.
        bytes: u64,
        /// Which packets.
        matches: Match,
        /// What happens to them.
        instructions: Vec<Instruction>,
    }

    /// Sums over flows (`ofp_aggregate_stats_reply`).
    pub struct AggregateStats "ofp_aggregate_stats_reply" {
        /// Packets of all flows.
        packets: u64,
        /// Bytes of all flows.
        bytes: u64,
        /// How many flows.
        flows: u32 => pad 4,
    }
}

impl FlowMod {
    fn new(command: FlowModCommand, table: TableId, priority: u16, matches: Match) -> Self {
        Self {
            cookie: 0,
            cookie_mask: 0,
            table,
            command,
            idle_timeout: 0,
            hard_timeout: 0,
            priority,
            buffer: BufferId::NONE,
            out_port: Port::ANY,
            out_group: GroupId::ANY,
            flags: FlowModFlags::NONE,
            matches,
            instructions: Vec::new(),
        }
    }

    /// Adds a flow that applies these actions.
    pub fn add(table: impl Into<TableId>, priority: u16, matches: Match, actions: Vec<Action>) -> Self {
        let mut this = Self::new(FlowModCommand::ADD, table.into(), priority, matches);
        if !actions.is_empty() {
            this.instructions.push(Instruction::ApplyActions(actions));
        }
        this
    }

    /// Deletes exactly one flow.
    pub fn delete_strict(table: impl Into<TableId>, priority: u16, matches: Match) -> Self {
        Self::new(FlowModCommand::DELETE_STRICT, table.into(), priority, matches)
    }

    /// Deletes all flows of a table within a match; `TableId::ALL` for all tables.
    pub fn delete(table: impl Into<TableId>, matches: Match) -> Self {
        Self::new(FlowModCommand::DELETE, table.into(), DEFAULT_PRIORITY, matches)
    }

    /// Sets the cookie.
    pub fn cookie(mut self, cookie: u64) -> Self {
        self.cookie = cookie;
        self
    }

    /// Adds an instruction.
    pub fn instruction(mut self, instruction: Instruction) -> Self {
        self.instructions.push(instruction);
        self
    }
}

impl FlowRequest {
    /// All flows of a table within a match.
    pub fn new(table: impl Into<TableId>, matches: Match) -> Self {
        Self {
            table: table.into(),
            out_port: Port::ANY,
            out_group: GroupId::ANY,
            cookie: 0,
            cookie_mask: 0,
            matches,
        }
    }

    /// All flows.
    pub fn all() -> Self {
        Self::new(TableId::ALL, Match::new())
    }
}

/// Priority that `ovs-ofctl` uses and leaves unprinted.
pub const DEFAULT_PRIORITY: u16 = 0x8000;
