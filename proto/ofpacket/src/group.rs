//! Groups (OpenFlow 1.3.5, sections 7.3.4.2 and 7.3.5.8; OpenFlow 1.5.1, section 7.3.4.3).
//!
//! [`GroupMod`] and [`GroupDesc`] are those of OpenFlow 1.5 and need a connection of that version:
//! Open vSwitch drops the selection method of a select group over 1.3 without an error. The forms
//! of 1.3 carry its number in their names.

use crate::action::{Action, put_actions};
use crate::error::{DecodeError, EncodeError};
use crate::field::{Field, Form};
use crate::port::{GroupId, Port};
use crate::property;
use crate::wire::{Reader, Wire, Writer, wire_enum, wire_flags, wire_struct};

wire_enum! {
    /// What a group-mod does.
    pub enum GroupModCommand(u16) {
        /// Adds a group; fails when it exists, and with it a whole bundle.
        ADD = 0, "add";
        /// Changes a group.
        MODIFY = 1, "modify";
        /// Deletes a group, or all.
        DELETE = 2, "delete";
        /// Inserts buckets (1.5).
        INSERT_BUCKET = 3, "insert_bucket";
        /// Removes buckets (1.5).
        REMOVE_BUCKET = 5, "remove_bucket";
        /// Adds or changes a group (Open vSwitch).
        ADD_OR_MODIFY = 0x8000, "add_or_mod";
    }
    /// How a group treats its buckets.
    pub enum GroupType(u8) {
        /// Runs all.
        ALL = 0, "all";
        /// Runs one, chosen by weight and hash.
        SELECT = 1, "select";
        /// Runs its only one.
        INDIRECT = 2, "indirect";
        /// Runs the first that is live.
        FAST_FAILOVER = 3, "ff";
    }
    /// Number of a bucket within its group (1.5).
    pub enum BucketId(u32) {
        /// Highest number of a real bucket.
        MAX = 0xffff_ff00, "max";
        /// Place before the first bucket.
        FIRST = 0xffff_fffd, "first";
        /// Place after the last bucket.
        LAST = 0xffff_fffe, "last";
        /// All buckets.
        ALL = 0xffff_ffff, "all";
    }
}

wire_flags! {
    /// What groups can do.
    pub flags GroupCapabilities(u32) {
        /// Weights of select groups count.
        SELECT_WEIGHT = 1, "select_weight";
        /// Only live buckets are selected.
        SELECT_LIVENESS = 2, "select_liveness";
        /// Groups may call groups.
        CHAINING = 4, "chaining";
        /// Loops of groups are refused.
        CHAINING_CHECKS = 8, "chaining_checks";
    }
}

/// A change to the group table, OpenFlow 1.5.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct GroupMod {
    /// What to do.
    pub command: GroupModCommand,
    /// How the group treats its buckets.
    pub kind: GroupType,
    /// The group.
    pub group: GroupId,
    /// Bucket that `INSERT_BUCKET` and `REMOVE_BUCKET` are about; else `BucketId::ALL`.
    pub command_bucket: BucketId,
    /// The buckets.
    pub buckets: Vec<Bucket>,
    /// How a select group chooses.
    pub selection: Option<Selection>,
    /// Properties this crate does not know.
    pub unknown: Vec<Property>,
}

/// A group as the switch reports it, OpenFlow 1.5.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct GroupDesc {
    /// How the group treats its buckets.
    pub kind: GroupType,
    /// The group.
    pub group: GroupId,
    /// The buckets.
    pub buckets: Vec<Bucket>,
    /// How a select group chooses.
    pub selection: Option<Selection>,
    /// Properties this crate does not know.
    pub unknown: Vec<Property>,
}

/// A bucket of OpenFlow 1.5.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Bucket {
    /// Its number.
    pub id: BucketId,
    /// What it does.
    pub actions: Vec<Action>,
    /// Share in a select group.
    pub weight: Option<u16>,
    /// Port whose link makes it live.
    pub watch_port: Option<Port>,
    /// Group whose liveness makes it live.
    pub watch_group: Option<GroupId>,
    /// Properties this crate does not know.
    pub unknown: Vec<Property>,
}

