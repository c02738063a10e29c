//! Actions and instructions.

use std::fmt::{self, Write as _};
use std::net::Ipv6Addr;

use crate::action::*;
use crate::instruction::Instruction;
use crate::port::Port;
use crate::print::value::{Dotted, FieldText, Hex, HexBytes};

/// Actions with commas between; `drop` if there are none.
pub(super) struct Actions<'a>(pub(super) &'a [Action]);

impl fmt::Display for Actions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("drop") } else { joined(f, self.0) }
    }
}

/// Instructions with commas between; `drop` if there is nothing.
pub(super) struct Instructions<'a>(pub(super) &'a [Instruction]);

impl fmt::Display for Instructions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut some: Vec<&Instruction> = self
            .0
            .iter()
            .filter(|instruction| !matches!(instruction, Instruction::ApplyActions(actions) if actions.is_empty()))
            .collect();
        some.sort_by_key(|instruction| order(instruction));
        if some.is_empty() { f.write_str("drop") } else { joined(f, some) }
    }
}

/// The order in which a switch runs them.
fn order(instruction: &Instruction) -> u8 {
    match instruction {
        Instruction::Meter(_) => 0,
        Instruction::ApplyActions(_) => 1,
        Instruction::ClearActions => 2,
        Instruction::WriteActions(_) => 3,
        Instruction::WriteMetadata { .. } => 4,
        Instruction::GotoTable(_) => 5,
        Instruction::Unknown(_) => 6,
    }
}

fn joined<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: impl IntoIterator<Item = T>) -> fmt::Result {
    items.into_iter().enumerate().try_for_each(|(i, item)| {
        if i > 0 {
            f.write_char(',')?;
        }
        write!(f, "{item}")
    })
}

impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GotoTable(table) => write!(f, "goto_table:{}", table.0),
            Self::WriteMetadata { value, mask } => {
                write!(f, "write_metadata:{}", Hex((*value).into()))?;
                if *mask == u64::MAX { Ok(()) } else { write!(f, "/{}", Hex((*mask).into())) }
            }
            Self::WriteActions(actions) => write!(f, "write_actions({})", Actions(actions)),
            Self::ApplyActions(actions) => write!(f, "{}", Actions(actions)),
            Self::ClearActions => f.write_str("clear_actions"),
            Self::Meter(meter) => write!(f, "meter:{}", meter.0),
            Self::Unknown(raw) => write!(f, "unknown_instruction({})", Dotted(raw)),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Output(output) => {
                if output.port < Port::MAX {
                    f.write_str("output:")?;
                }
                write!(f, "{}", output.port)?;
                if output.port == Port::CONTROLLER { write!(f, ":{}", output.max_len) } else { Ok(()) }
            }
            Self::PushVlan(eth_type) => write!(f, "push_vlan:{}", Hex((*eth_type).into())),
            Self::PopVlan => f.write_str("pop_vlan"),
            Self::SetMplsTtl(ttl) => write!(f, "set_mpls_ttl({ttl})"),
            Self::DecMplsTtl => f.write_str("dec_mpls_ttl"),
            Self::PushMpls(eth_type) => write!(f, "push_mpls:{eth_type:#06x}"),
            Self::PopMpls(eth_type) => write!(f, "pop_mpls:{eth_type:#06x}"),
            Self::SetQueue(queue) => write!(f, "set_queue:{}", queue.0),
            Self::Group(group) => write!(f, "group:{}", group.0),
            Self::SetNwTtl(ttl) => write!(f, "mod_nw_ttl:{ttl}"),
            Self::DecNwTtl => f.write_str("dec_ttl"),
            Self::SetField(SetField { field, value, mask }) => {
                write!(f, "set_field:{}->{field}", FieldText { field: *field, value, mask: mask.as_deref() })
            }
            Self::Meter(meter) => write!(f, "meter:{}", meter.0),
            Self::Resubmit(resubmit) => show_resubmit(f, resubmit, ""),
            Self::ResubmitCt(resubmit) => show_resubmit(f, resubmit, ",ct"),
            Self::SetTunnel(id) => write!(f, "set_tunnel:{}", Hex((*id).into())),
            Self::SetTunnel64(id) => write!(f, "set_tunnel64:{}", Hex((*id).into())),
            Self::PopQueue => f.write_str("pop_queue"),
            Self::RegMove(RegMove { source, target }) | Self::CopyField(RegMove { source, target }) => {
                write!(f, "move:{source}->{target}")
            }
            Self::RegLoad(RegLoad { target, value }) => write!(f, "load:{}->{target}", Hex((*value).into())),
            Self::Note(note) => write!(f, "note:{}", Dotted(note.as_bytes())),
            Self::Multipath(multipath) => multipath.fmt(f),
            Self::Bundle(bundle) | Self::BundleLoad(bundle) => bundle.fmt(f),
            Self::OutputReg(output) | Self::OutputReg2(output) => write!(f, "output:{}", output.source),
            Self::Learn(learn) | Self::Learn2(learn) => learn.fmt(f),
            Self::Exit => f.write_str("exit"),
            Self::FinTimeout(timeout) => {
                f.write_str("fin_timeout(")?;
                let both = [("idle_timeout", timeout.idle_timeout), ("hard_timeout", timeout.hard_timeout)];
                let set = both.iter().filter(|(_, seconds)| *seconds != 0);
                joined(f, set.map(|(name, seconds)| format!("{name}={seconds}")))?;
                f.write_char(')')
            }
            Self::Controller(controller) | Self::Controller2(controller) => controller.fmt(f),
            Self::DecTtlCounterIds(CounterIds(ids)) => {
                f.write_str("dec_ttl(")?;
                joined(f, ids)?;
                f.write_char(')')
            }
            Self::StackPush(bits) => write!(f, "push:{bits}"),
            Self::StackPop(bits) => write!(f, "pop:{bits}"),
            Self::Sample(sample) | Self::Sample2(sample) | Self::Sample3(sample) => sample.fmt(f),
            Self::Conjunction(Conjunction { clause, clauses, id }) => {
                write!(f, "conjunction({id},{}/{clauses})", u16::from(*clause) + 1)
            }
            Self::Ct(ct) => ct.fmt(f),
            Self::Nat(nat) => nat.fmt(f),
            Self::OutputTrunc(OutputTrunc { port, max_len }) => {
                write!(f, "output(port={port},max_len={max_len})")
            }
            Self::Clone(actions) => write!(f, "clone({})", Actions(actions)),
            Self::CtClear => f.write_str("ct_clear"),
            Self::Encap(encap) => {
                let name = match encap.packet_type {
                    0 => "ethernet",
                    0x0001_894f => "nsh",
                    0x0001_8847 => "mpls",
                    0x0001_8848 => "mpls_mc",
                    _ => "UNKNOWN",
                };
                write!(f, "encap({name})")
            }
            Self::Decap(Decap { packet_type: PACKET_TYPE_NEXT }) => f.write_str("decap()"),
            Self::Decap(Decap { packet_type }) => {
                let (space, kind) = (packet_type >> 16, Hex(u128::from(packet_type & 0xffff)));
                write!(f, "decap(packet_type(ns={space},type={kind}))")
            }
            Self::DecNshTtl => f.write_str("dec_nsh_ttl"),
            Self::CheckPacketLarger(check) => {
                write!(f, "check_pkt_larger({})->{}", check.length, check.target)
            }
            Self::DeleteField(field) => write!(f, "delete_field:{field}"),
            Self::Unknown(raw) => write!(f, "unknown({})", Dotted(raw)),
        }
    }
}

fn show_resubmit(f: &mut fmt::Formatter<'_>, resubmit: &Resubmit, suffix: &str) -> fmt::Result {
    let Resubmit { in_port, table } = resubmit;
    let (here, same) = (table.0 == 0xff, *in_port == Port::IN_PORT);
    if here && !same {
        return write!(f, "resubmit:{in_port}");
    }
    f.write_str("resubmit(")?;
    if !same {
        write!(f, "{in_port}")?;
    }
    f.write_char(',')?;
    if !here {
        write!(f, "{}", table.0)?;
    }
    write!(f, "{suffix})")
}

