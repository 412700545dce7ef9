//! Finds the installed DPDK with pkg-config and compiles the shim against its headers.

use std::process::{Command, exit};

/// The oldest DPDK the shim is written for; `internal.h` repeats the check with `#error`.
const MINIMUM: &str = "22.11";

const SOURCES: [&str; 5] = ["eal", "log", "mbuf", "port", "wire"];

fn main() {
    println!("cargo:rerun-if-changed=shim");
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");

    // Emits the link lines itself. The libraries are linked with --as-needed, so only the handful
    // that the shim calls become run-time dependencies; EAL loads the drivers from its own folder.
    let dpdk = match pkg_config::Config::new().atleast_version(MINIMUM).probe("libdpdk") {
        Ok(library) => library,
        Err(error) => {
            eprintln!(
                "DPDK {MINIMUM} or newer was not found by pkg-config.\n\
                 On Debian and Ubuntu: apt-get install libdpdk-dev pkg-config gcc\n\
                 With a DPDK of your own: set PKG_CONFIG_PATH to the folder of its libdpdk.pc\n\
                 pkg-config said: {error}"
            );
            exit(1);
        }
    };

    let mut build = cc::Build::new();
    build
        .files(SOURCES.map(|name| format!("shim/{name}.c")))
        .std("gnu11")
        .warnings(true)
        .extra_warnings(true);
    // The burst functions are the packet path: they stay optimised in debug builds of the crate.
    build.opt_level(3);
    for folder in &dpdk.include_paths {
        // As system headers: their warnings are not ours to fix.
        build.flag("-isystem").flag(folder.display().to_string());
    }
    for flag in other_cflags() {
        build.flag(flag);
    }
    build.compile("clgw_dpdk_shim");
    println!("cargo:rustc-link-lib=dl");
    println!("cargo:version={}", dpdk.version);
}

/// The flags the pkg-config crate does not carry: DPDK's headers only compile with its own
/// `-include rte_config.h` and the `-march` it was built for.
fn other_cflags() -> Vec<String> {
    let program = std::env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    let output = Command::new(&program).args(["--cflags-only-other", "libdpdk"]).output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect()
        }
        _ => {
            eprintln!("`{program} --cflags-only-other libdpdk` failed; reinstall libdpdk-dev");
            exit(1);
        }
    }
}
