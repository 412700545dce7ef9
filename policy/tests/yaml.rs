//! Text to trees: positions, repeated keys, and what reading may cost.

use clgw_policy::limits::{MAX_YAML_ALIAS_EVENTS, MAX_YAML_ALIASES};
use clgw_policy::yaml::{Budget, Mark, Node, Value, YamlError, document, documents};
use proptest::prelude::*;

const BUDGET: Budget = Budget { bytes: 1 << 20, depth: 8, nodes: 10_000 };

fn all(text: &str) -> (Vec<Node>, Vec<YamlError>) {
    let mut errors = Vec::new();
    let found = documents(text, &BUDGET, &mut errors);
    (found, errors)
}

fn one(text: &str) -> (Option<Node>, Vec<YamlError>) {
    let mut errors = Vec::new();
    let found = document(text, &BUDGET, &mut errors);
    (found, errors)
}

#[track_caller]
fn good(text: &str) -> Node {
    let (node, errors) = one(text);
    assert_eq!(errors, []);
    node.expect("a document")
}

fn at(line: u64, column: u64) -> Mark {
    Mark { line, column }
}

#[test]
fn values_keep_their_places() {
    let root = good("a: 1\nöl: [x, {b: ~}]\nc: &c text\nd: *c\n");
    assert_eq!(root.mark, at(1, 1));
    assert_eq!(root.get("a").map(|node| node.mark), Some(at(1, 4)));
    let Some(Node { value: Value::Seq(items), .. }) = root.get("öl") else { panic!("a list") };
    let places: Vec<_> = items.iter().map(|item| (item.index, item.node.mark)).collect();
    assert_eq!(places, [(0, at(2, 6)), (1, at(2, 9))]);
    assert_eq!(items[1].node.get("b").map(|node| &node.value), Some(&Value::Null));
    let alias = root.get("d").expect("the alias");
    assert_eq!((alias.as_str(), alias.mark), (Some("text"), at(4, 4)));
    let Value::Map(entries) = &root.value else { panic!("a mapping") };
    let keys: Vec<_> = entries.iter().map(|entry| (&*entry.key, entry.key_mark.line)).collect();
    assert_eq!(keys, [("a", 1), ("öl", 2), ("c", 3), ("d", 4)]);
}

#[test]
fn scalars_are_those_of_yaml_1_2() {
    let kinds = |text: &str| good(text).value.kind();
    for text in ["yes", "no", "on", "off", "y", "n", "'1'", "1.2.3", "!!str 1"] {
        assert_eq!(kinds(text), "text", "{text}");
    }
    for (text, kind) in [
        ("true", "the boolean true"),
        ("-7", "the number -7"),
        ("1.5", "the number 1.5"),
        ("~", "nothing"),
        ("null", "nothing"),
        ("[]", "a list"),
        ("{}", "a mapping"),
    ] {
        assert_eq!(kinds(text), kind, "{text}");
    }
}

