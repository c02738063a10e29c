//! Every message, by its number (OpenFlow 1.3.5, section 7; ONF and Nicira experimenter messages).
//!
//! # Invariants
//! - `decode` never panics, and a message it does not know stays whole as [`Message::Unknown`] or
//!   [`Message::Experimenter`].
//! - What `encode` returns, `decode` gives back, with two exceptions: a [`crate::Match`] takes its
//!   canonical form, and actions for OpenFlow 1.5 come back as what that version calls them.

use crate::action::VENDOR_NICIRA;
use crate::bundle::{BundleAdd, BundleControl};
use crate::ct_flush::CtFlush;
use crate::error::{DecodeError, EncodeError};
use crate::error_message::ErrorMessage;
use crate::flow::{FlowMod, FlowRemoved};
use crate::group::{GroupMod, GroupMod13};
use crate::header::{Header, Kind, Version};
use crate::meter::MeterMod;
use crate::multipart::{MultipartReply, MultipartRequest};
use crate::packet::{PacketIn, PacketIn2, PacketOut};
use crate::switch::{
    AsyncConfig, Features, Hello, PortMod, PortStatus, RoleState, SwitchConfig, TableMod, check_version,
};
use crate::tunnel::{TlvTableMod, TlvTableReply};
use crate::wire::{Reader, Wire, Writer};

