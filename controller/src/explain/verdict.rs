//! What becomes of a traced packet, what decided it, and what to change.
//!
//! # Contract
//! - In: the hops. Out: a verdict in one sentence, the rule or object that decided, and advice.
//!
//! # Invariants
//! - A packet that reaches its destination is delivered whatever else was made of it; one that ends without a way out is dropped
//!   by the last step of the last hop. What could not be followed is undecided, never guessed.

use quantumnet_api::v1::{
    TraceAnswer, TracePass, TraceStep, TraceVerdict, TraceVerdictKind as Kind, trace_exit::To,
};
use quantumnet_model::nb::LogicalSwitchPort;

use crate::{
    explain::{
        advice::{self, Way},
        end::End,
        hop::Hop,
        object::Object,
        steps,
    },
    store::State,
};

/// Judges a packet's way.
pub(crate) fn verdict(
    state: &State,
    hops: &[Hop],
    source: &End,
    destination: Option<&End>,
    way: &Way,
) -> TraceVerdict {
    let mut verdict =
        reached(state, hops, destination).unwrap_or_else(|| stopped(state, hops, source, destination, way));
    verdict.allowed_by = allowed(state, hops).iter().map(Object::message).collect();
    verdict
}

/// Rules that let the packet pass, in order.
fn allowed(state: &State, hops: &[Hop]) -> Vec<Object> {
    let answers = hops.iter().filter_map(|hop| hop.result.as_ref().ok());
    let steps = answers.flat_map(|answer| &answer.passes).flat_map(|pass| &pass.steps);
    let allowing = steps.filter(|step| steps::is_rule(step) && step.says == "allow");
    allowing.filter_map(|step| steps::object(state, step)).collect()
}

/// If it arrives somewhere.
fn reached(state: &State, hops: &[Hop], destination: Option<&End>) -> Option<TraceVerdict> {
    let exits = || hops.iter().flat_map(|hop| hop.exits().map(move |(to, _)| (hop, to)));
    let made = |kind: Kind, chassis: &str, summary: String| TraceVerdict {
        kind: kind.into(),
        summary,
        chassis: chassis.to_owned(),
        table: "Deliver".to_owned(),
        ..TraceVerdict::default()
    };
    let interfaces = || {
        exits().filter_map(|(hop, to)| if let To::Interface(name) = to { Some((hop, name)) } else { None })
    };
    let is_destination = |name: &str| {
        destination.is_none_or(|end| {
            *end.binding.logical_port == *name
                || end.binding.parent_port.as_ref().is_some_and(|parent| **parent == *name)
        })
    };
    if let Some((hop, name)) = interfaces().find(|(_, name)| is_destination(name)) {
        let object = steps::port(state, name).map_or_else(|| name.clone(), |object| object.to_string());
        return Some(made(
            Kind::Delivered,
            &hop.chassis,
            format!("delivered to {object} on {}", hop.chassis),
        ));
    }
    let physical =
        exits().find_map(|(hop, to)| if let To::Physical(name) = to { Some((hop, name)) } else { None });
    if let Some((hop, name)) = physical {
        let object = steps::port(state, name).map_or_else(|| name.clone(), |object| object.to_string());
        let more = if destination.is_some() { "; where it comes in again is not followed" } else { "" };
        let summary = format!("leaves {} to the physical network by {object}{more}", hop.chassis);
        return Some(made(Kind::Left, &hop.chassis, summary));
    }
    None
}

fn stopped(state: &State, hops: &[Hop], source: &End, destination: Option<&End>, way: &Way) -> TraceVerdict {
    for hop in hops {
        for (to, exit) in hop.exits() {
            if let To::Agent(reason) = to
                && let Some(verdict) = by_agent(state, hop, reason, exit.pass, way)
            {
                return verdict;
            }
        }
    }
    let undecided = |chassis: &str, summary: String, advice: Vec<String>| TraceVerdict {
        kind: Kind::Undecided.into(),
        summary,
        chassis: chassis.to_owned(),
        advice,
        ..TraceVerdict::default()
    };
    if let Some((hop, error)) = hops.iter().find_map(|hop| Some((hop, hop.result.as_ref().err()?))) {
        let advice =
            vec![format!("see that the agent of {} runs and is connected, and trace again", hop.chassis)];
        return undecided(&hop.chassis, format!("could not be followed on {}: {error}", hop.chassis), advice);
    }
    let answers = hops.iter().filter_map(|hop| Some((hop, hop.result.as_ref().ok()?)));
    if let Some((hop, answer)) = answers.into_iter().find(|(_, answer)| !answer.cut.is_empty()) {
        return undecided(&hop.chassis, format!("not followed to its end: {}", answer.cut), Vec::new());
    }
    let others: Vec<String> = hops
        .iter()
        .flat_map(Hop::exits)
        .filter(|(to, _)| matches!(to, To::Interface(_)))
        .map(|(to, _)| steps::way_out(state, to))
        .collect();
    if !others.is_empty() {
        return TraceVerdict {
            kind: Kind::Elsewhere.into(),
            summary: format!("does not reach the destination: {}", others.join(", ")),
            ..TraceVerdict::default()
        };
    }
    let Some((hop, answer)) = hops.iter().rev().find_map(|hop| Some((hop, hop.result.as_ref().ok()?))) else {
        return undecided("", "no hypervisor was asked".to_owned(), Vec::new());
    };
    dropped(state, hop, answer, source, destination, way)
}

