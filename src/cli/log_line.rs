//! One event as one line, of JSON or of logfmt: `timestamp`, `level`, `message`, the event's fields, `target`.
//!
//! Both forms have the same keys, and one rule for what a value may not show as it is: quotation mark, reverse solidus,
//! control characters, line separators and bidirectional controls are escaped as JSON has it (`\\"`, `\\n`, `\\u001b`).
//! In logfmt a value stands without quotes if it is not empty and all of it is printable ASCII without blank, `=`, `"`
//! and `\\`.
//!
//! A message writes a line with some twenty fields, and tracing-subscriber's own JSON format takes a tenth of all the
//! relay's instructions for it: each value goes through two adapters and serde_json's serializer, piece by piece. Here a
//! value is formatted where it belongs and left there if nothing in it has to be escaped, as nearly nothing has.

use super::journal;
use crate::config::LogFormat;
use crate::mail::{Clock, SystemClock};
use jiff::Timestamp;
use std::fmt::{self, Debug, Write};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// How a line is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct LineStyle {
    pub(super) format: LogFormat,
    /// For the journal, which has the time of each line: with its priority in front, and without `timestamp`.
    pub(super) journal: bool,
}

impl LineStyle {
    /// What stands before the line.
    pub(super) fn prefix(self, level: Level) -> &'static str {
        if self.journal { journal::priority(level) } else { "" }
    }
}

/// Writes events that way. Spans are left out: the relay's lines name session and transaction themselves.
#[derive(Debug)]
pub(super) struct LogLine(pub(super) LineStyle);

impl<S, N> FormatEvent<S, N> for LogLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut output: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let mut line = Line::new(self.0.format);
        if !self.0.journal {
            let now = Timestamp::try_from(SystemClock.wall()).unwrap_or(Timestamp::UNIX_EPOCH);
            line.text("timestamp", |text| write!(text, "{now:.6}"))?;
        }
        line.text("level", |text| text.write_str(metadata.level().as_str()))?;
        event.record(&mut line);
        line.done?;
        let target = line.target.take();
        line.text("target", |text| text.write_str(target.as_deref().unwrap_or_else(|| metadata.target())))?;
        output.write_str(self.0.prefix(*metadata.level()))?;
        output.write_str(line.end())
    }
}

/// Room for the line of a message.
const LINE_OCTETS: usize = 1024;

/// A line, while the fields of an event come, one after the other.
pub(super) struct Line {
    format: LogFormat,
    text: String,
    /// Lines that came through the `log` crate say theirs in a field.
    target: Option<String>,
    done: fmt::Result,
}

impl Line {
    pub(super) fn new(format: LogFormat) -> Self {
        Self { format, text: String::with_capacity(LINE_OCTETS), target: None, done: Ok(()) }
    }

    /// A field whose value is text.
    pub(super) fn text(&mut self, key: &str, write: impl FnOnce(&mut String) -> fmt::Result) -> fmt::Result {
        self.key(key);
        self.value(write)
    }

    /// A field whose value is a number or a word of JSON.
    pub(super) fn plain(&mut self, key: &str, value: impl Debug) -> fmt::Result {
        self.key(key);
        write!(self.text, "{value:?}")
    }

    /// The whole line, with its end.
    pub(super) fn end(&mut self) -> &str {
        self.text.push_str(if self.format == LogFormat::Json { "}\n" } else { "\n" });
        &self.text
    }

    fn key(&mut self, key: &str) {
        match (self.format, self.text.is_empty()) {
            (LogFormat::Json, first) => {
                self.text.push_str(if first { "{\"" } else { ",\"" });
                escape(key, &mut self.text);
                self.text.push_str("\":");
            }
            (LogFormat::Human, first) => {
                if !first {
                    self.text.push(' ');
                }
                self.text.extend(key.chars().map(|c| if is_bare(c) { c } else { '_' }));
                self.text.push('=');
            }
        }
    }

    /// It is looked at where it has been written, and written again with quotes if it needs them.
    fn value(&mut self, write: impl FnOnce(&mut String) -> fmt::Result) -> fmt::Result {
        let json = self.format == LogFormat::Json;
        if json {
            self.text.push('"');
        }
        let start = self.text.len();
        write(&mut self.text)?;
        let written = &self.text.as_bytes()[start..];
        // All of it is looked at, sixteen octets at a time: to stop at the first would be octet by octet.
        let found = |special: fn(u8) -> bool| written.iter().fold(false, |found, octet| found | special(*octet));
        let good = match json {
            // The characters that need it begin with one of the last two octets.
            true => !found(|octet| octet < b' ' || matches!(octet, b'"' | b'\\' | 0x7f | 0xc2 | 0xe2)),
            false => !written.is_empty() && !found(|octet| !is_bare(char::from(octet))),
        };
        if !good {
            let raw = self.text.split_off(start);
            if !json {
                self.text.push('"');
            }
            escape(&raw, &mut self.text);
        }
        if json || !good {
            self.text.push('"');
        }
        Ok(())
    }

