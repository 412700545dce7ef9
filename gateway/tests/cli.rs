//! The built program from outside: files, messages, exit codes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn clgw(directory: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_clgw"))
        .args(args)
        .current_dir(directory)
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("ended by a signal")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs and expects exit code 0.
fn good(directory: &Path, args: &[&str]) -> String {
    let output = clgw(directory, args);
    assert_eq!(code(&output), 0, "{args:?}: {}", stderr(&output));
    stdout(&output)
}

/// Runs and expects `wanted` as exit code, something on stderr and nothing on stdout.
fn bad(directory: &Path, wanted: i32, args: &[&str]) -> String {
    let output = clgw(directory, args);
    assert_eq!(code(&output), wanted, "{args:?}: {}{}", stdout(&output), stderr(&output));
    assert_eq!(stdout(&output), "", "{args:?}");
    let text = stderr(&output);
    assert!(!text.is_empty() && !text.contains('\u{1b}'), "{args:?}: {text}");
    text
}

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs")
}

/// The directory of one demo site beside its certificates, as the demo lays it out.
fn site(directory: &Path, name: &str) -> PathBuf {
    if !directory.join("demo").exists() {
        good(directory, &["create", "fabric", "--name", "demo"]);
    }
    good(directory, &["create", "peer-cert", "--name", name, "--fabric", "demo"]);
    let from = configs().join("demo").join(name);
    let to = directory.join("demo").join(name);
    fs::copy(from.join("gateway.yaml"), to.join("gateway.yaml")).unwrap();
    fs::create_dir(to.join("objects")).unwrap();
    for entry in fs::read_dir(from.join("objects")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join("objects").join(path.file_name().unwrap())).unwrap();
    }
    to
}

#[test]
fn a_fabric_and_peers_are_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let text = good(dir.path(), &["create", "fabric"]);
    assert!(text.contains("default_fabric/key.pem"), "{text}");
    good(dir.path(), &["create", "peer-cert", "--name", "site-a"]);
    for file in ["cert.pem", "key.pem", "site-a/cert.pem", "site-a/key.pem"] {
        let text = fs::read_to_string(dir.path().join("default_fabric").join(file)).unwrap();
        assert!(text.starts_with("-----BEGIN "), "{file}");
    }
    assert!(bad(dir.path(), 1, &["create", "fabric"]).contains("already exists"));
    let text = bad(dir.path(), 1, &["create", "peer-cert", "--name", "site-a"]);
    assert!(text.contains("already exists"), "{text}");
}

#[test]
fn create_says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let text = bad(dir.path(), 1, &["create", "peer-cert", "--name", "a"]);
    assert!(text.contains("clgw create fabric"), "{text}");
    let text = bad(dir.path(), 2, &["create", "fabric", "--name", "../x"]);
    assert!(text.contains("no name for a fabric"), "{text}");
    let text = bad(dir.path(), 2, &["create", "peer-cert", "--name", "Site_A"]);
    assert!(text.contains("capital letters") && text.contains("lower case"), "{text}");
    bad(dir.path(), 2, &["create", "peer-cert"]);
    let text = bad(dir.path(), 1, &["create", "fabric", "--path", "missing"]);
    assert!(text.contains("--path"), "{text}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn wrong_command_lines_are_usage_errors() {
    let dir = tempfile::tempdir().unwrap();
    bad(dir.path(), 2, &[]);
    bad(dir.path(), 2, &["frobnicate"]);
    bad(dir.path(), 2, &["run"]);
    bad(dir.path(), 2, &["check", "--config"]);
    bad(dir.path(), 2, &["create", "fabric", "--nmae", "x"]);
}

