//! The databases that clients may name, and their schemas.

use std::sync::LazyLock;

use bytes::Bytes;
use quantumnet_model::{Database, nb, sb, server, tables};

/// The schema of a database that is offered to clients, as JSON text. Panics for one that never is.
pub(super) fn schema(database: Database) -> &'static Bytes {
    match database {
        Database::Northbound => &NORTHBOUND,
        Database::Southbound => &SOUTHBOUND,
        Database::Server => &SERVER,
        Database::QuantumNet | Database::Host => {
            unreachable!("{} is not offered to OVSDB's clients", database.name())
        }
    }
}

/// The same as text.
pub(super) fn schema_text(database: Database) -> &'static str {
    std::str::from_utf8(schema(database)).expect("JSON is UTF-8")
}

static NORTHBOUND: LazyLock<Bytes> = LazyLock::new(|| text(Database::Northbound, nb::VERSION));
static SOUTHBOUND: LazyLock<Bytes> = LazyLock::new(|| text(Database::Southbound, sb::VERSION));
static SERVER: LazyLock<Bytes> = LazyLock::new(|| text(Database::Server, server::VERSION));

fn text(database: Database, version: &str) -> Bytes {
    let mut schema = tables::schema(database, version);
    // As in any cluster: clients that see such columns in a clustered database ask for its conversion.
    let columns = schema.tables.values_mut().flat_map(|table| table.columns.values_mut());
    columns.for_each(|column| column.ephemeral = false);
    Bytes::from(schema.to_json().to_string())
}
