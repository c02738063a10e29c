//! `VirtualNetworkService`.

use quantumnet_api::v1::{
    CreateVirtualNetworkRequest, DeleteVirtualNetworkRequest, DeleteVirtualNetworkResponse,
    GetVirtualNetworkRequest, ListVirtualNetworksRequest, ListVirtualNetworksResponse, NetworkType,
    UpdateVirtualNetworkRequest, VirtualNetwork, VirtualNetworkSpec, VirtualNetworkStatus,
    WatchVirtualNetworksRequest, WatchVirtualNetworksResponse,
    virtual_network_service_server::VirtualNetworkService,
};
use quantumnet_model::{
    Strong, Uuid,
    intent::{FloatingIp, Port, Router, SecurityGroup, VirtualNetwork as Row},
    nb::LogicalSwitch,
    sb::DatapathBinding,
};
use tonic::{Request, Response, Status};

use crate::{
    lower::{address::NAMED_MAX, facts, localnet},
    replica::SYSTEM_PROJECT,
    service::{
        Api, Kind, Verb, error, list,
        meta::{self, Meta},
        object::{self, expect_revision, find, named, project_of},
        own_router,
        repeat::Repeat,
        security_group, subnets, watch,
    },
    store::{Class, Refusal, State, Txn},
};

const PATHS: &[&str] = &[
    "meta.name",
    "meta.description",
    "meta.labels",
    "spec.subnets",
    "spec.mtu",
    "spec.vlan_id",
    "spec.physical_network",
    "spec.external",
    "spec.default_security_group",
    "spec.router",
];

