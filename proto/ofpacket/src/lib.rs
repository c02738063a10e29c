#![doc = include_str!("../README.md")]

mod action;
mod bundle;
mod ct_flush;
mod error;
mod error_message;
pub mod field;
mod flow;
mod framer;
mod group;
mod header;
mod instruction;
mod match_;
mod message;
mod meter;
mod monitor;
mod multipart;
mod packet;
mod port;
mod print;
mod property;
mod switch;
mod tunnel;
mod wire;

pub use action::*;
pub use bundle::{BundleAdd, BundleControl, BundleControlType, BundleFlags};
pub use ct_flush::{CtFlush, CtTuple};
pub use error::{DecodeError, EncodeError};
pub use error_message::{ErrorMessage, ErrorType};
pub use field::{Field, Prerequisite, Subfield};
pub use flow::{
    AggregateStats, DEFAULT_PRIORITY, FlowMod, FlowModCommand, FlowModFlags, FlowRemoved, FlowRemovedReason,
    FlowRequest, FlowStats,
};
pub use framer::Framer;
pub use group::{
    Bucket, Bucket13, BucketId, Counter, GroupCapabilities, GroupDesc, GroupDesc13, GroupFeatures, GroupMod,
    GroupMod13, GroupModCommand, GroupStats, GroupType, PerType, Property, Selection,
};
pub use header::{Header, Kind, Version};
pub use instruction::Instruction;
pub use match_::{
    CtState, ETH_TYPE_ARP, ETH_TYPE_IPV4, ETH_TYPE_IPV6, Entry, FieldValue, Match, VLAN_PRESENT,
};
pub use message::{Message, PACKET_IN_FORMAT_NXT2, PACKET_IN_FORMAT_STANDARD, VENDOR_ONF};
pub use meter::{MeterBand, MeterConfig, MeterFeatures, MeterFlags, MeterMod, MeterModCommand, MeterStats};
pub use monitor::{FlowMonitorFlags, FlowMonitorRequest, FlowUpdate, FlowUpdateEvent};
pub use multipart::{MultipartReply, MultipartRequest, ReplyBody};
pub use packet::{PacketIn, PacketIn2, PacketOut};
pub use port::{BufferId, GroupId, MeterId, Port, QueueId, TableId};
pub use switch::{
    AsyncConfig, Capabilities, Features, Hello, PortConfig, PortDesc, PortMod, PortReason, PortState,
    PortStats, PortStatus, QueueRequest, QueueStats, Role, RoleState, SwitchConfig, SwitchDesc, TableMod,
    TableStats, Text,
};
pub use tunnel::{TlvMap, TlvTableCommand, TlvTableMod, TlvTableReply};
