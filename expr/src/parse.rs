//! Tokens to a typed tree (ovn-sb(5), `Logical_Flow.match`).
//!
//! # Contract
//! - The grammar is OVN's: `&&` and `||` do not mix without parentheses, `!` takes a parenthesis, a function or a symbol
//!   alone, a constant may stand left or on both sides of a symbol, commas in sets are optional.
//! - Recursion is bounded by [`Expr::MAX_DEPTH`].

use std::ops::Range;

use crate::check;
use crate::error::{ErrorKind, ExprError};
use crate::expr::{Comparison, Op, Text, Value};
use crate::lex::{self, Token};
use crate::{Expr, Symbol};

/// Parses and checks an expression.
pub(crate) fn parse(text: &str) -> Result<Expr, ExprError> {
    let mut parser = Parser::new(text)?;
    let expr = parser.junction()?;
    parser.end()?;
    Ok(expr)
}

/// Parses what a template may stand for: within a set some constants, else one constant or a whole set.
pub(crate) fn template(text: &str, within_set: bool) -> Result<Constants, ExprError> {
    let mut parser = Parser::new(text)?;
    let constants = if within_set {
        let mut values = Vec::new();
        while !parser.is_at(&Token::End) {
            values.push(parser.constant()?);
            parser.accept(",");
        }
        Constants { set: true, values }
    } else {
        parser.constants()?
    };
    parser.end()?;
    Ok(constants)
}

/// Parses the string a template stands for.
pub(crate) fn string(text: &str) -> Result<String, ExprError> {
    let mut parser = Parser::new(text)?;
    let string = parser.string()?;
    parser.end()?;
    match string {
        Text::Literal(string) => Ok(string),
        Text::Template(_) => Err(ExprError { at: 0..text.len(), kind: nested_template() }),
    }
}

/// A template's value is text, in which OVN does not look for templates again.
pub(crate) fn nested_template() -> ErrorKind {
    expected("a constant", "another template".to_owned())
}

/// A constant or a set of them, with their places.
pub(crate) struct Constants {
    pub(crate) set: bool,
    pub(crate) values: Vec<(Value, Range<usize>)>,
}

/// A symbol or some of its bits, with its place.
struct Selection {
    symbol: &'static Symbol,
    low: u8,
    width: u8,
    at: Range<usize>,
}

struct Parser<'a> {
    tokens: Vec<(Token<'a>, Range<usize>)>,
    next: usize,
    /// Within an odd number of `!`.
    not: bool,
    depth: usize,
}

