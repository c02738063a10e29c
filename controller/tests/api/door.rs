//! Who may call, and who is taken for whom.

use std::{
    os::unix::fs::PermissionsExt,
    sync::{Arc, Mutex},
};

use prost_reflect::DescriptorPool;
use quantumnet_api::v1::{AgentMessage, agent_service_client::AgentServiceClient};
use quantumnet_controller::{
    service::{Kind, Policy, Principal, Verb},
    store::{Class, Refusal},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::server::Server;

struct Nobody;

impl Policy for Nobody {
    fn authorize(&self, _: &Principal, _: &str, _: Verb, _: Kind) -> Result<(), Refusal> {
        Err(Refusal::service(Class::PermissionDenied, "NOBODY", "nobody may do anything"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_passes_the_door() {
    let server = Server::start_with(Arc::new(Nobody)).await;
    let pool = DescriptorPool::decode(quantumnet_api::DESCRIPTOR_SET).unwrap();
    let mut methods = 0;
    for service in pool.services().filter(|service| service.name() != "AgentService") {
        for method in service.methods() {
            let (status, answer) =
                server.post(&format!("{}/{}", service.name(), method.name()), &json!({})).await;
            assert_eq!(
                (status, &answer["error"]["reason"]),
                (403, &json!("NOBODY")),
                "{}: {answer}",
                method.full_name()
            );
            methods += 1;
        }
    }
    assert_eq!(methods, 59);
    let mut agents = AgentServiceClient::connect(format!("http://{}", server.address)).await.unwrap();
    let refused = agents.sync(tokio_stream::empty::<AgentMessage>()).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (tonic::Code::PermissionDenied, "nobody may do anything")
    );
}

/// Remembers who was let in.
#[derive(Default)]
struct Names(Mutex<Vec<String>>);

impl Policy for Names {
    fn authorize(&self, principal: &Principal, _: &str, _: Verb, _: Kind) -> Result<(), Refusal> {
        self.0.lock().unwrap().push(principal.name.to_string());
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_is_who_the_system_says_or_else_the_header() {
    let names = Arc::new(Names::default());
    let server = Server::start_with(names.clone()).await;
    let mode = std::fs::metadata(&server.unix).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let mut stream = UnixStream::connect(&server.unix).await.unwrap();
    let request = "POST /quantumnet.v1.ClusterService/GetClusterStatus HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
        x-quantumnet-principal: ann\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let empty = json!({});
    let call = |header: &'static str| server.post_as("ClusterService/GetClusterStatus", &empty, header);
    assert_eq!(call("").await.0, 200);
    assert_eq!(call("x-quantumnet-principal: ann\r\n").await.0, 200);
    let uid = nix::unistd::getuid();
    assert_eq!(*names.0.lock().unwrap(), [format!("uid:{uid}"), "anonymous".into(), "ann".into()]);
    // Names that only the controller gives.
    for header in ["uid:0", "quantumnet-controller", "agent hv1"] {
        let header: &'static str = format!("x-quantumnet-principal: {header}\r\n").leak();
        let (status, answer) = call(header).await;
        assert_eq!((status, &answer["error"]["reason"]), (400, &json!("HEADER_INVALID")), "{header}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_names_the_services() {
    let server = Server::start_with(Arc::new(Nobody)).await;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    let mut client = ServerReflectionClient::new(endpoint.connect().await.unwrap());
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers =
        client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["quantumnet.v1.PortService", "quantumnet.v1.ClusterService", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
}
