//! `ProjectService`.

use quantumnet_api::v1::{
    CreateProjectRequest, DeleteProjectRequest, DeleteProjectResponse, GetProjectRequest,
    ListProjectsRequest, ListProjectsResponse, Project, UpdateProjectRequest, WatchProjectsRequest,
    WatchProjectsResponse, project_service_server::ProjectService,
};
use quantumnet_model::{
    Uuid,
    intent::{FloatingIp, Port, Project as Row, Router, SecurityGroup, SecurityPolicy, VirtualNetwork},
};
use tonic::{Request, Response, Status};

use crate::{
    lower::address::NAMED_MAX,
    replica::{DEFAULT_PROJECT, SYSTEM_PROJECT},
    service::{
        Api, Kind, Verb, error, list,
        meta::{self, Meta},
        object::{Object, expect_revision, find, named, rewrite},
        repeat::Repeat,
        watch,
    },
    store::{Class, Refusal, State},
};

const PATHS: &[&str] = &["meta.name", "meta.description", "meta.labels"];

#[tonic::async_trait]
impl ProjectService for Api {
    async fn create_project(
        &self,
        request: Request<CreateProjectRequest>,
    ) -> Result<Response<Project>, Status> {
        let (call, request) = self.enter(request, Verb::Create, Kind::Project, |_| "")?;
        let repeat = Repeat::new(&call, "CreateProject", &request);
        let meta = Meta::parse(request.project.unwrap_or_default().meta).map_err(error::refused)?;
        if !meta.project.is_empty() {
            let refusal =
                error::invalid("meta.project", "PROJECT_UNUSED", "projects do not nest; leave it empty");
            return Err(error::refused(refusal));
        }
        let make = move |txn: &mut crate::store::Txn<'_>| {
            let uuid = meta.free_id::<Row>(txn)?;
            meta::free_name::<Row>(txn, None, &meta.name, uuid)?;
            let mut row = Row::default();
            meta.stamp(txn, &mut row);
            txn.insert(uuid, row)?;
            Ok(uuid)
        };
        let (_, uuid) = self
            .write(&call, move |txn| repeat.once(txn, |txn, uuid| txn.get::<Row>(uuid).is_some(), make))
            .await?;
        self.answer::<Row>(uuid)
    }

    async fn get_project(&self, request: Request<GetProjectRequest>) -> Result<Response<Project>, Status> {
        let (call, request) = self.enter(request, Verb::Read, Kind::Project, |_| "")?;
        let state = self.read().await?;
        let uuid = find::<Row>(&state, request.project.as_ref(), "project").map_err(error::refused)?;
        call.may(&uuid.to_string()).map_err(error::refused)?;
        self.answer_from::<Row>(&state, uuid)
    }

    async fn list_projects(
        &self,
        request: Request<ListProjectsRequest>,
    ) -> Result<Response<ListProjectsResponse>, Status> {
        let (call, request) = self.enter(request, Verb::Read, Kind::Project, |_| "")?;
        let state = self.read().await?;
        let page = list::objects::<Row>(&state, &call, request.options).map_err(error::refused)?;
        let (projects, next_page_token, revision) = (page.objects, page.next_page_token, page.revision);
        Ok(Response::new(ListProjectsResponse { projects, next_page_token, revision }))
    }

    async fn update_project(
        &self,
        request: Request<UpdateProjectRequest>,
    ) -> Result<Response<Project>, Status> {
        let (call, request) = self.enter(request, Verb::Update, Kind::Project, |_| "")?;
        let repeat = Repeat::new(&call, "UpdateProject", &request);
        let covers = meta::mask(request.update_mask, PATHS).map_err(error::refused)?;
        let meta = request.project.unwrap_or_default().meta.unwrap_or_default();
        let door = call.clone();
        let change = move |txn: &mut crate::store::Txn<'_>| {
            let uuid = find::<Row>(txn.state(), Some(&super::reference_of(&meta)), "project.meta")?;
            door.may(&uuid.to_string())?;
            expect_revision::<Row>(txn, uuid, request.expected_revision)?;
            let mut row = txn.get::<Row>(uuid).cloned().unwrap_or_default();
            let before = row.name.clone();
            meta::apply(txn, uuid, &mut row, &meta, &covers)?;
            if row.name != before {
                refuse_built_in(&before, "renamed")?;
            }
            rewrite(txn, uuid, row);
            Ok(uuid)
        };
        let (_, uuid) = self
            .write(&call, move |txn| repeat.once(txn, |txn, uuid| txn.get::<Row>(uuid).is_some(), change))
            .await?;
        self.answer::<Row>(uuid)
    }

    async fn delete_project(
        &self,
        request: Request<DeleteProjectRequest>,
    ) -> Result<Response<DeleteProjectResponse>, Status> {
        let (call, request) = self.enter(request, Verb::Delete, Kind::Project, |_| "")?;
        let repeat = Repeat::new(&call, "DeleteProject", &request);
        let door = call.clone();
        let delete = move |txn: &mut crate::store::Txn<'_>| {
            let uuid = find::<Row>(txn.state(), request.project.as_ref(), "project")?;
            door.may(&uuid.to_string())?;
            expect_revision::<Row>(txn, uuid, request.expected_revision)?;
            refuse_built_in(&txn.get::<Row>(uuid).cloned().unwrap_or_default().name, "deleted")?;
            refuse_owner(txn.state(), uuid)?;
            txn.delete::<Row>(uuid);
            Ok(uuid)
        };
        let (revision, _) = self.write(&call, move |txn| repeat.once(txn, |_, _| true, delete)).await?;
        Ok(Response::new(DeleteProjectResponse { revision }))
    }

    type WatchProjectsStream = watch::Events<WatchProjectsResponse>;

    async fn watch_projects(
        &self,
        request: Request<WatchProjectsRequest>,
    ) -> Result<Response<Self::WatchProjectsStream>, Status> {
        let (call, request) = self.enter(request, Verb::Read, Kind::Project, |_| "")?;
        let make = |kind, project, resume| WatchProjectsResponse { kind: kind as i32, project, resume };
        watch::start::<Row, _>(self, call, request.options, make).await.map(Response::new)
    }
}

