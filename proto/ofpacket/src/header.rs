//! The eight-byte header that starts every OpenFlow message (OpenFlow 1.3.5, section 7.1).
//!
//! # Invariants
//! - `length` counts the header, so a well-formed message has `length >= 8`.

use crate::error::DecodeError;
use crate::wire::{wire_enum, wire_struct};

wire_enum! {
    /// Protocol version of a connection (section 7.1).
    pub enum Version(u8) {
        /// OpenFlow 1.0; seen only in a peer's hello or hello-failed error.
        V1_0 = 0x01, "OpenFlow10";
        /// OpenFlow 1.3, the version of this crate.
        V1_3 = 0x04, "OpenFlow13";
        /// OpenFlow 1.5, used for groups: Open vSwitch drops their selection method over 1.3.
        V1_5 = 0x06, "OpenFlow15";
    }
    /// Kind of message (`enum ofp_type`, section 7.1).
    pub enum Kind(u8) {
        /// Version negotiation.
        HELLO = 0, "hello";
        /// A request failed.
        ERROR = 1, "error";
        /// Liveness question.
        ECHO_REQUEST = 2, "echo_request";
        /// Liveness answer.
        ECHO_REPLY = 3, "echo_reply";
        /// Vendor extension.
        EXPERIMENTER = 4, "experimenter";
        /// What are you?
        FEATURES_REQUEST = 5, "features_request";
        /// Datapath id and capabilities.
        FEATURES_REPLY = 6, "features_reply";
        /// Fragment handling and packet-in length, asked.
        GET_CONFIG_REQUEST = 7, "get_config_request";
        /// Fragment handling and packet-in length, told.
        GET_CONFIG_REPLY = 8, "get_config_reply";
        /// Fragment handling and packet-in length, set.
        SET_CONFIG = 9, "set_config";
        /// A packet for the controller.
        PACKET_IN = 10, "packet_in";
        /// A flow expired or was deleted.
        FLOW_REMOVED = 11, "flow_removed";
        /// A port appeared, changed or went.
        PORT_STATUS = 12, "port_status";
        /// A packet from the controller.
        PACKET_OUT = 13, "packet_out";
        /// Flow table change.
        FLOW_MOD = 14, "flow_mod";
        /// Group table change.
        GROUP_MOD = 15, "group_mod";
        /// Port configuration change.
        PORT_MOD = 16, "port_mod";
        /// Table configuration change.
        TABLE_MOD = 17, "table_mod";
        /// Statistics and descriptions, asked.
        MULTIPART_REQUEST = 18, "multipart_request";
        /// Statistics and descriptions, told.
        MULTIPART_REPLY = 19, "multipart_reply";
        /// Finish everything before this.
        BARRIER_REQUEST = 20, "barrier_request";
        /// Everything before this is finished.
        BARRIER_REPLY = 21, "barrier_reply";
        /// Queues of a port, asked.
        QUEUE_GET_CONFIG_REQUEST = 22, "queue_get_config_request";
        /// Queues of a port, told.
        QUEUE_GET_CONFIG_REPLY = 23, "queue_get_config_reply";
        /// Role of this connection, wanted.
        ROLE_REQUEST = 24, "role_request";
        /// Role of this connection, given.
        ROLE_REPLY = 25, "role_reply";
        /// Wanted asynchronous messages, asked.
        GET_ASYNC_REQUEST = 26, "get_async_request";
        /// Wanted asynchronous messages, told.
        GET_ASYNC_REPLY = 27, "get_async_reply";
        /// Wanted asynchronous messages, set.
        SET_ASYNC = 28, "set_async";
        /// Meter table change.
        METER_MOD = 29, "meter_mod";
        /// Bundle control in versions that have bundles of their own (1.4 on).
        BUNDLE_CONTROL = 33, "bundle_control";
        /// Bundle addition in versions that have bundles of their own (1.4 on).
        BUNDLE_ADD = 34, "bundle_add";
    }
}

wire_struct! {
    /// Wire layout of `ofp_header`.
    #[derive(Copy)]
    pub struct Header "ofp_header" {
        /// Protocol version.
        version: Version,
        /// Message type.
        kind: Kind,
        /// Length of the message, header included.
        length: u16,
        /// Transaction id; a reply repeats that of its request.
        xid: u32,
    }
}

impl Header {
    /// Bytes a header takes.
    pub const LEN: usize = 8;

    /// Reads the header at the front of `bytes`, whose body may still be missing.
    pub fn peek(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = crate::wire::Reader::new("ofp_header", Version::V1_3, bytes);
        let header: Self = reader.take()?;
        if usize::from(header.length) < Self::LEN {
            return Err(DecodeError::Length {
                what: "ofp_header",
                at_least: Self::LEN,
                at_most: usize::from(u16::MAX),
                got: usize::from(header.length),
            });
        }
        Ok(header)
    }
}
