//! `NodeService`.

use quantumnet_api::v1::{
    DeleteNodeRequest, DeleteNodeResponse, GetNodeRequest, ListNodesRequest, ListNodesResponse, Node,
    NodeEncap, WatchNodesRequest, WatchNodesResponse, node_service_server::NodeService,
};
use quantumnet_model::{
    Row, Uuid,
    intent::Problem,
    sb::{Chassis, Encap, PortBinding},
};
use tonic::{Request, Response, Status};

use crate::{
    agents::forget,
    service::{Api, Kind, Verb, error, list, object::timestamp, repeat::Repeat, watch},
    store::{Class, Refusal, State, Touched, Txn},
};

#[tonic::async_trait]
impl NodeService for Api {
    async fn get_node(&self, request: Request<GetNodeRequest>) -> Result<Response<Node>, Status> {
        let (_, request) = self.enter(request, Verb::Read, Kind::Node, |_| "")?;
        let state = self.read().await?;
        let uuid = find(&state, &request.name).map_err(error::refused)?;
        let chassis = state.get::<Chassis>(uuid).cloned().unwrap_or_default();
        Ok(Response::new(message(self, &state, uuid, &chassis)))
    }

    async fn list_nodes(
        &self,
        request: Request<ListNodesRequest>,
    ) -> Result<Response<ListNodesResponse>, Status> {
        let (_, request) = self.enter(request, Verb::Read, Kind::Node, |_| "")?;
        let options = request.options.unwrap_or_default();
        for (field, text) in [("options.project", &options.project), ("options.filter", &options.filter)] {
            if !text.is_empty() {
                let refusal =
                    error::invalid(field, "OPTION_UNUSED", "hypervisors are listed whole; leave it empty");
                return Err(error::refused(refusal));
            }
        }
        let state = self.read().await?;
        let (after, size) = list::place(&options).map_err(error::refused)?;
        let nodes = state.iter::<Chassis>().filter(|(uuid, _)| after.is_none_or(|after| *uuid > after));
        let (nodes, last) = list::cut(nodes, size);
        Ok(Response::new(ListNodesResponse {
            nodes: nodes.into_iter().map(|(uuid, chassis)| message(self, &state, uuid, chassis)).collect(),
            next_page_token: last.map(|last| last.to_string()).unwrap_or_default(),
            revision: state.revision(),
        }))
    }

    async fn delete_node(
        &self,
        request: Request<DeleteNodeRequest>,
    ) -> Result<Response<DeleteNodeResponse>, Status> {
        let (call, request) = self.enter(request, Verb::Delete, Kind::Node, |_| "")?;
        let repeat = Repeat::new(&call, "DeleteNode", &request);
        let (name, agents) = (request.name.clone(), self.context().agents.clone());
        let delete = move |txn: &mut Txn<'_>| {
            let uuid = find(txn.state(), &request.name)?;
            if agents.connected().contains(&request.name) {
                let message = format!("the agent of {} is connected; stop it first", request.name);
                return Err(Refusal::service(Class::FailedPrecondition, "NODE_CONNECTED", message));
            }
            forget(txn, uuid, &request.name);
            Ok(uuid)
        };
        let (revision, _) = self.write(&call, move |txn| repeat.once(txn, |_, _| true, delete)).await?;
        self.context().agents.forget(&name);
        Ok(Response::new(DeleteNodeResponse { revision }))
    }

    type WatchNodesStream = watch::Events<WatchNodesResponse>;

    async fn watch_nodes(
        &self,
        request: Request<WatchNodesRequest>,
    ) -> Result<Response<Self::WatchNodesStream>, Status> {
        let (call, request) = self.enter(request, Verb::Read, Kind::Node, |_| "")?;
        let make = |kind, node, resume| WatchNodesResponse { kind: kind as i32, node, resume };
        watch::start::<Nodes, _>(self, call, request.options, make).await.map(Response::new)
    }
}

/// Hypervisors as a watch sees them.
struct Nodes;

impl watch::Watched for Nodes {
    type Message = Node;

    fn project(_: &State, _: &str) -> Result<Uuid, Refusal> {
        Err(error::invalid(
            "options.project",
            "PROJECT_UNUSED",
            "hypervisors belong to no project; leave it empty",
        ))
    }

    fn presence(api: &Api) -> Option<tokio::sync::watch::Receiver<imbl::OrdSet<String>>> {
        Some(api.context().agents.connections())
    }

    fn present(state: &State, name: &str) -> Option<Uuid> {
        state.find::<Chassis>(&[("name", name.into())])
    }

    fn objects(touched: &Touched, visit: &mut dyn FnMut(Uuid)) {
        if touched.table == Chassis::TABLE {
            return visit(touched.uuid);
        }
        // Ports that it holds are counted.
        let holder =
            |row: Option<&PortBinding>| row.and_then(|row| row.chassis).map(|chassis| chassis.uuid());
        let (before, after) = (holder(touched.before()), holder(touched.after()));
        if before != after {
            before.into_iter().chain(after).for_each(visit);
        }
    }

    fn is_own(touched: &Touched) -> bool {
        touched.table == Chassis::TABLE
    }

    fn all(state: &State) -> Vec<Uuid> {
        state.iter::<Chassis>().map(|(uuid, _)| uuid).collect()
    }

    fn project_id(_: &State, _: Option<&Touched>, _: Uuid) -> Option<Uuid> {
        None
    }

    fn message(api: &Api, state: &State, uuid: Uuid) -> Option<Node> {
        state.get::<Chassis>(uuid).map(|chassis| message(api, state, uuid, chassis))
    }

    fn last(api: &Api, state: &State, touched: &Touched) -> Option<Node> {
        touched.before::<Chassis>().map(|chassis| message(api, state, touched.uuid, chassis))
    }
}

fn find(state: &State, name: &str) -> Result<Uuid, Refusal> {
    state.find::<Chassis>(&[("name", name.into())]).ok_or_else(|| {
        let message = format!("there is no hypervisor named {name:?}; ListNodes names them");
        Refusal::service(Class::NotFound, "NOT_FOUND", message).at("name")
    })
}

fn message(api: &Api, state: &State, uuid: Uuid, chassis: &Chassis) -> Node {
    let agent = api.context().agents.status(&chassis.name).unwrap_or_default();
    let encaps = chassis.encaps.iter().filter_map(|encap| state.get::<Encap>(encap.uuid()));
    let problems = state
        .lookup::<Problem>(&[("row", uuid.into())])
        .filter_map(|problem| state.get::<Problem>(problem))
        .map(|problem| problem.message.to_string());
    Node {
        name: chassis.name.to_string(),
        id: uuid.to_string(),
        hostname: chassis.hostname.to_string(),
        encaps: encaps
            .map(|encap| NodeEncap { r#type: encap.r#type.to_string(), ip: encap.ip.to_string() })
            .collect(),
        other_config: chassis
            .other_config
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect(),
        connected: agent.connected,
        applied_revision: agent.applied_revision,
        last_seen: (agent.last_seen_ms != 0).then(|| timestamp(agent.last_seen_ms)),
        port_count: state.referrers_through::<Chassis, PortBinding>(uuid, "chassis").count() as u64,
        problems: agent.problems.into_iter().chain(problems).collect(),
        revision: state.revision(),
    }
}