impl Api {
    /// The object as it is now.
    pub(super) fn answer<T: Object>(&self, uuid: Uuid) -> Result<Response<T::Message>, Status> {
        self.answer_from::<T>(&self.context().replica.state(), uuid)
    }

    /// The object as it is in a state.
    pub(super) fn answer_from<T: Object>(
        &self,
        state: &State,
        uuid: Uuid,
    ) -> Result<Response<T::Message>, Status> {
        let found = state.get::<T>(uuid).map(|row| Response::new(row.message(uuid, state)));
        // It was there when the transaction ended; somebody was quick.
        found.ok_or_else(|| Status::not_found(format!("{} {uuid} has been deleted meanwhile", T::WORD)))
    }
}

fn refuse_built_in(name: &str, what: &str) -> Result<(), Refusal> {
    if name != DEFAULT_PROJECT && name != SYSTEM_PROJECT {
        return Ok(());
    }
    let message = format!("project {name} always exists and cannot be {what}");
    Err(Refusal::service(Class::FailedPrecondition, "PROJECT_BUILT_IN", message))
}

fn refuse_owner(state: &State, project: Uuid) -> Result<(), Refusal> {
    fn owned<T: Object>(state: &State, project: Uuid, many: &str) -> (String, Vec<String>) {
        let objects: Vec<Uuid> = state.referrers_through::<Row, T>(project, "project").collect();
        let named = objects.iter().take(NAMED_MAX).map(|uuid| named::<T>(state, *uuid)).collect();
        (format!("{} {many}", objects.len()), named)
    }
    let owned = [
        owned::<VirtualNetwork>(state, project, "networks"),
        owned::<Port>(state, project, "ports"),
        owned::<Router>(state, project, "routers"),
        owned::<FloatingIp>(state, project, "floating addresses"),
        owned::<SecurityGroup>(state, project, "security groups"),
        owned::<SecurityPolicy>(state, project, "security policies"),
    ];
    if owned.iter().all(|(_, objects)| objects.is_empty()) {
        return Ok(());
    }
    let counts: Vec<&str> = owned.iter().map(|(count, _)| count.as_str()).collect();
    let message = format!("the project owns {}; delete them first", counts.join(", "));
    let blocking: Vec<String> = owned.into_iter().flat_map(|(_, objects)| objects).take(NAMED_MAX).collect();
    Err(Refusal::service(Class::FailedPrecondition, "PROJECT_NOT_EMPTY", message).blocked_by(blocking))
}
