//! Random expressions over the symbol table, and packets that are likely to meet them.

use quantumnet_expr::{Constant, Expr, Field, Level, Meaning, Packet, Symbol};

/// A seeded source of numbers (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

const PORTS: &[&str] = &["a", "b", "c"];
const GROUPS: &[(&str, &[&str])] = &[("ab", &["a", "b"]), ("c", &["c"]), ("nobody", &[])];
const SETS: &[(&str, &[&str])] = &[
    ("hosts", &["10.0.0.1", "10.0.0.2", "10.0.1.0/24", "2001:db8::1", "2001:db8::/64", "02:00:00:00:00:01"]),
    ("odd", &["10.0.0.2/255.0.0.255", "fe80::1", "02:00:00:00:00:00/02:00:00:00:00:ff", "5", "0x50/0xf0"]),
    ("none", &[]),
];

/// Values that expressions and packets have in common.
fn value(random: &mut Random, width: u8) -> u128 {
    let ones = if width == 128 { u128::MAX } else { (1 << width) - 1 };
    let common: &[u128] = match width {
        32 => &[0x0a00_0001, 0x0a00_0002, 0x0a00_0103, 0xe000_0001, 0],
        48 => &[0x0200_0000_0001, 0xffff_ffff_ffff, 0x3333_0000_0001, 0x0100_5e00_0001],
        128 => &[
            0x2001_0db8 << 96 | 1,
            0xff02 << 112 | 1,
            0xff02 << 112 | 0x16,
            0xfe80 << 112 | 1,
            0xff02_0000_0000_0000_0000_0001_ff00_0001,
        ],
        _ => &[0, 1, 2, 5, 80, 443, 0x800, u128::MAX],
    };
    let number = match random.below(8) {
        0 => u128::from(random.next()) << 64 | u128::from(random.next()),
        _ => random.pick(common),
    };
    number & ones
}

fn constant(random: &mut Random, width: u8, nominal: bool) -> String {
    let number = value(random, width);
    if nominal || !random.one_in(4) {
        return format!("{number:#x}");
    }
    let ones = if width == 128 { u128::MAX } else { (1 << width) - 1 };
    let mask = match random.below(3) {
        0 => value(random, width),
        _ => ones << random.below(usize::from(width)) & ones,
    };
    format!("{number:#x}/{mask:#x}")
}

/// A comparison that passes the type check; `not` says whether an odd number of `!` is around it.
fn comparison(random: &mut Random, not: bool) -> String {
    let symbol = &Symbol::all()[random.below(Symbol::all().len())];
    let (equal, unequal) = if not { ("!=", "==") } else { ("==", "!=") };
    match (symbol.meaning(), symbol.level()) {
        (Meaning::Port(_), _) => {
            let port = |random: &mut Random| match random.below(3) {
                0 => format!("@{}", random.pick(GROUPS).0),
                _ => format!("{:?}", random.pick(PORTS)),
            };
            let values: Vec<_> = (0..=random.below(3)).map(|_| port(random)).collect();
            format!("{symbol} {equal} {{{}}}", values.join(", "))
        }
        (Meaning::Predicate(_), Level::Nominal) => {
            if not {
                format!("{symbol} == 0")
            } else {
                symbol.to_string()
            }
        }
        (Meaning::Predicate(_), _) => format!("{symbol} == {}", random.below(2)),
        (Meaning::Bits { .. }, Level::Nominal) => {
            let values: Vec<_> = (0..=random.below(2)).map(|_| nominal(random, symbol)).collect();
            format!("{symbol} {equal} {{{}}}", values.join(", "))
        }
        (Meaning::Bits { .. }, _) => ordinal(random, symbol, equal, unequal),
    }
}

fn nominal(random: &mut Random, symbol: &Symbol) -> String {
    let common: &[u32] = match symbol.name() {
        "eth.type" => &[0x800, 0x86dd, 0x806, 0x8035],
        "ip.proto" => &[1, 2, 6, 17, 58, 132],
        "icmp6.type" => &[130, 133, 135, 136, 143],
        "ip.ttl" => &[1, 255],
        _ => &[0, 1, 2],
    };
    random.pick(common).to_string()
}

fn ordinal(random: &mut Random, symbol: &Symbol, equal: &str, unequal: &str) -> String {
    let width = symbol.width();
    let (low, bits) = match random.below(4) {
        0 => {
            let low = random.below(width.into()) as u8;
            (low, 1 + random.below(usize::from(width - low)) as u8)
        }
        _ => (0, width),
    };
    let name = format!("{symbol}[{low}..{}]", low + (bits - 1));
    match random.below(6) {
        0 => format!("{name} {} {:#x}", random.pick(&["<", "<=", ">", ">="]), value(random, bits)),
        1 => format!("{:#x} <= {name} < {:#x}", value(random, bits), value(random, bits)),
        2 => format!("{name} {} ${}", random.pick(&[equal, unequal]), random.pick(SETS).0),
        _ => {
            let values: Vec<_> = (0..=random.below(3))
                .map(|_| match random.below(6) {
                    0 => format!("${}", random.pick(SETS).0),
                    _ => constant(random, bits, false),
                })
                .collect();
            format!("{name} {} {{{}}}", random.pick(&[equal, equal, unequal]), values.join(", "))
        }
    }
}

