//! The task that writes: one file after another, each kind's latest contents only.
//!
//! # Invariants
//! - What was handed in later is never overwritten by what was handed in earlier.
//! - However slow the disk is, at most one of each kind waits.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{sync::Notify, task::JoinHandle};

use crate::disk::{DiskError, Ids, Resume, Snapshot, StateDir, Zones};

/// Rows to be stored; they are encoded where they are written.
#[derive(Debug)]
pub struct RowsToStore {
    /// Whose.
    pub chassis: String,
    /// Of which point in history.
    pub resume: Resume,
    /// The rows.
    pub rows: quantumnet_model::Rows,
}

/// Hands contents to the task.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    ids: Option<Ids>,
    zones: Option<Zones>,
    rows: Option<RowsToStore>,
    end: bool,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.ids.is_none() && self.zones.is_none() && self.rows.is_none()
    }
}

impl Writer {
    /// Starts the task; `stored` hears how each round went.
    pub fn start<F>(state: StateDir, stored: F) -> Self
    where
        F: Fn(Result<(), DiskError>) + Send + Sync + 'static,
    {
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(run(state, shared.clone(), Arc::new(stored)));
        Self { shared, task }
    }

    /// Stores these, instead of any that wait.
    pub fn ids(&self, ids: Ids) {
        self.change(|waiting| waiting.ids = Some(ids));
    }

    /// Stores these, instead of any that wait.
    pub fn zones(&self, zones: Zones) {
        self.change(|waiting| waiting.zones = Some(zones));
    }

    /// Stores these, instead of any that wait.
    pub fn rows(&self, rows: RowsToStore) {
        self.change(|waiting| waiting.rows = Some(rows));
    }

    /// Writes what waits and ends.
    pub async fn end(self) {
        self.change(|waiting| waiting.end = true);
        // It does not panic, and nobody aborts it.
        let _ = self.task.await;
    }

    fn change(&self, change: impl FnOnce(&mut Waiting)) {
        change(&mut self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.changed.notify_one();
    }
}

async fn run<F>(state: StateDir, shared: Arc<Shared>, stored: Arc<F>)
where
    F: Fn(Result<(), DiskError>) + Send + Sync + 'static,
{
    loop {
        let waiting = {
            let mut waiting = shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let taken = std::mem::take(&mut *waiting);
            waiting.end = taken.end;
            taken
        };
        if waiting.is_empty() {
            if waiting.end {
                return;
            }
            shared.changed.notified().await;
            continue;
        }
        let (state, stored) = (state.clone(), stored.clone());
        let written = tokio::task::spawn_blocking(move || stored(write(&state, waiting)));
        if written.await.is_err() {
            tracing::error!("writing the state panicked");
        }
    }
}

fn write(state: &StateDir, waiting: Waiting) -> Result<(), DiskError> {
    if let Some(ids) = waiting.ids {
        state.store(&ids)?;
    }
    if let Some(zones) = waiting.zones {
        state.store(&zones)?;
    }
    if let Some(RowsToStore { chassis, resume, rows }) = waiting.rows {
        state.store(&Snapshot::new(&chassis, resume, &rows))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[tokio::test]
    async fn the_latest_is_what_stays() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let writer = Writer::start(state.clone(), |result| result.unwrap());
        let mut ids = Ids::default();
        for number in 0..500_u128 {
            ids.appeared("port", Uuid::from_u128(number), 0);
            writer.ids(ids.clone());
            tokio::task::yield_now().await;
        }
        writer.end().await;
        assert_eq!(state.load::<Ids>().unwrap(), Some(ids));
    }
}
