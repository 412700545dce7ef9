//! `clgw policy`: questions to the policies of one site or several, before anything runs.

mod check;
mod connection;
mod diff;
mod eval;
mod json;
mod site;
mod test;
mod trace;

use clap::Subcommand;

use crate::lifecycle::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Check the objects of a site, and that what is compiled from them decides right.
    Check(check::Args),
    /// Say whether a client may reach a service, and why.
    Eval(eval::Args),
    /// Hold the policies of several sites against a table of expected decisions.
    Test(test::Args),
    /// Say which clients' decisions change from one state of a site to another.
    Diff(diff::Args),
}

pub(super) fn run(args: &Args) -> ExitCode {
    match &args.what {
        What::Check(args) => check::run(args),
        What::Eval(args) => eval::run(args),
        What::Test(args) => test::run(args),
        What::Diff(args) => diff::run(args),
    }
}
