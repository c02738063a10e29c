//! `ExplainService`.

use quantumnet_api::v1::{
    GetTraceRequest, GetTraceResponse, ListSourcesRequest, ListSourcesResponse,
    explain_service_server::ExplainService,
};
use tonic::{Request, Response, Status};

use crate::{
    explain::{Question, sources},
    service::{Api, Kind, Verb, error, object},
};

#[tonic::async_trait]
impl ExplainService for Api {
    async fn get_trace(
        &self,
        request: Request<GetTraceRequest>,
    ) -> Result<Response<GetTraceResponse>, Status> {
        let (call, request) = self.enter(request, Verb::Read, Kind::Trace, |request| &request.project)?;
        let state = self.read().await?;
        let project = object::project_of(&state, &request.project, "project").map_err(error::refused)?;
        call.may(&project.to_string()).map_err(error::refused)?;
        let question = Question::new(&state, project, &request).map_err(error::refused)?;
        Ok(Response::new(question.trace(&state, &self.context().queries).await))
    }

    async fn list_sources(
        &self,
        request: Request<ListSourcesRequest>,
    ) -> Result<Response<ListSourcesResponse>, Status> {
        let (call, request) = self.enter(request, Verb::Read, Kind::Trace, |request| &request.project)?;
        let state = self.read().await?;
        let project = object::project_of(&state, &request.project, "project").map_err(error::refused)?;
        call.may(&project.to_string()).map_err(error::refused)?;
        // Thousands of verdicts, each over all rules of a switch, are not made where other calls wait.
        let made = tokio::task::spawn_blocking(move || sources(&state, project, &request)).await;
        let made = made.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(made.map_err(error::refused)?))
    }
}
