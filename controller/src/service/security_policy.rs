//! `SecurityPolicyService`.

use quantumnet_api::v1::{
    CreateSecurityPolicyRequest, DeleteSecurityPolicyRequest, DeleteSecurityPolicyResponse,
    GetSecurityPolicyRequest, ListSecurityPoliciesRequest, ListSecurityPoliciesResponse, PolicyIsolation,
    PolicyOrder, SecurityPolicy, SecurityPolicySpec, SecurityPolicyStatus, SelectorStatus,
    UpdateSecurityPolicyRequest, WatchSecurityPoliciesRequest, WatchSecurityPoliciesResponse,
    security_policy_service_server::SecurityPolicyService,
};
use quantumnet_model::{
    Strong, Uuid,
    intent::{Project, SecurityPolicy as Row, SecurityPolicyRule},
};
use tonic::{Request, Response, Status};

use crate::{
    lower::security,
    replica::SYSTEM_PROJECT,
    service::{
        Api, Kind, Verb,
        authorize::Call,
        error, list,
        meta::{self, Meta},
        object::{self, expect_revision, find, project_of},
        repeat::Repeat,
        security_rules, watch,
    },
    store::{Refusal, State, Txn},
};

const PATHS: &[&str] = &[
    "meta.name",
    "meta.description",
    "meta.labels",
    "spec.order",
    "spec.priority",
    "spec.staged",
    "spec.isolate",
    "spec.rules",
];
const PRIORITY_MAX: u32 = 100;
const ORDERS: [(PolicyOrder, &str); 4] = [
    (PolicyOrder::Unspecified, ""),
    (PolicyOrder::Platform, "platform"),
    (PolicyOrder::Project, "project"),
    (PolicyOrder::Default, "default"),
];
const ISOLATIONS: [(PolicyIsolation, &str); 4] = [
    (PolicyIsolation::Unspecified, ""),
    (PolicyIsolation::Nothing, "nothing"),
    (PolicyIsolation::Destinations, "destinations"),
    (PolicyIsolation::Both, "both"),
];

