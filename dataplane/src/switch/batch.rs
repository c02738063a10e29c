//! One round of changes on the wire: meters, one atomic bundle of groups and flows, a barrier; and whose message each number is.
//!
//! # Invariants
//! - Every message has a transaction id of its own, so that an error leads back to its flow or meter.
//! - Meters come before the bundle that may name them and go after it; groups within it, before and behind the flows.
//! - A batch is over with the reply to its barrier, and has succeeded only if its commit was confirmed.

use std::{ops::Range, sync::Arc, time::Instant};

use ofpacket::{
    Bucket13, BundleAdd, BundleControl, BundleControlType, BundleFlags, EncodeError, ErrorMessage, GroupId,
    GroupMod13, GroupModCommand, GroupType, Message, MeterMod, MeterModCommand, Port, Version,
};

use crate::compile::{DesiredFlow, FlowKey, FlowValue, GroupSpec, MeterSpec, MeterUnit};

/// Numbers messages.
#[derive(Debug, Default)]
pub(super) struct Xids(u32);

impl Xids {
    pub(super) fn next(&mut self) -> u32 {
        self.0 = self.0.checked_add(1).unwrap_or(1);
        self.0
    }
}

/// Bytes on their way out, in pieces of a size that sockets like.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pieces: Vec<Vec<u8>>,
}

impl Outgoing {
    pub(super) fn push(&mut self, message: &Message, xid: u32) -> Result<(), EncodeError> {
        match self.pieces.last_mut() {
            Some(piece) if piece.len() < PIECE_BYTES => message.encode_into(Version::V1_3, xid, piece),
            _ => {
                self.pieces.push(message.encode_as(Version::V1_3, xid)?);
                Ok(())
            }
        }
    }

    pub(super) fn into_pieces(self) -> Vec<Vec<u8>> {
        self.pieces
    }
}

/// A change of a flow: its value, or that it goes.
pub(super) type FlowChange = (Arc<FlowKey>, Option<FlowValue>);

/// A change of a group: what it is, or that it goes.
pub(super) type GroupChange = (u32, Option<GroupSpec>);

/// What is under way.
#[derive(Debug)]
pub(super) struct Batch {
    groups: Vec<(u32, u32)>,
    flows: Vec<FlowChange>,
    flow_xids: Range<u32>,
    meters: Vec<(u32, u32)>,
    control_xids: [u32; 2],
    barrier: u32,
    committed: bool,
    failed: bool,
    pub(super) tag: u64,
    pub(super) sent_at: Instant,
}

/// Whom an error is about.
#[derive(Debug)]
pub(super) enum Blamed {
    /// A flow.
    Flow(FlowChange),
    /// A meter.
    Meter(u32),
    /// A group.
    Group(u32),
    /// The bundle as a whole.
    Bundle,
}

/// A meter's change.
#[derive(Clone, Copy, Debug)]
pub(super) enum MeterChange {
    Add(MeterSpec),
    Modify(MeterSpec),
    Delete,
}

