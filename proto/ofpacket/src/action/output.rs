//! Actions that send packets somewhere, or choose where.

use crate::action::MAX_LEN_ALL;
use crate::error::{DecodeError, EncodeError};
use crate::field::{self, Field, Subfield};
use crate::port::{MeterId, Port, TableId};
use crate::property;
use crate::wire::{Reader, Wire, Writer, wire_enum, wire_struct};

wire_enum! {
    /// Why a packet went to the controller (section 7.4.1).
    pub enum PacketInReason(u8) {
        /// No flow matched.
        NO_MATCH = 0, "no_match";
        /// An action said so.
        ACTION = 1, "action";
        /// Its TTL expired.
        INVALID_TTL = 2, "invalid_ttl";
        /// An output in the action set (1.4).
        ACTION_SET = 3, "action_set";
        /// An output in a group bucket (1.4).
        GROUP = 4, "group";
        /// An output in a packet-out (1.4).
        PACKET_OUT = 5, "packet_out";
    }
    /// Fields that are hashed (`enum nx_hash_fields`).
    pub enum HashFields(u16) {
        /// Ethernet source.
        ETH_SRC = 0, "eth_src";
        /// Ethernet to TCP, the same in both directions.
        SYMMETRIC_L4 = 1, "symmetric_l4";
        /// IP to TCP and SCTP, the same in both directions.
        SYMMETRIC_L3L4 = 2, "symmetric_l3l4";
        /// IP to TCP, SCTP and UDP, the same in both directions.
        SYMMETRIC_L3L4_UDP = 3, "symmetric_l3l4+udp";
        /// IP source.
        NW_SRC = 4, "nw_src";
        /// IP destination.
        NW_DST = 5, "nw_dst";
        /// IP addresses, the same in both directions.
        SYMMETRIC_L3 = 6, "symmetric_l3";
    }
    /// How a hash becomes a link (`enum nx_mp_algorithm`).
    pub enum MultipathAlgorithm(u16) {
        /// Remainder.
        MODULO_N = 0, "modulo_n";
        /// Equal shares of the range.
        HASH_THRESHOLD = 1, "hash_threshold";
        /// Highest random weight.
        HRW = 2, "hrw";
        /// Hash until it fits.
        ITER_HASH = 3, "iter_hash";
    }
    /// How a member is chosen (`enum nx_bd_algorithm`).
    pub enum BundleAlgorithm(u16) {
        /// The first that is up.
        ACTIVE_BACKUP = 0, "active_backup";
        /// Highest random weight among those that are up.
        HRW = 1, "hrw";
    }
    /// Which way a sampled packet goes (`enum nx_action_sample_direction`).
    pub enum SampleDirection(u8) {
        /// Not said.
        DEFAULT = 0, "default";
        /// In.
        INGRESS = 1, "ingress";
        /// Out.
        EGRESS = 2, "egress";
    }
}

wire_struct! {
    /// Sends the packet out of a port (section 7.2.5).
    pub struct Output "ofp_action_output" {
        /// Where to.
        port: Port,
        /// Bytes the controller gets, for `Port::CONTROLLER`.
        max_len: u16 => pad 6,
    }
}

/// Looks up another table (NXAST_RESUBMIT_TABLE).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Resubmit {
    /// Ingress port to pretend; `Port::IN_PORT` leaves it.
    pub in_port: Port,
    /// The table; `TableId::ALL` means this one.
    pub table: TableId,
}

impl Wire for Resubmit {
    fn put(&self, w: &mut Writer) {
        self.in_port.put_u16(w);
        w.put(self.table);
        w.zeros(3);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { in_port: Port::take_u16(r)?, table: r.take()? })
    }
}

/// Outputs to the port that a field names (NXAST_OUTPUT_REG, NXAST_OUTPUT_REG2).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct OutputReg {
    /// The port.
    pub source: Subfield,
    /// Bytes the controller gets, if that is the port.
    pub max_len: u16,
}

impl Wire for OutputReg {
    fn put(&self, w: &mut Writer) {
        let packed = self.source.packed(w);
        w.put(packed);
        w.put(self.max_len);
        let start = w.len();
        w.put(self.source.field);
        w.pad_to(start, 10);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let packed = r.take()?;
        let max_len = r.take()?;
        Ok(Self { source: Subfield::unpacked(r.take()?, packed), max_len })
    }
}

/// The form with a four-byte header.
pub(super) struct OutputRegShort(pub(super) OutputReg);

impl Wire for OutputRegShort {
    fn put(&self, w: &mut Writer) {
        let packed = self.0.source.packed(w);
        w.put(packed);
        self.0.source.field.put_short(w);
        w.put(self.0.max_len);
        w.zeros(6);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let packed = r.take()?;
        let source = Subfield::unpacked(Field::take_short(r)?, packed);
        Ok(Self(OutputReg { source, max_len: r.take()? }))
    }
}

