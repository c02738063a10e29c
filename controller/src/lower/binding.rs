//! Which chassis holds a port: derived from the interfaces that agents report, never claimed. A port of type
//! `external` or `chassisredirect` is held by the member of its group that says that it serves it (an external one, until
//! one says so, by the highest), `l2gateway` and `l3gateway` by the one it names, `virtual` by that of the
//! parent behind which agents saw its address, `mirror` by that of its target; other types are held by none.
//!
//! # Contract
//! - Reads `Port_Binding`, `Chassis_Interface`, `HA_Chassis_Group`, `Chassis`; writes `Port_Binding.chassis`, `additional_chassis`, `up`, and
//!   `Takeover`.
//! - The leader's tick asks [`due`], and when that time has come runs a transaction with [`relower_damped`].
//!
//! # Invariants
//! - Among the eligible interfaces the highest claim holds the port; but whoever took it from another that still
//!   claims it holds it for at least [`HOLD_MS`], so that two hypervisors with one iface-id do not tear at it.
//! - `up` is true only while the chassis that acknowledged the flows still holds the port.

use quantumnet_model::{
    Uuid, Weak,
    column::Text,
    intent::Takeover,
    sb::{Chassis, ChassisInterface, PortBinding},
};

use crate::{
    lower::{Dirty, facts, gateway, group, lookup, problem},
    store::{Refusal, State, Txn},
};

/// How long a chassis holds a port that it took from another which still claims it.
pub const HOLD_MS: i64 = 2_000;

const NEVER: i64 = i64::MAX;

/// An interface that may hold a port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Claim {
    /// Where it is.
    pub chassis: Uuid,
    /// The higher is the later.
    pub claim: i64,
}

/// What [`winner`] decides.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Decision {
    /// Who holds the port.
    pub holder: Option<Uuid>,
    /// It took the port from another that still claims it.
    pub taken_over: bool,
    /// A later claim waits until then.
    pub waits_until: Option<i64>,
}

/// Who holds a port that these claim. `taken_at` is when the present holder took it from another.
pub fn winner(claims: &[Claim], holder: Option<Uuid>, taken_at: Option<i64>, now_ms: i64) -> Decision {
    let Some(latest) = claims.iter().max_by_key(|claim| (claim.claim, claim.chassis)) else {
        return Decision::default();
    };
    let holder = holder.filter(|holder| claims.iter().any(|claim| claim.chassis == *holder));
    match holder {
        Some(holder) if holder != latest.chassis => {
            let until = taken_at.map(|at| at.saturating_add(HOLD_MS)).filter(|until| now_ms < *until);
            match until {
                Some(until) => Decision { holder: Some(holder), taken_over: false, waits_until: Some(until) },
                None => Decision { holder: Some(latest.chassis), taken_over: true, waits_until: None },
            }
        }
        _ => Decision { holder: Some(latest.chassis), taken_over: false, waits_until: None },
    }
}

/// When the next waiting claim is to be looked at: at that time, in milliseconds since the epoch, the leader runs a
/// transaction with [`relower_damped`]. `None` while nothing waits.
pub fn due(state: &State) -> Option<i64> {
    let first = state.find::<Takeover>(&[])?;
    state.get::<Takeover>(first).map(|takeover| takeover.due).filter(|due| *due != NEVER)
}

/// A request that gives ports to the claims whose wait is over. Lowering does the rest.
pub fn relower_damped(txn: &mut Txn<'_>) -> Result<(), Refusal> {
    let mut dirty = Dirty::default();
    loop {
        let first = txn.find::<Takeover>(&[]);
        let Some(port) =
            first.filter(|uuid| txn.get::<Takeover>(*uuid).is_some_and(|row| row.due <= txn.now_ms()))
        else {
            return Ok(());
        };
        // Decides anew, which moves `due` on or deletes the row.
        bind(txn, port, &mut dirty);
        if txn.get::<Takeover>(port).is_some_and(|row| row.due <= txn.now_ms()) {
            txn.update::<Takeover>(port, |row| row.due = NEVER);
        }
    }
}

