//! What is too large is refused with numbers, and what is large but regular is not.

use quantumnet_expr::{ErrorKind, Expr, TooComplex};

fn parse(text: &str) -> Expr {
    Expr::parse(text).expect("an expression")
}

#[test]
fn a_text_has_a_greatest_length() {
    let text = " ".repeat(Expr::MAX_LENGTH) + "1";
    let error = Expr::parse(&text).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLong { length: Expr::MAX_LENGTH + 1, limit: Expr::MAX_LENGTH });
    assert!(Expr::parse(&text[1..]).is_ok());
}

#[test]
fn nesting_has_a_greatest_depth() {
    let nested = |depth| format!("{}1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Expr::parse(&nested(100)).is_ok());
    assert_eq!(Expr::parse(&nested(101)).unwrap_err().at, 100..101);
    assert!(Expr::parse(&"(".repeat(Expr::MAX_LENGTH)).is_err());
    assert!(Expr::parse(&"!(".repeat(1000)).is_err());
}

#[test]
fn thousands_of_addresses_are_one_dimension() {
    let addresses: Vec<_> = (0..20_000).map(|n: u32| format!("10.{}.{}.1", n / 256, n % 256)).collect();
    for text in [
        format!("ip4.src == {{{}}} && tcp.dst == {{1, 2, 5}}", addresses.join(", ")),
        format!(
            "({}) && tcp.dst == {{1, 2, 5}}",
            addresses.iter().map(|a| format!("ip4.src == {a}")).collect::<Vec<_>>().join(" || ")
        ),
    ] {
        let clauses = parse(&text).normalize().unwrap();
        let sizes: Vec<Vec<_>> =
            clauses.iter().map(|c| c.wide().map(|d| d.terms().len()).collect()).collect();
        assert_eq!(sizes, [[20_000, 3]]);
    }
}

#[test]
fn sums_that_do_not_join_are_too_complex() {
    let pairs: Vec<_> = (0..5000).map(|n| format!("(reg0 == {n} && reg5 == {n} && reg9 == {n})")).collect();
    let error = parse(&pairs.join(" || ")).normalize().unwrap_err();
    assert_eq!(error, TooComplex::Clauses { found: 5000, limit: 4096 });
    assert_eq!(error.to_string(), "5000 clauses are more than the 4096 allowed");
}

#[test]
fn products_that_do_not_join_are_too_complex() {
    let sum = |field: &str| {
        let parts: Vec<_> =
            (0..300).map(|n| format!("({field} == {n} && reg0[{}] && pkt.mark == {n})", n % 32)).collect();
        format!("({})", parts.join(" || "))
    };
    let text = format!("{} && {}", sum("reg5"), sum("ct_mark"));
    assert_eq!(parse(&text).normalize(), Err(TooComplex::Clauses { found: 90_000, limit: 65_536 }));
}

#[test]
fn masks_that_are_no_prefixes_are_bounded() {
    let values: Vec<_> =
        (0..3000).map(|n: u32| format!("{:#x}/0xffff00ff", ((n / 50) << 16) | (n % 50))).collect();
    let text = format!("reg0 == {{{}}}", values.join(", "));
    assert_eq!(parse(&text).normalize(), Err(TooComplex::Masks { found: 3000, limit: 2048 }));
}

#[test]
fn one_odd_mask_among_thousands_of_prefixes_is_no_matter() {
    let mut addresses: Vec<_> = (0..10_000).map(|n: u32| format!("10.{}.{}.1", n / 256, n % 256)).collect();
    addresses.extend(["10.0.0.1/255.0.0.255", "11.0.0.1/255.0.0.255", "11.7.0.1"].map(str::to_owned));
    let text = format!("ip4.src == {{{}}}", addresses.join(", "));
    let clauses = parse(&text).normalize().unwrap();
    assert_eq!(clauses.len(), 1);
    assert_eq!(clauses[0].to_string(), "eth.type=0x800 && ip4.src=0xa000001/0xfe0000ff");
}

#[test]
fn terms_are_bounded() {
    let outside = |count: u32| {
        let addresses: Vec<_> = (0..count).map(|n| format!("10.{}.{}.1", n / 256, n % 256)).collect();
        parse(&format!("ip4.src != {{{}}}", addresses.join(", "))).normalize()
    };
    let sizes: Vec<Vec<_>> = outside(10_000)
        .unwrap()
        .iter()
        .map(|c| c.dimensions().iter().map(|d| d.terms().len()).collect())
        .collect();
    assert_eq!(sizes, [[1, 80_016]]);
    assert_eq!(outside(20_000), Err(TooComplex::Terms { found: 160_016, limit: 131_072 }));
}
