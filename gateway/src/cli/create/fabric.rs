//! `clgw create fabric`.

use std::path::PathBuf;

use crate::fabric::{self, DEFAULT_FABRIC};
use crate::lifecycle::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the fabric and of its directory.
    #[arg(long, default_value = DEFAULT_FABRIC)]
    name: String,
    /// Directory that the fabric's directory is made in.
    #[arg(long, default_value = ".", value_name = "DIR")]
    path: PathBuf,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let result = fabric::create_fabric(&args.path, &args.name, super::issuance());
    super::report(&format!("fabric {}", args.name), result)
}
