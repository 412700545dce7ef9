//! `memif` where the gateway does not work: what it says, and what it leaves behind.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

/// Fails, after it has told on which CPUs the process that started it may run, and that one's.
const GATEWAY: &str = r#"#!/bin/sh
[ "$1" = --version ] && exec echo "clgw of a test"
parent=$(awk '/^PPid:/ { print $2 }' /proc/$PPID/status)
awk '/^Cpus_allowed_list:/ { print $2 }' /proc/$PPID/status /proc/$parent/status >> "$0.cpus"
echo "no gateway today" >&2
exit 1
"#;

#[test]
fn a_gateway_that_fails_does_so_for_every_mtu_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = dir.path().join("clgw");
    fs::write(&gateway, GATEWAY).unwrap();
    fs::set_permissions(&gateway, fs::Permissions::from_mode(0o755)).unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let allowed = status.split_once("Cpus_allowed_list:").unwrap().1.trim_start();
    let cpu: String = allowed.chars().take_while(char::is_ascii_digit).collect();
    let temporary = dir.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_clgw-bench"))
        .args(["memif", "--mtu", "1500,9000", "--other-cpu", &cpu])
        .arg("--clgw")
        .arg(&gateway)
        .env("RUNTIME_DIRECTORY", dir.path())
        .env("TMPDIR", &temporary)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{said}");
    for mtu in ["MTU 1500", "MTU 9000"] {
        let why = format!("{mtu}: the rest was not measured");
        assert!(said.contains(&why), "{said}");
    }
    assert!(said.contains("2 cases failed") && said.contains("no gateway today"), "{said}");
    assert!(report.contains("samples of a second"), "notes: {report}");
    for left in [temporary, dir.path().join("dpdk")] {
        let left: Vec<_> = fs::read_dir(left).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    // Gateway A's CPU is nobody else's.
    let cpus = fs::read_to_string(dir.path().join("clgw.cpus")).unwrap();
    assert_eq!(cpus, format!("{cpu}\n").repeat(4));
}
