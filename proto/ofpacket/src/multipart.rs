//! Statistics and descriptions, which may come in several messages (OpenFlow 1.3.5, section 7.3.5).
//!
//! A reply with `more` set is followed by another with the same transaction id. Some bodies differ
//! between versions; those of 1.5 that this crate does not need stay undecoded.

use crate::error::DecodeError;
use crate::flow::{AggregateStats, FlowRequest, FlowStats};
use crate::group::{GroupDesc, GroupDesc13, GroupFeatures, GroupStats};
use crate::header::Version;
use crate::message::VENDOR_ONF;
use crate::meter::{MeterConfig, MeterFeatures, MeterStats};
use crate::monitor::{FlowMonitorRequest, FlowUpdate};
use crate::port::{GroupId, MeterId, Port};
use crate::switch::{PortDesc, PortStats, QueueRequest, QueueStats, SwitchDesc, TableStats};
use crate::wire::{Reader, Wire, Writer};

/// A question.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum MultipartRequest {
    /// Names of the switch.
    Desc,
    /// Flows.
    Flow(FlowRequest),
    /// Sums over flows.
    Aggregate(FlowRequest),
    /// Tables.
    Table,
    /// Port counters; `Port::ANY` for all.
    Port(Port),
    /// Queue counters.
    Queue(QueueRequest),
    /// Group counters; `GroupId::ALL` for all.
    Group(GroupId),
    /// Groups, over OpenFlow 1.3; see [`GroupDesc13`] for what it lacks.
    GroupDesc13,
    /// Groups, over OpenFlow 1.5; `GroupId::ALL` for all.
    GroupDesc(GroupId),
    /// What groups the switch can have.
    GroupFeatures,
    /// Meter counters; `MeterId::ALL` for all.
    Meter(MeterId),
    /// Meters; `MeterId::ALL` for all.
    MeterConfig(MeterId),
    /// What meters the switch can have.
    MeterFeatures,
    /// Ports.
    PortDesc,
    /// Start to watch flows.
    FlowMonitor(Vec<FlowMonitorRequest>),
    /// Anything else.
    Unknown {
        /// Its type.
        kind: u16,
        /// Its flags.
        flags: u16,
        /// Its body.
        body: Box<[u8]>,
    },
}

/// An answer, or part of one.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct MultipartReply {
    /// Whether another part follows.
    pub more: bool,
    /// What it says.
    pub body: ReplyBody,
}

/// What an answer says.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ReplyBody {
    /// Names of the switch.
    Desc(Box<SwitchDesc>),
    /// Flows.
    Flow(Vec<FlowStats>),
    /// Sums over flows.
    Aggregate(AggregateStats),
    /// Tables.
    Table(Vec<TableStats>),
    /// Port counters.
    Port(Vec<PortStats>),
    /// Queue counters.
    Queue(Vec<QueueStats>),
    /// Group counters.
    Group(Vec<GroupStats>),
    /// Groups, over OpenFlow 1.3.
    GroupDesc13(Vec<GroupDesc13>),
    /// Groups, over OpenFlow 1.5.
    GroupDesc(Vec<GroupDesc>),
    /// What groups the switch can have.
    GroupFeatures(GroupFeatures),
    /// Meter counters.
    Meter(Vec<MeterStats>),
    /// Meters.
    MeterConfig(Vec<MeterConfig>),
    /// What meters the switch can have.
    MeterFeatures(MeterFeatures),
    /// Ports.
    PortDesc(Vec<PortDesc>),
    /// Changes of watched flows.
    FlowMonitor(Vec<FlowUpdate>),
    /// Anything else.
    Unknown {
        /// Its type.
        kind: u16,
        /// Its body.
        body: Box<[u8]>,
    },
}

const DESC: u16 = 0;
const FLOW: u16 = 1;
const AGGREGATE: u16 = 2;
const TABLE: u16 = 3;
const PORT: u16 = 4;
const QUEUE: u16 = 5;
const GROUP: u16 = 6;
const GROUP_DESC: u16 = 7;
const GROUP_FEATURES: u16 = 8;
const METER: u16 = 9;
const METER_CONFIG: u16 = 10;
const METER_FEATURES: u16 = 11;
const PORT_DESC: u16 = 13;
const EXPERIMENTER: u16 = 0xffff;
const ONF_FLOW_MONITOR: u32 = 1870;
const FLAG_MORE: u16 = 1;

