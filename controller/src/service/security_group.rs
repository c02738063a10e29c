//! `SecurityGroupService`.

use quantumnet_api::v1::{
    CreateSecurityGroupRequest, DeleteSecurityGroupRequest, DeleteSecurityGroupResponse,
    GetSecurityGroupRequest, ListSecurityGroupsRequest, ListSecurityGroupsResponse, SecurityGroup,
    SecurityGroupSpec, SecurityGroupStatus, UpdateSecurityGroupRequest, WatchSecurityGroupsRequest,
    WatchSecurityGroupsResponse, security_group_service_server::SecurityGroupService,
};
use quantumnet_model::{
    Strong, Uuid,
    intent::{Port, SecurityGroup as Row, SecurityGroupRule, VirtualNetwork},
    nb::PortGroup,
};
use tonic::{Request, Response, Status};

use crate::{
    lower::{address::NAMED_MAX, security},
    service::{
        Api, Kind, Verb,
        authorize::Call,
        error, list,
        meta::{self, Meta},
        network::refuse_system,
        object::{self, expect_revision, find, named, project_of},
        repeat::Repeat,
        security_rules::{self, NO_PASS, action, action_message},
        watch,
    },
    store::{Class, Refusal, State, Txn},
};

const PATHS: &[&str] = &[
    "meta.name",
    "meta.description",
    "meta.labels",
    "spec.rules",
    "spec.default_ingress",
    "spec.default_egress",
    "spec.stateless",
];

