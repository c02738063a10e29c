//! What would become of a packet: asked of the switch itself, with `ofproto/trace`, table by table.
//!
//! # Contract
//! - [`run`] makes a [`Job`], the agent's word on where the packet comes from and what ports are, into an answer. It changes
//!   nothing in the switch: no packet is sent, no MAC is learned, no connection made.
//! - Where a flow looks a connection up, the switch stops; what its connections say is looked up in them, and the packet goes
//!   on with that: state, mark, label, and translated addresses.
//! - [`text`] and [`flow`] read and write the switch's words.
//!
//! # Invariants
//! - Passes, steps and what the switch may print are bounded.
//! - What is not certain is said to be assumed.

pub mod flow;
pub mod text;

mod connection;

use std::collections::{BTreeMap, VecDeque};

use quantumnet_api::v1::{
    AgentQueryError, AgentQueryErrorKind, TraceAnswer, TraceConnection, TraceExit, TracePacket, TracePass,
    TraceStep, TraceTracked, TraceTunnel, trace_exit::To,
};
use quantumnet_model::{Rows, tables};

use crate::{
    compile::{punt::Punt, row_of, said, stage_of, table::Table},
    trace::{connection::Connections, flow::Flow, text::Pass},
};

/// A packet, and what is known of where it is.
#[derive(Clone, Debug)]
pub struct Job {
    /// The integration bridge.
    pub bridge: String,
    /// Its datapath, as dpctl names it.
    pub datapath: String,
    /// The packet, with what it comes by.
    pub flow: String,
    /// What is behind ports of the bridge, by their number.
    pub ports: BTreeMap<u32, Place>,
    /// Slot of the tunnel option with the keys of ports.
    pub option: u32,
    /// Connections that are taken to be there.
    pub tracked: Vec<TraceTracked>,
    /// The rows that the flows were made for.
    pub rows: Rows,
}

/// What is behind a port of the bridge.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// An interface, by its iface-id.
    Interface(String),
    /// Another hypervisor, by its chassis' name.
    Tunnel(String),
    /// A physical network, by the name of the port to it.
    Physical(String),
}

