//! Flows, groups and meters.

use std::fmt::{self, Write as _};

use crate::field::Field;
use crate::flow::{DEFAULT_PRIORITY, FlowMod, FlowModFlags, FlowStats};
use crate::group::{Bucket, Bucket13, GroupDesc, GroupDesc13, GroupMod, GroupType, Selection};
use crate::instruction::Instruction;
use crate::match_::Match;
use crate::meter::{MeterBand, MeterConfig, MeterFlags};
use crate::port::{GroupId, Port, TableId};
use crate::print::action::{Actions, Instructions};
use crate::print::value::{FieldText, Hex};

/// What a flow and a change to it have in common.
struct Flow<'a> {
    cookie: u64,
    table: TableId,
    idle_timeout: u16,
    hard_timeout: u16,
    flags: FlowModFlags,
    priority: u16,
    matches: &'a Match,
    instructions: &'a [Instruction],
}

impl fmt::Display for Flow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cookie != 0 {
            write!(f, "cookie={:#x}, ", self.cookie)?;
        }
        if self.table.0 != 0 {
            write!(f, "table={}, ", self.table.0)?;
        }
        if self.idle_timeout != 0 {
            write!(f, "idle_timeout={}, ", self.idle_timeout)?;
        }
        if self.hard_timeout != 0 {
            write!(f, "hard_timeout={}, ", self.hard_timeout)?;
        }
        for (flag, name) in FlowModFlags::NAMES {
            if self.flags.contains(*flag) {
                write!(f, "{name} ")?;
            }
        }
        let default = self.priority == DEFAULT_PRIORITY;
        if !default {
            write!(f, "priority={}", self.priority)?;
            f.write_str(if self.matches.is_empty() { "" } else { "," })?;
        }
        write!(f, "{}", self.matches)?;
        if !default || !self.matches.is_empty() {
            f.write_char(' ')?;
        }
        write!(f, "actions={}", Instructions(self.instructions))
    }
}

/// As `ovs-ofctl --no-names --no-stats dump-flows` prints it.
impl fmt::Display for FlowStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cookie, table, idle_timeout, hard_timeout, flags, priority, .. } = *self;
        let (matches, instructions) = (&self.matches, self.instructions.as_slice());
        Flow { cookie, table, idle_timeout, hard_timeout, flags, priority, matches, instructions }.fmt(f)
    }
}

/// As `FlowStats` prints the flow it makes.
impl fmt::Display for FlowMod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cookie, table, idle_timeout, hard_timeout, flags, priority, .. } = *self;
        let (matches, instructions) = (&self.matches, self.instructions.as_slice());
        Flow { cookie, table, idle_timeout, hard_timeout, flags, priority, matches, instructions }.fmt(f)
    }
}

struct Group<'a> {
    kind: GroupType,
    group: GroupId,
    buckets: &'a [Bucket],
    selection: Option<&'a Selection>,
}

impl fmt::Display for Group<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group_id={},type={}", self.group.0, self.kind.name().unwrap_or("unknown"))?;
        if let Some(selection) = self.selection {
            write!(f, ",selection_method={}", selection.method)?;
            if selection.parameter != 0 {
                write!(f, ",selection_method_param={}", selection.parameter)?;
            }
            let fields: Vec<_> =
                selection.fields.iter().map(|(field, mask)| field_mask(*field, mask)).collect();
            match fields.as_slice() {
                [] => {}
                [field] => write!(f, ",fields={field}")?,
                fields => write!(f, ",fields({})", fields.join(","))?,
            }
        }
        for bucket in self.buckets {
            let Bucket { id, actions, weight, watch_port, watch_group, .. } = bucket;
            write!(f, ",bucket=bucket_id:{},", id.0)?;
            let weight = weight.unwrap_or_else(|| usual_weight(self.kind));
            bucket_text(f, self.kind, weight, *watch_port, *watch_group)?;
            write!(f, "actions={}", Actions(actions))?;
        }
        Ok(())
    }
}

fn usual_weight(kind: GroupType) -> u16 {
    u16::from(kind == GroupType::SELECT)
}

fn bucket_text(
    f: &mut fmt::Formatter<'_>,
    kind: GroupType,
    weight: u16,
    port: Option<Port>,
    group: Option<GroupId>,
) -> fmt::Result {
    if weight != usual_weight(kind) {
        write!(f, "weight:{weight},")?;
    }
    if let Some(port) = port.filter(|port| *port != Port::ANY) {
        write!(f, "watch_port:{port},")?;
    }
    if let Some(group) = group.filter(|group| *group != GroupId::ANY) {
        write!(f, "watch_group:{},", group.0)?;
    }
    Ok(())
}

