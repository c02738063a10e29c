//! Calls to a controller as JSON over HTTP: the same methods as gRPC, one POST each.
//!
//! # Contract
//! - Knows addresses, HTTP and the error form of the API; knows no kind of object.
//! - A call that could not be sent names the address and what to try; a call that was refused carries
//!   the controller's own words.

use std::{cell::Cell, path::PathBuf, str::FromStr, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;
use tokio::{
    net::{TcpStream, UnixStream},
    task::JoinHandle,
    time::timeout,
};

/// Where a controller listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Address {
    /// `http://HOST:PORT` or `HOST:PORT`.
    Tcp(String),
    /// `unix:PATH`.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        let host = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        match host.rsplit_once(':') {
            Some((name, port)) if !name.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(Self::Tcp(host.to_owned()))
            }
            _ => Err(format!("{text:?} is no controller address: give http://HOST:PORT or unix:PATH")),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(host) => write!(f, "http://{host}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why a call failed.
#[derive(Debug, Error)]
pub enum CallError {
    /// No controller answered.
    #[error("no controller at {address}: {cause}; is it running, and is --controller right?")]
    Unreachable {
        /// Where it was sought.
        address: Address,
        /// What the system says.
        cause: String,
    },
    /// A controller was reached and gave no answer.
    #[error(
        "{address} gave no answer: {cause}; what was asked may have been done or not: look before trying again"
    )]
    Lost {
        /// Who was asked.
        address: Address,
        /// What the system says.
        cause: String,
    },
    /// There is nobody to ask.
    #[error("no address of a controller is given")]
    NoAddress,
    /// The controller refused the call.
    #[error("{}", .0.describe())]
    Refused(Refusal),
    /// The answer was not that of a controller.
    #[error("{address} answered {status} with something that is not a controller's answer: {body}")]
    Strange {
        /// Who answered.
        address: Address,
        /// HTTP status.
        status: StatusCode,
        /// Beginning of the body.
        body: String,
    },
}

impl CallError {
    /// Nothing of the call was done, so another controller may be asked.
    fn was_not_begun(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// The controller's refusal as it came.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Refusal {
    /// gRPC status name or number.
    pub code: Value,
    /// For people.
    pub message: String,
    /// Detail, when there is one.
    pub error: Detail,
}

/// `ErrorDetail` of the API.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Detail {
    /// Stable name.
    pub reason: String,
    /// Field at fault.
    pub field: String,
    /// What stands in the way.
    pub blocking: Vec<String>,
}

impl Refusal {
    /// gRPC's NOT_FOUND, however it is written.
    pub fn is_not_found(&self) -> bool {
        self.code == 5 || self.code == "NOT_FOUND" || self.code == "NotFound" || self.code == "not_found"
    }

    fn describe(&self) -> String {
        let mut text = self.message.clone();
        // The message usually names the field and the obstacles; what it leaves out is added.
        if !self.error.field.is_empty() && !text.contains(&self.error.field) {
            text = format!("{}: {text}", self.error.field);
        }
        for obstacle in
            self.error.blocking.iter().filter(|obstacle| !self.message.contains(obstacle.as_str()))
        {
            text.push_str("\n  in the way: ");
            text.push_str(obstacle);
        }
        text
    }
}

/// A cluster of controllers.
#[derive(Clone, Debug)]
pub struct Client {
    addresses: Vec<Address>,
    principal: Option<String>,
    /// Which address answered last.
    current: Cell<usize>,
}

impl Client {
    /// Calls go to the first of `addresses` that answers, on behalf of `principal`.
    pub fn new(addresses: Vec<Address>, principal: Option<String>) -> Self {
        Self { addresses, principal, current: Cell::new(0) }
    }

    /// One unary call. It is tried with the next controller while one cannot be reached; once
    /// it was sent, it is not sent again without an answer, because it may have been done.
    pub async fn call(&self, service: &str, method: &str, body: &Value) -> Result<Value, CallError> {
        let mut failure = None;
        for _ in 0..self.addresses.len().max(1) {
            let Some(address) = self.addresses.get(self.current.get()) else { break };
            let call = self.send(address, service, method, body);
            let answer = match timeout(CALL_TIMEOUT, call).await {
                Ok(answer) => answer,
                Err(_) => Err(lost(address, format!("no answer within {} s", CALL_TIMEOUT.as_secs()))),
            };
            match answer {
                Err(error) if error.was_not_begun() => failure = Some(error),
                settled => return settled,
            }
            self.current.set((self.current.get() + 1) % self.addresses.len());
        }
        Err(failure.unwrap_or(CallError::NoAddress))
    }

