//! Bundles: changes that take effect together (OpenFlow 1.4.1, section 7.3.9; ONF extension 230 for 1.3).
//!
//! Traps of Open vSwitch:
//! - Meters cannot be in a bundle, and one group that exists already fails all of it.
//! - An addition that makes no sense by itself is answered with an error of its own and left out; a
//!   commit then applies the rest. Put a barrier before the commit and discard after any error.
//! - Replies do not repeat the flags.

use crate::message::Message;
use crate::wire::{wire_enum, wire_flags, wire_struct};

wire_enum! {
    /// What a bundle control message says.
    pub enum BundleControlType(u16) {
        /// Open, please.
        OPEN_REQUEST = 0, "OPEN_REQUEST";
        /// It is open.
        OPEN_REPLY = 1, "OPEN_REPLY";
        /// Close, please: no more additions.
        CLOSE_REQUEST = 2, "CLOSE_REQUEST";
        /// It is closed.
        CLOSE_REPLY = 3, "CLOSE_REPLY";
        /// Commit, please.
        COMMIT_REQUEST = 4, "COMMIT_REQUEST";
        /// It took effect.
        COMMIT_REPLY = 5, "COMMIT_REPLY";
        /// Forget it, please.
        DISCARD_REQUEST = 6, "DISCARD_REQUEST";
        /// It is forgotten.
        DISCARD_REPLY = 7, "DISCARD_REPLY";
    }
}

wire_flags! {
    /// How a bundle takes effect; the same in all its messages.
    pub flags BundleFlags(u16) {
        /// All or nothing, and no packet sees half of it.
        ATOMIC = 1, "atomic";
        /// In the order of addition.
        ORDERED = 2, "ordered";
    }
}

wire_struct! {
    /// Opens, closes, commits or discards a bundle (`ofp_bundle_ctrl_msg`).
    pub struct BundleControl "ofp_bundle_ctrl_msg" {
        /// Number of the bundle on this connection.
        bundle: u32,
        /// What to do, or what was done.
        kind: BundleControlType,
        /// How it takes effect.
        flags: BundleFlags,
    }
}

/// Adds a message to a bundle (`ofp_bundle_add_msg`). Its transaction id is that of the addition.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct BundleAdd {
    /// Number of the bundle.
    pub bundle: u32,
    /// How it takes effect.
    pub flags: BundleFlags,
    /// The message.
    pub message: Box<Message>,
}

impl BundleFlags {
    /// All or nothing, in order.
    pub const ATOMIC_ORDERED: Self = Self::ATOMIC.with(Self::ORDERED);
}
