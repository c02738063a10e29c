//! Actions as Open vSwitch reports them, where that differs from how it was told.

use crate::action::{Action, Conntrack, RegLoad, SetField};
use crate::field::{self, Field};
use crate::flow::FlowMod;
use crate::header::Version;
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

impl FlowMod {
    /// The instructions of the flow as Open vSwitch reports them over OpenFlow 1.3 when it was told
    /// over `written`. What was told over 1.5 comes back changed further: a load of a whole field as
    /// set-field, a masked set-field as loads, a move as copy-field, a meter as an instruction.
    pub fn reported(&self, written: Version) -> Vec<Instruction> {
        let reported = self.instructions.iter().map(Instruction::reported);
        if written < Version::V1_5 {
            return reported.collect();
        }
        let mut all = Vec::new();
        for instruction in reported {
            match instruction {
                Instruction::ApplyActions(actions) => {
                    let (meters, actions): (Vec<_>, Vec<_>) =
                        from_1_5(actions).into_iter().partition(|action| matches!(action, Action::Meter(_)));
                    for meter in meters {
                        if let Action::Meter(meter) = meter {
                            all.insert(0, Instruction::Meter(meter));
                        }
                    }
                    if !actions.is_empty() {
                        all.push(Instruction::ApplyActions(actions));
                    }
                }
                Instruction::WriteActions(actions) => all.push(Instruction::WriteActions(from_1_5(actions))),
                other => all.push(other),
            }
        }
        all
    }
}

/// Actions told over 1.5 as they are reported over 1.3.
fn from_1_5(actions: Vec<Action>) -> Vec<Action> {
    let mut out = Vec::new();
    for action in actions {
        match action {
            Action::RegLoad(load) => match load.to_set_field() {
                Some(set) => out.extend(set.segments()),
                None => out.push(Action::RegLoad(load)),
            },
            Action::SetField(set) => out.extend(set.segments()),
            Action::RegMove(copy) => out.push(Action::CopyField(copy)),
            Action::Clone(actions) => out.push(Action::Clone(from_1_5(actions))),
            Action::Ct(ct) => {
                let actions = from_1_5(ct.actions);
                out.push(Action::Ct(Conntrack { actions, ..ct }));
            }
            other => out.push(other),
        }
    }
    out
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
    /// A load for each run of at most 64 bits of the mask, if Nicira actions know the field.
    fn segments(self) -> Vec<Action> {
        let known = self.field.has_short() && !self.field.has_any_width();
        let Some(mask) = self.mask.as_deref().filter(|_| known && self.value.len() <= 16) else {
            return vec![Action::SetField(self)];
        };
        let number = |bytes: &[u8]| bytes.iter().fold(0u128, |number, byte| number << 8 | u128::from(*byte));
        let (value, mask) = (number(&self.value), number(mask));
        let mut loads = Vec::new();
        let mut offset = 0;
        while let Some(rest) = mask.checked_shr(offset).filter(|rest| *rest != 0) {
            offset += rest.trailing_zeros();
            let bits = (mask >> offset).trailing_ones().min(64);
            let ones = (1u128 << bits) - 1;
            let part = u64::try_from((value >> offset) & ones).expect("64 bits or fewer");
            let range = |n: u32| u16::try_from(n).expect("at most 128");
            loads.push(Action::load(self.field.range(range(offset), range(bits)), part));
            offset += bits;
        }
        loads
    }

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