impl MultipartRequest {
    /// The version in which this is asked when the caller does not say.
    pub(crate) const fn version(&self) -> Version {
        match self {
            Self::GroupDesc(_) => Version::V1_5,
            _ => Version::V1_3,
        }
    }

    /// Whether the layout here is that of a version.
    pub(crate) fn has_layout_of(&self, version: Version) -> bool {
        match self {
            Self::GroupDesc(_) => version >= Version::V1_5,
            Self::GroupDesc13 | Self::PortDesc | Self::FlowMonitor(_) => version < Version::V1_5,
            _ => true,
        }
    }
}

impl ReplyBody {
    /// Whether the layout here is that of a version.
    pub(crate) fn has_layout_of(&self, version: Version) -> bool {
        match self {
            Self::GroupDesc(_) => version >= Version::V1_5,
            Self::Flow(_)
            | Self::Aggregate(_)
            | Self::Port(_)
            | Self::Queue(_)
            | Self::GroupDesc13(_)
            | Self::PortDesc(_)
            | Self::FlowMonitor(_) => version < Version::V1_5,
            _ => true,
        }
    }

    pub(crate) const fn version(&self) -> Version {
        match self {
            Self::GroupDesc(_) => Version::V1_5,
            _ => Version::V1_3,
        }
    }
}

fn head(w: &mut Writer, kind: u16, flags: u16) {
    w.put(kind);
    w.put(flags);
    w.zeros(4);
}

impl Wire for MultipartRequest {
    fn put(&self, w: &mut Writer) {
        fn number(w: &mut Writer, kind: u16, number: u32) {
            head(w, kind, 0);
            w.put(number);
            w.zeros(4);
        }
        match self {
            Self::Desc => head(w, DESC, 0),
            Self::Flow(request) => {
                head(w, FLOW, 0);
                request.put(w);
            }
            Self::Aggregate(request) => {
                head(w, AGGREGATE, 0);
                request.put(w);
            }
            Self::Table => head(w, TABLE, 0),
            Self::Port(port) => number(w, PORT, port.0),
            Self::Queue(request) => {
                head(w, QUEUE, 0);
                request.put(w);
            }
            Self::Group(group) => number(w, GROUP, group.0),
            Self::GroupDesc13 => head(w, GROUP_DESC, 0),
            Self::GroupDesc(group) => number(w, GROUP_DESC, group.0),
            Self::GroupFeatures => head(w, GROUP_FEATURES, 0),
            Self::Meter(meter) => number(w, METER, meter.0),
            Self::MeterConfig(meter) => number(w, METER_CONFIG, meter.0),
            Self::MeterFeatures => head(w, METER_FEATURES, 0),
            Self::PortDesc => head(w, PORT_DESC, 0),
            Self::FlowMonitor(list) => {
                head(w, EXPERIMENTER, 0);
                w.put(VENDOR_ONF);
                w.put(ONF_FLOW_MONITOR);
                w.list(list);
            }
            Self::Unknown { kind, flags, body } => {
                head(w, *kind, *flags);
                w.bytes(body);
            }
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.what("ofp_multipart_request");
        let (kind, flags): (u16, u16) = (r.take()?, r.take()?);
        r.skip(4)?;
        let number = |r: &mut Reader<'_>| {
            let number: u32 = r.take()?;
            r.skip(4)?;
            Ok(number)
        };
        let since_1_5 = r.version >= Version::V1_5;
        let this = match kind {
            DESC => Self::Desc,
            FLOW => Self::Flow(r.take()?),
            AGGREGATE => Self::Aggregate(r.take()?),
            TABLE => Self::Table,
            PORT => Self::Port(number(r).map(Port)?),
            QUEUE => Self::Queue(r.take()?),
            GROUP => Self::Group(number(r).map(GroupId)?),
            GROUP_DESC if since_1_5 => Self::GroupDesc(number(r).map(GroupId)?),
            GROUP_DESC => Self::GroupDesc13,
            GROUP_FEATURES => Self::GroupFeatures,
            METER => Self::Meter(number(r).map(MeterId)?),
            METER_CONFIG => Self::MeterConfig(number(r).map(MeterId)?),
            METER_FEATURES => Self::MeterFeatures,
            PORT_DESC if !since_1_5 => Self::PortDesc,
            EXPERIMENTER if !since_1_5 && r.peek().starts_with(&flow_monitor_head()) => {
                r.skip(8)?;
                Self::FlowMonitor(r.list()?)
            }
            _ => Self::Unknown { kind, flags, body: r.take()? },
        };
        Ok(this)
    }
}