/// How a select group chooses (Netronome extension).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Selection {
    /// `hash` or `dp_hash`; at most 15 bytes.
    pub method: String,
    /// Argument of the method; for `dp_hash` the algorithm in the upper and the basis in the lower half.
    pub parameter: u64,
    /// Fields that `hash` looks at, and which bits of them.
    pub fields: Vec<(Field, Box<[u8]>)>,
}

/// A property by its type.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Property {
    /// Its type.
    pub kind: u16,
    /// Its value.
    pub value: Box<[u8]>,
}

wire_struct! {
    /// A change to the group table, OpenFlow 1.3 (`ofp_group_mod`).
    pub struct GroupMod13 "ofp_group_mod" {
        /// What to do.
        command: GroupModCommand,
        /// How the group treats its buckets.
        kind: GroupType => pad 1,
        /// The group.
        group: GroupId,
        /// The buckets.
        buckets: Vec<Bucket13>,
    }

    /// A group as the switch reports it, OpenFlow 1.3 (`ofp_group_desc`).
    pub sized struct GroupDesc13 "ofp_group_desc" {
        /// How the group treats its buckets.
        kind: GroupType => pad 1,
        /// The group.
        group: GroupId,
        /// The buckets.
        buckets: Vec<Bucket13>,
    }

    /// A bucket of OpenFlow 1.3 (`ofp_bucket`).
    pub sized struct Bucket13 "ofp_bucket" {
        /// Share in a select group.
        weight: u16,
        /// Port whose link makes it live, or `Port::ANY`.
        watch_port: Port,
        /// Group whose liveness makes it live, or `GroupId::ANY`.
        watch_group: GroupId => pad 4,
        /// What it does.
        actions: Vec<Action>,
    }

    /// What groups the switch can have (`ofp_group_features`).
    pub struct GroupFeatures "ofp_group_features" {
        /// Types, one bit each.
        types: u32,
        /// What they can do.
        capabilities: GroupCapabilities,
        /// How many of each type.
        max_groups: PerType,
        /// Actions of each type, one bit each.
        actions: PerType,
    }

    /// One number for each type of group.
    pub struct PerType "ofp_group_features" {
        /// For `GroupType::ALL`.
        all: u32,
        /// For `GroupType::SELECT`.
        select: u32,
        /// For `GroupType::INDIRECT`.
        indirect: u32,
        /// For `GroupType::FAST_FAILOVER`.
        fast_failover: u32,
    }

    /// Packets and bytes.
    pub struct Counter "ofp_bucket_counter" {
        /// Packets.
        packets: u64,
        /// Bytes.
        bytes: u64,
    }
}

/// Counters of a group (`ofp_group_stats`).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct GroupStats {
    /// The group.
    pub group: GroupId,
    /// Flows and groups that use it.
    pub references: u32,
    /// What all buckets saw.
    pub total: Counter,
    /// Seconds it has lived.
    pub duration_sec: u32,
    /// And nanoseconds.
    pub duration_nsec: u32,
    /// What each bucket saw.
    pub buckets: Vec<Counter>,
}

impl Wire for GroupStats {
    fn put(&self, w: &mut Writer) {
        let start = w.len();
        w.zeros(4);
        w.put(self.group);
        w.put(self.references);
        w.zeros(4);
        self.total.put(w);
        w.put(self.duration_sec);
        w.put(self.duration_nsec);
        w.list(&self.buckets);
        w.length_at("ofp_group_stats", start, start);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut r = r.entry("ofp_group_stats", 0, 40)?;
        r.skip(4)?;
        let (group, references) = (r.take()?, r.take()?);
        r.skip(4)?;
        Ok(Self {
            group,
            references,
            total: r.take()?,
            duration_sec: r.take()?,
            duration_nsec: r.take()?,
            buckets: r.list()?,
        })
    }
}

impl Bucket {
    /// A bucket of these actions.
    pub const fn new(id: u32, actions: Vec<Action>) -> Self {
        Self {
            id: BucketId(id),
            actions,
            weight: None,
            watch_port: None,
            watch_group: None,
            unknown: Vec::new(),
        }
    }

