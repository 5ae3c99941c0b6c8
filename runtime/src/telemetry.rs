//! Structured logs.

use clap::{Args, ValueEnum};
use thiserror::Error;
use tracing_subscriber::{EnvFilter, util::SubscriberInitExt};

/// How much is logged, and in which form.
#[derive(Clone, Debug, Args)]
pub struct LogArgs {
    /// What is logged: a level (error, warn, info, debug, trace) or directives such as `info,argosy_syncer=debug`
    #[arg(long, env = "ARGOSY_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
    /// Form of a line: text for people, json for log stores
    #[arg(long, env = "ARGOSY_LOG_FORMAT", value_enum, default_value = "text", value_name = "FORMAT")]
    log_format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Debug, Error)]
pub enum LogError {
    #[error("--log {filter:?} cannot be read; it is a level or directives such as `info,argosy_syncer=debug`")]
    ReadFilter { filter: String, source: tracing_subscriber::filter::ParseError },
    #[error("logging was set up twice")]
    Install { source: tracing_subscriber::util::TryInitError },
}

impl LogArgs {
    /// Sends this process's events to standard error from now on.
    pub fn init(self) -> Result<(), LogError> {
        let Self { log, log_format } = self;
        let filter = EnvFilter::try_new(&log).map_err(|source| LogError::ReadFilter { filter: log, source })?;
        let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        match log_format {
            Format::Text => logs.with_ansi(false).finish().try_init(),
            Format::Json => logs.json().flatten_event(true).finish().try_init(),
        }
        .map_err(|source| LogError::Install { source })
    }
}