    fn field(&mut self, field: &Field, write: impl FnOnce(&mut Self, &str) -> fmt::Result) {
        // Of lines that came through the `log` crate: where in its source code a library was.
        if self.done.is_err() || field.name().starts_with("log.") {
            return;
        }
        self.done = write(self, field.name());
    }
}

/// What stands in logfmt without quotes.
fn is_bare(c: char) -> bool {
    matches!(c, '!'..='~') && !matches!(c, '"' | '=' | '\\')
}

/// RFC 8259 §7, and what a terminal or a reader of lines would act on.
fn escape(raw: &str, to: &mut String) {
    for c in raw.chars() {
        match c {
            '"' => to.push_str("\\\""),
            '\\' => to.push_str("\\\\"),
            '\n' => to.push_str("\\n"),
            '\r' => to.push_str("\\r"),
            '\t' => to.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                // Writing to a string does not fail.
                let _ = write!(to, "\\u{:04x}", u32::from(c));
            }
            c => to.push(c),
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.field(field, |line, key| line.text(key, |text| write!(text, "{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "log.target" {
            self.target = Some(value.to_owned());
        }
        self.field(field, |line, key| line.text(key, |text| text.write_str(value)));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, |line, key| line.plain(key, value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, |line, key| line.plain(key, value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, |line, key| line.plain(key, value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.field(field, |line, key| match (value.is_finite(), line.format) {
            // JSON has no word for it.
            (false, LogFormat::Json) => line.plain(key, format_args!("null")),
            _ => line.plain(key, value),
        });
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
        let own = subscriber().with_writer(ours.clone()).event_format(LogLine(style(LogFormat::Json))).finish();
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
        let subscriber =
            tracing_subscriber::fmt().with_writer(lines.clone()).event_format(LogLine(style(LogFormat::Json))).finish();
        // As tracing's bridge from the `log` crate does.
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "log", message = "sending fatal alert", log.target = "rustls::conn", log.line = 7);
        });
        let want = serde_json::json!({"level": "WARN", "message": "sending fatal alert", "target": "rustls::conn"});
        assert_eq!(lines.read(), [want]);
    }

    /// A reader of logfmt: `key=value` or `key="value"`, one blank between two fields. Panics on what is none.
    fn logfmt(line: &str) -> Vec<(String, String)> {
        let (mut fields, mut rest) = (Vec::new(), line);
        while !rest.is_empty() {
            let (key, behind) = rest.split_once('=').unwrap();
            assert!(!key.is_empty() && key.chars().all(is_bare), "{key:?} in {line}");
            let end = match behind.strip_prefix('"') {
                None => behind.find(' ').unwrap_or(behind.len()),
                Some(text) => {
                    let mut escaped = false;
                    let end = text.find(|c| {
                        let ends = c == '"' && !escaped;
                        escaped = c == '\\' && !escaped;
                        ends
                    });
                    end.unwrap() + 2
                }
            };
            let (value, behind) = behind.split_at(end);
            let value = match value.starts_with('"') {
                true => serde_json::from_str(value).unwrap(),
                false => {
                    assert!(!value.is_empty() && value.chars().all(is_bare), "{value:?} in {line}");
                    value.to_owned()
                }
            };
            fields.push((key.to_owned(), value));
            assert!(behind.is_empty() || behind.starts_with(' '), "{behind:?} in {line}");
            rest = behind.strip_prefix(' ').unwrap_or(behind);
        }
        fields
    }

    fn style(format: LogFormat) -> LineStyle {
        LineStyle { format, journal: false }
    }

    fn written(format: LogFormat, events: impl FnOnce()) -> String {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(lines.clone());
        tracing::subscriber::with_default(subscriber.event_format(LogLine(style(format))).finish(), events);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn in_the_journal_a_line_has_its_priority_and_no_time() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(lines.clone());
        let journal = LineStyle { format: LogFormat::Human, journal: true };
        tracing::subscriber::with_default(subscriber.event_format(LogLine(journal)).finish(), || {
            tracing::error!(target: "gatepost", app = "shop", "one");
            tracing::warn!(target: "gatepost", "two");
            tracing::info!(target: "gatepost", text = "a\n<0>b", "three");
            tracing::debug!(target: "gatepost", "four");
            tracing::trace!(target: "gatepost", "five");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let want = [
            "<3>level=ERROR message=one app=shop target=gatepost",
            "<4>level=WARN message=two target=gatepost",
            "<6>level=INFO message=three text=\"a\\n<0>b\" target=gatepost",
            "<7>level=DEBUG message=four target=gatepost",
            "<7>level=TRACE message=five target=gatepost",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), want);
    }

    #[test]
    fn logfmt_has_the_keys_and_values_of_json() {
        let (text, json) = (written(LogFormat::Human, events), written(LogFormat::Json, events));
        assert_eq!(text.lines().count(), 6, "{text}");
        for (text, json) in text.lines().zip(json.lines()) {
            let json: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).unwrap();
            let text: serde_json::Map<_, _> =
                logfmt(text).into_iter().map(|(key, value)| (key, value.into())).collect();
            assert_eq!(text.len(), json.len(), "a key stands once");
            for (key, want) in json.iter().filter(|(key, _)| *key != "timestamp") {
                let want = match want {
                    serde_json::Value::String(text) => text.clone(),
                    serde_json::Value::Null => "NaN".to_owned(),
                    number => number.to_string(),
                };
                let key: String = key.chars().map(|c| if is_bare(c) { c } else { '_' }).collect();
                let got = text[&key].as_str().unwrap();
                let same = got == want || got.parse::<f64>().is_ok_and(|got| want.parse() == Ok(got));
                assert!(same, "{key}: {got:?}, not {want:?}");
            }
        }
    }

    /// Values with blanks had no quotes in the text format, and text of peers was escaped twice in JSON.
    #[test]
    fn every_line_of_a_busy_session_is_read_by_logfmt_and_by_json_readers() {
        const HOSTILE: &str = "a b=\"c\" \\ \r\nlevel=ERROR message=forged\u{1b}[2J \u{202e}é\u{85}";
        for format in [LogFormat::Human, LogFormat::Json] {
            let text = written(format, || busy_session(HOSTILE));
            let lines: Vec<Vec<(String, String)>> = match format {
                LogFormat::Human => text.lines().map(logfmt).collect(),
                LogFormat::Json => {
                    let object =
                        |line| -> serde_json::Map<String, serde_json::Value> { serde_json::from_str(line).unwrap() };
                    let word =
                        |value: serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    let fields = |line| object(line).into_iter().map(|(key, value)| (key, word(value))).collect();
                    text.lines().map(fields).collect()
                }
            };
            assert_eq!(lines.len(), 9, "{text}");
            let shown = "a b=\"c\" \\ ␍␊level=ERROR message=forged␛[2J \u{fffd}é\u{fffd}";
            for line in &lines {
                let get = |key: &str| line.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
                assert_eq!(get("target"), Some("gatepost"), "{line:?}");
                let hostile: Vec<&str> = line
                    .iter()
                    .filter(|(_, value)| value.contains("forged"))
                    .map(|(_, value)| value.as_str())
                    .collect();
                assert!(!hostile.is_empty() && hostile.iter().all(|value| value.contains(shown)), "{line:?}");
                if get("session").is_some() {
                    assert_eq!(get("app"), Some("shop"), "{line:?}");
                }
            }
        }
    }

    /// One event of each kind whose text a peer, a provider or a judge chooses.
    fn busy_session(hostile: &str) {
        use crate::mail::{Abandonment, Client, ClientAddress, ForwardPath, Identity, Mailbox, SessionId, replies};
        use crate::mail::{Outcome, OutcomeKind, ReversePath, parameters::AppName};
        use crate::observe::{AddressForm, Event, LogObserver, MessageRecord, Observer, TransactionRecord};
        let observer = LogObserver::new(AddressForm::Plain);
        let mut client = Client::new(SessionId::fresh(), ClientAddress::Unix, "main".into());
        client.identity = Some(Identity::new(hostile));
        client.app = Some(AppName::parse("shop").unwrap());
        let transaction = client.session.transaction(1);
        let mailbox = Mailbox::parse("\"a =b\\\"c\"@a.example").unwrap();
        let path = ForwardPath::new(mailbox.clone()).unwrap();
        let paths = vec![path; 12];
        let (reverse_path, reply) = (ReversePath::Mailbox(mailbox.clone()), replies::LOCAL_ERROR);
        let outcome = Outcome::not_sent(OutcomeKind::Failed, replies::LOCAL_ERROR, hostile);
        let identity = Identity::new(hostile);
        let why = Abandonment::Refused(replies::LOCAL_ERROR.with_text("a = \"b\""));
        let address = client.address;
        let record = MessageRecord {
            transaction,
            client: &client,
            reverse_path: &reverse_path,
            authors: &[],
            forward_paths: &paths,
            message_id: Some(hostile),
            octets: 1,
            rule: Some("message"),
            permitted_by: None,
            app: client.app_name(),
            configuration_set: None,
            outcome: Some(&outcome),
            reply: &reply,
            detail: "",
            latency: std::time::Duration::ZERO,
            attempt: None,
        };
        let ended = TransactionRecord {
            transaction,
            client: &client,
            reverse_path: &reverse_path,
            app: client.app_name(),
            recipients: 1,
            octets: 0,
            after: "DATA",
            why: &why,
        };
        for event in [
            Event::ConnectionRefused { address, listener: "main", reply: None, reason: hostile },
            Event::Connected(&client),
            Event::Authenticated { client: &client, identity: &identity },
            Event::AuthenticationFailed { client: &client, name: hostile, reply: &reply, detail: "" },
            Event::CommandRefused {
                client: &client,
                transaction: Some(transaction),
                verb: "MAIL",
                reply: &reply,
                rule: None,
                address: Some(&mailbox),
                detail: hostile,
            },
            Event::WouldRefuse { client: &client, transaction, verb: "RCPT", app: None, detail: hostile },
            Event::MessageEnded(&record),
            Event::TransactionEnded(&ended),
            Event::DecisionFailed { client: &client, detail: hostile },
        ] {
            observer.observe(&event);
        }
    }
}
