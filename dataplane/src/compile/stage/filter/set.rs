//! Address sets: each member has its flows by itself, whatever number of rules names the set.
//!
//! # Contract
//! - `address_set`: owner one set. Reads: it, whether a conjunction uses it. States its members, joined to the fewest prefixes.
//! - `member`: owner one prefix of one set. Reads: the conjunctions that use the set. Out: a flow for each field and priority
//!   in which they do.
//!
//! # Invariants
//! - An address that comes or goes touches the prefixes that it changes, and nothing else.
//! - A member of another family than a field's is not in the set, as far as that field goes.

use ofpacket::{Action, Match};
use quantumnet_expr::{AddressSet, Constant, Field, Match as Bits};
use quantumnet_model::{Row, sb};
use uuid::Uuid;

use super::{
    conjunction::{Number, apart},
    expression,
    shape::{Line, Position},
};
use crate::compile::{
    owner::{Owner, Owners, Relation},
    sink::Sink,
    stage::Stage,
    table::Table,
    view::View,
};

pub(in crate::compile) const SET: Stage = Stage {
    number: 105,
    name: "address_set",
    owners: Owners::Rows(sb::AddressSet::TABLE),
    tables: TABLES,
    relations: &[Relation::SetMembers],
    emit: set,
};

pub(in crate::compile) const MEMBER: Stage = Stage {
    number: 106,
    name: "member",
    owners: Owners::Facts(Relation::SetMembers),
    tables: TABLES,
    relations: &[],
    emit: member,
};

const TABLES: &[Table] =
    &[Table::FromTrack, Table::FromPolicy, Table::AfterPolicy, Table::ToTrack, Table::ToPolicy];

/// Fields whose flows members have.
pub(super) const FIELDS: &[Field] =
    &[Field::Ip4Src, Field::Ip4Dst, Field::Ip6Src, Field::Ip6Dst, Field::EthSrc, Field::EthDst];

fn set(view: &View<'_>, owner: Owner, out: &mut Sink) {
    for field in [Field::EthSrc, Field::Ip4Src, Field::Ip6Src] {
        let width = field.width();
        if view.related(Relation::SetUses, owner.row(), width.into()).next().is_none() {
            continue;
        }
        let Some(row) = view.row::<sb::AddressSet>(owner.row()) else { continue };
        let members: Vec<Constant> = row.addresses.iter().filter_map(|text| text.parse().ok()).collect();
        let whole =
            AddressSet { field, name: String::new(), negated: false, low: 0, width, symbol_width: width };
        // Too many masks are no prefixes: the controller has told so.
        for bits in whole.matches(&members).unwrap_or_default() {
            match prefix_length(bits, width) {
                Some(length) => {
                    let part = u32::from(width) << 8 | u32::from(length);
                    out.fact(Relation::SetMembers, owner.row(), part, Uuid::from_u128(bits.value));
                }
                None => flows(view, owner.row(), width, bits, out),
            }
        }
    }
}

fn member(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(fact) = owner.fact() else { return };
    let [.., width, length] = fact.part.to_be_bytes();
    let ones = |bits: u8| u128::MAX.checked_shr(128 - u32::from(bits)).unwrap_or(0);
    let mask = ones(width) & !ones(width.saturating_sub(length));
    let Some(field) = FIELDS.iter().find(|field| field.width() == width) else { return };
    flows(view, fact.of, width, Bits { field: *field, value: fact.value.as_u128(), mask }, out);
}

/// Flows for some addresses of a set, for everyone who uses it.
fn flows(view: &View<'_>, set: Uuid, width: u8, bits: Bits, out: &mut Sink) {
    let mut uses = view.related(Relation::SetUses, set, width.into()).filter_map(Use::unpacked).peekable();
    while let Some(first) = uses.next() {
        let mut actions = vec![first.action()];
        while let Some(next) = uses.next_if(|next| next.place() == first.place()) {
            actions.push(next.action());
        }
        let Some(matches) = expression::with(&first.base(), Bits { field: first.field, ..bits }) else {
            continue;
        };
        out.flow(first.table, first.priority, apart(matches, first.list, first.position.again), actions);
    }
}

fn prefix_length(bits: Bits, width: u8) -> Option<u8> {
    let free = bits.mask.trailing_zeros().min(width.into());
    let length = u8::try_from(u32::from(width) - free).ok()?;
    (bits.mask.count_ones() == u32::from(length)).then_some(length)
}

/// How a conjunction uses a set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Use {
    table: Table,
    priority: u16,
    list: u16,
    field: Field,
    id: u32,
    position: Position,
}

impl Use {
    pub(super) fn new(line: Line, number: Number, field: Field, position: Position) -> Self {
        let Number { id, list } = number;
        Self { table: line.table, priority: line.priority, list, field, id, position }
    }

    /// In a fact: sorted by flow.
    pub(super) fn packed(self) -> Uuid {
        let field = FIELDS.iter().position(|field| *field == self.field).unwrap_or(FIELDS.len());
        let flow = [self.table.number(), field.to_le_bytes()[0]];
        let [priority, list] = [self.priority.to_be_bytes(), self.list.to_be_bytes()];
        let mut octets = [0; 16];
        octets[..2].copy_from_slice(&flow);
        octets[2..4].copy_from_slice(&priority);
        octets[4..6].copy_from_slice(&list);
        octets[6] = self.position.again;
        octets[7..11].copy_from_slice(&self.id.to_be_bytes());
        octets[11..13].copy_from_slice(&[self.position.dimension, self.position.dimensions]);
        Uuid::from_bytes(octets)
    }

    fn unpacked(fact: Uuid) -> Option<Self> {
        let [table, field, p0, p1, l0, l1, again, i0, i1, i2, i3, dimension, dimensions, ..] =
            fact.into_bytes();
        Some(Self {
            table: Table::from_number(table)?,
            field: *FIELDS.get(usize::from(field))?,
            priority: u16::from_be_bytes([p0, p1]),
            list: u16::from_be_bytes([l0, l1]),
            id: u32::from_be_bytes([i0, i1, i2, i3]),
            position: Position { dimension, dimensions, again },
        })
    }

    /// What tells the flows of one member apart.
    fn place(self) -> (Table, u16, u16, Field, u8) {
        (self.table, self.priority, self.list, self.field, self.position.again)
    }

    fn action(self) -> Action {
        Action::conjunction(self.id, self.position.dimension, self.position.dimensions)
    }

    fn base(self) -> Match {
        match self.field {
            Field::Ip4Src | Field::Ip4Dst => Match::new().ipv4(),
            Field::Ip6Src | Field::Ip6Dst => Match::new().ipv6(),
            _ => Match::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_survive_a_fact() {
        for field in FIELDS {
            let used = Use {
                table: Table::ToPolicy,
                priority: 2_002,
                list: 3,
                field: *field,
                id: 0xdead_beef,
                position: Position { dimension: 1, dimensions: 4, again: 2 },
            };
            assert_eq!(Use::unpacked(used.packed()), Some(used));
        }
    }

    #[test]
    fn masks_that_are_prefixes_have_a_length() {
        let length = |mask, width| prefix_length(Bits { field: Field::Ip4Src, value: 0, mask }, width);
        assert_eq!(
            [length(0, 32), length(0xffff_ff00, 32), length(0xffff_ffff, 32)],
            [Some(0), Some(24), Some(32)]
        );
        assert_eq!([length(u128::MAX, 128), length(1, 32), length(0xff00_ff00, 32)], [Some(128), None, None]);
    }
}
