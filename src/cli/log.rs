//! The log: one line an event on standard error, as logfmt or as JSON.
//!
//! The relay never waits for the reader of the log. Lines go through a bounded queue to one thread that writes; when the
//! pipe is full and the queue too, lines are dropped and counted, and the count is the first line after the reader came
//! back. The end of the process waits a moment for what is queued.

use super::journal;
use super::log_line::{self, LineStyle, LogLine};
use crate::config::{Log, LogFormat, LogLevel};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines in the queue. A line is below a few thousand octets.
const QUEUED_LINES_MAX: usize = 4_096;
/// What the end of the process gives the writer.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(1);

/// The log, until the process ends.
#[derive(Debug)]
pub(super) struct LogHandle {
    queue: Queue,
}

/// Starts it. `directives` is what GATEPOST_LOG says, if anything.
///
/// Where standard error is the journal, logfmt lines have priorities. JSON has none: programs read it line by line.
pub(super) fn start(settings: &Log, directives: Option<&str>) -> Result<LogHandle, String> {
    let filter = match directives {
        Some(text) => EnvFilter::try_new(text).map_err(|error| format!("GATEPOST_LOG: {error}"))?,
        // Other libraries' lines may hold what passes through them; below warnings they are asked for by name only.
        // A role that cannot be assumed is a fault of sending, which has a line of ours.
        None => EnvFilter::new(format!("warn,aws_config::sts::assume_role=error,gatepost={}", level(settings.level))),
    };
    let journal = settings.format == LogFormat::Human && journal::is_stderr();
    let style = LineStyle { format: settings.format, journal };
    let queue = Queue::start(io::stderr(), style);
    let built = tracing_subscriber::fmt().with_env_filter(filter).with_writer(queue.clone());
    built.event_format(LogLine(style)).try_init().map_err(|error| error.to_string())?;
    Ok(LogHandle { queue })
}

fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}

impl Drop for LogHandle {
    fn drop(&mut self) {
        self.queue.flush(FLUSH_WAIT_MAX);
    }
}

enum Entry {
    Line(Vec<u8>),
    Flush(Sender<()>),
}

/// The way to the writing thread. Clones share it.
#[derive(Clone, Debug)]
struct Queue {
    entries: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

impl Queue {
    fn start(output: impl Write + Send + 'static, style: LineStyle) -> Self {
        let (entries, received) = sync_channel(QUEUED_LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&dropped);
        // Without this thread there is no log; the relay runs all the same, and its lines are counted as dropped.
        let _ = std::thread::Builder::new()
            .name("gatepost-log".to_owned())
            .spawn(move || write_entries(output, &received, &counted, style));
        Self { entries, dropped }
    }

    fn push(&self, line: &[u8]) {
        if self.entries.try_send(Entry::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all that was pushed is written, or for that long.
    fn flush(&self, wait: Duration) {
        let (done, written) = channel();
        let mut entry = Entry::Flush(done);
        let step = Duration::from_millis(20);
        for _ in 0..(wait.as_millis() / step.as_millis()).max(1) {
            match self.entries.try_send(entry) {
                Ok(()) => {
                    let _: Result<(), RecvTimeoutError> = written.recv_timeout(wait);
                    return;
                }
                Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(again)) => entry = again,
            }
            std::thread::sleep(step);
        }
    }
}

/// Writes whole lines, those that came together in one write. Under load it sleeps a moment between two writes: a
/// task that logs then has no thread to wake, which would cost more than the line.
fn write_entries(mut output: impl Write, entries: &Receiver<Entry>, dropped: &AtomicU64, style: LineStyle) {
    let mut lines = Vec::new();
    while let Ok(first) = entries.recv() {
        let mut flushed = Vec::new();
        for entry in std::iter::once(first).chain(entries.try_iter()) {
            match entry {
                Entry::Line(line) => lines.extend_from_slice(&line),
                Entry::Flush(done) => flushed.push(done),
            }
            if lines.len() >= WRITE_OCTETS {
                break;
            }
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            lines.extend_from_slice(notice(lost, style).as_bytes());
        }
        // The reader is gone: the relay continues without a log.
        let _ = output.write_all(&lines);
        lines.clear();
        match flushed.is_empty() {
            true => std::thread::sleep(PAUSE),
            false => {
                let _ = output.flush();
                for done in flushed {
                    let _ = done.send(());
                }
            }
        }
    }
}

/// Written at a time, about.
const WRITE_OCTETS: usize = 64 * 1024;
/// What a crash may lose.
const PAUSE: Duration = Duration::from_millis(5);

fn notice(lost: u64, style: LineStyle) -> String {
    let mut line = log_line::Line::new(style.format);
    // Writing to a string does not fail.
    let _ = line.text("level", |text| text.write_str("WARN"));
    let _ = line.text("message", |text| text.write_str("log lines were dropped, because they were not read in time"));
    let _ = line.plain("lines", lost);
    let _ = line.text("target", |text| text.write_str("gatepost"));
    format!("{}{}", style.prefix(tracing::Level::WARN), line.end())
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = QueuedLine<'a>;

    fn make_writer(&'a self) -> QueuedLine<'a> {
        QueuedLine(self)
    }
}

/// The writer of one line: tracing-subscriber writes a whole event in one call.
struct QueuedLine<'a>(&'a Queue);

impl Write for QueuedLine<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.push(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// A pipe whose reader can stand still.
    #[derive(Clone, Default)]
    struct Pipe {
        read: Arc<Mutex<Vec<u8>>>,
        reader: Arc<Mutex<()>>,
    }

    impl Pipe {
        fn stop_reading(&self) -> MutexGuard<'_, ()> {
            self.reader.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn text(&self) -> String {
            String::from_utf8(self.read.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Pipe {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            let _reading = self.stop_reading();
            self.read.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_notice_of_dropped_lines_has_the_priority_of_a_warning_in_the_journal() {
        let journal = LineStyle { format: LogFormat::Human, journal: true };
        assert!(notice(3, journal).starts_with("<4>level=WARN message="));
        assert!(notice(3, LineStyle { journal: false, ..journal }).starts_with("level=WARN "));
    }

    #[test]
    fn a_full_pipe_stops_nobody_and_what_was_dropped_is_told_when_it_is_read_again() {
        let pipe = Pipe::default();
        let queue = Queue::start(pipe.clone(), LineStyle { format: LogFormat::Json, journal: false });
        let standing = pipe.stop_reading();
        // The writer holds some 300 of these while it waits, and the queue the rest that is kept.
        let (lines, long) = (QUEUED_LINES_MAX + 2_000, "x".repeat(200));
        for number in 0..lines {
            queue.push(format!("{{\"n\":{number},\"x\":\"{long}\"}}\n").as_bytes());
        }
        queue.flush(Duration::from_millis(40));
        drop(standing);
        queue.flush(Duration::from_secs(10));
        let text = pipe.text();
        let (mut kept, mut dropped) = (0, 0);
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            match line.get("lines") {
                Some(number) => dropped += number.as_u64().unwrap(),
                None => kept += 1,
            }
        }
        assert_eq!(kept + dropped, lines as u64, "every line is written or counted");
        assert!(dropped >= 900, "{dropped}");
    }
}
