//! A packet's way over hypervisors: what each agent answered, in order.
//!
//! # Contract
//! - In: where the packet begins. Out: its hops, each as its agent traced it, or why that agent gave no answer. What an agent
//!   sends into a tunnel is asked of the agent at the other end.
//! - An agent's answer is a guest's as far as trust goes: it is bounded, and names of what it says are looked up, not believed.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use quantumnet_api::v1::{
    TraceAnswer, TraceExit, TracePacket, TraceQuery, TraceTracked, TraceTunnel, trace_exit::To,
    trace_query::From,
};

use crate::agents::{AskError, Queries};

/// The packet on one hypervisor.
#[derive(Debug)]
pub(crate) struct Hop {
    pub(crate) chassis: String,
    /// The hypervisor whose tunnel it came by.
    pub(crate) over: Option<String>,
    pub(crate) result: Result<TraceAnswer, AskError>,
}

/// Connections that hypervisors are to take to be there, by their name.
pub(crate) type Tracked = BTreeMap<String, Vec<TraceTracked>>;

impl Hop {
    /// What left by something.
    pub(crate) fn exits(&self) -> impl Iterator<Item = (&To, &TraceExit)> {
        let answer = self.result.as_ref().ok();
        answer.into_iter().flat_map(|answer| &answer.exits).filter_map(|exit| Some((exit.to.as_ref()?, exit)))
    }
}

/// Connections that a packet would leave on its way.
pub(crate) fn tracked(hops: &[Hop]) -> Tracked {
    let mut all = Tracked::new();
    for hop in hops {
        let made = hop.result.as_ref().map(|answer| answer.tracked.clone()).unwrap_or_default();
        all.entry(hop.chassis.clone()).or_default().extend(made.into_iter().take(TRACKED_MAX));
    }
    all
}

/// Follows a packet from an interface on.
pub(crate) async fn follow(
    queries: &Queries,
    chassis: &str,
    interface: String,
    packet: TracePacket,
    tracked: &Tracked,
) -> Vec<Hop> {
    let mut hops: Vec<Hop> = Vec::new();
    let mut queue = VecDeque::from([(chassis.to_owned(), From::Interface(interface), packet)]);
    while let Some((chassis, from, packet)) = queue.pop_front() {
        if hops.len() >= HOPS_MAX {
            if let Some(Ok(answer)) = hops.last_mut().map(|hop| &mut hop.result) {
                answer.cut = format!("it goes to more than {HOPS_MAX} hypervisors");
            }
            break;
        }
        let over = if let From::Tunnel(tunnel) = &from { Some(tunnel.chassis.clone()) } else { None };
        let query = TraceQuery {
            from: Some(from),
            packet: Some(packet),
            tracked: tracked.get(&chassis).cloned().unwrap_or_default(),
        };
        let result = queries.ask(&chassis, query, WITHIN).await;
        let hop = Hop { chassis, over, result };
        for (to, exit) in hop.exits() {
            if let To::Tunnel(tunnel) = to {
                let here = TraceTunnel { chassis: hop.chassis.clone(), ..tunnel.clone() };
                let packet = exit.packet.clone().unwrap_or_default();
                queue.push_back((tunnel.chassis.clone(), From::Tunnel(here), packet));
            }
        }
        hops.push(hop);
    }
    hops
}

/// Hypervisors that one packet is followed on.
const HOPS_MAX: usize = 12;
/// Connections of one hypervisor that are remembered for the answer.
const TRACKED_MAX: usize = 32;
/// How long an agent has, and its switch with it.
const WITHIN: Duration = Duration::from_secs(20);
