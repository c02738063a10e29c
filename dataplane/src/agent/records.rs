//! Packets that ACLs want logged.

use ovsdb::value::Atom;
use quantumnet_model::sb::{DatapathBinding, PortBinding};

use crate::{agent::Agent, compile::By, punt::acl_log::Record};

impl Agent {
    /// An ACL wants a record of a packet that it met at a port.
    pub(super) fn logged(&self, mut record: Record, place: Option<(i64, i64)>) {
        record.port = place.and_then(|place| self.port_at(place)).unwrap_or_default();
        record.log();
    }

    fn port_at(&self, (datapath, port): (i64, i64)) -> Option<String> {
        let datapath =
            self.compiler.find_uuid::<DatapathBinding>(By::SwitchKey, &[Atom::Integer(datapath)])?;
        let key = [Atom::Uuid(datapath), Atom::Integer(port)];
        Some(self.compiler.find::<PortBinding>(By::PortKey, &key)?.logical_port.to_string())
    }
}
