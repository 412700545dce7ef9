//! The `clgw` program; everything is in [`clgw::cli`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    clgw::cli::main().into()
}