#[tonic::async_trait]
impl SecurityGroupService for Api {
    async fn create_security_group(
        &self,
        request: Request<CreateSecurityGroupRequest>,
    ) -> Result<Response<SecurityGroup>, Status> {
        let (call, request) = self.enter(request, Verb::Create, Kind::SecurityGroup, |request| {
            project_named(request.group.as_ref())
        })?;
        let repeat = Repeat::new(&call, "CreateSecurityGroup", &request);
        let group = request.group.unwrap_or_default();
        let meta = Meta::parse(group.meta).map_err(error::refused)?;
        let spec = group.spec.unwrap_or_default();
        let rules = security_rules::of_group(&spec.rules).map_err(error::refused)?;
        let mut row = Row::default();
        plain(&mut row, &spec, &|_| true).map_err(error::refused)?;
        let door = call.clone();
        let make = move |txn: &mut Txn<'_>| {
            let project = project_of(txn.state(), &meta.project, "meta.project")?;
            door.may(&project.to_string())?;
            refuse_system(txn.state(), project)?;
            let uuid = meta.free_id::<Row>(txn)?;
            meta::free_name::<Row>(txn, Some(project), &meta.name, uuid)?;
            meta.stamp(txn, &mut row);
            row.project = Strong::new(project);
            let rules = security_rules::with_groups(txn.state(), project, (&meta.name, uuid), rules)?;
            row.rules = security_rules::keep(txn, &row.rules, rules);
            txn.insert(uuid, row)?;
            Ok(uuid)
        };
        let (_, uuid) = self
            .write(&call, move |txn| repeat.once(txn, |txn, uuid| txn.get::<Row>(uuid).is_some(), make))
            .await?;
        self.answer::<Row>(uuid)
    }

    async fn get_security_group(
        &self,
        request: Request<GetSecurityGroupRequest>,
    ) -> Result<Response<SecurityGroup>, Status> {
        let (call, request) = self.enter(request, Verb::Read, Kind::SecurityGroup, |request| {
            request.group.as_ref().map_or("", |group| &group.project)
        })?;
        let state = self.read().await?;
        let uuid = find::<Row>(&state, request.group.as_ref(), "group").map_err(error::refused)?;
        owned(&call, &state, uuid).map_err(error::refused)?;
        self.answer_from::<Row>(&state, uuid)
    }

    async fn list_security_groups(
        &self,
        request: Request<ListSecurityGroupsRequest>,
    ) -> Result<Response<ListSecurityGroupsResponse>, Status> {
        let (call, request) = self.enter(request, Verb::Read, Kind::SecurityGroup, |request| {
            request.options.as_ref().map_or("", |options| &options.project)
        })?;
        let state = self.read().await?;
        let page = list::objects::<Row>(&state, &call, request.options).map_err(error::refused)?;
        let (groups, next_page_token, revision) = (page.objects, page.next_page_token, page.revision);
        Ok(Response::new(ListSecurityGroupsResponse { groups, next_page_token, revision }))
    }

    async fn update_security_group(
        &self,
        request: Request<UpdateSecurityGroupRequest>,
    ) -> Result<Response<SecurityGroup>, Status> {
        let (call, request) = self.enter(request, Verb::Update, Kind::SecurityGroup, |request| {
            project_named(request.group.as_ref())
        })?;
        let repeat = Repeat::new(&call, "UpdateSecurityGroup", &request);
        let covers = meta::mask(request.update_mask, PATHS).map_err(error::refused)?;
        let group = request.group.unwrap_or_default();
        let (meta, spec) = (group.meta.unwrap_or_default(), group.spec.unwrap_or_default());
        let rules = security_rules::of_group(&spec.rules).map_err(error::refused)?;
        let door = call.clone();
        let change = move |txn: &mut Txn<'_>| {
            let uuid = find::<Row>(txn.state(), Some(&super::reference_of(&meta)), "group.meta")?;
            owned(&door, txn.state(), uuid)?;
            expect_revision::<Row>(txn, uuid, request.expected_revision)?;
            let mut row = txn.get::<Row>(uuid).cloned().unwrap_or_default();
            meta::apply(txn, uuid, &mut row, &meta, &covers)?;
            plain(&mut row, &spec, &covers)?;
            let before = txn.touched().len();
            if covers("spec.rules") {
                let own = (&*row.name, uuid);
                let rules = security_rules::with_groups(txn.state(), row.project.uuid(), own, rules)?;
                row.rules = security_rules::keep(txn, &row.rules, rules);
            }
            // Rules are rows of their own; a change of one is a change of the group.
            let forced = txn.touched().len() != before;
            object::rewrite_if(txn, uuid, row, forced);
            Ok(uuid)
        };
        let (_, uuid) = self
            .write(&call, move |txn| repeat.once(txn, |txn, uuid| txn.get::<Row>(uuid).is_some(), change))
            .await?;
        self.answer::<Row>(uuid)
    }

    async fn delete_security_group(
        &self,
        request: Request<DeleteSecurityGroupRequest>,
    ) -> Result<Response<DeleteSecurityGroupResponse>, Status> {
        let (call, request) = self.enter(request, Verb::Delete, Kind::SecurityGroup, |request| {
            request.group.as_ref().map_or("", |group| &group.project)
        })?;
        let repeat = Repeat::new(&call, "DeleteSecurityGroup", &request);
        let door = call.clone();
        let delete = move |txn: &mut Txn<'_>| {
            let uuid = find::<Row>(txn.state(), request.group.as_ref(), "group")?;
            owned(&door, txn.state(), uuid)?;
            expect_revision::<Row>(txn, uuid, request.expected_revision)?;
            refuse_used(txn.state(), uuid)?;
            // Its rules would go with it, but one that names the group itself stands in its way until then.
            let rules = txn.get::<Row>(uuid).map(|row| row.rules.clone()).unwrap_or_default();
            txn.delete::<Row>(uuid);
            for rule in &rules {
                txn.delete::<SecurityGroupRule>(rule.uuid());
            }
            Ok(uuid)
        };
        let (revision, _) = self.write(&call, move |txn| repeat.once(txn, |_, _| true, delete)).await?;
        Ok(Response::new(DeleteSecurityGroupResponse { revision }))
    }

    type WatchSecurityGroupsStream = watch::Events<WatchSecurityGroupsResponse>;

    async fn watch_security_groups(
        &self,
        request: Request<WatchSecurityGroupsRequest>,
    ) -> Result<Response<Self::WatchSecurityGroupsStream>, Status> {
        let (call, request) = self.enter(request, Verb::Read, Kind::SecurityGroup, |request| {
            request.options.as_ref().map_or("", |options| &options.project)
        })?;
        let make = |kind, group, resume| WatchSecurityGroupsResponse { kind: kind as i32, group, resume };
        watch::start::<Row, _>(self, call, request.options, make).await.map(Response::new)
    }
}

