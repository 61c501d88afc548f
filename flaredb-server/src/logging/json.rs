//! One JSON object a line, with the keys that etcd's logs have (level, ts, caller, msg), then the fields of the record
//! and of the spans around it. tracing-subscriber's own JSON has other keys, which scripts made for etcd would not
//! find.

use serde_json::Value;
use std::{fmt, io::Write};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    fmt::{
        MakeWriter,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    layer::Context,
    registry::LookupSpan,
};

/// Writes each record as one line with one call.
pub(super) struct JsonLayer<W> {
    writer: W,
}

impl<W> JsonLayer<W> {
    pub(super) fn new(writer: W) -> Self {
        Self { writer }
    }
}

impl<S, W> Layer<S> for JsonLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().replace(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut own = Fields::default();
        event.record(&mut own);
        let mut line = String::with_capacity(256);
        begin(&mut line, event.metadata(), &own.message);
        if let Some(scope) = context.event_scope(event) {
            for span in scope.from_root() {
                if let Some(fields) = span.extensions().get::<Fields>() {
                    // The record's own field of the same name is the nearer one.
                    let outer =
                        fields.named.iter().filter(|(name, _)| !own.named.iter().any(|(inner, _)| inner == name));
                    append(&mut line, outer);
                }
            }
        }
        append(&mut line, own.named.iter());
        line.push_str("}\n");
        // A log that cannot be written must not stop the database.
        let _ = self.writer.make_writer_for(event.metadata()).write_all(line.as_bytes());
    }
}

fn begin(line: &mut String, metadata: &Metadata<'_>, message: &str) {
    let level = match *metadata.level() {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    };
    let mut time = String::new();
    // Writing to a String does not fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    line.push_str(&format!("{{\"level\":\"{level}\",\"ts\":\"{time}\""));
    if let (Some(file), Some(row)) = (metadata.file(), metadata.line()) {
        line.push_str(&format!(",\"caller\":{}", Value::from(format!("{}:{row}", short(file)))));
    }
    line.push_str(&format!(",\"msg\":{}", Value::from(message)));
}

/// The last two parts of a path, as zap prints it.
fn short(file: &str) -> &str {
    file.rmatch_indices('/').nth(1).map_or(file, |(at, _)| file.get(at + 1..).unwrap_or(file))
}

fn append<'a>(line: &mut String, fields: impl Iterator<Item = &'a (&'static str, Value)>) {
    for (name, value) in fields {
        // A field must not repeat a key of the record itself.
        let clash = if matches!(*name, "level" | "ts" | "caller" | "msg") { "_" } else { "" };
        line.push_str(&format!(",\"{name}{clash}\":{value}"));
    }
}

/// A record's message, and its fields in the order in which they were written.
#[derive(Default)]
struct Fields {
    message: String,
    named: Vec<(&'static str, Value)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        if field.name() == "message" {
            self.message = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            return;
        }
        match self.named.iter_mut().find(|(name, _)| *name == field.name()) {
            Some((_, old)) => *old = value,
            None => self.named.push((field.name(), value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io,
        sync::{Arc, Mutex},
    };
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_record_is_one_line_with_etcds_keys_first() {
        let buffer = Shared::default();
        let writer = buffer.clone();
        let subscriber = tracing_subscriber::registry().with(JsonLayer::new(move || writer.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("node", node = "n1", term = 1);
            let _inside = span.enter();
            tracing::warn!(term = 7, slow = true, level = "clash", key = %"a\"b", "line one\nline two");
        });
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(text.starts_with("{\"level\":\"warn\",\"ts\":\"20"), "{text}");
        assert!(text.contains(",\"caller\":\"logging/json.rs:"), "{text}");
        assert!(
            text.ends_with(concat!(
                r#","msg":"line one\nline two","node":"n1","term":7,"slow":true,"level_":"clash","key":"a\"b"}"#,
                "\n"
            )),
            "{text}"
        );
        let parsed: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed.get("term"), Some(&Value::from(7)));
    }
}
