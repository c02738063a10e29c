//! One BFD session in asynchronous mode, active role (RFC 5880, section 6.8), without sockets or clock.
//!
//! # Contract
//! - In: packets of the peer, time, settings. Out: packets for the peer, and the state.
//!
//! # Invariants
//! - While the session is not up a packet is sent once a second at most, whatever the settings say (section 6.8.3).
//! - A slower pace, or a shorter detection time of the peer's, holds only once the peer has confirmed it.
//! - Intervals are shortened by up to a quarter at random (section 6.8.7), and never lengthened.
//! - A peer that was asked for silence (`min_rx` 0) is not called down for being silent.

use std::time::{Duration, Instant};

use super::packet::{Control, Diagnostic, State};

/// Settings of a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Params {
    /// Shortest interval at which to send.
    pub min_tx: Duration,
    /// Shortest interval at which to be sent to; zero for not at all.
    pub min_rx: Duration,
    /// Intervals without a packet after which the peer is down.
    pub detect_mult: u8,
}

/// A session.
#[derive(Clone, Debug)]
pub struct Session {
    params: Params,
    state: State,
    diagnostic: Diagnostic,
    mine: u32,
    yours: u32,
    remote: Remote,
    /// The peer is asked to confirm the settings.
    polling: bool,
    /// In use until it is confirmed.
    old_min_tx: Option<Duration>,
    old_min_rx: Option<Duration>,
    sent_at: Option<Instant>,
    /// None while the peer wants silence.
    send_at: Option<Instant>,
    heard_at: Option<Instant>,
    random: u32,
}

/// What the peer's last packet said.
#[derive(Clone, Copy, Debug)]
struct Remote {
    state: State,
    min_tx: Duration,
    min_rx: Duration,
    detect_mult: u8,
    demand: bool,
}

impl Session {
    /// A session that has heard nobody. `mine` names it among those of this hypervisor and is not 0.
    pub fn new(now: Instant, mine: u32, params: Params) -> Self {
        Self {
            params,
            state: State::Down,
            diagnostic: Diagnostic::None,
            mine,
            yours: 0,
            remote: Remote {
                state: State::Down,
                min_tx: Duration::ZERO,
                min_rx: Duration::from_micros(1),
                detect_mult: 0,
                demand: false,
            },
            polling: false,
            old_min_tx: None,
            old_min_rx: None,
            sent_at: None,
            send_at: Some(now),
            heard_at: None,
            random: mine,
        }
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Its own name for itself.
    pub fn discriminator(&self) -> u32 {
        self.mine
    }

    /// Changes the settings.
    pub fn set_params(&mut self, now: Instant, params: Params) {
        if params == self.params {
            return;
        }
        let old = std::mem::replace(&mut self.params, params);
        if self.state == State::Up {
            if params.min_tx > old.min_tx {
                self.old_min_tx.get_or_insert(old.min_tx);
            }
            if params.min_rx < old.min_rx {
                self.old_min_rx.get_or_insert(old.min_rx);
            }
            self.polling = true;
        }
        self.pace(now);
    }

    /// Takes a packet of the peer's that is for this session. Returns the answer, if it wants one at once.
    pub fn receive(&mut self, now: Instant, packet: &Control) -> Option<Control> {
        self.yours = packet.mine;
        self.remote = Remote {
            state: packet.state,
            min_tx: Duration::from_micros(packet.desired_min_tx.into()),
            min_rx: Duration::from_micros(packet.required_min_rx.into()),
            detect_mult: packet.detect_mult,
            demand: packet.demand,
        };
        self.heard_at = Some(now);
        if packet.last && self.polling {
            self.polling = false;
            (self.old_min_tx, self.old_min_rx) = (None, None);
        }
        let next = match (self.state, packet.state) {
            (State::AdminDown, _) => return None,
            (State::Down, State::Down) => Some((State::Init, Diagnostic::None)),
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => {
                Some((State::Up, Diagnostic::None))
            }
            (State::Init | State::Up, State::AdminDown) | (State::Up, State::Down) => {
                Some((State::Down, Diagnostic::NeighborDown))
            }
            _ => None,
        };
        match next {
            Some((state, diagnostic)) => self.enter(now, state, diagnostic),
            None => self.pace(now),
        }
        packet.poll.then(|| Control { last: true, poll: false, ..self.packet() })
    }

    /// When to ask for [`Self::due`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.send_at, self.expires_at()].into_iter().flatten().min()
    }