#[tonic::async_trait]
impl VirtualNetworkService for Api {
    async fn create_virtual_network(
        &self,
        request: Request<CreateVirtualNetworkRequest>,
    ) -> Result<Response<VirtualNetwork>, Status> {
        let (call, request) = self.enter(request, Verb::Create, Kind::VirtualNetwork, |request| {
            project_named(request.network.as_ref())
        })?;
        let repeat = Repeat::new(&call, "CreateVirtualNetwork", &request);
        let network = request.network.unwrap_or_default();
        let meta = Meta::parse(network.meta).map_err(error::refused)?;
        let spec = network.spec.unwrap_or_default();
        let parsed = subnets::parse(&spec.subnets).map_err(error::refused)?;
        let (r#type, mtu) =
            (network_type(&spec).map_err(error::refused)?, mtu(&spec).map_err(error::refused)?);
        segment(&spec, r#type == localnet::VLAN, &|_| true).map_err(error::refused)?;
        let door = call.clone();
        let make = move |txn: &mut Txn<'_>| {
            let project = project_of(txn.state(), &meta.project, "meta.project")?;
            door.may(&project.to_string())?;
            refuse_system(txn.state(), project)?;
            let uuid = meta.free_id::<Row>(txn)?;
            meta::free_name::<Row>(txn, Some(project), &meta.name, uuid)?;
            let mut row = Row {
                project: Strong::new(project),
                r#type: r#type.into(),
                mtu,
                vlan_id: spec.vlan_id.into(),
                physical_network: spec.physical_network.as_str().into(),
                external: spec.external,
                ..Row::default()
            };
            meta.stamp(txn, &mut row);
            row.default_security_group = default_group(txn.state(), project, &spec)?;
            row.subnets = subnets::write(txn, uuid, &row.subnets, parsed)?;
            refuse_small_mtu(&row, txn.state())?;
            txn.insert(uuid, row)?;
            own_router::write(txn, uuid, spec.router.as_ref())?;
            Ok(uuid)
        };
        let (_, uuid) = self
            .write(&call, move |txn| repeat.once(txn, |txn, uuid| txn.get::<Row>(uuid).is_some(), make))
            .await?;
        self.answer::<Row>(uuid)
    }

    async fn get_virtual_network(
        &self,
        request: Request<GetVirtualNetworkRequest>,
    ) -> Result<Response<VirtualNetwork>, Status> {
        let (call, request) = self.enter(request, Verb::Read, Kind::VirtualNetwork, |request| {
            request.network.as_ref().map_or("", |network| &network.project)
        })?;
        let state = self.read().await?;
        let uuid = find::<Row>(&state, request.network.as_ref(), "network").map_err(error::refused)?;
        owned(&call, &state, uuid).map_err(error::refused)?;
        self.answer_from::<Row>(&state, uuid)
    }

    async fn list_virtual_networks(
        &self,
        request: Request<ListVirtualNetworksRequest>,
    ) -> Result<Response<ListVirtualNetworksResponse>, Status> {
        let (call, request) = self.enter(request, Verb::Read, Kind::VirtualNetwork, |request| {
            request.options.as_ref().map_or("", |options| &options.project)
        })?;
        let state = self.read().await?;
        let page = list::objects::<Row>(&state, &call, request.options).map_err(error::refused)?;
        let (networks, next_page_token, revision) = (page.objects, page.next_page_token, page.revision);
        Ok(Response::new(ListVirtualNetworksResponse { networks, next_page_token, revision }))
    }

    async fn update_virtual_network(
        &self,
        request: Request<UpdateVirtualNetworkRequest>,
    ) -> Result<Response<VirtualNetwork>, Status> {
        let (call, request) = self.enter(request, Verb::Update, Kind::VirtualNetwork, |request| {
            project_named(request.network.as_ref())
        })?;
        let repeat = Repeat::new(&call, "UpdateVirtualNetwork", &request);
        let covers = meta::mask(request.update_mask, PATHS).map_err(error::refused)?;
        let network = request.network.unwrap_or_default();
        let (meta, spec) = (network.meta.unwrap_or_default(), network.spec.unwrap_or_default());
        let parsed = subnets::parse(&spec.subnets).map_err(error::refused)?;
        let mtu = mtu(&spec).map_err(error::refused)?;
        let r#type = network_type(&spec).map_err(error::refused)?;
        let door = call.clone();
        let change = move |txn: &mut Txn<'_>| {
            let uuid = find::<Row>(txn.state(), Some(&super::reference_of(&meta)), "network.meta")?;
            owned(&door, txn.state(), uuid)?;
            expect_revision::<Row>(txn, uuid, request.expected_revision)?;
            let mut row = txn.get::<Row>(uuid).cloned().unwrap_or_default();
            meta::apply(txn, uuid, &mut row, &meta, &covers)?;
            let before = txn.touched().len();
            if covers("spec.subnets") {
                row.subnets = subnets::write(txn, uuid, &row.subnets, parsed)?;
            }
            if covers("spec.mtu") {
                row.mtu = mtu;
            }
            if spec.r#type != NetworkType::Unspecified as i32 && *row.r#type != *r#type {
                let message =
                    format!("a network of type {} stays one; delete it and create another", row.r#type);
                return Err(error::invalid("spec.type", "TYPE_FIXED", message));
            }
            segment(&spec, &*row.r#type == localnet::VLAN, &covers)?;
            if covers("spec.vlan_id") {
                row.vlan_id = spec.vlan_id.into();
            }
            if covers("spec.physical_network") {
                row.physical_network = spec.physical_network.as_str().into();
            }
            if covers("spec.external") && row.external != spec.external {
                if row.external {
                    refuse_routed(txn.state(), uuid)?;
                }
                row.external = spec.external;
            }
            if covers("spec.default_security_group") {
                row.default_security_group = default_group(txn.state(), row.project.uuid(), &spec)?;
            }
            refuse_small_mtu(&row, txn.state())?;
            // Subnets are rows of their own; a change of one is a change of the network.
            let forced = txn.touched().len() != before;
            object::rewrite_if(txn, uuid, row.clone(), forced);
            let before = txn.touched().len();
            if covers("spec.router") {
                own_router::write(txn, uuid, spec.router.as_ref())?;
            } else {
                own_router::follow(txn, uuid)?;
            }
            if txn.touched().len() != before {
                object::rewrite_if(txn, uuid, row, true);
            }
            Ok(uuid)
        };
        let (_, uuid) = self
            .write(&call, move |txn| repeat.once(txn, |txn, uuid| txn.get::<Row>(uuid).is_some(), change))
            .await?;
        self.answer::<Row>(uuid)
    }

    async fn delete_virtual_network(
        &self,
        request: Request<DeleteVirtualNetworkRequest>,
    ) -> Result<Response<DeleteVirtualNetworkResponse>, Status> {
        let (call, request) = self.enter(request, Verb::Delete, Kind::VirtualNetwork, |request| {
            request.network.as_ref().map_or("", |network| &network.project)
        })?;
        let repeat = Repeat::new(&call, "DeleteVirtualNetwork", &request);
        let door = call.clone();
        let delete = move |txn: &mut Txn<'_>| {
            let uuid = find::<Row>(txn.state(), request.network.as_ref(), "network")?;
            owned(&door, txn.state(), uuid)?;
            expect_revision::<Row>(txn, uuid, request.expected_revision)?;
            let ports: Vec<Uuid> = txn.referrers_through::<Row, Port>(uuid, "network").collect();
            if !ports.is_empty() {
                let message = format!("the network has {} ports; delete them first", ports.len());
                let blocking = ports.iter().take(NAMED_MAX).map(|port| named::<Port>(txn.state(), *port));
                let refusal = Refusal::service(Class::FailedPrecondition, "NETWORK_IN_USE", message);
                return Err(refusal.blocked_by(blocking.collect::<Vec<_>>()));
            }
            own_router::write(txn, uuid, None)?;
            refuse_routed(txn.state(), uuid)?;
            txn.delete::<Row>(uuid);
            Ok(uuid)
        };
        let (revision, _) = self.write(&call, move |txn| repeat.once(txn, |_, _| true, delete)).await?;
        Ok(Response::new(DeleteVirtualNetworkResponse { revision }))
    }

