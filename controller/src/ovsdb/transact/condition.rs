//! A `<condition>` list: which rows an operation means, or a monitor sees (RFC 7047, section 5.1; ovsdb-server(7),
//! section 4.1.12 for booleans and monitors).
//!
//! # Contract
//! - In an operation all clauses must hold ([`Condition::all`]); in a monitor one is enough, and no clause at all means
//!   every row ([`Condition::any`]).
//! - Looks at the columns that are named only, and of a large set or map only at the elements that are named.

use ovsdb::{
    Symbols,
    operation::Function,
    result::ErrorKind,
    schema::{ColumnType, Max},
    value::{Atom, AtomicType, Datum},
};
use quantumnet_model::{
    Uuid,
    row::{DynRow, TableDecl, TableId},
    tables,
};
use serde_json::Value;

use super::{
    column::Column,
    decode::{self, Type},
    fault::Fault,
    words,
};

/// Clauses on the rows of one table.
#[derive(Clone, Debug)]
pub struct Condition {
    table: TableId,
    clauses: Vec<Clause>,
}

/// One clause.
#[derive(Clone, Debug)]
pub(crate) enum Clause {
    Constant(bool),
    Compare { column: Column, function: Function, argument: Datum },
}

impl Condition {
    /// Reads a `where`. Outside a transaction names of rows mean nothing: pass [`ovsdb::NoSymbols`].
    pub fn parse(table: TableId, clauses: &[Value], names: &mut dyn Symbols) -> Result<Self, Fault> {
        let decl = tables::decl(table);
        let clauses = clauses.iter().map(|json| clause(decl, json, names)).collect::<Result<_, _>>()?;
        Ok(Self { table, clauses })
    }

    /// The table whose rows it is about.
    pub const fn table(&self) -> TableId {
        self.table
    }

    /// Whether all clauses hold.
    pub fn all(&self, uuid: Uuid, row: &dyn DynRow) -> bool {
        let decl = tables::decl(self.table);
        self.clauses.iter().all(|clause| clause.holds(decl, uuid, row))
    }

    /// Whether one clause holds, or there is none.
    pub fn any(&self, uuid: Uuid, row: &dyn DynRow) -> bool {
        let decl = tables::decl(self.table);
        self.clauses.is_empty() || self.clauses.iter().any(|clause| clause.holds(decl, uuid, row))
    }

    /// The value that a column must equal for all clauses to hold.
    pub(crate) fn equal_to(&self, wanted: Column) -> Option<&Datum> {
        self.clauses.iter().find_map(|clause| match clause {
            Clause::Compare { column, function: Function::Equal, argument } if *column == wanted => {
                Some(argument)
            }
            _ => None,
        })
    }
}

fn clause(decl: &TableDecl, json: &Value, names: &mut dyn Symbols) -> Result<Clause, Fault> {
    if let Value::Bool(constant) = json {
        return Ok(Clause::Constant(*constant));
    }
    let Some([Value::String(name), Value::String(function), argument]) = json.as_array().map(Vec::as_slice)
    else {
        return Err(Fault::syntax(json, "Parse error in condition."));
    };
    let column = Column::find(decl, name).ok_or_else(|| unknown_column(decl, json, name))?;
    let function = Function::from_name(function)
        .ok_or_else(|| Fault::unknown("unknown function", format!("No function named {function}.")))?;
    let declared = column.ty(decl);
    let mut ty = Type::from(declared);
    match function {
        Function::Equal | Function::NotEqual => {}
        Function::Less | Function::LessOrEqual | Function::Greater | Function::GreaterOrEqual => {
            let numeric = matches!(declared.key.atomic, AtomicType::Integer | AtomicType::Real);
            if !is_single(declared) || !numeric {
                let details = format!(
                    "Type mismatch: \"{}\" operator may not be applied to column {name} of type {}.",
                    function.name(),
                    words::type_name(declared)
                );
                return Err(Fault::syntax(json, details));
            }
            ty.min = 1;
        }
        Function::Excludes if declared.is_scalar() => {}
        Function::Excludes => (ty.min, ty.max) = (0, Max::Unlimited),
        Function::Includes if declared.is_scalar() => {}
        Function::Includes => ty.min = 0,
    }
    Ok(Clause::Compare { column, function, argument: decode::datum(argument, ty, names)? })
}

/// The error for a column that a table does not have.
pub(crate) fn unknown_column(decl: &TableDecl, json: &Value, name: &str) -> Fault {
    Fault::at(json, ErrorKind::UnknownColumn, format!("No column {name} in table {}.", decl.name))
}

/// One atom, or at most one.
fn is_single(ty: &ColumnType) -> bool {
    !ty.is_map() && !ty.is_composite()
}

impl Clause {
    fn holds(&self, decl: &TableDecl, uuid: Uuid, row: &dyn DynRow) -> bool {
        let (column, function, argument) = match self {
            Self::Constant(constant) => return *constant,
            Self::Compare { column, function, argument } => (*column, *function, argument),
        };
        let held = Held { decl, uuid, row, column };
        match function {
            Function::Equal => held.equals(argument),
            Function::NotEqual => !held.equals(argument),
            Function::Includes => held.includes(argument),
            Function::Excludes => held.excludes(argument),
            // An optional column without a value is neither more nor less than anything.
            Function::Less => held.ordered(argument, |held, argument| held < argument),
            Function::LessOrEqual => held.ordered(argument, |held, argument| held <= argument),
            Function::Greater => held.ordered(argument, |held, argument| held > argument),
            Function::GreaterOrEqual => held.ordered(argument, |held, argument| held >= argument),
        }
    }
}

/// A column of a row, looked at no further than need be.
struct Held<'a> {
    decl: &'a TableDecl,
    uuid: Uuid,
    row: &'a dyn DynRow,
    column: Column,
}

impl Held<'_> {
    fn has(&self, key: &Atom, value: Option<&Atom>) -> bool {
        match self.column {
            Column::Declared(column) => {
                let found = self.row.element(column, key);
                found.is_some_and(|found| value.is_none_or(|value| found == *value))
            }
            fixed => fixed.datum(self.decl, self.uuid, self.row).as_scalar() == Some(key),
        }
    }

    fn equals(&self, argument: &Datum) -> bool {
        let count = match self.column {
            Column::Declared(column) => self.row.count(column),
            Column::Uuid | Column::Version => 1,
        };
        count == argument.len() && self.includes(argument)
    }

    fn includes(&self, argument: &Datum) -> bool {
        match argument {
            Datum::Set(atoms) => atoms.iter().all(|key| self.has(key, None)),
            Datum::Map(pairs) => pairs.iter().all(|(key, value)| self.has(key, Some(value))),
        }
    }

    fn excludes(&self, argument: &Datum) -> bool {
        match argument {
            Datum::Set(atoms) => !atoms.iter().any(|key| self.has(key, None)),
            Datum::Map(pairs) => !pairs.iter().any(|(key, value)| self.has(key, Some(value))),
        }
    }

    fn ordered(&self, argument: &Datum, order: fn(&Atom, &Atom) -> bool) -> bool {
        let held = self.column.datum(self.decl, self.uuid, self.row);
        held.as_scalar().zip(argument.as_scalar()).is_some_and(|(held, argument)| order(held, argument))
    }
}
