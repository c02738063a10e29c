//! `PortService`.

use quantumnet_api::v1::{
    BindPortRequest, CreatePortRequest, DeletePortRequest, DeletePortResponse, GetPortRequest,
    ListPortsRequest, ListPortsResponse, ObjectRef, Port, PortAddress, PortSpec, PortStatus,
    UnbindPortRequest, UpdatePortRequest, WatchPortsRequest, WatchPortsResponse,
    port_service_server::PortService,
};
use quantumnet_model::{
    Strong, Uuid,
    column::Text,
    intent::{Port as Row, VirtualNetwork},
    sb::{Chassis, PortBinding},
};
use tonic::{Request, Response, Status};

use crate::{
    lower::{address, binding, security},
    service::{
        Api, Kind, Verb,
        authorize::Call,
        error, list,
        meta::{self, Meta},
        network::refuse_system,
        object::{self, expect_revision, find, project_of, rewrite},
        port_addresses::{grant, mac, pair, pairs, wishes},
        port_security,
        repeat::Repeat,
        watch,
    },
    store::{Class, Refusal, State, Txn},
};

const PATHS: &[&str] = &[
    "meta.name",
    "meta.description",
    "meta.labels",
    "spec.mac",
    "spec.addresses",
    "spec.no_addresses",
    "spec.disabled",
    "spec.port_security_disabled",
    "spec.allowed_address_pairs",
    "spec.receive_unknown",
    "spec.hostname",
    "spec.host",
    "spec.security_groups",
    "spec.no_security_groups",
    "spec.vm",
];

/// Characters of a chassis' name, at most.
const HOST_MAX: usize = 253;

