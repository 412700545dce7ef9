//! Layers depend on lower ones only, and `unsafe` stays out.

use std::fs;
use std::path::{Path, PathBuf};

/// Top to bottom; a module may use those behind it. Modules in one entry may use each other.
const LAYERS: &[&[&str]] = &[
    &["cli"],
    &["sim"],
    &["host"],
    &["control"],
    &["lifecycle"],
    &["worker"],
    &["relay"],
    &["tunnel"],
    &["tls", "tcp"],
    &["flow"],
    &["net"],
    &["config"],
    &["fabric"],
    &["port"],
    &["telemetry"],
    &["limits", "time"],
];

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|l| l.contains(&module))
}

/// What a file says outside its tests, without comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn modules_use_only_what_lies_below() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 50, "{} files found", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&src).unwrap();
        let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = first.trim_end_matches(".rs");
        if matches!(module, "lib" | "main") || relative.to_str().unwrap().contains("tests") {
            continue;
        }
        let Some(own) = layer(module) else {
            wrong.push(format!("{module} is in no layer"));
            continue;
        };
        for used in code(&file).split("crate::").skip(1) {
            let name: String =
                used.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            match layer(&name) {
                Some(at) if at >= own => {}
                Some(_) => wrong.push(format!("{} uses {name}", relative.display())),
                // `use crate::{a, b}` would pass unseen.
                None => wrong.push(format!("{} uses crate::{name}?", relative.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_the_tcp_door_names_the_engines_sockets() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    for file in files {
        let relative = file.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
        // The hosts of tests and measurements are the independent peer.
        if relative.starts_with("tcp") || relative.starts_with("host") {
            continue;
        }
        let code = code(&file);
        for name in ["smoltcp::socket", "smoltcp::iface"] {
            assert!(!code.contains(name), "{relative} names {name}");
        }
    }
}

#[test]
fn unsafe_is_forbidden_outside_the_bindings() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for top in
        ["policy/src/lib.rs", "gateway/src/lib.rs", "gateway/src/main.rs", "bench/src/main.rs"]
    {
        let text = fs::read_to_string(root.join(top)).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{top} does not forbid unsafe code");
    }
}
