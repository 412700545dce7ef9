//! Where `tracing` events go: stderr, as text or JSON, one line each.

use std::io;

use thiserror::Error;
use tracing_subscriber::EnvFilter;

use super::output;
use crate::config::{LogConfig, LogFormat};

/// Filter in the syntax of `tracing_subscriber::EnvFilter`; takes precedence over `log.level`.
const VARIABLE: &str = "RUST_LOG";

#[derive(Debug, Error)]
pub(super) enum LogError {
    #[error(
        "{VARIABLE}={value:?} is not a log filter: {why}; write a level (debug) or target=level \
         pairs (info,clgw::tls=debug), or unset it"
    )]
    Filter { value: String, why: String },
    #[error("logging cannot be set up: {0}")]
    Install(String),
}

/// Installs the subscriber of this process.
///
/// # Errors
/// RUST_LOG cannot be read as a filter, or there is a subscriber already.
pub(super) fn install(config: &LogConfig) -> Result<(), LogError> {
    let filter = filter(std::env::var(VARIABLE).ok().as_deref(), config)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let installed = match config.format {
        LogFormat::Text => builder.with_ansi(output::colour()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    installed.map_err(|error| LogError::Install(error.to_string()))
}

fn filter(variable: Option<&str>, config: &LogConfig) -> Result<EnvFilter, LogError> {
    match variable.filter(|value| !value.is_empty()) {
        Some(value) => EnvFilter::builder()
            .parse(value)
            .map_err(|error| LogError::Filter { value: value.to_owned(), why: error.to_string() }),
        None => Ok(EnvFilter::new(config.level.as_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogLevel;

    #[test]
    fn the_variable_wins_over_the_file_unless_empty() {
        let config = LogConfig { level: LogLevel::Warn, format: LogFormat::Text };
        let text = |variable| filter(variable, &config).unwrap().to_string();
        assert_eq!(text(None), "warn");
        assert_eq!(text(Some("")), "warn");
        assert_eq!(text(Some("clgw=trace")), "clgw=trace");
        let error = filter(Some("clgw=loud"), &config).unwrap_err().to_string();
        assert!(error.contains("clgw=loud") && error.contains("unset it"), "{error}");
    }
}
