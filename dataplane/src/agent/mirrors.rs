//! Mirrors that ovs-vswitchd has made or taken away take effect.
//!
//! Open vSwitch 3.1 looks at the flows of its datapath again when a mirror is made, not when one changes or goes: a flow that is in
//! use goes on copying. So it is made to look, once it has done what the database says.

use ovsdb::operation::Operation;

use crate::host::CONFIGURATION;

/// What has become of the last change of mirrors.
#[derive(Debug, Default)]
pub(super) enum Mirrors {
    #[default]
    Still,
    /// The database has it, or will.
    Sent,
    /// ovs-vswitchd has done it when its `cur_cfg` is that.
    Stored(i64),
}

impl Mirrors {
    /// These go to the database.
    pub(super) fn sent(&mut self, operations: &[Operation]) {
        let counts = |operation: &Operation| match operation {
            Operation::Mutate { mutations, .. } => {
                mutations.iter().any(|mutation| mutation.column == CONFIGURATION)
            }
            _ => false,
        };
        if operations.iter().any(counts) {
            *self = Self::Sent;
        }
    }

    /// The database has answered, and has told before what it holds now.
    pub(super) fn transacted(&mut self, done: bool, (_, next): (i64, i64)) {
        if matches!(self, Self::Sent) {
            *self = if done { Self::Stored(next) } else { Self::Still };
        }
    }

    /// Whether a change has been made since this was last asked.
    pub(super) fn are_made(&mut self, (current, _): (i64, i64)) -> bool {
        let made = matches!(self, Self::Stored(wanted) if current >= *wanted);
        if made {
            *self = Self::Still;
        }
        made
    }
}