/// Outputs at most so many bytes of the packet (NXAST_OUTPUT_TRUNC).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct OutputTrunc {
    /// Where to.
    pub port: Port,
    /// At most so many bytes.
    pub max_len: u32,
}

impl Wire for OutputTrunc {
    fn put(&self, w: &mut Writer) {
        self.port.put_u16(w);
        w.put(self.max_len);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { port: Port::take_u16(r)?, max_len: r.take()? })
    }
}

/// Sends the packet to a controller (NXAST_CONTROLLER, NXAST_CONTROLLER2).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Controller {
    /// Bytes the controller gets.
    pub max_len: u16,
    /// Which controller connections, by the id they set.
    pub controller_id: u16,
    /// Reason that packet-in states.
    pub reason: PacketInReason,
    /// Bytes that packet-in repeats; only in `Action::Controller2`.
    pub userdata: Option<Box<[u8]>>,
    /// Wait for the controller to resume; only in `Action::Controller2`.
    pub pause: bool,
    /// Meter for packet-ins; only in `Action::Controller2`.
    pub meter: Option<MeterId>,
}

impl Default for Controller {
    fn default() -> Self {
        Self {
            max_len: MAX_LEN_ALL,
            controller_id: 0,
            reason: PacketInReason::ACTION,
            userdata: None,
            pause: false,
            meter: None,
        }
    }
}

const CONTROLLER_MAX_LEN: u16 = 0;
const CONTROLLER_ID: u16 = 1;
const CONTROLLER_REASON: u16 = 2;
const CONTROLLER_USERDATA: u16 = 3;
const CONTROLLER_PAUSE: u16 = 4;
const CONTROLLER_METER: u16 = 5;

impl Wire for Controller {
    fn put(&self, w: &mut Writer) {
        w.zeros(6);
        if self.max_len != MAX_LEN_ALL {
            property::put_u16(w, CONTROLLER_MAX_LEN, self.max_len);
        }
        if self.controller_id != 0 {
            property::put_u16(w, CONTROLLER_ID, self.controller_id);
        }
        if self.reason != PacketInReason::ACTION {
            property::put(w, CONTROLLER_REASON, |w| w.put(self.reason));
        }
        if let Some(userdata) = &self.userdata {
            property::put(w, CONTROLLER_USERDATA, |w| w.bytes(userdata));
        }
        if self.pause {
            property::put(w, CONTROLLER_PAUSE, |_| ());
        }
        if let Some(meter) = self.meter {
            property::put(w, CONTROLLER_METER, |w| w.put(meter));
        }
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.skip(6)?;
        let mut this = Self::default();
        while !r.is_empty() {
            let (kind, mut value) = property::take(r, "nx_action_controller2")?;
            match kind {
                CONTROLLER_MAX_LEN => this.max_len = value.take()?,
                CONTROLLER_ID => this.controller_id = value.take()?,
                CONTROLLER_REASON => this.reason = value.take()?,
                CONTROLLER_USERDATA => this.userdata = Some(value.rest().into()),
                CONTROLLER_PAUSE => this.pause = true,
                CONTROLLER_METER => this.meter = Some(value.take()?),
                unknown => return Err(value.wrong("a known property", unknown.into())),
            }
        }
        Ok(this)
    }
}

/// The form without user data, pause and meter.
pub(super) struct ControllerShort(pub(super) Controller);

impl Wire for ControllerShort {
    fn put(&self, w: &mut Writer) {
        if self.0.userdata.is_some() || self.0.pause || self.0.meter.is_some() {
            let expected = "`Controller2` for user data, pause or meter";
            w.refuse(EncodeError::NotExpressible { what: "controller", expected });
        }
        w.put(self.0.max_len);
        w.put(self.0.controller_id);
        w.put(self.0.reason);
        w.zeros(1);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (max_len, controller_id, reason) = (r.take()?, r.take()?, r.take()?);
        Ok(Self(Controller { max_len, controller_id, reason, ..Controller::default() }))
    }
}

/// Hashes fields into a register (NXAST_MULTIPATH).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Multipath {
    /// What is hashed.
    pub fields: HashFields,
    /// Start value of the hash.
    pub basis: u16,
    /// How the hash becomes a link.
    pub algorithm: MultipathAlgorithm,
    /// Number of links less one.
    pub max_link: u16,
    /// Argument of the algorithm.
    pub argument: u32,
    /// Where the link goes.
    pub target: Subfield,
}

