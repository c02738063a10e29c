//! Why a transaction was refused.

use quantumnet_model::{Uuid, row::TableId, tables};
use thiserror::Error;

/// Why a transaction was refused; it left no trace. The message is shown to the client as it is.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum Refusal {
    /// A value outside what its column may hold.
    #[error("constraint violation: table {} row {row} column {column}: {reason}", name(*table))]
    ConstraintViolation {
        /// The table.
        table: TableId,
        /// The row.
        row: Uuid,
        /// The column.
        column: &'static str,
        /// What the column may hold and what was to be put there.
        reason: String,
    },
    /// A strong reference to a row that is not there, or is to go.
    #[error(
        "referential integrity violation: table {} row {row} column {column} refers to row {target} of table {}, \
         which would not exist", name(*table), name(*target_table)
    )]
    ReferentialIntegrity {
        /// Table of the referring row.
        table: TableId,
        /// The referring row.
        row: Uuid,
        /// The referring column.
        column: &'static str,
        /// Table of the row referred to.
        target_table: TableId,
        /// The row that would be missing.
        target: Uuid,
    },
    /// Two rows with the same values in columns that are unique together.
    #[error(
        "constraint violation: table {} rows {row} and {holder} have the same {}: {values}",
        name(*table), columns.join(", ")
    )]
    DuplicateIndex {
        /// The table.
        table: TableId,
        /// Columns of the index.
        columns: Vec<&'static str>,
        /// The values, for people.
        values: String,
        /// The row of this transaction.
        row: Uuid,
        /// The row that has the values too.
        holder: Uuid,
    },
    /// More rows than the table may have.
    #[error("constraint violation: table {} would have {got} rows, at most {max} are allowed", name(*table))]
    MaxRows {
        /// The table.
        table: TableId,
        /// The bound.
        max: usize,
        /// Rows that there would be.
        got: usize,
    },
    /// An insert with the uuid of a row that is there.
    #[error("duplicate uuid: table {} has a row {row} already", name(*table))]
    DuplicateUuid {
        /// The table.
        table: TableId,
        /// The row.
        row: Uuid,
    },
    /// The object changed since the client read it.
    #[error("row {row} of table {} is of revision {got}, expected {expected}", name(*table))]
    StaleRevision {
        /// The table.
        table: TableId,
        /// The row.
        row: Uuid,
        /// What the client names.
        expected: u64,
        /// What the row has.
        got: u64,
    },
    /// A service refuses the request.
    #[error("{0}")]
    Service(Box<ServiceRefusal>),
}

/// A refusal in the words of `ErrorDetail` (common.proto).
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{message}")]
pub struct ServiceRefusal {
    /// What kind of error it is, for the status code.
    pub class: Class,
    /// Stable machine-readable name, as `ADDRESS_IN_USE`.
    pub reason: &'static str,
    /// For people: what, expected, got, and what to do.
    pub message: String,
    /// The request's field that is wrong, as `spec.subnets[0].cidr`; empty when it is none.
    pub field: String,
    /// Objects that stand in the way, as `Port web-1 (uuid)`.
    pub blocking: Vec<String>,
}

/// What kind of error a refusal is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// The request is wrong whatever the state.
    InvalidArgument,
    /// The object named is not there.
    NotFound,
    /// An object with that name or address is there already.
    AlreadyExists,
    /// The state does not allow it.
    FailedPrecondition,
    /// A pool or a limit is exhausted.
    ResourceExhausted,
    /// The principal may not.
    PermissionDenied,
    /// It changed meanwhile: read again and retry.
    Aborted,
}

impl Refusal {
    /// A service's refusal without a field or blocking objects.
    pub fn service(class: Class, reason: &'static str, message: impl Into<String>) -> Self {
        let (field, blocking) = (String::new(), Vec::new());
        ServiceRefusal { class, reason, message: message.into(), field, blocking }.into()
    }

    /// Names the request's field that is wrong. Does nothing to refusals of the store itself.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        if let Self::Service(refusal) = &mut self {
            refusal.field = field.into();
        }
        self
    }

    /// Names objects that stand in the way. Does nothing to refusals of the store itself.
    #[must_use]
    pub fn blocked_by(mut self, blocking: impl IntoIterator<Item = String>) -> Self {
        if let Self::Service(refusal) = &mut self {
            refusal.blocking.extend(blocking);
        }
        self
    }

    /// Stable machine-readable name.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ConstraintViolation { .. } => "CONSTRAINT_VIOLATION",
            Self::ReferentialIntegrity { .. } => "REFERENTIAL_INTEGRITY_VIOLATION",
            Self::DuplicateIndex { .. } => "DUPLICATE_INDEX",
            Self::MaxRows { .. } => "MAX_ROWS",
            Self::DuplicateUuid { .. } => "DUPLICATE_UUID",
            Self::StaleRevision { .. } => "STALE_REVISION",
            Self::Service(refusal) => refusal.reason,
        }
    }

    /// What kind of error it is.
    pub fn class(&self) -> Class {
        match self {
            Self::ConstraintViolation { .. } => Class::InvalidArgument,
            Self::ReferentialIntegrity { .. } | Self::MaxRows { .. } => Class::FailedPrecondition,
            Self::DuplicateIndex { .. } | Self::DuplicateUuid { .. } => Class::AlreadyExists,
            Self::StaleRevision { .. } => Class::Aborted,
            Self::Service(refusal) => refusal.class,
        }
    }
}

impl From<ServiceRefusal> for Refusal {
    fn from(refusal: ServiceRefusal) -> Self {
        Self::Service(Box::new(refusal))
    }
}

fn name(table: TableId) -> &'static str {
    tables::decl(table).name
}
