//! The table that maps tunnel options to fields `tun_metadata0` to `tun_metadata63` (NXT_TLV_TABLE_MOD,
//! NXT_TLV_TABLE_REPLY of Open vSwitch).

use crate::wire::{wire_enum, wire_struct};

wire_enum! {
    /// What a change to the table does.
    pub enum TlvTableCommand(u16) {
        /// Adds mappings; fails when an option or a slot is in use.
        ADD = 0, "add";
        /// Deletes mappings, by slot.
        DELETE = 1, "del";
        /// Deletes all.
        CLEAR = 2, "clear";
    }
}

wire_struct! {
    /// One tunnel option and its slot (`nx_tlv_map`).
    pub struct TlvMap "nx_tlv_map" {
        /// Class of the option.
        class: u16,
        /// Type of the option.
        kind: u8,
        /// Bytes of the option, a multiple of four.
        length: u8,
        /// Slot: n of `tun_metadata<n>`.
        index: u16 => pad 2,
    }

    /// A change to the table (`nx_tlv_table_mod`).
    pub struct TlvTableMod "nx_tlv_table_mod" {
        /// What to do.
        command: TlvTableCommand => pad 6,
        /// The mappings.
        maps: Vec<TlvMap>,
    }

    /// The table (`nx_tlv_table_reply`).
    pub struct TlvTableReply "nx_tlv_table_reply" {
        /// Bytes all options together may take.
        max_option_space: u32,
        /// Slots there are.
        max_fields: u16 => pad 10,
        /// The mappings.
        maps: Vec<TlvMap>,
    }
}
