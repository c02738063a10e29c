//! `GetTrace`: a packet from one end to another, over the hypervisors on its way.

use std::net::IpAddr;

use quantumnet_api::v1::{
    GetTraceRequest, GetTraceResponse, TraceEnd, TraceHop, TracePacket, TraceVerdict, TraceVerdictKind,
    trace_exit::To,
};
use quantumnet_model::{Uuid, address::Mac};

use crate::{
    agents::Queries,
    explain::{
        advice::Way,
        end::{self, End, Family, Named, Unreachable},
        hop::{self, Hop, Tracked},
        packet::Kind,
        steps,
        verdict::verdict,
    },
    store::{Class, Refusal, State},
};

/// A packet to be traced, with its ends found.
#[derive(Debug)]
pub(crate) struct Question {
    source: End,
    destination: Option<Box<End>>,
    /// Addresses of both, of one family.
    ips: [IpAddr; 2],
    eth_src: Mac,
    family: Family,
    kind: Kind,
    reply: bool,
    /// The source port was given: its connection may be open.
    within: bool,
}

impl Question {
    /// Finds what a request names.
    pub(crate) fn new(state: &State, project: Uuid, request: &GetTraceRequest) -> Result<Self, Refusal> {
        let family = Family::parse(request.family, "family")?;
        let Named::Port(mut source) = end::find(state, project, &request.source, None, "source")? else {
            let message = format!(
                "no port has the address {}: a trace begins at a port; to ask about addresses outside, see who may reach the destination",
                request.source
            );
            return Err(Refusal::service(Class::InvalidArgument, "SOURCE_OUTSIDE", message).at("source"));
        };
        let destination =
            end::find(state, project, &request.destination, Some(source.datapath()), "destination")?;
        let (destination, ip) = match destination {
            Named::Port(end) => (Some(end), None),
            Named::Address(ip) => (None, Some(ip)),
        };
        let of_end = || destination.as_ref().and_then(|end| end.named);
        let wanted = ip.or_else(of_end).or(source.named).map(Family::of);
        if let (Some(wanted), Some(asked)) = (wanted, family)
            && wanted != asked
        {
            let message = format!("an address that is named is of {}", wanted.name());
            return Err(Refusal::service(Class::InvalidArgument, "FAMILY_MIXED", message).at("family"));
        }
        let both = |family: &Family| {
            source.address(*family).is_some()
                && destination.as_ref().is_none_or(|end| end.address(*family).is_some())
        };
        let chosen = wanted.or(family).or_else(|| [Family::V4, Family::V6].into_iter().find(both));
        let lacks = |end: &End, field: &str| {
            let family = chosen.map_or_else(|| "common".to_owned(), |family| family.name().to_owned());
            let message = format!("{} has no {family} address", end.object(state));
            Refusal::service(Class::FailedPrecondition, "ADDRESS_MISSING", message).at(field)
        };
        let family = chosen.ok_or_else(|| lacks(&source, "source"))?;
        let (eth_src, from) = source.address(family).ok_or_else(|| lacks(&source, "source"))?;
        let to = match (ip, &destination) {
            (Some(ip), _) => ip,
            (None, Some(end)) => end.address(family).ok_or_else(|| lacks(end, "destination"))?.1,
            (None, None) => return Err(lacks(&source, "source")),
        };
        source.named = Some(from);
        let port = u16::try_from(request.source_port).map_err(|_| {
            let message = format!("{} is no port", request.source_port);
            Refusal::service(Class::InvalidArgument, "PORT_INVALID", message).at("source_port")
        })?;
        let kind = Kind::parse(&request.service, family, port, "service")?;
        Ok(Self {
            source: *source,
            destination,
            ips: [from, to],
            eth_src,
            family,
            kind,
            reply: request.reply,
            within: port > 0 && kind.has_ports(),
        })
    }

    fn way(&self, state: &State) -> Way {
        Way::new(state, [Some(&self.source), self.destination.as_deref()], self.ips, self.kind)
    }

    fn packet(&self, eth_dst: Mac) -> TracePacket {
        let tag = self.source.binding.parent_port.as_ref().and(self.source.binding.tag).unwrap_or(0);
        TracePacket {
            eth_src: self.eth_src.to_string(),
            eth_dst: eth_dst.to_string(),
            ip_src: self.ips[0].to_string(),
            ip_dst: self.ips[1].to_string(),
            protocol: self.kind.protocol.into(),
            src: self.kind.src.into(),
            dst: self.kind.dst.into(),
            ttl: TTL,
            syn: !self.within,
            vlan: u32::try_from(tag).unwrap_or(0),
        }
    }