/// Chassis with an interface that may hold the port, the latest claim first.
pub fn contenders(state: &State, port: &PortBinding) -> Vec<Uuid> {
    let mut claims = main_claims(state, port);
    claims.sort_by_key(|claim| std::cmp::Reverse(claim.claim));
    claims.into_iter().map(|claim| claim.chassis).collect()
}

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    for touched in txn.touched_in::<ChassisInterface>() {
        for row in [touched.before::<ChassisInterface>(), touched.after()].into_iter().flatten() {
            dirty.interfaces.insert(row.iface_id.clone());
        }
    }
    for interface in std::mem::take(&mut dirty.interfaces) {
        dirty.bindings.extend(txn.find::<PortBinding>(&[("logical_port", (&*interface).into())]));
        dirty.bindings.extend(lookup::rows(txn.state(), lookup::PARENT, &interface));
    }
    for touched in txn.touched_in::<PortBinding>() {
        dirty.bindings.insert(touched.uuid);
        for row in [touched.before::<PortBinding>(), touched.after()].into_iter().flatten() {
            dirty.bindings.extend(followers(txn.state(), &row.logical_port));
        }
        if touched.new.is_none() {
            lookup::set(txn, lookup::VIRTUAL_PARENT, touched.uuid, &[]);
            lookup::set(txn, lookup::GATEWAY, touched.uuid, &[]);
            lookup::set(txn, lookup::SERVED, touched.uuid, &[]);
        }
    }
    gateway::mark_served(txn, dirty);
    for touched in txn.touched_in::<Chassis>() {
        if touched.old.is_some() != touched.new.is_some() {
            let row = touched.after::<Chassis>().or_else(|| touched.before());
            let waiting = row.map(|row| lookup::rows(txn.state(), lookup::GATEWAY, &row.name));
            dirty.bindings.extend(waiting.into_iter().flatten());
        }
    }
    // Those that follow others come after them: a parent is no virtual port.
    while let Some(uuid) = dirty.bindings.pop_first() {
        dirty.work.rows += 1;
        bind(txn, uuid, dirty);
    }
}

fn bind(txn: &mut Txn<'_>, uuid: Uuid, dirty: &mut Dirty) {
    let Some(port) = txn.get::<PortBinding>(uuid) else {
        txn.delete::<Takeover>(uuid);
        return;
    };
    // Only VIFs, and what is nested in them, are bound by an interface.
    if !port.r#type.is_empty() {
        return follow(txn, uuid);
    }
    let (logical_port, holder_before) =
        (port.logical_port.clone(), port.chassis.map(|chassis| chassis.uuid()));
    let claims = main_claims(txn.state(), port);
    let additional: imbl::OrdSet<Weak<Chassis>> = additional_claims(txn.state(), port);
    let takeover = txn.get::<Takeover>(uuid).cloned();
    let taken_at = takeover.as_ref().map(|takeover| takeover.taken_at);
    let decision = winner(&claims, holder_before, taken_at, txn.now_ms());

    let next = (claims.len() > 1).then(|| Takeover {
        port: uuid,
        taken_at: if decision.taken_over { txn.now_ms() } else { taken_at.unwrap_or(0) },
        due: decision.waits_until.unwrap_or(NEVER),
    });
    match next.filter(|next| next.taken_at != 0) {
        Some(next) if takeover.as_ref() == Some(&next) => {}
        Some(next) => txn.put(uuid, next),
        None => _ = txn.delete::<Takeover>(uuid),
    }

    lookup::set(txn, lookup::VIRTUAL_PARENT, uuid, &[]);
    lookup::set(txn, lookup::GATEWAY, uuid, &[]);
    let port =
        txn.get::<PortBinding>(uuid).expect("it was there above, and only rows of other tables were written");
    let moved = decision.holder != holder_before;
    let up = match (decision.holder, moved) {
        (Some(_), false) => port.up.or(Some(false)),
        _ => Some(false),
    };
    if moved || port.up != up || port.additional_chassis != additional || port.virtual_parent.is_some() {
        dirty.work.rows += 1;
        txn.update::<PortBinding>(uuid, |port| {
            port.chassis = decision.holder.map(Weak::new);
            port.additional_chassis = additional;
            port.up = up;
            port.virtual_parent = None;
            if moved {
                port.encap = None;
            }
        });
        if moved {
            dirty.bindings.extend(followers(txn.state(), &logical_port));
        }
    }
    problem::set::<PortBinding>(txn, uuid, contention(txn, &logical_port, &claims, decision.holder));
}

