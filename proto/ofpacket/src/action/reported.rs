//! Actions as Open vSwitch reports them, where that differs from how it was told.

use crate::action::{Action, Conntrack, RegLoad, SetField};
use crate::field::{self, Field};
use crate::instruction::Instruction;

impl Action {
    /// This action as Open vSwitch reports it over OpenFlow 1.3. Compare this, not the action
    /// itself, with what was read back.
    pub fn reported(&self) -> Self {
        match self {
            Self::SetTunnel(id) => Self::set_field(field::TUNNEL_ID, *id),
            Self::SetTunnel64(id) => Self::set_field(field::TUNNEL_ID, *id),
            Self::SetField(set) if set.field.has_any_width() => Self::SetField(set.shortened()),
            Self::RegLoad(load) if load.target.field.has_any_width() => match load.to_masked() {
                Some(set) => Self::SetField(set.shortened()),
                None => self.clone(),
            },
            Self::Clone(actions) => Self::Clone(actions.iter().map(Self::reported).collect()),
            Self::Ct(ct) => {
                let actions = ct.actions.iter().map(Self::reported).collect();
                Self::Ct(Conntrack { actions, ..ct.clone() })
            }
            _ => self.clone(),
        }
    }
}

impl Instruction {
    /// This instruction as Open vSwitch reports it over OpenFlow 1.3.
    pub fn reported(&self) -> Self {
        match self {
            Self::ApplyActions(actions) => Self::ApplyActions(actions.iter().map(Action::reported).collect()),
            Self::WriteActions(actions) => Self::WriteActions(actions.iter().map(Action::reported).collect()),
            _ => self.clone(),
        }
    }
}

impl RegLoad {
    /// Always with its mask, because that is how a load of a field of any width comes back.
    fn to_masked(&self) -> Option<SetField> {
        let mut set = self.to_set_field()?;
        set.mask.get_or_insert_with(|| vec![0xff; set.value.len()].into());
        Some(set)
    }
}

impl SetField {
    /// Without the leading bytes that neither value nor mask needs.
    fn shortened(&self) -> Self {
        let needed = |bytes: &[u8]| bytes.len() - bytes.iter().take_while(|byte| **byte == 0).count();
        let mask = self.mask.as_deref();
        let length = mask.map_or(0, needed).max(needed(&self.value)).max(1);
        let tail = |bytes: &[u8]| bytes[bytes.len() - length.min(bytes.len())..].into();
        let value: Box<[u8]> = tail(&self.value);
        let field: Field = self.field.of_width(u8::try_from(value.len()).unwrap_or(u8::MAX));
        Self { field, value, mask: mask.map(tail) }
    }
}