    type WatchVirtualNetworksStream = watch::Events<WatchVirtualNetworksResponse>;

    async fn watch_virtual_networks(
        &self,
        request: Request<WatchVirtualNetworksRequest>,
    ) -> Result<Response<Self::WatchVirtualNetworksStream>, Status> {
        let (call, request) = self.enter(request, Verb::Read, Kind::VirtualNetwork, |request| {
            request.options.as_ref().map_or("", |options| &options.project)
        })?;
        let make =
            |kind, network, resume| WatchVirtualNetworksResponse { kind: kind as i32, network, resume };
        watch::start::<Row, _>(self, call, request.options, make).await.map(Response::new)
    }
}

/// The network as clients are sent it.
pub(super) fn message(row: &Row, uuid: Uuid, state: &State) -> VirtualNetwork {
    let tunnel_key = state.get::<DatapathBinding>(uuid).and_then(|row| u32::try_from(row.tunnel_key).ok());
    let own_mtu = u32::try_from(row.mtu).unwrap_or(0);
    let is_vlan = &*row.r#type == localnet::VLAN;
    VirtualNetwork {
        meta: Some(object::meta(row, uuid)),
        spec: Some(VirtualNetworkSpec {
            r#type: if is_vlan { NetworkType::Vlan } else { NetworkType::Overlay } as i32,
            subnets: subnets::messages(state, uuid),
            mtu: own_mtu,
            vlan_id: u32::try_from(row.vlan_id).unwrap_or(0),
            physical_network: row.physical_network.to_string(),
            external: row.external,
            default_security_group: row
                .default_security_group
                .map(|group| security_group::name_of(state, group.uuid()))
                .unwrap_or_default(),
            router: own_router::message(state, uuid),
        }),
        status: Some(VirtualNetworkStatus {
            tunnel_key: tunnel_key.unwrap_or(0),
            // The switch of the network lists its ports, and knows how many they are; one is to the physical network,
            // and one to each router.
            port_count: {
                let routers = state.referrers_through::<Row, Router>(uuid, "networks").count()
                    + state.referrers_through::<Row, Router>(uuid, "external").count();
                let others = routers + usize::from(is_vlan);
                state.get::<LogicalSwitch>(uuid).map_or(0, |switch| switch.ports.len().saturating_sub(others))
                    as u64
            },
            mtu: facts::mtu(state, row),
            subnets: subnets::status(state, uuid),
        }),
    }
}

/// The group of ports that name none.
fn default_group(
    state: &State,
    project: Uuid,
    spec: &VirtualNetworkSpec,
) -> Result<Option<Strong<SecurityGroup>>, Refusal> {
    if spec.default_security_group.is_empty() {
        return Ok(None);
    }
    let field = "spec.default_security_group";
    security_group::named_in(state, project, &spec.default_security_group, field)
        .map(|group| Some(Strong::new(group)))
}

/// Networks and ports of `system` are made by clients of the northbound database.
pub(super) fn refuse_system(state: &State, project: Uuid) -> Result<(), Refusal> {
    let name = state.get::<quantumnet_model::intent::Project>(project).map(|row| row.name.clone());
    if name.as_deref() != Some(SYSTEM_PROJECT) {
        return Ok(());
    }
    let message = format!("project {SYSTEM_PROJECT} holds what northbound clients make; choose another");
    Err(Refusal::service(Class::FailedPrecondition, "PROJECT_BUILT_IN", message).at("meta.project"))
}

