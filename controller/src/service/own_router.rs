//! The router of a network's own (`VirtualNetworkSpec.router`): for a network that needs no more than a way out.
//!
//! # Contract
//! - In: a network that is written, and what its spec says of a router. Out: the `Router` row, written, changed or removed.
//!
//! # Invariants
//! - Its uuid follows from the network's, its name is the network's; it routes that network alone and goes with it.
//! - `RouterService` shows it and refuses to change it.

use quantumnet_api::v1::{ObjectRef, RouterConfig, RouterSpec};
use quantumnet_model::{
    Strong, Uuid,
    intent::{Router, VirtualNetwork},
};
use uuid::uuid;

use crate::{
    service::{
        meta,
        object::{named, rewrite},
        router,
    },
    store::{Class, Refusal, State, Txn},
};

const NAMESPACE: Uuid = uuid!("7f1f5b8e-3f0e-4b5f-9d53-2a8f64f2d7c0");

/// Its uuid.
fn of(network: Uuid) -> Uuid {
    Uuid::new_v5(&NAMESPACE, network.as_bytes())
}

/// What a network's spec says of it.
pub(super) fn message(state: &State, network: Uuid) -> Option<RouterConfig> {
    let uuid = of(network);
    let spec = router::message(state.get::<Router>(uuid)?, uuid, state).spec.unwrap_or_default();
    Some(RouterConfig { external: spec.external, routes: spec.routes, disabled: spec.disabled })
}

/// Makes it what the spec of the network says, the network being written already.
pub(super) fn write(txn: &mut Txn<'_>, network: Uuid, config: Option<&RouterConfig>) -> Result<(), Refusal> {
    let uuid = of(network);
    let before = txn.get::<Router>(uuid).cloned();
    let Some(config) = config else {
        if let Some(before) = before {
            router::refuse_stranded(txn.state(), &before, &Router::default())?;
            txn.delete::<Router>(uuid);
        }
        return Ok(());
    };
    let owner = txn.get::<VirtualNetwork>(network).cloned().unwrap_or_default();
    let new = || Router { project: owner.project, created_at: txn.now_ms(), ..Router::default() };
    let mut row = before.clone().unwrap_or_else(new);
    rename(txn, network, &mut row)?;
    let spec = RouterSpec {
        networks: vec![ObjectRef { id: network.to_string(), ..ObjectRef::default() }],
        external: config.external.clone(),
        routes: config.routes.clone(),
        disabled: config.disabled,
    };
    router::fill(txn, uuid, &mut row, &spec, &|_| true).map_err(within)?;
    if let Some(before) = before {
        router::refuse_stranded(txn.state(), &before, &row)?;
    }
    rewrite(txn, uuid, row);
    Ok(())
}

/// Gives it the present name of its network, if it has a router.
pub(super) fn follow(txn: &mut Txn<'_>, network: Uuid) -> Result<(), Refusal> {
    let Some(mut row) = txn.get::<Router>(of(network)).cloned() else { return Ok(()) };
    rename(txn, network, &mut row)?;
    rewrite(txn, of(network), row);
    Ok(())
}

fn rename(txn: &Txn<'_>, network: Uuid, row: &mut Router) -> Result<(), Refusal> {
    let Some(owner) = txn.get::<VirtualNetwork>(network) else { return Ok(()) };
    if row.name != owner.name {
        meta::free_name::<Router>(txn, Some(owner.project.uuid()), &owner.name, of(network))?;
        row.name = owner.name.clone();
    }
    Ok(())
}

/// Refuses a change of a network's own router by another way than the network.
pub(super) fn refuse(state: &State, router: Uuid) -> Result<(), Refusal> {
    let networks = state.get::<Router>(router).map(|row| row.networks.clone()).unwrap_or_default();
    let Some(owner) = networks.iter().map(Strong::uuid).find(|network| of(*network) == router) else {
        return Ok(());
    };
    let owner = named::<VirtualNetwork>(state, owner);
    let message = format!("the router is {owner}'s own; change spec.router there");
    Err(Refusal::service(Class::FailedPrecondition, "ROUTER_OF_NETWORK", message).blocked_by([owner]))
}

/// The same refusal, about a field of the network's spec.
fn within(refusal: Refusal) -> Refusal {
    let Refusal::Service(mut service) = refusal else { return refusal };
    if let Some(field) = service.field.strip_prefix("spec.") {
        service.field = format!("spec.router.{field}");
    }
    Refusal::Service(service)
}
