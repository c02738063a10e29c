//! Calls that write go to the leader, whichever member they came to.
//!
//! # Contract
//! - One place for all services: between the JSON transcoder and the gRPC router. A call that only reads is served here.
//! - A call travels as it came, with the headers that the API reads and who the caller is on this member; the leader
//!   runs it through its own router, so that authorization, validation and answers are the same everywhere.
//!
//! # Invariants
//! - A call is made again, of another leader, only if it is certain that nothing was written. Otherwise the client is
//!   told that this is not known; it may repeat the call with the same request id.

use std::sync::Arc;

use axum::{
    body::{Body, to_bytes},
    extract::ConnectInfo,
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use quantumnet_api::peer::v1::{ApiAnswer, ApiCall, ApiUnixPeer, Header};
use tonic::Status;
use tower::ServiceExt as _;

use crate::{
    peer::{Answer, Elsewhere, Handler, Kind, Leader},
    service::{IMPORT_OCTETS_MAX, Peer, RpcStatus, error},
};

/// Sends calls that write to the leader, and serves those that come from other members.
pub(super) fn over(grpc: axum::Router, leader: Leader) -> axum::Router {
    leader.register(Kind::Api, Arc::new(Calls { grpc: grpc.clone() }));
    let serve = move |request: Request<Body>| {
        let (grpc, leader) = (grpc.clone(), leader.clone());
        async move {
            if writes(request.uri().path()) {
                return forward(&leader, request).await.unwrap_or_else(|status| status.into_http());
            }
            let Ok(response) = grpc.oneshot(request).await;
            response
        }
    };
    axum::Router::new().fallback(serve)
}

/// Whether a method may write. One whose name does not say that it only reads is taken to write: the leader can carry
/// out everything.
fn writes(path: &str) -> bool {
    let method = path.strip_prefix("/quantumnet.v1.").and_then(|path| path.split_once('/'));
    method.is_some_and(|(_, method)| !READS.iter().any(|verb| method.starts_with(verb)))
}

async fn forward(leader: &Leader, request: Request<Body>) -> Result<Response, Status> {
    let (parts, body) = request.into_parts();
    let max = if parts.uri.path() == IMPORT { IMPORT_OCTETS_MAX } else { CALL_OCTETS_MAX } + FRAME_OCTETS_MAX;
    let body = to_bytes(body, max).await.map_err(|error| {
        Status::out_of_range(format!("the request ended early, or has more than {max} octets: {error}"))
    })?;
    let peer = parts.extensions.get::<ConnectInfo<Peer>>().map(|info| info.0);
    let unix = match peer {
        Some(Peer::Unix { uid }) => Some(ApiUnixPeer { uid }),
        Some(Peer::Tcp) | None => None,
    };
    let kept = |name: &HeaderName| HEADERS.iter().any(|prefix| name.as_str().starts_with(prefix));
    let headers = parts.headers.iter().filter(|(name, _)| kept(name));
    let headers = headers.map(|(name, value)| header(name, value)).collect();
    let call = ApiCall { path: parts.uri.path().to_owned(), headers, body, unix };
    let answer = leader.start(Kind::Api, call.encode_to_vec().into()).await.map_err(error::undelivered)?;
    let broken = || Status::internal("the leader's answer is none: the members are of different versions");
    let ApiAnswer { headers, body, trailers } = ApiAnswer::decode(answer).map_err(|_| broken())?;
    let (headers, trailers) = (map(headers).ok_or_else(broken)?, map(trailers).ok_or_else(broken)?);
    Ok(response(headers, body, trailers))
}

/// Runs calls on the leader.
struct Calls {
    grpc: axum::Router,
}

impl Handler for Calls {
    fn start(&self, body: Bytes) -> Answer {
        let grpc = self.grpc.clone();
        Box::pin(async move {
            let response = match request(body) {
                Ok(request) => {
                    let Ok(response) = grpc.oneshot(request).await;
                    response
                }
                Err(status) => status.into_http(),
            };
            answer(response).await
        })
    }
}

fn request(body: Bytes) -> Result<Request<Body>, Status> {
    let wrong = || Status::invalid_argument("the call is none: the members are of different versions");
    let ApiCall { path, headers, body, unix } = ApiCall::decode(body).map_err(|_| wrong())?;
    if !writes(&path) {
        return Err(wrong());
    }
    let mut request =
        Request::builder().method(Method::POST).uri(path).body(Body::from(body)).map_err(|_| wrong())?;
    *request.headers_mut() = map(headers).ok_or_else(wrong)?;
    let peer = unix.map_or(Peer::Tcp, |unix| Peer::Unix { uid: unix.uid });
    request.extensions_mut().insert(ConnectInfo(peer));
    Ok(request)
}

async fn answer(response: Response) -> Result<Bytes, Elsewhere> {
    let (parts, body) = response.into_parts();
    let (body, trailers) = match body.collect().await {
        Ok(whole) => {
            let trailers = whole.trailers().cloned().unwrap_or_default();
            (whole.to_bytes(), trailers)
        }
        Err(error) => {
            // It is not known how the call ended.
            let status = Status::unknown(format!("the leader's answer broke off: {error}"));
            (Bytes::new(), status.into_http::<Body>().headers().clone())
        }
    };
    for map in [&parts.headers, &trailers] {
        let detail = Status::from_header_map(map).as_ref().and_then(RpcStatus::detail);
        if detail.is_some_and(|detail| error::NOTHING_WRITTEN.contains(&detail.reason.as_str())) {
            return Err(Elsewhere);
        }
    }
    let list = |map: &HeaderMap| map.iter().map(|(name, value)| header(name, value)).collect();
    let answer = ApiAnswer { headers: list(&parts.headers), body, trailers: list(&trailers) };
    Ok(answer.encode_to_vec().into())
}

fn response(headers: HeaderMap, body: Bytes, trailers: HeaderMap) -> Response {
    let body = Full::new(body).with_trailers(async move { (!trailers.is_empty()).then_some(Ok(trailers)) });
    let mut response = Response::new(Body::new(body));
    *response.headers_mut() = headers;
    response
}

fn header(name: &HeaderName, value: &HeaderValue) -> Header {
    Header { name: name.as_str().to_owned(), value: Bytes::copy_from_slice(value.as_bytes()) }
}

fn map(headers: Vec<Header>) -> Option<HeaderMap> {
    let parse = |header: Header| {
        let name = header.name.parse::<HeaderName>().ok()?;
        Some((name, HeaderValue::from_maybe_shared(header.value).ok()?))
    };
    let mut map = HeaderMap::new();
    for header in headers {
        let (name, value) = parse(header)?;
        map.append(name, value);
    }
    Some(map)
}

/// How the names of methods begin that only read.
const READS: [&str; 4] = ["Get", "List", "Watch", "Wait"];
/// How the names of headers begin that the API reads.
const HEADERS: [&str; 4] = ["x-quantumnet-", "content-type", "grpc-", "te"];
const IMPORT: &str = "/quantumnet.v1.DatabaseService/ImportRows";
/// Octets of a call.
const CALL_OCTETS_MAX: usize = 4 << 20;
/// More than a frame adds to them: of what is only a little too large tonic says so better.
const FRAME_OCTETS_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_known_to_read_or_to_write() {
        let pool = prost_reflect::DescriptorPool::decode(quantumnet_api::DESCRIPTOR_SET).unwrap();
        for service in pool.services().filter(|service| service.name() != "AgentService") {
            for method in service.methods() {
                let path = format!("/{}/{}", service.full_name(), method.name());
                let named = ["Create", "Update", "Delete", "Bind", "Unbind", "Import"]
                    .iter()
                    .any(|verb| method.name().starts_with(verb));
                assert_eq!(writes(&path), named, "{path}: name it so that it is clear whether it writes");
                assert!(
                    !(writes(&path) && method.is_server_streaming()),
                    "{path}: streams are not forwarded"
                );
            }
        }
        assert!(!writes("/grpc.health.v1.Health/Check"));
    }
}
