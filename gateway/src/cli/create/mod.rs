//! `clgw create`: certificates with the flags and files of ClusterLink's own command line.

mod fabric;
mod peer_cert;

use clap::Subcommand;
use time::OffsetDateTime;

use super::output;
use crate::fabric::{Created, FabricError, Issuance};
use crate::lifecycle::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a fabric: the CA that all its peers trust.
    Fabric(fabric::Args),
    /// Make the certificate and key of one peer.
    PeerCert(peer_cert::Args),
}

pub(super) fn run(args: &Args) -> ExitCode {
    match &args.what {
        What::Fabric(args) => fabric::run(args),
        What::PeerCert(args) => peer_cert::run(args),
    }
}

fn issuance() -> Issuance {
    Issuance { now: OffsetDateTime::now_utc(), serial: rand::random() }
}

fn report(what: &str, result: Result<Created, FabricError>) -> ExitCode {
    match result {
        Ok(created) => {
            output::line(format_args!("{what}, valid until {}", created.not_after.date()));
            output::line(format_args!("  certificate {}", created.cert.display()));
            output::line(format_args!("  private key {} (keep it secret)", created.key.display()));
            ExitCode::Ok
        }
        Err(error) => {
            output::error(&error);
            match error {
                FabricError::Name { .. } => ExitCode::Usage,
                _ => ExitCode::Failure,
            }
        }
    }
}