#[test]
fn help_lists_the_exit_codes_and_version_what_was_built() {
    let dir = tempfile::tempdir().unwrap();
    let help = good(dir.path(), &["--help"]);
    assert!(help.contains("Exit codes:") && help.contains("peer") && help.contains("check"));
    let version = good(dir.path(), &["version"]);
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    assert!(version.contains("dpdk   2") && version.contains("crypto ring"), "{version}");
    assert!(good(dir.path(), &["--version"]).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_demo_sites_pass_the_check() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["site-a", "site-b"] {
        let site = site(dir.path(), name);
        let output = clgw(&site, &["check", "--config", "gateway.yaml"]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert_eq!(stderr(&output), "");
        let text = stdout(&output);
        assert!(text.contains("gateway.yaml: good") && text.contains(name), "{text}");
    }
}

#[test]
fn check_reports_configuration_objects_and_certificates_in_one_go() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(dir.path(), "site-a");
    let config = fs::read_to_string(site.join("gateway.yaml")).unwrap();
    fs::write(site.join("gateway.yaml"), config.replace("idle: sleep", "idle: snooze")).unwrap();
    fs::write(site.join("objects/peers.yaml"), "kind: [\n").unwrap();
    fs::remove_file(site.join("key.pem")).unwrap();
    let text = bad(&site, 3, &["check", "--config", "gateway.yaml"]);
    assert!(text.contains("workers.idle: unknown value \"snooze\""), "{text}");
    assert!(text.contains("objects/peers.yaml:"), "{text}");
    assert!(text.contains("--> key.pem\n"), "{text}");
    assert!(text.contains("3 errors and 2 warnings found"), "{text}");
}

#[test]
fn check_holds_the_parts_against_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(dir.path(), "site-a");
    let config = fs::read_to_string(site.join("gateway.yaml")).unwrap();
    let config =
        config.replace("name: site-a", "name: site-c").replace("demo/iperf", "demo/nosuch");
    fs::write(site.join("gateway.yaml"), config).unwrap();
    let text = bad(&site, 3, &["check", "--config", "gateway.yaml"]);
    assert!(text.contains("peer.name") && text.contains("site-c"), "{text}");
    assert!(text.contains("there is no Import demo/nosuch"), "{text}");
    assert!(text.contains("2 errors found"), "{text}");
}

#[test]
fn a_missing_or_broken_configuration_ends_run_and_check_with_3() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("bad.yaml"), "peer: [").unwrap();
    for command in ["run", "check"] {
        let text = bad(dir.path(), 3, &[command, "--config", "none.yaml"]);
        assert!(
            text.contains("error: cannot be read") && text.contains("--> none.yaml\n"),
            "{text}"
        );
        let text = bad(dir.path(), 3, &[command, "--config", "bad.yaml"]);
        assert!(text.contains("bad.yaml:1:") && text.contains("not readable as YAML"), "{text}");
    }
}

#[test]
fn a_wrong_log_filter_is_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(dir.path(), "site-a");
    let output = Command::new(env!("CARGO_BIN_EXE_clgw"))
        .args(["run", "--config", "gateway.yaml"])
        .current_dir(&site)
        .env("RUST_LOG", "clgw=loud")
        .output()
        .unwrap();
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(stderr(&output).contains("RUST_LOG"), "{}", stderr(&output));
}

#[test]
fn check_tells_machines_every_finding() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(dir.path(), "site-a");
    let text = good(&site, &["check", "--config", "gateway.yaml", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&document["valid"], &document["errors"]), (&true.into(), &0.into()));

    let config = fs::read_to_string(site.join("gateway.yaml")).unwrap();
    fs::write(site.join("gateway.yaml"), config.replace("idle: sleep", "idle: snooze")).unwrap();
    let output = clgw(&site, &["check", "--config", "gateway.yaml", "--json"]);
    assert_eq!((code(&output), &*stderr(&output)), (3, ""));
    let document: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&document["valid"], &document["errors"]), (&false.into(), &1.into()));
    let finding = &document["findings"][0];
    assert_eq!(finding["field"], "workers.idle");
    assert_eq!(finding["file"], "gateway.yaml");
    assert!(finding["line"].as_u64().unwrap() > 1);
}