/// Makes a trace. `call` asks ovs-vswitchd over its control socket.
pub async fn run<C, F>(job: &Job, call: C) -> Result<TraceAnswer, AgentQueryError>
where
    C: Fn(&'static str, Vec<String>) -> F,
    F: Future<Output = Result<String, String>>,
{
    let mut answer = TraceAnswer::default();
    let mut connections = Connections::new(job);
    let first = ("ofproto/trace", vec![job.bridge.clone(), job.flow.clone()], None);
    let mut queue: VecDeque<(&'static str, Vec<String>, Option<TraceConnection>)> = [first].into();
    while let Some((command, arguments, connection)) = queue.pop_front() {
        if answer.passes.len() >= PASSES_MAX {
            answer.cut = format!("more than {PASSES_MAX} passes through the datapath");
            break;
        }
        let printed = call(command, arguments).await.map_err(unavailable)?;
        let all = text::passes(&printed);
        let Some(pass) = all.first() else {
            return Err(unavailable(format!("ofproto/trace printed {:?}", shortened(&printed))));
        };
        if pass.steps.len() > STEPS_MAX {
            answer.cut = format!("more than {STEPS_MAX} lookups in one pass");
        } else if let Some(failure) = &pass.failure {
            answer.cut.clone_from(failure);
        }
        let number = answer.passes.len();
        let leaving = packet_or_none(&Flow::parse(&pass.final_flow));
        // A translation that is committed without entering the datapath again changes the packet, unseen by the tables.
        let mut packet = leaving.clone();
        // The tables that connections lead to, in the order of the datapath's actions.
        let mut tables = pass.steps.iter().flat_map(|step| &step.actions).filter_map(|line| resumed_at(line));
        if pass.is_resumed_otherwise() {
            "the packet enters the datapath again for another reason than its connection"
                .clone_into(&mut answer.cut);
        }
        for (ct, recirculation) in pass.conntrack() {
            let Some(recirculation) = recirculation else {
                packet = connections.passed(ct, packet, &call, &mut answer.tracked).await?;
                continue;
            };
            let later = all.iter().find(|later| later.recirculation == Some(recirculation));
            let (Some(later), Some(table)) = (later, tables.next()) else {
                "the switch does not say where the packet goes on".clone_into(&mut answer.cut);
                continue;
            };
            let moved = (packet != leaving).then_some(&packet);
            let (flow, connection) =
                connections.resumed(later, ct, moved, &call, &mut answer.tracked).await?;
            let arguments = vec![job.bridge.clone(), flow.to_string(), format!("resubmit(,{table})")];
            queue.push_back(("ofproto/trace-packet-out", arguments, Some(connection)));
        }
        if !exits(job, pass, number, &packet, &mut answer.exits) {
            answer.cut = format!("the packet leaves in more than {EXITS_MAX} ways");
        }
        let steps = pass.steps.iter().take(STEPS_MAX).map(|step| described(job, step)).collect();
        let (packet, actions) = (pass.final_flow.clone(), pass.actions.clone());
        answer.passes.push(TracePass { connection, steps, packet, actions });
    }
    Ok(answer)
}

/// `-> A clone of the packet is forked to recirculate. The forked pipeline will be resumed at table 41.`
fn resumed_at(line: &str) -> Option<u8> {
    line.split_once("will be resumed at table ")?.1.trim_end_matches('.').parse().ok()
}

/// A step with what its numbers mean.
fn described(job: &Job, step: &text::Step) -> TraceStep {
    let ours = step.bridge == job.bridge;
    let table = Table::from_number(step.table).filter(|_| ours).map(Table::decl);
    let matched = step.matched.clone().unwrap_or_default();
    let (stage, _) = stage_of(matched.cookie);
    let stage = stage.filter(|_| ours && step.matched.is_some());
    let row = stage.and_then(|_| row_of(&job.rows, matched.cookie));
    let says = table.and_then(|table| said(table.table, &step.actions)).unwrap_or_default();
    let actions = step.actions.iter().take(ACTIONS_MAX).map(|line| shortened(line)).collect();
    TraceStep {
        table: step.table.into(),
        table_name: table.map(|table| table.name.to_owned()).unwrap_or_default(),
        purpose: table.map(|table| table.purpose.to_owned()).unwrap_or_default(),
        miss: step.matched.is_none(),
        r#match: shortened(&matched.matches),
        priority: matched.priority.into(),
        cookie: matched.cookie,
        stage: stage.map(|stage| stage.name.to_owned()).unwrap_or_default(),
        row_table: row.map(|(table, _)| tables::decl(table).name.to_owned()).unwrap_or_default(),
        row: row.map(|(_, uuid)| uuid.to_string()).unwrap_or_default(),
        actions,
        bridge: if ours { String::new() } else { step.bridge.clone() },
        says: says.to_owned(),
    }
}

/// Where the packet leaves by in a pass; false if there was not room for all.
fn exits(job: &Job, pass: &Pass, number: usize, packet: &TracePacket, out: &mut Vec<TraceExit>) -> bool {
    let entered = Flow::parse(&pass.flow);
    let mut complete = true;
    let mut put = |to: To| {
        let exit = TraceExit {
            pass: u32::try_from(number).unwrap_or(u32::MAX),
            to: Some(to),
            packet: Some(packet.clone()),
        };
        match out.contains(&exit) {
            true => {}
            false if out.len() < EXITS_MAX => out.push(exit),
            false => complete = false,
        }
    };
    for step in pass.steps.iter().filter(|step| step.bridge == job.bridge) {
        for (at, line) in step.actions.iter().enumerate() {
            // A remark of the switch on why it does not.
            if step.actions.get(at + 1).is_some_and(|next| next.starts_with(">>")) {
                continue;
            }
            if let Some(userdata) = line.strip_prefix("controller(") {
                put(To::Agent(reason(userdata)));
            } else if line == "IN_PORT" {
                put(place(job, u32::try_from(entered.number("in_port")).unwrap_or_default(), step));
            } else if let Some(port) =
                line.strip_prefix("output:").or_else(|| line.strip_prefix("-> output port is "))
            {
                match port.parse() {
                    Ok(port) => put(place(job, port, step)),
                    // From a register: the switch remarks which.
                    Err(_) if port.contains("REG") || port.contains("reg") => {}
                    Err(_) => put(To::Other(shortened(port))),
                }
            }
        }
    }
    complete
}

fn place(job: &Job, port: u32, step: &text::Step) -> To {
    let bits = |bits: &str| {
        let start = format!("-> NXM_NX_TUN_METADATA{}[{bits}] is now 0x", job.option);
        let digits = step.actions.iter().rev().find_map(|line| line.strip_prefix(&start));
        digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or_default()
    };
    let key = || {
        let start = "-> NXM_NX_TUN_ID[0..23] is now 0x";
        let digits = step.actions.iter().rev().find_map(|line| line.strip_prefix(start));
        digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or_default()
    };
    match job.ports.get(&port) {
        Some(Place::Interface(iface)) => To::Interface(iface.clone()),
        Some(Place::Physical(port)) => To::Physical(port.clone()),
        Some(Place::Tunnel(chassis)) => To::Tunnel(TraceTunnel {
            chassis: chassis.clone(),
            datapath_key: key(),
            in_port_key: bits("16..30"),
            out_port_key: bits("0..15"),
        }),
        None => To::Other(format!("port {port} of {}", job.bridge)),
    }
}

/// Why a packet goes to the agent, by the user data of the action.
fn reason(action: &str) -> String {
    let text = action.split("userdata=").nth(1).unwrap_or_default();
    let text = text.split([',', ')']).next().unwrap_or_default();
    let bytes: Option<Vec<u8>> = text.split('.').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    let punt = bytes.and_then(|bytes| Punt::decode(&bytes).ok());
    punt.map_or_else(|| "of an unknown kind".to_owned(), |punt| format!("{:?}", punt.reason))
}

fn shortened(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

fn unavailable(message: String) -> AgentQueryError {
    AgentQueryError { kind: AgentQueryErrorKind::SwitchUnavailable.into(), message: shortened(&message) }
}

/// The packet as controllers have it, for what has no addresses none.
fn packet_or_none(flow: &Flow) -> TracePacket {
    flow::packet(flow).unwrap_or_default()
}

/// Entries of one packet into the datapath; a routed and filtered one has seven.
const PASSES_MAX: usize = 32;
const STEPS_MAX: usize = 512;
const EXITS_MAX: usize = 64;
const ACTIONS_MAX: usize = 64;
/// Characters of one thing that the switch prints.
const TEXT_MAX: usize = 1_024;

#[cfg(test)]
mod tests;
