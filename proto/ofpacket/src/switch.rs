//! The switch as a whole and its ports (OpenFlow 1.3.5, sections 7.2.1, 7.3.1, 7.3.2, 7.3.5, 7.3.9, 7.3.10,
//! 7.4.3 and 7.5.1).

use std::borrow::Cow;
use std::fmt;

use crate::error::{DecodeError, EncodeError};
use crate::header::Version;
use crate::port::{Port, QueueId, TableId};
use crate::wire::{Reader, Wire, Writer, wire_enum, wire_flags, wire_struct};

wire_enum! {
    /// What changed about a port.
    pub enum PortReason(u8) {
        /// It appeared.
        ADD = 0, "add";
        /// It went.
        DELETE = 1, "delete";
        /// It is different.
        MODIFY = 2, "modify";
    }
    /// Role of a controller connection.
    pub enum Role(u32) {
        /// As it is; only in a request.
        NO_CHANGE = 0, "nochange";
        /// Full access, like others.
        EQUAL = 1, "equal";
        /// Full access, alone.
        MASTER = 2, "primary";
        /// Reads only.
        SLAVE = 3, "secondary";
    }
}

wire_flags! {
    /// What a switch can do.
    pub flags Capabilities(u32) {
        /// Flow statistics.
        FLOW_STATS = 0x01, "FLOW_STATS";
        /// Table statistics.
        TABLE_STATS = 0x02, "TABLE_STATS";
        /// Port statistics.
        PORT_STATS = 0x04, "PORT_STATS";
        /// Group statistics.
        GROUP_STATS = 0x08, "GROUP_STATS";
        /// Reassembles fragments.
        IP_REASM = 0x20, "IP_REASM";
        /// Queue statistics.
        QUEUE_STATS = 0x40, "QUEUE_STATS";
        /// Blocks looping ports.
        PORT_BLOCKED = 0x100, "PORT_BLOCKED";
    }
    /// What is wanted of a port.
    pub flags PortConfig(u32) {
        /// Administratively down.
        PORT_DOWN = 0x01, "PORT_DOWN";
        /// Drops what comes in.
        NO_RECV = 0x04, "NO_RECV";
        /// Drops what goes out.
        NO_FWD = 0x20, "NO_FWD";
        /// Sends no packet-in.
        NO_PACKET_IN = 0x40, "NO_PACKET_IN";
    }
    /// How a port is.
    pub flags PortState(u32) {
        /// No link.
        LINK_DOWN = 0x01, "LINK_DOWN";
        /// Blocked, as by spanning tree.
        BLOCKED = 0x02, "BLOCKED";
        /// Live for fast failover.
        LIVE = 0x04, "LIVE";
    }
}

/// Text in a field of fixed size, ended by a zero byte if shorter.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Text<const N: usize>(pub [u8; N]);

impl<const N: usize> Text<N> {
    /// The text, if it fits.
    pub fn new(text: &str) -> Option<Self> {
        let mut bytes = [0; N];
        bytes.get_mut(..text.len()).filter(|_| text.len() < N)?.copy_from_slice(text.as_bytes());
        Some(Self(bytes))
    }

    /// The text up to the zero byte; what is not UTF-8 is replaced.
    pub fn as_str(&self) -> Cow<'_, str> {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(N);
        String::from_utf8_lossy(&self.0[..end])
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.as_str(), f)
    }
}

impl<const N: usize> Wire for Text<N> {
    fn put(&self, w: &mut Writer) {
        w.bytes(&self.0);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.array().map(Self)
    }
}

/// Versions a side can speak (`ofp_hello`). Elements other than the bitmap survive.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Hello {
    /// Words of the bitmap: bit n of the first is version n.
    pub versions: Option<Vec<u32>>,
    /// Other elements, encoded.
    pub unknown: Box<[u8]>,
}