#[tonic::async_trait]
impl PortService for Api {
    async fn create_port(&self, request: Request<CreatePortRequest>) -> Result<Response<Port>, Status> {
        let (call, request) =
            self.enter(request, Verb::Create, Kind::Port, |request| project_named(request.port.as_ref()))?;
        let repeat = Repeat::new(&call, "CreatePort", &request);
        let port = request.port.unwrap_or_default();
        let meta = Meta::parse(port.meta).map_err(error::refused)?;
        let spec = port.spec.unwrap_or_default();
        let (mac, wishes) = (mac(&spec).map_err(error::refused)?, wishes(&spec).map_err(error::refused)?);
        let mut row = Row::default();
        plain(&mut row, &spec, &|_| true).map_err(error::refused)?;
        let door = call.clone();
        let make = move |txn: &mut Txn<'_>| {
            let project = project_of(txn.state(), &meta.project, "meta.project")?;
            door.may(&project.to_string())?;
            refuse_system(txn.state(), project)?;
            let network = network_of(txn.state(), spec.network.as_ref(), project)?;
            let uuid = meta.free_id::<Row>(txn)?;
            meta::free_name::<Row>(txn, Some(project), &meta.name, uuid)?;
            meta.stamp(txn, &mut row);
            row.project = Strong::new(project);
            row.network = Strong::new(network);
            port_security::groups(txn.state(), &mut row, &spec, &|_| true)?;
            let mac = match mac {
                Some(mac) => {
                    address::claim_mac(txn, network, uuid, mac).map_err(|refusal| refusal.at("spec.mac"))?;
                    mac
                }
                None => address::claim_next_mac(txn, network, uuid)?,
            };
            row.mac = mac.to_string().into();
            row.addresses = grant(txn, network, uuid, &wishes, &row.addresses)?;
            txn.insert(uuid, row)?;
            Ok(uuid)
        };
        let (_, uuid) = self
            .write(&call, move |txn| repeat.once(txn, |txn, uuid| txn.get::<Row>(uuid).is_some(), make))
            .await?;
        self.answer::<Row>(uuid)
    }

    async fn get_port(&self, request: Request<GetPortRequest>) -> Result<Response<Port>, Status> {
        let (call, request) =
            self.enter(request, Verb::Read, Kind::Port, |request| project_referred(request.port.as_ref()))?;
        let state = self.read().await?;
        let uuid = found(&call, &state, request.port.as_ref()).map_err(error::refused)?;
        self.answer_from::<Row>(&state, uuid)
    }

    async fn list_ports(
        &self,
        request: Request<ListPortsRequest>,
    ) -> Result<Response<ListPortsResponse>, Status> {
        let (call, request) = self.enter(request, Verb::Read, Kind::Port, |request| {
            request.options.as_ref().map_or("", |options| &options.project)
        })?;
        let state = self.read().await?;
        let page = list::objects::<Row>(&state, &call, request.options).map_err(error::refused)?;
        let (ports, next_page_token, revision) = (page.objects, page.next_page_token, page.revision);
        Ok(Response::new(ListPortsResponse { ports, next_page_token, revision }))
    }

    async fn update_port(&self, request: Request<UpdatePortRequest>) -> Result<Response<Port>, Status> {
        let (call, request) =
            self.enter(request, Verb::Update, Kind::Port, |request| project_named(request.port.as_ref()))?;
        let repeat = Repeat::new(&call, "UpdatePort", &request);
        let covers = meta::mask(request.update_mask, PATHS).map_err(error::refused)?;
        let port = request.port.unwrap_or_default();
        let (meta, spec) = (port.meta.unwrap_or_default(), port.spec.unwrap_or_default());
        let (mac, wishes) = (mac(&spec).map_err(error::refused)?, wishes(&spec).map_err(error::refused)?);
        let door = call.clone();
        let change = move |txn: &mut Txn<'_>| {
            let uuid = found(&door, txn.state(), Some(&super::reference_of(&meta)))?;
            expect_revision::<Row>(txn, uuid, request.expected_revision)?;
            let mut row = txn.get::<Row>(uuid).cloned().unwrap_or_default();
            let network = row.network.uuid();
            if spec.network.is_some()
                && network_of(txn.state(), spec.network.as_ref(), row.project.uuid())? != network
            {
                let message = "a port stays in its network; delete it and create another";
                return Err(error::invalid("spec.network", "NETWORK_FIXED", message));
            }
            meta::apply(txn, uuid, &mut row, &meta, &covers)?;
            plain(&mut row, &spec, &covers)?;
            port_security::groups(txn.state(), &mut row, &spec, &covers)?;
            if let Some(mac) = mac.filter(|_| covers("spec.mac")) {
                address::claim_mac(txn, network, uuid, mac).map_err(|refusal| refusal.at("spec.mac"))?;
                row.mac = mac.to_string().into();
            }
            if covers("spec.addresses") || covers("spec.no_addresses") {
                let granted = grant(txn, network, uuid, &wishes, &row.addresses)?;
                if granted != row.addresses {
                    row.addresses = granted;
                }
            }
            rewrite(txn, uuid, row);
            Ok(uuid)
        };
        let (_, uuid) = self
            .write(&call, move |txn| repeat.once(txn, |txn, uuid| txn.get::<Row>(uuid).is_some(), change))
            .await?;
        self.answer::<Row>(uuid)
    }

    async fn delete_port(
        &self,
        request: Request<DeletePortRequest>,
    ) -> Result<Response<DeletePortResponse>, Status> {
        let (call, request) =
            self.enter(request, Verb::Delete, Kind::Port, |request| project_referred(request.port.as_ref()))?;
        let repeat = Repeat::new(&call, "DeletePort", &request);
        let door = call.clone();
        let delete = move |txn: &mut Txn<'_>| {
            let uuid = found(&door, txn.state(), request.port.as_ref())?;
            expect_revision::<Row>(txn, uuid, request.expected_revision)?;
            txn.delete::<Row>(uuid);
            Ok(uuid)
        };
        let (revision, _) = self.write(&call, move |txn| repeat.once(txn, |_, _| true, delete)).await?;
        Ok(Response::new(DeletePortResponse { revision }))
    }

    type WatchPortsStream = watch::Events<WatchPortsResponse>;

    async fn watch_ports(
        &self,
        request: Request<WatchPortsRequest>,
    ) -> Result<Response<Self::WatchPortsStream>, Status> {
        let (call, request) = self.enter(request, Verb::Read, Kind::Port, |request| {
            request.options.as_ref().map_or("", |options| &options.project)
        })?;
        let make = |kind, port, resume| WatchPortsResponse { kind: kind as i32, port, resume };
        watch::start::<Row, _>(self, call, request.options, make).await.map(Response::new)
    }

    async fn bind_port(&self, request: Request<BindPortRequest>) -> Result<Response<Port>, Status> {
        let (call, request) =
            self.enter(request, Verb::Update, Kind::Port, |request| project_referred(request.port.as_ref()))?;
        let repeat = Repeat::new(&call, "BindPort", &request);
        let host = host(&request.host, "host").map_err(error::refused)?;
        if host.is_empty() {
            let message = "name the chassis by its system-id or host name; UnbindPort lets any have the port";
            return Err(error::refused(error::invalid("host", "HOST_INVALID", message)));
        }
        self.set_host(call, repeat, request.port, request.expected_revision, host).await
    }

    async fn unbind_port(&self, request: Request<UnbindPortRequest>) -> Result<Response<Port>, Status> {
        let (call, request) =
            self.enter(request, Verb::Update, Kind::Port, |request| project_referred(request.port.as_ref()))?;
        let repeat = Repeat::new(&call, "UnbindPort", &request);
        self.set_host(call, repeat, request.port, request.expected_revision, "".into()).await
    }
}

