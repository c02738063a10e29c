//! `CounterService`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use quantumnet_api::v1::{
    AclRecord, Drop, ExplainedObject, ListRuleCountersRequest, ListRuleCountersResponse, LoggedPacket,
    RuleCounter, WatchDropsRequest, WatchDropsResponse, counter_service_server::CounterService,
};
use quantumnet_model::{
    Row, Strong, Uuid,
    intent::{Port, Project, SecurityGroup, SecurityPolicy, VirtualNetwork},
    nb::{Acl, LogicalSwitch, LogicalSwitchPort, PortGroup},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    agents::now_ms,
    counters::{self, Drops, Seen, Sum},
    explain::object::Object,
    lower::{
        owner::PROJECT,
        security::{self, STAGED},
    },
    service::{
        Api, Kind, Verb,
        authorize::Call,
        error,
        object::{self, find, project_of},
    },
    store::{Class, Refusal, State},
};

/// Rules of one answer, at most.
const RULES_MAX: usize = 10_000;
/// Time between two answers of a watch, if none is named, and the least.
const INTERVAL_MS: u32 = 1_000;
/// The most.
const INTERVAL_MAX_MS: u32 = 3_600_000;
/// Answers that wait for a client.
const ANSWERS_MAX: usize = 4;
/// Drops of one answer: two MiB, as long as names are.
const DROPS_MAX: usize = 4_096;

#[tonic::async_trait]
impl CounterService for Api {
    async fn list_rule_counters(
        &self,
        request: Request<ListRuleCountersRequest>,
    ) -> Result<Response<ListRuleCountersResponse>, Status> {
        let (call, request) =
            self.enter(request, Verb::Read, Kind::SecurityGroup, |request| &request.project)?;
        let state = self.read().await?;
        let acls = wanted(&call, &state, &request).map_err(error::refused)?;
        let context = self.context();
        let (sums, missing) = counters::rules(&context.queries, &context.agents, &acls).await;
        let mut rules: Vec<RuleCounter> = acls
            .iter()
            .filter_map(|acl| {
                Some(rule(*acl, state.get(*acl)?, &state, sums.get(acl).copied().unwrap_or_default()))
            })
            .collect();
        rules.sort_by(|a, b| order(a).cmp(&order(b)));
        Ok(Response::new(ListRuleCountersResponse { rules, missing }))
    }

    type WatchDropsStream = ReceiverStream<Result<WatchDropsResponse, Status>>;

