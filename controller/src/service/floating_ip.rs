//! `FloatingIpService`.

use quantumnet_api::v1::{
    CreateFloatingIpRequest, DeleteFloatingIpRequest, DeleteFloatingIpResponse, FloatingIp, FloatingIpSpec,
    FloatingIpStatus, GetFloatingIpRequest, ListFloatingIpsRequest, ListFloatingIpsResponse, ObjectRef,
    UpdateFloatingIpRequest, WatchFloatingIpsRequest, WatchFloatingIpsResponse,
    floating_ip_service_server::FloatingIpService,
};
use quantumnet_model::{
    Strong, Uuid, Weak,
    intent::{FloatingIp as Row, Port, VirtualNetwork},
};
use tonic::{Request, Response, Status};

use crate::{
    lower::{address, tenant},
    service::{
        Api, Kind, Verb,
        authorize::Call,
        error, list,
        meta::{self, Meta},
        network::refuse_system,
        object::{self, expect_revision, find, named, project_of, rewrite},
        repeat::Repeat,
        router::{next_address, refuse_internal},
        watch,
    },
    store::{Class, Refusal, State, Txn},
};

const PATHS: &[&str] = &["meta.name", "meta.description", "meta.labels", "spec.port"];

#[tonic::async_trait]
impl FloatingIpService for Api {
    async fn create_floating_ip(
        &self,
        request: Request<CreateFloatingIpRequest>,
    ) -> Result<Response<FloatingIp>, Status> {
        let (call, request) = self.enter(request, Verb::Create, Kind::FloatingIp, |request| {
            project_named(request.floating_ip.as_ref())
        })?;
        let repeat = Repeat::new(&call, "CreateFloatingIp", &request);
        let floating = request.floating_ip.unwrap_or_default();
        let meta = Meta::parse(floating.meta).map_err(error::refused)?;
        let spec = floating.spec.unwrap_or_default();
        let door = call.clone();
        let make = move |txn: &mut Txn<'_>| {
            let project = project_of(txn.state(), &meta.project, "meta.project")?;
            door.may(&project.to_string())?;
            refuse_system(txn.state(), project)?;
            let network =
                in_project::<VirtualNetwork>(txn.state(), spec.network.as_ref(), project, "spec.network")?;
            refuse_internal(txn.state(), network, "spec.network")?;
            let uuid = meta.free_id::<Row>(txn)?;
            meta::free_name::<Row>(txn, Some(project), &meta.name, uuid)?;
            let mut row =
                Row { project: Strong::new(project), network: Strong::new(network), ..Row::default() };
            meta.stamp(txn, &mut row);
            row.address = match spec.address.as_str() {
                "" => next_address(txn, network, uuid, "spec.network")?,
                text => {
                    let ip: std::net::Ipv4Addr = text.parse().map_err(|_| {
                        let message = format!("{text:?} is no IPv4 address");
                        error::invalid("spec.address", "ADDRESS_INVALID", message)
                    })?;
                    address::claim_ip(txn, network, uuid, ip.into())
                        .map_err(|refusal| refusal.at("spec.address"))?;
                    ip.to_string().into()
                }
            };
            row.port = port_of(txn.state(), spec.port.as_ref(), project)?;
            refuse_unrouted(txn.state(), uuid, &row)?;
            txn.insert(uuid, row)?;
            Ok(uuid)
        };
        let (_, uuid) = self
            .write(&call, move |txn| repeat.once(txn, |txn, uuid| txn.get::<Row>(uuid).is_some(), make))
            .await?;
        self.answer::<Row>(uuid)
    }

    async fn get_floating_ip(
        &self,
        request: Request<GetFloatingIpRequest>,
    ) -> Result<Response<FloatingIp>, Status> {
        let (call, request) = self.enter(request, Verb::Read, Kind::FloatingIp, |request| {
            request.floating_ip.as_ref().map_or("", |floating| &floating.project)
        })?;
        let state = self.read().await?;
        let uuid = found(&call, &state, request.floating_ip.as_ref()).map_err(error::refused)?;
        self.answer_from::<Row>(&state, uuid)
    }

    async fn list_floating_ips(
        &self,
        request: Request<ListFloatingIpsRequest>,
    ) -> Result<Response<ListFloatingIpsResponse>, Status> {
        let (call, request) = self.enter(request, Verb::Read, Kind::FloatingIp, |request| {
            request.options.as_ref().map_or("", |options| &options.project)
        })?;
        let state = self.read().await?;
        let page = list::objects::<Row>(&state, &call, request.options).map_err(error::refused)?;
        let (floating_ips, next_page_token, revision) = (page.objects, page.next_page_token, page.revision);
        Ok(Response::new(ListFloatingIpsResponse { floating_ips, next_page_token, revision }))
    }

    async fn update_floating_ip(
        &self,
        request: Request<UpdateFloatingIpRequest>,
    ) -> Result<Response<FloatingIp>, Status> {
        let (call, request) = self.enter(request, Verb::Update, Kind::FloatingIp, |request| {
            project_named(request.floating_ip.as_ref())
        })?;
        let repeat = Repeat::new(&call, "UpdateFloatingIp", &request);
        let covers = meta::mask(request.update_mask, PATHS).map_err(error::refused)?;
        let floating = request.floating_ip.unwrap_or_default();
        let (meta, spec) = (floating.meta.unwrap_or_default(), floating.spec.unwrap_or_default());
        let door = call.clone();
        let change = move |txn: &mut Txn<'_>| {
            let uuid = found(&door, txn.state(), Some(&super::reference_of(&meta)))?;
            expect_revision::<Row>(txn, uuid, request.expected_revision)?;
            let mut row = txn.get::<Row>(uuid).cloned().unwrap_or_default();
            let project = row.project.uuid();
            meta::apply(txn, uuid, &mut row, &meta, &covers)?;
            let network = spec.network.as_ref();
            let moves = match network {
                Some(_) => {
                    in_project::<VirtualNetwork>(txn.state(), network, project, "spec.network")?
                        != row.network.uuid()
                }
                None => false,
            };
            if moves || !spec.address.is_empty() && *spec.address != *row.address {
                let field = if moves { "spec.network" } else { "spec.address" };
                let message = "a floating address stays what it is; delete it and create another";
                return Err(error::invalid(field, "ADDRESS_FIXED", message));
            }
            if covers("spec.port") {
                row.port = port_of(txn.state(), spec.port.as_ref(), project)?;
                refuse_unrouted(txn.state(), uuid, &row)?;
            }
            rewrite(txn, uuid, row);
            Ok(uuid)
        };
        let (_, uuid) = self
            .write(&call, move |txn| repeat.once(txn, |txn, uuid| txn.get::<Row>(uuid).is_some(), change))
            .await?;
        self.answer::<Row>(uuid)
    }

    async fn delete_floating_ip(
        &self,
        request: Request<DeleteFloatingIpRequest>,
    ) -> Result<Response<DeleteFloatingIpResponse>, Status> {
        let (call, request) = self.enter(request, Verb::Delete, Kind::FloatingIp, |request| {
            request.floating_ip.as_ref().map_or("", |floating| &floating.project)
        })?;
        let repeat = Repeat::new(&call, "DeleteFloatingIp", &request);
        let door = call.clone();
        let delete = move |txn: &mut Txn<'_>| {
            let uuid = found(&door, txn.state(), request.floating_ip.as_ref())?;
            expect_revision::<Row>(txn, uuid, request.expected_revision)?;
            txn.delete::<Row>(uuid);
            Ok(uuid)
        };
        let (revision, _) = self.write(&call, move |txn| repeat.once(txn, |_, _| true, delete)).await?;
        Ok(Response::new(DeleteFloatingIpResponse { revision }))
    }

    type WatchFloatingIpsStream = watch::Events<WatchFloatingIpsResponse>;

    async fn watch_floating_ips(
        &self,
        request: Request<WatchFloatingIpsRequest>,
    ) -> Result<Response<Self::WatchFloatingIpsStream>, Status> {
        let (call, request) = self.enter(request, Verb::Read, Kind::FloatingIp, |request| {
            request.options.as_ref().map_or("", |options| &options.project)
        })?;
        let make =
            |kind, floating_ip, resume| WatchFloatingIpsResponse { kind: kind as i32, floating_ip, resume };
        watch::start::<Row, _>(self, call, request.options, make).await.map(Response::new)
    }
}

