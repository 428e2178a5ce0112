//! Where the log goes, and how much of it.

use std::io;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_appender::rolling::RollingFileAppender;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

/// How much is logged, named as Codis does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLevel(LevelFilter);

/// A text that is no log level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid log level {0:?}: it must be ERROR, WARN, INFO, DEBUG or NONE")]
pub struct LogLevelError(String);

impl FromStr for LogLevel {
    type Err = LogLevelError;

    fn from_str(text: &str) -> Result<Self, LogLevelError> {
        match text.to_ascii_uppercase().as_str() {
            "ERROR" => Ok(Self(LevelFilter::ERROR)),
            "WARN" | "WARNING" => Ok(Self(LevelFilter::WARN)),
            "INFO" => Ok(Self(LevelFilter::INFO)),
            "DEBUG" => Ok(Self(LevelFilter::DEBUG)),
            "NONE" => Ok(Self(LevelFilter::OFF)),
            _ => Err(LogLevelError(text.to_owned())),
        }
    }
}

impl Default for LogLevel {
    fn default() -> Self {
        Self(LevelFilter::INFO)
    }
}

/// Changes the level of a running process.
#[derive(Debug, Clone)]
pub struct LogControl(reload::Handle<LevelFilter, Registry>);

impl LogControl {
    /// From now on this level.
    pub fn set(&self, level: LogLevel) {
        // It fails only when logging is gone, and then nobody would read it.
        let _ = self.0.reload(level.0);
    }
}

/// Begins to log: to the file, or else to standard error.
///
/// # Errors
/// When the process logs already.
pub fn start(file: Option<RollingFileAppender>, level: LogLevel) -> io::Result<LogControl> {
    let (filter, handle) = reload::Layer::new(level.0);
    let writer = match file {
        Some(file) => BoxMakeWriter::new(file),
        None => BoxMakeWriter::new(io::stderr),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer))
        .try_init()
        .map_err(io::Error::other)?;
    Ok(LogControl(handle))
}