    /// What follows from the time: the packet that is due, if one is.
    pub fn due(&mut self, now: Instant) -> Option<Control> {
        if self.expires_at().is_some_and(|at| at <= now) {
            self.heard_at = None;
            self.yours = 0;
            // It is forgotten what the peer could take.
            self.remote.min_rx = Duration::from_micros(1);
            self.remote.demand = false;
            if matches!(self.state, State::Init | State::Up) {
                self.enter(now, State::Down, Diagnostic::Expired);
            }
        }
        if self.send_at.is_none_or(|at| now < at) {
            return None;
        }
        self.sent_at = Some(now);
        self.pace(now);
        Some(self.packet())
    }

    fn enter(&mut self, now: Instant, state: State, diagnostic: Diagnostic) {
        // The pace changes with being up, which the peer is to confirm.
        self.polling = state == State::Up;
        (self.old_min_tx, self.old_min_rx) = (None, None);
        (self.state, self.diagnostic) = (state, diagnostic);
        self.pace(now);
        // The peer is told at once, even one that wants no periodic packets.
        self.send_at = Some(now);
    }

    fn packet(&self) -> Control {
        let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        Control {
            diagnostic: self.diagnostic as u8,
            state: self.state,
            poll: self.polling,
            last: false,
            demand: false,
            detect_mult: self.params.detect_mult,
            mine: self.mine,
            yours: self.yours,
            desired_min_tx: micros(self.desired_min_tx()),
            required_min_rx: micros(self.params.min_rx),
        }
    }

    fn desired_min_tx(&self) -> Duration {
        if self.state == State::Up { self.params.min_tx } else { self.params.min_tx.max(SLOW) }
    }

    /// Decides when the next packet is due.
    fn pace(&mut self, now: Instant) {
        let wants_silence = self.remote.min_rx.is_zero()
            || self.remote.demand && self.state == State::Up && self.remote.state == State::Up;
        if wants_silence && !self.polling {
            self.send_at = None;
            return;
        }
        let own = self.old_min_tx.unwrap_or_else(|| self.desired_min_tx());
        let interval = own.max(self.remote.min_rx);
        // With a multiplier of 1 the packet must not come too late.
        let most = if self.params.detect_mult == 1 { 90 } else { 100 };
        let interval = interval * (75 + self.random() % (most - 75 + 1)) / 100;
        self.send_at = Some(self.sent_at.map_or(now, |at| (at + interval).max(now)));
    }

    /// When the peer counts as gone.
    fn expires_at(&self) -> Option<Instant> {
        let heard = self.heard_at.filter(|_| !self.params.min_rx.is_zero())?;
        let own = self.old_min_rx.unwrap_or(self.params.min_rx).max(self.params.min_rx);
        Some(heard + own.max(self.remote.min_tx) * u32::from(self.remote.detect_mult))
    }

    /// Xorshift: who listens to the wire may guess it.
    fn random(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random
    }
}

