//! `RouterService`.

use ipnet::IpNet;
use quantumnet_api::v1::{
    CreateRouterRequest, DeleteRouterRequest, DeleteRouterResponse, ExternalGateway, GetRouterRequest,
    ListRoutersRequest, ListRoutersResponse, ObjectRef, Route, Router, RouterSpec, RouterStatus,
    UpdateRouterRequest, WatchRoutersRequest, WatchRoutersResponse, router_service_server::RouterService,
};
use quantumnet_model::{
    Strong, Uuid,
    column::Text,
    intent::{FloatingIp, Router as Row, VirtualNetwork},
    nb::LogicalRouterPort,
    sb::DatapathBinding,
};
use tonic::{Request, Response, Status};

use crate::{
    lower::{address, address::NAMED_MAX, tenant},
    service::{
        Api, Kind, Verb,
        authorize::Call,
        error, list,
        meta::{self, Meta},
        network::refuse_system,
        object::{self, expect_revision, find, named, project_of, rewrite},
        own_router,
        repeat::Repeat,
        watch,
    },
    store::{Class, Refusal, State, Txn},
};

const PATHS: &[&str] = &[
    "meta.name",
    "meta.description",
    "meta.labels",
    "spec.networks",
    "spec.external",
    "spec.routes",
    "spec.disabled",
];

/// Networks, routes and gateways of a router, at most.
const ELEMENTS_MAX: usize = 1_000;

#[tonic::async_trait]
impl RouterService for Api {
    async fn create_router(&self, request: Request<CreateRouterRequest>) -> Result<Response<Router>, Status> {
        let (call, request) = self
            .enter(request, Verb::Create, Kind::Router, |request| project_named(request.router.as_ref()))?;
        let repeat = Repeat::new(&call, "CreateRouter", &request);
        let router = request.router.unwrap_or_default();
        let meta = Meta::parse(router.meta).map_err(error::refused)?;
        let spec = router.spec.unwrap_or_default();
        let door = call.clone();
        let make = move |txn: &mut Txn<'_>| {
            let project = project_of(txn.state(), &meta.project, "meta.project")?;
            door.may(&project.to_string())?;
            refuse_system(txn.state(), project)?;
            let uuid = meta.free_id::<Row>(txn)?;
            meta::free_name::<Row>(txn, Some(project), &meta.name, uuid)?;
            let mut row = Row { project: Strong::new(project), ..Row::default() };
            meta.stamp(txn, &mut row);
            fill(txn, uuid, &mut row, &spec, &|_| true)?;
            txn.insert(uuid, row)?;
            Ok(uuid)
        };
        let (_, uuid) = self
            .write(&call, move |txn| repeat.once(txn, |txn, uuid| txn.get::<Row>(uuid).is_some(), make))
            .await?;
        self.answer::<Row>(uuid)
    }

    async fn get_router(&self, request: Request<GetRouterRequest>) -> Result<Response<Router>, Status> {
        let (call, request) = self.enter(request, Verb::Read, Kind::Router, |request| {
            request.router.as_ref().map_or("", |router| &router.project)
        })?;
        let state = self.read().await?;
        let uuid = found(&call, &state, request.router.as_ref()).map_err(error::refused)?;
        self.answer_from::<Row>(&state, uuid)
    }

    async fn list_routers(
        &self,
        request: Request<ListRoutersRequest>,
    ) -> Result<Response<ListRoutersResponse>, Status> {
        let (call, request) = self.enter(request, Verb::Read, Kind::Router, |request| {
            request.options.as_ref().map_or("", |options| &options.project)
        })?;
        let state = self.read().await?;
        let page = list::objects::<Row>(&state, &call, request.options).map_err(error::refused)?;
        let (routers, next_page_token, revision) = (page.objects, page.next_page_token, page.revision);
        Ok(Response::new(ListRoutersResponse { routers, next_page_token, revision }))
    }

    async fn update_router(&self, request: Request<UpdateRouterRequest>) -> Result<Response<Router>, Status> {
        let (call, request) = self
            .enter(request, Verb::Update, Kind::Router, |request| project_named(request.router.as_ref()))?;
        let repeat = Repeat::new(&call, "UpdateRouter", &request);
        let covers = meta::mask(request.update_mask, PATHS).map_err(error::refused)?;
        let router = request.router.unwrap_or_default();
        let (meta, spec) = (router.meta.unwrap_or_default(), router.spec.unwrap_or_default());
        let door = call.clone();
        let change = move |txn: &mut Txn<'_>| {
            let uuid = found(&door, txn.state(), Some(&super::reference_of(&meta)))?;
            expect_revision::<Row>(txn, uuid, request.expected_revision)?;
            own_router::refuse(txn.state(), uuid)?;
            let mut row = txn.get::<Row>(uuid).cloned().unwrap_or_default();
            meta::apply(txn, uuid, &mut row, &meta, &covers)?;
            let before = row.clone();
            fill(txn, uuid, &mut row, &spec, &covers)?;
            refuse_stranded(txn.state(), &before, &row)?;
            rewrite(txn, uuid, row);
            Ok(uuid)
        };
        let (_, uuid) = self
            .write(&call, move |txn| repeat.once(txn, |txn, uuid| txn.get::<Row>(uuid).is_some(), change))
            .await?;
        self.answer::<Row>(uuid)
    }

    async fn delete_router(
        &self,
        request: Request<DeleteRouterRequest>,
    ) -> Result<Response<DeleteRouterResponse>, Status> {
        let (call, request) = self.enter(request, Verb::Delete, Kind::Router, |request| {
            request.router.as_ref().map_or("", |router| &router.project)
        })?;
        let repeat = Repeat::new(&call, "DeleteRouter", &request);
        let door = call.clone();
        let delete = move |txn: &mut Txn<'_>| {
            let uuid = found(&door, txn.state(), request.router.as_ref())?;
            expect_revision::<Row>(txn, uuid, request.expected_revision)?;
            own_router::refuse(txn.state(), uuid)?;
            let row = txn.get::<Row>(uuid).cloned().unwrap_or_default();
            refuse_stranded(txn.state(), &row, &Row::default())?;
            txn.delete::<Row>(uuid);
            Ok(uuid)
        };
        let (revision, _) = self.write(&call, move |txn| repeat.once(txn, |_, _| true, delete)).await?;
        Ok(Response::new(DeleteRouterResponse { revision }))
    }

    type WatchRoutersStream = watch::Events<WatchRoutersResponse>;

    async fn watch_routers(
        &self,
        request: Request<WatchRoutersRequest>,
    ) -> Result<Response<Self::WatchRoutersStream>, Status> {
        let (call, request) = self.enter(request, Verb::Read, Kind::Router, |request| {
            request.options.as_ref().map_or("", |options| &options.project)
        })?;
        let make = |kind, router, resume| WatchRoutersResponse { kind: kind as i32, router, resume };
        watch::start::<Row, _>(self, call, request.options, make).await.map(Response::new)
    }
}

