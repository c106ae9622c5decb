//! Log lines: JSON for machines, or text for a terminal. Every line carries the fields of its
//! spans, the request ID among them, so that one ID finds everything from intake to notification.

use std::{fmt, io::IsTerminal as _};

use anyhow::Context as _;
use serde_json::{Map, Value};
use tracing::{Event, Span, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    field::Visit,
    fmt::{
        FmtContext, FormatEvent, FormattedFields,
        format::{JsonFields, Writer},
    },
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use crate::{clock, settings::LogFormat};

/// Starts logging to standard error. `level` uses the words of `EnvFilter`, such as `info` or
/// `info,backstop=debug`. Call it once per process.
pub fn init(format: LogFormat, level: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .parse(level)
        .with_context(|| format!("log level {level:?} is not valid: use trace, debug, info, warn or error"))?;
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Json => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .fmt_fields(JsonFields::new())
                    .event_format(JsonLine)
                    .with_ansi(false)
                    .with_writer(std::io::stderr),
            )
            .try_init(),
        LogFormat::Human => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_ansi(std::io::stderr().is_terminal())
                    .with_target(false)
                    .with_writer(std::io::stderr),
            )
            .try_init(),
    }
    .context("logging was already started in this process")
}

/// The span under which everything about one request, alert or incident is logged. It has the highest level, so
/// that the ID stays on the lines that are left when the log level is raised to `warn` or `error`.
pub fn request_span(request_id: &str) -> Span {
    tracing::error_span!("request", request_id = %request_id)
}

/// One event as one flat JSON object: `at`, `level`, `target`, `message`, fields of the spans, fields of the event.
struct JsonLine;

impl<S> FormatEvent<S, JsonFields> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Map::new();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            if let Some(fields) = extensions.get::<FormattedFields<JsonFields>>()
                && let Ok(Value::Object(fields)) = serde_json::from_str(&fields.fields)
            {
                line.extend(fields);
            }
        }
        event.record(&mut Fields(&mut line));
        let metadata = event.metadata();
        line.insert("at".into(), clock::now().to_string().into());
        line.insert("level".into(), metadata.level().as_str().into());
        line.insert("target".into(), metadata.target().into());
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// Collects the fields of an event.
struct Fields<'a>(&'a mut Map<String, Value>);

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &tracing::field::Field, value: f64) {
        self.0.insert(field.name().into(), value.into());
    }
    fn record_i64(&mut self, field: &tracing::field::Field, value: i64) {
        self.0.insert(field.name().into(), value.into());
    }
    fn record_u64(&mut self, field: &tracing::field::Field, value: u64) {
        self.0.insert(field.name().into(), value.into());
    }
    fn record_bool(&mut self, field: &tracing::field::Field, value: bool) {
        self.0.insert(field.name().into(), value.into());
    }
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().into(), format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Sink {
        type Writer = Sink;
        fn make_writer(&'a self) -> Sink {
            self.clone()
        }
    }

    fn lines_of(log: impl FnOnce()) -> Vec<Value> {
        lines_at("info", log)
    }

    fn lines_at(level: &str, log: impl FnOnce()) -> Vec<Value> {
        let sink = Sink::default();
        let layer = tracing_subscriber::fmt::layer()
            .fmt_fields(JsonFields::new())
            .event_format(JsonLine)
            .with_ansi(false)
            .with_writer(sink.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(EnvFilter::new(level)).with(layer), log);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_inside_a_request_carries_its_id_at_the_top_level() {
        let lines = lines_of(|| {
            let _request = request_span("abc").entered();
            let _inner = tracing::info_span!("step", incident = "i1").entered();
            tracing::warn!(count = 3, "something happened");
        });
        assert_eq!(lines[0]["request_id"], "abc");
        assert_eq!(lines[0]["incident"], "i1");
        assert_eq!(lines[0]["count"], 3);
        assert_eq!(lines[0]["message"], "something happened");
        assert_eq!(lines[0]["level"], "WARN");
    }

    #[test]
    fn the_id_stays_on_errors_when_only_errors_are_logged() {
        let lines = lines_at("error", || {
            let _request = request_span("abc").entered();
            tracing::info!("dropped");
            tracing::error!("kept");
        });
        assert_eq!((lines.len(), &lines[0]["request_id"]), (1, &Value::from("abc")));
    }

    #[test]
    fn a_line_break_in_a_value_cannot_forge_a_second_line() {
        let lines = lines_of(|| tracing::info!(label = "a\n{\"level\":\"ERROR\"}", "x"));
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["level"], "INFO");
    }

    #[test]
    fn a_misspelt_level_is_refused_with_the_words_that_are_allowed() {
        let error = init(LogFormat::Json, "verbose=loud").unwrap_err();
        assert!(format!("{error:#}").contains("use trace"), "{error:#}");
    }
}