impl fmt::Display for Multipath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown = "<unknown>";
        write!(
            f,
            "multipath({},{},{},{},{},{})",
            self.fields.name().unwrap_or(unknown),
            self.basis,
            self.algorithm.name().unwrap_or(unknown),
            u32::from(self.max_link) + 1,
            self.argument,
            self.target
        )
    }
}

impl fmt::Display for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown = "<unknown>";
        f.write_str(if self.target.is_some() { "bundle_load(" } else { "bundle(" })?;
        let (fields, algorithm) =
            (self.fields.name().unwrap_or(unknown), self.algorithm.name().unwrap_or(unknown));
        write!(f, "{fields},{},{algorithm},ofport,", self.basis)?;
        self.target.iter().try_for_each(|target| write!(f, "{target},"))?;
        f.write_str("members:")?;
        joined(f, &self.members)?;
        f.write_char(')')
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let userdata = self.userdata.as_deref().filter(|userdata| !userdata.is_empty());
        let mut items = Vec::new();
        if self.reason != PacketInReason::ACTION {
            items.push(format!("reason={}", self.reason));
        }
        if self.max_len != MAX_LEN_ALL {
            items.push(format!("max_len={}", self.max_len));
        }
        if self.controller_id != 0 {
            items.push(format!("id={}", self.controller_id));
        }
        items.extend(userdata.map(|userdata| format!("userdata={}", Dotted(userdata))));
        if self.pause {
            items.push("pause".into());
        }
        items.extend(self.meter.map(|meter| format!("meter_id={}", meter.0)));
        let only_length = items.is_empty() || (self.max_len != MAX_LEN_ALL && items.len() == 1);
        if only_length {
            return write!(f, "CONTROLLER:{}", self.max_len);
        }
        write!(f, "controller({})", items.join(","))
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { probability, collector_set, domain, point, port, direction } = self;
        write!(
            f,
            "sample(probability={probability},collector_set_id={collector_set},obs_domain_id={domain}"
        )?;
        write!(f, ",obs_point_id={point}")?;
        if *port != Port::NONE {
            write!(f, ",sampling_port={port}")?;
        }
        match *direction {
            SampleDirection::INGRESS => f.write_str(",ingress)"),
            SampleDirection::EGRESS => f.write_str(",egress)"),
            _ => f.write_char(')'),
        }
    }
}

impl fmt::Display for Conntrack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut items = Vec::new();
        let flags = [ConntrackFlags::COMMIT, ConntrackFlags::FORCE];
        let names = ConntrackFlags::NAMES.iter().zip(flags).filter(|(_, flag)| self.flags.contains(*flag));
        items.extend(names.map(|((_, name), _)| (*name).to_owned()));
        items.extend(self.table.map(|table| format!("table={}", table.0)));
        match self.zone {
            ConntrackZone::Immediate(0) => {}
            ConntrackZone::Immediate(zone) => items.push(format!("zone={zone}")),
            ConntrackZone::Field(bits) => items.push(format!("zone={bits}")),
        }
        let mut actions = self.actions.as_slice();
        if let [Action::Nat(nat), rest @ ..] = actions {
            items.push(nat.to_string());
            actions = rest;
        }
        if !actions.is_empty() {
            items.push(format!("exec({})", Actions(actions)));
        }
        match self.helper {
            0 => {}
            21 => items.push("alg=ftp".into()),
            69 => items.push("alg=tftp".into()),
            port => items.push(format!("alg={port}")),
        }
        write!(f, "ct({})", items.join(","))
    }
}