fn expected(expected: &'static str, found: String) -> ErrorKind {
    ErrorKind::Expected { expected, found }
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self, ExprError> {
        let (length, limit) = (text.len(), Expr::MAX_LENGTH);
        if length > limit {
            return Err(ExprError { at: limit..length, kind: ErrorKind::TooLong { length, limit } });
        }
        Ok(Self { tokens: lex::tokens(text)?, next: 0, not: false, depth: 0 })
    }

    fn token(&self) -> &Token<'a> {
        self.ahead(0)
    }

    fn ahead(&self, by: usize) -> &Token<'a> {
        &self.tokens[(self.next + by).min(self.tokens.len() - 1)].0
    }

    fn at(&self) -> Range<usize> {
        self.tokens[self.next].1.clone()
    }

    /// From `start` to the end of the last token that was taken.
    fn since(&self, start: usize) -> Range<usize> {
        start..self.tokens[self.next.saturating_sub(1)].1.end.max(start)
    }

    fn is_at(&self, token: &Token<'_>) -> bool {
        self.token() == token
    }

    fn take(&mut self) -> (Token<'a>, Range<usize>) {
        let taken = self.tokens[self.next].clone();
        if self.next + 1 < self.tokens.len() {
            self.next += 1;
        }
        taken
    }

    fn accept(&mut self, sign: &'static str) -> bool {
        let found = self.is_at(&Token::Sign(sign));
        if found {
            self.take();
        }
        found
    }

    fn demand(&mut self, sign: &'static str) -> Result<(), ExprError> {
        if self.accept(sign) {
            return Ok(());
        }
        let quoted = match sign {
            ")" => "`)`",
            "]" => "`]`",
            _ => "`(`",
        };
        self.unexpected(quoted)
    }

    fn unexpected<T>(&self, what: &'static str) -> Result<T, ExprError> {
        self.fail(self.at(), expected(what, self.token().to_string()))
    }

    fn fail<T>(&self, at: Range<usize>, kind: ErrorKind) -> Result<T, ExprError> {
        Err(ExprError { at, kind })
    }

    fn end(&self) -> Result<(), ExprError> {
        if self.is_at(&Token::End) { Ok(()) } else { self.unexpected("`&&`, `||` or the end") }
    }

    /// `a`, `a && b && c` or `a || b || c`.
    fn junction(&mut self) -> Result<Expr, ExprError> {
        let first = self.negation()?;
        let and = match self.token() {
            Token::Sign("&&") => true,
            Token::Sign("||") => false,
            _ => return Ok(first),
        };
        let mut parts = vec![first];
        while self.accept(if and { "&&" } else { "||" }) {
            parts.push(self.negation()?);
        }
        if matches!(self.token(), Token::Sign("&&" | "||")) {
            return self.fail(self.at(), ErrorKind::Mixed);
        }
        Ok(self.join(and, parts))
    }

    fn join(&self, and: bool, parts: Vec<Expr>) -> Expr {
        if and != self.not { Expr::all(parts) } else { Expr::any(parts) }
    }

    fn negation(&mut self) -> Result<Expr, ExprError> {
        if !self.accept("!") {
            return Ok(self.primary()?.0);
        }
        let start = self.at().start;
        self.not = !self.not;
        let (expr, atomic) = self.primary()?;
        self.not = !self.not;
        if atomic { Ok(expr) } else { self.fail(self.since(start), ErrorKind::NotComparison) }
    }

    /// A parenthesis, function, Boolean, symbol or comparison, and whether `!` may stand before it.
    fn primary(&mut self) -> Result<(Expr, bool), ExprError> {
        match (self.token().clone(), self.ahead(1)) {
            (Token::Sign("("), _) => self.parenthesis().map(|expr| (expr, true)),
            (Token::Id("is_chassis_resident"), Token::Sign("(")) => self.resident().map(|expr| (expr, true)),
            (Token::Id(name), Token::Sign("(")) => {
                self.fail(self.at(), ErrorKind::UnknownFunction(name.to_owned()))
            }
            (Token::Id(_), _) => self.symbol_first(),
            _ => self.constant_first(),
        }
    }

    fn parenthesis(&mut self) -> Result<Expr, ExprError> {
        if self.depth >= Expr::MAX_DEPTH {
            return self.fail(self.at(), ErrorKind::TooDeep { limit: Expr::MAX_DEPTH });
        }
        self.take();
        self.depth += 1;
        let expr = self.junction()?;
        self.depth -= 1;
        self.demand(")")?;
        Ok(expr)
    }

    fn resident(&mut self) -> Result<Expr, ExprError> {
        self.take();
        self.demand("(")?;
        let port = self.string()?;
        self.demand(")")?;
        Ok(Expr::Resident { port, negated: self.not })
    }

    fn string(&mut self) -> Result<Text, ExprError> {
        let text = match self.token() {
            Token::String(text) => Text::Literal(text.clone()),
            Token::Template(name) => Text::Template((*name).to_owned()),
            _ => return self.unexpected("a string"),
        };
        self.take();
        Ok(text)
    }

    fn symbol_first(&mut self) -> Result<(Expr, bool), ExprError> {
        let selection = self.selection()?;
        if let Some(op) = self.operator() {
            let constants = self.constants()?;
            return Ok((self.comparison(&selection, op, constants)?, false));
        }
        if selection.width == 0 || self.is_at(&Token::Sign("=")) {
            return self.unexpected("a relational operator");
        }
        let (op, value) = match selection.width {
            1 => (Op::Eq, Value::TRUE),
            width if !self.not => {
                let kind = ErrorKind::Truth { symbol: selection.symbol.name(), width };
                return self.fail(selection.at, kind);
            }
            _ => (Op::Ne, Value::ZERO),
        };
        let constants = Constants { set: false, values: vec![(value, selection.at.clone())] };
        Ok((self.comparison(&selection, op, constants)?, true))
    }

    fn constant_first(&mut self) -> Result<(Expr, bool), ExprError> {
        let start = self.at().start;
        let left = self.constants()?;
        let Some(first) = self.operator() else {
            if let (false, [(value, _)]) = (left.set, left.values.as_slice())
                && let Some(truth) = value.as_bool()
            {
                return Ok((Expr::Bool(truth != self.not), true));
            }
            return self.unexpected("a relational operator");
        };
        if !matches!(self.token(), Token::Id(_)) {
            return self.unexpected("a field or predicate");
        }
        let selection = self.selection()?;
        let Some(second) = self.operator() else {
            return Ok((self.comparison(&selection, first.turned(), left)?, false));
        };
        let right = self.constants()?;
        if !matches!((first, second), (Op::Lt | Op::Le, Op::Lt | Op::Le) | (Op::Gt | Op::Ge, Op::Gt | Op::Ge))
        {
            return self.fail(self.since(start), ErrorKind::Range);
        }
        let lower = self.comparison(&selection, first.turned(), left)?;
        let upper = self.comparison(&selection, second, right)?;
        Ok((self.join(true, vec![lower, upper]), false))
    }

    fn operator(&mut self) -> Option<Op> {
        let op = match self.token() {
            Token::Sign("==") => Op::Eq,
            Token::Sign("!=") => Op::Ne,
            Token::Sign("<") => Op::Lt,
            Token::Sign("<=") => Op::Le,
            Token::Sign(">") => Op::Gt,
            Token::Sign(">=") => Op::Ge,
            _ => return None,
        };
        self.take();
        Some(op)
    }

    /// A comparison of types that fit, as it counts within the `!` around it.
    fn comparison(&self, selection: &Selection, op: Op, constants: Constants) -> Result<Expr, ExprError> {
        let op = if self.not { op.inverted() } else { op };
        for (value, at) in &constants.values {
            check::value(selection.symbol, op, value).map_err(|kind| ExprError { at: at.clone(), kind })?;
        }
        let values: Vec<Value> = constants.values.into_iter().map(|(value, _)| value).collect();
        check::relation(selection.symbol, op, constants.set, &values)
            .map_err(|kind| ExprError { at: selection.at.clone(), kind })?;
        let Selection { symbol, low, width, .. } = *selection;
        Ok(Expr::Compare(Comparison { symbol, low, width, op, set: constants.set, values }))
    }

    fn selection(&mut self) -> Result<Selection, ExprError> {
        let (token, at) = self.take();
        let Token::Id(name) = token else { unreachable!("the caller saw a name") };
        let Some(symbol) = Symbol::named(name) else {
            return self.fail(at, ErrorKind::UnknownSymbol(name.to_owned()));
        };
        if !self.accept("[") {
            return Ok(Selection { symbol, low: 0, width: symbol.width(), at });
        }
        let low = self.bit()?;
        let high = if self.accept("..") { self.bit()? } else { low };
        self.demand("]")?;
        let at = self.since(at.start);
        let why = if symbol.width() == 0 {
            "it is a string"
        } else if low > high {
            "the lower bit comes first"
        } else if high >= u64::from(symbol.width()) {
            "it is not that wide"
        } else if check::is_indivisible(symbol) && (low, high + 1) != (0, symbol.width().into()) {
            "nominal fields are indivisible"
        } else {
            // Both are below the width, which fits.
            return Ok(Selection { symbol, low: low as u8, width: (high - low + 1) as u8, at });
        };
        self.fail(at, ErrorKind::Bits { symbol: symbol.name(), low, high, why })
    }

    fn bit(&mut self) -> Result<u64, ExprError> {
        match self.token() {
            Token::Integer(constant) => match constant.as_decimal() {
                Some(bit) => {
                    self.take();
                    Ok(bit)
                }
                None => self.unexpected("the number of a bit"),
            },
            _ => self.unexpected("the number of a bit"),
        }
    }

    fn constants(&mut self) -> Result<Constants, ExprError> {
        if !self.accept("{") {
            return Ok(Constants { set: false, values: vec![self.constant()?] });
        }
        let mut values = Vec::new();
        loop {
            values.push(self.constant()?);
            self.accept(",");
            if self.accept("}") {
                return Ok(Constants { set: true, values });
            }
        }
    }

    fn constant(&mut self) -> Result<(Value, Range<usize>), ExprError> {
        let value = match self.token() {
            Token::Integer(constant) => Value::Integer(*constant),
            Token::String(text) => Value::String(text.clone()),
            Token::AddressSet(name) => Value::AddressSet((*name).to_owned()),
            Token::PortGroup(name) => Value::PortGroup((*name).to_owned()),
            Token::Template(name) => Value::Template((*name).to_owned()),
            _ => return self.unexpected("a constant"),
        };
        let (_, at) = self.take();
        Ok((value, at))
    }
}
