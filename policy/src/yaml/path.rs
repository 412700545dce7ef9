//! Where a value stands in its document, in words: `spec.gateways[0].host`.

/// `path.name`, or `path["name"]` for a name with characters that would read as several steps. The
/// path of a document's root is empty.
pub fn key(path: &str, name: &str) -> String {
    let plain = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    match (plain, path.is_empty()) {
        (true, true) => name.to_owned(),
        (true, false) => format!("{path}.{name}"),
        (false, _) => format!("{path}[{name:?}]"),
    }
}

/// `path[index]`, counted from 0.
pub fn index(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_keys_keep_a_path_that_can_be_read() {
        assert_eq!(
            key("peer.labels", "app.kubernetes.io/name"),
            r#"peer.labels["app.kubernetes.io/name"]"#
        );
        assert_eq!(key("", "ports"), "ports");
        assert_eq!(index(&key("spec", ""), 2), r#"spec[""][2]"#);
    }
}