/// The router as clients are sent it.
pub(super) fn message(row: &Row, uuid: Uuid, state: &State) -> Router {
    let reference = |uuid: Uuid| object::reference::<VirtualNetwork>(state, uuid);
    let tunnel_key = state.get::<DatapathBinding>(uuid).and_then(|row| u32::try_from(row.tunnel_key).ok());
    let external = row.external.map(|network| network.uuid());
    let port = external.and_then(|network| state.get::<LogicalRouterPort>(tenant::port_of(uuid, network)));
    let gateway = port.and_then(|port| port.status.get("hosting-chassis"));
    let route = |text: &Text| {
        let (prefix, nexthop) = text.split_once(' ')?;
        Some(Route { prefix: prefix.to_owned(), nexthop: nexthop.to_owned() })
    };
    Router {
        meta: Some(object::meta(row, uuid)),
        spec: Some(RouterSpec {
            networks: row.networks.iter().map(|network| reference(network.uuid())).collect(),
            external: external.map(|network| ExternalGateway {
                network: Some(reference(network)),
                address: row.external_address.to_string(),
                snat_disabled: row.snat_disabled,
                gateways: names(&row.gateways).map(str::to_owned).collect(),
                distributed: row.distributed,
            }),
            routes: row.routes.iter().filter_map(route).collect(),
            disabled: row.disabled,
        }),
        status: Some(RouterStatus {
            tunnel_key: tunnel_key.unwrap_or(0),
            external_address: row.external_address.to_string(),
            gateway: gateway.map(ToString::to_string).unwrap_or_default(),
        }),
    }
}

fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|name| !name.is_empty())
}

