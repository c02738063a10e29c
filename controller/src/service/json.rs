//! The API's methods as JSON over HTTP: `POST /quantumnet.v1.PortService/GetPort`.
//!
//! # Contract
//! - Transcodes by the descriptors, whatever the method, into a call of the gRPC router in this process, so that both
//!   ways pass the same code; headers of the request become metadata. Proto3's canonical JSON mapping.
//! - A unary answer is one JSON object; a stream is one object a line, and an error in it the last line.
//! - An error is `{"code": "NOT_FOUND", "message": …, "error": ErrorDetail}` with the HTTP status of its code.
//!
//! # Invariants
//! - A body of more than [`BODY_MAX`] octets (an import may have more), and JSON nested deeper than 128, is refused unread. Unknown fields are
//!   refused by name.

use std::sync::Arc;

use axum::{
    body::{Body, to_bytes},
    response::Response,
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions,
};
use quantumnet_api::v1::ErrorDetail;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tower::ServiceExt;

use crate::service::{IMPORT_OCTETS_MAX, RpcStatus};

/// Octets of a JSON body, at most.
const BODY_MAX: usize = 4 << 20;
/// The method whose request is a whole database.
const IMPORT: &str = "quantumnet.v1.DatabaseService.ImportRows";
/// Lines of a stream that wait for a client.
const LINES_MAX: usize = 16;
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// Serves JSON beside what the gRPC router serves.
pub(super) fn over(grpc: axum::Router) -> Result<axum::Router, Box<dyn std::error::Error + Send + Sync>> {
    let pool = DescriptorPool::decode(quantumnet_api::DESCRIPTOR_SET)?;
    let transcoder = Arc::new(Transcoder { pool, grpc });
    let serve = move |request: Request<Body>| {
        let transcoder = transcoder.clone();
        async move { transcoder.serve(request).await }
    };
    Ok(axum::Router::new().fallback(serve))
}

struct Transcoder {
    pool: DescriptorPool,
    grpc: axum::Router,
}

/// An error before or after the call, with its HTTP status where that does not follow from the code.
struct Failure {
    http: StatusCode,
    status: Status,
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self { http: http_of(status.code()), status }
    }
}

impl Transcoder {
    async fn serve(&self, request: Request<Body>) -> Response {
        let is_grpc = content_type(request.headers()).starts_with("application/grpc");
        if is_grpc {
            return match self.grpc.clone().oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
        }
        self.json(request).await.unwrap_or_else(|failure| failure.answer())
    }

    async fn json(&self, request: Request<Body>) -> Result<Response, Failure> {
        let method = self.method(request.uri().path())?;
        if request.method() != Method::POST {
            let message = format!("{} is not how methods are called; POST a JSON object", request.method());
            return Err(Failure {
                http: StatusCode::METHOD_NOT_ALLOWED,
                status: Status::invalid_argument(message),
            });
        }
        if content_type(request.headers()) != "application/json" {
            let message = "the content-type must be application/json or application/grpc";
            return Err(Failure {
                http: StatusCode::UNSUPPORTED_MEDIA_TYPE,
                status: Status::invalid_argument(message),
            });
        }
        let (mut parts, body) = request.into_parts();
        let body_max = if method.full_name() == IMPORT { IMPORT_OCTETS_MAX } else { BODY_MAX };
        let body = to_bytes(body, body_max).await.map_err(|error| {
            let mut source: Option<&dyn std::error::Error> = Some(&error);
            while let Some(cause) = source {
                if cause.is::<http_body_util::LengthLimitError>() {
                    let message = format!("the body is larger than {body_max} octets; split the request");
                    return Failure {
                        http: StatusCode::PAYLOAD_TOO_LARGE,
                        status: Status::invalid_argument(message),
                    };
                }
                source = cause.source();
            }
            Failure::from(Status::invalid_argument(format!("the body ended early: {error}")))
        })?;
        let message = read(&method.input(), &body)?;

        parts.headers.insert(header::CONTENT_TYPE, GRPC);
        parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.remove("grpc-encoding");
        parts.headers.remove("grpc-accept-encoding");
        let call = Request::from_parts(parts, Body::from(frame(&message)));
        let response = match self.grpc.clone().oneshot(call).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        if let Some(status) = failed(response.headers()) {
            return Err(status.into());
        }
        if method.is_server_streaming() {
            return Ok(lines(method.output(), response.into_body()));
        }
        let mut frames = Frames::new(response.into_body());
        let message = frames.next().await?.ok_or_else(|| Status::internal("the answer holds no message"))?;
        let text = write(&method.output(), &message)?;
        // The trailers may still say that it failed.
        frames.next().await?;
        Ok(answer(StatusCode::OK, JSON, Body::from(text)))
    }