impl Hello {
    /// A hello for exactly these versions.
    pub fn new(versions: &[Version]) -> Self {
        let bitmap = versions
            .iter()
            .fold(0, |bitmap, version| bitmap | 1u32.checked_shl(version.0.into()).unwrap_or(0));
        Self { versions: Some(vec![bitmap]), unknown: Box::default() }
    }

    /// Whether the bitmap names a version; `None` when there is no bitmap and the header counts.
    pub fn supports(&self, version: Version) -> Option<bool> {
        let words = self.versions.as_ref()?;
        let word = words.get(usize::from(version.0 / 32)).copied().unwrap_or(0);
        Some(word >> (version.0 % 32) & 1 != 0)
    }
}

const HELLO_VERSION_BITMAP: u16 = 1;

impl Wire for Hello {
    fn put(&self, w: &mut Writer) {
        if let Some(words) = &self.versions {
            crate::property::put(w, HELLO_VERSION_BITMAP, |w| w.list(words));
        }
        w.bytes(&self.unknown);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut this = Self::default();
        let mut unknown = Vec::new();
        while r.left() >= 4 {
            let before = r.peek();
            let (kind, mut value) = crate::property::take(r, "ofp_hello_elem")?;
            if kind == HELLO_VERSION_BITMAP && this.versions.is_none() {
                if value.left() % 4 != 0 {
                    return Err(value.wrong("a version bitmap of whole words", value.left() as u64));
                }
                this.versions = Some(value.list()?);
            } else {
                unknown.extend_from_slice(&before[..before.len() - r.left()]);
            }
        }
        unknown.extend_from_slice(r.rest());
        this.unknown = unknown.into();
        Ok(this)
    }
}

