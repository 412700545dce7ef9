//! `clgw create peer-cert`.

use std::path::PathBuf;

use crate::fabric::{self, DEFAULT_FABRIC};
use crate::lifecycle::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the peer: a DNS name, unique in the fabric.
    #[arg(long)]
    name: String,
    /// Name of the fabric that signs it.
    #[arg(long, default_value = DEFAULT_FABRIC)]
    fabric: String,
    /// Directory that the fabric's directory is in.
    #[arg(long, default_value = ".", value_name = "DIR")]
    path: PathBuf,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let result = fabric::create_peer(&args.path, &args.fabric, &args.name, super::issuance());
    super::report(&format!("peer {} of fabric {}", args.name, args.fabric), result)
}
