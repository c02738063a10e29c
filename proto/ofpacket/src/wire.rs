//! Big-endian cursors, and the macros by which every structure, enumeration and flag set of the
//! protocol is declared once for both directions (OpenFlow 1.3.5, section 7).
//!
//! # Invariants
//! - A `Reader` never reads past the structure it was opened for, so a wrong inner length cannot
//!   eat its neighbour.
//! - Nothing here panics on a peer's bytes; a `Writer` remembers the first thing that did not fit
//!   and `Writer::finish` reports it.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::error::{DecodeError, EncodeError};
use crate::header::Version;

/// Levels of nested actions that are accepted (`clone` in `clone` in `ct` …).
pub(crate) const DEPTH_MAX: usize = 16;

/// A structure with one layout in both directions.
pub(crate) trait Wire: Sized {
    /// Appends the structure.
    fn put(&self, w: &mut Writer);
    /// Reads the structure off the front.
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// Bytes being read, bounded to one structure.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    consumed: usize,
    what: &'static str,
    depth: usize,
    pub(crate) version: Version,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(what: &'static str, version: Version, bytes: &'a [u8]) -> Self {
        Self { bytes, consumed: 0, what, depth: 0, version }
    }

    pub(crate) fn left(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn consumed(&self) -> usize {
        self.consumed
    }

    /// Bytes not yet read, without reading them.
    pub(crate) fn peek(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn what(&mut self, what: &'static str) {
        self.what = what;
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let Some((head, rest)) = self.bytes.split_at_checked(count) else {
            return Err(DecodeError::Truncated { what: self.what, need: count, got: self.left() });
        };
        self.bytes = rest;
        self.consumed += count;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.bytes(N)?;
        Ok(<[u8; N]>::try_from(bytes).expect("`bytes` returns what was asked for"))
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        let bytes = self.bytes;
        self.consumed += bytes.len();
        self.bytes = &[];
        bytes
    }

    pub(crate) fn skip(&mut self, count: usize) -> Result<(), DecodeError> {
        self.bytes(count).map(|_| ())
    }

    pub(crate) fn take<T: Wire>(&mut self) -> Result<T, DecodeError> {
        T::take(self)
    }

    /// A reader for the next `length` bytes only.
    pub(crate) fn sub(&mut self, what: &'static str, length: usize) -> Result<Self, DecodeError> {
        let got = self.left();
        let bytes = self.bytes(length).map_err(|_| DecodeError::Length {
            what,
            at_least: 0,
            at_most: got,
            got: length,
        })?;
        Ok(Self { bytes, consumed: 0, what, depth: self.depth, version: self.version })
    }

    /// Like `sub`, one level deeper.
    pub(crate) fn nested(&mut self, what: &'static str, length: usize) -> Result<Self, DecodeError> {
        if self.depth >= DEPTH_MAX {
            return Err(DecodeError::Nesting { what, limit: DEPTH_MAX });
        }
        let mut sub = self.sub(what, length)?;
        sub.depth += 1;
        Ok(sub)
    }

    /// A reader for a structure whose 16-bit length, counting itself, stands `at` bytes into it.
    pub(crate) fn entry(
        &mut self,
        what: &'static str,
        at: usize,
        at_least: usize,
    ) -> Result<Self, DecodeError> {
        let Some(length) = self.bytes.get(at..at + 2) else {
            return Err(DecodeError::Truncated { what, need: at + 2, got: self.left() });
        };
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        if length < at_least.max(at + 2) || length > self.left() {
            return Err(DecodeError::Length {
                what,
                at_least: at_least.max(at + 2),
                at_most: self.left(),
                got: length,
            });
        }
        self.sub(what, length)
    }

    /// Reads structures until the bytes end.
    pub(crate) fn list<T: Wire>(&mut self) -> Result<Vec<T>, DecodeError> {
        let mut list = Vec::new();
        while !self.is_empty() {
            let before = self.left();
            list.push(T::take(self)?);
            if self.left() == before {
                return Err(DecodeError::Value {
                    what: self.what,
                    expected: "an item of at least one byte",
                    got: 0,
                });
            }
        }
        Ok(list)
    }

    pub(crate) fn wrong(&self, expected: &'static str, got: u64) -> DecodeError {
        DecodeError::Value { what: self.what, expected, got }
    }
}

/// Bytes being written.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) version: Version,
    error: Option<EncodeError>,
}

impl Writer {
    pub(crate) fn new(version: Version) -> Self {
        Self { bytes: Vec::with_capacity(128), version, error: None }
    }

