//! OVN's expression language: what `ACL.match`, `Logical_Router_Policy.match`, `QoS.match`, `NAT.match` and the other match
//! columns are written in (ovn-sb(5), `Logical_Flow.match`).
//!
//! # Contract
//! - [`Expr::parse`] accepts what OVN 23.03 to 26.03 accept, with the exceptions that `tests/corpus` lists, and says where
//!   and why it refuses the rest. It never panics.
//! - [`Expr::normalize`] gives clauses that become OpenFlow flows without cross products of wide fields; [`Expr::eval`] says
//!   what the expression means, without the normaliser.
//! - Address sets, port groups and residence stay references, so that a new member changes no expression.
//!
//! # Invariants
//! - Pure: no socket, no clock, no row and no flow. It knows names of fields, not where a pipeline keeps them.
//! - A name is declared once, in `symbol/table.rs`.
//!
//! ```
//! use quantumnet_expr::Expr;
//!
//! let expr = Expr::parse("ip4.src == $web && tcp.dst == {80, 443}")?;
//! let clauses: Vec<String> = expr.normalize()?.iter().map(ToString::to_string).collect();
//! assert_eq!(clauses, ["eth.type=0x800 && ip.proto=0x6 && ip4.src=$web && (tcp.dst=0x50 | tcp.dst=0x1bb)"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod check;
mod clause;
mod constant;
mod cube;
mod dimension;
mod error;
mod eval;
mod expr;
mod lex;
mod normalize;
mod parse;
mod prefix;
mod symbol;
mod template;

pub use clause::{AddressSet, Clause, Dimension, Family, Match, Term};
pub use constant::{Constant, Format};
pub use error::{ErrorKind, ExprError};
pub use eval::Packet;
pub use expr::{Comparison, Expr, Op, References, Text, Value};
pub use normalize::TooComplex;
pub use prefix::{AddressFamily, Prefix, PrefixError, complement};
pub use symbol::{Field, Level, Meaning, Symbol};
pub use template::TemplateError;