/// A random expression of at most this depth.
pub(crate) fn expression(random: &mut Random, depth: usize) -> String {
    part(random, depth, false)
}

fn part(random: &mut Random, depth: usize, not: bool) -> String {
    if depth == 0 || random.one_in(4) {
        return match random.below(24) {
            0 => random.below(2).to_string(),
            1 => format!("{}is_chassis_resident({:?})", random.pick(&["", "!"]), random.pick(PORTS)),
            _ => comparison(random, not),
        };
    }
    match random.below(5) {
        0 => format!("!({})", part(random, depth - 1, !not)),
        n => {
            let parts: Vec<_> =
                (0..2 + random.below(2)).map(|_| format!("({})", part(random, depth - 1, not))).collect();
            parts.join(if n < 3 { " && " } else { " || " })
        }
    }
}

/// The same expression with its parts in another order.
pub(crate) fn shuffled(expr: &Expr, random: &mut Random) -> Expr {
    let mut each = |parts: &[Expr]| {
        let mut parts: Vec<_> = parts.iter().map(|part| shuffled(part, random)).collect();
        for i in (1..parts.len()).rev() {
            parts.swap(i, random.below(i + 1));
        }
        parts
    };
    match expr {
        Expr::And(parts) => Expr::And(each(parts)),
        Expr::Or(parts) => Expr::Or(each(parts)),
        other => other.clone(),
    }
}

/// A packet with headers that fit together.
#[derive(Debug)]
pub(crate) struct Guest {
    fields: Vec<(Field, u128)>,
    inport: &'static str,
    outport: &'static str,
    resident: &'static str,
    sets: Vec<(&'static str, Vec<Constant>)>,
}

impl Guest {
    pub(crate) fn new(random: &mut Random) -> Self {
        let mut fields: Vec<(Field, u128)> = Vec::new();
        let mut add = |random: &mut Random, names: &[Field]| {
            for field in names {
                fields.push((*field, value(random, field.width())));
            }
        };
        use Field::*;
        add(
            random,
            &[EthSrc, EthDst, VlanTci, CtState, CtMark, CtLabel, PktMark, Flags, Xxreg0, Xxreg1, Xreg4],
        );
        let eth_type = random.pick(&[0x800, 0x800, 0x86dd, 0x86dd, 0x806, 0x8035, 0x88cc]);
        let proto = random.pick(&[1, 2, 6, 17, 58, 132, 50]);
        let icmp6 = random.pick(&[130, 133, 134, 135, 136, 143, 128]);
        let code = random.below(2) as u128;
        let ttl = random.pick(&[255, 255, 1]);
        let ip = eth_type == 0x800 || eth_type == 0x86dd;
        match eth_type {
            0x800 => add(random, &[Ip4Src, Ip4Dst]),
            0x86dd => add(random, &[Ip6Src, Ip6Dst, Ip6Label]),
            0x806 | 0x8035 => add(random, &[ArpOp, ArpSpa, ArpSha, ArpTpa, ArpTha]),
            _ => {}
        }
        if ip {
            add(random, &[IpDscp, IpEcn, IpFrag]);
        }
        match (ip, proto, eth_type) {
            (true, 6, _) => add(random, &[TcpSrc, TcpDst, TcpFlags]),
            (true, 17, _) => add(random, &[UdpSrc, UdpDst]),
            (true, 132, _) => add(random, &[SctpSrc, SctpDst]),
            (true, 1, 0x800) => add(random, &[Icmp4Type, Icmp4Code]),
            (true, 58, 0x86dd) if code == 0 && ttl == 255 => match icmp6 {
                135 => add(random, &[NdTarget, NdSll]),
                136 => add(random, &[NdTarget, NdTll]),
                _ => {}
            },
            _ => {}
        }
        fields.push((EthType, eth_type));
        if ip {
            fields.extend([(IpProto, proto), (IpTtl, ttl)]);
        }
        if eth_type == 0x86dd && proto == 58 {
            fields.extend([(Icmp6Type, icmp6), (Icmp6Code, code)]);
        }
        let members =
            |texts: &[&str]| texts.iter().map(|text| text.parse().expect("the sets above")).collect();
        Self {
            fields,
            inport: random.pick(PORTS),
            outport: random.pick(PORTS),
            resident: random.pick(PORTS),
            sets: SETS.iter().map(|(name, texts)| (*name, members(texts))).collect(),
        }
    }
}

impl Packet for Guest {
    fn field(&self, field: Field) -> Option<u128> {
        self.fields.iter().find(|(name, _)| *name == field).map(|(_, value)| *value)
    }

    fn port(&self, field: Field) -> Option<&str> {
        match field {
            Field::Inport => Some(self.inport),
            Field::Outport => Some(self.outport),
            _ => None,
        }
    }

    fn address_set(&self, name: &str) -> &[Constant] {
        self.sets.iter().find(|(set, _)| *set == name).map_or(&[], |(_, members)| members)
    }

    fn is_in_port_group(&self, group: &str, port: &str) -> bool {
        GROUPS.iter().any(|(name, members)| *name == group && members.contains(&port))
    }

    fn is_resident(&self, port: &str) -> bool {
        self.resident == port
    }
}