impl fmt::Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nat")?;
        if !self.flags.contains(NatFlags::SRC) && !self.flags.contains(NatFlags::DST) {
            return Ok(());
        }
        f.write_str(if self.flags.contains(NatFlags::SRC) { "(src" } else { "(dst" })?;
        let bracket = |address: Ipv6Addr| match self.ports {
            Some(_) => format!("[{address}]"),
            None => address.to_string(),
        };
        let (lowest, highest) = match self.addresses {
            NatRange::Any => return f.write_char(')'),
            NatRange::V4(lowest, highest) => (
                lowest.to_string(),
                highest.filter(|highest| *highest != lowest).map(|highest| highest.to_string()),
            ),
            NatRange::V6(lowest, highest) => {
                (bracket(lowest), highest.filter(|highest| *highest != lowest).map(bracket))
            }
        };
        write!(f, "={lowest}")?;
        highest.iter().try_for_each(|highest| write!(f, "-{highest}"))?;
        if let Some((lowest, highest)) = self.ports {
            write!(f, ":{lowest}")?;
            highest
                .iter()
                .filter(|highest| **highest != lowest)
                .try_for_each(|highest| write!(f, "-{highest}"))?;
        }
        for (flag, name) in
            [(NatFlags::PERSISTENT, ",persistent"), (NatFlags::HASH, ",hash"), (NatFlags::RANDOM, ",random")]
        {
            if self.flags.contains(flag) {
                f.write_str(name)?;
            }
        }
        f.write_char(')')
    }
}

impl fmt::Display for Learn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "learn(table={}", self.table.0)?;
        let seconds = [
            ("idle_timeout", self.idle_timeout),
            ("hard_timeout", self.hard_timeout),
            ("fin_idle_timeout", self.fin_idle_timeout),
            ("fin_hard_timeout", self.fin_hard_timeout),
        ];
        seconds.iter().filter(|(_, n)| *n != 0).try_for_each(|(name, n)| write!(f, ",{name}={n}"))?;
        if self.priority != crate::flow::DEFAULT_PRIORITY {
            write!(f, ",priority={}", self.priority)?;
        }
        if self.flags.contains(LearnFlags::SEND_FLOW_REM) {
            f.write_str(",send_flow_rem")?;
        }
        if self.flags.contains(LearnFlags::DELETE_LEARNED) {
            f.write_str(",delete_learned")?;
        }
        if self.cookie != 0 {
            write!(f, ",cookie={:#x}", self.cookie)?;
        }
        if self.limit.flows != 0 {
            write!(f, ",limit={}", self.limit.flows)?;
        }
        self.limit.result.iter().try_for_each(|result| write!(f, ",result_dst={result}"))?;
        self.specs.iter().try_for_each(|spec| write!(f, ",{spec}"))?;
        f.write_char(')')
    }
}

impl fmt::Display for LearnSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.bits;
        let significant = |bytes: &[u8]| {
            let length = usize::from(bits.div_ceil(8)).min(bytes.len());
            bytes[bytes.len() - length..].to_vec()
        };
        match (&self.source, self.target) {
            (LearnSource::Immediate(bytes), LearnTarget::Match(field, 0)) if bits == field.bits() => {
                let mut value = significant(bytes);
                value.splice(..0, vec![0; usize::from(field.width()).saturating_sub(value.len())]);
                write!(f, "{field}={}", FieldText { field, value: &value, mask: None })
            }
            (LearnSource::Immediate(bytes), LearnTarget::Match(field, offset)) => {
                write!(f, "{}={}", field.range(offset, bits), HexBytes(&significant(bytes)))
            }
            (LearnSource::Field(from, at), LearnTarget::Match(field, offset)) => {
                write!(f, "{}", field.range(offset, bits))?;
                if (*from, *at) == (field, offset) { Ok(()) } else { write!(f, "={}", from.range(*at, bits)) }
            }
            (LearnSource::Immediate(bytes), LearnTarget::Load(field, offset)) => {
                write!(f, "load:{}->{}", HexBytes(&significant(bytes)), field.range(offset, bits))
            }
            (LearnSource::Field(from, at), LearnTarget::Load(field, offset)) => {
                write!(f, "load:{}->{}", from.range(*at, bits), field.range(offset, bits))
            }
            (LearnSource::Field(from, at), LearnTarget::Output) => {
                write!(f, "output:{}", from.range(*at, bits))
            }
            (LearnSource::Immediate(bytes), LearnTarget::Output) => write!(f, "output:{}", HexBytes(bytes)),
        }
    }
}

/// Packet type that leaves the next header to say.
const PACKET_TYPE_NEXT: u32 = 0xfffe;
