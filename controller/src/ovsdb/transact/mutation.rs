//! A `<mutation>` (RFC 7047, section 5.1): changing a column by what it holds.
//!
//! # Contract
//! - Inserting into and deleting from a set or map of any size costs the elements named, not the column: they are turned
//!   into a difference and the row's persistent tree takes that.
//! - Constraints are asked for after each mutation, as ovsdb-server does.

use ovsdb::{
    Symbols,
    operation::Mutator,
    result::ErrorKind,
    schema::{BaseType, Max},
    value::{Atom, AtomicType, Datum, Real},
};
use quantumnet_model::row::{ColumnDecl, ColumnId, DynRow, TableDecl};
use serde_json::Value;

use super::{
    column::Column,
    condition::unknown_column,
    decode::{self, Type},
    fault::Fault,
    words,
};

/// One mutation, read.
#[derive(Debug)]
pub(crate) struct Mutation {
    pub(crate) column: ColumnId,
    mutator: Mutator,
    argument: Datum,
}

impl Mutation {
    pub(crate) fn parse(decl: &TableDecl, json: &Value, names: &mut dyn Symbols) -> Result<Self, Fault> {
        let Some([Value::String(name), Value::String(mutator), argument]) =
            json.as_array().map(Vec::as_slice)
        else {
            return Err(Fault::syntax(json, "Parse error in mutation."));
        };
        let found = Column::find(decl, name).ok_or_else(|| unknown_column(decl, json, name))?;
        let column = match found {
            Column::Declared(column) if found.is_mutable(decl) => column,
            _ => {
                let details = format!("Cannot mutate immutable column {name} in table {}.", decl.name);
                return Err(Fault::at(json, ErrorKind::ConstraintViolation, details));
            }
        };
        let mutator = Mutator::from_name(mutator)
            .ok_or_else(|| Fault::unknown("unknown mutator", format!("No mutator named {mutator}.")))?;
        let declared = &decl.column_decl(column).ty;
        let arithmetic = !matches!(mutator, Mutator::Insert | Mutator::Delete);
        let applicable = if arithmetic {
            let integer = declared.key.atomic == AtomicType::Integer;
            let real = declared.key.atomic == AtomicType::Real;
            !declared.is_map() && (integer || (real && mutator != Mutator::Modulo))
        } else {
            !declared.is_scalar()
        };
        if !applicable {
            let details = format!(
                "Type mismatch: \"{}\" operator may not be applied to column {name} of type {}.",
                mutator.name(),
                words::type_name(declared)
            );
            return Err(Fault::syntax(json, details));
        }
        let argument = if arithmetic {
            let key =
                if declared.key.atomic == AtomicType::Real { BaseType::REAL } else { BaseType::INTEGER };
            let ty = Type { key: &key, value: None, min: 1, max: Max::Limited(1) };
            decode::datum(argument, ty, names)?
        } else {
            let mut ty = Type { min: 0, ..Type::from(declared) };
            if mutator == Mutator::Delete {
                ty.max = Max::Unlimited;
            }
            match decode::datum(argument, ty, names) {
                // Keys alone will do.
                Err(_) if declared.is_map() && mutator == Mutator::Delete => {
                    decode::datum(argument, Type { value: None, ..ty }, names)?
                }
                read => read?,
            }
        };
        Ok(Self { column, mutator, argument })
    }

    /// Changes the row.
    pub(crate) fn apply(&self, decl: &TableDecl, row: &mut dyn DynRow) -> Result<(), Fault> {
        let declared = decl.column_decl(self.column);
        match self.mutator {
            Mutator::Insert => self.differ(declared, row, true),
            Mutator::Delete => self.differ(declared, row, false),
            _ => self.calculate(declared, row),
        }
    }

    /// Puts elements in or takes them out.
    fn differ(&self, declared: &ColumnDecl, row: &mut dyn DynRow, insert: bool) -> Result<(), Fault> {
        let changed = if insert { self.missing(row) } else { self.present(row) };
        if changed.is_empty() {
            return Ok(());
        }
        let before = row.count(self.column);
        let got = if insert { before + changed.len() } else { before - changed.len() };
        if got < declared.ty.min || declared.ty.max.is_exceeded_by(got) {
            let details = format!("Attempted to store {got} elements in {}.", words::type_name(&declared.ty));
            return Err(Fault::constraint(details));
        }
        // A column of at most one value has no difference but its new value.
        let difference = match (declared.ty.is_composite(), insert) {
            (true, _) | (false, true) => changed,
            (false, false) if declared.ty.is_map() => changed,
            (false, false) => Datum::EMPTY_SET,
        };
        store(row.apply_diff(self.column, &difference), declared)
    }