wire_struct! {
    /// The switch (`ofp_switch_features`).
    pub struct Features "ofp_switch_features" {
        /// Datapath id: MAC address in the lower 48 bits.
        datapath_id: u64,
        /// Packets it buffers.
        buffers: u32,
        /// Tables it has.
        tables: u8,
        /// Which connection this is; 0 is the main one.
        auxiliary_id: u8 => pad 2,
        /// What it can do.
        capabilities: Capabilities,
        /// Not used.
        reserved: u32,
    }

    /// Fragments and packet-in length (`ofp_switch_config`).
    pub struct SwitchConfig "ofp_switch_config" {
        /// 0 normal, 1 drop fragments, 2 reassemble.
        flags: u16,
        /// Bytes of a packet-in for a table miss; 0xffff for all. A connection to the management
        /// socket of Open vSwitch gets no packet-in, port status or flow removed while this is 0,
        /// as it is at first.
        miss_send_len: u16,
    }

    /// Role of the connection (`ofp_role_request`).
    pub struct RoleState "ofp_role_request" {
        /// The role.
        role: Role => pad 4,
        /// Number of the election; older ones are refused.
        generation: u64,
    }

    /// Wanted asynchronous messages, one bit for each reason (`ofp_async_config`). The first of each
    /// pair is for equal and master, the second for slave.
    pub struct AsyncConfig "ofp_async_config" {
        /// Packet-in reasons.
        packet_in: [u8; 8],
        /// Port status reasons.
        port_status: [u8; 8],
        /// Flow removed reasons.
        flow_removed: [u8; 8],
    }

    /// A port (`ofp_port`).
    pub struct PortDesc "ofp_port" {
        /// Its number.
        port: Port => pad 4,
        /// Its address.
        hardware: [u8; 6] => pad 2,
        /// Its name.
        name: Text<16>,
        /// What is wanted.
        config: PortConfig,
        /// How it is.
        state: PortState,
        /// Features in use.
        current: u32,
        /// Features it advertises.
        advertised: u32,
        /// Features it has.
        supported: u32,
        /// Features the peer advertises.
        peer: u32,
        /// Speed in use, kilobits a second.
        current_speed: u32,
        /// Best speed, kilobits a second.
        max_speed: u32,
    }

    /// A port changed (`ofp_port_status`).
    pub struct PortStatus "ofp_port_status" {
        /// How.
        reason: PortReason => pad 7,
        /// What it is now.
        desc: PortDesc,
    }

    /// A change to a port (`ofp_port_mod`).
    pub struct PortMod "ofp_port_mod" {
        /// Its number.
        port: Port => pad 4,
        /// Its address, as a check.
        hardware: [u8; 6] => pad 2,
        /// What is wanted.
        config: PortConfig,
        /// Bits of `config` to change.
        mask: PortConfig,
        /// Features to advertise, 0 for no change.
        advertise: u32 => pad 4,
    }

    /// Counters of a port (`ofp_port_stats`); all ones where the switch does not count.
    pub struct PortStats "ofp_port_stats" {
        /// The port.
        port: Port => pad 4,
        /// Packets in.
        rx_packets: u64,
        /// Packets out.
        tx_packets: u64,
        /// Bytes in.
        rx_bytes: u64,
        /// Bytes out.
        tx_bytes: u64,
        /// Packets dropped on their way in.
        rx_dropped: u64,
        /// Packets dropped on their way out.
        tx_dropped: u64,
        /// Errors in.
        rx_errors: u64,
        /// Errors out.
        tx_errors: u64,
        /// Frame alignment errors.
        rx_frame_errors: u64,
        /// Overruns.
        rx_over_errors: u64,
        /// Checksum errors.
        rx_crc_errors: u64,
        /// Collisions.
        collisions: u64,
        /// Seconds it has lived.
        duration_sec: u32,
        /// And nanoseconds.
        duration_nsec: u32,
    }

    /// Counters of a queue (`ofp_queue_stats`).
    pub struct QueueStats "ofp_queue_stats" {
        /// The port.
        port: Port,
        /// The queue.
        queue: QueueId,
        /// Bytes out.
        tx_bytes: u64,
        /// Packets out.
        tx_packets: u64,
        /// Packets dropped.
        tx_errors: u64,
        /// Seconds it has lived.
        duration_sec: u32,
        /// And nanoseconds.
        duration_nsec: u32,
    }

    /// Which queues (`ofp_queue_stats_request`).
    pub struct QueueRequest "ofp_queue_stats_request" {
        /// The port, or `Port::ANY`.
        port: Port,
        /// The queue, or `QueueId::ALL`.
        queue: QueueId,
    }

    /// Counters of a table (`ofp_table_stats`).
    pub struct TableStats "ofp_table_stats" {
        /// The table.
        table: TableId => pad 3,
        /// Flows in it.
        active: u32,
        /// Packets looked up.
        lookups: u64,
        /// Packets that matched.
        matched: u64,
    }

    /// A change to a table (`ofp_table_mod`).
    pub struct TableMod "ofp_table_mod" {
        /// The table.
        table: TableId => pad 3,
        /// Not used in 1.3.
        config: u32,
    }

    /// Names of the switch (`ofp_desc`).
    pub struct SwitchDesc "ofp_desc" {
        /// Who made it.
        manufacturer: Text<256>,
        /// The hardware.
        hardware: Text<256>,
        /// The software and its version.
        software: Text<256>,
        /// Its serial number.
        serial: Text<32>,
        /// Its name, in words.
        datapath: Text<256>,
    }
}

impl AsyncConfig {
    /// Bits of each kind for equal and master, nothing for slave.
    pub fn new(packet_in: u32, port_status: u32, flow_removed: u32) -> Self {
        let pair = |bits: u32| {
            let mut pair = [0; 8];
            pair[..4].copy_from_slice(&bits.to_be_bytes());
            pair
        };
        Self { packet_in: pair(packet_in), port_status: pair(port_status), flow_removed: pair(flow_removed) }
    }
}

/// Refuses a version this crate cannot write.
pub(crate) fn check_version(w: &mut Writer) {
    if w.version != Version::V1_3 && w.version != Version::V1_5 && w.version != Version::V1_0 {
        w.refuse(EncodeError::NotExpressible { what: "ofp_header", expected: "OpenFlow 1.3 or 1.5" });
    }
}