    async fn watch_drops(
        &self,
        request: Request<WatchDropsRequest>,
    ) -> Result<Response<Self::WatchDropsStream>, Status> {
        let (call, request) =
            self.enter(request, Verb::Read, Kind::SecurityGroup, |request| &request.project)?;
        let interval = match request.interval_ms {
            0 => INTERVAL_MS,
            given @ INTERVAL_MS..=INTERVAL_MAX_MS => given,
            given => {
                let message = format!("{given} is not from {INTERVAL_MS} to {INTERVAL_MAX_MS}");
                return Err(error::refused(error::invalid("interval_ms", "INTERVAL_INVALID", message)));
            }
        };
        let state = self.read().await?;
        let scope = Scope::of(&call, &state, &request).map_err(error::refused)?;
        let place = self.followers().clone().try_acquire_owned().map_err(|_| {
            let message = "as many clients follow drops as one controller serves; ask another, or later";
            Status::resource_exhausted(message)
        })?;
        let (sender, receiver) = mpsc::channel(ANSWERS_MAX);
        let api = self.clone();
        let interval = Duration::from_millis(interval.into());
        tokio::spawn(async move {
            let _place = place;
            let follow = follow(&api, &scope, &request.node, interval, request.once, &sender);
            // One who went away is not asked for any more.
            tokio::select! {
                () = follow => {}
                () = sender.closed() => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// The ACLs that a request is about.
fn wanted(call: &Call, state: &State, request: &ListRuleCountersRequest) -> Result<Vec<Uuid>, Refusal> {
    let mut acls: BTreeSet<Uuid> = BTreeSet::new();
    let mut narrow = false;
    if request.group.is_some() {
        let group = find::<SecurityGroup>(state, request.group.as_ref(), "group")?;
        call.may(&project_id(state.get::<SecurityGroup>(group).map(|row| row.project)))?;
        acls.extend(security::acls_of_group(state, group));
        narrow = true;
    }
    if request.policy.is_some() {
        let policy = find::<SecurityPolicy>(state, request.policy.as_ref(), "policy")?;
        call.may(&project_id(state.get::<SecurityPolicy>(policy).map(|row| row.project)))?;
        acls.extend(security::acls_of_policy(state, policy));
        narrow = true;
    }
    for (place, text) in request.acls.iter().enumerate() {
        let acl = text.parse::<Uuid>().ok();
        let Some((acl, row)) = acl.and_then(|acl| Some((acl, state.get::<Acl>(acl)?))) else {
            let message = format!("there is no ACL {text:?}");
            let at = format!("acls[{place}]");
            return Err(Refusal::service(Class::NotFound, "NOT_FOUND", message).at(at));
        };
        call.may(row.external_ids.get(PROJECT).map_or("", |project| project))?;
        acls.insert(acl);
        narrow = true;
    }
    if !narrow {
        let project = match request.project.as_str() {
            "" => None,
            text => Some(project_of(state, text, "project")?.to_string()),
        };
        call.may(project.as_deref().unwrap_or_default())?;
        let ours = |row: &Acl| match &project {
            Some(project) => row.external_ids.get(PROJECT).is_some_and(|of| **of == **project),
            None => true,
        };
        acls.extend(state.iter::<Acl>().filter(|(_, row)| ours(row)).map(|(acl, _)| acl).take(RULES_MAX + 1));
    }
    if acls.len() > RULES_MAX {
        let message = format!("there are more than {RULES_MAX} rules; name a group, a policy or a project");
        return Err(Refusal::service(Class::ResourceExhausted, "TOO_MANY_RULES", message));
    }
    Ok(acls.into_iter().collect())
}

fn project_id(project: Option<Strong<Project>>) -> String {
    project.map(|project| project.uuid().to_string()).unwrap_or_default()
}

fn rule(acl: Uuid, row: &Acl, state: &State, sum: Sum) -> RuleCounter {
    let staged = row.external_ids.get(STAGED);
    RuleCounter {
        rule: Some(Object::of(state, Acl::TABLE, acl).message()),
        direction: row.direction.to_string(),
        action: staged.unwrap_or(&row.action).to_string(),
        staged: staged.is_some(),
        tier: row.tier,
        priority: row.priority,
        packets: sum.packets,
        bytes: sum.bytes,
        last_hit: time(sum.last_ms),
        hypervisors: sum.hypervisors,
    }
}

/// As they are asked, whose they are first.
fn order(counter: &RuleCounter) -> (&str, &str, &str, &str, i64, i64, &str) {
    let rule = counter.rule.as_ref();
    let part = |of: fn(&ExplainedObject) -> &str| rule.map(of).unwrap_or_default();
    (
        part(|rule| &rule.kind),
        part(|rule| &rule.project),
        part(|rule| &rule.name),
        &counter.direction,
        counter.tier,
        -counter.priority,
        part(|rule| &rule.row),
    )
}

fn time(ms: u64) -> Option<prost_types::Timestamp> {
    (ms > 0).then(|| object::timestamp(i64::try_from(ms).unwrap_or(i64::MAX)))
}

/// Tells a client again and again.
async fn follow(
    api: &Api,
    scope: &Scope,
    node: &str,
    interval: Duration,
    once: bool,
    out: &mpsc::Sender<Result<WatchDropsResponse, Status>>,
) {
    let context = api.context();
    let mut drops = Drops::default();
    let mut baseline = true;
    loop {
        let next = Instant::now() + interval;
        let seen = drops.next(&context.queries, &context.agents, node).await;
        for part in parts(answer(scope, &context.replica.state(), seen, baseline)) {
            if out.send(Ok(part)).await.is_err() {
                return;
            }
        }
        if once {
            return;
        }
        baseline = false;
        sleep_until(next).await;
    }
}

fn answer(scope: &Scope, state: &State, seen: Seen, baseline: bool) -> WatchDropsResponse {
    let mut ports = Ports { state, known: BTreeMap::new() };
    let mut drops = Vec::new();
    for (node, count) in seen.drops {
        let row = Uuid::from_slice(&count.row).ok();
        let (acl, port) = match row {
            Some(row) if count.row_table == Acl::NAME => (Some(row), None),
            row => (None, row.map(|row| ports.of(row))),
        };
        if !scope.covers(state, acl, port.as_ref()) {
            continue;
        }
        let by = row.and_then(|row| Object::named(state, &count.row_table, row));
        let action = acl.and_then(|acl| state.get::<Acl>(acl)).map(|row| row.action.to_string());
        drops.push(Drop {
            node,
            reason: count.reason,
            table: count.table,
            by: by.map(|by| by.message()),
            action: action.unwrap_or_default(),
            packets: count.packets,
            bytes: count.bytes,
        });
    }
    let mut records = Vec::new();
    for (node, record) in seen.records {
        let port = ports.named(&record.port);
        if scope.covers(state, None, port.as_ref()) {
            let shown = port.as_ref().map(|port| port.shown.clone());
            records.push(logged(node, record, shown));
        }
    }
    let at = time(u64::try_from(now_ms()).unwrap_or_default());
    WatchDropsResponse { at, baseline, drops, records, missing: seen.missing }
}

/// An answer in parts that clients take: what a message may hold is theirs to say, mostly 4 MiB.
fn parts(mut answer: WatchDropsResponse) -> Vec<WatchDropsResponse> {
    let mut parts = Vec::new();
    while answer.drops.len() > DROPS_MAX {
        let rest = answer.drops.split_off(DROPS_MAX);
        let drops = std::mem::replace(&mut answer.drops, rest);
        parts.push(WatchDropsResponse {
            at: answer.at,
            baseline: answer.baseline,
            drops,
            ..WatchDropsResponse::default()
        });
    }
    parts.push(answer);
    parts
}

fn logged(node: String, record: LoggedPacket, port: Option<String>) -> AclRecord {
    AclRecord {
        node,
        at: time(record.at_ms),
        name: record.name,
        verdict: record.verdict,
        severity: record.severity,
        direction: record.direction,
        port: port.unwrap_or(record.port),
        protocol: record.protocol,
        src: record.src,
        dst: record.dst,
        src_port: record.src_port,
        dst_port: record.dst_port,
    }
}

/// A port, and what it belongs to.
#[derive(Clone)]
struct Named {
    port: Uuid,
    switch: Option<Uuid>,
    project: Option<Uuid>,
    /// As people call it.
    shown: String,
}

/// Ports that were looked up.
struct Ports<'a> {
    state: &'a State,
    known: BTreeMap<String, Option<Named>>,
}

impl Ports<'_> {
    fn of(&self, port: Uuid) -> Named {
        let row = self.state.get::<Port>(port);
        let northbound = || self.state.get::<LogicalSwitchPort>(port).map(|row| row.name.to_string());
        let shown = row.map(|row| row.name.to_string()).or_else(northbound).unwrap_or_default();
        let mut switches = self.state.referrers_through::<LogicalSwitchPort, LogicalSwitch>(port, "ports");
        Named { port, switch: switches.next(), project: row.map(|row| row.project.uuid()), shown }
    }

    /// By the name that agents call it.
    fn named(&mut self, name: &str) -> Option<Named> {
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        let port = self.state.find::<LogicalSwitchPort>(&[("name", name.into())]);
        let found = port.map(|port| self.of(port));
        self.known.insert(name.to_owned(), found.clone());
        found
    }
}

/// What a client wants to see.
struct Scope {
    project: Option<Uuid>,
    network: Option<Uuid>,
    port: Option<Uuid>,
}

impl Scope {
    fn of(call: &Call, state: &State, request: &WatchDropsRequest) -> Result<Self, Refusal> {
        let project = match request.project.as_str() {
            "" => None,
            text => Some(project_of(state, text, "project")?),
        };
        let network = match &request.network {
            None => None,
            some => Some(find::<VirtualNetwork>(state, some.as_ref(), "network")?),
        };
        let port = match &request.port {
            None => None,
            some => Some(find::<Port>(state, some.as_ref(), "port")?),
        };
        let of_network = network.and_then(|network| state.get::<VirtualNetwork>(network));
        let of_port = port.and_then(|port| state.get::<Port>(port));
        let owners =
            [of_network.map(|row| row.project.uuid()), of_port.map(|row| row.project.uuid()), project];
        let owners: BTreeSet<Uuid> = owners.into_iter().flatten().collect();
        if owners.is_empty() {
            call.may("")?;
        }
        owners.iter().try_for_each(|project| call.may(&project.to_string()))?;
        Ok(Self { project, network, port })
    }

    fn covers(&self, state: &State, acl: Option<Uuid>, port: Option<&Named>) -> bool {
        if self.project.is_none() && self.network.is_none() && self.port.is_none() {
            return true;
        }
        match acl {
            Some(acl) => self.covers_rule(state, acl),
            None => port.is_some_and(|port| self.covers_port(port)),
        }
    }

    fn covers_port(&self, port: &Named) -> bool {
        self.project.is_none_or(|project| port.project == Some(project))
            && self.network.is_none_or(|network| port.switch == Some(network))
            && self.port.is_none_or(|wanted| port.port == wanted)
    }

    fn covers_rule(&self, state: &State, acl: Uuid) -> bool {
        let Some(row) = state.get::<Acl>(acl) else { return false };
        let of_project = |project: Uuid| {
            row.external_ids.get(PROJECT).is_some_and(|of| of.parse::<Uuid>().is_ok_and(|of| of == project))
        };
        if !self.project.is_none_or(of_project) {
            return false;
        }
        let switches: BTreeSet<Uuid> = state.referrers_through::<Acl, LogicalSwitch>(acl, "acls").collect();
        let groups = state.referrers_through::<Acl, PortGroup>(acl, "acls");
        let groups: Vec<&PortGroup> = groups.filter_map(|group| state.get::<PortGroup>(group)).collect();
        let ports_of = |switch: Uuid| state.get::<LogicalSwitch>(switch).map(|row| &row.ports);
        let at_network = |network: Uuid| {
            let Some(ports) = ports_of(network) else { return false };
            let has =
                |group: &&PortGroup| group.ports.iter().any(|port| ports.contains(&Strong::new(port.uuid())));
            switches.contains(&network) || groups.iter().any(has)
        };
        let at_port = |port: Uuid| {
            let mut of = state.referrers_through::<LogicalSwitchPort, LogicalSwitch>(port, "ports");
            let has = |group: &&PortGroup| group.ports.iter().any(|member| member.uuid() == port);
            of.any(|switch| switches.contains(&switch)) || groups.iter().any(has)
        };
        self.network.is_none_or(at_network) && self.port.is_none_or(at_port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_drops_come_in_parts() {
        let drop = |packets| Drop { packets, ..Drop::default() };
        let count = 2 * DROPS_MAX as u64 + 1;
        let answer = WatchDropsResponse {
            baseline: true,
            drops: (0..count).map(drop).collect(),
            missing: vec!["hv2".to_owned()],
            ..WatchDropsResponse::default()
        };
        let parts = parts(answer);
        let sizes: Vec<usize> = parts.iter().map(|part| part.drops.len()).collect();
        assert_eq!(sizes, [DROPS_MAX, DROPS_MAX, 1]);
        assert!(parts.iter().all(|part| part.baseline));
        assert!(parts.iter().flat_map(|part| &part.drops).map(|drop| drop.packets).eq(0..count));
        assert_eq!(parts.iter().map(|part| part.missing.len()).collect::<Vec<_>>(), [0, 0, 1]);
    }
}
