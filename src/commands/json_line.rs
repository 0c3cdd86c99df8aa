//! One event as one line of JSON: `timestamp`, `level`, the event's fields, `target`.
//!
//! A message writes a line with some twenty fields, and tracing-subscriber's own JSON format takes a tenth of all the
//! relay's instructions for it: each value goes through two adapters and serde_json's serializer, piece by piece. Here a
//! value is formatted where it belongs and left there if nothing in it has to be escaped, as nearly nothing has.

use crate::mail::{Clock, SystemClock};
use jiff::Timestamp;
use std::fmt::{self, Debug, Write};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes events that way. Spans are left out: the relay's lines name session and transaction themselves.
#[derive(Debug)]
pub(super) struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut output: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let mut line = Line { text: String::with_capacity(LINE_OCTETS), target: None, done: Ok(()) };
        line.text.push_str("{\"timestamp\":\"");
        let now = Timestamp::try_from(SystemClock.wall()).unwrap_or(Timestamp::UNIX_EPOCH);
        write!(line.text, "{now:.6}")?;
        for text in ["\",\"level\":\"", metadata.level().as_str(), "\""] {
            line.text.push_str(text);
        }
        event.record(&mut line);
        line.done?;
        let target = line.target.take();
        line.text.push_str(",\"target\":");
        line.string(|text| text.write_str(target.as_deref().unwrap_or_else(|| metadata.target())))?;
        line.text.push_str("}\n");
        output.write_str(&line.text)
    }
}

/// Room for the line of a message.
const LINE_OCTETS: usize = 1024;

/// A line, while the fields of an event come, one after the other.
struct Line {
    text: String,
    /// Lines that came through the `log` crate say theirs in a field.
    target: Option<String>,
    done: fmt::Result,
}

impl Line {
    /// A string of JSON. It is looked at where it has been written. RFC 8259 §7: quotation mark, reverse solidus and control
    /// characters are escaped.
    fn string(&mut self, write: impl FnOnce(&mut String) -> fmt::Result) -> fmt::Result {
        let start = self.text.len();
        self.text.push('"');
        write(&mut self.text)?;
        // All of it is looked at, sixteen octets at a time: to stop at the first would be octet by octet.
        let special = |octet: &u8| matches!(octet, ..b' ' | b'"' | b'\\');
        if self.text.as_bytes()[start + 1..].iter().fold(false, |found, octet| found | special(octet)) {
            let raw = self.text.split_off(start);
            self.text.push_str(&serde_json::to_string(&raw[1..]).map_err(|_| fmt::Error)?);
        } else {
            self.text.push('"');
        }
        Ok(())
    }

    fn field(&mut self, field: &Field, value: impl FnOnce(&mut Self) -> fmt::Result) {
        // Of lines that came through the `log` crate: where in its source code a library was.
        if self.done.is_err() || field.name().starts_with("log.") {
            return;
        }
        self.text.push(',');
        self.done = self.string(|text| text.write_str(field.name())).and_then(|()| {
            self.text.push(':');
            value(self)
        });
    }

    /// A value whose text is JSON already.
    fn plain(&mut self, field: &Field, value: impl Debug) {
        self.field(field, |line| write!(line.text, "{value:?}"));
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.field(field, |line| line.string(|text| write!(text, "{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "log.target" {
            self.target = Some(value.to_owned());
        }
        self.field(field, |line| line.string(|text| text.write_str(value)));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match value.is_finite() {
            true => self.plain(field, value),
            // JSON has no word for it.
            false => self.field(field, |line| line.text.write_str("null")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt::MakeWriter;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    impl Lines {
        /// What was written, without the times.
        fn read(&self) -> Vec<serde_json::Value> {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            let parse = |line| {
                let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
                let timestamp = line.as_object_mut().unwrap().remove("timestamp").unwrap();
                let timestamp = timestamp.as_str().unwrap();
                let microseconds = timestamp.len() == "2026-01-02T03:04:05.000000Z".len();
                assert!(timestamp.parse::<Timestamp>().is_ok() && microseconds, "{timestamp}");
                line
            };
            text.lines().map(parse).collect()
        }
    }

    fn events() {
        let (nothing, text) = ("", "a\"b\\c\r\nd\u{1b}e\u{7f}é\u{2028}\u{1f600}");
        tracing::error!(target: "gatepost", nothing, text, display = %text, debug = ?text, "message with \"{text}\"");
        tracing::error!(quote = "a\"", backslash = "a\\", line = "a\n", escape = "a\u{1b}", nul = "\0", "each alone");
        tracing::warn!(least = i64::MIN, most = u64::MAX, yes = true, no = false, none = None::<u64>, "numbers");
        tracing::info!(target: "a::b", half = 0.5, whole = 2.0, large = 1e300, small = -1e-300, odd = f64::NAN, "floats");
        tracing::info!(r#type = "x", dotted.name = 1, "a \"name\"" = 2, list = ?[1, 2], "names");
        tracing::debug!("only a message");
    }

    #[test]
    fn lines_say_what_the_librarys_own_format_says() {
        let (ours, theirs) = (Lines::default(), Lines::default());
        let subscriber = || tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
        let own = subscriber().with_writer(ours.clone()).event_format(JsonLine).finish();
        tracing::subscriber::with_default(own, events);
        let library = subscriber().with_writer(theirs.clone()).json().flatten_event(true);
        let library = library.with_current_span(false).with_span_list(false).finish();
        tracing::subscriber::with_default(library, events);
        assert_eq!(ours.read(), theirs.read());
        assert_eq!(ours.read().len(), 6);
    }

    #[test]
    fn a_line_of_another_library_names_it() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt().with_writer(lines.clone()).event_format(JsonLine).finish();
        // As tracing's bridge from the `log` crate does.
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "log", message = "sending fatal alert", log.target = "rustls::conn", log.line = 7);
        });
        let want = serde_json::json!({"level": "WARN", "message": "sending fatal alert", "target": "rustls::conn"});
        assert_eq!(lines.read(), [want]);
    }
}