/// Sets the columns that the spec says.
pub(super) fn fill(
    txn: &mut Txn<'_>,
    uuid: Uuid,
    row: &mut Row,
    spec: &RouterSpec,
    covers: &dyn Fn(&str) -> bool,
) -> Result<(), Refusal> {
    let project = row.project.uuid();
    if covers("spec.disabled") {
        row.disabled = spec.disabled;
    }
    if covers("spec.networks") {
        few("spec.networks", spec.networks.len())?;
        let networks = spec.networks.iter().enumerate().map(|(place, reference)| {
            let field = format!("spec.networks[{place}]");
            let network = network_of(txn.state(), reference, project, &field)?;
            may_route(txn.state(), uuid, project, network, &field)?;
            Ok(Strong::new(network))
        });
        row.networks = networks.collect::<Result<_, Refusal>>()?;
    }
    if covers("spec.routes") {
        few("spec.routes", spec.routes.len())?;
        let routes = spec.routes.iter().enumerate().map(|(place, route)| route_text(route, place));
        row.routes = routes.collect::<Result<_, Refusal>>()?;
    }
    if covers("spec.external") {
        match &spec.external {
            Some(external) => connect(txn, uuid, row, external)?,
            None => {
                row.external = None;
                row.external_address = "".into();
                row.snat_disabled = false;
                row.gateways = "".into();
                row.distributed = false;
            }
        }
    }
    Ok(())
}

fn few(field: &str, count: usize) -> Result<(), Refusal> {
    if count <= ELEMENTS_MAX {
        return Ok(());
    }
    let message = format!("{count} are too many, a router has at most {ELEMENTS_MAX}");
    Err(error::invalid(field, "TOO_MANY", message))
}

/// A network of the project; by name it is looked up there.
fn network_of(state: &State, reference: &ObjectRef, project: Uuid, field: &str) -> Result<Uuid, Refusal> {
    let mut reference = reference.clone();
    if reference.project.is_empty() {
        reference.project = project.to_string();
    }
    find::<VirtualNetwork>(state, Some(&reference), field)
}

/// Refuses a network that the router can't be the gateway of.
fn may_route(state: &State, router: Uuid, project: Uuid, network: Uuid, field: &str) -> Result<(), Refusal> {
    let refuse = |reason: &'static str, message: String| {
        Err(Refusal::service(Class::FailedPrecondition, reason, message).at(field))
    };
    if state.get::<VirtualNetwork>(network).is_some_and(|row| row.project.uuid() != project) {
        return refuse("NETWORK_FOREIGN", "the network is another project's".to_owned());
    }
    if let Some(other) = tenant::router_of(state, network).filter(|other| *other != router) {
        let other = named::<Row>(state, other);
        let message = format!("the network has {other} as its gateway already; take it from there first");
        return refuse("NETWORK_ROUTED", message);
    }
    if !tenant::is_routable(state, network) {
        return refuse(
            "NO_GATEWAY",
            "no subnet of the network has a gateway; give one an address".to_owned(),
        );
    }
    Ok(())
}

fn route_text(route: &Route, place: usize) -> Result<Text, Refusal> {
    let net = route.prefix.parse::<IpNet>().ok().filter(|net| net.trunc() == *net);
    let Some(net) = net else {
        let message = format!("{:?} is no prefix such as 10.9.0.0/16", route.prefix);
        return Err(error::invalid(format!("spec.routes[{place}].prefix"), "ROUTE_INVALID", message));
    };
    let hop = route.nexthop.parse::<std::net::IpAddr>().ok();
    let is_hop = hop.is_some_and(|hop| hop.is_ipv4() == net.addr().is_ipv4()) || route.nexthop == "discard";
    if !is_hop {
        let message = format!("{:?} is no address of the prefix's family, nor discard", route.nexthop);
        return Err(error::invalid(format!("spec.routes[{place}].nexthop"), "ROUTE_INVALID", message));
    }
    Ok(format!("{net} {}", route.nexthop).into())
}