/// Ports that are where the port of that name is.
fn followers(state: &State, name: &str) -> Vec<Uuid> {
    let kinds = [lookup::VIRTUAL_PARENT, lookup::MIRROR_TARGET];
    kinds.into_iter().flat_map(|kind| lookup::rows(state, kind, name)).collect()
}

/// Binds a port that no interface has: to whom its type says.
fn follow(txn: &mut Txn<'_>, uuid: Uuid) {
    let Some(port) = txn.get::<PortBinding>(uuid).cloned() else { return };
    let parent = port.virtual_parent.clone().filter(|parent| is_parent(txn.state(), &port, parent));
    let gateway = port.options.get("l3gateway-chassis").filter(|_| &*port.r#type == "l3gateway").cloned();
    let holder_of = |name: &str| {
        let other = txn.find::<PortBinding>(&[("logical_port", name.into())])?;
        txn.get::<PortBinding>(other)?.chassis.map(|chassis| chassis.uuid())
    };
    let holder = match &*port.r#type {
        "virtual" => parent.as_deref().and_then(holder_of),
        "mirror" => port.mirror_port.as_deref().and_then(holder_of),
        "external" => gateway::serving(txn.state(), uuid, &port)
            .or_else(|| port.ha_chassis_group.and_then(|group| group::active(txn.state(), group.uuid()))),
        // Its agents decide.
        "chassisredirect" => gateway::serving(txn.state(), uuid, &port),
        "l2gateway" => {
            let name = port.options.get("l2gateway-chassis");
            name.and_then(|name| facts::chassis_named(txn.state(), name))
        }
        // By name only, as in OVN.
        "l3gateway" => gateway.as_ref().and_then(|name| txn.find::<Chassis>(&[("name", (&**name).into())])),
        _ => None,
    };
    lookup::set(txn, lookup::GATEWAY, uuid, gateway.as_slice());
    lookup::set(txn, lookup::VIRTUAL_PARENT, uuid, parent.as_slice());
    let next = PortBinding {
        chassis: holder.map(Weak::new),
        additional_chassis: imbl::OrdSet::new(),
        encap: port.encap.filter(|_| holder == port.chassis.map(|chassis| chassis.uuid())),
        up: match (&*port.r#type, holder) {
            ("virtual" | "external" | "l2gateway" | "l3gateway" | "chassisredirect" | "mirror", None) => {
                Some(false)
            }
            (
                "virtual" | "external" | "l2gateway" | "l3gateway" | "chassisredirect" | "mirror",
                Some(holder),
            ) => port.up.filter(|_| port.chassis == Some(Weak::new(holder))).or(Some(false)),
            // Those are nowhere, or everywhere; nobody says that they are up.
            _ => Some(false),
        },
        virtual_parent: parent,
        ..port.clone()
    };
    if next != port {
        txn.put(uuid, next);
    }
    txn.delete::<Takeover>(uuid);
    problem::set::<PortBinding>(txn, uuid, Vec::new());
}