/// The floating address as clients are sent it.
pub(super) fn message(row: &Row, uuid: Uuid, state: &State) -> FloatingIp {
    let translation = tenant::translation(state, row);
    FloatingIp {
        meta: Some(object::meta(row, uuid)),
        spec: Some(FloatingIpSpec {
            network: Some(object::reference::<VirtualNetwork>(state, row.network.uuid())),
            address: row.address.to_string(),
            port: row.port.map(|port| object::reference::<Port>(state, port.uuid())),
        }),
        status: Some(FloatingIpStatus {
            address: row.address.to_string(),
            fixed_address: translation.map(|(_, ip)| ip.to_string()).unwrap_or_default(),
            router_id: translation.map(|(router, _)| router.to_string()).unwrap_or_default(),
        }),
    }
}

/// The object that a reference names; by name it is looked up in the project.
fn in_project<T: object::Object>(
    state: &State,
    reference: Option<&ObjectRef>,
    project: Uuid,
    field: &str,
) -> Result<Uuid, Refusal> {
    let mut reference = reference.cloned().unwrap_or_default();
    if reference.project.is_empty() {
        reference.project = project.to_string();
    }
    find::<T>(state, Some(&reference), field)
}

/// The port that the address is to lead to.
fn port_of(
    state: &State,
    reference: Option<&ObjectRef>,
    project: Uuid,
) -> Result<Option<Weak<Port>>, Refusal> {
    let Some(reference) =
        reference.filter(|reference| !reference.id.is_empty() || !reference.name.is_empty())
    else {
        return Ok(None);
    };
    let port = in_project::<Port>(state, Some(reference), project, "spec.port")?;
    if state.get::<Port>(port).is_some_and(|row| row.project.uuid() != project) {
        let message = "the port is another project's";
        return Err(Refusal::service(Class::FailedPrecondition, "PORT_FOREIGN", message).at("spec.port"));
    }
    Ok(Some(Weak::new(port)))
}

