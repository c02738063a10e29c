//! ACLs: what agents can't make flows of is told.
//!
//! # Contract
//! - Reads `ACL` rows; writes nothing but problems. A row with one has no effect until it is mended.

use quantumnet_expr::{Expr, Family, Field, Term};
use quantumnet_model::nb::Acl;

use crate::{
    lower::{Dirty, problem},
    store::Txn,
};

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    for touched in txn.touched_in::<Acl>() {
        let text = |row: Option<&Acl>| row.map(|row| row.r#match.clone());
        let (before, after) = (text(touched.before()), text(touched.after()));
        if before == after {
            continue;
        }
        dirty.work.rows += 1;
        let wrong = after.and_then(|text| check(&text).err());
        problem::set::<Acl>(txn, touched.uuid, wrong.map(|wrong| ("match", wrong)).into_iter().collect());
    }
}

/// Whether agents can make flows of a match, and if not why.
fn check(text: &str) -> Result<(), String> {
    let no_effect = |reason: String| format!("{reason}; the ACL has no effect");
    let expr = Expr::parse(text).map_err(|error| no_effect(error.to_string()))?;
    let clauses = expr.normalize().map_err(|error| no_effect(error.to_string()))?;
    for dimension in clauses.iter().flat_map(quantumnet_expr::Clause::dimensions) {
        if let Family::Field(field) = dimension.family()
            && !matches!(field, Field::Inport | Field::Outport)
            && field.openflow().is_none()
        {
            return Err(no_effect(format!("{field} is not known to ACLs")));
        }
        for term in dimension.terms() {
            if let Term::Match(only) = term
                && !only.is_matchable()
            {
                return Err(no_effect(format!("a switch can't match some bits of {}", only.field)));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_flows_is_told_with_its_place() {
        assert_eq!(check("outport == @web && ip4.src == $web_ip4 && tcp.dst == {80, 443}"), Ok(()));
        let wrong = check("ip4.src = 10.0.0.1").unwrap_err();
        assert!(wrong.starts_with("column 9: "), "{wrong}");
        assert!(check("reg0 == 1").unwrap_err().contains("reg0"));
    }
}