/// What an agent is asked to do about it.
fn by_agent(state: &State, hop: &Hop, reason: &str, pass: u32, way: &Way) -> Option<TraceVerdict> {
    let chassis = &hop.chassis;
    let pass = hop.result.as_ref().ok()?.passes.get(usize::try_from(pass).ok()?)?;
    let made = |kind: Kind, summary: String| TraceVerdict {
        kind: kind.into(),
        summary,
        chassis: chassis.clone(),
        table: pass.steps.last().map(|step| step.table_name.clone()).unwrap_or_default(),
        ..TraceVerdict::default()
    };
    Some(match reason {
        "RejectedFrom" | "RejectedTo" => {
            let rule = decider(pass).and_then(|step| steps::object(state, step));
            let by = rule.as_ref().map_or_else(|| "a rule".to_owned(), ToString::to_string);
            let verdict = made(Kind::Rejected, format!("rejected on {chassis} by {by}"));
            with_rule(state, verdict, rule, way)
        }
        "ResolveNeighbour" => {
            let mut verdict = made(
                Kind::Undecided,
                format!(
                    "waits on {chassis} until the router has the MAC of the next hop, which its agent asks for"
                ),
            );
            verdict.advice.push("send a packet or let the other end send one, and trace again".to_owned());
            verdict
        }
        "TimeExceeded" => {
            made(Kind::Rejected, format!("its time to live is over on {chassis}: the sender is told"))
        }
        "RouterUnreachable" => made(
            Kind::Rejected,
            format!("is for the router itself, which answers on {chassis} that nothing is there"),
        ),
        "TooLarge" => {
            made(Kind::Rejected, format!("too large for the way on from {chassis}: the sender is told"))
        }
        _ => return None,
    })
}

/// The step that decided in a pass: the last one with a say.
fn decider(pass: &TracePass) -> Option<&TraceStep> {
    pass.steps.iter().rev().find(|step| steps::asks_rules(step) && step.says != "nothing")
}

fn with_rule(state: &State, verdict: TraceVerdict, rule: Option<Object>, way: &Way) -> TraceVerdict {
    let advice = rule.as_ref().map(|rule| advice::of_rule(state, rule, way)).unwrap_or_default();
    TraceVerdict { decided_by: rule.map(|rule| rule.message()), advice, ..verdict }
}

fn dropped(
    state: &State,
    hop: &Hop,
    answer: &TraceAnswer,
    source: &End,
    destination: Option<&End>,
    way: &Way,
) -> TraceVerdict {
    let mut ended = answer.passes.iter().enumerate().filter(|(number, _)| steps::ends(answer, *number));
    let chassis = &hop.chassis;
    let made = |table: &str, summary: String| TraceVerdict {
        kind: Kind::Dropped.into(),
        summary,
        chassis: chassis.clone(),
        table: table.to_owned(),
        ..TraceVerdict::default()
    };
    let last = ended
        .next_back()
        .and_then(|(_, pass)| Some((pass, pass.steps.iter().rev().find(|step| step.bridge.is_empty())?)));
    let Some((pass, step)) = last else {
        return made("", format!("ends on {chassis} before any table was asked"));
    };
    let table = step.table_name.as_str();
    if steps::carries_out(step) {
        let asked = pass.steps.iter().rev().find(|step| steps::asks_rules(step));
        return match decider(pass) {
            Some(rule) if steps::is_rule(rule) => {
                let rule = steps::object(state, rule);
                let by = rule
                    .as_ref()
                    .map_or_else(|| "a rule that is gone meanwhile".to_owned(), ToString::to_string);
                with_rule(state, made(table, format!("dropped on {chassis} by {by}")), rule, way)
            }
            Some(_) => {
                let mut verdict = made(
                    table,
                    format!(
                        "dropped on {chassis}: the packet is part of no connection that is allowed (invalid, or forbidden by a rule since it began)"
                    ),
                );
                verdict.advice.push("end the connection and begin it anew; if that is dropped too, trace it without a source port".to_owned());
                verdict
            }
            None => {
                let side = if table == "ToVerdict" { "receives" } else { "sends" };
                let mut verdict = made(
                    table,
                    format!(
                        "dropped on {chassis}: no rule allows what the port {side}, and the default is to drop (NB_Global options:default_acl_drop)"
                    ),
                );
                verdict.advice = advice::of_default(asked.is_some_and(|_| table == "ToVerdict"), way);
                verdict
            }
        };
    }
    let (reason, advice) = advice::of_table(table, step.miss, source, destination, way);
    let object = steps::object(state, step);
    let mut verdict = made(table, format!("dropped on {chassis} in table {table}: {reason}"));
    verdict.decided_by = object.filter(|_| !step.miss).map(|object| object.message());
    verdict.advice = advice;
    for (end, what) in [(Some(source), "source"), (destination, "destination")] {
        let Some(end) = end else { continue };
        let northbound = state.get::<LogicalSwitchPort>(end.port);
        if northbound.is_some_and(|row| row.enabled == Some(false)) {
            verdict.advice.insert(0, format!("enable the {what}, {}: it is disabled", end.object(state)));
        } else if end.chassis(state).is_none()
            && !matches!(&*end.binding.r#type, "patch" | "localnet" | "l3gateway")
        {
            verdict.advice.insert(
                0,
                format!("plug the {what}, {}, in on a hypervisor: it is on none", end.object(state)),
            );
        } else if end.binding.up == Some(false) {
            verdict
                .advice
                .push(format!("see that the {what}, {}, comes up: it is not up yet", end.object(state)));
        }
    }
    verdict
}