/// Declares the messages with a number of their own in all versions: variant, body, number.
macro_rules! messages {
    (
        plain { $($(#[$pdoc:meta])* $plain:ident $(($pbody:ty))? = $pkind:ident;)* }
        experimenter { $($(#[$xdoc:meta])* $ext:ident $(($xbody:ty))? = $vendor:ident, $subtype:literal $(, pad $pad:literal)?;)* }
    ) => {
        /// A message without its header.
        #[derive(Clone, Debug, Eq, Hash, PartialEq)]
        #[non_exhaustive]
        pub enum Message {
            $($(#[$pdoc])* $plain $(($pbody))?,)*
            $($(#[$xdoc])* $ext $(($xbody))?,)*
            /// Changes the group table, in the form of OpenFlow 1.3, without selection method.
            GroupMod13(GroupMod13),
            /// Changes the group table; needs a connection of OpenFlow 1.5.
            GroupMod(GroupMod),
            /// Opens, closes, commits or discards a bundle.
            BundleControl(BundleControl),
            /// Adds a message to a bundle.
            BundleAdd(BundleAdd),
            /// An experimenter message this crate does not know.
            Experimenter {
                /// Whose message.
                experimenter: u32,
                /// Its number.
                subtype: u32,
                /// Its body.
                body: Box<[u8]>,
            },
            /// A message this crate does not know.
            Unknown {
                /// Its number.
                kind: Kind,
                /// Its body.
                body: Box<[u8]>,
            },
        }

        impl Message {
            fn put_declared(&self, w: &mut Writer) -> Option<Kind> {
                match self {
                    $(messages!(@pattern $plain $(, $pbody)?; body) => {
                        $(messages!(@put w, body, $pbody);)?
                        Some(Kind::$pkind)
                    })*
                    $(messages!(@pattern $ext $(, $xbody)?; body) => {
                        w.put($vendor);
                        w.put::<u32>($subtype);
                        $(w.zeros($pad);)?
                        $(messages!(@put w, body, $xbody);)?
                        Some(Kind::EXPERIMENTER)
                    })*
                    _ => None,
                }
            }

            fn take_plain(kind: Kind, r: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
                Ok(Some(match kind {
                    $(Kind::$pkind => messages!(@take r, $plain $(, $pbody)?),)*
                    _ => return Ok(None),
                }))
            }

            fn take_experimenter(vendor: u32, subtype: u32, r: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
                Ok(Some(match (vendor, subtype) {
                    $(($vendor, $subtype) => { $(r.skip($pad)?;)? messages!(@take r, $ext $(, $xbody)?) })*
                    _ => return Ok(None),
                }))
            }
        }
    };
    (@pattern $name:ident; $bind:ident) => { Self::$name };
    (@pattern $name:ident, $body:ty; $bind:ident) => { Self::$name($bind) };
    (@put $w:ident, $bind:ident, $body:ty) => { <$body as Wire>::put($bind, $w) };
    (@take $r:ident, $name:ident) => { Self::$name };
    (@take $r:ident, $name:ident, $body:ty) => { Self::$name(<$body as Wire>::take($r)?) };
}

messages! {
    plain {
        /// Negotiates the version.
        Hello(Hello) = HELLO;
        /// A request failed.
        Error(ErrorMessage) = ERROR;
        /// Asks for a sign of life.
        EchoRequest(Box<[u8]>) = ECHO_REQUEST;
        /// A sign of life, with the same bytes.
        EchoReply(Box<[u8]>) = ECHO_REPLY;
        /// Asks what the switch is.
        FeaturesRequest = FEATURES_REQUEST;
        /// What the switch is.
        FeaturesReply(Features) = FEATURES_REPLY;
        /// Asks for the configuration.
        GetConfigRequest = GET_CONFIG_REQUEST;
        /// The configuration.
        GetConfigReply(SwitchConfig) = GET_CONFIG_REPLY;
        /// Sets the configuration.
        SetConfig(SwitchConfig) = SET_CONFIG;
        /// A packet for the controller.
        PacketIn(PacketIn) = PACKET_IN;
        /// A flow is gone.
        FlowRemoved(FlowRemoved) = FLOW_REMOVED;
        /// A port changed.
        PortStatus(PortStatus) = PORT_STATUS;
        /// A packet from the controller.
        PacketOut(PacketOut) = PACKET_OUT;
        /// Changes a flow table.
        FlowMod(FlowMod) = FLOW_MOD;
        /// Changes a port.
        PortMod(PortMod) = PORT_MOD;
        /// Changes a table.
        TableMod(TableMod) = TABLE_MOD;
        /// Asks for statistics or descriptions.
        MultipartRequest(MultipartRequest) = MULTIPART_REQUEST;
        /// Statistics or descriptions.
        MultipartReply(MultipartReply) = MULTIPART_REPLY;
        /// Finish everything before this.
        BarrierRequest = BARRIER_REQUEST;
        /// Everything before is finished.
        BarrierReply = BARRIER_REPLY;
        /// Wants a role.
        RoleRequest(RoleState) = ROLE_REQUEST;
        /// Has a role.
        RoleReply(RoleState) = ROLE_REPLY;
        /// Asks which asynchronous messages come.
        GetAsyncRequest = GET_ASYNC_REQUEST;
        /// Which asynchronous messages come.
        GetAsyncReply(AsyncConfig) = GET_ASYNC_REPLY;
        /// Sets which asynchronous messages come.
        SetAsync(AsyncConfig) = SET_ASYNC;
        /// Changes the meter table.
        MeterMod(MeterMod) = METER_MOD;
    }
    experimenter {
        /// Chooses the form of flow messages (OpenFlow 1.0 only).
        SetFlowFormat(u32) = VENDOR_NICIRA, 12;
        /// Chooses the form of packet-in; see [`PACKET_IN_FORMAT_NXT2`].
        SetPacketInFormat(u32) = VENDOR_NICIRA, 16;
        /// Reports ages of flows (OpenFlow 1.0 only).
        FlowAge = VENDOR_NICIRA, 18;
        /// Sets which asynchronous messages come, in the Nicira form.
        NxSetAsync(AsyncConfig) = VENDOR_NICIRA, 19;
        /// Numbers this connection, for `Controller::controller_id`.
        SetControllerId(u16) = VENDOR_NICIRA, 20, pad 6;
        /// Changes the tunnel option table.
        TlvTableMod(TlvTableMod) = VENDOR_NICIRA, 24;
        /// Asks for the tunnel option table.
        TlvTableRequest = VENDOR_NICIRA, 25;
        /// The tunnel option table.
        TlvTableReply(TlvTableReply) = VENDOR_NICIRA, 26;
        /// Lets a paused packet go on.
        Resume(PacketIn2) = VENDOR_NICIRA, 28;
        /// Forgets the connections of a zone.
        CtFlushZone(u16) = VENDOR_NICIRA, 29, pad 6;
        /// A packet for the controller with everything that belongs to it.
        PacketIn2(PacketIn2) = VENDOR_NICIRA, 30;
        /// Forgets connections.
        CtFlush(CtFlush) = VENDOR_NICIRA, 32;
        /// Stops a flow monitor.
        FlowMonitorCancel(u32) = VENDOR_ONF, 1870;
        /// Changes of watched flows are held back.
        FlowMonitorPaused = VENDOR_ONF, 1871;
        /// Changes of watched flows come again.
        FlowMonitorResumed = VENDOR_ONF, 1872;
    }
}

impl Message {
    /// The version a message is encoded for when the caller does not say: 1.5 for what only 1.5
    /// has, else 1.3.
    pub fn version(&self) -> Version {
        match self {
            Self::GroupMod(_) => Version::V1_5,
            Self::MultipartRequest(request) => request.version(),
            Self::MultipartReply(reply) => reply.body.version(),
            Self::BundleAdd(add) => add.message.version(),
            _ => Version::V1_3,
        }
    }

    /// The message with its header, in its own version.
    pub fn encode(&self, xid: u32) -> Result<Vec<u8>, EncodeError> {
        self.encode_as(self.version(), xid)
    }

    /// The message with its header, for a connection of this version.
    pub fn encode_as(&self, version: Version, xid: u32) -> Result<Vec<u8>, EncodeError> {
        let mut w = Writer::new(version);
        self.put(&mut w, xid);
        w.finish()
    }

    /// Like `encode_as`, behind what `out` holds already. After an error `out` is as before.
    pub fn encode_into(&self, version: Version, xid: u32, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(&self.encode_as(version, xid)?);
        Ok(())
    }

    /// Reads the message at the front of `bytes`; the framer gives exactly one.
    pub fn decode(bytes: &[u8]) -> Result<(Header, Self), DecodeError> {
        Self::decode_at(bytes, true)
    }

    fn put(&self, w: &mut Writer, xid: u32) {
        check_version(w);
        self.needs(w, self.has_layout_of(w.version), "a message that this crate has in this version");
        let start = w.len();
        w.put(Header { version: w.version, kind: Kind(0), length: 0, xid });
        let kind = match self {
            Self::GroupMod13(group) => {
                group.put(w);
                Kind::GROUP_MOD
            }
            Self::GroupMod(group) => {
                group.put(w);
                Kind::GROUP_MOD
            }
            Self::BundleControl(control) => {
                let kind = put_bundle_head(w, Kind::BUNDLE_CONTROL, ONF_BUNDLE_CONTROL);
                control.put(w);
                kind
            }
            Self::BundleAdd(add) => {
                let kind = put_bundle_head(w, Kind::BUNDLE_ADD, ONF_BUNDLE_ADD);
                w.put(add.bundle);
                w.zeros(2);
                w.put(add.flags);
                let allowed = !matches!(*add.message, Self::BundleAdd(_));
                self.needs(w, allowed, "a message that can be in a bundle");
                if allowed {
                    add.message.put(w, xid);
                }
                kind
            }
            Self::Experimenter { experimenter, subtype, body } => {
                w.put(*experimenter);
                w.put(*subtype);
                w.bytes(body);
                Kind::EXPERIMENTER
            }
            Self::Unknown { kind, body } => {
                w.bytes(body);
                *kind
            }
            declared => declared.put_declared(w).expect("the table has every other variant"),
        };
        w.bytes[start + 1] = kind.0;
        w.length_at("ofp_header", start + 2, start);
    }

    /// Whether the layout this crate has for the message is that of a version: some changed after 1.3.
    fn has_layout_of(&self, version: Version) -> bool {
        let since_1_5 = version >= Version::V1_5;
        match self {
            Self::GroupMod(_) => since_1_5,
            Self::GroupMod13(_)
            | Self::PacketOut(_)
            | Self::FlowRemoved(_)
            | Self::PortStatus(_)
            | Self::PortMod(_)
            | Self::TableMod(_)
            | Self::GetAsyncReply(_)
            | Self::SetAsync(_) => !since_1_5,
            Self::MultipartRequest(request) => request.has_layout_of(version),
            Self::MultipartReply(reply) => reply.body.has_layout_of(version),
            _ => true,
        }
    }

    fn needs(&self, w: &mut Writer, holds: bool, expected: &'static str) {
        if !holds {
            w.refuse(EncodeError::NotExpressible { what: "message", expected });
        }
    }

    fn decode_at(bytes: &[u8], may_bundle: bool) -> Result<(Header, Self), DecodeError> {
        let header = Header::peek(bytes)?;
        let mut r = Reader::new("ofp_header", header.version, bytes);
        let mut r = r.sub("ofp_header", usize::from(header.length))?;
        r.skip(Header::LEN)?;
        let since_1_5 = header.version >= Version::V1_5;
        let message = match header.kind {
            Kind::GROUP_MOD if since_1_5 => Self::GroupMod(r.take()?),
            Kind::GROUP_MOD => Self::GroupMod13(r.take()?),
            Kind::BUNDLE_CONTROL if since_1_5 => Self::BundleControl(r.take()?),
            Kind::BUNDLE_ADD if since_1_5 && may_bundle => Self::take_bundle_add(&mut r, header.xid)?,
            Kind::EXPERIMENTER => Self::take_any_experimenter(&mut r, header.xid, may_bundle)?,
            // Messages whose layout changed after 1.3 are of no use here in 1.5.
            Kind::PACKET_OUT
            | Kind::FLOW_REMOVED
            | Kind::PORT_STATUS
            | Kind::PORT_MOD
            | Kind::TABLE_MOD
            | Kind::GET_ASYNC_REPLY
            | Kind::SET_ASYNC
                if since_1_5 =>
            {
                Self::Unknown { kind: header.kind, body: r.take()? }
            }
            kind => match Self::take_plain(kind, &mut r)? {
                Some(message) => message,
                None => Self::Unknown { kind, body: r.take()? },
            },
        };
        Ok((header, message))
    }

    fn take_any_experimenter(r: &mut Reader<'_>, xid: u32, may_bundle: bool) -> Result<Self, DecodeError> {
        r.what("ofp_experimenter_header");
        let (experimenter, subtype) = (r.take()?, r.take()?);
        match (experimenter, subtype) {
            (VENDOR_ONF, ONF_BUNDLE_CONTROL) => return Ok(Self::BundleControl(r.take()?)),
            (VENDOR_ONF, ONF_BUNDLE_ADD) if may_bundle => return Self::take_bundle_add(r, xid),
            _ => {}
        }
        match Self::take_experimenter(experimenter, subtype, r)? {
            Some(message) => Ok(message),
            None => Ok(Self::Experimenter { experimenter, subtype, body: r.take()? }),
        }
    }

    fn take_bundle_add(r: &mut Reader<'_>, xid: u32) -> Result<Self, DecodeError> {
        r.what("ofp_bundle_add_msg");
        let bundle = r.take()?;
        r.skip(2)?;
        let flags = r.take()?;
        let inner = r.peek();
        let (header, message) = Self::decode_at(inner, false)?;
        if header.xid != xid {
            return Err(r.wrong("the transaction id of the addition", header.xid.into()));
        }
        Ok(Self::BundleAdd(BundleAdd { bundle, flags, message: Box::new(message) }))
    }
}

/// Bundles are messages of their own from 1.4 on, and experimenter messages before.
fn put_bundle_head(w: &mut Writer, native: Kind, subtype: u32) -> Kind {
    if w.version >= Version::V1_5 {
        return native;
    }
    w.put(VENDOR_ONF);
    w.put(subtype);
    Kind::EXPERIMENTER
}

/// Experimenter id of the Open Networking Foundation.
pub const VENDOR_ONF: u32 = 0x4f4e_4600;
/// For `SetPacketInFormat`: packet-in as this version of OpenFlow has it.
pub const PACKET_IN_FORMAT_STANDARD: u32 = 0;
/// For `SetPacketInFormat`: [`Message::PacketIn2`].
pub const PACKET_IN_FORMAT_NXT2: u32 = 2;
const ONF_BUNDLE_CONTROL: u32 = 2300;
const ONF_BUNDLE_ADD: u32 = 2301;