    fn method(&self, path: &str) -> Result<MethodDescriptor, Failure> {
        let found =
            path.strip_prefix('/').and_then(|path| path.split_once('/')).and_then(|(service, method)| {
                let service = self.pool.get_service_by_name(service)?;
                service.methods().find(|known| known.name() == method)
            });
        let found = found.filter(|method| !method.is_client_streaming());
        found.ok_or_else(|| {
            let message =
                format!("there is no method {path}; methods are such as /quantumnet.v1.PortService/GetPort");
            Status::unimplemented(message).into()
        })
    }
}

impl Failure {
    fn answer(self) -> Response {
        let mut response = answer(self.http, JSON, Body::from(described(&self.status).to_string()));
        if self.http == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        response
    }
}

fn answer(status: StatusCode, content_type: HeaderValue, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim()
}

fn read(input: &MessageDescriptor, body: &[u8]) -> Result<DynamicMessage, Status> {
    // curl without a body means an empty message.
    let body = if body.iter().all(u8::is_ascii_whitespace) { b"{}" } else { body };
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let mut json = serde_json::Deserializer::from_slice(body);
    let message = DynamicMessage::deserialize_with_options(input.clone(), &mut json, &options);
    message
        .and_then(|message| json.end().map(|()| message))
        .map_err(|error| Status::invalid_argument(format!("the body is no {}: {error}", input.full_name())))
}

fn write(output: &MessageDescriptor, message: &[u8]) -> Result<Vec<u8>, Status> {
    let message = DynamicMessage::decode(output.clone(), message)
        .map_err(|error| Status::internal(format!("the answer is no {}: {error}", output.full_name())))?;
    let mut text = Vec::new();
    let mut json = serde_json::Serializer::new(&mut text);
    message
        .serialize_with_options(&mut json, &SerializeOptions::new())
        .map_err(|error| Status::internal(format!("the answer cannot be written: {error}")))?;
    Ok(text)
}

/// A gRPC frame: not compressed, length, message.
fn frame(message: &DynamicMessage) -> Bytes {
    let message = message.encode_to_vec();
    let mut frame = BytesMut::with_capacity(message.len() + HEADER);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("a body is far smaller than 4 GiB"));
    frame.put_slice(&message);
    frame.freeze()
}

/// Reads the messages of a gRPC body.
struct Frames {
    body: Body,
    buffer: BytesMut,
}

impl Frames {
    fn new(body: Body) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next message; `None` when the call ended well.
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(length) = self.buffer.get(1..HEADER) {
                let length = usize::try_from((&mut &*length).get_u32()).unwrap_or(usize::MAX);
                if self.buffer.len() - HEADER >= length {
                    self.buffer.advance(HEADER);
                    return Ok(Some(self.buffer.split_to(length).freeze()));
                }
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(Status::internal(format!("the answer broke off: {error}"))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.buffer.put(data),
                    Err(frame) => {
                        if let Some(status) = frame.trailers_ref().and_then(failed) {
                            return Err(status);
                        }
                    }
                },
            }
        }
    }
}

fn lines(output: MessageDescriptor, body: Body) -> Response {
    let (sender, receiver) = mpsc::channel::<Result<Vec<u8>, std::convert::Infallible>>(LINES_MAX);
    tokio::spawn(async move {
        let mut frames = Frames::new(body);
        loop {
            let next = tokio::select! {
                next = frames.next() => next,
                // Dropping the body ends the call.
                () = sender.closed() => return,
            };
            let line = next.and_then(|message| message.map(|message| write(&output, &message)).transpose());
            let (mut line, last) = match line {
                Ok(Some(line)) => (line, false),
                Ok(None) => return,
                Err(status) => (described(&status).to_string().into_bytes(), true),
            };
            line.push(b'\n');
            if sender.send(Ok(line)).await.is_err() || last {
                return;
            }
        }
    });
    answer(StatusCode::OK, LINES, Body::from_stream(ReceiverStream::new(receiver)))
}

/// The status in headers or trailers, unless it is OK or there is none.
fn failed(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers).filter(|status| status.code() != Code::Ok)
}

fn described(status: &Status) -> Value {
    let detail = RpcStatus::detail(status).unwrap_or_default();
    let ErrorDetail { reason, field, blocking } = detail;
    json!({
        "code": name_of(status.code()),
        "message": status.message(),
        "error": { "reason": reason, "field": field, "blocking": blocking },
    })
}

/// As in `google.rpc.Code`.
fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// As `google/rpc/code.proto` maps them.
fn http_of(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound | Code::Unimplemented => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Cancelled | Code::Unknown | Code::Internal | Code::DataLoss => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// Octets before each message of a gRPC body.
const HEADER: usize = 5;