/// Refuses to take a network from routers and floating addresses.
fn refuse_routed(state: &State, network: Uuid) -> Result<(), Refusal> {
    let routers = state
        .referrers_through::<Row, Router>(network, "networks")
        .chain(state.referrers_through::<Row, Router>(network, "external"))
        .map(|uuid| named::<Router>(state, uuid));
    let floating = state
        .referrers_through::<Row, FloatingIp>(network, "network")
        .map(|uuid| named::<FloatingIp>(state, uuid));
    let mut users: Vec<String> = routers.chain(floating).collect();
    if users.is_empty() {
        return Ok(());
    }
    let message =
        format!("{} routers and floating addresses use the network; take it from them first", users.len());
    users.truncate(NAMED_MAX);
    Err(Refusal::service(Class::FailedPrecondition, "NETWORK_ROUTED", message).blocked_by(users))
}

fn owned(call: &super::authorize::Call, state: &State, uuid: Uuid) -> Result<(), Refusal> {
    let project = state.get::<Row>(uuid).map(|row| row.project.uuid().to_string()).unwrap_or_default();
    call.may(&project)
}

fn project_named(network: Option<&VirtualNetwork>) -> &str {
    network.and_then(|network| network.meta.as_ref()).map_or("", |meta| &meta.project)
}

fn network_type(spec: &VirtualNetworkSpec) -> Result<&'static str, Refusal> {
    match NetworkType::try_from(spec.r#type) {
        Ok(NetworkType::Unspecified | NetworkType::Overlay) => Ok("overlay"),
        Ok(NetworkType::Vlan) => Ok(localnet::VLAN),
        Err(_) => Err(error::invalid(
            "spec.type",
            "TYPE_INVALID",
            format!("unknown type {}; use OVERLAY or VLAN", spec.r#type),
        )),
    }
}

/// Checks where a network is on a physical one, as far as the fields are covered.
fn segment(spec: &VirtualNetworkSpec, is_vlan: bool, covers: &dyn Fn(&str) -> bool) -> Result<(), Refusal> {
    if !is_vlan {
        let (field, is_set) = if spec.vlan_id != 0 && covers("spec.vlan_id") {
            ("spec.vlan_id", true)
        } else {
            ("spec.physical_network", !spec.physical_network.is_empty() && covers("spec.physical_network"))
        };
        let message = "only a network of type VLAN is on a physical network";
        return if is_set { Err(error::invalid(field, "SEGMENT_INVALID", message)) } else { Ok(()) };
    }
    if covers("spec.vlan_id") && spec.vlan_id > VLAN_MAX {
        let message =
            format!("{} is no VLAN, expected 1 to {VLAN_MAX}, or 0 for untagged frames", spec.vlan_id);
        return Err(error::invalid("spec.vlan_id", "VLAN_INVALID", message));
    }
    // A comma or a colon would be another mapping to the hypervisors' option that names it.
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b',' | b':');
    let name = &spec.physical_network;
    if covers("spec.physical_network")
        && (name.is_empty() || name.len() > PHYSICAL_NETWORK_MAX || !name.bytes().all(plain))
    {
        let message = format!(
            "{name:?} is no name of a physical network: 1 to {PHYSICAL_NETWORK_MAX} visible characters but ',' and ':'"
        );
        return Err(error::invalid("spec.physical_network", "PHYSICAL_NETWORK_INVALID", message));
    }
    Ok(())
}

/// The highest VLAN; 4095 is reserved (IEEE 802.1Q).
const VLAN_MAX: u32 = 4_094;
/// Characters of a physical network's name, at most.
const PHYSICAL_NETWORK_MAX: usize = 253;

fn mtu(spec: &VirtualNetworkSpec) -> Result<i64, Refusal> {
    if spec.mtu <= 65_535 {
        return Ok(i64::from(spec.mtu));
    }
    Err(error::invalid("spec.mtu", "MTU_INVALID", format!("{} is too large, expected up to 65535", spec.mtu)))
}

fn refuse_small_mtu(row: &Row, state: &State) -> Result<(), Refusal> {
    let least = subnets::mtu_min(row, state);
    if row.mtu == 0 || row.mtu >= least {
        return Ok(());
    }
    Err(error::invalid(
        "spec.mtu",
        "MTU_INVALID",
        format!("{} is too small, hosts expect at least {least}", row.mtu),
    ))
}
