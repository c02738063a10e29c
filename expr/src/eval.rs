//! What an expression means, for one packet: the oracle that the normal form is tested against.
//!
//! # Contract
//! - Straight from the typed tree, with nothing of the normaliser's code.
//! - A comparison is false if its prerequisite is, or if the packet has no such field.

use crate::constant::{Constant, ones};
use crate::expr::{Comparison, Op, Text, Value};
use crate::{Expr, Field, Meaning};

/// A packet in a pipeline, with what the hypervisor knows.
pub trait Packet {
    /// Value of a field, `None` if the packet has none. A field whose prerequisites hold must have one.
    fn field(&self, field: Field) -> Option<u128>;

    /// Name of the logical port in `Inport` or `Outport`.
    fn port(&self, field: Field) -> Option<&str>;

    /// Members of an address set; none if there is no such set.
    fn address_set(&self, name: &str) -> &[Constant];

    /// Whether the port is a member of the port group.
    fn is_in_port_group(&self, group: &str, port: &str) -> bool;

    /// Whether this hypervisor has the port.
    fn is_resident(&self, port: &str) -> bool;
}

impl Expr {
    /// Whether the packet matches. Templates match nothing, nor does what compares with them.
    pub fn eval(&self, packet: &impl Packet) -> bool {
        match self {
            Self::Bool(value) => *value,
            Self::And(parts) => parts.iter().all(|part| part.eval(packet)),
            Self::Or(parts) => parts.iter().any(|part| part.eval(packet)),
            Self::Resident { port: Text::Literal(port), negated } => packet.is_resident(port) != *negated,
            Self::Resident { port: Text::Template(_), .. } => false,
            Self::Compare(comparison) => comparison.eval(packet),
        }
    }
}

impl Comparison {
    fn eval(&self, packet: &impl Packet) -> bool {
        if self.values.iter().any(|value| matches!(value, Value::Template(_))) {
            return false;
        }
        let expansion = self.symbol.expansion().map(|expr| expr.eval(packet));
        let is = |equal: &dyn Fn(&Value) -> bool| self.values.iter().any(equal) != (self.op == Op::Ne);
        match self.symbol.meaning() {
            Meaning::Predicate(_) => is(&|value| match value {
                Value::Integer(constant) => (constant.value() & 1 == 1) == (expansion == Some(true)),
                _ => false,
            }),
            _ if expansion == Some(false) => false,
            Meaning::Port(field) => packet.port(field).is_some_and(|port| {
                is(&|value| match value {
                    Value::String(name) => name == port,
                    Value::PortGroup(group) => packet.is_in_port_group(group, port),
                    _ => false,
                })
            }),
            Meaning::Bits { field, low } => packet.field(field).is_some_and(|whole| {
                let bits = whole >> (low + self.low) & ones(self.width);
                let number = |constant: &Constant| constant.value() & ones(self.width);
                let equal = |constant: &Constant| {
                    (bits ^ constant.value()) & constant.mask().unwrap_or(u128::MAX) & ones(self.width) == 0
                };
                match (self.op, self.values.as_slice()) {
                    (Op::Lt, [Value::Integer(constant)]) => bits < number(constant),
                    (Op::Le, [Value::Integer(constant)]) => bits <= number(constant),
                    (Op::Gt, [Value::Integer(constant)]) => bits > number(constant),
                    (Op::Ge, [Value::Integer(constant)]) => bits >= number(constant),
                    _ => is(&|value| match value {
                        Value::Integer(constant) => equal(constant),
                        Value::AddressSet(name) => {
                            let mut members = packet.address_set(name).iter();
                            members.any(|member| member.is_of_family(self.symbol.width()) && equal(member))
                        }
                        _ => false,
                    }),
                }
            }),
        }
    }
}