impl Api {
    async fn set_host(
        &self,
        call: Call,
        repeat: Repeat,
        port: Option<ObjectRef>,
        expected_revision: u64,
        host: Text,
    ) -> Result<Response<Port>, Status> {
        let door = call.clone();
        let change = move |txn: &mut Txn<'_>| {
            let uuid = found(&door, txn.state(), port.as_ref())?;
            expect_revision::<Row>(txn, uuid, expected_revision)?;
            let row = txn.get::<Row>(uuid).cloned().unwrap_or_default();
            rewrite(txn, uuid, Row { host, ..row });
            Ok(uuid)
        };
        let (_, uuid) = self
            .write(&call, move |txn| repeat.once(txn, |txn, uuid| txn.get::<Row>(uuid).is_some(), change))
            .await?;
        self.answer::<Row>(uuid)
    }
}

/// The port as clients are sent it.
pub(super) fn message(row: &Row, uuid: Uuid, state: &State) -> Port {
    let binding = state.get::<PortBinding>(uuid);
    let chassis = |uuid: Uuid| state.get::<Chassis>(uuid).map(|chassis| chassis.name.to_string());
    let contenders = binding.map(|binding| binding::contenders(state, binding)).unwrap_or_default();
    let addresses: Vec<String> = row.addresses.iter().map(ToString::to_string).collect();
    let network = row.network.uuid();
    Port {
        meta: Some(object::meta(row, uuid)),
        spec: Some(PortSpec {
            network: Some(ObjectRef { id: network.to_string(), ..ObjectRef::default() }),
            mac: row.mac.to_string(),
            addresses: addresses
                .iter()
                .map(|ip| PortAddress { ip: ip.clone(), subnet: String::new() })
                .collect(),
            no_addresses: addresses.is_empty(),
            disabled: row.disabled,
            port_security_disabled: row.port_security_disabled,
            allowed_address_pairs: row.allowed_address_pairs.iter().map(|text| pair(text)).collect(),
            receive_unknown: row.receive_unknown,
            hostname: row.hostname.to_string(),
            host: row.host.to_string(),
            security_groups: port_security::names(
                state,
                row.security_groups.iter().map(|group| group.uuid()),
            ),
            no_security_groups: row.no_security_groups,
            vm: port_security::vm_message(row),
        }),
        status: Some(PortStatus {
            network_id: network.to_string(),
            mac: row.mac.to_string(),
            addresses,
            tunnel_key: binding.and_then(|binding| u32::try_from(binding.tunnel_key).ok()).unwrap_or(0),
            chassis: binding
                .and_then(|binding| binding.chassis)
                .and_then(|holder| chassis(holder.uuid()))
                .unwrap_or_default(),
            up: binding.is_some_and(|binding| binding.chassis.is_some() && binding.up == Some(true)),
            contenders: if contenders.len() > 1 {
                contenders.into_iter().filter_map(chassis).collect()
            } else {
                Vec::new()
            },
            security_groups: port_security::names(state, security::groups_of(state, row).into_iter()),
        }),
    }
}

