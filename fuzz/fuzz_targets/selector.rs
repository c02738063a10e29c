//! Selectors of labels and traffic of policies: parsing does not panic, points into the text, and what parses prints as
//! itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quantumnet_model::selector::{Selector, SyntaxError, Traffic};

fuzz_target!(|text: &str| {
    let columns = 1..=text.chars().count() + 1;
    let check = |error: &SyntaxError| assert!(columns.contains(&error.column), "{error} of {text:?}");
    match text.parse::<Selector>() {
        Ok(selector) => {
            assert_eq!(selector.to_string().parse().as_ref(), Ok(&selector));
            drop(selector.triggers());
        }
        Err(error) => check(&error),
    }
    if let Err(error) = text.parse::<Traffic>() {
        check(&error);
    }
});