impl Wire for Multipath {
    fn put(&self, w: &mut Writer) {
        w.put(self.fields);
        w.put(self.basis);
        w.zeros(2);
        w.put(self.algorithm);
        w.put(self.max_link);
        w.put(self.argument);
        w.zeros(2);
        let packed = self.target.packed(w);
        w.put(packed);
        self.target.field.put_short(w);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (fields, basis) = (r.take()?, r.take()?);
        r.skip(2)?;
        let (algorithm, max_link, argument) = (r.take()?, r.take()?, r.take()?);
        r.skip(2)?;
        let packed = r.take()?;
        let target = Subfield::unpacked(Field::take_short(r)?, packed);
        Ok(Self { fields, basis, algorithm, max_link, argument, target })
    }
}

/// Chooses one of several ports (NXAST_BUNDLE, NXAST_BUNDLE_LOAD).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Bundle {
    /// How to choose.
    pub algorithm: BundleAlgorithm,
    /// What is hashed.
    pub fields: HashFields,
    /// Start value of the hash.
    pub basis: u16,
    /// Where the port goes, for `Action::BundleLoad`; none for `Action::Bundle`.
    pub target: Option<Subfield>,
    /// The ports, best first.
    pub members: Vec<Port>,
}

impl Wire for Bundle {
    fn put(&self, w: &mut Writer) {
        w.put(self.algorithm);
        w.put(self.fields);
        w.put(self.basis);
        field::NXM_IN_PORT.put_short(w);
        w.count("bundle", self.members.len());
        match self.target {
            Some(target) => {
                let packed = target.packed(w);
                w.put(packed);
                target.field.put_short(w);
            }
            None => w.zeros(6),
        }
        w.zeros(4);
        self.members.iter().for_each(|member| member.put_u16(w));
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (algorithm, fields, basis) = (r.take()?, r.take()?, r.take()?);
        let kind = Field::take_short(r)?;
        if kind != field::NXM_IN_PORT {
            return Err(r.wrong("ports as members", 0));
        }
        let count: u16 = r.take()?;
        let packed = r.take()?;
        let target = if r.peek().starts_with(&[0; 4]) && packed == 0 {
            r.skip(4)?;
            None
        } else {
            Some(Subfield::unpacked(Field::take_short(r)?, packed))
        };
        r.skip(4)?;
        let mut members = r.sub("bundle members", usize::from(count) * 2)?;
        let members = (0..count).map(|_| Port::take_u16(&mut members)).collect::<Result<_, _>>()?;
        Ok(Self { algorithm, fields, basis, target, members })
    }
}

/// Samples packets for IPFIX (NXAST_SAMPLE, NXAST_SAMPLE2, NXAST_SAMPLE3).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Sample {
    /// Packets of 65535 that are sampled; not 0.
    pub probability: u16,
    /// Collector set in the database.
    pub collector_set: u32,
    /// Observation domain.
    pub domain: u32,
    /// Observation point.
    pub point: u32,
    /// Port that counts as ingress or egress, `Port::NONE` if none; not in `Action::Sample`.
    pub port: Port,
    /// Which way; only in `Action::Sample3`.
    pub direction: SampleDirection,
}

impl Sample {
    fn put_common(&self, w: &mut Writer) {
        w.put(self.probability);
        w.put(self.collector_set);
        w.put(self.domain);
        w.put(self.point);
    }

    fn take_common(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            probability: r.take()?,
            collector_set: r.take()?,
            domain: r.take()?,
            point: r.take()?,
            port: Port::NONE,
            direction: SampleDirection::DEFAULT,
        })
    }
}

impl Wire for Sample {
    fn put(&self, w: &mut Writer) {
        self.put_common(w);
        self.port.put_u16(w);
        w.put(self.direction);
        w.zeros(5);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let common = Self::take_common(r)?;
        Ok(Self { port: Port::take_u16(r)?, direction: r.take()?, ..common })
    }
}

/// The form without port and direction.
pub(super) struct SampleShort(pub(super) Sample);

impl Wire for SampleShort {
    fn put(&self, w: &mut Writer) {
        if self.0.port != Port::NONE || self.0.direction != SampleDirection::DEFAULT {
            w.refuse(EncodeError::NotExpressible { what: "sample", expected: "`Sample3` for a port" });
        }
        self.0.put_common(w);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Sample::take_common(r).map(Self)
    }
}

/// The form with port but without direction.
pub(super) struct SampleLong(pub(super) Sample);

impl Wire for SampleLong {
    fn put(&self, w: &mut Writer) {
        if self.0.direction != SampleDirection::DEFAULT {
            w.refuse(EncodeError::NotExpressible { what: "sample", expected: "`Sample3` for a direction" });
        }
        self.0.put(w);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.take().map(Self)
    }
}
