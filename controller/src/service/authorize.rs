//! Who asks, and the one door that every call passes.

use std::sync::Arc;

use tonic::{Request, Status};

use crate::{
    service::{Api, error},
    store::{Class, Refusal},
};

/// Metadata key of the principal.
const PRINCIPAL: &str = "x-quantumnet-principal";
/// Metadata key of the request id.
const REQUEST_ID: &str = "x-quantumnet-request-id";
/// How names begin that are not taken from a header.
const RESERVED: [&str; 2] = ["uid:", "quantumnet-"];
/// Characters of a principal or a request id, at most.
const HEADER_MAX: usize = 255;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peer {
    /// A process of this machine.
    Unix {
        /// Its user; `None` when the system does not say.
        uid: Option<u32>,
    },
    /// Somebody on the network.
    Tcp,
}

/// Who asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Principal {
    /// The name given, or `uid:1000` on a unix socket, or `anonymous`.
    pub name: Arc<str>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Verb {
    /// Make an object.
    Create,
    /// Read one or many.
    Read,
    /// Change an object.
    Update,
    /// Delete an object.
    Delete,
}

/// What it is to be done with.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// `Project`.
    Project,
    /// `VirtualNetwork`.
    VirtualNetwork,
    /// `Port`.
    Port,
    /// `Router`.
    Router,
    /// `FloatingIp`.
    FloatingIp,
    /// `SecurityGroup`.
    SecurityGroup,
    /// `SecurityPolicy`; of project `system` those of the platform.
    SecurityPolicy,
    /// `Node`.
    Node,
    /// The controllers.
    Cluster,
    /// Rows by OVN's names.
    Database,
    /// An agent's stream.
    Agent,
    /// What becomes of packets, and who may send them where.
    Trace,
}

/// Decides who may do what.
pub trait Policy: Send + Sync + 'static {
    /// Refuses what the principal may not do. `project` is as the request names it, id or name, and empty where it
    /// names none; once the object is known its project's id is asked for again.
    fn authorize(&self, principal: &Principal, project: &str, verb: Verb, kind: Kind) -> Result<(), Refusal>;
}

/// Everybody who can reach the API administers it: access is what the listeners' addresses and the socket's mode give.
#[derive(Clone, Copy, Debug)]
pub struct Admins;

impl Policy for Admins {
    fn authorize(&self, _: &Principal, _: &str, _: Verb, _: Kind) -> Result<(), Refusal> {
        Ok(())
    }
}

/// A call that passed the door.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) principal: Principal,
    pub(super) request_id: Option<Arc<str>>,
    policy: Arc<dyn Policy>,
    verb: Verb,
    kind: Kind,
}

impl Call {
    /// Asks again, now that the project is known.
    pub(super) fn may(&self, project: &str) -> Result<(), Refusal> {
        self.policy.authorize(&self.principal, project, self.verb, self.kind)
    }
}

impl Api {
    /// The door: who asks, and may they. Every method calls it first.
    pub(super) fn enter<T>(
        &self,
        request: Request<T>,
        verb: Verb,
        kind: Kind,
        project: impl FnOnce(&T) -> &str,
    ) -> Result<(Call, T), Status> {
        let policy = self.context().policy.clone();
        let principal = admit(policy.as_ref(), &request, verb, kind, project(request.get_ref()))?;
        let request_id = header(&request, REQUEST_ID).map_err(error::refused)?;
        let call = Call { principal, request_id, policy, verb, kind };
        Ok((call, request.into_inner()))
    }
}

/// The door itself, for services that are not of [`Api`] too.
pub(crate) fn admit<T>(
    policy: &dyn Policy,
    request: &Request<T>,
    verb: Verb,
    kind: Kind,
    project: &str,
) -> Result<Principal, Status> {
    let principal = principal(request).map_err(error::refused)?;
    policy.authorize(&principal, project, verb, kind).map_err(error::refused)?;
    Ok(principal)
}

fn principal<T>(request: &Request<T>) -> Result<Principal, Refusal> {
    let peer = request.extensions().get::<axum::extract::ConnectInfo<Peer>>().map(|info| info.0);
    // On a unix socket the system knows who it is, whatever the header says.
    if let Some(Peer::Unix { uid: Some(uid) }) = peer {
        return Ok(Principal { name: format!("uid:{uid}").into() });
    }
    let name = header(request, PRINCIPAL)?.unwrap_or_else(|| "anonymous".into());
    if let Some(reserved) = RESERVED.iter().find(|reserved| name.starts_with(**reserved)) {
        let message =
            format!("a principal cannot begin with {reserved:?}: the controller gives such names itself");
        return Err(Refusal::service(Class::InvalidArgument, "HEADER_INVALID", message).at(PRINCIPAL));
    }
    Ok(Principal { name })
}

fn header<T>(request: &Request<T>, name: &'static str) -> Result<Option<Arc<str>>, Refusal> {
    let Some(value) = request.metadata().get(name) else { return Ok(None) };
    let wrong = || {
        let message = format!("{name} must be 1 to {HEADER_MAX} visible ASCII characters");
        Refusal::service(Class::InvalidArgument, "HEADER_INVALID", message).at(name)
    };
    let value = value.to_str().map_err(|_| wrong())?;
    // Without blanks, so that a principal and a request id joined by one are no other such pair.
    if value.is_empty() || value.len() > HEADER_MAX || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong());
    }
    Ok(Some(value.into()))
}