    /// Asks the switches.
    pub(crate) async fn trace(&self, state: &State, queries: &Queries) -> GetTraceResponse {
        let [from, to] = self.ips;
        let outside = TraceEnd { address: to.to_string(), ..TraceEnd::default() };
        let destination = self.destination.as_deref().map(|end| {
            let message = end.message(state, Some(self.family));
            TraceEnd { address: to.to_string(), ..message }
        });
        let mut response = GetTraceResponse {
            source: Some(self.source.message(state, Some(self.family))),
            destination: Some(destination.unwrap_or(outside)),
            packet: format!("{} from {from} to {to}", self.kind.name()),
            revision: state.revision(),
            ..GetTraceResponse::default()
        };
        let begin = self.begin(state);
        let (chassis, eth_dst) = match begin {
            Ok(begin) => begin,
            Err(Unreachable { reason, advice }) => {
                response.verdict = Some(TraceVerdict {
                    kind: TraceVerdictKind::Dropped.into(),
                    summary: format!("never leaves its source: {reason}"),
                    advice: vec![advice],
                    ..TraceVerdict::default()
                });
                return response;
            }
        };
        let (way, interface) = (self.way(state), interface(&self.source));
        let hops = hop::follow(queries, &chassis, interface, self.packet(eth_dst), &Tracked::new()).await;
        let judged = verdict(state, &hops, &self.source, self.destination.as_deref(), &way);
        response.hops = messages(state, &hops);
        response.notes = self.notes(&hops);
        let delivered = judged.kind() == TraceVerdictKind::Delivered;
        response.verdict = Some(judged);
        if self.reply && delivered {
            self.answer(state, queries, &hops, &mut response).await;
        } else if self.reply {
            response.notes.push("nothing answers what is not delivered to a port".to_owned());
        }
        response
    }

    /// The hypervisor that the packet begins on, and the MAC that its guest sends to.
    fn begin(&self, state: &State) -> Result<(String, Mac), Unreachable> {
        let [from, to] = self.ips;
        let chassis = self.source.chassis(state).ok_or_else(|| Unreachable {
            reason: format!("{} is on no hypervisor", self.source.object(state)),
            advice: "plug it in; `qnctl describe port` shows what it waits for".to_owned(),
        })?;
        let mac = end::next_mac(state, &self.source, from, to, self.destination.as_deref())?;
        Ok((chassis, mac))
    }

    /// Traces the answer of whom the packet was delivered to.
    async fn answer(&self, state: &State, queries: &Queries, hops: &[Hop], response: &mut GetTraceResponse) {
        let delivered = hops.iter().find_map(|hop| {
            hop.exits().find_map(|(to, exit)| match to {
                To::Interface(name) => Some((hop.chassis.clone(), name.clone(), exit.packet.clone()?)),
                _ => None,
            })
        });
        let Some((chassis, interface, packet)) = delivered else { return };
        let answer = TracePacket { ttl: TTL, ..packet.answer() };
        let hops = hop::follow(queries, &chassis, interface, answer, &hop::tracked(hops)).await;
        let way = self.way(state);
        let back = Way {
            source: way.destination,
            destination: way.source,
            labels: [way.labels[1].clone(), way.labels[0].clone()],
            ..way
        };
        let from = self.destination.as_deref().unwrap_or(&self.source);
        response.reply_verdict = Some(verdict(state, &hops, from, Some(&self.source), &back));
        response.reply_hops = messages(state, &hops);
    }

    fn notes(&self, hops: &[Hop]) -> Vec<String> {
        let mut notes = Vec::new();
        let answers = || hops.iter().filter_map(|hop| hop.result.as_ref().ok());
        let connections =
            || answers().flat_map(|answer| &answer.passes).filter_map(|pass| pass.connection.as_ref());
        if connections().next().is_some() && connections().all(|connection| !connection.known) {
            notes.push(if self.within {
                "no switch on the way has this connection: the packet was taken to begin it".to_owned()
            } else {
                "the packet was taken to begin a new connection; with a source port an open one is looked up"
                    .to_owned()
            });
        }
        let groups = answers().flat_map(|answer| &answer.passes).flat_map(|pass| &pass.steps);
        if groups.flat_map(|step| &step.actions).any(|action| action.starts_with("group:")) {
            notes.push(
                "of several equal routes one is shown; which one a packet takes follows from a hash"
                    .to_owned(),
            );
        }
        if hops.len() > 1 {
            notes.push(
                "what is between hypervisors, such as firewalls of the underlay, is not looked at".to_owned(),
            );
        }
        notes
    }
}

/// The iface-id of the interface that a port's packets come by: of a nested port its parent's.
fn interface(end: &End) -> String {
    end.binding.parent_port.as_ref().unwrap_or(&end.binding.logical_port).to_string()
}

fn messages(state: &State, hops: &[Hop]) -> Vec<TraceHop> {
    hops.iter().map(|hop| steps::hop(state, hop)).collect()
}

/// As most systems begin.
const TTL: u32 = 64;