/// The group as clients are sent it.
pub(super) fn message(row: &Row, uuid: Uuid, state: &State) -> SecurityGroup {
    SecurityGroup {
        meta: Some(object::meta(row, uuid)),
        spec: Some(SecurityGroupSpec {
            rules: security_rules::group_messages(state, &row.rules),
            default_ingress: action_message(&row.default_ingress),
            default_egress: action_message(&row.default_egress),
            stateless: row.stateless,
        }),
        status: Some(SecurityGroupStatus {
            port_count: state.get::<PortGroup>(uuid).map_or(0, |group| group.ports.len() as u64),
            port_group: security::port_group(uuid),
        }),
    }
}

/// The group of `project` that a text names, by name or by id.
pub(super) fn named_in(state: &State, project: Uuid, text: &str, field: &str) -> Result<Uuid, Refusal> {
    let by_id = text.parse::<Uuid>().ok().filter(|uuid| state.get::<Row>(*uuid).is_some());
    let found = by_id.or_else(|| state.find::<Row>(&[("project", project.into()), ("name", text.into())]));
    let Some(uuid) = found else {
        let message =
            format!("there is no security group {text:?} in the project; create it first or name another");
        return Err(Refusal::service(Class::NotFound, "GROUP_NOT_FOUND", message).at(field));
    };
    if state.get::<Row>(uuid).is_none_or(|row| row.project.uuid() != project) {
        let message = format!("security group {text:?} is another project's; name one of the same project");
        return Err(Refusal::service(Class::FailedPrecondition, "GROUP_FOREIGN", message).at(field));
    }
    Ok(uuid)
}

/// The name by which clients are told of a group.
pub(super) fn name_of(state: &State, group: Uuid) -> String {
    state.get::<Row>(group).map_or_else(|| group.to_string(), |row| row.name.to_string())
}

/// Columns that need no look at other objects.
fn plain(row: &mut Row, spec: &SecurityGroupSpec, covers: &dyn Fn(&str) -> bool) -> Result<(), Refusal> {
    if covers("spec.default_ingress") {
        row.default_ingress = action(spec.default_ingress, "spec.default_ingress", NO_PASS)?;
    }
    if covers("spec.default_egress") {
        row.default_egress = action(spec.default_egress, "spec.default_egress", NO_PASS)?;
    }
    if covers("spec.stateless") {
        row.stateless = spec.stateless;
    }
    Ok(())
}

fn refuse_used(state: &State, group: Uuid) -> Result<(), Refusal> {
    let ports = state.referrers_through::<Row, Port>(group, "security_groups");
    let networks = state.referrers_through::<Row, VirtualNetwork>(group, "default_security_group");
    let rules = state.referrers_through::<Row, SecurityGroupRule>(group, "remote_group");
    let groups = rules
        .flat_map(|rule| state.referrers_through::<SecurityGroupRule, Row>(rule, "rules"))
        .filter(|other| *other != group);
    let users: Vec<String> = ports
        .map(|port| named::<Port>(state, port))
        .chain(networks.map(|network| named::<VirtualNetwork>(state, network)))
        .chain(groups.map(|other| named::<Row>(state, other)))
        .collect();
    if users.is_empty() {
        return Ok(());
    }
    let message = format!("the security group is used by {} objects; take it from them first", users.len());
    let blocking: Vec<String> = users.into_iter().take(NAMED_MAX).collect();
    Err(Refusal::service(Class::FailedPrecondition, "GROUP_IN_USE", message).blocked_by(blocking))
}

fn owned(call: &Call, state: &State, uuid: Uuid) -> Result<(), Refusal> {
    let project = state.get::<Row>(uuid).map(|row| row.project.uuid().to_string()).unwrap_or_default();
    call.may(&project)
}

fn project_named(group: Option<&SecurityGroup>) -> &str {
    group.and_then(|group| group.meta.as_ref()).map_or("", |meta| &meta.project)
}