    /// Sets its share in a select group.
    pub const fn weight(mut self, weight: u16) -> Self {
        self.weight = Some(weight);
        self
    }

    /// Makes it live with the link of a port.
    pub const fn watch_port(mut self, port: Port) -> Self {
        self.watch_port = Some(port);
        self
    }
}

impl Bucket13 {
    /// A bucket of these actions.
    pub const fn new(actions: Vec<Action>) -> Self {
        Self { weight: 0, watch_port: Port::ANY, watch_group: GroupId::ANY, actions }
    }
}

impl Selection {
    /// Chooses by the hash the datapath computes.
    pub fn dp_hash() -> Self {
        Self { method: "dp_hash".into(), parameter: 0, fields: Vec::new() }
    }

    /// Chooses by hash of these fields.
    pub fn hash(fields: &[Field]) -> Self {
        let all = |field: &Field| {
            let ones = field.significant().to_be_bytes();
            (*field, ones[16 - usize::from(field.width().min(16))..].into())
        };
        Self { method: "hash".into(), parameter: 0, fields: fields.iter().map(all).collect() }
    }

    fn put(&self, w: &mut Writer) {
        property::put(w, PROPERTY_EXPERIMENTER, |w| {
            w.put(VENDOR_NETRONOME);
            w.put(NETRONOME_SELECTION);
            w.zeros(4);
            let start = w.len();
            if self.method.len() >= METHOD_LEN || self.method.contains('\0') {
                let expected = "a selection method of at most 15 bytes";
                w.refuse(EncodeError::NotExpressible { what: "group", expected });
            }
            w.bytes(self.method.as_bytes());
            w.pad_to(start, METHOD_LEN);
            w.put(self.parameter);
            for (field, mask) in &self.fields {
                field.put_entry(w, Form::Oxm, mask, None);
            }
        });
    }

    fn take(mut r: Reader<'_>) -> Result<Self, DecodeError> {
        r.skip(12)?;
        let method: [u8; METHOD_LEN] = r.array()?;
        let end = method.iter().position(|byte| *byte == 0).unwrap_or(METHOD_LEN);
        let Ok(method) = std::str::from_utf8(&method[..end]) else {
            return Err(r.wrong("a selection method in ASCII", 0));
        };
        let method = method.to_owned();
        let parameter = r.take()?;
        let mut fields = Vec::new();
        while !r.is_empty() {
            let (field, value, mask) = Field::take_entry(&mut r)?;
            if mask.is_some() {
                return Err(r.wrong("a field without mask", 1));
            }
            fields.push((field, value.into()));
        }
        Ok(Self { method, parameter, fields })
    }
}

impl GroupMod {
    /// A change of this kind.
    pub fn new(
        command: GroupModCommand,
        kind: GroupType,
        group: impl Into<GroupId>,
        buckets: Vec<Bucket>,
    ) -> Self {
        Self {
            command,
            kind,
            group: group.into(),
            command_bucket: BucketId::ALL,
            buckets,
            selection: None,
            unknown: Vec::new(),
        }
    }

    /// Deletes a group, or with `GroupId::ALL` all.
    pub fn delete(group: impl Into<GroupId>) -> Self {
        Self::new(GroupModCommand::DELETE, GroupType::ALL, group, Vec::new())
    }

    /// Sets how a select group chooses.
    pub fn selection(mut self, selection: Selection) -> Self {
        self.selection = Some(selection);
        self
    }
}

impl Wire for GroupMod {
    fn put(&self, w: &mut Writer) {
        w.put(self.command);
        w.put(self.kind);
        w.zeros(1);
        w.put(self.group);
        let length_at = w.len();
        w.zeros(4);
        w.put(self.command_bucket);
        put_buckets(w, length_at, &self.buckets, self.selection.as_ref(), &self.unknown);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (command, kind) = (r.take()?, r.take()?);
        r.skip(1)?;
        let group = r.take()?;
        let length: u16 = r.take()?;
        r.skip(2)?;
        let command_bucket = r.take()?;
        let (buckets, selection, unknown) = take_buckets(r, length)?;
        Ok(Self { command, kind, group, command_bucket, buckets, selection, unknown })
    }
}

