//! Text to tokens (ovn-sb(5), "Lexical syntax").
//!
//! # Contract
//! - Spans are octets of the text; the last token is `End`, with an empty span.
//! - A lexical error anywhere refuses the text, before its grammar is looked at.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use crate::constant::{Constant, Format};
use crate::error::{ErrorKind, ExprError};

/// A word of the language.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Token<'a> {
    /// Name of a symbol or function.
    Id(&'a str),
    /// Number or address.
    Integer(Constant),
    /// String, unescaped.
    String(String),
    /// `$name`
    AddressSet(&'a str),
    /// `@name`
    PortGroup(&'a str),
    /// `^name`
    Template(&'a str),
    /// Anything that is always written alike.
    Sign(&'static str),
    /// End of the text.
    End,
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(name) => write!(f, "`{name}`"),
            Self::Integer(constant) => write!(f, "`{constant}`"),
            Self::String(text) => write!(f, "the string {text:?}"),
            Self::AddressSet(name) => write!(f, "`${name}`"),
            Self::PortGroup(name) => write!(f, "`@{name}`"),
            Self::Template(name) => write!(f, "`^{name}`"),
            Self::Sign(sign) => write!(f, "`{sign}`"),
            Self::End => f.write_str("the end"),
        }
    }
}

/// Longest first, so that `<=` is not `<` and `=`.
const SIGNS: &[&str] = &[
    "==", "!=", "<=", ">=", "&&", "||", "..", "<", ">", "!", "(", ")", "{", "}", "[", "]", ",", "=", ";",
    ":", "-",
];

/// All tokens of `text`, with where they stand.
pub(crate) fn tokens(text: &str) -> Result<Vec<(Token<'_>, Range<usize>)>, ExprError> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip()?;
        let start = lexer.at;
        let token = lexer.token()?;
        let end = token == Token::End;
        tokens.push((token, start..lexer.at));
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn error<T>(&self, from: usize, kind: ErrorKind) -> Result<T, ExprError> {
        Err(ExprError { at: from..self.at, kind })
    }

    /// Takes characters while they satisfy `wanted`.
    fn take(&mut self, wanted: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.bytes().position(|byte| !wanted(byte)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// White space and comments. A comment in `/* */` ends on its line.
    fn skip(&mut self) -> Result<(), ExprError> {
        loop {
            self.take(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c));
            let start = self.at;
            if self.rest().starts_with("//") {
                self.take(|byte| byte != b'\n');
            } else if let Some(comment) = self.rest().strip_prefix("/*") {
                let line = comment.split('\n').next().unwrap_or(comment);
                self.at += 2 + line.find("*/").map_or(line.len(), |end| end + 2);
                if !line.contains("*/") {
                    return self.error(start, ErrorKind::Comment);
                }
            } else {
                return Ok(());
            }
        }
    }

    fn token(&mut self) -> Result<Token<'a>, ExprError> {
        let start = self.at;
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(Token::End) };
        let hex_digits = rest.bytes().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(rest.len());
        match first {
            '"' => self.string(),
            '$' => self.name('$').map(Token::AddressSet),
            '@' => self.name('@').map(Token::PortGroup),
            '^' => self.name('^').map(Token::Template),
            // An address may begin with a letter; then a colon follows its hexadecimal digits.
            _ if first.is_ascii_digit()
                || rest.starts_with("::")
                || (hex_digits > 0 && rest[hex_digits..].starts_with(':')) =>
            {
                self.constant().map(Token::Integer)
            }
            'a'..='z' | 'A'..='Z' | '_' => Ok(Token::Id(self.take(continues_name))),
            _ => {
                if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
                    self.at += sign.len();
                    return Ok(Token::Sign(sign));
                }
                self.at += first.len_utf8();
                self.error(start, ErrorKind::Character(first))
            }
        }
    }

    fn name(&mut self, sign: char) -> Result<&'a str, ExprError> {
        let start = self.at;
        self.at += sign.len_utf8();
        if self.rest().bytes().next().is_some_and(|byte| continues_name(byte) && !byte.is_ascii_digit()) {
            Ok(self.take(continues_name))
        } else {
            self.error(start, ErrorKind::Name(sign))
        }
    }

    fn constant(&mut self) -> Result<Constant, ExprError> {
        let start = self.at;
        let value = self.number()?;
        if !self.rest().starts_with('/') {
            return Ok(value);
        }
        self.at += 1;
        let mask = self.number()?;
        match value.masked(mask) {
            Ok(constant) => Ok(constant),
            Err(kind) => self.error(start, kind),
        }
    }

    fn number(&mut self) -> Result<Constant, ExprError> {
        let start = self.at;
        let text = self.extent();
        self.at += text.len();
        match number(text) {
            Ok(constant) => Ok(constant),
            Err(why) => self.error(start, ErrorKind::Constant(why)),
        }
    }

    /// As much as may be one number: `..` ends it, and so does a colon behind a dot, as in `192.0.2.1:80`.
    fn extent(&self) -> &'a str {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let mut dotted = false;
        let mut end = 0;
        while let Some(&byte) = bytes.get(end) {
            let dot = byte == b'.' && bytes.get(end + 1) != Some(&b'.');
            if !(byte.is_ascii_alphanumeric() || byte == b':' && !dotted || dot) {
                break;
            }
            dotted |= dot;
            end += 1;
        }
        &rest[..end]
    }

    /// A string, with JSON's escapes.
    fn string(&mut self) -> Result<Token<'a>, ExprError> {
        let start = self.at;
        let mut text = String::new();
        self.at += 1;
        loop {
            let escape = self.at;
            let Some(first) = self.rest().chars().next() else {
                return self.error(start, ErrorKind::Unterminated);
            };
            self.at += first.len_utf8();
            match first {
                '"' => return Ok(Token::String(text)),
                '\\' => match self.escaped() {
                    Some(character) => text.push(character),
                    None => return self.error(escape, ErrorKind::Escape),
                },
                '\0' => return self.error(escape, ErrorKind::Character(first)),
                other => text.push(other),
            }
        }
    }

    /// What stands behind a backslash (RFC 8259, section 7).
    fn escaped(&mut self) -> Option<char> {
        let first = self.rest().chars().next()?;
        self.at += first.len_utf8();
        Some(match first {
            '"' | '\\' | '/' => first,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let high = self.code_unit()?;
                if !(0xd800..0xdc00).contains(&high) {
                    return char::from_u32(high).filter(|character| *character != '\0');
                }
                let low =
                    self.rest().starts_with("\\u").then(|| self.at += 2).and_then(|()| self.code_unit())?;
                let low = low.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                return char::from_u32(0x10000 + ((high - 0xd800) << 10) + low);
            }
            _ => return None,
        })
    }

    fn code_unit(&mut self) -> Option<u32> {
        let digits = self.rest().get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}

