//! Match columns in OVN's expression language: whether agents can make flows of one.

use quantumnet_expr::{Clause, Expr, Family, Field, Term, TooComplex};

/// Why agents can't, with the place in the text.
pub(super) fn check(text: &str) -> Result<(), String> {
    checked(text, false)
}

/// The same for a column in which each hypervisor puts its own values for template variables.
pub(super) fn check_templated(text: &str) -> Result<(), String> {
    checked(text, true)
}

fn checked(text: &str, templated: bool) -> Result<(), String> {
    let expr = Expr::parse(text).map_err(|error| error.to_string())?;
    let clauses = match expr.normalize() {
        Ok(clauses) => clauses,
        Err(TooComplex::Template { .. }) if templated => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    if clauses.iter().any(|clause| clause.wide().count() > WIDE_MAX) {
        return Err(format!("more than {WIDE_MAX} sets, groups or lists have to be fulfilled together"));
    }
    for dimension in clauses.iter().flat_map(Clause::dimensions) {
        if let Family::Field(field) = dimension.family()
            && !matches!(field, Field::Inport | Field::Outport)
            && field.openflow().is_none()
        {
            return Err(format!("{field} is not known here"));
        }
        for term in dimension.terms() {
            if let Term::Match(only) = term
                && !only.is_matchable()
            {
                return Err(format!("a switch can't match some bits of {}", only.field));
            }
        }
    }
    Ok(())
}

/// A conjunction has 64 dimensions at most (ovs-fields(7)): one says where the packet is, one what a rule alone says.
const WIDE_MAX: usize = 62;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_flows_is_told_with_its_place() {
        assert_eq!(check("outport == @web && ip4.src == $web_ip4 && tcp.dst == {80, 443}"), Ok(()));
        let wrong = check("ip4.src = 10.0.0.1").unwrap_err();
        assert!(wrong.starts_with("column 9: "), "{wrong}");
        assert_eq!(check_templated("ip4.src == ^gateway"), Ok(()), "each hypervisor has its own");
        assert!(check("ip4.src == ^gateway").unwrap_err().contains("gateway"));
        assert!(check("reg0 == 1").unwrap_err().contains("reg0"));
        let sets = |count: usize| {
            let sets: Vec<String> = (0..count).map(|number| format!("ip4.src == $s{number}")).collect();
            check(&sets.join(" && "))
        };
        assert_eq!(sets(WIDE_MAX), Ok(()));
        assert!(sets(WIDE_MAX + 1).unwrap_err().contains("62 sets"));
    }
}