/// In both ways of reading, wherever the mapping is, and as often as the key comes back.
#[test]
fn repeated_keys_are_refused_and_the_first_is_kept() {
    let text = "a: 1\nl:\n- {x.y: 1, 'x.y': 2}\na: 2\na: {b: 1, b: 2}\n";
    let wanted = [(3, 12, r#"l[0]["x.y"]"#, 3), (4, 1, "a", 1), (5, 11, "a.b", 5), (5, 1, "a", 1)];
    let (node, errors) = one(text);
    let (nodes, same) = all(text);
    assert_eq!((nodes, &same), (Vec::from_iter(node.clone()), &errors));
    let found: Vec<_> = errors
        .iter()
        .map(|error| match error {
            YamlError::DuplicateKey { mark, path, first } => {
                (mark.line, mark.column, &**path, first.line)
            }
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(found, wanted);
    assert_eq!(errors[1].to_string(), "the key is already set in line 1");
    let root = node.expect("the document");
    assert_eq!(root.get("a").map(|node| &node.value), Some(&Value::Int(1)));
    assert!(matches!(&root.value, Value::Map(entries) if entries.len() == 2));
}

#[test]
fn errors_become_diagnostics_at_their_place() {
    let shown = |text: &str| one(text).1[0].diagnostic("f.yaml").to_string();
    assert_eq!(
        shown("a: 1\nb: {c: 1, c: 2}\n"),
        "f.yaml:2:11: error: b.c: the key is already set in line 2\n  = help: keep one of the two"
    );
    assert_eq!(
        shown("a: *b\n"),
        "f.yaml:1:4: error: not readable as YAML: alias references unknown anchor\n  \
         = help: correct the YAML here; other errors may show only then"
    );
}

#[test]
fn empty_documents_are_nothing() {
    for text in ["", "\n", "# a comment\n", "null\n", "\u{feff}"] {
        assert_eq!(all(text), (Vec::new(), Vec::new()), "{text:?}");
        assert_eq!(good(text).value, Value::Null, "{text:?}");
    }
    assert_eq!(all("---\n---\n~\n"), (Vec::new(), Vec::new()));
}

#[test]
fn a_second_document_is_an_error_where_one_is_wanted() {
    let text = "a: 1\n---\nb: 1\n";
    assert_eq!(all(text).0.len(), 2);
    let (node, errors) = one(text);
    assert_eq!(node, None);
    assert!(matches!(&errors[..], [YamlError::Syntax { .. }]), "{errors:?}");
}

/// A mapping as a key cannot be represented, an unclosed bracket swallows everything.
#[test]
fn documents_before_an_error_are_kept_and_those_behind_it_if_they_can_be_found() {
    let (nodes, errors) = all("a: 1\n---\n? [a]\n: b\n---\nc: 1\n");
    assert_eq!((nodes.len(), errors.len()), (2, 1));
    assert_eq!(errors[0].mark().line, 3);
    let (nodes, errors) = all("a: 1\n---\nb: [\n---\nc: 1\n");
    assert_eq!((nodes.len(), errors.len()), (1, 1), "{errors:?}");
}

#[track_caller]
fn is_limit(text: &str) {
    for errors in [all(text).1, one(text).1] {
        assert!(matches!(&errors[..], [YamlError::Limit { .. }]), "{errors:?}");
    }
}

#[test]
fn budgets_hold() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    good(&nested(BUDGET.depth));
    is_limit(&nested(BUDGET.depth + 1));
    let (_, errors) = one(&nested(BUDGET.depth + 1));
    let text = errors[0].to_string();
    assert_eq!(text, "not readable as YAML: it exceeds a limit: nested 9 levels deep");
    let list = |count: usize| format!("[{}]", vec!["x"; count].join(","));
    good(&list(BUDGET.nodes - 1));
    is_limit(&list(BUDGET.nodes));
    let long = format!("# {}", "x".repeat(BUDGET.bytes));
    let wanted = YamlError::TooLong { bytes: long.len(), limit: BUDGET.bytes };
    assert_eq!(all(&long), (Vec::new(), vec![wanted.clone()]));
    assert_eq!(one(&long), (None, vec![wanted]));
}

#[test]
fn aliases_are_bounded_in_every_text() {
    // One anchor for ten aliases, or the parser's own bound on their ratio would act first.
    let few = |anchors: usize| {
        let lines =
            (0..anchors).map(|n| format!("k{n}: [&a{n} x{}]\n", format!(", *a{n}").repeat(9)));
        lines.collect::<String>()
    };
    good(&few(MAX_YAML_ALIASES / 9));
    is_limit(&few(MAX_YAML_ALIASES / 9 + 1));
    // Many small documents, each within its bounds.
    let document = format!("a: &a [{}]\nb: [*a, *a, *a, *a]\n---\n", vec!["x"; 300].join(","));
    let (nodes, errors) = all(&document.repeat(1 + MAX_YAML_ALIAS_EVENTS / 300));
    assert!(nodes.len() < 30, "{} documents", nodes.len());
    assert!(matches!(&errors[..], [YamlError::Limit { .. }]), "{errors:?}");
}

/// A fabric may be one file, and every object of it a document.
#[test]
fn the_number_of_documents_is_bounded_by_the_bytes_alone() {
    let (nodes, errors) = all(&"a: 1\n---\n".repeat(5_000));
    assert_eq!((nodes.len(), errors), (5_000, Vec::new()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    /// Where both ways of reading find one document, it is the same.
    #[test]
    fn both_ways_agree(
        text in "([a-z*&!|>'\"{}\\[\\],:\\- \n0-9]|: |- |k: |---\n|&a |\\*a ){0,40}",
    ) {
        let (nodes, errors) = all(&text);
        let (node, one_errors) = one(&text);
        if let (Some(node), [only]) = (&node, &nodes[..]) {
            prop_assert_eq!(node, only);
            prop_assert_eq!(errors, one_errors);
        } else if node.is_none() {
            prop_assert!(!one_errors.is_empty());
        }
    }
}
