//! Why the switch refused a request (OpenFlow 1.3.5, section 7.4.4; Nicira and ONF errors).

use std::fmt;

use crate::action::VENDOR_NICIRA;
use crate::error::DecodeError;
use crate::message::VENDOR_ONF;
use crate::wire::{Reader, Wire, Writer, wire_enum};

wire_enum! {
    /// Class of an error.
    pub enum ErrorType(u16) {
        /// No common version.
        HELLO_FAILED = 0, "HELLO_FAILED";
        /// The request makes no sense.
        BAD_REQUEST = 1, "BAD_REQUEST";
        /// An action makes no sense.
        BAD_ACTION = 2, "BAD_ACTION";
        /// An instruction makes no sense.
        BAD_INSTRUCTION = 3, "BAD_INSTRUCTION";
        /// A match makes no sense.
        BAD_MATCH = 4, "BAD_MATCH";
        /// A flow-mod failed.
        FLOW_MOD_FAILED = 5, "FLOW_MOD_FAILED";
        /// A group-mod failed.
        GROUP_MOD_FAILED = 6, "GROUP_MOD_FAILED";
        /// A port-mod failed.
        PORT_MOD_FAILED = 7, "PORT_MOD_FAILED";
        /// A table-mod failed.
        TABLE_MOD_FAILED = 8, "TABLE_MOD_FAILED";
        /// A queue operation failed.
        QUEUE_OP_FAILED = 9, "QUEUE_OP_FAILED";
        /// The configuration was refused.
        SWITCH_CONFIG_FAILED = 10, "SWITCH_CONFIG_FAILED";
        /// The role was refused.
        ROLE_REQUEST_FAILED = 11, "ROLE_REQUEST_FAILED";
        /// A meter-mod failed.
        METER_MOD_FAILED = 12, "METER_MOD_FAILED";
        /// Table features were refused.
        TABLE_FEATURES_FAILED = 13, "TABLE_FEATURES_FAILED";
        /// A bundle failed (1.4).
        BUNDLE_FAILED = 17, "BUNDLE_FAILED";
        /// An error of an experimenter.
        EXPERIMENTER = 0xffff, "EXPERIMENTER";
    }
}

/// A request failed (`ofp_error_msg`).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ErrorMessage {
    /// Class.
    pub kind: ErrorType,
    /// Which error of the class.
    pub code: u16,
    /// Whose error, for `ErrorType::EXPERIMENTER`.
    pub experimenter: Option<u32>,
    /// The request, or its first 64 bytes or more; text for `ErrorType::HELLO_FAILED`.
    pub data: Box<[u8]>,
}

impl ErrorMessage {
    /// The name Open vSwitch has for the error.
    pub fn name(&self) -> Option<&'static str> {
        let key = (self.experimenter.unwrap_or(OPENFLOW), self.kind.0, self.code);
        NAMES.iter().find(|(known, _)| *known == key).map(|(_, name)| *name)
    }

    /// Whether it is the error of this name, for instance `OFPGMFC_GROUP_EXISTS`.
    pub fn is(&self, name: &str) -> bool {
        self.name() == Some(name)
    }
}

impl fmt::Display for ErrorMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name(), self.experimenter) {
            (Some(name), _) => f.write_str(name),
            (None, None) => write!(f, "{} code {}", self.kind, self.code),
            (None, Some(experimenter)) => write!(f, "experimenter {experimenter:#010x} error {}", self.code),
        }
    }
}

impl Wire for ErrorMessage {
    fn put(&self, w: &mut Writer) {
        w.put(self.kind);
        w.put(self.code);
        self.experimenter.iter().for_each(|experimenter| w.put(*experimenter));
        w.bytes(&self.data);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.what("ofp_error_msg");
        let (kind, code) = (r.take()?, r.take()?);
        let experimenter = if kind == ErrorType::EXPERIMENTER { Some(r.take()?) } else { None };
        Ok(Self { kind, code, experimenter, data: r.take()? })
    }
}

const OPENFLOW: u32 = 0;
const NICIRA: u32 = VENDOR_NICIRA;
const ONF: u32 = VENDOR_ONF;

macro_rules! names {
    ($($whose:ident, $kind:literal, $code:literal => $name:literal;)*) => {
        const NAMES: &[((u32, u16, u16), &str)] = &[$((($whose, $kind, $code), $name)),*];
    };
}

