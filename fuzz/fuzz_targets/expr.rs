//! Match expressions: parsing does not panic, what parses prints as itself, and its normal form is bounded.
//!
//! Input: length of a template's value u8 | that value | expression.
#![no_main]

use std::borrow::Cow;

use libfuzzer_sys::fuzz_target;
use quantumnet_expr::{Constant, Expr};

fuzz_target!(|data: &[u8]| {
    let Some((length, rest)) = data.split_first() else { return };
    let (template, expression) = rest.split_at(usize::from(*length).min(rest.len()));
    let (Ok(template), Ok(expression)) = (str::from_utf8(template), str::from_utf8(expression)) else {
        return;
    };
    if let Ok(constant) = template.parse::<Constant>() {
        assert_eq!(constant.to_string().parse(), Ok(constant));
    }
    let expr = match Expr::parse(expression) {
        Ok(expr) => expr,
        Err(error) => {
            assert!(error.at.start <= error.at.end && error.at.end <= expression.len(), "{error:?}");
            return;
        }
    };
    assert_eq!(Expr::parse(&expr.to_string()).as_ref(), Ok(&expr));
    drop(expr.references());
    if let Ok(expanded) = expr.expand_templates(|_| Some(Cow::Borrowed(template))) {
        assert!(expanded.references().templates.is_empty());
        assert_eq!(Expr::parse(&expanded.to_string()).as_ref(), Ok(&expanded));
        drop(expanded.normalize());
    }
});
