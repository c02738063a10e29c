//! The control socket of ovs-vswitchd: what is asked of the switch beside OpenFlow.
//!
//! # Contract
//! - A question has a deadline; nothing that is asked changes the switch.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use ovsdb::unixctl::Unixctl;
use quantumnet_api::v1::{
    AgentQueryAnswer, AgentQueryError, AgentQueryErrorKind, agent_query_answer::Answer,
};
use tokio::{fs, time::timeout};

use crate::trace::{self, Job};

/// Makes a trace.
pub async fn trace(run_dir: &Path, id: u64, job: &Job) -> AgentQueryAnswer {
    let unavailable = |message| {
        let kind = AgentQueryErrorKind::SwitchUnavailable.into();
        AgentQueryError { kind, message }
    };
    let made = async {
        let socket = socket(run_dir).await.map_err(unavailable)?;
        let call = |command: &'static str, arguments: Vec<String>| {
            let socket = socket.clone();
            async move {
                let reply = Unixctl::call(&socket, command, arguments).await;
                reply.map_err(|error| format!("{command}: {error}"))
            }
        };
        trace::run(job, call).await
    };
    let late = |_| Err(unavailable(format!("its switch gave no answer within {} s", WITHIN.as_secs())));
    let answer = match timeout(WITHIN, made).await.unwrap_or_else(late) {
        Ok(answer) => Answer::Trace(answer),
        Err(error) => Answer::Error(error),
    };
    AgentQueryAnswer { id, answer: Some(answer) }
}

/// Where the process that runs now has its socket: named after it, unless it was told a path (ovs-vswitchd(8), `--unixctl`).
pub(super) async fn socket(run_dir: &Path) -> Result<PathBuf, String> {
    let named = run_dir.join("ovs-vswitchd.ctl");
    let read = |path: PathBuf| async move {
        let text = fs::read_to_string(&path).await;
        text.map_err(|error: io::Error| format!("{}: {error}", path.display()))
    };
    if fs::try_exists(&named).await.unwrap_or_default() {
        return Ok(named);
    }
    let pid = read(run_dir.join("ovs-vswitchd.pid")).await?;
    Ok(run_dir.join(format!("ovs-vswitchd.{}.ctl", pid.trim())))
}

const WITHIN: Duration = Duration::from_secs(15);
