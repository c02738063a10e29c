//! Watching flow tables (ONF extension 187 for OpenFlow 1.3, which is the Nicira flow monitor with OXM matches and
//! instructions; Open vSwitch takes the Nicira form itself only up to OpenFlow 1.2).

use crate::error::DecodeError;
use crate::instruction::Instruction;
use crate::match_::Match;
use crate::port::{Port, TableId};
use crate::wire::{Reader, Wire, Writer, wire_enum, wire_flags};

wire_flags! {
    /// What a flow monitor tells.
    pub flags FlowMonitorFlags(u16) {
        /// Flows that are there at the start.
        INITIAL = 0x01, "initial";
        /// Flows that come.
        ADD = 0x02, "add";
        /// Flows that go.
        DELETE = 0x04, "delete";
        /// Flows that change.
        MODIFY = 0x08, "modify";
        /// With their instructions.
        ACTIONS = 0x10, "actions";
        /// Own changes in full.
        OWN = 0x20, "own";
    }
}

wire_enum! {
    /// What happened to a watched flow.
    pub enum FlowUpdateEvent(u16) {
        /// It came.
        ADDED = 0, "ADDED";
        /// It went.
        DELETED = 1, "DELETED";
        /// It changed.
        MODIFIED = 2, "MODIFIED";
        /// A request of this connection did it.
        ABBREVIATED = 3, "ABBREV";
    }
}

/// Which flows to watch (`onf_flow_monitor_request`).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct FlowMonitorRequest {
    /// Number of the monitor, for `FlowMonitorCancel`.
    pub id: u32,
    /// What to tell.
    pub flags: FlowMonitorFlags,
    /// Only flows that output to this port, or `Port::ANY`.
    pub out_port: Port,
    /// The table, or all.
    pub table: TableId,
    /// Match they must be within.
    pub matches: Match,
}

/// What happened to a watched flow (`nx_flow_update_header`).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum FlowUpdate {
    /// A flow came, went or changed.
    Full {
        /// What happened.
        event: FlowUpdateEvent,
        /// Why it went.
        reason: u16,
        /// Its priority.
        priority: u16,
        /// Its idle timeout.
        idle_timeout: u16,
        /// Its hard timeout.
        hard_timeout: u16,
        /// Its table.
        table: TableId,
        /// Its cookie.
        cookie: u64,
        /// Its match.
        matches: Match,
        /// Its instructions, if they were asked for.
        instructions: Vec<Instruction>,
    },
    /// The request of this connection with this transaction id did it.
    Abbreviated {
        /// The transaction id.
        xid: u32,
    },
}

impl FlowMonitorRequest {
    /// Watches all tables in full.
    pub fn all(id: u32) -> Self {
        let flags = [FlowMonitorFlags::INITIAL, FlowMonitorFlags::ADD, FlowMonitorFlags::DELETE]
            .into_iter()
            .chain([FlowMonitorFlags::MODIFY, FlowMonitorFlags::ACTIONS, FlowMonitorFlags::OWN])
            .fold(FlowMonitorFlags::NONE, FlowMonitorFlags::with);
        Self { id, flags, out_port: Port::ANY, table: TableId::ALL, matches: Match::new() }
    }
}

impl Wire for FlowMonitorRequest {
    fn put(&self, w: &mut Writer) {
        w.put(self.id);
        w.put(self.flags);
        w.count("match", self.matches.as_bytes().len() + MATCH_HEADER);
        w.put(self.out_port);
        w.put(self.table);
        w.zeros(3);
        self.matches.put(w);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.what("onf_flow_monitor_request");
        let (id, flags) = (r.take()?, r.take()?);
        r.skip(2)?;
        let (out_port, table) = (r.take()?, r.take()?);
        r.skip(3)?;
        Ok(Self { id, flags, out_port, table, matches: r.take()? })
    }
}

impl Wire for FlowUpdate {
    fn put(&self, w: &mut Writer) {
        let start = w.len();
        w.put(0u16);
        match self {
            Self::Abbreviated { xid } => {
                w.put(FlowUpdateEvent::ABBREVIATED);
                w.put(*xid);
            }
            Self::Full {
                event,
                reason,
                priority,
                idle_timeout,
                hard_timeout,
                table,
                cookie,
                matches,
                instructions,
            } => {
                w.put(*event);
                w.put(*reason);
                w.put(*priority);
                w.put(*idle_timeout);
                w.put(*hard_timeout);
                w.count("match", matches.as_bytes().len() + MATCH_HEADER);
                w.put(*table);
                w.zeros(1);
                w.put(*cookie);
                matches.put(w);
                w.list(instructions);
            }
        }
        w.length_at("nx_flow_update", start, start);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut r = r.entry("nx_flow_update", 0, 8)?;
        r.skip(2)?;
        let event = r.take()?;
        if event == FlowUpdateEvent::ABBREVIATED {
            return Ok(Self::Abbreviated { xid: r.take()? });
        }
        let (reason, priority, idle_timeout, hard_timeout) = (r.take()?, r.take()?, r.take()?, r.take()?);
        r.skip(2)?;
        let table = r.take()?;
        r.skip(1)?;
        let (cookie, matches) = (r.take()?, r.take()?);
        Ok(Self::Full {
            event,
            reason,
            priority,
            idle_timeout,
            hard_timeout,
            table,
            cookie,
            matches,
            instructions: r.list()?,
        })
    }
}

const MATCH_HEADER: usize = 4;