fn field_mask(field: Field, mask: &[u8]) -> String {
    let ones = field.significant().to_be_bytes();
    if ones.ends_with(mask) || mask.iter().all(|byte| *byte == 0xff) {
        return field.to_string();
    }
    format!("{field}={}", FieldText { field, value: mask, mask: None })
}

/// As `ovs-ofctl -O OpenFlow15 dump-groups` prints it.
impl fmt::Display for GroupDesc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, group, buckets, selection, .. } = self;
        Group { kind: *kind, group: *group, buckets, selection: selection.as_ref() }.fmt(f)
    }
}

/// As `GroupDesc` prints the group it makes.
impl fmt::Display for GroupMod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, group, buckets, selection, .. } = self;
        Group { kind: *kind, group: *group, buckets, selection: selection.as_ref() }.fmt(f)
    }
}

/// As `ovs-ofctl -O OpenFlow13 dump-groups` prints it.
impl fmt::Display for GroupDesc13 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group_id={},type={}", self.group.0, self.kind.name().unwrap_or("unknown"))?;
        for bucket in &self.buckets {
            let Bucket13 { weight, watch_port, watch_group, actions } = bucket;
            f.write_str(",bucket=")?;
            bucket_text(f, self.kind, *weight, Some(*watch_port), Some(*watch_group))?;
            write!(f, "actions={}", Actions(actions))?;
        }
        Ok(())
    }
}

/// As `ovs-ofctl dump-meters` prints it, without the line end behind the last band.
impl fmt::Display for MeterConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "meter={} ", self.meter)?;
        for (flag, name) in MeterFlags::NAMES {
            if self.flags.contains(*flag) {
                write!(f, "{name} ")?;
            }
        }
        f.write_str("bands=")?;
        for band in &self.bands {
            let (kind, rate, burst) = match band {
                MeterBand::Drop { rate, burst } => ("drop", rate, burst),
                MeterBand::DscpRemark { rate, burst, .. } => ("dscp_remark", rate, burst),
                MeterBand::Unknown(raw) => {
                    let kind = raw.iter().take(2).fold(0u128, |kind, byte| kind << 8 | u128::from(*byte));
                    write!(f, "\ntype={}", Hex(kind))?;
                    continue;
                }
            };
            write!(f, "\ntype={kind} rate={rate}")?;
            if self.flags.contains(MeterFlags::BURST) {
                write!(f, " burst_size={burst}")?;
            }
            if let MeterBand::DscpRemark { precedence, .. } = band {
                write!(f, " prec_level={precedence}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::action::{Action, Conntrack, Nat, NatRange};
    use crate::field;
    use crate::match_::CtState;

    #[track_caller]
    fn check(flow: &FlowMod, expected: Expect) {
        expected.assert_eq(&flow.to_string());
    }

    #[test]
    fn a_flow_of_defaults_is_short() {
        check(&FlowMod::add(0, DEFAULT_PRIORITY, Match::new(), vec![]), expect!["actions=drop"]);
    }

    #[test]
    fn state_addresses_and_translation() {
        let matches = Match::new()
            .ipv4()
            .ct_state(CtState::TRK | CtState::NEW, CtState::EST)
            .with_prefix(field::IPV4_DST, std::net::Ipv4Addr::new(10, 0, 0, 0), 8)
            .metadata(3);
        let nat = Nat::destination(NatRange::one([192, 0, 2, 1])).ports(80, None);
        let ct = Conntrack::zone_from(field::REG11.range(0, 16)).commit().table(9).nat(nat);
        let ct = ct.exec(Action::set_masked(field::CT_MARK, 2, 2));
        check(
            &FlowMod::add(8, 7, matches, vec![ct.into()]),
            expect![
                "table=8, priority=7,ct_state=+new-est+trk,ip,metadata=0x3,nw_dst=10.0.0.0/8 actions=ct(commit,table=9,zone=NXM_NX_REG11[0..15],nat(dst=192.0.2.1:80),exec(set_field:0x2/0x2->ct_mark))"
            ],
        );
    }

    #[test]
    fn what_is_not_known_is_shown_as_bytes() {
        let unknown = Action::Unknown([0, 99, 0, 8, 1, 2, 3, 4].into());
        check(
            &FlowMod::add(1, DEFAULT_PRIORITY, Match::new(), vec![unknown]),
            expect!["table=1, actions=unknown(00.63.00.08.01.02.03.04)"],
        );
    }
}
