//! Where a member's part of the log is kept: on disk, or in memory as the model the disk is tested against.

pub(crate) mod cache;
pub mod disk;
pub mod format;
pub mod memory;
pub mod vfs;

use crate::{
    error::LogError,
    event::{Batch, Snapshot},
};

/// What a [`crate::Driver`] writes to.
///
/// # Contract
/// * Batches are appended in order; one [`Self::sync`] covers all appended before it (group commit).
/// * After an error with [`LogError::is_retryable`] nothing is lost and the same call may be repeated; after any other
///   error the log is done for: stop, and recover by opening it again.
pub trait LogStore {
    /// Adds a batch to what the next sync makes durable. A snapshot in it is durable when this returns.
    ///
    /// # Errors
    /// The batch does not continue the log, or a snapshot could not be written; the batch is then not part of the log.
    fn append(&mut self, batch: &Batch) -> Result<(), LogError>;

    /// Makes everything appended durable.
    ///
    /// # Errors
    /// The disk is full or failed.
    fn sync(&mut self) -> Result<(), LogError>;

    /// Writes a snapshot of the applied state; durable when this returns.
    ///
    /// # Errors
    /// The disk is full or failed.
    fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), LogError>;

    /// Forgets whatever the newest durable snapshot makes unnecessary, at most up to `through`.
    ///
    /// # Errors
    /// A file could not be removed.
    fn compact(&mut self, through: u64) -> Result<(), LogError>;
}
