//! Hands the program what it was built from and by what; it records both with every run.

use std::path::Path;
use std::process::Command;

/// What the programs are built from. Tests and texts may differ.
const SOURCES: [&str; 9] = [
    ":/.cargo",
    ":/Cargo.lock",
    ":/Cargo.toml",
    ":/bench",
    ":/dpdk-bindings",
    ":/gateway",
    ":/policy",
    ":(exclude,top)*.md",
    ":(exclude,top)*/tests/*",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=RUSTC");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(&rustc).arg("--version").output();
    let version = output.ok().filter(|o| o.status.success()).map_or_else(
        || "unknown".to_owned(),
        |o| String::from_utf8_lossy(&o.stdout).trim().to_owned(),
    );
    // Flags such as target-cpu change every figure.
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default().replace('\x1f', " ");
    let rustc = [version.as_str(), flags.as_str()].join(" ");
    println!("cargo:rustc-env=CLGW_BENCH_RUSTC={}", rustc.trim());
    let (commit, changed) = checkout().unwrap_or_else(|| ("unknown".to_owned(), false));
    println!("cargo:rustc-env=CLGW_BENCH_COMMIT={commit}");
    println!("cargo:rustc-env=CLGW_BENCH_CHANGED={changed}");
}

/// The commit, and whether sources differ from it; `None` without git.
fn checkout() -> Option<(String, bool)> {
    // The files may lie in a checkout of something else.
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let files = git(&[&["ls-files", "--"][..], &SOURCES].concat())?;
    let status = ["status", "--porcelain", "--untracked-files=no", "--"];
    let changes = git(&[&status[..], &SOURCES].concat())?;
    files.lines().for_each(watch);
    // A file that is not there would have this run at every build: git packs branches away.
    watch(&git(&["rev-parse", "--git-path", "HEAD"])?);
    if let Some(branch) = git(&["symbolic-ref", "--quiet", "HEAD"]) {
        let file = git(&["rev-parse", "--git-path", &branch])?;
        if Path::new(&file).is_file() {
            watch(&file);
        } else {
            watch(&git(&["rev-parse", "--git-path", "refs/heads"])?);
            watch(&git(&["rev-parse", "--git-path", "packed-refs"])?);
        }
    }
    Some((commit, !changes.is_empty()))
}

fn watch(path: &str) {
    println!("cargo:rerun-if-changed={path}");
}

fn git(args: &[&str]) -> Option<String> {
    // Not in the way of a commit that is made at the same time.
    let output = Command::new("git").arg("--no-optional-locks").args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