/// The pace of sessions that are not up.
const SLOW: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn params(min_tx: u64, min_rx: u64, detect_mult: u8) -> Params {
        Params { min_tx: millis(min_tx), min_rx: millis(min_rx), detect_mult }
    }

    /// Two ends of a path, and the packets that each has sent.
    struct Path {
        ends: [Session; 2],
        sent: [Vec<(Instant, Control)>; 2],
        /// What end 0 sends, and what end 1 sends, arrives.
        arrives: [bool; 2],
        now: Instant,
    }

    impl Path {
        fn new(a: Params, b: Params) -> Self {
            let now = Instant::now();
            let ends = [Session::new(now, 7, a), Session::new(now, 8, b)];
            Self { ends, sent: [vec![], vec![]], arrives: [true; 2], now }
        }

        fn run(&mut self, time: Duration) {
            let end = self.now + time;
            let next = |path: &Self| {
                path.ends.iter().filter_map(Session::poll_timeout).min().filter(|at| *at <= end)
            };
            let mut steps = 0;
            while let Some(at) = next(self) {
                self.now = self.now.max(at);
                for from in 0..2 {
                    let packet = self.ends[from].due(self.now);
                    packet.into_iter().for_each(|packet| self.carry(from, packet));
                }
                steps += 1;
                assert!(steps < 100_000, "the clock stands still");
            }
            self.now = end;
        }

        fn carry(&mut self, from: usize, packet: Control) {
            self.sent[from].push((self.now, packet));
            let decoded = Control::decode(&packet.encode()).unwrap();
            if self.arrives[from]
                && let Some(answer) = self.ends[1 - from].receive(self.now, &decoded)
            {
                self.carry(1 - from, answer);
            }
        }

        fn states(&self) -> [State; 2] {
            [self.ends[0].state(), self.ends[1].state()]
        }

        /// Packets of an end in a stretch of time.
        fn count(&mut self, end: usize, time: Duration) -> usize {
            let before = self.sent[end].len();
            self.run(time);
            self.sent[end].len() - before
        }
    }

    fn received(state: State) -> Control {
        Control {
            state,
            detect_mult: 3,
            mine: 9,
            yours: 7,
            desired_min_tx: 1_000_000,
            required_min_rx: 1_000_000,
            ..Control::default()
        }
    }

    #[test]
    fn the_table_of_states() {
        use State::{AdminDown, Down, Init, Up};
        let now = Instant::now();
        let at = |state| {
            let mut session = Session::new(now, 7, params(1000, 1000, 3));
            let way: &[State] = match state {
                Init => &[Down],
                Up => &[Down, Up],
                _ => &[],
            };
            way.iter().for_each(|state| _ = session.receive(now, &received(*state)));
            assert_eq!(session.state(), state);
            session
        };
        for (from, heard, to) in [
            (Down, AdminDown, Down),
            (Down, Down, Init),
            (Down, Init, Up),
            (Down, Up, Down),
            (Init, AdminDown, Down),
            (Init, Down, Init),
            (Init, Init, Up),
            (Init, Up, Up),
            (Up, AdminDown, Down),
            (Up, Down, Down),
            (Up, Init, Up),
            (Up, Up, Up),
        ] {
            let mut session = at(from);
            session.receive(now, &received(heard));
            assert_eq!(session.state(), to, "{from:?} hears {heard:?}");
        }
    }

    #[test]
    fn two_ends_come_up_and_keep_the_slower_pace() {
        let mut path = Path::new(params(100, 50, 3), params(20, 200, 5));
        path.run(millis(3_000));
        assert_eq!(path.states(), [State::Up, State::Up]);
        assert!(path.sent[0].iter().any(|(_, packet)| packet.last), "polls are answered");
        assert!(!path.sent[0].last().unwrap().1.poll, "and end");
        // 200 ms of the second's choice, 75 % to 100 % of it; 50 ms of the first's.
        let (a, b) = (path.count(0, millis(10_000)), path.count(1, millis(10_000)));
        assert!((50..=67).contains(&a) && (200..=267).contains(&b), "{a} {b}");
    }

    #[test]
    fn not_up_is_slow() {
        let mut path = Path::new(params(10, 10, 3), params(10, 10, 3));
        path.arrives = [false, false];
        let count = path.count(0, millis(10_000));
        assert!((10..=14).contains(&count), "{count}");
        assert!(path.sent[0].iter().all(|(_, packet)| packet.desired_min_tx == 1_000_000));
    }

    #[test]
    fn silence_for_the_detection_time_is_down() {
        let mut path = Path::new(params(100, 100, 3), params(100, 100, 5));
        path.run(millis(3_000));
        path.arrives = [true, false];
        let (silent, heard) = (path.now, path.sent[1].last().unwrap().0);
        // Five times 100 ms, as the second's packets say.
        path.run((heard + millis(499)) - silent);
        assert_eq!(path.ends[0].state(), State::Up);
        path.run(millis(1));
        // The second is told, and is down too.
        assert_eq!(path.states(), [State::Down, State::Down]);
        let last = path.sent[0].last().unwrap().1;
        assert_eq!((last.diagnostic, last.state, last.yours), (1, State::Down, 0));
        path.arrives = [true, true];
        path.run(millis(3_000));
        assert_eq!(path.states(), [State::Up, State::Up]);
    }

    #[test]
    fn a_slower_pace_waits_for_the_peer() {
        let mut path = Path::new(params(100, 100, 3), params(100, 100, 3));
        path.run(millis(3_000));
        path.arrives[1] = false;
        path.ends[0].set_params(path.now, params(1_000, 100, 3));
        assert!(path.ends[0].packet().poll);
        let count = path.count(0, millis(200));
        assert!(count >= 2, "the old pace until it is confirmed: {count}");
        path.arrives[1] = true;
        path.run(millis(200));
        assert!(!path.ends[0].packet().poll);
        assert!(path.count(0, millis(4_000)) <= 6);
        assert_eq!(path.states(), [State::Up, State::Up]);
    }

    #[test]
    fn a_peer_that_is_asked_for_silence_is_silent_and_up() {
        let mut path = Path::new(params(100, 0, 3), params(100, 100, 3));
        path.run(millis(3_000));
        assert_eq!(path.states(), [State::Up, State::Up]);
        assert_eq!(path.count(1, millis(5_000)), 0);
        assert!(path.count(0, millis(5_000)) > 40);
        assert_eq!(path.states(), [State::Up, State::Up]);
    }

    #[test]
    fn a_peer_that_restarts_is_followed() {
        let mut path = Path::new(params(100, 100, 3), params(100, 100, 3));
        path.run(millis(3_000));
        path.ends[1] = Session::new(path.now, 99, params(100, 100, 3));
        path.run(millis(4_000));
        assert_eq!(path.states(), [State::Up, State::Up]);
        assert_eq!(path.sent[0].last().unwrap().1.yours, 99);
    }
}