    /// A call with a stream of answers, each given to `each` until it says that it has enough. Once it was sent it is not
    /// sent again.
    pub async fn stream(
        &self,
        service: &str,
        method: &str,
        body: &Value,
        mut each: impl FnMut(Value) -> bool,
    ) -> Result<(), CallError> {
        let mut failure = None;
        for _ in 0..self.addresses.len().max(1) {
            let Some(address) = self.addresses.get(self.current.get()) else { break };
            match self.begin(address, service, method, body).await {
                Err(error) if error.was_not_begun() => failure = Some(error),
                Err(error) => return Err(error),
                Ok(exchange) => return exchange.lines(address, &mut each).await,
            }
            self.current.set((self.current.get() + 1) % self.addresses.len());
        }
        Err(failure.unwrap_or(CallError::NoAddress))
    }

    async fn send(
        &self,
        address: &Address,
        service: &str,
        method: &str,
        body: &Value,
    ) -> Result<Value, CallError> {
        let exchange = self.begin(address, service, method, body).await?;
        let (status, bytes) = exchange.whole().await.map_err(|cause| lost(address, cause))?;
        if status == StatusCode::OK {
            return serde_json::from_slice(&bytes).map_err(|_| strange(address, status, &bytes));
        }
        Err(refused(address, status, &bytes))
    }

    /// Sends the request, and has the head of the answer.
    async fn begin(
        &self,
        address: &Address,
        service: &str,
        method: &str,
        body: &Value,
    ) -> Result<Exchange, CallError> {
        let unreachable = |cause: String| CallError::Unreachable { address: address.clone(), cause };
        let mut request = Request::post(format!("/quantumnet.v1.{service}/{method}"))
            .header(header::HOST, "quantumnet")
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(principal) = &self.principal {
            request = request.header("x-quantumnet-principal", principal);
        }
        let request = request
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|error| unreachable(error.to_string()))?;
        let response = match address {
            Address::Tcp(host) => {
                let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(host)).await;
                let stream = stream.map_err(|_| unreachable("no connection in time".to_owned()))?;
                exchange(stream.map_err(|error| unreachable(error.to_string()))?, request).await
            }
            Address::Unix(path) => {
                let stream =
                    UnixStream::connect(path).await.map_err(|error| unreachable(error.to_string()))?;
                exchange(stream, request).await
            }
        };
        response.map_err(|cause| lost(address, cause))
    }
}

fn lost(address: &Address, cause: String) -> CallError {
    CallError::Lost { address: address.clone(), cause }
}

fn strange(address: &Address, status: StatusCode, body: &[u8]) -> CallError {
    let body = String::from_utf8_lossy(body).chars().take(200).collect();
    CallError::Strange { address: address.clone(), status, body }
}

fn refused(address: &Address, status: StatusCode, body: &[u8]) -> CallError {
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) if !refusal.message.is_empty() => CallError::Refused(refusal),
        _ => strange(address, status, body),
    }
}

/// An answer on its way; dropping it ends it.
struct Exchange {
    response: Response<Incoming>,
    /// Without it the connection would end.
    _sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<Result<(), hyper::Error>>,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Exchange {
    async fn whole(mut self) -> Result<(StatusCode, Bytes), String> {
        let body = Limited::new(self.response.body_mut(), ANSWER_OCTETS_MAX).collect().await;
        Ok((self.response.status(), body.map_err(|error| error.to_string())?.to_bytes()))
    }

    /// Gives out the lines of a stream, as they come.
    async fn lines(
        mut self,
        address: &Address,
        each: &mut impl FnMut(Value) -> bool,
    ) -> Result<(), CallError> {
        let status = self.response.status();
        if status != StatusCode::OK {
            let (status, bytes) = self.whole().await.map_err(|cause| lost(address, cause))?;
            return Err(refused(address, status, &bytes));
        }
        let mut begun: Vec<u8> = Vec::new();
        while let Some(frame) = self.response.body_mut().frame().await {
            let frame = frame.map_err(|error| lost(address, error.to_string()))?;
            let Ok(data) = frame.into_data() else { continue };
            begun.extend_from_slice(&data);
            while let Some(end) = begun.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = begun.drain(..=end).collect();
                let value: Value =
                    serde_json::from_slice(&line).map_err(|_| strange(address, status, &line))?;
                // An error is the last line.
                if value.get("code").is_some() && value.get("message").is_some() {
                    return Err(refused(address, status, &line));
                }
                if !each(value) {
                    return Ok(());
                }
            }
            if begun.len() > ANSWER_OCTETS_MAX {
                return Err(lost(address, "a line without end".to_owned()));
            }
        }
        Ok(())
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Exchange, String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    // The connection's own error also fails the request, which is where it is reported.
    let driver = tokio::spawn(connection);
    match sender.send_request(request).await {
        Ok(response) => Ok(Exchange { response, _sender: sender, driver }),
        Err(error) => {
            driver.abort();
            Err(error.to_string())
        }
    }
}

/// A controller whose machine is gone does not refuse: the next one is tried after this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Long enough for a call that waits for every hypervisor.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// More than the largest page of the largest objects.
const ANSWER_OCTETS_MAX: usize = 256 << 20;