/// Whether the virtual port may be behind the port of that name, and there is one.
fn is_parent(state: &State, port: &PortBinding, name: &str) -> bool {
    let named = port.options.get("virtual-parents").map_or("", |names| &**names);
    &*port.r#type == "virtual"
        && named.split(',').any(|parent| parent.trim() == name)
        && state.find::<PortBinding>(&[("logical_port", name.into())]).is_some()
}

fn contention(txn: &Txn<'_>, port: &Text, claims: &[Claim], holder: Option<Uuid>) -> problem::Problems {
    if claims.len() < 2 {
        return Vec::new();
    }
    let name = |chassis: Uuid| {
        txn.get::<Chassis>(chassis).map_or_else(|| chassis.to_string(), |row| row.name.to_string())
    };
    let names: Vec<String> = claims.iter().map(|claim| name(claim.chassis)).collect();
    let holder = holder.map_or_else(|| "nobody".to_owned(), name);
    let message = format!("port {port} is claimed by {}; {holder} holds it", names.join(" and "));
    vec![("chassis", message)]
}

/// Interfaces with the port's iface-id and, where the port names one, its iface-id-ver.
fn interfaces<'s>(
    state: &'s State,
    port: &PortBinding,
) -> impl Iterator<Item = &'s ChassisInterface> + use<'s> {
    let iface_id = port.parent_port.as_ref().unwrap_or(&port.logical_port);
    let version = port.options.get("iface-id-ver").cloned();
    let found: Vec<Uuid> = state.lookup::<ChassisInterface>(&[("iface_id", (&**iface_id).into())]).collect();
    found
        .into_iter()
        .filter_map(move |uuid| state.get::<ChassisInterface>(uuid))
        .filter(move |row| version.as_ref().is_none_or(|version| row.iface_id_ver == *version))
}

fn main_claims(state: &State, port: &PortBinding) -> Vec<Claim> {
    let asked = port.options.get("requested-chassis").is_some_and(|hosts| !hosts.trim().is_empty());
    let eligible =
        |chassis: Uuid| !asked || port.requested_chassis.is_some_and(|wanted| wanted.uuid() == chassis);
    interfaces(state, port)
        .filter(|row| eligible(row.chassis.uuid()))
        .map(|row| Claim { chassis: row.chassis.uuid(), claim: row.claim })
        .collect()
}

fn additional_claims(state: &State, port: &PortBinding) -> imbl::OrdSet<Weak<Chassis>> {
    let wanted = &port.requested_additional_chassis;
    let chassis = interfaces(state, port).map(|row| Weak::new(row.chassis.uuid()));
    chassis.filter(|chassis| wanted.contains(chassis)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);

    fn check(
        claims: &[(Uuid, i64)],
        holder: Option<Uuid>,
        taken_at: Option<i64>,
        now: i64,
    ) -> (Option<Uuid>, Option<i64>) {
        let claims: Vec<Claim> = claims.iter().map(|&(chassis, claim)| Claim { chassis, claim }).collect();
        let decision = winner(&claims, holder, taken_at, now);
        (decision.holder, decision.waits_until)
    }

    #[test]
    fn the_latest_claim_holds_the_port_unless_it_must_wait() {
        assert_eq!(check(&[], Some(A), None, 0), (None, None));
        assert_eq!(check(&[(A, 1)], None, None, 0), (Some(A), None));
        assert_eq!(check(&[(A, 1), (B, 2)], Some(A), None, 0), (Some(B), None));
        assert_eq!(check(&[(A, 3), (B, 2)], Some(B), Some(100), 2_099), (Some(B), Some(2_100)));
        assert_eq!(check(&[(A, 3), (B, 2)], Some(B), Some(100), 2_100), (Some(A), None));
        assert_eq!(check(&[(A, 3)], Some(B), Some(100), 200), (Some(A), None));
        assert_eq!(check(&[(A, 1), (B, 2)], Some(B), Some(100), 200), (Some(B), None));
    }
}
