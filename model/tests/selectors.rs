//! Selectors and traffic: what is understood, what is not and where, and the laws they promise.

use imbl::OrdMap;
use proptest::prelude::*;
use quantumnet_model::{
    column::Text,
    selector::{Endpoint, Labels, SELECTOR_MAX, Selector, Service, Traffic},
};

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| (Text::from(*key), Text::from(*value))).collect()
}

#[test]
fn selectors_have_a_normal_form() {
    let cases = [
        ("role=web", "role=web"),
        ("role == web", "role=web"),
        ("  role=web-server ", "role=web-server"),
        ("role in (web)", "role=web"),
        ("role in (b, a, b)", "role in (a, b)"),
        ("role!=web", "not role=web"),
        ("role not in (web)", "not role=web"),
        ("not not role", "role"),
        ("b and a and b", "a and b"),
        ("a and (b and c)", "a and b and c"),
        ("a or b and c", "a or (b and c)"),
        ("not a and b", "b and not a"),
        ("not (a or b)", "not (a or b)"),
        ("((a))", "a"),
        ("*", "*"),
        ("zone=eu/1 or zone=eu.2", "zone=eu.2 or zone=eu/1"),
        (r#"name="two words""#, r#"name="two words""#),
        (r#"name="a\"b\\""#, r#"name="a\"b\\""#),
        (r#"name="""#, r#"name="""#),
        (r#""in"=x"#, r#""in"=x"#),
        ("role=in", r#"role="in""#),
        ("größe=ß", "größe=ß"),
        ("android", "android"),
    ];
    for (text, normal) in cases {
        let selector: Selector = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(selector.to_string(), normal, "{text}");
        assert_eq!(normal.parse(), Ok(selector), "{normal}");
    }
}

#[test]
fn what_is_no_selector_is_told_with_its_place() {
    let cases = [
        ("", "column 1: expected a label such as role=web, \"not\", \"(\" or \"*\", found the end"),
        ("role=", "column 6: expected a value, found the end"),
        ("role=(a)", "column 6: expected a value, found \"(\""),
        ("role in web", "column 9: expected \"(\" and a list of values, found \"web\""),
        ("role in ()", "column 10: expected a value, found \")\""),
        ("role in (a b)", "column 12: expected \",\" or \")\", found \"b\""),
        ("role in (a,", "column 12: expected a value, found the end"),
        ("role not web", "column 10: expected \"in\", found \"web\""),
        ("a b", "column 3: expected \"and\", \"or\" or the end, found \"b\""),
        ("a and", "column 6: expected a label such as role=web, \"not\", \"(\" or \"*\", found the end"),
        ("a or or b", "column 6: expected a label such as role=web, \"not\", \"(\" or \"*\", found \"or\""),
        ("(a", "column 3: expected \"and\", \"or\" or \")\", found the end"),
        ("a)", "column 2: expected \"and\", \"or\" or the end, found \")\""),
        (
            "a & b",
            "column 3: expected a label, a value or a sign of a selector (put others in double quotes), found '&'",
        ),
        (
            "!a",
            "column 1: expected a label, a value or a sign of a selector (put others in double quotes), found '!'",
        ),
        ("ß=\"x", "column 3: expected a closing '\"', found the end"),
    ];
    for (text, expected) in cases {
        assert_eq!(text.parse::<Selector>().unwrap_err().to_string(), expected, "{text}");
    }
    let deep = "(".repeat(40) + "a" + &")".repeat(40);
    assert!(deep.parse::<Selector>().unwrap_err().to_string().starts_with("column 34: expected at most 32 "));
    assert!("a".repeat(SELECTOR_MAX + 1).parse::<Selector>().is_err());
}

#[test]
fn what_is_selected() {
    let web = labels(&[("role", "web"), ("env", "prod")]);
    let cases = [
        ("role=web and env in (prod, test)", true),
        ("role=web and not env=prod", false),
        ("role!=db", true),
        ("zone!=db", true),
        ("zone", false),
        ("not zone", true),
        ("role", true),
        ("zone not in (a) and role not in (web)", false),
        ("*", true),
        ("zone=a or role=web", true),
    ];
    for (text, selected) in cases {
        assert_eq!(text.parse::<Selector>().unwrap().matches(&web), selected, "{text}");
    }
}

fn traffic(text: &str) -> String {
    match text.parse::<Traffic>() {
        Ok(Traffic { source, destination, services }) => {
            format!("{source} | {destination} | {}", shown(&services))
        }
        Err(error) => error.to_string(),
    }
}

fn shown(services: &[Service]) -> String {
    let one = |service: &Service| {
        let name = format!("{:?}", service.protocol).to_lowercase();
        match (service.ports, service.icmp) {
            (Some((first, last)), _) => format!("{name} {first}-{last}"),
            (_, Some((kind, code))) => {
                format!("{name} {kind}{}", code.map(|code| format!(".{code}")).unwrap_or_default())
            }
            _ => name,
        }
    };
    services.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn traffic_is_understood_or_told_what_is_wrong() {
    let cases = [
        ("role=web-server -> role=db-server : 5432", "role=web-server | role=db-server | tcp 5432-5432"),
        ("role=web->role=db:5432", "role=web | role=db | tcp 5432-5432"),
        ("a -> b", "a | b | any"),
        (
            "* -> role=db : tcp, udp/53, 8000-8999, icmp/8/0, icmpv6, ip/47, ip/6",
            "* | role=db | tcp udp 53-53 tcp 8000-8999 icmp 8.0 icmpv6 number(47)",
        ),
        ("10.0.0.0/8 -> b : any", "10.0.0.0/8 | b | any"),
        ("10.0.0.1 -> b", "10.0.0.1/32 | b | any"),
        ("a -> fd00::/64", "a | fd00::/64 | any"),
        ("a -> fd00::1 : 80", "a | fd00::1/128 | tcp 80-80"),
        ("a -> fd00::/64:80", "a | fd00::/64 | tcp 80-80"),
        (r#""x->y:" = "a : b" -> b"#, r#""x->y:"="a : b" | b | any"#),
        ("a", "column 2: expected \"->\" and a destination, found the end"),
        ("a -> ", "column 6: expected a label such as role=web, \"not\", \"(\" or \"*\", found the end"),
        (" -> b", "column 2: expected a label such as role=web, \"not\", \"(\" or \"*\", found the end"),
        ("a -> b c : 1", "column 8: expected \"and\", \"or\" or the end, found \"c\""),
        (
            "a -> b : ",
            "column 10: expected a service such as 5432, tcp/80-89, udp/53, icmp/8, ip/47 or any, found nothing",
        ),
        (
            "a -> b : 80,",
            "column 13: expected a service such as 5432, tcp/80-89, udp/53, icmp/8, ip/47 or any, found nothing",
        ),
        (
            "a -> b : 80, http",
            "column 14: expected a service such as 5432, tcp/80-89, udp/53, icmp/8, ip/47 or any, found \"http\"",
        ),
        (
            "a -> b : tcp/99999",
            "column 10: expected a port or first-last from 0 to 65535, found \"tcp/99999\"",
        ),
        (
            "a -> b : 9-8",
            "column 10: expected a service such as 5432, tcp/80-89, udp/53, icmp/8, ip/47 or any, found \"9-8\"",
        ),
        ("a -> b : icmp/300", "column 10: expected a type, or type/code, from 0 to 255, found \"icmp/300\""),
        ("a -> b : ip/300", "column 10: expected a number of a protocol from 0 to 255, found \"ip/300\""),
        (
            "10.0.0.1/8 -> b",
            "column 1: expected the prefix 10.0.0.0/8, found \"10.0.0.1/8\" with host bits set",
        ),
        ("10.0.0 -> b", "column 1: expected an address or prefix such as 10.0.0.0/8, found \"10.0.0\""),
        (
            "ö -> 10.0.0.0/40",
            "column 6: expected an address or prefix such as 10.0.0.0/8, found \"10.0.0.0/40\"",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(traffic(text), expected, "{text}");
    }
    assert_eq!("* -> (*)".parse::<Traffic>().unwrap().destination, Endpoint::Select(Selector::ALL));
}

fn text() -> impl Strategy<Value = String> {
    let key = prop_oneof![Just("role"), Just("env"), Just("zone")];
    let value = prop_oneof![Just("a"), Just("b"), Just("in"), Just("\"x y\"")];
    let list = prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just("\"in\"")], 1..3);
    let test = prop_oneof![
        key.clone().prop_map(str::to_owned),
        (key.clone(), value.clone()).prop_map(|(key, value)| format!("{key}={value}")),
        (key.clone(), value).prop_map(|(key, value)| format!("{key}!={value}")),
        (key, any::<bool>(), list).prop_map(|(key, not, list)| format!(
            "{key} {}in ({})",
            if not { "not " } else { "" },
            list.join(",")
        )),
        Just("*".to_owned()),
    ];
    test.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|one| format!("not ({one})")),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|all| format!("({})", all.join(" and "))),
            prop::collection::vec(inner, 1..4).prop_map(|any| format!("({})", any.join(" or "))),
        ]
    })
}

fn some_labels() -> impl Strategy<Value = Labels> {
    let value = prop_oneof![Just("a"), Just("b"), Just("in"), Just("x y"), Just("other")];
    prop::collection::btree_map(prop_oneof![Just("role"), Just("env"), Just("zone")], value, 0..4).prop_map(
        |map| {
            map.into_iter().map(|(key, value)| (Text::from(key), Text::from(value))).collect::<OrdMap<_, _>>()
        },
    )
}

proptest! {
    #[test]
    fn the_normal_form_means_the_same(text in text(), labels in some_labels()) {
        let selector: Selector = text.parse().unwrap();
        let again: Selector = selector.to_string().parse().unwrap();
        prop_assert_eq!(&again, &selector);
        prop_assert_eq!(again.matches(&labels), selector.matches(&labels));
    }

    /// What lowering relies on to look only at groups that may change.
    #[test]
    fn nothing_changes_without_a_trigger(text in text(), before in some_labels(), after in some_labels()) {
        let selector: Selector = text.parse().unwrap();
        let fired = Selector::fired(&before, &after);
        if selector.triggers().is_disjoint(&fired) {
            prop_assert_eq!(selector.matches(&before), selector.matches(&after));
        }
        if before == after {
            prop_assert!(fired.is_empty());
        }
    }

    #[test]
    fn nothing_panics(text in "[-a-z=!()*,\"\\\\ :>0-9./ß]{0,40}") {
        _ = text.parse::<Selector>();
        _ = text.parse::<Traffic>();
    }
}