    pub(crate) fn put<T: Wire>(&mut self, value: T) {
        value.put(self);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn zeros(&mut self, count: usize) {
        self.bytes.resize(self.bytes.len() + count, 0);
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn list<T: Wire>(&mut self, list: &[T]) {
        for item in list {
            item.put(self);
        }
    }

    /// Zeros until the structure that began at `start` fills a multiple of `align` bytes.
    pub(crate) fn align(&mut self, start: usize, align: usize) {
        let length = self.bytes.len() - start;
        self.zeros(length.next_multiple_of(align) - length);
    }

    /// Zeros until the structure that began at `start` is `length` bytes long.
    pub(crate) fn pad_to(&mut self, start: usize, length: usize) {
        let have = self.bytes.len() - start;
        self.zeros(length.saturating_sub(have));
    }

    /// States the length of what was written since `start` in the 16 bits at `at`.
    pub(crate) fn length_at(&mut self, what: &'static str, at: usize, start: usize) {
        self.length_less(what, at, start, 0);
    }

    /// Like `length_at`, for lengths that leave `less` bytes out.
    pub(crate) fn length_less(&mut self, what: &'static str, at: usize, start: usize, less: usize) {
        let got = self.bytes.len() - start - less;
        let length = u16::try_from(got).unwrap_or_else(|_| {
            self.refuse(EncodeError::TooLong { what, limit: usize::from(u16::MAX), got });
            u16::MAX
        });
        self.bytes[at..at + 2].copy_from_slice(&length.to_be_bytes());
    }

    /// A 16-bit count of something that was given as a slice.
    pub(crate) fn count(&mut self, what: &'static str, got: usize) {
        let count = u16::try_from(got).unwrap_or_else(|_| {
            self.refuse(EncodeError::TooLong { what, limit: usize::from(u16::MAX), got });
            u16::MAX
        });
        self.put(count);
    }

    pub(crate) fn refuse(&mut self, error: EncodeError) {
        self.error.get_or_insert(error);
    }

    pub(crate) fn finish(self) -> Result<Vec<u8>, EncodeError> {
        match self.error {
            None => Ok(self.bytes),
            Some(error) => Err(error),
        }
    }
}

macro_rules! wire_integers {
    ($($integer:ty),*) => {$(
        impl Wire for $integer {
            fn put(&self, w: &mut Writer) {
                w.bytes(&self.to_be_bytes());
            }
            fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                r.array().map(Self::from_be_bytes)
            }
        }
    )*};
}
wire_integers!(u8, u16, u32, u64);

impl<const N: usize> Wire for [u8; N] {
    fn put(&self, w: &mut Writer) {
        w.bytes(self);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.array()
    }
}

impl Wire for Ipv4Addr {
    fn put(&self, w: &mut Writer) {
        w.bytes(&self.octets());
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.array::<4>().map(Self::from)
    }
}

impl Wire for Ipv6Addr {
    fn put(&self, w: &mut Writer) {
        w.bytes(&self.octets());
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.array::<16>().map(Self::from)
    }
}

/// Everything up to the end of the structure.
impl Wire for Box<[u8]> {
    fn put(&self, w: &mut Writer) {
        w.bytes(self);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(r.rest().into())
    }
}

/// Items up to the end of the structure.
impl<T: Wire> Wire for Vec<T> {
    fn put(&self, w: &mut Writer) {
        w.list(self);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.list()
    }
}

/// Declares structures whose wire layout is their field order.
///
/// `=> pad N` adds N zero bytes after a field. `sized` structures begin with a 16-bit length of the
/// whole, which is not a Rust field.
macro_rules! wire_struct {
    (@impl $what:literal $name:ident $($field:ident $ty:ty, $pad:expr;)*) => {
        impl $crate::wire::Wire for $name {
            #[allow(unused_variables, reason = "an empty structure reads and writes nothing")]
            fn put(&self, w: &mut $crate::wire::Writer) {
                $($crate::wire::Wire::put(&self.$field, w); w.zeros($pad);)*
            }
            fn take(r: &mut $crate::wire::Reader<'_>) -> Result<Self, $crate::error::DecodeError> {
                r.what($what);
                $(let $field = <$ty as $crate::wire::Wire>::take(r)?; r.skip($pad)?;)*
                Ok(Self { $($field),* })
            }
        }
    };
    (@sized $what:literal $name:ident $($field:ident $ty:ty, $pad:expr;)*) => {
        impl $crate::wire::Wire for $name {
            fn put(&self, w: &mut $crate::wire::Writer) {
                let start = w.len();
                w.zeros(2);
                $($crate::wire::Wire::put(&self.$field, w); w.zeros($pad);)*
                w.length_at($what, start, start);
            }
            fn take(r: &mut $crate::wire::Reader<'_>) -> Result<Self, $crate::error::DecodeError> {
                let mut r = r.entry($what, 0, 2)?;
                r.skip(2)?;
                $(let $field = <$ty as $crate::wire::Wire>::take(&mut r)?; r.skip($pad)?;)*
                Ok(Self { $($field),* })
            }
        }
    };
    () => {};
    ($(#[$meta:meta])* pub struct $name:ident $what:literal { $($(#[$fmeta:meta])* $field:ident: $ty:ty $(=> pad $pad:literal)?,)* } $($rest:tt)*) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Eq, Hash, PartialEq)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty,)* }
        wire_struct! { @impl $what $name $($field $ty, 0 $(+ $pad)?;)* }
        wire_struct! { $($rest)* }
    };
    ($(#[$meta:meta])* pub sized struct $name:ident $what:literal { $($(#[$fmeta:meta])* $field:ident: $ty:ty $(=> pad $pad:literal)?,)* } $($rest:tt)*) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Eq, Hash, PartialEq)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty,)* }
        wire_struct! { @sized $what $name $($field $ty, 0 $(+ $pad)?;)* }
        wire_struct! { $($rest)* }
    };
}

/// Declares an open enumeration: a newtype with named values, so that unknown ones survive.
macro_rules! wire_enum {
    () => {};
    ($(#[$meta:meta])* pub enum $name:ident($repr:ty) { $($(#[$vmeta:meta])* $value:ident = $number:expr, $text:literal;)* } $($rest:tt)*) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(pub $repr);

        impl $name {
            $($(#[$vmeta])* pub const $value: Self = Self($number);)*

            /// The name of a known value, as `ovs-ofctl` prints it where it prints it.
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$value => Some($text),)*
                    #[allow(unreachable_patterns, reason = "a full enumeration leaves nothing")]
                    _ => None,
                }
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => write!(f, concat!(stringify!($name), "({})"), name),
                    None => write!(f, concat!(stringify!($name), "({:#x})"), self.0),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => f.pad(name),
                    None => write!(f, "{}", self.0),
                }
            }
        }

        impl $crate::wire::Wire for $name {
            fn put(&self, w: &mut $crate::wire::Writer) {
                w.put(self.0);
            }
            fn take(r: &mut $crate::wire::Reader<'_>) -> Result<Self, $crate::error::DecodeError> {
                r.take().map(Self)
            }
        }

        wire_enum! { $($rest)* }
    };
}

/// Declares a set of bits; unknown bits survive.
macro_rules! wire_flags {
    () => {};
    ($(#[$meta:meta])* pub flags $name:ident($repr:ty) { $($(#[$vmeta:meta])* $value:ident = $number:expr, $text:literal;)* } $($rest:tt)*) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(pub $repr);

        impl $name {
            /// No bit set.
            pub const NONE: Self = Self(0);
            $($(#[$vmeta])* pub const $value: Self = Self($number);)*
            /// Known bits and their names.
            pub const NAMES: &[(Self, &'static str)] = &[$((Self::$value, $text)),*];

            /// Whether every bit of `other` is set.
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Whether no bit is set.
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// Both sets together.
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// This set without the bits of `other`.
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }
        }

        impl std::ops::BitOr for $name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                self.with(other)
            }
        }

        impl std::ops::BitOrAssign for $name {
            fn bitor_assign(&mut self, other: Self) {
                *self = self.with(other);
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "("))?;
                let mut left = self.0;
                for (bit, name) in Self::NAMES {
                    if bit.0 != 0 && self.contains(*bit) {
                        write!(f, "{name} ")?;
                        left &= !bit.0;
                    }
                }
                write!(f, "{left:#x})")
            }
        }

        impl $crate::wire::Wire for $name {
            fn put(&self, w: &mut $crate::wire::Writer) {
                w.put(self.0);
            }
            fn take(r: &mut $crate::wire::Reader<'_>) -> Result<Self, $crate::error::DecodeError> {
                r.take().map(Self)
            }
        }

        wire_flags! { $($rest)* }
    };
}

pub(crate) use {wire_enum, wire_flags, wire_struct};