/// Connects the router to the outside.
fn connect(txn: &mut Txn<'_>, uuid: Uuid, row: &mut Row, external: &ExternalGateway) -> Result<(), Refusal> {
    let reference = external.network.clone().unwrap_or_default();
    let network = network_of(txn.state(), &reference, row.project.uuid(), "spec.external.network")?;
    refuse_internal(txn.state(), network, "spec.external.network")?;
    few("spec.external.gateways", external.gateways.len())?;
    for (place, name) in external.gateways.iter().enumerate() {
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b',';
        if name.is_empty() || name.len() > 253 || !name.bytes().all(plain) {
            let message = format!("{name:?} is no name of a chassis");
            return Err(error::invalid(format!("spec.external.gateways[{place}]"), "HOST_INVALID", message));
        }
    }
    let stays = row.external.is_some_and(|before| before.uuid() == network);
    let wish = external.address.as_str();
    let address = match wish {
        "" if stays => row.external_address.clone(),
        "" => next_address(txn, network, uuid, "spec.external.network")?,
        text => {
            let ip: std::net::IpAddr = text.parse().map_err(|_| {
                let message = format!("{text:?} is no IP address");
                error::invalid("spec.external.address", "ADDRESS_INVALID", message)
            })?;
            address::claim_ip(txn, network, uuid, ip)
                .map_err(|refusal| refusal.at("spec.external.address"))?;
            ip.to_string().into()
        }
    };
    row.external = Some(Strong::new(network));
    row.external_address = address;
    row.snat_disabled = external.snat_disabled;
    row.gateways = external.gateways.join(",").into();
    row.distributed = external.distributed;
    Ok(())
}

/// The next free address of the external network's first IPv4 subnet that has one.
pub(super) fn next_address(
    txn: &mut Txn<'_>,
    network: Uuid,
    holder: Uuid,
    field: &str,
) -> Result<Text, Refusal> {
    let subnets: Vec<Uuid> = address::subnets(txn.state(), network)
        .into_iter()
        .filter(|(_, subnet)| subnet.cidr.parse::<IpNet>().is_ok_and(|net| net.addr().is_ipv4()))
        .map(|(uuid, _)| uuid)
        .collect();
    let mut refused = None;
    for subnet in subnets {
        match address::claim_next(txn, network, subnet, holder) {
            Ok(ip) => return Ok(ip.to_string().into()),
            Err(refusal) => refused = Some(refusal),
        }
    }
    Err(refused.unwrap_or_else(|| {
        let message = "the external network has no IPv4 subnet; add one".to_owned();
        Refusal::service(Class::FailedPrecondition, "NO_SUBNET", message).at(field)
    }))
}

/// Refuses a network that is not external.
pub(super) fn refuse_internal(state: &State, network: Uuid, field: &str) -> Result<(), Refusal> {
    if state.get::<VirtualNetwork>(network).is_some_and(|row| row.external) {
        return Ok(());
    }
    let message = "the network is not external; set spec.external of it";
    Err(Refusal::service(Class::FailedPrecondition, "NETWORK_INTERNAL", message).at(field))
}

/// Refuses a change that leaves floating addresses without their router.
pub(super) fn refuse_stranded(state: &State, before: &Row, after: &Row) -> Result<(), Refusal> {
    let Some(external) = before.external else { return Ok(()) };
    let mut stranded = Vec::new();
    for uuid in state.referrers_through::<VirtualNetwork, FloatingIp>(external.uuid(), "network") {
        let port = state.get::<FloatingIp>(uuid).and_then(|row| row.port);
        let network = port.and_then(|port| state.get::<quantumnet_model::intent::Port>(port.uuid()));
        let Some(network) = network.map(|port| Strong::new(port.network.uuid())) else { continue };
        let leads = |row: &Row| row.external == Some(external) && row.networks.contains(&network);
        if leads(before) && !leads(after) {
            stranded.push(named::<FloatingIp>(state, uuid));
        }
    }
    if stranded.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{} floating addresses lead through the router; take them from their ports first",
        stranded.len()
    );
    stranded.truncate(NAMED_MAX);
    Err(Refusal::service(Class::FailedPrecondition, "ROUTER_IN_USE", message).blocked_by(stranded))
}

fn found(call: &Call, state: &State, reference: Option<&ObjectRef>) -> Result<Uuid, Refusal> {
    let uuid = find::<Row>(state, reference, "router")?;
    let project = state.get::<Row>(uuid).map(|row| row.project.uuid().to_string()).unwrap_or_default();
    call.may(&project).map(|()| uuid)
}

fn project_named(router: Option<&Router>) -> &str {
    router.and_then(|router| router.meta.as_ref()).map_or("", |meta| &meta.project)
}
