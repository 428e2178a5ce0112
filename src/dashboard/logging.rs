use std::fmt;
use std::str::FromStr;

use tracing::{Event, Subscriber};
use tracing_appender::rolling::RollingFileAppender;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{Format, FormatEvent, FormatFields, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, writer::BoxMakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

/// How much is logged: Codis' names, in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLevel(LevelFilter);

/// A text that is none of the levels. Codis' text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid loglevel")]
pub struct LevelError;

impl FromStr for LogLevel {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<Self, LevelError> {
        Ok(Self(match text.to_ascii_lowercase().as_str() {
            "debug" => LevelFilter::DEBUG,
            "info" => LevelFilter::INFO,
            "warn" | "warning" => LevelFilter::WARN,
            "error" => LevelFilter::ERROR,
            "none" => LevelFilter::OFF,
            _ => return Err(LevelError),
        }))
    }
}

/// The handle on a process' log.
#[derive(Clone, Default)]
pub struct Logging {
    level: Option<reload::Handle<LevelFilter, Registry>>,
}

impl Logging {
    /// Begins to log, to the file or to stderr, every line naming the product. To be called once.
    pub fn begin(level: LogLevel, file: Option<RollingFileAppender>, product: &str) -> Self {
        let colours = file.is_none() && std::io::IsTerminal::is_terminal(&std::io::stderr());
        let writer = match file {
            Some(file) => BoxMakeWriter::new(file),
            None => BoxMakeWriter::new(std::io::stderr),
        };
        let (filter, handle) = reload::Layer::new(level.0);
        let lines = tracing_subscriber::fmt::layer()
            .event_format(WithProduct {
                format: Format::default(),
                product: product.to_owned(),
            })
            .with_ansi(colours)
            .with_writer(writer)
            // Libraries tell less: what they say about connections is said better by us.
            .with_filter(
                tracing_subscriber::filter::Targets::new()
                    .with_default(LevelFilter::WARN)
                    .with_target(env!("CARGO_CRATE_NAME"), LevelFilter::TRACE),
            );
        let begun = tracing_subscriber::registry().with(filter).with(lines).try_init();
        Self {
            level: begun.is_ok().then_some(handle),
        }
    }

    /// Logs more or less from now on.
    pub fn set(&self, level: LogLevel) {
        if let Some(handle) = &self.level {
            // It fails only when the log is gone, and then nobody would read it.
            let _ = handle.reload(level.0);
        }
    }
}

/// Lines as usual, after `product=NAME`.
struct WithProduct {
    format: Format<Full>,
    product: String,
}

impl<S, N> FormatEvent<S, N> for WithProduct
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(writer, "product={} ", self.product)?;
        self.format.format_event(context, writer, event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_codis() {
        for level in ["DEBUG", "info", "WARN", "warning", "Error", "none"] {
            assert!(level.parse::<LogLevel>().is_ok(), "{level}");
        }
        assert_eq!("loud".parse::<LogLevel>().unwrap_err().to_string(), "invalid loglevel");
    }
}