    /// What an insert adds: a key that is there keeps its value.
    fn missing(&self, row: &dyn DynRow) -> Datum {
        let missing = |key: &Atom| row.element(self.column, key).is_none();
        match &self.argument {
            Datum::Set(atoms) => Datum::Set(atoms.iter().filter(|key| missing(key)).cloned().collect()),
            Datum::Map(pairs) => Datum::Map(pairs.iter().filter(|(key, _)| missing(key)).cloned().collect()),
        }
    }

    /// What a delete takes: of a map the pairs named, or those of the keys named.
    fn present(&self, row: &dyn DynRow) -> Datum {
        let found = |key: &Atom| row.element(self.column, key);
        match &self.argument {
            Datum::Map(pairs) => {
                let present = pairs.iter().filter(|(key, value)| found(key).as_ref() == Some(value));
                Datum::Map(present.cloned().collect())
            }
            Datum::Set(keys) if is_map(row, self.column) => {
                Datum::Map(keys.iter().filter_map(|key| Some((key.clone(), found(key)?))).collect())
            }
            Datum::Set(atoms) => {
                Datum::Set(atoms.iter().filter(|key| found(key).is_some()).cloned().collect())
            }
        }
    }

    fn calculate(&self, declared: &ColumnDecl, row: &mut dyn DynRow) -> Result<(), Fault> {
        let (Datum::Set(atoms), Some(argument)) = (row.datum(self.column), self.argument.as_scalar()) else {
            return Err(wrong_type(declared));
        };
        let results: Result<Vec<Atom>, Fault> =
            atoms.iter().map(|atom| calculated(atom, self.mutator, argument)).collect();
        let mut results = results?;
        for atom in &results {
            decode::check(atom, &declared.ty.key)?;
        }
        results.sort_unstable();
        if results.windows(2).any(|pair| pair[0] == pair[1]) {
            let details = format!("Result of \"{}\" operation contains duplicates.", self.mutator.name());
            return Err(Fault::constraint(details));
        }
        store(row.set_datum(self.column, &Datum::Set(results)), declared)
    }
}

fn is_map(row: &dyn DynRow, column: ColumnId) -> bool {
    quantumnet_model::tables::decl(row.table()).column_decl(column).ty.is_map()
}

fn store(stored: bool, declared: &ColumnDecl) -> Result<(), Fault> {
    if stored { Ok(()) } else { Err(wrong_type(declared)) }
}

/// A row whose Rust type can't hold what its declaration allows.
fn wrong_type(declared: &ColumnDecl) -> Fault {
    Fault::constraint(format!("column {} cannot hold the result", declared.name))
}

fn calculated(atom: &Atom, mutator: Mutator, argument: &Atom) -> Result<Atom, Fault> {
    let range = || {
        let details = format!("Result of \"{}\" operation is out of range.", mutator.name());
        Fault::new(ErrorKind::RangeError, details)
    };
    let division_by_zero = || Fault::new(ErrorKind::DomainError, "Division by zero.");
    match (atom, argument) {
        (Atom::Integer(x), Atom::Integer(y)) => {
            let result = match mutator {
                Mutator::Add => x.checked_add(*y),
                Mutator::Subtract => x.checked_sub(*y),
                Mutator::Multiply => x.checked_mul(*y),
                Mutator::Divide | Mutator::Modulo if *y == 0 => return Err(division_by_zero()),
                Mutator::Divide => x.checked_div(*y),
                _ => x.checked_rem(*y),
            };
            result.map(Atom::Integer).ok_or_else(range)
        }
        (Atom::Real(x), Atom::Real(y)) => {
            let (x, y) = (x.value(), y.value());
            let result = match mutator {
                Mutator::Add => x + y,
                Mutator::Subtract => x - y,
                Mutator::Multiply => x * y,
                _ if y == 0.0 => return Err(division_by_zero()),
                _ => x / y,
            };
            Real::new(result).map(Atom::Real).map_err(|_| range())
        }
        _ => Err(Fault::new(ErrorKind::SyntaxError, "Type mismatch in mutation.")),
    }
}
