//! `ClusterService`.

use std::time::Duration;

use quantumnet_api::v1::{
    ClusterMember, Feature, FeatureState, GetClusterStatusRequest, GetClusterStatusResponse,
    ListFeaturesRequest, ListFeaturesResponse, ListProblemsRequest, ListProblemsResponse, Problem,
    WaitForRevisionRequest, WaitForRevisionResponse, cluster_service_server::ClusterService,
};
use quantumnet_model::intent::Problem as Row;
use tonic::{Request, Response, Status};

use crate::{
    lower::features,
    peer::Standing,
    service::{Api, Kind, Verb, error},
    store::ResumeToken,
};

/// How long a caller waits that names no time.
const TIMEOUT_DEFAULT_MS: u32 = 30_000;
/// How long a caller may wait.
const TIMEOUT_MAX_MS: u32 = 600_000;

#[tonic::async_trait]
impl ClusterService for Api {
    async fn get_cluster_status(
        &self,
        request: Request<GetClusterStatusRequest>,
    ) -> Result<Response<GetClusterStatusResponse>, Status> {
        self.enter(request, Verb::Read, Kind::Cluster, |_| "")?;
        // Without asking the others: this is what one calls when they do not answer. What they said last is at hand.
        let (status, state) = (self.context().replica.status(), self.context().replica.state());
        let token = ResumeToken::of(&state);
        let member = |(id, standing): (u64, Standing)| {
            let Standing { connected, address, version, applied_index, revision } = standing;
            ClusterMember { id, address, connected, version, applied_index, revision }
        };
        Ok(Response::new(GetClusterStatusResponse {
            cluster_id: token.map(|token| token.cluster_id.to_string()).unwrap_or_default(),
            history_id: token.map(|token| token.history_id.to_string()).unwrap_or_default(),
            revision: state.revision(),
            member_id: status.member,
            leader_id: status.leader.unwrap_or(0),
            term: status.term,
            members: self.context().members.all().into_iter().map(member).collect(),
            version: env!("CARGO_PKG_VERSION").into(),
        }))
    }

    async fn list_problems(
        &self,
        request: Request<ListProblemsRequest>,
    ) -> Result<Response<ListProblemsResponse>, Status> {
        self.enter(request, Verb::Read, Kind::Cluster, |_| "")?;
        let state = self.read().await?;
        let problem = |row: &Row| Problem {
            database: row.database.to_string(),
            table: row.table.to_string(),
            row: row.row.to_string(),
            column: row.column.to_string(),
            message: row.message.to_string(),
            severity: row.severity.to_string(),
        };
        let problems = state.iter::<Row>().map(|(_, row)| problem(row)).collect();
        Ok(Response::new(ListProblemsResponse { problems }))
    }

    async fn list_features(
        &self,
        request: Request<ListFeaturesRequest>,
    ) -> Result<Response<ListFeaturesResponse>, Status> {
        self.enter(request, Verb::Read, Kind::Cluster, |_| "")?;
        let feature = |feature: features::Feature| {
            let state = match feature.state {
                features::State::Works => FeatureState::Works,
                features::State::Partly => FeatureState::Partly,
                features::State::NotYet => FeatureState::NotYet,
            };
            Feature {
                table: feature.table.into(),
                column: feature.column.into(),
                key: feature.key.into(),
                state: state.into(),
                area: feature.area.into(),
                note: feature.note.into(),
                database: feature.database.name().into(),
            }
        };
        let features = features::list().into_iter().map(feature).collect();
        Ok(Response::new(ListFeaturesResponse { features }))
    }

    async fn wait_for_revision(
        &self,
        request: Request<WaitForRevisionRequest>,
    ) -> Result<Response<WaitForRevisionResponse>, Status> {
        let (_, request) = self.enter(request, Verb::Read, Kind::Cluster, |_| "")?;
        let timeout_ms = if request.timeout_ms == 0 { TIMEOUT_DEFAULT_MS } else { request.timeout_ms };
        if timeout_ms > TIMEOUT_MAX_MS {
            let message = format!("{timeout_ms} is too long, at most {TIMEOUT_MAX_MS} are allowed");
            return Err(error::refused(error::invalid("timeout_ms", "TIMEOUT_INVALID", message)));
        }
        let agents = &self.context().agents;
        let mut progress = agents.changes();
        let mut applied = self.context().replica.applied();
        let wait = async {
            // An agent cannot be waited for while this member itself is behind.
            while applied.borrow_and_update().revision() < request.revision {
                if applied.changed().await.is_err() {
                    return;
                }
            }
            loop {
                progress.mark_unchanged();
                if agents.behind(request.revision).is_empty() {
                    return;
                }
                if progress.changed().await.is_err() {
                    return;
                }
            }
        };
        let in_time = tokio::time::timeout(Duration::from_millis(timeout_ms.into()), wait).await.is_ok();
        if !in_time && self.context().replica.state().revision() < request.revision {
            let message = format!(
                "revision {} is not there yet; the newest is {}",
                request.revision,
                self.context().replica.state().revision()
            );
            return Err(Status::deadline_exceeded(message));
        }
        Ok(Response::new(WaitForRevisionResponse { behind: agents.behind(request.revision) }))
    }
}