#[tonic::async_trait]
impl SecurityPolicyService for Api {
    async fn create_security_policy(
        &self,
        request: Request<CreateSecurityPolicyRequest>,
    ) -> Result<Response<SecurityPolicy>, Status> {
        let (call, request) = self.enter(request, Verb::Create, Kind::SecurityPolicy, |request| {
            project_named(request.policy.as_ref())
        })?;
        let repeat = Repeat::new(&call, "CreateSecurityPolicy", &request);
        let policy = request.policy.unwrap_or_default();
        let meta = Meta::parse(policy.meta).map_err(error::refused)?;
        let spec = policy.spec.unwrap_or_default();
        let rules = security_rules::of_policy(&spec.rules).map_err(error::refused)?;
        let mut row = Row::default();
        plain(&mut row, &spec, &|_| true).map_err(error::refused)?;
        let door = call.clone();
        let make = move |txn: &mut Txn<'_>| {
            let project = project_of(txn.state(), &meta.project, "meta.project")?;
            door.may(&project.to_string())?;
            let uuid = meta.free_id::<Row>(txn)?;
            meta::free_name::<Row>(txn, Some(project), &meta.name, uuid)?;
            meta.stamp(txn, &mut row);
            row.project = Strong::new(project);
            row.rules = security_rules::keep(txn, &row.rules, rules);
            refuse_misplaced(txn, &row)?;
            txn.insert(uuid, row)?;
            Ok(uuid)
        };
        let (_, uuid) = self
            .write(&call, move |txn| repeat.once(txn, |txn, uuid| txn.get::<Row>(uuid).is_some(), make))
            .await?;
        self.answer::<Row>(uuid)
    }

    async fn get_security_policy(
        &self,
        request: Request<GetSecurityPolicyRequest>,
    ) -> Result<Response<SecurityPolicy>, Status> {
        let (call, request) = self.enter(request, Verb::Read, Kind::SecurityPolicy, |request| {
            request.policy.as_ref().map_or("", |policy| &policy.project)
        })?;
        let state = self.read().await?;
        let uuid = find::<Row>(&state, request.policy.as_ref(), "policy").map_err(error::refused)?;
        owned(&call, &state, uuid).map_err(error::refused)?;
        self.answer_from::<Row>(&state, uuid)
    }

    async fn list_security_policies(
        &self,
        request: Request<ListSecurityPoliciesRequest>,
    ) -> Result<Response<ListSecurityPoliciesResponse>, Status> {
        let (call, request) = self.enter(request, Verb::Read, Kind::SecurityPolicy, |request| {
            request.options.as_ref().map_or("", |options| &options.project)
        })?;
        let state = self.read().await?;
        let page = list::objects::<Row>(&state, &call, request.options).map_err(error::refused)?;
        let (policies, next_page_token, revision) = (page.objects, page.next_page_token, page.revision);
        Ok(Response::new(ListSecurityPoliciesResponse { policies, next_page_token, revision }))
    }

    async fn update_security_policy(
        &self,
        request: Request<UpdateSecurityPolicyRequest>,
    ) -> Result<Response<SecurityPolicy>, Status> {
        let (call, request) = self.enter(request, Verb::Update, Kind::SecurityPolicy, |request| {
            project_named(request.policy.as_ref())
        })?;
        let repeat = Repeat::new(&call, "UpdateSecurityPolicy", &request);
        let covers = meta::mask(request.update_mask, PATHS).map_err(error::refused)?;
        let policy = request.policy.unwrap_or_default();
        let (meta, spec) = (policy.meta.unwrap_or_default(), policy.spec.unwrap_or_default());
        let rules = security_rules::of_policy(&spec.rules).map_err(error::refused)?;
        let door = call.clone();
        let change = move |txn: &mut Txn<'_>| {
            let uuid = find::<Row>(txn.state(), Some(&super::reference_of(&meta)), "policy.meta")?;
            owned(&door, txn.state(), uuid)?;
            expect_revision::<Row>(txn, uuid, request.expected_revision)?;
            let mut row = txn.get::<Row>(uuid).cloned().unwrap_or_default();
            meta::apply(txn, uuid, &mut row, &meta, &covers)?;
            plain(&mut row, &spec, &covers)?;
            let before = txn.touched().len();
            if covers("spec.rules") {
                row.rules = security_rules::keep(txn, &row.rules, rules);
            }
            refuse_misplaced(txn, &row)?;
            // Rules are rows of their own; a change of one is a change of the policy.
            let forced = txn.touched().len() != before;
            object::rewrite_if(txn, uuid, row, forced);
            Ok(uuid)
        };
        let (_, uuid) = self
            .write(&call, move |txn| repeat.once(txn, |txn, uuid| txn.get::<Row>(uuid).is_some(), change))
            .await?;
        self.answer::<Row>(uuid)
    }

    async fn delete_security_policy(
        &self,
        request: Request<DeleteSecurityPolicyRequest>,
    ) -> Result<Response<DeleteSecurityPolicyResponse>, Status> {
        let (call, request) = self.enter(request, Verb::Delete, Kind::SecurityPolicy, |request| {
            request.policy.as_ref().map_or("", |policy| &policy.project)
        })?;
        let repeat = Repeat::new(&call, "DeleteSecurityPolicy", &request);
        let door = call.clone();
        let delete = move |txn: &mut Txn<'_>| {
            let uuid = find::<Row>(txn.state(), request.policy.as_ref(), "policy")?;
            owned(&door, txn.state(), uuid)?;
            expect_revision::<Row>(txn, uuid, request.expected_revision)?;
            txn.delete::<Row>(uuid);
            Ok(uuid)
        };
        let (revision, _) = self.write(&call, move |txn| repeat.once(txn, |_, _| true, delete)).await?;
        Ok(Response::new(DeleteSecurityPolicyResponse { revision }))
    }

    type WatchSecurityPoliciesStream = watch::Events<WatchSecurityPoliciesResponse>;

    async fn watch_security_policies(
        &self,
        request: Request<WatchSecurityPoliciesRequest>,
    ) -> Result<Response<Self::WatchSecurityPoliciesStream>, Status> {
        let (call, request) = self.enter(request, Verb::Read, Kind::SecurityPolicy, |request| {
            request.options.as_ref().map_or("", |options| &options.project)
        })?;
        let make = |kind, policy, resume| WatchSecurityPoliciesResponse { kind: kind as i32, policy, resume };
        watch::start::<Row, _>(self, call, request.options, make).await.map(Response::new)
    }
}

