//! Steps of a trace in the words of users.
//!
//! # Contract
//! - In: a step as an agent describes it. Out: the object that its flow was made for, one line of text, and whether it decides.
//! - Refuses to know flows: what a table is for, and what a rule's flow says, is the agent's word.

use quantumnet_api::v1::{TraceAnswer, TraceConnection, TraceHop, TraceHopStep, TraceStep, trace_exit::To};
use quantumnet_model::{
    Row, Uuid,
    nb::{Acl, LogicalRouterPolicy, LogicalRouterStaticRoute, Nat},
    sb::PortBinding,
};

use crate::{
    explain::{hop::Hop, object::Object},
    store::State,
};

/// The object that a step's flow was made for.
pub(crate) fn object(state: &State, step: &TraceStep) -> Option<Object> {
    Object::named(state, &step.row_table, step.row.parse::<Uuid>().ok()?)
}

/// Whether rules are asked in the step's table.
pub(crate) fn asks_rules(step: &TraceStep) -> bool {
    !step.says.is_empty()
}

/// Whether a verdict is carried out in it.
pub(crate) fn carries_out(step: &TraceStep) -> bool {
    matches!(step.table_name.as_str(), "FromVerdict" | "AfterVerdict" | "ToVerdict")
}

/// Whether it is made by a rule.
pub(crate) fn is_rule(step: &TraceStep) -> bool {
    asks_rules(step) && step.row_table == Acl::NAME
}

/// The packet goes nowhere from a pass: neither on nor out. What an agent is told of it is no way out.
pub(crate) fn ends(answer: &TraceAnswer, pass: usize) -> bool {
    let on = answer.passes.get(pass).is_some_and(|pass| pass.actions.contains("recirc("));
    let out = answer.exits.iter().any(|exit| {
        usize::try_from(exit.pass).is_ok_and(|number| number == pass)
            && !matches!(exit.to, Some(To::Agent(_)))
    });
    !on && !out
}

/// A hop for clients.
pub(crate) fn hop(state: &State, hop: &Hop) -> TraceHop {
    let entered =
        hop.over.as_ref().map_or_else(|| "its port".to_owned(), |from| format!("the tunnel from {from}"));
    let mut message = TraceHop { chassis: hop.chassis.clone(), entered, ..TraceHop::default() };
    let answer = match &hop.result {
        Ok(answer) => answer,
        Err(error) => {
            message.left.push(format!("not known: {error}"));
            return message;
        }
    };
    for (number, pass) in answer.passes.iter().enumerate() {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        if let Some(connection) = &pass.connection {
            let text = connection_text(connection);
            message.steps.push(TraceHopStep { pass: number, text, ..TraceHopStep::default() });
        }
        for step in pass.steps.iter().filter(|step| step.bridge.is_empty()) {
            message.steps.push(described(state, step, number));
        }
    }
    for exit in &answer.exits {
        if let Some(to) = &exit.to {
            message.left.push(way_out(state, to));
        }
    }
    if !answer.cut.is_empty() {
        message.left.push(format!("not followed to its end: {}", answer.cut));
    }
    message
}

fn described(state: &State, step: &TraceStep, pass: u32) -> TraceHopStep {
    let object = object(state, step);
    TraceHopStep {
        pass,
        table: step.table_name.clone(),
        text: text(step, object.as_ref()),
        decides: step.miss || is_rule(step) && step.says != "nothing" || routes(step),
        object: object.map(|object| object.message()),
        stage: step.stage.clone(),
        miss: step.miss,
        r#match: step.r#match.clone(),
        priority: step.priority,
        cookie: format!("{:#x}", step.cookie),
        actions: step.actions.clone(),
    }
}

fn routes(step: &TraceStep) -> bool {
    [LogicalRouterStaticRoute::NAME, LogicalRouterPolicy::NAME, Nat::NAME].contains(&step.row_table.as_str())
}

fn text(step: &TraceStep, object: Option<&Object>) -> String {
    let whose = object.map(|object| format!(" ({object})")).unwrap_or_default();
    if step.miss {
        return format!("no flow matches, which drops; {}", purpose(step));
    }
    if is_rule(step) {
        let object = object.map(ToString::to_string).unwrap_or_else(|| format!("ACL {}", step.row));
        return match step.says.as_str() {
            "nothing" => format!("{object} passes the packet to the next rules"),
            says => format!("{object} says {says}"),
        };
    }
    match step.says.as_str() {
        "" => {}
        "nothing" => return "no rule decides".to_owned(),
        "settled" => return "passes as part of what was allowed before".to_owned(),
        "allow" => return "its connection was allowed for as long as it lasts".to_owned(),
        says => return format!("its connection is invalid, or a rule forbade it: {says}"),
    }
    let text = purpose(step);
    let drops = step.actions.iter().all(|action| action == "drop") && !step.actions.is_empty();
    if drops { format!("dropped: {text}{whose}") } else { format!("{text}{whose}") }
}

fn purpose(step: &TraceStep) -> String {
    if let Some((_, phrase)) = PHRASES.iter().find(|(table, _)| *table == step.table_name) {
        return (*phrase).to_owned();
    }
    let purpose = step.purpose.trim_end_matches('.');
    if purpose.is_empty() { format!("table {}", step.table) } else { purpose.to_owned() }
}

/// What happens in tables that most packets pass; of others their purpose is told.
const PHRASES: &[(&str, &str)] = &[
    ("Classify", "comes in"),
    ("Admit", "port security of what is sent"),
    ("FromTrack", "the sender's connection is looked up"),
    ("FromVerdict", "what the sender's rules said is done"),
    ("Forward", "to the port that has the destination's MAC"),
    ("RouterAdmit", "into the router"),
    ("Route", "by the route with the longest prefix"),
    ("NextHop", "to the MAC of the next hop"),
    ("Output", "to where that port is"),
    ("TunnelOut", "into a tunnel"),
    ("ToTrack", "the receiver's connection is looked up"),
    ("ToVerdict", "what the receiver's rules said is done"),
    ("AdmitOut", "port security of what is received"),
    ("Deliver", "out of the port"),
];

fn connection_text(connection: &TraceConnection) -> String {
    let TraceConnection { zone, state, known, mark, translated, alike } = connection;
    let source = match (known, state.contains("rpl")) {
        (true, _) => "as the switch has it",
        (false, true) => "taken to answer the request",
        (false, false) => "taken to be new",
    };
    let mut text = format!("connection in zone {zone}: {}, {source}", state.replace("|trk", ""));
    if *mark != 0 {
        text += &format!(", mark {mark:#x}");
    }
    if *translated {
        text += ", addresses translated";
    }
    if *alike > 0 {
        text += &format!("; {alike} open between these addresses and that port");
    }
    text
}

/// Where a packet leaves by.
pub(crate) fn way_out(state: &State, to: &To) -> String {
    match to {
        To::Interface(interface) => match port(state, interface) {
            Some(object) => format!("delivered to {object}"),
            None => format!("delivered to the interface {interface}"),
        },
        To::Tunnel(tunnel) => format!("into the tunnel to {}", tunnel.chassis),
        To::Physical(name) => match port(state, name) {
            Some(object) => format!("to the physical network by {object}"),
            None => format!("to the physical network by {name}"),
        },
        To::Agent(reason) => format!("to the agent: {reason}"),
        To::Other(what) => format!("by {what}"),
    }
}

/// The port of an interface or of a patch, by the name of its binding.
pub(crate) fn port(state: &State, name: &str) -> Option<Object> {
    let binding = state.find::<PortBinding>(&[("logical_port", name.into())])?;
    Some(Object::of(state, PortBinding::TABLE, binding))
}