impl Wire for GroupDesc {
    fn put(&self, w: &mut Writer) {
        let start = w.len();
        w.put(0u16);
        w.put(self.kind);
        w.zeros(1);
        w.put(self.group);
        let length_at = w.len();
        w.zeros(8);
        put_buckets(w, length_at, &self.buckets, self.selection.as_ref(), &self.unknown);
        w.length_at("ofp_group_desc", start, start);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut r = r.entry("ofp_group_desc", 0, 16)?;
        r.skip(2)?;
        let kind = r.take()?;
        r.skip(1)?;
        let group = r.take()?;
        let length: u16 = r.take()?;
        r.skip(6)?;
        let (buckets, selection, unknown) = take_buckets(&mut r, length)?;
        Ok(Self { kind, group, buckets, selection, unknown })
    }
}

impl Wire for Bucket {
    fn put(&self, w: &mut Writer) {
        let start = w.len();
        w.zeros(4);
        w.put(self.id);
        put_actions(w, start + 2, &self.actions);
        self.weight.iter().for_each(|weight| property::put_u16(w, BUCKET_WEIGHT, *weight));
        self.watch_port.iter().for_each(|port| property::put(w, BUCKET_WATCH_PORT, |w| w.put(*port)));
        self.watch_group.iter().for_each(|group| property::put(w, BUCKET_WATCH_GROUP, |w| w.put(*group)));
        put_unknown(w, &self.unknown);
        w.length_at("ofp_bucket", start, start);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut r = r.entry("ofp_bucket", 0, 8)?;
        r.skip(2)?;
        let length: u16 = r.take()?;
        let id: BucketId = r.take()?;
        let mut this = Self {
            actions: r.sub("ofp_bucket actions", length.into())?.list()?,
            ..Self::new(id.0, Vec::new())
        };
        while !r.is_empty() {
            let (kind, mut value) = property::take(&mut r, "ofp_group_bucket_prop")?;
            match kind {
                BUCKET_WEIGHT => this.weight = Some(value.take()?),
                BUCKET_WATCH_PORT => this.watch_port = Some(value.take()?),
                BUCKET_WATCH_GROUP => this.watch_group = Some(value.take()?),
                kind => this.unknown.push(Property { kind, value: value.rest().into() }),
            }
        }
        Ok(this)
    }
}

fn put_buckets(
    w: &mut Writer,
    length_at: usize,
    list: &[Bucket],
    selection: Option<&Selection>,
    unknown: &[Property],
) {
    let start = w.len();
    w.list(list);
    w.length_at("ofp_bucket list", length_at, start);
    selection.iter().for_each(|selection| selection.put(w));
    put_unknown(w, unknown);
}

type Buckets = (Vec<Bucket>, Option<Selection>, Vec<Property>);

fn take_buckets(r: &mut Reader<'_>, length: u16) -> Result<Buckets, DecodeError> {
    let buckets = r.sub("ofp_bucket list", length.into())?.list()?;
    let (mut selection, mut unknown) = (None, Vec::new());
    let head = [VENDOR_NETRONOME.to_be_bytes(), NETRONOME_SELECTION.to_be_bytes()].concat();
    while !r.is_empty() {
        let (kind, mut value) = property::take(r, "ofp_group_prop")?;
        if kind == PROPERTY_EXPERIMENTER && value.peek().starts_with(&head) {
            selection = Some(Selection::take(value)?);
        } else {
            unknown.push(Property { kind, value: value.rest().into() });
        }
    }
    Ok((buckets, selection, unknown))
}

fn put_unknown(w: &mut Writer, unknown: &[Property]) {
    for Property { kind, value } in unknown {
        property::put(w, *kind, |w| w.bytes(value));
    }
}

const BUCKET_WEIGHT: u16 = 0;
const BUCKET_WATCH_PORT: u16 = 1;
const BUCKET_WATCH_GROUP: u16 = 2;
const PROPERTY_EXPERIMENTER: u16 = 0xffff;
const VENDOR_NETRONOME: u32 = 0x0000_154d;
const NETRONOME_SELECTION: u32 = 1;
const METHOD_LEN: usize = 16;