/// Refuses a port that no router joins to the external network, or that has a floating address of it already.
fn refuse_unrouted(state: &State, uuid: Uuid, row: &Row) -> Result<(), Refusal> {
    let Some(port) = row.port else { return Ok(()) };
    if tenant::translation(state, row).is_none() {
        let message =
            "the port has no IPv4 address in a network whose router is connected to the external one";
        return Err(Refusal::service(Class::FailedPrecondition, "NO_ROUTER", message).at("spec.port"));
    }
    let mut others = state.referrers_through::<Port, Row>(port.uuid(), "port").filter(|other| *other != uuid);
    if let Some(other) =
        others.find(|other| state.get::<Row>(*other).is_some_and(|other| other.network == row.network))
    {
        let other = named::<Row>(state, other);
        let message = format!("{other} leads to the port already");
        let refusal =
            Refusal::service(Class::FailedPrecondition, "PORT_HAS_ADDRESS", message).at("spec.port");
        return Err(refusal.blocked_by([other]));
    }
    Ok(())
}

fn found(call: &Call, state: &State, reference: Option<&ObjectRef>) -> Result<Uuid, Refusal> {
    let uuid = find::<Row>(state, reference, "floating_ip")?;
    let project = state.get::<Row>(uuid).map(|row| row.project.uuid().to_string()).unwrap_or_default();
    call.may(&project).map(|()| uuid)
}

fn project_named(floating: Option<&FloatingIp>) -> &str {
    floating.and_then(|floating| floating.meta.as_ref()).map_or("", |meta| &meta.project)
}