impl Batch {
    /// Writes the messages. Flows that can't be encoded come back in the second value and are left out.
    pub(super) fn send(
        flows: Vec<FlowChange>,
        groups: Vec<GroupChange>,
        meters: &[(u32, MeterChange)],
        tag: u64,
        now: Instant,
        xids: &mut Xids,
        out: &mut Outgoing,
    ) -> (Self, Vec<(FlowChange, EncodeError)>) {
        let mut this = Self {
            groups: Vec::new(),
            flows: Vec::with_capacity(flows.len()),
            flow_xids: 0..0,
            meters: Vec::new(),
            control_xids: [0; 2],
            barrier: 0,
            committed: flows.is_empty() && groups.is_empty(),
            failed: false,
            tag,
            sent_at: now,
        };
        let mut refused = Vec::new();
        let (gone, put): (Vec<_>, Vec<_>) =
            meters.iter().copied().partition(|(_, change)| matches!(change, MeterChange::Delete));
        for (number, change) in put {
            this.put_meter(number, change, xids, out);
        }
        let (groups_put, groups_gone): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|(_, spec)| spec.is_some());
        if !this.committed {
            let bundle = xids.next();
            let control = |kind| {
                Message::BundleControl(BundleControl { bundle, kind, flags: BundleFlags::ATOMIC_ORDERED })
            };
            this.control_xids[0] = xids.next();
            encode(out, &control(BundleControlType::OPEN_REQUEST), this.control_xids[0]);
            for (number, spec) in groups_put {
                this.put_group(bundle, number, spec, xids, out);
            }
            // Ids in one row; where the counter would wrap amid them, start over first.
            if xids.0.checked_add(u32::try_from(flows.len()).unwrap_or(u32::MAX)).is_none() {
                xids.0 = 0;
            }
            this.flow_xids.start = xids.0 + 1;
            for change in flows {
                let message = Box::new(Message::FlowMod(match &change.1 {
                    Some(value) => DesiredFlow { key: change.0.clone(), value: value.clone() }.to_add(),
                    None => change.0.to_delete(),
                }));
                let add =
                    Message::BundleAdd(BundleAdd { bundle, flags: BundleFlags::ATOMIC_ORDERED, message });
                match out.push(&add, xids.0 + 1) {
                    Ok(()) => {
                        xids.next();
                        this.flows.push(change);
                    }
                    Err(error) => refused.push((change, error)),
                }
            }
            this.flow_xids.end = xids.0 + 1;
            for (number, spec) in groups_gone {
                this.put_group(bundle, number, spec, xids, out);
            }
            this.control_xids[1] = xids.next();
            encode(out, &control(BundleControlType::COMMIT_REQUEST), this.control_xids[1]);
        }
        for (number, change) in gone {
            this.put_meter(number, change, xids, out);
        }
        this.barrier = xids.next();
        encode(out, &Message::BarrierRequest, this.barrier);
        (this, refused)
    }

    fn put_group(
        &mut self,
        bundle: u32,
        number: u32,
        spec: Option<GroupSpec>,
        xids: &mut Xids,
        out: &mut Outgoing,
    ) {
        let command = if spec.is_some() { GroupModCommand::ADD_OR_MODIFY } else { GroupModCommand::DELETE };
        let bucket =
            |actions| Bucket13 { weight: 1, watch_port: Port::ANY, watch_group: GroupId::ANY, actions };
        let buckets = spec.into_iter().flat_map(|spec| spec.buckets).map(bucket).collect();
        let change = GroupMod13 { command, kind: GroupType::SELECT, group: number.into(), buckets };
        let message = Box::new(Message::GroupMod13(change));
        let add = Message::BundleAdd(BundleAdd { bundle, flags: BundleFlags::ATOMIC_ORDERED, message });
        let xid = xids.next();
        self.groups.push((xid, number));
        // One that can't be encoded fails the flows that name it, and so the batch.
        if let Err(error) = out.push(&add, xid) {
            tracing::error!(number, %error, "a group has no encoding");
        }
    }

    fn put_meter(&mut self, number: u32, change: MeterChange, xids: &mut Xids, out: &mut Outgoing) {
        let add = |spec: MeterSpec| match spec.unit {
            MeterUnit::Packets => MeterMod::add_pktps(number, spec.rate, spec.burst),
            MeterUnit::Kilobits => MeterMod::add_kbps(number, spec.rate, spec.burst),
        };
        let message = match change {
            MeterChange::Add(spec) => add(spec),
            MeterChange::Modify(spec) => MeterMod { command: MeterModCommand::MODIFY, ..add(spec) },
            MeterChange::Delete => MeterMod::delete(number),
        };
        let xid = xids.next();
        self.meters.push((xid, number));
        encode(out, &Message::MeterMod(message), xid);
    }

    /// How many flows it changes.
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    /// The keys it changes.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Arc<FlowKey>> {
        self.flows.iter().map(|(key, _)| key)
    }

    /// The groups it changes.
    pub(super) fn groups(&self) -> impl Iterator<Item = u32> {
        self.groups.iter().map(|(_, number)| *number)
    }

    /// Takes an error; `None` when it is about something else.
    pub(super) fn error(&mut self, xid: u32, error: &ErrorMessage) -> Option<Blamed> {
        if self.flow_xids.contains(&xid) {
            self.failed = true;
            let at = usize::try_from(xid - self.flow_xids.start).unwrap_or(usize::MAX);
            return Some(self.flows.get(at).map_or(Blamed::Bundle, |change| Blamed::Flow(change.clone())));
        }
        if let Some((_, number)) = self.meters.iter().find(|(of, _)| *of == xid) {
            // What is to be gone and is gone is well.
            if error.is("OFPMMFC_UNKNOWN_METER") {
                return None;
            }
            self.failed = true;
            return Some(Blamed::Meter(*number));
        }
        if let Some((_, number)) = self.groups.iter().find(|(of, _)| *of == xid) {
            self.failed = true;
            return Some(Blamed::Group(*number));
        }
        if self.control_xids.contains(&xid) || xid == self.barrier {
            self.failed = true;
            return Some(Blamed::Bundle);
        }
        None
    }

    /// Takes a confirmation of the bundle.
    pub(super) fn control(&mut self, kind: BundleControlType) {
        if kind == BundleControlType::COMMIT_REPLY {
            self.committed = true;
        }
    }

    /// Whether this barrier is the batch's; then whether it succeeded.
    pub(super) fn barrier(&self, xid: u32) -> Option<bool> {
        (xid == self.barrier).then_some(self.committed && !self.failed)
    }
}

/// Control messages are short and always have an encoding.
fn encode(out: &mut Outgoing, message: &Message, xid: u32) {
    out.push(message, xid).expect("messages of fixed length have an encoding");
}

const PIECE_BYTES: usize = 256 << 10;
