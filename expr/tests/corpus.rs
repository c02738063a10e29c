//! Every expression of the corpus has the verdict that OVN 23.03 gave it, as `record-corpus` wrote it down, but for the
//! exceptions below.

use std::collections::BTreeSet;

use quantumnet_expr::Expr;

const CORPUS: &[(&str, &str)] = &[
    ("booleans", include_str!("corpus/booleans.txt")),
    ("constants", include_str!("corpus/constants.txt")),
    ("references", include_str!("corpus/references.txt")),
    ("relations", include_str!("corpus/relations.txt")),
    ("symbols", include_str!("corpus/symbols.txt")),
];

/// Where we accept what OVN 23.03 refused: the reason, and the expressions.
const ACCEPTED: &[(&str, &[&str])] = &[
    (
        "members of another family than the field say nothing about it; OVN refuses the whole flow if they are wider",
        &["ip4.src == $v6", "ip4.src == $mixed", "ip4.src == $mac", "eth.src == $v6", "tcp.dst == $v4"],
    ),
    ("whether a set exists is not known while parsing: it may be created later", &["ip4.src == $v4."]),
    (
        "templates are parsed where constants may stand, and expanded later; OVN replaces text before it parses",
        &[
            "ip4.src == ^v",
            "ip4.src == {^v, 10.0.0.1}",
            "inport == ^p",
            "is_chassis_resident(^p)",
            "^v == ip4.src",
            "tcp.dst < ^v",
        ],
    ),
];

/// Where we refuse what OVN accepts.
const REFUSED: &[(&str, &[&str])] = &[
    (
        "a set has no order; OVN asks whether the field is less than each member",
        &["ip4.src < $v4", "1 < ip4.src < $v4"],
    ),
    (
        "a predicate is 0 or 1, whatever the members of a set are; OVN accepts this while the set is empty",
        &["ip4 == $none"],
    ),
];

/// Symbols that came after 23.03 and that 26.03 has.
const LATER: &[&str] = &[
    "flags.localnet",
    "flags.tunnel_rx",
    "flags.icmp_snat",
    "flags.from_ctrl",
    "flags.unsnat_new",
    "flags.unsnat_not_tracked",
    "flags.igmp_loopback",
    "flags.pkt_sampled",
    "flags.network_id",
    "ct_mark.obs_stage",
    "ct_mark.allow_established",
    "ct_mark.obs_collector_id",
    "ct_label.nf",
    "ct_label.nf_id",
    "ct_label.acl_id",
    "ct_label.tun_if",
    "ct_label.tun_if_id",
    "ct_label.obs_point_id",
    "ct_label.obs_unused",
    "nd_ns_mcast",
];

fn cases() -> impl Iterator<Item = (&'static str, bool, &'static str)> {
    CORPUS.iter().flat_map(|(file, text)| {
        text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (verdict, expr) = line.split_once('\t').expect("a verdict and an expression");
            (*file, verdict == "accept", expr)
        })
    })
}

fn is_later(expr: &str) -> bool {
    let name =
        expr.trim_start_matches('!').split(|c: char| !c.is_ascii_alphanumeric() && !"._".contains(c)).next();
    name.is_some_and(|name| LATER.contains(&name))
}

#[test]
fn verdicts_are_those_of_ovn() {
    let listed = |list: &[(&str, &'static [&'static str])]| -> BTreeSet<&str> {
        list.iter().flat_map(|(_, exprs)| *exprs).copied().collect()
    };
    let (accepted, refused) = (listed(ACCEPTED), listed(REFUSED));
    let mut exceptions = BTreeSet::new();
    let mut wrong = Vec::new();
    let mut count = 0;
    for (file, verdict, expr) in cases() {
        count += 1;
        let parsed = Expr::parse(expr);
        if verdict != parsed.is_ok() {
            let expected =
                if verdict { refused.contains(expr) } else { accepted.contains(expr) || is_later(expr) };
            exceptions.insert(expr);
            if !expected {
                wrong.push(format!("{file}: OVN accepts: {verdict}, {expr:?}: {parsed:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 300, "{count}");
    let stale: Vec<_> = accepted.union(&refused).filter(|expr| !exceptions.contains(**expr)).collect();
    assert!(stale.is_empty(), "no exceptions any more: {stale:?}");
}

#[test]
fn what_is_accepted_prints_as_itself_and_has_a_normal_form() {
    for (_, _, text) in cases() {
        let Ok(expr) = Expr::parse(text) else { continue };
        let printed = expr.to_string();
        assert_eq!(Expr::parse(&printed).as_ref(), Ok(&expr), "{text:?} printed as {printed:?}");
        let templates = !expr.references().templates.is_empty();
        let normal = expr.normalize();
        assert_eq!(normal.is_err(), templates, "{text:?}: {normal:?}");
    }
}