impl Wire for MultipartReply {
    fn put(&self, w: &mut Writer) {
        let flags = if self.more { FLAG_MORE } else { 0 };
        match &self.body {
            ReplyBody::Desc(desc) => {
                head(w, DESC, flags);
                desc.put(w);
            }
            ReplyBody::Flow(list) => put_list(w, FLOW, flags, list),
            ReplyBody::Aggregate(stats) => {
                head(w, AGGREGATE, flags);
                stats.put(w);
            }
            ReplyBody::Table(list) => put_list(w, TABLE, flags, list),
            ReplyBody::Port(list) => put_list(w, PORT, flags, list),
            ReplyBody::Queue(list) => put_list(w, QUEUE, flags, list),
            ReplyBody::Group(list) => put_list(w, GROUP, flags, list),
            ReplyBody::GroupDesc13(list) => put_list(w, GROUP_DESC, flags, list),
            ReplyBody::GroupDesc(list) => put_list(w, GROUP_DESC, flags, list),
            ReplyBody::GroupFeatures(features) => {
                head(w, GROUP_FEATURES, flags);
                features.put(w);
            }
            ReplyBody::Meter(list) => put_list(w, METER, flags, list),
            ReplyBody::MeterConfig(list) => put_list(w, METER_CONFIG, flags, list),
            ReplyBody::MeterFeatures(features) => {
                head(w, METER_FEATURES, flags);
                features.put(w);
            }
            ReplyBody::PortDesc(list) => put_list(w, PORT_DESC, flags, list),
            ReplyBody::FlowMonitor(list) => {
                head(w, EXPERIMENTER, flags);
                w.put(VENDOR_ONF);
                w.put(ONF_FLOW_MONITOR);
                w.list(list);
            }
            ReplyBody::Unknown { kind, body } => {
                head(w, *kind, flags);
                w.bytes(body);
            }
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.what("ofp_multipart_reply");
        let (kind, flags): (u16, u16) = (r.take()?, r.take()?);
        r.skip(4)?;
        let since_1_5 = r.version >= Version::V1_5;
        let body = match kind {
            DESC => ReplyBody::Desc(Box::new(r.take()?)),
            // The layouts of these changed after 1.3.
            FLOW | AGGREGATE | PORT | QUEUE | PORT_DESC if since_1_5 => {
                ReplyBody::Unknown { kind, body: r.take()? }
            }
            FLOW => ReplyBody::Flow(r.list()?),
            AGGREGATE => ReplyBody::Aggregate(r.take()?),
            TABLE => ReplyBody::Table(r.list()?),
            PORT => ReplyBody::Port(r.list()?),
            QUEUE => ReplyBody::Queue(r.list()?),
            GROUP => ReplyBody::Group(r.list()?),
            GROUP_DESC if since_1_5 => ReplyBody::GroupDesc(r.list()?),
            GROUP_DESC => ReplyBody::GroupDesc13(r.list()?),
            GROUP_FEATURES => ReplyBody::GroupFeatures(r.take()?),
            METER => ReplyBody::Meter(r.list()?),
            METER_CONFIG => ReplyBody::MeterConfig(r.list()?),
            METER_FEATURES => ReplyBody::MeterFeatures(r.take()?),
            PORT_DESC => ReplyBody::PortDesc(r.list()?),
            EXPERIMENTER if !since_1_5 && r.peek().starts_with(&flow_monitor_head()) => {
                r.skip(8)?;
                ReplyBody::FlowMonitor(r.list()?)
            }
            _ => ReplyBody::Unknown { kind, body: r.take()? },
        };
        Ok(Self { more: flags & FLAG_MORE != 0, body })
    }
}

fn put_list<T: Wire>(w: &mut Writer, kind: u16, flags: u16, list: &[T]) {
    head(w, kind, flags);
    w.list(list);
}

fn flow_monitor_head() -> [u8; 8] {
    let mut head = [0; 8];
    head[..4].copy_from_slice(&VENDOR_ONF.to_be_bytes());
    head[4..].copy_from_slice(&ONF_FLOW_MONITOR.to_be_bytes());
    head
}
