//! `clgw version`.

use super::output;
use crate::config::Crypto;
use crate::lifecycle::ExitCode;

/// Set by whoever builds a release; a plain `cargo build` knows neither.
const COMMIT: Option<&str> = option_env!("CLGW_COMMIT");
const RUSTC: Option<&str> = option_env!("CLGW_RUSTC");

pub(super) fn run() -> ExitCode {
    output::line(format_args!("clgw   {}", env!("CARGO_PKG_VERSION")));
    output::line(format_args!("commit {}", COMMIT.unwrap_or("not recorded in this build")));
    output::line(format_args!("rustc  {}", RUSTC.unwrap_or("not recorded in this build")));
    let dpdk = dpdk_bindings::Eal::version();
    output::line(format_args!("dpdk   {}", dpdk.strip_prefix("DPDK ").unwrap_or(&dpdk)));
    let crypto: Vec<&str> = Crypto::ALL.iter().map(|crypto| crypto.name()).collect();
    output::line(format_args!("crypto {}", crypto.join(", ")));
    ExitCode::Ok
}
