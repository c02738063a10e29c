//! BFD control packets (RFC 5880, section 4.1), without authentication.
//!
//! # Invariants
//! - What section 6.8.6 has discarded for its contents alone is no packet here.

/// State of a session, as packets carry it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum State {
    /// Held down by its administrator.
    AdminDown = 0,
    /// Nobody is heard.
    #[default]
    Down = 1,
    /// The peer is heard, and does not know it yet.
    Init = 2,
    /// Both hear each other.
    Up = 3,
}

impl State {
    /// As `BFD.status` has it (ovn-nb(5)).
    pub fn name(self) -> &'static str {
        match self {
            Self::AdminDown => "admin_down",
            Self::Down => "down",
            Self::Init => "init",
            Self::Up => "up",
        }
    }
}

/// Why a session last changed its state.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum Diagnostic {
    /// It did not, or came up.
    #[default]
    None = 0,
    /// Nothing was heard for the detection time.
    Expired = 1,
    /// The peer said so.
    NeighborDown = 3,
}

/// A control packet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Control {
    /// Why the sender's state last changed; its number.
    pub diagnostic: u8,
    /// The sender's state.
    pub state: State,
    /// The sender wants to be confirmed.
    pub poll: bool,
    /// Answers a poll.
    pub last: bool,
    /// The sender wants no periodic packets while the session is up.
    pub demand: bool,
    /// Intervals without a packet after which the receiver may call the sender down.
    pub detect_mult: u8,
    /// The sender's name for the session, never 0.
    pub mine: u32,
    /// The receiver's name for it, or 0.
    pub yours: u32,
    /// Microseconds between packets that the sender would like.
    pub desired_min_tx: u32,
    /// Microseconds between packets that the sender can take; 0 for none at all.
    pub required_min_rx: u32,
}

impl Control {
    /// As bytes. Echo is not offered.
    pub fn encode(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[0] = VERSION << 5 | self.diagnostic & 0x1f;
        bytes[1] = (self.state as u8) << 6
            | u8::from(self.poll) << 5
            | u8::from(self.last) << 4
            | u8::from(self.demand) << 1;
        bytes[2] = self.detect_mult;
        bytes[3] = LENGTH as u8; // 24
        let numbers = [self.mine, self.yours, self.desired_min_tx, self.required_min_rx];
        for (place, number) in bytes[4..].chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    /// Back from the payload of a datagram.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let bytes: &[u8; LENGTH] = payload.first_chunk()?;
        let [first, flags, detect_mult, length, ..] = *bytes;
        let well_formed = first >> 5 == VERSION
            && usize::from(length) >= LENGTH
            && usize::from(length) <= payload.len()
            && detect_mult > 0
            && flags & (AUTHENTICATION | MULTIPOINT) == 0;
        let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let state = match flags >> 6 {
            0 => State::AdminDown,
            1 => State::Down,
            2 => State::Init,
            _ => State::Up,
        };
        let packet = Self {
            diagnostic: first & 0x1f,
            state,
            poll: flags & 0x20 != 0,
            last: flags & 0x10 != 0,
            demand: flags & 0x02 != 0,
            detect_mult,
            mine: number(4),
            yours: number(8),
            desired_min_tx: number(12),
            required_min_rx: number(16),
        };
        let named = packet.mine != 0 && (packet.yours != 0 || packet.state <= State::Down);
        // Poll and final exclude each other.
        (well_formed && named && !(packet.poll && packet.last)).then_some(packet)
    }
}

const VERSION: u8 = 1;
const LENGTH: usize = 24;
const AUTHENTICATION: u8 = 0x04;
const MULTIPOINT: u8 = 0x01;

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> Control {
        Control {
            diagnostic: 3,
            state: State::Up,
            poll: true,
            detect_mult: 5,
            mine: 0x0102_0304,
            yours: 0x0506_0708,
            desired_min_tx: 1_000_000,
            required_min_rx: 300_000,
            ..Control::default()
        }
    }

    #[test]
    fn bytes_of_a_packet() {
        let bytes = packet().encode();
        let expected =
            [0x23, 0xe0, 5, 24, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0x0f, 0x42, 0x40, 0, 4, 0x93, 0xe0, 0, 0, 0, 0];
        assert_eq!(bytes, expected);
        assert_eq!(Control::decode(&bytes), Some(packet()));
    }

    #[test]
    fn what_is_discarded() {
        let good = packet().encode();
        let changed = |at: usize, value: u8| {
            let mut bytes = good;
            bytes[at] = value;
            Control::decode(&bytes)
        };
        for (what, at, value) in [
            ("version 0", 0, 0x03),
            ("multiplier 0", 2, 0),
            ("a short length", 3, 23),
            ("a length beyond the payload", 3, 25),
            ("authentication", 1, 0xe4),
            ("multipoint", 1, 0xe1),
            ("poll and final", 1, 0xf0),
        ] {
            assert_eq!(changed(at, value), None, "{what}");
        }
        assert_eq!(Control::decode(&good[..23]), None);
        assert_eq!(Control::decode(&Control { mine: 0, ..packet() }.encode()), None);
        assert_eq!(Control::decode(&Control { yours: 0, ..packet() }.encode()), None, "up, and knows nobody");
        let first = Control { yours: 0, state: State::Down, ..packet() };
        assert_eq!(Control::decode(&first.encode()), Some(first));
    }
}
