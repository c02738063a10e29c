//! What controller and agent must agree on: row declarations, row changes and their encoding, addresses,
//! DHCP options, selectors of labels.
//!
//! # Contract
//! - Pure: no clock, no I/O, no global state but the declarations themselves.
//! - A table is declared once, as a typed struct (`table!`); the OVSDB schema, column access by name,
//!   defaults, constraints, references, indexes and the scopes that decide which agents see a row all
//!   follow from that declaration.
//! - Refuses to know how rows are stored durably, who may write them, and what flows they become.

pub mod address;
pub mod change;
pub mod column;
pub mod dhcp;
pub mod host;
pub mod intent;
pub mod nb;
pub mod row;
pub mod rows;
pub mod sb;
pub mod selection;
pub mod selector;
pub mod server;
pub mod tables;
pub mod threshold;

pub use column::{Column, Ref, Scalar, Strong, Weak};
pub use row::{ColumnDecl, ColumnId, Database, DynRow, Row, Scope, TableDecl, TableId};
pub use rows::Rows;
pub use uuid::Uuid;