fn continues_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.'
}

fn number(text: &str) -> Result<Constant, &'static str> {
    if text.is_empty() {
        Err("expected a number or address")
    } else if let Some(value) = mac(text) {
        Ok(Constant::new(value, Format::Ethernet))
    } else if text.bytes().all(|byte| byte.is_ascii_digit()) {
        if text.len() > 1 && text.starts_with('0') {
            return Err("expected a decimal number without leading zeros");
        }
        let value: u64 = text.parse().map_err(|_| "expected a decimal number below 2**64")?;
        Ok(Constant::new(value.into(), Format::Decimal))
    } else if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        hexadecimal(digits)
    } else if let Ok(address) = text.parse::<Ipv4Addr>() {
        Ok(Constant::new(address.to_bits().into(), Format::Ipv4))
    } else if let Ok(address) = text.parse::<Ipv6Addr>() {
        Ok(Constant::new(address.to_bits(), Format::Ipv6))
    } else {
        Err("expected a number, a MAC or an IP address")
    }
}

fn hexadecimal(digits: &str) -> Result<Constant, &'static str> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("expected hexadecimal digits after 0x");
    }
    let significant = digits.trim_start_matches('0');
    let value = if significant.is_empty() { Ok(0) } else { u128::from_str_radix(significant, 16) };
    value.map(|value| Constant::new(value, Format::Hexadecimal)).map_err(|_| "expected at most 128 bits")
}

fn mac(text: &str) -> Option<u128> {
    if text.len() != 17 {
        return None;
    }
    text.split(':')
        .map(|octet| {
            let plain = octet.len() == 2 && octet.bytes().all(|byte| byte.is_ascii_hexdigit());
            plain.then(|| u128::from_str_radix(octet, 16).ok()).flatten()
        })
        .try_fold(0, |value, octet| Some(value << 8 | octet?))
}