// As in `ovs-ofctl(8)` and the headers of Open vSwitch, for OpenFlow 1.3 and, for bundles, 1.4 on.
names! {
    OPENFLOW, 0x1, 0 => "OFPBRC_BAD_VERSION";
    OPENFLOW, 0x1, 1 => "OFPBRC_BAD_TYPE";
    OPENFLOW, 0x1, 2 => "OFPBRC_BAD_STAT";
    OPENFLOW, 0x1, 3 => "OFPBRC_BAD_VENDOR";
    OPENFLOW, 0x1, 4 => "OFPBRC_BAD_SUBTYPE";
    OPENFLOW, 0x1, 5 => "OFPBRC_EPERM";
    OPENFLOW, 0x1, 6 => "OFPBRC_BAD_LEN";
    OPENFLOW, 0x1, 7 => "OFPBRC_BUFFER_EMPTY";
    OPENFLOW, 0x1, 8 => "OFPBRC_BUFFER_UNKNOWN";
    OPENFLOW, 0x1, 9 => "OFPBRC_BAD_TABLE_ID";
    OPENFLOW, 0x1, 10 => "OFPBRC_IS_SECONDARY";
    OPENFLOW, 0x1, 11 => "OFPBRC_BAD_PORT";
    OPENFLOW, 0x1, 12 => "OFPBRC_BAD_PACKET";
    OPENFLOW, 0x1, 13 => "OFPBRC_MULTIPART_BUFFER_OVERFLOW";
    ONF, 0xffff, 2640 => "OFPBRC_MULTIPART_REQUEST_TIMEOUT";
    ONF, 0xffff, 2641 => "OFPBRC_MULTIPART_REPLY_TIMEOUT";
    NICIRA, 0xffff, 2 => "NXBRC_NXM_INVALID";
    NICIRA, 0xffff, 3 => "NXBRC_NXM_BAD_TYPE";
    NICIRA, 0xffff, 4 => "NXBRC_MUST_BE_ZERO";
    NICIRA, 0xffff, 5 => "NXBRC_BAD_REASON";
    NICIRA, 0xffff, 9 => "NXBRC_FM_BAD_EVENT";
    NICIRA, 0xffff, 10 => "NXBRC_UNENCODABLE_ERROR";
    OPENFLOW, 0x2, 0 => "OFPBAC_BAD_TYPE";
    OPENFLOW, 0x2, 1 => "OFPBAC_BAD_LEN";
    OPENFLOW, 0x2, 2 => "OFPBAC_BAD_VENDOR";
    OPENFLOW, 0x2, 3 => "OFPBAC_BAD_VENDOR_TYPE";
    OPENFLOW, 0x2, 4 => "OFPBAC_BAD_OUT_PORT";
    OPENFLOW, 0x2, 5 => "OFPBAC_BAD_ARGUMENT";
    OPENFLOW, 0x2, 6 => "OFPBAC_EPERM";
    OPENFLOW, 0x2, 7 => "OFPBAC_TOO_MANY";
    OPENFLOW, 0x2, 8 => "OFPBAC_BAD_QUEUE";
    OPENFLOW, 0x2, 9 => "OFPBAC_BAD_OUT_GROUP";
    OPENFLOW, 0x2, 10 => "OFPBAC_MATCH_INCONSISTENT";
    OPENFLOW, 0x2, 11 => "OFPBAC_UNSUPPORTED_ORDER";
    OPENFLOW, 0x2, 12 => "OFPBAC_BAD_TAG";
    OPENFLOW, 0x2, 13 => "OFPBAC_BAD_SET_TYPE";
    OPENFLOW, 0x2, 14 => "OFPBAC_BAD_SET_LEN";
    OPENFLOW, 0x2, 15 => "OFPBAC_BAD_SET_ARGUMENT";
    ONF, 0xffff, 4250 => "OFPBAC_BAD_SET_MASK";
    NICIRA, 0xffff, 11 => "NXBAC_MUST_BE_ZERO";
    NICIRA, 0xffff, 15 => "NXBAC_BAD_CONJUNCTION";
    NICIRA, 0xffff, 39 => "NXBAC_BAD_HEADER_TYPE";
    NICIRA, 0xffff, 40 => "NXBAC_UNKNOWN_ED_PROP";
    NICIRA, 0xffff, 41 => "NXBAC_BAD_ED_PROP";
    NICIRA, 0xffff, 42 => "NXBAC_CT_DATAPATH_SUPPORT";
    OPENFLOW, 0x3, 0 => "OFPBIC_UNKNOWN_INST";
    OPENFLOW, 0x3, 1 => "OFPBIC_UNSUP_INST";
    OPENFLOW, 0x3, 2 => "OFPBIC_BAD_TABLE_ID";
    OPENFLOW, 0x3, 3 => "OFPBIC_UNSUP_METADATA";
    OPENFLOW, 0x3, 4 => "OFPBIC_UNSUP_METADATA_MASK";
    OPENFLOW, 0x3, 5 => "OFPBIC_BAD_EXPERIMENTER";
    OPENFLOW, 0x3, 6 => "OFPBIC_BAD_EXP_TYPE";
    OPENFLOW, 0x3, 7 => "OFPBIC_BAD_LEN";
    OPENFLOW, 0x3, 8 => "OFPBIC_EPERM";
    ONF, 0xffff, 2600 => "OFPBIC_DUP_INST";
    OPENFLOW, 0x4, 0 => "OFPBMC_BAD_TYPE";
    OPENFLOW, 0x4, 1 => "OFPBMC_BAD_LEN";
    OPENFLOW, 0x4, 2 => "OFPBMC_BAD_TAG";
    OPENFLOW, 0x4, 3 => "OFPBMC_BAD_DL_ADDR_MASK";
    OPENFLOW, 0x4, 4 => "OFPBMC_BAD_NW_ADDR_MASK";
    OPENFLOW, 0x4, 5 => "OFPBMC_BAD_WILDCARDS";
    OPENFLOW, 0x4, 6 => "OFPBMC_BAD_FIELD";
    OPENFLOW, 0x4, 7 => "OFPBMC_BAD_VALUE";
    OPENFLOW, 0x4, 8 => "OFPBMC_BAD_MASK";
    OPENFLOW, 0x4, 9 => "OFPBMC_BAD_PREREQ";
    OPENFLOW, 0x4, 10 => "OFPBMC_DUP_FIELD";
    OPENFLOW, 0x4, 11 => "OFPBMC_EPERM";
    NICIRA, 0xffff, 43 => "NXBMC_CT_DATAPATH_SUPPORT";
    OPENFLOW, 0x5, 0 => "OFPFMFC_UNKNOWN";
    OPENFLOW, 0x5, 1 => "OFPFMFC_TABLE_FULL";
    OPENFLOW, 0x5, 2 => "OFPFMFC_BAD_TABLE_ID";
    OPENFLOW, 0x5, 3 => "OFPFMFC_OVERLAP";
    OPENFLOW, 0x5, 4 => "OFPFMFC_EPERM";
    OPENFLOW, 0x5, 5 => "OFPFMFC_BAD_TIMEOUT";
    OPENFLOW, 0x5, 6 => "OFPFMFC_BAD_COMMAND";
    OPENFLOW, 0x5, 7 => "OFPFMFC_BAD_FLAGS";
    ONF, 0xffff, 2360 => "OFPFMFC_BAD_PRIORITY";
    NICIRA, 0xffff, 12 => "NXFMFC_HARDWARE";
    NICIRA, 0xffff, 13 => "NXFMFC_BAD_TABLE_ID";
    NICIRA, 0xffff, 37 => "NXFMFC_INVALID_TLV_FIELD";
    OPENFLOW, 0x6, 0 => "OFPGMFC_GROUP_EXISTS";
    OPENFLOW, 0x6, 1 => "OFPGMFC_INVALID_GROUP";
    OPENFLOW, 0x6, 2 => "OFPGMFC_WEIGHT_UNSUPPORTED";
    OPENFLOW, 0x6, 3 => "OFPGMFC_OUT_OF_GROUPS";
    OPENFLOW, 0x6, 4 => "OFPGMFC_OUT_OF_BUCKETS";
    OPENFLOW, 0x6, 5 => "OFPGMFC_CHAINING_UNSUPPORTED";
    OPENFLOW, 0x6, 6 => "OFPGMFC_WATCH_UNSUPPORTED";
    OPENFLOW, 0x6, 7 => "OFPGMFC_LOOP";
    OPENFLOW, 0x6, 8 => "OFPGMFC_UNKNOWN_GROUP";
    OPENFLOW, 0x6, 9 => "OFPGMFC_CHAINED_GROUP";
    OPENFLOW, 0x6, 10 => "OFPGMFC_BAD_TYPE";
    OPENFLOW, 0x6, 11 => "OFPGMFC_BAD_COMMAND";
    OPENFLOW, 0x6, 12 => "OFPGMFC_BAD_BUCKET";
    OPENFLOW, 0x6, 13 => "OFPGMFC_BAD_WATCH";
    OPENFLOW, 0x6, 14 => "OFPGMFC_EPERM";
    OPENFLOW, 0x7, 0 => "OFPPMFC_BAD_PORT";
    OPENFLOW, 0x7, 1 => "OFPPMFC_BAD_HW_ADDR";
    OPENFLOW, 0x7, 2 => "OFPPMFC_BAD_CONFIG";
    OPENFLOW, 0x7, 3 => "OFPPMFC_BAD_ADVERTISE";
    OPENFLOW, 0x7, 4 => "OFPPMFC_EPERM";
    OPENFLOW, 0x8, 0 => "OFPTMFC_BAD_TABLE";
    OPENFLOW, 0x8, 1 => "OFPTMFC_BAD_CONFIG";
    OPENFLOW, 0x8, 2 => "OFPTMFC_EPERM";
    OPENFLOW, 0x9, 0 => "OFPQOFC_BAD_PORT";
    OPENFLOW, 0x9, 1 => "OFPQOFC_BAD_QUEUE";
    OPENFLOW, 0x9, 2 => "OFPQOFC_EPERM";
    OPENFLOW, 0xa, 0 => "OFPSCFC_BAD_FLAGS";
    OPENFLOW, 0xa, 1 => "OFPSCFC_BAD_LEN";
    OPENFLOW, 0xa, 2 => "OFPSCFC_EPERM";
    OPENFLOW, 0xb, 0 => "OFPRRFC_STALE";
    OPENFLOW, 0xb, 1 => "OFPRRFC_UNSUP";
    OPENFLOW, 0xb, 2 => "OFPRRFC_BAD_ROLE";
    OPENFLOW, 0xc, 0 => "OFPMMFC_UNKNOWN";
    OPENFLOW, 0xc, 1 => "OFPMMFC_METER_EXISTS";
    OPENFLOW, 0xc, 2 => "OFPMMFC_INVALID_METER";
    OPENFLOW, 0xc, 3 => "OFPMMFC_UNKNOWN_METER";
    OPENFLOW, 0xc, 4 => "OFPMMFC_BAD_COMMAND";
    OPENFLOW, 0xc, 5 => "OFPMMFC_BAD_FLAGS";
    OPENFLOW, 0xc, 6 => "OFPMMFC_BAD_RATE";
    OPENFLOW, 0xc, 7 => "OFPMMFC_BAD_BURST";
    OPENFLOW, 0xc, 8 => "OFPMMFC_BAD_BAND";
    OPENFLOW, 0xc, 9 => "OFPMMFC_BAD_BAND_VALUE";
    OPENFLOW, 0xc, 10 => "OFPMMFC_OUT_OF_METERS";
    OPENFLOW, 0xc, 11 => "OFPMMFC_OUT_OF_BANDS";
    OPENFLOW, 0xd, 0 => "OFPTFFC_BAD_TABLE";
    OPENFLOW, 0xd, 1 => "OFPTFFC_BAD_METADATA";
    OPENFLOW, 0xd, 5 => "OFPTFFC_EPERM";
    NICIRA, 0xffff, 44 => "NXTFFC_DUP_TABLE";
    OPENFLOW, 0xd, 2 => "OFPBPC_BAD_TYPE";
    OPENFLOW, 0xd, 3 => "OFPBPC_BAD_LEN";
    OPENFLOW, 0xd, 4 => "OFPBPC_BAD_VALUE";
    ONF, 0xffff, 4443 => "OFPBPC_TOO_MANY";
    ONF, 0xffff, 4444 => "OFPBPC_DUP_TYPE";
    ONF, 0xffff, 4445 => "OFPBPC_BAD_EXPERIMENTER";
    ONF, 0xffff, 4446 => "OFPBPC_BAD_EXP_TYPE";
    ONF, 0xffff, 4447 => "OFPBPC_BAD_EXP_VALUE";
    ONF, 0xffff, 4448 => "OFPBPC_EPERM";
    ONF, 0xffff, 2370 => "OFPACFC_INVALID";
    ONF, 0xffff, 2371 => "OFPACFC_UNSUPPORTED";
    ONF, 0xffff, 2372 => "OFPACFC_EPERM";
    ONF, 0xffff, 2300 => "OFPBFC_UNKNOWN";
    ONF, 0xffff, 2301 => "OFPBFC_EPERM";
    ONF, 0xffff, 2302 => "OFPBFC_BAD_ID";
    ONF, 0xffff, 2303 => "OFPBFC_BUNDLE_EXIST";
    ONF, 0xffff, 2304 => "OFPBFC_BUNDLE_CLOSED";
    ONF, 0xffff, 2305 => "OFPBFC_OUT_OF_BUNDLES";
    ONF, 0xffff, 2306 => "OFPBFC_BAD_TYPE";
    ONF, 0xffff, 2307 => "OFPBFC_BAD_FLAGS";
    ONF, 0xffff, 2308 => "OFPBFC_MSG_BAD_LEN";
    ONF, 0xffff, 2309 => "OFPBFC_MSG_BAD_XID";
    ONF, 0xffff, 2310 => "OFPBFC_MSG_UNSUP";
    ONF, 0xffff, 2311 => "OFPBFC_MSG_CONFLICT";
    ONF, 0xffff, 2312 => "OFPBFC_MSG_TOO_MANY";
    ONF, 0xffff, 2313 => "OFPBFC_MSG_FAILED";
    ONF, 0xffff, 2314 => "OFPBFC_TIMEOUT";
    ONF, 0xffff, 2315 => "OFPBFC_BUNDLE_IN_PROGRESS";
    NICIRA, 0xffff, 6 => "OFPMOFC_MONITOR_EXISTS";
    NICIRA, 0xffff, 8 => "OFPMOFC_UNKNOWN_MONITOR";
    NICIRA, 0xffff, 7 => "OFPMOFC_BAD_FLAGS";
    NICIRA, 0xffff, 16 => "NXTTMFC_BAD_COMMAND";
    NICIRA, 0xffff, 17 => "NXTTMFC_BAD_OPT_LEN";
    NICIRA, 0xffff, 18 => "NXTTMFC_BAD_FIELD_IDX";
    NICIRA, 0xffff, 19 => "NXTTMFC_TABLE_FULL";
    NICIRA, 0xffff, 20 => "NXTTMFC_ALREADY_MAPPED";
    NICIRA, 0xffff, 21 => "NXTTMFC_DUP_ENTRY";
    NICIRA, 0xffff, 38 => "NXTTMFC_INVALID_TLV_DEL";
    NICIRA, 0xffff, 34 => "NXR_NOT_SUPPORTED";
    NICIRA, 0xffff, 35 => "NXR_STALE";
    NICIRA, 0xffff, 36 => "NXST_NOT_CONFIGURED";
    OPENFLOW, 0x1, 14 => "OFPBRC_MULTIPART_REQUEST_TIMEOUT";
    OPENFLOW, 0x1, 15 => "OFPBRC_MULTIPART_REPLY_TIMEOUT";
    OPENFLOW, 0x1, 16 => "OFPBRC_MULTIPART_BAD_SCHED";
    OPENFLOW, 0x1, 17 => "OFPBRC_PIPELINE_FIELDS_ONLY";
    OPENFLOW, 0x1, 18 => "OFPBRC_UNKNOWN";
    OPENFLOW, 0x2, 16 => "OFPBAC_BAD_SET_MASK";
    OPENFLOW, 0x2, 17 => "OFPBAC_BAD_METER";
    OPENFLOW, 0x3, 9 => "OFPBIC_DUP_INST";
    OPENFLOW, 0x5, 8 => "OFPFMFC_CANT_SYNC";
    OPENFLOW, 0x5, 9 => "OFPFMFC_BAD_PRIORITY";
    OPENFLOW, 0x5, 10 => "OFPFMFC_IS_SYNC";
    OPENFLOW, 0x6, 15 => "OFPGMFC_UNKNOWN_BUCKET";
    OPENFLOW, 0x6, 16 => "OFPGMFC_BUCKET_EXISTS";
    OPENFLOW, 0xb, 3 => "OFPRRFC_ID_UNSUP";
    OPENFLOW, 0xb, 4 => "OFPRRFC_ID_IN_USE";
    OPENFLOW, 0xd, 6 => "OFPTFFC_BAD_CAPA";
    OPENFLOW, 0xd, 7 => "OFPTFFC_BAD_MAX_ENT";
    OPENFLOW, 0xd, 8 => "OFPTFFC_BAD_FEATURES";
    OPENFLOW, 0xd, 9 => "OFPTFFC_BAD_COMMAND";
    OPENFLOW, 0xd, 10 => "OFPTFFC_TOO_MANY";
    OPENFLOW, 0xe, 0 => "OFPBPC_BAD_TYPE";
    OPENFLOW, 0xe, 1 => "OFPBPC_BAD_LEN";
    OPENFLOW, 0xe, 2 => "OFPBPC_BAD_VALUE";
    OPENFLOW, 0xe, 3 => "OFPBPC_TOO_MANY";
    OPENFLOW, 0xe, 4 => "OFPBPC_DUP_TYPE";
    OPENFLOW, 0xe, 5 => "OFPBPC_BAD_EXPERIMENTER";
    OPENFLOW, 0xe, 6 => "OFPBPC_BAD_EXP_TYPE";
    OPENFLOW, 0xe, 7 => "OFPBPC_BAD_EXP_VALUE";
    OPENFLOW, 0xe, 8 => "OFPBPC_EPERM";
    OPENFLOW, 0xf, 0 => "OFPACFC_INVALID";
    OPENFLOW, 0xf, 1 => "OFPACFC_UNSUPPORTED";
    OPENFLOW, 0xf, 2 => "OFPACFC_EPERM";
    OPENFLOW, 0x11, 0 => "OFPBFC_UNKNOWN";
    OPENFLOW, 0x11, 1 => "OFPBFC_EPERM";
    OPENFLOW, 0x11, 2 => "OFPBFC_BAD_ID";
    OPENFLOW, 0x11, 3 => "OFPBFC_BUNDLE_EXIST";
    OPENFLOW, 0x11, 4 => "OFPBFC_BUNDLE_CLOSED";
    OPENFLOW, 0x11, 5 => "OFPBFC_OUT_OF_BUNDLES";
    OPENFLOW, 0x11, 6 => "OFPBFC_BAD_TYPE";
    OPENFLOW, 0x11, 7 => "OFPBFC_BAD_FLAGS";
    OPENFLOW, 0x11, 8 => "OFPBFC_MSG_BAD_LEN";
    OPENFLOW, 0x11, 9 => "OFPBFC_MSG_BAD_XID";
    OPENFLOW, 0x11, 10 => "OFPBFC_MSG_UNSUP";
    OPENFLOW, 0x11, 11 => "OFPBFC_MSG_CONFLICT";
    OPENFLOW, 0x11, 12 => "OFPBFC_MSG_TOO_MANY";
    OPENFLOW, 0x11, 13 => "OFPBFC_MSG_FAILED";
    OPENFLOW, 0x11, 14 => "OFPBFC_TIMEOUT";
    OPENFLOW, 0x11, 15 => "OFPBFC_BUNDLE_IN_PROGRESS";
    OPENFLOW, 0x11, 16 => "OFPBFC_SCHED_NOT_SUPPORTED";
    OPENFLOW, 0x11, 17 => "OFPBFC_SCHED_FUTURE";
    OPENFLOW, 0x11, 18 => "OFPBFC_SCHED_PAST";
    OPENFLOW, 0x10, 0 => "OFPMOFC_UNKNOWN";
    OPENFLOW, 0x10, 1 => "OFPMOFC_MONITOR_EXISTS";
    OPENFLOW, 0x10, 2 => "OFPMOFC_INVALID_MONITOR";
    OPENFLOW, 0x10, 3 => "OFPMOFC_UNKNOWN_MONITOR";
    OPENFLOW, 0x10, 4 => "OFPMOFC_BAD_COMMAND";
    OPENFLOW, 0x10, 5 => "OFPMOFC_BAD_FLAGS";
    OPENFLOW, 0x10, 6 => "OFPMOFC_BAD_TABLE_ID";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_open_vswitch() {
        let error =
            |kind, code, experimenter| ErrorMessage { kind, code, experimenter, data: Box::default() };
        assert!(error(ErrorType::GROUP_MOD_FAILED, 0, None).is("OFPGMFC_GROUP_EXISTS"));
        assert!(error(ErrorType::EXPERIMENTER, 2313, Some(VENDOR_ONF)).is("OFPBFC_MSG_FAILED"));
        assert!(error(ErrorType::EXPERIMENTER, 20, Some(VENDOR_NICIRA)).is("NXTTMFC_ALREADY_MAPPED"));
        assert_eq!(error(ErrorType::BAD_ACTION, 999, None).to_string(), "BAD_ACTION code 999");
    }
}