/// Columns that need no look at other objects.
fn plain(row: &mut Row, spec: &PortSpec, covers: &dyn Fn(&str) -> bool) -> Result<(), Refusal> {
    if covers("spec.disabled") {
        row.disabled = spec.disabled;
    }
    if covers("spec.port_security_disabled") {
        row.port_security_disabled = spec.port_security_disabled;
    }
    if covers("spec.receive_unknown") {
        row.receive_unknown = spec.receive_unknown;
    }
    if covers("spec.allowed_address_pairs") {
        let pairs = pairs(&spec.allowed_address_pairs)?;
        if pairs != row.allowed_address_pairs {
            row.allowed_address_pairs = pairs;
        }
    }
    if covers("spec.hostname") {
        row.hostname = hostname(&spec.hostname)?;
    }
    if covers("spec.host") {
        row.host = host(&spec.host, "spec.host")?;
    }
    if covers("spec.vm") {
        port_security::vm(row, spec)?;
    }
    Ok(())
}

fn hostname(text: &str) -> Result<Text, Refusal> {
    let byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if text.len() <= 253 && text.bytes().all(byte) {
        return Ok(text.into());
    }
    let message =
        format!("{text:?} is no host name: up to 253 letters, digits, '-', '.' and '_' are allowed");
    Err(error::invalid("spec.hostname", "HOSTNAME_INVALID", message))
}

/// A chassis' name. A comma would name several to OVN's option that it becomes.
fn host(text: &str, field: &str) -> Result<Text, Refusal> {
    if text.len() <= HOST_MAX && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',') {
        return Ok(text.into());
    }
    let message =
        format!("{text:?} is no name of a chassis: up to {HOST_MAX} visible characters without a comma");
    Err(error::invalid(field, "HOST_INVALID", message))
}

/// The network that a port of `project` names; by name it is looked up there.
fn network_of(state: &State, reference: Option<&ObjectRef>, project: Uuid) -> Result<Uuid, Refusal> {
    let mut reference = reference.cloned().unwrap_or_default();
    if reference.project.is_empty() {
        reference.project = project.to_string();
    }
    let uuid = find::<VirtualNetwork>(state, Some(&reference), "spec.network")?;
    let owner = state.get::<VirtualNetwork>(uuid).map(|network| network.project.uuid());
    if owner != Some(project) {
        let message = "the network is another project's; ports belong to the project of their network";
        return Err(
            Refusal::service(Class::FailedPrecondition, "NETWORK_FOREIGN", message).at("spec.network")
        );
    }
    Ok(uuid)
}

/// The port that a reference names, if the principal may.
fn found(call: &Call, state: &State, reference: Option<&ObjectRef>) -> Result<Uuid, Refusal> {
    let uuid = find::<Row>(state, reference, "port")?;
    let project = state.get::<Row>(uuid).map(|row| row.project.uuid().to_string()).unwrap_or_default();
    call.may(&project).map(|()| uuid)
}

fn project_named(port: Option<&Port>) -> &str {
    port.and_then(|port| port.meta.as_ref()).map_or("", |meta| &meta.project)
}

fn project_referred(reference: Option<&ObjectRef>) -> &str {
    reference.map_or("", |reference| &reference.project)
}
