//! `clgw run`: the gateway itself.

use std::path::PathBuf;

use super::{logging, output};
use crate::config::{self, Host, LogFormat};
use crate::control::{self, RunError};
use crate::lifecycle::{self, ExitCode, Shutdown};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The gateway.yaml to run.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let loaded = config::load(&args.config, &Host::read());
    let Some(config) = loaded.config else {
        output::diagnostics(&loaded.diagnostics);
        return ExitCode::Configuration;
    };
    if let Err(error) = logging::install(&config.log) {
        output::error(error);
        return ExitCode::Usage;
    }
    let log_format = config.log.format;
    let shutdown = Shutdown::new();
    // Before anything else starts, so that a signal during the start drains instead of killing.
    let _listener = match lifecycle::listen(&shutdown) {
        Ok(listener) => listener,
        Err(error) => {
            output::error(format_args!("signals cannot be received: {error}"));
            return ExitCode::Environment;
        }
    };
    match control::run(config, shutdown) {
        Ok(report) => {
            let code = report.exit_code();
            tracing::info!(exit_code = code as u8, "stopped: {report}");
            code
        }
        Err(RunError::Configuration(findings)) if log_format == LogFormat::Text => {
            output::diagnostics(&findings);
            ExitCode::Configuration
        }
        Err(error) => {
            match log_format {
                LogFormat::Text => output::error(&error),
                // A collector that reads JSON must not meet a line that is none.
                LogFormat::Json => tracing::error!("{error}"),
            }
            error.exit_code()
        }
    }
}
