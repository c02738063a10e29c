//! Questions of the controllers: what can be answered at once is, the rest is done beside everything else.
//!
//! # Invariants
//! - Each question is answered, if only with an error; those under way are bounded.

use std::{collections::BTreeMap, time::Instant};

use quantumnet_api::v1::{
    AgentQuery, AgentQueryAnswer, AgentQueryError, AgentQueryErrorKind, TraceQuery, TraceTunnel,
    agent_query::Query, agent_query_answer::Answer, trace_query::From,
};
use quantumnet_model::{column::Text, sb::Chassis};
use uuid::Uuid;

use crate::{
    agent::{Agent, Effect},
    controller,
    trace::{Job, Place, flow},
};

impl Agent {
    pub(super) fn asked(&mut self, now: Instant, stream: u64, query: AgentQuery, out: &mut Vec<Effect>) {
        let id = query.id;
        let job = match query.query {
            None => {
                let message = "this agent does not know the question; upgrade it".to_owned();
                Err((AgentQueryErrorKind::UnknownQuery, message))
            }
            Some(Query::RuleCounts(query)) => {
                let counts = Answer::RuleCounts(self.rule_counts(&query));
                return self.answer(now, stream, id, counts, out);
            }
            Some(Query::DropCounts(query)) => {
                let counts = Answer::DropCounts(self.drop_counts(now, &query, out));
                return self.answer(now, stream, id, counts, out);
            }
            Some(_) if self.questions >= QUESTIONS_MAX => {
                let message = format!("{QUESTIONS_MAX} questions are under way");
                Err((AgentQueryErrorKind::QueryBusy, message))
            }
            Some(Query::Trace(query)) => {
                self.trace(query).map_err(|message| (AgentQueryErrorKind::QueryRefused, message))
            }
        };
        match job {
            Ok(job) => {
                self.questions += 1;
                out.push(Effect::Trace { stream, id, job: Box::new(job) });
            }
            Err((kind, message)) => {
                let error = Answer::Error(AgentQueryError { kind: kind.into(), message });
                self.answer(now, stream, id, error, out);
            }
        }
    }

    fn answer(&mut self, now: Instant, stream: u64, id: u64, answer: Answer, out: &mut Vec<Effect>) {
        let answer = Box::new(AgentQueryAnswer { id, answer: Some(answer) });
        self.stream(now, controller::Input::Answered(stream, answer), out);
    }

    /// What was done beside everything else is done.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        stream: u64,
        answer: Box<AgentQueryAnswer>,
        out: &mut Vec<Effect>,
    ) {
        self.questions -= 1;
        self.stream(now, controller::Input::Answered(stream, answer), out);
    }

    /// The datapath of the bridge, as ovs-vswitchd calls it.
    pub(super) fn datapath(&self) -> Option<String> {
        let config = self.config.as_ref()?;
        let bridge = self.replica.iter().flat_map(|replica| replica.rows("Bridge"));
        let mut types = bridge.filter(|row| row.string("name") == Some(&config.bridge));
        let kind = types.find_map(|row| row.string("datapath_type")).filter(|kind| !kind.is_empty());
        let kind = kind.unwrap_or("system");
        Some(format!("{kind}@ovs-{kind}"))
    }

    fn trace(&self, query: TraceQuery) -> Result<Job, String> {
        let config = self.config.as_ref().filter(|_| self.complete && self.applied.is_some());
        let config = config.ok_or("its flows are not in its switch yet; try again")?;
        let abilities = self.abilities.ok_or("it is not connected to its switch")?;
        let option = abilities.tunnel_option;
        let packet = query.packet.unwrap_or_default();
        let text = flow::text(&packet)?;
        let names: BTreeMap<Uuid, Text> = {
            let chassis = self.compiler.rows().iter::<Chassis>();
            chassis.map(|(uuid, row)| (uuid, row.name.clone())).collect()
        };
        let flow = match query.from {
            Some(From::Interface(id)) => {
                let port = self.observed.interfaces.get(&id).map_or(0, |plugged| plugged.ofport);
                if port <= 0 {
                    return Err(format!(
                        "no interface with the iface-id {id} is in its bridge {}",
                        config.bridge
                    ));
                }
                format!("in_port={port},{text}")
            }
            Some(From::Tunnel(TraceTunnel { chassis, datapath_key, in_port_key, out_port_key })) => {
                let of_chassis = |uuid: &Uuid| names.get(uuid).is_some_and(|name| **name == *chassis);
                let tunnels = self.observed.tunnels.values();
                let tunnel = tunnels.clone().find(|tunnel| tunnel.ofport > 0 && of_chassis(&tunnel.chassis));
                let port = tunnel.ok_or_else(|| format!("it has no tunnel to hypervisor {chassis}"))?.ofport;
                let keys = in_port_key << 16 | out_port_key & 0xffff;
                format!("in_port={port},tun_id={datapath_key:#x},tun_metadata{option}={keys:#x},{text}")
            }
            None => return Err("the question does not say where the packet comes from".to_owned()),
        };
        let mut ports = BTreeMap::new();
        let mut put = |ofport: i64, place: Place| {
            if let Ok(port @ 1..) = u32::try_from(ofport) {
                ports.insert(port, place);
            }
        };
        for (id, plugged) in &self.observed.interfaces {
            put(plugged.ofport, Place::Interface(id.clone()));
        }
        for tunnel in self.observed.tunnels.values() {
            let name = names.get(&tunnel.chassis).map_or_else(|| tunnel.chassis.to_string(), Text::to_string);
            put(tunnel.ofport, Place::Tunnel(name));
        }
        for patch in self.observed.near_patches() {
            put(patch.ofport, Place::Physical(patch.logical_port.clone()));
        }
        Ok(Job {
            bridge: config.bridge.clone(),
            datapath: self.datapath().unwrap_or_default(),
            flow,
            ports,
            option: option.into(),
            tracked: query.tracked,
            rows: self.compiler.rows().clone(),
        })
    }
}

/// Questions that are answered at the same time.
const QUESTIONS_MAX: usize = 8;
