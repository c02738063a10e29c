//! From text to selectors: `or` binds least, then `and`, then `not`.
//!
//! ```text
//! selector = "*" | or
//! or       = and { "or" and }
//! and      = not { "and" not }
//! not      = "not" not | "(" or ")" | "*" | test
//! test     = key | key ("=" | "==" | "!=") value | key ["not"] "in" "(" value { "," value } ")"
//! ```
//! Keys and values are words of letters, digits, `.`, `_`, `-` and `/`, or stand in double quotes, where a backslash
//! takes the next character as it is. A word `and`, `or`, `not` or `in` is a key or value only in quotes, but after
//! `=` and `!=`, where nothing but a value can be.

use std::{collections::BTreeSet, fmt, str::FromStr};

use super::{Node, Selector, SyntaxError};
use crate::column::Text;

/// Octets of a selector, at most.
pub const SELECTOR_MAX: usize = 4_096;
/// Parentheses and negations within each other, at most.
const DEPTH_MAX: usize = 32;
const KEYWORDS: [&str; 4] = ["and", "or", "not", "in"];

#[derive(Clone, Debug, Eq, PartialEq)]
enum Token {
    Word(String),
    Quoted(String),
    Sign(&'static str),
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(text) => write!(f, "{text:?}"),
            Self::Quoted(text) => write!(f, "the quoted {text:?}"),
            Self::Sign(sign) => write!(f, "{sign:?}"),
            Self::End => f.write_str("the end"),
        }
    }
}

impl FromStr for Selector {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        selector(text, 1)
    }
}

/// Parses a selector whose first character is in that column of a larger text.
pub(super) fn selector(text: &str, column: usize) -> Result<Selector, SyntaxError> {
    if text.len() > SELECTOR_MAX {
        let found = format!("{} octets", text.len());
        return Err(SyntaxError { column, expected: format!("at most {SELECTOR_MAX} octets"), found });
    }
    let mut parser = Parser { tokens: lex(text, column)?, at: 0, depth: 0 };
    let node = parser.or()?;
    match parser.peek() {
        Token::End => Ok(Selector(node)),
        _ => Err(parser.wrong("\"and\", \"or\" or the end")),
    }
}

/// Prints a key or value so that it is read back as one.
pub(super) fn word(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    // As a value `and` would need no quotes, but reads better with them.
    if !text.is_empty() && text.chars().all(in_word) && !KEYWORDS.contains(&text) {
        return f.write_str(text);
    }
    f.write_str("\"")?;
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            f.write_str("\\")?;
        }
        write!(f, "{c}")?;
    }
    f.write_str("\"")
}

fn in_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/')
}

