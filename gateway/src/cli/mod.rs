//! The command line. One file a command; each returns an [`ExitCode`] and prints its own errors.

mod check;
mod create;
mod logging;
mod output;
mod policy;
mod run;
mod snippet;
mod version;

use clap::{Parser, Subcommand};

use crate::lifecycle::ExitCode;

const EXIT_CODES: &str = "\
Exit codes:
  0  everything went well
  1  something failed while running, or a file could not be written; of `clgw policy`: denied,
     a test failed, decisions changed
  2  the command line is wrong
  3  gateway.yaml, the objects or the certificates are invalid
  4  the machine lacks something: hugepages, a device, a capability, a free file prefix
  5  the drain deadline or a second signal cut connections that were still open";

/// ClusterLink gateway on DPDK: carries services between sites over mTLS, under policy.
#[derive(Debug, Parser)]
#[command(name = "clgw", version, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until SIGTERM or SIGINT, which drain it; a second one ends it at once.
    Run(run::Args),
    /// Check configuration, objects and certificates without starting anything.
    Check(check::Args),
    /// Ask the policies: check them, explain a decision, test a table of them, compare two states.
    Policy(policy::Args),
    /// Make the certificates of a fabric and its peers.
    Create(create::Args),
    /// Print the versions of the program and of what it was built with.
    Version,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, and are no errors.
            let code = if error.use_stderr() { ExitCode::Usage } else { ExitCode::Ok };
            // A closed terminal is no reason to fail differently.
            let _ = error.print();
            return code;
        }
    };
    match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Policy(args) => policy::run(&args),
        Command::Create(args) => create::run(&args),
        Command::Version => version::run(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_exit_code_is_in_the_help() {
        for code in [
            ExitCode::Ok,
            ExitCode::Failure,
            ExitCode::Usage,
            ExitCode::Configuration,
            ExitCode::Environment,
            ExitCode::Cut,
        ] {
            assert!(EXIT_CODES.contains(&format!("\n  {}  ", code as u8)), "{code:?}");
        }
    }
}
