//! Templates: constants that every hypervisor has its own value of (ovn-nb(5), `Chassis_Template_Var`).
//!
//! # Contract
//! - A template stands for one constant, for a set in braces, or within braces for some constants. OVN replaces text before it
//!   parses, so there a template may also be an operator or half an expression; here that is refused.

use std::borrow::Cow;

use thiserror::Error;

use crate::expr::{Comparison, Text, Value};
use crate::{Expr, ExprError, check, parse};

/// A template without a value that fits.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum TemplateError {
    /// The hypervisor has no such variable.
    #[error("template `^{name}` has no value here")]
    Unknown {
        /// Name of the variable.
        name: String,
    },
    /// The variable's value does not fit where it stands.
    #[error("template `^{name}`: {error}")]
    Value {
        /// Name of the variable.
        name: String,
        /// What is wrong with its value; columns count within the value.
        error: ExprError,
    },
}

impl Expr {
    /// The expression with each template replaced by what `lookup` says it stands for.
    ///
    /// # Errors
    /// If a template has no value, or one of the wrong type. The expression then matches nothing on this hypervisor.
    pub fn expand_templates<'v>(
        &self,
        lookup: impl Fn(&str) -> Option<Cow<'v, str>>,
    ) -> Result<Self, TemplateError> {
        self.expanded(&|name| lookup(name).ok_or_else(|| TemplateError::Unknown { name: name.to_owned() }))
    }

    fn expanded<'v>(
        &self,
        lookup: &impl Fn(&str) -> Result<Cow<'v, str>, TemplateError>,
    ) -> Result<Self, TemplateError> {
        let each =
            |parts: &[Self]| parts.iter().map(|part| part.expanded(lookup)).collect::<Result<Vec<_>, _>>();
        Ok(match self {
            Self::Bool(value) => Self::Bool(*value),
            Self::And(parts) => Self::And(each(parts)?),
            Self::Or(parts) => Self::Or(each(parts)?),
            Self::Resident { port: Text::Template(name), negated } => {
                let port = parse::string(&lookup(name)?)
                    .map_err(|error| TemplateError::Value { name: name.clone(), error })?;
                Self::Resident { port: Text::Literal(port), negated: *negated }
            }
            Self::Resident { port, negated } => Self::Resident { port: port.clone(), negated: *negated },
            Self::Compare(comparison) => Self::Compare(comparison.expanded(lookup)?),
        })
    }
}

impl Comparison {
    fn expanded<'v>(
        &self,
        lookup: &impl Fn(&str) -> Result<Cow<'v, str>, TemplateError>,
    ) -> Result<Self, TemplateError> {
        let mut set = self.set;
        let mut values = Vec::with_capacity(self.values.len());
        for value in &self.values {
            let Value::Template(name) = value else {
                values.push(value.clone());
                continue;
            };
            let text = lookup(name)?;
            let refuse = |error| TemplateError::Value { name: name.clone(), error };
            let constants = parse::template(&text, self.set).map_err(refuse)?;
            let mut own = Vec::with_capacity(constants.values.len());
            for (value, at) in constants.values {
                let template = matches!(value, Value::Template(_));
                let checked = if template {
                    Err(parse::nested_template())
                } else {
                    check::value(self.symbol, self.op, &value)
                };
                checked.map_err(|kind| refuse(ExprError { at, kind }))?;
                own.push(value);
            }
            set |= constants.set;
            check::relation(self.symbol, self.op, set, &own)
                .map_err(|kind| refuse(ExprError { at: 0..text.len(), kind }))?;
            values.append(&mut own);
        }
        Ok(Self { set, values, ..self.clone() })
    }
}