/// Tokens with their columns; the last is the end.
fn lex(text: &str, column: usize) -> Result<Vec<(usize, Token)>, SyntaxError> {
    let mut tokens = Vec::new();
    let mut chars = (column..).zip(text.chars()).peekable();
    while let Some((at, c)) = chars.next() {
        let token = match c {
            c if c.is_whitespace() => continue,
            '(' => Token::Sign("("),
            ')' => Token::Sign(")"),
            ',' => Token::Sign(","),
            '*' => Token::Sign("*"),
            '=' => {
                _ = chars.next_if(|(_, c)| *c == '=');
                Token::Sign("=")
            }
            '!' if chars.next_if(|(_, c)| *c == '=').is_some() => Token::Sign("!="),
            '"' => {
                let mut quoted = String::new();
                loop {
                    match chars.next() {
                        Some((_, '"')) => break,
                        Some((_, '\\')) => quoted.extend(chars.next().map(|(_, c)| c)),
                        Some((_, c)) => quoted.push(c),
                        None => {
                            let found = "the end".to_owned();
                            return Err(SyntaxError { column: at, expected: "a closing '\"'".into(), found });
                        }
                    }
                }
                Token::Quoted(quoted)
            }
            c if in_word(c) => {
                let mut word = String::from(c);
                while let Some((_, c)) = chars.next_if(|(_, c)| in_word(*c)) {
                    word.push(c);
                }
                Token::Word(word)
            }
            c => {
                let expected =
                    "a label, a value or a sign of a selector (put others in double quotes)".into();
                return Err(SyntaxError { column: at, expected, found: format!("{c:?}") });
            }
        };
        tokens.push((at, token));
    }
    tokens.push((column + text.chars().count(), Token::End));
    Ok(tokens)
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at].1
    }

    /// The end is never passed.
    fn advance(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    fn take(&mut self, token: &Token) -> bool {
        let found = self.peek() == token;
        if found {
            self.advance();
        }
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        self.take(&Token::Word(word.to_owned()))
    }

    fn wrong(&self, expected: &str) -> SyntaxError {
        let (column, token) = &self.tokens[self.at];
        SyntaxError { column: *column, expected: expected.to_owned(), found: token.to_string() }
    }

    fn or(&mut self) -> Result<Node, SyntaxError> {
        let mut nodes = vec![self.and()?];
        while self.take_word("or") {
            nodes.push(self.and()?);
        }
        Ok(Node::or(nodes))
    }

    fn and(&mut self) -> Result<Node, SyntaxError> {
        let mut nodes = vec![self.not()?];
        while self.take_word("and") {
            nodes.push(self.not()?);
        }
        Ok(Node::and(nodes))
    }

    fn not(&mut self) -> Result<Node, SyntaxError> {
        if self.take_word("not") {
            return self.deeper(|parser| parser.not().map(Node::not));
        }
        if self.take(&Token::Sign("(")) {
            return self.deeper(|parser| {
                let node = parser.or()?;
                if parser.take(&Token::Sign(")")) {
                    Ok(node)
                } else {
                    Err(parser.wrong("\"and\", \"or\" or \")\""))
                }
            });
        }
        if self.take(&Token::Sign("*")) {
            return Ok(Node::All);
        }
        self.test()
    }

    fn deeper(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<Node, SyntaxError>,
    ) -> Result<Node, SyntaxError> {
        if self.depth == DEPTH_MAX {
            return Err(
                self.wrong(&format!("at most {DEPTH_MAX} parentheses and negations within each other"))
            );
        }
        self.depth += 1;
        let node = inner(self);
        self.depth -= 1;
        node
    }

    fn test(&mut self) -> Result<Node, SyntaxError> {
        let key = self.name(false, "a label such as role=web, \"not\", \"(\" or \"*\"")?;
        if self.take(&Token::Sign("=")) {
            return Ok(Node::In(key, BTreeSet::from([self.name(true, "a value")?])));
        }
        if self.take(&Token::Sign("!=")) {
            return Ok(Node::In(key, BTreeSet::from([self.name(true, "a value")?])).not());
        }
        if self.take_word("in") {
            return Ok(Node::In(key, self.values()?));
        }
        if self.take_word("not") {
            return if self.take_word("in") {
                Ok(Node::In(key, self.values()?).not())
            } else {
                Err(self.wrong("\"in\""))
            };
        }
        Ok(Node::Has(key))
    }

    fn values(&mut self) -> Result<BTreeSet<Text>, SyntaxError> {
        if !self.take(&Token::Sign("(")) {
            return Err(self.wrong("\"(\" and a list of values"));
        }
        let mut values = BTreeSet::new();
        loop {
            values.insert(self.name(false, "a value")?);
            if self.take(&Token::Sign(")")) {
                return Ok(values);
            }
            if !self.take(&Token::Sign(",")) {
                return Err(self.wrong("\",\" or \")\""));
            }
        }
    }

    /// A key or value; `any_word`: keywords too.
    fn name(&mut self, any_word: bool, expected: &str) -> Result<Text, SyntaxError> {
        let text = match self.peek() {
            Token::Word(word) if any_word || !KEYWORDS.contains(&word.as_str()) => Text::from(word.as_str()),
            Token::Quoted(text) => Text::from(text.as_str()),
            _ => return Err(self.wrong(expected)),
        };
        self.advance();
        Ok(text)
    }
}