/// The policy as clients are sent it.
pub(super) fn message(row: &Row, uuid: Uuid, state: &State) -> SecurityPolicy {
    let order = ORDERS
        .iter()
        .find(|(_, word)| *word == &*row.order)
        .map_or(PolicyOrder::Unspecified, |(order, _)| *order);
    let isolate = ISOLATIONS.iter().find(|(_, word)| *word == &*row.isolate);
    let selectors = security::selected(state, uuid).into_iter();
    SecurityPolicy {
        meta: Some(object::meta(row, uuid)),
        spec: Some(SecurityPolicySpec {
            order: order as i32,
            priority: u32::try_from(row.priority).unwrap_or(0),
            staged: row.staged,
            isolate: isolate.map_or(PolicyIsolation::Unspecified, |(isolate, _)| *isolate) as i32,
            rules: security_rules::policy_messages(state, &row.rules),
        }),
        status: Some(SecurityPolicyStatus {
            selectors: selectors
                .map(|(selector, port_count)| SelectorStatus { selector: selector.to_string(), port_count })
                .collect(),
        }),
    }
}

/// Columns that need no look at other objects.
fn plain(row: &mut Row, spec: &SecurityPolicySpec, covers: &dyn Fn(&str) -> bool) -> Result<(), Refusal> {
    if covers("spec.order") {
        let known = ORDERS.iter().find(|(order, _)| *order as i32 == spec.order);
        row.order = known.map(|(_, word)| (*word).into()).ok_or_else(|| {
            let message = format!("unknown order {}; use PLATFORM, PROJECT or DEFAULT", spec.order);
            error::invalid("spec.order", "ORDER_INVALID", message)
        })?;
    }
    if covers("spec.priority") {
        if spec.priority > PRIORITY_MAX {
            let message = format!("{} is too high, expected 0 to {PRIORITY_MAX}", spec.priority);
            return Err(error::invalid("spec.priority", "PRIORITY_INVALID", message));
        }
        row.priority = spec.priority.into();
    }
    if covers("spec.staged") {
        row.staged = spec.staged;
    }
    if covers("spec.isolate") {
        let known = ISOLATIONS.iter().find(|(isolate, _)| *isolate as i32 == spec.isolate);
        row.isolate = known.map(|(_, word)| (*word).into()).ok_or_else(|| {
            let message = format!("unknown isolation {}; use NOTHING, DESTINATIONS or BOTH", spec.isolate);
            error::invalid("spec.isolate", "ISOLATION_INVALID", message)
        })?;
    }
    Ok(())
}

/// Refuses an order that is not for policies of the project, and rules that pass where nobody is asked after them.
fn refuse_misplaced(txn: &Txn<'_>, row: &Row) -> Result<(), Refusal> {
    let system =
        txn.get::<Project>(row.project.uuid()).is_some_and(|project| &*project.name == SYSTEM_PROJECT);
    let message = match &*row.order {
        "platform" if !system => {
            format!(
                "PLATFORM is for policies of project {SYSTEM_PROJECT}; use PROJECT or DEFAULT, or make it there"
            )
        }
        "project" if system => {
            format!("policies of project {SYSTEM_PROJECT} are for all projects; use PLATFORM or DEFAULT")
        }
        "default" => {
            let passes = |rule: &Strong<SecurityPolicyRule>| {
                txn.get::<SecurityPolicyRule>(rule.uuid())
                    .filter(|rule| &*rule.action == "pass")
                    .map(|rule| rule.position)
            };
            let Some(place) = row.rules.iter().filter_map(passes).min() else { return Ok(()) };
            let message = "PASS leaves traffic to later orders, and DEFAULT is the last; use ALLOW, or leave the rule out";
            return Err(error::invalid(format!("spec.rules[{place}].action"), "ACTION_INVALID", message));
        }
        _ => return Ok(()),
    };
    Err(error::invalid("spec.order", "ORDER_INVALID", message))
}

fn owned(call: &Call, state: &State, uuid: Uuid) -> Result<(), Refusal> {
    let project = state.get::<Row>(uuid).map(|row| row.project.uuid().to_string()).unwrap_or_default();
    call.may(&project)
}

fn project_named(policy: Option<&SecurityPolicy>) -> &str {
    policy.and_then(|policy| policy.meta.as_ref()).map_or("", |meta| &meta.project)
}
